package ctlog

import (
	"bytes"
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/sha256"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/asn1"
	"encoding/base64"
	"encoding/binary"
	"encoding/hex"
	"fmt"
	"io"
	"math/big"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	ct "github.com/google/certificate-transparency-go"
	cttls "github.com/google/certificate-transparency-go/tls"
	"github.com/transparency-dev/formats/log"
	"github.com/transparency-dev/merkle/compact"
	"github.com/transparency-dev/merkle/rfc6962"

	"github.com/colophon-build/colophon/internal/intact"
)

type authority struct {
	key  *ecdsa.PrivateKey
	cert *x509.Certificate
}

func newAuthority(t testing.TB) authority {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	tmpl := &x509.Certificate{
		SerialNumber: big.NewInt(1), Subject: pkix.Name{CommonName: "ca"}, IsCA: true, BasicConstraintsValid: true,
		NotBefore: time.Now(), NotAfter: time.Now().Add(time.Hour), KeyUsage: x509.KeyUsageCertSign,
	}
	der, err := x509.CreateCertificate(rand.Reader, tmpl, tmpl, key.Public(), key)
	if err != nil {
		t.Fatal(err)
	}
	cert, err := x509.ParseCertificate(der)
	if err != nil {
		t.Fatal(err)
	}
	return authority{key, cert}
}

var poison = pkix.Extension{Id: asn1.ObjectIdentifier{1, 3, 6, 1, 4, 1, 11129, 2, 4, 3}, Critical: true, Value: asn1.NullBytes}

func (a authority) precert(t testing.TB, serial int64, exts ...pkix.Extension) []*x509.Certificate {
	t.Helper()
	tmpl := &x509.Certificate{
		SerialNumber: big.NewInt(serial), NotBefore: time.Now(), NotAfter: time.Now().Add(10 * time.Minute),
		ExtraExtensions: exts,
	}
	der, err := x509.CreateCertificate(rand.Reader, tmpl, a.cert, a.key.Public(), a.key)
	if err != nil {
		t.Fatal(err)
	}
	cert, err := x509.ParseCertificate(der)
	if err != nil {
		t.Fatal(err)
	}
	return []*x509.Certificate{cert, a.cert}
}

func open(t testing.TB, dir string) *Service {
	t.Helper()
	s, err := New(Config{KeyDir: filepath.Join(dir, "trust"), TileDir: filepath.Join(dir, "ct"), URL: "http://127.0.0.1:8080"})
	if err != nil {
		t.Fatal(err)
	}
	return s
}

// After kill -9 every SCT that was given is in the tree that the next
// checkpoint signs, and numbering goes on.
func TestEverySCTIsInTheTreeAfterACrash(t *testing.T) {
	dir, ca := t.TempDir(), newAuthority(t)
	s := open(t, dir)
	leaves := map[uint64][]byte{}
	var mu sync.Mutex
	add := func(s *Service, serial int64) {
		chain := ca.precert(t, serial, poison)
		sct, err := s.AddPreChain(t.Context(), chain)
		if err != nil {
			t.Error(err)
			return
		}
		index, leaf := leafOf(t, s, chain, sct)
		mu.Lock()
		defer mu.Unlock()
		if leaves[index] != nil {
			t.Errorf("index %d was given twice", index)
		}
		leaves[index] = leaf
	}
	var wg sync.WaitGroup
	for i := range 20 {
		wg.Go(func() { add(s, int64(i)) })
	}
	wg.Wait()
	// A copy of the directory, taken now, is what kill -9 leaves.
	crashed := t.TempDir()
	if err := os.CopyFS(crashed, os.DirFS(dir)); err != nil {
		t.Fatal(err)
	}
	if err := os.Chmod(filepath.Join(crashed, "trust", "ctlog.key"), 0o600); err != nil {
		t.Fatal(err)
	}
	if err := s.Close(t.Context()); err != nil {
		t.Fatal(err)
	}
	again := open(t, crashed)
	if !s.key.Equal(again.key.PrivateKey) {
		t.Fatal("the restarted log has another key")
	}
	add(again, 100)
	if err := again.Close(t.Context()); err != nil { // waits for the checkpoint
		t.Fatal(err)
	}
	again = open(t, crashed)
	defer again.Close(context.Background())
	checkTree(t, again, leaves)
}

// leafOf verifies the SCT and returns what it says: index and leaf hash.
func leafOf(t *testing.T, s *Service, chain []*x509.Certificate, sct *ct.SignedCertificateTimestamp) (uint64, []byte) {
	t.Helper()
	v, err := ct.NewSignatureVerifier(s.PublicKey())
	if err != nil {
		t.Fatal(err)
	}
	leaf, err := ct.MerkleTreeLeafFromRawChain([]ct.ASN1Cert{{Data: chain[0].Raw}, {Data: chain[1].Raw}}, ct.PrecertLogEntryType, sct.Timestamp)
	if err != nil {
		t.Fatal(err)
	}
	if err := v.VerifySCTSignature(*sct, ct.LogEntry{Leaf: *leaf}); err != nil {
		t.Fatal(err)
	}
	leaf.TimestampedEntry.Extensions = sct.Extensions
	h, err := ct.LeafHashForLeaf(leaf)
	if err != nil {
		t.Fatal(err)
	}
	if len(sct.Extensions) != 8 {
		t.Fatalf("got extensions %x, want a leaf index", sct.Extensions)
	}
	return binary.BigEndian.Uint64(append([]byte{0, 0, 0}, sct.Extensions[3:]...)), h[:]
}

// checkTree reads the log over HTTP, as a monitor does.
func checkTree(t *testing.T, s *Service, leaves map[uint64][]byte) {
	t.Helper()
	mux := http.NewServeMux()
	s.Register(mux)
	srv := httptest.NewServer(mux)
	defer srv.Close()
	note := get(t, srv.URL+"/ct/checkpoint", 200)
	var cp log.Checkpoint
	rest, err := cp.Unmarshal(note)
	if err != nil {
		t.Fatal(err)
	}
	if cp.Origin != "127.0.0.1:8080/ct" || cp.Size != uint64(len(leaves)) {
		t.Fatalf("got checkpoint of %q with %d entries, want %d", cp.Origin, cp.Size, len(leaves))
	}
	rf := compact.RangeFactory{Hash: rfc6962.DefaultHasher.HashChildren}
	r := rf.NewEmptyRange(0)
	for i := range cp.Size {
		if leaves[i] == nil {
			t.Fatalf("entry %d is nobody's", i)
		}
		if err := r.Append(leaves[i], nil); err != nil {
			t.Fatal(err)
		}
	}
	root, err := r.GetRootHash(nil)
	if err != nil {
		t.Fatal(err)
	}
	if !bytes.Equal(root, cp.Hash) {
		t.Errorf("got root %x, want %x of all that was promised", cp.Hash, root)
	}
	checkTreeHead(t, s, cp, rest)
	tile := get(t, fmt.Sprintf("%s/ct/tile/0/000.p/%d", srv.URL, cp.Size), 200)
	if len(tile) != int(cp.Size)*sha256.Size {
		t.Errorf("got a tile of %d bytes, want %d hashes", len(tile), cp.Size)
	}
	get(t, fmt.Sprintf("%s/ct/tile/data/000.p/%d", srv.URL, cp.Size), 200)
	issuers, err := filepath.Glob(filepath.Join(s.root.Name(), "issuer", "*"))
	if err != nil || len(issuers) == 0 {
		t.Errorf("got issuers %q, %v, want some", issuers, err)
	}
	for _, i := range issuers {
		if sum := sha256.Sum256(get(t, srv.URL+"/ct/issuer/"+filepath.Base(i), 200)); hex.EncodeToString(sum[:]) != filepath.Base(i) {
			t.Errorf("the certificate %s is another", filepath.Base(i))
		}
	}
	for _, path := range []string{".state/treeState", "issuer/", "issuer/" + strings.Repeat("0", 64), "issuer/" + strings.Repeat("0", 63), "", fmt.Sprintf("tile/entries/000.p/%d", cp.Size), "tile/data/000.p/256", "tile/0/x000/000", "tile/0/../../../trust/ctlog.key", "tile/0/%2e%2e/%2e%2e/%2e%2e/trust/ctlog.key", "tile/0", "checkpoint/"} {
		get(t, srv.URL+"/ct/"+path, 404)
	}
}

func checkTreeHead(t *testing.T, s *Service, cp log.Checkpoint, signatures []byte) {
	t.Helper()
	line := strings.TrimSpace(string(signatures))
	b64, ok := strings.CutPrefix(line, "— 127.0.0.1:8080/ct ")
	if !ok {
		t.Fatalf("got signature line %q", line)
	}
	raw, err := base64.StdEncoding.DecodeString(b64)
	if err != nil {
		t.Fatal(err)
	}
	var ds cttls.DigitallySigned
	if rest, err := cttls.Unmarshal(raw[12:], &ds); err != nil || len(rest) > 0 {
		t.Fatal(err, rest)
	}
	v, err := ct.NewSignatureVerifier(s.PublicKey())
	if err != nil {
		t.Fatal(err)
	}
	if err := v.VerifySTHSignature(ct.SignedTreeHead{
		Version: ct.V1, Timestamp: binary.BigEndian.Uint64(raw[4:12]), TreeSize: cp.Size,
		SHA256RootHash: ct.SHA256Hash(cp.Hash), TreeHeadSignature: ct.DigitallySigned(ds),
	}); err != nil {
		t.Error(err)
	}
}

func get(t *testing.T, url string, want int) []byte {
	t.Helper()
	resp, err := http.Get(url)
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	body, err := io.ReadAll(resp.Body)
	if err != nil {
		t.Fatal(err)
	}
	if resp.StatusCode != want {
		t.Errorf("%s: got %d, want %d", url, resp.StatusCode, want)
	}
	return body
}

func TestOnlyHonestChainsAreLogged(t *testing.T) {
	s := open(t, t.TempDir())
	defer s.Close(context.Background())
	ca, other := newAuthority(t), newAuthority(t)
	good := ca.precert(t, 1, poison)
	if _, err := s.AddPreChain(t.Context(), good); err != nil {
		t.Fatal(err)
	}
	for name, chain := range map[string][]*x509.Certificate{
		"empty":             nil,
		"no issuer":         good[:1],
		"foreign issuer":    {good[0], other.cert},
		"no poison":         ca.precert(t, 2),
		"poison uncritical": ca.precert(t, 3, pkix.Extension{Id: poison.Id, Value: poison.Value}),
	} {
		if _, err := s.AddPreChain(t.Context(), chain); err == nil {
			t.Errorf("%s: got an SCT", name)
		}
	}
	fp := sha256.Sum256(ca.cert.Raw)
	if _, err := os.Stat(filepath.Join(s.dir, "issuer", hex.EncodeToString(fp[:]))); err != nil {
		t.Error(err)
	}
}

func TestLogWithoutItsKeyDoesNotStart(t *testing.T) {
	dir := t.TempDir()
	s := open(t, dir)
	if err := s.Close(t.Context()); err != nil {
		t.Fatal(err)
	}
	if err := os.RemoveAll(filepath.Join(dir, "trust")); err != nil {
		t.Fatal(err)
	}
	_, err := New(Config{KeyDir: filepath.Join(dir, "trust"), TileDir: filepath.Join(dir, "ct"), URL: "http://127.0.0.1:8080"})
	if err == nil || !strings.Contains(err.Error(), "restore it from a backup") {
		t.Errorf("got error %v", err)
	}
}

func TestAClosedLogAnswers(t *testing.T) {
	s := open(t, t.TempDir())
	if err := s.Close(t.Context()); err != nil {
		t.Fatal(err)
	}
	if _, err := s.AddPreChain(t.Context(), newAuthority(t).precert(t, 1, poison)); err == nil {
		t.Error("a closed log gave an SCT")
	}
}

func BenchmarkSCT(b *testing.B) {
	s := open(b, b.TempDir())
	defer s.Close(context.Background())
	chain := newAuthority(b).precert(b, 1, poison)
	for b.Loop() {
		if _, err := s.AddPreChain(b.Context(), chain); err != nil {
			b.Fatal(err)
		}
	}
}

// flip flips one bit in the middle of a file.
func flip(t *testing.T, path string) (restore func()) {
	t.Helper()
	data, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	bad := bytes.Clone(data)
	bad[len(bad)/2] ^= 1
	if err := os.WriteFile(path, bad, 0o644); err != nil {
		t.Fatal(err)
	}
	return func() {
		if err := os.WriteFile(path, data, 0o644); err != nil {
			t.Fatal(err)
		}
	}
}

// filled is a log with some entries, all under its checkpoint.
func filled(t *testing.T) (dir string) {
	t.Helper()
	dir, ca := t.TempDir(), newAuthority(t)
	s := open(t, dir)
	for i := range 3 {
		if _, err := s.AddPreChain(t.Context(), ca.precert(t, int64(i), poison)); err != nil {
			t.Fatal(err)
		}
	}
	if err := s.Close(t.Context()); err != nil {
		t.Fatal(err)
	}
	return dir
}

// A log that is damaged where Tessera would not notice does not start.
func TestDamagedLogDoesNotStart(t *testing.T) {
	for name, damage := range map[string]func(ct string){
		"checkpoint flipped": func(ct string) { flip(t, filepath.Join(ct, "checkpoint")) },
		"checkpoint missing": func(ct string) { os.Remove(filepath.Join(ct, "checkpoint")) },
		"checkpoint empty":   func(ct string) { os.Truncate(filepath.Join(ct, "checkpoint"), 0) },
		"state missing":      func(ct string) { os.Remove(filepath.Join(ct, ".state", "treeState")) },
		"state flipped":      func(ct string) { flip(t, filepath.Join(ct, ".state", "treeState")) },
		"state older": func(ct string) {
			os.WriteFile(filepath.Join(ct, ".state", "treeState"), []byte(`{"size":0,"root":"47DEQpj8HBSa+/TImW+5JCeuQeRkm5NMpJWZG3hSuFU="}`), 0o644)
		},
		"state of another log": func(ct string) {
			os.CopyFS(filepath.Join(ct, ".state2"), os.DirFS(filepath.Join(filled(t), "ct", ".state")))
			os.Rename(filepath.Join(ct, ".state2", "treeState"), filepath.Join(ct, ".state", "treeState"))
		},
		"checkpoint and state missing": func(ct string) {
			os.Remove(filepath.Join(ct, "checkpoint"))
			os.Remove(filepath.Join(ct, ".state", "treeState"))
		},
		"all missing": func(ct string) { os.RemoveAll(ct) },
		"checkpoint of another key": func(ct string) {
			data, _ := os.ReadFile(filepath.Join(filled(t), "ct", "checkpoint"))
			os.WriteFile(filepath.Join(ct, "checkpoint"), data, 0o644)
		},
	} {
		dir := filled(t)
		damage(filepath.Join(dir, "ct"))
		s, err := New(Config{KeyDir: filepath.Join(dir, "trust"), TileDir: filepath.Join(dir, "ct"), URL: "http://127.0.0.1:8080"})
		if err == nil {
			s.Close(context.Background())
			t.Errorf("%s: started, want an error", name)
		}
	}
}

// What is damaged on the disk is never served, and scrub names it.
func TestDamagedFilesAreNotServed(t *testing.T) {
	dir := filled(t)
	ct := filepath.Join(dir, "ct")
	s := open(t, dir)
	defer s.Close(context.Background())
	mux := http.NewServeMux()
	s.Register(mux)
	srv := httptest.NewServer(mux)
	defer srv.Close()
	issuers, err := os.ReadDir(filepath.Join(ct, "issuer"))
	if err != nil || len(issuers) != 1 {
		t.Fatalf("got %d issuers, %v", len(issuers), err)
	}
	check := func() (r intact.Report) {
		if err := Scrub(t.Context(), &r, filepath.Join(dir, "trust"), ct); err != nil {
			t.Fatal(err)
		}
		return r
	}
	if r := check(); r.Damaged != 0 || r.Files != 4 {
		t.Errorf("scrub: got %+v, want 4 intact files", r)
	}
	for _, path := range []string{"checkpoint", "tile/0/000.p/3", "tile/data/000.p/3", "issuer/" + issuers[0].Name()} {
		get(t, srv.URL+"/ct/"+path, 200)
		restore := flip(t, filepath.Join(ct, path))
		get(t, srv.URL+"/ct/"+path, 500)
		restore()
		whole, err := os.ReadFile(filepath.Join(ct, path))
		if err != nil {
			t.Fatal(err)
		}
		for at := range whole { // wherever it is
			if err := os.WriteFile(filepath.Join(ct, path), slices.Concat(whole[:at], []byte{whole[at] ^ 1}, whole[at+1:]), 0o644); err != nil {
				t.Fatal(err)
			}
			w := httptest.NewRecorder()
			mux.ServeHTTP(w, httptest.NewRequest("GET", "/ct/"+path, nil))
			if w.Code != 500 {
				t.Errorf("%s with a bit flipped in byte %d of %d: got %d, want 500", path, at, len(whole), w.Code)
			}
		}
		restore()
		restore = flip(t, filepath.Join(ct, path))
		if r := check(); r.Damaged == 0 {
			t.Errorf("scrub with a damaged %s: got %+v", path, r)
		}
		restore()
		get(t, srv.URL+"/ct/"+path, 200)
	}
	if err := os.Remove(filepath.Join(ct, "tile/data/000.p/3")); err != nil {
		t.Fatal(err)
	}
	get(t, srv.URL+"/ct/tile/data/000.p/3", 500) // missing, but not a tile that never was
	get(t, srv.URL+"/ct/tile/data/000.p/4", 404)
}

// An issuer that is damaged on the disk is written again when the log needs it.
func TestDamagedIssuerIsRepaired(t *testing.T) {
	dir, ca := t.TempDir(), newAuthority(t)
	for i := range 2 {
		s := open(t, dir)
		if _, err := s.AddPreChain(t.Context(), ca.precert(t, int64(i), poison)); err != nil {
			t.Fatal(err)
		}
		if err := s.Close(t.Context()); err != nil {
			t.Fatal(err)
		}
		path := filepath.Join(dir, "ct", "issuer", fmt.Sprintf("%x", sha256.Sum256(ca.cert.Raw)))
		if got, err := os.ReadFile(path); err != nil || !bytes.Equal(got, ca.cert.Raw) {
			t.Errorf("start %d: got another issuer, %v", i, err)
		}
		flip(t, path)
	}
}
