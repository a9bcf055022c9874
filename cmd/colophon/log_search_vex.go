package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"slices"
	"strings"
	"time"

	v1 "github.com/google/go-containerregistry/pkg/v1"

	"github.com/colophon-build/colophon/bundle"
	"github.com/colophon-build/colophon/distrust"
	"github.com/colophon-build/colophon/internal/limits"
	"github.com/colophon-build/colophon/internal/printable"
	"github.com/colophon-build/colophon/internal/strict"
	"github.com/colophon-build/colophon/platform/api"
	"github.com/colophon-build/colophon/policy"
	"github.com/colophon-build/colophon/sbom/scan"
	"github.com/colophon-build/colophon/search"
	"github.com/colophon-build/colophon/trust"
	"github.com/colophon-build/colophon/verify"
)

// withoutOptions say which images log search leaves out.
type withoutOptions struct {
	without          string // "vex", or "vex:VULNERABILITY"
	key              string
	identity, issuer string // of whose certificate
}

// vexSearch looks for signed VEX statements about the images that were found.
type vexSearch struct {
	without       string         // as asked
	vulnerability string         // empty: any
	signer        *bundle.Signer // whose statements count; nil: nobody's
	roots         []*trust.Root
	distrust      verify.Distrust // lists of this machine's issuers
}

// vexPredicates begin the predicate types of VEX statements, as attest and other programs write them.
var vexPredicates = []string{predicateOpenVEX, predicateCSAF, predicateCDXVEX}

// mostIgnored is how many VEX statements that do not count are shown for an image.
const mostIgnored = 20

// openVEX returns who looks for VEX; nil without --without.
func (o withoutOptions) openVEX(ctx context.Context, kind search.Kind) (*vexSearch, error) {
	if o.without == "" {
		if o.key != "" || o.identity != "" {
			return nil, usageError("", "--vex-key and --vex-identity go with --without")
		}
		return nil, nil
	}
	what, id, named := strings.Cut(o.without, ":")
	if what != "vex" || named && id == "" {
		return nil, usageError("", "--without: expected vex or vex:VULNERABILITY, found %q", o.without)
	}
	if kind != search.Package {
		return nil, usageError("", "--without goes with --package")
	}
	x := &vexSearch{without: o.without, vulnerability: id}
	var opts verify.Options
	if _, err := loadTrust(&opts); err != nil {
		return nil, err
	}
	x.roots = opts.Trust
	if err := loadLists(ctx, &opts, time.Now(), false); err != nil {
		return nil, err
	}
	x.distrust = opts.Distrust
	switch {
	case o.identity != "":
		x.signer = &bundle.Signer{Identity: o.identity, Issuer: o.issuer}
	case o.key != "":
		raw, err := strict.ReadFile(o.key, limits.Request)
		if err != nil {
			return nil, usageError("", "--vex-key: %v", err)
		}
		key, err := policy.ParseKey(string(raw))
		if err != nil {
			return nil, usageError("", "--vex-key: %s: %v", o.key, err)
		}
		x.signer = &bundle.Signer{Key: key.Public()}
	}
	return x, nil
}

// imageWith is an image that has the package.
type imageWith struct {
	Digest   string    `json:"digest"`
	Names    []string  `json:"names,omitempty"`   // as its SBOMs say
	Packages []string  `json:"packages"`          // that were asked for, by the package URLs in its SBOMs; NAME@VERSION without one
	SBOMs    []string  `json:"sboms"`             // digests of the archived content
	VEX      []vexSays `json:"vex,omitempty"`     // about these packages; one who is trusted signed it
	Ignored  []vexSays `json:"ignored,omitempty"` // about these packages, and it does not count
}

// vexSays is what a VEX document says about a vulnerability in a package.
type vexSays struct {
	Content       string      `json:"content"` // digest of the archived content
	Vulnerability string      `json:"vulnerability,omitempty"`
	Package       string      `json:"package,omitempty"`
	Status        scan.Status `json:"status,omitempty"`
	Signer        string      `json:"signer,omitempty"`
	Issuer        string      `json:"issuer,omitempty"`
	Why           string      `json:"why,omitempty"` // why it does not count
}

// withMatch returns images with those that the content of a match is about.
func withMatch(images []*imageWith, m api.ArchiveMatch) []*imageWith {
	var names, about []string
	for _, key := range search.ArchiveKeys(m.Record, m.Content) {
		switch {
		case key.Kind == search.Digest && strings.HasPrefix(key.Value, "sha256:"):
			about = append(about, key.Value)
		case key.Kind == search.Name && len(names) < mostAbout:
			names = append(names, key.Value)
		}
	}
	add := func(to *[]string, values ...string) {
		for _, v := range values {
			if !slices.Contains(*to, v) {
				*to = append(*to, v)
			}
		}
	}
	for _, digest := range about {
		i := slices.IndexFunc(images, func(x *imageWith) bool { return x.Digest == digest })
		if i < 0 {
			i, images = len(images), append(images, &imageWith{Digest: digest})
		}
		add(&images[i].Names, names...)
		add(&images[i].Packages, search.PackageURLs(m.Record.Form, m.Content, m.Value)...)
		add(&images[i].SBOMs, m.Record.Digest)
	}
	return images
}

// find adds to images what VEX statements in the archive say about their packages.
func (x *vexSearch) find(ctx context.Context, s *api.ArchiveSearcher, images []*imageWith, now time.Time) error {
	for _, predicate := range vexPredicates {
		q := search.ArchiveQuestion{Kind: search.Predicate, Value: predicate, Prefix: true}
		if _, err := s.Search(ctx, q, func(m api.ArchiveMatch) error {
			x.add(m, images, now)
			return nil
		}); err != nil {
			return err
		}
	}
	return nil
}

// add adds what one VEX statement says to the images that it is about.
func (x *vexSearch) add(m api.ArchiveMatch, images []*imageWith, now time.Time) {
	b, malformed := bundle.Parse(m.Content)
	if malformed != nil && api.Form(m.Record.Form) != api.FormBundle {
		malformed = errors.New("it is not signed, or not as a Sigstore bundle")
	}
	about := search.ArchiveKeys(m.Record, m.Content)
	for _, image := range images {
		if !slices.Contains(about, search.Key{Kind: search.Digest, Value: image.Digest}) {
			continue
		}
		says, err := []vexSays(nil), malformed
		if err == nil {
			says, err = x.read(b, image)
		}
		signed := vexSays{Content: m.Record.Digest}
		if len(says) > 0 {
			signed.Signer, signed.Issuer, err = x.signedBy(b, image.Digest, now)
		}
		switch {
		case err == nil:
			for _, v := range says {
				v.Content, v.Signer, v.Issuer = signed.Content, signed.Signer, signed.Issuer
				image.VEX = append(image.VEX, v)
			}
		case len(image.Ignored) < mostIgnored:
			if len(says) > 0 {
				signed = says[0]
			}
			signed.Content, signed.Why = m.Record.Digest, err.Error()
			image.Ignored = append(image.Ignored, signed)
		}
	}
}

// read returns what a bundle says about the packages of an image: of each vulnerability the last word, as a document
// overrules itself.
func (x *vexSearch) read(b *bundle.Bundle, image *imageWith) (all []vexSays, err error) {
	if b.Statement == nil {
		return nil, errors.New("it has no statement")
	}
	d, err := scan.Read(b.Statement.Predicate)
	if err != nil {
		return nil, err
	}
	place := map[vexSays]int{}
	for _, f := range d.Findings {
		if f.Status == "" || x.vulnerability != "" && f.ID != x.vulnerability && !slices.Contains(f.Aliases, x.vulnerability) {
			continue
		}
		for _, p := range image.Packages {
			if !aboutPackage(f, p) {
				continue
			}
			about := vexSays{Vulnerability: f.ID, Package: p}
			i, again := place[about]
			if !again {
				i, place[about] = len(all), len(all)
				all = append(all, about)
			}
			all[i].Status = f.Status
		}
	}
	return all, nil
}

// signedBy returns who signed a statement about a digest. It fails unless a trust root of this machine vouches for that, or
// it was the key that was named; and if a list of this machine's issuers distrusts that signer, or is not known.
func (x *vexSearch) signedBy(b *bundle.Bundle, digest string, now time.Time) (signer, issuer string, err error) {
	h, err := v1.NewHash(digest)
	if err == nil {
		err = b.About(h)
	}
	if err != nil {
		return "", "", err
	}
	failed := errors.New("no trust root on this machine")
	for _, r := range x.roots {
		var got *bundle.Result
		switch {
		case x.signer != nil:
			got = b.VerifyBy(*x.signer, bundle.Subject{Digest: h}, r.Material, now)
		case b.Certificate == nil:
			return "", "", errors.New("a key signed it: --vex-key names the key that you trust")
		default:
			got = b.Verify(bundle.Subject{Digest: h}, r.Material, now)
		}
		who := got.Identity
		if err = got.Err(); err == nil && b.Certificate != nil {
			err = trust.Vouches(r.Material, who.Issuer)
		}
		if err != nil {
			failed = err
			continue
		}
		if err = x.distrusted(got, now); err == nil && x.signer == nil {
			err = fmt.Errorf("it counts with --vex-identity %s --vex-issuer %s", printable.ShellWord(who.SubjectAlternativeName), printable.ShellWord(who.Issuer))
		}
		return who.SubjectAlternativeName, who.Issuer, err
	}
	return "", "", failed
}

// distrusted returns an error if a list distrusts the signer, or is not known.
func (x *vexSearch) distrusted(by *bundle.Result, now time.Time) error {
	who := distrust.Signer{Identity: by.Identity.SubjectAlternativeName, Issuer: by.Identity.Issuer, After: by.Certified}
	if len(by.Times) > 0 {
		who.Before = slices.MinFunc(by.Times, time.Time.Compare)
	}
	if x.signer != nil && x.signer.Key != nil {
		var err error
		if who.Key, err = digestOfKey(x.signer.Key); err != nil {
			return err
		}
	}
	found, err := x.distrust.Lists.Find(&distrust.Facts{Beside: []distrust.Signer{who}})
	switch {
	case found != nil:
		return errors.New(found.String())
	case err == nil && x.distrust.MaxAge > 0:
		err = x.distrust.Lists.Fresh(x.distrust.MaxAge, now)
	}
	return err
}

// lastIsName are the types of package URLs whose namespace is no part of the package's name in SBOMs.
var lastIsName = []string{"maven", "deb", "rpm", "apk", "alpm"}

// aboutPackage reports whether a statement names the package: NAME@VERSION or a package URL, as the archive has it. A
// statement that names a package without a version is about all its versions. A statement that names no package is
// about no package.
func aboutPackage(f scan.Finding, value string) bool {
	version := func(s string) (name, version string) {
		i := strings.LastIndexByte(s, '@')
		return s[:max(i, 0)], s[i+1:]
	}
	name, has := version(value)
	stated, says := f.Package, f.Version
	if f.PURL != "" {
		stated, says = version(search.PackageURL(f.PURL))
	}
	if stated == "" || says != "" && says != has {
		return false
	}
	if f.PURL == "" || strings.HasPrefix(name, "pkg:") {
		return stated == name
	}
	kind, path, _ := strings.Cut(strings.TrimPrefix(stated, "pkg:"), "/")
	return path == name || slices.Contains(lastIsName, kind) && path[strings.LastIndexByte(path, '/')+1:] == name
}

// foundWithout is the answer of log search --without.
type foundWithout struct {
	Without   string       `json:"without"`
	Images    []*imageWith `json:"images"`    // that have a package without a VEX statement about it that counts
	Explained []*imageWith `json:"explained"` // whose packages have such a statement each
	foundArchived
}

// unexplained returns the packages that no VEX statement which counts is about.
func (i *imageWith) unexplained() []string {
	return slices.DeleteFunc(slices.Clone(i.Packages), func(p string) bool {
		return slices.ContainsFunc(i.VEX, func(v vexSays) bool { return v.Package == p })
	})
}

// separate returns the answer for the images that were found.
func (f *foundArchived) separate(without string, images []*imageWith) *foundWithout {
	out := &foundWithout{Without: without, Images: []*imageWith{}, Explained: []*imageWith{}, foundArchived: *f}
	for _, image := range images {
		if len(image.unexplained()) > 0 {
			out.Images = append(out.Images, image)
		} else {
			out.Explained = append(out.Explained, image)
		}
	}
	return out
}

func (f *foundWithout) print(w io.Writer) {
	show := func(image *imageWith, packages []string) {
		fmt.Fprintln(w, printable.Text(image.Digest))
		for _, name := range image.Names {
			fmt.Fprintf(w, "  name      %s\n", printable.Text(name))
		}
		for _, p := range packages {
			fmt.Fprintf(w, "  package   %s\n", printable.Text(p))
		}
	}
	for _, image := range f.Images {
		show(image, image.unexplained())
		for _, v := range image.Ignored {
			fmt.Fprintf(w, "  ignored   VEX %s: %s\n", v.Content, printable.Text(v.Why))
		}
	}
	if len(f.Explained) > 0 {
		fmt.Fprintln(w, "left out, because of VEX:")
	}
	for _, image := range f.Explained {
		show(image, image.Packages)
		for _, v := range image.VEX {
			by := v.Signer
			if by == "" {
				by = "the key of --vex-key"
			}
			fmt.Fprintf(w, "  vex       %s %s in %s, signed by %s\n", printable.Text(v.Vulnerability), v.Status, printable.Text(v.Package), printable.Text(by))
		}
	}
	fmt.Fprintf(w, "%d images have the package and no %s about it, %d have both\n", len(f.Images), printable.Text(f.Without), len(f.Explained))
	f.end(w)
}
