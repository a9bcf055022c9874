package main

import (
	"cmp"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"strings"

	"github.com/CycloneDX/cyclonedx-go"
	"github.com/anchore/syft/syft"
	"github.com/anchore/syft/syft/cataloging/pkgcataloging"
	syftsbom "github.com/anchore/syft/syft/sbom"
	syftsource "github.com/anchore/syft/syft/source"
	"github.com/anchore/syft/syft/source/directorysource"
	"github.com/anchore/syft/syft/source/filesource"
	v1 "github.com/google/go-containerregistry/pkg/v1"
	"golang.org/x/sys/unix"

	"github.com/colophon-build/colophon/platform/release/scan"
)

// maxFiles is the maximum number of files and directories in a directory or archive that is
// scanned.
const maxFiles = 500_000

// generateFiles scans a directory, or a file: a lock file, a program or an archive, whose files
// it unpacks first. Links are resolved as if the directory were the root of the disk.
func generateFiles(ctx context.Context, f scan.Files) (spdx, cyclone []byte, err error) {
	fail := func(err error) ([]byte, []byte, error) { return nil, nil, fmt.Errorf("SBOM of %s: %w", f.Name, err) }
	if f.Name == "" || f.Created.IsZero() || !filepath.IsAbs(f.Path) {
		return fail(fmt.Errorf("got path %q and creation time %s, want both", f.Path, f.Created))
	}
	o := order{scan.Order{Image: f.Name, Created: f.Created}, cyclonedx.ComponentTypeApplication}
	info, err := os.Lstat(f.Path)
	if err != nil {
		return fail(err)
	}
	root := f.Path
	switch {
	case info.Mode().IsRegular():
		o.kind = cyclonedx.ComponentTypeFile
		if o.Digest, err = fileDigest(f.Path); err != nil {
			return fail(err)
		}
		if root, err = unpack(ctx, f.Path, f.Dir); err != nil {
			return fail(fmt.Errorf("unpacking: %w", err))
		}
		if root != f.Path {
			defer os.RemoveAll(root)
		}
	case !info.IsDir():
		return fail(fmt.Errorf("got a file of mode %s, want a regular file or a directory", info.Mode()))
	}
	s, unread, err := o.scanFiles(ctx, root)
	if err != nil {
		return fail(err)
	}
	s.Source = syftsource.Description{ID: o.Digest.Hex, Name: f.Name, Version: o.version(), Metadata: syftsource.DirectoryMetadata{Path: f.Name}}
	if o.Digest.Hex != "" {
		s.Source.Metadata = syftsource.FileMetadata{Path: f.Name}
		if now, err := fileDigest(f.Path); err != nil || now != o.Digest {
			return fail(fmt.Errorf("the file was changed while it was read: %s, then %s: %w", o.Digest, now, cmp.Or(err, fs.ErrInvalid)))
		}
	}
	if spdx, cyclone, err = o.write(s, named(unread)); err != nil {
		return fail(err)
	}
	return spdx, cyclone, nil
}

// scanFiles catalogs the packages of a directory or of one file.
func (o order) scanFiles(ctx context.Context, root string) (_ *syftsbom.SBOM, unread []string, err error) {
	unread, err = survey(root, maxFiles)
	if err != nil {
		return nil, nil, err
	}
	if ctx, err = classifyTexts(ctx); err != nil {
		return nil, nil, err
	}
	alias := syftsource.Alias{Name: o.Image, Version: o.version()} // otherwise identifiers would depend on the path
	var src syftsource.Source
	if info, err := os.Stat(root); err == nil && info.IsDir() {
		src, err = directorysource.New(directorysource.Config{Path: root, Base: root, Alias: alias})
		if err != nil {
			return nil, nil, err
		}
	} else if src, err = filesource.New(filesource.Config{Path: root, SkipExtractArchive: true, Alias: alias}); err != nil {
		return nil, nil, err
	}
	defer src.Close()
	if err := indexed(src); err != nil {
		return nil, nil, err
	}
	dpkg := newDpkgPackages()
	s, err := syft.CreateSBOM(ctx, src, config(pkgcataloging.DirectoryTag, dpkg))
	if err != nil {
		return nil, nil, err
	}
	s.Artifacts.Packages.Add(dpkg.kept...)
	s.Relationships = stated(s.Relationships)
	for at, reasons := range s.Artifacts.Unknowns {
		// An empty file has nothing to read, as in unreadFiles.
		if info, err := os.Stat(filepath.Join(root, at.RealPath)); hidesPackages(reasons) && (err != nil || info.Size() > 0) {
			unread = append(unread, "/"+strings.TrimLeft(at.RealPath, "/"))
		}
	}
	return s, unread, complete(s)
}

// indexed fails if Syft leaves out all of a source because of the file system that it is on. Of a
// directory it says nothing then, and lists no packages.
func indexed(src syftsource.Source) error {
	files, err := src.FileResolver(syftsource.SquashedScope)
	if errors.Is(err, fs.SkipDir) || err == nil && !files.HasPath("/") {
		return errors.New("no file of it is read: Syft leaves out a tmpfs below /dev, /run, /sys, /var/lock and /var/run, and the file systems of the kernel; copy it elsewhere")
	}
	return err
}

// survey returns the files below root that cannot be read, and the archives in which Syft does
// not look. A file that is neither a regular file nor a link is never opened. More than most files
// and directories are an error.
func survey(root string, most int) (unread []string, err error) {
	entries := 0
	err = filepath.WalkDir(root, func(path string, d fs.DirEntry, err error) error {
		name := strings.TrimPrefix(path, root)
		if entries++; entries > most {
			return fmt.Errorf("got more than %d files, want at most that", most)
		}
		switch {
		case err != nil && path == root:
			return err
		case err != nil:
			unread = append(unread, name)
			return fs.SkipDir
		case !d.Type().IsRegular() || path == root:
		case unopened.MatchString(name) || unix.Faccessat(unix.AT_FDCWD, path, unix.R_OK, unix.AT_EACCESS) != nil:
			if info, err := d.Info(); err != nil || info.Size() > 0 {
				unread = append(unread, name)
			}
		}
		return nil
	})
	return unread, err
}

func fileDigest(path string) (v1.Hash, error) {
	f, err := os.Open(path)
	if err != nil {
		return v1.Hash{}, err
	}
	defer f.Close()
	sum := sha256.New()
	if _, err := io.Copy(sum, f); err != nil {
		return v1.Hash{}, err
	}
	return v1.Hash{Algorithm: "sha256", Hex: hex.EncodeToString(sum.Sum(nil))}, nil
}
