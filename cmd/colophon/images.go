package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"

	"github.com/colophon-build/colophon/internal/limits"
	"github.com/colophon-build/colophon/internal/strict"
	"github.com/colophon-build/colophon/oci"
	"github.com/colophon-build/colophon/oci/imagelist"
)

// stdin is the file name that means standard input.
const stdin = "-"

// targets collects the images that one command verifies.
type targets struct{ imagelist.List }

// argument adds the image that a command line argument names.
func (ts *targets) argument(name string) error {
	ref, err := oci.ParseReference(name)
	if err != nil {
		return usageError("", "%v", err)
	}
	return ts.Add(imagelist.Image{Name: name, Reference: ref})
}

// file adds the images of a list, a Kubernetes manifest or a compose file.
func (ts *targets) file(path string, in io.Reader) error {
	what := path
	if path == stdin {
		what = "standard input"
	} else {
		f, err := os.Open(path)
		if err != nil {
			return usageError("", "%v", err)
		}
		defer f.Close()
		in = f
	}
	raw, err := strict.Read(in, limits.ImageList)
	if err == nil {
		before := ts.Named
		if err = ts.Document(raw); err == nil && ts.Named == before {
			err = errors.New("it names no image")
		}
	}
	if err != nil {
		return fmt.Errorf("%s: %w", what, err)
	}
	return nil
}

// tags adds every tag of a repository. It skips the tags that hold attachments
// of images, and returns how many it skipped.
func (ts *targets) tags(ctx context.Context, repo string) (attachments int, err error) {
	reg, err := oci.OpenRegistry(repo, oci.RegistryOptions{})
	if err != nil {
		return 0, usageError("", "%v", err)
	}
	tags, attachments, err := reg.Tags(ctx)
	if err != nil {
		return 0, err
	}
	if len(tags) == 0 {
		return 0, fmt.Errorf("%s has no tags", repo)
	}
	for _, tag := range tags {
		ref := oci.Reference{Repository: repo, Tag: tag}
		if err := ts.Add(imagelist.Image{Name: ref.String(), Reference: ref}); err != nil {
			return 0, err
		}
	}
	return attachments, nil
}
