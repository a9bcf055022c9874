// Package client stands in for github.com/containerd/containerd/v2/client, with which Syft takes
// images from containerd. A scan reads a layout or files, so this package has the API that Syft
// uses, and reaches no daemon.
package client

import (
	"context"
	"errors"
	"io"

	v1 "github.com/opencontainers/image-spec/specs-go/v1"

	"github.com/containerd/containerd/v2/core/content"
	"github.com/containerd/containerd/v2/core/images"
	"github.com/containerd/containerd/v2/core/images/archive"
	"github.com/containerd/containerd/v2/core/remotes"
)

var errNone = errors.New("this program reaches no daemon")

type (
	Opt       struct{} // Opt would change a Client.
	RemoteOpt struct{} // RemoteOpt would say how to pull an image.
)

// Image would be an image of containerd.
type Image interface {
	Name() string
	Target() v1.Descriptor
	Metadata() images.Image
	Size(context.Context) (int64, error)
}

// Client would be a connection to containerd; none can be had.
type Client struct{}

// New returns an error.
func New(string, ...Opt) (*Client, error) { return nil, errNone }

func WithPlatform(string) RemoteOpt             { return RemoteOpt{} } // WithPlatform changes nothing.
func WithImageHandler(images.Handler) RemoteOpt { return RemoteOpt{} } // WithImageHandler changes nothing.
func WithResolver(remotes.Resolver) RemoteOpt   { return RemoteOpt{} } // WithResolver changes nothing.

// Pull returns an error.
func (*Client) Pull(context.Context, string, ...RemoteOpt) (Image, error) { return nil, errNone }

// GetImage returns an error.
func (*Client) GetImage(context.Context, string) (Image, error) { return nil, errNone }

// Export returns an error.
func (*Client) Export(context.Context, io.Writer, ...archive.ExportOpt) error { return errNone }

// ContentStore returns a store that has nothing.
func (*Client) ContentStore() content.Store { return content.Store{} }

// ImageService returns a store that has nothing.
func (*Client) ImageService() images.Store { return images.Store{} }

// Close does nothing.
func (*Client) Close() error { return nil }
