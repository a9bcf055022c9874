package policy

import (
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/colophon-build/colophon/test/spent"
)

// lintRule is a policy with one rule; the arguments are its images, its alternative, and
// further members.
func lintRule(images, accept, more string) string {
	return `apiVersion: colophon.build/v1
kind: ImagePolicy
metadata: {name: p}
spec:
  unmatched: deny
  rules:
    - name: r
      images: [` + images + `]
      accept:
        - ` + accept + `
` + more
}

// TestLint: what a valid policy cannot mean is found, at its line, and what is only worth
// knowing is no fault.
func TestLint(t *testing.T) {
	now := time.Date(2026, 12, 1, 12, 0, 0, 0, time.UTC)
	const (
		ours = `glob: "reg.example.com/team/**"`
		app  = `built: {source: https://git.example.com/team/app}`
	)
	signature := func(issuer, pattern string) string {
		return `signature: {signer: {certificate: {issuer: "` + issuer + `", identity: {matches: '` + pattern + `'}}}}`
	}
	exempt := func(images, until string) string {
		return "      exemptions: [{images: [{" + images + "}], reason: migration, owner: ada, until: " + until + "}]\n"
	}
	images := "{" + ours + "}"
	two := lintRule(images, app, "") + `    - name: other
      images: [` + images + `]
      accept:
        - built: {source: https://git.example.com/team/other}
`
	for what, test := range map[string]struct{ doc, want string }{
		"nothing to say":                           {lintRule(images, app, ""), ""},
		"a glob that leaves the registry":          {lintRule(images+`, {glob: "reg.example.com**"}`, app, ""), "also matches other registries"},
		"a glob that begins elsewhere":             {lintRule(images+`, {glob: "**.example.com/**"}`, app, ""), "also matches other registries"},
		"a name in any registry":                   {lintRule(images+`, {glob: "**/app@*"}`, app, ""), ""},
		"a glob of Docker Hub":                     {lintRule(`{glob: "*"}`, app, ""), "note: the glob * means index.docker.io/library/*"},
		"every image":                              {lintRule(`{glob: "**"}`, app, ""), ""},
		"an ended exemption":                       {lintRule(images, app, exempt(ours, "2026-11-30")), "11:20 wrong: the exemption of ada (migration) ended"},
		"an exemption that ends soon":              {lintRule(images, app, exempt(ours, "2026-12-20")), "note: the exemption of ada"},
		"an exemption for long":                    {lintRule(images, app, exempt(ours, "2027-11-30")), ""},
		"an exemption of everything":               {lintRule(images, app, exempt(`glob: "**"`, "2027-11-30")), "wrong: every image is exempt"},
		"a level that no builder has":              {lintRule(images, `built: {source: https://git.example.com/a/b, minLevel: 3, builders: [{id: https://p.example.com/builders/x, level: 2}]}`, ""), "wrong: nothing satisfies this: minLevel is 3"},
		"a level of a builder's trust root":        {lintRule(images, `built: {source: https://git.example.com/a/b, minLevel: 3, builders: [{id: https://p.example.com/builders/x}]}`, ""), ""},
		"an eviction that never happens":           {lintRule(images, app, "      onRunning: evict\n      mode: warn\n"), "wrong: the rule evicts no pod: its mode is warn"},
		"an eviction from a date on":               {lintRule(images, app, "      onRunning: evict\n      mode: warn\n      enforceFrom: 2027-01-01\n"), "note: the rule refuses images from 2027-01-01 on"},
		"an eviction":                              {lintRule(images, app, "      onRunning: evict\n"), ""},
		"anybody":                                  {lintRule(images, signature("https://accounts.example.com", ".*"), ""), "wrong: the pattern .* is met by strangers"},
		"any workflow":                             {lintRule(images, signature("https://token.actions.githubusercontent.com", `https://github\.com/.*`), ""), "evil-stranger"},
		"another owner":                            {lintRule(images, signature("https://token.actions.githubusercontent.com", `https://github\.com/team.*`), ""), "github.com/team-evil/"},
		"an owner":                                 {lintRule(images, signature("https://token.actions.githubusercontent.com", `https://github\.com/team/.*`), ""), ""},
		"a verifier of the source that is anybody": {lintRule(images, `built: {source: https://git.example.com/team/app, sourceTrack: {minLevel: 2, verifiers: [{id: https://v.example.com, signer: {certificate: {issuer: https://accounts.example.com, identity: {matches: ".*"}}}}]}}`, ""), "wrong: the pattern .* is met by strangers"},
		"an exemption that leaves the registry":    {lintRule(images, app, exempt(`glob: "reg.example.com**"`, "2027-11-30")), "also matches other registries"},
		"an exemption of Docker Hub":               {lintRule(images, app, exempt(`glob: "*"`, "2027-11-30")), "note: the glob * means"},
		"any repository":                           {lintRule(images, `built: {source: any}`, ""), "note: dangerous: "},
		"never enforced":                           {lintRule(images, app, "      mode: audit\n"), "note: the rule never refuses"},
		"enforced later":                           {lintRule(images, app, "      mode: warn\n      enforceFrom: 2027-01-01\n"), "note: the rule refuses images from 2027-01-01 on"},
		"enforced by now":                          {lintRule(images, app, "      mode: warn\n      enforceFrom: 2026-11-01\n"), ""},
		"rebuilds":                                 {lintRule(images, app, "      rebuilds: {atLeast: 1, by: [https://b.example.com]}\n"), "wrong: no check of rebuilds"},
		"no rule":                                  {"apiVersion: colophon.build/v1\nkind: ImagePolicy\nmetadata: {name: p}\nspec:\n  unmatched: allow\n  rules: []\n", "note: an image that no rule is about is accepted; 6:10 wrong: there is no rule"},
		"two repositories":                         {two, "wrong: nothing satisfies this rule and the rule \"r\""},
		"version 1":                                {`{"source": "https://git.example.com/team/app"}`, ""},
		"version 1, any repository":                {`{"anySource": true}`, "1:1 note: dangerous: "},
	} {
		found, err := Lint([]byte(test.doc), now)
		var got []string
		for _, f := range found {
			word := "note"
			if f.Wrong {
				word = "wrong"
			}
			got = append(got, fmt.Sprintf("%d:%d %s: %s", f.Line, f.Column, word, f.What))
		}
		text := strings.Join(got, "; ")
		if err != nil || test.want == "" && text != "" || !strings.Contains(text, test.want) {
			t.Errorf("%s: got %q, %v, want %q", what, text, err, test.want)
		}
	}
	if _, err := Lint([]byte("apiVersion: colophon.build/v1\n"), now); err == nil {
		t.Error("a broken policy has no error")
	}
}

// TestLintOfManyFindings: a file in which everything is wrong is read a few times, not once for
// each finding.
func TestLintOfManyFindings(t *testing.T) {
	var file strings.Builder
	file.WriteString("apiVersion: colophon.build/v1\nkind: ImagePolicy\nmetadata: {name: shop}\nspec:\n  unmatched: deny\n  rules:\n")
	const rules = 9000
	for i := range rules {
		fmt.Fprintf(&file, "    - {name: r%d, images: [{glob: reg.example.com**}], mode: audit, accept: [{built: {source: any}}]}\n", i)
	}
	start := spent.Now()
	found, err := Lint([]byte(file.String()), time.Now())
	if err != nil || len(found) != 3*rules {
		t.Fatalf("got %d findings, %v, want %d", len(found), err, 3*rules)
	}
	if last := found[len(found)-1]; last.Line != 6+rules || last.Rule != fmt.Sprintf("r%d", rules-1) {
		t.Errorf("got %+v as the last one", last)
	}
	if took := spent.Now() - start; took > 30*time.Second {
		t.Errorf("it took %s", took)
	}
}
