package main

import (
	"bytes"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strings"

	v1 "github.com/google/go-containerregistry/pkg/v1"

	"github.com/colophon-build/colophon/attest"
	"github.com/colophon-build/colophon/internal/limits"
	"github.com/colophon-build/colophon/internal/strict"
	"github.com/colophon-build/colophon/oci"
	"github.com/colophon-build/colophon/policy"
	"github.com/colophon-build/colophon/verify"
)

// maxBundles and maxBundlesFile limit the number of bundles in one file, and its bytes.
const (
	maxBundles     = 64
	maxBundlesFile = 2 * limits.Bundle
)

// signerOptions are the flags that name the expected signer.
type signerOptions struct {
	policy.DocumentSigner
	key string // file
}

func (o signerOptions) given() bool {
	return o.DocumentSigner != policy.DocumentSigner{} || o.key != ""
}

// read returns the expected signer, or nil if no flag names one.
func (o signerOptions) read() (*policy.DocumentSigner, error) {
	if !o.given() {
		return nil, nil
	}
	if o.key != "" {
		raw, err := strict.ReadFile(o.key, limits.Request)
		if err != nil {
			return nil, usageError("", "%v", err)
		}
		o.Key = string(raw)
	}
	return &o.DocumentSigner, nil
}

// required returns the signer that the flags must name. It signs what, for error texts.
func (o signerOptions) required(what string) (policy.Signer, error) {
	if !o.given() {
		return nil, usageError("", "who signs %s? Name --identity and --issuer, or --key", what)
	}
	d, err := o.read()
	if err != nil {
		return nil, err
	}
	signer, err := d.Signer()
	if err != nil {
		return nil, usageError("", "%v", err)
	}
	return signer, nil
}

// isBundledFile reports whether the argument is the path of a file with bundles beside it. What
// is spelled as an image of a registry, or begins with "oci:", never is.
func isBundledFile(what string, ref oci.Reference) bool {
	return ref.Dir != "" && !strings.HasPrefix(what, "oci:") && isFile(what) && len(besideFile(what)) > 0
}

func isFile(path string) bool {
	info, err := os.Lstat(path)
	return err == nil && info.Mode().IsRegular()
}

// besideFile returns the files with bundles beside a file.
func besideFile(path string) (found []string) {
	for _, ending := range attest.BundleEndings() {
		if info, err := os.Stat(path + ending); err == nil && info.Mode().IsRegular() {
			found = append(found, path+ending)
		}
	}
	return found
}

// readBundles reads a file with one or more bundles, one after the other, such as
// *.intoto.jsonl. It also reads the answers that contain bundles: see unwrap. What is
// no JSON is returned as a bundle, too: it is evidence, and the verdict says what is
// wrong with it.
func readBundles(path string) ([][]byte, error) {
	raw, err := strict.ReadFile(path, maxBundlesFile)
	if err != nil {
		return nil, err
	}
	return splitBundles(path, raw)
}

// splitBundles does what readBundles does, with the content of the file.
func splitBundles(path string, raw []byte) ([][]byte, error) {
	var bundles [][]byte
	dec := json.NewDecoder(bytes.NewReader(raw))
	for {
		var value json.RawMessage
		start := dec.InputOffset()
		err := dec.Decode(&value)
		if errors.Is(err, io.EOF) {
			return bundles, nil
		}
		if err != nil {
			bundles = append(bundles, raw[start:])
		} else if value, unwrapErr := unwrap(value); unwrapErr != nil {
			return nil, fmt.Errorf("%s: %w", path, unwrapErr)
		} else {
			bundles = append(bundles, value...)
		}
		if len(bundles) > maxBundles {
			return nil, fmt.Errorf("%s: more than %d bundles", path, maxBundles)
		}
		if err != nil {
			return bundles, nil
		}
	}
}

// unwrap returns the bundles in a JSON value: the value itself, or those in
//
//   - the answers of GitHub's REST API and of npm's registry to a question for
//     attestations: {"attestations": [{"bundle": …}, …]}
//   - the output of gh attestation verify --format json:
//     [{"attestation": {"bundle": …}}, …]
func unwrap(value json.RawMessage) ([][]byte, error) {
	type attestation struct {
		Bundle json.RawMessage `json:"bundle"`
		URL    string          `json:"bundle_url"`
	}
	var answer struct {
		Attestations []attestation `json:"attestations"`
	}
	var printed []struct {
		Attestation attestation `json:"attestation"`
	}
	if json.Unmarshal(value, &printed) == nil {
		for _, p := range printed {
			answer.Attestations = append(answer.Attestations, p.Attestation)
		}
	} else if json.Unmarshal(value, &answer) != nil || answer.Attestations == nil {
		return [][]byte{value}, nil
	}
	var bundles [][]byte
	for _, a := range answer.Attestations {
		if a.Bundle == nil || string(a.Bundle) == "null" {
			if a.URL != "" {
				return nil, errors.New("the answer names the address of a bundle instead of the bundle; download it with: gh attestation download")
			}
			continue
		}
		bundles = append(bundles, a.Bundle)
	}
	return bundles, nil
}

// openFile opens a file and computes its digest. The file stays open until the
// process exits.
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
	return verify.File{Name: path, Title: filepath.Base(path), Digest: v1.Hash{Algorithm: "sha256", Hex: hex.EncodeToString(sum.Sum(nil))}, Size: n, Content: f}, nil
}
