// Package getter stands in for github.com/hashicorp/go-getter, which Syft links to download
// Snap packages. A scan downloads nothing, so this package has the API that Syft uses, and
// downloads nothing: without the real one, colophon-scan does not link the clients of Amazon's
// and Google's storage.
package getter

import (
	"errors"
	"io"
	"net/http"
)

// Getter would download one kind of URL.
type Getter any

// HttpGetter is a Getter.
type HttpGetter struct {
	Client *http.Client
	Header http.Header
}

type (
	FileGetter struct{} // FileGetter is a Getter.
	GitGetter  struct{} // GitGetter is a Getter.
	GCSGetter  struct{} // GCSGetter is a Getter.
	HgGetter   struct{} // HgGetter is a Getter.
	S3Getter   struct{} // S3Getter is a Getter.
)

// Decompressor would unpack one kind of archive.
type Decompressor any

// Decompressors is empty.
var Decompressors map[string]Decompressor

// LimitedDecompressors returns Decompressors.
func LimitedDecompressors(int, int64) map[string]Decompressor { return Decompressors }

// ProgressTracker would see how far a download is.
type ProgressTracker interface {
	TrackProgress(src string, currentSize, totalSize int64, stream io.ReadCloser) io.ReadCloser
}

// ClientOption changes a Client.
type ClientOption func(*Client) error

// WithProgress changes nothing.
func WithProgress(ProgressTracker) func(*Client) error { return func(*Client) error { return nil } }

// WithDecompressors changes nothing.
func WithDecompressors(map[string]Decompressor) ClientOption {
	return func(*Client) error { return nil }
}

// Client would download Src to Dst.
type Client struct {
	Src, Dst string
	Dir      bool
	Getters  map[string]Getter
	Options  []ClientOption
}

// Get returns an error.
func (*Client) Get() error { return errors.New("this program downloads nothing") }
