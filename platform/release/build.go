package release

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"time"

	v1 "github.com/google/go-containerregistry/pkg/v1"

	"github.com/colophon-build/colophon/attest"
	"github.com/colophon-build/colophon/internal/credential"
	"github.com/colophon-build/colophon/oci"
	"github.com/colophon-build/colophon/platform/api"
	"github.com/colophon-build/colophon/platform/builder"
	"github.com/colophon-build/colophon/platform/release/credentials"
	"github.com/colophon-build/colophon/source"
)

// built is a layout and the facts of its build. Log, Account and Lock name files in
// Dir/logs by their hex sha256.
type built struct {
	Layout   string    // path
	Started  time.Time // start of the (last) build, by the trusted side's clock
	Finished time.Time
	Log      string // the build log
	Account  string // the builder's result, as JSON
	Lock     string // the lock that the build had to follow; empty if none

	// SPDX and CDX are the hex sha256 of the image's SBOMs, which are files of the work.
	SPDX, CDX string
	// Inner is the hex sha256 of the SBOM of each platform's image, see compose, or of each
	// release file, likewise.
	Inner []string

	// The trusted side determined these itself. Of builders without a room that the attest
	// zone opens, Tools has the scanner alone.
	Tools        []attest.ResourceDescriptor
	Config       map[string]string
	Dependencies []attest.ResourceDescriptor // without the source
	Bases        map[string]baseOf           // by platform, of what the Dockerfile says
}

// attempt is one run of the builder, before its result is checked.
type attempt struct {
	built
	claimed *builder.Result
	record  *builder.Record // nil for builders without a room that the attest zone opens
}

// build builds and measures the layout, and checks it. Its results may be signed.
func (j *run) build(ctx context.Context) (*built, *oci.Measured, error) {
	b, m, err := j.buildChecked(ctx)
	j.keepCaches(ctx, err == nil)
	return b, m, err
}

func (j *run) buildChecked(ctx context.Context) (*built, *oci.Measured, error) {
	var a *attempt
	var m *oci.Measured
	layouts := []string{"layout"}
	if j.req.Hermetic {
		layouts = append(layouts, "layout-1")
	}
	for _, l := range layouts {
		if err := os.Mkdir(filepath.Join(j.dir, l), 0o700); err != nil {
			return nil, nil, err
		}
	}
	if err := errors.Join(j.startImage(layouts...), j.startScanner(layouts...)); err != nil {
		return nil, nil, err
	}
	var err error
	if j.req.Hermetic {
		a, m, err = j.buildTwice(ctx)
	} else {
		a, m, err = j.buildOnce(ctx, "layout", builder.Session{Lock: j.lock})
	}
	if err != nil {
		return nil, nil, err
	}
	if err := j.check(ctx, a, m); err != nil {
		return nil, nil, err
	}
	if j.fromStage() {
		if m, err = j.takeStage(ctx, a, m); err != nil {
			return nil, nil, err
		}
	}
	annotate := j.annotate
	if j.recipe.Files {
		annotate = j.annotateFiles
	}
	if err := annotate(a, m); err != nil {
		return nil, nil, fmt.Errorf("annotations of the image: %w", err)
	}
	return &a.built, m, nil
}

func (j *run) buildOnce(ctx context.Context, name string, s builder.Session) (*attempt, *oci.Measured, error) {
	a, err := j.attempt(ctx, name, s)
	if err != nil {
		return nil, nil, err
	}
	m, err := j.measure(ctx, a)
	return a, m, err
}

// attempt runs the builder once. If the builder has a room, the run has a session of
// its own.
func (j *run) attempt(ctx context.Context, name string, s builder.Session) (_ *attempt, err error) {
	a := &attempt{}
	a.Lock = j.lockSum
	a.Layout = filepath.Join(j.dir, name)
	log, err := newBuildLog(j.dir, filepath.Join(j.Dir, "logs"))
	if err != nil {
		return nil, err
	}
	defer log.discard()
	j.emit(api.Event{Phase: "build", Step: j.recipe.Builder})
	req := builder.Request{
		Recipe: j.recipe, Tree: j.tree, Source: j.source, Added: j.addedTrees(), Epoch: j.commit.Time, Layout: a.Layout,
		Log: func(e builder.Event) {
			log.write(e)
			j.emit(api.Event{Phase: "build", Step: e.Step, Line: e.Line, Done: e.Done})
		},
	}
	a.Started = time.Now().UTC()
	if j.hasRoom() {
		if err = j.authorize(ctx, &s); err != nil {
			return nil, err
		}
		if s.Scope = j.commit.URI; s.Lock == nil {
			s.Demands = findPins(ctx, j.tree, j.recipe)
		}
		s.CacheMounts = j.cacheScope()
		req.KeepCaches = s.CacheMounts != nil
		if req.Session, err = j.Rooms.Begin(ctx, s); err != nil {
			return nil, j.explain(a, fmt.Errorf("beginning a session for the build's room: %w", err))
		}
	}
	a.claimed, err = j.Build.Build(ctx, req)
	if j.hasRoom() {
		// End the session and its room, even if the build failed or was cancelled.
		var ended error
		if a.record, ended = j.endSession(ctx, req.Session); err == nil {
			err = ended
		}
		if ended == nil && req.KeepCaches {
			j.packed = req.Session
		}
	}
	if err != nil {
		return nil, j.explain(a, err)
	}
	a.Finished = time.Now().UTC()
	if err := j.checkClaims(a.claimed); err != nil {
		return nil, err
	}
	if a.Log, err = log.keep(); err != nil {
		return nil, fmt.Errorf("storing the build log: %w", err)
	}
	return a, nil
}

// hasRoom reports whether this release's builder works in a room that the attest zone
// opens. The golang builder needs no such room: go.sum pins its downloads, and
// compiling needs no network.
func (j *run) hasRoom() bool { return j.Rooms != nil && j.recipe.Builder == "buildkit" }

// authorize gives a session the credentials that builds of this source may use.
func (j *run) authorize(ctx context.Context, s *builder.Session) (err error) {
	if s.Credentials, err = j.Credentials.ForDownloads(ctx, j.commit.URI); err != nil {
		return noLogin(err)
	}
	return nil
}

// noLogin returns the error for a credential that could not be used.
func noLogin(err error) error {
	return &api.Error{Message: "logging in for a private source or download: " + err.Error(), Hint: "whoever runs the platform can mend it: docs/configuration.md, Credentials"}
}

func (j *run) endSession(ctx context.Context, id string) (*builder.Record, error) {
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), time.Minute)
	defer cancel()
	rec, err := j.Rooms.End(ctx, id)
	if err != nil {
		return nil, fmt.Errorf("getting the record of the build's room: %w", err)
	}
	return rec, nil
}

// explain turns the error of a failed build into one that the requester can act on.
func (j *run) explain(a *attempt, err error) error {
	if failed, ok := errors.AsType[*builder.Error](err); ok {
		return &api.Error{Message: failed.Error() + a.refusals(failed.Error()), Hint: "nothing was pushed; the log: colophon releases log " + j.id[:api.ShortID]}
	}
	if unavailable, ok := errors.AsType[*builder.UnavailableError](err); ok {
		return &api.Error{Message: unavailable.Error(), Hint: j.without(unavailable)}
	}
	if errors.Is(err, source.ErrNotTheTree) {
		return &api.Error{Message: "refusing to build: the files for the builder differ from the commit: " + err.Error(), Hint: "the files changed on the platform's disk, or its export is wrong; nothing was built"}
	}
	return fmt.Errorf("builder: %w", err)
}

// without says what to do on a platform that lacks a builder.
func (j *run) without(u *builder.UnavailableError) string {
	hint := u.Hint
	if hint == "" {
		hint = "the platform's /readyz lists what its host lacks"
	}
	if _, err := os.Lstat(filepath.Join(j.tree, filepath.FromSlash(j.recipe.Context), "go.mod")); err == nil && u.Builder == attest.BuildKit {
		hint += "; this is a Go module, and --builder golang builds it without a Dockerfile, root or runc"
	}
	return hint
}

// refusals lists the requests that the gateway denied or got no answer to, which often explain why a step
// failed, and those that were answered with an error and that the failure names: of ADD --checksum, BuildKit
// only says that an error page has another digest.
func (a *attempt) refusals(failure string) string {
	if a.record == nil {
		return ""
	}
	const shown = 5
	var out strings.Builder
	seen := map[string]bool{} // clients try again
	for _, e := range a.record.Exchanges {
		var why string
		switch named := strings.Contains(failure, e.URL); {
		case e.Denied != "":
			why = fmt.Sprintf("the gateway denied %s %s: %s", e.Method, e.URL, e.Denied)
		case e.Failed != "":
			why = fmt.Sprintf("there was no answer to %s %s: %s", e.Method, e.URL, e.Failed)
		case named && e.Status == 0:
			why = fmt.Sprintf("there was no answer to %s %s", e.Method, e.URL)
		case named && e.Status >= 400:
			why = fmt.Sprintf("the answer to %s %s was an error: status %d", e.Method, e.URL, e.Status)
		default:
			continue
		}
		if seen[why] {
			continue
		}
		if seen[why] = true; len(seen) <= shown {
			out.WriteString("\n" + why)
		}
	}
	if len(seen) > shown {
		fmt.Fprintf(&out, "\nand %d more", len(seen)-shown)
	}
	return out.String()
}

// measure computes the digest from the layout's bytes, and checks that the builder's
// digest and the recipe's platforms agree.
func (j *run) measure(ctx context.Context, a *attempt) (*oci.Measured, error) {
	j.emit(api.Event{Phase: "measure"})
	files := j.recipe.Files && !j.fromStage()
	m, err := j.measureLayout(ctx, a.Layout, files)
	if ctx.Err() != nil {
		return nil, ctx.Err()
	} else if err != nil {
		return nil, &api.Error{Message: "refusing to sign the builder's layout: " + err.Error()}
	}
	if got, claimed := m.Descriptor.Digest.String(), a.claimed.Digest; got != claimed {
		return nil, &api.Error{Message: fmt.Sprintf("refusing to sign: the builder claims digest %s, but its bytes are %s", claimed, got)}
	}
	if files {
		err = j.sameFiles(m)
	} else {
		err = samePlatforms(j.recipe.Platforms, m)
	}
	if err != nil {
		return nil, err
	}
	j.emit(api.Event{Phase: "measure", Line: m.Descriptor.Digest.String()})
	return m, nil
}

func samePlatforms(want []string, m *oci.Measured) error {
	var got []string
	for _, p := range m.Platforms {
		got = append(got, p.Platform.String())
	}
	slices.Sort(got) // as want is
	if !slices.Equal(want, got) {
		return &api.Error{Message: fmt.Sprintf("refusing to sign: platforms of the image: expected %s, found %s", strings.Join(want, ", "), strings.Join(got, ", "))}
	}
	return nil
}

// check determines the image's dependencies itself and fills in the facts of the build
// for the provenance. It stores the builder's result separately, as a claim.
func (j *run) check(ctx context.Context, a *attempt, m *oci.Measured) error {
	a.Config = map[string]string{}
	maps.Copy(a.Config, j.Setup)
	if a.record != nil {
		a.Tools = a.record.Tools
		maps.Copy(a.Config, a.record.Config)
		j.tellStored(a)
	}
	a.Config["sourceDateEpoch"] = strconv.FormatInt(j.commit.Time.Unix(), 10)
	note(a.Config, "source.unresolved", unresolved(j.source))
	note(a.Config, "source.credential", credentials.Hosts(j.loggedIn))
	var err error
	switch j.recipe.Builder {
	case "buildkit":
		if a.Dependencies, err = j.checkNetwork(ctx, a, m); err == nil {
			a.Dependencies = append(j.gitDependencies(), a.Dependencies...)
		}
	case "golang":
		if err = noteWorkspace(a.Config, j.tree, j.recipe); err != nil {
			return err
		}
		if a.Dependencies, err = checkModules(j.tree, j.recipe, a.claimed.Dependencies); err == nil {
			var found []linked
			if found, err = j.linked(ctx, a.Layout, m); err == nil {
				err = errors.Join(checkLinked(found, a.claimed.Dependencies), j.checkTargets(m, found))
			}
		}
	default:
		err = fmt.Errorf("cannot determine the dependencies of builder %q", j.recipe.Builder)
	}
	if err != nil {
		return err
	}
	account, err := json.MarshalIndent(a.claimed, "", "  ")
	if err != nil {
		return err
	}
	account = []byte(credential.Text(string(account))) // everybody can read it
	a.Account, err = keepFile(filepath.Join(j.Dir, "logs"), append(account, '\n'))
	return err
}

// diffIDs returns the diff IDs of one platform's layers, lowest first.
func diffIDs(p oci.MeasuredPlatform) []v1.Hash {
	var ids []v1.Hash
	for _, l := range p.Layers {
		ids = append(ids, l.DiffID)
	}
	return ids
}
