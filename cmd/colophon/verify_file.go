package main

import (
	"bytes"
	"crypto"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"

	v1 "github.com/google/go-containerregistry/pkg/v1"
	"github.com/sigstore/sigstore/pkg/cryptoutils"

	"github.com/colophon-build/colophon/internal/limits"
	"github.com/colophon-build/colophon/internal/strict"
	"github.com/colophon-build/colophon/verify"
)

// maxBundles bounds how many bundles of one file are tried.
const maxBundles = 64

// signerOptions say who should have signed a file, where nothing says what it
// was built from.
type signerOptions struct {
	identity, issuer, key string
}

func (o signerOptions) given() bool { return o.identity+o.issuer+o.key != "" }

func (o signerOptions) signer() (verify.Signer, error) {
	if o.key == "" {
		if o.identity == "" || o.issuer == "" {
			return verify.Signer{}, usageError("anybody can have the name at another issuer", "--identity and --issuer go together")
		}
		return verify.Signer{Identity: o.identity, Issuer: o.issuer}, nil
	}
	key, err := readKey(o.key)
	if err != nil {
		return verify.Signer{}, usageError("", "%s: %v", o.key, err)
	}
	return verify.Signer{Key: key}, nil
}

func readKey(path string) (crypto.PublicKey, error) {
	raw, err := readFile(path, limits.Request)
	if err != nil {
		return nil, err
	}
	return cryptoutils.UnmarshalPEMToPublicKey(raw)
}

func readFile(path string, most int) ([]byte, error) {
	f, err := os.Open(path)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	return strict.Read(f, most)
}

// readBundles takes a file of one bundle, or of many one after the other, as
// *.intoto.jsonl is.
func readBundles(path string) ([][]byte, error) {
	raw, err := readFile(path, 2*limits.Bundle)
	if err != nil {
		return nil, err
	}
	var bundles [][]byte
	dec := json.NewDecoder(bytes.NewReader(raw))
	for {
		var b json.RawMessage
		err := dec.Decode(&b)
		switch {
		case errors.Is(err, io.EOF):
			return bundles, nil
		case err != nil:
			return nil, fmt.Errorf("%s: %w", path, err)
		case len(bundles) == maxBundles:
			return nil, fmt.Errorf("%s: got more than %d bundles", path, maxBundles)
		}
		bundles = append(bundles, b)
	}
}

// openFile measures a file. It stays open as long as the process.
func openFile(path string) (verify.File, error) {
	f, err := os.Open(path)
	if err != nil {
		return verify.File{}, err
	}
	info, err := f.Stat()
	if err == nil && !info.Mode().IsRegular() {
		err = fmt.Errorf("%s is not a regular file", path)
	}
	if err != nil {
		f.Close()
		return verify.File{}, err
	}
	sum := sha256.New()
	n, err := io.Copy(sum, f)
	if err != nil {
		f.Close()
		return verify.File{}, err
	}
	return verify.File{Name: path, Digest: v1.Hash{Algorithm: "sha256", Hex: hex.EncodeToString(sum.Sum(nil))}, Size: n, Content: f}, nil
}
