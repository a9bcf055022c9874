// Package images stands in for github.com/containerd/containerd/v2/core/images.
package images

import (
	"context"

	v1 "github.com/opencontainers/image-spec/specs-go/v1"
)

// Media types of Docker's images (Docker Image Manifest V2, schemas 1 and 2).
const (
	MediaTypeDockerSchema1Manifest     = "application/vnd.docker.distribution.manifest.v1+prettyjws"
	MediaTypeDockerSchema2Manifest     = "application/vnd.docker.distribution.manifest.v2+json"
	MediaTypeDockerSchema2ManifestList = "application/vnd.docker.distribution.manifest.list.v2+json"
	MediaTypeDockerSchema2Config       = "application/vnd.docker.container.image.v1+json"
)

type (
	Image   struct{ Target v1.Descriptor } // Image would be an image.
	Store   struct{}                       // Store has no images.
	Handler any                            // Handler would see the parts of an image.
)

// HandlerFunc is a Handler.
type HandlerFunc func(context.Context, v1.Descriptor) ([]v1.Descriptor, error)
