// Package release is the main job: it turns a git ref into an image that
// carries its proof. Source, build, measurement, SBOM, signatures, upload,
// a stranger's verification, and only then the tags. A tag exists only if its
// proof verifies; a run that was killed leaves no tag, and running it again
// finishes it with the same digest and one of each attestation.
package release

import (
	"context"
	"crypto/rand"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"net/http"
	"os"
	"path/filepath"
	"runtime"
	"slices"
	"strings"
	"sync"
	"time"

	v1 "github.com/google/go-containerregistry/pkg/v1"
	"github.com/sigstore/sigstore-go/pkg/root"
	"golang.org/x/sync/errgroup"

	"github.com/colophon-build/colophon/attest"
	"github.com/colophon-build/colophon/oci"
	"github.com/colophon-build/colophon/platform/api"
	"github.com/colophon-build/colophon/platform/builder"
	"github.com/colophon-build/colophon/source"
	"github.com/colophon-build/colophon/trust"
	"github.com/colophon-build/colophon/verify"
)

// Config of a Releaser.
type Config struct {
	URL          string                 // the platform's origin; prefix of builder ids and invocation ids
	Dir          string                 // owned by the Releaser: work in flight (swept by New), build logs, records
	Version      string                 // of the platform, for the provenance
	BinaryDigest func() (string, error) // hex sha256 of the platform's executable: what does the signing
	Builders     []BuilderInfo          // by recipe builder name
	Build        builder.Builder        // runs every recipe; its word is checked
	// Rooms is the trusted side of the rooms that builds run in; nil where the platform cannot open rooms.
	Rooms Rooms

	// Setup is what the platform knows of itself, for the provenance's internal parameters.
	Setup map[string]string
	// UploadPack reads local repositories; see source.Request.
	UploadPack string

	SigningConfig *root.SigningConfig
	CATransport   http.RoundTripper // to the certificate authority; nil is http.DefaultTransport
	Trust         *trust.Root       // whom the stranger's verification believes
	// Token mints a workload token for one release.
	Token func(ctx context.Context, id Identity) (string, error)

	RegistryHost  string // host[:port] of the platform's own registry
	RegistryToken string // push token for it; other registries use the host's docker credentials
	// LoopbackTargets lets images go to other registries on this host's loopback. For platforms that are on
	// loopback themselves: to anybody else it would be a way to what listens there.
	LoopbackTargets bool
	// Mirror is the OCI layout that answers the builds' pulls of the images in it; empty: none.
	Mirror string
	// Concurrent is how many releases run at once; others wait. Each may hold gigabytes of source. Zero is 8.
	Concurrent int
	Log        *slog.Logger
}

// Rooms is the trusted side of the rooms that builds run in: it opens their
// gateways, and knows what went through them. Safe for concurrent use.
type Rooms interface {
	// Begin allows one room. The id is what the builder is handed
	// (builder.Request.Session); it opens one room, once.
	Begin(ctx context.Context, s builder.Session) (id string, err error)
	// End returns what the session's gateway saw, once its room is gone. The
	// session is over then, also where End fails.
	End(ctx context.Context, id string) (*builder.Record, error)
}

// BuilderInfo is one of the platform's builders.
type BuilderInfo struct {
	Name          string // attest.Recipe.Builder
	trust.Builder        // builder.id, and the SLSA Build level that its isolation earns
	BuildType     string
}

// Identity is what a release's certificate says: the trusted side's own
// knowledge, field for field the claims of the workload token.
type Identity struct {
	BuilderID         string
	BuilderDigest     string // sha256:hex of the platform's executable
	RunnerEnvironment string
	SourceURI         string
	SourceDigest      string
	SourceRef         string
	BuildTrigger      string
	InvocationURI     string
}

// Releaser runs releases. Safe for concurrent use; two releases of one image run one after the other.
type Releaser struct {
	Config
	turns  chan struct{}
	mirror *oci.Layout // nil where there is none
	mu     sync.Mutex
	locks  map[string]chan struct{} // by image

	unfinished []pending       // that an earlier process had begun to publish; for Resume
	closing    context.Context // done when Close was called
	close      context.CancelFunc
}

// New sweeps what crashed runs left in cfg.Dir/work, but for releases that had
// begun to publish: Resume finishes those.
func New(cfg Config) (*Releaser, error) {
	for _, d := range []string{"work", "queue", "logs", "records"} {
		if err := os.MkdirAll(filepath.Join(cfg.Dir, d), 0o700); err != nil {
			return nil, err
		}
	}
	if cfg.Concurrent == 0 {
		cfg.Concurrent = 8
	}
	if cfg.Log == nil {
		cfg.Log = slog.New(slog.DiscardHandler)
	}
	r := &Releaser{Config: cfg, turns: make(chan struct{}, cfg.Concurrent), locks: map[string]chan struct{}{}}
	r.closing, r.close = context.WithCancel(context.Background())
	if cfg.Mirror != "" {
		var err error
		if r.mirror, err = oci.OpenLayout(cfg.Mirror); err != nil {
			return nil, fmt.Errorf("mirror: %w", err)
		}
	}
	return r, r.sweep()
}

// run is the state of one release.
type run struct {
	*Releaser
	req     api.ReleaseRequest
	emit    func(api.Event)
	id      string // of the invocation
	started time.Time
	dir     string // removed at the end
	begun   bool   // publishing has: a restart goes on with it
	done    bool
	digest  string // of what is released, once that is proven
	commit  source.Commit
	tags    []string
	tree    string // directory: the commit's exported tree
	source  source.Tree
	recipe  attest.Recipe
	builder BuilderInfo
	target  oci.Target
	lock    *builder.Lock // what the build is held to; nil where nothing pins it
	lockSum string        // hex sha256 of the lock
	resumed bool
	// verified is the stranger's verdict on the digest that is released.
	verified *verify.Verdict
}

// Run performs one release and reports progress through emit, in order. An
// error the requester can act on is an *api.Error.
func (r *Releaser) Run(ctx context.Context, req api.ReleaseRequest, emit func(api.Event)) (*api.Release, error) {
	unlock, err := r.lock(ctx, req.Image)
	if err != nil {
		return nil, err
	}
	defer unlock()
	select {
	case r.turns <- struct{}{}:
		defer func() { <-r.turns }()
	case <-ctx.Done():
		return nil, ctx.Err()
	}

	j := &run{Releaser: r, req: req, id: newID(), started: time.Now().UTC()}
	j.report(emit)
	if err := j.checkRecipe(); err != nil {
		return nil, err
	}
	if err := j.openTarget(); err != nil {
		return nil, err
	}
	if err := j.accept(); err != nil {
		return nil, err
	}
	defer j.leave()
	if err := j.fetch(ctx); err != nil {
		return nil, err
	}
	if j.digest, err = j.finishTagged(ctx); err != nil {
		return nil, err
	}
	if j.digest == "" {
		err = j.make(ctx)
	}
	if err != nil {
		return nil, err
	}
	return j.finished()
}

// report sends progress to emit. Phases run side by side.
func (j *run) report(emit func(api.Event)) {
	var order sync.Mutex
	j.emit = func(e api.Event) {
		e.Time = time.Now().UTC()
		order.Lock()
		defer order.Unlock()
		emit(e)
	}
}

// finished is the answer to a release that is done, and keeps it.
func (j *run) finished() (*api.Release, error) {
	rel := &api.Release{
		Image: j.req.Image, Digest: j.digest, Tags: j.tags, Source: j.commit,
		Builder: j.builder.ID, Level: j.verified.Level, Requirements: j.verified.Requirements, Resumed: j.resumed,
		Lock: digestOrNone(j.lockSum), Invocation: j.invocationURI(), Started: j.started, Finished: time.Now().UTC(),
	}
	err := j.record(rel)
	j.done = err == nil
	return rel, err
}

// make does all the work of a release that is not finished yet. Up to the
// measurement the requester can still turn away; from then on the release runs
// to its end, here or after a restart.
func (j *run) make(ctx context.Context) error {
	b, m, err := j.build(ctx)
	if err != nil {
		return err
	}
	ctx, done, err := j.commitTo(ctx, b, m)
	if err != nil {
		return err
	}
	defer done()
	return j.release(ctx, b, m)
}

// release signs and publishes what was measured: proof first, tags last.
func (j *run) release(ctx context.Context, b *built, m *oci.Measured) error {
	if err := j.publish(ctx, b, m); err != nil {
		return err
	}
	j.digest = m.Descriptor.Digest.String()
	if err := j.verifyAsStranger(ctx, j.digest); err != nil {
		return err
	}
	return j.tag(ctx, m.Descriptor, j.tags)
}

// tag is the last step, for a digest whose proof verified.
func (j *run) tag(ctx context.Context, d v1.Descriptor, tags []string) error {
	for _, tag := range tags {
		j.emit(api.Event{Phase: "tag", Step: tag})
		if err := j.target.Tag(ctx, tag, d); errors.Is(err, oci.ErrTagExists) {
			return &api.Error{Message: err.Error(), Hint: "tags never move; release under another ref"}
		} else if err != nil {
			return fmt.Errorf("tag %s: %w", tag, err)
		}
	}
	return nil
}

// publish makes every statement and uploads image and proof: blobs, manifests,
// then referrers. What an interrupted run already attached is kept. Nothing
// that it began is still running when it returns.
func (j *run) publish(ctx context.Context, built *built, m *oci.Measured) error {
	g, gctx := errgroup.WithContext(ctx)
	uploaded := make(chan struct{})
	g.Go(func() error {
		j.emit(api.Event{Phase: "push", Step: m.Descriptor.Digest.String()})
		layout, err := oci.OpenLayout(built.Layout)
		if err != nil {
			return err
		}
		if err := oci.Copy(gctx, j.target, layout, m.Descriptor); err != nil {
			return fmt.Errorf("pushing %s: %w", j.req.Image, err)
		}
		close(uploaded)
		return nil
	})
	p := &proofs{run: j, subject: m.Descriptor, uploaded: uploaded}
	g.Go(func() error {
		if err := p.load(gctx); err != nil {
			return err
		}
		g.Go(func() error { return p.attach(gctx, p.signature()) })
		g.Go(func() error { return p.attachProvenance(gctx, built) })
		g.Go(func() error {
			j.emit(api.Event{Phase: "sbom"})
			boms, err := p.sboms(gctx, built)
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

// fetch gets the commit and exports its tree, both by the trusted side itself.
func (j *run) fetch(ctx context.Context) error {
	j.emit(api.Event{Phase: "source", Step: j.req.Source + " " + j.req.Ref})
	dir := filepath.Join(j.dir, "git")
	j.tree = filepath.Join(j.dir, "tree")
	for _, d := range []string{dir, j.tree} {
		if err := os.Mkdir(d, 0o700); err != nil {
			return err
		}
	}
	repo, commit, err := source.Fetch(ctx, dir, source.Request{
		URI: j.req.Source, Ref: j.req.Ref, Commit: j.req.Commit,
		AllowedSigners: []byte(j.req.AllowedSigners), Keyring: []byte(j.req.Keyring), UploadPack: j.UploadPack,
	})
	if errors.Is(err, source.ErrUnknownRef) {
		return &api.Error{Message: err.Error(), Hint: "push the tag to the repository first"}
	} else if err != nil {
		return &api.Error{Message: "source: " + err.Error()}
	}
	if commit.Signature.Status == source.Bad {
		return &api.Error{Message: fmt.Sprintf("the signature of the %s at %s does not match it", commit.Signature.Object, j.req.Ref),
			Hint: "somebody changed a signed object; ask who pushed it"}
	}
	j.commit = commit
	if j.tags, err = tagsOf(commit); err != nil {
		return err
	}
	j.emit(api.Event{Phase: "source", Line: fmt.Sprintf("%s at %s, %s", commit.ID, commit.Time.Format(time.RFC3339), describeSignature(commit.Signature))})
	if j.source, err = repo.Export(ctx, j.tree); err != nil {
		return &api.Error{Message: "source: " + err.Error()}
	}
	if j.recipe, err = completeRecipe(j.req.Recipe, j.tree); err != nil {
		return err
	}
	if j.builder, err = j.builderFor(j.recipe); err != nil {
		return err
	}
	return j.canPin()
}

func describeSignature(s source.Signature) string {
	switch s.Status {
	case source.Verified:
		return fmt.Sprintf("%s signed by %s", s.Object, s.Signer)
	case source.Unverified:
		return fmt.Sprintf("%s signed by an unknown key %s", s.Object, s.Key)
	}
	return "not signed"
}

// checkRecipe refuses what no commit could make right, before one is fetched.
func (j *run) checkRecipe() error {
	r := j.req.Recipe
	if err := r.Check(); err != nil {
		return &api.Error{Message: err.Error(), Kind: api.Usage}
	}
	if err := j.checkPinning(); err != nil || r.Builder == "" {
		return err
	}
	_, err := j.builderFor(r)
	return err
}

// completeRecipe fills in the defaults, so that the provenance leaves nothing implied.
func completeRecipe(r attest.Recipe, tree string) (attest.Recipe, error) {
	if r.Builder == "" {
		name := r.Dockerfile
		if name == "" {
			name = "Dockerfile"
		}
		if _, err := os.Lstat(filepath.Join(tree, filepath.Clean("/"+name))); err == nil || r.Dockerfile != "" {
			r.Builder = "buildkit"
		} else if _, err := os.Lstat(filepath.Join(tree, "go.mod")); err == nil {
			r.Builder = "golang"
		} else {
			return r, &api.Error{Message: "the source has neither a Dockerfile nor a go.mod at its top", Hint: "name the Dockerfile with --dockerfile"}
		}
	}
	var err error
	if r.Platforms, err = completePlatforms(r.Platforms); err != nil {
		return r, err
	}
	switch r.Builder {
	case "buildkit":
		if r.Package != "" {
			return r, &api.Error{Message: "--package is for the golang builder, and this source builds from a Dockerfile", Hint: "say --builder golang", Kind: api.Usage}
		}
		if r.Dockerfile == "" {
			r.Dockerfile = "Dockerfile"
		}
	case "golang":
		if r.Dockerfile != "" || r.Target != "" || len(r.BuildArgs) > 0 {
			return r, &api.Error{Message: "the golang builder takes no Dockerfile, target or build arguments", Kind: api.Usage}
		}
		if r.Package == "" {
			r.Package = "."
		}
	}
	return r, nil
}

// completePlatforms has one way to write a list of platforms, so that the same
// wish is the same recipe.
func completePlatforms(names []string) ([]string, error) {
	if len(names) == 0 {
		return []string{"linux/" + runtime.GOARCH}, nil
	}
	var out []string
	for _, name := range names {
		p, err := v1.ParsePlatform(name)
		if err != nil || p.OS == "" || p.Architecture == "" || p.OSVersion != "" { // Recipe.Check has said more
			return nil, &api.Error{Message: fmt.Sprintf("platform: got %q, want linux/ARCHITECTURE, such as linux/amd64", name), Kind: api.Usage}
		}
		if p.Architecture == "arm64" && p.Variant == "v8" { // its only variant, which measuring leaves out
			p.Variant = ""
		}
		out = append(out, p.String())
	}
	slices.Sort(out)
	return slices.Compact(out), nil
}

func (j *run) builderFor(r attest.Recipe) (BuilderInfo, error) {
	var names []string
	for _, b := range j.Builders {
		if b.Name == r.Builder {
			return b, nil
		}
		names = append(names, b.Name)
	}
	return BuilderInfo{}, &api.Error{Message: fmt.Sprintf("this platform has no builder %q", r.Builder), Hint: "it has: " + strings.Join(names, ", "), Kind: api.Usage}
}

func (j *run) invocationURI() string { return j.URL + api.PathReleases + "/" + j.id }

func (j *run) identity() (Identity, error) {
	self, err := j.BinaryDigest()
	if err != nil {
		return Identity{}, fmt.Errorf("digest of the platform's own executable: %w", err)
	}
	return Identity{
		BuilderID: j.builder.ID, BuilderDigest: "sha256:" + self,
		SourceURI: j.commit.URI, SourceDigest: j.commit.ID, SourceRef: j.commit.Ref,
		InvocationURI: j.invocationURI(), RunnerEnvironment: "self-hosted", BuildTrigger: "release",
	}, nil
}

// lock waits until no other release of the image runs here.
func (r *Releaser) lock(ctx context.Context, image string) (unlock func(), err error) {
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

// externalParameters of the provenance: all that the requester chose.
func (j *run) externalParameters() (json.RawMessage, error) {
	rec, err := json.Marshal(j.recipe)
	if err != nil {
		return nil, err
	}
	return json.Marshal(attest.ExternalParameters{
		Source: attest.SourceParameters{URI: j.commit.URI, Ref: j.commit.Ref, Commit: j.commit.ID},
		Recipe: rec, Hermetic: j.req.Hermetic, Lock: digestOrNone(j.givenLock()),
	})
}

// givenLock is the hex sha256 of the lock in the request, or empty.
func (j *run) givenLock() string {
	if j.req.Lock == "" {
		return ""
	}
	sum := sha256.Sum256([]byte(j.req.Lock)) // which is in canonical form
	return hex.EncodeToString(sum[:])
}

func digestOrNone(sum string) string {
	if sum == "" {
		return ""
	}
	return "sha256:" + sum
}
