package trust

import (
	"slices"
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

// TestTrustedBuilder: whose signature under provenance of team/app at refs/heads/main is
// trusted, and up to which level.
func TestTrustedBuilder(t *testing.T) {
	const (
		source  = "https://github.com/team/app"
		own     = source + "/.github/workflows/release.yml"
		foreign = "https://github.com/evil/app/.github/workflows/release.yml"
		public  = generator + "/.github/workflows/generator_container_slsa3.yml"
	)
	for name, tt := range map[string]struct {
		signer   string
		demanded []string
		source   string
		own      bool
		level    int    // 0: refused
		want     string // the build type, or what the refusal says
	}{
		"a public builder":                            {public + "@refs/tags/v1.2.3", nil, source, false, 3, BuildTypeGeneratorContainer},
		"one that is demanded":                        {public + "@refs/tags/v1.2.3", []string{foreign, public}, source, false, 3, BuildTypeGeneratorContainer},
		"one where another is demanded":               {public + "@refs/tags/v1.2.3", []string{own}, source, true, 0, "want one of"},
		"one at a branch":                             {public + "@refs/heads/main", nil, source, true, 0, "want a version tag"},
		"one at a branch of the source, at the build": {public + "@refs/heads/main", nil, generator, true, 0, "want a version tag"},
		"one at a branch that is demanded":            {public + "@refs/heads/main", []string{public + "@refs/heads/main"}, source, false, 3, BuildTypeGeneratorContainer},
		"the source's own":                            {own + "@refs/heads/main", nil, source, true, 2, BuildTypeActions},
		"its own at another ref":                      {own + "@refs/heads/evil", nil, source, true, 0, "want the ref that was built"},
		"its own, where no policy names the source":   {own + "@refs/heads/main", nil, source, false, 0, "neither a known builder"},
		"its own, where another is demanded":          {own + "@refs/heads/main", []string{public}, source, true, 0, "want one of"},
		"another repository's":                        {foreign + "@refs/heads/main", nil, source, true, 0, "neither a known builder"},
		"another repository's that is demanded":       {foreign + "@refs/tags/v1.0.0", []string{foreign}, source, false, 2, BuildTypeActions},
		"the same at a branch":                        {foreign + "@refs/heads/main", []string{foreign}, source, false, 0, "want a version tag"},
		"the same at a branch that is demanded":       {foreign + "@refs/heads/main", []string{foreign + "@refs/heads/main"}, source, false, 2, BuildTypeActions},
		"the same at another branch":                  {foreign + "@refs/heads/next", []string{foreign + "@refs/heads/main"}, source, false, 0, "want one of"},
	} {
		w, err := ParseWorkflow(tt.signer)
		if err != nil {
			t.Fatal(err)
		}
		b, err := w.TrustedBuilder(tt.demanded, tt.source, "refs/heads/main", tt.own)
		switch {
		case tt.level == 0:
			if err == nil || !strings.Contains(err.Error(), tt.want) || b.Workflow != "" {
				t.Errorf("%s: got %+v, %v, want a refusal that says %q", name, b, err, tt.want)
			}
		case err != nil || b.Workflow != w.ID() || b.Level != tt.level || !slices.Contains(b.BuildTypes, tt.want):
			t.Errorf("%s: got %+v, %v, want level %d and %s", name, b, err, tt.level, tt.want)
		default:
			b.BuildTypes[0] = "changed by the caller"
			if again, err := w.TrustedBuilder(tt.demanded, tt.source, "refs/heads/main", tt.own); err != nil || !slices.Contains(again.BuildTypes, tt.want) {
				t.Errorf("%s: a caller changed it: got %+v, %v", name, again, err)
			}
		}
	}
}

// TestDelegates: only the two delegators sign for other builders, and only at a version.
func TestDelegates(t *testing.T) {
	for signer, want := range map[string]bool{
		delegators[0] + "@refs/tags/v2.0.0":                                               true,
		delegators[1] + "@refs/tags/v2.0.0":                                               true,
		delegators[0] + "@refs/heads/main":                                                false,
		delegators[0]:                                                                     false,
		publicBuilders[0].Workflow + "@refs/tags/v2.0.0":                                  false,
		"https://github.com/evil/app/.github/workflows/a.yml@refs/tags/v2.0.0":            false,
		strings.Replace(delegators[0], "slsa-framework", "evil", 1) + "@refs/tags/v2.0.0": false,
	} {
		w, err := ParseWorkflow(signer)
		if err != nil || w.Delegates() != want {
			t.Errorf("%s: got %v, %v, want %v", signer, w.Delegates(), err, want)
		}
	}
}

// TestParsePipeline: a pipeline has one address. Whatever a URL could say in a second way
// is refused.
func TestParsePipeline(t *testing.T) {
	for _, good := range []Pipeline{
		{"https://gitlab.com", "https://gitlab.com/team/app", ".gitlab-ci.yml", "refs/heads/main"},
		{"https://gitlab.example.com:8443", "https://gitlab.example.com:8443/a/b/c_d/e.f", "ci/release..yaml", "refs/tags/v1.0.0"},
	} {
		if got, err := ParsePipeline(good.String()); err != nil || got != good {
			t.Errorf("%s: got %+v, %v", good, got, err)
		}
	}
	const project = "https://gitlab.com/team/app"
	for bad, want := range map[string]string{
		"":                           "HOST",
		project + "//.gitlab-ci.yml": "HOST",
		project + "/.gitlab-ci.yml@refs/heads/main":                       "HOST",
		project + "//.gitlab-ci.yml@main":                                 "HOST",
		project + "//.gitlab-ci.yml@refs/heads/a@refs/heads/b":            "HOST",
		project + "//.gitlab-ci.yml@refs/heads/main\n":                    "HOST",
		"http://gitlab.com/team/app//.gitlab-ci.yml@refs/heads/main":      "HOST",
		"https://gitlab.com//.gitlab-ci.yml@refs/heads/main":              "HOST",
		"https://ada@gitlab.com/team/app//.gitlab-ci.yml@refs/heads/main": "HOST",
		"https://gitlab.com/team/../app//.gitlab-ci.yml@refs/heads/main":  "HOST",
		project + "//../other/.gitlab-ci.yml@refs/heads/main":             `without ".."`,
		project + "//ci/../.gitlab-ci.yml@refs/heads/main":                `without ".."`,
		project + "//.gitlab-ci.yml@refs/heads/%6dain":                    `without ".."`,
		project + "//.gitlab-ci.yml@refs/heads/%zz":                       `without ".."`,
		project + "//.gitlab-ci.yml@refs/heads/\x01":                      `without ".."`,
	} {
		if got, err := ParsePipeline(bad); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%q: got %+v, %v, want a refusal that says %q", bad, got, err, want)
		}
	}
}
