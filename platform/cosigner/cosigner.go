// Package cosigner keeps the two keys of a role that cosigns checkpoints of logs
// (c2sp.org/tlog-cosignature): Ed25519 and ML-DSA-44.
package cosigner

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
	// KeyFile is the name of the file with the private keys: mode 0600.
	KeyFile = "cosigner.json"
	// PublicFile is the name of the file with the verifier keys, a line each.
	PublicFile = "cosigner.pub"

	maxKeyFile = 16 << 10 // bytes
)

// keys is the content of the key file.
type keys struct {
	Name    string `json:"name"`    // of the cosigner
	Ed25519 string `json:"ed25519"` // seed, base64 of 32 bytes
	MLDSA44 string `json:"mldsa44"` // seed, base64 of 32 bytes
}

// Open returns the keys in dir, Ed25519 first. The first start creates them, and before them state, the
// directory in dir for what is cosigned. They are never created again: if the key file is missing, and the public one
// is not, or there are files in state, Open fails. It also fails if the key file is there, and state is not. name is the
// name of the cosigner, which cannot change.
func Open(dir, name, state string) ([]*tlog.Cosigner, error) {
	path := filepath.Join(dir, KeyFile)
	raw, err := owned.ReadSecret(path)
	if errors.Is(err, fs.ErrNotExist) {
		return create(dir, name, state)
	} else if err != nil {
		return nil, fmt.Errorf("cosigner key: %w", err)
	}
	if _, err := os.Lstat(filepath.Join(dir, state)); err != nil { // somebody restored the key alone
		return nil, fmt.Errorf("what was cosigned with the key %s is missing: %w; use another directory, name and key: a cosigner that forgets could cosign a fork", path, err)
	}
	var k keys
	if err := strict.UnmarshalKnown(raw, maxKeyFile, &k); err != nil {
		return nil, fmt.Errorf("cosigner key %s: it is damaged; restore it from a backup", path) // no error that could quote it
	}
	if k.Name != name {
		return nil, fmt.Errorf("name: got %q, want %q, with which the keys in %s were created; a cosigner cannot be renamed", name, k.Name, path)
	}
	return k.cosigners()
}

func create(dir, name, state string) ([]*tlog.Cosigner, error) {
	lost := func(trace string) error {
		return fmt.Errorf("%s is missing in %s, but %s shows that it existed; restore it from a backup", KeyFile, dir, trace)
	}
	if _, err := os.Lstat(filepath.Join(dir, PublicFile)); err == nil {
		return nil, lost(PublicFile)
	} else if !errors.Is(err, fs.ErrNotExist) {
		return nil, err
	}
	if err := durable.MkdirAll(filepath.Join(dir, state), 0o700); err != nil {
		return nil, err
	}
	if files, err := os.ReadDir(filepath.Join(dir, state)); err != nil {
		return nil, err
	} else if len(files) > 0 {
		return nil, lost(state)
	}
	seeds := make([]byte, 64)
	_, _ = rand.Read(seeds)
	k := keys{name, base64.StdEncoding.EncodeToString(seeds[:32]), base64.StdEncoding.EncodeToString(seeds[32:])}
	all, err := k.cosigners()
	if err != nil {
		return nil, err
	}
	text := fmt.Sprintf("{\"name\": %q, \"ed25519\": %q, \"mldsa44\": %q}\n", k.Name, k.Ed25519, k.MLDSA44)
	if err := durable.CreateFile(filepath.Join(dir, KeyFile), []byte(text), 0o600); err != nil {
		return nil, fmt.Errorf("new cosigner key: %w", err)
	}
	return all, nil
}

// cosigners returns the keys, Ed25519 first.
func (k keys) cosigners() ([]*tlog.Cosigner, error) {
	var seeds [2][]byte
	for i, text := range []string{k.Ed25519, k.MLDSA44} {
		seed, err := base64.StdEncoding.Strict().DecodeString(text)
		if err != nil || len(seed) != ed25519.SeedSize {
			return nil, errors.New("cosigner key: a seed is damaged; restore the file from a backup")
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

// Publish writes the public file. Call it when the role can keep what it cosigns.
func Publish(dir string, all []*tlog.Cosigner) error {
	return durable.WriteFile(filepath.Join(dir, PublicFile), []byte(Text(all)), 0o644)
}

// Text returns the verifier keys, a line each.
func Text(all []*tlog.Cosigner) (text string) {
	for _, c := range all {
		text += c.Key.String() + "\n"
	}
	return text
}
