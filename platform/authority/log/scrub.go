package log

import (
	"context"
	"crypto/x509"
	"fmt"
	"path/filepath"

	"github.com/colophon-build/colophon/internal/intact"
	"github.com/colophon-build/colophon/internal/strict"
	"github.com/colophon-build/colophon/platform/authority/tiles"
	"github.com/colophon-build/colophon/tlog"
)

// Scrub compares the tiles of the log in dir, a Config.Dir, with its checkpoint. The log may
// run meanwhile.
func Scrub(ctx context.Context, r *intact.Report, dir string) error {
	path := filepath.Join(dir, recordFile)
	data, err := strict.ReadFile(path, maxRecord)
	if err != nil {
		return err
	}
	var rec record
	if err := strict.UnmarshalKnown(data, maxRecord, &rec); err != nil {
		r.Found(path, err.Error(), nil)
		return nil
	}
	key, err := x509.ParsePKIXPublicKey(rec.PublicKey)
	if err != nil {
		r.Found(path, err.Error(), nil)
		return nil
	}
	verifier, err := tlog.NewVerifier(rec.Origin, key)
	if err != nil {
		return fmt.Errorf("%s: %w", path, err)
	}
	src := tlog.Dir(filepath.Join(dir, tilesDir))
	return tiles.Scrub(ctx, r, src, verifier, func(path string) string { return filepath.Join(string(src), path) }, tlog.VerifyTile)
}
