package main

import (
	"os"
	"path/filepath"
	"strings"
	"testing"

	v1 "github.com/google/go-containerregistry/pkg/v1"
	"github.com/google/go-containerregistry/pkg/v1/empty"
	"github.com/google/go-containerregistry/pkg/v1/layout"
	"github.com/google/go-containerregistry/pkg/v1/random"
	"github.com/google/go-containerregistry/pkg/v1/validate"
)

// A run makes what is wanted and not there, and names an image that it cannot make.
func TestMissing(t *testing.T) {
	golang := map[string]v1.Descriptor{"docker.io/library/golang:1.25": {}, "docker.io/library/golang:1.26": {}}
	for _, c := range []struct {
		name   string
		wanted []string
		have   map[string]v1.Descriptor
		want   string // the first names of the sets
	}{
		{"all", nil, nil, "docker.io/library/debian:bookworm-slim docker.io/library/golang:1.25 gcr.io/distroless/static-debian12:latest gcr.io/distroless/base-debian12:latest docker.io/library/busybox:1.35"},
		{"the rest", nil, golang, "docker.io/library/debian:bookworm-slim gcr.io/distroless/static-debian12:latest gcr.io/distroless/base-debian12:latest docker.io/library/busybox:1.35"},
		{"two", []string{"docker.io/library/golang:1.26", "gcr.io/distroless/static-debian12:nonroot"}, nil, "docker.io/library/golang:1.25 gcr.io/distroless/static-debian12:latest"},
		{"nothing", []string{"docker.io/library/golang:1.26"}, golang, ""},
	} {
		t.Run(c.name, func(t *testing.T) {
			got, err := missing(c.wanted, c.have)
			if err != nil {
				t.Fatal(err)
			}
			var names []string
			for _, s := range got {
				names = append(names, s.names[0])
			}
			if strings.Join(names, " ") != c.want {
				t.Errorf("got %q, want %q", names, c.want)
			}
		})
	}
	if _, err := missing([]string{"golang:1.26"}, nil); err == nil || !strings.Contains(err.Error(), "docker.io/library/golang:1.26") {
		t.Errorf("got error %v, want one that names the images", err)
	}
}

// A new layout keeps the images of the old one, and the old one stays whole.
func TestStart(t *testing.T) {
	old, next := filepath.Join(t.TempDir(), "old"), filepath.Join(t.TempDir(), "new")
	path, err := layout.Write(old, empty.Index)
	if err != nil {
		t.Fatal(err)
	}
	first, err := random.Image(1000, 2)
	if err != nil {
		t.Fatal(err)
	}
	name := func(s string) layout.Option { return layout.WithAnnotations(map[string]string{refName: s}) }
	if err := path.AppendImage(first, name("first")); err != nil {
		t.Fatal(err)
	}
	have, err := images(old)
	if err != nil {
		t.Fatal(err)
	}
	before, err := os.ReadFile(filepath.Join(old, "index.json"))
	if err != nil {
		t.Fatal(err)
	}
	path, err = start(next, old, have)
	if err != nil {
		t.Fatal(err)
	}
	second, err := random.Image(1000, 2)
	if err != nil {
		t.Fatal(err)
	}
	if err := path.AppendImage(second, name("second")); err != nil {
		t.Fatal(err)
	}
	if err := os.RemoveAll(filepath.Join(old, "blobs")); err != nil {
		t.Fatal(err)
	}
	got, err := images(next)
	if err != nil {
		t.Fatal(err)
	}
	if len(got) != 2 {
		t.Errorf("got %d images, want 2", len(got))
	}
	for n, d := range got {
		img, err := path.Image(d.Digest)
		if err == nil {
			err = validate.Image(img)
		}
		if err != nil {
			t.Errorf("%s: %v", n, err)
		}
	}
	if after, err := os.ReadFile(filepath.Join(old, "index.json")); err != nil || string(after) != string(before) {
		t.Errorf("the old layout's index: got %q (%v), want %q", after, err, before)
	}
}
