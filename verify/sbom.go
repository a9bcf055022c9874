package verify

import (
	"context"
	"errors"
	"fmt"
	"strings"

	v1 "github.com/google/go-containerregistry/pkg/v1"

	"github.com/colophon-build/colophon/attest"
	"github.com/colophon-build/colophon/internal/limits"
	"github.com/colophon-build/colophon/internal/printable"
	"github.com/colophon-build/colophon/oci"
	"github.com/colophon-build/colophon/policy"
	"github.com/colophon-build/colophon/sbom"
	"github.com/colophon-build/colophon/sbom/contents"
)

// readSBOM parses a document and checks that it describes this image: a genuine
// document about another image says nothing about this one. The list of packages
// is kept only if it will be compared with the image.
func (c *check) readSBOM(predicate []byte, kind string, image v1.Hash) (*sbom.Document, error) {
	d, err := recall(c, c.of, sbomKey{}, func() (*sbom.Document, error) {
		d, err := sbom.ReadOfImage(predicate, kind)
		if err == nil && !c.lists() {
			d.List = nil // it may be large, and nothing compares it
		}
		return d, err
	})
	if err != nil {
		return nil, err
	}
	if d.SubjectDigest != image.String() {
		return nil, fmt.Errorf("the %s document describes %q, want %q", d.Format, d.SubjectDigest, image)
	}
	return d, nil
}

// sbomLink returns the link for the documents of a set.
func (c *check) sbomLink(ctx context.Context, image v1.Hash, ev *evidence, s set) Link {
	switch s.rules {
	case ofPublic:
		return Link{Name: LinkSBOM, Status: NotAsked, Reason: "workflows on GitHub and pipelines on GitLab attach no SBOM"}
	case ofNamed:
		return Link{Name: LinkSBOM, Status: NotAsked, Reason: "a policy that names a signer demands no SBOM"}
	}
	var docs []*sbom.Document
	var claims []string
	for _, kind := range []struct {
		predicate, what string
		found           ref
	}{{attest.PredicateSPDX, "SPDX document", s.spdx}, {attest.PredicateCDX, "CycloneDX document", s.cdx}} {
		switch {
		case kind.found.holds():
			d := kind.found.proof.sbom
			docs = append(docs, d)
			claims = append(claims, fmt.Sprintf("%s %s, %s%s", d.Format, d.Version, printable.Count(d.Packages, "package"), unread(d)))
		case c.opts.Policy.SBOM() != policy.SBOMOptional:
			return ev.lacking(LinkSBOM, inFormat(kind.predicate), kind.what, kind.found)
		}
	}
	if len(docs) == 0 {
		return Link{Name: LinkSBOM, Status: NotAsked, Reason: "the policy accepts an image without an SBOM"}
	}
	for _, d := range docs {
		if err := sameSource(d, s.provenance); err != nil {
			return Link{Name: LinkSBOM, Status: Broken, Reason: err.Error()}
		}
	}
	if c.opts.Policy.CompleteSBOM() {
		for _, d := range docs {
			if len(d.Unread) > 0 {
				return Link{Name: LinkSBOM, Status: Broken, Reason: "the policy demands complete SBOMs; " + d.Format + " document" + unread(d)}
			}
		}
	}
	l := Link{Name: LinkSBOM, Status: Holds, Claim: strings.Join(claims, "; ") + "; about this image"}
	if c.opts.Policy.SBOM() == policy.SBOMContents {
		return c.compareContents(ctx, image, docs, l)
	}
	return l
}

// unread says which files the scanner of a document could not read; "" if it read all.
func unread(d *sbom.Document) string {
	const shown = 3
	n := len(d.Unread)
	if n == 0 {
		return ""
	}
	names := strings.Join(d.Unread[:min(n, shown)], ", ")
	if n > shown {
		names += fmt.Sprintf(" and %d more", n-shown)
	}
	return " without those in files that its scanner could not read: " + printable.Line(names)
}

// sameSource fails if a document names another source than the provenance. Most
// documents name none.
func sameSource(d *sbom.Document, prov ref) error {
	if d.Source == "" || !prov.holds() {
		return nil
	}
	if want := attest.GitURI(prov.proof.build.Source, prov.proof.build.Commit); d.Source != want {
		return fmt.Errorf("source of the %s document: got %q, the provenance says %q", d.Format, d.Source, want)
	}
	return nil
}

// compareContents compares the documents with what is installed in the image. l is
// the link as it stands without that.
func (c *check) compareContents(ctx context.Context, image v1.Hash, docs []*sbom.Document, l Link) Link {
	if c.read.part() {
		return Link{Name: LinkSBOM, Status: Unknown, Reason: "contents of the image: the SBOMs are about all platforms of the index, and only " + strings.Join(c.read.platforms, ", ") + " was read"}
	}
	installed, err := recall(c, c.known, contentsKey(image), func() (map[contents.Package]bool, error) { return contents.Read(ctx, c.src, image) })
	if err != nil {
		return Link{Name: LinkSBOM, Status: statusOf(err), Reason: "contents of the image: " + err.Error()}
	}
	for _, d := range docs {
		if diff := contents.Compare(d.List, installed); !diff.None() {
			return Link{Name: LinkSBOM, Status: Broken, Reason: d.Format + " document: " + diff.String()}
		}
	}
	l.Claim += "; agrees with the " + printable.Count(len(installed), "package") + " found in the image"
	return l
}

// compareLocks compares the lock that each valid provenance names with the locks
// attached to the image. A lock may be missing, because the provenance signs its
// digest. But if only other locks are attached, the provenance counts as wrong.
func (c *check) compareLocks(ctx context.Context, list []oci.Attached, ev *evidence) {
	for _, it := range ev.items {
		for _, p := range it.proofs {
			if p.fault() != nil || p.build == nil || p.build.Lock == "" {
				continue
			}
			lock, err := recall(c, c.known, lockKey{c.digest, p.build.Lock}, func() (lockFound, error) {
				state, unsure, err := c.attachedLock(ctx, list, p.build.Lock)
				return lockFound{state, unsure}, err
			})
			p.build.evidence.Lock, p.says = lock.state, err
			if p.says != nil && lock.unsure {
				it.err, it.unread = p.says, true
			}
		}
	}
}

// lockFound is the answer of attachedLock.
type lockFound struct {
	state  string
	unsure bool
}

// attachedLock looks for the lock with the digest want, "sha256:HEX", and returns
// for people whether it is attached. unsure says that it may be among the referrers
// that could not be read.
func (c *check) attachedLock(ctx context.Context, list []oci.Attached, want string) (state string, unsure bool, err error) {
	others, unread, unknown := "", error(nil), error(nil)
	for i := range list {
		a := &list[i]
		switch {
		case a.Tag != "":
			continue
		case a.Err != nil:
			if !permanent(a.Err) {
				unknown = a.Err // it may be this lock, another one, or no lock
			}
			continue
		case a.ArtifactType != attest.LockMediaType || len(a.Layers) != 1:
			continue
		}
		lock := a.Layers[0]
		if lock.Digest.String() != want {
			others = lock.Digest.String()
			continue
		}
		switch err := c.readLock(ctx, lock); {
		case err == nil:
			return "the lock is attached to the image", false, nil
		case errors.Is(err, oci.ErrMismatch):
			return "", false, fmt.Errorf("lock: %w", err)
		default:
			unread = err
		}
	}
	switch {
	case unread != nil:
		return "the lock could not be read: " + unread.Error(), false, nil
	case others != "":
		return "", unknown != nil, fmt.Errorf("lock attached to the image: got %s, the provenance names %s", others, want)
	}
	return "the lock is not attached to the image", false, nil
}

// readLock checks that a lock can be read, and matches its digest.
func (c *check) readLock(ctx context.Context, d v1.Descriptor) error {
	if len(d.Data) > 0 {
		_, err := oci.Content(ctx, c.src, d, limits.Lock)
		return err
	}
	if d.Size < 0 || d.Size > limits.Lock {
		return fmt.Errorf("%w: size of the lock: got %d bytes, want at most %d", oci.ErrMismatch, d.Size, limits.Lock)
	}
	return readThrough(ctx, c.src, d)
}
