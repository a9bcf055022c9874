package audit

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"net/http"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/colophon-build/colophon/internal/limits"
	"github.com/colophon-build/colophon/internal/printable"
	"github.com/colophon-build/colophon/internal/strict"
	"github.com/colophon-build/colophon/platform/api"
	"github.com/colophon-build/colophon/tlog"

	records "github.com/colophon-build/colophon/audit"
	"github.com/colophon-build/colophon/audit/files"
)

const (
	maxAsking     = 16               // questions that are answered at the same time
	appendTimeout = 30 * time.Second // to record one entry
)

// Access says what whoever sent a request may do.
type Access struct {
	Account string   // name of the account, for the record
	Read    bool     // ask questions, and read the ledger
	Enrol   []string // roles for which it may enrol keys of its own
	Erase   bool     // erase openings
	Report  bool     // record verdicts that the account reports: see Ledger.Report
}

// Register adds the ledger's paths to mux. Records may come from anybody: their signatures say
// whether they count.
func (l *Ledger) Register(mux *http.ServeMux, access func(*http.Request) Access) {
	slots := make(chan struct{}, maxAsking)
	reads := func(h http.Handler) http.Handler {
		return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			if !access(r).Read {
				http.Error(w, "the audit ledger is for those who have a token of the platform", http.StatusUnauthorized)
				return
			}
			select {
			case slots <- struct{}{}:
				defer func() { <-slots }()
				h.ServeHTTP(w, r)
			default:
				busy(w, "the audit ledger answers too many questions; try again")
			}
		})
	}
	files := reads(http.StripPrefix(api.PathAudit+"/", tlog.Handler{Source: served{l}, Fail: l.unread}))
	mux.Handle("GET "+api.PathAudit+"/checkpoint", files)
	mux.Handle("GET "+api.PathAudit+"/tile/", files)
	mux.Handle("GET "+api.PathAudit+"/openings/", reads(http.HandlerFunc(l.file)))
	mux.Handle("GET "+api.PathAudit+"/segments/", reads(http.HandlerFunc(l.file)))
	mux.Handle("GET "+api.PathAudit+"/key", reads(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) { fmt.Fprintln(w, l.vkey) })))
	mux.Handle("GET "+api.PathAuditRecords, reads(http.HandlerFunc(l.list)))
	mux.Handle("GET "+api.PathAuditRecords+"/{name}", reads(http.HandlerFunc(l.get)))
	mux.HandleFunc("POST "+api.PathAuditRecords, l.record)
	mux.HandleFunc("POST "+api.PathAuditBatches, l.batch)
	mux.HandleFunc("POST "+api.PathAuditVerdicts, func(w http.ResponseWriter, r *http.Request) { l.report(w, r, access(r)) })
	mux.HandleFunc("POST "+api.PathAudit+"/writers", func(w http.ResponseWriter, r *http.Request) { l.enrol(w, r, access(r)) })
	mux.HandleFunc("POST "+api.PathAudit+"/erasures", func(w http.ResponseWriter, r *http.Request) { l.erasures(w, r, access(r)) })
}

func busy(w http.ResponseWriter, text string) {
	w.Header().Set("Retry-After", "1")
	http.Error(w, text, http.StatusServiceUnavailable)
}

// refuse answers an error.
func (l *Ledger) refuse(w http.ResponseWriter, err error) {
	status, text := statusOf(err)
	if status == http.StatusInternalServerError {
		l.cfg.Log.Error("audit ledger", "error", err)
	}
	if status == http.StatusServiceUnavailable {
		busy(w, text)
		return
	}
	http.Error(w, text, status)
}

// statusOf returns how an error is answered: 400 for what will never be taken, 503 and 507 for what should be sent again.
func statusOf(err error) (status int, text string) {
	switch {
	case errors.Is(err, ErrRefused):
		return http.StatusBadRequest, err.Error()
	case errors.Is(err, ErrNotFound):
		return http.StatusNotFound, err.Error()
	case errors.Is(err, ErrFull):
		return http.StatusInsufficientStorage, err.Error()
	case errors.Is(err, ErrBusy):
		return http.StatusServiceUnavailable, err.Error()
	case errors.Is(err, context.DeadlineExceeded), errors.Is(err, context.Canceled):
		return http.StatusServiceUnavailable, "the audit ledger is slow, or starts again; try again"
	}
	return http.StatusInternalServerError, "the audit ledger failed; the log of the platform says why"
}

// record takes one record. It answers when the record is on the disk.
func (l *Ledger) record(w http.ResponseWriter, r *http.Request) {
	data, err := strict.Read(http.MaxBytesReader(w, r.Body, records.MaxRequest), records.MaxRequest)
	if err != nil {
		http.Error(w, err.Error(), http.StatusRequestEntityTooLarge)
		return
	}
	ctx, cancel := context.WithTimeout(r.Context(), appendTimeout)
	defer cancel()
	added, err := l.Append(ctx, data)
	if err != nil {
		l.refuse(w, err)
		return
	}
	answer(w, added)
}

// batch takes records that were sent together, and answers for each of them when they are on the disk, or not taken.
// It parses a line before it reads the next one, so that a stranger's batch takes no more memory than a record.
func (l *Ledger) batch(w http.ResponseWriter, r *http.Request) {
	ctx, cancel := context.WithTimeout(r.Context(), appendTimeout)
	defer cancel()
	var all []*waiting
	if err := records.ReadBatch(r.Body, func(line []byte) { all = append(all, l.parse(line, "")) }); err != nil {
		status := http.StatusBadRequest
		if _, tooLarge := errors.AsType[strict.TooLarge](err); tooLarge {
			status = http.StatusRequestEntityTooLarge
		}
		http.Error(w, err.Error(), status)
		return
	}
	l.enqueue(all...)
	taken, logged := make([]records.Taken, len(all)), false
	for i, each := range all {
		added, err := each.wait(ctx)
		if taken[i] = (records.Taken{Added: added, Status: http.StatusOK}); err == nil {
			continue
		}
		status, text := statusOf(err)
		taken[i] = records.Taken{Status: status, Error: printable.Cut(printable.Line(text), records.MaxError)}
		if status == http.StatusInternalServerError && !logged { // the others have the same reason
			logged = true
			l.cfg.Log.Error("audit ledger", "error", err)
		}
	}
	w.Header().Set("Content-Type", "application/x-ndjson")
	w.Header().Set("Cache-Control", "no-store")
	_, _ = w.Write(records.TakenLines(taken)) // the client may be gone
}

func answer(w http.ResponseWriter, v any) {
	w.Header().Set("Content-Type", "application/json")
	w.Header().Set("Cache-Control", "no-store")
	_ = json.NewEncoder(w).Encode(v) // the client is gone
}

func (l *Ledger) list(w http.ResponseWriter, r *http.Request) {
	f, before, limit, err := question(r)
	if err != nil {
		http.Error(w, err.Error(), http.StatusBadRequest)
		return
	}
	a, err := l.Answer(r.Context(), f, before, limit)
	if err != nil {
		l.refuse(w, err)
		return
	}
	answer(w, a)
}

func (l *Ledger) get(w http.ResponseWriter, r *http.Request) {
	a, err := l.Get(r.Context(), r.PathValue("name"))
	if err != nil {
		if errors.Is(err, fs.ErrNotExist) {
			err = fmt.Errorf("%w: retention deleted it", ErrNotFound)
		}
		l.refuse(w, err)
		return
	}
	answer(w, a)
}

// question reads a question from a request: api.AuditQuery writes it.
func question(r *http.Request) (f records.Filter, before int64, limit int, err error) {
	query := r.URL.Query()
	before, limit = 1<<62, 100
	for name, values := range query {
		if name != "filter" && name != "before" && name != "limit" || len(values) != 1 {
			return f, 0, 0, fmt.Errorf("parameter %q: expected filter, before and limit, each once", name)
		}
	}
	if query.Has("filter") {
		if err := strict.UnmarshalKnown([]byte(query.Get("filter")), 16<<10, &f); err != nil {
			return f, 0, 0, fmt.Errorf("filter: %w", err)
		}
	}
	for _, k := range f.Kinds {
		if !slices.Contains(records.Kinds(), k) {
			return f, 0, 0, fmt.Errorf("filter: there is no kind %q", k)
		}
	}
	if len(f.Kinds) > len(records.Kinds()) {
		return f, 0, 0, errors.New("filter: a kind is there twice")
	}
	if query.Has("before") {
		if before, err = strconv.ParseInt(query.Get("before"), 10, 64); err != nil || before < 0 {
			return f, 0, 0, fmt.Errorf("before: expected the index of an entry, found %q", query.Get("before"))
		}
	}
	if query.Has("limit") {
		if limit, err = strconv.Atoi(query.Get("limit")); err != nil || limit < 1 || limit > records.MaxPage {
			return f, 0, 0, fmt.Errorf("limit: expected 1 to %d, found %q", records.MaxPage, query.Get("limit"))
		}
	}
	return f, before, limit, nil
}

func (l *Ledger) enrol(w http.ResponseWriter, r *http.Request, by Access) {
	var wanted records.Writer
	if err := readRequest(w, r, &wanted); err != nil {
		http.Error(w, err.Error(), http.StatusBadRequest)
		return
	}
	l.mu.Lock()
	taken := l.writers.Enrolled(wanted.Key) && !l.writers.Has(wanted) // revoked, or another writer's
	l.mu.Unlock()
	if !slices.Contains(by.Enrol, wanted.Role) || wanted.Revoked || by.Account != "" && wanted.Instance != by.Account || taken {
		http.Error(w, "this account may not enrol this key; name the key in audit.writers of the configuration", http.StatusForbidden)
		return
	}
	if err := l.Enrol(r.Context(), wanted); err != nil {
		l.refuse(w, err)
		return
	}
	answer(w, struct{}{})
}

func (l *Ledger) erasures(w http.ResponseWriter, r *http.Request, by Access) {
	if !by.Erase {
		http.Error(w, "only an administrator erases openings: use the token of admin.json", http.StatusForbidden)
		return
	}
	var wanted api.AuditErasure
	if err := readRequest(w, r, &wanted); err != nil {
		http.Error(w, err.Error(), http.StatusBadRequest)
		return
	}
	if err := l.Erase(r.Context(), by.Account, wanted.Reason, wanted.Entries); err != nil {
		l.refuse(w, err)
		return
	}
	answer(w, struct{}{})
}

func readRequest(w http.ResponseWriter, r *http.Request, v any) error {
	data, err := io.ReadAll(http.MaxBytesReader(w, r.Body, limits.Request))
	if err != nil {
		return err
	}
	return strict.UnmarshalKnown(data, limits.Request, v)
}

// served is what clients read: the tiles under the newest checkpoint, verified.
type served struct{ *Ledger }

// Checkpoint implements tlog.Source: the newest one, or one that witnesses cosigned.
func (s served) Checkpoint(context.Context) ([]byte, error) {
	v := s.current.Load()
	if v.signed == nil {
		return nil, fs.ErrNotExist
	}
	return s.cosigned(v), nil
}

// cosigned returns a checkpoint with the cosignatures that witnesses gave so far.
func (l *Ledger) cosigned(v *view) []byte {
	if l.cfg.Witnesses != nil {
		if c, ok := l.cfg.Witnesses.Seen(v.Size); ok && c.Size == v.Size && c.Root == v.Root {
			return c.Envelope
		}
	}
	return v.signed
}

// Tile implements tlog.Source.
func (s served) Tile(ctx context.Context, t tlog.Tile) ([]byte, error) {
	cp, dir := s.current.Load().Checkpoint, tlog.Dir(s.dir)
	have, ok := t.At(cp.Size)
	if !ok || have.Width < t.Width {
		return nil, fmt.Errorf("a checkpoint of %d entries does not cover %s: %w", cp.Size, t.Path(), fs.ErrNotExist)
	}
	data, err := tlog.ReadTile(ctx, dir, have)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, err // a newer tree has it, or retention deleted it
	}
	if err == nil {
		data, err = have.Cut(data, t.Width)
	}
	if err == nil {
		err = tlog.VerifyTile(ctx, dir, cp, t, data)
	}
	return data, err
}

func (l *Ledger) unread(w http.ResponseWriter, status int, err error) {
	if status != http.StatusNotFound {
		l.cfg.Log.Error("reading the audit ledger", "error", err)
	}
	http.Error(w, http.StatusText(status), status)
}

// file serves openings and segments.
func (l *Ledger) file(w http.ResponseWriter, r *http.Request) {
	path := strings.TrimPrefix(r.URL.Path, api.PathAudit+"/")
	kind, rest, _ := strings.Cut(path, "/")
	if _, err := tlog.ParsePath("tile/entries/" + rest); err != nil || kind != "openings" && kind != "segments" {
		http.NotFound(w, r)
		return
	}
	data, err := files.Dir(l.dir).File(r.Context(), path)
	if errors.Is(err, fs.ErrNotExist) {
		http.NotFound(w, r)
		return
	} else if err != nil {
		l.unread(w, http.StatusInternalServerError, err)
		return
	}
	w.Header().Set("Content-Type", "application/octet-stream")
	w.Header().Set("Cache-Control", "no-store") // openings can be erased
	_, _ = w.Write(data)
}
