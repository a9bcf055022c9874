package distrust

import (
	"bytes"
	"context"
	"io"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/colophon-build/colophon/audit"
	list "github.com/colophon-build/colophon/distrust"
	"github.com/colophon-build/colophon/platform/recorder"
	"github.com/colophon-build/colophon/policy"
	"github.com/colophon-build/colophon/test/distrusttest"
	"github.com/colophon-build/colophon/verify"
)

type scene struct {
	t       *testing.T
	now     time.Time
	config  Config
	service *Service
}

func newScene(t *testing.T) *scene {
	c := &scene{t: t, now: time.Now()}
	c.config = Config{KeyDir: filepath.Join(t.TempDir(), "keys"), Dir: filepath.Join(t.TempDir(), "distrust"), URL: "https://p.example", Log: slog.New(slog.DiscardHandler), Now: func() time.Time { return c.now }}
	c.start()
	return c
}

func (c *scene) start() {
	c.t.Helper()
	var err error
	if c.service, err = New(c.config); err != nil {
		c.t.Fatal(err)
	}
}

// read reads the list as a client does that trusts the key.
func (c *scene) read(before *list.Head) *list.List {
	c.t.Helper()
	mux := http.NewServeMux()
	c.service.Register(mux)
	get := func(path string) []byte {
		w := httptest.NewRecorder()
		mux.ServeHTTP(w, httptest.NewRequest(http.MethodGet, path, nil))
		return w.Body.Bytes()
	}
	key, err := policy.ParseKey(string(get(PathKey)))
	if err != nil {
		c.t.Fatal(err)
	}
	key.InsecureNoLog = true
	l, err := verify.SignedList(c.t.Context(), list.Issuer{Name: "p", Signer: key}, get(Path), before, c.now, nil)
	if err != nil {
		c.t.Fatal(err)
	}
	return l
}

func (c *scene) post(account, body string) (int, string) {
	w := httptest.NewRecorder()
	r := httptest.NewRequest(http.MethodPost, Path, strings.NewReader(body))
	if account != "" {
		r.Header.Set(HeaderAccount, account)
	}
	c.service.Adding().ServeHTTP(w, r)
	return w.Code, w.Body.String()
}

const commit = `{"number":0,"time":"2020-01-01T00:00:00Z","scope":{"commit":"381e42a0c0ffee00c0ffee00c0ffee00c0ffee00"},"reason":"stolen","by":"somebody else"}`

// TestList: entries are added by an account, survive a restart, and are signed again before they expire.
func TestList(t *testing.T) {
	c := newScene(t)
	empty := c.read(nil)
	if code, body := c.post("admin", commit); code != http.StatusOK || !strings.Contains(body, `"by":"admin"`) || strings.Contains(body, "2020") {
		t.Fatalf("got %d, %s, want the entry with its account and time", code, body)
	}
	one := c.read(&empty.Head)
	if one.Entries != 1 || one.Expires.Sub(one.Issued) != life {
		t.Fatalf("got %+v", one.Head)
	}
	c.now = c.now.Add(renew)
	if _, err := c.service.Add(t.Context()); err != nil {
		t.Fatal(err)
	}
	if again := c.read(&one.Head); again.Chain != one.Chain || !again.Issued.After(one.Issued) {
		t.Errorf("got %+v, want a later head of the same entries", again.Head)
	}
	c.start()
	if code, body := c.post("admin", `{"number":0,"time":"2020-01-01T00:00:00Z","lift":0,"reason":"a mistake"}`); code != http.StatusOK { // the number is the platform's
		t.Fatalf("got %d, %s", code, body)
	}
	if l := c.read(&one.Head); l.Entries != 2 || l.Lifted(0) == nil {
		t.Errorf("got %+v, want entry 0 lifted", l.Head)
	}
}

// TestClock: a clock that goes back a little makes no head that readers take for an older one. One that was far
// ahead for a while does not keep later entries from readers whose clocks were right.
func TestClock(t *testing.T) {
	c := newScene(t)
	right := c.read(nil)
	add := func(shift time.Duration, entries ...list.Entry) {
		t.Helper()
		c.now = c.now.Add(shift)
		if _, err := c.service.Add(t.Context(), entries...); err != nil {
			t.Fatal(err)
		}
	}
	add(-time.Minute)
	if got := c.read(&right.Head).Issued; got.Before(right.Issued) {
		t.Errorf("issued: got %s, want at least %s", got, right.Issued)
	}
	add(365 * 24 * time.Hour)
	c.now = c.now.Add(-365 * 24 * time.Hour)
	c.start()
	add(time.Minute, list.Entry{Scope: &list.Scope{Commit: "381e42a0c0ffee00c0ffee00c0ffee00c0ffee00"}, Reason: "stolen", By: "admin"})
	if l := c.read(&right.Head); l.Entries != 1 || l.Counts(c.now) != nil {
		t.Errorf("got %+v, want one entry, and a head that counts at %s", l.Head, c.now)
	}
}

// TestListRefuses: what is no entry, and nobody's, changes nothing.
func TestListRefuses(t *testing.T) {
	c := newScene(t)
	for what, tt := range map[string]struct {
		account, body string
		code          int
	}{
		"nobody's":          {"", commit, http.StatusForbidden},
		"no entry":          {"admin", "{}", http.StatusBadRequest},
		"a wide one":        {"admin", strings.Replace(commit, `"commit":"381e42a0c0ffee00c0ffee00c0ffee00c0ffee00"`, `"base":"debian"`, 1), http.StatusBadRequest},
		"an unknown member": {"admin", strings.Replace(commit, `"reason"`, `"x":1,"reason"`, 1), http.StatusBadRequest},
		"a huge one":        {"admin", strings.Replace(commit, "stolen", strings.Repeat("a", list.MaxEntry), 1), http.StatusBadRequest},
		"lifts nothing":     {"admin", `{"number":0,"time":"2020-01-01T00:00:00Z","lift":7,"reason":"r"}`, http.StatusBadRequest},
	} {
		if code, body := c.post(tt.account, tt.body); code != tt.code {
			t.Errorf("%s: got %d, %s, want %d", what, code, body, tt.code)
		}
	}
	if l := c.read(nil); l.Entries != 0 {
		t.Errorf("got %d entries, want none", l.Entries)
	}
}

// TestLostList: a platform whose list is lost or changed on disk does not start with another one.
func TestLostList(t *testing.T) {
	c := newScene(t)
	if code, _ := c.post("admin", commit); code != http.StatusOK {
		t.Fatal(code)
	}
	file := filepath.Join(c.config.Dir, listFile)
	raw, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	theirs := distrusttest.New(t)
	n := 0
	for what, bad := range map[string][]byte{"lost": nil, "somebody else's": theirs.Raw(), "lifted by somebody else": theirs.Forge(raw, list.Entry{Lift: &n, Reason: "trust me"}), "changed": bytes.Replace(raw, []byte("stolen"), []byte("stole!"), 1), "cut": raw[:len(raw)-1]} {
		if os.Remove(file); bad != nil {
			if err := os.WriteFile(file, bad, 0o600); err != nil {
				t.Fatal(err)
			}
		}
		if _, err := New(c.config); err == nil || !strings.Contains(err.Error(), "backup") {
			t.Errorf("%s: got %v, want no start", what, err)
		}
	}
}

// TestNotModified: a reader that has the list downloads nothing.
func TestNotModified(t *testing.T) {
	c := newScene(t)
	mux := http.NewServeMux()
	c.service.Register(mux)
	server := httptest.NewServer(mux)
	defer server.Close()
	get := func(etag string) *http.Response {
		r, err := http.NewRequest(http.MethodGet, server.URL+Path, nil)
		if err != nil {
			t.Fatal(err)
		}
		r.Header.Set("If-None-Match", etag)
		resp, err := http.DefaultClient.Do(r)
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { resp.Body.Close() })
		return resp
	}
	first := get("")
	again := get(first.Header.Get("ETag"))
	if body, _ := io.ReadAll(again.Body); again.StatusCode != http.StatusNotModified || len(body) != 0 {
		t.Errorf("got %d and %d bytes", again.StatusCode, len(body))
	}
	if code, _ := c.post("admin", commit); code != http.StatusOK {
		t.Fatal(code)
	}
	if next := get(first.Header.Get("ETag")); next.StatusCode != http.StatusOK {
		t.Errorf("after an entry: got %d, want the list", next.StatusCode)
	}
}

// TestRecorded: a change is in the audit ledger before the list has it. What the ledger does not record is no
// change, and readers of the list do not wait for it. A head that is signed again is no change.
func TestRecorded(t *testing.T) {
	c := newScene(t)
	var told []audit.Record
	var fails error
	c.config.Record = func(_ context.Context, r audit.Record) error {
		told = append(told, r)
		if c.read(nil).Entries != len(told)-1 {
			t.Errorf("record %d came after the list changed", len(told))
		}
		return fails
	}
	c.start()
	if len(told) != 0 {
		t.Fatalf("got %d records of an empty list", len(told))
	}
	if code, body := c.post("admin", commit); code != http.StatusOK {
		t.Fatalf("got %d, %s", code, body)
	}
	if code, body := c.post("admin", `{"number":0,"time":"2020-01-01T00:00:00Z","lift":0,"reason":"a mistake"}`); code != http.StatusOK {
		t.Fatalf("got %d, %s", code, body)
	}
	if len(told) != 2 || told[0].Kind != audit.KindDistrust || told[1].Kind != audit.KindLift {
		t.Fatalf("got %+v", told)
	}
	r := told[0]
	if r.By.User.Value != "admin" || r.Reason.Value != "stolen" || r.About.Commit != "381e42a0c0ffee00c0ffee00c0ffee00c0ffee00" || r.Basis.Distrust == r.Basis.Before || told[1].Basis.Before != r.Basis.Distrust {
		t.Errorf("got %+v", r)
	}
	if e, err := list.ParseEntry(r.Statement.Data); err != nil || e.By != "admin" {
		t.Errorf("statement: got %+v, %v", e, err)
	}
	if list.MaxEntry > audit.MaxStatement {
		t.Errorf("an entry of %d bytes is no statement of a record", list.MaxEntry)
	}
	fails = recorder.ErrNotRecorded
	before := c.read(nil)
	if code, body := c.post("admin", commit); code != http.StatusServiceUnavailable || !strings.Contains(body, "the list did not change") {
		t.Errorf("without a record: got %d, %s", code, body)
	}
	if after := c.read(nil); after.Chain != before.Chain {
		t.Errorf("without a record, the list changed")
	}
	if _, err := c.service.Add(t.Context()); err != nil {
		t.Errorf("signing again: %v", err)
	}
}
