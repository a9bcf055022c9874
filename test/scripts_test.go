package test

import (
	"bytes"
	"crypto/sha256"
	"encoding/hex"
	"encoding/pem"
	"errors"
	"io"
	"net/http"
	"net/http/httptest"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strings"
	"testing"

	"github.com/colophon-build/colophon/test/await"
	"github.com/colophon-build/colophon/test/needs"
)

// script writes an executable shell script.
func script(t *testing.T, path, text string) string {
	t.Helper()
	if err := os.WriteFile(path, []byte("#!/bin/sh\n"+text), 0o755); err != nil {
		t.Fatal(err)
	}
	return path
}

// fakeGo prints what go prints: TestCompileShowsProgress gives it one package to compile of
// two files, and one module to download, for each program.
const fakeGo = `case "$*" in
*-deps*$MISSING)
	echo 'directory not found' >&2; exit 1 ;;
*-deps*)
	echo "go: downloading example.com/m v1.0.0" >&2
	printf 'example.com/m/p\t%s\nexample.com/m/p\t%s\n\n' "$PWD/go.mod" "$PWD/go.sum" ;;
*-export*)
	echo example.com/m/p >&2
	if [ -n "$FAIL" ]; then echo 'p.go:1:1: syntax error' >&2; exit 1; fi ;;
esac
`

// scripts/compile.sh counts what go downloads and compiles, and hides none of its errors.
func TestCompileShowsProgress(t *testing.T) {
	fake := script(t, filepath.Join(t.TempDir(), "go"), fakeGo)
	for _, c := range []struct {
		name, fail, missing string
		ok                  bool
		want                []string
	}{
		{"compiled", "", "none", true, []string{"downloaded 1 modules in ", "compiled 1 packages in "}},
		{"refused", "1", "none", false, []string{"p.go:1:1: syntax error\n"}},
		{"first not found", "", "m/p", false, []string{"directory not found\n"}},
		{"second not found", "", "m/q", false, []string{"directory not found\n"}},
	} {
		t.Run(c.name, func(t *testing.T) {
			cmd := exec.Command("../scripts/compile.sh", "example.com/m/p", "example.com/m/q", "example.com/m/r")
			cmd.Env = append(os.Environ(), "GO="+fake, "FAIL="+c.fail, "MISSING="+c.missing)
			out, err := cmd.CombinedOutput()
			if (err == nil) != c.ok {
				t.Errorf("got error %v, want none: %t", err, c.ok)
			}
			for _, want := range c.want {
				if !strings.Contains(string(out), want) {
					t.Errorf("got %q, want %q", out, want)
				}
			}
		})
	}
}

// What scripts/compile.sh compiled, go build with the same flags only links.
func TestCompileForTheLink(t *testing.T) {
	dir := t.TempDir()
	for name, text := range map[string]string{"go.mod": "module example.com/m\n\ngo 1.26\n", "main.go": "package main\n\nvar version string\n\nfunc main() { println(version) }\n"} {
		if err := os.WriteFile(filepath.Join(dir, name), []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	flags := "-w -X main.version=" + filepath.Base(filepath.Dir(dir))
	if out, err := exec.Command("../scripts/compile.sh", "-ldflags", flags, dir+":.").CombinedOutput(); err != nil {
		t.Fatalf("%v\n%s", err, out)
	}
	out, err := exec.Command("go", "-C", dir, "build", "-buildvcs=false", "-x", "-ldflags", flags).CombinedOutput()
	if err != nil {
		t.Fatalf("%v\n%s", err, out)
	}
	if bytes.Contains(out, []byte("/compile -o")) || !bytes.Contains(out, []byte("/link -o")) {
		t.Errorf("go build after compile.sh: got\n%s\nwant a link and no compilation", out)
	}
}

// fakeProgram is colophon or colophond as scripts/packages.sh runs it.
const fakeProgram = `case "$1" in
completion) echo "completion for $2" ;;
man) echo .TH >"$2/${0##*/}.1" ;;
esac
`

// pack runs scripts/packages.sh in a new directory, and returns that.
func pack(t *testing.T, version string) string {
	t.Helper()
	dir := t.TempDir()
	programs, out := filepath.Join(dir, "programs"), filepath.Join(dir, "out")
	if err := errors.Join(os.Mkdir(programs, 0o700), os.Mkdir(out, 0o700)); err != nil {
		t.Fatal(err)
	}
	for _, name := range []string{"colophon", "colophon-keys", "colophon-eval", "colophond", "another"} {
		script(t, filepath.Join(programs, name), fakeProgram)
	}
	cmd := exec.Command("../scripts/packages.sh", version, "amd64", programs, programs, out)
	cmd.Env = append(os.Environ(), "SOURCE_DATE_EPOCH=1790000000")
	if text, err := cmd.CombinedOutput(); err != nil {
		t.Fatalf("%v\n%s", err, text)
	}
	return out
}

// The same programs give the same packages, with what belongs to them.
func TestPackages(t *testing.T) {
	if _, err := exec.LookPath("dpkg-deb"); err != nil {
		needs.Missing(t, "packages: %v", err)
	}
	first, second := pack(t, "v1.2.0"), pack(t, "v1.2.0")
	for name, want := range map[string][]string{
		"colophon":      {"./usr/bin/colophon", "./usr/share/man/man1/colophon.1.gz", "./usr/share/zsh/vendor-completions/_colophon"},
		"colophon-keys": {"./usr/bin/colophon-keys"},
		"colophon-eval": {"./usr/bin/colophon-eval"},
		"colophond": {"./usr/bin/colophond -> ../lib/colophon/colophond", "./usr/lib/colophon/colophond", "./usr/lib/colophon/another", "./usr/share/man/man1/colophond.1.gz",
			"./usr/lib/systemd/system/colophond.service", "./etc/colophon/colophond.json"},
	} {
		file := name + "_1.2.0_amd64.deb"
		a, err := os.ReadFile(filepath.Join(first, file))
		if err != nil {
			t.Fatal(err)
		}
		if b, err := os.ReadFile(filepath.Join(second, file)); err != nil || !bytes.Equal(a, b) {
			t.Errorf("%s: made twice: got other bytes, want the same (%v)", file, err)
		}
		list, err := exec.Command("dpkg-deb", "--contents", filepath.Join(first, file)).CombinedOutput()
		if err != nil {
			t.Fatalf("%v\n%s", err, list)
		}
		for _, path := range want {
			if !strings.Contains(string(list), " "+path+"\n") {
				t.Errorf("%s: got %s, want %s in it", file, list, path)
			}
		}
	}
}

// dpkg takes the packages of later commits for newer ones.
func TestPackageVersions(t *testing.T) {
	if _, err := exec.LookPath("dpkg-deb"); err != nil {
		needs.Missing(t, "packages: %v", err)
	}
	before := ""
	for _, version := range []string{"8a5507b01a65", "v0.0.1", "v1.2.0-rc.1", "v1.2.0-rc.1-4-g8a5507b01a65", "v1.2.0", "v1.2.0-3-gffffffffffff", "v1.2.0-20-g000000000000", "v1.10.0"} {
		files, err := filepath.Glob(filepath.Join(pack(t, version), "colophon_*.deb"))
		if err != nil || len(files) != 1 {
			t.Fatalf("got packages %q, want one (%v)", files, err)
		}
		out, err := exec.Command("dpkg-deb", "--field", files[0], "Version").Output()
		if err != nil {
			t.Fatal(err)
		}
		got := strings.TrimSpace(string(out))
		if err := exec.Command("dpkg", "--compare-versions", before, "lt", got).Run(); err != nil {
			t.Errorf("version %s is package version %s, which is not newer than %s", version, got, before)
		}
		before = got
	}
}

// A program that cannot be built is missing in no release: then dist.sh makes none.
func TestDistIsWhole(t *testing.T) {
	root := scriptsAlone(t)
	build := script(t, filepath.Join(t.TempDir(), "go"), `case "$*" in
*"$FAILS build "*) echo 'syntax error' >&2; exit 1 ;;
*" build "*) while [ "$1" != -o ]; do shift; done; echo a program >"$2" ;;
*) echo amd64 ;;
esac
`)
	for fails, ok := range map[string]bool{"tools/keys": false, "nothing": true} {
		cmd := exec.Command("scripts/dist.sh", "windows/amd64")
		cmd.Dir, cmd.Env = root, append(os.Environ(), "GO="+build, "FAILS="+fails)
		out, err := cmd.CombinedOutput()
		if (err == nil) != ok {
			t.Errorf("%s fails: got error %v, want none: %t; output %s", fails, err, ok, out)
		}
		if made, _ := filepath.Glob(filepath.Join(root, "out/dist/colophon-keys_*")); (len(made) == 1) != ok {
			t.Errorf("%s fails: got %q", fails, made)
		}
		if _, err := os.Stat(filepath.Join(root, "out/dist")); (err == nil) != ok {
			t.Errorf("%s fails: out/dist: got %v, want it: %t", fails, err, ok)
		}
		os.RemoveAll(filepath.Join(root, "out"))
	}
}

// self.sh compares digests: two releases that say none do not agree.
func TestSelfNeedsDigests(t *testing.T) {
	root := scriptsAlone(t)
	bin := filepath.Join(root, "out/bin")
	if err := os.MkdirAll(bin, 0o700); err != nil {
		t.Fatal(err)
	}
	script(t, filepath.Join(bin, "colophond"), "echo ready\nexec sleep 60\n")
	script(t, filepath.Join(bin, "colophon"), "[ \"$1\" != release ] || printf '%s\\n' \"$ANSWER\"\n")
	for answer, ok := range map[string]bool{`{"digest": "sha256:00"}`: true, `{}`: false, `{"digest": null}`: false, ``: false} {
		cmd := exec.Command("scripts/self.sh")
		cmd.Dir, cmd.Env = root, append(os.Environ(), "ANSWER="+answer)
		if out, err := cmd.CombinedOutput(); (err == nil) != ok {
			t.Errorf("the release says %s: got error %v, want none: %t; output %s", answer, err, ok, out)
		}
	}
}

// fuzz.sh that finds no targets found nothing out.
func TestFuzzNeedsTargets(t *testing.T) {
	root := scriptsAlone(t)
	cmd := exec.Command("scripts/fuzz.sh", "1s")
	cmd.Dir, cmd.Env = root, append(os.Environ(), "GO=true")
	if out, err := cmd.CombinedOutput(); err == nil {
		t.Errorf("got exit 0, want an error; output %q", out)
	}
	if err := os.WriteFile(filepath.Join(root, "a_test.go"), []byte("func FuzzA(f *testing.F) {\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	if out, err := exec.Command("git", "-C", root, "add", ".").CombinedOutput(); err != nil {
		t.Fatalf("%v\n%s", err, out)
	}
	cmd = exec.Command("scripts/fuzz.sh", "1s")
	cmd.Dir, cmd.Env = root, append(os.Environ(), "GO=true")
	if out, err := cmd.CombinedOutput(); err != nil || string(out) != "== ./. FuzzA\n" {
		t.Errorf("got %q (%v), want FuzzA alone", out, err)
	}
}

// quickstart.sh takes no server on its port for the platform that is not one, or is not ready.
func TestQuickstartKnowsThePlatform(t *testing.T) {
	root := scriptsAlone(t)
	other := httptest.NewServer(http.NotFoundHandler())
	defer other.Close()
	_, port, _ := strings.Cut(strings.TrimPrefix(other.URL, "http://"), ":")
	bin := filepath.Join(root, "out/bin")
	if err := errors.Join(os.MkdirAll(bin, 0o700), os.MkdirAll(filepath.Join(root, "out/quickstart"), 0o700), os.WriteFile(filepath.Join(root, "out/quickstart/port"), []byte(port+"\n"), 0o600)); err != nil {
		t.Fatal(err)
	}
	script(t, filepath.Join(bin, "id"), "echo 1000\n")
	script(t, filepath.Join(bin, "colophond"), "echo 'address already in use'\nexit 1\n")
	script(t, filepath.Join(bin, "colophon"), "echo \"asked to $1\"\n")
	cmd := exec.Command("scripts/quickstart.sh")
	cmd.Dir, cmd.Env = root, append(os.Environ(), "PATH="+bin+":"+os.Getenv("PATH"))
	if out, err := cmd.CombinedOutput(); err == nil || strings.Contains(string(out), "asked to") || !strings.Contains(string(out), "address already in use") {
		t.Errorf("got %v, want that the platform does not start; output %s", err, out)
	}
}

// scriptsAlone returns a git repository with the scripts, and nothing else.
func scriptsAlone(t *testing.T) string {
	t.Helper()
	root := t.TempDir()
	if err := os.CopyFS(filepath.Join(root, "scripts"), os.DirFS("../scripts")); err != nil {
		t.Fatal(err)
	}
	for _, args := range [][]string{{"init", "-q"}, {"add", "."}, {"-c", "user.name=ada", "-c", "user.email=ada@example.com", "commit", "-q", "-m", "one"}} {
		if out, err := exec.Command("git", append([]string{"-C", root}, args...)...).CombinedOutput(); err != nil {
			t.Fatalf("%v\n%s", err, out)
		}
	}
	return root
}

// served is a release as install.sh downloads it, and the digest of its SHA256SUMS.
func served(t *testing.T, program, sums string) (url, pin string) {
	t.Helper()
	dir := t.TempDir()
	name := "colophon_v1.2.0_" + runtime.GOOS + "_" + runtime.GOARCH
	sums = strings.NewReplacer("DIGEST", digestOf("the program"), "NAME", name).Replace(sums)
	for file, text := range map[string]string{name: program, "SHA256SUMS": sums} {
		if err := os.WriteFile(filepath.Join(dir, file), []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	return "file://" + dir, digestOf(sums)
}

func digestOf(text string) string {
	sum := sha256.Sum256([]byte(text))
	return hex.EncodeToString(sum[:])
}

// scripts/install.sh installs a file that SHA256SUMS lists, if SHA256SUMS has the digest that
// the user gave. In every other case, the program that was there stays.
func TestInstallVerifies(t *testing.T) {
	const line = "DIGEST  NAME\n"
	good := digestOf(strings.NewReplacer("DIGEST", digestOf("the program"), "NAME", "colophon_v1.2.0_"+runtime.GOOS+"_"+runtime.GOARCH).Replace(line))
	for _, c := range []struct {
		name, program, sums string
		pin                 string // "" means that of the SHA256SUMS that is served
		http                bool
		options             []string
		code                int
		want                string
	}{
		{name: "as released", program: "the program", sums: line, want: "installed "},
		{name: "changed program", program: "another program", sums: line, code: 1, want: "expected sha256 "},
		{name: "program cut short", program: "the prog", sums: line, code: 1, want: "expected sha256 "},
		{name: "changed program and SHA256SUMS", program: "another program", sums: digestOf("another program") + "  NAME\n", pin: good, code: 1, want: "SHA256SUMS: expected sha256 "},
		{name: "no line", program: "the program", sums: "DIGEST  colophon_v1.2.0_plan9_386\n", code: 1, want: "no line, or several"},
		{name: "two lines", program: "another program", sums: line + digestOf("another program") + "  NAME\n", code: 1, want: "no line, or several"},
		{name: "line without a digest", program: "the program", sums: "  NAME\n", code: 1, want: "no line, or several"},
		{name: "empty SHA256SUMS", program: "the program", sums: "", code: 1, want: "no line, or several"},
		{name: "no digest given", program: "the program", sums: line, pin: "none", code: 2, want: "--sha256 is required"},
		{name: "half a digest given", program: "the program", sums: line, pin: good[:32], code: 2, want: "expected 64 hexadecimal digits"},
		{name: "other version", program: "the program", sums: line, options: []string{"--version", "v1.2.1"}, code: 1, want: "no line, or several"},
		{name: "path as version", program: "the program", sums: line, options: []string{"--version", "../v1.2.0"}, code: 2, want: "expected one like v1.2.0"},
		{name: "path as program", program: "the program", sums: line, options: []string{"--program", "../colophon"}, code: 2, want: "--program: found ../colophon"},
		{name: "program without a line", program: "the program", sums: line, options: []string{"--program", "colophon-scan"}, code: 1, want: "no line, or several, for colophon-scan_v1.2.0_"},
		{name: "plain http", program: "the program", sums: line, http: true, code: 1, want: "cannot download"},
	} {
		t.Run(c.name, func(t *testing.T) {
			url, pin := served(t, c.program, c.sums)
			if c.http {
				server := httptest.NewServer(http.FileServer(http.Dir(strings.TrimPrefix(url, "file://"))))
				defer server.Close()
				url = server.URL
			}
			args := []string{"../scripts/install.sh", "--version", "v1.2.0", "--from", url}
			switch c.pin {
			case "none":
			case "":
				args = append(args, "--sha256", pin)
			default:
				args = append(args, "--sha256", c.pin)
			}
			code, out, installed := install(t, append(args, c.options...)...)
			want := "the old program"
			if c.code == 0 {
				want = c.program
			}
			if code != c.code || !strings.Contains(out, c.want) || installed != want {
				t.Errorf("got exit %d, %q installed, output %q; want exit %d, %q installed, output with %q", code, installed, out, c.code, want, c.want)
			}
		})
	}
}

// install.sh takes files over HTTPS: whole ones only, and no redirect leads elsewhere.
func TestInstallOverHTTPS(t *testing.T) {
	url, pin := served(t, "the program", "DIGEST  NAME\n")
	files := http.FileServer(http.Dir(strings.TrimPrefix(url, "file://")))
	plain := httptest.NewServer(files)
	defer plain.Close()
	for _, c := range []struct {
		name   string
		answer http.HandlerFunc // for the program
		code   int
		want   string
	}{
		{"as released", files.ServeHTTP, 0, "installed "},
		{"redirect to plain http", func(w http.ResponseWriter, r *http.Request) {
			http.Redirect(w, r, plain.URL+r.URL.Path, http.StatusFound)
		}, 1, "cannot download"},
		{"connection broken", func(w http.ResponseWriter, r *http.Request) {
			w.Header().Set("Content-Length", "11")
			io.WriteString(w, "the prog")
		}, 1, "cannot download"},
		{"not found", http.NotFound, 1, "cannot download"},
	} {
		t.Run(c.name, func(t *testing.T) {
			server := httptest.NewTLSServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
				if r.URL.Path == "/SHA256SUMS" {
					files.ServeHTTP(w, r)
				} else {
					c.answer(w, r)
				}
			}))
			defer server.Close()
			ca := filepath.Join(t.TempDir(), "ca.pem")
			if err := os.WriteFile(ca, pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: server.Certificate().Raw}), 0o600); err != nil {
				t.Fatal(err)
			}
			args := []string{"../scripts/install.sh", "--version", "v1.2.0", "--from", server.URL, "--sha256", pin}
			if code, out, _ := install(t, args...); code != 1 || !strings.Contains(out, "cannot download") {
				t.Errorf("server with a certificate that nobody knows: got exit %d, %s", code, out)
			}
			t.Setenv("CURL_CA_BUNDLE", ca)
			code, out, installed := install(t, args...)
			want := "the old program"
			if c.code == 0 {
				want = "the program"
			}
			if code != c.code || !strings.Contains(out, c.want) || installed != want {
				t.Errorf("got exit %d, %q installed, output %q; want exit %d, %q installed, output with %q", code, installed, out, c.code, want, c.want)
			}
		})
	}
}

// On a machine that has no file in the release, install.sh installs nothing.
func TestInstallElsewhere(t *testing.T) {
	url, pin := served(t, "the program", "DIGEST  NAME\n")
	for _, c := range []struct{ system, processor, want string }{
		{"Linux", "riscv64", "no file for the processor riscv64"},
		{"FreeBSD", "x86_64", "no file for FreeBSD"},
		{"Darwin", "arm64", "no line, or several, for colophon_v1.2.0_darwin_arm64"},
	} {
		bin := t.TempDir()
		script(t, filepath.Join(bin, "uname"), `case "$1" in -s) echo `+c.system+`;; -m) echo `+c.processor+`;; esac`+"\n")
		t.Setenv("PATH", bin+":"+os.Getenv("PATH"))
		code, out, installed := install(t, "../scripts/install.sh", "--version", "v1.2.0", "--from", url, "--sha256", pin)
		if code != 1 || !strings.Contains(out, c.want) || installed != "the old program" {
			t.Errorf("%s on %s: got exit %d, %q installed, output %q; want exit 1, output with %q", c.system, c.processor, code, installed, out, c.want)
		}
	}
}

// Where no colophon was, install.sh leaves one, or nothing.
func TestInstallFirst(t *testing.T) {
	for program, want := range map[string]string{"the program": "colophon", "another program": ""} {
		url, pin := served(t, program, "DIGEST  NAME\n")
		dir := t.TempDir()
		exec.Command("sh", "../scripts/install.sh", "--version", "v1.2.0", "--from", url, "--sha256", pin, "--dir", dir).Run()
		left, err := filepath.Glob(filepath.Join(dir, "*"))
		if err != nil {
			t.Fatal(err)
		}
		if got := strings.TrimPrefix(strings.Join(left, " "), dir+"/"); got != want {
			t.Errorf("%s: got files %q, want %q", program, got, want)
		}
	}
}

// install.sh installs nothing into a directory that is called as the program: mv would.
func TestInstallOntoDirectory(t *testing.T) {
	url, pin := served(t, "the program", "DIGEST  NAME\n")
	dir := t.TempDir()
	if err := os.Mkdir(filepath.Join(dir, "colophon"), 0o700); err != nil {
		t.Fatal(err)
	}
	cmd := exec.Command("sh", "../scripts/install.sh", "--version", "v1.2.0", "--from", url, "--sha256", pin, "--dir", dir)
	if out, err := cmd.CombinedOutput(); err == nil || !strings.Contains(string(out), "colophon is a directory") {
		t.Errorf("got %v, output %q; want exit 1, output with \"colophon is a directory\"", err, out)
	}
	if left, err := os.ReadDir(filepath.Join(dir, "colophon")); err != nil || len(left) != 0 {
		t.Errorf("got files %v in the directory, want none (%v)", left, err)
	}
}

// install.sh that is interrupted leaves the old program, and no files of its own.
func TestInstallInterrupted(t *testing.T) {
	dir, bin, tmp := t.TempDir(), t.TempDir(), t.TempDir()
	if err := os.WriteFile(filepath.Join(dir, "colophon"), []byte("the old program"), 0o755); err != nil {
		t.Fatal(err)
	}
	started := filepath.Join(bin, "started")
	script(t, filepath.Join(bin, "curl"), "touch "+started+"\nexec sleep 1\n")
	cmd := exec.Command("sh", "../scripts/install.sh", "--version", "v1.2.0", "--from", "https://127.0.0.1", "--sha256", digestOf(""), "--dir", dir)
	cmd.Env = append(os.Environ(), "PATH="+bin+":"+os.Getenv("PATH"), "TMPDIR="+tmp)
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	await.True(t, "the download begins", func() bool {
		_, err := os.Stat(started)
		return err == nil
	})
	cmd.Process.Signal(os.Interrupt)
	if err := cmd.Wait(); err == nil {
		t.Error("got exit 0, want an error")
	}
	if old, err := os.ReadFile(filepath.Join(dir, "colophon")); err != nil || string(old) != "the old program" {
		t.Errorf("got %q installed (%v), want the old program", old, err)
	}
	for _, d := range []string{dir, tmp} {
		if left, err := os.ReadDir(d); err != nil || d == tmp && len(left) != 0 || d == dir && len(left) != 1 {
			t.Errorf("%s: got %v, %v; want nothing of install.sh", d, left, err)
		}
	}
}

// A download of scripts/install.sh that ends early does nothing.
func TestInstallCutShort(t *testing.T) {
	text, err := os.ReadFile("../scripts/install.sh")
	if err != nil {
		t.Fatal(err)
	}
	url, pin := served(t, "the program", "DIGEST  NAME\n")
	whole := strings.TrimSuffix(string(text), " \"$@\"\n") // the shortest text that calls main, without its arguments
	for end := range len(whole) + 1 {
		if end < len(whole) && whole[end] != '\n' && end%97 != 0 {
			continue // the end of each line, and every 97th byte
		}
		part := filepath.Join(t.TempDir(), "install.sh")
		if err := os.WriteFile(part, []byte(whole[:end]), 0o600); err != nil {
			t.Fatal(err)
		}
		if _, out, installed := install(t, part, "--version", "v1.2.0", "--from", url, "--sha256", pin); installed != "the old program" {
			t.Fatalf("the first %d bytes of install.sh installed %q: %s", end, installed, out)
		}
	}
}

// install runs an install script with a directory that has an old program, and returns the exit
// code, the output, and the program that is there then.
func install(t *testing.T, args ...string) (code int, out, installed string) {
	t.Helper()
	dir := t.TempDir()
	if err := os.WriteFile(filepath.Join(dir, "colophon"), []byte("the old program"), 0o755); err != nil {
		t.Fatal(err)
	}
	cmd := exec.Command("sh", append(args, "--dir", dir)...)
	text, err := cmd.CombinedOutput()
	if _, exited := errors.AsType[*exec.ExitError](err); err != nil && !exited {
		t.Fatal(err)
	}
	left, err := os.ReadDir(dir)
	if err != nil {
		t.Fatal(err)
	}
	if len(left) != 1 {
		t.Errorf("got %d files in the directory, want colophon alone: %v", len(left), left)
	}
	data, err := os.ReadFile(filepath.Join(dir, "colophon"))
	if err != nil {
		t.Fatal(err)
	}
	return cmd.ProcessState.ExitCode(), string(text), string(data)
}
