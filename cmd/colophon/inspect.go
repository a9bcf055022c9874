package main

import (
	"bytes"
	"cmp"
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
	trust      contentTrustOptions
	output     output
	timeout    time.Duration
}

// sbomKinds maps the values of --sbom to the names that sbom.Format returns.
var sbomKinds = map[string]string{"spdx": "SPDX", "cyclonedx": "CycloneDX"}

func newInspectCommand() *cobra.Command {
	var o inspectOptions
	cmd := &cobra.Command{
		Use:        "inspect IMAGE|LAYOUT",
		SuggestFor: []string{"tree", "show", "download"},
		Short:      "show an image and everything attached to it",
		Long: `Inspect shows an image, its platforms and layers, and everything attached to it:
the type of each proof, and the signer and time that it claims; and what Docker Content
Trust says of it on this machine, or at --notary-server.

Inspect shows what the registry returns, and anybody with push access can attach
anything. For each proof it says whether it holds under the trust roots on this
machine, as verify finds it. That decides nothing: inspect demands no source and does
not read the layers. Use 'colophon verify' to decide whether to accept the image.

IMAGE is REGISTRY/NAME[:TAG][@DIGEST]. LAYOUT is a directory with an OCI layout.`,
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
	f.StringVar(&o.attached, "attached", "", "select one attachment by its digest")
	f.BoolVar(&o.raw, "raw", false, "print the selected Sigstore bundle or envelope unchanged")
	o.output.flags(cmd)
	o.trust.flags(cmd)
	f.DurationVar(&o.timeout, "timeout", time.Minute, "give up after this long")
	for _, form := range []string{"json", "output"} {
		cmd.MarkFlagsMutuallyExclusive("provenance", "sbom", "attached", form)
		cmd.MarkFlagsMutuallyExclusive("raw", form)
	}
	return cmd
}

// openImage opens the registry or layout of an image that the user named. It fetches
// nothing yet.
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
		return usageError("", "--sbom: expected spdx or cyclonedx, found %q", o.sbom)
	}
	ref, src, err := openImage(image)
	if err != nil {
		return err
	}
	ctx, cancel := withTimeout(cmd.Context(), o.timeout)
	defer cancel()
	found, err := inspect(ctx, src, ref.Identifier())
	if err != nil {
		return err
	}
	found.Image = image
	if err := found.examine(ctx, src, ref.Identifier()); err != nil {
		return err
	}
	if found.ContentTrust, err = o.trust.find(ctx, ref, found.Digest); err != nil {
		return err
	}
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
	case !o.output.text():
		if err := o.output.print(out, found); err != nil {
			return err
		}
	default:
		if err := found.print(out); err != nil {
			return err
		}
	}
	if hint := contentTrustHint(found.ContentTrust); hint != "" {
		printHint(cmd.ErrOrStderr(), hint)
	}
	printHint(cmd.ErrOrStderr(), "inspect decides nothing; to verify: colophon verify "+image+" --source URI")
	return nil
}

// inspection is the JSON output of inspect. Except for level and requirements, it
// is unverified data from the registry or layout.
type inspection struct {
	Image     string              `json:"image"`
	Digest    string              `json:"digest"`
	MediaType string              `json:"mediaType"`
	Size      int64               `json:"size"` // bytes of the manifest or index
	Platforms []inspectedPlatform `json:"platforms"`
	Attached  []inspectedProof    `json:"attached"`
	Unsigned  []verify.Claim      `json:"unsigned"`          // never proof
	Verified  bool                `json:"verified"`          // always false: inspect decides nothing
	Refused   string              `json:"refused,omitempty"` // why verify refuses the layout that has the image
	About     string              `json:"about,omitempty"`   // digest of the manifest in the index that the proofs are about

	ContentTrust []inspectedTrust `json:"contentTrust,omitempty"` // what Docker Content Trust says, not verified

	// Evaluated with the trust roots on this machine, for any source repository.
	Level        int                      `json:"level"`
	Requirements []provenance.Requirement `json:"requirements"`

	descriptor v1.Descriptor
}

type inspectedPlatform struct {
	Platform string          `json:"platform"`           // as the index says; empty for an image without an index
	Artifact string          `json:"artifact,omitempty"` // its type, if it is no image
	Digest   string          `json:"digest"`
	Config   inspectedBlob   `json:"config"`
	Layers   []inspectedBlob `json:"layers"`
	Error    string          `json:"error,omitempty"`
	Missing  bool            `json:"missing,omitempty"` // the registry or layout does not have it; the digest still pins its bytes
}

type inspectedBlob struct {
	Digest    string `json:"digest"`
	MediaType string `json:"mediaType"`
	Size      int64  `json:"size"`
}

// examine fills in what verify finds: which of the proofs hold under the trust roots on
// this machine, and which SLSA requirements the provenance meets. It accepts any source
// repository, any recipe of it, and images without SBOMs.
func (in *inspection) examine(ctx context.Context, src oci.Source, reference string) error {
	opts := verify.Options{Policy: anyImage()}
	if _, err := loadTrust(&opts); err != nil {
		opts.Trust = nil // trust nobody if the store cannot be read
	}
	opts.Layout = isLayout(src)
	found := verify.Examine(ctx, src, reference, in.descriptor, time.Now(), opts)
	in.Requirements, in.Level, in.Refused = found.Requirements, provenance.BuildLevel(found.Requirements), found.Refused
	if found.Subject.Digest != in.descriptor.Digest { // the proofs are about a manifest in the index
		inner, err := inspectAttached(ctx, src, found.Subject.Digest)
		if err != nil {
			return err
		}
		in.About, in.Attached = found.Subject.Digest.String(), append(in.Attached, inner...)
	}
	for i := range in.Attached {
		for _, x := range found.Items {
			if p := &in.Attached[i]; p.Digest == x.Digest {
				p.Holds, p.Reason = &x.Holds, x.Reason
			}
		}
	}
	slices.SortStableFunc(in.Attached, func(a, b inspectedProof) int { return a.rank() - b.rank() })
	return nil
}

// anyImage returns the policy that demands the least: provenance by a builder of the trust roots,
// of any repository and recipe, and no SBOM.
func anyImage() policy.Policy {
	return policy.Policy{Origin: policy.BuilderProvenance{Provenance: policy.Provenance{Source: policy.AnySource()}}}
}

func isLayout(src oci.Source) bool {
	_, ok := src.(*oci.Layout)
	return ok
}

// inspect fetches the image and its attachments concurrently. A platform or an
// attachment that cannot be read carries its own error. inspect fails if the
// attachments cannot be listed: an empty list would claim that there are none.
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
	manifests, err := manifestsOf(ctx, src, d)
	if err != nil {
		return nil, err
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
		p.Error, p.Missing = err.Error(), errors.Is(err, oci.ErrNotFound)
		return p
	}
	if !m.Config.MediaType.IsConfig() {
		p.Artifact = cmp.Or(m.ArtifactType, string(m.Config.MediaType))
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

// choose returns the one bundle that the flags select. It fails if several match,
// because the user must decide which one to read.
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
		code: exitFailure, msg: fmt.Sprintf("%s has %d attachments of type %s: %s", in.Image, len(found), what, strings.Join(digests, ", ")),
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
