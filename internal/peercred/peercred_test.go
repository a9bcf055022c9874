package peercred

import (
	"context"
	"io"
	"net/http"
	"os"
	"path/filepath"
	"testing"
	"time"
)

func serve(t *testing.T, uids []int) *http.Client {
	t.Helper()
	path := filepath.Join(t.TempDir(), "s.sock")
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan error, 1)
	go func() {
		done <- Serve(ctx, path, uids, http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) { io.WriteString(w, "in") }))
	}()
	t.Cleanup(func() {
		cancel()
		if err := <-done; err != nil {
			t.Error(err)
		}
	})
	for deadline := time.Now().Add(5 * time.Second); ; time.Sleep(time.Millisecond) {
		if st, err := os.Stat(path); err == nil {
			if got := st.Mode().Perm(); got != 0o600 {
				t.Fatalf("socket mode: got %o, want 600", got)
			}
			return Client(path)
		}
		if time.Now().After(deadline) {
			t.Fatal("no socket")
		}
	}
}

func TestOnlyNamedUsers(t *testing.T) {
	for _, test := range []struct {
		uids []int
		want int
	}{{[]int{os.Getuid()}, 200}, {[]int{os.Getuid(), 12345}, 200}} {
		resp, err := serve(t, test.uids).Get("http://x/")
		if err != nil {
			t.Fatal(err)
		}
		resp.Body.Close()
		if resp.StatusCode != test.want {
			t.Errorf("uids %v: got %d, want %d", test.uids, resp.StatusCode, test.want)
		}
	}
}

func TestOtherUserIsRefused(t *testing.T) {
	if os.Getuid() != 0 {
		t.Skip("SKIPPED: giving a socket to another user needs root")
	}
	// Root can connect to a socket of anybody; the kernel's word on who it is stops it.
	resp, err := serve(t, []int{12345}).Get("http://x/")
	if err != nil {
		t.Fatal(err)
	}
	resp.Body.Close()
	if resp.StatusCode != http.StatusForbidden {
		t.Errorf("got %d, want 403", resp.StatusCode)
	}
}
