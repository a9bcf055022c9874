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

// checkPinning checks the request's lock before anything is fetched. At this point the
// builder may not be known yet.
func (j *run) checkPinning() error {
	switch {
	case j.req.Lock != "" && j.req.Hermetic:
		return &api.Error{Message: "a hermetic release writes its own lock, but this request has a lock", Hint: "use --locked to build once from a lock, or --hermetic to write a new lock", Kind: api.Usage}
	case j.req.Lock != "" && j.req.Recipe.Builder == "golang":
		return &api.Error{Message: "the golang builder takes no lock, because go.sum is its lock", Kind: api.Usage}
	case j.req.CacheMounts:
		return j.checkCacheMounts()
	case j.req.Lock == "":
		return nil
	}
	lock, err := builder.ParseLock([]byte(j.req.Lock))
	if err != nil {
		return &api.Error{Message: err.Error(), Hint: "write a lock with: colophon release --hermetic --write-lock FILE", Kind: api.Usage, Member: "lock"}
	}
	return j.pin(lock)
}

// canPin returns an error if the request needs a recording or replaying gateway and
// this release has none.
func (j *run) canPin() error {
	switch {
	case j.recipe.Builder == "golang" && j.req.Lock != "":
		return &api.Error{Message: "the golang builder takes no lock, because go.sum is its lock", Kind: api.Usage}
	case j.recipe.Builder == "golang" || j.req.Lock == "" && !j.req.Hermetic || j.hasRoom():
		return nil
	}
	return &api.Error{Message: "this platform has no gateway for its builds, so it can neither record nor replay their downloads", Hint: "the platform's /readyz lists what its host lacks"}
}

// pin makes the following builds use the lock, and stores the lock in Dir/logs.
func (j *run) pin(lock *builder.Lock) error {
	raw, err := lock.Marshal()
	if err != nil {
		return err
	}
	j.lock = lock
	j.lockSum, err = keepFile(filepath.Join(j.Dir, "logs"), raw)
	return err
}

// buildTwice builds once and records the downloads, then builds again in a new room
// that gets only these downloads. It returns the second result, but only if both
// results are equal: if they differ, the image depends on something besides the
// commit and the lock.
//
// The golang builder needs no lock: go.sum pins its downloads, and compiling uses no
// network. Its two results must be equal too.
func (j *run) buildTwice(ctx context.Context) (*attempt, *oci.Measured, error) {
	first, m1, err := j.buildOnce(ctx, "layout-1", builder.Session{Record: true})
	if err != nil {
		return nil, nil, err
	}
	s := builder.Session{}
	if j.hasRoom() {
		lock, err := builder.LockOf(first.record.Exchanges)
		if err != nil {
			return nil, nil, refuseToSign(fmt.Errorf("writing a lock of the build's downloads: %w", err))
		}
		lock.Git = j.lockedGit()
		if err := j.pin(lock); err != nil {
			return nil, nil, err
		}
		s = builder.Session{Lock: lock, Sealed: true}
		j.emit(api.Event{Phase: "build", Line: fmt.Sprintf("%d fetches are in the lock sha256:%s; building again from the lock, without a network", len(lock.Fetches), j.lockSum)})
	}
	second, m2, err := j.buildOnce(ctx, "layout", s)
	if err != nil {
		return nil, nil, err
	}
	if m1.Descriptor.Digest != m2.Descriptor.Digest {
		if len(m1.Files) > 0 {
			return nil, nil, filesDiffer(m1, m2)
		}
		return nil, nil, j.differ(ctx, differ.Image{Dir: first.Layout, Measured: m1}, differ.Image{Dir: second.Layout, Measured: m2})
	}
	return second, m2, os.RemoveAll(first.Layout)
}

func (j *run) differ(ctx context.Context, a, b differ.Image) error {
	var found imageAnswer
	err := j.image.Do(ctx, imageOrder{Compare: &[2]differ.Image{a, b}}, &found)
	lines := found.Differences
	if err != nil {
		lines = []string{"cannot tell where they differ: " + err.Error()}
	}
	return &api.Error{
		Message: fmt.Sprintf("the two builds of a hermetic release differ: %s; %s\n  %s", a.Measured.Descriptor.Digest, b.Measured.Descriptor.Digest, strings.Join(lines, "\n  ")),
		Hint:    "the first value is from the build with a network; look for a time, a random value or an order of work that gets into the image",
	}
}

// outsideTheLock returns an error if a build requested something that its lock lacks.
// The build may have continued without it; then the image depends on the denial.
func outsideTheLock(denied []string) error {
	if len(denied) == 0 {
		return nil
	}
	const shown = 5
	more := ""
	if len(denied) > shown {
		more = fmt.Sprintf("\n  and %d more", len(denied)-shown)
		denied = denied[:shown]
	}
	return &api.Error{Message: "the build requested downloads that its lock does not list:\n  " + strings.Join(denied, "\n  ") + more,
		Hint: "write a new lock with: colophon release --hermetic --write-lock FILE"}
}

// attachLock attaches the lock to the image. It runs before the provenance, which names
// the lock, is attached.
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

// lockDependency returns the entry for the lock in a provenance's resolvedDependencies.
func lockDependency(sum string) attest.ResourceDescriptor {
	return attest.ResourceDescriptor{Name: "lock", MediaType: attest.LockMediaType, Digest: map[string]string{"sha256": sum}}
}

// lockOf returns the hex sha256 of the lock that a provenance names; "" if none.
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
