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
		"GitHub's old fields alone": func(c *x509.Certificate) {
			c.ExtraExtensions = []pkix.Extension{extension(1, []byte("https://a")), extension(5, []byte("a/b"))}
		},
		"another server of GitHub's": func(c *x509.Certificate) {
			c.URIs = uri("https://team.ghe.com/a/b/.github/workflows/c.yml@refs/heads/main")
			c.ExtraExtensions = []pkix.Extension{extension(1, []byte("https://token.actions.team.ghe.com")), extension(5, []byte("a/b"))}
		},
		"scheme in capitals": func(c *x509.Certificate) {
			c.ExtraExtensions = []pkix.Extension{{Id: asn1.ObjectIdentifier{2, 5, 29, 17}, Value: append([]byte{0x30, 19, 0x86, 17}, "HTTPS://example.a"...)}}
		},
	} {
		entry := entryOf(t, change)
		if _, err := bundle.ParseEntry(entry); err != nil {
			t.Errorf("%s: %v", name, err)
		}
		if slices.Contains(KeysOf(entry), Key{Kind: Unparsed}) != (name == "address") {
			t.Errorf("%s: got the keys %v", name, KeysOf(entry))
		}
		if other := (Key{Source, "https://team.ghe.com/a/b"}); name == "another server of GitHub's" && !slices.Contains(KeysOf(entry), other) {
			t.Errorf("%s: got the keys %v", name, KeysOf(entry))
		}
		for _, key := range missing(entry) {
			t.Errorf("%s: a search does not find the entry by %s %q", name, key.Kind, key.Value)
		}
	}
}

// TestURIsAsVerifiersRead: a search finds a name under the spelling that verifiers read, or the entry
// under the key Unparsed. crypto/x509 reads URIs with net/url, which changes some of them.
func TestURIsAsVerifiersRead(t *testing.T) {
	for _, name := range []string{
		"https://example.com/a/b@refs/heads/main", "HTTPS://example.com/a%2Fb?x=1#y", "hTTps://Example.com/%41", "urn:x:y", "URN:a%2f", "mailto:a@b",
		"https:/a", "https:a/b", "https:?x", "https:", "https://", "https:///a", "https://a#", "https://a/#", "https://a?#", "https://a/#b#c", "https://a/b c",
		"https://a/%zz", "https://u@a/b", "https://u:p@a/", "https://[::1]/a", "https://[fe80::1%25a]/", "https://a:/b", "https://a:80/b", "//a/b", "/a", "a/b", ":a", "1a:b",
		"https://a\\b", "https://a/\\", `https://a/"<>^{|}`, "https://a/*'()!$&+,;=[]~", "https://a??", "https://a?", "https://a/?b?c", "*", "https://%61/", "x://a_b/",
		"spiffe://a.example/ns/x", "https://a/.././b", "https://a//b", "h+.-1:x", "https://xn--a/", "https://A.B/",
	} {
		u, err := url.Parse(name)
		if err != nil {
			continue // a certificate with it cannot be read
		}
		normal, plain := normalURI(name)
		if plain && normal != u.String() {
			t.Errorf("%q: verifiers read %q, the index has %q", name, u.String(), normal)
		}
		value := []byte(name)
		san := append([]byte{0x30, byte(len(value) + 2), 0x86, byte(len(value))}, value...)
		entry := entryOf(t, func(c *x509.Certificate) {
			c.ExtraExtensions = []pkix.Extension{{Id: asn1.ObjectIdentifier{2, 5, 29, 17}, Value: san}}
		})
		for _, key := range missing(entry) {
			t.Errorf("%q: a search does not find the entry by %s %q", name, key.Kind, key.Value)
		}
		if raw := (Key{Identity, name}); !slices.Contains(KeysOf(entry), raw) {
			t.Errorf("%q is not found as it stands: %v", name, KeysOf(entry))
		}
	}
}

// FuzzURI: what the index takes for plain, no parser changes.
func FuzzURI(f *testing.F) {
	f.Add("HTTPS://example.com/a%2Fb?x=1#y")
	f.Fuzz(func(t *testing.T, name string) {
		normal, plain := normalURI(name)
		if m := plainSecond.MatchString(name); m != plain {
			t.Fatalf("%q: plain is %v, and %v by the second implementation", name, plain, m)
		}
		if u, err := url.Parse(name); plain && err == nil && u.String() != normal {
			t.Fatalf("%q: verifiers read %q, the index has %q", name, u.String(), normal)
		}
	})
}
