package verify

import (
	"context"
	"fmt"
	"time"

	v1 "github.com/google/go-containerregistry/pkg/v1"
	"golang.org/x/sync/errgroup"

	"github.com/colophon-build/colophon/attest"
	"github.com/colophon-build/colophon/bundle"
	"github.com/colophon-build/colophon/oci"
)

// matchKind fails unless a platform's provenance is about the kind of thing that is verified,
// image or file. Of a file it must give the file's name: a subject is a name and a digest, and
// the binary for one platform must not pass as that for another. digest is that of the file.
func (c *check) matchKind(b *build, s *attest.Statement, digest v1.Hash) error {
	switch isFile := attest.IsFiles(b.BuildType); {
	case isFile && c.about != aboutFile:
		return fmt.Errorf("build type: got %q, whose provenance is about release files, want that of an image", b.BuildType)
	case !isFile && c.about == aboutFile:
		return fmt.Errorf("build type: got %q, whose provenance is about an image, want that of release files", b.BuildType)
	case !isFile:
		return nil
	}
	var names []string
	for _, subject := range s.Subject {
		if subject.Digest[digest.Algorithm] != digest.Hex {
			continue
		}
		if subject.Name == c.title && c.title != "" {
			return nil
		}
		names = append(names, subject.Name)
	}
	return fmt.Errorf("name: the file is called %q, and its provenance calls it %q; a file counts only under its own name", c.title, names)
}

// Released verifies the release files that a manifest of src lists (attest.FilesArtifactType),
// with what is attached to the manifest, at the time now: every byte of each file, and its
// provenance as Bundled does. reference is a tag or a digest.
func Released(ctx context.Context, src oci.Source, reference string, now time.Time, opts Options) *Verdict {
	v := &Verdict{Image: src.Name() + "@" + reference}
	files, bundles, unread, err := readReleased(ctx, src, reference)
	if err != nil {
		v.add(failed(LinkFile, statusOf(err), err))
		v.decide(map[string]bool{LinkFile: true})
		return v
	}
	d := Directory{Name: v.Image, Files: files}
	v = eachFile(d, func(f File) *Verdict { return Bundled(ctx, f, bundles.about(f), now, opts) })
	if v.Outcome == Rejected && unread != nil { // what was not read may be the proof
		v.add(failed(LinkSignature, Unknown, unread))
		v.Outcome = Undecided
	}
	return v
}

// releasedBundles are what is attached to a manifest of files.
type releasedBundles struct {
	all  [][]byte             // about all files, or unknown
	sbom map[v1.Hash][][]byte // SBOMs of one file alone, by its digest; each file has a place
}

// about returns the bundles that matter for a file: of the SBOMs, of which there is one for each
// file, only its own.
func (r releasedBundles) about(f File) [][]byte {
	return append(r.all[:len(r.all):len(r.all)], r.sbom[f.Digest]...)
}

func (r *releasedBundles) add(raw []byte) {
	b, err := bundle.Parse(raw)
	if err != nil || b.Statement == nil || len(b.Statement.Subject) != 1 || b.Statement.PredicateType != attest.PredicateSPDX {
		r.all = append(r.all, raw)
		return
	}
	of := v1.Hash{Algorithm: "sha256", Hex: b.Statement.Subject[0].Digest["sha256"]}
	if own, ok := r.sbom[of]; ok {
		r.sbom[of] = append(own, raw)
	} else {
		r.all = append(r.all, raw)
	}
}

// readReleased reads the files and the bundles. unread says why a bundle may have been missed.
func readReleased(ctx context.Context, src oci.Source, reference string) (files []File, bundles releasedBundles, unread, err error) {
	top, err := src.Resolve(ctx, reference)
	if err != nil {
		return nil, bundles, nil, err
	}
	raw, _, err := src.Manifest(ctx, top.Digest)
	if err != nil {
		return nil, bundles, nil, err
	}
	list, err := oci.ParseFiles(raw)
	if err != nil {
		return nil, bundles, nil, err
	}
	g, gctx := errgroup.WithContext(ctx)
	g.SetLimit(parallel)
	for _, f := range list {
		files = append(files, File{Name: f.Name, Title: f.Name, Digest: f.Descriptor.Digest, Size: f.Descriptor.Size})
		g.Go(func() error {
			if err := readThrough(gctx, src, f.Descriptor); err != nil {
				return fmt.Errorf("file %s: %w", f.Name, err)
			}
			return nil
		})
	}
	if err := g.Wait(); err != nil {
		return nil, bundles, nil, err
	}
	bundles.sbom = map[v1.Hash][][]byte{}
	for _, f := range files {
		bundles.sbom[f.Digest] = nil
	}
	attached, err := oci.Bundles(ctx, src, top.Digest)
	if err != nil {
		return nil, bundles, nil, err
	}
	for _, a := range attached {
		switch {
		case a.Err == nil:
			bundles.add(a.Raw)
		case !permanent(a.Err):
			unread = a.Err
		}
	}
	return files, bundles, unread, nil
}
