package verify

import (
	"bufio"
	"bytes"
	"context"
	"encoding/hex"
	"fmt"
	"io"
	"io/fs"
	"slices"
	"strings"
	"time"

	v1 "github.com/google/go-containerregistry/pkg/v1"

	"github.com/colophon-build/colophon/bundle"
	"github.com/colophon-build/colophon/policy"
)

// File is a file to verify. Content is read as often as there are bundles to
// check it against; what it says must be what Digest says each time.
type File struct {
	Name    string // as the user named it
	Digest  v1.Hash
	Size    int64 // bytes
	Content io.ReaderAt
}

func (f File) subject() bundle.Subject {
	return bundle.Subject{Digest: f.Digest, Content: io.NewSectionReader(f.Content, 0, f.Size)}
}

// Bundled answers whether one of the bundles proves where a file comes from,
// for files built by workflows on GitHub and pipelines on GitLab; or, where the
// policy names a signer, whether that signer signed. Policy is that of Image.
func Bundled(ctx context.Context, f File, bundles [][]byte, now time.Time, opts Options) *Verdict {
	c := &check{now: now, opts: opts, about: aboutFile}
	v := &Verdict{Image: f.Name, Digest: f.Digest.String(), Dangers: opts.Policy.Dangers()}
	v.add(Link{Name: LinkFile, Status: Holds, Claim: fmt.Sprintf("%d bytes", f.Size)})
	if err := c.ready(); err != nil {
		v.add(Link{Name: LinkSignature, Status: Unknown, Reason: err.Error()})
		return v
	}
	ev := c.gatherBundles(bundles, f.subject)
	var s set
	switch c.opts.Policy.Origin.(type) {
	case policy.SummaryOnly:
		c.unasked(v, LinkFile, LinkSignature, LinkLog, LinkProvenance, LinkSource)
	case policy.BuilderProvenance:
		if len(c.plainRoots()) == 0 {
			v.add(Link{Name: LinkSignature, Status: Unknown, Reason: "there is no Sigstore trusted root, and files are signed under those: see `colophon trust add`"})
			v.demand(map[string]bool{LinkSignature: true})
			break
		}
		s = c.chain(ctx, v, ev, nil)
	default:
		s = c.chain(ctx, v, ev, nil)
	}
	c.demanded(v, ev, s, "")
	return v
}

// Directory is the files of a release, with the list of their digests where
// there is one.
type Directory struct {
	Name  string
	Sums  *File  // the list; nil where there is none
	Raw   []byte // content of Sums
	Files []File // all the others, by their names within the directory

	Bundles map[string][][]byte // those that stand beside a file, by its name; Sums' by Sums.Name
}

// maxSums bounds the lines of a list.
const maxSums = 10_000

// ParseSums reads a list of SHA-256 digests strictly, in either form that
// sha256sum writes, one file a line:
//
//	HEX SPACE (SPACE | "*") NAME
//	"SHA256 (" NAME ") = " HEX
//
// Names are those within the directory, and none stands there twice.
func ParseSums(raw []byte) (map[string]v1.Hash, error) {
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
		if _, twice := sums[name]; twice || !fs.ValidPath(name) || name == "." {
			return nil, fmt.Errorf("line %d: %q is there twice, or is no name within the directory", len(sums)+1, name)
		}
		if sums[name] = (v1.Hash{Algorithm: "sha256", Hex: digest}); len(sums) > maxSums {
			return nil, fmt.Errorf("more than %d lines", maxSums)
		}
	}
	if err := lines.Err(); err != nil {
		return nil, err
	}
	if len(sums) == 0 {
		return nil, fmt.Errorf("it lists no file")
	}
	return sums, nil
}

// BundledDirectory answers whether the bundles prove where every file of a
// directory comes from: the list of their digests is proved, and each file is
// what it says; or each file is proved by itself.
func BundledDirectory(ctx context.Context, d Directory, bundles [][]byte, now time.Time, opts Options) *Verdict {
	bundled := func(f File) *Verdict {
		return Bundled(ctx, f, append(bundles[:len(bundles):len(bundles)], d.Bundles[f.Name]...), now, opts)
	}
	if d.Sums == nil {
		return eachFile(d, bundled)
	}
	sums, err := ParseSums(d.Raw)
	if err != nil {
		v := &Verdict{Image: d.Name}
		v.add(Link{Name: LinkFile, Status: Broken, Reason: fmt.Sprintf("%s: %v", d.Sums.Name, err)})
		v.demand(nil)
		return v
	}
	wrong, unlisted := d.against(sums)
	v := bundled(*d.Sums)
	if v.Outcome != Accepted {
		// The list is not proved; every file may be.
		if each := eachFile(d, bundled); each.Outcome == Accepted {
			v, unlisted = each, nil
		}
	}
	for _, f := range unlisted {
		if bundled(f).Outcome != Accepted {
			wrong = append(wrong, fmt.Sprintf("%s is not listed, and not proved by itself", f.Name))
		}
	}
	v.Image = d.Name
	l := &v.Links[0] // the file
	l.Claim = plain(fmt.Sprintf("%d files, as %s lists them", len(sums), d.Sums.Name))
	if len(wrong) > 0 {
		slices.Sort(wrong)
		*l = Link{Name: LinkFile, Status: Broken, Reason: plain(strings.Join(wrong, "; "))}
		v.Outcome = Rejected
	}
	return v
}

// against holds the files to the list.
func (d Directory) against(sums map[string]v1.Hash) (wrong []string, unlisted []File) {
	seen := map[string]bool{}
	for _, f := range d.Files {
		want, listed := sums[f.Name]
		seen[f.Name] = true
		switch {
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

// eachFile is the verdict on the first file that is not proved by itself, or on
// all of them.
func eachFile(d Directory, bundled func(File) *Verdict) *Verdict {
	var v *Verdict
	for _, f := range d.Files {
		v = bundled(f)
		if v.Outcome != Accepted {
			v.Links[0].Claim = plain(f.Name + ", " + v.Links[0].Claim)
			break
		}
		v.Links[0].Claim = fmt.Sprintf("%d files, each proved by itself", len(d.Files))
	}
	if v == nil {
		v = &Verdict{}
		v.add(Link{Name: LinkFile, Status: Absent, Reason: "there is no file in it"})
		v.demand(map[string]bool{LinkFile: true})
	}
	v.Image, v.Digest = d.Name, ""
	return v
}
