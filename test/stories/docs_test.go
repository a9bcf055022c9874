package stories

import (
	"encoding/json"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"

	"github.com/colophon-build/colophon/test/gittest"
	"github.com/colophon-build/colophon/test/harness"
)

// These tests run each shell block of README.md and docs/ unchanged, unless a comment
// in the line before it says otherwise:
//
//	<!-- on the platform -->   run it on the tests' platform, with the names of the examples replaced
//	<!-- not run: REASON -->   no test can run it
const (
	asItStands    = ""
	onThePlatform = "on the platform"
	notRun        = "not run"
)

// block is one shell block of a page.
type block struct {
	page string // docs/verify.md
	line int
	run  string // asItStands, onThePlatform or notRun
	code string
}

var (
	fence  = regexp.MustCompile("^ *```(.*)$")
	marker = regexp.MustCompile(`^ *<!-- (on the platform|not run)(?:: (\S.*))? -->$`)
	shells = []string{"sh", "console"}
	others = []string{"text", "json", "yaml", "toml", "dockerfile", "go"}
)

// blocks returns the shell blocks of a page. It fails for a code block without a
// language, which could be a shell block, and for an unknown mark.
func blocks(page, text string) (out []block, err error) {
	var open *block // the open block; until it ends, run holds its language
	mark, before := asItStands, ""
	bad := func(n int, format string, args ...any) error {
		return fmt.Errorf("%s:%d: %s", page, n+1, fmt.Sprintf(format, args...))
	}
	for n, line := range strings.Split(text, "\n") {
		f := fence.FindStringSubmatch(line)
		m := marker.FindStringSubmatch(line)
		switch {
		case open != nil && f != nil:
			if slices.Contains(shells, open.run) {
				open.run = mark
				out = append(out, *open)
			}
			open, mark = nil, asItStands
		case open != nil:
			open.code += line + "\n"
		case f != nil && !slices.Contains(shells, f[1]) && !slices.Contains(others, f[1]):
			return nil, bad(n, "got a block of %q, want one of %q or %q", f[1], shells, others)
		case f != nil && mark != asItStands && !slices.Contains(shells, f[1]):
			return nil, bad(n, "a block of %q has the mark of a shell block", f[1])
		case f != nil:
			open = &block{page: page, line: n + 1, run: f[1]}
		case m != nil && (m[1] == notRun) == (m[2] != ""):
			mark = m[1]
		case strings.HasPrefix(line, "<!-- made by "): // the rest of the page has a maker
		case strings.HasPrefix(strings.TrimLeft(line, " "), "<!--"):
			return nil, bad(n, "got %q, want a mark of a shell block: %q, or %q with a reason", line, onThePlatform, notRun)
		case mark != asItStands:
			return nil, bad(n, "a mark has no block in the next line")
		case strings.HasPrefix(line, "    ") && before == "":
			return nil, bad(n, "got an indented block, want a fence with its language")
		}
		before = line
	}
	if open != nil {
		return nil, bad(open.line, "the block does not end")
	}
	return out, nil
}

// pages returns the shell blocks of README.md and docs/, by page.
func pages(t *testing.T) map[string][]block {
	t.Helper()
	root := harness.Root(t)
	names, err := filepath.Glob(filepath.Join(root, "docs", "*.md"))
	if err != nil {
		t.Fatal(err)
	}
	out := map[string][]block{}
	for _, name := range append(names, filepath.Join(root, "README.md")) {
		text, err := os.ReadFile(name)
		if err != nil {
			t.Fatal(err)
		}
		page, _ := filepath.Rel(root, name)
		if out[page], err = blocks(page, string(text)); err != nil {
			t.Error(err)
		}
	}
	return out
}

// script joins the blocks of a page that a reader runs.
func script(list []block, run string) (code string) {
	for _, b := range list {
		if b.run == run {
			code += b.code
		}
	}
	return code
}

// TestPages runs the unmarked blocks at the root of the repository, with an empty trust
// store, as a newcomer would.
func TestPages(t *testing.T) {
	root := harness.Root(t)
	harness.Bin(t, "colophon")
	ran := 0
	for page, list := range pages(t) {
		code := script(list, asItStands)
		if code == "" {
			continue
		}
		ran++
		t.Run(page, func(t *testing.T) {
			cmd := exec.Command("sh", "-euxc", code)
			cmd.Dir = root
			cmd.Env = []string{"PATH=" + os.Getenv("PATH"), "HOME=" + t.TempDir(), "TMPDIR=" + t.TempDir(), "NO_COLOR=1"}
			out, err := cmd.CombinedOutput()
			if err != nil || strings.Count(string(out), "\naccepted\n") != strings.Count(code, "colophon verify ") {
				t.Errorf("%v\n%s", err, out)
			}
		})
	}
	if ran == 0 {
		t.Error("no page has a block to run")
	}
}

// runPages first releases the image of the examples, and then runs the blocks marked
// "on the platform" on p.
func runPages(t *testing.T, p *harness.Platform) {
	root, repo := harness.Root(t), harness.GoRepo(t)
	source, err := filepath.EvalSymlinks(repo)
	if err != nil {
		t.Fatal(err)
	}
	for _, tag := range []string{"v1.2.0", "v1.3.0"} {
		gittest.Git(t, repo, "tag", tag)
		if out, err := p.Colophon(t.Context(), "release", repo, "--ref", tag, "--image", p.Addr+"/team/app").CombinedOutput(); err != nil {
			t.Fatalf("%v\n%s", err, out)
		}
	}
	data, err := os.ReadFile(filepath.Join(p.Data, "client.json"))
	if err != nil {
		t.Fatal(err)
	}
	var client struct{ Fingerprint string }
	if err := json.Unmarshal(data, &client); err != nil {
		t.Fatal(err)
	}
	names := strings.NewReplacer(
		"https://colophon.example.com", p.URL,
		"127.0.0.1:8080", p.Addr,
		"registry.example.com", p.Addr,
		"https://git.example.com/team/app", "file://"+source,
		"git.example.com/team/app", "file://"+source,
		"sha256:…", client.Fingerprint,
	)
	for page, list := range pages(t) {
		code := names.Replace(script(list, onThePlatform))
		if code == "" {
			continue
		}
		t.Run(page, func(t *testing.T) {
			dir := elsewhere(t, root)
			cmd := exec.Command("sh", "-euxc", "colophon trust add --yes "+p.URL+"\n"+code)
			cmd.Dir = dir
			cmd.Env = []string{
				"PATH=" + filepath.Join(root, "out/bin") + ":" + os.Getenv("PATH"), "HOME=" + dir, "TMPDIR=" + dir, "NO_COLOR=1",
				"COLOPHON_PLATFORM=" + filepath.Join(p.Data, "client.json"), "COLOPHON_TRUST=" + filepath.Join(dir, "trust"),
			}
			if out, err := cmd.CombinedOutput(); err != nil {
				t.Errorf("%v\n%s", err, out)
			}
		})
	}
}

// elsewhere returns a copy of the parts of the repository that pages use, so that the
// pages write nothing to the repository. Its out/hello is smaller.
func elsewhere(t *testing.T, root string) string {
	dir, err := filepath.EvalSymlinks(t.TempDir())
	if err != nil {
		t.Fatal(err)
	}
	hello := filepath.Join(dir, "out/hello")
	harness.Write(t, hello, map[string]string{"Dockerfile": "FROM scratch\nCOPY Dockerfile /\n"})
	for _, name := range []string{"out/bin", "out/cache"} {
		if err := os.Symlink(filepath.Join(root, name), filepath.Join(dir, name)); err != nil {
			t.Fatal(err)
		}
	}
	harness.Commit(t, hello, "v0.1.0")
	return dir
}

// TestBlocks: blocks finds the shell blocks and their marks, and refuses ambiguous pages.
func TestBlocks(t *testing.T) {
	const sh = "```sh\ntrue\n```\n"
	for text, want := range map[string]string{
		sh:                                asItStands,
		"<!-- on the platform -->\n" + sh: onThePlatform,
		"<!-- not run: it costs money -->\n" + sh: notRun,
	} {
		if got, err := blocks("p", text); err != nil || len(got) != 1 || got[0].run != want || got[0].code != "true\n" {
			t.Errorf("%q: got %+v (%v), want one block, %q", text, got, err, want)
		}
	}
	for text, want := range map[string]string{
		"```\ntrue\n```\n":                             "want one of",
		"text\n\n    colophon verify\n":                "indented",
		"<!-- not run -->\n" + sh:                      "reason",
		"<!-- not run: -->\n" + sh:                     "reason",
		"<!-- skip -->\n" + sh:                         "reason",
		"<!-- on the platform -->\n\n" + sh:            "no block in the next line",
		"<!-- on the platform -->\n```json\n{}\n```\n": "has the mark of a shell block",
		"```sh\ntrue\n":                                "does not end",
	} {
		if _, err := blocks("p", text); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%q: got %v, want %q", text, err, want)
		}
	}
}
