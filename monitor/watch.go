// Package monitor watches transparency logs for signatures that nobody can explain: it
// follows logs, takes the entries whose certificates have the names that the caller
// watches, and reports those that no known release explains. It also reports a log that
// cannot be read, whose key is suspect, or that misbehaves (see tlog/follow).
//
// An entry that cannot be parsed is reported too, never skipped.
package monitor

import (
	"context"
	"encoding/base64"
	"errors"
	"fmt"
	"regexp"
	"runtime"
	"slices"
	"time"

	"github.com/sigstore/sigstore-go/pkg/root"
	"golang.org/x/sync/errgroup"

	"github.com/colophon-build/colophon/bundle"
	"github.com/colophon-build/colophon/tlog"
	"github.com/colophon-build/colophon/tlog/follow"
)

const (
	maxPatterns = 256  // of one watch
	maxPattern  = 1024 // bytes of one
)

// Pattern is a regular expression (RE2) that must match a whole text.
type Pattern struct {
	expr string
	re   *regexp.Regexp
}

// ParsePattern reads a pattern.
func ParsePattern(expr string) (Pattern, error) {
	if expr == "" || len(expr) > maxPattern {
		return Pattern{}, fmt.Errorf("pattern: expected 1 to %d bytes, found %d", maxPattern, len(expr))
	}
	// Compiled alone first, because "a)|(b" would close the group that anchors it.
	if _, err := regexp.Compile(expr); err != nil {
		return Pattern{}, fmt.Errorf("pattern: %w", err)
	}
	re, err := regexp.Compile(`\A(?:` + expr + `)\z`)
	return Pattern{expr, re}, err
}

// Watch says which entries are reported: those of a signer that one of the patterns
// matches, of any kind, and that Known does not explain. Without a pattern, those of
// every signer.
type Watch struct {
	Identities []Pattern // of subject alternative names of certificates
	Issuers    []Pattern // of OIDC issuers
	Sources    []Pattern // of URIs of source repositories
	Known      []Known

	// Roots are the trust roots whose authorities issue certificates. Names in other
	// certificates are Forged. None: every certificate counts.
	Roots []root.TrustedMaterial
}

// Known are releases that somebody knows of. Explain is called concurrently.
type Known interface {
	// Explain returns whether a known release explains a signature in a log.
	Explain(context.Context, Signature) (bool, error)
}

// Signature is one signature in an entry of a log.
type Signature struct {
	Leaf   tlog.Hash
	Entry  *bundle.LogEntry
	Signer *bundle.EntrySigner
}

// Check fails if the watch is too large.
func (w *Watch) Check() error {
	if n := len(w.Identities) + len(w.Issuers) + len(w.Sources); n > maxPatterns {
		return fmt.Errorf("got %d patterns, want at most %d", n, maxPatterns)
	}
	return nil
}

// Entries returns the alarms about a batch of entries, in order. It uses all processors.
func (w *Watch) Entries(ctx context.Context, b follow.Batch) ([]Alarm, error) {
	parts := runtime.GOMAXPROCS(0)
	found := make([][]Alarm, parts)
	group, ctx := errgroup.WithContext(ctx)
	for part := range parts {
		from, to := part*len(b.Entries)/parts, (part+1)*len(b.Entries)/parts
		group.Go(func() error {
			for i, body := range b.Entries[from:to] {
				alarms, err := w.entry(ctx, b.First+int64(from+i), body)
				if err != nil {
					return err
				}
				found[part] = append(found[part], alarms...)
			}
			return nil
		})
	}
	if err := group.Wait(); err != nil {
		return nil, err
	}
	var all []Alarm
	for _, alarms := range found {
		all = append(all, alarms...)
	}
	return all, nil
}

// entry returns the alarms about one entry.
func (w *Watch) entry(ctx context.Context, index int64, body []byte) ([]Alarm, error) {
	e, parseErr := parse(body)
	if parseErr != nil {
		leaf := tlog.LeafHash(body)
		about := &Entry{Index: index, LeafHash: base64.StdEncoding.EncodeToString(leaf[:])}
		return []Alarm{{Kind: Unread, Why: fmt.Sprintf("entry %d cannot be parsed: %v", index, parseErr), Entry: about}}, nil
	}
	var alarms []Alarm
	for i := range e.Signers {
		signer := &e.Signers[i]
		matched, watched := w.matches(signer)
		if !watched {
			continue
		}
		s := Signature{tlog.LeafHash(body), e, signer}
		if w.forged(signer) {
			alarms = append(alarms, Alarm{Kind: Forged, Why: fmt.Sprintf("entry %d names %s in a certificate that no trusted authority issued", index, signerName(signer)), Entry: s.about(index, matched)})
			continue
		}
		explained, err := w.explained(ctx, s)
		if err != nil {
			return nil, fmt.Errorf("entry %d: %w", index, err)
		}
		if !explained {
			alarms = append(alarms, Alarm{Kind: Unexplained, Why: fmt.Sprintf("entry %d was signed by %s, and no known release explains it", index, signerName(signer)), Entry: s.about(index, matched)})
		}
	}
	return alarms, nil
}

// parse reads an entry. Third-party parsers read what strangers logged: if one panics,
// only this entry is unread.
func parse(body []byte) (e *bundle.LogEntry, err error) {
	defer func() {
		if recover() != nil {
			e, err = nil, errors.New("a parser failed")
		}
	}()
	return bundle.ParseEntry(body)
}

// matches returns the patterns that match a signer, and whether it is watched.
func (w *Watch) matches(s *bundle.EntrySigner) (matched []string, watched bool) {
	for _, kind := range []struct {
		name     string
		patterns []Pattern
		texts    []string
	}{{"identity", w.Identities, s.Names}, {"issuer", w.Issuers, s.Issuers}, {"source", w.Sources, s.Sources}} {
		for _, p := range kind.patterns {
			if slices.ContainsFunc(kind.texts, p.re.MatchString) {
				matched = append(matched, kind.name+": "+p.expr)
			}
		}
	}
	return matched, len(matched) > 0 || len(w.Identities)+len(w.Issuers)+len(w.Sources) == 0
}

func (w *Watch) forged(s *bundle.EntrySigner) bool {
	issued := func(m root.TrustedMaterial) bool { return s.Issued(m) }
	return s.Certificate != nil && len(w.Roots) > 0 && !slices.ContainsFunc(w.Roots, issued)
}

func (w *Watch) explained(ctx context.Context, s Signature) (bool, error) {
	for _, k := range w.Known {
		if ok, err := k.Explain(ctx, s); ok || err != nil {
			return ok, err
		}
	}
	return false, nil
}

func signerName(s *bundle.EntrySigner) string {
	if len(s.Names) == 0 {
		return "the key " + s.Fingerprint
	}
	return fmt.Sprintf("%q", s.Names[0])
}

func (s Signature) about(index int64, matched []string) *Entry {
	x := s.Signer.Extensions
	e := &Entry{
		Index: index, LeafHash: base64.StdEncoding.EncodeToString(s.Leaf[:]), EntryKind: s.Entry.Kind + " " + s.Entry.Version, Digests: s.Entry.Digests,
		Names: s.Signer.Names, Issuers: s.Signer.Issuers, Sources: s.Signer.Sources, Ref: x.SourceRepositoryRef, Commit: x.SourceRepositoryDigest, Run: x.RunInvocationURI,
		Fingerprint: s.Signer.Fingerprint, Matched: matched,
	}
	if at, ok := s.signed(); ok {
		e.NotBefore = &at
	}
	return e
}

// signed returns about when a certificate signed: it is used within minutes after it was
// made.
func (s Signature) signed() (time.Time, bool) {
	if s.Signer.Certificate == nil {
		return time.Time{}, false
	}
	return s.Signer.Certificate.NotBefore.UTC(), true
}
