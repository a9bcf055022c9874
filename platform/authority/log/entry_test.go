package log

import (
	"crypto/ed25519"
	"crypto/sha512"
	"errors"
	"strings"
	"testing"

	"github.com/go-json-experiment/json/jsontext"
	common "github.com/sigstore/protobuf-specs/gen/pb-go/common/v1"
	rekor "github.com/sigstore/rekor-tiles/v2/pkg/generated/protobuf"
	"google.golang.org/protobuf/proto"
)

// The log refuses wrong and malicious requests, names the reason, and logs nothing.
func TestRefusals(t *testing.T) {
	r := start(t, config(t.TempDir()))
	public, private, err := ed25519.GenerateKey(nil)
	if err != nil {
		t.Fatal(err)
	}
	sum := sha512.Sum512([]byte("text"))
	good := request(t, "good")
	change := func(f func(*rekor.HashedRekordRequestV002)) string {
		hr := proto.Clone(good).(*rekor.HashedRekordRequestV002)
		f(hr)
		return wire(t, hr)
	}
	entry := wire(t, good)
	for name, c := range map[string]struct {
		body   string
		status int
		says   string
	}{
		"signature of another": {change(func(h *rekor.HashedRekordRequestV002) {
			h.Signature.Content = request(t, "x").GetSignature().GetContent()
		}), 400, "verifying signature"},
		"digest of another": {change(func(h *rekor.HashedRekordRequestV002) { h.Digest[0] ^= 1 }), 400, "verifying signature"},
		"short digest":      {change(func(h *rekor.HashedRekordRequestV002) { h.Digest = h.Digest[:20] }), 400, "digest length"},
		"no digest":         {change(func(h *rekor.HashedRekordRequestV002) { h.Digest = nil }), 400, "missing digest"},
		"no signature":      {change(func(h *rekor.HashedRekordRequestV002) { h.Signature = nil }), 400, "keyDetails"},
		"no key":            {change(func(h *rekor.HashedRekordRequestV002) { h.Signature.Verifier.Verifier = nil }), 400, "invalid verifier"},
		"malformed key": {change(func(h *rekor.HashedRekordRequestV002) {
			h.Signature.Verifier.Verifier = &rekor.Verifier_PublicKey{PublicKey: &rekor.PublicKey{RawBytes: []byte("key")}}
		}), 400, "parsing public key"},
		"malformed certificate": {change(func(h *rekor.HashedRekordRequestV002) {
			h.Signature.Verifier.Verifier = &rekor.Verifier_X509Certificate{X509Certificate: &common.X509Certificate{RawBytes: []byte{0x30}}}
		}), 400, "parsing certificate"},
		"algorithm that the key has not": {change(func(h *rekor.HashedRekordRequestV002) {
			h.Signature.Verifier.KeyDetails = common.PublicKeyDetails_PKIX_RSA_PKCS1V15_2048_SHA256
		}), 400, "unsupported entry algorithm"},
		"algorithm unknown": {change(func(h *rekor.HashedRekordRequestV002) { h.Signature.Verifier.KeyDetails = 4711 }), 400, "keyDetails: got 4711"},
		"plain ed25519":     {wire(t, requestBy(t, public, common.PublicKeyDetails_PKIX_ED25519, sum[:], ed25519.Sign(private, sum[:]))), 400, "keyDetails: got PKIX_ED25519, want"},
		"dsse":              {`{"dsseRequestV002":{}}`, 400, ""},
		"unknown type":      {`{"intotoRequestV001":{}}`, 400, "unknown field"},
		"no type":           {`{}`, 400, "has no entry type"},
		"two types":         {`{"hashedRekordRequestV002":{},"hashedRekordRequestV002":{}}`, 400, "duplicate"},
		"unknown member":    {strings.Replace(entry, "{", `{"extra":1,`, 1), 400, "unknown field"},
		"not JSON":          {"digest=1", 400, "malformed request"},
		"empty":             {"", 400, "malformed request"},
		"truncated":         {entry[:len(entry)-1], 400, "malformed request"},
		"two documents":     {entry + entry, 400, "malformed request"},
		"deep":              {strings.Repeat("[", 100000), 400, "malformed request"},
		"too large":         {strings.Repeat(" ", maxRequest) + entry, 413, "more than 131072 bytes"},
		"too large for a tile": {change(func(h *rekor.HashedRekordRequestV002) {
			h.Signature.Content = append(h.Signature.GetContent(), make([]byte, 60<<10)...)
		}), 400, ""},
	} {
		resp, answer := post(t, r.url, c.body)
		if resp.StatusCode != c.status || !strings.Contains(answer, c.says) || strings.Contains(answer, "goroutine") {
			t.Errorf("%s: got %d %s, want %d with %q", name, resp.StatusCode, answer, c.status, c.says)
		}
	}
	if cp := r.checkpoint(t); cp.Size != 0 {
		t.Errorf("the log has %d entries, want none", cp.Size)
	}
	r.add(t, good)
}

// Sigstore's own code panics on some input; canonicalEntry must recover.
func TestPanicIsTheRequestsAlone(t *testing.T) {
	public, private, err := ed25519.GenerateKey(nil)
	if err != nil {
		t.Fatal(err)
	}
	sum := sha512.Sum512([]byte("text"))
	plain := wire(t, requestBy(t, public, common.PublicKeyDetails_PKIX_ED25519, sum[:], ed25519.Sign(private, sum[:])))
	_, _, err = canonicalEntry([]byte(plain), []common.PublicKeyDetails{common.PublicKeyDetails_PKIX_ED25519})
	if _, ok := errors.AsType[*panicked](err); !ok || err.Error() != "malformed entry" {
		t.Errorf("got %v, want a panic that is an error", err)
	}
}

// No request makes a parser panic, and accepted entries are in canonical form.
func FuzzRequest(f *testing.F) {
	good := wire(f, request(f, "good"))
	for _, seed := range []string{good, "{}", `{"dsseRequestV002":{}}`, strings.Replace(good, "PKIX_ECDSA_P256_SHA_256", "PKIX_ED25519_PH", 1)} {
		f.Add([]byte(seed))
	}
	f.Fuzz(func(t *testing.T, body []byte) {
		entry, kind, err := canonicalEntry(body, allowed)
		if p, ok := errors.AsType[*panicked](err); ok {
			t.Fatalf("%v\n%s", p.value, p.stack)
		}
		if err != nil {
			return
		}
		v := jsontext.Value(entry)
		if err := v.Canonicalize(); err != nil || string(v) != string(entry) || kind.GetKind() != "hashedrekord" {
			t.Errorf("entry %q of kind %q is not canonical: %q, %v", entry, kind.GetKind(), v, err)
		}
	})
}
