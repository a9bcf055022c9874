package main

import (
	"cmp"
	"context"
	"crypto/x509"
	"encoding/base64"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"slices"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/colophon-build/colophon/internal/printable"
	"github.com/colophon-build/colophon/internal/reach"
	"github.com/colophon-build/colophon/internal/strict"
	"github.com/colophon-build/colophon/search"
	"github.com/colophon-build/colophon/tlog"
)

// searchOptions say what log search looks for.
type searchOptions struct {
	log          logOptions
	index        indexOptions
	values       map[search.Kind]*string
	image        string
	unparsed     bool
	since, until string
	from         int64
	limit        int

	in archiveOptions
}

func newLogSearchCommand() *cobra.Command {
	var o output
	s := searchOptions{values: map[search.Kind]*string{}}
	cmd := &cobra.Command{
		Use:   "search",
		Short: "find the entries of a log, or archived evidence, and prove that there are no others",
		Long: `Search asks a platform which entries of its log are about a digest, an identity, a
repository, and verifies the answer: each entry is in the log and has what was asked for,
and the index, whose root is in a log of its own, has these entries and no others. It says up to
which entry of the log that is true. Values are compared exactly.

Another log than that of a platform is searched in the index of somebody who follows it:
--index and --index-key.

That the index lacks no entry of the log is what "colophon log audit" finds out. An entry that
the index could not read, or not fully, is under --unparsed.

--package, --base, --fetched, --builder, --run, --tool, --name and --predicate search what
the platform archived: what the evidence says, and not only what the log has of it. The
proofs are the same, for a log of the archive; the content of each match is fetched and
compared. The answer is complete for what the archive of this platform keeps. With --archive,
--digest, --image, --source, --commit, --ref and --unparsed ask the archive too.

--package NAME@VERSION --without vex lists images: those that an SBOM with the package is about,
without those about which an archived VEX statement (OpenVEX, CSAF or CycloneDX) names the
package. A statement counts, whatever its status is, if --vex-identity signed it and a trust root of
this machine vouches for that, or --vex-key did; the answer says what it says. Without these flags
none counts, and the answer says who signed what.

--since and --until compare the time at which an entry's certificate was issued. Who logs an entry
may add certificates of their own, so an entry is left out only if each of its signers has a
certificate of another time. Entries without a certificate are kept. Of the archive they compare
when the evidence arrived.`,
		Example: `  colophon log search --source https://git.example.com/team/app
  colophon log search --identity release@example.com --since 2026-11-01 --json
  colophon log search --digest sha256:8ed52a29b6ee…
  colophon log search --package log4j-core@2.14.1     # which images have it
  colophon log search --package log4j-core@2.14.1 --without vex --vex-key team.pub  # and the team has not said what that means
  colophon log search --fetched https://files.example.com/tool.tgz
  colophon log search --base golang --since 2026-11-01`,
		Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error { return runLogSearch(cmd, s, o) },
	}
	f := cmd.Flags()
	s.values[search.Digest] = f.String("digest", "", "the `DIGEST` that was signed: sha256:HEX; HEX alone means SHA-256")
	s.values[search.Identity] = f.String("identity", "", "the signer's `IDENTITY` in the certificate: a URI or a mail address")
	s.values[search.Issuer] = f.String("issuer", "", "the `ISSUER` that vouched for the identity")
	s.values[search.Source] = f.String("source", "", "the repository in the certificate: its `URI` as it stands there, such as https://github.com/team/app")
	s.values[search.Commit] = f.String("commit", "", "the `COMMIT` in the certificate")
	s.values[search.Ref] = f.String("ref", "", "the `REF` in the certificate, such as refs/tags/v1.2.0")
	s.values[search.KeyHash] = f.String("key", "", "the `HASH` of a public key without certificate: sha256:HEX of its DER")
	f.StringVar(&s.image, "image", "", "the `IMAGE` that was signed: its digest, which a reference without one is asked for at its registry")
	f.BoolVar(&s.unparsed, "unparsed", false, "entries that could not be read, or not fully")
	f.StringVar(&s.since, "since", "", "only certificates issued at this `TIME` or later: RFC 3339, or a date")
	f.StringVar(&s.until, "until", "", "only certificates issued before this `TIME`")
	f.Int64Var(&s.from, "from", 0, "only entries from this `INDEX` on; what --limit left out goes on there")
	f.IntVar(&s.limit, "limit", 100, "stop after `N` entries")
	o.flags(cmd)
	s.log.flags(cmd)
	s.index.flags(cmd)
	what := []string{"digest", "image", "identity", "issuer", "source", "commit", "ref", "key", "unparsed"}
	what = append(what, s.in.archiveFlags(cmd)...)
	cmd.MarkFlagsMutuallyExclusive(what...)
	cmd.MarkFlagsOneRequired(what...)
	return cmd
}

// foundEntries is the answer of log search.
type foundEntries struct {
	Log       string       `json:"log"`       // URL
	TrustRoot string       `json:"trustRoot"` // fingerprint of the trust root that has the log's key
	Kind      search.Kind  `json:"kind"`
	Value     string       `json:"value"`
	Entries   []foundEntry `json:"entries"`        // by index
	Total     int64        `json:"total"`          // entries with the key, whatever their time, from the first of the log on
	Next      *int64       `json:"next,omitempty"` // of --from, for the entries after these; missing: there are no others
	Indexed   int64        `json:"indexed"`        // the index has the entries of the log before this one
	Size      int64        `json:"size"`           // entries of the log
	Index     int64        `json:"index"`          // entry of the index log that has the root
	Root      string       `json:"root"`           // of the map, base64

	IndexLog        string `json:"indexLog"`        // origin of the index log
	IndexCheckpoint string `json:"indexCheckpoint"` // signed notes
	Checkpoint      string `json:"checkpoint"`
	cosigners
}

// foundEntry is an entry and what it says of itself.
type foundEntry struct {
	Index    int64                    `json:"index"`
	LeafHash string                   `json:"leafHash"`         // RFC 6962, base64
	Issued   *time.Time               `json:"issued,omitempty"` // of its certificates, the newest; missing: it has none
	Keys     map[search.Kind][]string `json:"keys"`
	Body     []byte                   `json:"body"` // base64
}

func runLogSearch(cmd *cobra.Command, s searchOptions, o output) error {
	ctx, cancel := withTimeout(cmd.Context(), s.log.timeout)
	defer cancel()
	between, err := parseTimes(s.since, s.until)
	if err != nil {
		return err
	}
	if s.limit < 1 || s.from < 0 {
		return usageError("", "--limit: expected 1 or more, found %d; --from: expected 0 or more, found %d", s.limit, s.from)
	}
	if s.in.asked() {
		if s.index.url != "" {
			return usageError("", "the archive has an index of its own: leave out --index")
		}
		if err := s.index.check(); err != nil {
			return err
		}
		if s.from != 0 {
			return usageError("", "--from is the index of an entry of the log; go on in the archive with --page")
		}
		q, err := s.in.question(func() (search.Key, error) { return s.key(ctx) })
		if err != nil {
			return err
		}
		vex, err := s.in.openVEX(ctx, q.Kind)
		if err != nil {
			return err
		}
		log, err := openLog(ctx, s.log)
		if err != nil {
			return err
		}
		return runArchiveSearch(ctx, cmd.OutOrStdout(), log, s.index, q, vex, s.limit, between, o)
	}
	if s.in.without != "" || s.in.key != "" || s.in.identity != "" {
		return usageError("", "--without goes with --package")
	}
	if s.in.page != "" {
		return usageError("", "--page is a place in the archive; go on in the log with --from")
	}
	key, err := s.key(ctx)
	if err != nil {
		return err
	}
	if err := s.index.check(); err != nil {
		return err
	}
	log, err := openLog(ctx, s.log)
	if err != nil {
		return err
	}
	index, err := log.index(s.index)
	if err != nil {
		return err
	}
	found, err := log.search(ctx, index, search.Question{Key: key, From: s.from}, s.limit, between)
	if err == nil {
		found.cosigners, err = log.cosigned(s.index, log.Verifier, index.key, found.Checkpoint, found.IndexCheckpoint)
	}
	if err != nil {
		return log.logExit(err)
	}
	if !o.text() {
		return o.print(cmd.OutOrStdout(), found)
	}
	found.print(cmd.OutOrStdout())
	return nil
}

// key returns what is looked for.
func (s searchOptions) key(ctx context.Context) (search.Key, error) {
	if s.unparsed {
		return search.Key{Kind: search.Unparsed}, nil
	}
	if s.image != "" {
		ref, src, err := openImage(s.image)
		if err != nil {
			return search.Key{}, err
		}
		d, err := src.Resolve(ctx, ref.Identifier())
		return search.Key{Kind: search.Digest, Value: d.Digest.String()}, err
	}
	for kind, value := range s.values {
		if *value == "" {
			continue
		}
		if kind == search.Digest && !strings.Contains(*value, ":") {
			*value = "sha256:" + *value
		}
		// No entry has a malformed one, so the answer would be that there is nothing.
		if (kind == search.Digest || kind == search.KeyHash) && !search.IsDigest(*value) || kind == search.KeyHash && !strings.HasPrefix(*value, "sha256:") {
			return search.Key{}, usageError("", "--%s: expected sha256: and 64 hex digits in lower case, found %q", kind, *value)
		}
		return search.Key{Kind: kind, Value: *value}, nil
	}
	return search.Key{}, usageError("", "the value to search for is empty")
}

// span is a time from start on and before end. The zero time means no limit.
type span struct{ start, end time.Time }

func (s span) has(t time.Time) bool {
	return !t.Before(s.start) && (s.end.IsZero() || t.Before(s.end))
}

// keeps reports whether an entry may be of this time. It is not if all its keys are from
// certificates, and all of these were issued at other times.
func (s span) keeps(entry []byte) bool {
	certificates := search.Certificates(entry)
	for _, der := range certificates {
		if cert, err := x509.ParseCertificate(der); err != nil || s.has(cert.NotBefore) {
			return true
		}
	}
	return len(certificates) == 0 || slices.ContainsFunc(search.KeysOf(entry), func(k search.Key) bool {
		return k.Kind == search.KeyHash || k.Kind == search.Unparsed
	})
}

func parseTimes(since, until string) (s span, err error) {
	for _, p := range []struct {
		flag, text string
		to         *time.Time
	}{{"--since", since, &s.start}, {"--until", until, &s.end}} {
		if p.text == "" {
			continue
		}
		if *p.to, err = time.Parse(time.RFC3339, p.text); err != nil {
			if *p.to, err = time.Parse(time.DateOnly, p.text); err != nil {
				return s, usageError("", "%s: expected a time such as 2026-11-20T11:31:15Z or 2026-11-20, found %q", p.flag, p.text)
			}
		}
	}
	return s, nil
}

// search asks for pages until it has limit entries of these times, and verifies each.
func (l *trustedLog) search(ctx context.Context, index *logIndex, q search.Question, limit int, between span) (*foundEntries, error) {
	// The checkpoints first: an answer that is older hides something. That of a follower may be older
	// than the log, and then says so.
	_, newest, err := l.open(ctx)
	if err != nil {
		return nil, err
	}
	before := newest
	if index.followed {
		before = tlog.Checkpoint{Origin: newest.Origin, Root: tlog.EmptyRoot()}
	}
	signed, err := index.Checkpoint(ctx)
	if err != nil {
		return nil, err
	}
	indexBefore, err := tlog.OpenCheckpoint(signed, index.key)
	if err != nil {
		return nil, fmt.Errorf("index log: %w", err)
	}
	found := &foundEntries{Log: l.URL, TrustRoot: l.Root.Pin(), IndexLog: index.key.Name(), Kind: q.Kind, Value: q.Value, Entries: []foundEntry{}}
	for {
		a, _, err := index.page(ctx, q, min(search.MaxPage, limit-len(found.Entries)))
		if err != nil {
			return nil, err
		}
		v, err := a.Verify(q, l.Verifier, index.key)
		if err != nil {
			return nil, fmt.Errorf("the answer proves nothing: %w", err)
		}
		if err := tlog.Extends(ctx, l, before, v.Newest); err != nil {
			return nil, err
		}
		if !index.followed {
			newest = v.Newest
		} else if newest, err = l.newest(ctx, newest, v.Newest); err != nil {
			return nil, err
		}
		if err := tlog.Extends(ctx, index, indexBefore, v.Index); err != nil {
			return nil, fmt.Errorf("index log: %w", err)
		}
		before, indexBefore = v.Newest, v.Index
		for _, e := range v.Entries {
			if between.keeps(e.Body) {
				found.Entries = append(found.Entries, describe(e))
			}
		}
		found.Total, found.Next, found.Indexed, found.Size, found.Index = v.Total, v.To, v.Indexed.Size, newest.Size, a.Index
		found.Root, found.IndexCheckpoint, found.Checkpoint = base64.StdEncoding.EncodeToString(v.Root[:]), a.IndexCheckpoint, a.Checkpoint
		if v.To == nil || len(found.Entries) >= limit {
			return found, nil
		}
		q.From = *v.To
	}
}

// page asks for one page, and returns its bytes too.
func (x *logIndex) page(ctx context.Context, q search.Question, limit int) (*search.Answer, []byte, error) {
	query := url.Values{"kind": {string(q.Kind)}, "from": {fmt.Sprint(q.From)}, "limit": {fmt.Sprint(limit)}}
	if q.Value != "" {
		query.Set("value", q.Value)
	}
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, x.search+"/search/v1?"+query.Encode(), nil)
	if err != nil {
		return nil, nil, err
	}
	resp, err := x.client().Do(req)
	if err != nil {
		return nil, nil, unread{reach.Explain(err)}
	}
	defer resp.Body.Close()
	body, err := strict.Read(resp.Body, search.MaxAnswer)
	if err != nil {
		return nil, nil, unread{reach.Explain(err)}
	}
	switch resp.StatusCode {
	case http.StatusOK:
	case http.StatusNotFound:
		return nil, nil, unread{errors.New("it cannot be searched: it has no index")}
	default:
		return nil, nil, unread{fmt.Errorf("search: %s: %s", resp.Status, printable.Text(strings.TrimSpace(string(body[:min(len(body), 1000)]))))}
	}
	a, err := search.ParseAnswer(body)
	if err != nil {
		return nil, nil, unread{err}
	}
	return a, body, nil
}

// describe returns what an entry says of itself.
func describe(e search.Entry) foundEntry {
	leaf := tlog.LeafHash(e.Body)
	found := foundEntry{Index: e.Index, LeafHash: base64.StdEncoding.EncodeToString(leaf[:]), Keys: map[search.Kind][]string{}, Body: e.Body}
	for _, key := range search.KeysOf(e.Body) {
		found.Keys[key.Kind] = append(found.Keys[key.Kind], key.Value)
	}
	for _, der := range search.Certificates(e.Body) {
		if cert, err := x509.ParseCertificate(der); err == nil && (found.Issued == nil || cert.NotBefore.After(*found.Issued)) {
			issued := cert.NotBefore.UTC()
			found.Issued = &issued
		}
	}
	return found
}

func (f *foundEntries) print(w io.Writer) {
	for _, e := range f.Entries {
		issued := "no certificate"
		if e.Issued != nil {
			issued = e.Issued.Format("2006-01-02 15:04:05Z")
		}
		fmt.Fprintf(w, "entry %d  %s\n", e.Index, issued)
		for _, kind := range search.Kinds() {
			for _, value := range e.Keys[kind] {
				fmt.Fprintf(w, "  %-9s %s\n", kind, printable.Text(cmp.Or(value, "parts of it could not be read")))
			}
		}
	}
	more := "and no others"
	if f.Next != nil {
		more = fmt.Sprintf("and others: go on with --from %d", *f.Next)
	}
	what := string(f.Kind)
	if f.Value != "" {
		what += " " + printable.Text(f.Value)
	}
	fmt.Fprintf(w, "%d of %d entries with the %s, %s, before entry %d of %s\n", len(f.Entries), f.Total, what, more, f.Indexed, f.Log)
	if behind := f.Size - f.Indexed; behind > 0 {
		fmt.Fprintf(w, "not searched: the log's last %d entries, which are not in the index yet\n", behind)
	}
	if words := f.words(); words != "" {
		fmt.Fprintf(w, "log and index: %s\n", printable.Text(words))
	}
}
