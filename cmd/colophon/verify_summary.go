package main

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"net/url"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/colophon-build/colophon/attest"
	"github.com/colophon-build/colophon/internal/durable"
	"github.com/colophon-build/colophon/oci"
	"github.com/colophon-build/colophon/platform/api"
	"github.com/colophon-build/colophon/sign"
	"github.com/colophon-build/colophon/trust"
	"github.com/colophon-build/colophon/verify"
)

// summaryOptions are the flags that say where to write the SLSA verification summary
// and who signs it.
type summaryOptions struct {
	to       string // a file, or attach
	verifier string
	key      string // PEM file
	token    string // file with an OIDC token
	resource string
}

const attachSummary = "attach"

// policyURI identifies the policy language in summaries. The digest beside it
// identifies the policy.
const policyURI = "https://github.com/colophon-build/colophon/tree/main/spec/policy"

func (o *summaryOptions) flags(cmd *cobra.Command) {
	f := cmd.Flags()
	f.StringVar(&o.to, "vsa", "", "sign the verdict as a SLSA verification summary, and write it to this `FILE` (a Sigstore bundle) or \"attach\" it to the image")
	f.StringVar(&o.verifier, "verifier", "", "with --vsa: `URI` that identifies the verifier and belongs to the signer")
	f.StringVar(&o.key, "sign-key", "", "with --vsa: private key that signs, `FILE` or URI as for sign --key")
	f.StringVar(&o.token, "identity-token-file", "", "with --vsa: `FILE` with an OIDC token that the platform's certificate authority accepts, in place of a key")
	f.StringVar(&o.resource, "resource", "", "with --vsa: `URI` of the verified artifact (default: the package URL of the image's repository)")
	cmd.MarkFlagsMutuallyExclusive("sign-key", "identity-token-file")
}

// summariser signs verdicts. It is nil without --vsa.
type summariser struct {
	summaryOptions
	policy   attest.ResourceDescriptor
	image    oci.Reference // zero for a file
	session  func(context.Context) (*sign.Session, error)
	platform *api.ClientConfig
}

// prepare checks, before anything is verified, that a summary can be signed. demand
// is the policy document. prepare returns nil if the flags ask for no summary.
func (o summaryOptions) prepare(cmd *cobra.Command, ref oci.Reference, file bool, demand []byte, roots []*trust.Root) (*summariser, error) {
	if o.to == "" {
		if o.verifier+o.key+o.token+o.resource != "" {
			return nil, usageError("", "--verifier, --sign-key, --identity-token-file and --resource need --vsa")
		}
		return nil, nil
	}
	sum := sha256.Sum256(demand)
	s := &summariser{summaryOptions: o, image: ref, policy: attest.ResourceDescriptor{URI: policyURI, Digest: map[string]string{"sha256": hex.EncodeToString(sum[:])}}}
	switch {
	case (o.key == "") == (o.token == ""):
		return nil, usageError("", "--vsa needs a signer: either --sign-key FILE or --identity-token-file FILE")
	case o.to == attachSummary && file:
		return nil, usageError("", "--vsa attach works only for images: write the summary of a file with --vsa FILE")
	case s.resource == "" && (file || ref.Dir != ""):
		return nil, usageError("", "--vsa needs --resource URI for a file or a layout, which has no public name")
	case s.resource == "":
		s.resource = attest.ImageURI(ref.Repository)
	}
	for flag, uri := range map[string]string{"--verifier": o.verifier, "--resource": s.resource} {
		if u, err := url.Parse(uri); err != nil || u.Scheme == "" {
			return nil, usageError("", "--vsa: %s: expected a URI, found %q", flag, uri)
		}
	}
	var err error
	if o.to != attachSummary {
		if err = replaceable("--vsa", o.to, ""); err != nil {
			return nil, err
		}
	}
	if s.platform, err = api.LoadConfig(); errors.Is(err, api.ErrNoPlatform) {
		return nil, &exitError{code: exitFailure, msg: "no platform is configured, and --vsa needs one to log and timestamp the summary", hint: "colophon login FILE"}
	} else if err != nil {
		return nil, err
	}
	if _, err := platformTrust(s.platform, roots); err != nil {
		return nil, err
	}
	signing := signingOptions{key: o.key, token: o.token}
	open, err := signing.signer(cmd.Context(), cmd.InOrStdin(), cmd.ErrOrStderr())
	s.session = func(ctx context.Context) (*sign.Session, error) {
		services, err := platformServices(ctx, s.platform, roots)
		if err != nil {
			return nil, err
		}
		return open(ctx, services)
	}
	return s, err
}

// issue signs the summary of a verdict, and writes it to the file or attaches it.
func (s *summariser) issue(ctx context.Context, v *verify.Verdict) error {
	vsa, err := v.Summary(s.verifier, s.resource, s.policy, time.Now())
	if err != nil {
		return err
	}
	vsa.Verifier.Version = map[string]string{"colophon": version}
	statement, err := attest.NewStatement(s.resource, strings.TrimPrefix(v.Digest, "sha256:"), attest.PredicateVSA, vsa)
	if err != nil {
		return err
	}
	session, err := s.session(ctx)
	if err != nil {
		return err
	}
	bundle, err := session.Statement(ctx, statement)
	if err != nil {
		return err
	}
	if s.to != attachSummary {
		return durable.WriteFile(s.to, bundle, 0o644)
	}
	return s.attach(ctx, v.Digest, bundle, *vsa.TimeVerified)
}

func (s *summariser) attach(ctx context.Context, digest string, bundle []byte, at time.Time) error {
	dst, err := openTarget(s.image, s.platform)
	if err != nil {
		return err
	}
	if l, ok := dst.(*oci.Layout); ok {
		defer l.Close()
	}
	// Attach to the digest that was verified: its tag may have moved since.
	d, err := dst.Resolve(ctx, digest)
	if err != nil {
		return err
	}
	_, err = oci.AttachBundle(ctx, dst, d, bundle, attest.PredicateVSA, at)
	return err
}

// openTarget opens the repository or layout of an image to attach something.
func openTarget(ref oci.Reference, platform *api.ClientConfig) (oci.Target, error) {
	src, err := ref.Open(pushOptions(ref.Repository, platform))
	if err != nil {
		return nil, err
	}
	dst, ok := src.(oci.Target)
	if !ok {
		return nil, fmt.Errorf("%s is read-only: nothing can be attached there", src.Name())
	}
	return dst, nil
}
