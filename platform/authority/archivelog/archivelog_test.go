package archivelog

import (
	"context"
	"crypto/ed25519"
	"encoding/json"
	"fmt"
	"net/http"
	"net/http/httptest"
	"path/filepath"
	"strings"
	"testing"

	"github.com/colophon-build/colophon/platform/authority/tiles"
	"github.com/colophon-build/colophon/search"
	"github.com/colophon-build/colophon/tlog"
)

// TestAddBounds: the log takes records in their order alone, and no request that is too large.
func TestAddBounds(t *testing.T) {
	key := ed25519.NewKeyFromSeed(make([]byte, ed25519.SeedSize))
	signer, err := tlog.NewSigner("log.example/archive", key)
	if err != nil {
		t.Fatal(err)
	}
	dir := t.TempDir()
	s, err := New(tiles.LogConfig{Dir: filepath.Join(dir, "log"), Record: filepath.Join(dir, "vkey"), Signer: signer, PublicKey: key.Public().(ed25519.PublicKey)})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { s.Close(context.Background()) })
	record := func(n int64) []byte {
		return search.Record{Number: n, Form: "bundle", Digest: "sha256:" + strings.Repeat("1", 64)}.Bytes()
	}
	body := func(entries ...[]byte) string {
		raw, err := json.Marshal(Records{Entries: entries})
		if err != nil {
			t.Fatal(err)
		}
		return string(raw)
	}
	for _, c := range []struct {
		what, from, body string
		code             int
		answer           string
	}{
		{"two", "0", body(record(1), record(2)), 200, `{"size":2}`},
		{"again", "0", body(record(1), record(2)), 409, "has 2 entries"},
		{"another in their place", "1", body(record(2)), 409, "has 2 entries"},
		{"a gap", "3", body(record(4)), 409, "has 2 entries"},
		{"another number", "2", body(record(4)), 400, "got record 4 for entry 2"},
		{"no record", "2", body([]byte("x")), 400, "version 1"},
		{"no place", "", body(record(3)), 400, "from"},
		{"no JSON", "2", "{", 400, ""},
		{"too large", "2", body(make([]byte, maxAdd)), 400, fmt.Sprint(maxAdd)},
		{"the next", "2", body(record(3)), 200, `{"size":3}`},
	} {
		w := httptest.NewRecorder()
		s.Add().ServeHTTP(w, httptest.NewRequest(http.MethodPost, PathAdd+"?from="+c.from, strings.NewReader(c.body)))
		if w.Code != c.code || !strings.Contains(w.Body.String(), c.answer) {
			t.Errorf("%s: got %d %s, want %d %s", c.what, w.Code, w.Body, c.code, c.answer)
		}
	}
}
