// Package follow reads lists of what is no longer trusted (package distrust) where their issuers keep
// them, and remembers what each list had, so that one that was rolled back or forked is refused.
package follow

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io/fs"
	"net/http"
	"os"
	"path/filepath"
	"reflect"
	"strings"
	"sync"
	"time"

	"github.com/colophon-build/colophon/distrust"
	"github.com/colophon-build/colophon/internal/durable"
	"github.com/colophon-build/colophon/internal/printable"
	"github.com/colophon-build/colophon/internal/reach"
	"github.com/colophon-build/colophon/internal/strict"
	"github.com/colophon-build/colophon/trust"
	"github.com/colophon-build/colophon/verify"
)

// timeout limits the wait for one list.
const timeout = 10 * time.Second

// Reader has the lists of some issuers. It is safe for concurrent use.
type Reader struct {
	dir     string
	sources []*source
}

// source is one issuer and the last good list of it.
type source struct {
	issuer distrust.Issuer
	file   string // where the list is kept; empty: in memory only

	mu      sync.Mutex
	opened  bool
	list    *distrust.List
	before  *distrust.Head // what it must extend
	raw     []byte         // of list
	etag    string         // of raw
	problem string
}

// New returns a Reader. It keeps the lists in dir, so that it knows after a restart what each had; an
// empty dir keeps nothing.
func New(dir string, issuers []distrust.Issuer) *Reader {
	r := &Reader{dir: dir}
	for _, i := range issuers {
		s := &source{issuer: i}
		if dir != "" {
			s.file = File(dir, i.Name)
		}
		r.sources = append(r.sources, s)
	}
	return r
}

// With returns a Reader for other issuers. What r has read of an issuer that did not change in what matters to
// its list (name, where it is, and who signs it), the new Reader has, too, so that nothing that was said is
// forgotten though the list cannot be read just now. r must not be used any more.
func (r *Reader) With(issuers []distrust.Issuer) *Reader {
	next := New(r.dir, issuers)
	for i, s := range next.sources {
		for _, before := range r.sources {
			if before.issuer.Name == s.issuer.Name && before.issuer.From == s.issuer.From && reflect.DeepEqual(before.issuer.Signer, s.issuer.Signer) {
				before.issuer = s.issuer
				next.sources[i] = before
			}
		}
	}
	return next
}

// File returns the file in which a Reader keeps the list of an issuer.
func File(dir, name string) string { return filepath.Join(dir, name+".list") }

// Lists returns what is known now.
func (r *Reader) Lists() distrust.Lists {
	out := distrust.Lists{}
	for _, s := range r.sources {
		s.mu.Lock()
		out = append(out, distrust.Known{Issuer: s.issuer, List: s.list, Problem: s.problem})
		s.mu.Unlock()
	}
	return out
}

// Kept reads only the lists that are kept, without a network.
func (r *Reader) Kept(ctx context.Context, now time.Time, roots []*trust.Root) distrust.Lists {
	for _, s := range r.sources {
		s.mu.Lock()
		s.problem = text(s.open(ctx, now, roots))
		s.mu.Unlock()
	}
	return r.Lists()
}

// Refresh reads all lists again, all at once, and returns what is known then. A list that cannot be
// read, is not signed as it must be, or does not extend what it was before, changes nothing but Problem.
func (r *Reader) Refresh(ctx context.Context, now time.Time, roots []*trust.Root) distrust.Lists {
	var all sync.WaitGroup
	for _, s := range r.sources {
		all.Go(func() { s.refresh(ctx, now, roots) })
	}
	all.Wait()
	return r.Lists()
}

// Run refreshes the lists again and again until ctx ends, and calls use after each time.
func (r *Reader) Run(ctx context.Context, every time.Duration, roots func() []*trust.Root, use func(distrust.Lists)) {
	for ctx.Err() == nil {
		lists := r.Refresh(ctx, time.Now(), roots())
		if ctx.Err() == nil {
			use(lists)
		}
		select {
		case <-ctx.Done():
		case <-time.After(every):
		}
	}
}

func (s *source) refresh(ctx context.Context, now time.Time, roots []*trust.Root) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if err := s.open(ctx, now, roots); err != nil {
		s.problem = text(err)
		return
	}
	raw, etag, err := s.fetch(ctx)
	if err == nil && raw != nil && !bytes.Equal(raw, s.raw) {
		err = s.take(ctx, raw, now, roots)
	}
	if s.problem = text(err); err == nil {
		s.etag = etag
	}
}

// open reads the list that is kept, once. Its head counts as remembered even if nobody here trusts its
// signature any more. The caller holds the lock.
func (s *source) open(ctx context.Context, now time.Time, roots []*trust.Root) error {
	if s.opened || s.file == "" {
		return nil
	}
	raw, err := strict.ReadFile(s.file, distrust.MaxList)
	if errors.Is(err, fs.ErrNotExist) {
		s.opened = true
		return nil
	}
	if err != nil {
		return err
	}
	kept, err := distrust.Parse(raw)
	if err != nil {
		return fmt.Errorf("the list that was read before is damaged, and what is read now cannot be compared with it: %s: %w", s.file, err)
	}
	s.before, s.opened = &kept.Head, true
	if list, err := verify.SignedList(ctx, s.issuer, raw, nil, now, roots); err == nil {
		s.list, s.raw = list, raw
	}
	return nil
}

// take makes a list that was read the one that counts. The caller holds the lock.
func (s *source) take(ctx context.Context, raw []byte, now time.Time, roots []*trust.Root) error {
	list, err := verify.SignedList(ctx, s.issuer, raw, s.before, now, roots)
	if err != nil {
		return err
	}
	// A head that was read while this clock was ahead says nothing about the order.
	if s.before != nil && list.Entries == s.before.Entries && list.Issued.Before(s.before.Issued) && s.before.FromFuture(now) == nil {
		return fmt.Errorf("the list was rolled back: its head is of %s, and that before was of %s", list.Issued.Format(time.RFC3339), s.before.Issued.Format(time.RFC3339))
	}
	if s.file != "" {
		if err := os.MkdirAll(filepath.Dir(s.file), 0o700); err != nil {
			return err
		}
		if err := durable.WriteFile(s.file, raw, 0o600); err != nil {
			return err
		}
	}
	s.list, s.raw, s.before = list, raw, &list.Head
	return nil
}

// fetch reads the list where its issuer keeps it. It returns nil if it did not change.
func (s *source) fetch(ctx context.Context) (raw []byte, etag string, err error) {
	if !strings.Contains(s.issuer.From, "://") {
		raw, err = strict.ReadFile(s.issuer.From, distrust.MaxList)
		return raw, "", err
	}
	ctx, cancel := context.WithTimeout(ctx, timeout)
	defer cancel()
	r, err := http.NewRequestWithContext(ctx, http.MethodGet, s.issuer.From, nil)
	if err != nil {
		return nil, "", err
	}
	if s.etag != "" && s.list != nil {
		r.Header.Set("If-None-Match", s.etag)
	}
	resp, err := client.Do(r)
	if err != nil {
		return nil, "", reach.Explain(err)
	}
	defer resp.Body.Close()
	switch {
	case resp.StatusCode == http.StatusNotModified && r.Header.Get("If-None-Match") != "":
		return nil, s.etag, nil
	case resp.StatusCode != http.StatusOK:
		return nil, "", fmt.Errorf("%s: %s", s.issuer.From, resp.Status)
	}
	raw, err = strict.Read(resp.Body, distrust.MaxList)
	return raw, resp.Header.Get("ETag"), err
}

// client follows no redirects: only the host that the issuer names is asked.
var client = &http.Client{CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse }}

// text returns an error as one line for people; nil: "".
func text(err error) string {
	if err == nil {
		return ""
	}
	return printable.Cut(printable.Line(err.Error()), 1000)
}
