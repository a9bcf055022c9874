package search

// This file verifies answers a second time. It was written from spec/search/v1 alone, with
// the standard library alone, and shares no code with the packages that it checks.

import (
	"bytes"
	"crypto/ed25519"
	"crypto/sha256"
	"encoding/asn1"
	"encoding/base64"
	"encoding/binary"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"regexp"
	"sort"
	"strconv"
	"strings"
	"unicode/utf8"
)

// second is what the second implementation finds in an answer.
type second struct {
	indexes      []int64
	total        int64
	indexed, all int64
}

type secondAnswer struct {
	To      *int64
	Entries []struct {
		Index int64
		Body  []byte
		InLog [][]byte
	}
	Proof           []byte
	Index           int64
	Leaf            []byte
	InIndex         [][]byte
	IndexCheckpoint string
	Checkpoint      string
	Extends         [][]byte
}

func must(ok bool, what string) {
	if !ok {
		panic(errors.New(what))
	}
}

// verifySecond verifies an answer.
func verifySecond(raw []byte, kind, value string, from int64, origin string, key ed25519.PublicKey) (found second, err error) {
	defer func() {
		switch p := recover().(type) {
		case nil:
		case error:
			err = p
		default:
			panic(p)
		}
	}()
	var a secondAnswer
	if err := json.Unmarshal(raw, &a); err != nil {
		return found, err
	}
	indexSize, indexRoot := openNote(a.IndexCheckpoint, origin+"/index", key)
	must(a.Index == indexSize-1, "not the last entry of the index log")
	must(bytes.Equal(included(hash(0, a.Leaf), a.Index, indexSize, a.InIndex), indexRoot), "the leaf is not in the index log")
	parts := strings.SplitN(string(a.Leaf), "\n", 5)
	must(len(parts) == 5 && parts[0] == "colophon search index v1" && parts[3] == "", "leaf")
	root, err := base64.StdEncoding.Strict().DecodeString(parts[1])
	must(err == nil && len(root) == 32, "root in the leaf")
	keys, err := strconv.ParseInt(parts[2], 10, 64)
	must(err == nil && keys >= 0 && strconv.FormatInt(keys, 10) == parts[2], "keys in the leaf")
	size, logRoot := openNote(parts[4], origin, key)
	all, newest := openNote(a.Checkpoint, origin, key)
	consistent(size, logRoot, all, newest, a.Extends)

	prefix := []byte(kind + "\x00" + value + "\x00")
	if len(value) > 512 || strings.Contains(value, "\x00") {
		sum := sha256.Sum256([]byte(value))
		prefix = []byte(kind + "\x00sha256:" + hex.EncodeToString(sum[:]) + "\x00")
	}
	p := &secondProof{rest: a.Proof, prefix: prefix, lo: be64(prefix, from)}
	if a.To != nil {
		must(*a.To > from && *a.To < size, "to")
		p.hi = be64(prefix, *a.To)
	}
	if len(a.Proof) == 0 {
		must(bytes.Equal(root, emptyHash()), "no proof")
	} else {
		got, _ := p.tree("", false)
		must(bytes.Equal(got, root), "root of the map")
		must(len(p.rest) == 0, "bytes left over")
	}
	must(len(p.found) == len(a.Entries), "number of entries")
	for i, e := range a.Entries {
		must(e.Index >= 0 && bytes.Equal(p.found[i], be64(prefix, e.Index)), "index of an entry")
		must(bytes.Equal(included(hash(0, e.Body), e.Index, size, e.InLog), logRoot), "an entry is not in the log")
		has := false
		for _, k := range keysSecond(e.Body) {
			has = has || bytes.Equal(be64([]byte(k[0]+"\x00"+k[1]+"\x00"), e.Index), p.found[i])
		}
		must(has, "an entry without the key")
		found.indexes = append(found.indexes, e.Index)
	}
	found.total, found.indexed, found.all = p.total, size, all
	return found, nil
}

func emptyHash() []byte { h := sha256.Sum256(nil); return h[:] }

func hash(tag byte, parts ...[]byte) []byte {
	h := sha256.Sum256(append([]byte{tag}, bytes.Join(parts, nil)...))
	return h[:]
}

func be64(prefix []byte, i int64) []byte {
	out := append([]byte(nil), prefix...)
	for shift := 56; shift >= 0; shift -= 8 {
		out = append(out, byte(i>>shift))
	}
	return out
}

// openNote reads a signed note: C2SP signed-note and tlog-checkpoint.
func openNote(signed, origin string, key ed25519.PublicKey) (int64, []byte) {
	at := strings.LastIndex(signed, "\n\n")
	must(at > 0, "note")
	text := signed[:at+1]
	id := sha256.Sum256([]byte(origin + "\n\x01" + string(key)))
	good := false
	for _, line := range strings.Split(strings.TrimSuffix(signed[at+2:], "\n"), "\n") {
		name, sig, _ := strings.Cut(strings.TrimPrefix(line, "— "), " ")
		raw, err := base64.StdEncoding.DecodeString(sig)
		if err == nil && name == origin && len(raw) > 4 && bytes.Equal(raw[:4], id[:4]) {
			must(ed25519.Verify(key, []byte(text), raw[4:]), "signature")
			good = true
		}
	}
	must(good, "not signed by "+origin)
	lines := strings.Split(text, "\n")
	must(len(lines) >= 4 && lines[0] == origin, "origin")
	size, err := strconv.ParseInt(lines[1], 10, 64)
	must(err == nil && size >= 0, "size")
	root, err := base64.StdEncoding.DecodeString(lines[2])
	must(err == nil && len(root) == 32, "root")
	return size, root
}

// included is RFC 9162, 2.1.3.2: the root to which an inclusion proof leads.
func included(leaf []byte, index, size int64, proof [][]byte) []byte {
	must(index >= 0 && index < size, "index")
	fn, sn, r := index, size-1, leaf
	for _, p := range proof {
		must(sn != 0 && len(p) == 32, "inclusion proof")
		if fn&1 == 1 || fn == sn {
			r = hash(1, p, r)
			for fn&1 == 0 && fn != 0 {
				fn, sn = fn>>1, sn>>1
			}
		} else {
			r = hash(1, r, p)
		}
		fn, sn = fn>>1, sn>>1
	}
	must(sn == 0, "inclusion proof is too short")
	return r
}

// consistent is RFC 9162, 2.1.4.2.
func consistent(first int64, firstRoot []byte, second int64, secondRoot []byte, proof [][]byte) {
	must(first <= second, "the log has shrunk")
	if first == second || first == 0 {
		must(len(proof) == 0 && (first == 0 || bytes.Equal(firstRoot, secondRoot)), "consistency")
		return
	}
	if first&(first-1) == 0 {
		proof = append([][]byte{firstRoot}, proof...)
	}
	must(len(proof) > 0, "consistency proof")
	fn, sn := first-1, second-1
	for fn&1 == 1 {
		fn, sn = fn>>1, sn>>1
	}
	fr, sr := proof[0], proof[0]
	for _, c := range proof[1:] {
		must(sn != 0 && len(c) == 32, "consistency proof")
		if fn&1 == 1 || fn == sn {
			fr, sr = hash(1, c, fr), hash(1, c, sr)
			for fn&1 == 0 && fn != 0 {
				fn, sn = fn>>1, sn>>1
			}
		} else {
			sr = hash(1, sr, c)
		}
		fn, sn = fn>>1, sn>>1
	}
	must(sn == 0 && bytes.Equal(fr, firstRoot) && bytes.Equal(sr, secondRoot), "the log was changed")
}

// secondProof reads a proof. Bits are strings of "0" and "1", to be slow and plain.
type secondProof struct {
	rest, prefix, lo, hi []byte
	found                [][]byte
	total                int64
}

func bitsOf(b []byte) string {
	var s strings.Builder
	for _, x := range b {
		fmt.Fprintf(&s, "%08b", x)
	}
	return s.String()
}

func bytesOf(bits string) []byte {
	for len(bits)%8 != 0 {
		bits += "0"
	}
	out := make([]byte, len(bits)/8)
	for i := range bits {
		out[i/8] |= (bits[i] - '0') << (7 - i%8)
	}
	return out
}

// outside reports whether no byte string that starts with these bits is in the range.
func (p *secondProof) outside(bits string) bool {
	within := func(edge string) (string, string) {
		n := min(len(bits), len(edge))
		return bits[:n], edge[:n]
	}
	if a, b := within(bitsOf(p.prefix)); a != b {
		return true
	}
	if a, b := within(bitsOf(p.lo)); a < b {
		return true
	}
	if p.hi == nil {
		return false
	}
	edge := bitsOf(p.hi)
	a, b := within(edge)
	return a > b || a == b && len(bits) >= len(edge)
}

func (p *secondProof) take(n int64) []byte {
	must(n >= 0 && n <= int64(len(p.rest)), "the proof ends early")
	out := p.rest[:n]
	p.rest = p.rest[n:]
	return out
}

func (p *secondProof) number() int64 {
	var x uint64
	for shift := 0; ; shift += 7 {
		b := p.take(1)[0]
		must(shift < 63 && (shift == 0 || b != 0), "LEB128")
		x |= uint64(b&0x7f) << shift
		if b < 0x80 {
			return int64(x)
		}
	}
}

func (p *secondProof) tree(known string, counted bool) (root []byte, keys int64) {
	whole := bytesOf(known[:len(known)/8*8])
	switch p.take(1)[0] {
	case 0:
		root = p.take(32)
		must(p.outside(known), "hidden keys can be in the range")
		return root, 1
	case 1:
		m := p.number()
		must(m >= 1, "no keys")
		var list [][]byte
		for range m {
			key := append(append([]byte(nil), whole...), p.take(p.number())...)
			must(len(key) <= 1024 && strings.HasPrefix(bitsOf(key), known), "a key elsewhere")
			if len(list) > 0 {
				last := list[len(list)-1]
				must(bytes.Compare(last, key) < 0 && !bytes.HasPrefix(key, last), "order of keys")
			}
			list = append(list, key)
			if bytes.HasPrefix(key, p.prefix) {
				if !counted {
					p.total++
				}
				if bytes.Compare(key, p.lo) >= 0 && (p.hi == nil || bytes.Compare(key, p.hi) < 0) {
					p.found = append(p.found, key)
				}
			}
		}
		return rootSecond(list), m
	case 2:
		depth := int64(len(known)) + p.number()
		must(depth <= 8191, "depth")
		n := p.number()
		shown := bitsOf(append(append([]byte(nil), whole...), p.take((depth+7)/8-int64(len(whole)))...))
		must(!strings.Contains(shown[depth:], "1"), "filling")
		path := shown[:depth]
		must(strings.HasPrefix(path, known), "a node elsewhere")
		if !counted && strings.HasPrefix(path, bitsOf(p.prefix)) {
			p.total, counted = p.total+n, true
		}
		left, inLeft := p.tree(path+"0", counted)
		right, inRight := p.tree(path+"1", counted)
		must(n >= inLeft+inRight, "number of keys")
		return nodeSecond(path, n, left, right), n
	}
	panic(errors.New("kind of subtree"))
}

func nodeSecond(path string, n int64, left, right []byte) []byte {
	return hash(1, binary.BigEndian.AppendUint16(nil, uint16(len(path))), be64(nil, n), bytesOf(path), left, right)
}

func rootSecond(keys [][]byte) []byte {
	switch len(keys) {
	case 0:
		return emptyHash()
	case 1:
		return hash(0, keys[0])
	}
	first, last := bitsOf(keys[0]), bitsOf(keys[len(keys)-1])
	d := 0
	for first[d] == last[d] {
		d++
	}
	at := sort.Search(len(keys), func(i int) bool { return bitsOf(keys[i])[d] == '1' })
	return nodeSecond(first[:d], int64(len(keys)), rootSecond(keys[:at]), rootSecond(keys[at:]))
}

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
	sort.Slice(out, func(i, j int) bool { return out[i][0]+"\x00"+out[i][1] < out[j][0]+"\x00"+out[j][1] })
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
