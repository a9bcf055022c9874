package ctlog

import (
	"bytes"
	"context"
	"crypto/sha256"
	"crypto/x509"
	"os"
	"path/filepath"

	"github.com/colophon-build/colophon/internal/intact"
	"github.com/colophon-build/colophon/internal/keys"
	"github.com/colophon-build/colophon/platform/authority/tiles"
)

// Scrub compares the tiles and issuers of the log in tileDir with its checkpoint and their
// names. The key's public part is in keyDir. The log may run meanwhile.
func Scrub(ctx context.Context, r *intact.Report, keyDir, tileDir string) error {
	key, err := keys.Public(keyDir, keyName)
	if err != nil {
		return err
	}
	spki, err := x509.MarshalPKIXPublicKey(key)
	if err != nil {
		return err
	}
	root, err := os.OpenRoot(tileDir)
	if err != nil {
		return err
	}
	defer root.Close()
	path := func(name string) string { return filepath.Join(tileDir, name) }
	// The checkpoint's first line is its origin: the platform's URL is not known here.
	signed, err := files{root}.Checkpoint(ctx)
	if err != nil {
		r.Found(path("checkpoint"), err.Error(), nil)
		return nil
	}
	origin, _, _ := bytes.Cut(signed, []byte("\n"))
	verifier := newTreeVerifier(string(origin), key, sha256.Sum256(spki))
	if err := tiles.Scrub(ctx, r, files{root}, verifier, path, files{root}.verifyTile); err != nil {
		return err
	}
	return intact.Named(ctx, r, path("issuer"), nil)
}
