package peer

import (
	"context"
	"io"
	"net/http"
	"os"
	"path/filepath"
	"testing"

	"github.com/colophon-build/colophon/test/await"
)

// serve answers "in" to everybody at /, and to role "signer" at /sign.
func serve(t *testing.T, users Users) *http.Client {
	t.Helper()
	path := filepath.Join(t.TempDir(), "s.sock")
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
	return At(path).Client()
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
