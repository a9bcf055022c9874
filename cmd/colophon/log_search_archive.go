package main

import (
	"cmp"
	"context"
	"encoding/base64"
	"errors"
	"fmt"
	"io"
	"slices"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/colophon-build/colophon/internal/printable"
	"github.com/colophon-build/colophon/platform/api"
	"github.com/colophon-build/colophon/search"
	"github.com/colophon-build/colophon/source"
)

// archiveOptions say what log search looks for in the archive of a platform.
type archiveOptions struct {
	values  map[search.Kind]*string
	archive bool
	page    string
	withoutOptions
}

// archiveFlags adds the flags, and returns the names of those that say what is looked for.
func (o *archiveOptions) archiveFlags(cmd *cobra.Command) []string {
	f := cmd.Flags()
	o.values = map[search.Kind]*string{
		search.Package:   f.String("package", "", "archive: SBOMs with this `PACKAGE`: NAME@VERSION, NAME for all versions, or a package URL with or without version"),
		search.Base:      f.String("base", "", "archive: provenance of builds that used this base `IMAGE`: sha256:HEX, NAME@sha256:HEX, NAME:TAG, or NAME for all"),
		search.Fetched:   f.String("fetched", "", "archive: provenance of builds that used or downloaded this `URI` or ALGORITHM:HEX; a URI with * at its end: all that begin like it"),
		search.Builder:   f.String("builder", "", "archive: provenance by the builder with this `ID`"),
		search.Run:       f.String("run", "", "archive: provenance of the build run with this `ID`, its invocation id"),
		search.Tool:      f.String("tool", "", "archive: provenance of builds whose builder used this `URI` or ALGORITHM:HEX"),
		search.Name:      f.String("name", "", "archive: evidence about an artifact with this `NAME`, such as registry.example.com/app"),
		search.Predicate: f.String("predicate", "", "archive: statements with this predicate `TYPE`"),
	}
	f.BoolVar(&o.archive, "archive", false, "ask the archive, not the log: with --digest, --image, --source, --commit, --ref or --unparsed")
	f.StringVar(&o.without, "without", "", "with --package: images, without those that have a signed VEX statement about the package (`vex`), or about this vulnerability in it (vex:CVE-2021-44228)")
	f.StringVar(&o.key, "vex-key", "", "with --without: VEX statements that the public key in this `FILE` (PEM) signed")
	f.StringVar(&o.identity, "vex-identity", "", "with --without: VEX statements that this identity signed; needs --vex-issuer")
	f.StringVar(&o.issuer, "vex-issuer", "", "OIDC issuer that must have authenticated --vex-identity")
	cmd.MarkFlagsMutuallyExclusive("vex-key", "vex-identity")
	cmd.MarkFlagsRequiredTogether("vex-identity", "vex-issuer")
	f.StringVar(&o.page, "page", "", "archive: go on at this `PLACE`, which the answer before says as next")
	_ = cmd.RegisterFlagCompletionFunc("without", cobra.FixedCompletions([]string{"vex", "vex:CVE-"}, cobra.ShellCompDirectiveNoSpace|cobra.ShellCompDirectiveNoFileComp))
	var names []string
	for kind := range o.values {
		names = append(names, string(kind))
	}
	slices.Sort(names)
	return names
}

// asked reports whether the archive is asked.
func (o archiveOptions) asked() bool {
	for _, value := range o.values {
		if *value != "" {
			return true
		}
	}
	return o.archive
}

// question returns the question; key is that of the flags that log and archive share.
func (o archiveOptions) question(key func() (search.Key, error)) (q search.ArchiveQuestion, err error) {
	if q.From, err = base64.URLEncoding.DecodeString(o.page); err != nil {
		return q, usageError("", "--page: expected what the answer before says as next, found %q", o.page)
	}
	for kind, value := range o.values {
		if *value != "" {
			q.Kind = kind
			q.Value, q.Prefix = archiveValue(kind, *value)
			return q, nil
		}
	}
	k, err := key()
	if err != nil {
		return q, err
	}
	q.Kind = k.Kind
	if q.Value, q.Prefix = archiveValue(k.Kind, k.Value); !slices.Contains(search.ArchiveKinds(), q.Kind) {
		return q, usageError("leave out --archive: the log has it", "--%s: the archive is not searched by it", q.Kind)
	}
	return q, nil
}

// archiveValue returns a value as the map of the archive has it, or its beginning.
func archiveValue(kind search.Kind, value string) (string, bool) {
	isDigest := digestArgument.MatchString(value)
	switch {
	case kind == search.Package && strings.HasPrefix(value, "pkg:"):
		value = search.PackageURL(value)
		return value, strings.HasSuffix(value, "@")
	case kind == search.Package:
		if i := strings.LastIndexByte(value, '@'); i > 0 {
			return value, i == len(value)-1
		}
		return value + "@", true
	case kind == search.Base && !isDigest:
		name, version, _ := strings.Cut(value, "@")
		if i := strings.LastIndexByte(name, ':'); i > strings.LastIndexByte(name, '/') {
			if version == "" { // of NAME:TAG@DIGEST, the digest says more
				version = name[i+1:]
			}
			name = name[:i]
		}
		return search.ImageName(name) + "@" + version, version == ""
	case kind == search.Source:
		return archiveSource(value), false
	case kind == search.Name && (strings.HasPrefix(value, "docker.io/") || strings.HasPrefix(value, "index.docker.io/")):
		return search.ImageName(value), false
	case kind == search.Fetched && !isDigest && strings.HasSuffix(value, "*"):
		return strings.TrimSuffix(value, "*"), true
	}
	return value, false
}

// archiveSource returns the address of a repository as the map of the archive has it: in one form if it is
// of http or https, otherwise only as the provenance spells it.
func archiveSource(value string) string {
	if !strings.Contains(value, "://") {
		if full, err := source.Canonical(value); err == nil && strings.HasPrefix(full, "https://") {
			return full
		}
	}
	return cmp.Or(search.SourceName(value), value)
}

// foundArchived is the answer of log search about the archive.
type foundArchived struct {
	Platform  string            `json:"platform"`  // URL
	Archive   string            `json:"archive"`   // origin of the archive's log: the answer is complete for what it has
	TrustRoot string            `json:"trustRoot"` // fingerprint of the trust root that has the log's key
	Kind      search.Kind       `json:"kind"`
	Value     string            `json:"value"`
	Prefix    bool              `json:"prefix,omitempty"`  // all values that begin with value
	Records   []archivedContent `json:"records"`           // by value, then in the order of arrival
	Total     int64             `json:"total"`             // matches, whatever their time, on all pages
	Next      string            `json:"next,omitempty"`    // of --page, for the matches after these; missing: there are no others
	Indexed   int64             `json:"indexed"`           // the map has the records of the archive's log up to this number
	Size      int64             `json:"size"`              // records of the archive's log
	Index     int64             `json:"index"`             // entry of the index log that has the root
	Root      string            `json:"root"`              // of the map, base64
	Filling   bool              `json:"filling,omitempty"` // the archive lacks some of what its registry had before it
	cosigners                   // of both checkpoints
}

// archivedContent is content that has a value.
type archivedContent struct {
	Value     string    `json:"value"`
	Number    int64     `json:"number"` // of the record
	Since     time.Time `json:"since"`  // when it was archived
	Form      string    `json:"form"`
	Digest    string    `json:"digest"`              // of the content: colophon log get prints it, if it is in the log
	Entry     string    `json:"entry,omitempty"`     // leaf hash of its log entry, hex
	Attached  string    `json:"attached,omitempty"`  // to this digest, in the registry
	Predicate string    `json:"predicate,omitempty"` // type of its statement
	About     []string  `json:"about,omitempty"`     // digests, as it says itself
	Names     []string  `json:"names,omitempty"`     // of what it is about, as it says itself
}

// mostAbout is how many digests and names of one piece of content are shown.
const mostAbout = 20

func runArchiveSearch(ctx context.Context, w io.Writer, log *trustedLog, demands indexOptions, q search.ArchiveQuestion, vex *vexSearch, limit int, between span, o output) error {
	platform, err := log.archive()
	if err != nil {
		return err
	}
	s, err := platform.ArchiveSearcher(log.Origin, log.Key)
	if err != nil {
		return err
	}
	found := &foundArchived{Platform: platform.URL, Archive: s.LogKey.Name(), TrustRoot: log.Root.Pin(), Kind: q.Kind, Value: q.Value, Prefix: q.Prefix, Records: []archivedContent{}}
	kept, err := platform.KeptWith(ctx, noLeaf, 0) // before the search: what it lacks may have come since
	if err != nil {
		return unanswered(platform, err)
	}
	found.Filling = kept.Filling
	var images []*imageWith
	v, err := s.Search(ctx, q, func(m api.ArchiveMatch) error {
		if between.has(m.Record.Since) {
			found.Records = append(found.Records, describeArchived(m))
			if vex != nil {
				images = withMatch(images, m)
			}
		}
		if len(found.Records) >= limit {
			return api.ErrEnough
		}
		return nil
	})
	if err != nil {
		return archiveExit(platform, err)
	}
	found.Total, found.Next, found.Indexed, found.Size, found.Index = v.Total, base64.URLEncoding.EncodeToString(v.Next), v.Indexed.Size, v.Newest.Size, v.Index.Size-1
	found.Root = base64.StdEncoding.EncodeToString(v.Root[:])
	if found.cosigners, err = log.cosigned(demands, s.LogKey, s.IndexKey, v.Checkpoint, v.IndexCheckpoint); err != nil {
		return err
	}
	var answer interface{ print(io.Writer) } = found
	if vex != nil {
		if err := vex.find(ctx, s, images, time.Now()); err != nil {
			return archiveExit(platform, err)
		}
		answer = found.separate(vex.without, images)
	}
	if !o.text() {
		return o.print(w, answer)
	}
	answer.print(w)
	return nil
}

// noLeaf is the hash of no entry, for which an archive is asked whether it is filled.
var noLeaf = strings.Repeat("0", 64)

// archiveExit is the error of a search of the archive.
func archiveExit(platform *api.ClientConfig, err error) error {
	if errors.Is(err, api.ErrUnanswered) || errors.Is(err, context.Canceled) || errors.Is(err, context.DeadlineExceeded) {
		return unanswered(platform, err)
	}
	return &exitError{code: exitRejected, msg: fmt.Sprintf("archive of %s: %v", platform.URL, err),
		hint: "keep this answer: an archive that contradicts its own log must explain itself"}
}

func describeArchived(m api.ArchiveMatch) archivedContent {
	r := m.Record
	c := archivedContent{Value: m.Value, Number: r.Number, Since: r.Since, Form: r.Form, Digest: r.Digest, Entry: r.Entry, Attached: r.Attached}
	if m.Content == nil {
		return c
	}
	for _, key := range search.ArchiveKeys(r, m.Content) {
		switch {
		case key.Kind == search.Predicate:
			c.Predicate = key.Value
		case key.Kind == search.Digest && len(c.About) < mostAbout:
			c.About = append(c.About, key.Value)
		case key.Kind == search.Name && len(c.Names) < mostAbout:
			c.Names = append(c.Names, key.Value)
		}
	}
	return c
}

func (f *foundArchived) print(w io.Writer) {
	for _, c := range f.Records {
		fmt.Fprintf(w, "record %d  %s  %s\n", c.Number, c.Since.Format("2006-01-02 15:04:05Z"), printable.Text(cmp.Or(c.Predicate, c.Form)))
		line := func(name string, values ...string) {
			for _, value := range values {
				if value != "" {
					fmt.Fprintf(w, "  %-9s %s\n", name, printable.Text(value))
				}
			}
		}
		line(string(f.Kind), c.Value)
		line("name", c.Names...)
		line("about", c.About...)
		if !slices.Contains(c.About, c.Attached) {
			line("attached", c.Attached)
		}
		line("content", c.Digest)
	}
	f.end(w)
}

// end says of what the answer is complete.
func (f *foundArchived) end(w io.Writer) {
	more := "and no others"
	if f.Next != "" {
		more = "and others: go on with --page " + f.Next
	}
	what := string(f.Kind)
	switch {
	case f.Prefix:
		what += " " + printable.Text(f.Value) + "…"
	case f.Value != "":
		what += " " + printable.Text(f.Value)
	}
	fmt.Fprintf(w, "%d of %d matches with the %s, %s, up to record %d of the archive of %s\n", len(f.Records), f.Total, what, more, f.Indexed, f.Platform)
	fmt.Fprintf(w, "complete for %s, the log of what this platform archived; evidence that never reached it is not there\n", printable.Text(f.Archive))
	if words := f.words(); words != "" {
		fmt.Fprintf(w, "log and index of the archive: %s\n", printable.Text(words))
	}
	if behind := f.Size - f.Indexed; behind > 0 {
		fmt.Fprintf(w, "not searched: the last %d records, which are not in the index yet\n", behind)
	}
	if f.Filling {
		fmt.Fprintln(w, "not searched: some of what the registry had before it had an archive; the platform still archives it, so more may come")
	}
}
