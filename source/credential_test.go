package source

import (
	"crypto/ed25519"
	"encoding/base64"
	"fmt"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"testing"

	"golang.org/x/crypto/ssh"

	"github.com/colophon-build/colophon/test/gittest"
)

const secret = "hunter2hunter2"

var basic = "Basic " + base64.StdEncoding.EncodeToString([]byte("x:"+secret))

// seen is what a server was asked with an Authorization header.
type seen struct {
	mu    sync.Mutex
	paths []string
}

// private lets only those read who know the secret, and notes who shows it.
func (s *seen) private(h http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.Header.Get("Authorization") != basic {
			w.Header().Set("Www-Authenticate", `Basic realm="x"`)
			w.WriteHeader(http.StatusUnauthorized)
			return
		}
		s.note(r)
		h.ServeHTTP(w, r)
	})
}

func (s *seen) note(r *http.Request) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if r.Header.Get("Authorization") != "" {
		s.paths = append(s.paths, r.Host+r.URL.Path)
	}
}

func scopeOf(uri string) *Credential { return &Credential{Scope: uri, Authorization: basic} }

func TestCredential(t *testing.T) {
	r := newRepo(t)
	id := r.commit("a", "1")
	var s seen
	uri := r.serveThrough(s.private)
	if _, _, err := fetch(t, Request{URI: uri, Ref: "main"}); err == nil {
		t.Fatal("the server lets everybody read")
	}
	_, c := mustFetch(t, Request{URI: uri, Ref: "main", Credential: scopeOf(uri)})
	if c.ID != id || strings.Contains(fmt.Sprint(c), "hunter2") {
		t.Errorf("got %+v, want commit %s", c, id)
	}
	if _, c := mustFetch(t, Request{URI: uri, Ref: id, Credential: scopeOf(strings.TrimSuffix(uri, "/repo"))}); c.Within != "refs/heads/main" {
		t.Errorf("got %+v, want it within main", c)
	}
	got, err := Lookup(t.Context(), Question{URI: uri, Ref: "refs/heads/main", Commit: id, Tree: c.Tree, Credential: scopeOf(uri)})
	if err != nil || !got.Holds() || got.Tree != c.Tree {
		t.Errorf("got %+v, %v", got, err)
	}
	wrong := scopeOf(uri)
	wrong.Authorization = "Bearer other"
	if _, _, err := fetch(t, Request{URI: uri, Ref: "main", Credential: wrong}); err == nil || strings.Contains(err.Error(), "other") {
		t.Errorf("got %v, want an error without the credential", err)
	}
	wrong.Authorization = "Basic x\"\n[core]\n"
	if _, _, err := fetch(t, Request{URI: uri, Ref: "main", Credential: wrong}); err == nil || !strings.Contains(err.Error(), "of the form") {
		t.Errorf("got %v, want that this is no credential", err)
	}
}

// TestCredentialStaysInItsScope: a repository that leads elsewhere, by redirect, submodule
// or alternates, does not take the credential along.
func TestCredentialStaysInItsScope(t *testing.T) {
	r := newRepo(t)
	id := r.commit("a", "1")
	var there seen
	elsewhere := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, q *http.Request) {
		there.note(q)
		if q.Header.Get("Authorization") == "" {
			w.Header().Set("Www-Authenticate", `Basic realm="x"`)
			w.WriteHeader(http.StatusUnauthorized)
			return
		}
		r.backend().ServeHTTP(w, q)
	}))
	defer elsewhere.Close()
	for name, to := range map[string]func(here, path string) string{
		"another host":            func(_, path string) string { return elsewhere.URL + path },
		"another path":            func(here, path string) string { return here + "/other" + path },
		"a path within the scope": func(here, path string) string { return here + "/repo/nested" + path },
	} {
		t.Run(name, func(t *testing.T) {
			there.paths = nil
			var s seen
			var here string
			uri := r.serveThrough(func(h http.Handler) http.Handler {
				return http.HandlerFunc(func(w http.ResponseWriter, q *http.Request) {
					s.note(q)
					if !strings.HasPrefix(q.URL.Path, "/repo/info") && !strings.HasPrefix(q.URL.Path, "/repo.git/") {
						w.WriteHeader(http.StatusUnauthorized)
						return
					}
					http.Redirect(w, q, to(here, q.URL.RequestURI()), http.StatusFound)
				})
			})
			here = strings.TrimSuffix(uri, "/repo")
			_, _, err := fetch(t, Request{URI: uri, Ref: "main", Credential: scopeOf(uri)})
			if err == nil || strings.Contains(err.Error(), secret) {
				t.Errorf("got %v, want an error without the secret", err)
			}
			if len(there.paths) > 0 {
				t.Errorf("the credential went to %s", there.paths)
			}
			for _, p := range s.paths {
				if _, path, _ := strings.Cut(p, "/"); path != "repo/info/refs" && path != "repo.git/info/refs" {
					t.Errorf("the credential went to %s", p)
				}
			}
		})
	}
	t.Run("dotted", func(t *testing.T) { // as GitLab
		var s seen
		uri := r.serveThrough(func(h http.Handler) http.Handler {
			return s.private(http.HandlerFunc(func(w http.ResponseWriter, q *http.Request) {
				if rest, ok := strings.CutPrefix(q.URL.Path, "/repo.git/"); ok {
					q.URL.Path = "/repo/" + rest
					h.ServeHTTP(w, q)
					return
				}
				http.Redirect(w, q, strings.Replace(q.URL.RequestURI(), "/repo/", "/repo.git/", 1), http.StatusMovedPermanently)
			}))
		})
		if _, c := mustFetch(t, Request{URI: uri, Ref: "main", Credential: scopeOf(uri)}); c.ID != id {
			t.Errorf("got %+v, want commit %s", c, id)
		}
	})
	t.Run("submodules", func(t *testing.T) {
		there.paths = nil
		var s seen
		outer := newRepo(t)
		uri := outer.serveThrough(s.private)
		outer.write(".gitmodules", "[submodule \"x\"]\n\tpath = x\n\turl = "+elsewhere.URL+"/repo\n[submodule \"y\"]\n\tpath = y\n\turl = ../other/repo\n")
		outer.git("add", "-A")
		outer.git("update-index", "--add", "--cacheinfo", "160000,"+id+",x")
		outer.git("update-index", "--add", "--cacheinfo", "160000,"+id+",y")
		outer.git("commit", "-q", "-m", "submodules")
		_, c := mustFetch(t, Request{URI: uri, Ref: "main", Credential: scopeOf(uri)})
		if len(c.Submodules) != 0 || len(there.paths) > 0 {
			t.Errorf("got submodules %v; the credential went to %s", c.Submodules, there.paths)
		}
		for _, p := range s.paths {
			if _, path, _ := strings.Cut(p, "/"); !strings.HasPrefix(path, "repo/") {
				t.Errorf("the credential went to %s", p)
			}
		}
	})
	t.Run("alternates", func(t *testing.T) { // the "dumb" protocol
		there.paths = nil
		uri := r.serveThrough(func(h http.Handler) http.Handler {
			return http.HandlerFunc(func(w http.ResponseWriter, q *http.Request) {
				switch strings.TrimPrefix(q.URL.Path, "/repo/") {
				case "info/refs":
					fmt.Fprintf(w, "%s\trefs/heads/main\n", id)
				case "HEAD":
					fmt.Fprint(w, "ref: refs/heads/main\n")
				case "objects/info/http-alternates", "objects/info/alternates":
					fmt.Fprint(w, elsewhere.URL+"/repo/.git/objects\n")
				default:
					w.WriteHeader(http.StatusNotFound)
				}
			})
		})
		if _, _, err := fetch(t, Request{URI: uri, Ref: "main", Credential: scopeOf(uri)}); err == nil || len(there.paths) > 0 {
			t.Errorf("got %v; the credential went to %s", err, there.paths)
		}
	})
	t.Run("paths", coversItsPathOnly)
}

func coversItsPathOnly(t *testing.T) {
	c := &Credential{Scope: "https://git.example.com/org"}
	for _, uri := range []string{
		"https://git.example.com/org/../other/app", "https://git.example.com/org/%2e%2e/other/app", "https://git.example.com/org/%252e%252e/other", "https://git.example.com/org//app",
		"https://git.example.com/organisation/app", "https://git.example.com:8443/org/app", "https://u@git.example.com/org/app", "ssh://git@git.example.com/org/app", "https://git.example.com/ORG/app",
		"https://git.example.com.evil.example/org/app", "https://git.example.com/org/..;/other/app", "file:///org/app",
	} {
		if c.Covers(uri) {
			t.Errorf("the credential is used for %s", uri)
		}
	}
	for _, uri := range []string{"https://git.example.com/org/app", "git.example.com/org/app.git", "HTTPS://Git.Example.com:443/org/app/"} {
		if !c.Covers(uri) {
			t.Errorf("the credential is not used for %s", uri)
		}
	}
}

// TestCredentialIsInNoArgument: while git runs, neither arguments nor environments of its
// processes have the secret, and nothing is left of it.
func TestCredentialIsInNoArgument(t *testing.T) {
	r := newRepo(t)
	r.commit("a", "1")
	tmp := t.TempDir()
	t.Setenv("TMPDIR", tmp)
	var checked int
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, q *http.Request) {
		all, _ := filepath.Glob("/proc/[0-9]*/environ")
		args, _ := filepath.Glob("/proc/[0-9]*/cmdline")
		for _, f := range append(all, args...) {
			raw, err := os.ReadFile(f)
			if err == nil && strings.Contains(string(raw), "colophon-git-") {
				checked++
				if text := string(raw); strings.Contains(text, secret) || strings.Contains(text, strings.TrimPrefix(basic, "Basic ")) {
					t.Errorf("%s has the secret: %q", f, text)
				}
			}
		}
		(&seen{}).private(r.backend()).ServeHTTP(w, q)
	}))
	defer server.Close()
	mustFetch(t, Request{URI: server.URL + "/repo", Ref: "main", Credential: scopeOf(server.URL)})
	if checked == 0 {
		t.Error("no process of git was seen")
	}
	out, err := exec.Command("grep", "-rlE", secret+"|"+strings.TrimPrefix(basic, "Basic "), tmp).CombinedOutput()
	if exit, ok := err.(*exec.ExitError); !ok || exit.ExitCode() != 1 {
		t.Errorf("got %s (%v), want that no file is left with the secret", out, err)
	}
}

// sshServer serves git-upload-pack of r over ssh to the owner of a key, and returns its
// address and its line of known_hosts.
func sshServer(t *testing.T, r *repo, client ssh.PublicKey) (address, knownHosts string) {
	t.Helper()
	_, private, err := ed25519.GenerateKey(nil)
	if err != nil {
		t.Fatal(err)
	}
	host, err := ssh.NewSignerFromKey(private)
	if err != nil {
		t.Fatal(err)
	}
	conf := &ssh.ServerConfig{PublicKeyCallback: func(c ssh.ConnMetadata, key ssh.PublicKey) (*ssh.Permissions, error) {
		if c.User() != "git" || string(key.Marshal()) != string(client.Marshal()) {
			return nil, fmt.Errorf("who are you?")
		}
		return nil, nil
	}}
	conf.AddHostKey(host)
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { l.Close() })
	go func() {
		for {
			c, err := l.Accept()
			if err != nil {
				return
			}
			go serveSSH(c, conf, r)
		}
	}()
	port := l.Addr().(*net.TCPAddr).Port
	return fmt.Sprintf("127.0.0.1:%d", port), fmt.Sprintf("[127.0.0.1]:%d %s", port, ssh.MarshalAuthorizedKey(host.PublicKey()))
}

func serveSSH(c net.Conn, conf *ssh.ServerConfig, r *repo) {
	defer c.Close()
	_, channels, requests, err := ssh.NewServerConn(c, conf)
	if err != nil {
		return
	}
	go ssh.DiscardRequests(requests)
	for ch := range channels {
		channel, requests, err := ch.Accept()
		if err != nil {
			return
		}
		for q := range requests {
			if q.Type != "exec" {
				q.Reply(q.Type == "env", nil)
				continue
			}
			q.Reply(true, nil)
			cmd := gittest.Command(r.dir, "upload-pack", r.dir)
			cmd.Stdin, cmd.Stdout, cmd.Stderr = channel, channel, channel.Stderr()
			status := struct{ Status uint32 }{}
			if cmd.Run() != nil {
				status.Status = 1
			}
			channel.SendRequest("exit-status", false, ssh.Marshal(status))
			channel.Close()
		}
	}
}

// TestDeployKey: stock ssh gets the key, and connects to the pinned host key only.
func TestDeployKey(t *testing.T) {
	r := newRepo(t)
	id := r.commit("a", "1")
	file, public := sshKey(t, "ed25519")
	client, _, _, _, err := ssh.ParseAuthorizedKey([]byte(public))
	if err != nil {
		t.Fatal(err)
	}
	key, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	address, known := sshServer(t, r, client)
	_, otherKnown := sshServer(t, r, client)
	uri := "ssh://git@" + address + "/org/app"
	c := Credential{Scope: "ssh://git@" + address + "/org", Key: key, KnownHosts: []byte(known)}
	if _, got := mustFetch(t, Request{URI: uri, Ref: "main", Credential: &c}); got.ID != id {
		t.Errorf("got %+v, want commit %s", got, id)
	}
	stranger, _ := sshKey(t, "ed25519")
	other, err := os.ReadFile(stranger)
	if err != nil {
		t.Fatal(err)
	}
	port := address[strings.LastIndexByte(address, ':')+1:]
	_, rest, _ := strings.Cut(otherKnown, " ")
	says := map[string]string{
		"another key": "ssh: git@127.0.0.1: Permission denied (", "no known host": "no key of this host is known", "another host's key": "the host has another key than the known one: SHA256:",
	}
	for name, change := range map[string]func(*Credential){
		"another key":        func(c *Credential) { c.Key = other },
		"no known host":      func(c *Credential) { c.KnownHosts = nil },
		"another host's key": func(c *Credential) { c.KnownHosts = []byte("[127.0.0.1]:" + port + " " + rest) },
		"out of scope":       func(c *Credential) { c.Scope = "ssh://git@" + address + "/other" },
		"of another user":    func(c *Credential) { c.Scope = "ssh://" + address + "/org" },
	} {
		changed := c
		change(&changed)
		if _, _, err := fetch(t, Request{URI: uri, Ref: "main", Credential: &changed}); err == nil || !strings.Contains(err.Error(), says[name]) || strings.Contains(err.Error(), "@@@") {
			t.Errorf("%s: got %v, want an error that contains %q", name, err, says[name])
		}
	}
}
