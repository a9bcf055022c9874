package search

// The second implementation of independent_test.go reads entries here, from spec/search/v1 alone.

import (
	"bytes"
	"crypto/sha256"
	"encoding/asn1"
	"encoding/base64"
	"encoding/hex"
	"encoding/json"
	"errors"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"unicode/utf8"
)

// keysSecond returns the keys of an entry as kind and value, sorted.
func keysSecond(entry []byte) [][2]string {
	set := map[[2]string]bool{}
	add := func(kind, value string) {
		if value == "" {
			kind = "unparsed"
		}
		set[[2]string{kind, value}] = true
	}
	func() {
		defer func() {
			if p := recover(); p != nil {
				if _, expected := p.(error); !expected {
					panic(p)
				}
				add("unparsed", "")
			}
		}()
		entrySecond(entry, add)
	}()
	if len(set) == 0 || len(set) > 64 {
		return [][2]string{{"unparsed", ""}}
	}
	var out [][2]string
	for k := range set {
		out = append(out, k)
	}
	slices.SortFunc(out, func(a, b [2]string) int { return slices.Compare(a[:], b[:]) })
	return out
}

// value is JSON without what step 1 of the specification excludes.
type object map[string]any

func parseJSON(data []byte) any {
	must(utf8.Valid(data), "UTF-8")
	must(json.Valid(data), "JSON")
	for i := 0; i+6 <= len(data); i++ { // surrogates that are not a pair become U+FFFD
		must(!bytes.EqualFold(data[i:min(len(data), i+3)], []byte(`\ud`)) || !strings.Contains("89abAB", string(data[i+3])) || i+12 <= len(data) && bytes.EqualFold(data[i+6:i+9], []byte(`\ud`)), "surrogate")
	}
	d := json.NewDecoder(bytes.NewReader(data))
	d.UseNumber()
	var read func(depth int) any
	read = func(depth int) any {
		t, err := d.Token()
		must(err == nil, "JSON")
		delim, isDelim := t.(json.Delim)
		if !isDelim {
			return t
		}
		must(depth < 64, "nesting")
		if delim == '[' {
			list := []any{}
			for d.More() {
				list = append(list, read(depth+1))
			}
			_, _ = d.Token()
			return list
		}
		o := object{}
		for d.More() {
			name, err := d.Token()
			must(err == nil, "JSON")
			_, twice := o[name.(string)]
			must(!twice, "duplicate member")
			o[name.(string)] = read(depth + 1)
		}
		_, _ = d.Token()
		return o
	}
	return read(0)
}

func member(v any, names ...string) any {
	for _, name := range names {
		if v == nil {
			return nil
		}
		o, ok := v.(object)
		must(ok, "not an object")
		v = o[name]
	}
	return v
}

func text(v any) string {
	if v == nil {
		return ""
	}
	s, ok := v.(string)
	must(ok, "not a string")
	return s
}

func elements(v any) []any {
	if v == nil {
		return nil
	}
	list, ok := v.([]any)
	must(ok, "not an array")
	return list
}

func decodeSecond(s string) ([]byte, bool) {
	b, err := base64.StdEncoding.Strict().DecodeString(s)
	return b, err == nil && s != "" && base64.StdEncoding.EncodeToString(b) == s
}

func entrySecond(entry []byte, add func(kind, value string)) {
	v := parseJSON(entry)
	spec := member(v, "spec")
	// All types first: a wrong one makes the whole part unreadable.
	type digest struct{ algorithm, value string }
	type signer struct{ key, cert, pem string }
	var digests2, digests1 []digest
	var signers []signer
	verifier := func(v any) {
		signers = append(signers, signer{key: text(member(v, "publicKey", "rawBytes")), cert: text(member(v, "x509Certificate", "rawBytes"))})
	}
	switch text(member(v, "kind")) + " " + text(member(v, "apiVersion")) {
	case "hashedrekord 0.0.2":
		r := member(spec, "hashedRekordV002")
		digests2 = append(digests2, digest{text(member(r, "data", "algorithm")), text(member(r, "data", "digest"))})
		verifier(member(r, "signature", "verifier"))
	case "dsse 0.0.2":
		r := member(spec, "dsseV002")
		digests2 = append(digests2, digest{text(member(r, "payloadHash", "algorithm")), text(member(r, "payloadHash", "digest"))})
		for _, s := range elements(member(r, "signatures")) {
			verifier(member(s, "verifier"))
		}
	case "hashedrekord 0.0.1":
		digests1 = append(digests1, digest{text(member(spec, "data", "hash", "algorithm")), text(member(spec, "data", "hash", "value"))})
		signers = append(signers, signer{pem: text(member(spec, "signature", "publicKey", "content"))})
	case "dsse 0.0.1":
		for _, name := range []string{"envelopeHash", "payloadHash"} {
			digests1 = append(digests1, digest{text(member(spec, name, "algorithm")), text(member(spec, name, "value"))})
		}
		for _, s := range elements(member(spec, "signatures")) {
			signers = append(signers, signer{pem: text(member(s, "verifier"))})
		}
	default:
		panic(errors.New("unknown kind"))
	}
	lengths := map[string]int{"sha256": 32, "sha384": 48, "sha512": 64, "sha3-256": 32, "sha3-384": 48}
	for _, d := range digests2 {
		name := map[string]string{"SHA2_256": "sha256", "SHA2_384": "sha384", "SHA2_512": "sha512", "SHA3_256": "sha3-256", "SHA3_384": "sha3-384"}[d.algorithm]
		b, ok := decodeSecond(d.value)
		if !ok || name == "" || lengths[name] != len(b) {
			add("unparsed", "")
			continue
		}
		add("digest", name+":"+hex.EncodeToString(b))
	}
	for _, d := range digests1 {
		b, err := hex.DecodeString(d.value)
		if err != nil || strings.ToLower(d.value) != d.value || lengths[d.algorithm] != len(b) || len(b) == 0 {
			add("unparsed", "")
			continue
		}
		add("digest", d.algorithm+":"+d.value)
	}
	plain := func(der []byte) {
		sum := sha256.Sum256(der)
		add("key", "sha256:"+hex.EncodeToString(sum[:]))
	}
	for _, s := range signers {
		switch {
		case (s.key != "") && (s.cert != ""), s.key+s.cert+s.pem == "":
			add("unparsed", "")
		case s.pem != "":
			armored, ok := decodeSecond(s.pem)
			lines := strings.Split(strings.TrimSuffix(string(armored), "\n"), "\n")
			der, inner := decodeSecond(strings.Join(lines[min(1, len(lines)):max(1, len(lines)-1)], ""))
			label := strings.TrimSuffix(strings.TrimPrefix(lines[0], "-----BEGIN "), "-----")
			if !ok || !inner || len(lines) < 3 || lines[0] != "-----BEGIN "+label+"-----" || lines[len(lines)-1] != "-----END "+label+"-----" || label != "CERTIFICATE" && label != "PUBLIC KEY" {
				add("unparsed", "")
			} else if label == "CERTIFICATE" {
				certificateSecond(der, add)
			} else {
				plain(der)
			}
		default:
			der, ok := decodeSecond(s.key + s.cert)
			if !ok {
				add("unparsed", "")
			} else if s.cert != "" {
				certificateSecond(der, add)
			} else {
				plain(der)
			}
		}
	}
}

// certificateSecond reads certificates with the standard library. It serves for those that are
// well formed, and those that are not at all.
func certificateSecond(der []byte, add func(kind, value string)) {
	var cert struct {
		TBS struct {
			Version    int `asn1:"optional,explicit,tag:0,default:0"`
			Serial     asn1.RawValue
			Algorithm  asn1.RawValue
			Issuer     asn1.RawValue
			Validity   asn1.RawValue
			Subject    asn1.RawValue
			Key        asn1.RawValue
			Extensions []asn1.RawValue `asn1:"omitempty,optional,explicit,tag:3"`
		}
		Algorithm asn1.RawValue
		Signature asn1.BitString
	}
	count := 0
	give := func(kind, value string) { count++; add(kind, value) }
	rest, err := asn1.Unmarshal(der, &cert)
	if err != nil || len(rest) > 0 {
		give("unparsed", "")
		return
	}
	bare := map[string]string{"1": "issuer", "3": "commit", "6": "ref"}
	// A URI is found as verifiers read it.
	uris := func(kind, value string) {
		give(kind, value)
		if m := plainSecond.FindStringSubmatch(value); m == nil {
			give("unparsed", "")
		} else {
			give(kind, strings.ToLower(m[1])+value[len(m[1]):])
		}
	}
	servers, repositories := map[string]bool{"https://github.com/": true}, []string{}
	defer func() {
		for _, repository := range repositories {
			for server := range servers {
				uris("source", server+repository)
			}
		}
		if count == 0 {
			give("unparsed", "")
		}
	}()
	wrapped := map[string]string{"8": "issuer", "13": "commit", "14": "ref", "12": "source"}
	for _, extension := range cert.TBS.Extensions {
		var e struct {
			ID       asn1.RawValue
			Critical bool `asn1:"optional"`
			Value    []byte
		}
		rest, err := asn1.Unmarshal(extension.FullBytes, &e)
		if err != nil || len(rest) > 0 || e.ID.Class != 0 || e.ID.Tag != 6 || e.ID.IsCompound {
			give("unparsed", "")
			continue
		}
		n, ours := "", len(e.ID.Bytes) == 10 && hex.EncodeToString(e.ID.Bytes[:9]) == "2b0601040183bf3001"
		if ours {
			n = strconv.Itoa(int(e.ID.Bytes[9]))
		}
		switch {
		case hex.EncodeToString(e.ID.Bytes) == "551d11":
			var names []asn1.RawValue
			if rest, err := asn1.Unmarshal(e.Value, &names); err != nil || len(rest) > 0 {
				give("unparsed", "")
				continue
			}
			for _, name := range names {
				switch {
				case name.Class == 2 && !name.IsCompound && (name.Tag == 1 || name.Tag == 2):
					give("identity", string(name.Bytes))
				case name.Class == 2 && !name.IsCompound && name.Tag == 6:
					uris("identity", string(name.Bytes))
					if m := serverSecond.FindSubmatch(name.Bytes); m != nil && plainSecond.Match(name.Bytes) {
						servers["https://"+string(m[1])+"/"] = true
					}
				case name.Class == 2 && name.Tag == 0:
					var other struct {
						ID    asn1.ObjectIdentifier
						Value string `asn1:"explicit,tag:0,utf8"`
					}
					if rest, err := asn1.UnmarshalWithParams(name.FullBytes, &other, "tag:0"); err != nil || len(rest) > 0 || other.ID.String() != "1.3.6.1.4.1.57264.1.7" {
						give("unparsed", "")
						continue
					}
					give("identity", other.Value)
				default:
					give("unparsed", "")
				}
			}
		case ours && n == "5" && len(e.Value) > 0:
			repositories = append(repositories, string(e.Value))
		case ours && n == "5":
			give("unparsed", "")
		case ours && bare[n] != "":
			give(bare[n], string(e.Value))
		case ours && wrapped[n] != "":
			var s asn1.RawValue
			if rest, err := asn1.Unmarshal(e.Value, &s); err != nil || len(rest) > 0 || s.Class != 0 || s.Tag != 12 || s.IsCompound {
				give("unparsed", "")
				continue
			}
			if n == "12" {
				uris("source", string(s.Bytes))
			} else {
				give(wrapped[n], string(s.Bytes))
			}
		}
	}
}

const (
	noSlashSecond = `(?:[A-Za-z0-9._~:?@!$&'()*+,;=\[\]-]|%[0-9A-Fa-f]{2})`
	charSecond    = `(?:/|` + noSlashSecond + `)`
)

var (
	plainSecond  = regexp.MustCompile(`^([A-Za-z][A-Za-z0-9+.-]*):(?://[A-Za-z0-9._~:-]+(?:[/?]` + charSecond + `*)?|/?` + noSlashSecond + charSecond + `*|/?)(?:#` + charSecond + `+)?$`)
	serverSecond = regexp.MustCompile(`^(?i:https)://([^/?#]+)/`)
)
