package provenance_test

import (
	"strings"
	"testing"

	"github.com/colophon-build/colophon/attest"
	"github.com/colophon-build/colophon/provenance"
)

// requirement of a list, which must have it.
func requirement(t testing.TB, rs []provenance.Requirement, name string) provenance.Requirement {
	t.Helper()
	for _, r := range rs {
		if r.Name == name {
			return r
		}
	}
	t.Fatalf("no requirement %q: %+v", name, rs)
	return provenance.Requirement{}
}

// TestLevel: what the builder is trusted for is the most that follows, and what
// is known about isolation and runner takes away from it.
func TestLevel(t *testing.T) {
	room := attest.Isolation{Zones: attest.SeparateUsers, Namespaces: "user mount pid ipc uts cgroup network", Reach: attest.PublicNetwork, CacheMounts: attest.EmptyCacheMounts}
	with := func(change func(*attest.Isolation)) *attest.Isolation {
		i := room
		change(&i)
		return &i
	}
	for name, tt := range map[string]struct {
		trusted   int
		isolation *attest.Isolation
		runner    string
		want      int
		short     string // the requirement that fails at the next level
		evidence  string
	}{
		"all of it":                {3, &room, "", 3, "", ""},
		"trusted for less":         {2, &room, "", 2, "provenance unforgeable", "trusted for Build L2"},
		"trusted for L1":           {1, &room, "", 1, "build hosted", "trusted for Build L1"},
		"trusted for nothing":      {0, &room, "", 0, "appropriate build platform", "neither a trust root nor the policy"},
		"one user":                 {3, with(func(i *attest.Isolation) { i.Zones = attest.OneUser }), "", 2, "provenance unforgeable", `"one user"`},
		"users of a plain user":    {3, with(func(i *attest.Isolation) { i.Zones = attest.SubordinateUsers }), "", 2, "provenance unforgeable", `"subordinate users"`},
		"users of other spelling":  {3, with(func(i *attest.Isolation) { i.Zones = "Separate users" }), "", 2, "provenance unforgeable", `want "separate users"`},
		"says nothing of users":    {3, with(func(i *attest.Isolation) { i.Zones = "" }), "", 2, "provenance unforgeable", "does not say"},
		"says nothing":             {3, new(attest.Isolation), "", 2, "build isolated", "does not say"},
		"white space":              {3, with(func(i *attest.Isolation) { i.Namespaces = "  " }), "", 2, "build isolated", "does not say"},
		"shares a namespace":       {3, with(func(i *attest.Isolation) { i.Namespaces = "user mount ipc uts cgroup network" }), "", 2, "build isolated", `want "pid"`},
		"namespaces in one word":   {3, with(func(i *attest.Isolation) { i.Namespaces = "user mountpid ipc" }), "", 2, "build isolated", `want "mount"`},
		"no room":                  {3, with(func(i *attest.Isolation) { i.Namespaces = attest.NoNamespaces }), "", 2, "build isolated", `"none", want "user"`},
		"private networks":         {3, with(func(i *attest.Isolation) { i.Reach = "public 10.0.0.0/8" }), "", 2, "build isolated", `got "public 10.0.0.0/8", want "public"`},
		"reach of other spelling":  {3, with(func(i *attest.Isolation) { i.Reach = "Public" }), "", 2, "build isolated", `got "Public"`},
		"says nothing of reach":    {3, with(func(i *attest.Isolation) { i.Reach = "" }), "", 2, "build isolated", "does not say which addresses"},
		"kept cache mounts":        {3, with(func(i *attest.Isolation) { i.CacheMounts = attest.KeptCacheMounts }), "", 2, "build isolated", "cache mounts are kept between builds"},
		"mounts of other spelling": {3, with(func(i *attest.Isolation) { i.CacheMounts = "Empty" }), "", 2, "build isolated", `got "Empty", want "empty"`},
		"says nothing of mounts":   {3, with(func(i *attest.Isolation) { i.CacheMounts = "" }), "", 2, "build isolated", "does not say whether the build's cache mounts"},
		"not one of Colophon's":    {3, nil, "", 3, "", ""},
		"hosted by GitHub":         {3, nil, "github-hosted", 3, "", ""},
		"hosted by GitLab":         {2, nil, "gitlab-hosted", 2, "provenance unforgeable", "trusted for Build L2"},
		"self-hosted":              {3, nil, "self-hosted", 1, "build hosted", `"self-hosted"`},
		"another runner":           {3, nil, "GitHub-hosted", 1, "build isolated", `"GitHub-hosted"`},
	} {
		f := &provenance.Facts{Builder: "x", BuildType: "y", Isolation: tt.isolation, Runner: tt.runner}
		e := provenance.Evidence{Level: tt.trusted, By: "the test", Provenance: "this", Signed: "by somebody"}
		rs := f.Requirements(e)
		if got := provenance.BuildLevel(rs); got != tt.want || len(rs) != 8 {
			t.Errorf("%s: got level %d, want %d: %+v", name, got, tt.want, rs)
		}
		if tt.short != "" {
			if r := requirement(t, rs, tt.short); r.Status == provenance.IsMet || !strings.Contains(r.Evidence, tt.evidence) {
				t.Errorf("%s: got %+v, want it short, for %q", name, r, tt.evidence)
			}
		}
		for _, r := range rs {
			if r.Evidence == "" || r.Level <= tt.want && r.Status != provenance.IsMet {
				t.Errorf("%s: got %+v below the level of %d", name, r, tt.want)
			}
		}
		if e.By = ""; provenance.BuildLevel(f.Requirements(e)) != 0 {
			t.Errorf("%s: there is a level, and nobody trusts the builder", name)
		}
		if e.By, e.Unlogged = "the test", true; provenance.BuildLevel(f.Requirements(e)) > 1 {
			t.Errorf("%s: got more than level 1 without a log", name)
		}
	}
}

func TestLevelWithoutProvenance(t *testing.T) {
	for _, exists := range []provenance.Met{provenance.NotMet, provenance.NotKnown} {
		rs := provenance.WithoutProvenance(exists, "why")
		if r := requirement(t, rs, "provenance exists"); r.Status != exists || r.Evidence != "why" || len(rs) != 8 || provenance.BuildLevel(rs) != 0 {
			t.Errorf("got %+v", rs)
		}
	}
	if provenance.BuildLevel(nil) != 0 {
		t.Error("no requirements at all make a level")
	}
}
