package audit

import (
	"bytes"
	"crypto"
	"crypto/ecdsa"
	"crypto/ed25519"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"encoding/json"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"golang.org/x/mod/sumdb/note"

	"github.com/colophon-build/colophon/tlog"
)

const vectors = "../spec/audit/v1/"

var testTime = time.Date(2026, 11, 27, 8, 10, 21, 123456000, time.UTC)

func verdict() Record {
	return Record{
		Kind: KindAdmission, By: By{User: Shown("alice@example.com")},
		About:   About{Image: Shown("registry.example.com/team/app:v1.2.0"), Digest: "sha256:" + strings.Repeat("ab", 32), Source: "https://git.example.com/team/app", Commit: strings.Repeat("1", 40), Level: 3},
		Where:   Where{Cluster: "prod-a", Namespace: Shown("team"), Kind: "Pod", Name: Shown("app-1")},
		Basis:   Basis{Policy: "sha256:" + strings.Repeat("cd", 32)},
		Outcome: Accepted, Effect: Allowed,
		Rules: []Rule{{"production", "ours", Accepted}}, Links: []Link{{"signature", "holds"}},
		Reason: Shown("signed by alice@example.com"),
	}
}

func newKey(t testing.TB) (ed25519.PrivateKey, []byte) {
	t.Helper()
	_, key, err := ed25519.GenerateKey(rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	return key, spkiOf(t, key)
}

func spkiOf(t testing.TB, key crypto.Signer) []byte {
	t.Helper()
	spki, err := x509.MarshalPKIXPublicKey(key.Public())
	if err != nil {
		t.Fatal(err)
	}
	return spki
}

func seal(t testing.TB, key crypto.Signer, role, instance string, r Record) (Entry, *Envelope, *Record) {
	t.Helper()
	s, err := NewSigner(key, role, instance, nil)
	if err != nil {
		t.Fatal(err)
	}
	e, err := s.Seal(r, testTime)
	if err != nil {
		t.Fatal(err)
	}
	e, env, read, err := ParseEntry(e.Marshal())
	if err != nil {
		t.Fatal(err)
	}
	return e, env, read
}

// What is sealed can be read, and says nothing that is private, until it is opened.
func TestSealAndOpen(t *testing.T) {
	ec, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	ed, _ := newKey(t)
	for _, key := range []crypto.Signer{ed, ec} {
		e, env, r := seal(t, key, "admission", "prod-a", verdict())
		if bytes.Contains(env.Payload, []byte("alice")) {
			t.Errorf("the payload says who: %s", env.Payload)
		}
		if err := env.Verify(key.Public()); err != nil {
			t.Error(err)
		}
		opened, err := r.Open(e.Openings)
		if err != nil {
			t.Fatal(err)
		}
		if opened.By.User.Value != "alice@example.com" || opened.Reason.Value != "signed by alice@example.com" || r.By.User.Value != "" {
			t.Errorf("got %+v, and of the closed record %+v", opened.By, r.By)
		}
		leaf := Leaf{testTime, e.Envelope}
		read, _, again, err := ParseLeaf(leaf.Bytes())
		if err != nil || read.ID() != ID(e.Envelope) || again.By.Number != 1 {
			t.Errorf("got %v, %v, %+v", err, read.ID(), again)
		}
	}
}

// Each hidden value has a salt of its own: who guesses a value compares it with no other record, and with no other field.
func TestSaltsDiffer(t *testing.T) {
	key, _ := newKey(t)
	salts := map[string]bool{}
	for n := range 3 {
		e, _, _ := seal(t, key, "admission", "prod-a", verdict())
		for _, o := range e.Openings {
			salts[string(o.Salt)] = true
		}
		if want := (n + 1) * len(e.Openings); len(e.Openings) < 2 || len(salts) != want {
			t.Fatalf("got %d salts, want %d", len(salts), want)
		}
	}
}

// The attacks on openings: another value, another salt, of another field.
func TestOpeningsOfOthers(t *testing.T) {
	key, _ := newKey(t)
	e, _, r := seal(t, key, "admission", "", verdict())
	for what, change := range map[string]func(*Opening){
		"another value":            func(o *Opening) { o.Value = "mallory@example.com" },
		"another salt":             func(o *Opening) { o.Salt = bytes.Repeat([]byte{1}, saltSize) },
		"a byte moved to the salt": func(o *Opening) { o.Salt, o.Value = append(bytes.Clone(o.Salt), o.Value[0]), o.Value[1:] },
		"another field":            func(o *Opening) { o.Field = FieldReason },
		"no field":                 func(o *Opening) { o.Field = "digest" },
	} {
		o := e.Openings[0]
		change(&o)
		if _, err := r.Open([]Opening{o}); err == nil {
			t.Errorf("%s: the record opens", what)
		}
	}
}

// Every byte of an entry counts: no entry with one bit flipped is one that the writer signed.
func TestEachBitOfALeaf(t *testing.T) {
	key, spki := newKey(t)
	ledger, _ := newKey(t)
	e, _, _ := seal(t, key, "admission", "prod-a", verdict())
	w, err := NewWriters(ledger.Public().(ed25519.PublicKey))
	if err != nil {
		t.Fatal(err)
	}
	if err := w.enrol(&Writer{Role: "admission", Instance: "prod-a", Key: spki}); err != nil {
		t.Fatal(err)
	}
	leaf := Leaf{testTime, e.Envelope}.Bytes()
	hash := Leaf{testTime, e.Envelope}.Hash()
	for i := range leaf {
		changed := bytes.Clone(leaf)
		changed[i] ^= 1
		l, env, r, err := ParseLeaf(changed)
		if err == nil && w.Verify(env, r) == nil && (l.Hash() == hash || bytes.Equal(l.Envelope, e.Envelope) && l.Received.Equal(testTime)) {
			t.Errorf("byte %d: the entry still counts", i)
		}
	}
}

// Whose signatures count.
func TestWriters(t *testing.T) {
	ledger, _ := newKey(t)
	key, spki := newKey(t)
	other, _ := newKey(t)
	w, err := NewWriters(ledger.Public().(ed25519.PublicKey))
	if err != nil {
		t.Fatal(err)
	}
	check := func(what string, ok bool, key crypto.Signer, role, instance string, r Record) {
		t.Helper()
		_, env, read := seal(t, key, role, instance, r)
		if err := w.Verify(env, read); (err == nil) != ok {
			t.Errorf("%s: got %v", what, err)
		}
	}
	enrol := Record{Kind: KindWriter, Outcome: Done, Writer: &Writer{Role: "admission", Instance: "prod-a", Key: spki}}
	check("before it is enrolled", false, key, "admission", "prod-a", verdict())
	check("enrols itself", false, key, "admission", "prod-a", enrol)
	check("calls itself the ledger", false, key, RoleLedger, "", enrol)
	check("the ledger enrols it", true, ledger, RoleLedger, "", enrol)
	if err := w.Add(&enrol); err != nil {
		t.Fatal(err)
	}
	check("enrolled", true, key, "admission", "prod-a", verdict())
	check("another key", false, other, "admission", "prod-a", verdict())
	check("for another role", false, key, "gate", "prod-a", verdict())
	check("for another cluster", false, key, "admission", "prod-b", verdict())
	check("a writer enrols another one", false, key, "admission", "prod-a", enrol)
	check("a writer deletes", false, key, "admission", "prod-a", Record{Kind: KindRetention, Outcome: Done, Entries: []Range{{0, 256}}})
	revoked := *enrol.Writer
	revoked.Revoked = true
	if err := w.Add(&Record{Kind: KindWriter, Outcome: Done, Writer: &revoked}); err != nil {
		t.Fatal(err)
	}
	check("revoked", false, key, "admission", "prod-a", verdict())
	if err := w.Add(&Record{Kind: KindWriter, Outcome: Done, Writer: &Writer{Role: RoleLedger, Key: spki}}); err == nil {
		t.Error("somebody else becomes the ledger")
	}
}

// The vectors of spec/audit/v1: records that the parser takes, and those that it refuses.
func TestVectors(t *testing.T) {
	for dir, ok := range map[string]bool{"good": true, "bad": false} {
		files, err := filepath.Glob(vectors + dir + "/*.json")
		if err != nil || len(files) < 3 {
			t.Fatalf("got %q, %v", files, err)
		}
		for _, file := range files {
			raw, err := os.ReadFile(file)
			if err != nil {
				t.Fatal(err)
			}
			if _, err := ParseRecord(raw); (err == nil) != ok {
				t.Errorf("%s: got %v", file, err)
			}
		}
	}
}

// vector is an entry of a ledger with all that follows from it.
type vector struct {
	PublicKey []byte    `json:"publicKey"` // SubjectPublicKeyInfo of the writer
	Leaf      string    `json:"leaf"`
	LeafHash  []byte    `json:"leafHash"`
	ID        string    `json:"id"`
	Openings  []Opening `json:"openings"`
}

// The vector of a leaf. UPDATE=1 writes a new one.
func TestLeafVector(t *testing.T) {
	const file = vectors + "leaf.json"
	if os.Getenv("UPDATE") == "1" {
		key, spki := newKey(t)
		e, _, _ := seal(t, key, "admission", "prod-a", verdict())
		leaf := Leaf{testTime.Add(time.Second), e.Envelope}
		hash := leaf.Hash()
		raw, err := json.MarshalIndent(vector{spki, string(leaf.Bytes()), hash[:], leaf.ID(), e.Openings}, "", "  ")
		if err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(file, append(raw, '\n'), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	raw, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	var v vector
	if err := json.Unmarshal(raw, &v); err != nil {
		t.Fatal(err)
	}
	leaf, env, r, err := ParseLeaf([]byte(v.Leaf))
	if err != nil {
		t.Fatal(err)
	}
	key, err := ParseKey(v.PublicKey)
	if err != nil {
		t.Fatal(err)
	}
	if err := env.Verify(key); err != nil {
		t.Error(err)
	}
	if hash := leaf.Hash(); !bytes.Equal(hash[:], v.LeafHash) || leaf.ID() != v.ID || env.KeyID() != KeyID(v.PublicKey) {
		t.Errorf("got hash %v, ID %s, key %s", hash, leaf.ID(), env.KeyID())
	}
	if opened, err := r.Open(v.Openings); err != nil || len(opened.Hidden()) > 0 || len(r.Hidden()) == 0 {
		t.Errorf("got %+v, %v", opened, err)
	}
}

func FuzzLeaf(f *testing.F) {
	raw, err := os.ReadFile(vectors + "leaf.json")
	if err != nil {
		f.Fatal(err)
	}
	var v vector
	if err := json.Unmarshal(raw, &v); err != nil || v.Leaf == "" {
		f.Fatal("no seed", err)
	}
	f.Add([]byte(v.Leaf))
	f.Fuzz(func(t *testing.T, data []byte) {
		leaf, _, r, err := ParseLeaf(data)
		if err == nil && (!bytes.Equal(leaf.Bytes(), data) || r.Check() != nil) {
			t.Errorf("%q is read and written as %q", data, leaf.Bytes())
		}
	})
}

func TestFilter(t *testing.T) {
	r := verdict()
	r.Time, r.Rules = testTime, append(r.Rules, Rule{"audit-only", "level", Rejected})
	for what, c := range map[string]struct {
		f    Filter
		want bool
	}{
		"all":                               {Filter{}, true},
		"cluster":                           {Filter{Cluster: "prod-a"}, true},
		"another cluster":                   {Filter{Cluster: "prod-b"}, false},
		"accepted by a policy":              {Filter{Policy: "production", Outcome: Accepted}, true},
		"a policy that would have rejected": {Filter{Policy: "audit-only", Outcome: Accepted}, false},
		"the same, asked for":               {Filter{Policy: "audit-only", Outcome: Rejected}, true},
		"by digest of the policies":         {Filter{Policy: r.Basis.Policy, Outcome: Accepted}, true},
		"image without its tag":             {Filter{Image: "registry.example.com/team/app"}, true},
		"a prefix of an image":              {Filter{Image: "registry.example.com/team/ap"}, false},
		"from":                              {Filter{From: testTime}, true},
		"to":                                {Filter{To: testTime}, false},
		"kinds":                             {Filter{Kinds: []Kind{KindGate, KindAdmission}}, true},
		"other kinds":                       {Filter{Kinds: []Kind{KindGate}}, false},
	} {
		if got := c.f.Match(&r); got != c.want {
			t.Errorf("%s: got %v", what, got)
		}
	}
}

func TestKindsAreTold(t *testing.T) {
	readme, err := os.ReadFile(vectors + "README.md")
	if err != nil {
		t.Fatal(err)
	}
	for _, k := range Kinds() {
		if !strings.Contains(string(readme), "`"+string(k)+"`") {
			t.Errorf("spec/audit/v1 does not say what the kind %s is", k)
		}
	}
	if !slices.Contains(Kinds(), KindVerify) {
		t.Error("no kinds")
	}
}

// Records at and past their limits. A record that can be sealed is one that a log can take.
func TestRecordBounds(t *testing.T) {
	key, _ := newKey(t)
	s, err := NewSigner(key, "admission", "", nil)
	if err != nil {
		t.Fatal(err)
	}
	large := Statement{"text/plain", bytes.Repeat([]byte{'x'}, MaxStatement)}
	distrust := Record{Kind: KindDistrust, Outcome: Done, Statement: &large, Reason: Shown(strings.Repeat("r", MaxText))}
	e, err := s.Seal(distrust, testTime)
	if err != nil {
		t.Fatal(err)
	}
	if n := len(Leaf{testTime, e.Envelope}.Bytes()); n > 1<<16-1 {
		t.Errorf("an entry of %d bytes", n)
	}
	for what, change := range map[string]func(*Record){
		"statement": func(r *Record) { r.Statement = &Statement{"text/plain", append(large.Data, 'x')} },
		"text":      func(r *Record) { r.Reason = Shown(strings.Repeat("r", MaxText+1)) },
		"evidence":  func(r *Record) { r.Evidence = slices.Repeat([]string{ID(nil)}, MaxItems+1) },
		"rules of long names": func(r *Record) {
			r.Rules = slices.Repeat([]Rule{{strings.Repeat("p", MaxText), "", Accepted}}, 20)
		},
	} {
		r := distrust
		change(&r)
		if _, err := s.Seal(r, testTime); err == nil {
			t.Errorf("%s: sealed", what)
		}
	}
	if e, err = s.Seal(verdict(), testTime); err != nil {
		t.Fatal(err)
	}
	if _, _, r, err := ParseEntry(e.Marshal()); err != nil || r.By.Number != 2 {
		t.Errorf("a record that could not be sealed took a number: %+v, %v", r, err)
	}
	if _, _, _, err := ParseEntry(slices.Concat(e.Marshal(), bytes.Repeat([]byte{' '}, MaxRequest))); err == nil {
		t.Error("an entry of any size is read")
	}
	if _, _, err := ParseEnvelope(slices.Concat(e.Envelope, bytes.Repeat([]byte{' '}, MaxEnvelope))); err == nil {
		t.Error("an envelope of any size is read")
	}
	if _, err := ParseRecord(bytes.Repeat([]byte{' '}, MaxPayload+1)); err == nil {
		t.Error("a record of any size is read")
	}
}

// An answer of more records than a page is refused before any of them is read.
func TestAnswerBounds(t *testing.T) {
	ledger, _ := newKey(t)
	signer, err := tlog.NewSigner("ledger.example.com/audit", ledger)
	if err != nil {
		t.Fatal(err)
	}
	key, err := tlog.NewVerifier("ledger.example.com/audit", ledger.Public())
	if err != nil {
		t.Fatal(err)
	}
	signed, err := note.Sign(&note.Note{Text: tlog.Checkpoint{Origin: "ledger.example.com/audit", Root: tlog.EmptyRoot()}.String()}, signer)
	if err != nil {
		t.Fatal(err)
	}
	a := Answer{Checkpoint: string(signed)}
	if _, _, err := a.Verify(Filter{}, key); err != nil {
		t.Fatal(err)
	}
	a.Records = make([]Found, MaxPage+1)
	if _, _, err := a.Verify(Filter{}, key); err == nil || !strings.Contains(err.Error(), "at most 1000 records") {
		t.Errorf("got %v", err)
	}
}
