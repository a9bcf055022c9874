// Package casefile keeps a case with its evidence in a directory or a zip file (spec/case/v1), and
// checks such a file on another machine without a network: every digest, the signature and its log
// entry, and whether the evidence gives the answers and the conclusions that the case states.
//
// A case file is input from strangers. Names are those of a closed list, so that none leads out of a
// directory; members, bytes of one, of all and of the directory of a zip are bounded.
package casefile

import (
	"archive/zip"
	"bytes"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"github.com/colophon-build/colophon/internal/durable"
	"github.com/colophon-build/colophon/internal/lazyregexp"
	"github.com/colophon-build/colophon/internal/strict"
	"github.com/colophon-build/colophon/investigate"
	"github.com/colophon-build/colophon/investigate/report"
)

// Names of the members, beside evidence/HEX.
const (
	CaseName     = "case.json"
	ManifestName = "manifest.json"
	BundleName   = "manifest.sigstore.json" // a Sigstore bundle with the signature of ManifestName
	ReportName   = "report.md"
	PageName     = "report.html"
	TimelineName = "timeline.svg"
	GraphName    = "graph.svg"
)

// Bounds of a case file.
const (
	maxMembers   = 20_000
	maxMember    = investigate.MaxCase // bytes of one member
	maxUnpacked  = 512 << 20           // bytes of all members
	maxDirectory = 8 << 20             // bytes of the directory of a zip
)

// Manifest lists the members of a case file, but itself and its signature.
type Manifest struct {
	Version int    `json:"version"`
	Files   []File `json:"files"` // ordered by name
}

// File is a member.
type File struct {
	Name   string `json:"name"`
	Digest string `json:"digest"` // sha256:HEX
	Size   int64  `json:"size"`   // bytes
}

// Contents are the members of a case file, by name.
type Contents map[string][]byte

var evidenceName = lazyregexp.New(`^evidence/[0-9a-f]{64}$`)

// known reports whether a member may have the name.
func known(name string) bool {
	return slices.Contains([]string{CaseName, ManifestName, BundleName, ReportName, PageName, TimelineName, GraphName}, name) || evidenceName.MatchString(name)
}

// Make returns the members of the file of a case, with a manifest and without a signature.
func Make(c *investigate.Case, e *investigate.Evidence) (Contents, error) {
	raw, err := json.MarshalIndent(c, "", " ")
	if err != nil {
		return nil, err
	}
	if len(raw) > investigate.MaxCase {
		return nil, fmt.Errorf("case: %d bytes, at most %d", len(raw), investigate.MaxCase)
	}
	out := Contents{CaseName: append(raw, '\n')}
	if err := out.addReports(c); err != nil {
		return nil, err
	}
	for _, d := range e.Digests() {
		out["evidence/"+strings.TrimPrefix(d, "sha256:")] = e.Get(d)
	}
	if len(out) > maxMembers {
		return nil, fmt.Errorf("case: %d members, at most %d", len(out), maxMembers)
	}
	manifest, err := json.MarshalIndent(out.manifest(), "", " ")
	if err != nil {
		return nil, err
	}
	out[ManifestName] = append(manifest, '\n')
	return out, nil
}

// addReports adds what package report makes of a case.
func (m Contents) addReports(c *investigate.Case) (err error) {
	m[ReportName], m[TimelineName], m[GraphName] = report.Markdown(c), report.Timeline(c), report.Graph(c)
	m[PageName], err = report.HTML(c)
	return err
}

// manifest lists the members.
func (m Contents) manifest() Manifest {
	out := Manifest{Version: investigate.Version, Files: []File{}}
	for name, data := range m {
		if name != ManifestName && name != BundleName {
			out.Files = append(out.Files, File{name, Digest(data), int64(len(data))})
		}
	}
	slices.SortFunc(out.Files, func(a, b File) int { return strings.Compare(a.Name, b.Name) })
	return out
}

// Digest returns the digest of content, sha256:HEX.
func Digest(content []byte) string {
	sum := sha256.Sum256(content)
	return "sha256:" + hex.EncodeToString(sum[:])
}

// Write writes a case file: a zip if path ends in .zip, else a directory, which must not exist or be
// empty. It never replaces a file.
func (m Contents) Write(path string) error {
	if strings.HasSuffix(path, ".zip") {
		raw, err := m.zip()
		if err != nil {
			return err
		}
		return durable.CreateFile(path, raw, 0o600)
	}
	if entries, err := os.ReadDir(path); err == nil && len(entries) > 0 {
		return fmt.Errorf("%s: %w, and is not empty", path, fs.ErrExist)
	}
	if err := os.MkdirAll(filepath.Join(path, "evidence"), 0o700); err != nil {
		return err
	}
	for _, name := range m.names() {
		if err := durable.CreateFile(filepath.Join(path, filepath.FromSlash(name)), m[name], 0o600); err != nil {
			return err
		}
	}
	return durable.SyncDir(filepath.Dir(filepath.Clean(path)))
}

// names returns the names of the members. The manifest is the last but its signature: a file that was
// not finished has none.
func (m Contents) names() (out []string) {
	for name := range m {
		if name != ManifestName && name != BundleName {
			out = append(out, name)
		}
	}
	slices.Sort(out)
	for _, last := range []string{ManifestName, BundleName} {
		if _, ok := m[last]; ok {
			out = append(out, last)
		}
	}
	return out
}

func (m Contents) zip() ([]byte, error) {
	var b bytes.Buffer
	w := zip.NewWriter(&b)
	for _, name := range m.names() {
		h := &zip.FileHeader{Name: name, Method: zip.Deflate, Modified: time.Date(1980, 1, 1, 0, 0, 0, 0, time.UTC)}
		h.SetMode(0o600)
		f, err := w.CreateHeader(h)
		if err != nil {
			return nil, err
		}
		if _, err := f.Write(m[name]); err != nil {
			return nil, err
		}
	}
	err := w.Close()
	return b.Bytes(), err
}

// Open reads a case file. It checks that the members are those of the manifest, with their digests,
// and trusts nothing else in them.
func Open(path string) (Contents, error) {
	info, err := os.Stat(path)
	if err != nil {
		return nil, err
	}
	var m Contents
	if info.IsDir() {
		m, err = readDirectory(path)
	} else {
		m, err = readZip(path)
	}
	if err != nil {
		return nil, fmt.Errorf("%s: %w", path, err)
	}
	if err := m.checkManifest(); err != nil {
		return nil, fmt.Errorf("%s: %w", path, err)
	}
	return m, nil
}

// checkManifest fails unless the manifest lists the members as they are.
func (m Contents) checkManifest() error {
	raw, ok := m[ManifestName]
	if !ok {
		return fmt.Errorf("it has no %s: it is no case file, or was not finished", ManifestName)
	}
	var stated Manifest
	if err := strict.UnmarshalKnown(raw, maxMember, &stated); err != nil {
		return fmt.Errorf("%s: %w", ManifestName, err)
	}
	if stated.Version != investigate.Version {
		return fmt.Errorf("%s: version: expected %d, found %d", ManifestName, investigate.Version, stated.Version)
	}
	is := m.manifest()
	if len(stated.Files) != len(is.Files) {
		return fmt.Errorf("the manifest lists %d files, and the case has %d", len(stated.Files), len(is.Files))
	}
	for i, f := range is.Files {
		switch s := stated.Files[i]; {
		case s.Name != f.Name:
			return fmt.Errorf("the manifest lists %q where the case has %s", s.Name, f.Name)
		case s != f:
			return fmt.Errorf("%s: the manifest says %s of %d bytes, found %s of %d bytes", f.Name, s.Digest, s.Size, f.Digest, f.Size)
		case evidenceName.MatchString(f.Name) && f.Digest != "sha256:"+strings.TrimPrefix(f.Name, "evidence/"):
			return fmt.Errorf("%s: its content has the digest %s", f.Name, f.Digest)
		}
	}
	return nil
}

// add reads one member, within the bounds of all.
func (m Contents) add(name string, r io.Reader, total *int64) error {
	if !known(name) {
		return fmt.Errorf("a case file has no member %q", name)
	}
	if _, twice := m[name]; twice {
		return fmt.Errorf("%s is there twice", name)
	}
	if len(m) == maxMembers {
		return fmt.Errorf("more than %d members", maxMembers)
	}
	data, err := strict.Read(r, int(min(maxMember, maxUnpacked-*total)))
	if err != nil {
		return fmt.Errorf("%s: %w", name, err)
	}
	*total += int64(len(data))
	m[name] = data
	return nil
}

// meter bounds how much of a zip is read for its directory: a directory of a few bytes a member could
// name very many of them.
type meter struct {
	io.ReaderAt
	left int64 // negative: no bound any more
}

var errDirectory = errors.New("the directory of the zip is too large")

func (m *meter) ReadAt(p []byte, off int64) (int, error) {
	if m.left >= 0 {
		if m.left -= int64(len(p)); m.left < 0 {
			m.left = 0
			return 0, errDirectory
		}
	}
	return m.ReaderAt.ReadAt(p, off)
}

func readZip(path string) (Contents, error) {
	f, err := os.Open(path)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	info, err := f.Stat()
	if err != nil {
		return nil, err
	}
	if !info.Mode().IsRegular() || info.Size() > maxUnpacked {
		return nil, fmt.Errorf("expected a zip of at most %d bytes", maxUnpacked)
	}
	at := &meter{f, maxDirectory}
	z, err := zip.NewReader(at, info.Size())
	if err != nil {
		return nil, err
	}
	at.left = -1
	m, total := Contents{}, int64(0)
	for _, member := range z.File {
		if !member.Mode().IsRegular() || member.Flags&1 != 0 {
			return nil, fmt.Errorf("%q is not a plain file", member.Name)
		}
		r, err := member.Open()
		if err != nil {
			return nil, err
		}
		err = m.add(member.Name, r, &total)
		r.Close()
		if err != nil {
			return nil, err
		}
	}
	return m, nil
}

func readDirectory(path string) (Contents, error) {
	root, err := os.OpenRoot(path)
	if err != nil {
		return nil, err
	}
	defer root.Close()
	m, total := Contents{}, int64(0)
	for _, dir := range []string{".", "evidence"} {
		names, err := list(root, dir)
		if err != nil {
			return nil, err
		}
		for _, e := range names {
			name := e.Name()
			if dir != "." {
				name = dir + "/" + name
			}
			if name == "evidence" && e.IsDir() {
				continue
			}
			if !e.Type().IsRegular() {
				return nil, fmt.Errorf("%q is not a plain file", name)
			}
			f, err := root.Open(name)
			if err != nil {
				return nil, err
			}
			err = m.add(name, f, &total)
			f.Close()
			if err != nil {
				return nil, err
			}
		}
	}
	return m, nil
}

// list lists a directory of a bounded size.
func list(root *os.Root, dir string) ([]fs.DirEntry, error) {
	f, err := root.Open(dir)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	entries, err := f.ReadDir(maxMembers + 1)
	if err != nil && !errors.Is(err, io.EOF) {
		return nil, err
	}
	if len(entries) > maxMembers {
		return nil, fmt.Errorf("more than %d members", maxMembers)
	}
	return entries, nil
}

// Case returns the case, and its evidence.
func (m Contents) Case() (*investigate.Case, *investigate.Evidence, error) {
	c, err := investigate.Parse(m[CaseName])
	if err != nil {
		return nil, nil, fmt.Errorf("%s: %w", CaseName, err)
	}
	e := &investigate.Evidence{}
	for name, data := range m {
		if evidenceName.MatchString(name) {
			if _, err := e.Add(data); err != nil {
				return nil, nil, err
			}
		}
	}
	return c, e, nil
}
