package recorder

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/colophon-build/colophon/audit"
	"github.com/colophon-build/colophon/internal/limits"
	"github.com/colophon-build/colophon/internal/strict"
	"github.com/colophon-build/colophon/internal/together"
	"github.com/colophon-build/colophon/platform/api"
)

// sealed is a record as it is sent.
type sealed struct {
	data []byte // see audit.Entry.Marshal
	id   string // see audit.ID
}

func seal(e audit.Entry) sealed { return sealed{e.Marshal(), audit.ID(e.Envelope)} }

// couriers is how many requests with new records are under way at the same time: a ledger behind a connection that
// hangs does not stop the others. With more, each has fewer records.
const couriers = 2

// courier sends records to the ledger: those that come while its requests are under way share the next one. A record that
// is alone waits for nothing.
type courier struct {
	deliver func([]sealed) []error
	waiting chan *parcel
	ctx     context.Context
	stop    context.CancelFunc
	ended   sync.WaitGroup
}

type parcel struct {
	sealed
	ctx  context.Context // of who waits for it
	done chan error
}

func newCourier(deliver func([]sealed) []error) *courier {
	c := &courier{deliver: deliver, waiting: make(chan *parcel)}
	c.ctx, c.stop = context.WithCancel(context.Background())
	for range couriers {
		c.ended.Go(c.run)
	}
	return c
}

// send returns when the ledger has the record, or says why not. If ctx ends before, the record may still arrive.
func (c *courier) send(ctx context.Context, what sealed) error {
	p := &parcel{what, ctx, make(chan error, 1)}
	select {
	case c.waiting <- p:
	case <-ctx.Done():
		return ctx.Err()
	case <-c.ctx.Done():
		return errClosed
	}
	select {
	case err := <-p.done:
		return err
	case <-ctx.Done():
		return ctx.Err()
	}
}

var errClosed = errors.New("the recorder is closed")

func (c *courier) run() {
	for {
		all := together.Next(c.ctx, c.waiting, audit.MaxTogether)
		if all == nil {
			return
		}
		all = slices.DeleteFunc(all, func(p *parcel) bool { return p.ctx.Err() != nil }) // nobody waits for it
		records := make([]sealed, len(all))
		for i, p := range all {
			records[i] = p.sealed
		}
		for i, err := range c.deliver(records) {
			all[i].done <- err
		}
	}
}

// close waits for the requests that are under way.
func (c *courier) close() {
	c.stop()
	c.ended.Wait()
}

// refusal is how the ledger's answers begin that refuse a record for ever. A proxy answers 400 too.
const refusal = "refused: "

// errRefused means that the ledger will never take a record.
var errRefused = errors.New("the audit ledger refuses the record")

// deliver sends records to the ledger, in this order, and returns an error, or nil, for each. A request lasts at most
// as long as timeout. When one gets no answer, what comes after it is not sent.
func (r *Recorder) deliver(ctx context.Context, timeout time.Duration, records []sealed) []error {
	errs := make([]error, 0, len(records))
	for len(records) > 0 {
		taken, err := r.request(ctx, timeout, records)
		if err != nil {
			return append(errs, slices.Repeat([]error{err}, len(records))...)
		}
		for i, t := range taken {
			errs = append(errs, r.judge(records[i], t))
		}
		records = records[len(taken):]
	}
	return errs
}

// request sends the first of the records, as many as go together, and enrols the key if it may and must.
func (r *Recorder) request(ctx context.Context, timeout time.Duration, records []sealed) ([]audit.Taken, error) {
	ctx, cancel := context.WithTimeout(ctx, timeout)
	defer cancel()
	taken, err := r.ask(ctx, records)
	if err != nil || !r.cfg.Enrol || !slices.ContainsFunc(taken, unknownWriter) {
		return taken, err
	}
	if err := r.enrol(ctx); err != nil {
		return nil, err
	}
	return r.ask(ctx, records) // those that the ledger has, it takes once
}

func unknownWriter(t audit.Taken) bool {
	return t.Status == http.StatusBadRequest && strings.Contains(t.Error, audit.ErrWriter.Error())
}

// ask sends the first of the records, and returns the answers.
func (r *Recorder) ask(ctx context.Context, records []sealed) ([]audit.Taken, error) {
	if len(records) == 1 {
		return r.askEach(ctx, records)
	}
	entries := make([][]byte, len(records))
	for i, s := range records {
		entries[i] = s.data
	}
	batch, rest := audit.Batch(entries)
	n := len(entries) - len(rest)
	status, body, err := r.post(ctx, api.PathAuditBatches, batch)
	switch {
	case err != nil:
		return nil, err
	case status == http.StatusOK:
		taken, err := audit.ParseTaken(body, n)
		if err != nil {
			err = r.noLedger(err)
		}
		return taken, err
	case status == http.StatusBadRequest, status == http.StatusNotFound, status == http.StatusMethodNotAllowed, status == http.StatusRequestEntityTooLarge:
		return r.askEach(ctx, records[:n]) // an older ledger, or a proxy that takes less
	}
	return nil, r.unexpected(status, body)
}

// askEach sends each record alone.
func (r *Recorder) askEach(ctx context.Context, records []sealed) (taken []audit.Taken, err error) {
	for _, s := range records {
		status, body, err := r.post(ctx, api.PathAuditRecords, s.data)
		if err != nil {
			return nil, err
		}
		t := audit.Taken{Status: status}
		if status != http.StatusOK {
			t.Error = strings.TrimSpace(string(body))
		} else if err := strict.Unmarshal(body, limits.Request, &t.Added); err != nil {
			return nil, r.noLedger(err)
		}
		taken = append(taken, t)
	}
	return taken, nil
}

// judge returns nil if the ledger has the record, and says so: something else than the ledger may have answered.
func (r *Recorder) judge(s sealed, t audit.Taken) error {
	switch {
	case t.Status == http.StatusOK && t.ID == s.id:
		return nil
	case t.Status == http.StatusOK:
		return r.noLedger(fmt.Errorf("expected the ID %s, found %q", s.id, t.ID))
	case t.Status == http.StatusBadRequest && strings.HasPrefix(t.Error, refusal) && !unknownWriter(t):
		return fmt.Errorf("%w: %s", errRefused, t.Error)
	}
	return r.unexpected(t.Status, []byte(t.Error)) // also a key that is not enrolled: somebody may enrol it
}

func (r *Recorder) noLedger(err error) error {
	return fmt.Errorf("audit ledger %s: the answer does not say that it has the record; is it the URL of a ledger? %w", r.cfg.URL, err)
}

func (r *Recorder) unexpected(status int, body []byte) error {
	return fmt.Errorf("audit ledger %s: got status %d: %s", r.cfg.URL, status, bytes.TrimSpace(body))
}

func (r *Recorder) enrol(ctx context.Context) error {
	r.enrolling.Lock()
	defer r.enrolling.Unlock()
	raw, err := json.Marshal(r.writer)
	if err != nil {
		return err
	}
	status, body, err := r.post(ctx, api.PathAudit+"/writers", raw)
	if err == nil && status != http.StatusOK {
		err = fmt.Errorf("enrolling the key at the audit ledger %s: got status %d: %s", r.cfg.URL, status, bytes.TrimSpace(body))
	}
	return err
}

func (r *Recorder) post(ctx context.Context, path string, data []byte) (status int, body []byte, err error) {
	req, err := http.NewRequestWithContext(ctx, http.MethodPost, r.cfg.URL+path, bytes.NewReader(data))
	if err != nil {
		return 0, nil, err
	}
	req.Header.Set("Content-Type", "application/json")
	resp, err := r.cfg.HTTP.Do(req)
	if err != nil {
		return 0, nil, err
	}
	defer resp.Body.Close()
	body, err = strict.Read(resp.Body, limits.Request)
	return resp.StatusCode, body, err
}
