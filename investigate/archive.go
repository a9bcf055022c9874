package investigate

import (
	"context"
	"fmt"
	"slices"
	"time"

	"github.com/colophon-build/colophon/attest"
	"github.com/colophon-build/colophon/bundle"
	"github.com/colophon-build/colophon/search"
)

// ArchiveSearch finds what an archive keeps about a base image, a package or a download.
type ArchiveSearch interface {
	// Name says which archive answers.
	Name() string
	// Find returns content that has the value, at most limit pieces of it, and how many there are.
	// kind is "base" (sha256:HEX), "package" (NAME@VERSION), "fetched" (a URL) or "tool" (dns:HOST). It verifies that the
	// content has the value. It may be called concurrently.
	Find(ctx context.Context, kind search.Kind, value string, limit int) (found []Archived, total int64, err error)
	// Filling reports whether the archive still lacks some of what its registry had before it.
	Filling(ctx context.Context) (bool, error)
}

// Archived is a signed statement that an archive keeps.
type Archived struct {
	Number  int64    // in the order of arrival
	Entry   string   // leaf hash of its log entry, hex; may be empty
	Content []byte   // at most MaxContent bytes; nil if it is larger
	About   []string // digests, as the content says
}

// MaxContent is how much of one piece of archived content is evidence of a case, in bytes. Of larger ones,
// SBOMs mostly, the case keeps the digests that they are about.
const MaxContent = 1 << 20

// maxArchived is how many pieces of content an archive is asked for.
const maxArchived = 200

// ArchiveAskers returns the Askers for base images, packages and downloads.
func ArchiveAskers(archive ArchiveSearch) map[ID]Asker {
	with := func(kind search.Kind, values func(in *Inquiry) []string) Asker {
		return func(ctx context.Context, in *Inquiry) (Reply, error) {
			r := Reply{Asked: archive.Name(), Query: string(kind)}
			all := values(in)
			if len(all) == 0 {
				return r, NotAskedFor("no proof that holds names one")
			}
			f := &Found{Log: archive.Name(), Kind: kind, Value: all[0], Entries: []Entry{}, Pages: []int64{}}
			if len(all) > 1 {
				f.Value = fmt.Sprintf("%s and %d more", all[0], len(all)-1)
			}
			r.Query += " " + f.Value
			var err error
			if f.Filling, err = archive.Filling(ctx); err != nil { // before the search: what it lacks may have come since
				return r, err
			}
			for _, value := range all {
				found, total, err := archive.Find(ctx, kind, value, maxArchived)
				if err != nil {
					return r, err
				}
				f.Total += total
				if n := len(found); n > 0 && int64(n) < total && (f.Until == nil || found[n-1].Number < *f.Until) {
					f.Until = new(found[n-1].Number + 1)
				}
				for _, a := range found {
					f.Entries = append(f.Entries, Entry{Index: a.Number, Leaf: a.Entry, About: a.About, Issued: issued(a.Content)})
					if a.Content == nil || len(a.Content) > MaxContent {
						continue
					}
					kept, err := in.Evidence.Add(a.Content)
					if err != nil {
						return r, err
					}
					r.Evidence = append(r.Evidence, kept)
				}
			}
			f.keepBetween(in.Subject)
			r.Facts.Found = f
			return r, nil
		}
	}
	subject := func(in *Inquiry) []string { return []string{in.Subject.Name} }
	return map[ID]Asker{
		AskSameBase: with("base", func(in *Inquiry) []string {
			if in.Subject.Kind == Base {
				return subject(in)
			}
			return in.baseDigests()
		}),
		AskSamePackage: with("package", subject),
		AskSameFetch:   with("fetched", subject),
		AskSameHost:    with(search.Tool, (*Inquiry).hosts),
	}
}

// issued returns when the certificate in a bundle was issued, or nil. Nothing of it is verified: see Found.keepBetween.
func issued(content []byte) *time.Time {
	b, err := bundle.Parse(content)
	if err != nil || b.Certificate == nil {
		return nil
	}
	return new(b.Certificate.NotBefore.UTC())
}

// hosts returns the host that is asked about, as the archive has it: that of the subject, or of the build.
func (in *Inquiry) hosts() []string {
	host := in.Subject.Name
	if in.Subject.Kind == Image {
		f := in.Holding()
		if f == nil || f.Build == nil || f.Build.Host == "" {
			return nil
		}
		host = f.Build.Host
	}
	return []string{attest.HostDependency(host).URI}
}

// baseDigests returns the digests of the base images of the build, at most maxBases.
func (in *Inquiry) baseDigests() (out []string) {
	f := in.Holding()
	if f == nil || f.Build == nil {
		return nil
	}
	for _, d := range f.Build.Dependencies {
		if _, ok := imageName(d); ok && len(out) < maxBases && !slices.Contains(out, "sha256:"+d.Digest["sha256"]) {
			out = append(out, "sha256:"+d.Digest["sha256"])
		}
	}
	return out
}
