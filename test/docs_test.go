package test

import (
	"io/fs"
	"net/url"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"

	"golang.org/x/mod/modfile"

	"github.com/colophon-build/colophon/audit"
)

// repoFiles calls f with each file of the repository that ends in suffix.
func repoFiles(t *testing.T, suffix string, f func(path string, text []byte)) {
	t.Helper()
	err := filepath.WalkDir("..", func(path string, d fs.DirEntry, err error) error {
		switch {
		case err != nil:
			return err
		case d.IsDir() && (d.Name() == ".git" || path == "../out" || path == "../data"):
			return fs.SkipDir
		case d.IsDir() || !strings.HasSuffix(path, suffix):
			return nil
		}
		text, err := os.ReadFile(path)
		if err == nil {
			f(path, text)
		}
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
}

// docs/threats.md says which test tries an attack, docs/limits.md which one tries a limit, and
// spec/clusterimagepolicy which one tries a rule: such a test is there, in the package it names.
func TestThreatsNameTests(t *testing.T) {
	tests := map[string]map[string]bool{} // by package directory
	name := regexp.MustCompile(`(?m)^func (Test\w+)\(t \*testing\.T\)`)
	repoFiles(t, "_test.go", func(path string, text []byte) {
		dir := filepath.ToSlash(strings.TrimPrefix(filepath.Dir(path), "../"))
		if tests[dir] == nil {
			tests[dir] = map[string]bool{}
		}
		for _, m := range name.FindAllSubmatch(text, -1) {
			tests[dir][string(m[1])] = true
		}
	})
	for _, page := range []string{"docs/threats.md", "docs/limits.md", "spec/clusterimagepolicy/README.md"} {
		text, err := os.ReadFile("../" + page)
		if err != nil {
			t.Fatal(err)
		}
		named := 0
		for _, list := range regexp.MustCompile(`([a-z/-]+): (Test\w+(?:, Test\w+)*)`).FindAllStringSubmatch(string(text), -1) {
			for test := range strings.SplitSeq(list[2], ", ") {
				if named++; !tests[list[1]][test] {
					t.Errorf("%s has no %s", list[1], test)
				}
			}
		}
		if all := len(regexp.MustCompile(`\bTest[A-Z]\w+`).FindAll(text, -1)); named == 0 || named != all {
			t.Errorf("%s names %d tests, of which %d with their package", page, all, named)
		}
		for _, story := range regexp.MustCompile(`[a-z-]+\.txtar`).FindAllString(string(text), -1) {
			found, _ := filepath.Glob(filepath.Join("stories", "testdata", story))
			jobs, _ := filepath.Glob(filepath.Join("stories", "testdata", "jobs", story))
			if len(found)+len(jobs) == 0 {
				t.Errorf("%s names %s, and there is no such story", page, story)
			}
		}
	}
}

// docs/dependencies.md has each direct dependency of go.mod, and no other.
func TestDependenciesAreListed(t *testing.T) {
	gomod, err := os.ReadFile("../go.mod")
	if err != nil {
		t.Fatal(err)
	}
	f, err := modfile.Parse("go.mod", gomod, nil)
	if err != nil {
		t.Fatal(err)
	}
	page, err := os.ReadFile("../docs/dependencies.md")
	if err != nil {
		t.Fatal(err)
	}
	var want, got []string
	for _, r := range f.Require {
		if !r.Indirect {
			want = append(want, r.Mod.Path)
		}
	}
	for _, m := range regexp.MustCompile("(?m)^\\| `([^`]+)` \\|").FindAllSubmatch(page, -1) {
		got = append(got, string(m[1]))
	}
	slices.Sort(want)
	slices.Sort(got)
	if !slices.Equal(got, want) {
		t.Errorf("docs/dependencies.md and go.mod differ:\n got %q\nwant %q", got, want)
	}
}

// TestProgramsShareVersions checks that the modules of colophond's other programs require the
// versions of the main module, as far as both require a module: a package of one version is
// compiled once for all.
func TestProgramsShareVersions(t *testing.T) {
	for _, dir := range []string{"tools/buildkit", "cmd/colophon-scan"} {
		t.Run(dir, func(t *testing.T) { sharesVersions(t, dir) })
	}
}

func sharesVersions(t *testing.T, dir string) {
	ours, theirs := requirements(t, "../go.mod"), requirements(t, "../"+dir+"/go.mod")
	shared := 0
	for path, want := range ours {
		got, ok := theirs[path]
		if !ok {
			continue
		}
		shared++
		if got != want {
			t.Errorf("%s/go.mod: %s: got %s, want %s as in go.mod", dir, path, got, want)
		}
	}
	if shared < 40 {
		t.Errorf("got %d modules in both go.mod and %s/go.mod, want at least 40", shared, dir)
	}
}

// requirements returns the versions that a go.mod file requires, by module.
func requirements(t *testing.T, path string) map[string]string {
	t.Helper()
	data, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	f, err := modfile.Parse(path, data, nil)
	if err != nil {
		t.Fatal(err)
	}
	versions := map[string]string{}
	for _, r := range f.Require {
		versions[r.Mod.Path] = r.Mod.Version
	}
	return versions
}

// Links between the pages lead somewhere, and their anchors to a heading there.
func TestLinks(t *testing.T) {
	link := regexp.MustCompile(`\]\(([^)\s]+)\)`)
	headings := map[string][]string{} // anchors of each page
	repoFiles(t, ".md", func(path string, text []byte) { headings[path] = anchors(string(text)) })
	found, sections := 0, 0
	repoFiles(t, ".md", func(path string, text []byte) {
		for _, m := range link.FindAllSubmatch(text, -1) {
			u, err := url.Parse(string(m[1]))
			if err != nil || u.Scheme != "" {
				continue
			}
			found++
			to := path
			if u.Path != "" {
				to = filepath.Join(filepath.Dir(path), u.Path)
			}
			info, err := os.Stat(to)
			if err != nil {
				t.Errorf("%s: %v", path, err)
				continue
			}
			if info.IsDir() {
				to = filepath.Join(to, "README.md")
			}
			if u.Fragment == "" || filepath.Ext(to) != ".md" {
				continue
			}
			if sections++; !slices.Contains(headings[to], u.Fragment) {
				t.Errorf("%s: %s has no heading for #%s", path, to, u.Fragment)
			}
		}
	})
	if found == 0 || sections == 0 {
		t.Errorf("looked at %d links, %d with an anchor", found, sections)
	}
}

// anchors returns the anchors that GitHub gives the headings of a page.
func anchors(text string) (out []string) {
	fenced := false
	other := regexp.MustCompile(`[^\p{L}\p{N} _-]`)
	for line := range strings.Lines(text) {
		if strings.HasPrefix(strings.TrimSpace(line), "```") {
			fenced = !fenced
		}
		title, ok := strings.CutPrefix(strings.TrimLeft(line, "#"), " ")
		if fenced || !ok || !strings.HasPrefix(line, "#") {
			continue
		}
		title = other.ReplaceAllString(strings.ToLower(strings.TrimSpace(title)), "")
		out = append(out, strings.ReplaceAll(title, " ", "-"))
	}
	return out
}

// A table of the documentation has each row once: two people who add to a row leave two of it when
// their work is merged by lines, and each says half of what is so.
func TestTablesHaveEachRowOnce(t *testing.T) {
	tables := 0
	several := []string{"../docs/kubernetes.md", "../docs/policy.md", "../docs/seeds.md"} // the first column is no key
	repoFiles(t, ".md", func(path string, text []byte) {
		if slices.Contains(several, filepath.ToSlash(path)) {
			return
		}
		var seen map[string]bool // of the table that is being read; nil: there is none
		for line := range strings.SplitSeq(string(text), "\n") {
			switch {
			case !strings.HasPrefix(line, "|"):
				seen = nil
				continue
			case seen == nil:
				seen = map[string]bool{}
				tables++
			}
			first, _, _ := strings.Cut(line[1:], "|")
			if first = strings.TrimSpace(first); first != "" && seen[first] {
				t.Errorf("%s has two rows of %q in one table", strings.TrimPrefix(path, "../"), first)
			}
			seen[first] = true
		}
	})
	if tables < 50 {
		t.Errorf("got %d tables, want those of all pages", tables)
	}
}

// TestTablesAreWhole: each row of a table in the pages belongs to a table with a head. A blank line within a table ends
// it, so that the rows below are shown as text.
func TestTablesAreWhole(t *testing.T) {
	tables := 0
	repoFiles(t, ".md", func(path string, text []byte) {
		lines, fenced := strings.Split(string(text), "\n"), false
		for i, line := range lines {
			if strings.HasPrefix(strings.TrimSpace(line), "```") {
				fenced = !fenced
			}
			begins := !fenced && strings.HasPrefix(strings.TrimSpace(line), "|") && (i == 0 || !strings.HasPrefix(strings.TrimSpace(lines[i-1]), "|"))
			if !begins {
				continue
			}
			if tables++; i+1 == len(lines) || !strings.HasPrefix(strings.TrimSpace(lines[i+1]), "|---") {
				t.Errorf("%s:%d: a row without the head of a table: %.60s", path, i+1, line)
			}
		}
	})
	if tables < 100 {
		t.Errorf("got %d tables, want those of all pages", tables)
	}
}

// TestKindsOfRecords: spec/audit/v1 has each kind of record, and says of a kind that nothing records it exactly if
// that is so.
func TestKindsOfRecords(t *testing.T) {
	const nobody = "Nothing of Colophon records it yet"
	constants := map[string]audit.Kind{} // by the name of the constant
	for _, m := range regexp.MustCompile(`(?m)^\t(Kind\w+)\s+Kind = "(\w+)"`).FindAllStringSubmatch(page(t, "audit/record.go"), -1) {
		constants[m[1]] = audit.Kind(m[2])
	}
	recorded := map[audit.Kind]bool{}
	use := regexp.MustCompile(`\b(?:audit|records)\.(Kind\w+)\b`)
	repoFiles(t, ".go", func(path string, text []byte) {
		dir := filepath.ToSlash(filepath.Dir(path))
		if strings.HasSuffix(path, "_test.go") || dir == "../audit" || dir == "../investigate" { // these define kinds, and ask for records of them
			return
		}
		for _, m := range use.FindAllSubmatch(text, -1) {
			recorded[constants[string(m[1])]] = true
		}
	})
	rows := map[audit.Kind]string{}
	for _, m := range regexp.MustCompile("(?m)^\\| ((?:`\\w+`(?:, )?)+) \\| (.*) \\|$").FindAllStringSubmatch(page(t, "spec/audit/v1/README.md"), -1) {
		for name := range strings.SplitSeq(m[1], ", ") {
			rows[audit.Kind(strings.Trim(name, "`"))] = m[2]
		}
	}
	if len(constants) != len(audit.Kinds()) {
		t.Errorf("got %d constants, want one for each of the %d kinds", len(constants), len(audit.Kinds()))
	}
	for _, kind := range audit.Kinds() {
		row, ok := rows[kind]
		if !ok {
			t.Errorf("spec/audit/v1 does not have the kind %s", kind)
		} else if strings.Contains(row, nobody) == recorded[kind] {
			t.Errorf("spec/audit/v1 says of the kind %s: %q; something records it: %t", kind, row, recorded[kind])
		}
	}
}
