// Package archive stands in for github.com/containerd/containerd/v2/core/images/archive.
package archive

import (
	"github.com/containerd/platforms"

	"github.com/containerd/containerd/v2/core/images"
)

// ExportOpt would say what to export.
type ExportOpt struct{}

func WithImage(images.Store, string) ExportOpt       { return ExportOpt{} } // WithImage changes nothing.
func WithPlatform(platforms.MatchComparer) ExportOpt { return ExportOpt{} } // WithPlatform changes nothing.
