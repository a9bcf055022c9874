package keypair

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"encoding/pem"
	"errors"
	"log/slog"
	"math/big"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"
)

// write writes a new certificate with this serial number, and its key.
func write(t *testing.T, w *Watched, serial int64) {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	template := &x509.Certificate{SerialNumber: big.NewInt(serial), NotAfter: time.Now().Add(time.Hour)}
	der, err := x509.CreateCertificate(rand.Reader, template, template, key.Public(), key)
	if err != nil {
		t.Fatal(err)
	}
	private, err := x509.MarshalPKCS8PrivateKey(key)
	if err != nil {
		t.Fatal(err)
	}
	block := func(kind string, raw []byte) []byte { return pem.EncodeToMemory(&pem.Block{Type: kind, Bytes: raw}) }
	if err := errors.Join(os.WriteFile(w.Chain, block("CERTIFICATE", der), 0o600), os.WriteFile(w.Key, block("PRIVATE KEY", private), 0o600)); err != nil {
		t.Fatal(err)
	}
}

// TestWatched: a certificate that is replaced counts ten seconds later, one that cannot be read
// never, and without a first one nothing is served.
func TestWatched(t *testing.T) {
	dir := t.TempDir()
	var said strings.Builder
	w := &Watched{Chain: filepath.Join(dir, "chain"), Key: filepath.Join(dir, "key"), Log: slog.New(slog.NewTextHandler(&said, nil))}
	if pair, err := w.Get(nil); err == nil {
		t.Errorf("without files: got %v", pair)
	}
	serves := func(when string, serial int64) {
		t.Helper()
		if pair, err := w.Get(nil); err != nil || pair.Leaf.SerialNumber.Int64() != serial {
			t.Errorf("%s: got %v, %v, want certificate %d", when, pair, err, serial)
		}
	}
	write(t, w, 1)
	serves("at first", 1)
	write(t, w, 2)
	serves("at once", 1)
	w.read = w.read.Add(-time.Minute)
	serves("later", 2)
	if err := os.WriteFile(w.Key, []byte("half"), 0o600); err != nil {
		t.Fatal(err)
	}
	w.read = w.read.Add(-time.Minute)
	serves("while the key is half written", 2)
	if !strings.Contains(said.String(), "the last one stays") {
		t.Errorf("got the log %q", &said)
	}
}
