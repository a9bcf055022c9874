package follow_test

import (
	"bytes"
	"context"
	"crypto/rand"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/colophon-build/colophon/test/tlogtest"
	"github.com/colophon-build/colophon/tlog"
	"github.com/colophon-build/colophon/tlog/follow"
)

func entry(i int) []byte { return fmt.Appendf(nil, "entry %d", i) }

func entries(from, to int) (out [][]byte) {
	for i := from; i < to; i++ {
		out = append(out, entry(i))
	}
	return out
}

// reader collects what a follower hands over, and fails the test if it is not in order.
type reader struct {
	t    *testing.T
	next int64
	stop int64 // fail at this entry, once; 0: never
}

var errStop = errors.New("the reader stops")

func (r *reader) read(_ context.Context, b follow.Batch) error {
	if b.First != r.next {
		r.t.Errorf("got entries from %d on, want %d", b.First, r.next)
	}
	for i, e := range b.Entries {
		if want := entry(int(b.First) + i); !bytes.Equal(e, want) {
			r.t.Errorf("entry %d: got %q, want %q", b.First+int64(i), e, want)
		}
	}
	end := b.First + int64(len(b.Entries))
	if r.stop > 0 && end >= r.stop {
		r.stop = 0
		return errStop
	}
	r.next = end
	return nil
}

func open(t *testing.T, cfg follow.Config) *follow.Follower {
	t.Helper()
	if cfg.Pause == 0 {
		cfg.Pause = time.Millisecond
	}
	f, err := follow.Open(cfg)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { f.Close() })
	return f
}

// sizes are those at which the shape of the tree changes, and some between.
var sizes = []int{0, 1, 2, 255, 256, 257, 511, 512, 600, 8191, 8192, 8193, 9000, 65535, 65536, 65537, 66000, 70000}

// TestFollow: every entry comes once and in order however the log grows, over HTTP, also if
// the process begins anew or the reader fails; and the copy is the log.
func TestFollow(t *testing.T) {
	log := tlogtest.New(t, "log.example")
	r := &reader{t: t}
	cfg := follow.Config{Key: log.Verifier(t), Source: tlog.HTTP{URL: log.Serve(t)}, Dir: t.TempDir(), Entries: r.read, Copy: true}
	f := open(t, cfg)
	have := 0
	for _, size := range sizes {
		log.Add(t, entries(have, size)...)
		have = size
		if size == 600 || size == 9000 {
			r.stop = int64(size)
			if err := f.Follow(t.Context()); !errors.Is(err, errStop) {
				t.Fatalf("size %d: got %v, want the reader's error", size, err)
			}
		}
		if err := f.Follow(t.Context()); err != nil {
			t.Fatalf("size %d: %v", size, err)
		}
		if p := f.Progress(); r.next != int64(size) || p.Next != int64(size) || p.Checkpoint.Root != log.Tree().Root {
			t.Fatalf("size %d: got %d entries and %+v", size, r.next, p)
		}
		same(t, f.Copy(), log)
		f.Close()
		f = open(t, cfg)
	}
}

// same fails unless dir has the checkpoint of the log and all of its tiles, and no other.
func same(t *testing.T, dir tlog.Dir, log *tlogtest.Log) {
	t.Helper()
	want := map[string]bool{"checkpoint": true}
	signed, _ := log.Checkpoint(t.Context())
	if got, err := dir.Checkpoint(t.Context()); err != nil || !bytes.Equal(got, signed) {
		t.Errorf("checkpoint of the copy: got %q, %v, want %q", got, err, signed)
	}
	size := log.Tree().Size
	for level := tlog.Entries; level <= 5; level++ {
		for index := int64(0); ; index++ {
			tile, ok := tlog.Tile{Level: level, Index: index}.At(size)
			if !ok {
				break
			}
			want[tile.Path()] = true
			data, err := log.Tile(t.Context(), tile)
			if err != nil {
				t.Fatal(err)
			}
			if got, err := dir.Tile(t.Context(), tile); err != nil || !bytes.Equal(got, data) {
				t.Errorf("copy at %d entries, %s: got %d bytes, %v, want %d", size, tile.Path(), len(got), err, len(data))
			}
		}
	}
	filepath.WalkDir(string(dir), func(path string, d os.DirEntry, err error) error {
		name, _ := filepath.Rel(string(dir), path)
		name = filepath.ToSlash(name)
		if err == nil && !d.IsDir() && !want[name] && !strings.Contains(name, ".p/") {
			t.Errorf("copy at %d entries: %s is no part of it", size, name)
		}
		return nil
	})
}

// failure returns the *follow.Failure of an error, and fails the test if it is another.
func failure(t *testing.T, err error, kind follow.Kind, reason string) *follow.Failure {
	t.Helper()
	f, ok := errors.AsType[*follow.Failure](err)
	if !ok {
		t.Fatalf("got %v, want %s", err, reason)
	}
	if f.Kind != kind || f.Reason != reason {
		t.Errorf("got %s, %s (%v), want %s, %s", f.Kind, f.Reason, err, kind, reason)
	}
	return f
}

// evidence fails the test unless these bytes were kept as evidence.
func evidence(t *testing.T, f *follow.Failure, want ...[]byte) {
	t.Helper()
	if len(f.Evidence) != len(want) {
		t.Fatalf("%s: got %d files of evidence, want %d (%v)", f.Reason, len(f.Evidence), len(want), f)
	}
	for i, path := range f.Evidence {
		if got, err := os.ReadFile(path); err != nil || !bytes.Equal(got, want[i]) {
			t.Errorf("%s: evidence %d: got %d bytes, %v, want %d", f.Reason, i, len(got), err, len(want[i]))
		}
	}
}

// The operator is us, and does these to a follower that has seen 300 entries.
var attacks = map[string]struct {
	attack func(t *testing.T, log *tlogtest.Log)
	kind   follow.Kind
	reason string
}{
	"fork": {func(t *testing.T, log *tlogtest.Log) {
		other := log.Clone(t, 299)
		other.Add(t, []byte("another entry 299"), entry(300))
		log.Become(other)
	}, follow.Misbehaves, follow.Fork},
	"two roots of one size": {func(t *testing.T, log *tlogtest.Log) {
		other := log.Clone(t, 299)
		other.Add(t, []byte("another entry 299"))
		log.Become(other)
	}, follow.Misbehaves, follow.Fork},
	"an old entry edited, and a new tree signed": {func(t *testing.T, log *tlogtest.Log) {
		other := tlogtest.New(t, log.Origin)
		other.Key = log.Key
		other.Add(t, []byte("edited"))
		other.Add(t, entries(1, 400)...)
		log.Become(other)
	}, follow.Misbehaves, follow.Fork},
	"rollback": {func(t *testing.T, log *tlogtest.Log) {
		log.Become(log.Clone(t, 256))
	}, follow.Misbehaves, follow.Rollback},
	"rollback to nothing": {func(t *testing.T, log *tlogtest.Log) {
		log.Become(log.Clone(t, 0))
	}, follow.Misbehaves, follow.Rollback},
	"rollback to other entries": {func(t *testing.T, log *tlogtest.Log) {
		other := log.Clone(t, 255)
		other.Add(t, []byte("another entry 255"))
		log.Show(first(other.Checkpoint(t.Context())))
	}, follow.Misbehaves, follow.Fork},
	"a new entry edited": {func(t *testing.T, log *tlogtest.Log) {
		log.Add(t, entries(300, 310)...)
		log.Alter(func(path string, data []byte) []byte {
			return bytes.Replace(data, []byte("entry 305"), []byte("entry 999"), 1)
		})
	}, follow.Misbehaves, follow.WrongTile},
	"a new entry edited in a full tile": {func(t *testing.T, log *tlogtest.Log) {
		log.Add(t, entries(300, 600)...)
		log.Alter(func(path string, data []byte) []byte {
			return bytes.Replace(data, []byte("entry 305"), []byte("entry 999"), 1)
		})
	}, follow.Misbehaves, follow.WrongTile},
	"a new entry left out": {func(t *testing.T, log *tlogtest.Log) {
		log.Add(t, entries(300, 310)...)
		log.Alter(func(path string, data []byte) []byte {
			return bytes.Replace(data, []byte("\x00\x09entry 305"), nil, 1)
		})
	}, follow.Misbehaves, follow.WrongTile},
	"tiles of hashes altered": {func(t *testing.T, log *tlogtest.Log) {
		log.Add(t, entries(300, 600)...)
		log.Alter(func(path string, data []byte) []byte {
			if strings.HasPrefix(path, "tile/0/") {
				data[0] ^= 1
			}
			return data
		})
	}, follow.Misbehaves, follow.WrongTile},
	"new entries withheld": {func(t *testing.T, log *tlogtest.Log) {
		log.Add(t, entries(300, 600)...)
		log.Alter(func(path string, data []byte) []byte {
			if strings.HasPrefix(path, "tile/entries/001") {
				return nil
			}
			return data
		})
	}, follow.Misbehaves, follow.Withheld},
	"a signed tree without tiles": {func(t *testing.T, log *tlogtest.Log) {
		other := log.Clone(t, 300)
		other.Add(t, entries(300, 900)...)
		log.Show(first(other.Checkpoint(t.Context())))
	}, follow.Misbehaves, follow.Withheld},
	"a tile that is too large": {func(t *testing.T, log *tlogtest.Log) {
		log.Add(t, entries(300, 600)...)
		log.Alter(func(path string, data []byte) []byte {
			if strings.HasPrefix(path, "tile/1/") {
				return make([]byte, 1<<20)
			}
			return data
		})
	}, follow.Misbehaves, follow.WrongTile},
	"another key": {func(t *testing.T, log *tlogtest.Log) {
		other := tlogtest.New(t, log.Origin)
		other.Add(t, entries(0, 310)...)
		log.Show(first(other.Checkpoint(t.Context())))
	}, follow.KeySuspect, follow.Signature},
	"a signature of another text": {func(t *testing.T, log *tlogtest.Log) {
		signed, _ := log.Checkpoint(t.Context())
		log.Show(bytes.Replace(signed, []byte("\n300\n"), []byte("\n301\n"), 1))
	}, follow.KeySuspect, follow.Signature},
	"the key signs for another log": {func(t *testing.T, log *tlogtest.Log) {
		tree := log.Tree()
		tree.Origin = "other.example"
		log.Show(log.SignText(t, tree.String()))
	}, follow.KeySuspect, follow.SignedOther},
	"the key signs something else": {func(t *testing.T, log *tlogtest.Log) {
		log.Show(log.SignText(t, "I owe you 100\n"))
	}, follow.KeySuspect, follow.SignedOther},
	"garbage": {func(t *testing.T, log *tlogtest.Log) {
		log.Show([]byte("<html>please log in</html>"))
	}, follow.Unreachable, follow.NoCheckpoint},
	"no checkpoint": {func(t *testing.T, log *tlogtest.Log) {
		log.Alter(func(path string, data []byte) []byte { return nil })
	}, follow.Unreachable, follow.NoAnswer},
}

func first(data []byte, _ error) []byte { return data }

func TestAttacks(t *testing.T) {
	for name, a := range attacks {
		t.Run(name, func(t *testing.T) {
			log := tlogtest.New(t, "log.example")
			log.Add(t, entries(0, 300)...)
			r := &reader{t: t}
			cfg := follow.Config{Key: log.Verifier(t), Source: log, Dir: t.TempDir(), Entries: r.read, Copy: true}
			f := open(t, cfg)
			if err := f.Follow(t.Context()); err != nil {
				t.Fatal(err)
			}
			before := first(log.Checkpoint(t.Context()))
			a.attack(t, log)
			for range 2 { // also after a new start
				got := failure(t, f.Follow(t.Context()), a.kind, a.reason)
				if len(got.Evidence) == 0 && a.kind != follow.Unreachable {
					t.Errorf("no evidence was kept: %v", got)
				}
				if a.reason == follow.Fork || a.reason == follow.Rollback {
					evidence(t, got, before, first(log.Checkpoint(t.Context())))
				}
				f.Close()
				f = open(t, cfg)
			}
			if p := f.Progress(); p.Next < 300 || r.next < 300 {
				t.Errorf("went back to %+v", p)
			}
			if got, _ := f.Copy().Checkpoint(t.Context()); !bytes.Equal(got, before) {
				t.Errorf("the copy shows %q", got)
			}
		})
	}
}

// TestDamagedOnTheWay: a tile that is wrong once is asked for again.
func TestDamagedOnTheWay(t *testing.T) {
	for _, tiles := range []string{"tile/entries/", "tile/0/", "tile/1/"} {
		log := tlogtest.New(t, "log.example")
		log.Add(t, entries(0, 700)...)
		damaged := false
		log.Alter(func(path string, data []byte) []byte {
			if strings.HasPrefix(path, tiles) && !damaged {
				damaged = true
				data[5] ^= 1
			}
			return data
		})
		r := &reader{t: t}
		f := open(t, follow.Config{Key: log.Verifier(t), Source: log, Dir: t.TempDir(), Entries: r.read})
		if err := f.Follow(t.Context()); err != nil || r.next != 700 || !damaged {
			t.Errorf("%s: got %v after %d entries", tiles, err, r.next)
		}
	}
}

// TestStaleCache: a cache that shows an older checkpoint for a moment is no rollback.
func TestStaleCache(t *testing.T) {
	log := tlogtest.New(t, "log.example")
	log.Add(t, entries(0, 300)...)
	old := first(log.Checkpoint(t.Context()))
	log.Add(t, entries(300, 310)...)
	f := open(t, follow.Config{Key: log.Verifier(t), Source: log, Dir: t.TempDir()})
	if err := f.Follow(t.Context()); err != nil {
		t.Fatal(err)
	}
	asked := 0
	log.Alter(func(path string, data []byte) []byte {
		if asked++; path == "checkpoint" && asked < 3 {
			return old
		}
		return data
	})
	if err := f.Follow(t.Context()); err != nil || asked != 3 {
		t.Errorf("got %v after %d requests", err, asked)
	}
}

// TestStalled: a log that does not grow is reported once that lasted too long, by the time of
// this process, not by a clock that jumps.
func TestStalled(t *testing.T) {
	log := tlogtest.New(t, "log.example")
	log.Add(t, entries(0, 3)...)
	cfg := follow.Config{Key: log.Verifier(t), Source: log, Dir: t.TempDir(), Stalled: time.Hour}
	f := open(t, cfg)
	if err := f.Follow(t.Context()); err != nil {
		t.Fatal(err)
	}
	f.Close()
	path := filepath.Join(cfg.Dir, "state")
	for _, tt := range []struct {
		grew    time.Duration
		stalled bool
	}{{-2 * time.Hour, true}, {100 * 24 * time.Hour, false}} { // the second: the clock was ahead
		data, err := os.ReadFile(path)
		if err != nil {
			t.Fatal(err)
		}
		var state map[string]any
		if err := json.Unmarshal(data, &state); err != nil {
			t.Fatal(err)
		}
		state["grew"] = time.Now().Add(tt.grew)
		data, _ = json.Marshal(state)
		if err := os.WriteFile(path, data, 0o600); err != nil {
			t.Fatal(err)
		}
		f = open(t, cfg)
		err = f.Follow(t.Context())
		if !tt.stalled && err != nil {
			t.Errorf("got %v, want no failure", err)
		} else if tt.stalled {
			failure(t, err, follow.Unreachable, follow.Stalled)
		}
		f.Close()
	}
	log.Add(t, entry(3))
	f = open(t, cfg)
	if err := f.Follow(t.Context()); err != nil {
		t.Errorf("after it grew: %v", err)
	}
	f.Close()
	// A clock that was ahead hides nothing for longer: it counts from now on.
	data, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	data = regexp.MustCompile(`"grew":"[^"]*"`).ReplaceAll(data, []byte(`"grew":"2999-01-01T00:00:00Z"`))
	if err := os.WriteFile(path, data, 0o600); err != nil {
		t.Fatal(err)
	}
	cfg.Stalled = 50 * time.Millisecond
	f = open(t, cfg)
	time.Sleep(100 * time.Millisecond)
	failure(t, f.Follow(t.Context()), follow.Unreachable, follow.Stalled)
}

// TestUnreachable: a server that is slow, down, busy or gone is Unreachable, and asked again.
func TestUnreachable(t *testing.T) {
	log := tlogtest.New(t, "log.example")
	log.Add(t, entries(0, 300)...)
	good := http.StripPrefix("/", tlog.Handler{Source: log})
	var asked atomic.Int32
	for name, handler := range map[string]http.HandlerFunc{
		"down": func(w http.ResponseWriter, r *http.Request) { http.Error(w, "", http.StatusBadGateway) },
		"slow-loris": func(w http.ResponseWriter, r *http.Request) {
			for r.Context().Err() == nil {
				w.Write([]byte("l"))
				w.(http.Flusher).Flush()
				time.Sleep(5 * time.Millisecond)
			}
		},
		"cut off": func(w http.ResponseWriter, r *http.Request) { panic(http.ErrAbortHandler) },
		"endless": func(w http.ResponseWriter, r *http.Request) { io.CopyN(w, rand.Reader, 1<<30) },
		"tiles are down": func(w http.ResponseWriter, r *http.Request) {
			if r.URL.Path != "/checkpoint" {
				http.Error(w, "", http.StatusServiceUnavailable)
				return
			}
			good.ServeHTTP(w, r)
		},
		"tiles are slow": func(w http.ResponseWriter, r *http.Request) {
			if r.URL.Path != "/checkpoint" {
				<-r.Context().Done()
				return
			}
			good.ServeHTTP(w, r)
		},
	} {
		t.Run(name, func(t *testing.T) {
			asked.Store(0)
			s := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) { asked.Add(1); handler(w, r) }))
			s.Config.ErrorLog = nil
			defer s.Close()
			f := open(t, follow.Config{Key: log.Verifier(t), Source: tlog.HTTP{URL: s.URL}, Dir: t.TempDir(), Timeout: 100 * time.Millisecond})
			failure(t, f.Follow(t.Context()), follow.Unreachable, follow.NoAnswer)
			if asked.Load() < 3 {
				t.Errorf("got %d requests, want 3", asked.Load())
			}
		})
	}
}

// TestBusy: a server that says when to come back is asked then.
func TestBusy(t *testing.T) {
	log := tlogtest.New(t, "log.example")
	log.Add(t, entries(0, 300)...)
	var asked atomic.Int32
	good := http.StripPrefix("/", tlog.Handler{Source: log})
	s := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if asked.Add(1) == 2 {
			w.Header().Set("Retry-After", "1")
			http.Error(w, "", http.StatusTooManyRequests)
			return
		}
		good.ServeHTTP(w, r)
	}))
	defer s.Close()
	r := &reader{t: t}
	f := open(t, follow.Config{Key: log.Verifier(t), Source: tlog.HTTP{URL: s.URL}, Dir: t.TempDir(), Entries: r.read})
	if err := f.Follow(t.Context()); err != nil || r.next != 300 {
		t.Errorf("got %v after %d entries", err, r.next)
	}
}
