package peer

import (
	"context"
	"io"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"testing"

	"github.com/colophon-build/colophon/test/await"
)

// serve answers "in" to everybody at /, and to role "signer" at /sign.
func serve(t *testing.T, users Users) *http.Client {
	t.Helper()
	path := filepath.Join(t.TempDir(), "s.sock")
	serveAt(t, path, users)
	return At(path).Client()
}

// serveAt is serve at a path.
func serveAt(t *testing.T, path string, users Users) {
	t.Helper()
	l, err := Listen(path, -1)
	if err != nil {
		t.Fatal(err)
	}
	in := http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) { io.WriteString(w, "in") })
	mux := http.NewServeMux()
	mux.Handle("/", in)
	mux.Handle("/sign", Allow(in, "signer"))
	await.Background(t, func(ctx context.Context) error { return Serve(ctx, l, users, mux) })
	if st, err := os.Stat(path); err != nil || st.Mode().Perm() != 0o660 {
		t.Fatalf("socket: %v, %v", st, err)
	}
}

func TestRoles(t *testing.T) {
	me := os.Getuid()
	for _, test := range []struct {
		name  string
		users Users
		path  string
		want  int
	}{
		{"one of the socket's roles", Users{"builder": me}, "/", 200},
		{"its health", Users{"builder": me}, PathHealth, 200},
		{"another role's request", Users{"builder": me, "signer": 12345}, "/sign", 403},
		{"its own request", Users{"builder": 12345, "signer": me}, "/sign", 200},
		{"all roles are one user", Users{"builder": me, "signer": me}, "/sign", 200},
		// Root can connect to any socket; SO_PEERCRED shows that it is not the right user.
		{"no role's user", Users{"builder": 12345}, "/", 403},
		{"no role's user asks for health", Users{"builder": 12345}, PathHealth, 403},
	} {
		resp, err := serve(t, test.users).Get("http://x" + test.path)
		if err != nil {
			t.Fatal(err)
		}
		resp.Body.Close()
		if resp.StatusCode != test.want {
			t.Errorf("%s: got %d, want %d", test.name, resp.StatusCode, test.want)
		}
	}
}

// TestProxiedRoles: what a proxy of one role forwards counts as a request of that role alone, also where all roles are
// one user, and whatever the client says.
func TestProxiedRoles(t *testing.T) {
	me := os.Getuid()
	for _, test := range []struct {
		name   string
		users  Users
		as     string
		path   string
		header http.Header
		want   int
	}{
		{"its own request", Users{"api": me, "signer": me}, "signer", "/sign", nil, 200},
		{"another role's request", Users{"api": me, "signer": me}, "api", "/sign", nil, 403},
		{"everybody's request", Users{"api": me, "signer": me}, "api", "/", nil, 200},
		{"the client names a role", Users{"api": me, "signer": me}, "api", "/sign", http.Header{headerRole: {"signer"}}, 403},
		{"the client removes the role", Users{"api": me, "signer": me}, "api", "/sign", http.Header{"Connection": {headerRole}}, 403},
		{"a role of another user", Users{"api": me, "signer": 12345}, "signer", "/sign", nil, 403},
	} {
		path := filepath.Join(t.TempDir(), "s.sock")
		serveAt(t, path, test.users)
		r := httptest.NewRequest(http.MethodGet, test.path, nil)
		if test.header != nil {
			r.Header = test.header
		}
		w := httptest.NewRecorder()
		Proxy(test.as, "x", At(path), slog.New(slog.DiscardHandler)).ServeHTTP(w, r)
		if w.Code != test.want {
			t.Errorf("%s: got %d, want %d", test.name, w.Code, test.want)
		}
	}
}

func TestSocketIsReplaced(t *testing.T) {
	path := filepath.Join(t.TempDir(), "s.sock")
	for range 2 { // the second finds what a killed process left
		l, err := Listen(path, -1)
		if err != nil {
			t.Fatal(err)
		}
		l.Close()
	}
	if err := os.Remove(path); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(path, []byte("mine"), 0o600); err != nil {
		t.Fatal(err)
	}
	if _, err := Listen(path, -1); err == nil {
		t.Error("a file that is no socket was replaced")
	}
}
