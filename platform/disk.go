package platform

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"sync"
	"time"

	"golang.org/x/sys/unix"
)

const (
	// spare is the disk space, in bytes, that a role must be able to allocate: a batch of
	// the log needs as much.
	spare = 16 << 20

	diskEvery  = time.Minute     // how often a role tries its disks by itself
	diskRecent = 5 * time.Second // how long an answer counts, because anybody may ask
)

// disks tries whether a role can write to its directories. Safe for concurrent use.
type disks struct {
	dirs  []string
	stops string // what the role can no longer do if it cannot write
	log   *slog.Logger

	mu  sync.Mutex
	at  time.Time
	err error
}

// watchDisks returns the disks of a role, and tries them every minute until ctx is done, so
// that the log has a line also if nobody asks.
func watchDisks(ctx context.Context, role string, dirs []string, log *slog.Logger) *disks {
	d := &disks{dirs: dirs, log: log}
	if r, err := findRole(role); err == nil {
		d.stops = r.stops
	}
	go func() {
		tick := time.NewTicker(diskEvery)
		defer tick.Stop()
		for {
			d.ready(ctx)
			select {
			case <-ctx.Done():
				return
			case <-tick.C:
			}
		}
	}()
	return d
}

// ready returns nil if the role can write, else one line that says what it can no longer do.
func (d *disks) ready(context.Context) error {
	d.mu.Lock()
	defer d.mu.Unlock()
	if time.Since(d.at) < diskRecent {
		return d.err
	}
	before := d.err
	var errs []error
	for _, dir := range d.dirs {
		if err := tryWrite(dir); err != nil {
			errs = append(errs, fmt.Errorf("%s: %w", filepath.Base(dir), err))
		}
	}
	d.at, d.err = time.Now(), nil
	if len(errs) > 0 {
		d.err = fmt.Errorf("cannot write to its disk, so %s (%w)", d.stops, errs[0])
	}
	switch {
	case d.err != nil && (before == nil || d.err.Error() != before.Error()):
		d.log.Error("the role " + d.err.Error())
	case d.err == nil && before != nil:
		d.log.Info("the role can write to its disk again")
	}
	return d.err
}

// tryWrite allocates spare bytes in dir and writes some of them durably.
func tryWrite(dir string) error {
	f, err := os.CreateTemp(dir, ".space-*")
	if err != nil {
		return bare(err)
	}
	defer os.Remove(f.Name())
	defer f.Close()
	if err := unix.Fallocate(int(f.Fd()), 0, 0, spare); err != nil && !errors.Is(err, unix.EOPNOTSUPP) {
		return err
	}
	if _, err := f.Write(make([]byte, 4096)); err != nil {
		return bare(err)
	}
	return bare(f.Sync())
}

// bare removes the path of the temporary file from err, which differs each time.
func bare(err error) error {
	if e, ok := errors.AsType[*os.PathError](err); ok {
		return e.Err
	}
	return err
}
