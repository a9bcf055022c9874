// Package client stands in for github.com/moby/moby/client, with which Syft takes images from the
// daemons of Docker and Podman. A scan reads a layout or files, so this package has the API that
// Syft uses, and reaches no daemon.
package client

import (
	"context"
	"errors"
	"io"
	"net"
	"net/http"

	v1 "github.com/opencontainers/image-spec/specs-go/v1"
)

var errNone = errors.New("this program reaches no daemon")

type (
	Opt           func(*Client) error         // Opt would change a Client.
	PingOptions   struct{}                    // PingOptions would say how to ask a daemon.
	PingResult    struct{ APIVersion string } // PingResult would be what a daemon answers.
	SaveOption    struct{}                    // SaveOption would say which platform to save.
	InspectOption struct{}                    // InspectOption would say which platform to inspect.
)

// ImageInspectResult would describe an image.
type ImageInspectResult struct {
	Os, Architecture      string
	RepoTags, RepoDigests []string
	Size                  int64
}

// ImagePullOptions would say how to pull an image.
type ImagePullOptions struct {
	Platforms    []v1.Platform
	RegistryAuth string
}

// APIClient would ask a daemon.
type APIClient interface {
	ImageInspect(context.Context, string, ...InspectOption) (ImageInspectResult, error)
	ImageSave(context.Context, []string, ...SaveOption) (io.ReadCloser, error)
	ImagePull(context.Context, string, ImagePullOptions) (io.ReadCloser, error)
	Ping(context.Context, PingOptions) (PingResult, error)
	Close() error
}

// Client is an APIClient that returns errors.
type Client struct{}

// New returns an error.
func New(...Opt) (*Client, error) { return nil, errNone }

func FromEnv(*Client) error                                                       { return nil } // FromEnv changes nothing.
func WithHost(string) Opt                                                         { return nil } // WithHost changes nothing.
func WithHTTPClient(*http.Client) Opt                                             { return nil } // WithHTTPClient changes nothing.
func WithDialContext(func(context.Context, string, string) (net.Conn, error)) Opt { return nil } // WithDialContext changes nothing.

// ImageInspectWithPlatform changes nothing.
func ImageInspectWithPlatform(*v1.Platform) InspectOption { return InspectOption{} }

// ImageSaveWithPlatforms changes nothing.
func ImageSaveWithPlatforms(...v1.Platform) SaveOption { return SaveOption{} }

// ImageInspect returns an error.
func (*Client) ImageInspect(context.Context, string, ...InspectOption) (ImageInspectResult, error) {
	return ImageInspectResult{}, errNone
}

// ImageSave returns an error.
func (*Client) ImageSave(context.Context, []string, ...SaveOption) (io.ReadCloser, error) {
	return nil, errNone
}

// ImagePull returns an error.
func (*Client) ImagePull(context.Context, string, ImagePullOptions) (io.ReadCloser, error) {
	return nil, errNone
}

// Ping returns an error.
func (*Client) Ping(context.Context, PingOptions) (PingResult, error) { return PingResult{}, errNone }

// Close does nothing.
func (*Client) Close() error { return nil }
