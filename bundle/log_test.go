package bundle

import (
	"bytes"
	"crypto"
	"crypto/ecdsa"
	"crypto/ed25519"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/rsa"
	"crypto/sha256"
	"crypto/sha512"
	"crypto/x509"
	"encoding/asn1"
	"encoding/hex"
	"errors"
	"strings"
	"testing"
	"time"

	protobundle "github.com/sigstore/protobuf-specs/gen/pb-go/bundle/v1"
	commonpb "github.com/sigstore/protobuf-specs/gen/pb-go/common/v1"
	rekorpb "github.com/sigstore/protobuf-specs/gen/pb-go/rekor/v1"
	"github.com/sigstore/sigstore-go/pkg/root"

	"github.com/colophon-build/colophon/tlog"
)

// A promise counts only if the log signed it with a key that it trusted at that second.
func TestPromise(t *testing.T) {
	for name, tt := range map[string]struct {
		bend func(*rekorpb.TransparencyLogEntry, *root.TransparencyLog)
		want string
	}{
		"nothing": {func(*rekorpb.TransparencyLogEntry, *root.TransparencyLog) {}, ""},
		"a log with a key of another kind": {func(_ *rekorpb.TransparencyLogEntry, log *root.TransparencyLog) {
			log.PublicKey = ed25519.PublicKey(make([]byte, 32))
		}, "key for inclusion promises: got ed25519.PublicKey, want ECDSA"},
		"another body":  {func(e *rekorpb.TransparencyLogEntry, _ *root.TransparencyLog) { e.CanonicalizedBody = []byte("x") }, "not signed by the log"},
		"another time":  {func(e *rekorpb.TransparencyLogEntry, _ *root.TransparencyLog) { e.IntegratedTime++ }, "not signed by the log"},
		"another index": {func(e *rekorpb.TransparencyLogEntry, _ *root.TransparencyLog) { e.LogIndex++ }, "not signed by the log"},
		"another log":   {func(e *rekorpb.TransparencyLogEntry, _ *root.TransparencyLog) { e.LogId.KeyId = []byte("x") }, "not signed by the log"},
		"the first second": {func(e *rekorpb.TransparencyLogEntry, log *root.TransparencyLog) {
			log.ValidityPeriodStart = time.Unix(e.IntegratedTime, 0)
		}, ""},
		"the last second": {func(e *rekorpb.TransparencyLogEntry, log *root.TransparencyLog) {
			log.ValidityPeriodEnd = time.Unix(e.IntegratedTime, 0)
		}, ""},
		"before the window": {func(e *rekorpb.TransparencyLogEntry, log *root.TransparencyLog) {
			log.ValidityPeriodStart = time.Unix(e.IntegratedTime+1, 0)
		}, "but the log's key is trusted"},
		"after the window": {func(e *rekorpb.TransparencyLogEntry, log *root.TransparencyLog) {
			log.ValidityPeriodEnd = time.Unix(e.IntegratedTime-1, 0)
		}, "but the log's key is trusted"},
	} {
		l := newPublicLog(t, false)
		e := l.entry("hashedrekord", "0.0.1", l.body("hashedrekord", "0.0.1"))
		var log *root.TransparencyLog
		for _, log = range l.trusted().logs {
		}
		tt.bend(e, log)
		at, err := verifyPromise(e, log)
		says(t, name, err, tt.want)
		if err == nil && !at.Equal(l.at) || err != nil && !at.IsZero() {
			t.Errorf("%s: got the time %s, want that of the log", name, at)
		}
	}
}

// Two entries are the same if log and index are.
func TestSameEntry(t *testing.T) {
	l := newPublicLog(t, true)
	entry := func(id string, index int64) *rekorpb.TransparencyLogEntry {
		return &rekorpb.TransparencyLogEntry{LogId: &commonpb.LogId{KeyId: []byte(id)}, LogIndex: index}
	}
	a := entry("a", 1)
	for name, tt := range map[string]struct {
		entries []*rekorpb.TransparencyLogEntry
		bound   *rekorpb.TransparencyLogEntry
		want    string
	}{
		"one":                             {[]*rekorpb.TransparencyLogEntry{a}, nil, ""},
		"twice":                           {[]*rekorpb.TransparencyLogEntry{a, entry("a", 1)}, nil, "the same log entry twice"},
		"twice, with another between":     {[]*rekorpb.TransparencyLogEntry{a, entry("b", 2), entry("a", 1)}, nil, "the same log entry twice"},
		"same index of another log":       {[]*rekorpb.TransparencyLogEntry{a, entry("b", 1)}, nil, ""},
		"another index of the log":        {[]*rekorpb.TransparencyLogEntry{a, entry("a", 2)}, nil, ""},
		"bound, in a log of nobody":       {[]*rekorpb.TransparencyLogEntry{a}, a, "log 61 is not one of the trust root"},
		"another is bound, in such a log": {[]*rekorpb.TransparencyLogEntry{a}, entry("b", 2), ""},
	} {
		got, err := l.sealed.verifyEntries(&Bundle{Entries: tt.entries, bound: tt.bound}, l.trusted())
		says(t, name, err, tt.want)
		if got.count != 0 || got.size != 0 || len(got.promised) != 0 {
			t.Errorf("%s: got %+v of logs that nobody trusts", name, got)
		}
	}
}

// The tree that counts is that of the first entry in a trusted log.
func TestFirstTreeCounts(t *testing.T) {
	l := newPublicLog(t, true)
	body := l.body("dsse", "0.0.1")
	silent := l.entry("dsse", "0.0.1", body)
	silent.InclusionProof = nil
	proved := l.entry("dsse", "0.0.1", body)
	proved.LogIndex, proved.InclusionPromise = 8, nil
	for name, tt := range map[string]struct {
		entries []*rekorpb.TransparencyLogEntry
		size    int64
	}{
		"proof first":   {[]*rekorpb.TransparencyLogEntry{proved, silent}, 1},
		"promise first": {[]*rekorpb.TransparencyLogEntry{silent, proved}, 0},
	} {
		got, err := l.sealed.verifyEntries(&Bundle{Entries: tt.entries}, l.trusted())
		if err != nil || got.count != 2 || got.size != tt.size || len(got.promised) != 1 {
			t.Errorf("%s: got %+v, %v, want two entries, one time and a tree of %d", name, got, err, tt.size)
		}
	}
}

// The signer of an entry is compared as a key, in whatever form it is encoded.
func TestSameKey(t *testing.T) {
	key := newKey(t)
	der, err := x509.MarshalPKIXPublicKey(key.Public())
	if err != nil {
		t.Fatal(err)
	}
	for name, tt := range map[string]struct {
		der  []byte
		key  crypto.PublicKey
		want bool
	}{
		"the key":        {der, key.Public(), true},
		"another":        {der, newKey(t).Public(), false},
		"another kind":   {der, ed25519.PublicKey(make([]byte, 32)), false},
		"no key":         {der, "key", false},
		"no DER":         {nil, key.Public(), false},
		"DER and no key": {nil, nil, false},
	} {
		if got := sameKey(tt.der, tt.key); got != tt.want {
			t.Errorf("%s: got %v", name, got)
		}
	}
}

// An entry of a Rekor v2 log has one body only: that of the signer's kind of key.
func TestBindV2(t *testing.T) {
	small, err := ecdsa.GenerateKey(elliptic.P224(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	says(t, "no key", (&sealed{}).bindV2(nil), "x509: unsupported public key type")
	says(t, "key of an unknown curve", (&sealed{key: small.Public()}).bindV2(nil), "unsupported")
	key := newKey(t).Public()
	der, err := x509.MarshalPKIXPublicKey(key)
	if err != nil {
		t.Fatal(err)
	}
	digest := sha256.Sum256([]byte("signed"))
	body := recordV2("SHA2_256", digest[:], []byte("s"), "PKIX_ECDSA_P256_SHA_256", der, true)
	says(t, "envelope by a key", (&sealed{key: key, envelope: true, signed: []byte("signed"), signature: []byte("s")}).bindV2(body), "")
	says(t, "message by a key", (&sealed{key: key, digest: digest[:], signature: []byte("s")}).bindV2(body), "")
	says(t, "another message", (&sealed{key: key, digest: digest[1:], signature: []byte("s")}).bindV2(body), "another signature")
	long := sha512.Sum512([]byte("signed"))
	edwards := ed25519.PublicKey(make([]byte, 32))
	if der, err = x509.MarshalPKIXPublicKey(edwards); err != nil {
		t.Fatal(err)
	}
	body = recordV2("SHA2_512", long[:], []byte("s"), "PKIX_ED25519_PH", der, true)
	says(t, "Ed25519 in a log is prehashed", (&sealed{key: edwards, envelope: true, signed: []byte("signed"), signature: []byte("s")}).bindV2(body), "")
}

// A checkpoint is that of the log's host name (Rekor v2), or of its key (v1).
func TestCheckpointOfLog(t *testing.T) {
	l := newPublicLog(t, false)
	e := l.entry("hashedrekord", "0.0.1", l.body("hashedrekord", "0.0.1"))
	good := e.InclusionProof.Checkpoint.Envelope
	of := func(url string, key crypto.PublicKey) *root.TransparencyLog {
		return &root.TransparencyLog{BaseURL: url, PublicKey: key}
	}
	if _, err := rekor1Checkpoint(good, of("", l.key.Public())); err != nil {
		t.Error(err)
	}
	for name, tt := range map[string]struct {
		open   func(string, *root.TransparencyLog) (tlog.Checkpoint, error)
		signed string
		log    *root.TransparencyLog
		want   string
	}{
		"v1, a key of no kind": {rekor1Checkpoint, good, of("", "key"), "checkpoint: "},
		"v1, unsigned":         {rekor1Checkpoint, "x", of("", l.key.Public()), "log origin"},
		"v1, another key":      {rekor1Checkpoint, good, of("", newKey(t).Public()), "checkpoint: "},
		"v1, the longest":      {rekor1Checkpoint, strings.Repeat("x", tlog.MaxCheckpoint), of("", l.key.Public()), "log origin"},
		"v1, too long":         {rekor1Checkpoint, strings.Repeat("x", tlog.MaxCheckpoint+1), of("", l.key.Public()), "got 65537 bytes, want at most 65536"},
		"v2, a URL of no form": {rekor2Checkpoint, good, of("://", l.key.Public()), "missing protocol scheme"},
		"v2, no host":          {rekor2Checkpoint, good, of("", l.key.Public()), "log origin"},
		"v2, a key of no kind": {rekor2Checkpoint, good, of("https://rekor.test", "key"), "key"},
		"v2, an origin of v1":  {rekor2Checkpoint, good, of("https://rekor.test", l.key.Public()), "checkpoint"},
	} {
		cp, err := tt.open(tt.signed, tt.log)
		says(t, name, err, tt.want)
		if cp.Size != 0 {
			t.Errorf("%s: got %v beside the error", name, cp)
		}
	}
}

type refusing struct{ error }

func (r refusing) Verify([]byte, []byte) (*root.Timestamp, error) { return nil, r.error }

// Any authority of the trust root may have made a timestamp; why the last one refused
// it is reported.
func TestTimestamps(t *testing.T) {
	at := time.Unix(1e9, 0)
	good, no := fixed{at: at}, refusing{errors.New("a stranger's")}
	for name, tt := range map[string]struct {
		tokens      int
		authorities []root.TimestampingAuthority
		times       int
		want        string
	}{
		"none":                    {0, []root.TimestampingAuthority{good}, 0, ""},
		"one":                     {1, []root.TimestampingAuthority{good}, 1, ""},
		"one, of two authorities": {1, []root.TimestampingAuthority{good, good}, 1, ""},
		"two":                     {2, []root.TimestampingAuthority{good}, 2, ""},
		"of the second authority": {1, []root.TimestampingAuthority{no, good}, 1, "a stranger's"},
		"of a stranger":           {1, []root.TimestampingAuthority{no}, 0, "a stranger's"},
		"no authority":            {1, nil, 0, "the trust root has no timestamp authority"},
	} {
		times, err := new(sealed).verifyTimestamps(make([][]byte, tt.tokens), &material{timestamps: tt.authorities})
		says(t, name, err, tt.want)
		if len(times) != tt.times || tt.times > 0 && !times[0].Equal(at) {
			t.Errorf("%s: got %v, want %d times", name, times, tt.times)
		}
	}
}

// Each time must be in the window of each trusted log, and no time may be ahead of now.
func TestTimesOfLogs(t *testing.T) {
	at := time.Unix(1e9, 0)
	id := []byte("log")
	entry := func(id []byte, at time.Time) *rekorpb.TransparencyLogEntry {
		e := &rekorpb.TransparencyLogEntry{LogId: &commonpb.LogId{KeyId: id}}
		if !at.IsZero() {
			e.IntegratedTime = at.Unix()
		}
		return e
	}
	log := func(from, until time.Time) map[string]*root.TransparencyLog {
		return map[string]*root.TransparencyLog{hex.EncodeToString(id): {ValidityPeriodStart: from, ValidityPeriodEnd: until}}
	}
	var never time.Time
	for name, tt := range map[string]struct {
		times   []time.Time
		entries []*rekorpb.TransparencyLogEntry
		logs    map[string]*root.TransparencyLog
		want    string
	}{
		"nothing":                          {nil, nil, nil, ""},
		"now":                              {[]time.Time{at}, nil, nil, ""},
		"an hour ahead":                    {[]time.Time{at.Add(ClockSkew)}, nil, nil, ""},
		"more than an hour ahead":          {[]time.Time{at.Add(ClockSkew + 1)}, nil, nil, "which is in the future"},
		"the second of two ahead":          {[]time.Time{at, at.Add(2 * ClockSkew)}, nil, nil, "which is in the future"},
		"logged an hour ahead":             {nil, []*rekorpb.TransparencyLogEntry{entry(id, at.Add(ClockSkew))}, nil, ""},
		"logged more than an hour ahead":   {nil, []*rekorpb.TransparencyLogEntry{entry(id, at.Add(ClockSkew+time.Second))}, nil, "which is in the future"},
		"in a log of nobody":               {[]time.Time{at}, []*rekorpb.TransparencyLogEntry{entry([]byte("x"), never)}, log(at.Add(1), never), ""},
		"log trusted from now":             {[]time.Time{at}, []*rekorpb.TransparencyLogEntry{entry(id, never)}, log(at, never), ""},
		"log trusted too late":             {[]time.Time{at}, []*rekorpb.TransparencyLogEntry{entry(id, never)}, log(at.Add(1), never), "but the log's key is trusted"},
		"log trusted until now":            {[]time.Time{at}, []*rekorpb.TransparencyLogEntry{entry(id, never)}, log(never, at), ""},
		"log trusted until before":         {[]time.Time{at}, []*rekorpb.TransparencyLogEntry{entry(id, never)}, log(never, at.Add(-1)), "but the log's key is trusted"},
		"second log trusted too late":      {[]time.Time{at}, []*rekorpb.TransparencyLogEntry{entry([]byte("x"), never), entry(id, never)}, log(at.Add(1), never), "but the log's key is trusted"},
		"second time too late for the log": {[]time.Time{at, at.Add(2)}, []*rekorpb.TransparencyLogEntry{entry(id, never)}, log(never, at.Add(1)), "but the log's key is trusted"},
	} {
		v := &verification{Result: &Result{Times: tt.times}, bundle: &Bundle{Entries: tt.entries}, material: &material{logs: tt.logs}, now: at}
		says(t, name, v.checkTimes(), tt.want)
		if len(v.Times) != len(tt.times) {
			t.Errorf("%s: got %v, want the times unchanged", name, v.Times)
		}
	}
}

// What the result says about the time.
func TestTimeOfSignature(t *testing.T) {
	at := time.Unix(1e9, 0)
	good, no := fixed{at: at}, refusing{errors.New("a stranger's")}
	stamped := &protobundle.Bundle{VerificationMaterial: &protobundle.VerificationMaterial{TimestampVerificationData: stamps(1, 1)}}
	failed := errors.New("the entry failed")
	for name, tt := range map[string]struct {
		promised  []time.Time
		authority root.TimestampingAuthority
		unstamped bool
		ask       demands
		before    error
		times     int
		passed    bool
		want      string
	}{
		"promise and timestamp":               {[]time.Time{at}, good, false, demands{}, nil, 2, true, ""},
		"promise alone":                       {[]time.Time{at}, good, true, demands{}, nil, 1, true, ""},
		"promise, and a stranger's timestamp": {[]time.Time{at}, no, false, demands{}, nil, 1, true, ""},
		"timestamp asked":                     {[]time.Time{at}, good, false, demands{stamp: true}, nil, 1, true, ""},
		"timestamp asked, none":               {[]time.Time{at}, good, true, demands{stamp: true}, nil, 0, false, "there is no timestamp"},
		"timestamp asked, a stranger's":       {[]time.Time{at}, no, false, demands{stamp: true}, nil, 0, false, "no timestamp is of a trusted timestamp authority and for this signature"},
		"none":                                {nil, good, true, demands{}, nil, 0, false, "no trusted time: neither"},
		"a stranger's":                        {nil, no, false, demands{}, nil, 0, false, "neither an inclusion promise nor a timestamp is valid"},
		"none asked":                          {nil, good, true, demands{untimed: true}, nil, 0, true, ""},
		"none, and a bad entry":               {nil, good, true, demands{}, failed, 0, false, "the entry failed"},
		"in the future":                       {[]time.Time{at.Add(2 * ClockSkew)}, good, true, demands{}, nil, 1, false, "in the future"},
		"in the future, and a bad entry":      {[]time.Time{at.Add(2 * ClockSkew)}, good, true, demands{}, failed, 1, false, "the entry failed\nsigned at"},
	} {
		v := &verification{Result: &Result{Log: tt.before}, bundle: &Bundle{Proto: stamped}, sealed: new(sealed), material: &material{timestamps: []root.TimestampingAuthority{tt.authority}}, ask: tt.ask, now: at}
		if tt.unstamped {
			v.bundle.Proto = nil
		}
		v.times(tt.promised)
		says(t, name, v.Log, tt.want)
		if tt.before != nil && tt.want == tt.before.Error() && v.Log != tt.before {
			t.Errorf("%s: got %v, want no second reason", name, v.Log)
		}
		if len(v.Times) != tt.times || (v.Passed == 1) != tt.passed {
			t.Errorf("%s: got %v and %d checks passed", name, v.Times, v.Passed)
		}
	}
}

// A chain of one has no issuer who could have asked the log.
func TestAnyLogged(t *testing.T) {
	cert := newCertificate(t, newKey(t), time.Now())
	for name, tt := range map[string]struct {
		chains [][]*x509.Certificate
		want   string
	}{
		"no chain":       {nil, "the certificate has no issuer"},
		"self-signed":    {[][]*x509.Certificate{{cert}}, "the certificate is self-signed"},
		"without a list": {[][]*x509.Certificate{{cert, cert}}, "no list of SCTs"},
		"both":           {[][]*x509.Certificate{{cert}, {cert, cert}}, "no list of SCTs"},
		"both, turned":   {[][]*x509.Certificate{{cert, cert}, {cert}}, "the certificate is self-signed"},
	} {
		says(t, name, anyLogged(tt.chains, &material{}), tt.want)
	}
}

// An SCT is signed with the algorithm of the log's key.
func TestSCTAlgorithms(t *testing.T) {
	issuer := newCertificate(t, newKey(t), time.Now())
	tbs := []byte("tbs")
	issuerKey := sha256.Sum256(issuer.RawSubjectPublicKeyInfo)
	signed := append([]byte{0, 0, 0, 0, 0, 0, 0, 0, 0, 9, 0, 1}, issuerKey[:]...)
	signed = append(signed, 0, 0, 3, 't', 'b', 's', 0, 1, 'e')
	sum := sha256.Sum256(signed)
	ec := newKey(t)
	rs, err := rsa.GenerateKey(rand.Reader, 2048)
	if err != nil {
		t.Fatal(err)
	}
	sign := func(k crypto.Signer) []byte {
		sig, err := k.Sign(rand.Reader, sum[:], crypto.SHA256)
		if err != nil {
			t.Fatal(err)
		}
		return sig
	}
	for name, tt := range map[string]struct {
		key       crypto.PublicKey
		algorithm byte
		signature []byte
		tbs       []byte
		want      string
	}{
		"ECDSA":                     {ec.Public(), 3, sign(ec), tbs, ""},
		"RSA":                       {rs.Public(), 1, sign(rs), tbs, ""},
		"ECDSA that says RSA":       {ec.Public(), 1, sign(ec), tbs, "the log did not sign the SCT"},
		"RSA that says ECDSA":       {rs.Public(), 3, sign(rs), tbs, "the log did not sign the SCT"},
		"ECDSA, another's":          {newKey(t).Public(), 3, sign(ec), tbs, "the log did not sign the SCT"},
		"RSA, another's":            {rs.Public(), 1, sign(ec), tbs, "the log did not sign the SCT"},
		"no key":                    {nil, 3, sign(ec), tbs, "the log did not sign the SCT"},
		"another certificate":       {ec.Public(), 3, sign(ec), []byte("sbt"), "the log did not sign the SCT"},
		"certificate without bound": {ec.Public(), 3, sign(ec), make([]byte, 1<<24), "cryptobyte"},
	} {
		s := &sct{timestamp: 9, extensions: []byte("e"), signature: tt.signature, algorithm: tt.algorithm}
		says(t, name, s.verify(tt.key, tt.tbs, issuer), tt.want)
	}
}

// Each case changes one thing about a list of SCTs, or about a certificate.
func TestFormOfSCTs(t *testing.T) {
	one := append(append([]byte{0}, bytes.Repeat([]byte{7}, 32)...), 0, 0, 0, 0, 0, 0, 0, 9, 0, 1, 'e', 4, 3, 0, 1, 's')
	with := func(i int, b byte) []byte { c := bytes.Clone(one); c[i] = b; return c }
	list := func(scts ...[]byte) []byte {
		var all []byte
		for _, s := range scts {
			all = append(append(all, byte(len(s)>>8), byte(len(s))), s...)
		}
		return append([]byte{byte(len(all) >> 8), byte(len(all))}, all...)
	}
	octets := func(of []byte) []byte {
		der, err := asn1.Marshal(of)
		if err != nil {
			t.Fatal(err)
		}
		return der
	}
	repeated := func(n int) (all [][]byte) {
		for range n {
			all = append(all, one)
		}
		return all
	}
	for name, tt := range map[string]struct {
		raw  []byte
		want int // -1: malformed
	}{
		"none":                    {octets(list()), 0},
		"one":                     {octets(list(one)), 1},
		"many":                    {octets(list(repeated(maxSCTs)...)), maxSCTs},
		"too many":                {octets(list(repeated(maxSCTs + 1)...)), -1},
		"empty":                   {[]byte{}, -1},
		"not octets":              {[]byte{5, 0}, -1},
		"more than octets":        {append(octets(list(one)), 0), -1},
		"no list":                 {octets(nil), -1},
		"more than a list":        {octets(append(list(one), 0)), -1},
		"cut in the length":       {octets([]byte{0, 1, 0}), -1},
		"empty SCT":               {octets(list(nil)), -1},
		"version 2":               {octets(list(with(0, 1))), -1},
		"cut in the log ID":       {octets(list(one[:20])), -1},
		"cut in the time":         {octets(list(one[:40])), -1},
		"cut after the time":      {octets(list(one[:41])), -1},
		"cut after extensions":    {octets(list(one[:44])), -1},
		"SHA-1":                   {octets(list(with(44, 2))), -1},
		"cut after the hash":      {octets(list(one[:45])), -1},
		"cut after the algorithm": {octets(list(one[:46])), -1},
		"more than an SCT":        {octets(list(append(bytes.Clone(one), 0))), -1},
		"second cut":              {octets(list(one, one[:20])), -1},
	} {
		got, err := parseSCTs(tt.raw)
		want := ""
		if tt.want < 0 {
			want, tt.want = "malformed list of SCTs", 0
		}
		says(t, name, err, want)
		if len(got) != tt.want {
			t.Errorf("%s: got %d, want %d", name, len(got), tt.want)
		}
		for _, s := range got {
			if s.log != [32]byte(bytes.Repeat([]byte{7}, 32)) || s.timestamp != 9 || string(s.extensions) != "e" || s.algorithm != 3 || string(s.signature) != "s" {
				t.Errorf("%s: got %+v", name, s)
			}
		}
	}
	_, err := parseSCTs(nil)
	says(t, "nil", err, "no list of SCTs")

	der := func(tag byte, parts ...[]byte) []byte {
		all := bytes.Join(parts, nil)
		return append([]byte{tag, byte(len(all))}, all...)
	}
	number := []byte{2, 1, 5}
	other, scts := der(0x30, []byte{6, 1, 42}, der(4)), der(0x30, append([]byte{6, 10}, 0x2b, 6, 1, 4, 1, 0xd6, 0x79, 2, 4, 2), der(4))
	for name, tt := range map[string]struct{ raw, want []byte }{
		"list between others":  {der(0x30, number, der(0xa3, der(0x30, other, scts, other))), der(0x30, number, der(0xa3, der(0x30, other, other)))},
		"list alone":           {der(0x30, number, der(0xa3, der(0x30, scts))), der(0x30, number, der(0xa3, der(0x30)))},
		"no list":              {der(0x30, number, number, der(0xa3, der(0x30, other))), der(0x30, number, number, der(0xa3, der(0x30, other)))},
		"nothing":              {nil, nil},
		"no sequence":          {number, nil},
		"more than a sequence": {append(der(0x30, number, der(0xa3, der(0x30))), 0), nil},
		"no extensions":        {der(0x30, number), nil},
		"cut field":            {der(0x30, []byte{2, 9}), nil},
		"after the extensions": {der(0x30, der(0xa3, der(0x30)), number), nil},
		"extensions, no list":  {der(0x30, der(0xa3, number)), nil},
		"extensions, and more": {der(0x30, der(0xa3, der(0x30), number)), nil},
		"cut extensions":       {der(0x30, []byte{0xa3, 9}), nil},
		"extension of no form": {der(0x30, der(0xa3, der(0x30, number))), nil},
		"extension of no name": {der(0x30, der(0xa3, der(0x30, der(0x30, number)))), nil},
	} {
		got, err := withoutSCTs(tt.raw)
		want := "malformed certificate"
		if tt.want != nil {
			want = ""
		}
		says(t, name, err, want)
		if !bytes.Equal(got, tt.want) {
			t.Errorf("%s: got %x, want %x", name, got, tt.want)
		}
	}
}
