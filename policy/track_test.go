package policy

import (
	"strings"
	"testing"
	"time"

	"github.com/colophon-build/colophon/attest"
)

// TestSourceTrack: a Source VSA has what is demanded only if it says so.
func TestSourceTrack(t *testing.T) {
	for _, bad := range []SourceTrack{{MinLevel: 5}, {MinLevel: -1}, {Reviewers: 17}, {Reviewers: -1}} {
		if bad.Check() == nil {
			t.Errorf("%+v passes", bad)
		}
	}
	verifier := Verifier{ID: "https://example.com/source", Signer: Identity{Name: "ada", Issuer: "https://idp.example.com"}}
	at, err := ParseSource("git.example.com/team/app")
	if err != nil {
		t.Fatal(err)
	}
	for _, c := range []struct {
		p    Provenance
		good bool
	}{
		{Provenance{Source: at, SourceTrack: SourceTrack{MinLevel: 3}, SourceVerifiers: []Verifier{verifier}}, true},
		{Provenance{Source: at, SourceTrack: SourceTrack{Reviewers: 1}}, true},
		{Provenance{Source: AnySource(), SourceTrack: SourceTrack{MinLevel: 3}}, false},
		{Provenance{Source: at, SourceVerifiers: []Verifier{verifier}}, false},
		{Provenance{Source: at, SourceTrack: SourceTrack{MinLevel: 3}, SourceVerifiers: []Verifier{{ID: "x"}}}, false},
		{Provenance{Source: at, SourceTrack: SourceTrack{MinLevel: 3}, SourceVerifiers: make([]Verifier, maxVerifiers+1)}, false},
		{Provenance{Source: at, SourceTrack: SourceTrack{MinLevel: 9}}, false},
	} {
		if err := (Policy{Origin: BuilderProvenance{Provenance: c.p}}).Check(); (err == nil) != c.good {
			t.Errorf("%+v: got %v, want good: %v", c.p, err, c.good)
		}
	}
	now := time.Now()
	vsa := func(level, reviewers int, change func(*attest.VSA)) *attest.VSA {
		v := attest.SourceVSA("https://git.example.com/team/app", level, reviewers, now)
		change(v)
		return v
	}
	for _, c := range []struct {
		v    *attest.VSA
		want string
	}{
		{vsa(3, 2, func(*attest.VSA) {}), ""},
		{vsa(4, 3, func(*attest.VSA) {}), ""},
		{vsa(2, 2, func(*attest.VSA) {}), "Source level: got 2, want 3"},
		{vsa(3, 1, func(*attest.VSA) {}), "got 1, want 2"},
		{vsa(3, 0, func(*attest.VSA) {}), "got 0, want 2"},
		{vsa(3, 2, func(v *attest.VSA) { v.VerificationResult = attest.VSAFailed }), "result"},
		{vsa(3, 2, func(v *attest.VSA) { v.VerifiedLevels = []string{"SLSA_BUILD_LEVEL_3", "COLOPHON_SOURCE_REVIEWERS_2"} }), "Source level: got 0"},
		{vsa(3, 2, func(v *attest.VSA) { v.VerifiedLevels = append(v.VerifiedLevels, "COLOPHON_SOURCE_REVIEWERS_1") }), "got 1, want 2"},
		{vsa(3, 2, func(v *attest.VSA) { v.VerifiedLevels = append(v.VerifiedLevels, "COLOPHON_SOURCE_REVIEWERS_many") }), "got 0, want 2"},
		{vsa(3, 2, func(v *attest.VSA) { old := now.Add(-48 * time.Hour); v.TimeVerified = &old }), "timeVerified"},
		{vsa(3, 2, func(v *attest.VSA) { v.TimeVerified = nil }), "timeVerified"},
	} {
		err := SourceTrack{MinLevel: 3, Reviewers: 2}.MatchSummary(Verifier{MaxAge: 24 * time.Hour}, c.v, now)
		if (err == nil) != (c.want == "") || err != nil && !strings.Contains(err.Error(), c.want) {
			t.Errorf("%q: got %v, want %q", c.v.VerifiedLevels, err, c.want)
		}
	}
	for level, want := range map[string]string{"SLSA_SOURCE_LEVEL_2": "", "SLSA_SOURCE_LEVEL_4": "verified levels", "TWO_PARTY": "verified levels"} {
		err := SourceTrack{MinLevel: 3}.MatchSummary(Verifier{Levels: []string{level}}, vsa(3, 2, func(*attest.VSA) {}), now)
		if (err == nil) != (want == "") || err != nil && !strings.Contains(err.Error(), want) {
			t.Errorf("verifier's level %s: got %v, want %q", level, err, want)
		}
	}
	// spec and docs say which bytes the digest is of.
	if got := (SourceTrack{3, 1}).Digest(); got != "fd68da839251b70deea8c16f334ebab36107b61d59990f6bc88a656f816bf523" {
		t.Errorf("digest: got %s", got)
	}
}
