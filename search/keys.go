// Package search asks a transparency log which entries it has about something, in a way that
// shows that the answer is complete: spec/search/v1. Each entry has keys, which everybody can
// compute from its bytes. A prefix tree has the keys of all entries, and an index log commits
// to its root. Verify checks an answer; nothing in it is taken on trust but the key of the log.
package search

import (
	"bytes"
	"cmp"
	"crypto/sha256"
	"encoding/base64"
	"encoding/binary"
	"encoding/hex"
	"errors"
	"slices"
	"strings"

	"github.com/go-json-experiment/json"
	"github.com/go-json-experiment/json/jsontext"

	"github.com/colophon-build/colophon/internal/limits"
)

// Kind says what a key is about.
type Kind string

// The kinds of version 1.
const (
	Digest   Kind = "digest"   // digest that was signed: ALGORITHM:HEX
	Identity Kind = "identity" // subject alternative name of the certificate
	Issuer   Kind = "issuer"   // OIDC issuer in the certificate
	Source   Kind = "source"   // repository in the certificate
	Commit   Kind = "commit"   // commit in the certificate
	Ref      Kind = "ref"      // ref in the certificate
	KeyHash  Kind = "key"      // plain public key: sha256:HEX of its PKIX form
	Unparsed Kind = "unparsed" // entry that could not be read, or not fully; the value is empty
)

// Kinds returns the kinds of version 1.
func Kinds() []Kind { return []Kind{Digest, Identity, Issuer, Source, Commit, Ref, KeyHash, Unparsed} }

const (
	maxValue = 512 // bytes of a value; a longer one is replaced by its hash
	maxKeys  = 64  // keys of one entry; one with more has the key Unparsed alone
)

// Key is one key of an entry.
type Key struct {
	Kind  Kind
	Value string
}

// Prefix returns the bytes with which the tree's keys for k start: kind 0x00 value 0x00. A
// value of more than 512 bytes, or with a zero byte, is replaced by its SHA-256.
func (k Key) Prefix() []byte {
	value := k.Value
	if len(value) > maxValue || strings.Contains(value, "\x00") {
		value = hashName([]byte(value))
	}
	return []byte(string(k.Kind) + "\x00" + value + "\x00")
}

// At returns the tree's key of the entry at index: the prefix and the index, 64 bits
// big-endian.
func (k Key) At(index int64) []byte {
	return binary.BigEndian.AppendUint64(k.Prefix(), uint64(index))
}

func hashName(data []byte) string {
	sum := sha256.Sum256(data)
	return "sha256:" + hex.EncodeToString(sum[:])
}

// KeysOf returns the keys of an entry, sorted, at least one. It reads nothing but the entry,
// and never fails: an entry or a part of one that it cannot read has the key Unparsed.
func KeysOf(entry []byte) []Key {
	var c collector
	c.entry(entry)
	if len(c.keys) == 0 {
		c.unparsed()
	}
	slices.SortFunc(c.keys, func(a, b Key) int {
		return cmp.Or(strings.Compare(string(a.Kind), string(b.Kind)), strings.Compare(a.Value, b.Value))
	})
	c.keys = slices.Compact(c.keys)
	if len(c.keys) > maxKeys {
		return []Key{{Kind: Unparsed}}
	}
	return c.keys
}

// Certificates returns the certificates in an entry, DER, as far as it can be read. They are not
// verified, and may be malformed.
func Certificates(entry []byte) [][]byte {
	var c collector
	c.entry(entry)
	return c.certificates
}

// collector gathers the keys and certificates of one entry.
type collector struct {
	keys         []Key
	certificates [][]byte
}

func (c *collector) add(kind Kind, value string) {
	if value == "" {
		c.unparsed()
		return
	}
	c.keys = append(c.keys, Key{kind, value})
}

func (c *collector) unparsed() { c.keys = append(c.keys, Key{Kind: Unparsed}) }

// The entries that are read, those of Rekor v2 and the like of Rekor v1. Members that are not
// named here are ignored.
type (
	header struct {
		Kind    string         `json:"kind"`
		Version string         `json:"apiVersion"`
		Spec    jsontext.Value `json:"spec"`
	}
	hashedRekord2 struct {
		Record struct {
			Data      hash2 `json:"data"`
			Signature struct {
				Verifier verifier2 `json:"verifier"`
			} `json:"signature"`
		} `json:"hashedRekordV002"`
	}
	dsse2 struct {
		Record struct {
			PayloadHash hash2 `json:"payloadHash"`
			Signatures  []struct {
				Verifier verifier2 `json:"verifier"`
			} `json:"signatures"`
		} `json:"dsseV002"`
	}
	hash2 struct {
		Algorithm string `json:"algorithm"`
		Digest    string `json:"digest"` // base64
	}
	verifier2 struct {
		Key  raw `json:"publicKey"`
		Cert raw `json:"x509Certificate"`
	}
	raw struct {
		Bytes string `json:"rawBytes"` // base64 of DER
	}
	hashedRekord1 struct {
		Data struct {
			Hash hash1 `json:"hash"`
		} `json:"data"`
		Signature struct {
			Key struct {
				Content string `json:"content"` // base64 of PEM
			} `json:"publicKey"`
		} `json:"signature"`
	}
	dsse1 struct {
		EnvelopeHash hash1 `json:"envelopeHash"`
		PayloadHash  hash1 `json:"payloadHash"`
		Signatures   []struct {
			Verifier string `json:"verifier"` // base64 of PEM
		} `json:"signatures"`
	}
	hash1 struct {
		Algorithm string `json:"algorithm"`
		Value     string `json:"value"` // lower-case hex
	}
)

func (c *collector) entry(entry []byte) {
	var h header
	if tooDeep(entry) || json.Unmarshal(entry, &h) != nil {
		c.unparsed()
		return
	}
	var err error
	switch h.Kind + " " + h.Version {
	case "hashedrekord 0.0.2":
		var r hashedRekord2
		if err = json.Unmarshal(h.Spec, &r); err == nil {
			c.hash2(r.Record.Data)
			c.verifier2(r.Record.Signature.Verifier)
		}
	case "dsse 0.0.2":
		var r dsse2
		if err = json.Unmarshal(h.Spec, &r); err == nil {
			c.hash2(r.Record.PayloadHash)
			for _, s := range r.Record.Signatures {
				c.verifier2(s.Verifier)
			}
		}
	case "hashedrekord 0.0.1":
		var r hashedRekord1
		if err = json.Unmarshal(h.Spec, &r); err == nil {
			c.hash1(r.Data.Hash)
			c.verifier1(r.Signature.Key.Content)
		}
	case "dsse 0.0.1":
		var r dsse1
		if err = json.Unmarshal(h.Spec, &r); err == nil {
			c.hash1(r.EnvelopeHash)
			c.hash1(r.PayloadHash)
			for _, s := range r.Signatures {
				c.verifier1(s.Verifier)
			}
		}
	default:
		err = errors.New("unknown kind")
	}
	if err != nil {
		c.unparsed()
	}
}

// sizes are the digest sizes of the algorithms, in bytes.
var sizes = map[string]int{"sha256": 32, "sha384": 48, "sha512": 64, "sha3-256": 32, "sha3-384": 48}

var algorithms2 = map[string]string{
	"SHA2_256": "sha256", "SHA2_384": "sha384", "SHA2_512": "sha512", "SHA3_256": "sha3-256", "SHA3_384": "sha3-384",
}

// IsDigest reports whether entries can have this value as a key of the kind Digest.
func IsDigest(value string) bool {
	algorithm, digest, _ := strings.Cut(value, ":")
	var c collector
	c.hash1(hash1{algorithm, digest})
	return c.keys[0].Kind == Digest
}

func (c *collector) hash2(h hash2) {
	name := algorithms2[h.Algorithm]
	digest, err := decode(h.Digest)
	if name == "" || err != nil || len(digest) != sizes[name] {
		c.unparsed()
		return
	}
	c.add(Digest, name+":"+hex.EncodeToString(digest))
}

func (c *collector) hash1(h hash1) {
	digest, err := hex.DecodeString(h.Value)
	if err != nil || hex.EncodeToString(digest) != h.Value || sizes[h.Algorithm] != len(digest) || len(digest) == 0 {
		c.unparsed()
		return
	}
	c.add(Digest, h.Algorithm+":"+h.Value)
}

func (c *collector) verifier2(v verifier2) {
	if (v.Key.Bytes == "") == (v.Cert.Bytes == "") {
		c.unparsed()
		return
	}
	der, err := decode(v.Key.Bytes + v.Cert.Bytes)
	switch {
	case err != nil:
		c.unparsed()
	case v.Key.Bytes != "":
		c.add(KeyHash, hashName(der))
	default:
		c.certificate(der)
	}
}

func (c *collector) verifier1(content string) {
	text, err := decode(content)
	if err != nil {
		c.unparsed()
		return
	}
	if der, ok := unarmor(text, "CERTIFICATE"); ok {
		c.certificate(der)
	} else if der, ok := unarmor(text, "PUBLIC KEY"); ok {
		c.add(KeyHash, hashName(der))
	} else {
		c.unparsed()
	}
}

// unarmor reads one PEM block, without headers and without anything before or after it but
// one line feed.
func unarmor(text []byte, label string) (der []byte, ok bool) {
	rest, ok := bytes.CutPrefix(text, []byte("-----BEGIN "+label+"-----\n"))
	if !ok {
		return nil, false
	}
	rest, ok = bytes.CutSuffix(bytes.TrimSuffix(rest, []byte("\n")), []byte("\n-----END "+label+"-----"))
	if !ok {
		return nil, false
	}
	der, err := decode(string(bytes.ReplaceAll(rest, []byte("\n"), nil)))
	return der, err == nil
}

// decode decodes base64 with padding, of the standard alphabet, without line breaks and with
// unused bits that are zero.
func decode(s string) ([]byte, error) {
	if strings.ContainsAny(s, "\r\n") || s == "" {
		return nil, errors.New("not base64")
	}
	return base64.StdEncoding.Strict().DecodeString(s)
}

// tooDeep reports whether JSON is nested deeper than limits.JSONDepth.
func tooDeep(data []byte) bool {
	depth, quoted := 0, false
	for i := 0; i < len(data); i++ {
		switch b := data[i]; {
		case quoted && b == '\\':
			i++
		case b == '"':
			quoted = !quoted
		case quoted:
		case b == '{' || b == '[':
			if depth++; depth > limits.JSONDepth {
				return true
			}
		case b == '}' || b == ']':
			depth--
		}
	}
	return false
}
