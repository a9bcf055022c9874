package main

import (
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"time"

	v1 "github.com/google/go-containerregistry/pkg/v1"
	"github.com/spf13/cobra"

	"github.com/colophon-build/colophon/attest"
	"github.com/colophon-build/colophon/internal/durable"
	"github.com/colophon-build/colophon/internal/limits"
	"github.com/colophon-build/colophon/internal/strict"
	"github.com/colophon-build/colophon/oci"
	"github.com/colophon-build/colophon/platform/release/scan"
	"github.com/colophon-build/colophon/sbom"
)

// withoutOutput is the hint for an --output that names no file, such as /dev/stdout.
const withoutOutput = "without it, the SBOM is written to standard output"

// sbomFile fails unless --output names a file that can be written. In other commands, -o has a format.
func sbomFile(path string) error {
	if sbomKinds[path] != "" || path == "json" {
		return usageError("--format chooses spdx or cyclonedx, both in JSON; to write a file of this name: -o ./"+path, "--output: expected a file, found the format %s", path)
	}
	return replaceable("--output", path, withoutOutput)
}

// sbomOptions are the flags of sbom.
type sbomOptions struct {
	format   string
	output   string
	platform string
	name     string
	timeout  time.Duration

	say func(hint string) // is called at most once
}

func (o *sbomOptions) flags(cmd *cobra.Command) {
	f := cmd.Flags()
	f.StringVar(&o.format, "format", "spdx", "`FORMAT` of the SBOM: spdx (2.3) or cyclonedx (1.6), in JSON")
	f.StringVarP(&o.output, "output", "o", "", "write the SBOM to `FILE`; without it, to standard output")
	f.StringVar(&o.platform, "platform", "", "`OS/ARCH[/VARIANT]` of the image in an index; without it, the SBOM is about the index and all its images")
	f.StringVar(&o.name, "name", "", "`NAME` of what is scanned, in the SBOM; without it, the repository, or the last part of the path")
	f.DurationVar(&o.timeout, "timeout", 30*time.Minute, "give up after this long")
}

func runSBOM(cmd *cobra.Command, target string, o sbomOptions) error {
	if sbomKinds[o.format] == "" {
		return usageError("", "--format: expected spdx or cyclonedx, found %q", o.format)
	}
	if err := sbomFile(o.output); err != nil {
		return err
	}
	ctx, cancel := withTimeout(cmd.Context(), o.timeout)
	defer cancel()
	stop := waiting(cmd.ErrOrStderr(), "scanning "+target)
	hint := ""
	o.say = func(h string) { hint = h }
	doc, err := o.describe(ctx, target)
	stop()
	printHint(cmd.ErrOrStderr(), hint)
	if err != nil {
		return err
	}
	if o.output != "" {
		return durable.WriteFile(o.output, append(doc, '\n'), 0o644)
	}
	_, err = fmt.Fprintf(cmd.OutOrStdout(), "%s\n", doc)
	return err
}

// describe returns the SBOM of an image, a directory or a file: a lock file, a program or an
// archive.
func (o sbomOptions) describe(ctx context.Context, target string) ([]byte, error) {
	image, path, err := sbomTarget(target)
	switch {
	case err != nil:
		return nil, err
	case image:
		return o.describeImage(ctx, target)
	case o.platform != "":
		return nil, usageError("", "--platform is for an image, and %s is none", target)
	}
	return o.describeFile(ctx, path)
}

// scanDir makes the directory that a process apart can write to. remove removes it, and adds its
// error to err.
func scanDir() (dir string, remove func(err *error), err error) {
	if dir, err = os.MkdirTemp("", "colophon-sbom-"); err != nil {
		return "", nil, err
	}
	made := dir
	remove = func(err *error) { *err = errors.Join(*err, os.RemoveAll(made)) }
	if dir, err = filepath.EvalSymlinks(dir); err != nil {
		remove(&err)
	}
	return dir, remove, err
}

// describeFile returns the SBOM of a directory or a file, whatever is in it and however its
// path, which is absolute, is spelled.
func (o sbomOptions) describeFile(ctx context.Context, path string) (doc []byte, err error) {
	dir, remove, err := scanDir()
	if err != nil {
		return nil, err
	}
	defer remove(&err)
	created, err := sbomTime(time.Unix(0, 0))
	if err != nil {
		return nil, err
	}
	s, err := startScanner(scan.TaskFiles, dir, path, o.say)
	if err != nil {
		return nil, err
	}
	defer s.Close()
	name := o.name
	if name == "" {
		name = filepath.Base(path)
	}
	return o.scan(ctx, s, scan.Files{Path: path, Dir: dir, Name: name, Created: created})
}

// sbomTarget says whether target is an image, and where the directory or file is that it
// otherwise is. A directory is an image if it has the marker of an OCI layout.
func sbomTarget(target string) (image bool, path string, err error) {
	ref, refErr := oci.ParseReference(target)
	if refErr == nil && (ref.Dir == "" || strings.HasPrefix(target, "oci:")) {
		return true, "", nil
	}
	info, err := os.Stat(target)
	switch {
	case errors.Is(err, fs.ErrNotExist) && refErr == nil && ref.Dir != target: // DIR:TAG
		return true, "", nil
	case errors.Is(err, fs.ErrNotExist):
		return false, "", usageError("an image is HOST/NAME or the path of a layout", "%s: there is no such file or directory", target)
	case err != nil:
		return false, "", err
	case info.IsDir():
		if _, err := os.Stat(filepath.Join(target, "oci-layout")); err == nil {
			return true, "", nil
		}
	case !info.Mode().IsRegular():
		return false, "", usageError("", "%s is neither a file nor a directory", target)
	case refErr == nil && isImageArchive(ref):
		return true, "", nil
	}
	if path, err = filepath.Abs(target); err != nil {
		return false, "", err
	}
	if path, err = filepath.EvalSymlinks(path); err == nil && path == filepath.Dir(path) {
		err = usageError("", "the root of the disk cannot be scanned: name a directory below it")
	}
	return false, path, err
}

// isImageArchive reports whether a tar file has an image layout in it.
func isImageArchive(ref oci.Reference) bool {
	src, err := ref.Open(oci.RegistryOptions{})
	if err != nil {
		return errors.Is(err, oci.ErrNoManifest)
	}
	src.(*oci.Layout).Close()
	return true
}

// sbomTime returns the creation time of a document: SOURCE_DATE_EPOCH, or that of what it
// describes. The time of the scan would make each document another one.
func sbomTime(own time.Time) (time.Time, error) {
	epoch := os.Getenv("SOURCE_DATE_EPOCH")
	if epoch == "" {
		return own.UTC(), nil
	}
	seconds, err := strconv.ParseInt(epoch, 10, 64)
	if err != nil || seconds < 0 {
		return own, usageError("", "SOURCE_DATE_EPOCH: expected seconds since 1970, found %q", epoch)
	}
	return time.Unix(seconds, 0).UTC(), nil
}

// scan executes an order and returns the document that was asked for.
func (o sbomOptions) scan(ctx context.Context, s scanner, order any) ([]byte, error) {
	var d scan.Documents
	if err := s.Do(ctx, order, &d); err != nil {
		return nil, err
	}
	doc := d.SPDX
	if o.format == "cyclonedx" {
		doc = d.CycloneDX
	}
	if len(doc) == 0 || len(doc) > limits.Statement {
		return nil, fmt.Errorf("%s: got a document of %d bytes, want at most %d", scan.Program, len(doc), limits.Statement)
	}
	return doc, nil
}

// scanner is a process of the program colophon-scan.
type scanner interface {
	Do(ctx context.Context, order, into any) error
	Close()
}

// scannerProgram returns the path of colophon-scan: beside this program, or in PATH.
func scannerProgram() (string, error) {
	if self, err := os.Executable(); err == nil {
		beside := filepath.Join(filepath.Dir(self), scan.Program)
		if st, err := os.Stat(beside); err == nil && st.Mode().IsRegular() {
			return beside, nil
		}
	}
	path, err := exec.LookPath(scan.Program)
	if err != nil {
		return "", &exitError{code: exitFailure, msg: scan.Program + ", the program that scans, is neither beside colophon nor in PATH", hint: "install it beside colophon: make scanner builds it"}
	}
	return filepath.Abs(path)
}

// describeImage returns the SBOM of an image. A layout is scanned in place; another image is
// copied into one first.
func (o sbomOptions) describeImage(ctx context.Context, target string) (doc []byte, err error) {
	dir, remove, err := scanDir()
	if err != nil {
		return nil, err
	}
	defer remove(&err)
	ref, src, err := openImage(target)
	if err != nil {
		return nil, err
	}
	if l, ok := src.(*oci.Layout); ok {
		defer l.Close()
	}
	d, err := src.Resolve(ctx, ref.Identifier())
	if err != nil {
		return nil, err
	}
	images, err := sbomImages(ctx, src, d, o.platform)
	if err != nil {
		return nil, fmt.Errorf("%s: %w", target, err)
	}
	name := o.name
	if name == "" {
		if name = ref.Repository; name == "" {
			path, err := filepath.Abs(ref.Dir)
			if err != nil {
				return nil, err
			}
			name = filepath.Base(path)
		}
	}
	at := filepath.Join(dir, "layout")
	if info, err := os.Stat(ref.Dir); ref.Dir != "" && err == nil && info.IsDir() {
		if at, err = filepath.Abs(ref.Dir); err != nil {
			return nil, err
		}
		if at, err = filepath.EvalSymlinks(at); err != nil {
			return nil, err
		}
	} else if err := os.Mkdir(at, 0o700); err != nil {
		return nil, err
	}
	s, err := startScanner(scan.Task, dir, at, o.say) // it prepares while the image is copied
	if err != nil {
		return nil, err
	}
	defer s.Close()
	if filepath.Dir(at) == dir {
		if err := copyImages(ctx, at, src, images); err != nil {
			return nil, err
		}
	}
	if o.platform != "" {
		d = images[0].d
	}
	return o.scanImages(ctx, s, scan.Order{Layout: at, Dir: dir, Image: name}, d.Digest, images)
}

// scanImages returns the SBOM of an image, or of the index digest from those of its images.
func (o sbomOptions) scanImages(ctx context.Context, s scanner, order scan.Order, digest v1.Hash, images []platformImage) ([]byte, error) {
	var parts []sbom.Part
	for _, i := range images {
		var err error
		order.Digest = i.d.Digest
		if order.Created, err = sbomTime(i.created); err != nil {
			return nil, err
		}
		p := sbom.Part{Type: attest.PredicateSPDX, Platform: i.platform}
		if o.format == "cyclonedx" {
			p.Type = attest.PredicateCDX
		}
		if p.Document, err = o.scan(ctx, s, order); err != nil {
			return nil, err
		}
		if i.d.Digest == digest {
			return p.Document, nil
		}
		parts = append(parts, p)
	}
	return sbom.Merge(sbom.Index{Name: order.Image, Digest: digest}, parts)
}

func copyImages(ctx context.Context, to string, src oci.Source, images []platformImage) error {
	l, err := oci.CreateScratch(to)
	if err != nil {
		return err
	}
	defer l.Close()
	for _, i := range images {
		if err := oci.Copy(ctx, l, src, i.d); err != nil {
			return err
		}
		if err := l.Tag(ctx, i.d.Digest.Hex, i.d); err != nil { // the scanner reads what index.json lists
			return err
		}
	}
	return nil
}

// platformImage is an image that is scanned.
type platformImage struct {
	d        v1.Descriptor
	platform string // as the index says; empty without an index
	created  time.Time
}

// manifestsOf returns d or, if d is an index, what it lists.
func manifestsOf(ctx context.Context, src oci.Source, d v1.Descriptor) ([]v1.Descriptor, error) {
	if !d.MediaType.IsIndex() {
		return []v1.Descriptor{d}, nil
	}
	raw, _, err := src.Manifest(ctx, d.Digest)
	if err != nil {
		return nil, err
	}
	var index v1.IndexManifest
	if err := strict.Unmarshal(raw, limits.Manifest, &index); err != nil {
		return nil, err
	}
	if n := len(index.Manifests); n > limits.IndexManifests {
		return nil, fmt.Errorf("index: got %d manifests, want at most %d", n, limits.IndexManifests)
	}
	return index.Manifests, nil
}

// sbomImages returns the images in d, which may be an index: those of all platforms, or of one.
// What is no image, as BuildKit's attestations, is left out.
func sbomImages(ctx context.Context, src oci.Source, d v1.Descriptor, platform string) ([]platformImage, error) {
	manifests, err := manifestsOf(ctx, src, d)
	if err != nil {
		return nil, err
	}
	var images []platformImage
	var names []string
	seen := map[v1.Hash]bool{}
	for _, m := range manifests {
		if m.Platform != nil && m.Platform.OS == "unknown" || seen[m.Digest] {
			continue
		}
		if !m.MediaType.IsImage() {
			return nil, fmt.Errorf("%s: media type: got %q, want an image", m.Digest, m.MediaType)
		}
		seen[m.Digest] = true
		i := platformImage{d: m}
		config, err := imageConfig(ctx, src, m.Digest)
		if err != nil {
			return nil, err
		}
		if i.created = config.Created.Time; i.created.Before(time.Unix(0, 0)) {
			i.created = time.Unix(0, 0)
		}
		if p := cmp.Or(m.Platform, config.Platform()); p != nil { // an image need not say it
			i.platform = p.String()
		}
		names = append(names, i.platform)
		if platform == "" || platform == i.platform {
			images = append(images, i)
		}
	}
	switch {
	case len(images) == 0 && platform != "":
		return nil, &exitError{code: exitUsage, msg: fmt.Sprintf("--platform: the image has no %s; it has %s", platform, strings.Join(names, ", "))}
	case len(images) == 0:
		return nil, errors.New("the index has no image")
	}
	return images, nil
}

func imageConfig(ctx context.Context, src oci.Source, digest v1.Hash) (*v1.ConfigFile, error) {
	raw, _, err := src.Manifest(ctx, digest)
	if err != nil {
		return nil, err
	}
	var manifest v1.Manifest
	if err := strict.Unmarshal(raw, limits.Manifest, &manifest); err != nil {
		return nil, err
	}
	if manifest.Config.Size > limits.Config {
		return nil, fmt.Errorf("configuration: got %d bytes, want at most %d", manifest.Config.Size, limits.Config)
	}
	r, err := src.Blob(ctx, manifest.Config)
	if err != nil {
		return nil, err
	}
	defer r.Close()
	var config v1.ConfigFile
	if err := json.NewDecoder(r).Decode(&config); err != nil {
		return nil, fmt.Errorf("configuration of %s: %w", digest, err)
	}
	return &config, nil
}
