package trust

import (
	"strings"
	"testing"
)

func TestParseWorkflow(t *testing.T) {
	const id = "https://github.com/org/repo.x/.github/workflows/build-it_1.yml"
	w, err := ParseWorkflow(id + "@refs/tags/v1.2.3")
	if err != nil || w.Repository != "https://github.com/org/repo.x" || w.ID() != id || w.Ref != "refs/tags/v1.2.3" || w.String() != id+"@refs/tags/v1.2.3" || !w.isVersion() {
		t.Errorf("got %+v, %v", w, err)
	}
	if w, err := ParseWorkflow(id); err != nil || w.Ref != "" || w.String() != id || w.isVersion() {
		t.Errorf("without a ref: got %+v, %v", w, err)
	}
	for _, bad := range []string{
		"", "org/repo/.github/workflows/x.yml", "http://github.com/org/repo/.github/workflows/x.yml", "https://github.com.evil.example/org/repo/.github/workflows/x.yml",
		"https://github.com@evil.example/org/repo/.github/workflows/x.yml", "https://github.com/org/repo/.github/workflows/../x.yml", "https://github.com/org/repo/.github/workflows/a/x.yml",
		"https://github.com/org/repo/x.yml", "https://github.com/org/.github/workflows/x.yml", id + "@", id + "@v1.2.3", id + "@refs/tags/v1@refs/heads/main", id + "@refs/tags/v1 ", id + "\n", id + "@refs/tags/v1.2.3\n",
		" " + id, id + ".evil", id + "?x", id + "#x", strings.Replace(id, "org", "org/evil", 1), strings.Replace(id, "org", "-org", 1),
	} {
		if w, err := ParseWorkflow(bad); err == nil {
			t.Errorf("%q: got %+v, want an error", bad, w)
		}
	}
	for _, ref := range []string{"refs/heads/v1.2.3", "refs/tags/v1.2", "refs/tags/v1.2.3-rc.1", "refs/tags/1.2.3", "refs/tags/v1.2.3x", "refs/tags/x/v1.2.3", "refs/heads/refs/tags/v1.2.3"} {
		if w := (Workflow{Ref: ref}); w.isVersion() {
			t.Errorf("%s: accepted as a version tag", ref)
		}
	}
}

// GitHub's names are wider than those that most repositories have.
func TestWorkflowNames(t *testing.T) {
	commit := strings.Repeat("0a", 20)
	for id, want := range map[string]string{
		"https://github.com/octo_corp/app/.github/workflows/a.yml@" + commit:      "",
		"https://github.com/org/app/.github/workflows/a.yml@" + commit + "0":      "error",
		"https://github.com/org/app/.github/workflows/a.yml@" + commit[1:]:        "error",
		"https://github.com/org/app/.github/workflows/c++ build.yaml@refs/tags/1": "https://github.com/org/app/.github/workflows/c++%20build.yaml@refs/tags/1",
		"https://github.com/org/app/.github/workflows/a%2fb.yaml@refs/tags/1":     "error",
		"https://octo.ghe.com/org/app/.github/workflows/a.yml@refs/heads/main":    "",
		"https://ghe.com/org/app/.github/workflows/a.yml":                         "error",
		"https://a.b.ghe.com/org/app/.github/workflows/a.yml":                     "error",
		"https://github.com.ghe.com.evil/org/app/.github/workflows/a.yml":         "error",
	} {
		if want == "" {
			want = id
		}
		w, err := ParseWorkflow(id)
		if (err == nil) == (want == "error") || err == nil && w.String() != want {
			t.Errorf("%s: got %q, %v; want %q", id, w, err, want)
		}
		if w.isVersion() {
			t.Errorf("%s counts as a version", id)
		}
	}
	spaced, err := ParseWorkflow("https://github.com/org/app/.github/workflows/a b.yml@refs/tags/v1.0.0")
	if err != nil {
		t.Fatal(err)
	}
	for _, demanded := range []string{"https://github.com/org/app/.github/workflows/a b.yml", "https://github.com/org/app/.github/workflows/a%20b.yml"} {
		if _, err := spaced.TrustedBuilder([]string{demanded}, "", "", false); err != nil {
			t.Errorf("%s: %v", demanded, err)
		}
	}
	// A commit counts only if it is demanded itself: it may be one of a fork.
	pinned := Workflow{Repository: "https://github.com/org/app", Path: ".github/workflows/a.yml", Ref: commit}
	if _, err := pinned.TrustedBuilder([]string{pinned.ID()}, "", "", false); err == nil {
		t.Error("any commit is trusted because the path is demanded")
	}
	if _, err := pinned.TrustedBuilder([]string{pinned.String()}, "", "", false); err != nil {
		t.Error(err)
	}
}

func TestCheckIssuer(t *testing.T) {
	for _, tt := range []struct {
		server, issuer string
		ok             bool
	}{
		{"https://github.com", GitHubIssuer, true},
		{"https://github.com", GitHubIssuer + "/octo-corp", true},
		{"https://github.com", GitHubIssuer + "/", false},
		{"https://github.com", GitHubIssuer + ".evil.example", false},
		{"https://github.com", GitHubIssuer + "/a/b", false},
		{"https://github.com", "https://token.actions.octo.ghe.com", false},
		{"https://octo.ghe.com", "https://token.actions.octo.ghe.com", true},
		{"https://octo.ghe.com", GitHubIssuer, false},
		{"https://octo.ghe.com", GitHubIssuer + "/octo", false},
		{"https://octo.ghe.com", "https://token.actions.evil.ghe.com", false},
	} {
		w := Workflow{Repository: tt.server + "/org/app", Path: ".github/workflows/a.yml"}
		if err := w.CheckIssuer(tt.issuer); (err == nil) != tt.ok {
			t.Errorf("%s by %s: got %v", tt.server, tt.issuer, err)
		}
	}
}

func TestPublicBuilders(t *testing.T) {
	seen := map[string]bool{}
	for _, b := range publicBuilders {
		w, err := ParseWorkflow(b.Workflow)
		if err != nil || w.Ref != "" || b.Level < 1 || b.Level > 3 || len(b.BuildTypes) == 0 || seen[b.Workflow] {
			t.Errorf("%+v: %v", b, err)
		}
		seen[b.Workflow] = true
		for _, w.Ref = range []string{"refs/heads/main", "refs/tags/v1", "refs/pull/1/merge", ""} {
			if _, err := w.TrustedBuilder(nil, "https://github.com/team/app", "refs/heads/main", true); err == nil {
				t.Errorf("%s is trusted", w)
			}
			if _, err := w.TrustedBuilder([]string{b.Workflow}, "https://github.com/team/app", "refs/heads/main", true); err == nil && w.Ref != "" {
				t.Errorf("%s is trusted because its path is demanded", w)
			}
		}
	}
	for _, d := range delegators {
		w, err := ParseWorkflow(d + "@refs/tags/v2.0.0")
		if err != nil || !w.Delegates() || seen[d] {
			t.Errorf("%s: %v, want it to sign for others and never for itself", d, err)
		}
	}
}
