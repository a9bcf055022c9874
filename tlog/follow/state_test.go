package follow_test

import (
	"bytes"
	"context"
	"encoding/binary"
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/colophon-build/colophon/test/tlogtest"
	"github.com/colophon-build/colophon/tlog"
	"github.com/colophon-build/colophon/tlog/follow"
)

// TestState: a state that is damaged, or of another log, is an error: the follower never
// begins anew, and so never forgets what the log signed.
func TestState(t *testing.T) {
	log := tlogtest.New(t, "log.example")
	log.Add(t, entries(0, 3)...)
	cfg := follow.Config{Key: log.Verifier(t), Source: log, Dir: t.TempDir()}
	f := open(t, cfg)
	if err := f.Follow(t.Context()); err != nil {
		t.Fatal(err)
	}
	if _, err := follow.Open(cfg); err == nil {
		t.Error("two followers have one directory")
	}
	f.Close()
	path := filepath.Join(cfg.Dir, "state")
	good, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	other := cfg
	other.Key = tlogtest.New(t, "log.example").Verifier(t)
	if _, err := follow.Open(other); err == nil {
		t.Error("the state of a log was opened with another key")
	}
	copied := cfg
	copied.Copy = true
	if _, err := follow.Open(copied); err == nil {
		t.Error("a copy was begun in the middle")
	}
	const most = 129 << 10 // bytes
	spaced := string(good) + strings.Repeat(" ", most-len(good))
	if err := os.WriteFile(path, []byte(spaced), 0o600); err != nil {
		t.Fatal(err)
	}
	open(t, cfg).Close()
	for _, bad := range []string{spaced + " ", "", "{", string(good[:len(good)/2]), strings.Replace(string(good), `"next":3`, `"next":4`, 1), strings.Replace(string(good), `"next":3`, `"next":-1`, 1)} {
		if bad == string(good) {
			t.Fatal("nothing was altered")
		}
		if err := os.WriteFile(path, []byte(bad), 0o600); err != nil {
			t.Fatal(err)
		}
		if f, err := follow.Open(cfg); err == nil {
			t.Errorf("opened the state %.1000q", bad)
			f.Close()
		}
	}
}

// TestStateAndCopy: a copy without the state that belongs to it is an error, because a fork would
// otherwise be copied over it; and so is one in which entries are missing.
func TestStateAndCopy(t *testing.T) {
	for name, harm := range map[string]func(t *testing.T, dir string, old []byte) error{
		"state lost": func(_ *testing.T, dir string, _ []byte) error { return os.Remove(filepath.Join(dir, "state")) },
		"state older": func(_ *testing.T, dir string, old []byte) error {
			return os.WriteFile(filepath.Join(dir, "state"), old, 0o600)
		},
		"copy lost": func(_ *testing.T, dir string, _ []byte) error { return os.RemoveAll(filepath.Join(dir, "copy")) },
		"copy cut": func(_ *testing.T, dir string, _ []byte) error {
			return os.Truncate(filepath.Join(dir, "copy", "checkpoint"), 20)
		},
	} {
		t.Run(name, func(t *testing.T) {
			log := tlogtest.New(t, "log.example")
			cfg := follow.Config{Key: log.Verifier(t), Source: log, Dir: t.TempDir(), Copy: true}
			var old []byte
			for range 2 {
				log.Add(t, entries(0, 3)...)
				f := open(t, cfg)
				if err := f.Follow(t.Context()); err != nil {
					t.Fatal(err)
				}
				f.Close()
				if old == nil {
					var err error
					if old, err = os.ReadFile(filepath.Join(cfg.Dir, "state")); err != nil {
						t.Fatal(err)
					}
				}
			}
			open(t, cfg).Close()
			if err := harm(t, cfg.Dir, old); err != nil {
				t.Fatal(err)
			}
			if f, err := follow.Open(cfg); err == nil {
				f.Close()
				t.Error("it was opened")
			}
		})
	}
	// Killed between checkpoint and entries, and then followed without a copy.
	log := tlogtest.New(t, "log.example")
	log.Add(t, entries(0, 300)...)
	cfg := follow.Config{Key: log.Verifier(t), Source: log, Dir: t.TempDir(), Copy: true, Entries: func(context.Context, follow.Batch) error { return errStop }}
	f := open(t, cfg)
	if err := f.Follow(t.Context()); !errors.Is(err, errStop) {
		t.Fatal(err)
	}
	f.Close()
	cfg.Copy, cfg.Entries = false, nil
	f = open(t, cfg)
	if err := f.Follow(t.Context()); err != nil {
		t.Fatal(err)
	}
	f.Close()
	cfg.Copy = true
	if f, err := follow.Open(cfg); err == nil {
		f.Close()
		t.Error("entries that nobody copied count as copied")
	}
}

// TestFromNewest: a follower may begin with the entries that come.
func TestFromNewest(t *testing.T) {
	log := tlogtest.New(t, "log.example")
	log.Add(t, entries(0, 300)...)
	r := &reader{t: t, next: 300}
	f := open(t, follow.Config{Key: log.Verifier(t), Source: log, Dir: t.TempDir(), Entries: r.read, FromNewest: true})
	for _, size := range []int{300, 310, 900} {
		log.Add(t, entries(int(log.Tree().Size), size)...)
		if err := f.Follow(t.Context()); err != nil || r.next != int64(size) {
			t.Errorf("got %v after %d entries, want %d", err, r.next, size)
		}
	}
}

// TestHugeEntries: entries of the largest size are read, within bounded memory.
func TestHugeEntries(t *testing.T) {
	log := tlogtest.New(t, "log.example")
	var huge [][]byte
	for i := range 300 {
		huge = append(huge, bytes.Repeat([]byte{byte(i)}, tlog.MaxEntry))
	}
	log.Add(t, huge...)
	n := 0
	f := open(t, follow.Config{Key: log.Verifier(t), Source: log, Dir: t.TempDir(), Entries: func(_ context.Context, b follow.Batch) error {
		n += len(b.Entries)
		return nil
	}})
	if err := f.Follow(t.Context()); err != nil || n != 300 {
		t.Errorf("got %v after %d entries", err, n)
	}
}

// TestEvidenceIsBounded: a log that lies differently each time does not fill the disk.
func TestEvidenceIsBounded(t *testing.T) {
	log := tlogtest.New(t, "log.example")
	cfg := follow.Config{Key: log.Verifier(t), Source: log, Dir: t.TempDir()}
	f := open(t, cfg)
	dir := filepath.Join(cfg.Dir, "evidence")
	if err := os.Mkdir(dir, 0o700); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(filepath.Join(dir, "large"), make([]byte, 64<<20), 0o600); err != nil {
		t.Fatal(err)
	}
	log.Show(log.SignText(t, "I owe you 100\n"))
	got := failure(t, f.Follow(t.Context()), follow.KeySuspect, follow.SignedOther)
	evidence(t, got)
	if !strings.Contains(got.Error(), "evidence could not be kept") {
		t.Errorf("got %v, want it to say that there is no evidence", got)
	}
}

// TestEvidenceHasRoom: whoever answers in place of the log, without its key, cannot use up the room that evidence of a
// fork needs.
func TestEvidenceHasRoom(t *testing.T) {
	log := tlogtest.New(t, "log.example")
	log.Add(t, entries(0, 300)...)
	cfg := follow.Config{Key: log.Verifier(t), Source: log, Dir: t.TempDir()}
	f := open(t, cfg)
	if err := f.Follow(t.Context()); err != nil {
		t.Fatal(err)
	}
	log.Add(t, entries(300, 512)...)
	round := byte(0)
	for size := tlog.MaxEntry; size > 0; size /= 2 {
		for range 4 {
			round++
			wrong := append(binary.BigEndian.AppendUint16(nil, uint16(size)), bytes.Repeat([]byte{round}, size)...)
			log.Alter(func(path string, data []byte) []byte {
				if path == "tile/entries/001" {
					return bytes.Repeat(wrong, tlog.TileWidth)
				}
				return data
			})
			failure(t, f.Follow(t.Context()), follow.Misbehaves, follow.WrongTile)
		}
	}
	before := first(log.Checkpoint(t.Context()))
	for i := range byte(20) { // and what is left
		log.Show([]byte{'a' + i})
		failure(t, f.Follow(t.Context()), follow.Unreachable, follow.NoCheckpoint)
	}
	other := log.Clone(t, 511)
	other.Add(t, []byte("another entry 511"))
	log.Become(other)
	got := failure(t, f.Follow(t.Context()), follow.Misbehaves, follow.Fork)
	evidence(t, got, before, first(log.Checkpoint(t.Context())))
}
