package verify_test

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/colophon-build/colophon/attest"
	"github.com/colophon-build/colophon/policy"
	"github.com/colophon-build/colophon/source/track"
	"github.com/colophon-build/colophon/test/logtest"
	"github.com/colophon-build/colophon/test/prooftest"
	"github.com/colophon-build/colophon/tlog"
	"github.com/colophon-build/colophon/trust"
	"github.com/colophon-build/colophon/verify"
)

// tracked is an image of whose commit the policy demands Source level 3 and two reviewers.
type tracked struct {
	*scene
	by  policy.Verifier
	id  prooftest.Identity
	vsa *attest.VSA
	of  string // commit that the summary is about
}

func newTracked(t *testing.T) *tracked {
	c := &tracked{
		scene: newScene(t), of: prooftest.Commit, id: prooftest.Identity{SAN: verifierBy, Issuer: "https://idp.example.com"},
		by: policy.Verifier{ID: verifierID, Signer: policy.Identity{Name: verifierBy, Issuer: "https://idp.example.com"}},
	}
	c.p.Issuers = []string{"https://idp.example.com"}
	c.vsa = attest.SourceVSA(prooftest.Source, 3, 2, c.p.Now)
	c.vsa.Verifier.ID, c.vsa.Policy.URI = verifierID, "https://verifier.example.com/policy"
	c.r.Attach(prooftest.Kinds...)
	c.also = func(p *policy.Policy) {
		o := p.Origin.(policy.BuilderProvenance)
		o.SourceTrack, o.SourceVerifiers = policy.SourceTrack{MinLevel: 3, Reviewers: 2}, []policy.Verifier{c.by}
		p.Origin = o
	}
	return c
}

// sign signs the summary as it stands now.
func (c *tracked) sign() []byte {
	c.t.Helper()
	st, err := attest.NewSourceStatement(c.of, []string{"refs/heads/main"}, c.vsa)
	if err != nil {
		c.t.Fatal(err)
	}
	return c.p.Sign(c.id, st)
}

// TestSourceTrack: the last summary by the verifier that the policy names decides, about this
// commit in this repository.
func TestSourceTrack(t *testing.T) {
	past := time.Now().Add(-48 * time.Hour)
	for name, tt := range map[string]struct {
		bend    func(*tracked)
		outcome verify.Outcome
		status  verify.Status
		words   string
	}{
		"as it is":            {func(*tracked) {}, verify.Accepted, verify.Holds, "PASSED by " + verifierID},
		"a higher level":      {func(c *tracked) { c.vsa.VerifiedLevels[0] = "SLSA_SOURCE_LEVEL_4" }, verify.Accepted, verify.Holds, "SLSA_SOURCE_LEVEL_4"},
		"a lower level":       {func(c *tracked) { c.vsa.VerifiedLevels[0] = "SLSA_SOURCE_LEVEL_2" }, verify.Rejected, verify.Broken, "Source level: got 2, want 3"},
		"a Build level":       {func(c *tracked) { c.vsa.VerifiedLevels[0] = "SLSA_BUILD_LEVEL_3" }, verify.Rejected, verify.Broken, "Source level: got 0, want 3"},
		"too few reviewers":   {func(c *tracked) { c.vsa.VerifiedLevels[1] = "COLOPHON_SOURCE_REVIEWERS_1" }, verify.Rejected, verify.Broken, "got 1, want 2"},
		"failed":              {func(c *tracked) { c.vsa.VerificationResult = attest.VSAFailed }, verify.Rejected, verify.Broken, "result"},
		"too old":             {func(c *tracked) { c.by.MaxAge, c.vsa.TimeVerified = time.Hour, &past }, verify.Rejected, verify.Broken, "timeVerified"},
		"another commit":      {func(c *tracked) { c.of = strings.Repeat("ab", 20) }, verify.Undecided, verify.Unknown, "there is no summary"},
		"another repository":  {func(c *tracked) { c.vsa.ResourceURI = "git+https://git.example.com/evil/app" }, verify.Undecided, verify.Unknown, "resource: got"},
		"another verifier":    {func(c *tracked) { c.vsa.Verifier.ID += "r" }, verify.Undecided, verify.Unknown, "verifier: got"},
		"another signer":      {func(c *tracked) { c.id.SAN += "s" }, verify.Undecided, verify.Unknown, "signer: got"},
		"the image's builder": {func(c *tracked) { c.id = c.r.Identity }, verify.Undecided, verify.Unknown, "signer: got"},
		"another policy":      {func(c *tracked) { c.by.PolicyDigest = "sha256:" + strings.Repeat("ab", 32) }, verify.Undecided, verify.Unknown, "policy"},
	} {
		t.Run(name, func(t *testing.T) {
			c := newTracked(t)
			tt.bend(c)
			c.opts.Bundles = [][]byte{c.sign()}
			c.want(tt.outcome, verify.LinkTrack, tt.status, tt.words)
		})
	}
	t.Run("attached", func(t *testing.T) {
		c := newTracked(t)
		c.s.Attach(c.r.Image, c.sign(), attest.PredicateVSA)
		c.want(verify.Accepted, verify.LinkTrack, verify.Holds, "PASSED by "+verifierID)
	})
	t.Run("two, the last counts", func(t *testing.T) {
		c := newTracked(t)
		c.opts.Bundles = [][]byte{c.sign()}
		earlier := c.vsa.TimeVerified.Add(-time.Minute)
		c.vsa.TimeVerified = &earlier
		c.vsa.VerificationResult = attest.VSAFailed
		c.opts.Bundles = append(c.opts.Bundles, c.sign())
		c.want(verify.Rejected, verify.LinkTrack, verify.Broken, "result") // both were signed at the same time
	})
	t.Run("a summary of the image is none of its source", func(t *testing.T) {
		c := newTracked(t)
		st, err := attest.NewStatement("app", c.r.Image.Digest.Hex, attest.PredicateVSA, c.vsa)
		if err != nil {
			t.Fatal(err)
		}
		c.opts.Bundles = [][]byte{c.p.Sign(c.id, st)}
		c.want(verify.Undecided, verify.LinkTrack, verify.Unknown, "there is no summary")
	})
	t.Run("a summary of the source is none of the image", func(t *testing.T) {
		c := newTracked(t)
		c.also = func(p *policy.Policy) { p.Verifiers = []policy.Verifier{c.by} }
		c.opts.Bundles = [][]byte{c.sign()}
		if v := c.verdict(); v.Outcome != verify.Rejected {
			t.Errorf("got %v", v.Outcome)
		}
	})
	t.Run("one of the source and one of the image, by one verifier", func(t *testing.T) {
		c := newTracked(t)
		tracked, image := c.also, c.by
		image.Resource = "https://example.com/app"
		c.also = func(p *policy.Policy) {
			tracked(p)
			p.Verifiers = []policy.Verifier{image}
		}
		ofSource := c.sign()
		c.vsa.ResourceURI, c.vsa.VerifiedLevels = image.Resource, []string{"SLSA_BUILD_LEVEL_3"}
		st, err := attest.NewStatement("app", c.r.Image.Digest.Hex, attest.PredicateVSA, c.vsa)
		if err != nil {
			t.Fatal(err)
		}
		c.opts.Bundles = [][]byte{ofSource, c.p.Sign(c.id, st)}
		c.want(verify.Accepted, verify.LinkTrack, verify.Holds, "PASSED by "+verifierID)
		image.Resource = prooftest.Source // of the summary about the commit
		c.opts.Bundles = [][]byte{ofSource}
		if v := c.verdict(); v.Outcome == verify.Accepted {
			t.Error("the summary of the commit was accepted for one of the image")
		}
	})
}

// TestSourceTrackAgainst: FAILED counts also in a statement about several commits. Under a stale trust
// root, it makes the verdict undecided.
func TestSourceTrackAgainst(t *testing.T) {
	t.Run("of several commits", func(t *testing.T) {
		c := newTracked(t)
		c.opts.Bundles = [][]byte{c.sign()}
		c.vsa.VerificationResult = attest.VSAFailed
		raw, err := attest.NewSourceStatement(strings.Repeat("ab", 20), nil, c.vsa)
		if err != nil {
			t.Fatal(err)
		}
		var st map[string]any
		if err := json.Unmarshal(raw, &st); err != nil {
			t.Fatal(err)
		}
		st["subject"] = append(st["subject"].([]any), map[string]any{"digest": map[string]any{attest.GitCommit: c.of}})
		if raw, err = json.Marshal(st); err != nil {
			t.Fatal(err)
		}
		c.opts.Bundles = append(c.opts.Bundles, c.p.Sign(c.id, raw))
		c.want(verify.Rejected, verify.LinkTrack, verify.Broken, "result")
	})
	for _, passed := range []bool{true, false} {
		t.Run(fmt.Sprintf("under a stale trust root, passed before: %t", passed), func(t *testing.T) {
			c, old := newTracked(t), prooftest.New(t)
			old.Issuers = c.p.Issuers
			fresh, stale := c.p.Root(), old.Root()
			fresh.Repository = &trust.Repository{URL: "https://r.example.com", Refreshed: c.now}
			stale.Repository = &trust.Repository{URL: "https://r.example.com", Refreshed: c.now.Add(-48 * time.Hour)}
			c.opts.Trust = []*trust.Root{fresh, stale}
			tracked := c.also
			c.also = func(p *policy.Policy) {
				p.MaxTrustAge = time.Hour
				tracked(p)
			}
			c.opts.TrackCheck = func(context.Context, string, string, string) (track.Result, error) {
				return track.Result{Level: 4, Possible: 4, Reviewers: 2}, nil
			}
			if passed {
				c.opts.Bundles = [][]byte{c.sign()}
			}
			c.want(verify.Accepted, verify.LinkTrack, verify.Holds, "")
			c.vsa.VerificationResult = attest.VSAFailed
			old.Clock, c.now = c.p.Clock.Add(10*time.Second), c.now.Add(time.Minute)
			c.p = old
			c.opts.Bundles = append(c.opts.Bundles, c.sign())
			c.want(verify.Undecided, verify.LinkTrack, verify.Unknown, "its trust root is stale")
		})
	}
}

// TestSourceTrackWitnesses: a summary that passed needs the witnesses that the policy demands; one
// that failed counts without them.
func TestSourceTrackWitnesses(t *testing.T) {
	w := logtest.Cosigner(t, "a.example/w")
	for name, tt := range map[string]struct {
		result    string
		witnesses []*tlog.Cosigner
		want      verify.Outcome
	}{
		"seen":             {attest.VSAPassed, []*tlog.Cosigner{w}, verify.Accepted},
		"not seen":         {attest.VSAPassed, nil, verify.Undecided},
		"failed":           {attest.VSAFailed, []*tlog.Cosigner{w}, verify.Rejected},
		"failed, not seen": {attest.VSAFailed, nil, verify.Rejected},
	} {
		t.Run(name, func(t *testing.T) {
			c := newTracked(t)
			c.s, c.p.Witnesses = prooftest.NewStore(t), []*tlog.Cosigner{w}
			c.r = c.p.Release(c.s)
			c.r.Attach(prooftest.Kinds...)
			tracked := c.also
			c.also = func(p *policy.Policy) {
				p.Witnesses = policy.Witnesses{AtLeast: 1, Keys: []string{w.Key.String()}}
				tracked(p)
			}
			c.p.Witnesses, c.vsa.VerificationResult = tt.witnesses, tt.result
			c.opts.Bundles = [][]byte{c.sign()}
			if v := c.verdict(); v.Outcome != tt.want {
				t.Errorf("got %v: %s, want %v", v.Outcome, v.Why(), tt.want)
			}
		})
	}
}

// TestSourceTrackOfForge: without a summary, the forge's answer decides, and what it does not
// show is undecided.
func TestSourceTrackOfForge(t *testing.T) {
	for name, tt := range map[string]struct {
		r       track.Result
		err     error
		outcome verify.Outcome
		status  verify.Status
		words   string
	}{
		"good":      {track.Result{Level: 4, Possible: 4, Reviewers: 2}, nil, verify.Accepted, verify.Holds, "Source L4, reviewers other than the author: 2"},
		"too low":   {track.Result{Level: 2, Possible: 2, Reviewers: 2}, nil, verify.Rejected, verify.Broken, "Source level: got 2, want 3"},
		"too few":   {track.Result{Level: 4, Possible: 4, Reviewers: 1}, nil, verify.Rejected, verify.Broken, "got 1, want 2"},
		"not known": {track.Result{Level: 1, Possible: 4, Reviewers: 2}, nil, verify.Undecided, verify.Unknown, "not known"},
		"no answer": {track.Result{}, errors.New("no route"), verify.Undecided, verify.Unknown, "no route"},
		"nothing":   {track.Result{}, nil, verify.Rejected, verify.Broken, "got 0"},
	} {
		t.Run(name, func(t *testing.T) {
			c := newTracked(t)
			c.opts.TrackCheck = func(_ context.Context, uri, ref, commit string) (track.Result, error) {
				if uri != prooftest.Source || ref != prooftest.Ref || commit != prooftest.Commit {
					t.Errorf("got %s, %s, %s", uri, ref, commit)
				}
				return tt.r, tt.err
			}
			c.want(tt.outcome, verify.LinkTrack, tt.status, tt.words)
		})
	}
	t.Run("not asked", func(t *testing.T) {
		c := newTracked(t)
		c.want(verify.Undecided, verify.LinkTrack, verify.Unknown, "the forge was not asked")
	})
	t.Run("not demanded", func(t *testing.T) {
		c := newTracked(t)
		c.also = nil
		c.opts.TrackCheck = func(context.Context, string, string, string) (track.Result, error) {
			t.Error("a forge was asked that no policy demands")
			return track.Result{}, nil
		}
		for _, l := range c.verdict().Links {
			if l.Name == verify.LinkTrack {
				t.Errorf("got %+v", l)
			}
		}
	})
	t.Run("no valid provenance", func(t *testing.T) {
		c := newTracked(t)
		c.wants.Source = "https://git.example.com/team/other"
		c.opts.TrackCheck = func(context.Context, string, string, string) (track.Result, error) {
			t.Error("the forge of a provenance that is not accepted was asked")
			return track.Result{}, nil
		}
		c.want(verify.Rejected, verify.LinkTrack, verify.NotAsked, "no valid provenance")
	})
}

// TestSourceTrackIsNotRemembered: a forge may answer otherwise the next time.
func TestSourceTrackIsNotRemembered(t *testing.T) {
	c := newTracked(t)
	c.opts.Trust = []*trust.Root{c.p.Root()}
	c.opts.Policy = demanded(t, c.wants)
	c.also(&c.opts.Policy)
	asked := 0
	c.opts.TrackCheck = func(context.Context, string, string, string) (track.Result, error) {
		asked++
		return track.Result{Level: 4, Possible: 4, Reviewers: 2}, nil
	}
	cache := verify.Cache{Age: time.Hour, Size: 8}
	for range 2 {
		if v := cache.Image(t.Context(), c.s, "v1.2.0", c.now, c.opts); v.Outcome != verify.Accepted {
			t.Fatal(v.Why())
		}
	}
	if asked != 2 {
		t.Errorf("the forge was asked %d times, want 2", asked)
	}
}
