package tsa

import (
	"bytes"
	"crypto"
	"crypto/sha1"
	"crypto/sha256"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/asn1"
	"encoding/pem"
	"io"
	"math/big"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"time"

	"github.com/digitorus/timestamp"
	"github.com/sigstore/timestamp-authority/v2/pkg/verification"

	"github.com/colophon-build/colophon/test/await"
)

const query = "application/timestamp-query"

func platform(t testing.TB, dir string) (*Service, string) {
	t.Helper()
	s, err := New(Config{Dir: dir})
	if err != nil {
		t.Fatal(err)
	}
	mux := http.NewServeMux()
	s.Register(mux)
	srv := httptest.NewServer(mux)
	t.Cleanup(srv.Close)
	return s, srv.URL
}

func post(t testing.TB, url, kind string, body []byte) (int, []byte) {
	t.Helper()
	resp, err := http.Post(url+Path, kind, bytes.NewReader(body))
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	data, err := io.ReadAll(resp.Body)
	if err != nil {
		t.Fatal(err)
	}
	return resp.StatusCode, data
}

// Sigstore's own verifier accepts our timestamps with the chain that we serve.
func TestTokensVerify(t *testing.T) {
	dir := t.TempDir()
	_, url := platform(t, dir)
	_, url2 := platform(t, dir) // a restart keeps the authority's keys
	for _, hash := range []crypto.Hash{crypto.SHA256, crypto.SHA384, crypto.SHA512} {
		for _, certs := range []bool{true, false} {
			nonce := new(big.Int).SetBytes([]byte("a nonce"))
			req, err := timestamp.CreateRequest(strings.NewReader("artifact"), &timestamp.RequestOptions{Hash: hash, Certificates: certs, Nonce: nonce})
			if err != nil {
				t.Fatal(err)
			}
			status, reply := post(t, url, query, req)
			if status != 200 {
				t.Fatalf("got %d: %s", status, reply)
			}
			resp, err := http.Get(url2 + Path + "/certchain")
			if err != nil {
				t.Fatal(err)
			}
			chain, err := io.ReadAll(resp.Body)
			resp.Body.Close()
			if err != nil {
				t.Fatal(err)
			}
			leaf, rest := pem.Decode(chain)
			root, _ := pem.Decode(rest)
			ts, err := verification.VerifyTimestampResponse(reply, strings.NewReader("artifact"), verification.VerifyOpts{
				OID: policy, TSACertificate: cert(t, leaf.Bytes), Roots: []*x509.Certificate{cert(t, root.Bytes)}, Nonce: nonce,
			})
			if err != nil {
				t.Fatalf("%s: %v", hash, err)
			}
			if ago := time.Since(ts.Time); ago < -time.Second || ago > await.Patience {
				t.Errorf("got time %s", ts.Time)
			}
			if got := len(ts.Certificates) > 0; got != certs {
				t.Errorf("got certificates: %t, want %t", got, certs)
			}
		}
	}
}

func cert(t testing.TB, der []byte) *x509.Certificate {
	t.Helper()
	c, err := x509.ParseCertificate(der)
	if err != nil {
		t.Fatal(err)
	}
	return c
}

func TestBadRequestsGetNoToken(t *testing.T) {
	s, url := platform(t, t.TempDir())
	digest := sha256.Sum256([]byte("x"))
	weak := sha1.Sum([]byte("x"))
	marshal := func(r timestamp.Request) []byte {
		der, err := r.Marshal()
		if err != nil {
			t.Fatal(err)
		}
		return der
	}
	good := timestamp.Request{HashAlgorithm: crypto.SHA256, HashedMessage: digest[:]}
	if status, reply := post(t, url, query, marshal(good)); status != 200 {
		t.Fatalf("got %d: %s", status, reply)
	}
	with := func(change func(*timestamp.Request)) []byte {
		r := good
		change(&r)
		return marshal(r)
	}
	version2 := bytes.Replace(marshal(good), []byte{2, 1, 1}, []byte{2, 1, 2}, 1)
	for name, c := range map[string]struct {
		kind string
		body []byte
	}{
		"json":          {"application/json", []byte(`{"artifactHash":"x"}`)},
		"no type":       {"", marshal(good)},
		"wrong type":    {"application/timestamp-reply", marshal(good)},
		"empty":         {query, nil},
		"garbage":       {query, []byte("garbage")},
		"trailing data": {query, append(marshal(good), 0)},
		"version 2":     {query, version2},
		"huge":          {query, make([]byte, maxRequest+1)},
		"SHA-1":         {query, marshal(timestamp.Request{HashAlgorithm: crypto.SHA1, HashedMessage: weak[:]})},
		"short digest":  {query, with(func(r *timestamp.Request) { r.HashedMessage = digest[:31] })},
		"other policy":  {query, with(func(r *timestamp.Request) { r.TSAPolicyOID = asn1.ObjectIdentifier{1, 2, 3} })},
		"extension": {query, with(func(r *timestamp.Request) {
			r.ExtraExtensions = []pkix.Extension{{Id: asn1.ObjectIdentifier{1, 2, 3}, Value: []byte{5, 0}}}
		})},
		"over-long nonce": {query, with(func(r *timestamp.Request) { r.Nonce = new(big.Int).Lsh(big.NewInt(1), 4000) })},
		"negative nonce":  {query, with(func(r *timestamp.Request) { r.Nonce = big.NewInt(-1) })},
	} {
		status, reply := post(t, url, c.kind, c.body)
		if status == 200 {
			if _, err := timestamp.ParseResponse(reply); err == nil {
				t.Errorf("%s: got a token", name)
			}
		}
	}
	// While the system clock is set back, the authority issues no timestamps.
	s.now = func() time.Time { return time.Now().Add(-time.Minute) }
	if _, err := s.reply(marshal(good)); err == nil {
		t.Error("got a back-dated token")
	}
	s.now = func() time.Time { return time.Now().Add(leafLife) }
	if _, err := s.reply(marshal(good)); err == nil {
		t.Error("got a token after the certificate's end")
	}
}

func BenchmarkTimestamp(b *testing.B) {
	s, err := New(Config{Dir: b.TempDir()})
	if err != nil {
		b.Fatal(err)
	}
	req, err := timestamp.CreateRequest(strings.NewReader("artifact"), &timestamp.RequestOptions{Certificates: true})
	if err != nil {
		b.Fatal(err)
	}
	for b.Loop() {
		if _, err := s.reply(req); err != nil {
			b.Fatal(err)
		}
	}
}

// For any input, parse accepts only requests with a digest of the right size and nothing
// that is unsafe to sign.
func FuzzParse(f *testing.F) {
	digest := sha256.Sum256([]byte("x"))
	for _, r := range []timestamp.Request{
		{HashAlgorithm: crypto.SHA256, HashedMessage: digest[:]},
		{HashAlgorithm: crypto.SHA256, HashedMessage: digest[:], Certificates: true, Nonce: big.NewInt(7), TSAPolicyOID: policy},
	} {
		der, err := r.Marshal()
		if err != nil {
			f.Fatal(err)
		}
		f.Add(der)
	}
	f.Fuzz(func(t *testing.T, der []byte) {
		req, err := parse(der)
		if err != nil {
			return
		}
		if len(req.HashedMessage) != sizes[req.HashAlgorithm] || len(req.Extensions) > 0 {
			t.Errorf("took %x", der)
		}
	})
}

// The host's clock jumps: no timestamp is older than an earlier one, and none lies outside
// the certificate's validity. Once the clock is right again, the authority goes on.
func TestClockJumps(t *testing.T) {
	s, _ := platform(t, t.TempDir())
	digest := sha256.Sum256([]byte("x"))
	request, err := (&timestamp.Request{HashAlgorithm: crypto.SHA256, HashedMessage: digest[:]}).Marshal()
	if err != nil {
		t.Fatal(err)
	}
	began, last := time.Now(), time.Time{}
	for _, jump := range []struct {
		by     time.Duration
		issues bool
	}{
		{0, true}, {time.Hour, true}, {0, false}, {-24 * time.Hour, false}, {time.Hour - time.Minute, false}, {2 * time.Hour, true},
		{leafLife + time.Hour, false}, {-20 * leafLife, false}, {3 * time.Hour, true},
	} {
		s.now = func() time.Time { return began.Add(jump.by) }
		reply, err := s.reply(request)
		if (err == nil) != jump.issues {
			t.Errorf("clock moved by %s: got %v, want a timestamp: %v", jump.by, err, jump.issues)
		}
		if err != nil {
			continue
		}
		ts, err := timestamp.ParseResponse(reply)
		if err != nil {
			t.Fatal(err)
		}
		if ts.Time.Before(last) {
			t.Errorf("clock moved by %s: got the time %s after %s", jump.by, ts.Time, last)
		}
		last = ts.Time
	}
}
