package audit

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"

	"github.com/colophon-build/colophon/internal/strict"

	records "github.com/colophon-build/colophon/audit"
)

// Report records a verdict that somebody reported who has no key of his own: the ledger signs that this account
// said so. It returns when the record is on the disk. An error that matches ErrRefused says that the record is not
// such a verdict.
func (l *Ledger) Report(ctx context.Context, account string, r records.Record) (records.Added, error) {
	switch {
	case r.Kind != records.KindVerify:
		return records.Added{}, fmt.Errorf("%w: kind: expected %s, found %q", ErrRefused, records.KindVerify, r.Kind)
	case r.By != records.By{}, !r.Time.IsZero():
		return records.Added{}, fmt.Errorf("%w: by, time: the ledger says who reported, and when", ErrRefused)
	case r.Statement != nil, r.Writer != nil, len(r.Entries) > 0:
		return records.Added{}, fmt.Errorf("%w: a verdict has no statement, writer and entries", ErrRefused)
	}
	r.By.User = records.Shown(account)
	e, err := l.self.Seal(r, l.cfg.Now())
	if err != nil {
		return records.Added{}, fmt.Errorf("%w: %w", ErrRefused, err)
	}
	return l.append(ctx, e.Marshal(), account)
}

// report takes the verdict of somebody with a token.
func (l *Ledger) report(w http.ResponseWriter, req *http.Request, by Access) {
	if !by.Report || by.Account == "" {
		http.Error(w, "this token may not record verdicts: use the token of client.json or admin.json", http.StatusForbidden)
		return
	}
	data, err := io.ReadAll(http.MaxBytesReader(w, req.Body, records.MaxPayload))
	if err != nil {
		http.Error(w, err.Error(), http.StatusRequestEntityTooLarge)
		return
	}
	var r records.Record
	if err := strict.UnmarshalKnown(data, records.MaxPayload, &r); err != nil {
		l.refuse(w, errors.Join(ErrRefused, err))
		return
	}
	ctx, cancel := context.WithTimeout(req.Context(), appendTimeout)
	defer cancel()
	added, err := l.Report(ctx, by.Account, r)
	if err != nil {
		l.refuse(w, err)
		return
	}
	answer(w, added)
}
