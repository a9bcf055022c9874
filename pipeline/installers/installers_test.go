package installers

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"encoding/pem"
	"errors"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/colophon-build/colophon/test/needs"
)

var zeros, ones = strings.Repeat("0", 64), strings.Repeat("1", 64)

func someRelease() Release {
	return Release{Version: "v1.2.0", From: "https://downloads.example.com/v1.2.0", Signer: Signer{Identity: "https://github.com/acme/app/.github/workflows/release.yml@refs/tags/v1.2.0", Issuer: "https://token.actions.githubusercontent.com"}, Files: []File{
		{"app_1.2.0_linux_amd64.tar.gz", zeros}, {"app_1.2.0_Darwin_arm64.tar.gz", ones},
		{"app_1.2.0_amd64.deb", zeros}, {"app-doc_1.2.0_all.deb", zeros}, {"app_1.2.0_arm64.deb", zeros}, {"app-1.2.0-1.x86_64.rpm", zeros},
		{"app_1.2.0_windows_amd64.zip", zeros}, {"README.md", zeros}, {"doc/app_linux_amd64", zeros},
	}}
}

func somePEM(t *testing.T) []byte {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	der, err := x509.MarshalPKIXPublicKey(key.Public())
	if err != nil {
		t.Fatal(err)
	}
	return pem.EncodeToMemory(&pem.Block{Type: "PUBLIC KEY", Bytes: der})
}

func contents(t *testing.T, r Release) map[string]string {
	t.Helper()
	all, err := Make(r)
	if err != nil {
		t.Fatal(err)
	}
	out := map[string]string{}
	for _, o := range all {
		if out[o.Path] = string(o.Content); o.Program != strings.HasPrefix(out[o.Path], "#!") {
			t.Errorf("%s: executable is %t", o.Path, o.Program)
		}
	}
	return out
}

// TestMake: each kind of file has its installer, with the digests and the signer of the release.
func TestMake(t *testing.T) {
	r := someRelease()
	out := contents(t, r)
	for file, want := range map[string][]string{
		"install.sh":             {"Linux/x86_64 | Linux/amd64)\n    file=app_1.2.0_linux_amd64.tar.gz\n    want=" + zeros, "Darwin/aarch64 | Darwin/arm64)\n    file=app_1.2.0_Darwin_arm64.tar.gz\n    want=" + ones, `"https://downloads.example.com/v1.2.0/$file"`},
		"app.rb":                 {"class App < Formula", `url "https://downloads.example.com/v1.2.0/app_1.2.0_Darwin_arm64.tar.gz"`, ones, `bin.install "app"`},
		"apt/colophon-verify":    {"  app/* | */app_*.deb | app-doc/* | */app-doc_*.deb) ;;", ".sigstore.json", "--identity 'https://github.com/acme/app/.github/workflows/release.yml@refs/tags/v1.2.0' --issuer 'https://token.actions.githubusercontent.com'"},
		"dnf/colophon_verify.py": {`NAMES = ("app",)`, `REPOSITORY = "app"`, `"--issuer", "https://token.actions.githubusercontent.com"`},
	} {
		for _, w := range want {
			if !strings.Contains(out[file], w) {
				t.Errorf("%s does not have %q:\n%s", file, w, out[file])
			}
		}
	}
	if len(out) != 4 {
		t.Errorf("got %d files, want 4", len(out))
	}
	r.Signer = Signer{Source: "github.com/acme/app"}
	if out := contents(t, r); !strings.Contains(out["apt/colophon-verify"], "/$file.intoto.jsonl") || !strings.Contains(out["dnf/colophon_verify.py"], `"--source", "github.com/acme/app"`) {
		t.Errorf("a source is demanded of signatures:\n%s", out["apt/colophon-verify"])
	}
	r.Signer = Signer{Key: somePEM(t)}
	if out := contents(t, r); !strings.Contains(out["apt/colophon-verify"], string(r.Signer.Key)) || !strings.Contains(out["dnf/colophon_verify.py"], string(r.Signer.Key)) {
		t.Error("the key is not in hook and plugin")
	}
	r.Files = []File{{"app-linux-amd64", zeros}}
	if out := contents(t, r); len(out) != 2 || strings.Contains(out["install.sh"], "tar -x") || strings.Contains(out["app.rb"], "on_macos") {
		t.Errorf("a program for Linux alone: got %v", out)
	}
}

// TestHostile: nothing gets into a script that a shell, Ruby or Python would read as more than a word.
func TestHostile(t *testing.T) {
	bad := []string{"$(id)", "`id`", "a'b", `a"b`, "a b", "a\nb", "#{1}", `a\b`, "a;b", "é", strings.Repeat("a", 3000)}
	try := func(name string, bend func(r *Release)) {
		t.Helper()
		r := someRelease()
		bend(&r)
		if out, err := Make(r); !errors.Is(err, ErrRelease) || out != nil {
			t.Errorf("%s: got %v", name, err)
		}
	}
	for _, word := range bad {
		try("from "+word, func(r *Release) { r.From = "https://example.com/" + word })
		try("host "+word, func(r *Release) { r.From = "https://" + word })
		try("version "+word, func(r *Release) { r.Version = "1" + word })
		try("name "+word, func(r *Release) { r.Name = word })
		try("identity "+word, func(r *Release) { r.Signer.Identity = word })
		try("issuer "+word, func(r *Release) { r.Signer.Issuer = word })
		try("source "+word, func(r *Release) { r.Signer = Signer{Source: word} })
		try("program "+word, func(r *Release) { r.Files = append(r.Files, File{"x" + word + "_linux_arm64.tar.gz", zeros}) })
		try("deb "+word, func(r *Release) { r.Files = append(r.Files, File{"x" + word + "_1_all.deb", zeros}) })
		try("rpm "+word, func(r *Release) { r.Files = append(r.Files, File{"x" + word + "-1-1.noarch.rpm", zeros}) })
		try("digest "+word, func(r *Release) { r.Files[0].SHA256 = word })
	}
	for name, bend := range map[string]func(r *Release){
		"http":                  func(r *Release) { r.From = "http://example.com/v1" },
		"a user":                func(r *Release) { r.From = "https://a@example.com/v1" },
		"a query":               func(r *Release) { r.From = "https://example.com/v1?a=b" },
		"no version":            func(r *Release) { r.Version = "" },
		"nobody":                func(r *Release) { r.Signer = Signer{} },
		"an identity alone":     func(r *Release) { r.Signer = Signer{Identity: "ada@example.com"} },
		"an issuer alone":       func(r *Release) { r.Signer = Signer{Issuer: "https://example.com", Source: "github.com/acme/app"} },
		"no key":                func(r *Release) { r.Signer = Signer{Key: []byte("END\nrm -rf /\n")} },
		"a private key":         func(r *Release) { r.Signer = Signer{Key: pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY"})} },
		"a key, and more":       func(r *Release) { r.Signer = Signer{Key: append(somePEM(t), "END\nid\n"...)} },
		"key and source":        func(r *Release) { r.Signer = Signer{Key: somePEM(t), Source: "github.com/acme/app"} },
		"two for one platform":  func(r *Release) { r.Files = append(r.Files, File{"app-linux-x86_64.tar.gz", ones}) },
		"an archive, or none":   func(r *Release) { r.Files = append(r.Files, File{"app-linux-arm64", ones}) },
		"two programs":          func(r *Release) { r.Files = append(r.Files, File{"other-linux-arm64.tar.gz", ones}) },
		"nothing to install":    func(r *Release) { r.Files = []File{{"README.md", zeros}} },
		"a deb without version": func(r *Release) { r.Files = append(r.Files, File{"app.deb", zeros}) },
		"a class of a digit":    func(r *Release) { r.Files = []File{{"7zip-linux-amd64", zeros}} },
	} {
		try(name, bend)
	}
	r := someRelease()
	r.Files = append(r.Files, File{"other-linux-arm64.tar.gz", ones})
	r.Name = "app"
	if out := contents(t, r); strings.Contains(out["install.sh"], "other-linux") {
		t.Error("another program is in install.sh")
	}
}

// TestSyntax: a shell and Python read what is written, and Ruby finds one file with its digest for each system.
func TestSyntax(t *testing.T) {
	dir := t.TempDir()
	r := someRelease()
	r.Signer = Signer{Key: somePEM(t)}
	for name, text := range contents(t, r) {
		if err := errors.Join(os.MkdirAll(filepath.Join(dir, filepath.Dir(name)), 0o755), os.WriteFile(filepath.Join(dir, name), []byte(text), 0o600)); err != nil {
			t.Fatal(err)
		}
	}
	for _, command := range [][]string{{"sh", "-n", "install.sh"}, {"sh", "-n", "apt/colophon-verify"}, {"python3", "-c", "import ast, sys; ast.parse(open(sys.argv[1]).read())", "dnf/colophon_verify.py"}, {"ruby", "-e", formula, "./app.rb"}} {
		if _, err := exec.LookPath(command[0]); err != nil {
			needs.Missing(t, "%v", err)
		}
		cmd := exec.CommandContext(t.Context(), command[0], command[1:]...)
		cmd.Dir = dir
		out, err := cmd.CombinedOutput()
		if err != nil {
			t.Errorf("%s: %v\n%s", command[0], err, out)
		}
		want := []string{"linux intel https://downloads.example.com/v1.2.0/app_1.2.0_linux_amd64.tar.gz " + zeros, "macos arm https://downloads.example.com/v1.2.0/app_1.2.0_Darwin_arm64.tar.gz " + ones, "installs app", "version 1.2.0"}
		if got := strings.Split(strings.TrimSpace(string(out)), "\n"); command[0] == "ruby" && !slices.Equal(slices.Sorted(slices.Values(got)), slices.Sorted(slices.Values(want))) {
			t.Errorf("the formula: got %q, want %q", got, want)
		}
	}
}

// TestPlugin runs the plugin without dnf. dnf 4 comes with Python 3.6 and later: to run it with that,
// put it first in PATH as python3.
func TestPlugin(t *testing.T) {
	const python = "python3"
	if _, err := exec.LookPath(python); err != nil {
		needs.Missing(t, "%v", err)
	}
	dir := t.TempDir()
	for name, text := range map[string]string{
		"dnf/__init__.py":    "class Plugin: pass\n",
		"dnf/exceptions.py":  "class Error(Exception): pass\n",
		"rpm.py":             "",
		"colophon_verify.py": contents(t, someRelease())["dnf/colophon_verify.py"],
		"curl":               "#!/bin/sh\n",
		"colophon":           "#!/bin/sh\ncase $2 in *good.rpm) ;; *) echo rejected; exit 3 ;; esac\n",
	} {
		if err := errors.Join(os.MkdirAll(filepath.Join(dir, filepath.Dir(name)), 0o755), os.WriteFile(filepath.Join(dir, name), []byte(text), 0o755)); err != nil {
			t.Fatal(err)
		}
	}
	for file, want := range map[string]string{"good.rpm": "accepted", "bad.rpm": "colophon_verify: bad.rpm is not what was released\nrejected"} {
		cmd := exec.CommandContext(t.Context(), python, "-c", `import sys, dnf, colophon_verify
try:
    colophon_verify.verify(sys.argv[1])
    print("accepted")
except dnf.exceptions.Error as e:
    print(e)
`, file)
		cmd.Env = append(os.Environ(), "PYTHONPATH="+dir, "PATH="+dir+":"+os.Getenv("PATH"))
		if out, err := cmd.CombinedOutput(); err != nil || strings.TrimSpace(string(out)) != want {
			t.Errorf("%s: expected %q, found %q (%v)", file, want, out, err)
		}
	}
}

// formula stands for Homebrew: it reads a formula, and prints what it says for each system.
const formula = `
class Formula
  @@os = @@cpu = @@url = nil
  def self.desc(text) end
  def self.homepage(text) end
  def self.version(v) puts "version #{v}" end
  def self.url(u) @@url = u end
  def self.sha256(d) puts "#{@@os} #{@@cpu} #{@@url} #{d}" end
  def self.on_macos; @@os = "macos"; yield end
  def self.on_linux; @@os = "linux"; yield end
  def self.on_arm; @@cpu = "arm"; yield end
  def self.on_intel; @@cpu = "intel"; yield end
  def self.test; end
  def bin; self end
end
load ARGV[0]
f = App.new
def f.bin; b = Object.new; def b.install(what) puts "installs #{what}" end; b end
f.install
`
