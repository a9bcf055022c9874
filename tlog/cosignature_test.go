package tlog

import (
	"bytes"
	"crypto/ed25519"
	"crypto/sha256"
	"encoding/base64"
	"encoding/binary"
	"errors"
	"fmt"
	"strings"
	"testing"
	"time"

	f_note "github.com/transparency-dev/formats/note"
	"github.com/transparency-dev/formats/proof"
	"golang.org/x/mod/sumdb/note"
)

var cosigned = time.Date(2026, 11, 27, 5, 0, 0, 0, time.UTC)

// testKey returns a key that depends on its name alone.
func testKey(name string) ed25519.PrivateKey {
	seed := sha256.Sum256([]byte(name))
	return ed25519.NewKeyFromSeed(seed[:])
}

func edCosigner(t testing.TB, name string) *Cosigner {
	t.Helper()
	c, err := NewEd25519Cosigner(name, testKey(name))
	if err != nil {
		t.Fatal(err)
	}
	return c
}

func mlCosigner(t testing.TB, name string) *Cosigner {
	t.Helper()
	seed := sha256.Sum256([]byte("ML-DSA " + name))
	c, err := NewMLDSA44Cosigner(name, seed[:])
	if err != nil {
		t.Fatal(err)
	}
	return c
}

// signCheckpoint signs cp as the log of its origin.
func signCheckpoint(t testing.TB, cp Checkpoint) []byte {
	t.Helper()
	s, err := NewSigner(cp.Origin, testKey(cp.Origin))
	if err != nil {
		t.Fatal(err)
	}
	signed, err := note.Sign(&note.Note{Text: cp.String()}, s)
	if err != nil {
		t.Fatal(err)
	}
	return signed
}

func cosign1(t testing.TB, c *Cosigner, cp Checkpoint, at time.Time) string {
	t.Helper()
	line, err := c.Cosign(cp, at)
	if err != nil {
		t.Fatal(err)
	}
	return line
}

func TestCosignatures(t *testing.T) {
	cp := newMemory(5).at(5)
	cp.Origin = origin
	signed := signCheckpoint(t, cp)
	a, b, stranger := edCosigner(t, "a.example/w"), mlCosigner(t, "b.example/w"), edCosigner(t, "c.example/w")
	second := mlCosigner(t, "a.example/w") // the other key of the first witness
	all := bytes.Join([][]byte{signed, []byte(cosign1(t, a, cp, cosigned)), []byte(cosign1(t, b, cp, cosigned.Add(time.Second))),
		[]byte(cosign1(t, stranger, cp, cosigned)), []byte(cosign1(t, second, cp, cosigned))}, nil)
	got, err := Cosignatures(all, []WitnessKey{a.Key, b.Key, second.Key}, cosigned.Add(time.Minute))
	if err != nil {
		t.Fatal(err)
	}
	if len(got) != 3 || !got[0].Time.Equal(cosigned) || !got[1].Time.Equal(cosigned.Add(time.Second)) || got[1].Key.Name() != "b.example/w" {
		t.Errorf("got %v", got)
	}
	if names := Witnesses(got); strings.Join(names, " ") != "a.example/w b.example/w" {
		t.Errorf("witnesses: got %q, want each once", names)
	}
	if _, err := Cosignatures(signed, []WitnessKey{a.Key}, cosigned); !errors.Is(err, ErrNoWitness) {
		t.Errorf("without cosignatures: got %v, want ErrNoWitness", err)
	}
}

// TestCosignatureAttacks: what a log, a witness or somebody between them could pass off as a
// cosignature.
func TestCosignatureAttacks(t *testing.T) {
	m := newMemory(9)
	cp := m.at(5)
	cp.Origin = origin
	other := cp
	other.Origin = "other.example.com"
	larger := m.at(9)
	larger.Origin = origin
	extended := cp
	extended.Extensions = []string{"map root 0000"}
	ed, ml := edCosigner(t, "a.example/w"), mlCosigner(t, "b.example/w")
	keys := []WitnessKey{ed.Key, ml.Key}
	for _, c := range []*Cosigner{ed, ml} {
		kind := fmt.Sprintf("type %d: ", c.Key.public[0])
		renamed := strings.Replace(cosign1(t, c, cp, cosigned), c.Key.Name(), "z.example/w", 1)
		raw := func(seconds uint64) string {
			sig, err := c.sign(cp, seconds)
			if err != nil {
				t.Fatal(err)
			}
			line := binary.BigEndian.AppendUint64(binary.BigEndian.AppendUint32(nil, c.Key.KeyHash()), seconds)
			return "— " + c.Key.Name() + " " + base64.StdEncoding.EncodeToString(append(line, sig...)) + "\n"
		}
		for name, test := range map[string]struct {
			cp   Checkpoint
			line string
			want string // part of the error
		}{
			"of another log":               {cp, cosign1(t, c, other, cosigned), "is wrong"},
			"of another checkpoint":        {larger, cosign1(t, c, cp, cosigned), "is wrong"},
			"in the future":                {cp, cosign1(t, c, cp, cosigned.Add(time.Hour)), "in the future"},
			"without a time":               {cp, raw(0), "time: got 0"},
			"of a time beyond any":         {cp, raw(1 << 63), "time: got 9223372036854775808"},
			"under another witness's name": {cp, renamed, ErrNoWitness.Error()},
		} {
			_, err := Cosignatures(append(signCheckpoint(t, test.cp), test.line...), keys, cosigned.Add(time.Minute))
			if err == nil || !strings.Contains(err.Error(), test.want) {
				t.Errorf("%s%s: got %v, want %q", kind, name, err, test.want)
			}
		}
	}
	// ML-DSA-44 says nothing about extension lines: the same cosignature holds with and without
	// them. Whoever needs them must not have them from a cosignature.
	if _, err := Cosignatures(append(signCheckpoint(t, extended), cosign1(t, ml, cp, cosigned)...), keys, cosigned); err != nil {
		t.Errorf("extension lines under ML-DSA-44: %v", err)
	}
	if _, err := Cosignatures(append(signCheckpoint(t, extended), cosign1(t, ed, cp, cosigned)...), keys, cosigned); err == nil {
		t.Error("extension lines were added below a cosignature of Ed25519")
	}
}

// TestLongNames: the message of ML-DSA-44 has one byte for the size of a name. The library cuts a
// larger size there, so that the message says another size than the name has.
func TestLongNames(t *testing.T) {
	long := strings.Repeat("o", 256)
	cp := newMemory(1).at(1)
	cp.Origin = long
	ml := mlCosigner(t, "b.example/w")
	if _, err := ml.Cosign(cp, cosigned); err == nil {
		t.Error("cosigned a checkpoint whose origin has 256 bytes")
	}
	seed := sha256.Sum256([]byte("ML-DSA b.example/w"))
	signer, err := f_note.NewMLDSASigner("PRIVATE+KEY+" + formatKey("b.example/w", append([]byte{typeMLDSA44Cosignature}, seed[:]...)))
	if err != nil {
		t.Fatal(err)
	}
	sig, err := signer.SignSubtree(5, long, 0, 1, cp.Root[:])
	if err != nil {
		t.Fatal(err)
	}
	line := append(binary.BigEndian.AppendUint32(nil, ml.Key.KeyHash()), sig...)
	signed := append(signCheckpoint(t, cp), "— b.example/w "+base64.StdEncoding.EncodeToString(line)+"\n"...)
	if all, err := Cosignatures(signed, []WitnessKey{ml.Key}, cosigned); err == nil {
		t.Errorf("a message that no reader of the specification makes is a cosignature: %v", all)
	}
	if _, err := NewMLDSA44Cosigner(long, make([]byte, 32)); err == nil {
		t.Error("a witness has a name of 256 bytes")
	}
}

func TestWitnessKeys(t *testing.T) {
	good := edCosigner(t, "a.example/w").Key.String()
	for _, vkey := range []string{good, mlCosigner(t, "b.example/w").Key.String()} {
		if k, err := ParseWitnessKey(vkey); err != nil || k.String() != vkey {
			t.Errorf("%.40s…: got %v, %v", vkey, k, err)
		}
	}
	name, material, _ := cutKey(good)
	logKey, err := FormatLogKey(name, testKey(name).Public())
	if err != nil {
		t.Fatal(err)
	}
	id := strings.Split(good, "+")[1]
	for what, vkey := range map[string]string{
		"nothing":           "",
		"no key":            "a.example/w",
		"a log's key":       logKey,
		"another key ID":    strings.Replace(good, id, "00000000", 1),
		"ID in upper case":  strings.Replace(good, id, strings.ToUpper(id), 1),
		"another name":      "z" + good,
		"a name with blank": "a b" + good,
		"cut":               good[:len(good)-4],
		"more":              good + "AAAA",
		"newline":           good + "\n",
		"short key":         formatKey(name, material[:20]),
		"unknown type":      formatKey(name, append([]byte{0x05}, material[1:]...)),
		"short ML-DSA key":  formatKey(name, append([]byte{0x06}, material[1:]...)),
	} {
		if k, err := ParseWitnessKey(vkey); err == nil {
			t.Errorf("%s: got %v, want an error", what, k)
		}
	}
}

func witnessLine(name string, c *Cosigner) string {
	return "witness " + name + " " + c.Key.String() + " https://" + name + ".example/\n"
}

func TestWitnessPolicy(t *testing.T) {
	var text strings.Builder
	cosigners := map[string]*Cosigner{}
	log, err := FormatLogKey(origin, testKey(origin).Public())
	if err != nil {
		t.Fatal(err)
	}
	text.WriteString("# comment\n\n \tlog " + log + "\n")
	for _, name := range []string{"X1", "X2", "X3", "Y1", "Y2"} {
		cosigners[name] = edCosigner(t, name+".example")
		text.WriteString(witnessLine(name, cosigners[name]))
	}
	text.WriteString("group X 2 X1 X2 X3\ngroup Y any Y1 Y2\ngroup both all X Y\nquorum both\n")
	p, err := ParseWitnessPolicy([]byte(text.String()))
	if err != nil {
		t.Fatal(err)
	}
	if len(p.Logs) != 1 || p.Logs[0].Key.Name() != origin || len(p.Keys()) != 5 || p.Witnesses[0].URL != "https://X1.example/" {
		t.Errorf("got %+v", p)
	}
	for by, want := range map[string]bool{"": false, "X1 X2": false, "X1 Y1": false, "X1 X1 Y1": false, "X1 X3 Y2": true, "X1 X2 X3 Y1 Y2": true} {
		var all []Cosignature
		for name := range strings.FieldsSeq(by) {
			all = append(all, Cosignature{Key: cosigners[name].Key})
		}
		if got := p.Enough(all); got != want {
			t.Errorf("%q: got %v, want %v", by, got, want)
		}
	}
	none, err := ParseWitnessPolicy([]byte("quorum none\n"))
	if err != nil || !none.Enough(nil) {
		t.Errorf("quorum none: got %v, %v", none, err)
	}
	single, err := ParseWitnessPolicy([]byte(witnessLine("w", cosigners["X1"]) + "quorum w"))
	if err != nil || single.Enough(nil) || !single.Enough([]Cosignature{{Key: cosigners["X1"].Key}}) {
		t.Errorf("quorum of one witness: got %v, %v", single, err)
	}
}

func TestWitnessPolicyRefused(t *testing.T) {
	a, b := edCosigner(t, "a.example"), edCosigner(t, "b.example")
	renamed, err := NewEd25519Cosigner("c.example", testKey("a.example")) // a under another name
	if err != nil {
		t.Fatal(err)
	}
	log, err := FormatLogKey(origin, testKey(origin).Public())
	if err != nil {
		t.Fatal(err)
	}
	again, err := FormatLogKey("other.example", testKey(origin).Public())
	if err != nil {
		t.Fatal(err)
	}
	two := witnessLine("a", a) + witnessLine("b", b)
	for what, text := range map[string]string{
		"empty":                            "",
		"no quorum":                        two,
		"two quorums":                      two + "quorum a\nquorum b\n",
		"quorum of two":                    two + "quorum a b\n",
		"unknown keyword":                  two + "witnesses 2\nquorum a\n",
		"unknown quorum":                   two + "quorum c\n",
		"quorum before its witness":        "quorum a\n" + two,
		"same key, other name":             two + witnessLine("c", renamed) + "quorum a\n",
		"same name":                        two + witnessLine("a", edCosigner(t, "d.example")) + "quorum a\n",
		"same log":                         "log " + log + "\nlog " + again + "\nquorum none\n",
		"log's key as witness":             "witness a " + log + "\nquorum a\n",
		"witness's key as log":             "log " + a.Key.String() + "\nquorum none\n",
		"group of none":                    two + "group g any\nquorum g\n",
		"threshold 0":                      two + "group g 0 a b\nquorum g\n",
		"threshold 3 of 2":                 two + "group g 3 a b\nquorum g\n",
		"threshold with zero":              two + "group g 01 a b\nquorum g\n",
		"threshold with sign":              two + "group g +1 a b\nquorum g\n",
		"member twice in a group":          two + "group g 2 a a\nquorum g\n",
		"member of two groups":             two + "group g any a\ngroup h any b\ngroup i 2 g a\nquorum i\n",
		"member of itself":                 two + "group g any g\nquorum g\n",
		"none as a member":                 two + "group g any none a\nquorum g\n",
		"name none":                        strings.Replace(two, "witness a", "witness none", 1) + "quorum b\n",
		"URL of a file":                    "witness a " + a.Key.String() + " file:///etc/passwd\nquorum a\n",
		"URL with a password":              "witness a " + a.Key.String() + " https://u:p@a.example\nquorum a\n",
		"carriage return":                  two + "quorum a\r\n",
		"item too many":                    "witness a " + a.Key.String() + " https://a.example https://b.example\nquorum a\n",
		"too long":                         "#" + strings.Repeat("x", maxWitnessPolicy) + "\nquorum none\n",
		"more witnesses than are possible": manyWitnesses(t, maxPolicyLines+1) + "quorum none\n",
		"more groups than are possible":    manyWitnesses(t, 60) + strings.Repeat("group", 0) + manyGroups(maxPolicyLines+1) + "quorum none\n",
		"more logs than are possible":      manyLogs(t, maxPolicyLines+1) + "quorum none\n",
	} {
		if p, err := ParseWitnessPolicy([]byte(text)); err == nil {
			t.Errorf("%s: got %+v, want an error", what, p)
		}
	}
	if _, err := ParseWitnessPolicy([]byte(manyWitnesses(t, maxPolicyLines) + "quorum none\n")); err != nil {
		t.Errorf("%d witnesses: %v", maxPolicyLines, err)
	}
}

func manyWitnesses(t testing.TB, n int) (text string) {
	for i := range n {
		text += witnessLine(fmt.Sprintf("w%d", i), edCosigner(t, fmt.Sprintf("w%d.example", i)))
	}
	return text
}

func manyGroups(n int) (text string) {
	member := "w0"
	for i := range n {
		text += fmt.Sprintf("group g%d any %s\n", i, member)
		member = fmt.Sprintf("g%d", i)
	}
	return text
}

func manyLogs(t testing.TB, n int) (text string) {
	for i := range n {
		name := fmt.Sprintf("log%d.example", i)
		vkey, err := FormatLogKey(name, testKey(name).Public())
		if err != nil {
			t.Fatal(err)
		}
		text += "log " + vkey + "\n"
	}
	return text
}

func TestLogProof(t *testing.T) {
	m := newMemory(300)
	cp := m.at(300)
	cp.Origin = origin
	a := edCosigner(t, "a.example/w")
	hashes, err := Inclusion(t.Context(), m, cp, 258)
	if err != nil {
		t.Fatal(err)
	}
	p := LogProof{Index: 258, Hashes: hashes, Checkpoint: append(signCheckpoint(t, cp), cosign1(t, a, cp, cosigned)...)}
	log, err := NewVerifier(origin, testKey(origin).Public())
	if err != nil {
		t.Fatal(err)
	}
	for _, extra := range [][]byte{nil, []byte("more")} {
		p.Extra = extra
		text := p.Marshal()
		got, err := ParseLogProof(text)
		if err != nil {
			t.Fatalf("%s: %v", text, err)
		}
		if at, err := got.Verify(m.leaves[258], log); err != nil || at.Size != 300 {
			t.Errorf("got %v, %v", at, err)
		}
		if _, err := got.Verify(m.leaves[257], log); err == nil {
			t.Error("another entry is proved")
		}
		if all, err := Cosignatures(got.Checkpoint, []WitnessKey{a.Key}, cosigned); err != nil || len(all) != 1 {
			t.Errorf("cosignatures: got %v, %v", all, err)
		}
		var theirs proof.TLogProof // another implementation
		if err := theirs.Unmarshal(text); err != nil || theirs.Index != 258 || len(theirs.Hashes) != len(hashes) || !bytes.Equal(theirs.Checkpoint, p.Checkpoint) {
			t.Errorf("transparency-dev/formats: got %+v, %v", theirs, err)
		}
		if !bytes.Equal(theirs.Marshal(), text) {
			t.Errorf("transparency-dev/formats writes %q", theirs.Marshal())
		}
	}
}

func FuzzLogProof(f *testing.F) {
	p := LogProof{Index: 1, Hashes: []Hash{{1}}, Checkpoint: []byte("a\n1\nb\n\n— a AAAA\n"), Extra: []byte("x")}
	good := string(p.Marshal())
	f.Add(good)
	f.Add(strings.Replace(good, "index 1", "index 01", 1))
	f.Add(strings.Replace(good, "extra eA==", "extra eB==", 1))
	f.Add(strings.Replace(good, "\n\n", "\n", 1))
	f.Add(strings.Replace(good, "@v1", "@v2", 1))
	f.Add(good[:40])
	f.Fuzz(func(t *testing.T, text string) {
		if p, err := ParseLogProof([]byte(text)); err == nil && string(p.Marshal()) != text {
			t.Errorf("got %q back for %q", p.Marshal(), text)
		}
	})
}

func FuzzWitnessPolicy(f *testing.F) {
	f.Add(witnessLine("a", edCosigner(f, "a.example")) + "group g any a\nquorum g\n")
	f.Add("quorum none")
	f.Fuzz(func(t *testing.T, text string) {
		p, err := ParseWitnessPolicy([]byte(text))
		if err != nil {
			return
		}
		// Whatever a policy says, more witnesses are never less.
		var all []Cosignature
		for _, k := range p.Keys() {
			all = append(all, Cosignature{Key: k})
		}
		if p.Enough(nil) && !p.Enough(all) {
			t.Errorf("%q: enough without witnesses, and not with all", text)
		}
	})
}

func TestLogProofBounds(t *testing.T) {
	p := LogProof{Hashes: make([]Hash, maxProofHashes), Checkpoint: []byte("a\n1\nb\n\n— a AAAA\n"), Extra: make([]byte, maxProofExtra)}
	if _, err := ParseLogProof(p.Marshal()); err != nil {
		t.Errorf("the largest proof: %v", err)
	}
	for name, larger := range map[string]LogProof{
		"hashes":     {Hashes: make([]Hash, maxProofHashes+1), Checkpoint: p.Checkpoint},
		"extra":      {Checkpoint: p.Checkpoint, Extra: make([]byte, maxProofExtra+1)},
		"checkpoint": {Checkpoint: make([]byte, MaxLogProof)},
	} {
		if _, err := ParseLogProof(larger.Marshal()); err == nil {
			t.Errorf("%s: want an error", name)
		}
	}
}
