package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"path"
	"path/filepath"
	"strings"

	"github.com/mholt/archives"
)

// unpackedBytes is the maximum size of the files of an archive, in bytes. It is a variable, so
// that a test does not need to unpack as much.
var unpackedBytes int64 = 4 << 30

// unpack unpacks an archive into a new directory in dir and returns the directory. It returns
// file itself if Syft would not unpack it either: what an archive is, its name says. It writes
// regular files and directories; links and devices it leaves out, as Syft does.
func unpack(ctx context.Context, file, dir string) (string, error) {
	format, _, err := archives.Identify(ctx, fullName(file), nil)
	if errors.Is(err, archives.NoMatch) {
		return file, nil
	} else if err != nil {
		return "", err
	}
	extractor, ok := format.(archives.Extractor)
	if !ok {
		return file, nil // compressed, and no archive
	}
	packed, err := os.Open(file)
	if err != nil {
		return "", err
	}
	defer packed.Close()
	contents, err := os.MkdirTemp(dir, "contents-")
	if err != nil {
		return "", err
	}
	root, err := os.OpenRoot(contents)
	if err == nil {
		defer root.Close()
		u := unpacker{root: root, bytes: unpackedBytes, files: maxFiles}
		err = extractor.Extract(ctx, packed, u.add)
	}
	if err != nil {
		os.RemoveAll(contents)
		return "", err
	}
	return contents, nil
}

// fullName writes the short form of an extension in full, as Syft does.
func fullName(file string) string {
	short := path.Ext(file)
	if long := map[string]string{".tgz": ".tar.gz", ".tbz2": ".tar.bz2", ".txz": ".tar.xz", ".tlz": ".tar.lz", ".tzst": ".tar.zst"}[short]; long != "" {
		return strings.TrimSuffix(file, short) + long
	}
	return file
}

type unpacker struct {
	root         *os.Root
	bytes, files int64 // that may still come
}

func (u *unpacker) add(_ context.Context, f archives.FileInfo) error {
	if err := u.count(); err != nil {
		return err
	}
	name := filepath.Clean(strings.TrimLeft(filepath.FromSlash(f.NameInArchive), "/"))
	if !filepath.IsLocal(name) {
		return fmt.Errorf("name of a file: got %q, want a path in the archive", f.NameInArchive)
	}
	switch {
	case f.IsDir():
		if err := u.makeParents(name); err != nil {
			return err
		}
		return u.root.MkdirAll(name, 0o700)
	case !f.Mode().IsRegular() || f.LinkTarget != "":
		return nil
	}
	if err := u.makeParents(name); err != nil {
		return err
	}
	from, err := f.Open()
	if err != nil {
		return err
	}
	defer from.Close()
	to, err := u.root.OpenFile(name, os.O_CREATE|os.O_WRONLY|os.O_TRUNC, 0o600|f.Mode()&0o100)
	if err != nil {
		return err
	}
	n, err := io.Copy(to, io.LimitReader(from, u.bytes+1))
	if u.bytes -= n; u.bytes < 0 && err == nil {
		err = fmt.Errorf("the files of the archive have more than %d bytes", unpackedBytes)
	}
	return errors.Join(err, to.Close())
}

// count counts a file or directory, and fails if there are too many.
func (u *unpacker) count() error {
	if u.files--; u.files < 0 {
		return fmt.Errorf("got more than %d files, want at most that", maxFiles)
	}
	return nil
}

// makeParents makes and counts the directories that a file needs: an archive does not need to
// list them.
func (u *unpacker) makeParents(name string) error {
	parent := filepath.Dir(name)
	for d := parent; d != "."; d = filepath.Dir(d) {
		if _, err := u.root.Lstat(d); err == nil {
			break
		}
		if err := u.count(); err != nil {
			return err
		}
	}
	return u.root.MkdirAll(parent, 0o700)
}
