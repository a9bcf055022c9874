package main

import (
	"path/filepath"
	"testing"

	"github.com/google/go-containerregistry/pkg/v1/empty"
	"github.com/google/go-containerregistry/pkg/v1/layout"

	"github.com/colophon-build/colophon/oci"
)

// An image need not say its platform, neither in its configuration nor in an index.
func TestSBOMOfAnImageWithoutPlatform(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "app")
	path, err := layout.Write(dir, empty.Index)
	if err != nil {
		t.Fatal(err)
	}
	if err := path.AppendImage(empty.Image); err != nil {
		t.Fatal(err)
	}
	src, err := oci.OpenLayout(dir)
	if err != nil {
		t.Fatal(err)
	}
	defer src.Close()
	d, err := src.Resolve(t.Context(), "")
	if err != nil {
		t.Fatal(err)
	}
	d.Platform = nil
	images, err := sbomImages(t.Context(), src, d, "")
	if err != nil || len(images) != 1 || images[0].platform != "" {
		t.Errorf("got %+v, %v", images, err)
	}
	if _, err := sbomImages(t.Context(), src, d, "linux/amd64"); err == nil {
		t.Error("it has no linux/amd64")
	}
}
