package search

import (
	"crypto/ed25519"
	"crypto/rand"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/asn1"
	"encoding/base64"
	"fmt"
	"math/big"
	"net"
	"net/url"
	"slices"
	"testing"
	"time"

	"github.com/colophon-build/colophon/bundle"
)

// missing returns what a reader of the log, such as log watch, sees in an entry and what is not
// found by a search: neither under its own key, nor under Unparsed.
func missing(entry []byte) (out []Key) {
	e, err := bundle.ParseEntry(entry)
	keys := KeysOf(entry)
	if err != nil || slices.Contains(keys, Key{Kind: Unparsed}) {
		return nil
	}
	want := func(kind Kind, values ...string) {
		for _, v := range values {
			if !slices.Contains(keys, Key{kind, v}) {
				out = append(out, Key{kind, v})
			}
		}
	}
	want(Digest, e.Digests...)
	for _, s := range e.Signers {
		want(Identity, s.Names...)
		want(Issuer, s.Issuers...)
		if s.Certificate == nil {
			want(KeyHash, s.Fingerprint)
		}
		want(Source, s.Sources...)
	}
	return out
}

func entryOf(t *testing.T, change func(*x509.Certificate)) []byte {
	t.Helper()
	public, key, err := ed25519.GenerateKey(nil)
	if err != nil {
		t.Fatal(err)
	}
	template := &x509.Certificate{SerialNumber: big.NewInt(1), NotBefore: time.Now(), NotAfter: time.Now().Add(time.Hour)}
	change(template)
	der, err := x509.CreateCertificate(rand.Reader, template, template, public, key)
	if err != nil {
		t.Fatal(err)
	}
	b64 := base64.StdEncoding.EncodeToString
	return fmt.Appendf(nil, `{"apiVersion":"0.0.2","kind":"hashedrekord","spec":{"hashedRekordV002":{"data":{"algorithm":"SHA2_256","digest":%q},"signature":{"content":"AA==","verifier":{"x509Certificate":{"rawBytes":%q}}}}}}`,
		b64(make([]byte, 32)), b64(der))
}

func extension(n int, value []byte) pkix.Extension {
	return pkix.Extension{Id: asn1.ObjectIdentifier{1, 3, 6, 1, 4, 1, 57264, 1, n}, Value: value}
}

// TestReadersAgree: the two readers of log entries, that of the index and that of verifiers and
// monitors, read the same names, so that no name that a verifier sees is missing in the index.
func TestReadersAgree(t *testing.T) {
	text := func(s string) []byte {
		der, err := asn1.MarshalWithParams(s, "utf8")
		if err != nil {
			t.Fatal(err)
		}
		return der
	}
	uri := func(s string) []*url.URL {
		u, err := url.Parse(s)
		if err != nil {
			t.Fatal(err)
		}
		return []*url.URL{u}
	}
	for name, change := range map[string]func(*x509.Certificate){
		"URI": func(c *x509.Certificate) { c.URIs = uri("https://example.com/a%2Fb?x=1#y") },
		"mail and DNS": func(c *x509.Certificate) {
			c.EmailAddresses, c.DNSNames = []string{"a@example.com"}, []string{"a.example"}
		},
		"address": func(c *x509.Certificate) { c.IPAddresses = []net.IP{net.IPv4(10, 0, 0, 1)} },
		"issuers": func(c *x509.Certificate) {
			c.ExtraExtensions = []pkix.Extension{extension(1, []byte("https://a")), extension(8, text("https://b"))}
		},
		"source": func(c *x509.Certificate) {
			c.ExtraExtensions = []pkix.Extension{extension(12, text("https://git.example.com/app"))}
		},
		"GitHub, both": func(c *x509.Certificate) {
			c.ExtraExtensions = []pkix.Extension{extension(5, []byte("a/b")), extension(12, text("https://github.com/a/b"))}
		},
	} {
		entry := entryOf(t, change)
		if _, err := bundle.ParseEntry(entry); err != nil {
			t.Errorf("%s: %v", name, err)
		}
		if slices.Contains(KeysOf(entry), Key{Kind: Unparsed}) != (name == "address") {
			t.Errorf("%s: got the keys %v", name, KeysOf(entry))
		}
		for _, key := range missing(entry) {
			t.Errorf("%s: a search does not find the entry by %s %q", name, key.Kind, key.Value)
		}
	}
	// What the index does not find under the name that a verifier sees. docs/threats.md says so;
	// whoever mends one of these must change spec/search.
	for name, gap := range map[string]struct {
		extensions []pkix.Extension
		want       Key
	}{
		"scheme in capitals":       {[]pkix.Extension{{Id: asn1.ObjectIdentifier{2, 5, 29, 17}, Value: append([]byte{0x30, 19, 0x86, 17}, "HTTPS://example.a"...)}}, Key{Identity, "https://example.a"}},
		"only GitHub's old fields": {[]pkix.Extension{extension(1, []byte("https://a")), extension(5, []byte("a/b"))}, Key{Source, "https://github.com/a/b"}},
	} {
		if got := missing(entryOf(t, func(c *x509.Certificate) { c.ExtraExtensions = gap.extensions })); !slices.Equal(got, []Key{gap.want}) {
			t.Errorf("%s: got %v missing, want %v", name, got, gap.want)
		}
	}
}
