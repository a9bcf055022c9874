package recorder

import (
	"bytes"
	"crypto/ed25519"
	"crypto/rand"
	"crypto/x509"
	"encoding/pem"
	"errors"
	"fmt"
	"io/fs"

	"github.com/colophon-build/colophon/internal/durable"
	"github.com/colophon-build/colophon/internal/owned"
)

// Key reads an Ed25519 key, PKCS#8 in PEM, mode 0600. If it is missing, and mayCreate returns nil,
// Key creates it.
func Key(path string, mayCreate func() error) (ed25519.PrivateKey, error) {
	data, err := owned.ReadSecret(path)
	if errors.Is(err, fs.ErrNotExist) {
		if err := mayCreate(); err != nil {
			return nil, err
		}
		if key, err := createKey(path); !errors.Is(err, fs.ErrExist) {
			return key, err
		}
		data, err = owned.ReadSecret(path) // another process created it meanwhile
	}
	if err != nil {
		return nil, err
	}
	block, rest := pem.Decode(data)
	if block == nil || block.Type != "PRIVATE KEY" || len(bytes.TrimSpace(rest)) > 0 {
		return nil, fmt.Errorf("%s is not one PEM block of type PRIVATE KEY; restore it from a backup", path)
	}
	parsed, err := x509.ParsePKCS8PrivateKey(block.Bytes)
	key, ok := parsed.(ed25519.PrivateKey)
	if err != nil || !ok {
		return nil, fmt.Errorf("%s: expected an Ed25519 key; restore it from a backup", path)
	}
	return key, nil
}

func createKey(path string) (ed25519.PrivateKey, error) {
	_, key, err := ed25519.GenerateKey(rand.Reader)
	if err != nil {
		return nil, err
	}
	der, err := x509.MarshalPKCS8PrivateKey(key)
	if err != nil {
		return nil, err
	}
	return key, durable.CreateFile(path, pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: der}), 0o600)
}
