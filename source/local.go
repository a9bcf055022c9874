package source

import (
	"context"
	"fmt"
	"io"
	"path/filepath"
	"strings"

	"github.com/colophon-build/colophon/internal/printable"
)

// ServeLocal serves git's fetch protocol on in and out, for the repository at path, an
// absolute path. It runs upload-pack as this process's user, with all rights of this
// process, on files that somebody else may have written. It implements the command
// Request.UploadPack; protocol is the value of GIT_PROTOCOL in the environment of that
// command. No hook or program of the repository runs.
func ServeLocal(ctx context.Context, path, protocol string, in io.Reader, out io.Writer) error {
	if !filepath.IsAbs(path) || filepath.Clean(path) != path || strings.ContainsRune(path, 0) {
		return fmt.Errorf("path of the repository: got %q, want an absolute path without \".\", \"..\" and repeated slashes", path)
	}
	g, err := newGit("")
	if err != nil {
		return err
	}
	defer g.Close()
	if err := g.refuseAlternates(ctx, path); err != nil {
		return err
	}
	ctx, cancel := context.WithTimeout(ctx, remoteTimeout)
	defer cancel()
	cmd := g.command(ctx, "", "upload-pack", "--timeout=60", path)
	if protocol != "" {
		cmd.Env = append(cmd.Env, "GIT_PROTOCOL="+protocol)
	}
	said := &printable.Head{Max: 4096}
	cmd.Stdin, cmd.Stdout, cmd.Stderr = in, out, said
	if err := cmd.Run(); err != nil {
		return fmt.Errorf("upload-pack: %w: %s", err, said)
	}
	return nil
}
