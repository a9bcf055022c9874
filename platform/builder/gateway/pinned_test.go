package gateway

import (
	"fmt"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"golang.org/x/mod/semver"

	"github.com/colophon-build/colophon/platform/builder"
	"github.com/colophon-build/colophon/test/needs"
)

// TestPinnedClients: what pip, npm and cargo install in a first build, a second one gets from the
// store. Each build begins without a cache.
func TestPinnedClients(t *testing.T) {
	wheel, crate, tarball := pythonWheel(t), rustCrate(t), npmPackage(t)
	var base string
	up, s, _ := counted(t, func(w http.ResponseWriter, r *http.Request) {
		switch r.URL.Path {
		case "/simple/demo-lib/":
			w.Header().Set("Content-Type", "text/html")
			fmt.Fprint(w, `<!DOCTYPE html><a href="../../files/Demo_Lib-2.0-py3-none-any.whl">Demo_Lib-2.0-py3-none-any.whl</a>`)
		case "/files/Demo_Lib-2.0-py3-none-any.whl":
			w.Write(wheel)
		case "/index/config.json":
			fmt.Fprintf(w, `{"dl": "%s/crates"}`, base)
		case "/index/de/mo/demo":
			fmt.Fprintf(w, `{"name": "demo", "vers": "1.0.0", "deps": [], "cksum": "%s", "features": {}, "yanked": false}`+"\n", hexSum(string(crate)))
		case "/crates/demo/1.0.0/download":
			w.Write(crate)
		case "/@scope/lib/-/lib-1.0.0.tgz":
			w.Write(tarball)
		default:
			http.NotFound(w, r)
		}
	})
	base = up.URL
	home, err := os.UserHomeDir()
	if err != nil {
		t.Fatal(err)
	}
	for name, c := range map[string]struct {
		demand builder.Demand
		path   string // of the download
		files  map[string]string
		env    []string
		args   []string
	}{
		"pip": {
			builder.Demand{URL: "pkg:pypi/demo-lib@2.0", Digest: "sha256:" + hexSum(string(wheel))}, "/files/Demo_Lib-2.0-py3-none-any.whl",
			map[string]string{"requirements.txt": "Demo.Lib==2.0 --hash=sha256:" + hexSum(string(wheel)) + "\n"}, nil,
			[]string{"pip3", "install", "--no-cache-dir", "--target", "out", "--require-hashes", "-r", "requirements.txt", "--index-url", up.URL + "/simple/", "--disable-pip-version-check"},
		},
		"npm": {
			builder.Demand{URL: "/@scope/lib/-/lib-1.0.0.tgz", Digest: sri(string(tarball))}, "/@scope/lib/-/lib-1.0.0.tgz",
			map[string]string{
				"package.json":      `{"name": "app", "version": "1.0.0", "dependencies": {"@scope/lib": "1.0.0"}}`,
				"package-lock.json": fmt.Sprintf(`{"name": "app", "version": "1.0.0", "lockfileVersion": 3, "packages": {"": {"name": "app", "version": "1.0.0", "dependencies": {"@scope/lib": "1.0.0"}}, "node_modules/@scope/lib": {"version": "1.0.0", "resolved": "%s/@scope/lib/-/lib-1.0.0.tgz", "integrity": "%s"}}}`, up.URL, sri(string(tarball))),
			},
			[]string{"npm_config_registry=" + up.URL, "npm_config_fetch_retries=0", "npm_config_audit=false", "npm_config_update_notifier=false"}, []string{"npm", "ci"},
		},
		"cargo": {
			builder.Demand{URL: "/demo/1.0.0/download", Digest: "sha256:" + hexSum(string(crate))}, "/crates/demo/1.0.0/download",
			map[string]string{
				".cargo/config.toml": fmt.Sprintf("[source.crates-io]\nreplace-with = \"here\"\n[source.here]\nregistry = \"sparse+%s/index/\"\n", up.URL),
				"Cargo.toml":         "[package]\nname = \"app\"\nversion = \"0.1.0\"\nedition = \"2021\"\n[dependencies]\ndemo = \"1.0.0\"\n",
				"Cargo.lock":         fmt.Sprintf("version = 3\n\n[[package]]\nname = \"app\"\nversion = \"0.1.0\"\ndependencies = [\n \"demo\",\n]\n\n[[package]]\nname = \"demo\"\nversion = \"1.0.0\"\nsource = \"registry+https://github.com/rust-lang/crates.io-index\"\nchecksum = \"%s\"\n", hexSum(string(crate))),
				"src/main.rs":        "fn main() {}\n",
			}, []string{"RUSTUP_HOME=" + filepath.Join(home, ".rustup")}, []string{"cargo", "fetch", "--locked"},
		},
	} {
		t.Run(name, func(t *testing.T) {
			said, err := exec.Command(c.args[0], "--version").Output()
			switch version := strings.Fields(string(said) + " v"); {
			case name == "cargo" && (err != nil || semver.Compare("v"+version[1], "v1.68.0") < 0): // make test installs none
				t.Skipf("NOT HERE: a cargo that reads sparse registries: %s, %v", said, err)
			case err != nil:
				needs.Missing(t, "%s: %v", name, err)
			}
			s := s
			s.Store = filepath.Join(t.TempDir(), "store")
			s.Session.Demands = []builder.Demand{c.demand}
			for i, want := range []bool{false, true} {
				room, work := start(t, s), t.TempDir()
				for file, text := range c.files {
					file = filepath.Join(work, file)
					if err := os.MkdirAll(filepath.Dir(file), 0o700); err != nil {
						t.Fatal(err)
					}
					if err := os.WriteFile(file, []byte(text), 0o600); err != nil {
						t.Fatal(err)
					}
				}
				if out, err := room.run(t, work, c.env, c.args[0], c.args[1:]...); err != nil {
					t.Fatalf("%v: %s", err, out)
				}
				found := false
				for _, e := range room.end() {
					if strings.HasSuffix(e.URL, c.path) {
						found = true
						if e.Stored != want {
							t.Errorf("build %d: got stored %v, want %v", i+1, e.Stored, want)
						}
					}
				}
				if !found {
					t.Errorf("build %d did not download %s", i+1, c.path)
				}
			}
		})
	}
}

// pythonWheel returns a wheel of Demo-Lib 2.0.
func pythonWheel(t *testing.T) []byte {
	return zipFile(t, map[string]string{
		"demo_lib.py": "X = 1\n", "Demo_Lib-2.0.dist-info/METADATA": "Metadata-Version: 2.1\nName: Demo-Lib\nVersion: 2.0\n",
		"Demo_Lib-2.0.dist-info/WHEEL": "Wheel-Version: 1.0\nGenerator: x\nRoot-Is-Purelib: true\nTag: py3-none-any\n", "Demo_Lib-2.0.dist-info/RECORD": "",
	})
}

// rustCrate returns the crate demo 1.0.0.
func rustCrate(t *testing.T) []byte {
	return tarFile(t, map[string]string{"demo-1.0.0/Cargo.toml": "[package]\nname = \"demo\"\nversion = \"1.0.0\"\n", "demo-1.0.0/src/lib.rs": ""})
}
