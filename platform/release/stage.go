package release

import (
	"archive/tar"
	"cmp"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"os"
	"path"
	"path/filepath"
	"slices"
	"strings"

	v1 "github.com/google/go-containerregistry/pkg/v1"

	"github.com/colophon-build/colophon/attest"
	"github.com/colophon-build/colophon/internal/durable"
	"github.com/colophon-build/colophon/internal/limits"
	"github.com/colophon-build/colophon/oci"
	"github.com/colophon-build/colophon/platform/api"
)

// This file takes release files from the stage of a Dockerfile (spec/dockerfile-files/v1): the
// builder hands over an image for each platform, and the attest zone reads the files in them.

// dirStage is the directory of the files, below dirImage, where the process apart can write.
const dirStage = "stage"

// stageOrder makes the process apart write the files of measured images of a layout to the
// directory To, each under the hex SHA-256 of its content.
type stageOrder struct {
	Layout string      `json:"layout"`
	Images []stageFrom `json:"images"`
	To     string      `json:"to"`
}

type stageFrom struct {
	Platform string  `json:"platform"` // normal (attest.NormalPlatform)
	Manifest v1.Hash `json:"manifest"`
}

// unpackStage executes an order, and returns the files ordered by name.
func unpackStage(ctx context.Context, o stageOrder) ([]oci.File, error) {
	src, err := oci.OpenLayout(o.Layout)
	if err != nil {
		return nil, err
	}
	defer src.Close()
	if err := os.Mkdir(o.To, 0o700); err != nil {
		return nil, err
	}
	u := stageReader{to: o.To, left: limits.LayerPacked, names: map[string]bool{}}
	for _, image := range o.Images {
		before := len(u.files)
		err := oci.Entries(ctx, src, image.Manifest, func(_ int, h *tar.Header, content io.Reader) error {
			return u.add(image.Platform, h, content)
		})
		if err == nil && len(u.files) == before {
			err = errors.New("it has no files")
		}
		if err != nil {
			return nil, fmt.Errorf("stage for %s: %w", image.Platform, err)
		}
	}
	slices.SortFunc(u.files, func(a, b oci.File) int { return cmp.Compare(a.Name, b.Name) })
	return u.files, nil
}

// stageReader collects the files of all platforms.
type stageReader struct {
	to    string
	left  int64 // bytes that files may still have, in all
	names map[string]bool
	files []oci.File
}

// add adds an entry of a layer. The layers of a stage for files have regular files at the top,
// each name once, and nothing that could mean something else to another reader.
func (s *stageReader) add(platform string, h *tar.Header, content io.Reader) error {
	name := path.Clean("/" + h.Name)[1:]
	switch {
	case name == "" && h.Typeflag == tar.TypeDir:
		return nil // the top itself
	case strings.HasPrefix(path.Base(name), ".wh."):
		return fmt.Errorf("entry %.200q: expected files only, found one that removes a file of a lower layer", h.Name)
	case h.Typeflag != tar.TypeReg || isSparse(h):
		return fmt.Errorf("entry %.200q: expected a regular file, found %s", h.Name, kindOf(h))
	case strings.Contains(name, "/"):
		return fmt.Errorf("entry %.200q: expected a file at the top of the stage, found one in a directory", h.Name)
	case len(s.files) == limits.Layers:
		return fmt.Errorf("expected at most %d files for all platforms, found more", limits.Layers)
	case h.Size > s.left:
		return fmt.Errorf("entry %.200q: expected at most %d bytes in all files, found more", h.Name, int64(limits.LayerPacked))
	}
	if err := attest.CheckFileName(name); err != nil {
		return err
	}
	name = attest.FileNameFrom(name, platform)
	if err := attest.CheckFileName(name); err != nil {
		return err
	}
	if s.names[strings.ToLower(name)] {
		return fmt.Errorf("file %s: expected each name once, found it twice", name)
	}
	s.names[strings.ToLower(name)] = true
	s.left -= h.Size
	d, err := s.write(content)
	if err != nil {
		return err
	}
	s.files = append(s.files, oci.File{Name: name, Descriptor: d})
	return nil
}

// write stores a content under its digest.
func (s *stageReader) write(content io.Reader) (d v1.Descriptor, err error) {
	part := filepath.Join(s.to, "part")
	f, err := os.OpenFile(part, os.O_WRONLY|os.O_CREATE|os.O_EXCL, 0o600)
	if err != nil {
		return d, err
	}
	sum := sha256.New()
	d.Size, err = io.Copy(io.MultiWriter(f, sum), content)
	if err = errors.Join(err, f.Sync(), f.Close()); err != nil {
		return d, err
	}
	d.Digest = v1.Hash{Algorithm: "sha256", Hex: hex.EncodeToString(sum.Sum(nil))}
	return d, os.Rename(part, filepath.Join(s.to, d.Digest.Hex))
}

// isSparse reports whether the archive leaves out holes of a file.
func isSparse(h *tar.Header) bool {
	for k := range h.PAXRecords {
		if strings.HasPrefix(k, "GNU.sparse.") {
			return true
		}
	}
	return h.Typeflag == tar.TypeGNUSparse
}

func kindOf(h *tar.Header) string {
	switch h.Typeflag {
	case tar.TypeDir:
		return "a directory"
	case tar.TypeSymlink:
		return "a symbolic link"
	case tar.TypeLink:
		return "a hard link"
	case tar.TypeChar, tar.TypeBlock, tar.TypeFifo:
		return "a device"
	case tar.TypeReg, tar.TypeGNUSparse:
		return "a sparse file"
	}
	return fmt.Sprintf("type %q", h.Typeflag)
}

// fromStage reports whether the files of the release are those of a Dockerfile's stage.
func (j *run) fromStage() bool { return j.recipe.Files && j.recipe.Builder == attest.BuildKit }

// takeStage replaces the measured images in the layout by the files in them, and measures these.
func (j *run) takeStage(ctx context.Context, a *attempt, m *oci.Measured) (*oci.Measured, error) {
	o := stageOrder{Layout: a.Layout, To: filepath.Join(j.dir, dirImage, dirStage)}
	for _, p := range m.Platforms {
		o.Images = append(o.Images, stageFrom{p.Platform.String(), p.Manifest.Digest})
	}
	var found imageAnswer
	if err := j.image.Do(ctx, imageOrder{Stage: &o}, &found); ctx.Err() != nil {
		return nil, ctx.Err()
	} else if err != nil {
		return nil, &api.Error{Message: "refusing to sign: " + err.Error(), Hint: "copy the release files, and nothing else, to the top of a last stage FROM scratch: docs/release.md, Files from a Dockerfile"}
	}
	a.Config["image.built"] = m.Descriptor.Digest.String()
	blobs := filepath.Join(a.Layout, "blobs", "sha256")
	if err := errors.Join(os.RemoveAll(blobs), os.Mkdir(blobs, 0o755)); err != nil {
		return nil, err
	}
	moved := map[v1.Hash]bool{}
	for _, f := range found.Files {
		d := f.Descriptor.Digest
		if err := checkHash(d); err != nil {
			return nil, err
		}
		if moved[d] {
			continue
		}
		moved[d] = true
		if err := os.Rename(filepath.Join(o.To, d.Hex), blobFile(a.Layout, d)); err != nil {
			return nil, err
		}
	}
	config := oci.EmptyConfig()
	if err := durable.WriteFile(blobFile(a.Layout, v1.Hash{Algorithm: "sha256", Hex: hexSum(config)}), config, 0o644); err != nil {
		return nil, err
	}
	if _, _, err := writeFilesManifest(a.Layout, found.Files, nil); err != nil {
		return nil, refuseToSign(err)
	}
	files, err := j.measureLayout(ctx, a.Layout, true)
	if err != nil {
		return nil, refuseToSign(err)
	}
	if !slices.EqualFunc(files.Files, found.Files, func(a, b oci.File) bool { return a.Name == b.Name && a.Descriptor.Digest == b.Descriptor.Digest }) {
		return nil, refuseToSign(errors.New("the files changed while they were read"))
	}
	return files, nil
}

// checkHash fails unless h is a SHA-256, and so is no path.
func checkHash(h v1.Hash) error {
	raw, err := hex.DecodeString(h.Hex)
	if err != nil || h.Algorithm != "sha256" || len(raw) != sha256.Size || strings.ToLower(h.Hex) != h.Hex {
		return fmt.Errorf("digest: got %q, want sha256", h)
	}
	return nil
}
