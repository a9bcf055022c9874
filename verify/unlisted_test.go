package verify

import (
	"testing"
	"time"

	"github.com/colophon-build/colophon/distrust"
	"github.com/colophon-build/colophon/provenance"
	"github.com/colophon-build/colophon/test/distrusttest"
)

// TestDistrustWithoutFacts: of an image that is accepted by a summary alone, only the digest and the signer of the
// summary can be in a list. Under a demand for lists with other entries, it is undecided.
func TestDistrustWithoutFacts(t *testing.T) {
	const digest = "sha256:aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa"
	v := &Verdict{Outcome: Accepted, Digest: digest, rests: &rests{beside: []distrust.Signer{{Identity: "v", Issuer: "https://i.example"}}}}
	for what, tt := range map[string]struct {
		scope  distrust.Scope
		maxAge time.Duration
		want   Outcome
	}{
		"its digest":              {distrust.Scope{Digest: digest}, 0, Rejected},
		"the signer":              {distrust.Scope{Identity: "v", Issuer: "https://i.example"}, 0, Rejected},
		"another digest":          {distrust.Scope{Digest: "sha256:bb" + digest[9:]}, time.Hour, Accepted},
		"a commit, and demanded":  {distrust.Scope{Commit: digest[7:47]}, time.Hour, Undecided},
		"a commit, not demanded":  {distrust.Scope{Commit: digest[7:47]}, 0, Accepted},
		"a package, and demanded": {distrust.Scope{Package: "a@1"}, time.Hour, Undecided},
	} {
		i := distrusttest.New(t)
		i.Add(tt.scope)
		got := v.distrusted(Distrust{distrust.Lists{i.Known("shop")}, tt.maxAge}, time.Now(), unknownPackages(v))
		if got.Outcome != tt.want {
			t.Errorf("%s: got %s, %s, want %s", what, got.Outcome, got.Why(), tt.want)
		}
	}
	if v.Outcome != Accepted || len(v.Links) > 0 {
		t.Errorf("the shared verdict was changed: %+v", v)
	}
}

// TestDistrustOfOthersSBOMs: the SBOMs of builders that are no platforms are not read, so that nobody knows
// whether an entry about a package is about their images.
func TestDistrustOfOthersSBOMs(t *testing.T) {
	i := distrusttest.New(t)
	i.Add(distrust.Scope{Package: "a@1"})
	for _, tt := range []struct {
		listed bool
		maxAge time.Duration
		want   Outcome
	}{{true, time.Hour, Accepted}, {false, time.Hour, Undecided}, {false, 0, Accepted}} {
		v := &Verdict{Outcome: Accepted, Facts: &Facts{Build: &provenance.Facts{}}, rests: &rests{listed: tt.listed}}
		if got := v.distrusted(Distrust{distrust.Lists{i.Known("shop")}, tt.maxAge}, time.Now(), unknownPackages(v)); got.Outcome != tt.want {
			t.Errorf("%+v: got %s, %s", tt, got.Outcome, got.Why())
		}
	}
}

// TestDistrustOfASignature: a signature says nothing about the source and the build of an image. Under a demand for
// lists with entries about these, the image is undecided, as one that is accepted by a summary alone.
func TestDistrustOfASignature(t *testing.T) {
	const digest = "sha256:aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa"
	by := distrust.Signer{Identity: "ada", Issuer: "https://i.example"}
	v := &Verdict{Outcome: Accepted, Digest: digest, Facts: &Facts{Signed: []Signed{{by: by}}}, rests: &rests{}}
	for what, tt := range map[string]struct {
		scope  distrust.Scope
		maxAge time.Duration
		want   Outcome
	}{
		"its signer":              {distrust.Scope{Identity: by.Identity, Issuer: by.Issuer}, time.Hour, Rejected},
		"another digest":          {distrust.Scope{Digest: "sha256:bb" + digest[9:]}, time.Hour, Accepted},
		"a package":               {distrust.Scope{Package: "a@1"}, 0, Accepted},
		"a package, and demanded": {distrust.Scope{Package: "a@1"}, time.Hour, Undecided},
		"a commit, and demanded":  {distrust.Scope{Commit: digest[7:47]}, time.Hour, Undecided},
		"a base, and demanded":    {distrust.Scope{Base: "debian:12"}, time.Hour, Undecided},
		"a commit, not demanded":  {distrust.Scope{Commit: digest[7:47]}, 0, Accepted},
	} {
		i := distrusttest.New(t)
		i.Add(tt.scope)
		got := v.distrusted(Distrust{distrust.Lists{i.Known("shop")}, tt.maxAge}, time.Now(), unknownPackages(v))
		if got.Outcome != tt.want {
			t.Errorf("%s: got %s, %s, want %s", what, got.Outcome, got.Why(), tt.want)
		}
	}
	short := *v // of a process before, with what decides alone
	short.rests = nil
	if got := short.distrusted(Distrust{distrust.Lists{distrusttest.New(t).Known("shop")}, 0}, time.Now(), unknownPackages(v)); got.Outcome != Undecided {
		t.Errorf("without what it rests on: got %s", got.Outcome)
	}
}
