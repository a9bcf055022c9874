// Package base determines, on the trusted side, which images a Dockerfile uses. It
// parses the Dockerfile of the exported tree with BuildKit's own converter, and
// resolves and hashes the images itself. The build zone's claims are only compared
// with the result.
package base

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"sync"

	"github.com/containerd/platforms"
	"github.com/distribution/reference"
	v1 "github.com/google/go-containerregistry/pkg/v1"
	"github.com/moby/buildkit/client/llb"
	"github.com/moby/buildkit/client/llb/sourceresolver"
	"github.com/moby/buildkit/util/purl"
	digest "github.com/opencontainers/go-digest"
	ocispecs "github.com/opencontainers/image-spec/specs-go/v1"

	"github.com/colophon-build/colophon/attest"
	"github.com/colophon-build/colophon/platform/builder/dockerfile"
)

// Image is one image that a build uses, as the trusted side resolved it.
type Image struct {
	Domain     string    // docker.io
	Name       string    // library/golang
	Tag        string    // 1.26; empty if the reference has a digest
	Platform   string    // linux/amd64
	Dependency Reference // its entry in a provenance
	Top        v1.Hash   // digest of the index or manifest that the reference resolves to
	Manifest   v1.Hash   // digest of the manifest for Platform; equals Top if there is no index
	DiffIDs    []v1.Hash // of the layers, lowest first
	// Content is the set of digests of all documents and blobs of the image.
	Content map[v1.Hash]bool
	config  []byte
}

// Reference is an image's package URL (purl-spec, type docker) and digest.
type Reference struct {
	URI    string
	SHA256 string // hex digest of Image.Top
}

// Descriptor returns r as an entry of resolvedDependencies.
func (r Reference) Descriptor() attest.ResourceDescriptor {
	return attest.ResourceDescriptor{URI: r.URI, Digest: map[string]string{"sha256": r.SHA256}}
}

// UnsettledError means that the images of a Dockerfile cannot be determined.
type UnsettledError struct {
	Platform string
	Err      error
}

func (e *UnsettledError) Error() string {
	return fmt.Sprintf("the base images of the Dockerfile for %s cannot be determined: %v", e.Platform, e.Err)
}
func (e *UnsettledError) Unwrap() error { return e.Err }

// Images returns all images that a Dockerfile uses for the platform, in no order,
// and the diff IDs of the target stage's base image, of which FROM scratch has none.
// It calls resolve for each image and returns its errors unchanged.
func Images(ctx context.Context, d dockerfile.Dockerfile, platform string, resolve func(context.Context, Request) (*Image, error)) (images []*Image, lowest []v1.Hash, err error) {
	r := &resolver{resolve: resolve}
	res, err := d.Convert(ctx, platform, r)
	if r.err != nil {
		return nil, nil, r.err
	}
	if err != nil {
		return nil, nil, &UnsettledError{platform, err}
	}
	if res.BaseImage != nil {
		for _, id := range res.BaseImage.RootFS.DiffIDs {
			h, err := v1.NewHash(id.String())
			if err != nil {
				return nil, nil, &UnsettledError{platform, err}
			}
			lowest = append(lowest, h)
		}
	}
	return r.images, lowest, nil
}

// resolver answers the converter's requests with images that the trusted side resolved.
type resolver struct {
	resolve func(context.Context, Request) (*Image, error)
	mu      sync.Mutex // the converter resolves stages concurrently
	images  []*Image
	err     error // the first error of resolve
}

var _ llb.ImageMetaResolver = (*resolver)(nil)

// ResolveImageConfig implements llb.ImageMetaResolver.
func (r *resolver) ResolveImageConfig(ctx context.Context, ref string, opt sourceresolver.Opt) (string, digest.Digest, []byte, error) {
	q, err := newRequest(ref, opt)
	var image *Image
	if err == nil {
		image, err = r.resolve(ctx, q)
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	if err != nil {
		if r.err == nil || errors.Is(r.err, context.Canceled) { // a stage was cancelled because another one failed
			r.err = err
		}
		return "", "", nil, err
	}
	r.images = append(r.images, image)
	return ref, digest.Digest(image.Top.String()), image.config, nil
}

// Request is one image that a Dockerfile names.
type Request struct {
	Reference reference.Named // normalized, with a tag or digest
	Platform  ocispecs.Platform
}

func newRequest(ref string, opt sourceresolver.Opt) (Request, error) {
	named, err := reference.ParseNormalizedNamed(ref)
	if err != nil {
		return Request{}, err
	}
	if opt.ImageOpt == nil || opt.ImageOpt.Platform == nil {
		return Request{}, fmt.Errorf("image %s: platform: got none, want one", ref)
	}
	return Request{reference.TagNameOnly(named), platforms.Normalize(*opt.ImageOpt.Platform)}, nil
}

// identifier returns the digest of the request's reference, or else its tag.
func (q Request) identifier() (tag string, digest v1.Hash, err error) {
	if d, ok := q.Reference.(reference.Digested); ok {
		digest, err = v1.NewHash(d.Digest().String())
		return "", digest, err
	}
	if t, ok := q.Reference.(reference.Tagged); ok {
		return t.Tag(), digest, nil
	}
	return "", digest, fmt.Errorf("%s has neither tag nor digest", q.Reference)
}

// dependency names the image in the same way as BuildKit's provenance.
func (q Request) dependency(top v1.Hash) (Reference, error) {
	uri, err := purl.RefToPURL("docker", q.Reference.String(), &q.Platform)
	return Reference{uri, top.Hex}, err
}

// Lowest returns an error unless the lowest layers of an image are those of its base.
// Both lists are diff IDs, lowest first.
func Lowest(base, image []v1.Hash) error {
	for i, want := range base {
		if i >= len(image) {
			return fmt.Errorf("layers: got %d, want at least the %d of the base image", len(image), len(base))
		}
		if image[i] != want {
			return fmt.Errorf("diff ID of layer %d: got %s, want %s of the base image", i+1, image[i], want)
		}
	}
	return nil
}

// configuration returns the diff IDs in an image configuration.
func configuration(raw []byte) ([]v1.Hash, error) {
	var c struct {
		RootFS struct {
			DiffIDs []v1.Hash `json:"diff_ids"`
		} `json:"rootfs"`
	}
	if err := json.Unmarshal(raw, &c); err != nil {
		return nil, err
	}
	return c.RootFS.DiffIDs, nil
}

// String returns the image's name for messages: docker.io/library/golang:1.26.
func (i *Image) String() string {
	s := i.Domain + "/" + i.Name
	if i.Tag != "" {
		return s + ":" + i.Tag
	}
	return s + "@" + i.Top.String()
}

// registryHost returns the host of the registry for a domain of image names.
func registryHost(domain string) string {
	if domain == "docker.io" {
		return "registry-1.docker.io"
	}
	return domain
}
