package logtest

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/sha256"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/asn1"
	"encoding/base64"
	"encoding/binary"
	"fmt"
	"math/big"
	"net/url"
	"strings"
	"testing"
	"time"
)

// Repository returns the repository that entry i of Records is of.
func Repository(i int64) string { return fmt.Sprintf("https://github.com/team/app-%d", i%200) }

// RecordDigest returns the digest that was signed in entry i of Records.
func RecordDigest(i int64) [32]byte {
	return sha256.Sum256(binary.BigEndian.AppendUint64(nil, uint64(i)))
}

// Records returns what makes the entries of a large log: hashedrekords 0.0.2 of 200 repositories, of
// about 1.5 KB each, with six keys of spec/search/v1.
func Records(t testing.TB) func(i int64) []byte {
	t.Helper()
	b64 := base64.StdEncoding.EncodeToString
	var before, after [200]string // the digest
	for i := range before {
		text := fmt.Sprintf(`{"apiVersion":"0.0.2","kind":"hashedrekord","spec":{"hashedRekordV002":{"data":{"algorithm":"SHA2_256","digest":"\n"},"signature":{"content":"c2ln","verifier":{"keyDetails":"PKIX_ECDSA_P256_SHA_256","x509Certificate":{"rawBytes":%q}}}}}}`, b64(certificate(t, int64(i))))
		before[i], after[i], _ = strings.Cut(text, `\n`)
	}
	return func(i int64) []byte {
		digest := RecordDigest(i)
		return []byte(before[i%200] + b64(digest[:]) + after[i%200])
	}
}

func certificate(t testing.TB, i int64) []byte {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	u, err := url.Parse(Repository(i) + "/build@refs/heads/main")
	if err != nil {
		t.Fatal(err)
	}
	template := &x509.Certificate{SerialNumber: big.NewInt(1), NotBefore: time.Unix(1, 0), NotAfter: time.Unix(2, 0), URIs: []*url.URL{u}}
	for n, value := range map[int]string{8: "https://token.example", 12: Repository(i), 13: fmt.Sprintf("%040x", i), 14: "refs/heads/main"} {
		raw, err := asn1.MarshalWithParams(value, "utf8")
		if err != nil {
			t.Fatal(err)
		}
		template.ExtraExtensions = append(template.ExtraExtensions, pkix.Extension{Id: asn1.ObjectIdentifier{1, 3, 6, 1, 4, 1, 57264, 1, n}, Value: raw})
	}
	der, err := x509.CreateCertificate(rand.Reader, template, template, key.Public(), key)
	if err != nil {
		t.Fatal(err)
	}
	return der
}
