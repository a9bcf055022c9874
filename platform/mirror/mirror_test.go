package mirror

import (
	"bytes"
	"context"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/colophon-build/colophon/test/logtest"
	"github.com/colophon-build/colophon/tlog"
	"github.com/colophon-build/colophon/tlog/witness"
)

const origin = "log.example.com"

func open(t *testing.T, dir string, src tlog.Source, l *logtest.Log) *Mirror {
	t.Helper()
	m, err := New(Config{Dir: dir, Name: "mirror.example/m", Logs: []Log{{l.Verifier(), src}}, Log: slog.New(slog.DiscardHandler)})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = m.Close() })
	return m
}

// TestMirror: the copy has every tile, its checkpoint is cosigned, and a reader verifies all of it
// as if it were the log.
func TestMirror(t *testing.T) {
	l := logtest.New(origin, 300)
	web := httptest.NewServer(tlogAt("/", l))
	defer web.Close()
	dir := filepath.Join(t.TempDir(), "m")
	m := open(t, dir, tlog.HTTP{URL: web.URL}, l)
	served := httptest.NewServer(m.Handler())
	defer served.Close()
	copied := tlog.HTTP{URL: served.URL + "/" + witness.OriginHash(origin)}
	if _, err := copied.Checkpoint(t.Context()); err == nil {
		t.Error("a checkpoint is served before there is a copy")
	}
	for _, size := range []int{300, 301, 700} {
		l.Grow(size)
		m.Update(t.Context())
		signed, err := copied.Checkpoint(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		cp, err := tlog.OpenCheckpoint(signed, l.Verifier())
		if err != nil || cp.Size != int64(size) {
			t.Fatalf("got %v, %v", cp, err)
		}
		if all, err := tlog.Cosignatures(signed, m.Keys(), time.Now()); err != nil || len(all) != 2 {
			t.Errorf("cosignatures: got %v, %v", all, err)
		}
		for level := tlog.Entries; level <= 1; level++ {
			for index := int64(0); ; index++ {
				tile, ok := tlog.Tile{Level: level, Index: index}.At(cp.Size)
				if !ok {
					break
				}
				data, err := tlog.ReadTile(t.Context(), copied, tile)
				if err == nil {
					err = tlog.VerifyTile(t.Context(), copied, cp, tile, data)
				}
				if err != nil {
					t.Errorf("%s: %v", tile.Path(), err)
				}
			}
		}
	}
	// A new start serves what there is, also while the log is gone.
	if err := m.Close(); err != nil {
		t.Fatal(err)
	}
	web.Close()
	m = open(t, dir, tlog.HTTP{URL: web.URL}, l)
	rec := httptest.NewRecorder()
	m.Handler().ServeHTTP(rec, httptest.NewRequest("GET", "/"+witness.OriginHash(origin)+"/checkpoint", nil))
	if rec.Code != 200 || !strings.Contains(rec.Body.String(), "\n700\n") {
		t.Errorf("after a new start: got %d %s", rec.Code, rec.Body)
	}
}

// TestMirrorOfALiar: whatever the log does, the copy stays one history, and says so.
func TestMirrorOfALiar(t *testing.T) {
	l := logtest.New(origin, 20)
	for name, lie := range map[string]func(src *lying){
		"fork":      func(src *lying) { src.Log = l.Fork(10, 30) },
		"roll back": func(src *lying) { src.Log = logtest.New(origin, 10) },
		"two roots": func(src *lying) { src.Log = l.Fork(10, 20) },
		"edited entry": func(src *lying) {
			src.Log = logtest.New(origin, 30)
			src.edit = func(data []byte) []byte { return bytes.Replace(data, []byte("entry 25"), []byte("entry 26"), 1) }
		},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			src := &lying{Log: l}
			m := open(t, filepath.Join(t.TempDir(), "m"), src, l)
			m.Update(t.Context())
			c := m.copies[witness.OriginHash(origin)]
			before, err := c.Checkpoint(t.Context())
			if err != nil {
				t.Fatal(err)
			}
			lie(src)
			m.Update(t.Context())
			after, err := c.Checkpoint(t.Context())
			if err != nil || !bytes.Equal(before, after) {
				t.Errorf("the checkpoint changed: got %s, %v", after, err)
			}
			if c.why == "" {
				t.Error("nobody is told")
			}
		})
	}
}

// TestLostCopies: a mirror without what it cosigned does not start: it could cosign a fork with the same keys.
func TestLostCopies(t *testing.T) {
	l := logtest.New(origin, 20)
	dir := filepath.Join(t.TempDir(), "m")
	m := open(t, dir, &lying{Log: l}, l)
	m.Update(t.Context())
	if err := m.Close(); err != nil {
		t.Fatal(err)
	}
	if err := os.RemoveAll(filepath.Join(dir, logsDir)); err != nil {
		t.Fatal(err)
	}
	m, err := New(Config{Dir: dir, Name: "mirror.example/m", Logs: []Log{{l.Verifier(), &lying{Log: l.Fork(10, 30)}}}, Log: slog.New(slog.DiscardHandler)})
	if err == nil {
		m.Update(t.Context())
		signed, _ := m.copies[witness.OriginHash(origin)].Checkpoint(t.Context())
		_ = m.Close()
		t.Errorf("it started, and cosigned\n%s", signed)
	}
}

type lying struct {
	*logtest.Log
	edit func([]byte) []byte
}

func TestSettings(t *testing.T) {
	key := logtest.New(origin, 0).VKey()
	good := LogSettings{key, "http://127.0.0.1:1"}
	for name, s := range map[string]Settings{
		"nothing":    {},
		"no logs":    {Name: "m", Dir: "d"},
		"plain HTTP": {Name: "m", Dir: "d", Logs: []LogSettings{{key, "http://log.example.com"}}},
		"no key":     {Name: "m", Dir: "d", Logs: []LogSettings{{"x", good.URL}}},
		"too often":  {Name: "m", Dir: "d", Logs: []LogSettings{good}, Every: "1ms"},
		"too many":   {Name: "m", Dir: "d", Logs: make([]LogSettings, maxLogs+1)},
	} {
		if _, _, err := s.Check(); err == nil {
			t.Errorf("%s: want an error", name)
		}
	}
	if logs, _, err := (&Settings{Name: "m", Dir: "d", Logs: []LogSettings{good, {Key: key}}}).Check(); err != nil || logs[0].Source == nil || logs[1].Source != nil {
		t.Errorf("got %v, %v, want a log that is fetched, and one that pushes", logs, err)
	}
	if _, err := New(Config{Dir: filepath.Join(t.TempDir(), "m"), Name: "m", Logs: []Log{{logtest.New(origin, 0).Verifier(), nil}, {logtest.New(origin, 0).Verifier(), nil}}}); err == nil {
		t.Error("a log is mirrored twice")
	}
}

// Tile implements tlog.Source.
func (s *lying) Tile(ctx context.Context, t tlog.Tile) ([]byte, error) {
	data, err := s.Log.Tile(ctx, t)
	if s.edit != nil && t.Level == tlog.Entries {
		data = s.edit(data)
	}
	return data, err
}

func tlogAt(prefix string, src tlog.Source) http.Handler {
	return http.StripPrefix(prefix, tlog.Handler{Source: src})
}
