package verify_test

import (
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"strings"
	"testing"
	"time"

	v1 "github.com/google/go-containerregistry/pkg/v1"

	"github.com/colophon-build/colophon/attest"
	"github.com/colophon-build/colophon/policy"
	"github.com/colophon-build/colophon/test/prooftest"
	"github.com/colophon-build/colophon/trust"
	"github.com/colophon-build/colophon/verify"
)

const (
	verifierID = "https://verifier.example.com/release"
	verifierBy = "https://ci.example.com/verifier"
)

// verified is an image that carries nothing but a verification summary.
type verified struct {
	*scene
	by  policy.DocumentVerifier
	id  prooftest.Identity
	vsa attest.VSA
}

func newVerified(t *testing.T) *verified {
	c := &verified{scene: newScene(t), by: policy.DocumentVerifier{ID: verifierID, Signer: policy.DocumentSigner{Identity: verifierBy, Issuer: "https://idp.example.com"}}}
	c.p.Issuers = []string{"https://idp.example.com"}
	c.id = prooftest.Identity{SAN: verifierBy, Issuer: "https://idp.example.com"}
	at := c.p.Now
	c.vsa = attest.VSA{
		Verifier: attest.VSAVerifier{ID: verifierID}, TimeVerified: &at, ResourceURI: attest.ImageURI("127.0.0.1:8080/team/app"),
		Policy:             attest.ResourceDescriptor{URI: "https://verifier.example.com/policy", Digest: map[string]string{"sha256": strings.Repeat("ab", 32)}},
		VerificationResult: attest.VSAPassed, VerifiedLevels: []string{"SLSA_BUILD_LEVEL_3", "SLSA_SOURCE_LEVEL_2"}, SLSAVersion: "1.2",
	}
	return c
}

// attach signs the summary as it stands now, and attaches it.
func (c *verified) attach() { c.attachAbout(c.r.Image.Digest.Hex) }

func (c *verified) attachAbout(digest string) {
	c.t.Helper()
	st, err := attest.NewStatement("app", digest, attest.PredicateVSA, c.vsa)
	if err != nil {
		c.t.Fatal(err)
	}
	c.s.Attach(c.r.Image, c.p.Sign(c.id, st), attest.PredicateVSA)
}

// demand has the policy trust the verifier, and nobody else.
func (c *verified) demand() {
	c.wants = policy.Document{Verifiers: []policy.DocumentVerifier{c.by}}
	c.opts.Policy = demanded(c.t, c.wants)
}

func TestSummaryInPlaceOfAChain(t *testing.T) {
	c := newVerified(t)
	c.attach()
	c.demand()
	c.want(verify.Accepted, verify.LinkSummary, verify.Holds, "PASSED by "+verifierID, "SLSA_BUILD_LEVEL_3", "pkg:oci/app")
	c.want(verify.Accepted, verify.LinkProvenance, verify.NotAsked, "verifier")
	if v := c.verdict(); v.Level != 3 || v.Requirements != nil {
		t.Errorf("got level %d, %+v", v.Level, v.Requirements)
	}
	// The image itself is read all the same.
	c.s.Tamper(c.r.Layers[0].Digest, []byte("x"))
	c.want(verify.Rejected, verify.LinkImage, verify.Broken)
}

// TestSummaryHeldToThePolicy: each step of "How to verify", with what comes near.
func TestSummaryHeldToThePolicy(t *testing.T) {
	past := time.Now().Add(-48 * time.Hour)
	for name, tt := range map[string]struct {
		bend   func(*verified)
		reason string // empty: accepted
	}{
		"as it is":             {func(*verified) {}, ""},
		"failed":               {func(c *verified) { c.vsa.VerificationResult = attest.VSAFailed }, "result: got \"FAILED\""},
		"result in other case": {func(c *verified) { c.vsa.VerificationResult = "Passed" }, "result"},
		"another verifier":     {func(c *verified) { c.vsa.Verifier.ID += "r" }, "verifier: got"},
		"less of the verifier": {func(c *verified) { c.vsa.Verifier.ID = "https://verifier.example.com/" }, "verifier: got"},
		"another signer":       {func(c *verified) { c.id.SAN += "s" }, "signer: got"},
		"another issuer":       {func(c *verified) { c.id.Issuer = "https://idp.example.com.evil" }, "issuer of the signer's certificate"},
		"a platform's builder": {func(c *verified) { c.id = c.r.Identity }, "signer: got"},
		"another resource":     {func(c *verified) { c.vsa.ResourceURI = attest.ImageURI("127.0.0.1:8080/team/apps") }, "resource: got"},
		"another host":         {func(c *verified) { c.vsa.ResourceURI = attest.ImageURI("127.0.0.1:80/team/app") }, "resource: got"},
		"resource demanded": {func(c *verified) {
			c.by.Resource, c.vsa.ResourceURI = "https://dl.example.com/app", "https://dl.example.com/app"
		}, ""},
		"resource, a slash more": {func(c *verified) {
			c.by.Resource, c.vsa.ResourceURI = "https://dl.example.com/app", "https://dl.example.com/app/"
		}, "resource: got"},
		"name, another demanded":     {func(c *verified) { c.by.Resource = "https://dl.example.com/app" }, "resource: got"},
		"policy demanded":            {func(c *verified) { c.by.PolicyDigest = "sha256:" + strings.Repeat("ab", 32) }, ""},
		"another policy":             {func(c *verified) { c.by.PolicyDigest = "sha256:" + strings.Repeat("ac", 32) }, "policy of the summary"},
		"no policy digest":           {func(c *verified) { c.by.PolicyDigest, c.vsa.Policy.Digest = "sha256:"+strings.Repeat("ab", 32), nil }, "policy of the summary"},
		"level demanded":             {func(c *verified) { c.by.Levels = []string{"SLSA_BUILD_LEVEL_2", "SLSA_SOURCE_LEVEL_2"} }, ""},
		"level not reached":          {func(c *verified) { c.by.Levels = []string{"SLSA_SOURCE_LEVEL_3"} }, "verified levels"},
		"level of another track":     {func(c *verified) { c.by.Levels = []string{"SLSA_BUILDENV_LEVEL_1"} }, "verified levels"},
		"fresh":                      {func(c *verified) { c.by.MaxAge = "24h" }, ""},
		"too old":                    {func(c *verified) { c.by.MaxAge, c.vsa.TimeVerified = "24h", &past }, "want within the last 24h"},
		"of no age":                  {func(c *verified) { c.by.MaxAge, c.vsa.TimeVerified = "24h", nil }, "timeVerified: got none"},
		"no time, any age":           {func(c *verified) { c.vsa.TimeVerified = nil }, ""},
		"verified after it was made": {func(c *verified) { after := c.p.Clock.Add(2 * time.Hour); c.vsa.TimeVerified = &after }, "timeVerified of the summary"},
		"two levels of a track":      {func(c *verified) { c.vsa.VerifiedLevels = append(c.vsa.VerifiedLevels, "SLSA_BUILD_LEVEL_2") }, "more than one level"},
		"passed, with no level":      {func(c *verified) { c.vsa.VerifiedLevels = []string{} }, "verified levels"},
	} {
		t.Run(name, func(t *testing.T) {
			c := newVerified(t)
			tt.bend(c)
			c.attach()
			c.demand()
			if tt.reason == "" {
				c.want(verify.Accepted, verify.LinkSummary, verify.Holds)
			} else {
				c.want(verify.Rejected, verify.LinkSummary, verify.Broken, tt.reason)
			}
		})
	}
}

// TestSummaryAsDemanded: what depends on more than the fields of a summary.
func TestSummaryAsDemanded(t *testing.T) {
	t.Run("minimum level", func(t *testing.T) {
		c := newVerified(t)
		c.vsa.VerifiedLevels = []string{"SLSA_BUILD_LEVEL_2"}
		c.attach()
		c.demand()
		c.wants.MinLevel = 2
		c.want(verify.Accepted, verify.LinkSummary, verify.Holds)
		c.wants.MinLevel = 3
		c.want(verify.Rejected, verify.LinkSummary, verify.Broken, "got 2, want at least 3")
	})
	t.Run("about another image", func(t *testing.T) {
		c := newVerified(t)
		c.attachAbout(strings.Repeat("ab", 32))
		c.demand()
		c.want(verify.Rejected, verify.LinkSummary, verify.Broken, "subject of the statement")
	})
	t.Run("none", func(t *testing.T) {
		c := newVerified(t)
		c.r.Attach(prooftest.Kinds...)
		c.demand()
		c.want(verify.Rejected, verify.LinkSummary, verify.Absent)
	})
	t.Run("cannot be listed", func(t *testing.T) {
		c := newVerified(t)
		c.attach()
		c.s.FailListing = context.DeadlineExceeded
		c.demand()
		c.want(verify.Undecided, verify.LinkSummary, verify.Unknown)
	})
	t.Run("of a layout, whose name nobody knows", func(t *testing.T) {
		c := newVerified(t)
		c.attach()
		c.demand()
		c.opts.Layout = true
		c.want(verify.Rejected, verify.LinkSummary, verify.Broken, "does not say which resource to expect")
		c.by.Resource = c.vsa.ResourceURI
		c.demand()
		c.want(verify.Accepted, verify.LinkSummary, verify.Holds)
	})
}

// TestLastSummaryCounts: what a verifier said before is overtaken by what it
// says now, in whatever order it is found.
func TestLastSummaryCounts(t *testing.T) {
	for name, results := range map[string][2]string{"failed after it passed": {attest.VSAPassed, attest.VSAFailed}, "passed after it failed": {attest.VSAFailed, attest.VSAPassed}} {
		for _, later := range []int{0, 1} {
			c := newVerified(t)
			start := c.p.Clock
			for i := range 2 {
				// Which is attached first, and which is signed first.
				at := (i + later) % 2
				c.p.Clock = start.Add(time.Duration(at) * time.Minute)
				c.vsa.VerificationResult = results[at]
				c.attach()
			}
			c.demand()
			want := map[string]verify.Outcome{attest.VSAPassed: verify.Accepted, attest.VSAFailed: verify.Rejected}[results[1]]
			if v := c.verdict(); v.Outcome != want {
				t.Errorf("%s: got %s, want %s", name, v.Outcome, want)
			}
		}
	}
	// A stranger's failure takes nothing away.
	c := newVerified(t)
	c.attach()
	c.vsa.VerificationResult, c.id.SAN = attest.VSAFailed, verifierBy+"x"
	c.attach()
	c.demand()
	c.want(verify.Accepted, verify.LinkSummary, verify.Holds)
}

// TestChainAndSummary: a policy that names both wants both.
func TestChainAndSummary(t *testing.T) {
	for name, tt := range map[string]struct {
		chain, summary bool
		want           verify.Outcome
	}{"both": {true, true, verify.Accepted}, "the chain alone": {true, false, verify.Rejected}, "the summary alone": {false, true, verify.Rejected}} {
		c := newVerified(t)
		if tt.chain {
			c.r.Attach(prooftest.Kinds...)
		}
		if tt.summary {
			c.attach()
		}
		c.wants.Verifiers = []policy.DocumentVerifier{c.by}
		v := c.verdict()
		if v.Outcome != tt.want {
			t.Errorf("%s: got %s, want %s", name, v.Outcome, tt.want)
		}
		// The level is that of the chain, never the summary's.
		if tt.chain && v.Level != 2 {
			t.Errorf("%s: got level %d, want 2", name, v.Level)
		}
	}
}

// TestSummaryOfFile: the same for a file with its bundle.
func TestSummaryOfFile(t *testing.T) {
	c := newVerified(t)
	content := []byte("a file")
	f := fileOf(content)
	c.vsa.ResourceURI = "https://dl.example.com/app.tar.gz"
	st, err := attest.NewStatement("app.tar.gz", f.Digest.Hex, attest.PredicateVSA, c.vsa)
	if err != nil {
		t.Fatal(err)
	}
	bundle := c.p.Sign(c.id, st)
	c.by.Resource = c.vsa.ResourceURI
	c.demand()
	c.opts.Trust = []*trust.Root{c.p.PlainRoot(c.id.Issuer)}
	if v := verify.Bundled(context.Background(), f, [][]byte{bundle}, c.now, c.opts); v.Outcome != verify.Accepted || v.Level != 3 {
		t.Errorf("got %+v", v)
	}
	if v := verify.Bundled(context.Background(), fileOf([]byte("b file")), [][]byte{bundle}, c.now, c.opts); v.Outcome != verify.Rejected {
		t.Errorf("another file: got %+v", v)
	}
	c.by.Resource = ""
	c.demand()
	if v := verify.Bundled(context.Background(), f, [][]byte{bundle}, c.now, c.opts); v.Outcome != verify.Rejected || !strings.Contains(v.Why(), "does not say which resource") {
		t.Errorf("no resource demanded: got %+v", v)
	}
	c.by.Resource = "https://dl.example.com/app.tar.gz"
	c.demand()
	if v := verify.Bundled(context.Background(), f, nil, c.now, c.opts); v.Outcome != verify.Rejected {
		t.Errorf("no bundle: got %+v", v)
	}
}

func fileOf(content []byte) verify.File {
	sum := sha256.Sum256(content)
	return verify.File{Name: "app.tar.gz", Digest: v1.Hash{Algorithm: "sha256", Hex: hex.EncodeToString(sum[:])}, Size: int64(len(content)), Content: bytes.NewReader(content)}
}

// TestSummaryOfVerdict: what is issued says what was decided, and no more.
func TestSummaryOfVerdict(t *testing.T) {
	c := newScene(t)
	c.r.Attach(prooftest.Kinds...)
	p := attest.ResourceDescriptor{URI: "https://example.com/policy"}
	issue := func(v *verify.Verdict) (*attest.VSA, error) {
		return v.Summary(verifierID, "https://example.com/app", p, time.Now())
	}
	if s, err := issue(c.verdict()); err != nil || s.VerificationResult != attest.VSAPassed || s.VerifiedLevels[0] != "SLSA_BUILD_LEVEL_2" || s.BuildLevel() != 2 {
		t.Errorf("accepted: got %+v, %v", s, err)
	}
	c.wants.Source = "git.example.com/team/other"
	if s, err := issue(c.verdict()); err != nil || s.VerificationResult != attest.VSAFailed || len(s.VerifiedLevels) != 1 || s.BuildLevel() != 0 {
		t.Errorf("rejected: got %+v, %v", s, err)
	}
	if s, err := issue(&verify.Verdict{Digest: "sha256:00"}); err == nil {
		t.Errorf("undecided: got %+v", s)
	}
	if s, err := issue(&verify.Verdict{Digest: "sha256:00", Outcome: verify.Accepted}); err != nil || s.VerifiedLevels[0] != attest.BuildUnevaluated {
		t.Errorf("only who signed: got %+v, %v", s, err)
	}
	if s, err := (&verify.Verdict{Digest: "sha256:00", Outcome: verify.Accepted}).Summary("me", "https://example.com/app", p, time.Now()); err == nil {
		t.Errorf("a verifier that is no URI: got %+v", s)
	}
}

// TestSummariesAtOneTime: of two at the same time, the one that failed counts.
func TestSummariesAtOneTime(t *testing.T) {
	for _, results := range [][]string{{attest.VSAPassed, attest.VSAFailed}, {attest.VSAFailed, attest.VSAPassed}} {
		c := newVerified(t)
		for _, c.vsa.VerificationResult = range results {
			c.attach()
		}
		c.demand()
		c.want(verify.Rejected, verify.LinkSummary, verify.Broken, "result: got \"FAILED\"")
	}
}
