package search

import (
	"bytes"
	"crypto/ed25519"
	"crypto/x509/pkix"
	"encoding/asn1"
	"encoding/base64"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"os"
	"strings"
	"testing"

	"github.com/colophon-build/colophon/tlog/prefix"
)

const spec = "../spec/search/v1/"

// keyVector is one case of keys.json.
type keyVector struct {
	Name  string      `json:"name"`
	Entry []byte      `json:"entry"`          // base64
	Keys  [][2]string `json:"keys"`           // kind and value, sorted
	Map   []string    `json:"map"`            // keys of the map if the entry has index 1842, hex
	From  string      `json:"from,omitempty"` // where the entry comes from
}

func keyVectors(t testing.TB) (cases []keyVector) {
	full := map[int]string{1: "https://token.example", 3: "old", 6: "refs/heads/old", 8: "https://token.example", 12: "https://git.example/app", 13: "381e42a", 14: "refs/tags/v1"}
	cert := certificate(t, "https://git.example/app/build@refs/tags/v1", full)
	digest := bytes.Repeat([]byte{0xab}, 32)
	good := string(record(digest, "x509Certificate", cert))
	pem := func(label string, der []byte) string {
		return base64.StdEncoding.EncodeToString([]byte("-----BEGIN " + label + "-----\n" + base64.StdEncoding.EncodeToString(der) + "\n-----END " + label + "-----\n"))
	}
	many := make([]asn1.RawValue, 70)
	for i := range many {
		many[i] = asn1.RawValue{Class: 2, Tag: 6, Bytes: fmt.Appendf(nil, "urn:%d", i)}
	}
	names := func(list ...asn1.RawValue) pkix.Extension {
		der, err := asn1.Marshal(list)
		if err != nil {
			t.Fatal(err)
		}
		return pkix.Extension{Id: asn1.ObjectIdentifier{2, 5, 29, 17}, Value: der}
	}
	with := func(e ...pkix.Extension) string {
		return string(record(digest, "x509Certificate", certificate(t, "", nil, e...)))
	}
	user, err := asn1.MarshalWithParams(struct {
		ID    asn1.ObjectIdentifier
		Value string `asn1:"explicit,tag:0,utf8"`
	}{asn1.ObjectIdentifier{1, 3, 6, 1, 4, 1, 57264, 1, 7}, "robot@team.example"}, "tag:0")
	if err != nil {
		t.Fatal(err)
	}
	fulcio := func(n int, value []byte) pkix.Extension {
		return pkix.Extension{Id: asn1.ObjectIdentifier{1, 3, 6, 1, 4, 1, 57264, 1, n}, Value: value}
	}
	for _, c := range []struct{ name, entry string }{
		{"certificate", good},
		{"mail address", string(record(digest, "x509Certificate", certificate(t, "dev@team.example", map[int]string{8: "https://accounts.example"})))},
		{"user name", with(pkix.Extension{Id: asn1.ObjectIdentifier{2, 5, 29, 17}, Critical: true, Value: append([]byte{0x30, byte(len(user))}, user...)})},
		{"two names", with(names(asn1.RawValue{Class: 2, Tag: 2, Bytes: []byte("team.example")}, asn1.RawValue{Class: 2, Tag: 1, Bytes: []byte("Dev@Team.example")}))},
		{"a name of another kind", with(names(asn1.RawValue{Class: 2, Tag: 7, Bytes: []byte{127, 0, 0, 1}}, asn1.RawValue{Class: 2, Tag: 6, Bytes: []byte("urn:x")}))},
		{"an empty name", with(names(asn1.RawValue{Class: 2, Tag: 6, Bytes: []byte{}}))},
		{"70 names", with(names(many...))},
		{"a long name", with(names(asn1.RawValue{Class: 2, Tag: 6, Bytes: bytes.Repeat([]byte("u"), 513)}))},
		{"a name with a zero byte", with(names(asn1.RawValue{Class: 2, Tag: 6, Bytes: []byte("https://git.example\x00.evil.example")}))},
		{"a scheme in capitals", with(names(asn1.RawValue{Class: 2, Tag: 6, Bytes: []byte("HTTPS://git.example/App%2fx?y#z")}), fulcio(12, append([]byte{12, 14}, "Git+ssh://a/b/"...)))},
		{"a URI that parsers change", with(names(asn1.RawValue{Class: 2, Tag: 6, Bytes: []byte("https://git.example/#")}))},
		{"a URI without a scheme", with(names(asn1.RawValue{Class: 2, Tag: 6, Bytes: []byte("git.example/app")}))},
		{"GitHub's old repository", with(fulcio(1, []byte("https://token.example")), fulcio(5, []byte("team/app")))},
		{"GitHub's old repository before the name of a server", with(fulcio(5, []byte("team/app")), names(asn1.RawValue{Class: 2, Tag: 6, Bytes: []byte("HTTPS://team.ghe.com/team/app/.github/workflows/x.yml@refs/heads/main")}, asn1.RawValue{Class: 2, Tag: 6, Bytes: []byte("https://no.path")}))},
		{"GitHub's old repository with a blank", with(fulcio(5, []byte("team/a pp")))},
		{"an empty old repository", with(fulcio(5, nil), fulcio(1, []byte("https://token.example")))},
		{"an old repository before extensions that cannot be read", string(record(digest, "x509Certificate", bytes.Replace(certificate(t, "", nil, fulcio(5, []byte("team/app")), pkix.Extension{Id: asn1.ObjectIdentifier{1, 2, 3, 4}, Value: []byte("x")}), []byte{6, 3, 0x2a, 3, 4}, []byte{4, 3, 0x2a, 3, 4}, 1)))},
		{"a source that is no UTF8String", with(fulcio(12, []byte("https://git.example/app")), fulcio(13, []byte{12, 1, 'c'}))},
		{"a source with more behind it", with(fulcio(12, []byte{12, 1, 's', 0}), fulcio(13, []byte{12, 1, 'c'}))},
		{"a certificate of nobody", with()},
		{"an extension with a large number in its identifier", with(pkix.Extension{Id: asn1.ObjectIdentifier{2, 25, 1 << 60}, Value: []byte("x")}, names(asn1.RawValue{Class: 2, Tag: 6, Bytes: []byte("urn:x")}))},
		{"an extension that cannot be read before others", string(record(digest, "x509Certificate", bytes.Replace(certificate(t, "", nil, pkix.Extension{Id: asn1.ObjectIdentifier{1, 2, 3, 4}, Value: []byte("x")}, names(asn1.RawValue{Class: 2, Tag: 6, Bytes: []byte("urn:x")})), []byte{6, 3, 0x2a, 3, 4}, []byte{4, 3, 0x2a, 3, 4}, 1)))},
		{"an extension that is no sequence before others", string(record(digest, "x509Certificate", bytes.Replace(certificate(t, "", nil, pkix.Extension{Id: asn1.ObjectIdentifier{1, 2, 3, 4}, Value: []byte("x")}, names(asn1.RawValue{Class: 2, Tag: 6, Bytes: []byte("urn:x")})), []byte{0x30, 8, 6, 3, 0x2a, 3, 4}, []byte{0x31, 8, 6, 3, 0x2a, 3, 4}, 1)))},
		{"a certificate that is cut", string(record(digest, "x509Certificate", cert[:len(cert)-1]))},
		{"a certificate with more behind it", string(record(digest, "x509Certificate", append(bytes.Clone(cert), 0)))},
		{"public key", string(record(digest, "publicKey", []byte("any bytes")))},
		{"no signer", string(record(digest, "other", []byte("x")))},
		{"two signers", strings.Replace(good, `"x509Certificate"`, `"publicKey":{"rawBytes":"eA=="},"x509Certificate"`, 1)},
		{"a digest that is too short", string(record(digest[:31], "x509Certificate", cert))},
		{"an unknown algorithm", strings.Replace(good, "SHA2_256", "MD5", 1)},
		{"SHA-512", strings.Replace(string(record(bytes.Repeat(digest, 2), "publicKey", []byte("k"))), "SHA2_256", "SHA2_512", 1)},
		{"base64 without padding", strings.Replace(string(record(digest, "publicKey", []byte("kk"))), `"a2s="`, `"a2s"`, 1)},
		{"base64 with a line feed", strings.Replace(string(record(digest, "publicKey", []byte("kk"))), `"a2s="`, `"a2s=\n"`, 1)},
		{"base64 with unused bits", strings.Replace(string(record(digest, "publicKey", []byte("kk"))), `"a2s="`, `"a2t="`, 1)},
		{"dsse 0.0.2", `{"kind":"dsse","apiVersion":"0.0.2","spec":{"dsseV002":{"payloadHash":{"algorithm":"SHA2_256","digest":"` + base64.StdEncoding.EncodeToString(digest) + `"},"signatures":[{"content":"","verifier":{"publicKey":{"rawBytes":"a2s="}}},{"content":"","verifier":{"x509Certificate":{"rawBytes":"` + base64.StdEncoding.EncodeToString(cert) + `"}}}]}}}`},
		{"dsse 0.0.2 without signatures", `{"kind":"dsse","apiVersion":"0.0.2","spec":{"dsseV002":{"payloadHash":{"algorithm":"SHA2_256","digest":"` + base64.StdEncoding.EncodeToString(digest) + `"}}}}`},
		{"hashedrekord 0.0.1", `{"kind":"hashedrekord","apiVersion":"0.0.1","spec":{"data":{"hash":{"algorithm":"sha256","value":"` + hex.EncodeToString(digest) + `"}},"signature":{"content":"","publicKey":{"content":"` + pem("CERTIFICATE", cert) + `"}}}}`},
		{"hashedrekord 0.0.1 with a key", `{"kind":"hashedrekord","apiVersion":"0.0.1","spec":{"data":{"hash":{"algorithm":"sha256","value":"` + hex.EncodeToString(digest) + `"}},"signature":{"content":"","publicKey":{"content":"` + pem("PUBLIC KEY", []byte("kk")) + `"}}}}`},
		{"hashedrekord 0.0.1 with a private key", `{"kind":"hashedrekord","apiVersion":"0.0.1","spec":{"data":{"hash":{"algorithm":"sha256","value":"` + hex.EncodeToString(digest) + `"}},"signature":{"content":"","publicKey":{"content":"` + pem("PRIVATE KEY", []byte("kk")) + `"}}}}`},
		{"hashedrekord 0.0.1 in capitals", `{"kind":"hashedrekord","apiVersion":"0.0.1","spec":{"data":{"hash":{"algorithm":"sha256","value":"` + strings.ToUpper(hex.EncodeToString(digest)) + `"}},"signature":{"content":"","publicKey":{"content":"` + pem("PUBLIC KEY", []byte("kk")) + `"}}}}`},
		{"dsse 0.0.1", `{"kind":"dsse","apiVersion":"0.0.1","spec":{"envelopeHash":{"algorithm":"sha256","value":"` + hex.EncodeToString(digest) + `"},"payloadHash":{"algorithm":"sha256","value":"` + strings.Repeat("01", 32) + `"},"signatures":[{"signature":"","verifier":"` + pem("CERTIFICATE", cert) + `"}]}}`},
		{"an unknown kind", strings.Replace(good, "hashedrekord", "helm", 1)},
		{"an unknown version", strings.Replace(good, "0.0.2", "0.0.3", 1)},
		{"a kind that is a number", strings.Replace(good, `"hashedrekord"`, `7`, 1)},
		{"a member of another type", strings.Replace(good, `"SHA2_256"`, `[]`, 1)},
		{"a member in another case", strings.Replace(good, `"digest"`, `"Digest"`, 1)},
		{"a duplicate member", strings.Replace(good, `"spec"`, `"kind":"hashedrekord","spec"`, 1)},
		{"a duplicate member that is ignored", strings.Replace(good, `"content"`, `"x":{"a":1,"a":2},"content"`, 1)},
		{"null", strings.Replace(good, `"SHA2_256"`, `null`, 1)},
		{"spec is missing", `{"kind":"hashedrekord","apiVersion":"0.0.2"}`},
		{"64 levels", strings.Replace(good, `"content":"c2ln"`, `"x":`+strings.Repeat("[", 60)+strings.Repeat("]", 60), 1)},
		{"65 levels", strings.Replace(good, `"content":"c2ln"`, `"x":`+strings.Repeat("[", 61)+strings.Repeat("]", 61), 1)},
		{"brackets in a text", strings.Replace(good, `c2ln`, strings.Repeat(`[\"`, 100), 1)},
		{"a surrogate without its pair", strings.Replace(good, `c2ln`, `\ud800`, 1)},
		{"a pair of surrogates", strings.Replace(good, `c2ln`, `\ud83d\ude00`, 1)},
		{"not UTF-8", strings.Replace(good, `c2ln`, "\xff", 1)},
		{"two values", good + "{}"},
		{"not JSON", "hello"},
		{"empty", ""},
		{"an array", "[]"},
	} {
		cases = append(cases, keyVector{Name: c.name, Entry: []byte(c.entry)})
	}
	return cases
}

// The vectors of spec/search/v1 hold for both implementations. UPDATE=1 writes them again,
// those that come from elsewhere excepted.
func TestKeys(t *testing.T) {
	var vectors []keyVector
	readJSON(t, spec+"keys.json", &vectors)
	if os.Getenv("UPDATE") != "" {
		cases := keyVectors(t)
		for _, v := range vectors {
			if v.From != "" {
				cases = append(cases, v)
			}
		}
		for i := range cases {
			cases[i].Keys, cases[i].Map = nil, nil
			for _, k := range KeysOf(cases[i].Entry) {
				cases[i].Keys = append(cases[i].Keys, [2]string{string(k.Kind), k.Value})
				cases[i].Map = append(cases[i].Map, hex.EncodeToString(k.At(1842)))
			}
		}
		writeJSON(t, spec+"keys.json", cases)
		vectors = cases
	}
	if len(vectors) < 50 {
		t.Fatalf("got %d vectors", len(vectors))
	}
	for _, v := range vectors {
		var got [][2]string
		var inMap []string
		for _, k := range KeysOf(v.Entry) {
			got = append(got, [2]string{string(k.Kind), k.Value})
			inMap = append(inMap, hex.EncodeToString(k.At(1842)))
		}
		if fmt.Sprint(got) != fmt.Sprint(v.Keys) || fmt.Sprint(inMap) != fmt.Sprint(v.Map) {
			t.Errorf("%s: got %q, want %q", v.Name, got, v.Keys)
		}
		if second := keysSecond(v.Entry); fmt.Sprint(second) != fmt.Sprint(v.Keys) {
			t.Errorf("%s: the second implementation has %q, want %q", v.Name, second, v.Keys)
		}
	}
}

// treeVector is one case of tree.json.
type treeVector struct {
	Keys   []string `json:"keys"` // hex
	Root   string   `json:"root"` // hex
	Proofs []struct {
		Prefix string   `json:"prefix"` // hex, like the others
		From   string   `json:"from"`
		To     *string  `json:"to,omitempty"`
		Proof  []byte   `json:"proof"` // base64
		Found  []string `json:"found"`
		Total  int64    `json:"total"`
	} `json:"proofs"`
}

func TestTreeVectors(t *testing.T) {
	var vectors []treeVector
	readJSON(t, spec+"tree.json", &vectors)
	if os.Getenv("UPDATE") != "" {
		vectors = nil
		for _, n := range []int{0, 1, 2, 40} {
			var v treeVector
			for i := range n {
				v.Keys = append(v.Keys, hex.EncodeToString(Key{Source, fmt.Sprintf("https://git.example/%c", "abc"[i*i%3])}.At(int64(i*i))))
			}
			for _, name := range []string{"a", "b", "c", ""} {
				for _, to := range []*int64{nil, new(int64(500))} {
					v.Proofs = append(v.Proofs, makeProof(t, v.Keys, "https://git.example/"+name, 100, to))
				}
			}
			v.Root = hex.EncodeToString(right(mapOf(t, v.Keys)))
			vectors = append(vectors, v)
		}
		writeJSON(t, spec+"tree.json", vectors)
	}
	if len(vectors) < 4 {
		t.Fatalf("got %d vectors", len(vectors))
	}
	for i, v := range vectors {
		keys := make([][]byte, len(v.Keys))
		for j, key := range v.Keys {
			keys[j] = unhex(t, key)
		}
		m, root := mapOf(t, v.Keys)
		if hex.EncodeToString(root) != v.Root {
			t.Errorf("%d: got root %x, want %s", i, root, v.Root)
		}
		for _, p := range v.Proofs {
			r := prefix.Range{Prefix: unhex(t, p.Prefix), From: unhex(t, p.From)}
			s := &secondProof{rest: p.Proof, prefix: r.Prefix, lo: append(bytes.Clone(r.Prefix), r.From...)}
			if p.To != nil {
				r.To = unhex(t, *p.To)
				s.hi = append(bytes.Clone(r.Prefix), r.To...)
			}
			if made, err := m.Prove(r); err != nil || !bytes.Equal(made, p.Proof) {
				t.Errorf("%d: got another proof for %q, %v", i, r.Prefix, err)
			}
			result, err := prefix.Verify(m.Root(), r, p.Proof)
			if err != nil {
				t.Errorf("%d: %q: %v", i, r.Prefix, err)
				continue
			}
			if len(p.Proof) > 0 {
				if got, _ := s.tree("", false); !bytes.Equal(got, root) {
					t.Errorf("%d: %q: the second implementation gets the root %x, want %x", i, r.Prefix, got, root)
				}
			}
			for _, found := range [][][]byte{result.Keys, s.found} {
				var got []string
				for _, key := range found {
					got = append(got, hex.EncodeToString(key))
				}
				if fmt.Sprint(got) != fmt.Sprint(p.Found) || result.Total != p.Total || s.total != p.Total {
					t.Errorf("%d: %q: got %v of %d and %d, want %v of %d", i, r.Prefix, got, result.Total, s.total, p.Found, p.Total)
				}
			}
		}
	}
}

func makeProof(t *testing.T, keys []string, value string, from int64, to *int64) (p struct {
	Prefix string   `json:"prefix"` // hex, like the others
	From   string   `json:"from"`
	To     *string  `json:"to,omitempty"`
	Proof  []byte   `json:"proof"` // base64
	Found  []string `json:"found"`
	Total  int64    `json:"total"`
}) {
	m, _ := mapOf(t, keys)
	r := prefix.Range{Prefix: Key{Source, value}.Prefix(), From: be64(nil, from)}
	if to != nil {
		r.To = be64(nil, *to)
		p.To = new(hex.EncodeToString(r.To))
	}
	var err error
	if p.Proof, err = m.Prove(r); err != nil {
		t.Fatal(err)
	}
	result, err := prefix.Verify(m.Root(), r, p.Proof)
	if err != nil {
		t.Fatal(err)
	}
	p.Prefix, p.From, p.Total = hex.EncodeToString(r.Prefix), hex.EncodeToString(r.From), result.Total
	for _, key := range result.Keys {
		p.Found = append(p.Found, hex.EncodeToString(key))
	}
	return p
}

// mapOf returns the map of keys in hex, and the root by the second implementation.
func mapOf(t *testing.T, list []string) (prefix.Map, []byte) {
	t.Helper()
	var keys [][]byte
	for _, key := range list {
		keys = append(keys, unhex(t, key))
	}
	m, err := prefix.Map{}.Insert(keys) // sorts keys
	if err != nil {
		t.Fatal(err)
	}
	root := rootSecond(keys)
	if got := m.Root(); !bytes.Equal(got[:], root) {
		t.Fatalf("got root %v, the second implementation has %x", got, root)
	}
	return m, root
}

// answer.json is an answer with the log's key, and what it shows.
func TestAnswerVector(t *testing.T) {
	var v struct {
		Origin    string          `json:"origin"`
		PublicKey []byte          `json:"publicKey"` // Ed25519, 32 bytes, base64
		Kind      string          `json:"kind"`
		Value     string          `json:"value"`
		From      int64           `json:"from"`
		Answer    json.RawMessage `json:"answer"`
		Found     []int64         `json:"found"`
		Total     int64           `json:"total"`
		Indexed   int64           `json:"indexed"`
	}
	readJSON(t, spec+"answer.json", &v)
	q := Question{Key{Source, "https://git.example/team/app-3"}, 100}
	if os.Getenv("UPDATE") != "" {
		a := sampleWorld(t, nil).ask(t, q, 3)
		raw, err := json.Marshal(a)
		if err != nil {
			t.Fatal(err)
		}
		v.Origin, v.PublicKey, v.Kind, v.Value, v.From, v.Answer = origin, []byte(signing.Public().(ed25519.PublicKey)), string(q.Kind), q.Value, q.From, raw
		v.Found, v.Total, v.Indexed = []int64{103, 108, 113}, 138, 690
		writeJSON(t, spec+"answer.json", v)
	}
	got, err := verifySecond(v.Answer, v.Kind, v.Value, v.From, v.Origin, v.PublicKey)
	if err != nil || fmt.Sprint(got.indexes) != fmt.Sprint(v.Found) || got.total != v.Total || got.indexed != v.Indexed {
		t.Errorf("the second implementation: got %+v, %v", got, err)
	}
	a, err := ParseAnswer(v.Answer)
	if err != nil {
		t.Fatal(err)
	}
	if got, err := a.Verify(q, verifierOf(origin), verifierOf(IndexOrigin(origin))); err != nil || got.Total != v.Total || len(got.Entries) != len(v.Found) {
		t.Errorf("got %+v, %v", got, err)
	}
}

func readJSON(t testing.TB, path string, v any) {
	t.Helper()
	data, err := os.ReadFile(path)
	if os.IsNotExist(err) && os.Getenv("UPDATE") != "" {
		return
	}
	if err == nil {
		err = json.Unmarshal(data, v)
	}
	if err != nil {
		t.Fatal(err)
	}
}

func writeJSON(t testing.TB, path string, v any) {
	t.Helper()
	var b bytes.Buffer
	e := json.NewEncoder(&b)
	e.SetEscapeHTML(false)
	e.SetIndent("", " ")
	if err := e.Encode(v); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(path, b.Bytes(), 0o644); err != nil {
		t.Fatal(err)
	}
}

func unhex(t testing.TB, s string) []byte {
	t.Helper()
	b, err := hex.DecodeString(s)
	if err != nil {
		t.Fatal(err)
	}
	return b
}

// Every entry has a key, whatever it is, and both implementations agree.
func FuzzKeysOf(f *testing.F) {
	var vectors []keyVector
	readJSON(f, spec+"keys.json", &vectors)
	if len(vectors) == 0 {
		f.Fatal("no vectors")
	}
	for _, v := range vectors {
		f.Add(v.Entry)
	}
	f.Fuzz(func(t *testing.T, entry []byte) {
		keys := KeysOf(entry)
		if len(keys) == 0 || len(keys) > maxKeys {
			t.Fatalf("got %d keys", len(keys))
		}
		var list [][]byte
		for _, k := range keys {
			key := k.At(1)
			if len(key) > prefix.MaxKey {
				t.Fatalf("%q: got a key of %d bytes", k, len(key))
			}
			list = append(list, key)
		}
		if m, err := (prefix.Map{}).Insert(list); err != nil || m.Len() != int64(len(keys)) {
			t.Fatalf("got a map of %d keys, %v, want %d", m.Len(), err, len(keys))
		}
		// A certificate in JSON that other bytes follow is not what the second implementation,
		// which uses the standard library, is for.
		if json.Valid(entry) && !bytes.Contains(entry, []byte("x509Certificate")) && !bytes.Contains(entry, []byte("LS0tLS1CRUdJTi")) {
			var want [][2]string
			for _, k := range keys {
				want = append(want, [2]string{string(k.Kind), k.Value})
			}
			if got := keysSecond(entry); fmt.Sprint(got) != fmt.Sprint(want) {
				t.Fatalf("got %q, the second implementation %q", want, got)
			}
		}
	})
}
