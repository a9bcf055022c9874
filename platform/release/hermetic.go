package release

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	"strings"

	"github.com/colophon-build/colophon/attest"
	"github.com/colophon-build/colophon/internal/limits"
	"github.com/colophon-build/colophon/internal/strict"
	"github.com/colophon-build/colophon/oci"
	"github.com/colophon-build/colophon/platform/api"
	"github.com/colophon-build/colophon/platform/builder"
	"github.com/colophon-build/colophon/platform/release/differ"
)

// checkPinning refuses what cannot be pinned, before anything is fetched. The
// builder may not be known yet.
func (j *run) checkPinning() error {
	switch {
	case j.req.Lock != "" && j.req.Hermetic:
		return &api.Error{Message: "a hermetic release makes its own lock, and this one brings one", Hint: "--locked builds once, from the lock; --hermetic writes a new one", Kind: api.Usage}
	case j.req.Lock != "" && j.req.Recipe.Builder == "golang":
		return &api.Error{Message: "the golang builder takes no lock: go.sum is one", Kind: api.Usage}
	case j.req.Lock == "":
		return nil
	}
	lock, err := builder.ParseLock([]byte(j.req.Lock))
	if err != nil {
		return &api.Error{Message: err.Error(), Hint: "a lock is written by: colophon release --hermetic --write-lock FILE", Kind: api.Usage}
	}
	return j.pin(lock)
}

// canPin refuses a pinned build where nothing stands between room and network.
func (j *run) canPin() error {
	switch {
	case j.recipe.Builder == "golang" && j.req.Lock != "":
		return &api.Error{Message: "the golang builder takes no lock: go.sum is one", Kind: api.Usage}
	case j.recipe.Builder == "golang" || j.req.Lock == "" && !j.req.Hermetic || j.hasRoom():
		return nil
	}
	return &api.Error{Message: "this platform has no gateway of its own between a build and the network, so it can neither record nor replay", Hint: "the platform's /readyz lists what its host lacks"}
}

// pin holds the builds that follow to the lock, and keeps it for whoever asks.
func (j *run) pin(lock *builder.Lock) error {
	raw, err := lock.Marshal()
	if err != nil {
		return err
	}
	j.lock = lock
	j.lockSum, err = keepFile(filepath.Join(j.Dir, "logs"), raw)
	return err
}

// buildTwice records what a build fetches, and builds again in a new room that
// gets that and nothing else. The second result counts, and only if the first
// was the same: what changes from one to the other does not follow from the
// commit and the lock.
//
// The golang builder has no network while it compiles, and what it downloads
// before is pinned by go.sum: it only has to give the same twice.
func (j *run) buildTwice(ctx context.Context) (*attempt, *oci.Measured, error) {
	first, m1, err := j.buildOnce(ctx, "layout-1", builder.Session{Record: true})
	if err != nil {
		return nil, nil, err
	}
	s := builder.Session{}
	if j.hasRoom() {
		lock, err := builder.LockOf(first.record.Exchanges)
		if err != nil {
			return nil, nil, refuseToSign(fmt.Errorf("what the build fetched cannot be locked: %w", err))
		}
		if err := j.pin(lock); err != nil {
			return nil, nil, err
		}
		s = builder.Session{Lock: lock, Sealed: true}
		j.emit(api.Event{Phase: "build", Line: fmt.Sprintf("%d fetches are in the lock sha256:%s; building again from it, without a network", len(lock.Fetches), j.lockSum)})
	}
	second, m2, err := j.buildOnce(ctx, "layout", s)
	if err != nil {
		return nil, nil, err
	}
	if m1.Descriptor.Digest != m2.Descriptor.Digest {
		return nil, nil, j.differ(differ.Image{Dir: first.Layout, Measured: m1}, differ.Image{Dir: second.Layout, Measured: m2})
	}
	return second, m2, os.RemoveAll(first.Layout)
}

func (j *run) differ(a, b differ.Image) error {
	lines, err := differ.Describe(a, b)
	if err != nil {
		lines = []string{"where they differ could not be told: " + err.Error()}
	}
	return &api.Error{
		Message: fmt.Sprintf("the two builds of a hermetic release differ: %s; %s\n  %s", a.Measured.Descriptor.Digest, b.Measured.Descriptor.Digest, strings.Join(lines, "\n  ")),
		Hint:    "the first value is that of the build with a network; a time, a random value or the order of work got into the image",
	}
}

// outsideTheLock fails where a build asked for what its lock does not have. It
// may have gone on without, and then the image depends on a refusal.
func outsideTheLock(denied []string) error {
	if len(denied) == 0 {
		return nil
	}
	const most = 5
	more := ""
	if len(denied) > most {
		more = fmt.Sprintf("\n  and %d more", len(denied)-most)
		denied = denied[:most]
	}
	return &api.Error{Message: "the build asked for what its lock does not have:\n  " + strings.Join(denied, "\n  ") + more,
		Hint: "make a new lock: colophon release --hermetic --write-lock FILE"}
}

// attachLock stores the lock at the image, before the provenance that names it.
func (p *proofs) attachLock(ctx context.Context, sum string) error {
	raw, err := strict.ReadFile(filepath.Join(p.Dir, "logs", sum), limits.Lock)
	if err != nil {
		return err
	}
	if err := p.awaitUpload(ctx); err != nil {
		return err
	}
	if _, err := oci.AttachFile(ctx, p.target, p.subject, attest.LockMediaType, raw, p.commit.Time); err != nil {
		return fmt.Errorf("attaching the lock: %w", err)
	}
	return nil
}

// lockDependency is the lock as a provenance names it.
func lockDependency(sum string) attest.ResourceDescriptor {
	return attest.ResourceDescriptor{Name: "lock", MediaType: attest.LockMediaType, Digest: map[string]string{"sha256": sum}}
}

// lockOf is the hex sha256 of the lock that a provenance names, or empty.
func lockOf(provenance []byte) string {
	e, err := attest.ParseProvenance(provenance)
	if err != nil {
		return ""
	}
	for _, d := range e.BuildDefinition.ResolvedDependencies {
		if d.Name == "lock" && d.MediaType == attest.LockMediaType {
			return d.Digest["sha256"]
		}
	}
	return ""
}
