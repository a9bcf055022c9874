package api

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/colophon-build/colophon/test/await"
)

var asked = ReleaseRequest{Source: "https://git.example.com/a", Ref: "v1", Image: "registry.example.com/a", Commit: strings.Repeat("c", 40)}

// platform asks a platform that answers every request with h for one release.
func platform(t *testing.T, h http.HandlerFunc) (*Release, error) {
	t.Helper()
	srv := httptest.NewServer(h)
	defer srv.Close()
	c := &ClientConfig{URL: srv.URL, Token: "t"}
	ctx, cancel := context.WithTimeout(t.Context(), await.Patience)
	defer cancel()
	return c.Release(ctx, asked, func(Event) {})
}

func say(lines ...string) http.HandlerFunc {
	return func(w http.ResponseWriter, _ *http.Request) { fmt.Fprint(w, strings.Join(lines, "\n")+"\n") }
}

func result(image, digest, tags, commit string) string {
	return fmt.Sprintf(`{"result":{"image":%q,"digest":%q,"tags":[%s],"source":{"commit":%q}}}`, image, digest, tags, commit)
}

func TestRelease(t *testing.T) {
	digest := "sha256:" + strings.Repeat("d", 64)
	good := result(asked.Image, digest, `"v1"`, asked.Commit)
	if r, err := platform(t, say(`{"phase":"source"}`, good)); err != nil || r.Digest != digest {
		t.Fatalf("got %+v, %v", r, err)
	}
	for name, test := range map[string]struct {
		answer http.HandlerFunc
		want   string
		again  bool // the hint says to run it again
		known  bool // it is an *Error
		kind   Kind
	}{
		"cut before the end": {say(`{"phase":"source"}`), "closed the connection before the release ended", true, true, Failure},
		"cut in a line":      {func(w http.ResponseWriter, _ *http.Request) { fmt.Fprint(w, `{"phase":"so`) }, "event", false, false, Failure},
		"aborted": {func(w http.ResponseWriter, _ *http.Request) {
			fmt.Fprintln(w, `{"phase":"source"}`)
			w.(http.Flusher).Flush()
			panic(http.ErrAbortHandler)
		}, "closed the connection before the release ended", true, true, Failure},
		"nothing":                {func(http.ResponseWriter, *http.Request) {}, "closed the connection before the release ended", true, true, Failure},
		"a line without end":     {say(strings.Repeat("x", MaxEvent+10)), "closed the connection before the release ended", true, true, Failure},
		"success as an error":    {say(`{"error":{"message":"m","kind":"success"}}`), "m", false, true, "success"},
		"an error of no kind":    {say(`{"error":{"message":"m"}}`), "m", false, true, Failure},
		"an error and a result":  {say(`{"result":{},"error":{"message":"m"}}`), "m", false, true, Failure},
		"a usage error":          {say(`{"error":{"message":"m","kind":"usage"}}`), "m", false, true, Usage},
		"another image":          {say(result("registry.example.com/b", digest, `"v1"`, asked.Commit)), `want "registry.example.com/a"`, false, false, Failure},
		"another commit":         {say(result(asked.Image, digest, `"v1"`, strings.Repeat("e", 40))), "released commit", false, false, Failure},
		"no digest":              {say(result(asked.Image, "", `"v1"`, asked.Commit)), "digest", false, false, Failure},
		"no tags":                {say(result(asked.Image, digest, ``, asked.Commit)), "has no tag", false, false, Failure},
		"no token":               {func(w http.ResponseWriter, _ *http.Request) { http.Error(w, "no", http.StatusUnauthorized) }, "401", false, true, Failure},
		"a duplicate in the end": {say(`{"phase":"x","result":null,"result":{}}`), "event", false, false, Failure},
	} {
		t.Run(name, func(t *testing.T) {
			rel, err := platform(t, test.answer)
			if err == nil || !strings.Contains(err.Error(), test.want) {
				t.Fatalf("got %+v, %v; want an error with %q", rel, err, test.want)
			}
			e, known := errors.AsType[*Error](err)
			if known != test.known || known && e.Kind != test.kind {
				t.Errorf("got %+v, want an Error %v of the kind %q", e, test.known, test.kind)
			}
			if known && strings.Contains(e.Hint, "run the same command again") != test.again {
				t.Errorf("hint: got %q", e.Hint)
			}
		})
	}
}

func TestTokenGoesNowhereElse(t *testing.T) {
	other := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		t.Errorf("the redirect was followed, with authorization %q", r.Header.Get("Authorization"))
	}))
	defer other.Close()
	_, err := platform(t, func(w http.ResponseWriter, r *http.Request) {
		http.Redirect(w, r, other.URL, http.StatusTemporaryRedirect)
	})
	if err == nil || !strings.Contains(err.Error(), "307") {
		t.Errorf("got %v", err)
	}
}

func TestCancelledIsNotAPlatformThatFails(t *testing.T) {
	srv := httptest.NewServer(http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) {
		io.Copy(io.Discard, r.Body) // only then does the server notice the end
		<-r.Context().Done()
	}))
	defer srv.Close()
	ctx, cancel := context.WithTimeout(t.Context(), 50*time.Millisecond)
	defer cancel()
	if _, err := (&ClientConfig{URL: srv.URL, Token: "t"}).Release(ctx, asked, nil); !errors.Is(err, context.DeadlineExceeded) {
		t.Errorf("got %v, want %v", err, context.DeadlineExceeded)
	}
}

func TestConfigs(t *testing.T) {
	for data, ok := range map[string]bool{
		`{"url":"http://127.0.0.1:8080","token":"t","fingerprint":"f"}`:             true,
		`{"url":"https://platform.example.com","token":"t"}`:                        true,
		`{"url":"http://[::1]:8080","token":"t"}`:                                   true,
		`{"url":"http://platform.example.com","token":"t"}`:                         false, // in the clear
		`{"url":"http://127.0.0.1.example.com","token":"t"}`:                        false,
		`{"url":"https://user:pw@platform.example.com","token":"t"}`:                false,
		`{"url":"https://platform.example.com/other","token":"t"}`:                  false,
		`{"url":"https://platform.example.com?x=y","token":"t"}`:                    false,
		`{"url":"ftp://127.0.0.1","token":"t"}`:                                     false,
		`{"url":"https://platform.example.com"}`:                                    false,
		`{"url":"https://platform.example.com","token":"a\r\nX-Other: b"}`:          false,
		`{"url":"https://platform.example.com","token":"t","evil":1}`:               false,
		`{"url":"https://a.example.com","url":"https://b.example.com","token":"t"}`: false,
		`[]`:    false,
		``:      false,
		`{"url`: false,
	} {
		if c, err := ParseConfig([]byte(data)); (err == nil) != ok {
			t.Errorf("%s: got %+v, %v", data, c, err)
		}
	}
	if _, err := ParseConfig([]byte(`{"url":"","token":"t","fingerprint":""}`)); err == nil || !strings.Contains(err.Error(), "when it is ready") {
		t.Errorf("a platform that starts: got %v", err)
	}
	big := filepath.Join(t.TempDir(), "big")
	if err := os.WriteFile(big, make([]byte, 2<<20), 0o600); err != nil {
		t.Fatal(err)
	}
	if _, err := ReadConfig(big); err == nil || !strings.Contains(err.Error(), big) {
		t.Errorf("got %v, want an error that names the file", err)
	}
}

func TestWhichPlatform(t *testing.T) {
	dir := t.TempDir()
	t.Setenv("XDG_CONFIG_HOME", dir)
	t.Setenv("COLOPHON_PLATFORM", "")
	if _, err := LoadConfig(); !errors.Is(err, ErrNoPlatform) {
		t.Errorf("got %v, want %v", err, ErrNoPlatform)
	}
	path, err := configPath()
	if err != nil {
		t.Fatal(err)
	}
	kept := &ClientConfig{URL: "https://a.example.com", Token: "t"}
	if err := saveConfig(path, kept); err != nil {
		t.Fatal(err)
	}
	if st, err := os.Stat(path); err != nil || st.Mode().Perm() != 0o600 {
		t.Errorf("kept with mode %v, %v; want 0600", st.Mode(), err)
	}
	if c, err := LoadConfig(); err != nil || *c != *kept {
		t.Errorf("got %+v, %v", c, err)
	}
	// If the named file is missing, that is an error: no other platform is used.
	t.Setenv("COLOPHON_PLATFORM", filepath.Join(dir, "missing"))
	if c, err := LoadConfig(); !errors.Is(err, ErrVariable) || errors.Is(err, ErrNoPlatform) || !strings.HasPrefix(err.Error(), "COLOPHON_PLATFORM: open "+dir) {
		t.Errorf("got %+v, %v", c, err)
	}
	if again, err := configPath(); err != nil || again != path {
		t.Errorf("login would write to %s, %v; want %s", again, err, path)
	}
}

// TestDeclared: what a platform says of a commit is about the commit that was asked for.
func TestDeclared(t *testing.T) {
	commit := strings.Repeat("c", 40)
	for name, test := range map[string]struct{ asked, answer, want string }{
		"good":           {commit, `{"phase":"done","declared":{"commit":"` + commit + `","images":["a","b"]}}`, ""},
		"of a URL":       {"", `{"phase":"done","declared":{"commit":"` + commit + `","images":[]}}`, ""},
		"another commit": {strings.Repeat("d", 40), `{"declared":{"commit":"` + commit + `","images":["a"]}}`, "commit: got"},
		"no commit":      {"", `{"declared":{"images":["a"]}}`, "want a commit id"},
		"a release":      {commit, result(asked.Image, "sha256:"+strings.Repeat("d", 64), `"v1"`, commit), "without the declared images"},
		"an error":       {commit, `{"declared":{"commit":"` + commit + `"},"error":{"message":"m"}}`, "m"},
		"cut":            {commit, `{"phase":"source"}`, "closed the connection"},
	} {
		srv := httptest.NewServer(say(`{"phase":"alive"}`, test.answer))
		defer srv.Close()
		c := &ClientConfig{URL: srv.URL, Token: "t"}
		d, err := c.Declared(t.Context(), ReleaseRequest{Source: asked.Source, Ref: "v1", Commit: test.asked}, func(Event) {})
		if (err == nil) != (test.want == "") || err != nil && !strings.Contains(err.Error(), test.want) {
			t.Errorf("%s: got %+v, %v, want %q", name, d, err, test.want)
		}
	}
	if rel, err := platform(t, say(`{"declared":{"commit":"`+commit+`"}}`)); err == nil || !strings.Contains(err.Error(), "without a release") {
		t.Errorf("declared images in place of a release: got %+v, %v", rel, err)
	}
}

// TestReadsAgain: what only reads is asked again while a role of the platform starts again, and
// what acts is not.
func TestReadsAgain(t *testing.T) {
	id := strings.Repeat("a", 32)
	run := fmt.Sprintf(`{"id":%q,"state":"failed","image":"r.example.com/a","source":"https://git.example.com/a","ref":"v1","asked":"2026-01-02T03:04:05Z"}`, id)
	for name, test := range map[string]struct {
		answer string
		ask    func(context.Context, *ClientConfig) error
		asked  int
	}{
		"a release": {run, func(ctx context.Context, c *ClientConfig) error { _, err := c.Run(ctx, id); return err }, 2},
		"releases":  {`{"releases":[` + run + `]}`, func(ctx context.Context, c *ClientConfig) error { _, err := c.Runs(ctx, RunFilter{}); return err }, 2},
		"its log": {`{"phase":"source"}`, func(ctx context.Context, c *ClientConfig) error {
			_, err := c.RunEvents(ctx, id, false, func(Event) {})
			return err
		}, 2},
		"images": {`{"repositories":[]}`, func(ctx context.Context, c *ClientConfig) error { _, err := c.Images(ctx); return err }, 2},
		"a file": {"x", func(ctx context.Context, c *ClientConfig) error {
			_, err := c.File(ctx, "sha256:2d711642b726b04401627ca9fbac32f5c8530fb1903cc4db02258717921a4881", 10)
			return err
		}, 2},
		"to cancel it": {run, func(ctx context.Context, c *ClientConfig) error { _, err := c.Cancel(ctx, id); return err }, 1},
	} {
		t.Run(name, func(t *testing.T) {
			asked := 0
			srv := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
				if asked++; asked == 1 {
					http.Error(w, "attestor does not answer; it may be restarting", http.StatusServiceUnavailable)
					return
				}
				fmt.Fprint(w, test.answer)
			}))
			defer srv.Close()
			err := test.ask(t.Context(), &ClientConfig{URL: srv.URL, Token: "t"})
			if asked != test.asked || (err == nil) != (test.asked == 2) {
				t.Errorf("got %v after %d requests, want %d", err, asked, test.asked)
			}
		})
	}
}
