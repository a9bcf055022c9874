package release

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"net/http/httptest"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"github.com/colophon-build/colophon/attest"
	"github.com/colophon-build/colophon/platform/api"
	"github.com/colophon-build/colophon/platform/builder"
	"github.com/colophon-build/colophon/platform/release/credentials"
	"github.com/colophon-build/colophon/test/githttp"
	"github.com/colophon-build/colophon/test/gittest"
)

const secret = "hunter2hunter2"

// private serves the local repository at uri to those who know the secret.
func private(t *testing.T, uri string) string {
	t.Helper()
	dir := strings.TrimPrefix(uri, "file://")
	git := githttp.Handler(t, filepath.Dir(dir))
	srv := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if _, password, _ := r.BasicAuth(); password != secret {
			w.Header().Set("Www-Authenticate", `Basic realm="x"`)
			w.WriteHeader(http.StatusUnauthorized)
			return
		}
		git.ServeHTTP(w, r)
	}))
	t.Cleanup(srv.Close)
	return srv.URL + "/" + filepath.Base(dir)
}

// sessions is the trusted side of rooms that cannot be opened: it keeps what it was asked.
type sessions struct{ begun []builder.Session }

func (r *sessions) Begin(_ context.Context, s builder.Session) (string, error) {
	r.begun = append(r.begun, s)
	return "", errors.New("no room in this test")
}
func (r *sessions) End(context.Context, string) (*builder.Record, error) { return nil, nil }
func (r *sessions) Keep(context.Context, string, bool) error             { return nil }

// TestPrivateSource: the platform's credential opens the repository, and reaches neither
// the build nor a file, an event or an error. A release elsewhere does not get it.
func TestPrivateSource(t *testing.T) {
	b := &watched{}
	s := newStage(t, b, http.NotFound)
	s.req.Source = private(t, s.req.Source)
	var events bytes.Buffer
	run := func() error {
		_, err := s.Run(t.Context(), s.req, func(e api.Event) { fmt.Fprintf(&events, "%+v\n", e) })
		return err
	}
	err := run()
	failed, _ := errors.AsType[*api.Error](err)
	if failed == nil || !strings.Contains(failed.Hint, "credential for it") {
		t.Errorf("without a credential: got %#v, want an error that says what to do", err)
	}
	s.Credentials = &credentials.Set{Sources: []credentials.Source{{URL: s.req.Source, Login: credentials.Login{User: "x", Password: "not the password"}}}}
	failed, _ = errors.AsType[*api.Error](run())
	if failed == nil || !strings.Contains(failed.Hint, "refuses the platform's credential") || strings.Contains(failed.Message, "password") {
		t.Errorf("with a wrong credential: got %#v", failed)
	}
	s.Credentials.Sources[0].Password = secret
	if err := run(); err == nil || !strings.Contains(err.Error(), "the end of this test") {
		t.Errorf("got %v, want the end of this test", err)
	}
	if b.request.Tree == "" || strings.Contains(fmt.Sprintf("%+v", b.request), "hunter2") || strings.Contains(events.String(), "hunter2") {
		t.Errorf("got request %+v, events %s", b.request, events.String())
	}
	if out, err := exec.Command("grep", "-rl", "hunter2", s.Dir).CombinedOutput(); err == nil {
		t.Errorf("the secret is in %s", out)
	}
	absent := s.req.Source
	s.req.Source += "-of-others"
	s.Credentials.Sources[0].URL = s.req.Source
	if failed, _ = errors.AsType[*api.Error](run()); failed == nil || !strings.Contains(failed.Hint, "may not read it") {
		t.Errorf("a repository that the credential may not read: got %#v", failed)
	}
	s.Credentials.Sources[0].Login = credentials.Login{GitHubApp: &credentials.GitHubApp{AppID: 1, Key: []byte("no key")}}
	if failed, _ = errors.AsType[*api.Error](run()); failed == nil || !strings.Contains(failed.Hint, "whoever runs the platform can mend it") {
		t.Errorf("an app that gets no token: got %#v, want a hint", failed)
	}
	s.req.Source, s.Credentials.Sources[0] = absent, credentials.Source{URL: absent, Login: credentials.Login{User: "x", Password: secret}}
	s.Credentials.Sources[0].URL += "2"
	if err := run(); err == nil || !strings.Contains(err.Error(), "asks for a login") || strings.Contains(err.Error(), "git: ") {
		t.Errorf("got %v, want that a credential for another path is not used", err)
	}
}

// watched keeps the request.
type watched struct{ request builder.Request }

func (w *watched) Build(_ context.Context, r builder.Request) (*builder.Result, error) {
	w.request = r
	return nil, errors.New("the end of this test")
}

// TestCredentialsOfTheSource: a session has the credentials for builds of its own source, and
// no others; it names the source, which has a part of the store.
func TestCredentialsOfTheSource(t *testing.T) {
	s := newStage(t, files{"hello": "world"}, http.NotFound)
	rooms := &sessions{}
	s.Rooms = rooms
	s.Builders[0].Name = attest.BuildKit
	s.req.Recipe = attest.Recipe{Builder: attest.BuildKit}
	dir := strings.TrimPrefix(s.req.Source, "file://")
	if err := os.WriteFile(filepath.Join(dir, "Dockerfile"), []byte("FROM scratch\nCOPY . /\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	for _, args := range [][]string{{"add", "-A"}, {"commit", "-q", "-m", "x"}, {"tag", "-f", "v1.0.0"}} {
		gittest.Git(t, dir, args...)
	}
	d := credentials.Download{URL: "https://npm.example.com/a", Login: credentials.Login{Token: secret}, For: []string{s.req.Source + "-of-others"}}
	s.Credentials = &credentials.Set{Downloads: []credentials.Download{d}}
	for i, want := range []int{0, 1} {
		s.Credentials.Downloads[0].For = append(s.Credentials.Downloads[0].For, s.req.Source)[:1+want]
		if _, err := s.Run(t.Context(), s.req, func(api.Event) {}); err == nil || !strings.Contains(err.Error(), "no room in this test") || strings.Contains(err.Error(), "hunter2") {
			t.Fatalf("got %v", err)
		}
		if len(rooms.begun) != i+1 || len(rooms.begun[i].Credentials) != want || rooms.begun[i].Scope != s.req.Source {
			raw, _ := json.Marshal(rooms.begun)
			t.Errorf("got %s, want a session with %d credentials", raw, want)
		}
	}
}
