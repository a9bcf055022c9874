package forge

import (
	"context"
	"fmt"
	"maps"
	"net/http"
	"net/http/httptest"
	"os"
	"reflect"
	"strings"
	"testing"
	"time"

	"github.com/colophon-build/colophon/test/await"
	"github.com/colophon-build/colophon/test/forgehost"
)

var (
	baseID, headID, resultID = strings.Repeat("a", 40), strings.Repeat("b", 40), strings.Repeat("c", 40)

	merged  = time.Date(2026, 11, 20, 10, 5, 0, 0, time.UTC)
	alice   = Account{ID: 2, Name: "alice"}
	bob     = Account{ID: 3, Name: "bob"}
	newYear = time.Date(2026, 2, 1, 0, 0, 0, 0, time.UTC)
)

// answers returns the answers in testdata of a kind of forge.
func answers(t *testing.T, kind Kind) map[string]any {
	t.Helper()
	text, err := os.ReadFile("testdata/" + string(kind) + ".json")
	if err != nil {
		t.Fatal(err)
	}
	a, err := forgehost.Parse(string(text), "BASE", baseID, "HEAD", headID, "RESULT", resultID)
	if err != nil {
		t.Fatal(err)
	}
	return a
}

// open serves a handler and returns the forge of its repository team/app.
func open(t *testing.T, kind Kind, h http.Handler) Forge {
	t.Helper()
	s := httptest.NewServer(h)
	t.Cleanup(s.Close)
	f, err := Open(s.URL+"/team/app", Config{Kind: kind, Token: "hunter2"})
	if err != nil {
		t.Fatal(err)
	}
	return f
}

func on(by string, since time.Time) Control {
	return Control{On: Yes, By: by, Since: since, Exempt: No}
}

// TestForges: of each API, who proposed, reviewed and merged a commit, and the rules of its
// branch and tag.
func TestForges(t *testing.T) {
	stranger := Account{ID: 9, Name: "stranger"}
	for kind, want := range map[Kind]struct {
		change    Change
		main, tag Rules
	}{
		Gitea: {
			Change{
				Ref: "refs/pull/7/head", Writers: []Account{alice}, Pushers: []Account{alice}, Pushed: Yes,
				Reviews: []Review{
					{By: bob, Verdict: Commented, Commit: baseID, Time: merged.Add(-65 * time.Minute), Trust: No},
					{By: bob, Verdict: Approved, Commit: headID, Time: merged.Add(-5 * time.Minute), Trust: Yes},
					{By: stranger, Verdict: Approved, Commit: headID, Time: merged.Add(-4 * time.Minute), Trust: No},
				},
			},
			rules(on(`branch protection "main"`, newYear), 1, Control{}),
			tagRules(on(`tag protection "v*"`, newYear.AddDate(0, 0, 1))),
		},
		GitHub: {
			Change{
				Ref: "refs/pull/7/head", Writers: []Account{alice},
				Reviews: []Review{
					{By: bob, Verdict: Commented, Commit: baseID, Time: merged.Add(-65 * time.Minute)},
					{By: bob, Verdict: Approved, Commit: headID, Time: merged.Add(-5 * time.Minute), Trust: Yes},
					{By: stranger, Verdict: Approved, Commit: headID, Time: merged.Add(-4 * time.Minute), Trust: No},
				},
			},
			rules(on(`ruleset "main"`, newYear), 1, on(`ruleset "main"`, newYear)),
			tagRules(on(`ruleset "tags"`, newYear.AddDate(0, 0, 1))),
		},
		GitLab: {
			Change{
				Ref: "refs/merge-requests/7/head",
				Reviews: []Review{
					{By: bob, Verdict: Approved, Commit: headID, Time: merged.Add(-5 * time.Minute), Trust: Yes},
					{By: stranger, Verdict: Approved, Commit: baseID, Time: merged.Add(-65 * time.Minute), Trust: No},
				},
			},
			Rules{Forward: on(`protected "main"`, time.Time{}), Kept: deleted(on(`protected "main"`, time.Time{})), Requests: on(`protected "main"`, time.Time{}), Review: on(`approval rule "two eyes"`, time.Time{}), Needed: 1},
			Rules{Forward: on(`protected "v*"`, time.Time{}), Kept: deleted(on(`protected "v*"`, time.Time{}))},
		},
	} {
		t.Run(string(kind), func(t *testing.T) {
			f := open(t, kind, forgehost.Handler(answers(t, kind), "hunter2"))
			c := want.change
			c.Number, c.Target, c.Head, c.Result, c.Steps, c.Author, c.Trust, c.Merger, c.Merged = 7, "refs/heads/main", headID, resultID, 1, alice, Yes, bob, merged
			got, err := f.Changes(t.Context(), resultID)
			if err != nil || !reflect.DeepEqual(got, []Change{c}) {
				t.Errorf("got %+v, %v\nwant %+v", got, err, c)
			}
			for ref, want := range map[string]Rules{"refs/heads/main": want.main, "refs/tags/v1.2.0": want.tag} {
				want.Ref = ref
				if r, err := f.Rules(t.Context(), ref); err != nil || !reflect.DeepEqual(*r, want) {
					t.Errorf("%s: got %+v, %v\nwant %+v", ref, r, err, want)
				}
			}
			if r, err := f.Rules(t.Context(), "refs/tags/nightly"); err != nil || r.Forward.On != No {
				t.Errorf("a tag that no rule names: got %+v, %v", r, err)
			}
			if _, err := f.Rules(t.Context(), "refs/pull/7/head"); err == nil {
				t.Error("rules of a ref that is no branch or tag")
			}
			if got, err := f.Changes(t.Context(), baseID); len(got) != 0 || err == nil {
				t.Errorf("a commit that the forge does not show: got %v, %v, want an error", got, err)
			}
		})
	}
}

func rules(c Control, needed int, last Control) Rules {
	return Rules{Forward: c, Kept: c, Requests: c, Review: c, Needed: needed, LastPush: last}
}

func tagRules(c Control) Rules { return Rules{Forward: c, Kept: c} }

// deleted returns a control that GitLab's maintainers may bypass.
func deleted(c Control) Control {
	c.Exempt, c.Bypass = Yes, []string{"maintainers, in the web interface"}
	return c
}

// TestHidden: what the forge does not show is not said, never no.
func TestHidden(t *testing.T) {
	for kind, hidden := range map[Kind][]string{
		Gitea:  {"/api/v1/repos/team/app/branch_protections/main"},
		GitLab: {"/api/v4/projects/team%2Fapp/protected_branches", "/api/v4/projects/team%2Fapp/members/all/3"},
		GitHub: {"/api/v3/repos/team/app/collaborators/bob/permission", "/api/v3/repos/team/app/rulesets/42"},
	} {
		a := answers(t, kind)
		for _, path := range hidden {
			delete(a, path)
		}
		f := open(t, kind, forgehost.Handler(a, "hunter2"))
		r, err := f.Rules(t.Context(), "refs/heads/main")
		switch kind {
		case GitHub:
			if err == nil {
				t.Errorf("%s: a ruleset that is not shown: got %+v", kind, r)
			}
		default:
			if err != nil || r.Forward.On != NotSaid || r.Requests.On != NotSaid {
				t.Errorf("%s: got %+v, %v, want controls that are not said", kind, r, err)
			}
		}
		if kind == Gitea {
			continue
		}
		c, err := f.Changes(t.Context(), resultID)
		if err != nil || c[0].Reviews[len(c[0].Reviews)-2].Trust != NotSaid {
			t.Errorf("%s: got %+v, %v, want a reviewer of whom it is not said", kind, c, err)
		}
	}
	// GitHub says to those who may not write a ruleset neither that nobody may bypass it, nor who.
	a := answers(t, GitHub)
	delete(a["/api/v3/repos/team/app/rulesets/42"].(map[string]any), "bypass_actors")
	r, err := open(t, GitHub, forgehost.Handler(a, "")).Rules(t.Context(), "refs/heads/main")
	if err != nil || r.Forward.On != Yes || r.Forward.Exempt != NotSaid {
		t.Errorf("bypass list that is not shown: got %+v, %v", r, err)
	}
}

// TestHostile: an answer that is not as documented is an error.
func TestHostile(t *testing.T) {
	other := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		t.Errorf("another host got a request with %q", r.Header.Get("Authorization"))
	}))
	defer other.Close()
	text := func(s string) http.HandlerFunc {
		return func(w http.ResponseWriter, _ *http.Request) { fmt.Fprint(w, s) }
	}
	status := func(code int, header ...string) http.HandlerFunc {
		return func(w http.ResponseWriter, _ *http.Request) {
			for i := 0; i < len(header); i += 2 {
				w.Header().Set(header[i], header[i+1])
			}
			w.WriteHeader(code)
		}
	}
	for what, c := range map[string]struct {
		h    http.HandlerFunc
		want string
	}{
		"redirect":          {status(302, "Location", other.URL+"/api"), errMoved.Error()},
		"renamed":           {status(301, "Location", "/repositories/7"), errMoved.Error()},
		"duplicate members": {text(`[{"number":7,"number":8}]`), "duplicate"},
		"wrong type":        {text(`[{"number":"7","iid":"7","sha":7}]`), "number"},
		"an object":         {text(`{"number":7}`), ""},
		"deep":              {text(strings.Repeat("[", 100) + strings.Repeat("]", 100)), "nested deeper"},
		"trailing data":     {text(`[]{}`), ""},
		"huge":              {text("[" + strings.Repeat(" ", maxAnswer) + "]"), "got more than"},
		"endless list":      {text("[" + strings.Repeat("{},", 9) + "{}]"), errTooLong.Error()},
		"not allowed":       {status(403), errHidden.Error()},
		"not there":         {status(404), errAbsent.Error()},
		"broken":            {status(500), "got status 500, want 200"},
		"put off for long":  {status(429, "Retry-After", "3600"), "puts requests off"},
		"put off, no word":  {status(429), "does not say how long"},
		"limited":           {status(403, "X-RateLimit-Remaining", "0", "X-RateLimit-Reset", fmt.Sprint(time.Now().Add(time.Hour).Unix())), "puts requests off"},
	} {
		for _, kind := range []Kind{GitHub, GitLab} { // Gitea asks for no list first
			f := open(t, kind, c.h)
			got, err := f.Changes(t.Context(), resultID)
			if err == nil || !strings.Contains(err.Error(), c.want) || strings.Contains(err.Error(), "hunter2") {
				t.Errorf("%s at %s: got %v, %v, want an error with %q", what, kind, got, err, c.want)
			}
		}
	}
}

// TestPutOff: a request that the forge puts off shortly is sent again.
func TestPutOff(t *testing.T) {
	a, first := answers(t, GitHub), true
	h := forgehost.Handler(a, "hunter2")
	f := open(t, GitHub, http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if first {
			first = false
			w.Header().Set("Retry-After", "1")
			w.WriteHeader(429)
			return
		}
		h.ServeHTTP(w, r)
	}))
	if got, err := f.Changes(t.Context(), resultID); err != nil || len(got) != 1 {
		t.Errorf("got %v, %v", got, err)
	}
}

// TestLists: a list is read to its end, which only an empty page is.
func TestLists(t *testing.T) {
	a := answers(t, Gitea)
	path := "/api/v1/repos/team/app/pulls/7/reviews"
	var many []any
	for range 70 {
		many = append(many, map[string]any{"state": "COMMENT", "user": map[string]any{"id": 5.0, "login": "eve"}})
	}
	a[path] = append(many, a[path].([]any)...)
	got, err := open(t, Gitea, forgehost.Handler(a, "")).Changes(t.Context(), resultID)
	if err != nil || len(got[0].Reviews) != 73 {
		t.Errorf("got %d reviews, %v, want 73", len(got[0].Reviews), err)
	}
}

// TestAccounts: an account is its id. One that stands for nobody has none, and a name that
// another account took since is not trusted.
func TestAccounts(t *testing.T) {
	for _, u := range []giteaUser{{-1, "Ghost"}, {-2, "gitea-actions"}, {0, "x"}} {
		if a := u.account(); a != (Account{}) {
			t.Errorf("%+v: got %v", u, a)
		}
	}
	if a := (&githubUser{10137, "ghost", "User"}).account(); a != (Account{}) {
		t.Errorf("ghost of GitHub: got %v", a)
	}
	for _, u := range []githubUser{{1, "dependabot[bot]", "Bot"}, {1, "acme", "Organization"}, {1, "x", ""}} {
		if !u.account().Bot {
			t.Errorf("%+v is taken for a person", u)
		}
	}
	if !(&gitlabUser{ID: 4, Name: "project_7_bot_0a1b"}).account().Bot {
		t.Error("the account of a project's access token is taken for a person")
	}
	a := answers(t, GitHub)
	a["/api/v3/repos/team/app/collaborators/bob/permission"] = map[string]any{"permission": "admin", "user": map[string]any{"id": 66.0}}
	got, err := open(t, GitHub, forgehost.Handler(a, "")).Changes(t.Context(), resultID)
	if err != nil || got[0].Reviews[1].Trust != NotSaid {
		t.Errorf("a name that another took: got %+v, %v", got, err)
	}
}

// TestWeakRules: a list of those who may bypass a rule is seen, and the rule that promises
// most counts.
func TestWeakRules(t *testing.T) {
	a := answers(t, Gitea)
	p := a["/api/v1/repos/team/app/branch_protections/main"].(map[string]any)
	maps.Copy(p, map[string]any{"enable_push": true, "enable_push_whitelist": true, "push_whitelist_usernames": []any{"mallory"}, "enable_force_push": true, "block_admin_merge_override": false})
	r, err := open(t, Gitea, forgehost.Handler(a, "")).Rules(t.Context(), "refs/heads/main")
	if err != nil || r.Forward.On != No || r.Requests.Exempt != Yes || !reflect.DeepEqual(r.Requests.Bypass, []string{"mallory"}) || r.Review.Exempt != Yes {
		t.Errorf("gitea: got %+v, %v", r, err)
	}
	a = answers(t, GitHub)
	a["/api/v3/repos/team/app/rulesets/42"].(map[string]any)["enforcement"] = "evaluate"
	a["/api/v3/repos/team/app/branches/main/protection"] = map[string]any{
		"enforce_admins": map[string]any{"enabled": false}, "allow_force_pushes": map[string]any{"enabled": true},
		"required_pull_request_reviews": map[string]any{"required_approving_review_count": 2.0, "require_last_push_approval": true, "bypass_pull_request_allowances": map[string]any{"teams": []any{map[string]any{"slug": "ops"}}}},
	}
	r, err = open(t, GitHub, forgehost.Handler(a, "")).Rules(t.Context(), "refs/heads/main")
	want := Control{On: Yes, By: "branch protection", Exempt: Yes, Bypass: []string{"administrators", "team ops"}}
	if err != nil || r.Forward.On != No || !reflect.DeepEqual(r.Review, want) || !reflect.DeepEqual(r.LastPush, want) || r.Needed != 2 || !r.Review.Since.IsZero() {
		t.Errorf("github: got %+v, %v", r, err)
	}
	a = answers(t, GitLab)
	f := open(t, GitLab, forgehost.Handler(a, ""))
	if r, err = f.Rules(t.Context(), "refs/heads/release/1.2"); err != nil || r.Forward.On != No || r.Requests.Exempt != Yes || r.Requests.Bypass[0] != "Maintainers" {
		t.Errorf("gitlab: got %+v, %v", r, err)
	}
	old, young := on("old", newYear), on("young", merged)
	if got := strongest(young, Control{On: No}, old, Control{On: Yes, Exempt: Yes}); got.By != "old" {
		t.Errorf("got %+v, want the oldest that nobody bypasses", got)
	}
}

// TestOpenRefuses: the address and the configuration decide who is asked.
func TestOpenRefuses(t *testing.T) {
	for _, c := range []struct {
		uri  string
		c    Config
		want string
	}{
		{"https://git.example.com/team/app", Config{}, ErrNoForge.Error()},
		{"https://git.example.com/team/app", Config{Kind: "bitbucket"}, "want one of"},
		{"ssh://git@github.com/team/app", Config{}, "want an https address"},
		{"file:///srv/git/app", Config{Kind: Gitea}, "want an https address"},
		{"https://github.com/team", Config{}, "want OWNER/NAME"},
		{"https://github.com/team/app/x", Config{}, "want OWNER/NAME"},
		{"https://github.com/team/app", Config{API: "http://api.example.com"}, "want https"},
		{"https://github.com/team/app", Config{API: "https://hunter2@api.example.com"}, "want https"},
	} {
		c.c.Token = "hunter2"
		if _, err := Open(c.uri, c.c); err == nil || !strings.Contains(err.Error(), c.want) || strings.Contains(err.Error(), "hunter2") {
			t.Errorf("%s, %v: got %v, want an error with %q", c.uri, c.c, err, c.want)
		}
	}
	if text := fmt.Sprintf("%v %+v %#v %s", Config{Token: "hunter2"}, Config{Token: "hunter2"}, Config{Token: "hunter2"}, Config{Token: "hunter2"}); strings.Contains(text, "hunter2") {
		t.Errorf("a token is printed: %s", text)
	}
	for uri, want := range map[string]string{"https://github.com/team/app": "https://api.github.com", "https://gitlab.com/group/sub/app": "https://gitlab.com/api/v4", "https://codeberg.org/team/app": "https://codeberg.org/api/v1"} {
		f, err := Open(uri, Config{})
		if err != nil {
			t.Fatal(err)
		}
		var got string
		switch f := f.(type) {
		case *github:
			got = f.base.String()
		case *gitlab:
			got = f.base.String()
		case *gitea:
			got = f.base.String()
		}
		if got != want {
			t.Errorf("%s: got the API %s, want %s", uri, got, want)
		}
	}
}

// TestManyRequests: no answer makes one look at a commit send requests without end.
func TestManyRequests(t *testing.T) {
	a := answers(t, GitHub)
	path := "/api/v3/repos/team/app/commits/" + resultID + "/pulls"
	for range 60 {
		a[path] = append(a[path].([]any), a[path].([]any)[0])
	}
	_, err := open(t, GitHub, forgehost.Handler(a, "")).Changes(t.Context(), resultID)
	if err == nil || !strings.Contains(err.Error(), "requests for one commit") {
		t.Errorf("got %v", err)
	}
}

// TestTagsOfGitea: whoever one rule of a tag lists may move it, whatever the other rules say, and
// a pattern that cannot be decided here may be of the tag.
func TestTagsOfGitea(t *testing.T) {
	rule := func(pattern string, users ...any) any {
		return map[string]any{"name_pattern": pattern, "whitelist_usernames": users, "whitelist_teams": []any{}, "updated_at": "2026-02-02T00:00:00Z"}
	}
	for what, c := range map[string]struct {
		rules      []any
		on, exempt Answer
		bypass     []string
	}{
		"none":                       {nil, No, NotSaid, nil},
		"another tag":                {[]any{rule("w*", "eve"), rule(`/^w\d/`, "eve")}, No, NotSaid, nil},
		"strict and open":            {[]any{rule("v*"), rule("v1*", "eve"), rule("/^v/", "mallory")}, Yes, Yes, []string{"eve", "mallory"}},
		"a star matches slashes":     {[]any{rule("v*"), rule("*", "eve")}, Yes, Yes, []string{"eve"}},
		"not decided":                {[]any{rule("v[0-9]*")}, NotSaid, NotSaid, nil},
		"not decided, list":          {[]any{rule("{v,w}*", "eve")}, NotSaid, NotSaid, nil},
		"broken expression":          {[]any{rule("/v(/", "eve")}, NotSaid, NotSaid, nil},
		"long expression":            {[]any{rule("/v1"+strings.Repeat("|x", 2000)+"/", "eve")}, NotSaid, NotSaid, nil},
		"strict, and not decided":    {[]any{rule("v*"), rule("v?/*", "eve")}, Yes, NotSaid, nil},
		"open, and not decided":      {[]any{rule("v[1]*", "eve"), rule("v*", "bob")}, Yes, Yes, []string{"bob"}},
		"strict, and none undecided": {[]any{rule("v*"), rule("v?/*")}, Yes, No, nil},
	} {
		a := answers(t, Gitea)
		a["/api/v1/repos/team/app/tag_protections"] = c.rules
		r, err := open(t, Gitea, forgehost.Handler(a, "")).Rules(t.Context(), "refs/tags/v1/2")
		if err != nil || r.Forward.On != c.on || r.Forward.Exempt != c.exempt || !reflect.DeepEqual(r.Forward.Bypass, c.bypass) || !reflect.DeepEqual(r.Kept, r.Forward) {
			t.Errorf("%s: got %+v, %v, want %s, exempt %s for %q", what, r, err, c.on, c.exempt, c.bypass)
		}
	}
}

// TestTagsOfGitHub: a pattern that cannot be decided here may be of the tag.
func TestTagsOfGitHub(t *testing.T) {
	for pattern, want := range map[string]Answer{"refs/tags/v*": Yes, "~ALL": Yes, "refs/tags/w*": No, "refs/tags/{v,w}*": NotSaid, "refs/tags/**/*": NotSaid,
		"refs/tags/[!w]*": NotSaid, "refs/tags/[!v]*": NotSaid} { // to Ruby, "!" negates
		a := answers(t, GitHub)
		set := a["/api/v3/repos/team/app/rulesets/44"].(map[string]any)
		names := set["conditions"].(map[string]any)["ref_name"].(map[string]any)
		names["include"] = []any{pattern}
		r, err := open(t, GitHub, forgehost.Handler(a, "")).Rules(t.Context(), "refs/tags/v1.2.0")
		if err != nil || r.Forward.On != want || r.Kept.On != want {
			t.Errorf("%s: got %+v, %v, want %q", pattern, r, err, want)
		}
		if names["include"], names["exclude"] = []any{"~ALL"}, []any{pattern}; want == NotSaid {
			r, err = open(t, GitHub, forgehost.Handler(a, "")).Rules(t.Context(), "refs/tags/v1.2.0")
			if err != nil || r.Forward.On != NotSaid {
				t.Errorf("except %s: got %+v, %v, want that it is not said", pattern, r, err)
			}
		}
	}
}

// TestHiddenEvent: an event that is not shown can be a push.
func TestHiddenEvent(t *testing.T) {
	a := answers(t, Gitea)
	path := "/api/v1/repos/team/app/issues/7/timeline"
	a[path] = append(a[path].([]any), nil)
	got, err := open(t, Gitea, forgehost.Handler(a, "")).Changes(t.Context(), resultID)
	if err != nil || got[0].Pushed != NotSaid || len(got[0].Pushers) != 1 {
		t.Errorf("got %+v, %v, want one who pushed, and that there may be more", got, err)
	}
}

// TestPutOffForever: a wait of centuries after a short one is refused, and not slept.
func TestPutOffForever(t *testing.T) {
	waits := []string{"Retry-After", "1", "X-RateLimit-Reset", "9999999999999"}
	f := open(t, GitHub, http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set(waits[0], waits[1])
		waits = waits[2:]
		w.WriteHeader(429)
	}))
	ctx, cancel := context.WithTimeout(t.Context(), await.Patience)
	defer cancel()
	if _, err := f.Changes(ctx, resultID); err == nil || !strings.Contains(err.Error(), "puts requests off") {
		t.Errorf("got %v", err)
	}
}
