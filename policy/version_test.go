package policy_test

import (
	"testing"

	"github.com/colophon-build/colophon/policy"
)

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
		p := policy.Policy{AnySource: true, Version: tt.demand}
		if err := p.Check(); err != nil {
			t.Errorf("%q: %v", tt.demand, err)
		}
		if err := p.MatchVersion(tt.ref); (err == nil) != tt.match {
			t.Errorf("%q against %q: got %v, want match %v", tt.ref, tt.demand, err, tt.match)
		}
	}
	for _, p := range []policy.Policy{
		{AnySource: true, Version: "1.2.3"}, {AnySource: true, Version: "v"}, {AnySource: true, Version: "v1."}, {AnySource: true, Version: "v1.2-rc"}, {AnySource: true, Version: "v01"},
		{AnySource: true, Version: "v1.2.3.4"}, {AnySource: true, Version: "v1\n"}, {AnySource: true, Version: "v1", Ref: "refs/tags/v1.2.3"}, {AnySource: true, Version: "main"},
	} {
		if p.Check() == nil {
			t.Errorf("%q with ref %q passes", p.Version, p.Ref)
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
		if err := (policy.Policy{WorkflowInputs: tt.demand}).MatchInputs(got); (err == nil) != tt.match {
			t.Errorf("%v: got %v, want match %v", tt.demand, err, tt.match)
		}
	}
	if (policy.Policy{WorkflowInputs: map[string]string{"a": ""}}).MatchInputs(nil) == nil {
		t.Error("a provenance without inputs passes")
	}
}
