package platform

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net/http"
	"os"
	"path/filepath"
	"sync"
	"time"

	"golang.org/x/sys/unix"

	"github.com/colophon-build/colophon/internal/every"
	"github.com/colophon-build/colophon/platform/authority/root"
	"github.com/colophon-build/colophon/trust"
)

const (
	// spare is the disk space, in bytes, that a role must be able to allocate: a batch of
	// the log needs as much.
	spare = 16 << 20

	conditionEvery  = time.Minute     // how often a role tries what it needs by itself
	conditionRecent = 5 * time.Second // how long an answer counts, because anybody may ask
)

// A condition is something that a role needs for its work, and that may come and go. Safe
// for concurrent use.
type condition struct {
	try   func(context.Context) error // returns one line that says what the role can no longer do; ends by itself
	again string                      // for the log, when the role can work again
	log   *slog.Logger

	mu  sync.Mutex
	at  time.Time
	err error
}

// watchDisks returns the condition that a role can write to its directories, and tries it
// every minute until ctx is done.
func watchDisks(ctx context.Context, role string, dirs []string, log *slog.Logger) *condition {
	stops := ""
	if r, err := findRole(role); err == nil {
		stops = r.stops
	}
	c := &condition{log: log, again: "the role can write to its disk again", try: func(context.Context) error {
		for _, dir := range dirs {
			if err := tryWrite(dir); err != nil {
				return fmt.Errorf("cannot write to its disk, so %s (%s: %w)", stops, filepath.Base(dir), err)
			}
		}
		return nil
	}}
	c.ready(ctx)
	go c.watch(ctx)
	return c
}

// watchSelf returns the condition that the platform reaches itself at its URL and trusts
// the certificate there: the attestor pushes images to that address like any client.
func watchSelf(ctx context.Context, url string, own *trust.Root, log *slog.Logger) *condition {
	client := &http.Client{Timeout: roleTimeout, CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse }}
	c := &condition{log: log, again: "the platform reaches itself again", try: func(ctx context.Context) error {
		document, err := get(ctx, client, url+root.DocumentPath)
		if err == nil && !bytes.Equal(document, own.Raw) {
			err = errors.New("another platform answers there")
		}
		if err != nil {
			return fmt.Errorf("does not reach the platform at %s, so releases fail; check --url, DNS, the proxy before it, and whether the host trusts its certificate (%w)", url, err)
		}
		return nil
	}}
	go c.watch(ctx)
	return c
}

// watch tries the condition every minute, so that the log has a line also if nobody asks.
func (c *condition) watch(ctx context.Context) {
	for range every.Period(ctx, conditionEvery) {
		c.ready(ctx)
	}
}

// ready returns nil or what try said, now or a moment ago. A caller who leaves meanwhile does not end the try: what
// it says counts for the others who ask, too.
func (c *condition) ready(ctx context.Context) error {
	c.mu.Lock()
	defer c.mu.Unlock()
	if time.Since(c.at) < conditionRecent {
		return c.err
	}
	before := c.err
	c.at, c.err = time.Now(), c.try(context.WithoutCancel(ctx))
	switch {
	case c.err != nil && (before == nil || c.err.Error() != before.Error()):
		c.log.Error("the role " + c.err.Error())
	case c.err == nil && before != nil:
		c.log.Info(c.again)
	}
	return c.err
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
