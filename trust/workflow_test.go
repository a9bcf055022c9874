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
