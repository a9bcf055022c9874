package gateway

import (
	"context"
	"os"

	"github.com/colophon-build/colophon/internal/intact"
)

// Scrub compares every body of the store in dir with its sha256, and removes those that are
// damaged: the next recording downloads them again. A replay that needs one of them fails.
func Scrub(ctx context.Context, r *intact.Report, dir string) error {
	return intact.Named(ctx, r, dir, os.Remove)
}
