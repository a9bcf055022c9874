// Package compression stands in for github.com/containerd/containerd/v2/pkg/archive/compression,
// which a test of the main module imports: go mod tidy wants to find it.
package compression
