package verify_test

import (
	"crypto/sha256"
	"encoding/json"
	"errors"
	"fmt"
	"strings"
	"testing"

	"github.com/colophon-build/colophon/attest"
	"github.com/colophon-build/colophon/oci"
	"github.com/colophon-build/colophon/policy"
	"github.com/colophon-build/colophon/provenance"
	"github.com/colophon-build/colophon/test/prooftest"
	"github.com/colophon-build/colophon/verify"
)

var aLock = []byte(`{"version":1,"fetches":[]}`)

func lockNamed(digest map[string]string) attest.ResourceDescriptor {
	return attest.ResourceDescriptor{Name: "lock", MediaType: attest.LockMediaType, Digest: digest}
}

// TestPinned: a provenance that claims to be hermetic, or locked, names the lock. How it is
// read is tested in package provenance.
func TestPinned(t *testing.T) {
	sum := fmt.Sprintf("%x", sha256.Sum256(aLock))
	right := lockNamed(map[string]string{"sha256": sum})
	type change = func(*prooftest.Release)
	depends := func(deps ...attest.ResourceDescriptor) change {
		return func(r *prooftest.Release) {
			d := &r.Provenance.BuildDefinition.ResolvedDependencies
			*d = append(*d, deps...)
		}
	}
	hermetic := func(r *prooftest.Release) { r.Parameters.Hermetic = true }
	locked := func(r *prooftest.Release) { r.Parameters.Lock = "sha256:" + sum }
	golang := func(r *prooftest.Release) {
		r.Provenance.BuildDefinition.BuildType = attest.BuildTypeGolang
		r.Parameters.Recipe = json.RawMessage(`{"builder":"golang","package":"."}`)
		r.Parameters.Default.Recipe = attest.Recipe{Builder: attest.Golang, Package: "."}
	}
	for name, tt := range map[string]struct {
		changes  []change
		reason   string // empty: accepted
		evidence string
	}{
		"neither":                 {nil, "", "agree with the certificate"},
		"hermetic":                {[]change{hermetic, depends(right)}, "", "hermetic: built again from the lock sha256:" + sum},
		"locked":                  {[]change{locked, depends(right)}, "", "built only with the downloads listed in the lock sha256:" + sum},
		"hermetic without a lock": {[]change{hermetic}, "hermetic, and the resolved dependencies name no lock", ""},
		"locked without a lock":   {[]change{locked}, "name no lock", ""},
		"golang":                  {[]change{golang, hermetic}, "", "hermetic: built twice"},
		"golang with a lock":      {[]change{golang, locked, depends(right)}, "want none for build type", ""},
	} {
		t.Run(name, func(t *testing.T) {
			c := newScene(t)
			for _, f := range tt.changes {
				f(c.r)
			}
			if lock := c.r.Parameters.Lock; lock != "" { // the requester chose it
				c.wants.Recipe = &policy.DocumentRecipe{Lock: lock}
			}
			c.r.Attach(prooftest.Kinds...)
			if tt.reason != "" {
				c.want(verify.Rejected, verify.LinkProvenance, verify.Broken, tt.reason)
				return
			}
			c.want(verify.Accepted, verify.LinkProvenance, verify.Holds)
			r := requirement(t, c.verdict(), "consistent build process")
			if r.Status != provenance.IsMet || !strings.Contains(r.Evidence, tt.evidence) || strings.Contains(r.Evidence, "hermetic") != c.r.Parameters.Hermetic {
				t.Errorf("got %+v, want it met, for %q", r, tt.evidence)
			}
		})
	}
}

// TestAttachedLock: a lock beside the image is the one that the provenance names.
func TestAttachedLock(t *testing.T) {
	sum := fmt.Sprintf("%x", sha256.Sum256(aLock))
	attach := func(content []byte) func(*scene) {
		return func(c *scene) { c.s.AttachFile(c.r.Image, content, attest.LockMediaType) }
	}
	fails := func(err error) func(*scene) {
		return func(c *scene) { c.s.Fail[c.s.AttachFile(c.r.Image, aLock, attest.LockMediaType).Digest.String()] = err }
	}
	foreign := func(c *scene) {
		c.s.AttachFile(c.r.Layers[0], []byte("another image's"), attest.LockMediaType)
	}
	for name, tt := range map[string]struct {
		beside   []func(*scene)
		status   verify.Status
		reason   string
		evidence string
	}{
		"none":                         {nil, verify.Holds, "", "the lock is not attached"},
		"the one":                      {[]func(*scene){attach(aLock)}, verify.Holds, "", "the lock is attached"},
		"another one":                  {[]func(*scene){attach([]byte("{}"))}, verify.Broken, "the provenance names sha256:" + sum, ""},
		"another one, too":             {[]func(*scene){attach([]byte("{}")), attach(aLock), attach([]byte("[]"))}, verify.Holds, "", "the lock is attached"},
		"one of another image":         {[]func(*scene){foreign}, verify.Holds, "", "the lock is not attached"},
		"other bytes under its digest": {[]func(*scene){fails(fmt.Errorf("%w: got other bytes", oci.ErrMismatch))}, verify.Broken, "got other bytes", ""},
		"it cannot be read":            {[]func(*scene){attach([]byte("{}")), fails(errors.New("connection reset"))}, verify.Holds, "", "connection reset"},
	} {
		t.Run(name, func(t *testing.T) {
			c := newScene(t)
			c.r.Parameters.Hermetic = true
			deps := &c.r.Provenance.BuildDefinition.ResolvedDependencies
			*deps = append(*deps, lockNamed(map[string]string{"sha256": sum}))
			c.r.Attach(prooftest.Kinds...)
			for _, f := range tt.beside {
				f(c)
			}
			outcome := verify.Accepted
			if tt.status != verify.Holds {
				outcome = verify.Rejected
			}
			c.want(outcome, verify.LinkProvenance, tt.status, tt.reason)
			if r := requirement(t, c.verdict(), "consistent build process"); !strings.Contains(r.Evidence, tt.evidence) {
				t.Errorf("got %+v, want %q", r, tt.evidence)
			}
		})
	}
	// A flood of other files hides no lock.
	c := newScene(t)
	c.r.Parameters.Hermetic = true
	deps := &c.r.Provenance.BuildDefinition.ResolvedDependencies
	*deps = append(*deps, lockNamed(map[string]string{"sha256": sum}))
	c.s.AttachFile(c.r.Image, aLock, attest.LockMediaType)
	for i := range 600 {
		c.s.AttachFile(c.r.Image, fmt.Append(nil, "junk ", i), "application/octet-stream")
	}
	c.s.AttachFile(c.r.Image, []byte("{}"), attest.LockMediaType)
	c.r.Attach(prooftest.Kinds...)
	c.want(verify.Accepted, verify.LinkProvenance, verify.Holds)
}

// TestUnreadReferrerHidesNoOtherLock: a referrer that cannot be read could be the
// lock, so another lock beside it is neither accepted nor held against the image.
func TestUnreadReferrerHidesNoOtherLock(t *testing.T) {
	c := newScene(t)
	c.r.Parameters.Hermetic = true
	deps := &c.r.Provenance.BuildDefinition.ResolvedDependencies
	*deps = append(*deps, lockNamed(map[string]string{"sha256": fmt.Sprintf("%x", sha256.Sum256(aLock))}))
	c.r.Attach(prooftest.Kinds...)
	c.s.AttachFile(c.r.Image, []byte("{}"), attest.LockMediaType)
	_, unreadable := c.s.Attach(c.r.Image, []byte("junk"), "https://example.com/other")
	c.s.Fail[unreadable.Digest.String()] = errors.New("connection reset")
	c.want(verify.Undecided, verify.LinkProvenance, verify.Unknown)
}
