package main

import (
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"strings"
	"time"

	v1 "github.com/google/go-containerregistry/pkg/v1"
	"github.com/spf13/cobra"

	"github.com/colophon-build/colophon/attest"
	"github.com/colophon-build/colophon/internal/limits"
	"github.com/colophon-build/colophon/internal/strict"
	"github.com/colophon-build/colophon/oci"
	"github.com/colophon-build/colophon/oci/imagelist"
	"github.com/colophon-build/colophon/policy"
	"github.com/colophon-build/colophon/trust"
	"github.com/colophon-build/colophon/verify"
)

type verifyOptions struct {
	demand    policy.Document // from the flags
	policy    string
	rules     *policyFile // policies of version 2 or of policy-controller, in place of a demand
	namespace string      // of the image, for o.rules; empty: not known
	places    []imagelist.Place
	bundle    string
	save      string // where to keep a file that was downloaded
	signer    signerOptions
	recipe    recipeOptions
	tag       string
	branch    string
	output    output
	source    sourceOptions
	timeout   time.Duration
	platform  string // of an index, the only one to read
	many      manyOptions
	reports   []string // FORMAT=FILE
	explain   bool
	why       bool // print the likely causes in place of the chain
	summary   summaryOptions
	record    recording
	now       time.Time // of verification: when the command began
}

func newVerifyCommand() *cobra.Command {
	var o verifyOptions
	cmd := &cobra.Command{
		Use:   "verify IMAGE|LAYOUT|FILE|DIRECTORY|URL… --source URI",
		Short: "check which commit an image or a file came from",
		Long: `Verify checks the whole chain: every byte of the image, the signer, the
transparency log, the provenance and the repository it names, and the SBOM.
It trusts only the platforms that "colophon trust list" shows. With a Sigstore
trusted root it trusts GitHub's public builders, and workflows of the --source
repository.

An image is accepted only if it was built as its commit says: from the Dockerfile
or main package at the top of the repository, or as .colophon.yaml there declares
it. If whoever released it chose something else, name it with the flags that
release has: --context, --dockerfile, --target, --build-arg, --package, --locked.

A LAYOUT is a directory, or a tar file as docker save writes it. What is proved is
the index of all platforms; a platform that the registry or LAYOUT does not have is
named, and --platform reads only one. A FILE is verified with the bundles beside it
(FILE.sigstore.json, FILE.intoto.jsonl) or in --bundle. A DIRECTORY of release files is accepted if the
list of their digests (SHA256SUMS) is proved and all files match it, or if each
file is proved separately. Verify reads the bundles beside the files. Every other
file must be in the list or proved, also detached signatures and certificates. The
file at an https URL is verified with the bundles beside it, and kept only with
--save, if it is accepted. A
directory with an oci-layout file is a LAYOUT and may hold nothing else; after
"oci:", any name is a LAYOUT.

For artifacts that somebody else signed, name the signer with --identity and
--issuer, or with --key. With --type, the signer needs an attestation of that type,
in place of a signature. With --source, the artifact needs provenance from GitHub,
GitLab or Tekton Chains that names this source. Without --source, a signature is
enough, and it does not prove any source.

Verify checks several images in parallel: those in the arguments, and those in
the file given with -f, or "-" for standard input. That file is a list with one
image per line and # comments, a Kubernetes manifest as kubectl and Helm print it
(YAML or JSON), or a compose file. Verify prints the chain of each image that is
not accepted. The exit code is that of the worst outcome: rejected before
undecided before accepted.

The verdict goes to standard output, and everything else to standard error. With -q
it is IMAGE@DIGEST of what was accepted, for scripts. A template reads the members
of the JSON verdict (spec/verdict). Of several images, -o json, yaml and template get
an array.

Exit codes: 0 accepted, 3 rejected, 4 undecided (never treated as accepted),
2 usage error, 1 failure.`,
		Example: `  colophon verify 127.0.0.1:8080/team/app:v1.2.0 --source git.example.com/team/app
  colophon verify ./layout --source git.example.com/team/app --ref v1.2.0 --json
  colophon verify app.tar.gz --bundle app.intoto.jsonl --source github.com/team/app --tag v1.2.0
  colophon verify dist/app.tar.gz --key release.pub
  colophon verify https://example.com/v1.2.0/app.tar.gz --key release.pub --save app.tar.gz
  colophon verify reg.example.com/app:v1 --identity ada@example.com --issuer https://accounts.example.com
  colophon verify reg.example.com/app:v1 --type vuln --key scanner.pub
  kubectl get pods -o json | colophon verify - --policy policy.json
  kubectl set image deploy/web web=$(colophon verify -q registry.example.com/team/app:v1.2.0 --policy policy.json)
  colophon verify reg.example.com/app@sha256:… --policy policy.json --record
  colophon verify ./layout --source git.example.com/team/app -o template='{{.facts.build.commit}}'`,
		RunE: func(cmd *cobra.Command, args []string) error { return runVerify(cmd, args, o) },
	}
	o.flags(cmd)
	cmd.Flags().BoolVar(&o.record.asked, "record", false, "record the verdict in the audit ledger of the platform that you are logged in to; what is not recorded is not accepted")
	cmd.MarkFlagsMutuallyExclusive("record", "offline")
	return cmd
}

func (o *verifyOptions) flags(cmd *cobra.Command) {
	f := cmd.Flags()
	f.StringVar(&o.demand.Source, "source", "", "repository that the image must come from")
	f.BoolVar(&o.demand.AnySource, "any-source", false, "dangerous: accept an image of any repository")
	f.StringVar(&o.demand.Ref, "ref", "", "tag, branch or full ref that the image must come from")
	f.StringVar(&o.tag, "tag", "", "tag that the image must come from (never a branch of that name)")
	f.StringVar(&o.demand.Version, "versioned-tag", "", "version that the tag must have, complete or a prefix: v1, v1.2, v1.2.3")
	f.Func("workflow-input", "input `NAME=VALUE` that the GitHub workflow must have been started with", o.input)
	f.StringVar(&o.branch, "branch", "", "branch that the image must come from (never a tag of that name)")
	f.StringVar(&o.demand.Commit, "commit", "", "full id of the commit that the image must come from")
	f.StringSliceVar(&o.demand.Builders, "builder", nil, "builder id to accept (default: those in the trust roots)")
	f.StringVar(&o.demand.Root, "trust-root", "", "`NAME` of the trust root that must have verified the signature: its fingerprint, or the URL of the platform or TUF repository")
	o.recipe.flags(cmd)
	f.IntVar(&o.demand.MinLevel, "min-level", 0, "lowest SLSA Build level to accept, 0 to 3")
	f.BoolVar(&o.demand.Contents, "contents", false, "compare the SBOMs with the packages installed in the image; reads its layers again")
	f.StringVar(&o.bundle, "bundle", "", "`FILE` with Sigstore bundles or envelopes for the file to verify; for an image if the argument begins with oci:, or has a digest and is no file")
	f.StringVar(&o.save, "save", "", "keep the file at a URL as this `FILE` if it is accepted")
	f.StringVar(&o.signer.Identity, "identity", "", "identity that must have signed, in place of the trusted builders; needs --issuer")
	f.StringVar(&o.signer.IdentityRegexp, "identity-regexp", "", "regular expression (RE2) that must match the whole identity, in place of --identity")
	f.StringVar(&o.signer.Issuer, "issuer", "", "OIDC issuer that must have authenticated --identity")
	f.StringVar(&o.signer.key, "key", "", "`FILE` with the public key (PEM) that must have signed, in place of the trusted builders")
	f.Func("type", "an attestation of this `TYPE`, a name as for attest --type or a URI, must be there: by --identity or --key, which need no signature then; with --source, by the signer of the provenance. What it says is not looked at", o.attested)
	f.BoolVar(&o.signer.InsecureNoLog, "insecure-no-log", false, "dangerous, with --key: accept a signature that is in no transparency log")
	f.StringVar(&o.platform, "platform", "", "of an image for several platforms, read only this one (`OS/ARCH[/VARIANT]`)")
	f.StringVar(&o.policy, "policy", "", "policy file (spec/policy), in place of the flags above")
	o.output.flags(cmd)
	o.output.quietFlag(cmd, "IMAGE@DIGEST of each accepted image, and one line on standard error for each other")
	f.DurationVar(&o.timeout, "timeout", 5*time.Minute, "after this long, stop verifying an image, which is then undecided")
	f.StringVarP(&o.many.from, "file", "f", "", "verify the images of this list, Kubernetes manifest or compose file")
	o.many.mirrorFlag(f)
	f.StringArrayVar(&o.many.fields, "image-field", nil, "with -f, a field of a custom kind that names images (`KIND.GROUP=PATH`), as in Cluster.postgresql.cnpg.io=spec.imageName")
	f.StringVar(&o.many.allTags, "all-tags", "", "verify every tag of this repository (`HOST/NAME`)")
	f.BoolVar(&o.explain, "explain", false, "print for each link what was checked, against what and by which rule, and the SLSA Build requirements")
	f.StringArrayVar(&o.reports, "report", nil, "also write a report for CI: sarif=`FILE` or junit=FILE")
	f.IntVar(&o.many.parallel, "parallel", 8, "how many images to verify at once")
	for _, flag := range append([]string{"source", "any-source", "ref", "tag", "branch", "versioned-tag", "workflow-input", "commit", "builder", "trust-root", "min-level", "identity", "identity-regexp", "issuer", "key", "type", "insecure-no-log"}, recipeFlags...) {
		cmd.MarkFlagsMutuallyExclusive("policy", flag)
	}
	o.source.flags(cmd)
	o.summary.flags(cmd)
	cmd.MarkFlagsMutuallyExclusive("ref", "tag", "branch", "versioned-tag")
	cmd.MarkFlagsMutuallyExclusive("contents", "bundle")
	cmd.MarkFlagsMutuallyExclusive("platform", "vsa")
	for _, form := range []string{"json", "output", "quiet"} {
		cmd.MarkFlagsMutuallyExclusive("explain", form)
	}
	cmd.MarkFlagsMutuallyExclusive("key", "identity", "identity-regexp")
	cmd.MarkFlagsMutuallyExclusive("key", "issuer")
	cmd.MarkFlagsMutuallyExclusive("source", "any-source")
}

// input parses one --workflow-input. The value may contain anything.
func (o *verifyOptions) input(arg string) error {
	name, value, ok := strings.Cut(arg, "=")
	if _, twice := o.demand.WorkflowInputs[name]; !ok || name == "" || twice {
		return fmt.Errorf("expected NAME=VALUE, each name once, found %q", arg)
	}
	if o.demand.WorkflowInputs == nil {
		o.demand.WorkflowInputs = map[string]string{}
	}
	o.demand.WorkflowInputs[name] = value
	return nil
}

// attested parses one --type.
func (o *verifyOptions) attested(arg string) error {
	k, err := kindOf(arg)
	switch {
	case err != nil:
		return err
	case k.uri == attest.PredicateVSA:
		return errors.New("whoever verifies also signs that it rejected: demand a summary that passed in a policy (summary, verifiers)")
	}
	o.demand.Attestations = append(o.demand.Attestations, policy.DocumentAttestation{PredicateType: k.uri})
	return nil
}

// check returns an error if flags and arguments do not fit together.
func (o *verifyOptions) check(cmd *cobra.Command, args []string) error {
	many := o.many.asked(args)
	switch {
	case !many && len(args) == 0:
		return usageError("see "+cmd.CommandPath()+" --help", "nothing to verify: name an image, -f FILE or --all-tags HOST/NAME")
	case many && (o.bundle != "" || o.save != ""):
		return usageError("", "--bundle and --save need exactly one file or image")
	case o.many.parallel < 1 || o.many.parallel > maxParallel:
		return usageError("", "--parallel: expected 1 to %d, found %d", maxParallel, o.many.parallel)
	}
	return checkReports(o.reports, reportFormats)
}

func runVerify(cmd *cobra.Command, args []string, o verifyOptions) error {
	if err := o.check(cmd, args); err != nil {
		return err
	}
	var opts verify.Options
	o.now = time.Now()
	var err error
	var demand []byte
	if opts.Policy, demand, err = o.load(); err != nil {
		return err
	}
	if o.rules != nil && o.explain {
		return usageError("colophon policy explain IMAGE --policy FILE", "--explain is for policies of version 1 and flags")
	}
	if opts.Platform, err = parsePlatform(o.platform); err != nil {
		return err
	}
	if err := o.record.open(cmd.Context(), demand); err != nil {
		return err
	}
	if o.many.asked(args) {
		if o.summary != (summaryOptions{}) {
			return usageError("", "--vsa needs exactly one image or file")
		}
		return runVerifyMany(cmd, args, o, opts)
	}
	return runVerifyOne(cmd, args[0], demand, o, opts)
}

// kind is the function that verifies one kind of thing, and whether that is a single file.
type kind struct {
	verify func(ctx context.Context, what string, ref oci.Reference, opts verify.Options) (*verify.Verdict, error)
	file   bool
}

// kindOf returns the kind of what; ref is what, parsed as the name of an image.
func (o *verifyOptions) kindOf(what string, ref oci.Reference) kind {
	switch {
	case isURL(what):
		return kind{o.download, true}
	case isReleaseDir(what, ref):
		return kind{o.directory, false}
	case o.bundle != "" && !spelledAsImage(what, ref), o.bundle == "" && isBundledFile(what, ref):
		return kind{o.file, true}
	}
	return kind{o.image, false}
}

// runVerifyOne verifies what, which is no list. demand is the policy as it was read.
func runVerifyOne(cmd *cobra.Command, what string, demand []byte, o verifyOptions, opts verify.Options) error {
	ref, err := oci.ParseReference(what)
	switch {
	case isURL(what):
		ref, err = oci.Reference{}, nil
	case o.save != "":
		return usageError("", "--save is for the file at a URL, and %s is none", what)
	}
	if err != nil && o.bundle == "" {
		return usageError("", "%v", err)
	}
	empty, err := loadTrust(&opts)
	if err != nil {
		return answer(cmd, o.record.keep(cmd.Context(), cmd.ErrOrStderr(), undecided(what, err), opts), o, opts)
	}
	if err := o.source.configure(&opts, o.now, o.rules.policies()...); err != nil {
		return err
	}
	warnStale(cmd.ErrOrStderr(), opts, o.now)
	if err := loadLists(cmd.Context(), &opts, o.now, o.source.offline); err != nil {
		return err
	}
	ctx, cancel := withTimeout(cmd.Context(), o.timeout)
	defer cancel()
	k := o.kindOf(what, ref)
	if o.rules != nil && (k.file || isReleaseDir(what, ref)) {
		return usageError("", "a policy of version 2 is about images, and %s is none", what)
	}
	summary, err := o.summary.prepare(cmd, ref, k.file, demand, opts.Trust)
	if err != nil {
		return err
	}
	if summary != nil && isReleaseDir(what, ref) {
		return usageError("verify each file separately", "--vsa needs exactly one image or file, and %s is a directory", what)
	}
	stop := waiting(cmd.ErrOrStderr(), "verifying "+what)
	v, err := k.verify(ctx, what, ref, opts)
	stop()
	if err != nil {
		return err
	}
	v.Image = what
	v = o.record.keep(cmd.Context(), cmd.ErrOrStderr(), v, opts)
	if empty && v.Outcome != verify.Accepted {
		v.Hint = hintTrust
	}
	err = answer(cmd, v, o, opts)
	if summary == nil || v.Outcome == verify.Undecided {
		return err
	}
	if failed := summary.issue(ctx, v); failed != nil {
		return &exitError{code: exitFailure, msg: "cannot make the verification summary: " + failed.Error()}
	}
	return err
}

const hintTrust = "add a trust root first: colophon trust add URL"

// loadTrust loads the trust roots on this machine. An empty store is not an error:
// the verdict reports it.
func loadTrust(opts *verify.Options) (empty bool, err error) {
	if opts.Trust, err = storedRoots(); errors.Is(err, trust.ErrEmpty) {
		return true, nil
	}
	return false, err
}

// parsePlatform parses the value of --platform; nil stands for all platforms.
func parsePlatform(s string) (*v1.Platform, error) {
	if s == "" {
		return nil, nil
	}
	name, err := attest.NormalPlatform(s)
	if err != nil {
		return nil, usageError("for example linux/arm64", "--platform: expected OS/ARCH[/VARIANT], found %q", s)
	}
	return v1.ParsePlatform(name)
}

// warnStale prints a hint for each trust root whose metadata has expired.
func warnStale(w io.Writer, opts verify.Options, now time.Time) {
	for _, r := range opts.Trust {
		if r.Stale(now) {
			printHint(w, "the trust root from "+r.Repository.URL+" is "+freshness(r)+": colophon trust refresh")
		}
	}
}

// spelledAsImage reports whether the argument of a verification with --bundle is an
// image: it begins with "oci:" or has a digest. Otherwise it is a file. The path of a
// file is a file, whatever its name is: a server can have chosen the name.
func spelledAsImage(what string, ref oci.Reference) bool {
	return strings.HasPrefix(what, "oci:") || ref.Digest != "" && (ref.Dir == "" || !isFile(what))
}

func (o verifyOptions) image(ctx context.Context, image string, ref oci.Reference, opts verify.Options) (*verify.Verdict, error) {
	if o.source.offline && ref.Dir == "" {
		return undecided(image, errors.New("the image is in a registry, and --offline uses no network: copy it into a layout with colophon copy")), nil
	}
	src, err := ref.Open(oci.RegistryOptions{})
	if l, ok := src.(*oci.Layout); ok && err == nil {
		defer l.Close()
	}
	if err != nil {
		return unreadable(image, err), nil
	}
	opts.Layout = ref.Dir != ""
	if o.bundle != "" {
		if opts.Bundles, err = readBundles(o.bundle); err != nil {
			return nil, err
		}
	}
	if o.rules != nil {
		return o.decide(ctx, image, src, ref, opts), nil
	}
	return verify.Image(ctx, src, ref.Identifier(), o.now, opts), nil
}

// decide verifies an image by a policy of version 2.
func (o verifyOptions) decide(ctx context.Context, what string, src oci.Source, ref oci.Reference, opts verify.Options) *verify.Verdict {
	o.rules.trusting(opts)
	image, ev, err := evidenceFor(ctx, src, ref, o.many.mirrors, o.now, opts, o.rules)
	if err != nil {
		return unreadable(what, err)
	}
	v := o.rules.about(ev, image, opts.Distrust.Lists, o.now).worst(ctx, o.namespace, o.places).Verdict()
	v.Digest, v.Dangers = cmp.Or(v.Digest, image.Digest), o.dangers(opts)
	return v
}

// dangers returns what is dangerous in the policy, one line each for people.
func (o verifyOptions) dangers(opts verify.Options) []string {
	if o.rules == nil {
		return opts.Policy.Dangers()
	}
	var all []string
	for _, s := range o.rules.sets {
		all = append(all, s.Dangers()...)
	}
	return all
}

// unreadable returns the verdict for an image that could not be opened or found.
func unreadable(image string, err error) *verify.Verdict {
	v := undecided(image, err)
	if errors.Is(err, oci.ErrMismatch) {
		v.Outcome, v.Links[0].Status = verify.Rejected, verify.Broken
	}
	if errors.Is(err, oci.ErrNoManifest) {
		v.Hint = "verify the image in its registry, or save it as an OCI layout with docker 25 or later, or with its proofs by colophon copy"
	}
	return v
}

func (o verifyOptions) file(ctx context.Context, path string, _ oci.Reference, opts verify.Options) (*verify.Verdict, error) {
	f, err := openFile(path)
	if err != nil {
		return nil, err
	}
	from := []string{o.bundle}
	if o.bundle == "" {
		from = besideFile(path)
	}
	var bundles [][]byte
	for _, name := range from {
		found, err := readBundles(name)
		if err != nil {
			return nil, err
		}
		bundles = append(bundles, found...)
	}
	return verify.Bundled(ctx, f, bundles, o.now, opts), nil
}

// load returns the policy from the policy file or the flags, or sets o.rules. raw is the policy
// document (spec/policy): the bytes of the file, or one made from the flags.
func (o *verifyOptions) load() (p policy.Policy, raw []byte, err error) {
	read, hint, words := o.fromFlags, "see colophon verify --help", inFlags
	if o.policy != "" {
		read, hint, words = o.fromFile, hintPolicy, func(err error) string { return o.policy + ": " + err.Error() }
	}
	d, raw, err := read()
	if err != nil || o.rules != nil {
		return policy.Policy{}, raw, err
	}
	if o.summary.to != "" {
		if err := o.besidePolicy(d); err != nil {
			return policy.Policy{}, nil, err
		}
	}
	d.Contents = d.Contents || o.demand.Contents
	if err := o.source.demand(&d); err != nil {
		return policy.Policy{}, nil, err
	}
	if p, err = d.Policy(); err != nil {
		return policy.Policy{}, nil, usageError(hint, "%s", words(err))
	}
	if _, signature := p.Origin.(policy.SignatureOnly); signature && len(o.demand.Attestations) > 0 {
		return onlyAttested(p)
	}
	return p, raw, nil
}

// onlyAttested returns the policy that demands the attestations of p by its signer, and no signature, and the
// document of it.
func onlyAttested(p policy.Policy) (policy.Policy, []byte, error) {
	for i := range p.Attestations {
		p.Attestations[i].Signer = p.Signer()
	}
	p.Origin = policy.AttestationsOnly{}
	d, err := policy.Every(p).Document()
	if err != nil {
		return p, nil, err
	}
	raw, err := d.YAML()
	return p, raw, err
}

// inFlags says what is wrong with a policy that flags made: its members are flags.
func inFlags(err error) string {
	said := strings.TrimPrefix(err.Error(), "policy: ")
	member, rest, _ := strings.Cut(said, ": ")
	if flag, ok := map[string]string{"source": "source", "ref": "ref", "commit": "commit", "level": "min-level", "builder id": "builder"}[member]; ok {
		return "--" + flag + ": " + rest
	}
	return said
}

const hintPolicy = "spec/policy describes the format"

// besidePolicy returns an error if flags demand what the policy document d does not say.
// A verification summary names the digest of that document as the policy that was met.
func (o verifyOptions) besidePolicy(d policy.Document) error {
	switch {
	case o.demand.Contents && !d.Contents:
		return usageError(`write "contents": true into the policy`, "--vsa: the summary names the policy file, which does not demand what --contents does")
	case o.source.signers != "" || o.source.gitsign.given():
		return usageError("verify twice, and sign the summary without these flags", "--vsa: the summary names the policy, which cannot say what --signers and --gitsign-identity demand")
	}
	return nil
}

func (o verifyOptions) fromFlags() (d policy.Document, raw []byte, err error) {
	d = o.demand
	if d.Signer, err = o.signer.read(); err != nil {
		return d, nil, err
	}
	if d.Signer != nil {
		d.Signer.Root, d.Root = d.Root, ""
	}
	if d.Source == "" && !d.AnySource && d.Signer == nil {
		return d, nil, usageError("for example --source git.example.com/team/app; without it, verify would accept an image from any repository",
			"--source is required: which repository should this image come from?")
	}
	if d.Recipe, err = o.recipe.read(); err != nil {
		return d, nil, err
	}
	d.AnyRecipe = o.recipe.any
	switch {
	case o.tag != "":
		d.Ref = "refs/tags/" + o.tag
	case o.branch != "":
		d.Ref = "refs/heads/" + o.branch
	}
	raw, err = json.Marshal(d)
	return d, raw, err
}

func (o *verifyOptions) fromFile() (d policy.Document, raw []byte, err error) {
	if raw, err = strict.ReadFile(o.policy, limits.Request); err != nil {
		return d, nil, usageError("", "%v", err)
	}
	if err := checkAuthor(context.Background(), o.policy, raw, o.now); err != nil {
		return d, nil, err
	}
	if policy.IsVersion1(raw) {
		d, err = policy.ParseDocument(raw)
	} else if o.rules, err = parsePolicyFile(raw); err == nil {
		err = o.besideSets()
	}
	if _, usage := errors.AsType[*exitError](err); err != nil && !usage {
		err = usageError(hintPolicy, "%v", strict.In(o.policy, err))
	}
	return d, raw, err
}

// besideSets returns an error if flags demand what a policy of version 2 would have to say.
func (o *verifyOptions) besideSets() error {
	switch {
	case o.demand.Contents:
		return usageError("write sbom: {required: {contents: true}} into the policy", "--contents goes with flags and policies of version 1")
	case o.source.signers != "" || o.source.gitsign.given():
		return usageError("", "--signers and --gitsign-identity go with flags and policies of version 1")
	}
	return nil
}

// undecided returns the verdict for an image whose verification could not begin.
func undecided(image string, err error) *verify.Verdict {
	return &verify.Verdict{Image: image, Links: []verify.Link{{Name: verify.LinkImage, Status: verify.Unknown, Reason: err.Error()}}}
}

// answer prints the verdict, writes the reports, and returns the exit code as an
// error.
func answer(cmd *cobra.Command, v *verify.Verdict, o verifyOptions, opts verify.Options) error {
	failed := o.print(cmd, v, opts)
	if err := writeReports(o.reports, reportFormats, []*verify.Verdict{v}); err != nil {
		return err
	}
	return exitWith(v.Outcome, failed)
}

// print prints the verdict in the form that the user asked for.
func (o verifyOptions) print(cmd *cobra.Command, v *verify.Verdict, opts verify.Options) error {
	switch {
	case o.why:
		return o.printWhy(cmd.OutOrStdout(), v)
	case o.output.quiet:
		printQuiet(cmd.OutOrStdout(), cmd.ErrOrStderr(), v)
		printDangers(cmd.ErrOrStderr(), v.Dangers)
		return nil
	case o.output.text():
		printVerdict(cmd.OutOrStdout(), v, o.explainer(opts))
		return nil
	}
	return o.output.print(cmd.OutOrStdout(), v)
}

func (o verifyOptions) explainer(opts verify.Options) explainer {
	if !o.explain {
		return nil
	}
	return func(link string) verify.Explanation { return opts.Explain(link, o.now) }
}
