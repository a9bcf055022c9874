package main

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/colophon-build/colophon/internal/lazyregexp"
	"github.com/colophon-build/colophon/internal/limits"
	"github.com/colophon-build/colophon/internal/strict"
	"github.com/colophon-build/colophon/investigate"
	"github.com/colophon-build/colophon/oci"
	"github.com/colophon-build/colophon/platform/api"
	"github.com/colophon-build/colophon/policy"
	"github.com/colophon-build/colophon/source"
	"github.com/colophon-build/colophon/source/forge"
	"github.com/colophon-build/colophon/source/look"
	"github.com/colophon-build/colophon/source/track"
	"github.com/colophon-build/colophon/verify"
)

type investigateOptions struct {
	from         map[investigate.Kind]*string // another subject than an image
	source       string
	policy       string
	since, until string
	refetch      string // "", public or private
	offline      bool
	cluster      bool
	ledger       string // URL
	ledgerToken  string // file
	kube         kubernetes
	forge        forgeOptions
	log          logOptions
	output       output
	keep         caseOptions
}

func newInvestigateCommand() *cobra.Command {
	o := investigateOptions{from: map[investigate.Kind]*string{}}
	cmd := &cobra.Command{
		Use:   "investigate [IMAGE|DIGEST]",
		Short: "find out after an incident where a proof breaks, and what else is concerned",
		Long: `Investigate asks, in one command, what people ask after an incident: when was the image
logged and by whom was it signed, which commit does it come from, does the commit still exist
and does its ref still lead there, who wrote and reviewed it, what did the build fetch, and which
other images come from the same commit, repository and identity.

The first line names the broken link, or says that none was found. A time line follows, then what
to do, and the questions that could not be asked. A registry alone is enough. The platform that
release uses, its log, a cluster (--cluster) and a forge answer more.

Only the repository that --source names is asked, and no host that the evidence names, unless
--refetch allows it: whoever made the evidence chose these hosts, and would see who asks. Addresses
that are not public are refused, also then; --refetch=private allows them too.

A DIGEST without a repository is looked up at the platform. With a flag in place of an image, the
investigation starts from the other end: what was signed for a commit, by a builder or an identity.

Exit codes: 0 no link is broken, or the subject is no image; 3 a link is broken; 4 undecided;
2 usage error, 1 failure.`,
		Example: `  colophon investigate registry.example.com/team/app:v1.2.0 --source git.example.com/team/app
  colophon investigate --identity release@example.com --since 2026-11-01
  colophon investigate --commit 381e42a0c0ffee00c0ffee00c0ffee00c0ffee00 --source git.example.com/team/app
  colophon investigate registry.example.com/team/app:v1.2.0 --case incident.zip --key release.key`,
		Args: cobra.MaximumNArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error { return runInvestigate(cmd, args, o) },
	}
	f := cmd.Flags()
	o.from[investigate.Commit] = f.String("commit", "", "in place of an image: everything signed for this `COMMIT`, its full id")
	o.from[investigate.Builder] = f.String("builder", "", "in place of an image: everything signed by this builder `ID`")
	o.from[investigate.Identity] = f.String("identity", "", "in place of an image: everything signed by this `IDENTITY`, as certificates name it")
	o.from[investigate.Base] = f.String("base", "", "in place of an image: what was built on the base image with this `DIGEST`")
	o.from[investigate.Package] = f.String("package", "", "in place of an image: what has this package, `NAME@VERSION`")
	o.from[investigate.Fetched] = f.String("fetched", "", "in place of an image: the builds that fetched this `URL`")
	o.from[investigate.Host] = f.String("host", "", "in place of an image: what was built on this `HOST`")
	f.StringVar(&o.source, "source", "", "repository that the image must come from; only this one is asked about the commit")
	f.StringVar(&o.policy, "policy", "", "policy `FILE` (spec/policy, version 1) with what the image must prove")
	f.StringVar(&o.since, "since", "", "of the log, only what was certified at this `TIME` or later: RFC 3339, or a date")
	f.StringVar(&o.until, "until", "", "of the log, only what was certified before this `TIME`")
	f.StringVar(&o.refetch, "refetch", "", "ask the hosts that the provenance names whether they still have what was fetched, and for the proofs of base images: public, or private too")
	f.Lookup("refetch").NoOptDefVal = "public"
	f.BoolVar(&o.offline, "offline", false, "ask nobody but the layout that the argument names")
	f.BoolVar(&o.cluster, "cluster", false, "ask with kubectl which pods of a cluster run it")
	f.StringVar(&o.kube.kubeconfig, "kubeconfig", "", "with --cluster: kubeconfig `FILE`; without it, that of kubectl")
	f.StringVar(&o.kube.context, "context", "", "with --cluster: `CONTEXT` of the kubeconfig; without it, the current one")
	f.StringVar(&o.ledger, "ledger", "", "`URL` of an audit ledger to ask what was decided (default: that of the platform); colophon audit list --key names its key once")
	f.StringVar(&o.ledgerToken, "ledger-token-file", "", "`FILE` with the token of a reader of the ledger, mode 0600 (default: that of the login, for its platform)")
	_ = cmd.MarkFlagFilename("ledger-token-file")
	o.forge.flags(cmd)
	o.log.flags(cmd)
	f.Lookup("timeout").DefValue, o.log.timeout = "5m0s", 5*time.Minute
	o.output.flags(cmd)
	o.keep.flags(cmd)
	names := []string{}
	for _, kind := range investigate.Kinds() {
		if o.from[kind] != nil {
			names = append(names, string(kind))
			cmd.MarkFlagsMutuallyExclusive(string(kind), "policy")
		}
	}
	cmd.MarkFlagsMutuallyExclusive(names...)
	for _, online := range []string{"refetch", "cluster", "source", "ledger"} {
		cmd.MarkFlagsMutuallyExclusive("offline", online)
	}
	return cmd
}

func runInvestigate(cmd *cobra.Command, args []string, o investigateOptions) error {
	ctx, cancel := withTimeout(cmd.Context(), o.log.timeout)
	defer cancel()
	in, err := o.inquiry(ctx, args)
	if err != nil {
		return err
	}
	if o.offline && o.keep.to != "" && !o.keep.unsigned {
		return usageError("add --unsigned", "--offline: a case is signed and logged, which asks others")
	}
	write, err := o.keep.prepare(ctx, cmd) // before minutes are spent: it may lack a key
	if err != nil {
		return err
	}
	w := cmd.OutOrStdout()
	said := ""
	if o.output.text() {
		in.First = func(text string) {
			said = text
			fmt.Fprintln(w, paint(w, red, text))
		}
	}
	c, err := investigate.Run(ctx, in)
	if err != nil {
		return err
	}
	if o.output.text() {
		printCase(w, c, said)
	} else if err := o.output.print(w, c); err != nil {
		return err
	}
	if write != nil {
		if err := write(ctx, c, in.Evidence); err != nil {
			return err
		}
	}
	switch c.Conclusion.State {
	case investigate.Broken:
		return &exitError{code: exitRejected}
	case investigate.Undecided:
		return &exitError{code: exitUndecided}
	}
	return nil
}

var bareDigest = lazyregexp.New(`^sha256:[0-9a-f]{64}$`)

// inquiry returns what to ask, and whom.
func (o *investigateOptions) inquiry(ctx context.Context, args []string) (*investigate.Inquiry, error) {
	in := &investigate.Inquiry{At: time.Now(), By: program(), Evidence: &investigate.Evidence{}, Askers: map[investigate.ID]investigate.Asker{}}
	between, err := parseTimes(o.since, o.until)
	if err != nil {
		return nil, err
	}
	in.Subject = investigate.Subject{Kind: investigate.Image, Source: o.source}
	for kind, value := range o.from {
		if *value != "" {
			in.Subject.Kind, in.Subject.Name = kind, *value
		}
	}
	switch {
	case (len(args) == 1) == (in.Subject.Name != ""):
		return nil, usageError("see colophon investigate --help", "expected an image, or one of the flags in its place")
	case len(args) == 1:
		in.Subject.Name = args[0]
	}
	if !between.start.IsZero() {
		in.Subject.Since = &between.start
	}
	if !between.end.IsZero() {
		in.Subject.Until = &between.end
	}
	if err := in.Subject.Check(); err != nil {
		return nil, usageError("", "--%v", err)
	}
	if o.refetch != "" && o.refetch != "public" && o.refetch != "private" {
		return nil, usageError("", "--refetch: expected public or private, found %q", o.refetch)
	}
	var opts verify.Options
	if _, err := loadTrust(&opts); err != nil {
		return nil, err
	}
	in.Trust = opts.Trust
	if in.Policy, err = o.demand(ctx, in.At); err != nil {
		return nil, err
	}
	return in, o.askers(ctx, in)
}

// demand reads the policy, which an author must have signed if this machine has authors.
func (o *investigateOptions) demand(ctx context.Context, now time.Time) (d policy.Document, err error) {
	if o.policy == "" {
		return d, nil
	}
	raw, err := strict.ReadFile(o.policy, limits.Request)
	if err != nil {
		return d, usageError("", "%v", err)
	}
	if err := checkAuthor(ctx, o.policy, raw, now); err != nil {
		return d, err
	}
	if !policy.IsVersion1(raw) {
		return d, usageError("write what the image must prove as a policy of version 1", "--policy: %s is a policy of version 2", o.policy)
	}
	if d, err = policy.ParseDocument(raw); err != nil {
		return d, usageError(hintPolicy, "%v", strict.In(o.policy, err))
	}
	err = o.sourceOf(&d)
	return d, err
}

// sourceOf makes --source and the source that a policy demands the same.
func (o *investigateOptions) sourceOf(d *policy.Document) error {
	switch {
	case o.source == "":
		o.source = d.Source
	case d.AnySource:
		d.Source, d.AnySource = o.source, false
	case d.Source == "":
		return usageError("write the source into the policy", "--source: %s demands no provenance, and so no source", o.policy)
	default:
		named, err := source.Canonical(o.source)
		if err != nil {
			return usageError("", "--source: %v", err)
		}
		demanded, err := source.Canonical(d.Source)
		if err != nil {
			return usageError("", "--policy: %s: source: %v", o.policy, err)
		}
		if named != demanded {
			return usageError("name one of them", "--source: expected %s, as %s demands, found %s", demanded, o.policy, named)
		}
		o.source = d.Source
	}
	return nil
}

// askers says whom to ask each question.
func (o *investigateOptions) askers(ctx context.Context, in *investigate.Inquiry) error {
	in.Subject.Source = o.source
	add := func(more map[investigate.ID]investigate.Asker) {
		maps.Copy(in.Askers, more)
	}
	var platform *api.ClientConfig
	if !o.offline {
		platform, _ = configuredPlatform(ctx) // without one, questions are not asked, and the case says so
	}
	if in.Subject.Kind == investigate.Image {
		name, err := o.imageName(ctx, platform, in.Subject.Name)
		if err != nil {
			return err
		}
		ref, src, err := openImage(name)
		if err != nil {
			return err
		}
		if o.offline && !isLayout(src) {
			return usageError("name a layout", "--offline: %s is in a registry", in.Subject.Name)
		}
		in.Askers[investigate.AskChain] = investigate.ChainAsker(src, ref.Identifier(), isLayout(src))
		in.Askers[investigate.AskSources] = investigate.SourcesAsker(nil)
		if !o.offline {
			in.Askers[investigate.AskSources] = investigate.SourcesAsker(checkout)
		}
		if reg, ok := src.(*oci.Registry); ok {
			in.Askers[investigate.AskTags] = investigate.TagsAsker(reg)
		}
	}
	if o.source != "" && !o.offline { // a policy may name it
		add(investigate.RepositoryAskers(lookup))
		review, err := o.review()
		if err != nil {
			return err
		}
		in.Askers[investigate.AskReview] = investigate.ReviewAsker(review)
	}
	if o.refetch != "" {
		how := investigate.Refetch{Private: o.refetch == "private"}
		in.Askers[investigate.AskFetched] = investigate.FetchedAsker(how)
		in.Askers[investigate.AskBases] = investigate.BasesAsker(func(name string) (oci.Source, error) {
			return oci.OpenRegistry(name, oci.RegistryOptions{Transport: how.Transport()})
		})
	}
	if o.cluster {
		in.Askers[investigate.AskRunning] = clusterAsker(&o.kube)
	}
	if platform != nil {
		in.Askers[investigate.AskReleases] = investigate.ReleasesAsker(platform, platform.URL)
	}
	if o.offline {
		return nil
	}
	add(o.logAskers(ctx, platform))
	in.Askers[investigate.AskDistrust] = investigate.DistrustAsker(readLists)
	ledger, err := o.ledgerAskers(ctx)
	add(ledger)
	return err
}

// checkout reads files of a commit, with the user's login if the repository asks for one: see lookup.
func checkout(ctx context.Context, q source.Question, wants func(string) bool) (files map[string][]byte, skipped []string, err error) {
	files, skipped, err = investigate.GitCheckout(ctx, q, wants)
	if errors.Is(err, source.ErrLogin) && q.Credential == nil {
		if q.Credential = gitLogin(ctx, q.URI); q.Credential != nil {
			return investigate.GitCheckout(ctx, q, wants)
		}
	}
	return files, skipped, err
}

// imageName returns the name of an image that was named by its digest alone, which the platform
// released.
func (o *investigateOptions) imageName(ctx context.Context, platform *api.ClientConfig, name string) (string, error) {
	if !bareDigest.MatchString(name) {
		return name, nil
	}
	hint := "name its repository: REGISTRY/NAME@" + name
	if platform == nil {
		return "", usageError(hint, "%s: a digest alone is looked up at the platform, and none is configured", name)
	}
	runs, err := platform.Runs(ctx, api.RunFilter{Digest: name, Limit: 1})
	if err != nil {
		return "", err
	}
	if len(runs) == 0 {
		return "", &exitError{code: exitFailure, msg: fmt.Sprintf("the platform %s remembers no release of %s", platform.URL, name), hint: hint}
	}
	return runs[0].Image + "@" + name, nil
}

// review returns the function that asks the forge of --source.
func (o *investigateOptions) review() (func(ctx context.Context, uri, ref, commit string) (track.Result, error), error) {
	c, err := o.forge.config(o.source)
	if err != nil {
		return nil, err
	}
	return func(ctx context.Context, uri, ref, commit string) (track.Result, error) {
		f, unknown := forge.Open(uri, c)
		if unknown != nil {
			return track.Result{}, investigate.NotAskedFor("%v", unknown)
		}
		return track.Evaluate(look.Facts(ctx, look.Question{URI: uri, Ref: ref, Commit: commit, Lookup: lookup, Merged: checkMerged, Forge: f})), nil
	}, nil
}

// podStatus is what is read of a pod.
type podStatus struct {
	Metadata metadata `json:"metadata"`
	Status   struct {
		ContainerStatuses, InitContainerStatuses, EphemeralContainerStatuses []struct {
			Image   string `json:"image"`
			ImageID string `json:"imageID"`
		}
	} `json:"status"`
}

// clusterAsker asks with kubectl which pods run the image, or what else the investigation names. A
// runtime says the digest of what it runs; of an image for several platforms, that of the index or of
// one platform.
func clusterAsker(c *kubernetes) investigate.Asker {
	c.timeout = time.Minute
	return func(ctx context.Context, in *investigate.Inquiry) (investigate.Reply, error) {
		r := investigate.Reply{Asked: "the cluster of kubectl " + c.context, Query: "pods"}
		digests := in.Digests()
		if len(digests) == 0 {
			return r, investigate.NotAskedFor("no digest is known")
		}
		pods, err := list[podStatus](ctx, c, "pods", "-A")
		if err != nil {
			return r, err
		}
		r.Facts.Running = []investigate.Running{}
		for _, p := range pods {
			for _, s := range slices.Concat(p.Status.ContainerStatuses, p.Status.InitContainerStatuses, p.Status.EphemeralContainerStatuses) {
				i := slices.IndexFunc(digests, func(d string) bool { return strings.HasSuffix(s.ImageID, d) })
				if i >= 0 {
					r.Facts.Running = append(r.Facts.Running, investigate.Running{Where: strings.TrimSpace(c.context + " Pod " + p.Metadata.Namespace + "/" + p.Metadata.Name), Image: s.Image, Digest: digests[i], Since: p.Metadata.CreationTimestamp})
				}
			}
		}
		return r, nil
	}
}
