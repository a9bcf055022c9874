package main

import (
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"

	v1 "github.com/google/go-containerregistry/pkg/v1"

	"github.com/colophon-build/colophon/attest"
	"github.com/colophon-build/colophon/internal/limits"
	"github.com/colophon-build/colophon/internal/strict"
	"github.com/colophon-build/colophon/oci"
	"github.com/colophon-build/colophon/verify"
)

// maxReleaseFiles limits the number of files in a directory.
const maxReleaseFiles = 10_000

// isReleaseDir reports whether the argument names a directory that is not an OCI
// layout, and the user did not say that it is one.
func isReleaseDir(what string, ref oci.Reference) bool {
	info, err := os.Stat(ref.Dir)
	if spelledAsImage(what, ref) || ref.Dir == "" || ref.Tag != "" || err != nil || !info.IsDir() {
		return false
	}
	_, err = os.Stat(filepath.Join(ref.Dir, "oci-layout"))
	return os.IsNotExist(err)
}

// directory verifies a directory of release files.
func (o verifyOptions) directory(ctx context.Context, _ string, ref oci.Reference, opts verify.Options) (*verify.Verdict, error) {
	var bundles [][]byte
	if o.bundle != "" {
		var err error
		if bundles, err = readBundles(o.bundle); err != nil {
			return nil, err
		}
	}
	d, err := o.readDirectory(ref.Dir)
	if err != nil {
		return nil, err
	}
	askEachOnce(ctx, &opts)
	return verify.BundledDirectory(ctx, d, bundles, o.now, opts), nil
}

func (o verifyOptions) readDirectory(dir string) (verify.Directory, error) {
	names, err := releaseFiles(dir)
	if err != nil {
		return verify.Directory{}, err
	}
	return o.readFiles(dir, names)
}

// readFiles reads the named files of a directory.
func (o verifyOptions) readFiles(dir string, names []string) (d verify.Directory, err error) {
	d = verify.Directory{Name: dir, Bundles: map[string][][]byte{}}
	there := map[string]bool{}
	for _, name := range names {
		there[name] = true
	}
	given, err := os.Stat(o.bundle)
	if o.bundle == "" {
		given = nil
	} else if err != nil {
		return d, err
	}
	for _, name := range names {
		path := filepath.Join(dir, filepath.FromSlash(name))
		if attest.IsFileList(name) {
			if d.Sums != nil {
				return d, usageError("verify the files of each list separately", "%s contains two lists of digests, %s and %s", dir, d.Sums.Name, name)
			}
			// Read once, so that the bytes verified are the bytes parsed.
			if d.Raw, err = strict.ReadFile(path, limits.Request); err != nil {
				return d, err
			}
			sum := sha256.Sum256(d.Raw)
			d.Sums = &verify.File{Name: name, Size: int64(len(d.Raw)), Content: bytes.NewReader(d.Raw),
				Digest: v1.Hash{Algorithm: "sha256", Hex: hex.EncodeToString(sum[:])}}
			continue
		}
		f, err := openFile(path)
		if err != nil {
			return d, err
		}
		f.Name = name
		if info, err := os.Stat(path); err == nil && given != nil && os.SameFile(info, given) {
			d.Evidence = append(d.Evidence, f)
			continue
		}
		if about, ok := beside(name, attest.BundleEndings(), there); ok {
			if bundles, err := readBundles(path); err == nil && verify.AreBundles(bundles) {
				d.Bundles[about] = append(d.Bundles[about], bundles...)
				d.Evidence = append(d.Evidence, f)
				continue
			}
		}
		d.Files = append(d.Files, f)
	}
	return d, nil
}

// beside returns name without one of the endings, if a file of that name is there.
func beside(name string, endings []string, there map[string]bool) (string, bool) {
	for _, e := range endings {
		if about, ok := strings.CutSuffix(name, e); ok && there[about] {
			return about, true
		}
	}
	return "", false
}

// releaseFiles lists the regular files below dir. It fails on links, devices and
// other special files, because nothing can prove their contents.
func releaseFiles(dir string) (names []string, err error) {
	err = filepath.WalkDir(dir, func(path string, e fs.DirEntry, err error) error {
		switch {
		case err != nil || e.IsDir():
			return err
		case !e.Type().IsRegular():
			return fmt.Errorf("%s is not a regular file", path)
		case len(names) == maxReleaseFiles:
			return fmt.Errorf("%s contains more than %d files", dir, maxReleaseFiles)
		}
		name, err := filepath.Rel(dir, path)
		names = append(names, filepath.ToSlash(name))
		return err
	})
	return names, err
}
