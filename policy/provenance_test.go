package policy_test

import (
	"testing"

	"github.com/colophon-build/colophon/policy"
)

func TestMatchSource(t *testing.T) {
	for _, tt := range []struct {
		demand, uri string
		match       bool
	}{
		{"git.example.com/team/app", "https://git.example.com/team/app", true},
		{"https://GIT.example.com:443/team/app.git", "https://git.example.com/team/app", true},
		{"git.example.com/team/app", "https://git.example.com/team/app2", false},
		{"git.example.com/team/app", "https://git.example.com/team", false},
		{"git.example.com/team/app", "https://git.example.com/team/app/x", false},
		{"git.example.com/team/app", "https://git.example.com/Team/app", false},
		{"git.example.com/team/app", "https://git.example.com.evil.org/team/app", false},
		{"git.example.com/team/app", "ssh://git.example.com/team/app", false},
		{"git.example.com/team/app", "https://git.example.com/team/../team/app", false},
		{"file:///srv/app", "file:///srv/app", true},
	} {
		err := from(t, tt.demand).MatchSource(tt.uri)
		if (err == nil) != tt.match {
			t.Errorf("%s against %s: got %v, want match %v", tt.uri, tt.demand, err, tt.match)
		}
	}
	for _, uri := range []string{"https://git.example.com/team/app", ""} {
		if err := (policy.Provenance{}).MatchSource(uri); err == nil {
			t.Errorf("%q: a policy without a source matches", uri)
		}
	}
	if err := anySource().MatchSource("https://git.example.com/team/app"); err != nil {
		t.Error(err)
	}
}

// TestSourceNames: only one repository that was demanded by name is named.
func TestSourceNames(t *testing.T) {
	const uri = "https://git.example.com/team/app"
	for _, tt := range []struct {
		source policy.Source
		uri    string
		want   bool
	}{
		{from(t, "git.example.com/team/app").Source, uri, true}, {from(t, "git.example.com/team/app").Source, uri + "2", false},
		{policy.AnySource(), uri, false}, {policy.Source{}, uri, false}, {policy.Source{}, "", false},
	} {
		if got := tt.source.Names(tt.uri); got != tt.want {
			t.Errorf("%s, %q: got %v, want %v", tt.source, tt.uri, got, tt.want)
		}
	}
}

func TestMatchRef(t *testing.T) {
	for _, tt := range []struct {
		demand, ref string
		match       bool
	}{
		{"", "refs/heads/main", true}, {"", "", true},
		{"v1.2.0", "refs/tags/v1.2.0", true}, {"main", "refs/heads/main", true},
		{"refs/tags/v1.2.0", "refs/tags/v1.2.0", true},
		{"refs/tags/v1.2.0", "refs/heads/v1.2.0", false},
		{"v1.2.0", "refs/tags/v1.2.00", false}, {"v1.2.0", "refs/tags/x/v1.2.0", false},
		{"v1.2.0", "v1.2.0", false}, {"v1.2.0", "", false},
		{"v1.2.0", "refs/tags/refs/tags/v1.2.0", false},
		{"refs/tags/v1.2.0", "refs/tags/refs/tags/v1.2.0", false},
	} {
		var p policy.Provenance
		if tt.demand != "" {
			p.Ref = policy.RefName(tt.demand)
		}
		err := p.MatchRef(tt.ref)
		if (err == nil) != tt.match {
			t.Errorf("%q against %q: got %v, want match %v", tt.ref, tt.demand, err, tt.match)
		}
	}
}

func TestMatchVersion(t *testing.T) {
	for _, tt := range []struct {
		demand, ref string
		match       bool
	}{
		{"", "refs/heads/main", true},
		{"v1", "refs/tags/v1.2.3", true}, {"v1.2", "refs/tags/v1.2.3", true}, {"v1.2.3", "refs/tags/v1.2.3", true},
		{"v1", "refs/tags/v1", true}, {"v1", "refs/tags/v1.2", true}, {"v0", "refs/tags/v0.1.0", true},
		{"v1", "refs/tags/v10.0.0", false}, {"v1", "refs/tags/v2.0.0", false}, {"v1.2", "refs/tags/v1.20.3", false}, {"v1.2.3", "refs/tags/v1.2.30", false},
		{"v1.2.3", "refs/tags/v1.2.4", false}, {"v1.2", "refs/tags/v1", false}, {"v1.2.3", "refs/tags/v1.2", false}, {"v1.2.0", "refs/tags/v1.2", false},
		{"v1", "refs/heads/v1.2.3", false}, {"v1", "v1.2.3", false}, {"v1", "", false}, {"v1", "refs/tags/1.2.3", false}, {"v1", "refs/tags/x/v1.2.3", false},
		{"v1", "refs/tags/v1.02.3", false}, {"v1", "refs/tags/v1.2.3.4", false}, {"v1", "refs/tags/v1.2.3 ", false}, {"v1", "refs/tags/refs/tags/v1.2.3", false},
		{"v1", "refs/tags/v1.2.3-rc.1", false}, {"v1.2.3", "refs/tags/v1.2.3-rc.1", false}, {"v1.2.3-rc.1", "refs/tags/v1.2.3-rc.1", true},
		{"v1.2.3-rc.1", "refs/tags/v1.2.3-rc.10", false}, {"v1.2.3-rc.1", "refs/tags/v1.2.3-rc.1.1", false}, {"v1.2.3-rc.1", "refs/tags/v1.2.3", false},
		{"v1.2.3", "refs/tags/v1.2.3+build", false}, {"v1.2", "refs/tags/v1.2.3+build", false},
	} {
		p := anySource()
		if tt.demand != "" {
			p.Ref = policy.Version(tt.demand)
		}
		if err := (policy.Policy{Origin: policy.BuilderProvenance{Provenance: p}}).Check(); err != nil {
			t.Errorf("%q: %v", tt.demand, err)
		}
		if err := p.MatchRef(tt.ref); (err == nil) != tt.match {
			t.Errorf("%q against %q: got %v, want match %v", tt.ref, tt.demand, err, tt.match)
		}
	}
	for _, version := range []policy.Version{"", "1.2.3", "v", "v1.", "v1.2-rc", "v01", "v1.2.3.4", "v1\n", "main"} {
		p := anySource()
		p.Ref = version
		if (policy.Policy{Origin: policy.BuilderProvenance{Provenance: p}}).Check() == nil {
			t.Errorf("%q passes", version)
		}
	}
}

func TestMatchInputs(t *testing.T) {
	got := map[string]any{"release": "v1.2.3", "dry": false, "n": 3.0, "empty": "", "null": nil}
	for _, tt := range []struct {
		demand map[string]string
		match  bool
	}{
		{nil, true}, {map[string]string{"release": "v1.2.3"}, true}, {map[string]string{"release": "v1.2.3", "dry": "false"}, true}, {map[string]string{"empty": ""}, true},
		{map[string]string{"release": "v1.2"}, false}, {map[string]string{"release": "v1.2.3 "}, false}, {map[string]string{"Release": "v1.2.3"}, false},
		{map[string]string{"dry": "true"}, false}, {map[string]string{"n": "3"}, false}, {map[string]string{"null": ""}, false}, {map[string]string{"more": ""}, false},
		{map[string]string{"release": "v1.2.3", "more": "x"}, false},
	} {
		if err := (policy.Provenance{Inputs: tt.demand}).MatchInputs(got); (err == nil) != tt.match {
			t.Errorf("%v: got %v, want match %v", tt.demand, err, tt.match)
		}
	}
	if (policy.Provenance{Inputs: map[string]string{"a": ""}}).MatchInputs(nil) == nil {
		t.Error("a provenance without inputs passes")
	}
}
