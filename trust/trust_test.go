package trust_test

import (
	"bytes"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

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
	raw, err := os.ReadFile("testdata/sigstore-public-trusted_root.json")
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
		"no builders":               {replace(`"builders":[{`, `"builders":[],"x":[{`), "x"},
		"two documents":             {raw + raw, "after top-level value"},
	} {
		if _, err := trust.Parse([]byte(tt.doc)); err == nil || !strings.Contains(err.Error(), tt.want) {
			t.Errorf("%s: got %v, want %q in it", name, err, tt.want)
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
		"certificate":   {func(p *prooftest.Platform) func(*trust.Root) { p.CAUntil = now.Add(1000 * time.Hour); return nil }, 24 * time.Hour},
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
