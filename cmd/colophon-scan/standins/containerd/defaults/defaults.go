// Package defaults stands in for github.com/containerd/containerd/v2/defaults.
package defaults

// DefaultAddress is where containerd would listen.
const DefaultAddress = "/run/containerd/containerd.sock"
