package policy_test

import (
	"os"
	"path/filepath"
	"strings"
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
		err := policy.Policy{Source: tt.demand}.MatchSource(tt.uri)
		if (err == nil) != tt.match {
			t.Errorf("%s against %s: got %v, want match %v", tt.uri, tt.demand, err, tt.match)
		}
	}
	if err := (policy.Policy{}).MatchSource("https://git.example.com/team/app"); err == nil {
		t.Error("a policy without a source matches")
	}
	if err := (policy.Policy{AnySource: true}).MatchSource("https://git.example.com/team/app"); err != nil {
		t.Error(err)
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
		err := policy.Policy{Ref: tt.demand}.MatchRef(tt.ref)
		if (err == nil) != tt.match {
			t.Errorf("%q against %q: got %v, want match %v", tt.ref, tt.demand, err, tt.match)
		}
	}
}

func TestParse(t *testing.T) {
	for _, tt := range []struct{ json, want string }{
		{`{}`, "names no source"},
		{`{"source":"git.example.com/a","anySource":true}`, "accepts any source"},
		{`{"source":"git.example.com/a","Source":"git.example.com/b"}`, "Source"},
		{`{"source":"git.example.com/a","source":"git.example.com/b"}`, "duplicate"},
		{`{"source":"git.example.com/a","sauce":1}`, "sauce"},
		{`{"source":"nowhere"}`, "source"},
		{`{"source":"git.example.com/a","commit":"381e42a"}`, "40 or 64"},
		{`{"source":"git.example.com/a","commit":"` + strings.Repeat("A", 40) + `"}`, "lower-case"},
		{`{"source":"git.example.com/a","minLevel":4}`, "got 4, want 0 to 3"},
		{`{"source":"git.example.com/a","builders":["x"]}`, "builder id"},
	} {
		if _, err := policy.Parse([]byte(tt.json)); err == nil || !strings.Contains(err.Error(), tt.want) {
			t.Errorf("%s: got %v, want %q in it", tt.json, err, tt.want)
		}
	}
}

// TestVectors holds the examples of the format's specification.
func TestVectors(t *testing.T) {
	for dir, good := range map[string]bool{"good": true, "bad": false} {
		files, err := filepath.Glob("../spec/policy/" + dir + "/*.json")
		if err != nil || len(files) == 0 {
			t.Fatalf("%s: got %d vectors, %v", dir, len(files), err)
		}
		for _, f := range files {
			raw, err := os.ReadFile(f)
			if err != nil {
				t.Fatal(err)
			}
			if _, err := policy.Parse(raw); (err == nil) != good {
				t.Errorf("%s: got %v", f, err)
			}
		}
	}
}
