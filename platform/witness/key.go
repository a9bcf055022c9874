package witness

import (
	"crypto/ed25519"
	"crypto/rand"
	"encoding/base64"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"

	"github.com/colophon-build/colophon/internal/durable"
	"github.com/colophon-build/colophon/internal/owned"
	"github.com/colophon-build/colophon/internal/strict"
	"github.com/colophon-build/colophon/tlog"
)

const (
	keyFile    = "witness.json" // private: 0600
	publicFile = "witness.pub"  // the verifier keys, a line each

	maxKeyFile = 16 << 10 // bytes
)

// keys is the content of the key file.
type keys struct {
	Name    string `json:"name"`    // of the witness
	Ed25519 string `json:"ed25519"` // seed, base64 of 32 bytes
	MLDSA44 string `json:"mldsa44"` // seed, base64 of 32 bytes
}

// openKeys returns the witness's two keys. The first start creates them. They are never created
// again: if only the key file is missing, something that it signed exists, and openKeys fails.
func openKeys(dir, name string) ([]*tlog.Cosigner, error) {
	path := filepath.Join(dir, keyFile)
	raw, err := owned.ReadSecret(path)
	if errors.Is(err, fs.ErrNotExist) {
		return createKeys(dir, name)
	} else if err != nil {
		return nil, fmt.Errorf("witness key: %w", err)
	}
	var k keys
	if err := strict.UnmarshalKnown(raw, maxKeyFile, &k); err != nil {
		return nil, fmt.Errorf("witness key %s: it is damaged; restore it from a backup", path) // no error that could quote it
	}
	if k.Name != name {
		return nil, fmt.Errorf("name: got %q, want %q, with which the keys in %s were created; a witness cannot be renamed", name, k.Name, path)
	}
	return k.cosigners()
}

func createKeys(dir, name string) ([]*tlog.Cosigner, error) {
	for _, trace := range []string{publicFile, stateDir} {
		if _, err := os.Lstat(filepath.Join(dir, trace)); err == nil {
			return nil, fmt.Errorf("%s is missing in %s, but %s shows that it existed; restore it from a backup", keyFile, dir, trace)
		} else if !errors.Is(err, fs.ErrNotExist) {
			return nil, err
		}
	}
	seeds := make([]byte, 64)
	_, _ = rand.Read(seeds)
	k := keys{name, base64.StdEncoding.EncodeToString(seeds[:32]), base64.StdEncoding.EncodeToString(seeds[32:])}
	all, err := k.cosigners()
	if err != nil {
		return nil, err
	}
	text := fmt.Sprintf("{\"name\": %q, \"ed25519\": %q, \"mldsa44\": %q}\n", k.Name, k.Ed25519, k.MLDSA44)
	if err := durable.CreateFile(filepath.Join(dir, keyFile), []byte(text), 0o600); err != nil {
		return nil, fmt.Errorf("new witness key: %w", err)
	}
	return all, nil
}

// cosigners returns the keys, Ed25519 first.
func (k keys) cosigners() ([]*tlog.Cosigner, error) {
	var seeds [2][]byte
	for i, text := range []string{k.Ed25519, k.MLDSA44} {
		seed, err := base64.StdEncoding.Strict().DecodeString(text)
		if err != nil || len(seed) != ed25519.SeedSize {
			return nil, errors.New("witness key: a seed is damaged; restore the file from a backup")
		}
		seeds[i] = seed
	}
	first, err := tlog.NewEd25519Cosigner(k.Name, ed25519.NewKeyFromSeed(seeds[0]))
	if err != nil {
		return nil, err
	}
	second, err := tlog.NewMLDSA44Cosigner(k.Name, seeds[1])
	if err != nil {
		return nil, err
	}
	return []*tlog.Cosigner{first, second}, nil
}

// publicKeys returns the content of the public file.
func publicKeys(all []*tlog.Cosigner) (text string) {
	for _, c := range all {
		text += c.Key.String() + "\n"
	}
	return text
}
