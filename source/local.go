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

// ServeLocal answers git's fetch protocol on in and out for the repository at
// path, which is absolute, as the repository's owner: what that user may not
// read is not handed out. It is the far end of Request.UploadPack, for a process
// that may act as other users; protocol is the value of GIT_PROTOCOL at the near
// end. Nothing of the repository's configuration or hooks runs.
func ServeLocal(ctx context.Context, path, protocol string, in io.Reader, out io.Writer) error {
	if !filepath.IsAbs(path) || filepath.Clean(path) != path || strings.ContainsRune(path, 0) {
		return fmt.Errorf("path of a repository: got %q, want an absolute one in its plainest form", path)
	}
	info, err := os.Stat(path)
	if errors.Is(err, os.ErrNotExist) { // as git does
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

// limitedWriter drops what is too much.
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
