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
	"github.com/colophon-build/colophon/oci"
	"github.com/colophon-build/colophon/platform/api"
	"github.com/colophon-build/colophon/platform/builder"
	"github.com/colophon-build/colophon/source"
)

// built is a layout and what is known of how it came about.
type built struct {
	Layout   string    // path
	Started  time.Time // of the (last) build, by this side's clock
	Finished time.Time
	Log      string // hex sha256 of the build log, kept under Dir/logs
	Account  string // hex sha256 of what the builder says, likewise
	Lock     string // hex sha256 of the lock that the build was held to, likewise; empty where there was none

	// What this side knows for itself. Tools and Config are nil of builders
	// without a room of the attest zone's.
	Tools        []attest.ResourceDescriptor
	Config       map[string]string
	Dependencies []attest.ResourceDescriptor // besides the source
}

// attempt is one run of the builder, before anything of it is believed.
type attempt struct {
	built
	said   *builder.Result
	record *builder.Record // nil of builders without a room of the attest zone's
}

// build has the layout made and measured: what it returns may be signed.
func (j *run) build(ctx context.Context) (*built, *oci.Measured, error) {
	var a *attempt
	var m *oci.Measured
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
	return &a.built, m, nil
}

func (j *run) buildOnce(ctx context.Context, name string, s builder.Session) (*attempt, *oci.Measured, error) {
	a, err := j.attempt(ctx, name, s)
	if err != nil {
		return nil, nil, err
	}
	m, err := j.measure(a)
	return a, m, err
}

// attempt runs the builder once, in a session of its own where it has a room.
func (j *run) attempt(ctx context.Context, name string, s builder.Session) (_ *attempt, err error) {
	a := &attempt{}
	a.Lock = j.lockSum
	a.Layout = filepath.Join(j.dir, name)
	if err := os.Mkdir(a.Layout, 0o700); err != nil {
		return nil, err
	}
	log, err := newBuildLog(j.dir, filepath.Join(j.Dir, "logs"))
	if err != nil {
		return nil, err
	}
	defer log.discard()
	j.emit(api.Event{Phase: "build", Step: j.recipe.Builder})
	req := builder.Request{
		Recipe: j.recipe, Tree: j.tree, Source: j.source, Epoch: j.commit.Time, Layout: a.Layout,
		Log: func(e builder.Event) {
			log.write(e)
			j.emit(api.Event{Phase: "build", Step: e.Step, Line: e.Line})
		},
	}
	a.Started = time.Now().UTC()
	if j.hasRoom() {
		if req.Session, err = j.Rooms.Begin(ctx, s); err != nil {
			return nil, fmt.Errorf("opening a session for the build's room: %w", err)
		}
	}
	a.said, err = j.Build.Build(ctx, req)
	if j.hasRoom() {
		// The room ends, and its session with it, whatever became of the build or of the requester.
		var ended error
		if a.record, ended = j.endSession(ctx, req.Session); err == nil {
			err = ended
		}
	}
	if err != nil {
		return nil, j.explain(a, err)
	}
	a.Finished = time.Now().UTC()
	if err := j.checkClaims(a.said); err != nil {
		return nil, err
	}
	if a.Log, err = log.keep(); err != nil {
		return nil, fmt.Errorf("keeping the build log: %w", err)
	}
	return a, nil
}

// hasRoom says whether this release's builder works in a room of the attest
// zone's. The golang builder needs none: what it fetches is pinned by go.sum,
// and it compiles without a network.
func (j *run) hasRoom() bool { return j.Rooms != nil && j.recipe.Builder == "buildkit" }

func (j *run) endSession(ctx context.Context, id string) (*builder.Record, error) {
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), time.Minute)
	defer cancel()
	rec, err := j.Rooms.End(ctx, id)
	if err != nil {
		return nil, fmt.Errorf("the record of the build's room: %w", err)
	}
	return rec, nil
}

// explain turns the failure of a build into what the requester can act on.
func (j *run) explain(a *attempt, err error) error {
	if failed, ok := errors.AsType[*builder.Error](err); ok {
		return &api.Error{Message: failed.Error() + a.refusals(), Hint: "the build log is above; nothing was pushed"}
	}
	if away, ok := errors.AsType[*builder.UnavailableError](err); ok {
		return &api.Error{Message: away.Error(), Hint: "the platform's /readyz lists what its host lacks; a Go program needs no Dockerfile: --builder golang"}
	}
	if errors.Is(err, source.ErrNotTheTree) {
		return &api.Error{Message: "refusing to build: what was about to go to the builder is " + err.Error(), Hint: "the platform's disk changed or its export is wrong; nothing was built"}
	}
	return fmt.Errorf("builder: %w", err)
}

// refusals says what the gateway refused, which is often why a step failed.
func (a *attempt) refusals() string {
	if a.record == nil {
		return ""
	}
	const most = 5
	var out strings.Builder
	n := 0
	for _, e := range a.record.Exchanges {
		if e.Denied == "" {
			continue
		}
		if n++; n <= most {
			fmt.Fprintf(&out, "\nthe gateway refused %s %s: %s", e.Method, e.URL, e.Denied)
		}
	}
	if n > most {
		fmt.Fprintf(&out, "\nand %d more", n-most)
	}
	return out.String()
}

// measure computes the digest from the bytes. What the builder says is only compared.
func (j *run) measure(a *attempt) (*oci.Measured, error) {
	j.emit(api.Event{Phase: "measure"})
	m, err := oci.MeasureLayout(a.Layout)
	if err != nil {
		return nil, &api.Error{Message: "refusing to sign what the builder handed over: " + err.Error()}
	}
	if got, said := m.Descriptor.Digest.String(), a.said.Digest; got != said {
		return nil, &api.Error{Message: fmt.Sprintf("refusing to sign: the builder said %s, its bytes are %s", said, got)}
	}
	if err := samePlatforms(j.recipe.Platforms, m); err != nil {
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
		return &api.Error{Message: fmt.Sprintf("refusing to sign: the image is for %s, the recipe asked for %s", strings.Join(got, ", "), strings.Join(want, ", "))}
	}
	return nil
}

// check finds out for itself what the image depends on, and fills in what the
// provenance says of the build from that. The builder's own account is kept
// beside it, as what it is.
func (j *run) check(ctx context.Context, a *attempt, m *oci.Measured) error {
	a.Config = map[string]string{}
	maps.Copy(a.Config, j.Setup)
	if a.record != nil {
		a.Tools = a.record.Tools
		maps.Copy(a.Config, a.record.Config)
	}
	a.Config["sourceDateEpoch"] = strconv.FormatInt(j.commit.Time.Unix(), 10)
	var err error
	switch j.recipe.Builder {
	case "buildkit":
		a.Dependencies, err = j.checkNetwork(ctx, a, m)
	case "golang":
		a.Dependencies, err = checkModules(j.tree, a.said.Dependencies)
	default:
		err = fmt.Errorf("nothing is known of what builder %q depends on", j.recipe.Builder)
	}
	if err != nil {
		return err
	}
	account, err := json.MarshalIndent(a.said, "", "  ")
	if err != nil {
		return err
	}
	a.Account, err = keepFile(filepath.Join(j.Dir, "logs"), append(account, '\n'))
	return err
}

// diffIDs are the layers of one platform's image, lowest first.
func diffIDs(p oci.MeasuredPlatform) []v1.Hash {
	var ids []v1.Hash
	for _, l := range p.Layers {
		ids = append(ids, l.DiffID)
	}
	return ids
}
