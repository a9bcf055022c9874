package source

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strings"
	"syscall"
)

// ServeLocal serves git's fetch protocol on in and out, for the repository at path, an
// absolute path. It runs upload-pack as the owner of the repository, so that it serves
// only what the owner may read. It implements the command Request.UploadPack, for a
// process that may run programs as other users. protocol is the value of GIT_PROTOCOL
// in the environment of that command. No hook or program of the repository runs.
func ServeLocal(ctx context.Context, path, protocol string, in io.Reader, out io.Writer) error {
	if !filepath.IsAbs(path) || filepath.Clean(path) != path || strings.ContainsRune(path, 0) {
		return fmt.Errorf("path of the repository: got %q, want an absolute path without \".\", \"..\" and repeated slashes", path)
	}
	info, err := os.Stat(path)
	if errors.Is(err, os.ErrNotExist) { // like git
		path += ".git"
		info, err = os.Stat(path)
	}
	if err != nil {
		return err
	}
	g, err := newGit("")
	if err != nil {
		return err
	}
	defer g.Close()
	st := info.Sys().(*syscall.Stat_t)
	if int(st.Uid) != os.Geteuid() {
		g.owner = &syscall.Credential{Uid: st.Uid, Gid: st.Gid}
		for _, name := range []string{g.home, filepath.Join(g.home, "gitconfig")} {
			if err := os.Chown(name, int(st.Uid), int(st.Gid)); err != nil {
				return err
			}
		}
	}
	if err := g.refuseAlternates(ctx, path); err != nil {
		return err
	}
	ctx, cancel := context.WithTimeout(ctx, remoteTimeout)
	defer cancel()
	cmd := g.command(ctx, "", "upload-pack", "--timeout=60", path)
	if protocol != "" {
		cmd.Env = append(cmd.Env, "GIT_PROTOCOL="+protocol)
	}
	var said strings.Builder
	cmd.Stdin, cmd.Stdout, cmd.Stderr = in, out, &limitedWriter{w: &said, left: 4096}
	if err := cmd.Run(); err != nil {
		return fmt.Errorf("upload-pack: %w: %s", err, strings.TrimSpace(said.String()))
	}
	return nil
}

// limitedWriter writes the first bytes to w, and drops the rest.
type limitedWriter struct {
	w    io.Writer
	left int
}

func (l *limitedWriter) Write(p []byte) (int, error) {
	n := min(len(p), l.left)
	l.left -= n
	if _, err := l.w.Write(p[:n]); err != nil {
		return 0, err
	}
	return len(p), nil
}
