package casefile

import (
	"archive/zip"
	"bytes"
	"cmp"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"encoding/json"
	"errors"
	"fmt"
	"hash/crc32"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"golang.org/x/mod/sumdb/note"

	"github.com/colophon-build/colophon/bundle"
	"github.com/colophon-build/colophon/investigate"
	"github.com/colophon-build/colophon/test/prooftest"
	"github.com/colophon-build/colophon/trust"
	"github.com/colophon-build/colophon/verify"
)

func noLogs(string) (log, index note.Verifier, ok bool) { return nil, nil, false }

// scene is a case of an image that proves itself.
type scene struct {
	t  *testing.T
	p  *prooftest.Platform
	c  *investigate.Case
	e  *investigate.Evidence
	by bundle.Signer
}

func newScene(t *testing.T) *scene {
	p, store := prooftest.New(t), prooftest.NewStore(t)
	r := p.Release(store)
	r.Attach(prooftest.Kinds...)
	e := &investigate.Evidence{}
	c, err := investigate.Run(t.Context(), &investigate.Inquiry{
		Subject: investigate.Subject{Kind: investigate.Image, Name: "registry.example.com/team/app:v1.2.0"}, At: p.Now, By: "test", Trust: []*trust.Root{p.Root()}, Evidence: e,
		Askers: map[investigate.ID]investigate.Asker{investigate.AskChain: investigate.ChainAsker(store, "v1.2.0", false), investigate.AskSources: investigate.SourcesAsker(nil)},
	})
	if err != nil || c.Conclusion.State != investigate.Whole {
		t.Fatalf("got %+v, %v", c, err)
	}
	return &scene{t, p, c, e, bundle.Signer{Identity: "https://responders.example.com/ada", Issuer: prooftest.URL}}
}

// sign signs a manifest, as an identity of the platform.
func (s *scene) sign(m Contents, identity string) {
	s.t.Helper()
	m[BundleName] = s.p.SignFile(prooftest.Identity{SAN: identity, Issuer: prooftest.URL}, m[ManifestName])
}

func (s *scene) make() Contents {
	s.t.Helper()
	m, err := Make(s.c, s.e)
	if err != nil {
		s.t.Fatal(err)
	}
	return m
}

func (s *scene) write(m Contents, name string) string {
	s.t.Helper()
	path := filepath.Join(s.t.TempDir(), name)
	if err := m.Write(path); err != nil {
		s.t.Fatal(err)
	}
	return path
}

func (s *scene) verify(path string, bend ...func(*Options)) *Result {
	opts := Options{Roots: []*trust.Root{s.p.Root()}, Logs: noLogs, Signer: &s.by, Now: s.p.Clock, By: "test"}
	for _, b := range bend {
		b(&opts)
	}
	return Verify(s.t.Context(), path, opts)
}

// again writes the manifest of changed members anew, as somebody would who can sign.
func again(m Contents) {
	delete(m, ManifestName)
	raw, _ := json.Marshal(m.manifest())
	m[ManifestName] = raw
}

func TestCaseFile(t *testing.T) {
	s := newScene(t)
	for _, name := range []string{"case.zip", "case"} {
		m := s.make()
		s.sign(m, s.by.Identity)
		path := s.write(m, name)
		if r := s.verify(path); r.Outcome != verify.Accepted || r.Signed == nil || r.Case.Conclusion.Line != s.c.Conclusion.Line || len(r.Checked) != len(s.c.Answers) {
			t.Errorf("%s: got %s: %s", name, r.Outcome, r.Reason)
		}
		if err := m.Write(path); !errors.Is(err, fs.ErrExist) {
			t.Errorf("%s was replaced: %v", name, err)
		}
		if r := s.verify(path, func(o *Options) { o.Roots = []*trust.Root{prooftest.New(t).Root()} }); r.Outcome == verify.Accepted {
			t.Error("a stranger's trust root accepted it")
		}
		if r := s.verify(path, func(o *Options) { o.Roots, o.Signer = []*trust.Root{prooftest.New(t).Root()}, nil }); r.Outcome != verify.Undecided {
			t.Errorf("without the trust root: got %s: %s", r.Outcome, r.Reason)
		}
		if r := s.verify(path, func(o *Options) {
			o.Signer = &bundle.Signer{Identity: "https://responders.example.com/eve", Issuer: prooftest.URL}
		}); r.Outcome != verify.Rejected {
			t.Error("another signer was accepted")
		}
	}
	// The same case gives the same bytes.
	if a, _ := s.make().zip(); !bytes.Equal(a, must(s.make().zip())) {
		t.Error("two files of one case differ")
	}
}

func must(b []byte, err error) []byte {
	if err != nil {
		panic(err)
	}
	return b
}

// TestMisleadingFiles: whoever changes a member, also whoever can sign the manifest, is found.
func TestMisleadingFiles(t *testing.T) {
	s := newScene(t)
	evidence := func(m Contents) string {
		for name := range m {
			if evidenceName.MatchString(name) {
				return name
			}
		}
		return ""
	}
	change := func(m Contents, bend func(c *investigate.Case)) {
		c, err := investigate.Parse(m[CaseName])
		if err != nil {
			t.Fatal(err)
		}
		bend(c)
		m[CaseName] = must(json.Marshal(c))
	}
	for name, tc := range map[string]struct {
		bend func(m Contents)
		sign bool // the attacker makes the manifest and the reports anew
		want string
	}{
		"a changed report":         {func(m Contents) { m[ReportName] = append(m[ReportName], "\nAll is well."...) }, false, "report.md: the manifest says"},
		"a changed report, signed": {func(m Contents) { m[ReportName] = append(m[ReportName], "\nAll is well."...) }, true, "report.md does not say what the case says"},
		"a page with a script":     {func(m Contents) { m[PageName] = append(m[PageName], "<script>alert(1)</script>"...) }, true, "report.html does not say"},
		"a picture with a script":  {func(m Contents) { m[GraphName] = []byte("<svg><script/></svg>") }, true, "graph.svg does not say"},
		"no report":                {func(m Contents) { delete(m, ReportName) }, true, "report.md does not say"},
		"evidence that is swapped": {func(m Contents) { m[evidence(m)] = []byte("{}") }, true, "its content has the digest"},
		"evidence that is missing": {func(m Contents) {
			change(m, func(c *investigate.Case) {
				delete(m, "evidence/"+strings.TrimPrefix(c.Answers[0].Evidence[1], "sha256:"))
			})
		}, true, "evidence"},
		"a time line out of order": {func(m Contents) {
			change(m, func(c *investigate.Case) { e := c.Conclusion.Timeline; e[0], e[len(e)-1] = e[len(e)-1], e[0] })
		}, true, "conclusion"},
		"another line": {func(m Contents) { change(m, func(c *investigate.Case) { c.Conclusion.Line = "broken link: none" }) }, true, "conclusion"},
		"another answer": {func(m Contents) {
			change(m, func(c *investigate.Case) {
				c.Answers[0].Facts.Holding.Build.Commit = strings.Repeat("0", 40)
				c.Conclusion = investigate.Conclude(c)
			})
		}, true, "answer chain"},
		"a case of tomorrow": {func(m Contents) {
			change(m, func(c *investigate.Case) { c.At = c.At.AddDate(0, 0, 1); c.Conclusion = investigate.Conclude(c) })
		}, true, "after it was signed"},
		"an answer left out": {func(m Contents) { change(m, func(c *investigate.Case) { c.Answers = c.Answers[1:] }) }, true, "answers: expected"},
		"an unknown member of JSON": {func(m Contents) {
			m[CaseName] = bytes.Replace(m[CaseName], []byte("{"), []byte(`{"accepted":true,`), 1)
		}, true, "accepted"},
		"a digest that is no digest": {func(m Contents) {
			change(m, func(c *investigate.Case) { c.Answers[0].Evidence[0] = "../../etc/passwd" })
		}, true, "expected digests"},
		"no case":      {func(m Contents) { delete(m, CaseName) }, true, "case.json"},
		"no signature": {func(m Contents) { delete(m, BundleName) }, false, "is not signed"},
		"a signature of another file": {func(m Contents) {
			m[BundleName] = s.p.SignFile(prooftest.Identity{SAN: s.by.Identity, Issuer: prooftest.URL}, []byte("x"))
		}, false, "signature:"},
	} {
		t.Run(name, func(t *testing.T) {
			m := s.make()
			s.sign(m, s.by.Identity)
			tc.bend(m)
			if tc.sign {
				again(m)
				s.sign(m, s.by.Identity)
			}
			if r := s.verify(s.write(m, "case.zip")); r.Outcome != verify.Rejected || !strings.Contains(r.Reason, tc.want) {
				t.Errorf("got %s: %q, want %q", r.Outcome, r.Reason, tc.want)
			}
		})
	}
	// Another version may word a verdict otherwise; what it decides must be the same.
	for by, wants := range map[string][2]verify.Outcome{"": {verify.Rejected, verify.Rejected}, "another version": {verify.Undecided, verify.Rejected}} {
		for n, bend := range []func(l *verify.Link){func(l *verify.Link) { l.Claim = "it holds" }, func(l *verify.Link) { l.Status = verify.Absent }} {
			m := s.make()
			change(m, func(c *investigate.Case) {
				c.By = cmp.Or(by, c.By)
				bend(&c.Answers[0].Facts.Verdict.Links[1])
				c.Conclusion = investigate.Conclude(c)
			})
			again(m)
			s.sign(m, s.by.Identity)
			if r := s.verify(s.write(m, "worded.zip")); r.Outcome != wants[n] {
				t.Errorf("%q, %d: got %s: %s", by, n, r.Outcome, r.Reason)
			}
		}
	}
	// Another version may conclude otherwise: that is not accepted either.
	m := s.make()
	m[ReportName] = []byte("another report")
	again(m)
	if r := s.verify(s.write(m, "case.zip"), func(o *Options) { o.Signer, o.By = nil, "colophon later" }); r.Outcome != verify.Undecided {
		t.Errorf("got %s: %s", r.Outcome, r.Reason)
	}
}

// TestHostileZips: names that lead out, links, duplicates, many members and bombs.
func TestHostileZips(t *testing.T) {
	file := func(name string, data []byte, mode fs.FileMode) func(w *zip.Writer) {
		return func(w *zip.Writer) {
			h := &zip.FileHeader{Name: name, Method: zip.Deflate}
			h.SetMode(mode)
			f, err := w.CreateHeader(h)
			if err != nil {
				t.Fatal(err)
			}
			f.Write(data)
		}
	}
	raw := func(name string, packed, claims uint64) func(w *zip.Writer) {
		return func(w *zip.Writer) {
			f, err := w.CreateRaw(&zip.FileHeader{Name: name, Method: zip.Store, CRC32: crc32.ChecksumIEEE(make([]byte, packed)), CompressedSize64: packed, UncompressedSize64: claims})
			if err != nil {
				t.Fatal(err)
			}
			f.Write(make([]byte, packed))
		}
	}
	for name, tc := range map[string]struct {
		parts []func(w *zip.Writer)
		want  string
	}{
		"a path that leads out": {[]func(*zip.Writer){file("../case.json", nil, 0o600)}, "no member"},
		"an absolute path":      {[]func(*zip.Writer){file("/etc/passwd", nil, 0o600)}, "no member"},
		"a path with backslash": {[]func(*zip.Writer){file(`..\case.json`, nil, 0o600)}, "no member"},
		"a path below evidence": {[]func(*zip.Writer){file("evidence/../case.json", nil, 0o600)}, "no member"},
		"an escape sequence":    {[]func(*zip.Writer){file("\x1b[2J", nil, 0o600)}, `"\x1b[2J"`},
		"a link":                {[]func(*zip.Writer){file("case.json", []byte("/etc/passwd"), fs.ModeSymlink|0o777)}, "plain file"},
		"a directory":           {[]func(*zip.Writer){file("evidence/", nil, fs.ModeDir|0o700)}, "plain file"},
		"a member twice":        {[]func(*zip.Writer){file("case.json", nil, 0o600), file("case.json", nil, 0o600)}, "twice"},
		"a bomb":                {[]func(*zip.Writer){file("case.json", make([]byte, maxMember+1), 0o600)}, "bytes"},
		"a size that is a lie":  {[]func(*zip.Writer){raw("case.json", 10, 5)}, "case.json"},
		"no manifest":           {[]func(*zip.Writer){file("case.json", []byte("{}"), 0o600)}, "no manifest.json"},
		"a manifest of nothing": {[]func(*zip.Writer){file("manifest.json", []byte("[]"), 0o600)}, "manifest.json"},
		"a member not in it":    {[]func(*zip.Writer){file("manifest.json", []byte(`{"version":1,"files":[]}`), 0o600), file("case.json", nil, 0o600)}, "lists 0 files"},
		"a manifest of later":   {[]func(*zip.Writer){file("manifest.json", []byte(`{"version":2,"files":[]}`), 0o600)}, "version"},
	} {
		path := filepath.Join(t.TempDir(), "case.zip")
		var b bytes.Buffer
		w := zip.NewWriter(&b)
		for _, p := range tc.parts {
			p(w)
		}
		w.Close()
		if err := os.WriteFile(path, b.Bytes(), 0o600); err != nil {
			t.Fatal(err)
		}
		if _, err := Open(path); err == nil || !strings.Contains(err.Error(), tc.want) {
			t.Errorf("%s: got %v, want %q", name, err, tc.want)
		}
	}
	if _, err := Open(filepath.Join(t.TempDir(), "none.zip")); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("got %v", err)
	}
}

// TestManyMembers: 10^5 members cost little, and are refused.
func TestManyMembers(t *testing.T) {
	for n, want := range map[int]string{maxMembers + 1: "members", 100_000: errDirectory.Error()} {
		path := filepath.Join(t.TempDir(), "case.zip")
		var b bytes.Buffer
		w := zip.NewWriter(&b)
		for i := range n {
			f, err := w.CreateHeader(&zip.FileHeader{Name: fmt.Sprintf("evidence/%064x", i), Method: zip.Store})
			if err != nil {
				t.Fatal(err)
			}
			_ = f
		}
		w.Close()
		if err := os.WriteFile(path, b.Bytes(), 0o600); err != nil {
			t.Fatal(err)
		}
		if _, err := Open(path); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%d members: got %v, want %q", n, err, want)
		}
	}
	m := Contents{}
	total := int64(maxUnpacked - 3)
	if err := m.add(CaseName, strings.NewReader("abcd"), &total); err == nil {
		t.Error("more bytes than a case may have were read")
	}
	at := &meter{strings.NewReader(strings.Repeat("a", 100)), maxDirectory}
	at.left = 10
	if _, err := at.ReadAt(make([]byte, 11), 0); !errors.Is(err, errDirectory) {
		t.Errorf("got %v", err)
	}
}

// TestHostileDirectories: links and strange files in place of members.
func TestHostileDirectories(t *testing.T) {
	s := newScene(t)
	secret := filepath.Join(t.TempDir(), "secret")
	if err := os.WriteFile(secret, []byte("secret"), 0o600); err != nil {
		t.Fatal(err)
	}
	for name, bend := range map[string]func(dir string) error{
		"a link": func(dir string) error {
			os.Remove(filepath.Join(dir, ReportName))
			return os.Symlink(secret, filepath.Join(dir, ReportName))
		},
		"a directory that is a link": func(dir string) error {
			os.RemoveAll(filepath.Join(dir, "evidence"))
			return os.Symlink(filepath.Dir(secret), filepath.Join(dir, "evidence"))
		},
		"a link to another member": func(dir string) error {
			return os.Symlink("evidence/"+strings.TrimPrefix(Digest(s.make()[ReportName]), "sha256:"), filepath.Join(dir, ReportName))
		},
		"a file that is not listed": func(dir string) error { return os.WriteFile(filepath.Join(dir, "run.sh"), nil, 0o700) },
		"a directory as member": func(dir string) error {
			return os.Mkdir(filepath.Join(dir, "evidence", strings.Repeat("0", 64)), 0o700)
		},
		"one more evidence": func(dir string) error {
			return os.WriteFile(filepath.Join(dir, "evidence", strings.Repeat("0", 64)), nil, 0o600)
		},
	} {
		m := s.make()
		if strings.Contains(name, "another member") { // the manifest agrees with what the link leads to
			m["evidence/"+strings.TrimPrefix(Digest(m[ReportName]), "sha256:")] = m[ReportName]
			again(m)
		}
		dir := s.write(m, "case")
		if strings.Contains(name, "another member") {
			os.Remove(filepath.Join(dir, ReportName))
		}
		if err := bend(dir); err != nil {
			t.Fatal(err)
		}
		if _, err := Open(dir); err == nil {
			t.Errorf("%s was read", name)
		}
	}
}

func TestKeySigner(t *testing.T) {
	s := newScene(t)
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	m := s.make()
	s.sign(m, s.by.Identity)
	if r := s.verify(s.write(m, "case.zip"), func(o *Options) { o.Signer = &bundle.Signer{Key: key.Public()}; o.Now = time.Now() }); r.Outcome != verify.Rejected {
		t.Errorf("the signature of somebody else was accepted for a key: %s", r.Outcome)
	}
}
