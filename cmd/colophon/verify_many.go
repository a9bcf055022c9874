package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"maps"
	"sync"
	"sync/atomic"
	"time"

	"github.com/spf13/cobra"
	"github.com/spf13/pflag"

	"github.com/colophon-build/colophon/internal/limits"
	"github.com/colophon-build/colophon/internal/printable"
	"github.com/colophon-build/colophon/oci"
	"github.com/colophon-build/colophon/oci/imagelist"
	"github.com/colophon-build/colophon/policy"
	"github.com/colophon-build/colophon/source/track"
	"github.com/colophon-build/colophon/verify"
)

// maxParallel limits --parallel, because each image already reads several blobs
// concurrently.
const maxParallel = 64

type manyOptions struct {
	from     string   // a list, Kubernetes manifest or compose file
	fields   []string // of custom kinds
	mirrors  policy.Names
	allTags  string // HOST/NAME
	parallel int
}

func (o *manyOptions) mirrorFlag(f *pflag.FlagSet) {
	f.StringToStringVar((*map[string]string)(&o.mirrors), "mirror", nil, "policies see images at `PREFIX/=REGISTRY/` by the second name, which they are copies of (mirror.example.com/hub/=docker.io/)")
	f.Lookup("mirror").DefValue = "" // hides the "[]" of pflag
}

// asked reports whether the command line can name several images. The output format
// depends on this, and not on the number of images found.
func (o manyOptions) asked(args []string) bool {
	return len(args) > 1 || len(args) == 1 && args[0] == stdin || o.from != "" || o.allTags != ""
}

func runVerifyMany(cmd *cobra.Command, args []string, o verifyOptions, opts verify.Options) error {
	ts, err := o.many.targets(cmd, args)
	if err != nil {
		return err
	}
	noTrust, failed := loadTrust(&opts)
	ctx := cmd.Context()
	if err := o.source.configure(&opts, o.now, o.rules.policies()...); err != nil {
		return err
	}
	warnStale(cmd.ErrOrStderr(), opts, o.now)
	if err := loadLists(ctx, &opts, o.now, o.source.offline); err != nil {
		return err
	}
	askEachOnce(ctx, &opts)
	p := &manyPrinter{w: cmd.OutOrStdout(), errs: cmd.ErrOrStderr(), verdicts: make([]*verify.Verdict, len(ts.Images)), output: &o.output, explain: o.explainer(opts)}
	p.live = !o.output.quiet && isTerminal(p.errs)
	p.forgets = (o.output.quiet || o.output.text()) && len(o.reports) == 0
	repositories := newRepositories(ts.Images)
	var workers sync.WaitGroup
	var next atomic.Int64
	for range min(o.many.parallel, len(ts.Images)) {
		workers.Go(func() {
			for i := int(next.Add(1)) - 1; i < len(ts.Images) && ctx.Err() == nil; i = int(next.Add(1)) - 1 {
				t := ts.Images[i]
				if failed != nil {
					t.Problem = failed.Error()
				}
				p.done(i, o.record.keep(ctx, p, o.judge(ctx, t, opts, repositories), opts))
			}
		})
	}
	workers.Wait()
	worst := p.finish(ts.Images)
	var unprinted error
	switch {
	case o.output.quiet:
		printDangers(p.errs, o.dangers(opts))
	case o.output.text():
		printDangers(p.w, o.dangers(opts))
		if noTrust {
			printHint(p.w, hintTrust)
		}
	default:
		unprinted = o.output.print(p.w, p.verdicts)
	}
	if err := writeReports(o.reports, reportFormats, p.verdicts); err != nil {
		return err
	}
	return exitWith(worst, unprinted)
}

// targets collects the images that the arguments and flags name.
func (o manyOptions) targets(cmd *cobra.Command, args []string) (*targets, error) {
	known, err := imagelist.ParseFields(o.fields)
	if err != nil {
		return nil, usageError("", "--image-field: %v", err)
	}
	ts := &targets{imagelist.List{Fields: known}}
	files := []string{}
	for _, arg := range args {
		if arg == stdin {
			files = append(files, arg)
		} else if err := ts.argument(arg); err != nil {
			return nil, err
		}
	}
	if o.from != "" {
		files = append(files, o.from)
	}
	for i, path := range files {
		if path == stdin && i > 0 {
			return nil, usageError("", "standard input can be read only once")
		}
		if err := ts.file(path, cmd.InOrStdin()); err != nil {
			return nil, err
		}
	}
	if o.allTags == "" {
		return ts, nil
	}
	attachments, err := ts.tags(cmd.Context(), o.allTags)
	if attachments > 0 {
		fmt.Fprintf(cmd.ErrOrStderr(), "%s: skipped %d tags that hold attachments of images\n", printable.Text(o.allTags), attachments)
	}
	return ts, err
}

// judge verifies one image.
func (o verifyOptions) judge(ctx context.Context, t imagelist.Image, opts verify.Options, shared *repositories) *verify.Verdict {
	if t.Problem != "" {
		return undecided(t.Name, errors.New(t.Problem))
	}
	ctx, cancel := withTimeout(ctx, o.timeout)
	defer cancel()
	var v *verify.Verdict
	var err error
	o.namespace, o.places = namespaceOf(t), t.Places
	src, done := shared.open(t.Reference)
	switch {
	case src == nil || o.source.offline:
		v, err = o.image(ctx, t.Reference.String(), t.Reference, opts)
	case o.rules != nil:
		v = o.decide(ctx, t.Reference.String(), src, t.Reference, opts)
	default:
		v = shared.verdicts.Image(ctx, src, t.Reference.Identifier(), o.now, opts)
	}
	if done != nil {
		done()
	}
	if err != nil {
		v = undecided(t.Name, err)
	}
	v.Image = t.Name
	return v
}

// namespaceOf returns the namespace of an image, or "" if no place or several name one.
func namespaceOf(t imagelist.Image) (namespace string) {
	for i, p := range t.Places {
		if i > 0 && p.Namespace != namespace {
			return ""
		}
		namespace = p.Namespace
	}
	return namespace
}

// repositories shares one open source among the images of a repository, until the
// last of them is verified. Tags of the same digest then share their manifests
// and, if all else is equal, their verdict.
type repositories struct {
	verdicts verify.Cache

	mu   sync.Mutex
	left map[string]int // images left to verify, in repositories with several
	srcs map[string]oci.Source
}

func newRepositories(list []imagelist.Image) *repositories {
	r := &repositories{verdicts: verify.Cache{Age: time.Hour, Size: limits.Images}, left: map[string]int{}, srcs: map[string]oci.Source{}}
	for _, t := range list {
		if t.Problem == "" && t.Reference.Dir == "" {
			r.left[t.Reference.Repository]++
		}
	}
	maps.DeleteFunc(r.left, func(_ string, n int) bool { return n == 1 })
	return r
}

// open returns the shared source of ref, and a function to call after its use. It
// returns nil if ref shares no source.
func (r *repositories) open(ref oci.Reference) (src oci.Source, done func()) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.left[ref.Repository] == 0 {
		return nil, nil
	}
	if r.srcs[ref.Repository] == nil {
		src, err := ref.Open(oci.RegistryOptions{})
		if err != nil {
			return nil, nil // the caller opens it by itself and reports the error
		}
		r.srcs[ref.Repository] = src
	}
	return r.srcs[ref.Repository], func() {
		r.mu.Lock()
		defer r.mu.Unlock()
		if r.left[ref.Repository]--; r.left[ref.Repository] == 0 {
			delete(r.srcs, ref.Repository)
		}
	}
}

// askEachOnce makes a run ask each repository and forge only once about each commit.
func askEachOnce(ctx context.Context, opts *verify.Options) {
	if opts.SourceCheck != nil {
		opts.SourceCheck = askOnce(ctx, opts.SourceCheck)
	}
	if check := opts.TrackCheck; check != nil {
		type question struct{ uri, ref, commit string }
		once := askOnce(ctx, func(ctx context.Context, q question) (track.Result, error) {
			return check(ctx, q.uri, q.ref, q.commit)
		})
		opts.TrackCheck = func(ctx context.Context, uri, ref, commit string) (track.Result, error) {
			return once(ctx, question{uri, ref, commit})
		}
	}
}

// askOnce asks each distinct question only once: many images may come from one
// commit, and a slow host should delay the run only once.
func askOnce[Q comparable, A any](ctx context.Context, ask func(context.Context, Q) (A, error)) func(context.Context, Q) (A, error) {
	var mu sync.Mutex
	asked := map[Q]func() (A, error){}
	return func(_ context.Context, q Q) (A, error) {
		mu.Lock()
		answer, ok := asked[q]
		if !ok {
			// Use the deadline of the run: the image's own may be near.
			answer = sync.OnceValues(func() (A, error) { return ask(ctx, q) })
			asked[q] = answer
		}
		mu.Unlock()
		return answer()
	}
}

// manyPrinter prints the verdicts in the order in which the images were named, each
// as soon as all before it are known.
type manyPrinter struct {
	w, errs io.Writer
	output  *output
	live    bool // show a progress line on errs
	forgets bool // after a verdict is shown, only its outcome is needed: many images take no more memory than few

	explain explainer

	mu       sync.Mutex
	verdicts []*verify.Verdict // nil: not known yet
	shown    int
	ready    int
}

func (p *manyPrinter) done(i int, v *verify.Verdict) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.verdicts[i] = v
	p.ready++
	p.wipe()
	for ; p.shown < len(p.verdicts) && p.verdicts[p.shown] != nil; p.shown++ {
		p.show(p.verdicts[p.shown])
		if p.forgets {
			p.verdicts[p.shown] = &verify.Verdict{Outcome: p.verdicts[p.shown].Outcome}
		}
	}
	if p.live && p.ready < len(p.verdicts) {
		fmt.Fprintf(p.errs, "%d of %d", p.ready, len(p.verdicts))
	}
}

// Write writes to standard error, beside the progress line. It implements io.Writer.
func (p *manyPrinter) Write(text []byte) (int, error) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.wipe()
	return p.errs.Write(text)
}

// wipe removes the progress line.
func (p *manyPrinter) wipe() {
	if p.live {
		fmt.Fprint(p.errs, "\r\x1b[K")
	}
}

// show prints one line for an image. It adds the chain if the image is not accepted,
// or with --explain. The forms for programs are printed at the end, as one document.
func (p *manyPrinter) show(v *verify.Verdict) {
	if p.output.quiet {
		printQuiet(p.w, p.errs, v)
	}
	if !p.output.text() {
		return
	}
	mark := outcomeMark(v.Outcome)
	fmt.Fprintf(p.w, "%s %-9s %s%s\n", paint(p.w, mark[0], mark[1]), v.Outcome, printable.Text(v.Image), paint(p.w, faint, shortDigest(v.Digest)))
	if v.Outcome != verify.Accepted || p.explain != nil {
		printLinks(p.w, "    ", v.Links, p.explain)
	}
	if p.explain != nil {
		printRequirements(p.w, "    ", v.Level, v.Requirements)
	}
}

func shortDigest(digest string) string {
	if len(digest) <= 19 {
		return digest
	}
	return "  " + digest[:19] + "…"
}

var errInterrupted = errors.New("not verified: interrupted")

// finish gives the images that were never verified an undecided verdict, prints the
// counts, and returns the worst outcome.
func (p *manyPrinter) finish(list []imagelist.Image) verify.Outcome {
	p.mu.Lock()
	defer p.mu.Unlock()
	var count [3]int
	unasked := 0
	for i, v := range p.verdicts {
		reached := v != nil
		if !reached {
			unasked++
			v = undecided(list[i].Name, errInterrupted)
			p.verdicts[i] = v
		}
		if i >= p.shown && (reached || p.output.quiet) {
			p.wipe()
			p.show(v)
		}
		count[v.Outcome]++
	}
	p.wipe()
	if p.output.text() {
		word := "images"
		if len(list) == 1 {
			word = "image"
		}
		fmt.Fprintf(p.w, "\n%d %s: %d accepted, %d rejected, %d undecided", len(list), word, count[verify.Accepted], count[verify.Rejected], count[verify.Undecided])
		if unasked > 0 {
			fmt.Fprintf(p.w, ", %d of them not verified because of the interruption", unasked)
		}
		fmt.Fprintln(p.w)
	}
	switch {
	case count[verify.Rejected] > 0:
		return verify.Rejected
	case count[verify.Accepted] < len(list) || len(list) == 0:
		return verify.Undecided
	}
	return verify.Accepted
}
