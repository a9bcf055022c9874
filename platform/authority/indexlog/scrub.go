package indexlog

import (
	"context"
	"path/filepath"
	"strings"

	"golang.org/x/mod/sumdb/note"

	"github.com/colophon-build/colophon/internal/intact"
	"github.com/colophon-build/colophon/internal/strict"
	"github.com/colophon-build/colophon/platform/authority/tiles"
	"github.com/colophon-build/colophon/tlog"
)

// maxRecord is the limit of Config.Record, in bytes.
const maxRecord = 4 << 10

// Scrub compares the tiles of the log in dir, a Config.Dir, with its checkpoint. record is its
// Config.Record. The log may run meanwhile.
func Scrub(ctx context.Context, r *intact.Report, record, dir string) error {
	data, err := strict.ReadFile(record, maxRecord)
	if err != nil {
		return err
	}
	verifier, err := note.NewVerifier(strings.TrimSuffix(string(data), "\n"))
	if err != nil {
		r.Found(record, err.Error(), nil)
		return nil
	}
	return tiles.Scrub(ctx, r, tlog.Dir(dir), verifier, func(path string) string { return filepath.Join(dir, path) }, tlog.VerifyTile)
}
