package policy_test

import (
	"testing"

	"github.com/colophon-build/colophon/policy"
)

// TestMisspelledSource: another spelling gets a hint where the host takes both for one,
// and never meets the demand.
func TestMisspelledSource(t *testing.T) {
	for _, tt := range []struct {
		demand, uri string
		same        bool
	}{
		{"github.com/team/app", "https://github.com/Team/App", true},
		{"git@github.com:team/app", "https://github.com/team/app", true},
		{"git@github.com:Team/App.git", "https://github.com/team/app", true},
		{"ssh://git@gitlab.com/group/app.git", "https://gitlab.com/Group/app", true},
		{"bitbucket.org/team/app", "ssh://git@bitbucket.org/team/app.git", true},
		{"git.example.com/team/app", "https://git.example.com/Team/app", false},
		{"git@git.example.com:team/app", "https://git.example.com/team/app", false},
		{"ssh://ada@github.com/team/app", "https://github.com/team/app", false},
		{"ssh://git@github.com:2222/team/app", "https://github.com/team/app", false},
		{"github.com/team/app", "https://github.com/team/app2", false},
		{"github.com/team/app", "https://github.com.evil.org/team/app", false},
		{"github.com/team/app", "https://evil.org/github.com/team/app", false},
		{"file:///github.com/team/app", "https://github.com/team/app", false},
		{"github.com/team/app", "not an address", false},
	} {
		s, err := policy.ParseSource(tt.demand)
		if err != nil {
			t.Fatal(err)
		}
		if got := s.Misspells(tt.uri); got != tt.same {
			t.Errorf("%s for %s: got %v, want %v", tt.demand, tt.uri, got, tt.same)
		}
		if s.Names(tt.uri) || from(t, tt.demand).MatchSource(tt.uri) == nil {
			t.Errorf("%s meets the demand for %s", tt.uri, tt.demand)
		}
	}
	s, err := policy.ParseSource("github.com/team/app")
	if err != nil || s.Misspells("https://github.com/team/app") || policy.AnySource().Misspells("https://github.com/team/app") || (policy.Source{}).Misspells("https://github.com/team/app") {
		t.Errorf("nothing is misspelled: %v", err)
	}
}
