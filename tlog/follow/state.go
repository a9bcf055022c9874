package follow

import (
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"time"

	"golang.org/x/mod/sumdb/note"

	"github.com/colophon-build/colophon/internal/durable"
	"github.com/colophon-build/colophon/internal/strict"
	"github.com/colophon-build/colophon/tlog"
)

const (
	maxState    = 2*tlog.MaxCheckpoint + 1024 // the file "state", in bytes
	maxEvidence = 64 << 20                    // all evidence of one log, in bytes
)

// state is the file "state" in the directory of a log.
type state struct {
	Checkpoint string    `json:"checkpoint"` // signed note: the newest that was seen and proven
	Next       int64     `json:"next"`       // index of the next entry to hand over
	Grew       time.Time `json:"grew"`       // when the log was first seen with this checkpoint
	Copy       bool      `json:"copy"`       // all entries before Next are in the copy

	seen tlog.Checkpoint // Checkpoint, verified
}

func load(dir string, key note.Verifier) (s state, err error) {
	path := filepath.Join(dir, "state")
	data, err := strict.ReadFile(path, maxState)
	if errors.Is(err, fs.ErrNotExist) {
		return s, nil
	} else if err != nil {
		return s, err
	}
	if err := strict.UnmarshalKnown(data, maxState, &s); err != nil {
		return s, fmt.Errorf("%s is damaged: %w", path, err)
	}
	if s.seen, err = tlog.OpenCheckpoint([]byte(s.Checkpoint), key); err != nil {
		return s, fmt.Errorf("%s is damaged, or the state of another log or key: %w", path, err)
	}
	if s.Next < 0 || s.Next > s.seen.Size {
		return s, fmt.Errorf("%s is damaged: next is %d of %d entries", path, s.Next, s.seen.Size)
	}
	if now := time.Now(); s.Grew.After(now) {
		s.Grew = now // the clock was ahead then
	}
	return s, nil
}

// keep makes s the state, on disk first.
func (f *Follower) keep(s state) error {
	data, err := json.Marshal(s)
	if err != nil {
		return err
	}
	if err := durable.WriteFile(filepath.Join(f.cfg.Dir, "state"), data, 0o600); err != nil {
		return fmt.Errorf("keeping how far log %s was followed: %w", f.cfg.Key.Name(), err)
	}
	f.mu.Lock()
	defer f.mu.Unlock()
	f.state = s
	return nil
}

// fail makes a Failure and keeps its evidence, each once.
func (f *Follower) fail(kind Kind, reason string, err error, evidence ...[]byte) error {
	failure := &Failure{Kind: kind, Reason: reason, Log: f.cfg.Key.Name(), Err: err}
	dir := filepath.Join(f.cfg.Dir, "evidence")
	room := int64(maxEvidence / 2)
	if reason == Fork || reason == SignedOther {
		room = maxEvidence // nobody without the log's key can make such evidence, or use up this half
	}
	for _, data := range evidence {
		if len(data) == 0 {
			continue
		}
		path, err := keepEvidence(dir, data, room)
		if err != nil {
			// The alarm is worth more than its evidence.
			failure.Err = fmt.Errorf("%w (evidence could not be kept: %w)", failure.Err, err)
			continue
		}
		failure.Evidence = append(failure.Evidence, path)
	}
	return failure
}

// keepEvidence writes data to a file in dir, unless all files there would then have more bytes than room.
func keepEvidence(dir string, data []byte, room int64) (path string, err error) {
	sum := sha256.Sum256(data)
	path = filepath.Join(dir, hex.EncodeToString(sum[:8]))
	if _, err := os.Lstat(path); err == nil {
		return path, nil
	}
	if err := durable.MkdirAll(dir, 0o700); err != nil {
		return "", err
	}
	files, err := os.ReadDir(dir)
	if err != nil {
		return "", err
	}
	size := int64(len(data))
	for _, file := range files {
		info, err := file.Info()
		if err != nil {
			return "", err
		}
		size += max(info.Size(), 4096)
	}
	// A log that lies differently each time must not fill the disk.
	if size > room {
		return "", fmt.Errorf("%s would have more than %d bytes", dir, room)
	}
	if err := durable.CreateFile(path, data, 0o600); err != nil && !errors.Is(err, fs.ErrExist) {
		return "", err
	}
	return path, nil
}
