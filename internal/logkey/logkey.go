// Package logkey keeps the Ed25519 key of a transparency log in a file: PKCS#8 in PEM, mode 0600. It
// is never created again, since everything that the log ever signed depends on it: the caller knows
// whether there was one.
package logkey

import (
	"bytes"
	"crypto/ed25519"
	"crypto/x509"
	"encoding/pem"
	"fmt"
	"os"
	"path/filepath"

	"github.com/colophon-build/colophon/internal/durable"
	"github.com/colophon-build/colophon/internal/strict"
)

const maxKeyFile = 64 << 10 // bytes

// Read reads a key. It refuses a file that other users can access.
func Read(path string) (ed25519.PrivateKey, error) {
	st, err := os.Lstat(path)
	if err != nil {
		return nil, fmt.Errorf("log key: %w", err)
	}
	if !st.Mode().IsRegular() {
		return nil, fmt.Errorf("log key %s is %s, not a regular file", path, st.Mode().Type())
	}
	if perm := st.Mode().Perm(); perm&^0o600 != 0 {
		return nil, fmt.Errorf("log key %s has mode %04o, want 0600; find out who could read it, then chmod 600", path, perm)
	}
	data, err := strict.ReadFile(path, maxKeyFile)
	if err != nil {
		return nil, fmt.Errorf("log key: %w", err)
	}
	block, rest := pem.Decode(data)
	if block == nil || block.Type != "PRIVATE KEY" || len(bytes.TrimSpace(rest)) > 0 {
		return nil, fmt.Errorf("log key %s is not one PEM block of type %q; restore it from a backup", path, "PRIVATE KEY")
	}
	parsed, err := x509.ParsePKCS8PrivateKey(block.Bytes)
	if err != nil {
		return nil, fmt.Errorf("log key %s: %w; restore it from a backup", path, err)
	}
	key, ok := parsed.(ed25519.PrivateKey)
	if !ok {
		return nil, fmt.Errorf("log key %s is a %T, want Ed25519", path, parsed)
	}
	return key, nil
}

// Create creates a key, and the directory of its file. It fails if the file is there. The key is on
// disk when it returns.
func Create(path string) (ed25519.PrivateKey, error) {
	_, key, err := ed25519.GenerateKey(nil)
	if err != nil {
		return nil, err
	}
	der, err := x509.MarshalPKCS8PrivateKey(key)
	if err != nil {
		return nil, err
	}
	if err := os.MkdirAll(filepath.Dir(path), 0o700); err != nil {
		return nil, fmt.Errorf("directory of the log key: %w", err)
	}
	if err := durable.CreateFile(path, pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: der}), 0o600); err != nil {
		return nil, fmt.Errorf("new log key: %w", err)
	}
	// The key's directory may be new, so its entry must be durable too.
	return key, durable.SyncDir(filepath.Dir(filepath.Dir(path)))
}
