package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/colophon-build/colophon/internal/limits"
	"github.com/colophon-build/colophon/internal/strict"
	"github.com/colophon-build/colophon/oci"
	"github.com/colophon-build/colophon/policy"
	"github.com/colophon-build/colophon/trust"
	"github.com/colophon-build/colophon/verify"
)

type verifyOptions struct {
	demand  policy.Document // as far as flags say it
	policy  string
	bundle  string
	signer  signerOptions
	tag     string
	branch  string
	json    bool
	source  sourceOptions
	timeout time.Duration
	many    manyOptions
	reports []string // FORMAT=FILE
	explain bool
	summary summaryOptions
}

func newVerifyCommand() *cobra.Command {
	var o verifyOptions
	cmd := &cobra.Command{
		Use:   "verify IMAGE|LAYOUT|FILE|DIRECTORY… --source URI",
		Short: "check that an image or a file proves which commit it came from",
		Long: `Verify checks the whole chain: every byte of the image, who signed it, the
transparency log, the provenance and the repository it names, and the SBOM.
It believes the platforms of "colophon trust list" and nobody else. Under a
Sigstore trusted root it believes the public builders on GitHub, and workflows
of the repository that is demanded.

A LAYOUT is a directory, or a tar as docker save writes it. A FILE comes with
the --bundle that was made for it. A DIRECTORY of release files is accepted where
the list of their digests (SHA256SUMS) is proved and each is what it says, or
each is proved by itself; bundles that stand beside a file are read.

What others signed, --identity and --issuer, or --key, say who should have:
with --source it must be a provenance of GitHub, GitLab or Tekton Chains that
names the source, without it a signature is enough, which says nothing of one.

Several images are verified side by side: those named, and those that a FILE
given with -f, or "-" for standard input, names. That is a list, one image a
line with # comments, a Kubernetes manifest as kubectl and Helm print it, in
YAML or JSON, or a compose file. Those that are not accepted are shown with
their chain, and the worst outcome is the exit code: rejected, undecided,
accepted.

Exit codes: 0 accepted, 3 rejected, 4 could not decide (never treated as
accepted), 2 usage, 1 failure.`,
		Example: `  colophon verify 127.0.0.1:8080/team/app:v1.2.0 --source git.example.com/team/app
  colophon verify ./layout --source git.example.com/team/app --ref v1.2.0 --json
  colophon verify app.tar.gz --bundle app.intoto.jsonl --source github.com/team/app --tag v1.2.0
  colophon verify app.tar.gz --bundle app.sigstore.json --key release.pub
  colophon verify reg.example.com/app:v1 --identity ada@example.com --issuer https://accounts.example.com
  kubectl get pods -o json | colophon verify - --policy policy.json`,
		RunE: func(cmd *cobra.Command, args []string) error { return runVerify(cmd, args, o) },
	}
	o.flags(cmd)
	return cmd
}

func (o *verifyOptions) flags(cmd *cobra.Command) {
	f := cmd.Flags()
	f.StringVar(&o.demand.Source, "source", "", "repository that the image must come from")
	f.BoolVar(&o.demand.AnySource, "any-source", false, "dangerous: accept an image of any repository")
	f.StringVar(&o.demand.Ref, "ref", "", "tag, branch or full ref that it must come from")
	f.StringVar(&o.tag, "tag", "", "tag that it must come from, and no branch of that name")
	f.StringVar(&o.demand.Version, "versioned-tag", "", "version that the tag must be of, or as much of it as matters: v1, v1.2, v1.2.3")
	f.Func("workflow-input", "what a workflow on GitHub must have been started with, `NAME=VALUE`", o.input)
	f.StringVar(&o.branch, "branch", "", "branch that it must come from, and no tag of that name")
	f.StringVar(&o.demand.Commit, "commit", "", "full id of the commit that it must come from")
	f.StringSliceVar(&o.demand.Builders, "builder", nil, "builder id to accept (default: those that the trust roots name)")
	f.IntVar(&o.demand.MinLevel, "min-level", 0, "SLSA Build level that must follow from the evidence, 0 to 3")
	f.BoolVar(&o.demand.Contents, "contents", false, "the SBOMs must agree with what is installed in the image; reads its layers once more")
	f.StringVar(&o.bundle, "bundle", "", "`FILE` with Sigstore bundles or envelopes: the argument is a file, or an image if it begins with oci: or has a digest")
	f.StringVar(&o.signer.Identity, "identity", "", "name of who must have signed, in place of the builders that are believed; with --issuer")
	f.StringVar(&o.signer.IdentityRegexp, "identity-regexp", "", "in place of --identity: what all of the name must match, anchored at both ends (RE2)")
	f.StringVar(&o.signer.Issuer, "issuer", "", "who must vouch for --identity")
	f.StringVar(&o.signer.key, "key", "", "`FILE` with the public key (PEM) that must have signed, in place of the builders that are believed")
	f.BoolVar(&o.signer.InsecureNoLog, "insecure-no-log", false, "dangerous, with --key: accept a signature that no transparency log has")
	f.StringVar(&o.policy, "policy", "", "policy file (spec/policy), in place of the flags above")
	f.BoolVar(&o.json, "json", false, "print the verdict as JSON on stdout, an array where several are asked for (spec/verdict)")
	f.DurationVar(&o.timeout, "timeout", 5*time.Minute, "give up on an image, undecided, after this long")
	f.StringVarP(&o.many.from, "file", "f", "", "verify the images of this list, Kubernetes manifest or compose file")
	f.StringVar(&o.many.allTags, "all-tags", "", "verify every tag of this repository (`HOST/NAME`)")
	f.BoolVar(&o.explain, "explain", false, "print of each link what was checked, against what, by which rule; and the requirements of SLSA's Build track")
	f.StringArrayVar(&o.reports, "report", nil, "write the verdicts for CI too: sarif=`FILE` or junit=FILE")
	f.IntVar(&o.many.parallel, "parallel", 8, "how many images to verify at once")
	for _, flag := range []string{"source", "any-source", "ref", "tag", "branch", "versioned-tag", "workflow-input", "commit", "builder", "min-level", "identity", "identity-regexp", "issuer", "key", "insecure-no-log"} {
		cmd.MarkFlagsMutuallyExclusive("policy", flag)
	}
	o.source.flags(cmd)
	o.summary.flags(cmd)
	cmd.MarkFlagsMutuallyExclusive("ref", "tag", "branch", "versioned-tag")
	cmd.MarkFlagsMutuallyExclusive("contents", "bundle")
	cmd.MarkFlagsMutuallyExclusive("explain", "json")
	cmd.MarkFlagsMutuallyExclusive("key", "identity", "identity-regexp")
	cmd.MarkFlagsMutuallyExclusive("key", "issuer")
	cmd.MarkFlagsMutuallyExclusive("source", "any-source")
}

// input takes one --workflow-input. The value may hold anything.
func (o *verifyOptions) input(arg string) error {
	name, value, ok := strings.Cut(arg, "=")
	if _, twice := o.demand.WorkflowInputs[name]; !ok || name == "" || twice {
		return fmt.Errorf("got %q, want NAME=VALUE, each name once", arg)
	}
	if o.demand.WorkflowInputs == nil {
		o.demand.WorkflowInputs = map[string]string{}
	}
	o.demand.WorkflowInputs[name] = value
	return nil
}

func runVerify(cmd *cobra.Command, args []string, o verifyOptions) error {
	many := o.many.asked(args)
	switch {
	case !many && len(args) == 0:
		return usageError("see "+cmd.CommandPath()+" --help", "verify must be told what: an image, -f FILE or --all-tags HOST/NAME")
	case many && o.bundle != "":
		return usageError("", "--bundle is for one file")
	case o.many.parallel < 1 || o.many.parallel > maxParallel:
		return usageError("", "--parallel: got %d, want 1 to %d", o.many.parallel, maxParallel)
	}
	if err := checkReports(o.reports); err != nil {
		return err
	}
	opts := verify.Options{Now: time.Now()}
	var err error
	var demand []byte
	if opts.Policy, demand, err = o.load(); err != nil {
		return err
	}
	if many {
		if o.summary != (summaryOptions{}) {
			return usageError("", "--vsa is for one image")
		}
		return runVerifyMany(cmd, args, o, opts)
	}
	what := args[0]
	ref, err := oci.ParseReference(what)
	if err != nil && o.bundle == "" {
		return usageError("", "%v", err)
	}
	empty, err := believe(&opts)
	if err != nil {
		return answer(cmd, undecided(what, err), o, opts)
	}
	if err := o.source.ask(&opts); err != nil {
		return err
	}
	sayStale(cmd.ErrOrStderr(), opts)
	ctx, cancel := context.WithTimeout(cmd.Context(), o.timeout)
	defer cancel()
	judge, file := o.image, false
	switch {
	case isReleaseDir(ref):
		judge = o.directory
	case o.bundle != "" && !spelledAsImage(what, ref):
		judge, file = o.file, true
	}
	summary, err := o.summary.prepare(ref, file, demand, opts.Trust)
	if err != nil {
		return err
	}
	if summary != nil && isReleaseDir(ref) {
		return usageError("verify the files one by one", "--vsa is for one image or file, and %s is a directory", what)
	}
	v, err := judge(ctx, what, ref, opts)
	if err != nil {
		return err
	}
	v.Image = what
	if empty && v.Outcome != verify.Accepted {
		v.Hint = hintTrust
	}
	err = answer(cmd, v, o, opts)
	if summary == nil || v.Outcome == verify.Undecided {
		return err
	}
	if failed := summary.issue(ctx, v); failed != nil {
		return &exitError{code: exitFailure, msg: "no verification summary was made: " + failed.Error()}
	}
	return err
}

const hintTrust = "say whom to believe: colophon trust add URL"

// believe loads whom this machine believes. That it believes nobody is no
// error: the verdict says so.
func believe(opts *verify.Options) (nobody bool, err error) {
	dir, err := trust.DefaultDir(os.Getenv)
	if err != nil {
		return false, err
	}
	opts.Trust, err = trust.Store{Dir: dir}.Load()
	if errors.Is(err, trust.ErrEmpty) {
		return true, nil
	}
	return false, err
}

// sayStale says which trust roots were not asked about for long.
func sayStale(w io.Writer, opts verify.Options) {
	for _, r := range opts.Trust {
		if r.Stale(opts.Now) {
			printHint(w, "the trust root from "+r.Repository.URL+" is "+freshness(r)+": colophon trust refresh")
		}
	}
}

// spelledAsImage tells an image that comes with a bundle from a file that does:
// by "oci:" in front, or a digest behind, which no file has.
func spelledAsImage(what string, ref oci.Reference) bool {
	return strings.HasPrefix(what, "oci:") || ref.Digest != ""
}

func (o verifyOptions) image(ctx context.Context, image string, ref oci.Reference, opts verify.Options) (*verify.Verdict, error) {
	if o.source.offline && ref.Dir == "" {
		return undecided(image, errors.New("it is in a registry, and --offline asks none: bring it along as a layout, with colophon save")), nil
	}
	src, err := ref.Open(oci.RegistryOptions{})
	if l, ok := src.(*oci.Layout); ok && err == nil {
		defer l.Close()
	}
	if err != nil {
		v := undecided(image, err)
		if errors.Is(err, oci.ErrNoManifest) {
			v.Hint = "verify it in the registry, or save it as an OCI layout: docker 25 and later do, and colophon save with its proof"
		}
		return v, nil
	}
	opts.Layout = ref.Dir != ""
	if o.bundle != "" {
		if opts.Bundles, err = readBundles(o.bundle); err != nil {
			return nil, err
		}
	}
	return verify.Image(ctx, src, ref.Identifier(), opts), nil
}

func (o verifyOptions) file(ctx context.Context, path string, _ oci.Reference, opts verify.Options) (*verify.Verdict, error) {
	f, err := openFile(path)
	if err != nil {
		return nil, err
	}
	bundles, err := readBundles(o.bundle)
	if err != nil {
		return nil, err
	}
	return verify.Bundled(ctx, f, bundles, opts), nil
}

// load returns what is demanded, by the policy file or the flags, and the bytes
// of the file, or of the file that would say the same as the flags (spec/policy).
func (o verifyOptions) load() (p policy.Policy, raw []byte, err error) {
	read, hint, prefix := o.fromFlags, "", ""
	if o.policy != "" {
		read, hint, prefix = o.fromFile, "the format is in spec/policy", o.policy+": "
	}
	d, raw, err := read()
	if err != nil {
		return policy.Policy{}, nil, err
	}
	d.Contents = d.Contents || o.demand.Contents
	if err := o.source.demand(&d); err != nil {
		return policy.Policy{}, nil, err
	}
	if p, err = d.Policy(); err != nil {
		return policy.Policy{}, nil, usageError(hint, "%s%v", prefix, err)
	}
	return p, raw, nil
}

func (o verifyOptions) fromFlags() (d policy.Document, raw []byte, err error) {
	d = o.demand
	if d.Signer, err = o.signer.read(); err != nil {
		return d, nil, err
	}
	if d.Source == "" && !d.AnySource && d.Signer == nil {
		return d, nil, usageError("--source URI, as in --source git.example.com/team/app; without it any repository's image would do",
			"verify must be told which repository the image should come from")
	}
	switch {
	case o.tag != "":
		d.Ref = "refs/tags/" + o.tag
	case o.branch != "":
		d.Ref = "refs/heads/" + o.branch
	}
	raw, err = json.Marshal(d)
	return d, raw, err
}

func (o verifyOptions) fromFile() (d policy.Document, raw []byte, err error) {
	if raw, err = strict.ReadFile(o.policy, limits.Request); err != nil {
		return d, nil, usageError("", "%v", err)
	}
	if d, err = policy.ParseDocument(raw); err != nil {
		return d, nil, usageError("the format is in spec/policy", "%s: %v", o.policy, err)
	}
	return d, raw, nil
}

// undecided is the verdict where verification could not even begin.
func undecided(image string, err error) *verify.Verdict {
	return &verify.Verdict{Image: image, Links: []verify.Link{{Name: verify.LinkImage, Status: verify.Unknown, Reason: err.Error()}}}
}

// answer prints the verdict and turns the outcome into the exit code.
func answer(cmd *cobra.Command, v *verify.Verdict, o verifyOptions, opts verify.Options) error {
	if o.json {
		if err := printJSON(cmd.OutOrStdout(), v); err != nil {
			return err
		}
	} else {
		printVerdict(cmd.ErrOrStderr(), v, o.explainer(opts))
	}
	if err := writeReports(o.reports, []*verify.Verdict{v}); err != nil {
		return err
	}
	return exitFor(v.Outcome)
}

func (o verifyOptions) explainer(opts verify.Options) explainer {
	if !o.explain {
		return nil
	}
	return opts.Explain
}

func printJSON(w io.Writer, v any) error {
	enc := json.NewEncoder(w)
	enc.SetIndent("", "  ")
	enc.SetEscapeHTML(false)
	return enc.Encode(v)
}
