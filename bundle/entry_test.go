package bundle

import (
	"bytes"
	"crypto"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/sha256"
	"crypto/x509"
	"encoding/base64"
	"encoding/hex"
	"encoding/json"
	"encoding/pem"
	"errors"
	"fmt"
	"math/big"
	"strings"
	"testing"
	"time"

	v1 "github.com/google/go-containerregistry/pkg/v1"
	"github.com/secure-systems-lab/go-securesystemslib/dsse"
	protobundle "github.com/sigstore/protobuf-specs/gen/pb-go/bundle/v1"
	commonpb "github.com/sigstore/protobuf-specs/gen/pb-go/common/v1"
	dssepb "github.com/sigstore/protobuf-specs/gen/pb-go/dsse"
	rekorpb "github.com/sigstore/protobuf-specs/gen/pb-go/rekor/v1"
	"github.com/sigstore/sigstore-go/pkg/root"

	"github.com/colophon-build/colophon/attest"
)

// publicLog is a Rekor v1 log, and a signature to log.
type publicLog struct {
	t           *testing.T
	key         *ecdsa.PrivateKey
	id          [32]byte
	at          time.Time // when it logged
	sealed      *sealed
	checkpoint  string // what is signed more, or instead
	size        int64  // as the proof says
	rootHash    []byte // as the proof says; nil for the right one
	signer      []byte // DER in the body; nil for the right one
	signature   []byte // in the body; nil for the right one
	alsoSignsIt *ecdsa.PrivateKey
}

func newKey(t *testing.T) *ecdsa.PrivateKey {
	k, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	return k
}

func newCertificate(t *testing.T, key *ecdsa.PrivateKey, at time.Time) *x509.Certificate {
	template := &x509.Certificate{SerialNumber: big.NewInt(at.UnixNano()), NotBefore: at.Add(-time.Minute), NotAfter: at.Add(9 * time.Minute), EmailAddresses: []string{"signer@example.com"}}
	der, err := x509.CreateCertificate(rand.Reader, template, template, key.Public(), key)
	if err != nil {
		t.Fatal(err)
	}
	cert, err := x509.ParseCertificate(der)
	if err != nil {
		t.Fatal(err)
	}
	return cert
}

func newPublicLog(t *testing.T, envelope bool) *publicLog {
	l := &publicLog{t: t, key: newKey(t), at: time.Now().Truncate(time.Second), size: 1}
	spki, err := x509.MarshalPKIXPublicKey(l.key.Public())
	if err != nil {
		t.Fatal(err)
	}
	l.id = sha256.Sum256(spki)
	owner := newKey(t)
	l.sealed = &sealed{cert: newCertificate(t, owner, l.at), envelope: envelope, algorithm: "sha256"}
	content := []byte("what is signed")
	if envelope {
		l.sealed.payload, l.sealed.algorithm = content, ""
		l.sealed.signed = dsse.PAE("text/plain", content)
		content = l.sealed.signed
	}
	sum := sha256.Sum256(content)
	if !envelope {
		l.sealed.digest = sum[:]
	}
	l.sealed.signature = l.sign(owner, sum)
	return l
}

func (l *publicLog) sign(by *ecdsa.PrivateKey, sum [32]byte) []byte {
	sig, err := ecdsa.SignASN1(rand.Reader, by, sum[:])
	if err != nil {
		l.t.Fatal(err)
	}
	return sig
}

func (l *publicLog) json(v any) []byte {
	raw, err := json.Marshal(v)
	if err != nil {
		l.t.Fatal(err)
	}
	return raw
}

// body returns the body of an entry of this kind about the signature.
func (l *publicLog) body(kind, version string) []byte {
	signature, der := l.sealed.signature, l.sealed.cert.Raw
	if l.signature != nil {
		signature = l.signature
	}
	if l.signer != nil {
		der = l.signer
	}
	signer := pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der})
	digest := l.sealed.digest
	if l.sealed.envelope {
		sum := sha256.Sum256(l.sealed.payload)
		digest = sum[:]
	}
	hash := map[string]any{"algorithm": "sha256", "value": hex.EncodeToString(digest)}
	var spec any
	switch kind {
	case "hashedrekord":
		spec = map[string]any{"data": map[string]any{"hash": hash}, "signature": map[string]any{"content": signature, "publicKey": map[string]any{"content": signer}}}
	case "dsse":
		spec = map[string]any{"payloadHash": hash, "signatures": []any{map[string]any{"signature": signature, "verifier": signer}}}
	case "intoto":
		b64 := []byte(base64.StdEncoding.EncodeToString(signature))
		spec = map[string]any{"content": map[string]any{"payloadHash": hash, "envelope": map[string]any{"signatures": []any{map[string]any{"sig": b64, "publicKey": signer}}}}}
	}
	return l.json(map[string]any{"apiVersion": version, "kind": kind, "spec": spec})
}

// entry logs a body as the only leaf of a tree, with inclusion promise and proof.
func (l *publicLog) entry(kind, version string, body []byte) *rekorpb.TransparencyLogEntry {
	leaf := sha256.Sum256(append([]byte{0}, body...))
	text := "rekor.test - 12\n1\n" + base64.StdEncoding.EncodeToString(leaf[:]) + "\n"
	if l.checkpoint != "" {
		text = l.checkpoint
	}
	signed := text + "\n"
	for _, k := range []*ecdsa.PrivateKey{l.key, l.alsoSignsIt} {
		if k == nil {
			continue
		}
		spki, err := x509.MarshalPKIXPublicKey(k.Public())
		if err != nil {
			l.t.Fatal(err)
		}
		id := sha256.Sum256(spki)
		signed += "— rekor.test " + base64.StdEncoding.EncodeToString(append(id[:4:4], l.sign(k, sha256.Sum256([]byte(text)))...)) + "\n"
	}
	rootHash := leaf[:]
	if l.rootHash != nil {
		rootHash = l.rootHash
	}
	promise := fmt.Sprintf(`{"body":%q,"integratedTime":%d,"logID":"%x","logIndex":7}`, base64.StdEncoding.EncodeToString(body), l.at.Unix(), l.id)
	return &rekorpb.TransparencyLogEntry{
		LogIndex: 7, LogId: &commonpb.LogId{KeyId: l.id[:]}, IntegratedTime: l.at.Unix(), KindVersion: &rekorpb.KindVersion{Kind: kind, Version: version}, CanonicalizedBody: body,
		InclusionPromise: &rekorpb.InclusionPromise{SignedEntryTimestamp: l.sign(l.key, sha256.Sum256([]byte(promise)))},
		InclusionProof:   &rekorpb.InclusionProof{TreeSize: l.size, RootHash: rootHash, Checkpoint: &rekorpb.Checkpoint{Envelope: signed}},
	}
}

// material is a trust root made of the parts that a test has.
type material struct {
	root.BaseTrustedMaterial
	logs, ct   map[string]*root.TransparencyLog
	timestamps []root.TimestampingAuthority
	ca         root.CertificateAuthority
}

func (m *material) Vouches(string) error                                  { return nil }
func (m *material) RekorLogs() map[string]*root.TransparencyLog           { return m.logs }
func (m *material) CTLogs() map[string]*root.TransparencyLog              { return m.ct }
func (m *material) TimestampingAuthorities() []root.TimestampingAuthority { return m.timestamps }
func (m *material) FulcioCertificateAuthorities() []root.CertificateAuthority {
	return []root.CertificateAuthority{m.ca}
}

func (l *publicLog) trusted() *material {
	log := &root.TransparencyLog{BaseURL: "https://rekor.test", ID: l.id[:], ValidityPeriodStart: l.at.Add(-time.Hour), PublicKey: l.key.Public()}
	return &material{logs: map[string]*root.TransparencyLog{hex.EncodeToString(l.id[:]): log}}
}

var rekor1Kinds = map[string]struct {
	kind, version string
	envelope      bool
}{
	"message":             {"hashedrekord", "0.0.1", false},
	"envelope":            {"dsse", "0.0.1", true},
	"envelope, as intoto": {"intoto", "0.0.2", true},
}

// Each case changes one thing about a valid entry of a Rekor v1 log.
func TestLogEntryBent(t *testing.T) {
	for name, tt := range map[string]struct {
		before func(*publicLog)
		after  func(*rekorpb.TransparencyLogEntry)
		reason string
	}{
		"nothing":               {nil, nil, ""},
		"no promise":            {nil, func(e *rekorpb.TransparencyLogEntry) { e.InclusionPromise = nil }, ""},
		"no proof":              {nil, func(e *rekorpb.TransparencyLogEntry) { e.InclusionProof = nil }, ""},
		"neither":               {nil, func(e *rekorpb.TransparencyLogEntry) { e.InclusionPromise, e.InclusionProof = nil, nil }, "neither an inclusion promise nor an inclusion proof"},
		"another signature":     {func(l *publicLog) { l.signature = []byte("x") }, nil, "another signature"},
		"another certificate":   {func(l *publicLog) { l.signer = newCertificate(l.t, newKey(l.t), l.at).Raw }, nil, "another signer"},
		"logged too late":       {func(l *publicLog) { l.at = l.at.Add(time.Hour) }, nil, "logged"},
		"logged too early":      {func(l *publicLog) { l.at = l.at.Add(-time.Hour) }, nil, "logged"},
		"promise of a stranger": {nil, func(e *rekorpb.TransparencyLogEntry) { e.InclusionPromise.SignedEntryTimestamp[9] ^= 1 }, "promise"},
		"time of another":       {nil, func(e *rekorpb.TransparencyLogEntry) { e.IntegratedTime++ }, "promise"},
		"another root":          {func(l *publicLog) { l.rootHash = make([]byte, 32) }, nil, "checkpoint"},
		"another size":          {func(l *publicLog) { l.size = 2 }, nil, "checkpoint"},
		"signed by two":         {func(l *publicLog) { l.alsoSignsIt = newKey(l.t) }, nil, "other signatures"},
		"checkpoint of another": {func(l *publicLog) {
			l.checkpoint = "rekor.test - 12\n1\n" + base64.StdEncoding.EncodeToString(make([]byte, 32)) + "\n"
			l.rootHash = make([]byte, 32)
		}, nil, "log rekor.test"},
		"a hash too many": {nil, func(e *rekorpb.TransparencyLogEntry) { e.InclusionProof.Hashes = [][]byte{make([]byte, 32)} }, "log rekor.test"},
		"a short hash":    {nil, func(e *rekorpb.TransparencyLogEntry) { e.InclusionProof.Hashes = [][]byte{make([]byte, 31)} }, "31 bytes"},
		"another place":   {nil, func(e *rekorpb.TransparencyLogEntry) { e.InclusionProof.LogIndex = 1 }, "log rekor.test"},
		"unsigned": {nil, func(e *rekorpb.TransparencyLogEntry) {
			c := e.InclusionProof.Checkpoint
			c.Envelope, _, _ = strings.Cut(c.Envelope, "— ")
		}, "checkpoint"},
		"of what is signed": {func(l *publicLog) { l.sealed.digest, l.sealed.payload = make([]byte, 32), []byte("other") }, nil, ""}, // see below
	} {
		for what, kind := range rekor1Kinds {
			l := newPublicLog(t, kind.envelope)
			if tt.before != nil && name != "of what is signed" {
				tt.before(l)
			}
			body := l.body(kind.kind, kind.version)
			reason := tt.reason
			if name == "of what is signed" {
				tt.before(l)
				reason = "digest: got"
			}
			e := l.entry(kind.kind, kind.version, body)
			if tt.after != nil {
				tt.after(e)
			}
			got, err := l.sealed.verifyEntries(&Bundle{Entries: []*rekorpb.TransparencyLogEntry{e}}, l.trusted())
			switch {
			case reason != "" && (err == nil || !strings.Contains(err.Error(), reason)):
				t.Errorf("%s, %s: got %v, want %q in it", what, name, err, reason)
			case reason == "" && (err != nil || got.count != 1 || e.InclusionPromise != nil && (len(got.promised) != 1 || !got.promised[0].Equal(l.at)) || e.InclusionPromise == nil && len(got.promised) != 0 || got.size != e.GetInclusionProof().GetTreeSize()):
				t.Errorf("%s, %s: got %+v, %v, want one entry, the time of its promise, and the size of its tree", what, name, got, err)
			}
		}
	}
}

// An entry about a payload does not count for a message with the same digest.
func TestLogEntryOfAnotherKind(t *testing.T) {
	l := newPublicLog(t, false)
	for _, kind := range [][2]string{{"dsse", "0.0.1"}, {"intoto", "0.0.2"}} {
		e := l.entry(kind[0], kind[1], l.body(kind[0], kind[1]))
		if _, err := l.sealed.verifyEntries(&Bundle{Entries: []*rekorpb.TransparencyLogEntry{e}}, l.trusted()); err == nil || !strings.Contains(err.Error(), "digest: got") {
			t.Errorf("%s: got %v, want it refused", kind, err)
		}
	}
}

func TestLogEntriesTogether(t *testing.T) {
	l := newPublicLog(t, true)
	e := l.entry("dsse", "0.0.1", l.body("dsse", "0.0.1"))
	if _, err := l.sealed.verifyEntries(&Bundle{Entries: []*rekorpb.TransparencyLogEntry{e, e}}, l.trusted()); err == nil || !strings.Contains(err.Error(), "twice") {
		t.Errorf("twice: got %v", err)
	}
	if got, err := l.sealed.verifyEntries(&Bundle{Entries: []*rekorpb.TransparencyLogEntry{e}}, newPublicLog(t, true).trusted()); got.count != 0 || len(got.promised) != 0 || err != nil {
		t.Errorf("of a log that nobody trusts: got %+v, %v, want nothing to count", got, err)
	}
	// A valid entry of a Rekor v2 log about something else.
	for _, other := range []*sealed{
		{cert: l.sealed.cert, envelope: true, signed: l.sealed.signed, signature: []byte("another")},
		{cert: l.sealed.cert, envelope: true, signed: []byte("another"), signature: l.sealed.signature},
		{cert: newCertificate(t, newKey(t), l.at), envelope: true, signed: l.sealed.signed, signature: l.sealed.signature},
		{key: l.sealed.cert.PublicKey, envelope: true, signed: l.sealed.signed, signature: l.sealed.signature},
		{cert: l.sealed.cert, algorithm: "sha256", digest: make([]byte, 32), signature: l.sealed.signature},
		l.sealed,
	} {
		sum := sha256.Sum256(l.sealed.signed)
		err := other.bindV2(recordV2("SHA2_256", sum[:], l.sealed.signature, "PKIX_ECDSA_P256_SHA_256", l.sealed.cert.Raw, false))
		if (err == nil) != (other == l.sealed) || err != nil && !strings.Contains(err.Error(), "another signature") {
			t.Errorf("got %v, want one of %+v refused", err, other)
		}
	}
	v2 := recordV2("SHA2_256", l.sealed.digest, l.sealed.signature, "PKIX_ECDSA_P256_SHA_256", l.sealed.cert.Raw, false)
	e = l.entry("hashedrekord", "0.0.2", v2)
	e.InclusionProof = nil
	if _, err := l.sealed.verifyEntries(&Bundle{Entries: []*rekorpb.TransparencyLogEntry{e}}, l.trusted()); err == nil || !strings.Contains(err.Error(), "neither") {
		t.Errorf("Rekor v2 without a proof: got %v", err)
	}
}

// fixed is a timestamp authority whose timestamps have the time at, and a certificate
// authority that is trusted until another time.
type fixed struct{ at, until time.Time }

func (f fixed) Verify([]byte, []byte) (*root.Timestamp, error) {
	return &root.Timestamp{Time: f.at}, nil
}

type until struct{ fixed }

func (u until) Verify(cert *x509.Certificate, t time.Time) ([][]*x509.Certificate, error) {
	if t.After(u.until) {
		return nil, errors.New("not trusted any more")
	}
	return [][]*x509.Certificate{{cert, cert}}, nil
}

// Each missing part that is required is refused.
func TestDemands(t *testing.T) {
	l := newPublicLog(t, true)
	st, err := attest.NewStatement("a", strings.Repeat("ab", 32), "https://example.com/test", struct{}{})
	if err != nil {
		t.Fatal(err)
	}
	l.sealed.payload, l.sealed.signed = st, dsse.PAE(attest.PayloadType, st)
	owner := newKey(t)
	l.sealed.cert = newCertificate(t, owner, l.at)
	l.sealed.signature = l.sign(owner, sha256.Sum256(l.sealed.signed))
	parsed, err := attest.ParseStatement(st)
	if err != nil {
		t.Fatal(err)
	}
	for name, tt := range map[string]struct {
		ask      demands
		unlogged bool
		silent   bool // the entry has no promise
		byKey    bool
		stamped  time.Time // zero: no timestamp
		until    time.Time // zero: for ever
		reason   string
	}{
		"all there":                    {ask: demands{entry: true, stamp: true}, stamped: l.at},
		"the log's promise alone":      {ask: demands{entry: true}},
		"no entry":                     {ask: demands{entry: true}, unlogged: true, stamped: l.at, reason: "no entry"},
		"no time at all":               {unlogged: true, reason: "without its log entry, and without a timestamp"},
		"a proof without a promise":    {ask: demands{entry: true}, silent: true, reason: "no trusted time"},
		"by a key, no time":            {byKey: true, unlogged: true, reason: "no trusted time"},
		"by a key, no time asked":      {byKey: true, unlogged: true, ask: demands{untimed: true}},
		"a timestamp, not the log":     {ask: demands{stamp: true}, reason: "there is no timestamp"},
		"no SCT":                       {ask: demands{sct: true}, stamped: l.at, reason: "no SCT"},
		"authority ended before one":   {stamped: l.at.Add(time.Minute), until: l.at.Add(time.Second), reason: "not of a trusted authority"},
		"authority ended before other": {stamped: l.at.Add(-time.Minute), until: l.at.Add(-time.Second), reason: "not of a trusted authority"},
	} {
		b := &Bundle{Proto: protoOf(st, l.sealed.signature, tt.stamped), Certificate: l.sealed.cert, Statement: parsed}
		if !tt.unlogged {
			entry := l.entry("dsse", "0.0.1", l.body("dsse", "0.0.1"))
			if tt.silent {
				entry.InclusionPromise = nil
			}
			b.Entries = []*rekorpb.TransparencyLogEntry{entry}
		}
		m := l.trusted()
		m.timestamps = []root.TimestampingAuthority{fixed{at: tt.stamped}}
		if tt.until.IsZero() {
			tt.until = l.at.Add(time.Hour)
		}
		m.ca = until{fixed{until: tt.until}}
		var key crypto.PublicKey
		if tt.byKey {
			b.Certificate, key = nil, l.sealed.cert.PublicKey
		}
		err := b.verify(Subject{Digest: digestOf(parsed)}, Signer{Key: key}, m, tt.ask, l.at.Add(time.Minute)).Err()
		if (err == nil) != (tt.reason == "") || err != nil && !strings.Contains(err.Error(), tt.reason) {
			t.Errorf("%s: got %v, want %q in it", name, err, tt.reason)
		}
	}
}

// All known digests of a subject must be those of the content.
func TestSubjectThatContradictsItself(t *testing.T) {
	sums, err := Subject{Digest: digestOfContent("x"), Content: bytes.NewReader([]byte("x"))}.sums([]string{"sha256", "sha512", "blake3"})
	if err != nil || len(sums) != 2 {
		t.Fatalf("got %d sums, %v", len(sums), err)
	}
	right := map[string]string{"sha256": hex.EncodeToString(sums["sha256"]), "sha512": hex.EncodeToString(sums["sha512"]), "gitCommit": "ab"}
	wrong := map[string]string{"sha256": right["sha256"], "sha512": strings.Repeat("ab", 64)}
	subject := Subject{Digest: digestOfContent("x")}
	for want, digests := range map[string][]map[string]string{
		"":                                      {right},
		"beside digests":                        {wrong},
		"subject":                               {{"sha256": strings.Repeat("ab", 32)}},
		"another subject of the same statement": nil,
	} {
		st := &attest.Statement{}
		for _, d := range digests {
			st.Subject = append(st.Subject, attest.Subject{Digest: d})
		}
		if digests == nil {
			st.Subject, want = []attest.Subject{{Digest: wrong}, {Digest: right}}, ""
		}
		if err := aboutSums(st, subject, sums); (err == nil) != (want == "") || err != nil && !strings.Contains(err.Error(), want) {
			t.Errorf("%v: got %v, want %q in it", digests, err, want)
		}
	}
}

func protoOf(statement, signature []byte, stamped time.Time) *protobundle.Bundle {
	pb := &protobundle.Bundle{
		VerificationMaterial: &protobundle.VerificationMaterial{},
		Content: &protobundle.Bundle_DsseEnvelope{DsseEnvelope: &dssepb.Envelope{
			Payload: statement, PayloadType: attest.PayloadType, Signatures: []*dssepb.Signature{{Sig: signature}},
		}},
	}
	if !stamped.IsZero() {
		pb.VerificationMaterial.TimestampVerificationData = &protobundle.TimestampVerificationData{Rfc3161Timestamps: []*commonpb.RFC3161SignedTimestamp{{SignedTimestamp: []byte("x")}}}
	}
	return pb
}

func digestOf(s *attest.Statement) v1.Hash {
	return v1.Hash{Algorithm: "sha256", Hex: s.Subject[0].Digest["sha256"]}
}

func digestOfContent(content string) v1.Hash {
	sum := sha256.Sum256([]byte(content))
	return v1.Hash{Algorithm: "sha256", Hex: hex.EncodeToString(sum[:])}
}
