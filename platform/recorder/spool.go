package recorder

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/colophon-build/colophon/audit"
	"github.com/colophon-build/colophon/internal/dirlock"
	"github.com/colophon-build/colophon/internal/durable"
	"github.com/colophon-build/colophon/internal/strict"
	"github.com/colophon-build/colophon/internal/together"
)

const (
	maxSpool    = 256 << 20 // bytes of all files of a spool
	maxPart     = 1 << 20   // bytes of one, after which the next one begins
	maxTogether = 256       // records that are fsynced together
	maxRefused  = 64 << 20  // bytes of all files of refused records, each counted in whole blocks
	block       = 4096      // bytes that the smallest file takes on a disk
	firstPause  = 200 * time.Millisecond
	lastPause   = 10 * time.Second
)

// spool keeps records until they are sent: files of lines, each a record. A file goes when all of its
// records arrived. After a crash, records may be sent again. A record that the ledger refuses for ever
// moves to a file of its own, for a person to read.
type spool struct {
	dir  string
	log  *slog.Logger
	lock *dirlock.Lock
	send func(context.Context, []sealed) []error
	lost func() // counts a record that is neither sent nor kept

	adding  chan *added
	bytes   atomic.Int64
	refused atomic.Int64 // bytes of the files of refused records, see maxRefused
	wake    chan struct{}
	ctx     context.Context
	stop    context.CancelFunc
	ended   sync.WaitGroup

	mu   sync.Mutex // for what follows
	file *os.File
	size int64
	name int64 // of file
}

type added struct {
	data []byte
	done chan error
}

var errSpoolFull = fmt.Errorf("the spool has %d MiB of records that the audit ledger does not take", maxSpool>>20)

func openSpool(dir string, send func(context.Context, []sealed) []error, lost func(), log *slog.Logger) (*spool, error) {
	if err := durable.MkdirAll(dir, 0o700); err != nil {
		return nil, err
	}
	lock, err := dirlock.Take(dir)
	if err != nil {
		return nil, err
	}
	s := &spool{dir: dir, log: log, lock: lock, send: send, lost: lost, adding: make(chan *added), wake: make(chan struct{}, 1)}
	err = durable.Sweep(dir)
	var parts []int64
	if err == nil {
		parts, err = s.parts()
	}
	for _, n := range parts {
		s.name = max(s.name, n)
		if st, err := os.Stat(s.path(n)); err == nil {
			s.bytes.Add(st.Size())
		}
	}
	if err == nil {
		err = s.countRefused()
	}
	if err == nil {
		err = s.begin()
	}
	if err != nil {
		return nil, errors.Join(err, lock.Release())
	}
	s.ctx, s.stop = context.WithCancel(context.Background())
	s.ended.Go(s.write)
	s.ended.Go(s.deliver)
	return s, nil
}

func (s *spool) path(n int64) string { return filepath.Join(s.dir, fmt.Sprintf("%016d", n)) }

// parts returns the names of the files, oldest first.
func (s *spool) parts() (names []int64, err error) {
	files, err := os.ReadDir(s.dir)
	for _, f := range files {
		if n, err := strconv.ParseInt(f.Name(), 10, 64); err == nil && filepath.Base(s.path(n)) == f.Name() {
			names = append(names, n)
		}
	}
	slices.Sort(names)
	return names, err
}

// begin begins the next file.
func (s *spool) begin() error {
	f, err := os.OpenFile(s.path(s.name+1), os.O_WRONLY|os.O_CREATE|os.O_EXCL, 0o600)
	if err != nil {
		return err
	}
	if err := durable.SyncDir(s.dir); err != nil {
		return errors.Join(err, f.Close(), os.Remove(f.Name()))
	}
	if s.file != nil {
		s.file.Close()
	}
	s.file, s.size = f, 0
	s.name++
	return nil
}

// add keeps a record. It is on the disk when add returns nil.
func (s *spool) add(data []byte) error {
	if s.bytes.Load() > maxSpool {
		return errSpoolFull
	}
	a := &added{data, make(chan error, 1)}
	select {
	case s.adding <- a:
		return <-a.done
	case <-s.ctx.Done():
		return errClosed
	}
}

// write writes records, and those that arrive meanwhile together.
func (s *spool) write() {
	for {
		all := together.Next(s.ctx, s.adding, maxTogether)
		if all == nil {
			return
		}
		err := s.append(all)
		for _, a := range all {
			a.done <- err
		}
		select {
		case s.wake <- struct{}{}:
		default:
		}
	}
}

func (s *spool) append(all []*added) error {
	var data []byte
	for _, a := range all {
		data = append(append(data, a.data...), '\n')
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.size > maxPart {
		if err := s.begin(); err != nil {
			return err
		}
	}
	_, err := s.file.WriteAt(data, s.size)
	if err == nil {
		err = s.file.Sync()
	}
	if err != nil { // a part of a line would be read as damage
		return errors.Join(err, s.file.Truncate(s.size))
	}
	s.size += int64(len(data))
	s.bytes.Add(int64(len(data)))
	return nil
}

// deliver sends the files, oldest first.
func (s *spool) deliver() {
	pause := firstPause
	for s.ctx.Err() == nil {
		sent, err := s.next()
		switch {
		case err != nil && s.ctx.Err() == nil:
			s.log.Warn("the audit ledger does not take records yet; they are kept here", "error", err, "bytes", s.bytes.Load())
			select {
			case <-time.After(pause):
			case <-s.ctx.Done():
			}
			pause = min(2*pause, lastPause)
		case sent:
			pause = firstPause
		default:
			select {
			case <-s.wake:
			case <-s.ctx.Done():
			}
		}
	}
}

// next sends the oldest file. sent is false if there is nothing to send.
func (s *spool) next() (sent bool, err error) {
	s.mu.Lock()
	if s.size > 0 {
		err = s.begin()
	}
	current := s.name
	s.mu.Unlock()
	if err != nil {
		return false, err
	}
	parts, err := s.parts()
	if err != nil || len(parts) == 0 || parts[0] == current {
		return false, err
	}
	path := s.path(parts[0])
	data, err := strict.ReadFile(path, maxPart+maxTogether*audit.MaxRequest)
	if err != nil {
		return false, err
	}
	if err := s.sendAll(data); err != nil {
		return false, err
	}
	if err := os.Remove(path); err != nil {
		return false, err
	}
	s.bytes.Add(-int64(len(data)))
	return true, nil
}

// sendAll sends the lines of a file, in order. What the ledger will never take is put aside, so that the others go on.
func (s *spool) sendAll(data []byte) error {
	var records []sealed
	var failed error
	for line := range bytes.SplitSeq(bytes.TrimSuffix(data, []byte("\n")), []byte("\n")) {
		if len(line) == 0 {
			continue
		}
		e, _, _, err := audit.ParseEntry(line)
		if err == nil {
			records = append(records, sealed{line, audit.ID(e.Envelope)})
		} else if err := s.putAside(line, fmt.Errorf("%w: %w", errRefused, err)); err != nil { // a power cut left it
			failed = err
		}
	}
	for i, err := range s.send(s.ctx, records) {
		if errors.Is(err, errRefused) {
			err = s.putAside(records[i].data, err)
		}
		if err != nil {
			failed = err
		}
	}
	return failed
}

const refusedPrefix = "refused-"

// countRefused counts the files of refused records that are there.
func (s *spool) countRefused() error {
	files, err := os.ReadDir(s.dir)
	for _, f := range files {
		if !strings.HasPrefix(f.Name(), refusedPrefix) {
			continue
		}
		st, err := f.Info()
		if err != nil {
			return err
		}
		s.refused.Add(blocks(st.Size()))
	}
	return err
}

// blocks returns how many bytes a file of n bytes takes on a disk.
func blocks(n int64) int64 { return max(1, (n+block-1)/block) * block }

// putAside writes a record that the ledger refuses to a file of its own. If there are too many such
// files, the record is lost, which is logged and counted. An error says that the disk took nothing.
func (s *spool) putAside(line []byte, why error) error {
	name := filepath.Join(s.dir, refusedPrefix+strings.TrimPrefix(audit.ID(line), "sha256:"))
	if _, err := os.Lstat(name); err == nil { // it was sent again after a crash
		return nil
	}
	size := blocks(int64(len(line)))
	if s.refused.Add(size) > maxRefused {
		s.refused.Add(-size)
		s.lost()
		s.log.Error("THE AUDIT LEDGER REFUSES A RECORD, AND IT IS LOST: move the refused files to another directory, and start again", "error", why, "directory", s.dir, "limit", maxRefused)
		return nil
	}
	s.log.Error("THE AUDIT LEDGER REFUSES A RECORD", "error", why, "file", name)
	err := durable.WriteFile(name, line, 0o600)
	if err != nil {
		s.refused.Add(-size)
	}
	return err
}

func (s *spool) close() error {
	s.stop()
	s.ended.Wait()
	s.mu.Lock()
	defer s.mu.Unlock()
	return errors.Join(s.file.Close(), s.lock.Release())
}
