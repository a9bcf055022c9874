package gateway

import (
	"archive/tar"
	"archive/zip"
	"bytes"
	"compress/gzip"
	"crypto/sha512"
	"encoding/base64"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"github.com/colophon-build/colophon/platform/builder"
	"github.com/colophon-build/colophon/test/githttp"
	"github.com/colophon-build/colophon/test/gittest"
)

// run runs a real client of a package registry as in a room: it knows the gateway as its
// proxy and the gateway's CA, and no credential.
func (r *room) run(t *testing.T, dir string, env []string, name string, args ...string) (string, error) {
	t.Helper()
	ca := filepath.Join(t.TempDir(), "ca.pem")
	if err := os.WriteFile(ca, r.g.CA(), 0o600); err != nil {
		t.Fatal(err)
	}
	proxy := "http://" + r.addr
	cmd := exec.CommandContext(t.Context(), name, args...)
	cmd.Dir = dir
	cmd.Env = append([]string{
		"PATH=" + os.Getenv("PATH"), "HOME=" + t.TempDir(), "HTTPS_PROXY=" + proxy, "https_proxy=" + proxy, "HTTP_PROXY=" + proxy, "SSL_CERT_FILE=" + ca, "GIT_SSL_CAINFO=" + ca, "npm_config_cafile=" + ca, "PIP_CERT=" + ca, "CARGO_HTTP_CAINFO=" + ca,
		"GIT_TERMINAL_PROMPT=0", "GIT_CONFIG_NOSYSTEM=1", "LC_ALL=C",
	}, env...)
	out, err := cmd.CombinedOutput()
	return string(out), err
}

// TestRealClients: git, go and npm, which have no credential, read what is private through a
// gateway that has one, and not without.
func TestRealClients(t *testing.T) {
	repos := t.TempDir()
	dir := filepath.Join(repos, "app")
	gittest.Git(t, dir, "init", "-q", "-b", "main")
	gittest.Git(t, dir, "commit", "-q", "--allow-empty", "-m", "x")
	id := gittest.Git(t, dir, "rev-parse", "HEAD")
	backend := http.StripPrefix("/private/git", githttp.Handler(t, repos))
	module, tarball := goModule(t), npmPackage(t)
	var base string
	up, s := world(t, func(w http.ResponseWriter, r *http.Request) {
		if r.Header.Get("Authorization") != basicValue {
			w.Header().Set("Www-Authenticate", `Basic realm="x"`)
			w.WriteHeader(http.StatusUnauthorized)
			return
		}
		sum := sha512.Sum512(tarball)
		switch p := r.URL.Path; {
		case strings.HasPrefix(p, "/private/git/"):
			backend.ServeHTTP(w, r)
		case p == "/private/go/example.com/lib/@v/v1.0.0.info":
			fmt.Fprint(w, `{"Version":"v1.0.0"}`)
		case p == "/private/go/example.com/lib/@v/v1.0.0.mod":
			fmt.Fprint(w, "module example.com/lib\n")
		case p == "/private/go/example.com/lib/@v/v1.0.0.zip":
			w.Write(module)
		case p == "/private/npm/@scope/lib" && r.URL.RawPath == "/private/npm/@scope%2flib":
			fmt.Fprintf(w, `{"name":"@scope/lib","dist-tags":{"latest":"1.0.0"},"versions":{"1.0.0":{"name":"@scope/lib","version":"1.0.0","dist":{"tarball":"%s/private/npm/@scope/lib/-/lib-1.0.0.tgz","integrity":"sha512-%s"}}}}`,
				base, base64.StdEncoding.EncodeToString(sum[:]))
		case p == "/private/npm/@scope/lib/-/lib-1.0.0.tgz":
			w.Write(tarball)
		default:
			http.NotFound(w, r)
		}
	})
	base = up.URL
	for name, c := range map[string]struct {
		env  []string
		args []string
		want string
	}{
		"git": {nil, []string{"git", "clone", up.URL + "/private/git/app", "here"}, "here/.git"},
		"go": {[]string{"GOPROXY=" + up.URL + "/private/go", "GONOSUMDB=*", "GOFLAGS=-modcacherw", "GOTOOLCHAIN=local", "GOMODCACHE=" + filepath.Join(t.TempDir(), "mod"), "GOCACHE=" + filepath.Join(t.TempDir(), "cache")},
			[]string{"go", "mod", "download", "-x", "example.com/lib@v1.0.0"}, ""},
		"npm": {[]string{"npm_config_registry=" + up.URL + "/private/npm/", "npm_config_fetch_retries=0", "npm_config_audit=false", "npm_config_update_notifier=false"}, []string{"npm", "install", "@scope/lib"}, "node_modules/@scope/lib/package.json"},
	} {
		t.Run(name, func(t *testing.T) {
			if _, err := exec.LookPath(c.args[0]); err != nil {
				t.Skip("NOT HERE: " + err.Error())
			}
			stranger := s
			if out, err := start(t, stranger).run(t, t.TempDir(), c.env, c.args[0], c.args[1:]...); err == nil {
				t.Errorf("without a credential: %s", out)
			}
			mine := s
			privately(&mine, up.URL+"/private")
			room, work := start(t, mine), t.TempDir()
			out, err := room.run(t, work, c.env, c.args[0], c.args[1:]...)
			if err != nil {
				t.Fatalf("%v: %s", err, out)
			}
			if _, err := os.Stat(filepath.Join(work, c.want)); err != nil {
				t.Error(err)
			}
			if strings.Contains(out, "hunter2") {
				t.Errorf("the client has the secret: %s", out)
			}
			if name == "git" && gittest.Git(t, filepath.Join(work, "here"), "rev-parse", "HEAD") != id {
				t.Error("another commit")
			}
			if list := room.end(); len(list) == 0 || !withCredential(list) {
				t.Errorf("got %+v, want that a credential was used", list)
			}
		})
	}
}

func withCredential(list []builder.Exchange) bool {
	for _, e := range list {
		if u, err := url.Parse(e.URL); err == nil && e.Status == 200 && !e.Credential && strings.HasPrefix(u.Path, "/private") {
			return false
		}
	}
	return true
}

// goModule returns the zip file of example.com/lib@v1.0.0.
func goModule(t *testing.T) []byte {
	return zipFile(t, map[string]string{"example.com/lib@v1.0.0/go.mod": "module example.com/lib\n", "example.com/lib@v1.0.0/lib.go": "package lib\n"})
}

// npmPackage returns the tar file of @scope/lib 1.0.0.
func npmPackage(t *testing.T) []byte {
	return tarFile(t, map[string]string{"package/package.json": `{"name":"@scope/lib","version":"1.0.0"}`})
}

func zipFile(t *testing.T, files map[string]string) []byte {
	t.Helper()
	var b bytes.Buffer
	z := zip.NewWriter(&b)
	for name, text := range files {
		w, err := z.Create(name)
		if err != nil {
			t.Fatal(err)
		}
		io.WriteString(w, text)
	}
	if err := z.Close(); err != nil {
		t.Fatal(err)
	}
	return b.Bytes()
}

// tarFile returns a tar file, compressed with gzip.
func tarFile(t *testing.T, files map[string]string) []byte {
	t.Helper()
	var b bytes.Buffer
	g := gzip.NewWriter(&b)
	w := tar.NewWriter(g)
	for name, text := range files {
		if err := w.WriteHeader(&tar.Header{Name: name, Mode: 0o644, Size: int64(len(text))}); err != nil {
			t.Fatal(err)
		}
		io.WriteString(w, text)
	}
	if err := errors.Join(w.Close(), g.Close()); err != nil {
		t.Fatal(err)
	}
	return b.Bytes()
}
