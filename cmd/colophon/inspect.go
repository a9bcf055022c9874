package main

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	v1 "github.com/google/go-containerregistry/pkg/v1"
	protobundle "github.com/sigstore/protobuf-specs/gen/pb-go/bundle/v1"
	"github.com/spf13/cobra"
	"golang.org/x/sync/errgroup"

	"github.com/colophon-build/colophon/attest"
	"github.com/colophon-build/colophon/bundle"
	"github.com/colophon-build/colophon/internal/limits"
	"github.com/colophon-build/colophon/internal/strict"
	"github.com/colophon-build/colophon/oci"
	"github.com/colophon-build/colophon/policy"
	"github.com/colophon-build/colophon/provenance"
	"github.com/colophon-build/colophon/sbom"
	"github.com/colophon-build/colophon/verify"
)

type inspectOptions struct {
	provenance bool
	sbom       string // "", "spdx" or "cyclonedx"
	raw        bool
	attached   string // digest of one referrer
	json       bool
	timeout    time.Duration
}

// sbomKinds are the values of --sbom, and the formats as sbom.Format has them.
var sbomKinds = map[string]string{"spdx": "SPDX", "cyclonedx": "CycloneDX"}

func newInspectCommand() *cobra.Command {
	var o inspectOptions
	cmd := &cobra.Command{
		Use:   "inspect IMAGE|LAYOUT",
		Short: "show an image and everything attached to it",
		Long: `Inspect shows an image, its platforms and layers, and everything attached to it:
what each proof says, who it says has signed it and when.

Inspect decides nothing. What it shows is what the registry hands out, and
anybody who may push can attach anything; 'colophon verify' says what holds.
Only the requirements of SLSA's Build track at the end are held to the trust
roots of this machine.

IMAGE is REGISTRY/NAME[:TAG][@DIGEST], LAYOUT a directory with an OCI layout.`,
		Example: `  colophon inspect 127.0.0.1:8080/team/app:v1.2.0
  colophon inspect --provenance 127.0.0.1:8080/team/app:v1.2.0 | jq .runDetails.builder
  colophon inspect --sbom=cyclonedx ./layout
  colophon inspect --provenance --raw 127.0.0.1:8080/team/app:v1.2.0 > bundle.json`,
		Args: cobra.ExactArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error { return runInspect(cmd, args[0], o) },
	}
	f := cmd.Flags()
	f.BoolVar(&o.provenance, "provenance", false, "print the SLSA provenance, decoded")
	f.StringVar(&o.sbom, "sbom", "", "print the SBOM, decoded: spdx or cyclonedx")
	f.Lookup("sbom").NoOptDefVal = "spdx"
	f.StringVar(&o.attached, "attached", "", "choose one of the attached by its digest")
	f.BoolVar(&o.raw, "raw", false, "print the chosen one's Sigstore bundle or envelope as it was received")
	f.BoolVar(&o.json, "json", false, "print everything as JSON on stdout")
	f.DurationVar(&o.timeout, "timeout", time.Minute, "give up after this time")
	cmd.MarkFlagsMutuallyExclusive("provenance", "sbom", "attached", "json")
	cmd.MarkFlagsMutuallyExclusive("raw", "json")
	return cmd
}

// openImage opens where the image is that a person named. Nothing is fetched yet.
func openImage(image string) (oci.Reference, oci.Source, error) {
	ref, err := oci.ParseReference(image)
	if err != nil {
		return ref, nil, usageError("", "%v", err)
	}
	src, err := ref.Open(oci.RegistryOptions{})
	return ref, src, err
}

func runInspect(cmd *cobra.Command, image string, o inspectOptions) error {
	if o.sbom != "" && sbomKinds[o.sbom] == "" {
		return usageError("", "--sbom: got %q, want spdx or cyclonedx", o.sbom)
	}
	ref, src, err := openImage(image)
	if err != nil {
		return err
	}
	ctx, cancel := context.WithTimeout(cmd.Context(), o.timeout)
	defer cancel()
	found, err := inspect(ctx, src, ref.Identifier())
	if err != nil {
		return err
	}
	found.Image = image
	out := cmd.OutOrStdout()
	switch {
	case o.provenance || o.sbom != "" || o.attached != "" || o.raw:
		chosen, err := found.choose(o)
		if err != nil {
			return err
		}
		content := chosen.raw
		if !o.raw {
			if content, err = predicateOf(chosen.raw); err != nil {
				return err
			}
		}
		if _, err := out.Write(content); err != nil {
			return err
		}
	case o.json:
		found.require(ctx, src)
		if err := printJSON(out, found); err != nil {
			return err
		}
	default:
		found.require(ctx, src)
		if err := found.print(out); err != nil {
			return err
		}
	}
	printHint(cmd.ErrOrStderr(), "nothing of this was verified: colophon verify "+image+" --source URI")
	return nil
}

// inspection is what --json prints. All of it is what the store says.
type inspection struct {
	Image     string              `json:"image"`
	Digest    string              `json:"digest"`
	MediaType string              `json:"mediaType"`
	Size      int64               `json:"size"` // bytes of the manifest or index
	Platforms []inspectedPlatform `json:"platforms"`
	Attached  []inspectedProof    `json:"attached"`
	Unsigned  []verify.Claim      `json:"unsigned"` // shown, and never proof
	Verified  bool                `json:"verified"` // always false: inspect decides nothing

	// Of the provenance, as the trust roots of this machine have it, from whatever source.
	Level        int                      `json:"level"`
	Requirements []provenance.Requirement `json:"requirements"`

	descriptor v1.Descriptor
}

type inspectedPlatform struct {
	Platform string          `json:"platform"` // as the index says; empty where there is none
	Digest   string          `json:"digest"`
	Config   inspectedBlob   `json:"config"`
	Layers   []inspectedBlob `json:"layers"`
	Error    string          `json:"error,omitempty"`
}

type inspectedBlob struct {
	Digest    string `json:"digest"`
	MediaType string `json:"mediaType"`
	Size      int64  `json:"size"`
}

// require fills in which requirements of SLSA the image's provenance meets, to
// whom this machine believes. They say nothing of which source it should be.
func (in *inspection) require(ctx context.Context, src oci.Source) {
	anySource := policy.Policy{Origin: policy.BuilderProvenance{Provenance: policy.Provenance{Source: policy.AnySource()}}}
	opts := verify.Options{Now: time.Now(), Policy: anySource}
	if _, err := believe(&opts); err != nil {
		opts.Trust = nil // a store that cannot be read believes nobody
	}
	in.Requirements = verify.Requirements(ctx, src, in.descriptor, opts)
	in.Level = provenance.BuildLevel(in.Requirements)
}

// inspect fetches image and attachments side by side. What cannot be had of
// one part is said there; where the list of attachments cannot be had, that is
// an error, because an empty list would say something else.
func inspect(ctx context.Context, src oci.Source, reference string) (*inspection, error) {
	d, err := src.Resolve(ctx, reference)
	if err != nil {
		return nil, err
	}
	out := &inspection{descriptor: d, Digest: d.Digest.String(), MediaType: string(d.MediaType), Size: d.Size, Attached: []inspectedProof{}, Unsigned: []verify.Claim{}}
	var group errgroup.Group
	group.Go(func() error {
		attached, err := inspectAttached(ctx, src, d.Digest)
		if err != nil {
			return err
		}
		out.Attached = append(out.Attached, attached...)
		slices.SortStableFunc(out.Attached, func(a, b inspectedProof) int { return a.rank() - b.rank() })
		return nil
	})
	group.Go(func() error {
		out.Unsigned = append(out.Unsigned, verify.Claims(ctx, src, d.Digest, true)...)
		return nil
	})
	group.Go(func() error {
		var err error
		out.Platforms, err = inspectPlatforms(ctx, src, d)
		return err
	})
	return out, group.Wait()
}

func inspectPlatforms(ctx context.Context, src oci.Source, d v1.Descriptor) ([]inspectedPlatform, error) {
	manifests := []v1.Descriptor{d}
	if d.MediaType.IsIndex() {
		raw, _, err := src.Manifest(ctx, d.Digest)
		if err != nil {
			return nil, err
		}
		var index v1.IndexManifest
		if err := strict.Unmarshal(raw, limits.Manifest, &index); err != nil {
			return nil, err
		}
		manifests = index.Manifests
	}
	platforms := make([]inspectedPlatform, len(manifests))
	var group errgroup.Group
	group.SetLimit(8)
	for i, m := range manifests {
		group.Go(func() error {
			platforms[i] = inspectPlatform(ctx, src, m)
			return nil
		})
	}
	return platforms, group.Wait()
}

func inspectPlatform(ctx context.Context, src oci.Source, d v1.Descriptor) inspectedPlatform {
	p := inspectedPlatform{Digest: d.Digest.String(), Layers: []inspectedBlob{}}
	if d.Platform != nil {
		p.Platform = d.Platform.String()
	}
	raw, _, err := src.Manifest(ctx, d.Digest)
	var m v1.Manifest
	if err == nil {
		err = strict.Unmarshal(raw, limits.Manifest, &m)
	}
	if err != nil {
		p.Error = err.Error()
		return p
	}
	p.Config = blobOf(m.Config)
	for _, l := range m.Layers {
		p.Layers = append(p.Layers, blobOf(l))
	}
	return p
}

func blobOf(d v1.Descriptor) inspectedBlob {
	return inspectedBlob{Digest: d.Digest.String(), MediaType: string(d.MediaType), Size: d.Size}
}

// choose finds the one bundle that the flags ask for. Where there are several
// it is not for us to say which is the right one.
func (in *inspection) choose(o inspectOptions) (*inspectedProof, error) {
	want, what := func(string) bool { return true }, "Sigstore bundle"
	switch {
	case o.provenance:
		want, what = func(t string) bool { return t == attest.PredicateSLSA1 || t == attest.PredicateSLSA02 }, "SLSA provenance"
	case o.sbom != "":
		want, what = func(t string) bool { return sbom.Format(t) == sbomKinds[o.sbom] }, o.sbom+" SBOM"
	case o.attached != "":
		what = "Sigstore bundle " + o.attached
	}
	var found []*inspectedProof
	var digests []string
	for i := range in.Attached {
		p := &in.Attached[i]
		if p.raw != nil && want(p.PredicateType) && (o.attached == "" || p.Digest == o.attached) {
			found, digests = append(found, p), append(digests, p.Digest)
		}
	}
	switch len(found) {
	case 1:
		return found[0], nil
	case 0:
		return nil, &exitError{code: exitFailure, msg: fmt.Sprintf("%s has no %s attached", in.Image, what), hint: "colophon inspect " + in.Image}
	}
	return nil, &exitError{
		code: exitFailure, msg: fmt.Sprintf("%s has %d of %s attached: %s", in.Image, len(found), what, strings.Join(digests, ", ")),
		hint: "choose one with --attached DIGEST",
	}
}

// predicateOf decodes the statement in a bundle or envelope and indents its predicate.
func predicateOf(raw []byte) ([]byte, error) {
	var pb *protobundle.Bundle
	if bundle.IsEnvelope(raw) {
		signed, err := bundle.ParseEnvelope(raw)
		if err != nil {
			return nil, err
		}
		pb = signed.Proto
	} else {
		var err error
		if pb, err = parseAnyBundle(raw); err != nil {
			return nil, err
		}
	}
	statement, err := anyStatement(pb)
	if err != nil {
		return nil, err
	}
	if len(statement.Predicate) == 0 {
		return nil, errors.New("the statement has no predicate")
	}
	var out bytes.Buffer
	if err := json.Indent(&out, statement.Predicate, "", "  "); err != nil {
		return nil, err
	}
	out.WriteByte('\n')
	return out.Bytes(), nil
}
