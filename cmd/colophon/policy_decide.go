package main

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"io"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/spf13/cobra"
	"golang.org/x/sync/errgroup"

	"github.com/colophon-build/colophon/distrust"
	"github.com/colophon-build/colophon/internal/printable"
	"github.com/colophon-build/colophon/internal/strict"
	"github.com/colophon-build/colophon/oci"
	"github.com/colophon-build/colophon/oci/imagelist"
	"github.com/colophon-build/colophon/policy"
	"github.com/colophon-build/colophon/policy/clusterimagepolicy"
	"github.com/colophon-build/colophon/policy/clusterimagepolicy/eval"
	"github.com/colophon-build/colophon/trust"
	"github.com/colophon-build/colophon/verify"
	"github.com/colophon-build/colophon/verify/cluster"
)

// decideOptions are the flags of the commands that ask policies about images.
type decideOptions struct {
	many      manyOptions
	namespace string
	timeout   time.Duration
	output    output
	now       time.Time
	cluster   *clusterTrust // in place of what this machine trusts; nil: this machine decides
}

// clusterTrust is whom a cluster trusts, and what it trusts no longer.
type clusterTrust struct {
	roots []*trust.Root
	lists distrust.Lists
}

func (o *decideOptions) flags(cmd *cobra.Command) {
	f := cmd.Flags()
	f.StringVarP(&o.many.from, "file", "f", "", "ask about the images of this list, Kubernetes manifest or compose file; \"-\" is standard input")
	f.StringArrayVar(&o.many.fields, "image-field", nil, "with -f, a field of a custom kind that names images (`KIND.GROUP=PATH`)")
	o.many.mirrorFlag(f)
	f.IntVar(&o.many.parallel, "parallel", 8, "how many images to ask about at once")
	o.commonFlags(cmd)
}

func (o *decideOptions) commonFlags(cmd *cobra.Command) {
	f := cmd.Flags()
	f.StringVarP(&o.namespace, "namespace", "n", "", "namespace of the images, of which a manifest names none; without it, the policies of every namespace count")
	f.DurationVar(&o.timeout, "timeout", 5*time.Minute, "after this long, stop reading an image, which is then undecided")
	o.output.flags(cmd)
}

// question is one image in one namespace.
type question struct {
	image     imagelist.Image // with the places in that namespace
	namespace string          // empty: not known
}

// answered is the decision about one image, for programs.
type answered struct {
	Image     string            `json:"image"`               // as it was named
	Digest    string            `json:"digest,omitempty"`    // empty if the name could not be resolved
	Namespace string            `json:"namespace,omitempty"` // that decides which policies count
	Places    []imagelist.Place `json:"places,omitempty"`    // where -f names it
	Decision  *verify.Decision  `json:"decision"`
}

// questions returns the images that the arguments and -f name, each once for each namespace.
func (o *decideOptions) questions(cmd *cobra.Command, args []string) (out []question, err error) {
	switch {
	case len(args) == 0 && o.many.from == "":
		return nil, usageError("see "+cmd.CommandPath()+" --help", "nothing to decide about: name an image, or -f FILE")
	case o.many.parallel < 1 || o.many.parallel > maxParallel:
		return nil, usageError("", "--parallel: expected 1 to %d, found %d", maxParallel, o.many.parallel)
	}
	ts, err := o.many.targets(cmd, args)
	if err != nil {
		return nil, err
	}
	for _, i := range ts.Images {
		places := map[string][]imagelist.Place{}
		var namespaces []string
		for _, p := range i.Places {
			namespace := cmp.Or(p.Namespace, o.namespace)
			if places[namespace] == nil {
				namespaces = append(namespaces, namespace)
			}
			places[namespace] = append(places[namespace], p)
		}
		if len(namespaces) == 0 {
			namespaces = []string{o.namespace}
		}
		for _, namespace := range namespaces {
			i.Places = places[namespace]
			out = append(out, question{i, namespace})
		}
	}
	return out, nil
}

// policyFile is what a policy file demands.
type policyFile struct {
	sets    []*policy.Set
	objects *clusterimagepolicy.Objects

	noMatch policy.Unmatched // what policies of policy-controller say about an image that none is about; empty: what objects say

	once    sync.Once
	cluster *cluster.Policies // of objects, once it is known what this machine trusts
}

// readSets reads a policy file, which an author must have signed if this machine has authors.
func readSets(ctx context.Context, in io.Reader, file string, now time.Time) (*policyFile, error) {
	raw, err := readPolicy(in, file)
	if err != nil {
		return nil, err
	}
	if err := checkAuthor(ctx, file, raw, now); err != nil {
		return nil, err
	}
	f, err := parsePolicyFile(raw)
	if err != nil {
		return nil, usageError("see colophon policy check", "%v", strict.In(file, err))
	}
	return f, nil
}

// parsePolicyFile parses sets of rules, and documents of policy-controller beside them.
func parsePolicyFile(raw []byte) (f *policyFile, err error) {
	f = &policyFile{}
	if f.objects, err = clusterimagepolicy.Parse(raw); err == nil {
		f.sets, err = policy.ParseSetsBeside(raw, clusterimagepolicy.Of)
	}
	if err == nil && len(f.sets)+len(f.objects.Policies) == 0 {
		err = errors.New("policy: the file has no policy")
	}
	return f, err
}

// trusting prepares the policies of policy-controller for questions.
func (f *policyFile) trusting(opts verify.Options) {
	f.once.Do(func() {
		f.cluster = cluster.New(f.objects, cluster.Options{Trust: opts.Trust, Evaluate: eval.Run, Open: openRepository, NoMatch: f.noMatch})
	})
}

// policies returns the alternatives of all rules; none of nil.
func (f *policyFile) policies() (all []policy.Policy) {
	if f == nil {
		return nil
	}
	for _, s := range f.sets {
		for _, r := range s.Rules {
			all = append(all, r.Accept...)
		}
	}
	return all
}

// openRepository opens a repository with signatures about images elsewhere.
func openRepository(repository string) (oci.Source, error) {
	ref, err := oci.ParseReference(repository + ":latest")
	if err != nil {
		return nil, err
	}
	return ref.Open(oci.RegistryOptions{})
}

// decider asks policies about images.
type decider struct {
	opts    verify.Options
	now     time.Time
	timeout time.Duration
	names   policy.Names // that rules see of copies
	shared  *repositories
}

func (o *decideOptions) decider(cmd *cobra.Command, files ...*policyFile) (*decider, error) {
	d := &decider{now: o.now, timeout: o.timeout, names: o.many.mirrors, shared: newRepositories(nil)}
	if err := d.names.Check(); err != nil {
		return nil, usageError("", "--mirror: %v", err)
	}
	if o.cluster != nil {
		d.opts.Trust, d.opts.Distrust = o.cluster.roots, verify.Distrust{Lists: o.cluster.lists}
	} else if err := o.machine(cmd, &d.opts); err != nil {
		return nil, err
	}
	var all []policy.Policy
	for _, f := range files {
		f.trusting(d.opts)
		all = append(all, f.policies()...)
	}
	if !slices.ContainsFunc(all, asksRepository) {
		return d, nil
	}
	var source sourceOptions
	if err := source.configure(&d.opts, o.now, all...); err != nil {
		return nil, err
	}
	askEachOnce(cmd.Context(), &d.opts)
	return d, nil
}

// machine sets what this machine trusts, and what it trusts no longer.
func (o *decideOptions) machine(cmd *cobra.Command, opts *verify.Options) error {
	empty, err := loadTrust(opts)
	if err != nil {
		return err
	}
	if empty {
		printHint(cmd.ErrOrStderr(), hintTrust)
	}
	warnStale(cmd.ErrOrStderr(), *opts, o.now)
	return loadLists(cmd.Context(), opts, o.now, false)
}

// asksRepository reports whether a policy demands an answer of the repository or of its forge.
func asksRepository(p policy.Policy) bool {
	want := p.Provenance()
	return want.RequireSource || want.SourceTrack != (policy.SourceTrack{})
}

// asker asks the policies of a file about one image.
type asker struct {
	file     *policyFile
	evidence *verify.Evidence
	image    policy.Image
	others   *cluster.Answers
	lists    distrust.Lists
	now      time.Time
}

func (f *policyFile) about(ev *verify.Evidence, image policy.Image, lists distrust.Lists, now time.Time) *asker {
	return &asker{f, ev, image, f.cluster.Ask(ev, image), lists, now}
}

// in returns the decision about the image in a namespace, which a workload runs; nil: that is not
// known. If the namespace is not known, it is the worst of those in all namespaces that the sets
// name, and outside of them.
func (a *asker) in(ctx context.Context, namespace string, w *clusterimagepolicy.Workload) *verify.Decision {
	f, with := a.file, verify.With{Others: a.others.Decide(ctx, w, a.now), Lists: a.lists}
	if namespace != "" {
		return a.evidence.DecideWith(policy.InNamespace(f.sets, namespace), a.image, with)
	}
	var worst *verify.Decision
	for _, s := range append([]*policy.Set{{}}, f.sets...) {
		counting := policy.InNamespace(f.sets, s.Namespace)
		if len(counting) == 0 && len(f.sets) > 0 && with.Others == nil {
			continue // no policy is about images outside of the namespaces
		}
		worst = worseDecision(worst, a.evidence.DecideWith(counting, a.image, with))
	}
	return worst
}

// worst returns the worst decision about the image in a namespace, of those for what runs it.
func (a *asker) worst(ctx context.Context, namespace string, places []imagelist.Place) (worst *verify.Decision) {
	for _, at := range workloads(places, a.file.cluster.DependsOnWorkload(a.image)) {
		worst = worseDecision(worst, a.in(ctx, namespace, at.workload))
	}
	return worst
}

func worseDecision(a, b *verify.Decision) *verify.Decision {
	if a == nil || worse(b.Outcome, a.Outcome) != a.Outcome {
		return b
	}
	return a
}

// ran is a workload, and the places where it names an image.
type ran struct {
	workload *clusterimagepolicy.Workload // nil: not known, or it decides nothing
	places   []imagelist.Place
}

// workloads returns what runs an image that is named at these places: at least one. If it decides
// nothing, all places are together.
func workloads(places []imagelist.Place, decides bool) (out []ran) {
	if !decides || len(places) == 0 {
		return []ran{{nil, places}}
	}
	at := map[*imagelist.Object]int{}
	for _, p := range places {
		i, ok := at[p.Object]
		if !ok {
			i = len(out)
			at[p.Object] = i
			one := ran{}
			if o := p.Object; o != nil {
				one.workload = clusterimagepolicy.WorkloadOf(o.APIVersion, o.Kind, o.Content)
			}
			out = append(out, one)
		}
		out[i].places = append(out[i].places, p)
	}
	return out
}

// decide reads an image once, and returns the decision of each policy file about it: once, or once
// for each group of workloads about which the files decide otherwise.
func (d *decider) decide(ctx context.Context, q question, files ...*policyFile) (out [][]*answered) {
	ctx, cancel := withTimeout(ctx, d.timeout)
	defer cancel()
	answer := func(digest string, places []imagelist.Place, decision *verify.Decision) *answered {
		return &answered{Image: q.image.Name, Digest: digest, Namespace: q.namespace, Places: slices.Clone(places), Decision: decision}
	}
	image, ev, err := d.gather(ctx, q, files)
	if err != nil {
		var all []*answered
		for range files {
			all = append(all, answer("", q.image.Places, &verify.Decision{Reason: err.Error()}))
		}
		return [][]*answered{all}
	}
	var askers []*asker
	decides := false
	for _, f := range files {
		askers = append(askers, f.about(ev, image, d.opts.Distrust.Lists, d.now))
		decides = decides || f.cluster.DependsOnWorkload(image)
	}
	groups := map[string][]*answered{}
	for _, r := range workloads(q.image.Places, decides) {
		var all []*answered
		var key strings.Builder
		for _, a := range askers {
			decision := a.in(ctx, q.namespace, r.workload)
			all = append(all, answer(image.Digest, r.places, decision))
			fmt.Fprintf(&key, "%d %q %q\n", decision.Outcome, decision.Reason, decision.Warnings)
		}
		same, ok := groups[key.String()]
		if !ok {
			groups[key.String()] = all
			out = append(out, all)
		}
		for _, a := range same {
			a.Places = append(a.Places, r.places...)
		}
	}
	return out
}

// gather reads an image as far as the rules about it in any of the files need.
func (d *decider) gather(ctx context.Context, q question, files []*policyFile) (image policy.Image, ev *verify.Evidence, err error) {
	if q.image.Problem != "" {
		return image, nil, errors.New(q.image.Problem)
	}
	ref, opts := q.image.Reference, d.opts
	opts.Layout = ref.Dir != ""
	if src, done := d.shared.open(ref); src != nil {
		defer done()
		return evidenceFor(ctx, src, ref, d.names, d.now, opts, files...)
	}
	src, err := ref.Open(oci.RegistryOptions{})
	if err != nil {
		return image, nil, err
	}
	if l, ok := src.(*oci.Layout); ok {
		defer l.Close()
	}
	return evidenceFor(ctx, src, ref, d.names, d.now, opts, files...)
}

// evidenceFor reads an image as far as the policies that are about it need.
func evidenceFor(ctx context.Context, src oci.Source, ref oci.Reference, names policy.Names, now time.Time, opts verify.Options, files ...*policyFile) (image policy.Image, ev *verify.Evidence, err error) {
	if !opts.Layout { // which has no name
		if image, err = names.Image(ref.String()); err != nil {
			return image, nil, err
		}
	}
	resolved, err := src.Resolve(ctx, ref.Identifier())
	if err != nil {
		return image, nil, err
	}
	image.Digest = resolved.Digest.String()
	var sets []*policy.Set
	var queries []verify.Query
	for _, f := range files {
		sets, queries = append(sets, f.sets...), append(queries, f.cluster.Queries(image)...)
	}
	ask := verify.AskFor(sets, image)
	ask.Queries, ask.Distrust = queries, ask.Distrust || len(opts.Distrust.Lists) > 0
	opts.Distrust = verify.Distrust{} // the rules say how old lists may be
	// By digest: the tag may move meanwhile.
	return image, verify.Gather(ctx, src, image.Digest, now, opts, ask), nil
}

// decideAll asks about all images in parallel, and hands over the answers in order: one of each
// file, about an image or about some of the workloads that run it.
func (d *decider) decideAll(ctx context.Context, questions []question, parallel int, files ...*policyFile) [][]*answered {
	out := make([][][]*answered, len(questions))
	images := make([]imagelist.Image, len(questions))
	for i, q := range questions {
		images[i] = q.image
	}
	d.shared = newRepositories(images)
	var workers errgroup.Group
	workers.SetLimit(parallel)
	for i, q := range questions {
		workers.Go(func() error {
			if ctx.Err() != nil {
				q.image.Problem = errInterrupted.Error()
			}
			out[i] = d.decide(ctx, q, files...)
			return nil
		})
	}
	_ = workers.Wait() // each answer has its own error
	return slices.Concat(out...)
}

// printDecision prints one line for an image, and below it why it was not accepted, and where
// it is named.
func printDecision(w io.Writer, a *answered) {
	mark := outcomeMark(a.Decision.Outcome)
	fmt.Fprintf(w, "%s %-9s %s%s\n", paint(w, mark[0], mark[1]), a.Decision.Outcome, printable.Text(a.Image), paint(w, faint, shortDigest(a.Digest)))
	printWhyNot(w, a)
}

func printWhyNot(w io.Writer, a *answered) {
	if a.Decision.Outcome != verify.Accepted {
		fmt.Fprintf(w, "    %s\n", printable.Text(a.Decision.Reason))
	}
	for _, warning := range a.Decision.Warnings {
		fmt.Fprintf(w, "    %s %s\n", paint(w, yellow, "warning:"), printable.Text(warning))
	}
	if a.Decision.Outcome == verify.Accepted && len(a.Decision.Warnings) == 0 {
		return
	}
	for _, p := range a.Places {
		if p.Namespace == "" || p.Namespace == a.Namespace {
			fmt.Fprintf(w, "    in %s\n", printable.Text(p.String()))
		}
	}
}

// worse returns the outcome that decides an exit code: rejected, then undecided, then accepted.
func worse(a, b verify.Outcome) verify.Outcome {
	switch {
	case a == verify.Rejected || b == verify.Rejected:
		return verify.Rejected
	case a == verify.Accepted && b == verify.Accepted:
		return verify.Accepted
	}
	return verify.Undecided
}
