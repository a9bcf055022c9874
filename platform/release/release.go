// Package release turns a git ref into an image with its proof. A release fetches
// the source, builds it, measures the result, scans it for SBOMs, signs the
// attestations, uploads image and attestations, verifies them as any consumer would,
// and only then creates the tags. So a tag exists only if its proof verifies. A run
// that is killed creates no tag; running it again finishes it with the same digest
// and without duplicate attestations.
package release

import (
	"context"
	"crypto/rand"
	"encoding/hex"
	"errors"
	"fmt"
	"log/slog"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	v1 "github.com/google/go-containerregistry/pkg/v1"
	"github.com/sigstore/sigstore-go/pkg/root"
	"golang.org/x/sync/errgroup"

	"github.com/colophon-build/colophon/attest"
	"github.com/colophon-build/colophon/audit"
	"github.com/colophon-build/colophon/oci"
	"github.com/colophon-build/colophon/platform/api"
	"github.com/colophon-build/colophon/platform/builder"
	"github.com/colophon-build/colophon/platform/release/credentials"
	"github.com/colophon-build/colophon/platform/zone"
	"github.com/colophon-build/colophon/source"
	"github.com/colophon-build/colophon/trust"
	"github.com/colophon-build/colophon/verify"
)

// Config describes a Releaser.
type Config struct {
	URL          string                 // the platform's origin; prefix of builder ids and invocation ids
	Dir          string                 // used by the Releaser alone: running work (swept by New), queue, build logs, records
	Version      string                 // the platform's version, for the provenance
	BinaryDigest func() (string, error) // hex sha256 of the platform's executable, which signs
	Builders     []BuilderInfo          // the platform's builders
	BuilderHost  string                 // name or address of the host that they run on, for the provenance; empty: it is not named
	Build        builder.Builder        // runs every recipe; its results are checked
	// Rooms is the trusted side of the builds' rooms; nil if the platform cannot open rooms.
	Rooms Rooms

	// Setup describes the platform's own setup, for the provenance's internal parameters.
	Setup map[string]string
	// Confinement is how far this host can confine the processes that read repositories and images.
	Confinement Confinement
	Scanner     string // path of the program colophon-scan
	// LocalGit gives the process that reads a local repository access to it: it creates a socket at
	// the path and returns a command for source.Request.UploadPack. nil: the process reads the files.
	LocalGit func(socket string) (uploadPack string, stop func(), err error)

	SigningConfig *root.SigningConfig
	Transport     http.RoundTripper // to the services that SigningConfig names; nil means http.DefaultTransport
	Trust         *trust.Root       // the trust root of the final verification
	// Token issues a workload token for one release.
	Token func(ctx context.Context, id Identity) (string, error)

	RegistryHost  string // host[:port] of the platform's own registry
	RegistryToken string // push token for it; other registries use the host's docker credentials
	// Archive keeps a bundle that is not pushed to the platform's registry, durably. nil: nothing does.
	Archive func(ctx context.Context, bundle []byte) error
	// Record brings the verdict of the final verification to an audit ledger, before the tags. If it fails, there
	// are no tags. nil: nobody does.
	Record func(ctx context.Context, r audit.Record) error
	// LoopbackTargets allows images in other registries on this host's loopback. It is only for platforms that
	// serve on loopback themselves; elsewhere it would let remote users reach services on the platform's loopback.
	LoopbackTargets bool
	// Mirror is the OCI layout that serves the builds' pulls of the images in it; empty means none.
	Mirror string
	// CacheMounts allows releases whose cache mounts are kept. Rooms decides how.
	CacheMounts bool
	// Recipes restricts how images may be built; the first rule for an image counts.
	Recipes []RecipeRule
	// Credentials are for private sources, and for private downloads of builds; may be nil.
	Credentials *credentials.Set
	// Concurrent is the maximum number of running releases; further ones wait. Each may need gigabytes for
	// its source. Zero means 8.
	Concurrent int
	Log        *slog.Logger
}

const defaultConcurrent = 8 // releases

// Rooms is the trusted side of the builds' rooms: it opens their gateways and has
// the record of their traffic. Implementations are safe for concurrent use.
type Rooms interface {
	// Begin begins a session, which allows the builder to open one room. The builder
	// receives the session's id (builder.Request.Session).
	Begin(ctx context.Context, s builder.Session) (id string, err error)
	// End ends a session and its room, and returns the record of the room's traffic.
	// The session has ended even if End returns an error.
	End(ctx context.Context, id string) (*builder.Record, error)
	// Keep decides what becomes of the cache mounts of an ended session that has a
	// builder.CacheScope: if keep is set, the next session of the scope gets them.
	Keep(ctx context.Context, id string, keep bool) error
}

// BuilderInfo is one of the platform's builders.
type BuilderInfo struct {
	Name          string // attest.Recipe.Builder
	trust.Builder        // builder.id, and the SLSA Build level that its isolation earns
	BuildType     string
}

// Identity is the content of a release's certificate. The trusted side determines
// all fields itself; they become the claims of the workload token.
type Identity struct {
	BuilderID         string
	BuilderDigest     string // sha256:hex of the platform's executable
	RunnerEnvironment string
	SourceURI         string
	SourceDigest      string
	SourceRef         string
	BuildTrigger      string
	InvocationURI     string
	ParametersDigest  string // attest.ParametersDigest of the provenance's external parameters
}

// Releaser runs releases. It is safe for concurrent use; releases of the same image
// run one after the other.
type Releaser struct {
	Config
	turns   chan struct{}
	scans   chan struct{} // a place for each running scan
	mirror  *oci.Layout   // nil if there is none
	journal *journal
	mu      sync.Mutex
	locks   map[string]chan struct{} // by image

	stored, fetched atomic.Int64 // see Downloads

	pause, patience time.Duration // for what Resume finishes: the first pause between two attempts, and how long it tries

	unfinished []pending       // releases that an earlier process began to publish; for Resume
	closing    context.Context // done when Close was called
	close      context.CancelFunc
}

// New returns a Releaser. It removes the work of crashed runs from cfg.Dir/work,
// except for releases that had begun to publish: Resume finishes those.
func New(cfg Config) (*Releaser, error) {
	for _, d := range []string{"work", "queue", "parked", "logs", "records", "runs"} {
		if err := os.MkdirAll(filepath.Join(cfg.Dir, d), 0o700); err != nil {
			return nil, err
		}
	}
	if cfg.Concurrent == 0 {
		cfg.Concurrent = defaultConcurrent
	}
	if cfg.Log == nil {
		cfg.Log = slog.New(slog.DiscardHandler)
	}
	r := &Releaser{Config: cfg, turns: make(chan struct{}, cfg.Concurrent), scans: make(chan struct{}, maxScans), locks: map[string]chan struct{}{}, pause: time.Second, patience: maxPatience}
	r.closing, r.close = context.WithCancel(context.Background())
	if cfg.Mirror != "" {
		var err error
		if r.mirror, err = oci.OpenLayout(cfg.Mirror); err != nil {
			return nil, fmt.Errorf("mirror: %w", err)
		}
	}
	r.journal = openJournal(filepath.Join(cfg.Dir, "runs"), cfg.Log)
	parked, err := r.sweep()
	if err != nil {
		return r, err
	}
	return r, r.loadJournal(parked)
}

// run is the state of one release.
type run struct {
	*Releaser
	req     api.ReleaseRequest
	emit    func(api.Event)
	id      string // the invocation id
	actor   string // account whose token asked for it
	started time.Time
	dir     string // directory of the work; removed at the end
	begun   *begun // set when publishing begins: a restart continues the release
	tries   int    // see pending
	done    bool
	parked  bool       // its work stays
	digest  string     // digest of the released image, set when its proof is complete
	files   []oci.File // of a release of files, set with digest
	commit  source.Commit
	tags    []string
	tree    string // directory with the commit's exported tree
	source  source.Tree
	// loggedIn lists the scopes of the credentials with which source and added repositories were fetched.
	loggedIn []string
	image    *zone.Item // the process that reads the image; nil before the build
	scanner  *zone.Item // the process that scans the image; nil before the build, and if it was scanned before a restart
	recipe   attest.Recipe
	own      *attest.DefaultRecipe // the recipe of the commit itself; nil if it has none
	added    []added               // the git repositories that the Dockerfile adds
	builder  BuilderInfo
	target   oci.Target
	packed   string        // session whose cache mounts wait for keepCaches; empty if none do
	lock     *builder.Lock // the lock that the build must follow; nil if there is none
	lockSum  string        // hex sha256 of the lock
	resumed  bool
	// unchanged reports that all tags were there, and their proof.
	unchanged bool
	// verified is the verdict of the final verification of the released digest.
	verified *verify.Verdict
}

// Run performs one release and reports progress through emit, in order. If the
// requester can act on an error, it is an *api.Error.
func (r *Releaser) Run(ctx context.Context, req api.ReleaseRequest, emit func(api.Event)) (*api.Release, error) {
	j := &run{Releaser: r, req: req, id: newID(), started: time.Now().UTC()}
	if err := j.checkRequest(); err != nil {
		return nil, err
	}
	ctx, end, err := j.begin(ctx)
	if err != nil {
		return nil, err
	}
	j.report(emit)
	j.emit(api.Event{Phase: "queue", ID: j.id})
	rel, err := j.run(ctx)
	return rel, end(rel, err)
}

// checkRequest checks a request as far as that is possible before the commit is fetched.
func (j *run) checkRequest() error {
	if err := j.checkRecipe(); err != nil {
		return err
	}
	if j.req.Tag != "" {
		if err := checkTag(j.req.Tag); err != nil {
			return &api.Error{Message: fmt.Sprintf("tag: %v", err), Hint: "choose another --tag", Kind: api.Usage}
		}
	}
	return j.openTarget()
}

const (
	waitsForImage = "waiting for the end of another release of this image"
	waitsForTurn  = "waiting for a turn: the platform runs as many releases as it may"
)

// run waits for its turn and does all the work of a release.
func (j *run) run(ctx context.Context) (*api.Release, error) {
	waits := func(why string) func() { return func() { j.emit(api.Event{Phase: "queue", Step: why}) } }
	unlock, err := j.Releaser.lock(ctx, j.req.Image, waits(waitsForImage))
	if err != nil {
		return nil, err
	}
	defer unlock()
	done, err := j.turn(ctx, waits(waitsForTurn))
	if err != nil {
		return nil, err
	}
	defer done()
	j.started = time.Now().UTC()
	j.journal.update(j.id, func(r *api.Run) { r.State, r.Started = api.Running, j.started })
	if err := j.enqueue(); err != nil {
		return nil, err
	}
	defer j.cleanUp()
	if err := j.fetch(ctx); err != nil {
		return nil, err
	}
	if j.digest, err = j.finishTagged(ctx); err != nil {
		return nil, err
	}
	if j.digest == "" {
		err = j.buildAndRelease(ctx)
	}
	if err != nil {
		return nil, err
	}
	return j.finished()
}

// report sets j.emit, which notes progress in the journal and sends it to emit. It
// serializes the events, because phases run concurrently.
func (j *run) report(emit func(api.Event)) {
	var order sync.Mutex
	j.emit = func(e api.Event) {
		e.Time = time.Now().UTC()
		order.Lock()
		defer order.Unlock()
		j.journal.event(j.id, e)
		emit(e)
	}
}

// finished returns the answer for a finished release and stores it as a record. Its
// invocation is that of the provenance, which an earlier run may have made.
func (j *run) finished() (*api.Release, error) {
	invocation := j.verified.Facts.Build.Invocation
	rel := &api.Release{
		Image: j.req.Image, Digest: j.digest, Tags: j.tags, Source: j.commit,
		Builder: j.builder.ID, Level: j.verified.Level, Requirements: j.verified.Requirements, Resumed: j.resumed, Unchanged: j.unchanged,
		Files: released(j.files), Lock: digestOrNone(j.lockSum), Invocation: invocation, Started: j.started, Finished: time.Now().UTC(),
	}
	err := j.record(rel)
	j.done = err == nil
	return rel, err
}

// buildAndRelease does all the work of a release that is not finished yet. The
// requester can cancel it until the image is measured and its SBOMs are written. From then on the release runs
// to its end, in this process or after a restart.
func (j *run) buildAndRelease(ctx context.Context) error {
	b, m, err := j.build(ctx)
	if err != nil {
		return err
	}
	if err := j.scan(ctx, b, m); err != nil {
		return err
	}
	ctx, done, err := j.commitTo(ctx, b, m)
	if err != nil {
		return err
	}
	defer done()
	return j.insist(ctx, maxWaits, func() (again bool, err error) {
		err = j.release(ctx, b, m)
		return passing(err), err
	})
}

// release signs and publishes a measured image: first the proof, last the tags.
func (j *run) release(ctx context.Context, b *built, m *oci.Measured) error {
	j.digest = "" // of an earlier attempt
	top, err := j.compose(b, m)
	if err != nil {
		return err
	}
	if err := j.publish(ctx, b, m, top); err != nil {
		return err
	}
	j.digest, j.files = top.Digest.String(), m.Files
	if err := j.verifyAsStranger(ctx, j.digest); err != nil {
		return err
	}
	return j.tag(ctx, top.Descriptor, j.tags)
}

// tag creates the tags. It is the last step, for a digest whose proof has verified.
func (j *run) tag(ctx context.Context, d v1.Descriptor, tags []string) error {
	for _, tag := range tags {
		j.emit(api.Event{Phase: "tag", Step: tag})
		if err := j.target.Tag(ctx, tag, d); errors.Is(err, oci.ErrTagExists) {
			return final{&api.Error{Message: err.Error(), Hint: "tags never move; release another ref"}}
		} else if err != nil {
			return fmt.Errorf("tag %s: %w", tag, err)
		}
	}
	return nil
}

// publish creates every statement and uploads image and proof: blobs, manifests, then
// referrers. It keeps attestations that an interrupted run has attached. When it
// returns, all its goroutines have ended.
func (j *run) publish(ctx context.Context, built *built, m *oci.Measured, top published) error {
	g, gctx := errgroup.WithContext(ctx)
	uploaded := make(chan struct{})
	g.Go(func() error {
		j.emit(api.Event{Phase: "push", Step: top.Digest.String()})
		layout, err := oci.OpenLayout(built.Layout)
		if err != nil {
			return err
		}
		if err := top.push(gctx, j.target, layout, m); err != nil {
			return fmt.Errorf("pushing %s: %w", j.req.Image, err)
		}
		close(uploaded)
		return nil
	})
	p := &proofs{run: j, subject: top.Descriptor, files: m.Files, uploaded: uploaded}
	g.Go(func() error {
		if err := p.load(gctx); err != nil {
			return err
		}
		g.Go(func() error { return p.attachProvenance(gctx, built) })
		if len(m.Files) == 0 { // else the provenance is also the signature
			g.Go(func() error { return p.attachSignature(gctx) })
		}
		g.Go(func() error {
			boms, err := p.sboms(built)
			if err != nil {
				return err
			}
			for _, s := range boms {
				g.Go(func() error { return p.attach(gctx, s) })
			}
			return nil
		})
		return nil
	})
	if err := g.Wait(); err != nil {
		return err
	}
	j.resumed = p.reused.Load() > 0
	return nil
}

// fetch gets the commit and exports its tree. The trusted side does both itself.
func (j *run) fetch(ctx context.Context) error {
	read, err := j.readCommit(ctx)
	if err != nil {
		return err
	}
	commit := read.Commit
	j.commit, j.source, j.own = commit, read.Tree, read.Own
	j.journal.update(j.id, func(r *api.Run) { r.Commit = commit.ID })
	if j.tags, err = tagsOf(commit, j.req.Tag); err != nil {
		return err
	}
	if j.req.Tag != "" {
		j.emit(api.Event{Phase: "source", Line: "chosen by you, not by the commit: tag " + j.req.Tag + "; the proof names the ref and not the tag"})
	}
	j.emit(api.Event{Phase: "source", Line: fmt.Sprintf("%s at %s, %s", commit.ID, commit.Time.Format(time.RFC3339), describeSignature(commit.Signature))})
	if err := j.decideRecipe(); err != nil {
		return err
	}
	if err := j.checkUnresolved(); err != nil {
		return err
	}
	for _, line := range unresolved(j.source) {
		j.emit(api.Event{Phase: "source", Line: line + "; the build cannot read it"})
	}
	if err := j.canPin(); err != nil {
		return err
	}
	if err := j.canKeep(); err != nil {
		return err
	}
	return j.fetchAdded(ctx)
}

// readCommit fetches the commit, exports its tree and reads what it declares.
func (j *run) readCommit(ctx context.Context) (read sourceAnswer, err error) {
	j.emit(api.Event{Phase: "source", Step: j.req.Source + " " + j.req.Ref})
	read, err = j.readSource(ctx)
	switch {
	case ctx.Err() != nil:
		return read, ctx.Err()
	case err != nil:
		if said, ok := errors.AsType[*api.Error](err); ok {
			return read, said
		}
		return read, &api.Error{Message: "source: " + err.Error(), Hint: j.loginHint(err)}
	case read.Unknown != "" && strings.Trim(j.req.Ref, "0123456789abcdef") == "":
		return read, &api.Error{Message: read.Unknown, Hint: "if it is a commit, give its full id: git rev-parse " + j.req.Ref}
	case read.Unknown != "":
		return read, &api.Error{Message: read.Unknown, Hint: "a tag or branch must be in that repository: push it first"}
	case read.Commit.Signature.Status == source.Bad:
		return read, &api.Error{Message: fmt.Sprintf("the signature of the %s at %s is not valid for its content", read.Commit.Signature.Object, j.req.Ref),
			Hint: "a signed object was changed after it was signed; ask whoever pushed it"}
	case read.Wrong != "":
		return read, &api.Error{Message: read.Wrong, Hint: "spec/recipes describes the file"}
	}
	return read, nil
}

// loginHint says what to do if a repository wants to know who asks; git has no other way
// to tell.
func (j *run) loginHint(err error) string {
	said := err.Error()
	refused := strings.Contains(said, source.ErrLogin.Error()) || strings.Contains(said, "returned error: 403") || strings.Contains(said, "Permission denied")
	switch {
	case strings.Contains(said, "Host key verification failed"):
		return `compare the host's key with what its operator publishes; whoever runs the platform then writes it into "knownHosts" of the credential (docs/configuration.md, Credentials)`
	case strings.Contains(said, "' not found") && len(j.loggedIn) > 0: // so do forges answer who may not read it
		return "the repository does not exist, or the platform's credential may not read it"
	case refused && len(j.loggedIn) > 0:
		return "the repository refuses the platform's credential; whoever runs the platform can replace it"
	case refused:
		return `if the repository is private, whoever runs the platform adds a credential for it to the file that "credentials" of its configuration names (docs/configuration.md, Credentials)`
	}
	return ""
}

func describeSignature(s source.Signature) string {
	switch s.Status {
	case source.Verified:
		return s.NamedBy("the requester")
	case source.Unverified:
		return fmt.Sprintf("%s signed by an unknown key %s", s.Object, s.Key)
	}
	return "not signed"
}

func (j *run) invocationURI() string { return j.URL + api.PathReleases + "/" + j.id }

func (j *run) identity() (Identity, error) {
	self, err := j.BinaryDigest()
	if err != nil {
		return Identity{}, fmt.Errorf("hashing the platform's own executable: %w", err)
	}
	params, err := j.externalParameters()
	if err != nil {
		return Identity{}, err
	}
	return Identity{
		ParametersDigest: attest.ParametersDigest(params),
		BuilderID:        j.builder.ID, BuilderDigest: "sha256:" + self,
		SourceURI: j.commit.URI, SourceDigest: j.commit.ID, SourceRef: j.commit.Ref,
		InvocationURI: j.invocationURI(), RunnerEnvironment: "self-hosted", BuildTrigger: "release",
	}, nil
}

// lock waits until this process runs no other release of the image. It calls waits before it does.
func (r *Releaser) lock(ctx context.Context, image string, waits func()) (unlock func(), err error) {
	for {
		r.mu.Lock()
		busy, held := r.locks[image]
		if !held {
			mine := make(chan struct{})
			r.locks[image] = mine
			r.mu.Unlock()
			return func() {
				r.mu.Lock()
				delete(r.locks, image)
				r.mu.Unlock()
				close(mine)
			}, nil
		}
		r.mu.Unlock()
		waits()
		select {
		case <-busy:
		case <-ctx.Done():
			return nil, ctx.Err()
		}
	}
}

func newID() string {
	var b [16]byte
	rand.Read(b[:])
	return hex.EncodeToString(b[:])
}

// givenLock returns the hex sha256 of the lock in the request; "" if it has none.
func (j *run) givenLock() string {
	if j.req.Lock == "" {
		return ""
	}
	return hexSum([]byte(j.req.Lock)) // checkPinning has checked that it is canonical
}

func digestOrNone(sum string) string {
	if sum == "" {
		return ""
	}
	return "sha256:" + sum
}
