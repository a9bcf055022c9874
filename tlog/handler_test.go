package tlog

import (
	"context"
	"errors"
	"io"
	"io/fs"
	"net/http"
	"net/http/httptest"
	"net/url"
	"strings"
	"testing"
)

// shelf is a Source with the files of a test, by path.
type shelf map[string]string

func (s shelf) Checkpoint(context.Context) ([]byte, error) { return s.get("checkpoint") }

func (s shelf) Tile(_ context.Context, t Tile) ([]byte, error) { return s.get(t.Path()) }

func (s shelf) get(path string) ([]byte, error) {
	switch data, ok := s[path]; {
	case data == "broken":
		return nil, errors.New("/secret/path: input/output error")
	case ok:
		return []byte(data), nil
	}
	return nil, fs.ErrNotExist
}

func TestHandler(t *testing.T) {
	source := shelf{"checkpoint": "signed", "tile/0/000": "full", "tile/0/x001/234.p/7": "part", "tile/entries/000": "entries", "tile/5/000": "broken",
		"tile/0/000.p/0": "what no path names"}
	for _, c := range []struct {
		data, path string
		status     int
		body       string
	}{
		{"", "checkpoint", 200, "signed"},
		{"", "tile/0/000", 200, "full"},
		{"", "tile/0/x001/234.p/7", 200, "part"},
		{"", "tile/entries/000", 200, "entries"},
		{"", "tile/data/000", 404, ""},
		{"data", "tile/0/000", 200, "full"},
		{"data", "tile/data/000", 200, "entries"},
		{"data", "tile/entries/000", 404, ""}, // one tile has one path
		{"", "tile/0/001", 404, ""},
		{"", "tile/5/000", 500, ""},
		{"", "", 404, ""},
		{"", "checkpoint/", 404, ""},
		{"", "tile", 404, ""},
		{"", "tile/0/000/", 404, ""},
		{"", "tile/0/000.p/0", 404, ""},
		{"", "tile/0/000.p/256", 404, ""},
		{"", "tile/0/x000/000", 404, ""},
		{"", "tile/6/000", 404, ""},
		{"", "tile/00/000", 404, ""},
		{"", "tile/0/../0/000", 404, ""},
		{"", "tile/0/..%2f..%2f..%2fkey", 404, ""},
		{"data", "tile/data/..%2f..%2fkey", 404, ""},
		{"", "issuer/00", 404, ""},
	} {
		r := httptest.NewRequest(http.MethodGet, "/log/"+c.path, nil)
		w := httptest.NewRecorder()
		http.StripPrefix("/log/", Handler{Source: source, Data: c.data}).ServeHTTP(w, r)
		cache, kind := "public, max-age=31536000, immutable", "application/octet-stream"
		switch {
		case c.status != 200:
			cache, kind = "no-store", "text/plain; charset=utf-8"
		case c.path == "checkpoint":
			cache, kind = "no-cache", "text/plain; charset=utf-8"
		}
		if w.Code != c.status || c.status == 200 && w.Body.String() != c.body || w.Header().Get("Cache-Control") != cache || w.Header().Get("X-Content-Type-Options") != "nosniff" || w.Header().Get("Content-Type") != kind {
			t.Errorf("%s: got %d %q %v, want %d %q %s %s", c.path, w.Code, w.Body, w.Header(), c.status, c.body, cache, kind)
		}
		if strings.Contains(w.Body.String(), "secret") {
			t.Errorf("%s: the answer tells what failed: %s", c.path, w.Body)
		}
	}
}

func TestHandlerFail(t *testing.T) {
	for path, want := range map[string]int{"tile/5/000": 500, "tile/0/001": 404, "tile/": 404} {
		w := httptest.NewRecorder()
		Handler{Source: shelf{"tile/5/000": "broken"}, Fail: func(w http.ResponseWriter, status int, err error) {
			if err == nil {
				t.Errorf("%s: no error", path)
			}
			w.WriteHeader(status)
			io.WriteString(w, "ours")
		}}.ServeHTTP(w, &http.Request{Method: http.MethodGet, URL: &url.URL{Path: path}, Header: http.Header{}})
		if w.Code != want || w.Body.String() != "ours" {
			t.Errorf("%s: got %d %q, want %d", path, w.Code, w.Body, want)
		}
	}
}

// HTTP reads what Handler serves.
func TestHandlerAndHTTP(t *testing.T) {
	source := shelf{"checkpoint": "signed", "tile/0/000.p/2": "two hashes"}
	server := httptest.NewServer(http.StripPrefix("/", Handler{Source: source}))
	defer server.Close()
	log := HTTP{URL: server.URL}
	if data, err := log.Checkpoint(t.Context()); string(data) != "signed" {
		t.Errorf("checkpoint: got %q, %v", data, err)
	}
	if data, err := log.Tile(t.Context(), Tile{Width: 2}); string(data) != "two hashes" {
		t.Errorf("tile: got %q, %v", data, err)
	}
	if _, err := log.Tile(t.Context(), Tile{Width: 3}); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("a tile that is not there: got %v, want fs.ErrNotExist", err)
	}
}
