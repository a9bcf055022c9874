package investigate

import (
	"cmp"
	"context"
	"crypto/x509"
	"encoding/hex"
	"errors"
	"fmt"
	"slices"
	"strings"
	"sync"

	"golang.org/x/mod/sumdb/note"

	"github.com/colophon-build/colophon/bundle"
	"github.com/colophon-build/colophon/search"
	"github.com/colophon-build/colophon/tlog"
	"github.com/colophon-build/colophon/trust"
)

// Log is a transparency log that can be asked.
type Log interface {
	// Name is the URL of the log.
	Name() string
	// Keys are those of the log and of its index.
	Keys() (log, index note.Verifier)
	// Page returns the answer (spec/search/v1) about entries with a key from the index from on. It
	// verifies it, also that the log and its index have not shrunk. It may be called concurrently.
	Page(ctx context.Context, q search.Question) (raw []byte, err error)
}

// page is an answer of a log, about entries from an index on.
type page struct {
	from int64
	raw  []byte
}

// Archive has the statements behind the entries of a log, which have their hash alone.
type Archive interface {
	// Bundle returns the bundle of an entry with this leaf hash, hex; nil if the archive has none.
	Bundle(ctx context.Context, leaf string) ([]byte, error)
}

const (
	// MaxEntries is how many entries an investigation reads for one question.
	MaxEntries = 400
	// maxBundles is how many of them it asks an archive about.
	maxBundles = 200
)

// LogAskers returns the Askers that ask a log for everything with a key of the subject: the blast
// radius, and where the ref led. archive and platform,
// which remembers where refs led, may be nil.
func LogAskers(log Log, archive Archive, platform Platform) map[ID]Asker {
	l := &logAsker{log: log, archive: archive, platform: platform}
	with := func(key func(in *Inquiry) (search.Key, error)) Asker {
		return func(ctx context.Context, in *Inquiry) (Reply, error) {
			k, err := key(in)
			if err != nil {
				return Reply{Asked: log.Name()}, err
			}
			return l.found(ctx, in, k)
		}
	}
	return map[ID]Asker{
		AskHistory: l.history,
		AskSameDigest: with(func(in *Inquiry) (search.Key, error) {
			return search.Key{Kind: search.Digest, Value: in.Subject.Digest}, in.needs(in.Subject.Digest, "the digest is not known")
		}),
		AskSameCommit: with(func(in *Inquiry) (search.Key, error) {
			value := in.commitID()
			return search.Key{Kind: search.Commit, Value: value}, in.needs(value, "no proof that holds names a commit")
		}),
		AskSameSource: with(func(in *Inquiry) (search.Key, error) {
			value := in.sourceURI()
			return search.Key{Kind: search.Source, Value: value}, in.needs(value, "no proof that holds names a repository")
		}),
		AskSameIdentity: with(func(in *Inquiry) (search.Key, error) {
			value := in.identity()
			return search.Key{Kind: search.Identity, Value: value}, in.needs(value, "no proof that holds has an identity")
		}),
	}
}

func (in *Inquiry) needs(value, why string) error {
	if value == "" {
		return NotAskedFor("%s", why)
	}
	return nil
}

func (in *Inquiry) commitID() string {
	if in.Subject.Kind == Commit {
		return in.Subject.Name
	}
	if f := in.Holding(); f != nil && f.Build != nil {
		return f.Build.Commit
	}
	return ""
}

func (in *Inquiry) sourceURI() string {
	if f := in.Holding(); f != nil && f.Build != nil {
		return f.Build.Source
	}
	return ""
}

func (in *Inquiry) ref() string {
	if f := in.Holding(); f != nil && f.Build != nil {
		return f.Build.Ref
	}
	return ""
}

// identity returns who signed the provenance or, without one, anything.
func (in *Inquiry) identity() string {
	if in.Subject.Kind == Builder || in.Subject.Kind == Identity {
		return in.Subject.Name
	}
	if f := in.Holding(); f != nil {
		for _, s := range f.Signed {
			if s.Signer != "" {
				return s.Signer
			}
		}
	}
	return ""
}

// logAsker asks a log, once for each key.
type logAsker struct {
	log      Log
	archive  Archive
	platform Platform
	mu       sync.Mutex
	pages    map[search.Key]func() ([]page, error)
}

func (l *logAsker) search(ctx context.Context, key search.Key) ([]page, error) {
	l.mu.Lock()
	if l.pages == nil {
		l.pages = map[search.Key]func() ([]page, error){}
	}
	ask := l.pages[key]
	if ask == nil {
		ask = sync.OnceValues(func() ([]page, error) { return l.newest(ctx, key) })
		l.pages[key] = ask
	}
	l.mu.Unlock()
	return ask()
}

// newest asks for the entries with a key, from the first on. If there are too many to read, it goes on
// near the end of the log: it estimates where the newest ones begin.
func (l *logAsker) newest(ctx context.Context, key search.Key) (pages []page, err error) {
	from, read, jumped := int64(0), 0, false
	for {
		raw, err := l.log.Page(ctx, search.Question{Key: key, From: from})
		if err != nil {
			return nil, err
		}
		pages = append(pages, page{from, raw})
		log, index := l.log.Keys()
		v, err := verifyPage(key, pages[len(pages)-1], log, index)
		if err != nil {
			return nil, err
		}
		read += len(v.Entries)
		switch {
		case v.To == nil || jumped && read >= 2*MaxEntries:
			return pages, nil
		case !jumped && v.Total > MaxEntries:
			near := v.Indexed.Size - int64(float64(v.Indexed.Size)*MaxEntries/float64(v.Total))
			from, read, jumped = max(*v.To, near), 0, true
		default:
			from = *v.To
		}
	}
}

func verifyPage(key search.Key, p page, log, index note.Verifier) (*search.Verified, error) {
	a, err := search.ParseAnswer(p.raw)
	if err != nil {
		return nil, err
	}
	v, err := a.Verify(search.Question{Key: key, From: p.from}, log, index)
	if err != nil {
		return nil, fmt.Errorf("the answer proves nothing: %w", err)
	}
	return v, nil
}

// found asks for the entries with a key, and the archive what they are about.
func (l *logAsker) found(ctx context.Context, in *Inquiry, key search.Key) (Reply, error) {
	r := Reply{Asked: l.log.Name(), Query: string(key.Kind) + " " + key.Value}
	pages, err := l.search(ctx, key)
	if err != nil {
		return r, err
	}
	logKey, indexKey := l.log.Keys()
	found, err := readPages(l.log.Name(), key, pages, logKey, indexKey, in.Trust)
	if err != nil {
		return r, err
	}
	for _, p := range pages {
		kept, err := in.Evidence.Add(p.raw)
		if err != nil {
			return r, err
		}
		r.Evidence = append(r.Evidence, kept)
	}
	if l.archive != nil {
		bundles, err := l.bundles(ctx, found)
		if err != nil {
			return r, err
		}
		for _, b := range bundles {
			kept, err := in.Evidence.Add(b)
			if err != nil {
				return r, err
			}
			r.Evidence = append(r.Evidence, kept)
		}
		addAbout(found, bundles)
	}
	found.keepBetween(in.Subject)
	r.Facts.Found = found
	return r, nil
}

// keepBetween drops entries whose certificate is of another time than the subject asks for.
func (f *Found) keepBetween(s Subject) {
	f.Entries = slices.DeleteFunc(f.Entries, func(e Entry) bool {
		return e.Issued != nil && (s.Since != nil && e.Issued.Before(*s.Since) || s.Until != nil && !e.Issued.Before(*s.Until))
	})
}

// bundles asks the archive for the bundles of the newest entries, several at a time.
func (l *logAsker) bundles(ctx context.Context, f *Found) ([][]byte, error) {
	const atOnce = 8
	newest := f.Entries[max(0, len(f.Entries)-maxBundles):]
	got, errs := make([][]byte, len(newest)), make([]error, len(newest))
	slots := make(chan struct{}, atOnce)
	var group sync.WaitGroup
	for i, e := range newest {
		slots <- struct{}{}
		group.Go(func() {
			defer func() { <-slots }()
			got[i], errs[i] = l.archive.Bundle(ctx, e.Leaf)
		})
	}
	group.Wait()
	if err := cmp.Or(errs...); err != nil {
		return nil, fmt.Errorf("archive: %w", err)
	}
	return slices.DeleteFunc(got, func(b []byte) bool { return b == nil }), nil
}

// addAbout notes what entries are about. The leaf hash ties a bundle to its entry: it is computed
// from the bundle, so that an archive cannot give an entry another meaning.
func addAbout(f *Found, bundles [][]byte) {
	about := map[string][]string{}
	for _, raw := range bundles {
		b, err := bundle.Parse(raw)
		if err != nil {
			continue
		}
		body, err := b.Record(nil)
		if err != nil {
			continue
		}
		leaf := tlog.LeafHash(body)
		about[hex.EncodeToString(leaf[:])] = b.Digests()
	}
	for i := range f.Entries {
		f.Entries[i].About = about[f.Entries[i].Leaf]
	}
}

// readPages verifies the pages of an answer, and says what their entries say.
func readPages(name string, key search.Key, pages []page, log, index note.Verifier, roots []*trust.Root) (*Found, error) {
	if len(pages) == 0 || pages[0].from != 0 {
		return nil, errors.New("the answer does not start at the first entry")
	}
	f := &Found{Log: name, Kind: key.Kind, Value: key.Value, Entries: []Entry{}}
	next := int64(0)
	for i, p := range pages {
		v, err := verifyPage(key, p, log, index)
		switch {
		case err != nil:
			return nil, err
		case v.Indexed.Size < f.Indexed || i > 0 && (p.from < next || f.Until == nil):
			return nil, errors.New("the pages of the answer are out of order")
		case p.from > next: // what was read before is not among the newest
			f.Entries, f.From = f.Entries[:0], p.from
		}
		f.Total, f.Indexed, f.Until = v.Total, v.Indexed.Size, v.To
		f.Pages = append(f.Pages, p.from)
		for _, e := range v.Entries {
			f.Entries = append(f.Entries, describe(e, roots))
		}
		if v.To != nil {
			next = *v.To
		}
	}
	return f, nil
}

// describe returns what an entry says of itself, and whether an authority of one of the trust roots
// vouches for it: anybody can log a signature with a certificate of their own, in which any name stands.
func describe(e search.Entry, roots []*trust.Root) Entry {
	leaf := tlog.LeafHash(e.Body)
	out := Entry{Index: e.Index, Leaf: hex.EncodeToString(leaf[:])}
	for _, k := range search.KeysOf(e.Body) {
		for kind, field := range map[search.Kind]*string{search.Identity: &out.Identity, search.Source: &out.Source, search.Commit: &out.Commit, search.Ref: &out.Ref} {
			if k.Kind == kind && *field == "" {
				*field = k.Value
			}
		}
	}
	all := search.Certificates(e.Body)
	out.Vouched = len(all) > 0
	for _, der := range all {
		cert, err := x509.ParseCertificate(der)
		if err == nil && (out.Issued == nil || cert.NotBefore.After(*out.Issued)) {
			issued := cert.NotBefore.UTC()
			out.Issued = &issued
		}
		out.Vouched = out.Vouched && err == nil && vouched(cert, roots)
	}
	return out
}

func vouched(cert *x509.Certificate, roots []*trust.Root) bool {
	signer := &bundle.EntrySigner{Certificate: cert}
	return slices.ContainsFunc(roots, func(r *trust.Root) bool { return signer.Issued(r.Material) })
}

// history finds in the log where the ref of the image led, at each of its releases.
func (l *logAsker) history(ctx context.Context, in *Inquiry) (Reply, error) {
	ref, uri := in.ref(), in.sourceURI()
	if ref == "" {
		return Reply{Asked: l.log.Name()}, NotAskedFor("no proof that holds names a ref")
	}
	key := search.Key{Kind: search.Ref, Value: ref}
	r, err := l.found(ctx, &Inquiry{Evidence: in.Evidence, Trust: in.Trust}, key)
	if err != nil {
		return r, err
	}
	r.Facts.History, r.Facts.Pages, r.Facts.Found = historyOf(r.Facts.Found, uri), r.Facts.Found.Pages, nil
	if l.platform != nil {
		more, err := remembered(ctx, l.platform, uri, ref)
		if err != nil {
			return r, err
		}
		r.Facts.History = append(r.Facts.History, more...)
	}
	return r, nil
}

// historyOf returns where a ref of a repository led, in the order of the log, as authorities of the trust
// roots certified it. Of what was signed for one commit after another, it keeps the first entry.
func historyOf(f *Found, uri string) []RefMove {
	moves := []RefMove{}
	for _, e := range f.Entries {
		if !e.Vouched || e.Source != uri || e.Issued == nil || e.Commit == "" {
			continue
		}
		if n := len(moves); n > 0 && moves[n-1].Commit == e.Commit {
			continue
		}
		index := e.Index
		moves = append(moves, RefMove{Time: *e.Issued, Ref: strings.Clone(f.Value), Commit: e.Commit, Entry: &index})
	}
	return moves
}
