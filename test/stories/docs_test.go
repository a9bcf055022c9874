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

	"github.com/colophon-build/colophon/test/harness"
)

// A shell block of README.md or docs/ is typed by these tests as it stands there.
// A comment in the line before it says otherwise:
//
//	<!-- on the platform -->   it is typed on the tests' platform, with the names of the examples replaced
//	<!-- not run: REASON -->   no test can type it
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
	marker = regexp.MustCompile(`^<!-- (on the platform|not run)(?:: (\S.*))? -->$`)
	shells = []string{"sh", "console"}
	others = []string{"text", "json", "yaml", "go"}
)

// blocks returns the shell blocks of a page, or what is wrong with it: code
// without a language, which nobody can tell from a shell's, and marks that no
// test would understand.
func blocks(page, text string) (out []block, err error) {
	var open *block // in a block; its run is another language's for those that are no shell's
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
			return nil, bad(n, "a block of %q is marked as a shell's", f[1])
		case f != nil:
			open = &block{page: page, line: n + 1, run: f[1]}
		case m != nil && (m[1] == notRun) == (m[2] != ""):
			mark = m[1]
		case strings.HasPrefix(line, "<!--"):
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

// pages are the shell blocks of README.md and docs/, by page.
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

// script is what a page has a reader type.
func script(list []block, run string) (code string) {
	for _, b := range list {
		if b.run == run {
			code += b.code
		}
	}
	return code
}

// TestPages types what pages tell a newcomer to, as it stands there, at the top
// of the repository, as somebody who trusts nobody yet.
func TestPages(t *testing.T) {
	root := harness.Root(t)
	harness.Bin(t, "colophon")
	typed := 0
	for page, list := range pages(t) {
		code := script(list, asItStands)
		if code == "" {
			continue
		}
		typed++
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
	if typed == 0 {
		t.Error("no page has a block to type")
	}
}

// typePages types the blocks of pages that need a platform, on this one. The
// image of the examples is released first.
func typePages(t *testing.T, p *harness.Platform) {
	root, repo := harness.Root(t), harness.GoRepo(t)
	source, err := filepath.EvalSymlinks(repo)
	if err != nil {
		t.Fatal(err)
	}
	for _, tag := range []string{"v1.2.0", "v1.3.0"} {
		harness.Git(t, repo, "tag", tag)
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

// elsewhere is a directory that looks to a page like the top of the repository,
// so that what the page writes stays out of it. Its out/hello is smaller.
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
	harness.Git(t, hello, "init", "-q")
	harness.Git(t, hello, "add", ".")
	harness.Git(t, hello, "commit", "-q", "-m", "hello")
	harness.Git(t, hello, "tag", "-a", "-m", "v0.1.0", "v0.1.0")
	return dir
}

// Blocks that nobody can tell what to do with are found.
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
		"<!-- on the platform -->\n```json\n{}\n```\n": "marked as a shell's",
		"```sh\ntrue\n":                                "does not end",
	} {
		if _, err := blocks("p", text); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%q: got %v, want %q", text, err, want)
		}
	}
}
