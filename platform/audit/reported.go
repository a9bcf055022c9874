package audit

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"reflect"

	"github.com/colophon-build/colophon/internal/strict"

	records "github.com/colophon-build/colophon/audit"
)

// Report records what an account without a key of its own reported: a verdict, or that a case file was signed. The
// ledger signs that this account said so, and compares nothing: who has the case file compares the digest of its
// manifest. It returns when the record is on the disk. An error that matches ErrRefused says that the record is no
// such report.
func (l *Ledger) Report(ctx context.Context, account string, r records.Record) (records.Added, error) {
	switch {
	case r.Kind != records.KindVerify && r.Kind != records.KindCase:
		return records.Added{}, fmt.Errorf("%w: kind: expected %s or %s, found %q", ErrRefused, records.KindVerify, records.KindCase, r.Kind)
	case r.By != records.By{}, !r.Time.IsZero():
		return records.Added{}, fmt.Errorf("%w: by, time: the ledger says who reported, and when", ErrRefused)
	case r.Statement != nil, r.Writer != nil, len(r.Entries) > 0:
		return records.Added{}, fmt.Errorf("%w: a report has no statement, writer and entries", ErrRefused)
	case r.Kind == records.KindCase && !isCase(r):
		return records.Added{}, fmt.Errorf("%w: case: expected the outcome %s, the digest of one manifest as evidence, and at most the digest, commit, source or builder that the case is about", ErrRefused, records.Done)
	}
	r.By.User = records.Shown(account)
	e, err := l.self.Seal(r, l.cfg.Now())
	if err != nil {
		return records.Added{}, fmt.Errorf("%w: %w", ErrRefused, err)
	}
	return l.append(ctx, e.Marshal(), account)
}

// isCase reports whether a record says that a case file was signed, and nothing else.
func isCase(r records.Record) bool {
	about := r.About
	said := records.Record{Kind: r.Kind, Outcome: records.Done, Evidence: r.Evidence, About: records.About{Digest: about.Digest, Commit: about.Commit, Source: about.Source, Builder: about.Builder}}
	return len(r.Evidence) == 1 && reflect.DeepEqual(r, said)
}

// report takes what somebody with a token reports.
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
