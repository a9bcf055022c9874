package log

import (
	"crypto/ed25519"
	"crypto/x509"
	"encoding/pem"
	"os"
	"path/filepath"
	"testing"
)

func TestKeyIsKept(t *testing.T) {
	cfg := config(t.TempDir())
	r := start(t, cfg)
	r.add(t, request(t, "one"))
	key, created := r.PublicKey().(ed25519.PublicKey), r.Created()
	st, err := os.Stat(cfg.KeyFile)
	if err != nil || st.Mode().Perm() != 0o600 {
		t.Errorf("mode of the key: got %v, %v, want 0600", st.Mode(), err)
	}
	refused(t, cfg, "in use by another process")
	r.close()
	r = start(t, cfg)
	if !key.Equal(r.PublicKey()) || !created.Equal(r.Created()) {
		t.Error("a restart changed the key or its creation time")
	}
	r.close()

	renamed := cfg
	renamed.Origin = "log.example.com"
	refused(t, renamed, `got origin "log.example.com", want "127.0.0.1"`)
}

// A key file that is not this log's key is refused, and left as it is.
func TestOtherKeyIsRefused(t *testing.T) {
	cfg := config(t.TempDir())
	r := start(t, cfg)
	r.add(t, request(t, "one"))
	r.close()
	good, err := os.ReadFile(cfg.KeyFile)
	if err != nil {
		t.Fatal(err)
	}
	put := func(content []byte, mode os.FileMode) {
		t.Helper()
		os.Remove(cfg.KeyFile)
		if content == nil {
			return
		}
		if err := os.WriteFile(cfg.KeyFile, content, mode); err != nil {
			t.Fatal(err)
		}
		if err := os.Chmod(cfg.KeyFile, mode); err != nil {
			t.Fatal(err)
		}
	}
	encode := func(key any) []byte {
		der, err := x509.MarshalPKCS8PrivateKey(key)
		if err != nil {
			t.Fatal(err)
		}
		return pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: der})
	}
	_, stranger, err := ed25519.GenerateKey(nil)
	if err != nil {
		t.Fatal(err)
	}
	for _, c := range []struct {
		content []byte
		mode    os.FileMode
		why     string
	}{
		{nil, 0, "is missing, but the log"},
		{good, 0o640, "mode 0640, want 0600"},
		{good[:20], 0o600, "not one PEM block"},
		{append(append([]byte{}, good...), good...), 0o600, "not one PEM block"},
		{[]byte("-----BEGIN PRIVATE KEY-----\nAAAA\n-----END PRIVATE KEY-----\n"), 0o600, "restore it from a backup"},
		{encode(signingKey), 0o600, "want Ed25519"},
		{encode(stranger), 0o600, "which the log in"},
	} {
		put(c.content, c.mode)
		refused(t, cfg, c.why)
		left, _ := os.ReadFile(cfg.KeyFile)
		if string(left) != string(c.content) {
			t.Fatalf("%s: the key file was changed", c.why)
		}
	}
	put(good, 0o600)
	start(t, cfg).close()
}

// A log that has lost a part does not start as a new log.
func TestLostPartsAreNoticed(t *testing.T) {
	cfg := config(t.TempDir())
	r := start(t, cfg)
	r.add(t, request(t, "one"))
	r.close()
	record := filepath.Join(cfg.Dir, "log.json")
	saved, err := os.ReadFile(record)
	if err != nil {
		t.Fatal(err)
	}
	if err := os.Remove(record); err != nil {
		t.Fatal(err)
	}
	refused(t, cfg, "is missing, but")
	if err := os.WriteFile(record, saved, 0o644); err != nil {
		t.Fatal(err)
	}
	last := start(t, cfg)
	last.add(t, request(t, "two"))
	last.close()

	// If the log is lost, its key does not start another log.
	for _, gone := range []string{"index.db", "tiles"} {
		if err := os.RemoveAll(filepath.Join(cfg.Dir, gone)); err != nil {
			t.Fatal(err)
		}
	}
	refused(t, cfg, "shows that the log has entries")
	if err := os.RemoveAll(cfg.Dir); err != nil { // such as a disk that is not mounted
		t.Fatal(err)
	}
	refused(t, cfg, "shows that the log has entries")
}

// An interrupted first start is completed by the next start, whatever step it reached.
func TestInterruptedFirstStart(t *testing.T) {
	for name, undo := range map[string][]string{
		"before the record":   {"log.json"},
		"before the index":    {"log.json", "index.db"},
		"before the log":      {"log.json", "index.db", "tiles"},
		"before a checkpoint": {"log.json", "index.db", "tiles/checkpoint"},
	} {
		t.Run(name, func(t *testing.T) {
			cfg := config(t.TempDir())
			r := start(t, cfg)
			key := r.PublicKey().(ed25519.PublicKey)
			r.close()
			for _, f := range undo {
				if err := os.RemoveAll(filepath.Join(cfg.Dir, f)); err != nil {
					t.Fatal(err)
				}
			}
			r = start(t, cfg)
			if !key.Equal(r.PublicKey()) {
				t.Error("another key was made")
			}
			r.add(t, request(t, "one"))
		})
	}
}
