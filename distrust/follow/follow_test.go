package follow_test

import (
	"bytes"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/colophon-build/colophon/distrust"
	"github.com/colophon-build/colophon/distrust/follow"
	"github.com/colophon-build/colophon/test/distrusttest"
)

const commit = "381e42a0381e42a0381e42a0381e42a0381e42a0"

// TestHostileServer: whatever a server answers in place of the list, what was read before counts, and the reader says why.
func TestHostileServer(t *testing.T) {
	issuer := distrusttest.New(t)
	issuer.Add(distrust.Scope{Commit: commit})
	elsewhere := httptest.NewServer(distrusttest.New(t))
	defer elsewhere.Close()
	var answer atomic.Pointer[http.HandlerFunc]
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) { (*answer.Load())(w, r) }))
	defer server.Close()
	set := func(h http.HandlerFunc) { answer.Store(&h) }
	dir := t.TempDir()
	reader := follow.New(dir, []distrust.Issuer{issuer.Issuer("shop", server.URL)})
	set(issuer.ServeHTTP)
	if l := reader.Refresh(t.Context(), time.Now(), nil); l[0].List == nil || l[0].Problem != "" {
		t.Fatalf("got %+v", l[0])
	}
	for what, tt := range map[string]struct {
		answer http.HandlerFunc
		says   string
	}{
		"a redirect":                     {func(w http.ResponseWriter, r *http.Request) { http.Redirect(w, r, elsewhere.URL, http.StatusFound) }, "302"},
		"not modified, and nobody asked": {func(w http.ResponseWriter, _ *http.Request) { w.WriteHeader(http.StatusNotModified) }, "304"},
		"nothing":                        {func(http.ResponseWriter, *http.Request) {}, "head"},
		"without end": {func(w http.ResponseWriter, _ *http.Request) {
			for range distrust.MaxList>>20 + 1 {
				if _, err := w.Write(bytes.Repeat([]byte("a"), 1<<20)); err != nil {
					return
				}
			}
		}, "67108864"},
		"a page of a portal": {func(w http.ResponseWriter, _ *http.Request) { _, _ = w.Write([]byte("<html>\n<body>\n\x1b[2J\n")) }, "head"},
	} {
		set(tt.answer)
		l := reader.Refresh(t.Context(), time.Now(), nil)[0]
		if l.List == nil || l.List.Entries != 1 || !strings.Contains(l.Problem, tt.says) || strings.Contains(l.Problem, "\x1b") {
			t.Errorf("%s: got %q and %v, want %q and the list before", what, l.Problem, l.List, tt.says)
		}
	}
	// Another process knows the list, without a network.
	if l := follow.New(dir, []distrust.Issuer{issuer.Issuer("shop", server.URL)}).Kept(t.Context(), time.Now(), nil)[0]; l.List == nil || l.List.Entries != 1 {
		t.Errorf("kept: got %+v", l)
	}
}

// TestUnchanged: a list that did not change is not downloaded again.
func TestUnchanged(t *testing.T) {
	issuer, whole := distrusttest.New(t), 0
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("ETag", `"1"`)
		if r.Header.Get("If-None-Match") == `"1"` {
			w.WriteHeader(http.StatusNotModified)
			return
		}
		whole++
		issuer.ServeHTTP(w, r)
	}))
	defer server.Close()
	reader := follow.New("", []distrust.Issuer{issuer.Issuer("shop", server.URL)})
	for range 3 {
		if l := reader.Refresh(t.Context(), time.Now(), nil)[0]; l.List == nil || l.Problem != "" {
			t.Fatalf("got %+v", l)
		}
	}
	if whole != 1 {
		t.Errorf("downloaded %d times, want once", whole)
	}
}

// TestKeptDamaged: a reader whose memory is damaged does not know what the list had, and takes none.
func TestKeptDamaged(t *testing.T) {
	issuer, dir := distrusttest.New(t), t.TempDir()
	from := filepath.Join(t.TempDir(), "list")
	if err := os.WriteFile(from, issuer.Raw(), 0o600); err != nil {
		t.Fatal(err)
	}
	issuers := []distrust.Issuer{issuer.Issuer("shop", from)}
	if l := follow.New(dir, issuers).Refresh(t.Context(), time.Now(), nil)[0]; l.Problem != "" {
		t.Fatal(l.Problem)
	}
	if err := os.WriteFile(follow.File(dir, "shop"), issuer.Raw()[:50], 0o600); err != nil {
		t.Fatal(err)
	}
	if l := follow.New(dir, issuers).Refresh(t.Context(), time.Now(), nil)[0]; l.List != nil || !strings.Contains(l.Problem, "damaged") {
		t.Errorf("got %+v, want no list", l)
	}
}

// TestClockWasAhead: a reader whose clock, and that of the issuer, were far ahead for a while takes a head of the same
// entries with the right time.
func TestClockWasAhead(t *testing.T) {
	issuer, dir, right := distrusttest.New(t), t.TempDir(), time.Now()
	from := filepath.Join(t.TempDir(), "list")
	issuers := []distrust.Issuer{issuer.Issuer("shop", from)}
	for _, now := range []time.Time{right, right.Add(1000 * time.Hour), right.Add(time.Minute)} {
		issuer.Now = func() time.Time { return now }
		if err := os.WriteFile(from, issuer.Add(), 0o600); err != nil {
			t.Fatal(err)
		}
		if l := follow.New(dir, issuers).Refresh(t.Context(), now, nil)[0]; l.Problem != "" || l.List == nil || l.List.Counts(now) != nil {
			t.Errorf("at %s: got %+v", now, l)
		}
	}
}

// TestNewKey: a list that was read under another key still may not be rolled back.
func TestNewKey(t *testing.T) {
	old, dir := distrusttest.New(t), t.TempDir()
	from := filepath.Join(t.TempDir(), "list")
	write := func(raw []byte) {
		t.Helper()
		if err := os.WriteFile(from, raw, 0o600); err != nil {
			t.Fatal(err)
		}
	}
	write(old.Add(distrust.Scope{Commit: commit}))
	follow.New(dir, []distrust.Issuer{old.Issuer("shop", from)}).Refresh(t.Context(), time.Now(), nil)
	next := distrusttest.New(t)
	write(next.Raw())
	if l := follow.New(dir, []distrust.Issuer{next.Issuer("shop", from)}).Refresh(t.Context(), time.Now(), nil)[0]; l.List != nil || !strings.Contains(l.Problem, "rolled back") {
		t.Errorf("got %+v, want it refused", l)
	}
}

// TestOtherIssuers: if the issuers change, what was read of those that stay counts on, though no directory keeps it
// and the list cannot be read; and what the issuer may say is as it is now.
func TestOtherIssuers(t *testing.T) {
	issuer, other := distrusttest.New(t), distrusttest.New(t)
	old := issuer.Raw()
	issuer.Add(distrust.Scope{Commit: commit})
	var down, rolledBack atomic.Bool
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		switch {
		case down.Load():
			w.WriteHeader(http.StatusBadGateway)
		case rolledBack.Load():
			_, _ = w.Write(old)
		default:
			issuer.ServeHTTP(w, r)
		}
	}))
	defer server.Close()
	shop := issuer.Issuer("shop", server.URL)
	reader := follow.New("", []distrust.Issuer{shop})
	reader.Refresh(t.Context(), time.Now(), nil)
	down.Store(true)
	shop.Only = []distrust.Kind{distrust.Commit}
	reader = reader.With([]distrust.Issuer{other.Issuer("vendor", server.URL), shop})
	l := reader.Refresh(t.Context(), time.Now(), nil)
	if len(l) != 2 || l[0].List != nil || l[1].List == nil || l[1].List.Entries != 1 || l[1].Problem == "" || len(l[1].Issuer.Only) != 1 {
		t.Fatalf("got %+v", l)
	}
	down.Store(false)
	rolledBack.Store(true)
	if l := reader.Refresh(t.Context(), time.Now(), nil)[1]; l.List.Entries != 1 || !strings.Contains(l.Problem, "rolled back") {
		t.Errorf("rolled back: got %+v", l)
	}
	// Another key signs: nothing of the list before counts.
	if l := reader.With([]distrust.Issuer{other.Issuer("shop", server.URL)}).Lists()[0]; l.List != nil {
		t.Errorf("with another signer: got %+v", l)
	}
}
