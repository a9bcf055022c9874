package policy_test

import (
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"reflect"
	"strings"
	"testing"
	"time"

	"github.com/colophon-build/colophon/internal/strict"
	"github.com/colophon-build/colophon/policy"
	"github.com/colophon-build/colophon/test/spent"
)

// setFiles returns the vectors of version 2 of a kind: good or bad.
func setFiles(t testing.TB, kind string) (files []string) {
	t.Helper()
	for _, ext := range []string{"yaml", "json"} {
		found, err := filepath.Glob("../spec/policy/v2/" + kind + "/*." + ext)
		if err != nil {
			t.Fatal(err)
		}
		files = append(files, found...)
	}
	if len(files) == 0 {
		t.Fatalf("there are no vectors of %s", kind)
	}
	return files
}

func read(t testing.TB, file string) []byte {
	t.Helper()
	raw, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	return raw
}

// TestSetVectors: the vectors of spec/policy. The first line of a bad one says what the error
// must have in it.
func TestSetVectors(t *testing.T) {
	for _, file := range setFiles(t, "good") {
		sets, err := policy.ParseSets(read(t, file))
		if err != nil {
			t.Errorf("%s: %v", file, strict.In(filepath.Base(file), err))
		}
		for _, s := range sets {
			if got, want := asJSON(t, rewritten(t, s)), asJSON(t, s); got != want {
				t.Errorf("%s: got %s after writing it, want %s", file, got, want)
			}
		}
	}
	for _, file := range setFiles(t, "bad") {
		raw := read(t, file)
		want := strings.TrimSpace(strings.TrimPrefix(strings.SplitN(string(raw), "\n", 2)[0], "# "))
		if strings.HasSuffix(file, ".json") {
			want = strings.TrimSpace(string(read(t, strings.TrimSuffix(file, "json")+"txt")))
		}
		sets, err := policy.ParseSets(raw)
		if err == nil || sets != nil {
			t.Errorf("%s: got %+v, %v, want an error and nothing else", file, sets, err)
			continue
		}
		if got := strict.In(filepath.Base(file), err).Error(); !strings.Contains(got, want) {
			t.Errorf("%s: got %s, want %s in it", file, got, want)
		}
	}
}

func asJSON(t testing.TB, s *policy.Set) string {
	t.Helper()
	d, err := s.Document()
	if err != nil {
		t.Fatal(err)
	}
	raw, err := json.Marshal(d)
	if err != nil {
		t.Fatal(err)
	}
	return string(raw)
}

// rewritten writes a set as YAML, and reads it again.
func rewritten(t testing.TB, s *policy.Set) *policy.Set {
	t.Helper()
	d, err := s.Document()
	if err != nil {
		t.Fatal(err)
	}
	raw, err := d.YAML()
	if err != nil {
		t.Fatal(err)
	}
	again, err := parseSet(raw)
	if err != nil {
		t.Fatalf("%v of %s", err, raw)
	}
	return again
}

// TestConvert: every example of version 1 becomes a document of version 2 that demands the
// same; spec/policy/v2/converted has them.
func TestConvert(t *testing.T) {
	files, _ := filepath.Glob("../spec/policy/good/*.json")
	if len(files) < 9 {
		t.Fatalf("got %d examples", len(files))
	}
	for _, file := range files {
		raw := read(t, file)
		name := strings.TrimSuffix(filepath.Base(file), ".json")
		d, err := policy.Convert(raw, name)
		if err != nil {
			t.Errorf("%s: %v", file, err)
			continue
		}
		got, err := d.YAML()
		if err != nil {
			t.Fatal(err)
		}
		golden := "../spec/policy/v2/converted/" + name + ".yaml"
		if os.Getenv("UPDATE") != "" {
			if err := os.WriteFile(golden, got, 0o644); err != nil {
				t.Fatal(err)
			}
		}
		if want := read(t, golden); string(got) != string(want) {
			t.Errorf("%s: got\n%s, want\n%s", file, got, want)
		}
		v1, err := policy.ParseSets(raw)
		if err != nil {
			t.Fatal(err)
		}
		v2, err := parseSet(got)
		if err != nil {
			t.Errorf("%s: %v of %s", file, err, got)
			continue
		}
		v2.Name = v1[0].Name
		if !reflect.DeepEqual(v1[0], v2) {
			t.Errorf("%s: got %+v, want %+v", file, v2, v1[0])
		}
	}
}

const minimalSet = `apiVersion: colophon.build/v1
kind: ImagePolicy
metadata: {name: app}
spec:
  unmatched: deny
  rules:
  - name: app
    images: [{glob: reg.example.com/**}]
    accept: [{built: {source: git.example.com/a}}]
`

// TestVersion1InASet: a policy of version 1 is one rule about every image, which is enforced.
func TestVersion1InASet(t *testing.T) {
	p, err := policy.Parse([]byte(`{"source":"git.example.com/a","workflowInputs":{"kind":"x"}}`))
	if err != nil {
		t.Fatal(err)
	}
	sets, err := policy.ParseSets([]byte(`{"source":"git.example.com/a","workflowInputs":{"kind":"x"}}`))
	if err != nil || len(sets) != 1 || !reflect.DeepEqual(sets[0], policy.Every(p)) {
		t.Fatalf("got %+v, %v", sets, err)
	}
	s := sets[0]
	for _, i := range []policy.Image{{Name: "reg.example.com/a", Digest: someDigest}, {Digest: someDigest}} {
		if !s.Rules[0].Matches(i) {
			t.Errorf("the rule is not about %+v", i)
		}
	}
	if s.Unmatched != policy.DenyUnmatched || s.Rules[0].ModeAt(time.Now()) != policy.Enforce {
		t.Errorf("got %+v", s)
	}
	for doc, want := range map[string]string{
		`{"source":"git.example.com/a","sauce":1}`: `1:32: policy: there is no member "sauce"`,
		"source: git.example.com/a\n":              "a policy of version 1 is JSON",
		`{"spec":{}, "sauce":1}`:                   `there is no member "sauce"`,
		`{"kind":"ImagePolicy"`:                    "it ends too early",
		`{}`:                                       "names no source",
	} {
		if _, err := policy.ParseSets([]byte(doc)); err == nil || !strings.Contains(strict.In("F", err).Error(), want) && !strings.Contains(err.Error(), strings.TrimPrefix(want, "1:32: policy: ")) {
			t.Errorf("%s: got %v, want %s", doc, err, want)
		}
	}
}

// TestModes: what a rule does at a time.
func TestModes(t *testing.T) {
	from := time.Date(2026, 12, 1, 0, 0, 0, 0, time.UTC)
	before, at := from.Add(-time.Second), from
	for _, tt := range []struct {
		mode         policy.Mode
		from         time.Time
		before, then policy.Mode
	}{
		{policy.Enforce, time.Time{}, policy.Enforce, policy.Enforce},
		{policy.Warn, time.Time{}, policy.Warn, policy.Warn},
		{policy.Audit, time.Time{}, policy.Audit, policy.Audit},
		{policy.Enforce, from, policy.Warn, policy.Enforce},
		{policy.Warn, from, policy.Warn, policy.Enforce},
		{policy.Audit, from, policy.Audit, policy.Enforce},
	} {
		r := policy.Rule{Mode: tt.mode, EnforceFrom: tt.from}
		if got := r.ModeAt(before); got != tt.before {
			t.Errorf("%s from %s: got %s before, want %s", tt.mode, tt.from, got, tt.before)
		}
		if got := r.ModeAt(at); got != tt.then {
			t.Errorf("%s from %s: got %s then, want %s", tt.mode, tt.from, got, tt.then)
		}
	}
}

// parseSet parses a file of one document.
func parseSet(data []byte) (*policy.Set, error) {
	sets, err := policy.ParseSets(data)
	if err != nil {
		return nil, err
	}
	return sets[0], nil
}

// TestExemptions: they count until they end, and say so afterwards.
func TestExemptions(t *testing.T) {
	s, err := parseSet([]byte(strings.Replace(minimalSet, "    accept:", `    exemptions:
    - {images: [{glob: reg.example.com/old@*}], reason: moved, owner: team-a, until: 2026-12-31}
    - {images: [{digest: `+someDigest+`}], reason: hot fix, owner: team-b, until: 2026-11-30T12:00:00Z}
    accept:`, 1)))
	if err != nil {
		t.Fatal(err)
	}
	r := s.Rules[0]
	old, hot, other := policy.Image{Name: "reg.example.com/old", Digest: strings.Replace(someDigest, "0", "1", 1)}, policy.Image{Name: "reg.example.com/x", Digest: someDigest}, policy.Image{Name: "reg.example.com/x", Digest: strings.Replace(someDigest, "0", "1", 1)}
	for _, tt := range []struct {
		image        policy.Image
		at           string
		owner, ended string
	}{
		{old, "2026-12-31T23:59:59Z", "team-a", ""},
		{old, "2027-01-01T00:00:00Z", "", "team-a"},
		{hot, "2026-11-30T11:59:59Z", "team-b", ""},
		{hot, "2026-11-30T12:00:00Z", "", "team-b"},
		{other, "2026-11-01T00:00:00Z", "", ""},
	} {
		now, err := time.Parse(time.RFC3339, tt.at)
		if err != nil {
			t.Fatal(err)
		}
		owner := func(e *policy.Exemption) string {
			if e == nil {
				return ""
			}
			return e.Owner
		}
		if got, ended := r.Exempt(tt.image, now); owner(got) != tt.owner || owner(ended) != tt.ended {
			t.Errorf("%s at %s: got %+v, ended %+v", tt.image.Name, tt.at, got, ended)
		}
	}
}

// TestSetBounds: past a limit there is an error, and it is quick.
func TestSetBounds(t *testing.T) {
	rule := "\n  - {name: r%d, images: [{glob: '**'}], accept: [{built: {source: any}}]}"
	many := func(n int) string {
		var b strings.Builder
		b.WriteString(strings.SplitN(minimalSet, "\n  - name", 2)[0])
		for i := range n {
			fmt.Fprintf(&b, rule, i)
		}
		return b.String()
	}
	list := func(n int, item string) string {
		return "[" + strings.TrimSuffix(strings.Repeat(item+", ", n), ", ") + "]"
	}
	in := func(member, value string) string { return minimalSet + "    " + member + ": " + value + "\n" }
	for what, tt := range map[string]struct{ doc, want string }{
		"bytes":      {many(20_000), "want at most 1048576"},
		"rules":      {`{"apiVersion":"colophon.build/v1","kind":"ImagePolicy","metadata":{"name":"a"},"spec":{"unmatched":"deny","rules":` + list(10_001, "{}") + "}}", "got 10001, want at most 10000"},
		"images":     {strings.Replace(minimalSet, "[{glob: reg.example.com/**}]", list(257, "{glob: '**'}"), 1), "images: got 257"},
		"accept":     {strings.Replace(minimalSet, "[{built: {source: git.example.com/a}}]", list(33, "{built: {source: any}}"), 1), "accept: got 33 alternatives"},
		"conditions": {in("conditions", list(17, "{expression: 'true', message: x}")), "conditions: got 17"},
		"exemptions": {in("exemptions", list(257, "{images: [{glob: '**'}], reason: x, owner: ops, until: 2026-12-31}")), "exemptions: got 257"},
		"rebuilds":   {in("rebuilds", "{atLeast: 1, by: "+list(65, "'https://b.example'")+"}"), "by: got 65"},
		"glob":       {strings.Replace(minimalSet, "reg.example.com/**", strings.Repeat("a", 600)+"*", 1), "more than 512 bytes"},
		"text":       {in("exemptions", "[{images: [{glob: '**'}], reason: "+strings.Repeat("x", 1025)+", owner: ops, until: 2026-12-31}]"), "want text of 1 to 1024"},
		"documents":  {strings.Repeat("---\n"+minimalSet, 65), "more than 64 documents"},
	} {
		begun := spent.Now()
		_, err := policy.ParseSets([]byte(tt.doc))
		if err == nil || !strings.Contains(err.Error(), tt.want) {
			t.Errorf("%s: got %.300v, want %s", what, err, tt.want)
		}
		if took := spent.Now() - begun; took > 5*time.Second {
			t.Errorf("%s: took %s", what, took)
		}
	}
}

// TestCheckSet: what a document cannot say and a caller can.
func TestCheckSet(t *testing.T) {
	good := func() *policy.Set {
		s, err := parseSet([]byte(minimalSet))
		if err != nil {
			t.Fatal(err)
		}
		return s
	}
	for what, change := range map[string]func(*policy.Set){
		"nothing":      func(s *policy.Set) { *s = policy.Set{} },
		"no default":   func(s *policy.Set) { s.Unmatched = "" },
		"no mode":      func(s *policy.Set) { s.Rules[0].Mode = "" },
		"no patterns":  func(s *policy.Set) { s.Rules[0].Images = nil },
		"no pattern":   func(s *policy.Set) { s.Rules[0].Images = []policy.ImagePattern{{}} },
		"nothing else": func(s *policy.Set) { s.Rules[0].Accept = nil },
		"no policy":    func(s *policy.Set) { s.Rules[0].Accept = []policy.Policy{{}} },
		"no end": func(s *policy.Set) {
			s.Rules[0].Exemptions = []policy.Exemption{{Images: s.Rules[0].Images, Reason: "x", Owner: "y"}}
		},
		"negative age": func(s *policy.Set) { s.Rules[0].DistrustMaxAge = -1 },
		"no condition": func(s *policy.Set) { s.Rules[0].Conditions = []policy.Condition{{}} },
	} {
		s := good()
		change(s)
		if s.Check() == nil {
			t.Errorf("%s: passes", what)
		}
	}
}

// TestDangersOfASet: what a set accepts without saying from where.
func TestDangersOfASet(t *testing.T) {
	s, err := parseSet([]byte(strings.NewReplacer("deny", "warn", "git.example.com/a", "any").Replace(minimalSet)))
	if err != nil {
		t.Fatal(err)
	}
	if d := strings.Join(s.Dangers(), "; "); !strings.Contains(d, "no rule is about") || !strings.Contains(d, `rule "app": any source`) {
		t.Errorf("dangers: got %s", d)
	}
}

// FuzzParseSets: a set that is taken passes its check, and means the same after it was
// written again.
func FuzzParseSets(f *testing.F) {
	for _, kind := range []string{"good", "bad"} {
		for _, file := range setFiles(f, kind) {
			f.Add(read(f, file))
		}
	}
	f.Fuzz(func(t *testing.T, raw []byte) {
		sets, err := policy.ParseSets(raw)
		if err != nil {
			if fault, ok := errors.AsType[*strict.Fault](err); ok && (fault.Line < 1 || fault.Column < 1) {
				t.Errorf("%q: got an error at %d:%d", raw, fault.Line, fault.Column)
			}
			return
		}
		for _, s := range sets {
			if err := s.Check(); err != nil {
				t.Errorf("%q: %v", raw, err)
			}
			if got, want := asJSON(t, rewritten(t, s)), asJSON(t, s); got != want {
				t.Errorf("%q: got %s, want %s", raw, got, want)
			}
		}
	})
}

// TestCookbook: each recipe of docs/policy.md is a rule without a fault.
func TestCookbook(t *testing.T) {
	_, book, found := strings.Cut(string(read(t, "../docs/policy.md")), "## Cookbook\n")
	recipes := strings.Split(book, "```yaml\n")[1:]
	if !found || len(recipes) != 22 {
		t.Fatalf("got %d recipes, want 22", len(recipes))
	}
	now := time.Date(2026, 12, 1, 0, 0, 0, 0, time.UTC)
	for i, r := range recipes {
		rule, _, _ := strings.Cut(r, "```")
		document := "apiVersion: colophon.build/v1\nkind: ImagePolicy\nmetadata: {name: shop}\nspec:\n  unmatched: deny\n  rules:\n    - name: app\n      " + strings.ReplaceAll(strings.TrimSpace(rule), "\n", "\n      ") + "\n"
		findings, err := policy.Lint([]byte(document), now)
		if err != nil {
			t.Errorf("recipe %d: %v", i+1, err)
		}
		for _, f := range findings {
			if f.Wrong {
				t.Errorf("recipe %d: %s", i+1, f.What)
			}
		}
	}
}

// TestOtherGroups: whoever does not read the policies of another group refuses a file that has one.
func TestOtherGroups(t *testing.T) {
	const theirs = "apiVersion: policy.sigstore.dev/v1beta1\nkind: ClusterImagePolicy\nmetadata: {name: x}\nspec: {images: [{glob: '**'}]}\n"
	const ours = "apiVersion: colophon.build/v1\nkind: ImagePolicy\nmetadata: {name: x}\nspec: {unmatched: deny, rules: []}\n"
	if _, err := policy.ParseSets([]byte(ours)); err != nil {
		t.Fatal(err)
	}
	for _, text := range []string{theirs, ours + "---\n" + theirs, "apiVersion: v1\nkind: List\nitems:\n- " + strings.ReplaceAll(ours, "\n", "\n  ") + "\n- " + strings.ReplaceAll(theirs, "\n", "\n  ")} {
		if sets, err := policy.ParseSets([]byte(text)); err == nil || sets != nil {
			t.Errorf("got %d policies, %v, want an error and no part", len(sets), err)
		}
	}
}
