// Package namespaces stands in for github.com/containerd/containerd/v2/pkg/namespaces.
package namespaces

import "context"

// Default is the namespace of a client that names none.
const Default = "default"

// WithNamespace returns ctx.
func WithNamespace(ctx context.Context, _ string) context.Context { return ctx }
