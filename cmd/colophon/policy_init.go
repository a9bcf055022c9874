package main

import (
	"bytes"
	"cmp"
	"context"
	"fmt"
	"regexp"
	"slices"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/colophon-build/colophon/attest"
	"github.com/colophon-build/colophon/internal/lazyregexp"
	"github.com/colophon-build/colophon/internal/printable"
	"github.com/colophon-build/colophon/oci"
	"github.com/colophon-build/colophon/policy"
	"github.com/colophon-build/colophon/provenance"
	"github.com/colophon-build/colophon/trust"
	"github.com/colophon-build/colophon/verify"
)

type policyInitOptions struct {
	name     string
	mode     string
	signer   signerOptions
	notation notationOptions
	trust    contentTrustOptions
	timeout  time.Duration
	now      time.Time
}

func newPolicyInitCommand() *cobra.Command {
	var o policyInitOptions
	cmd := &cobra.Command{
		Use:   "init IMAGE",
		Short: "write the strictest policy that an image meets",
		Long: `Init asks an image what it proves under the trust roots on this machine, and prints
a policy (version 2, YAML) that demands it of every image of the same name: the
repository, the branch or the major version of the tag, the builder and its trust root,
the SLSA Build level, the recipe and the SBOMs; or of an image that was only signed, the
signer. It demands nothing that differs from release to release, as the commit does.

What is printed is what is: read it, and decide whether you want it. Of images that a key
signed, name the key with --key; of images that notation signed, the certificate of its
authority with --notation-ca.

Exit codes: 0 written, 3 the image proves nothing that a policy can demand, 4 it could not
be read, 2 usage error, 1 failure.`,
		Example: `  colophon policy init registry.example.com/team/app:v1.2.0 > policy.yaml
  colophon policy init registry.example.com/team/app:v1.2.0 --mode audit --name team-app
  colophon policy init registry.example.com/other/app:v7 --key other.pub
  colophon policy init registry.example.com/vendor/app:v3 --notation-ca vendor.pem`,
		Args: cobra.ExactArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			o.now = time.Now()
			return runPolicyInit(cmd, args[0], o)
		},
	}
	f := cmd.Flags()
	f.StringVar(&o.name, "name", "images", "name of the policy, as Kubernetes names objects")
	f.StringVar(&o.mode, "mode", string(policy.Enforce), "what a violation does: audit, warn or enforce")
	f.StringVar(&o.signer.key, "key", "", "`FILE` with the public key (PEM) that signed the image")
	f.BoolVar(&o.signer.InsecureNoLog, "insecure-no-log", false, "dangerous, with --key: write a policy that accepts a signature in no transparency log")
	o.notation.flags(cmd)
	o.trust.flags(cmd)
	cmd.MarkFlagsMutuallyExclusive("key", "notation-ca")
	f.DurationVar(&o.timeout, "timeout", 5*time.Minute, "give up after this long")
	return cmd
}

func runPolicyInit(cmd *cobra.Command, image string, o policyInitOptions) error {
	ref, err := oci.ParseReference(image)
	switch {
	case err != nil:
		return usageError("", "%v", err)
	case ref.Dir != "":
		return usageError("push the image first, or write the policy by hand", "a policy is about images by their names in a registry, and %s is a layout", image)
	case o.signer.InsecureNoLog && o.signer.key == "":
		return usageError("", "--insecure-no-log needs --key")
	}
	if err := o.notation.check(); err != nil {
		return err
	}
	named, err := policy.ParseImage(ref.String())
	if err != nil {
		return usageError("", "%v", err)
	}
	src, err := ref.Open(oci.RegistryOptions{})
	if err != nil {
		return err
	}
	ctx, cancel := withTimeout(cmd.Context(), o.timeout)
	defer cancel()
	found, err := inspect(ctx, src, ref.Identifier())
	if err != nil {
		return &exitError{code: exitUndecided, msg: err.Error()}
	}
	if found.ContentTrust, err = o.trust.find(ctx, ref, found.Digest); err != nil {
		return err
	}
	p, verdict, err := o.strictest(ctx, src, found)
	if err != nil {
		return err
	}
	if p == nil {
		return o.unproved(cmd, image, verdict, found)
	}
	text, err := o.document(named, *p, verdict)
	if err != nil {
		return err
	}
	if _, err := cmd.OutOrStdout().Write(text); err != nil {
		return err
	}
	for _, d := range p.Dangers() {
		printDangers(cmd.ErrOrStderr(), []string{d})
	}
	return nil
}

// unproved prints why no policy can be written, and returns it as an error.
func (o policyInitOptions) unproved(cmd *cobra.Command, image string, v *verify.Verdict, found *inspection) error {
	if v == nil { // --notation-ca, and no signature
		return &exitError{code: exitRejected, msg: image + " has no signature of notation"}
	}
	printLinks(cmd.ErrOrStderr(), "  ", v.Links, nil)
	e := &exitError{code: exitRejected, msg: image + " proves nothing that a policy can demand"}
	if v.Outcome == verify.Undecided {
		e = &exitError{code: exitUndecided, msg: "it is not known what " + image + " proves"}
	}
	if o.signer.key == "" && o.notation.ca == "" {
		e.hint = cmp.Or(notationHint(found), contentTrustHint(found.ContentTrust), "if a key signed it, name the key: --key FILE")
	}
	return e
}

// document returns the policy as a file, which says where it comes from.
func (o policyInitOptions) document(image policy.Image, p policy.Policy, v *verify.Verdict) ([]byte, error) {
	set := &policy.Set{Name: o.name, Unmatched: policy.DenyUnmatched, Rules: []policy.Rule{{
		Name: o.name, Images: []policy.ImagePattern{{Glob: image.Name + "@*"}}, Accept: []policy.Policy{p}, Mode: policy.Mode(o.mode),
	}}}
	if err := set.Check(); err != nil {
		return nil, usageError("", "%v", err)
	}
	d, err := set.Document()
	if err != nil {
		return nil, err
	}
	text, err := d.YAML()
	if err != nil {
		return nil, err
	}
	var out bytes.Buffer
	fmt.Fprintf(&out, "# The strictest policy that %s@%s meets, as of %s.\n", printable.Text(image.Name), v.Digest, o.now.UTC().Format(time.DateOnly))
	if f := v.Facts; f != nil && f.Build != nil && f.Build.Ref != "" {
		fmt.Fprintf(&out, "# It was built from %s at %s.\n", printable.Text(f.Build.Source), printable.Text(f.Build.Ref))
	}
	out.Write(text)
	return out.Bytes(), nil
}

// strictest returns the strictest of the policies that an image meets. If it meets none, p is
// nil, and the verdict is one that says why.
func (o policyInitOptions) strictest(ctx context.Context, src oci.Source, found *inspection) (p *policy.Policy, v *verify.Verdict, err error) {
	var opts verify.Options
	empty, err := loadTrust(&opts)
	if err == nil && empty && !o.signer.InsecureNoLog && o.notation.ca == "" {
		err = &exitError{code: exitUndecided, msg: "this machine has no trust root yet", hint: cmp.Or(notationHint(found), contentTrustHint(found.ContentTrust), hintTrust)}
	}
	if err != nil {
		return nil, nil, err
	}
	pinned := found.Digest // a tag may move meanwhile
	var broad []policy.Policy
	switch {
	case o.notation.ca != "":
		broad, err = o.notation.policies(found)
	case o.signer.key != "":
		broad, err = o.keyPolicies()
	default:
		broad = broadPolicies(found, opts.Trust)
	}
	if err != nil {
		return nil, nil, err
	}
	ev := verify.Gather(ctx, src, pinned, o.now, opts, verify.Ask{Policies: broad})
	var refused *verify.Verdict
	for _, b := range broad {
		got := ev.Verdict(b)
		if got.Outcome == verify.Accepted {
			return o.narrow(ctx, src, pinned, opts, b, got)
		}
		// What could not be read may be the proof.
		if refused == nil || got.Outcome == verify.Undecided && refused.Outcome == verify.Rejected {
			refused = got
		}
	}
	return nil, refused, nil
}

// keyPolicies returns the policy about --key.
func (o policyInitOptions) keyPolicies() ([]policy.Policy, error) {
	d, err := o.signer.read()
	if err != nil {
		return nil, err
	}
	key, err := policy.ParseKey(d.Key)
	if err != nil {
		return nil, usageError("", "--key: %v", err)
	}
	key.InsecureNoLog = o.signer.InsecureNoLog
	return []policy.Policy{{Origin: policy.SignatureOnly{Signer: key}}}, nil
}

// signersTried is how many of the signers that an image's attachments name are tried.
const signersTried = 16

// broadPolicies returns policies that find out what an image proves, the one that says most
// first. What its attachments name is only a guess, which the verdict confirms.
func broadPolicies(found *inspection, roots []*trust.Root) []policy.Policy {
	built := func(s policy.Source) policy.Policy {
		return policy.Policy{Origin: policy.BuilderProvenance{Provenance: policy.Provenance{Source: s, Recipe: policy.Recipe{Any: true}}, SBOM: policy.SBOMOptional}}
	}
	out := []policy.Policy{built(policy.AnySource())}
	var signatures []policy.Policy
	seen := map[[2]string]bool{}
	for _, a := range found.Attached {
		key := [2]string{a.Signer, a.Issuer}
		if a.Signer == "" || a.Issuer == "" || a.notation != nil || seen[key] || len(seen) == signersTried {
			continue
		}
		seen[key] = true
		if s, err := policy.ParseSource(repositoryOfWorkflow(a.Signer)); err == nil {
			out = append(out, built(s))
		}
		if s, err := signerLike(a.Signer, a.Issuer); err == nil && !isBuilder(a.Signer, roots) {
			signatures = append(signatures, policy.Policy{Origin: policy.SignatureOnly{Signer: s}})
		}
	}
	return append(out, signatures...)
}

// isBuilder reports whether an identity is that of a platform's builder. Its signature alone
// says less than an image of the platform must prove: somebody removed the provenance.
func isBuilder(identity string, roots []*trust.Root) bool {
	return slices.ContainsFunc(roots, func(r *trust.Root) bool {
		return slices.ContainsFunc(r.Builders, func(b trust.Builder) bool { return b.ID == identity })
	})
}

// repositoryOfWorkflow returns the repository of a workflow on GitHub, or of a pipeline on
// GitLab, or "".
func repositoryOfWorkflow(identity string) string {
	if repo, _, ok := strings.Cut(identity, "/.github/workflows/"); ok && provenance.SystemOf(identity) == provenance.GitHub {
		return repo
	}
	if rest, ok := strings.CutPrefix(identity, "https://"); ok && provenance.SystemOf(identity) == provenance.GitLab {
		repo, _, _ := strings.Cut(rest, "//")
		return "https://" + repo
	}
	return ""
}

// signerLike returns the signer that has an identity; of a workflow at a tag, at any tag.
func signerLike(identity, issuer string) (policy.Signer, error) {
	if workflow, ref, ok := strings.Cut(identity, "@refs/tags/"); ok && ref != "" {
		return policy.ParsePattern(regexp.QuoteMeta(workflow)+"@refs/tags/.*", issuer)
	}
	s := policy.Identity{Name: identity, Issuer: issuer}
	return s, policy.Policy{Origin: policy.SignatureOnly{Signer: s}}.Check()
}

// narrow returns the strictest policy that an image meets, which meets the policy broad.
func (o policyInitOptions) narrow(ctx context.Context, src oci.Source, pinned string, opts verify.Options, broad policy.Policy, v *verify.Verdict) (*policy.Policy, *verify.Verdict, error) {
	if _, ok := broad.Origin.(policy.BuilderProvenance); !ok {
		return &broad, v, nil
	}
	strict, err := strictPolicies(v, opts.Trust)
	if err != nil {
		return nil, nil, err
	}
	ev := verify.Gather(ctx, src, pinned, o.now, opts, verify.Ask{Policies: strict})
	last := v
	for _, p := range strict {
		if last = ev.Verdict(p); last.Outcome == verify.Accepted {
			return &p, last, nil
		}
	}
	return nil, last, nil
}

// strictPolicies returns policies about the source, the builder and the level that a verdict
// found, the strictest first.
func strictPolicies(v *verify.Verdict, roots []*trust.Root) (out []policy.Policy, err error) {
	b := v.Facts.Build
	base := policy.BuilderProvenance{Provenance: policy.Provenance{MinLevel: v.Level}}
	if base.Source, err = policy.ParseSource(b.Source); err != nil {
		return nil, err
	}
	base.Ref = refLike(b.Ref)
	base.Root = rootOf(v.Facts.Signed, roots)
	for _, builders := range buildersLike(b) {
		base.Builders = builders
		for _, recipe := range recipesLike(b) {
			base.Recipe = recipe
			for _, s := range []struct {
				sbom     policy.SBOM
				complete bool
			}{{policy.SBOMContents, true}, {policy.SBOMContents, false}, {policy.SBOMRequired, true}, {policy.SBOMRequired, false}, {policy.SBOMOptional, false}} {
				base.SBOM, base.CompleteSBOM = s.sbom, s.complete
				if p := (policy.Policy{Origin: base}); p.Check() == nil {
					out = append(out, p)
				}
			}
		}
	}
	return out, nil
}

var majorVersion = lazyregexp.New(`^refs/tags/(v[0-9]+)\.[0-9]+\.[0-9]+$`)

// refLike returns the demand for the branch, or for the major version of a tag.
func refLike(ref string) policy.Ref {
	if m := majorVersion.FindStringSubmatch(ref); m != nil {
		return policy.Version(m[1])
	}
	if strings.HasPrefix(ref, "refs/heads/") {
		return policy.RefName(ref)
	}
	return nil
}

// rootOf returns the URL of the trust root that verified the provenance, or "".
func rootOf(signed []verify.Signed, roots []*trust.Root) string {
	i := slices.IndexFunc(signed, func(s verify.Signed) bool { return s.PredicateType == attest.PredicateSLSA1 })
	if i < 0 {
		return ""
	}
	for _, r := range roots {
		if r.Fingerprint != signed[i].TrustRoot {
			continue
		}
		if r.URL == "" && r.Repository != nil {
			return r.Repository.URL
		}
		return r.URL
	}
	return ""
}

// buildersLike returns the builders to demand, the strictest first. A workflow is named with
// its ref only if it was none at a version tag.
func buildersLike(b *provenance.Facts) [][]string {
	out := [][]string{{b.Builder}}
	if workflow, _, ok := strings.Cut(b.Builder, "@refs/tags/"); ok {
		out = [][]string{{workflow}, {b.Builder}}
	}
	return append(out, nil) // those that the trust roots name, and the source's own workflows
}

// recipesLike returns the recipes to demand, the strictest first: that of the commit itself,
// or else what was chosen.
func recipesLike(b *provenance.Facts) []policy.Recipe {
	r := b.Recipe
	if r == nil {
		return []policy.Recipe{{}}
	}
	chosen := policy.Recipe{}
	value := func(s string) *policy.Value {
		if s == "" {
			return nil
		}
		return new(policy.ExactValue(s))
	}
	chosen.Context = value(r.Context)
	if r.Builder == attest.Golang {
		chosen.Package = value(r.Package)
	} else {
		chosen.Dockerfile, chosen.Target = value(r.Dockerfile), value(r.Target)
		for name, arg := range r.BuildArgs {
			if chosen.BuildArgs == nil {
				chosen.BuildArgs = map[string]policy.Value{}
			}
			chosen.BuildArgs[name] = policy.ExactValue(arg)
		}
	}
	var out []policy.Recipe
	for _, r := range []policy.Recipe{{}, chosen} {
		if b.Hermetic {
			hermetic := r
			hermetic.Hermetic = true
			out = append(out, hermetic)
		}
		out = append(out, r)
	}
	return append(out, policy.Recipe{Any: true})
}
