package bundle_test

import (
	"bytes"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/sha256"
	"crypto/x509"
	"encoding/base64"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/secure-systems-lab/go-securesystemslib/dsse"
	"github.com/sigstore/sigstore/pkg/cryptoutils"

	"github.com/colophon-build/colophon/attest"
	"github.com/colophon-build/colophon/bundle"
	"github.com/colophon-build/colophon/trust"
)

// oldLog is a Rekor v1 log with one entry, a statement that a key signed.
type oldLog struct {
	t                  *testing.T
	signer, logger     *ecdsa.PrivateKey
	payload, sig       []byte
	kind, version      string
	origin, host       string
	digest             []byte // of the entry; nil for the right one
	entrySig, entryKey []byte // of the entry; nil for the right ones
}

func newOldLog(t *testing.T, kind, version, origin string) *oldLog {
	l := &oldLog{t: t, kind: kind, version: version, origin: origin, host: "rekor.test"}
	for _, k := range []**ecdsa.PrivateKey{&l.signer, &l.logger} {
		var err error
		if *k, err = ecdsa.GenerateKey(elliptic.P256(), rand.Reader); err != nil {
			t.Fatal(err)
		}
	}
	l.payload = []byte(`{"_type":"https://in-toto.io/Statement/v1","subject":[{"name":"a","digest":{"sha256":"` + strings.Repeat("ab", 32) + `"}}],"predicateType":"https://example.com/test","predicate":{}}`)
	l.sig = l.sign(l.signer, dsse.PAE(attest.PayloadType, l.payload))
	return l
}

func (l *oldLog) sign(k *ecdsa.PrivateKey, data []byte) []byte {
	sum := sha256.Sum256(data)
	sig, err := ecdsa.SignASN1(rand.Reader, k, sum[:])
	if err != nil {
		l.t.Fatal(err)
	}
	return sig
}

func (l *oldLog) json(v any) []byte {
	raw, err := json.Marshal(v)
	if err != nil {
		l.t.Fatal(err)
	}
	return raw
}

// body returns the entry's canonical body.
func (l *oldLog) body() []byte {
	pem, err := cryptoutils.MarshalPublicKeyToPEM(&l.signer.PublicKey)
	if err != nil {
		l.t.Fatal(err)
	}
	sig := l.sig
	if l.entrySig != nil {
		sig = l.entrySig
	}
	if l.entryKey != nil {
		pem = l.entryKey
	}
	signed := sha256.Sum256(dsse.PAE(attest.PayloadType, l.payload))
	payload := sha256.Sum256(l.payload)
	digest := payload[:]
	if l.kind == "hashedrekord" {
		digest = signed[:]
	}
	if l.digest != nil {
		digest = l.digest
	}
	sum := map[string]any{"algorithm": "sha256", "value": hex.EncodeToString(digest)}
	var spec map[string]any
	switch l.kind {
	case "hashedrekord":
		spec = map[string]any{"data": map[string]any{"hash": sum}, "signature": map[string]any{"content": sig, "publicKey": map[string]any{"content": pem}}}
	case "dsse":
		spec = map[string]any{"envelopeHash": sum, "payloadHash": sum, "signatures": []any{map[string]any{"signature": base64.StdEncoding.EncodeToString(sig), "verifier": pem}}}
	}
	return l.json(map[string]any{"apiVersion": l.version, "kind": l.kind, "spec": spec})
}

func (l *oldLog) bundle() []byte {
	body := l.body()
	rootHash := sha256.Sum256(append([]byte{0}, body...))
	spki, err := x509.MarshalPKIXPublicKey(&l.logger.PublicKey)
	if err != nil {
		l.t.Fatal(err)
	}
	id := sha256.Sum256(spki)
	text := fmt.Sprintf("%s\n1\n%s\n", l.origin, base64.StdEncoding.EncodeToString(rootHash[:]))
	name, _, _ := strings.Cut(l.origin, " ")
	note := fmt.Sprintf("%s\n\u2014 %s %s\n", text, name, base64.StdEncoding.EncodeToString(append(id[:4:4], l.sign(l.logger, []byte(text))...)))
	return l.json(map[string]any{
		"mediaType": attest.BundleMediaType,
		"verificationMaterial": map[string]any{
			"publicKey": map[string]any{"hint": "x"},
			"tlogEntries": []any{map[string]any{
				"logIndex": "0", "logId": map[string]any{"keyId": id[:]}, "kindVersion": map[string]any{"kind": l.kind, "version": l.version}, "integratedTime": "0",
				"inclusionProof":    map[string]any{"logIndex": "0", "rootHash": rootHash[:], "treeSize": "1", "checkpoint": map[string]any{"envelope": note}},
				"canonicalizedBody": body,
			}},
		},
		"dsseEnvelope": map[string]any{"payload": l.payload, "payloadType": attest.PayloadType, "signatures": []any{map[string]any{"sig": l.sig}}},
	})
}

func (l *oldLog) verify(raw []byte) error {
	spki, err := x509.MarshalPKIXPublicKey(&l.logger.PublicKey)
	if err != nil {
		l.t.Fatal(err)
	}
	id := sha256.Sum256(spki)
	material, err := trust.ParseMaterial(l.json(map[string]any{
		"mediaType": "application/vnd.dev.sigstore.trustedroot+json;version=0.1",
		"tlogs": []any{map[string]any{"baseUrl": "https://" + l.host, "hashAlgorithm": "SHA2_256", "logId": map[string]any{"keyId": id[:]},
			"publicKey": map[string]any{"rawBytes": spki, "keyDetails": "PKIX_ECDSA_P256_SHA_256", "validFor": map[string]any{"start": "2020-01-01T00:00:00Z"}}}},
	}))
	if err != nil {
		l.t.Fatal(err)
	}
	subject := sha256Of(nil)
	subject.Hex = strings.Repeat("ab", 32)
	_, err = bundle.Artifact(raw, bundle.Subject{Digest: subject}, bundle.Signer{Key: &l.signer.PublicKey}, material, time.Now())
	return err
}

// Entries that Sigstore's client specification allows, but sigstore-go cannot read, are
// accepted; entries about something else are not.
func TestOddRekor1(t *testing.T) {
	for name, l := range map[string][3]string{
		"envelope as hashedrekord":              {"hashedrekord", "0.0.1", "rekor.test - 12"},
		"checkpoint without a tree":             {"dsse", "0.0.1", "rekor.test"},
		"envelope as hashedrekord, and no tree": {"hashedrekord", "0.0.1", "rekor.test"},
		"dsse, as sigstore-go reads it":         {"dsse", "0.0.1", "rekor.test - 12"},
	} {
		t.Run(name, func(t *testing.T) {
			good := newOldLog(t, l[0], l[1], l[2])
			if err := good.verify(good.bundle()); err != nil {
				t.Fatal(err)
			}
			stranger := newOldLog(t, l[0], l[1], l[2])
			pem, err := cryptoutils.MarshalPublicKeyToPEM(&stranger.signer.PublicKey)
			if err != nil {
				t.Fatal(err)
			}
			for attack, bend := range map[string]func(*oldLog) []byte{
				"digest of something else": func(l *oldLog) []byte { l.digest = bytes.Repeat([]byte{1}, 32); return l.bundle() },
				"another signature": func(l *oldLog) []byte {
					l.entrySig = l.sign(l.signer, dsse.PAE(attest.PayloadType, l.payload))
					return l.bundle()
				},
				"another key": func(l *oldLog) []byte { l.entryKey = pem; return l.bundle() },
				"a bad signature": func(l *oldLog) []byte {
					l.sig = l.sign(stranger.signer, dsse.PAE(attest.PayloadType, l.payload))
					return l.bundle()
				},
				"another log's checkpoint": func(l *oldLog) []byte {
					key := l.logger
					l.logger = stranger.logger
					raw := l.bundle()
					l.logger = key
					return raw
				},
				"another root": func(l *oldLog) []byte {
					raw := l.bundle()
					was := l.payload
					l.payload = bytes.Replace(was, []byte("example.com"), []byte("example.org"), 1)
					l.sig = l.sign(l.signer, dsse.PAE(attest.PayloadType, l.payload))
					var a, b map[string]any
					if json.Unmarshal(raw, &a) != nil || json.Unmarshal(l.bundle(), &b) != nil {
						l.t.Fatal("not JSON")
					}
					// The entry of now, under the checkpoint of then.
					entry := func(m map[string]any) map[string]any {
						return m["verificationMaterial"].(map[string]any)["tlogEntries"].([]any)[0].(map[string]any)
					}
					entry(b)["inclusionProof"] = entry(a)["inclusionProof"]
					return l.json(b)
				},
				"no log": func(l *oldLog) []byte {
					var m map[string]any
					if json.Unmarshal(l.bundle(), &m) != nil {
						l.t.Fatal("not JSON")
					}
					delete(m["verificationMaterial"].(map[string]any), "tlogEntries")
					return l.json(m)
				},
			} {
				l := *good
				if err := l.verify(bend(&l)); err == nil {
					t.Errorf("%s: verifies", attack)
				}
			}
		})
	}
	other := newOldLog(t, "dsse", "0.0.1", "rekor.test")
	other.host = "rekor.example"
	if err := other.verify(other.bundle()); err == nil {
		t.Error("a checkpoint of another origin verifies")
	}
}
