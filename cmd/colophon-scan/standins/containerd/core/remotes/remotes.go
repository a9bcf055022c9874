// Package remotes stands in for github.com/containerd/containerd/v2/core/remotes.
package remotes

import (
	"context"

	v1 "github.com/opencontainers/image-spec/specs-go/v1"
)

// Resolver would find images in registries.
type Resolver any

// MakeRefKey returns a name of a blob.
func MakeRefKey(_ context.Context, d v1.Descriptor) string { return d.Digest.String() }
