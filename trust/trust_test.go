package trust_test

import (
	"bytes"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"
	"time"

	protocommon "github.com/sigstore/protobuf-specs/gen/pb-go/common/v1"
	prototrust "github.com/sigstore/protobuf-specs/gen/pb-go/trustroot/v1"
	"google.golang.org/protobuf/encoding/protojson"
	"google.golang.org/protobuf/types/known/timestamppb"

	"github.com/colophon-build/colophon/test/prooftest"
	"github.com/colophon-build/colophon/trust"
)

func TestParseDocument(t *testing.T) {
	raw := prooftest.New(t).Document()
	r, err := trust.Parse(raw)
	if err != nil {
		t.Fatal(err)
	}
	sum := sha256.Sum256(raw)
	if want := "sha256:" + hex.EncodeToString(sum[:]); r.Fingerprint != want {
		t.Errorf("fingerprint: got %q, want %q", r.Fingerprint, want)
	}
	if b, ok := r.Builder(prooftest.Builder, nil); !ok || b.Level != 2 {
		t.Errorf("builder: got %+v, %v, want level 2", b, ok)
	}
	if _, ok := r.Builder(prooftest.Builder, []string{"https://b.example.com/builders/x"}); ok {
		t.Error("a builder that the caller does not want is trusted")
	}
	if _, ok := r.Builder(prooftest.URL+"/builders/other", []string{prooftest.URL + "/builders/other"}); ok {
		t.Error("a builder that the document does not name is trusted")
	}
}

func TestParsePlainRoot(t *testing.T) {
	raw, err := os.ReadFile("tuf/sigstore_trusted_root.json")
	if err != nil {
		t.Fatal(err)
	}
	r, err := trust.Parse(raw)
	if err != nil {
		t.Fatal(err)
	}
	const id = "https://ci.example.com/builders/x"
	if _, ok := r.Builder(id, nil); ok {
		t.Error("a builder that nobody named is trusted")
	}
	if _, ok := r.Builder(id, []string{id}); !ok {
		t.Error("the builder that the caller names is not trusted")
	}
	if _, ok := r.Builder("https://ci.example.com/x", []string{"https://ci.example.com/x"}); ok {
		t.Error("an id without an issuer is trusted")
	}
}

func TestParseRefuses(t *testing.T) {
	raw := string(prooftest.New(t).Document())
	replace := func(old, new string) string {
		t.Helper()
		if !strings.Contains(raw, old) {
			t.Fatalf("document has no %q", old)
		}
		return strings.Replace(raw, old, new, 1)
	}
	for name, tt := range map[string]struct{ doc, want string }{
		"builder of another issuer": {replace(prooftest.Builder, "https://evil.example.com/builders/x"), "does not belong to the issuer"},
		"builder with a prefix":     {replace(prooftest.Builder, prooftest.URL+"0/builders/x"), "does not belong to the issuer"},
		"builder without issuer":    {replace(prooftest.Builder, prooftest.URL+"/builder/x"), "want ISSUER/builders/NAME"},
		"level":                     {replace(`"level":2`, `"level":4`), "got 4, want 0 to 3"},
		"plain http":                {replace(`"url":"http://127.0.0.1:8080"`, `"url":"http://ci.example.com"`), "want https"},
		"unknown member":            {replace(`"url":`, `"extra":1,"url":`), "extra"},
		"duplicate member":          {replace(`"url":`, `"url":"https://a.example.com","url":`), "duplicate"},
		"nothing":                   {`{}`, "neither"},
		"no authorities":            {`{"mediaType":"application/vnd.dev.sigstore.trustedroot+json;version=0.1"}`, "want a certificate authority"},
		"another media type":        {`{"mediaType":"application/json"}`, "media type"},
		"no builders":               {regexp.MustCompile(`"builders":\[.*?\]`).ReplaceAllString(raw, `"builders":[]`), "builders: got none"},
		"a builder twice":           {replace(`"builders":[`, `"builders":[{"id":"`+prooftest.Builder+`","level":1},`), "is named twice"},
		"level below none":          {replace(`"level":2`, `"level":-1`), "got -1, want 0 to 3"},
		"no platform, but issuer":   {replace(`"url":"http://127.0.0.1:8080"`, `"url":"","issuers":["https://idp.example.com"]`), `url: got ""`},
		"builders of no platform":   {replace(`"url":"http://127.0.0.1:8080","issuer":"http://127.0.0.1:8080"`, `"url":"","issuer":"","issuers":["https://idp.example.com"]`), `url: got ""`},
		"issuer of no platform":     {regexp.MustCompile(`"url":.*"builders":\[.*?\]`).ReplaceAllString(raw, `"url":"","issuer":"http://127.0.0.1:8080","issuers":["https://idp.example.com"],"builders":[]`), `url: got ""`},
		"no JSON":                   {"-----BEGIN CERTIFICATE-----", "trust root: "},
		"too large":                 {strings.Repeat(" ", 16<<20) + raw, "trust root: "},
		"a document in a document":  {`{"url":"","trustedRoot":` + raw + `,"issuers":["https://idp.example.com"]}`, "trusted root: "},
		"two documents":             {raw + raw, "it is not JSON here"},
	} {
		if _, err := trust.Parse([]byte(tt.doc)); err == nil || !strings.Contains(err.Error(), tt.want) {
			t.Errorf("%s: got %v, want %q in it", name, err, tt.want)
		}
	}
}

// TestParseRefusesMaterial: a trusted root with a part that cannot verify anything, or
// that is not what it says, is refused. A platform must have each kind of service.
func TestParseRefusesMaterial(t *testing.T) {
	p := prooftest.New(t)
	type trusted = prototrust.TrustedRoot
	const each, some = "want at least one of each", "want a certificate authority, and a log or a timestamp authority"
	for name, tt := range map[string]struct {
		bend            func(*trusted)
		platform, plain string // what the refusal says; empty: accepted
	}{
		"whole":                      {func(*trusted) {}, "", ""},
		"no certificate authority":   {func(r *trusted) { r.CertificateAuthorities = nil }, each, some},
		"no certificate log":         {func(r *trusted) { r.Ctlogs = nil }, each, ""},
		"no log":                     {func(r *trusted) { r.Tlogs = nil }, each, ""},
		"no timestamp authority":     {func(r *trusted) { r.TimestampAuthorities = nil }, each, ""},
		"neither log nor timestamps": {func(r *trusted) { r.Tlogs, r.TimestampAuthorities = nil, nil }, each, some},
		"timestamp leaf without root": {func(r *trusted) {
			chain := r.TimestampAuthorities[0].CertChain
			chain.Certificates = chain.Certificates[:1]
		}, "no root or no leaf", "no root or no leaf"},
		"timestamp root without leaf": {func(r *trusted) {
			chain := r.TimestampAuthorities[0].CertChain
			chain.Certificates = chain.Certificates[1:]
		}, "no root or no leaf", "no root or no leaf"},
		"another key's id":  {func(r *trusted) { r.Ctlogs[0].LogId.KeyId[0] ^= 1 }, "key id: got", "key id: got"},
		"another log's key": {func(r *trusted) { r.Ctlogs[0].PublicKey = r.Tlogs[0].PublicKey }, "key id: got", "key id: got"},
		"log key that is valid always": {func(r *trusted) {
			r.Tlogs[0].PublicKey.ValidFor = &protocommon.TimeRange{Start: timestamppb.New(time.Time{})}
		}, "the start of its key's validity period is missing", "the start of its key's validity period is missing"},
		"log without address":         {func(r *trusted) { r.Tlogs[0].BaseUrl = "" }, `base URL: got ""`, `base URL: got ""`},
		"log without host":            {func(r *trusted) { r.Tlogs[0].BaseUrl = "log.example.com" }, "want one with a host", "want one with a host"},
		"log with a port alone":       {func(r *trusted) { r.Tlogs[0].BaseUrl = "https://:443" }, "want one with a host", "want one with a host"},
		"log whose address is no URL": {func(r *trusted) { r.Tlogs[0].BaseUrl = "https://log.example.com:port" }, "want one with a host", "want one with a host"},
		"another media type":          {func(r *trusted) { r.MediaType += "1" }, "media type", "media type"},
	} {
		var tr trusted
		if err := protojson.Unmarshal(p.TrustedRoot(), &tr); err != nil {
			t.Fatal(err)
		}
		tt.bend(&tr)
		plain, err := protojson.Marshal(&tr)
		if err != nil {
			t.Fatal(err)
		}
		platform, err := json.Marshal(trust.Document{URL: p.URL, Issuer: p.URL, Builders: []trust.Builder{{ID: prooftest.Builder}}, TrustedRoot: plain})
		if err != nil {
			t.Fatal(err)
		}
		if _, err := trust.Parse(platform); (err == nil) != (tt.platform == "") || err != nil && !strings.Contains(err.Error(), tt.platform) {
			t.Errorf("%s, of a platform: got %v, want %q", name, err, tt.platform)
		}
		if _, err := trust.Parse(plain); (err == nil) != (tt.plain == "") || err != nil && !strings.Contains(err.Error(), tt.plain) {
			t.Errorf("%s, plain: got %v, want %q", name, err, tt.plain)
		}
		// With a key of one's own, no authority is needed; a part that is there is checked.
		_, err = trust.ParseMaterial(plain)
		if bad := tt.platform != "" && tt.platform != each; (err != nil) != bad {
			t.Errorf("%s, with a key: got %v, want an error: %v", name, err, bad)
		}
	}
}

// TestParseMaterialRefuses: without authorities a root may be small, but not malformed.
func TestParseMaterialRefuses(t *testing.T) {
	for raw, want := range map[string]string{
		"trust us": "it is not JSON here",
		"{}":       "media type",
		`{"mediaType":"application/vnd.dev.sigstore.trustedroot+json;version=0.1","mediaType":"application/vnd.dev.sigstore.trustedroot+json;version=0.1"}`: "duplicate",
		`{"mediaType":"application/vnd.dev.sigstore.trustedroot+json;version=0.1"}`:                                                                         "",
	} {
		if m, err := trust.ParseMaterial([]byte(raw)); (err == nil) != (want == "") || err != nil && !strings.Contains(err.Error(), want) {
			t.Errorf("%s: got %v, %v, want %q", raw, m, err, want)
		}
	}
}

// TestOrigins: an origin is a scheme, a host and a port, and nothing else, so that two
// of them are the same platform's only if they are the same string.
func TestOrigins(t *testing.T) {
	for _, good := range []string{"https://a.example.com", "https://a.example.com:8443", "http://127.0.0.1:8080", "http://localhost", "http://[::1]:80"} {
		if err := trust.CheckOrigin(good); err != nil {
			t.Errorf("%q: %v", good, err)
		}
	}
	for bad, want := range map[string]string{
		"": "HOST", "a.example.com": "HOST", "https://": "HOST", "https:///": "HOST", "https://a.example.com/": "HOST", "https://a.example.com/path": "HOST", "https://a.example.com?q": "HOST",
		"https://a.example.com#f": "HOST", "https://ada@a.example.com": "HOST", "HTTPS://a.example.com": "HOST", "https://a example.com": "HOST", "https://a.example.com:port": "HOST", "//a.example.com": "HOST",
		"http://a.example.com": "loopback", "ftp://a.example.com": "want https", "http://127.0.0.1.example.com": "loopback",
	} {
		if err := trust.CheckOrigin(bad); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%q: got %v, want a refusal that says %q", bad, err, want)
		}
	}
}

// TestBuilderIDs: a builder id belongs to one issuer, which no reader takes for another.
func TestBuilderIDs(t *testing.T) {
	for id, issuer := range map[string]string{
		"https://a.example.com/builders/x":           "https://a.example.com",
		"https://a.example.com/issuer/builders/x/v1": "https://a.example.com/issuer",
		"http://127.0.0.1:80/builders/x":             "http://127.0.0.1:80",
	} {
		if got, err := trust.IssuerOf(id); err != nil || got != issuer {
			t.Errorf("%q: got %q, %v, want %q", id, got, err, issuer)
		}
		if err := trust.CheckBuilderID(id); err != nil {
			t.Error(err)
		}
	}
	for _, bad := range []string{
		"", "x", "https://a.example.com", "https://a.example.com/builder/x", "https://a.example.com/builders/", "/builders/x", "a.example.com/builders/x", "https:///builders/x",
		"https://a.example.com/builders/x/builders/y", "https://ada@a.example.com/builders/x", "https://a.example.com:port/builders/x", "https://a example.com/builders/x",
	} {
		if got, err := trust.IssuerOf(bad); err == nil || !strings.Contains(err.Error(), "want ISSUER/builders/NAME") {
			t.Errorf("%q: got %q, %v, want a refusal", bad, got, err)
		}
		if err := trust.CheckBuilderID(bad); err == nil {
			t.Errorf("%q is the id of a builder", bad)
		}
	}
	// The identities of workflows and pipelines are ids, too, if they are well-formed.
	for id, good := range map[string]bool{
		"https://github.com/team/app/.github/workflows/release.yml":                             true,
		"https://github.com/team/app/.github/workflows/release.yml@refs/tags/v1.0.0":            true,
		"https://github.com/team/app/.github/workflows/release.yml@v1.0.0":                      false,
		"https://ci.example.com/team/app/.github/workflows/release.yml":                         false,
		"https://ci.example.com/builders/x/.github/workflows/release.yml":                       false,
		"https://gitlab.example.com/team/app//.gitlab-ci.yml@refs/heads/main":                   true,
		"https://gitlab.example.com/team/builders/x//.gitlab-ci.yml@refs/heads/main":            true,
		"https://gitlab.example.com/team/app//.gitlab-ci.yml":                                   false,
		"https://gitlab.example.com/team/app//.github/workflows/release.yml@refs/heads/main":    true,
		"https://gitlab.example.com/team/app//.github/workflows/../release.yml@refs/heads/main": false,
	} {
		if err := trust.CheckBuilderID(id); (err == nil) != good {
			t.Errorf("%q: got %v, want good %v", id, err, good)
		}
	}
}

func TestStore(t *testing.T) {
	s := trust.Store{Dir: filepath.Join(t.TempDir(), "deep", "trust")}
	if _, err := s.Load(); !errors.Is(err, trust.ErrEmpty) {
		t.Fatalf("empty: got %v, want ErrEmpty", err)
	}
	first, second := prooftest.New(t).Root(), prooftest.New(t).Root()
	for _, r := range []*trust.Root{first, first, second} {
		if err := s.Add(r); err != nil {
			t.Fatal(err)
		}
	}
	roots, err := s.Load()
	if err != nil || len(roots) != 1 || roots[0].Fingerprint != second.Fingerprint {
		t.Fatalf("got %d roots, %v, want the second alone", len(roots), err)
	}
	// A temporary file that a crash left is ignored.
	if err := os.WriteFile(filepath.Join(s.Dir, ".x.json.tmp-1"), []byte("{"), 0o600); err != nil {
		t.Fatal(err)
	}
	if roots, err := s.Load(); err != nil || len(roots) != 1 {
		t.Fatalf("with a leftover: got %d roots, %v", len(roots), err)
	}
	path := filepath.Join(s.Dir, strings.TrimPrefix(second.Fingerprint, "sha256:")+".json")
	if err := os.WriteFile(path, bytes.Replace(second.Raw, []byte(`"level":2`), []byte(`"level":3`), 1), 0o600); err != nil {
		t.Fatal(err)
	}
	if _, err := s.Load(); err == nil || !strings.Contains(err.Error(), "not what was pinned") {
		t.Errorf("changed on disk: got %v, want a refusal", err)
	}
}

// TestStoreReplaces: plain trusted roots have no platform that could replace them.
// What Replaces returns is what Add replaces.
func TestStoreReplaces(t *testing.T) {
	s := trust.Store{Dir: t.TempDir()}
	p, q := prooftest.New(t), prooftest.New(t)
	q.URL = "https://other.example.com"
	first, plain, other := p.Root(), p.PlainRoot("https://idp.example.com"), q.PlainRoot()
	platform := q.Root()
	for _, r := range []*trust.Root{first, plain, other, platform} {
		if old, err := s.Replaces(r); err != nil || old != nil {
			t.Errorf("%s: got %v, %v, want nothing to replace", r.Fingerprint, old, err)
		}
		if err := s.Add(r); err != nil {
			t.Fatal(err)
		}
		if old, err := s.Replaces(r); err != nil || old == nil || old.Fingerprint != r.Fingerprint {
			t.Errorf("%s, added: got %v, %v, want itself", r.Fingerprint, old, err)
		}
	}
	roots, err := s.Load()
	if err != nil || len(roots) != 4 || !slices.IsSortedFunc(roots, func(a, b *trust.Root) int { return strings.Compare(a.Pin(), b.Pin()) }) {
		t.Fatalf("got %d roots, %v, want 4 in order", len(roots), err)
	}
	next := prooftest.New(t).Root()
	if old, err := s.Replaces(next); err != nil || old == nil || old.Fingerprint != first.Fingerprint {
		t.Errorf("got %v, %v, want the platform's first", old, err)
	}
	// A crash after a new root was written leaves the old one beside it. The next Add
	// removes all of them.
	name := strings.TrimPrefix(next.Fingerprint, "sha256:") + ".json"
	if err := os.WriteFile(filepath.Join(s.Dir, name), next.Raw, 0o600); err != nil {
		t.Fatal(err)
	}
	last := prooftest.New(t).Root()
	if err := s.Add(last); err != nil {
		t.Fatal(err)
	}
	roots, err = s.Load()
	if err != nil || len(roots) != 4 || !slices.ContainsFunc(roots, func(r *trust.Root) bool { return r.Fingerprint == last.Fingerprint }) {
		t.Errorf("got %d roots, %v, want the last in the place of the platform's others", len(roots), err)
	}
	if err := s.Remove(plain); err != nil {
		t.Error(err)
	}
	if err := s.Remove(plain); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("removed twice: got %v", err)
	}
	if roots, err := s.Load(); err != nil || len(roots) != 3 {
		t.Errorf("got %d roots, %v, want 3", len(roots), err)
	}
}

// TestStoreThatCannotBeRead: a store that cannot be read or written is never an empty
// one, and nothing counts as added or replaced.
func TestStoreThatCannotBeRead(t *testing.T) {
	r := prooftest.New(t).Root()
	name := strings.TrimPrefix(r.Fingerprint, "sha256:") + ".json"
	for what, damage := range map[string]func(dir string) error{
		"a file in the place of the directory": func(dir string) error { return os.WriteFile(dir, nil, 0o600) },
		"a directory in the place of the root": func(dir string) error { return os.MkdirAll(filepath.Join(dir, name), 0o700) },
		"a file that is no trust root": func(dir string) error {
			if err := os.Mkdir(dir, 0o700); err != nil {
				return err
			}
			return os.WriteFile(filepath.Join(dir, name), []byte("{}"), 0o600)
		},
		"another file that is no trust root": func(dir string) error {
			if err := os.Mkdir(dir, 0o700); err != nil {
				return err
			}
			return os.WriteFile(filepath.Join(dir, "x.json"), []byte("{}"), 0o600)
		},
	} {
		s := trust.Store{Dir: filepath.Join(t.TempDir(), "trust")}
		if err := damage(s.Dir); err != nil {
			t.Fatal(err)
		}
		if roots, err := s.Load(); err == nil || errors.Is(err, trust.ErrEmpty) || roots != nil {
			t.Errorf("%s: loaded %d roots, %v", what, len(roots), err)
		}
		if roots, err := s.List(); err == nil {
			t.Errorf("%s: listed %d roots", what, len(roots))
		}
		if old, err := s.Replaces(r); err == nil || old != nil {
			t.Errorf("%s: replaces %v, %v", what, old, err)
		}
		if err := s.Add(r); err == nil && what != "a file that is no trust root" { // Add puts the right one in its place
			t.Errorf("%s: added", what)
		}
	}
}

// TestStoreThatCannotBeWritten: a root whose file cannot be written does not count as
// added. The path of this directory is so long that no temporary file fits into it.
func TestStoreThatCannotBeWritten(t *testing.T) {
	r := prooftest.New(t).Root()
	dir := t.TempDir()
	const most, name = 4096 - 1, 1 + 64 + len(".json")
	for n := most - name - len(dir); n > 0; n = most - name - len(dir) {
		dir += "/" + strings.Repeat("d", min(n-1, 200))
		if n < 3 {
			break
		}
	}
	s := trust.Store{Dir: dir}
	if err := s.Add(r); err == nil {
		t.Error("it counts as added")
	}
	if roots, err := s.List(); err != nil || len(roots) != 0 {
		t.Errorf("got %d roots, %v, want a directory without any", len(roots), err)
	}
}

func TestDefaultDir(t *testing.T) {
	for _, tt := range []struct {
		env  map[string]string
		want string
	}{
		{map[string]string{"COLOPHON_TRUST": "/a", "XDG_CONFIG_HOME": "/b", "HOME": "/c"}, "/a"},
		{map[string]string{"XDG_CONFIG_HOME": "/b", "HOME": "/c"}, "/b/colophon/trust"},
		{map[string]string{"XDG_CONFIG_HOME": "relative", "HOME": "/c"}, "/c/.config/colophon/trust"},
		{nil, ""},
	} {
		got, err := trust.DefaultDir(func(k string) string { return tt.env[k] })
		if got != tt.want || (err == nil) != (tt.want != "") {
			t.Errorf("%v: got %q, %v, want %q", tt.env, got, err, tt.want)
		}
	}
}

// Until returns the first end of all validity periods.
func TestUntil(t *testing.T) {
	now := time.Now().Truncate(time.Second)
	for name, tt := range map[string]struct {
		bend func(*prooftest.Platform) func(*trust.Root)
		want time.Duration
	}{
		"authority": {func(p *prooftest.Platform) func(*trust.Root) { p.CAUntil = now.Add(time.Minute); return nil }, time.Minute},
		"log":       {func(p *prooftest.Platform) func(*trust.Root) { p.LogUntil = now.Add(2 * time.Minute); return nil }, 2 * time.Minute},
		"metadata": {func(*prooftest.Platform) func(*trust.Root) {
			return func(r *trust.Root) { r.Expires = now.Add(3 * time.Minute) }
		}, 3 * time.Minute},
		"ended already": {func(p *prooftest.Platform) func(*trust.Root) { p.LogUntil = now.Add(-time.Minute); return nil }, time.Hour},
		"certificate":   {func(p *prooftest.Platform) func(*trust.Root) { p.CAUntil = now.Add(1000 * time.Hour); return nil }, 96 * time.Hour},
	} {
		p := prooftest.New(t)
		p.CAUntil = now.Add(time.Hour)
		change := tt.bend(p)
		r := p.Root()
		if change != nil {
			change(r)
		}
		// Certificates of prooftest begin and end with the minute that it was made in.
		if got := r.Until(now).Sub(now); got > tt.want || got < tt.want-2*time.Minute && tt.want > time.Hour || tt.want <= time.Hour && got != tt.want {
			t.Errorf("%s: got %s, want %s", name, got, tt.want)
		}
	}
}
