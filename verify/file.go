package verify

import (
	"bufio"
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"slices"
	"strings"
	"time"

	v1 "github.com/google/go-containerregistry/pkg/v1"
	"golang.org/x/sync/errgroup"

	"github.com/colophon-build/colophon/attest"
	"github.com/colophon-build/colophon/bundle"
	"github.com/colophon-build/colophon/internal/printable"
	"github.com/colophon-build/colophon/oci"
	"github.com/colophon-build/colophon/policy"
	"github.com/colophon-build/colophon/trust"
)

// File is a file to verify.
type File struct {
	Name    string      // as the caller named it
	Title   string      // the name without its directory, which the provenance of a platform must give the file
	Digest  v1.Hash     // SHA-256 of the content
	Size    int64       // bytes
	Content io.ReaderAt // read once for each bundle; must match Digest each time. nil: the caller has compared it with Digest
}

func (f File) subject() bundle.Subject {
	if f.Content == nil {
		return bundle.Subject{Digest: f.Digest}
	}
	return bundle.Subject{Digest: f.Digest, Content: io.NewSectionReader(f.Content, 0, f.Size)}
}

// Bundled verifies a file with its bundles (Sigstore bundles or DSSE envelopes, as
// JSON) at the time now. One bundle must prove that a workflow on GitHub, a pipeline on
// GitLab or a Colophon platform built the file from the source that the policy demands; or,
// if the policy names a signer, that this signer signed it. opts.Bundles is not used.
func Bundled(ctx context.Context, f File, bundles [][]byte, now time.Time, opts Options) *Verdict {
	c := &check{now: now, opts: opts, about: aboutFile, title: f.Title}
	v := &Verdict{Image: f.Name, Digest: f.Digest.String(), Dangers: opts.Policy.Dangers()}
	v.add(Link{Name: LinkFile, Status: Holds, Claim: fmt.Sprintf("%d bytes", f.Size)})
	if err := c.ready(); err != nil {
		v.add(failed(LinkSignature, Unknown, err))
		return v
	}
	ev := c.gatherBundles(bundles, f.subject)
	var s set
	switch c.opts.Policy.Origin.(type) {
	case policy.SummaryOnly, policy.AttestationsOnly:
		c.unasked(v, LinkFile, LinkSignature, LinkLog, LinkProvenance, LinkSource)
	case policy.NotationSignature:
		v.add(Link{Name: LinkSignature, Status: Unknown, Reason: "the policy demands a signature of notation, and those of files are not read here"})
		v.decide(map[string]bool{LinkSignature: true})
	case policy.BuilderProvenance:
		if len(c.plainRoots()) == 0 && !slices.ContainsFunc(ev.items, func(it *item) bool { return len(it.proofs) > 0 }) {
			v.add(Link{Name: LinkSignature, Status: Unknown, Reason: "no bundle is of a platform that is trusted here, and there is no Sigstore trusted root for those of others: see `colophon trust add`"})
			v.decide(map[string]bool{LinkSignature: true})
			break
		}
		s = c.chain(ctx, v, ev, nil)
	default:
		s = c.chain(ctx, v, ev, nil)
	}
	c.demanded(v, ev, s, "")
	c.hintSpelling(v, ev)
	v.rests = c.restsOn(s)
	return v.distrusted(opts.Distrust, now, unknownPackages(v))
}

// Directory is the files of a release, with the list of their digests if there is
// one.
type Directory struct {
	Name     string // as the caller named it
	Sums     *File  // the list, as in SHA256SUMS; nil if there is none
	Raw      []byte // content of Sums
	Evidence []File // the files with the bundles; they need no proof, but must match the list if they are in it
	Files    []File // all other files; each Name is the path within the directory

	Bundles map[string][][]byte // the bundles beside each file, by File.Name
}

// AreBundles reports whether a file with these values holds bundles and nothing else.
// Anything else is a file that needs a proof, whatever its name is.
func AreBundles(values [][]byte) bool {
	for _, raw := range values {
		parse := bundle.Parse
		if bundle.IsEnvelope(raw) {
			parse = bundle.ParseEnvelope
		}
		if _, err := parse(raw); err != nil {
			return false
		}
	}
	return len(values) > 0
}

// maxSums is the maximum number of lines in a list.
const maxSums = 10_000

// parseSums parses a list of SHA-256 digests strictly and returns them by file
// name. It accepts both forms that sha256sum writes, one file a line:
//
//	HEX SPACE (SPACE | "*") NAME
//	"SHA256 (" NAME ") = " HEX
//
// A name is a path within the directory, and occurs once. The list has 1 to 10,000
// lines.
func parseSums(raw []byte) (map[string]v1.Hash, error) {
	sums := map[string]v1.Hash{}
	lines := bufio.NewScanner(bytes.NewReader(raw))
	for lines.Scan() {
		line := strings.TrimSuffix(lines.Text(), "\r")
		if line == "" {
			continue
		}
		digest, name, ok := strings.Cut(line, " ")
		if rest, tagged := strings.CutPrefix(line, "SHA256 ("); tagged {
			name, digest, ok = strings.Cut(rest, ") = ")
		} else if ok && name != "" && (name[0] == ' ' || name[0] == '*') {
			name = strings.TrimPrefix(name[1:], "./")
		} else {
			ok = false
		}
		if raw, err := hex.DecodeString(digest); !ok || err != nil || len(raw) != 32 || digest != strings.ToLower(digest) {
			return nil, fmt.Errorf("line %d: got %q, want a SHA-256 digest and a name", len(sums)+1, line)
		}
		if !fs.ValidPath(name) || name == "." {
			return nil, fmt.Errorf("line %d: got %q, want a path within the directory", len(sums)+1, name)
		}
		if _, twice := sums[name]; twice {
			return nil, fmt.Errorf("line %d: got %q twice, want each file once", len(sums)+1, name)
		}
		if sums[name] = (v1.Hash{Algorithm: "sha256", Hex: digest}); len(sums) > maxSums {
			return nil, fmt.Errorf("got more than %d lines, want at most that", maxSums)
		}
	}
	if err := lines.Err(); err != nil {
		return nil, err
	}
	if len(sums) == 0 {
		return nil, errors.New("got no line, want at least one")
	}
	return sums, nil
}

// List returns a list of the digests of d.Files, as sha256sum writes it, ordered by name. It
// fails for a name that such a list cannot hold, and if there is no file.
func (d Directory) List() ([]byte, error) {
	var lines []string
	for _, f := range d.Files {
		lines = append(lines, f.Digest.Hex+"  "+f.Name+"\n")
	}
	slices.SortFunc(lines, func(a, b string) int { return strings.Compare(a[64:], b[64:]) })
	raw := []byte(strings.Join(lines, ""))
	sums, err := parseSums(raw)
	if err != nil {
		return nil, err
	}
	// A name with a line break would make two lines, which may name other files.
	if wrong, unlisted := d.compare(sums); len(wrong)+len(unlisted) > 0 {
		return nil, fmt.Errorf("the names of the files cannot stand in a list: %s", strings.Join(wrong, "; "))
	}
	return raw, nil
}

// CheckList fails unless d.Sums lists all files, with their digests, and no others.
func (d Directory) CheckList() error {
	sums, err := parseSums(d.Raw)
	if err != nil {
		return err
	}
	wrong, unlisted := d.compare(sums)
	for _, f := range unlisted {
		wrong = append(wrong, f.Name+" is not in the list")
	}
	if len(wrong) > 0 {
		slices.Sort(wrong)
		return errors.New(strings.Join(wrong, "; "))
	}
	return nil
}

// BundledDirectory verifies the files of a release at the time now, with the given
// bundles and those in d. Either the bundles prove the list of digests, and each
// file has the digest listed, or they prove each file. Policy and bundles are as in
// Bundled.
func BundledDirectory(ctx context.Context, d Directory, bundles [][]byte, now time.Time, opts Options) *Verdict {
	bundled := func(f File) *Verdict {
		return Bundled(ctx, f, append(bundles[:len(bundles):len(bundles)], d.Bundles[f.Name]...), now, opts)
	}
	if d.Sums == nil {
		return eachFile(d, bundled)
	}
	sums, err := parseSums(d.Raw)
	if err != nil {
		v := &Verdict{Image: d.Name}
		v.add(Link{Name: LinkFile, Status: Broken, Reason: fmt.Sprintf("%s: %v", d.Sums.Name, err)})
		v.decide(nil)
		return v
	}
	wrong, unlisted := d.compare(sums)
	v := bundled(*d.Sums)
	about := ""
	if v.Outcome != Accepted {
		// The list has no proof; each file may have one.
		each := eachFile(d, bundled)
		switch ofList := len(bundles) + len(d.Bundles[d.Sums.Name]); {
		case each.Outcome == Accepted:
			v, unlisted = each, nil
		case ofList == 0 && len(d.Bundles) > 0: // only files have bundles: what is wrong with theirs
			v, about = each, "; "+each.Links[0].Claim
		}
	}
	for _, f := range unlisted {
		if bundled(f).Outcome != Accepted {
			wrong = append(wrong, fmt.Sprintf("%s is not in the list, and has no proof of its own", f.Name))
		}
	}
	v.Image = d.Name
	l := &v.Links[0] // the file
	l.Claim = plain(listed(len(sums))+" that "+d.Sums.Name+" lists") + about
	if len(wrong) > 0 {
		slices.Sort(wrong)
		*l = Link{Name: LinkFile, Status: Broken, Reason: plain(strings.Join(wrong, "; "))}
		v.Outcome = Rejected
	}
	return v
}

// compare compares the files with the list.
func (d Directory) compare(sums map[string]v1.Hash) (wrong []string, unlisted []File) {
	seen := map[string]bool{}
	for i, f := range slices.Concat(d.Evidence, d.Files) {
		want, listed := sums[f.Name]
		seen[f.Name] = true
		switch {
		case !listed && i < len(d.Evidence):
		case !listed:
			unlisted = append(unlisted, f)
		case want != f.Digest:
			wrong = append(wrong, fmt.Sprintf("%s: got %s, the list says %s", f.Name, f.Digest, want))
		}
	}
	for name := range sums {
		if !seen[name] {
			wrong = append(wrong, name+" is missing")
		}
	}
	return wrong, unlisted
}

// eachFile returns the verdict on the first file that is not accepted, or else the
// verdict on all files.
func eachFile(d Directory, bundled func(File) *Verdict) *Verdict {
	var v *Verdict
	for _, f := range d.Files {
		v = bundled(f)
		if v.Outcome != Accepted {
			v.Links[0].Claim = plain(f.Name + ", " + v.Links[0].Claim)
			break
		}
		v.Links[0].Claim = printable.Count(len(d.Files), "file") + ", each with a proof of its own"
	}
	if v == nil {
		v = &Verdict{}
		v.add(Link{Name: LinkFile, Status: Absent, Reason: "the directory has no files"})
		v.decide(map[string]bool{LinkFile: true})
	}
	v.Image, v.Digest = d.Name, ""
	return v
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

// SignedPolicy fails unless one of authors signed a policy file, under one of the trust roots,
// at a time that counts at the time now. raw is the content of the file, and bundles are those
// beside it, as in Bundled. It returns who signed, and when.
//
// A signature binds the bytes of the file. That an older policy by the same author is not used
// in place of the current one, the author's MaxAge and Since have to prevent. An author with a
// key has neither.
func SignedPolicy(ctx context.Context, name string, raw []byte, bundles [][]byte, authors []policy.Author, now time.Time, roots []*trust.Root) (by policy.Author, at time.Time, err error) {
	sum := sha256.Sum256(raw)
	f := File{Name: name, Digest: v1.Hash{Algorithm: "sha256", Hex: hex.EncodeToString(sum[:])}, Size: int64(len(raw)), Content: bytes.NewReader(raw)}
	why := errors.New("there is no signature beside it")
	for _, author := range authors {
		opts := Options{Trust: roots, Policy: policy.Policy{Origin: policy.SignatureOnly{Signer: author.Signer}}}
		for _, b := range bundles {
			v := Bundled(ctx, f, [][]byte{b}, now, opts)
			if v.Outcome != Accepted {
				why = errors.New(v.Why())
				continue
			}
			signed := signedAt(v)
			if err := author.MatchTime(signed, now); err != nil {
				why = fmt.Errorf("author %q: %w", author.Name, err)
				continue
			}
			if at.IsZero() || signed.After(at) {
				by, at = author, signed
			}
		}
	}
	if at.IsZero() {
		return policy.Author{}, at, fmt.Errorf("policy %s: no author of policies that this machine trusts signed it: %s", name, plain(why.Error()))
	}
	return by, at, nil
}

// signedAt returns the last time at which the signature that a verdict rests on is proved to
// have existed.
func signedAt(v *Verdict) (at time.Time) {
	if v.Facts == nil {
		return at
	}
	for _, s := range v.Facts.Signed {
		for _, t := range s.Times {
			if t.After(at) {
				at = t
			}
		}
	}
	return at
}

// listed says of how many files the digests are right.
func listed(n int) string {
	if n == 1 {
		return "1 file has the digest"
	}
	return fmt.Sprintf("%d files have the digests", n)
}
