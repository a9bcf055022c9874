package bundle

import (
	"bytes"
	"crypto"
	"crypto/ecdsa"
	"crypto/ed25519"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/asn1"
	"encoding/hex"
	"errors"
	"io"
	"math/big"
	"net"
	"strings"
	"testing"
	"testing/iotest"
	"time"

	v1 "github.com/google/go-containerregistry/pkg/v1"
	"github.com/secure-systems-lab/go-securesystemslib/dsse"
	protobundle "github.com/sigstore/protobuf-specs/gen/pb-go/bundle/v1"
	commonpb "github.com/sigstore/protobuf-specs/gen/pb-go/common/v1"
	rekorpb "github.com/sigstore/protobuf-specs/gen/pb-go/rekor/v1"
	"github.com/sigstore/sigstore-go/pkg/fulcio/certificate"
	"github.com/sigstore/sigstore-go/pkg/root"

	"github.com/colophon-build/colophon/attest"
)

// Which parts a bundle must have, if it is not of a platform.
func TestWhatIsDemanded(t *testing.T) {
	cert := new(x509.Certificate)
	promise := []*rekorpb.TransparencyLogEntry{{InclusionPromise: &rekorpb.InclusionPromise{}}}
	proof := []*rekorpb.TransparencyLogEntry{{InclusionProof: &rekorpb.InclusionProof{}}}
	stamped := &protobundle.Bundle{VerificationMaterial: &protobundle.VerificationMaterial{TimestampVerificationData: stamps(1, 1)}}
	logs := map[string]*root.TransparencyLog{"x": {}}
	authority := []root.TimestampingAuthority{fixed{}}
	unlogged := Signer{Key: "key", InsecureNoLog: true}
	for name, tt := range map[string]struct {
		b      *Bundle
		signer Signer
		m      *material
		want   demands
	}{
		"a platform's":                        {&Bundle{platform: true}, unlogged, &material{}, demands{sct: true, entry: true, stamp: true}},
		"a certificate":                       {&Bundle{Certificate: cert}, Signer{}, &material{}, demands{}},
		"a certificate, and logs":             {&Bundle{Certificate: cert}, Signer{}, &material{logs: logs}, demands{entry: true}},
		"a certificate, and CT logs":          {&Bundle{Certificate: cert}, Signer{}, &material{ct: logs}, demands{sct: true}},
		"a key":                               {&Bundle{}, Signer{Key: "key"}, &material{}, demands{entry: true, untimed: true}},
		"a key, and logs":                     {&Bundle{}, Signer{Key: "key"}, &material{logs: logs}, demands{entry: true, untimed: true}},
		"a key without a log":                 {&Bundle{}, unlogged, &material{logs: logs}, demands{untimed: true}},
		"a key without a log, and none":       {&Bundle{Entries: proof}, unlogged, &material{}, demands{untimed: true}},
		"a key without a log, but an entry":   {&Bundle{Entries: proof}, unlogged, &material{logs: logs}, demands{entry: true, untimed: true}},
		"an identity without a log":           {&Bundle{}, Signer{InsecureNoLog: true}, &material{logs: logs}, demands{entry: true, untimed: true}},
		"a key and a promise":                 {&Bundle{Entries: promise}, Signer{Key: "key"}, &material{}, demands{entry: true}},
		"a key, a promise, then a proof":      {&Bundle{Entries: append(promise, proof...)}, Signer{Key: "key"}, &material{}, demands{entry: true}},
		"a key and a timestamp":               {&Bundle{Proto: stamped}, Signer{Key: "key"}, &material{timestamps: authority}, demands{entry: true}},
		"a key and a timestamp of no matter":  {&Bundle{Proto: stamped}, Signer{Key: "key"}, &material{}, demands{entry: true, untimed: true}},
		"a key and an authority of no matter": {&Bundle{}, Signer{Key: "key"}, &material{timestamps: authority}, demands{entry: true, untimed: true}},
		"a certificate that has a timestamp":  {&Bundle{Proto: stamped, Certificate: cert}, Signer{}, &material{timestamps: authority}, demands{}},
	} {
		if got := tt.b.demands(tt.signer, tt.m); got != tt.want {
			t.Errorf("%s: got %+v, want %+v", name, got, tt.want)
		}
	}
}

// Err names the cause: the log, where without it nothing else could be decided.
func TestMainReason(t *testing.T) {
	sig, log := errors.New("signature"), errors.New("log")
	for _, tt := range []struct {
		r    Result
		want error
	}{
		{Result{}, nil},
		{Result{Signature: sig, Log: log}, sig},
		{Result{Signature: sig, Log: log, Undecidable: true}, log},
		{Result{Signature: sig, Undecidable: true}, sig},
		{Result{Signature: sig}, sig},
		{Result{Log: log}, log},
	} {
		if got := tt.r.Err(); got != tt.want {
			t.Errorf("%+v: got %v, want %v", tt.r, got, tt.want)
		}
	}
}

// certificateFor returns a certificate that key signed for itself, with these parts.
func certificateFor(t *testing.T, key crypto.Signer, template *x509.Certificate) *x509.Certificate {
	template.SerialNumber = big.NewInt(1)
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

// A certificate has one subject and one issuer, whichever way it is read.
func TestIdentityOfCertificate(t *testing.T) {
	key := newKey(t)
	issuer := func(old, now string) []pkix.Extension {
		var all []pkix.Extension
		if old != "" {
			//lint:ignore SA1019 deprecated, but certificates have it
			all = append(all, pkix.Extension{Id: certificate.OIDIssuer, Value: []byte(old)})
		}
		if now != "" {
			der, err := asn1.MarshalWithParams(now, "utf8")
			if err != nil {
				t.Fatal(err)
			}
			all = append(all, pkix.Extension{Id: certificate.OIDIssuerV2, Value: der})
		}
		return all
	}
	one := []string{"a@example.com"}
	for name, tt := range map[string]struct {
		template *x509.Certificate
		want     string
	}{
		"one":                   {&x509.Certificate{EmailAddresses: one, ExtraExtensions: issuer("x", "x")}, ""},
		"older issuer":          {&x509.Certificate{EmailAddresses: one, ExtraExtensions: issuer("x", "")}, ""},
		"newer issuer":          {&x509.Certificate{EmailAddresses: one, ExtraExtensions: issuer("", "x")}, ""},
		"two issuers":           {&x509.Certificate{EmailAddresses: one, ExtraExtensions: issuer("x", "y")}, `got the issuers "x" and "y", want one`},
		"nobody":                {&x509.Certificate{}, "its subject alternative name"},
		"two names":             {&x509.Certificate{EmailAddresses: []string{"a@example.com", "b@example.com"}}, "got 2 subject alternative names, want 1"},
		"a name and a host":     {&x509.Certificate{EmailAddresses: one, DNSNames: []string{"example.com"}}, "got 2 subject alternative names, want 1"},
		"a name and an address": {&x509.Certificate{EmailAddresses: one, IPAddresses: []net.IP{{127, 0, 0, 1}}}, "got 2 subject alternative names, want 1"},
	} {
		id, err := identity(certificateFor(t, key, tt.template))
		says(t, name, err, tt.want)
		if err == nil && (id.Issuer != "x" || id.SubjectAlternativeName != one[0]) || err != nil && id.SubjectAlternativeName != "" {
			t.Errorf("%s: got %+v", name, id)
		}
	}
}

// Only the name in Fulcio's form is taken out of the extensions that nobody read.
func TestKnownName(t *testing.T) {
	other := asn1.ObjectIdentifier{1, 2, 3}
	for _, tt := range []struct{ unread, want []asn1.ObjectIdentifier }{
		{nil, nil},
		{[]asn1.ObjectIdentifier{oidSAN}, nil},
		{[]asn1.ObjectIdentifier{other}, []asn1.ObjectIdentifier{other}},
		{[]asn1.ObjectIdentifier{other, oidSAN}, []asn1.ObjectIdentifier{other}},
	} {
		cert := &x509.Certificate{UnhandledCriticalExtensions: tt.unread}
		got := withKnownName(cert)
		if len(got.UnhandledCriticalExtensions) != len(tt.want) || len(cert.UnhandledCriticalExtensions) != len(tt.unread) || (got == cert) != (tt.unread == nil) {
			t.Errorf("%v: got %v, want %v", tt.unread, got.UnhandledCriticalExtensions, tt.want)
		}
	}
}

// A statement names the digest among its subjects, and nothing that contradicts it.
func TestAboutDigest(t *testing.T) {
	want := digestOfContent("x")
	sums := map[string][]byte{}
	for name, new := range sha2 {
		h := new()
		h.Write([]byte("x"))
		sums[name] = h.Sum(nil)
	}
	right := hex.EncodeToString(sums["sha512"])
	for name, tt := range map[string]struct {
		subjects []map[string]string
		about    string // aboutDigest
		sums     string // aboutSums
		other    bool   // namedOtherwise
	}{
		"none":                  {nil, `got "", want`, `got "", want`, false},
		"the digest":            {[]map[string]string{{"sha256": want.Hex}}, "", "", false},
		"the second":            {[]map[string]string{{"sha256": "a"}, {"sha256": want.Hex}}, "", "", false},
		"another":               {[]map[string]string{{"sha256": "a", "sha512": "b"}}, `got "sha256:a", want`, `got "sha256:a"`, false},
		"another algorithm":     {[]map[string]string{{"sha512": right}}, `got "sha512:` + right, "", true},
		"unknown algorithms":    {[]map[string]string{{"a": "b", "c": "d"}}, `got "a:b, c:d", want`, `got "a:b, c:d", want`, true},
		"contradicts itself":    {[]map[string]string{{"sha256": want.Hex, "sha512": "a"}}, "", "beside digests of something else", false},
		"three others":          {[]map[string]string{{"sha256": "a"}, {"sha256": "b"}, {"sha256": "c"}}, `got "sha256:a, sha256:b, sha256:c", want`, "got", false},
		"four others":           {[]map[string]string{{"sha256": "a"}, {"sha256": "b"}, {"sha256": "c"}, {"sha256": "d"}}, `got "sha256:a, sha256:b, sha256:c, …", want`, "got", false},
		"the second, otherwise": {[]map[string]string{{"sha256": "a"}, {"sha512": right}}, "got", "", true},
	} {
		st := new(attest.Statement)
		for _, d := range tt.subjects {
			st.Subject = append(st.Subject, attest.Subject{Digest: d})
		}
		b := &Bundle{Statement: st}
		says(t, name, b.About(want), tt.about)
		says(t, name+", by sums", aboutSums(st, Subject{Digest: want}, sums), tt.sums)
		if got := b.namedOtherwise("sha256"); got != tt.other {
			t.Errorf("%s: named otherwise: got %v, want %v", name, got, tt.other)
		}
	}
	message := new(Bundle)
	says(t, "a message", message.About(want), "")
	if message.namedOtherwise("sha256") {
		t.Error("a message has no subject to name")
	}
}

// Digests of a subject are those of its content, or the one given.
func TestSumsOfSubject(t *testing.T) {
	good := digestOfContent("x")
	content := func() io.Reader { return strings.NewReader("x") }
	for name, tt := range map[string]struct {
		s    Subject
		want string
		sums int
	}{
		"digest alone":      {Subject{Digest: good}, "", 1},
		"content":           {Subject{Digest: good, Content: content()}, "", 3},
		"another content":   {Subject{Digest: good, Content: strings.NewReader("y")}, "content: got sha256:", 0},
		"unreadable":        {Subject{Digest: good, Content: iotest.ErrReader(errors.New("disk"))}, "content: disk", 0},
		"no digest":         {Subject{Content: content()}, "want sha256 and 64 hex digits", 0},
		"another algorithm": {Subject{Digest: v1.Hash{Algorithm: "sha512", Hex: good.Hex}}, "want sha256 and 64 hex digits", 0},
		"short":             {Subject{Digest: v1.Hash{Algorithm: "sha256", Hex: "ab"}}, "want sha256 and 64 hex digits", 0},
		"not hex":           {Subject{Digest: v1.Hash{Algorithm: "sha256", Hex: good.Hex + "x"}}, "want sha256 and 64 hex digits", 0},
	} {
		sums, err := tt.s.sums([]string{"sha256", "sha384", "", "sha512", "sha256", "md5"})
		says(t, name, err, tt.want)
		if len(sums) != tt.sums || err == nil && hex.EncodeToString(sums["sha256"]) != good.Hex {
			t.Errorf("%s: got %x", name, sums)
		}
	}
}

// Each kind of key verifies what it signs, in the forms that exist, and nothing else.
func TestKindsOfKeys(t *testing.T) {
	curve := func(c elliptic.Curve) crypto.Signer {
		k, err := ecdsa.GenerateKey(c, rand.Reader)
		if err != nil {
			t.Fatal(err)
		}
		return k
	}
	_, edwards, err := ed25519.GenerateKey(rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	content := []byte("content")
	digest := func(h crypto.Hash, of []byte) []byte {
		if h == 0 {
			return of
		}
		w := h.New()
		w.Write(of)
		return w.Sum(nil)
	}
	st, err := attest.NewStatement("a", digestOfContent("content").Hex, "https://example.com/test", struct{}{})
	if err != nil {
		t.Fatal(err)
	}
	for name, tt := range map[string]struct {
		key      crypto.Signer
		cert     bool
		envelope bool
		image    bool // a payload of cosign v2
		hash     crypto.Hash
		bare     bool // the content is not known
		want     string
	}{
		"P-256":                                    {curve(elliptic.P256()), false, false, false, crypto.SHA256, false, ""},
		"P-256, without the content":               {curve(elliptic.P256()), false, false, false, crypto.SHA256, true, ""},
		"P-256, envelope":                          {curve(elliptic.P256()), true, true, false, crypto.SHA256, true, ""},
		"P-256 with SHA-512":                       {curve(elliptic.P256()), true, false, false, crypto.SHA512, false, "does not match"},
		"P-384":                                    {curve(elliptic.P384()), false, false, false, crypto.SHA384, false, ""},
		"P-384, by a certificate":                  {curve(elliptic.P384()), true, true, false, crypto.SHA384, false, ""},
		"P-384 with SHA-256":                       {curve(elliptic.P384()), true, false, false, crypto.SHA256, false, ""},
		"P-384 with SHA-256, no content":           {curve(elliptic.P384()), true, false, false, crypto.SHA256, true, ""},
		"P-384 with SHA-256, envelope":             {curve(elliptic.P384()), true, true, false, crypto.SHA256, false, ""},
		"P-384 with SHA-256, by a key":             {curve(elliptic.P384()), false, false, false, crypto.SHA256, false, "does not match"},
		"P-521":                                    {curve(elliptic.P521()), false, true, false, crypto.SHA512, false, ""},
		"P-521 with SHA-256":                       {curve(elliptic.P521()), true, false, false, crypto.SHA256, false, ""},
		"P-521 with SHA-256, by a key":             {curve(elliptic.P521()), false, true, false, crypto.SHA256, false, "does not match"},
		"P-224":                                    {curve(elliptic.P224()), false, false, false, crypto.SHA256, false, "key: got a *ecdsa"},
		"P-384 with SHA-256, by a key, no content": {curve(elliptic.P384()), false, false, false, crypto.SHA256, true, "does not match"},
		"Ed25519, envelope":                        {edwards, true, true, false, 0, false, ""},
		"Ed25519, prehashed envelope":              {edwards, true, true, false, crypto.SHA512, false, "does not match"},
		"Ed25519, prehashed":                       {edwards, false, false, false, crypto.SHA512, false, ""},
		"Ed25519, message":                         {edwards, false, false, false, 0, false, "does not match"},
		"Ed25519, image by a key":                  {edwards, false, false, true, 0, false, ""},
		"Ed25519, prehashed image by key":          {edwards, false, false, true, crypto.SHA512, false, "does not match"},
		"Ed25519, image, by a certificate":         {edwards, true, false, true, crypto.SHA512, false, ""},
		"Ed25519, no prehash, certificate":         {edwards, true, false, true, 0, false, "does not match"},
		"P-256, image":                             {curve(elliptic.P256()), false, false, true, crypto.SHA256, false, ""},
	} {
		b := &Bundle{Proto: protoOf(st, nil, time.Time{})}
		signed := content
		if tt.envelope {
			if b.Statement, err = attest.ParseStatement(st); err != nil {
				t.Fatal(err)
			}
			signed = dsse.PAE(attest.PayloadType, st)
		}
		var opts crypto.SignerOpts = tt.hash
		signature, err := tt.key.Sign(rand.Reader, digest(tt.hash, signed), opts)
		if err != nil {
			t.Fatal(err)
		}
		if tt.envelope {
			b.Proto.GetDsseEnvelope().Signatures[0].Sig = signature
		} else {
			b.Proto.Content = &protobundle.Bundle_MessageSignature{MessageSignature: &commonpb.MessageSignature{
				Signature: signature, MessageDigest: &commonpb.HashOutput{Algorithm: commonpb.HashAlgorithm_SHA2_256, Digest: digest(crypto.SHA256, content)},
			}}
		}
		if tt.image {
			b.Payload, b.Image = content, digestOfContent("image").String()
		}
		key := tt.key.Public()
		if tt.cert {
			b.Certificate, key = certificateFor(t, tt.key, &x509.Certificate{}), nil
		}
		subject := Subject{Digest: digestOfContent("content"), Content: bytes.NewReader(content)}
		if tt.image {
			subject = Subject{Digest: digestOfContent("image")}
		}
		if tt.bare {
			subject.Content = nil
		}
		s, err := b.seal(Signer{Key: key})
		if err == nil {
			err = s.about(b, subject)
		}
		says(t, name, err, tt.want)
	}
}

// What a bundle must contain before anything of it is verified.
func TestSeal(t *testing.T) {
	message := func(a commonpb.HashAlgorithm, signature string) *Bundle {
		return &Bundle{Payload: []byte("payload"), Proto: &protobundle.Bundle{Content: &protobundle.Bundle_MessageSignature{MessageSignature: &commonpb.MessageSignature{
			Signature: []byte(signature), MessageDigest: &commonpb.HashOutput{Algorithm: a, Digest: []byte("digest")},
		}}}}
	}
	for a, want := range map[commonpb.HashAlgorithm]string{
		commonpb.HashAlgorithm_SHA2_256: "sha256", commonpb.HashAlgorithm_SHA2_384: "sha384", commonpb.HashAlgorithm_SHA2_512: "sha512",
		//lint:ignore SA1019 deprecated, but a stranger may still write it
		commonpb.HashAlgorithm_SHA3_256: "", commonpb.HashAlgorithm_HASH_ALGORITHM_UNSPECIFIED: "",
	} {
		s, err := message(a, "s").seal(Signer{Key: "key"})
		switch {
		case want == "":
			says(t, a.String(), err, "message digest algorithm: got")
		case err != nil || s.algorithm != want || s.envelope || s.key != "key" || string(s.digest) != "digest" || string(s.signature) != "s" || string(s.signed) != "payload":
			t.Errorf("%s: got %+v, %v", a, s, err)
		}
	}
	_, err := message(commonpb.HashAlgorithm_SHA2_256, "").seal(Signer{})
	says(t, "no signature", err, "the bundle has no signature")
	pb := protoOf([]byte("payload"), []byte("s"), time.Time{})
	s, err := (&Bundle{Proto: pb}).seal(Signer{})
	if err != nil || !s.envelope || string(s.payload) != "payload" || string(s.signature) != "s" || !bytes.Equal(s.signed, dsse.PAE(attest.PayloadType, []byte("payload"))) {
		t.Errorf("envelope: got %+v, %v", s, err)
	}
	pb.GetDsseEnvelope().Signatures = nil
	_, err = (&Bundle{Proto: pb}).seal(Signer{})
	says(t, "no signature of an envelope", err, "envelope: got 0 signatures, want 1")
	says(t, "message about something else", (&sealed{key: newKey(t).Public(), algorithm: "sha256", digest: []byte("x")}).about(new(Bundle), Subject{Digest: digestOfContent("x")}), "but the signature is about sha256:78")
	says(t, "message by a digest that is not known", (&sealed{key: newKey(t).Public(), algorithm: "sha512", digest: []byte("x")}).about(new(Bundle), Subject{Digest: digestOfContent("x")}), "but the signature is about sha512:78")
}

// A subject that cannot be the one named is refused before anything else is read.
func TestSubjectFirst(t *testing.T) {
	unreadable := iotest.ErrReader(errors.New("disk"))
	for name, tt := range map[string]struct {
		named   map[string]string
		content io.Reader
		want    string
	}{
		"another digest":                     {map[string]string{"sha256": "a"}, nil, "subject of the statement: got"},
		"another digest, and content":        {map[string]string{"sha256": "a"}, unreadable, "subject of the statement: got"},
		"another algorithm":                  {map[string]string{"sha512": "a"}, nil, "subject of the statement: got"},
		"another algorithm, and content":     {map[string]string{"sha512": "a"}, unreadable, "content: disk"},
		"this digest":                        {map[string]string{"sha256": digestOfContent("x").Hex}, nil, "does not match what is signed"},
		"this digest, and content":           {map[string]string{"sha256": digestOfContent("x").Hex}, unreadable, "content: disk"},
		"this digest, and the right content": {map[string]string{"sha256": digestOfContent("x").Hex}, strings.NewReader("x"), "does not match what is signed"},
	} {
		b := &Bundle{Proto: protoOf([]byte("payload"), []byte("s"), time.Time{}), Statement: &attest.Statement{Subject: []attest.Subject{{Digest: tt.named}}}}
		r := b.verify(Subject{Digest: digestOfContent("x"), Content: tt.content}, Signer{Key: newKey(t).Public()}, &material{}, demands{}, time.Now())
		says(t, name, r.Signature, tt.want)
		if r.Passed != 0 || r.Log == nil || r.Index != -1 {
			t.Errorf("%s: got %+v", name, r)
		}
	}
	says(t, "a key, and no key signed", (&Bundle{Certificate: new(x509.Certificate)}).verify(Subject{}, Signer{Key: "key"}, nil, demands{}, time.Now()).Signature, errCertificateSigned.Error())
	says(t, "no key, and a key signed", new(Bundle).verify(Subject{}, Signer{}, nil, demands{}, time.Now()).Signature, errKeySigned.Error())
	says(t, "no time", new(Bundle).verify(Subject{}, Signer{}, nil, demands{}, time.Time{}).Signature, "the time of verification is not set")
}

// A certificate must be valid at each time of its signature, and its authority trusted.
func TestCertificateAtItsTimes(t *testing.T) {
	at := time.Unix(1e9, 0)
	cert := newCertificate(t, newKey(t), at) // from a minute before to nine after
	for name, tt := range map[string]struct {
		times       []time.Time
		until       time.Time
		ask         demands
		want, log   string
		undecidable bool
		passed      int
	}{
		"no time":                           {nil, at, demands{}, "it is unknown when the certificate signed", "", true, 0},
		"no time, of a stranger":            {nil, at.Add(-time.Hour), demands{}, "is not of a trusted authority", "", false, 0},
		"in its time":                       {[]time.Time{at}, at, demands{}, "", "", false, 2},
		"at its first second, and its last": {[]time.Time{cert.NotBefore, cert.NotAfter}, cert.NotAfter, demands{}, "", "", false, 2},
		"before":                            {[]time.Time{cert.NotBefore.Add(-time.Second)}, at, demands{}, "was not valid when it signed", "but the certificate is valid", true, 0},
		"once after":                        {[]time.Time{at, cert.NotAfter.Add(time.Second)}, at, demands{}, "was not valid when it signed", "but the certificate is valid", true, 0},
		"of a stranger":                     {[]time.Time{at}, at.Add(-1), demands{}, "is not of a trusted authority", "", false, 0},
		"no SCT":                            {[]time.Time{at}, at, demands{sct: true}, "the certificate has no SCT of a trusted certificate transparency log: no list", "", false, 1},
	} {
		v := &verification{Result: &Result{Times: tt.times}, bundle: &Bundle{Certificate: cert}, material: &material{ca: until{fixed{until: tt.until}}}, ask: tt.ask, now: at}
		says(t, name, v.certificate(), tt.want)
		says(t, name+", log", v.Log, tt.log)
		if v.Undecidable != tt.undecidable || v.Passed != tt.passed {
			t.Errorf("%s: got undecidable %v, and %d checks passed", name, v.Undecidable, v.Passed)
		}
	}
}

// If a timestamp does not count because no authority is trusted, the error says so. It has no other
// reason of the timestamp library, whose words help nobody.
func TestUnstamped(t *testing.T) {
	if err := unstamped(errors.Join(errors.New("x"), errNoStamper)); !errors.Is(err, errNoStamper) {
		t.Errorf("no timestamp authority: got %v, want %v", err, errNoStamper)
	}
	if err := unstamped(errors.New("pkcs7: x")); err != nil {
		t.Errorf("words of a library: got %v, want none", err)
	}
}
