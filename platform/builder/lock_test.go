package builder

import (
	"bytes"
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

func hexSum(s string) string {
	h := sha256.Sum256([]byte(s))
	return hex.EncodeToString(h[:])
}

const vectors = "../../spec/lock/v1"

func one(method, url string, status int, body string) Exchange {
	e := Exchange{Method: method, URL: url, Status: status, Size: int64(len(body)), SHA256: hexSum(body)}
	return e
}

func TestLockOf(t *testing.T) {
	get := func(url string, status int, body string) Exchange { return one("GET", url, status, body) }
	denied := get("https://d.test/", 403, "")
	denied.Denied = "denied: d.test: it is private"
	cut := get("https://c.test/", 200, "cut")
	cut.SHA256 = ""
	authorized := get("https://a.test/", 200, "b")
	authorized.Authorized = true
	l, err := LockOf([]Exchange{
		get("https://b.test/", 200, "b"), denied, cut, get("https://e.test/", 503, "later"), get("https://e.test/", 429, "later"), get("https://e.test/", 304, ""), {Method: "GET", URL: "https://n.test/"},
		authorized, get("https://a.test/", 401, ""), one("HEAD", "https://a.test/", 404, ""), get("https://m.test/", 302, ""),
		get("https://r.test/", 200, "1"), get("https://r.test/", 200, "1"), get("https://r.test/", 200, "2"), get("https://r.test/", 200, "2"), get("https://r.test/", 200, "2"),
	})
	if err != nil {
		t.Fatal(err)
	}
	var got []string
	for _, e := range l.Fetches {
		got = append(got, fmt.Sprint(e.Method, " ", e.URL, " ", e.Authorized, " ", e.Status, " ", e.Size, e.SHA256[:4]))
	}
	want := []string{
		"GET https://a.test/ false 401 0e3b0", "GET https://a.test/ true 200 13e23", "HEAD https://a.test/ false 404 0e3b0", "GET https://b.test/ false 200 13e23",
		"GET https://m.test/ false 302 0e3b0", "GET https://r.test/ false 200 16b86", "GET https://r.test/ false 200 16b86", "GET https://r.test/ false 200 1d473",
	}
	if strings.Join(got, "\n") != strings.Join(want, "\n") {
		t.Errorf("got\n%s\nwant\n%s", strings.Join(got, "\n"), strings.Join(want, "\n"))
	}
	if l, err := LockOf(nil); err != nil || l.Fetches == nil {
		t.Errorf("of nothing: got %+v, %v", l, err)
	}
}

func TestLockVectors(t *testing.T) {
	good, _ := filepath.Glob(vectors + "/good/*.json")
	bad, _ := filepath.Glob(vectors + "/bad/*.json")
	if len(good) < 2 || len(bad) < 15 {
		t.Fatalf("got %d good and %d bad vectors in %s", len(good), len(bad), vectors)
	}
	for _, name := range good {
		raw := read(t, name)
		l, err := ParseLock(raw)
		if err != nil {
			t.Errorf("%s: %v", name, err)
			continue
		}
		if again, err := l.Marshal(); err != nil || !bytes.Equal(again, raw) {
			t.Errorf("%s: written as\n%s%v", name, again, err)
		}
	}
	for _, name := range bad {
		if l, err := ParseLock(read(t, name)); err == nil {
			t.Errorf("%s was taken: %+v", name, l)
		} else if testing.Verbose() {
			t.Logf("%s: %v", filepath.Base(name), err)
		}
	}
}

func read(t testing.TB, name string) []byte {
	t.Helper()
	raw, err := os.ReadFile(name)
	if err != nil {
		t.Fatal(err)
	}
	return raw
}

func FuzzParseLock(f *testing.F) {
	seeds, _ := filepath.Glob(vectors + "/*/*.json")
	if len(seeds) == 0 {
		f.Fatal("there are no seeds in " + vectors)
	}
	for _, name := range seeds {
		f.Add(read(f, name))
	}
	f.Fuzz(func(t *testing.T, data []byte) {
		l, err := ParseLock(data)
		if err != nil {
			return
		}
		if again, err := l.Marshal(); err != nil || !bytes.Equal(again, data) {
			t.Errorf("written as %q, %v", again, err)
		}
		// A record of the same fetches has the same lock.
		same, err := LockOf(l.Fetches)
		if same != nil {
			same.Git = l.Git
		}
		if err != nil || fmt.Sprint(same) != fmt.Sprint(l) {
			t.Errorf("got %+v, %v, want %+v", same, err, l)
		}
	})
}

// TestLockWithCredentials: a lock is public, so it may not carry what the rule recognizes.
func TestLockWithCredentials(t *testing.T) {
	for name, e := range map[string]Exchange{
		"in the query":     {URL: "https://h.example/a?token=hunter2"},
		"in the location":  {URL: "https://h.example/a", Header: map[string]string{"Location": "/b?sig=hunter2"}},
		"under any name":   {URL: "https://h.example/a?x=ghp_hunter2"},
		"as user and pass": {URL: "https://u:hunter2@h.example/a"},
	} {
		e.Method, e.Status, e.SHA256 = "GET", 302, empty
		l := Lock{Version: LockVersion, Fetches: []Exchange{e}}
		if err := l.Check(); err == nil || strings.Contains(err.Error(), "header Location: got a credential") != (e.Header != nil) {
			t.Errorf("%s: got %v", name, err)
		}
	}
	l := Lock{Version: LockVersion, Fetches: []Exchange{{Method: "GET", URL: "https://h.example/a?token=redacted&v=1", Status: 302, SHA256: empty, Header: map[string]string{"Location": "/b?sig=redacted"}}}}
	if err := l.Check(); err != nil {
		t.Error(err)
	}
}
