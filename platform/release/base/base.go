// Package base finds out, on the trusted side, which images a Dockerfile takes:
// its reading is BuildKit's own converter over the exported tree, its images
// are resolved and hashed here. What the build zone says of them is compared
// with that, and is never the source of it.
package base

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"strconv"
	"sync"
	"time"

	"github.com/containerd/platforms"
	"github.com/distribution/reference"
	v1 "github.com/google/go-containerregistry/pkg/v1"
	"github.com/moby/buildkit/client/llb"
	"github.com/moby/buildkit/client/llb/sourceresolver"
	"github.com/moby/buildkit/frontend/dockerfile/dockerfile2llb"
	"github.com/moby/buildkit/frontend/dockerui"
	"github.com/moby/buildkit/util/purl"
	digest "github.com/opencontainers/go-digest"
	ocispecs "github.com/opencontainers/image-spec/specs-go/v1"

	"github.com/colophon-build/colophon/attest"
)

// Image is one image that a build takes, as this side resolved it.
type Image struct {
	Domain     string    // docker.io
	Name       string    // library/golang
	Tag        string    // 1.26; empty where the reference has a digest
	Platform   string    // linux/amd64
	Dependency Reference // as a provenance names it
	Top        v1.Hash   // what the reference stands for: an index or a manifest
	Manifest   v1.Hash   // for Platform; Top where there is no index
	DiffIDs    []v1.Hash // layers, lowest first
	// Content has the digest of every document and blob that the image is made of.
	Content map[v1.Hash]bool
	config  []byte
}

// Reference is an image's package URL (purl-spec, type docker) and digest.
type Reference struct {
	URI    string
	SHA256 string // hex, of Image.Top
}

// Descriptor is r as an entry of resolvedDependencies.
func (r Reference) Descriptor() attest.ResourceDescriptor {
	return attest.ResourceDescriptor{URI: r.URI, Digest: map[string]string{"sha256": r.SHA256}}
}

// Dockerfile is what decides which images a build takes.
type Dockerfile struct {
	Text   []byte
	Recipe attest.Recipe
	Epoch  time.Time
}

// UnsettledError says that a Dockerfile cannot be read as to its images.
type UnsettledError struct {
	Platform string
	Err      error
}

func (e *UnsettledError) Error() string {
	return fmt.Sprintf("the base images of the Dockerfile for %s cannot be settled: %v", e.Platform, e.Err)
}
func (e *UnsettledError) Unwrap() error { return e.Err }

// Images returns every image that the Dockerfile takes for the platform, in no
// order, and the diff IDs of the one that its target stage stands on: none for
// FROM scratch. An error of resolve is returned as it is.
func (d Dockerfile) Images(ctx context.Context, platform string, resolve func(context.Context, Request) (*Image, error)) (images []*Image, lowest []v1.Hash, err error) {
	defer func() { // a hostile Dockerfile is read in this process
		if r := recover(); r != nil {
			images, lowest, err = nil, nil, &UnsettledError{platform, fmt.Errorf("reading it failed: %v", r)}
		}
	}()
	target, err := platforms.Parse(platform)
	if err != nil {
		return nil, nil, &UnsettledError{platform, err}
	}
	host := platforms.Normalize(platforms.DefaultSpec())
	args := map[string]string{"SOURCE_DATE_EPOCH": strconv.FormatInt(d.Epoch.Unix(), 10)}
	maps.Copy(args, d.Recipe.BuildArgs)
	r := &resolver{resolve: resolve}
	res, err := dockerfile2llb.Dockerfile2LLB(ctx, d.Text, dockerfile2llb.ConvertOpt{
		Config: dockerui.Config{
			BuildArgs: args, Target: d.Recipe.Target,
			BuildPlatforms:         []ocispecs.Platform{{OS: host.OS, Architecture: host.Architecture, Variant: host.Variant}},
			MultiPlatformRequested: len(d.Recipe.Platforms) > 1,
		},
		TargetPlatform: &target,
		MetaResolver:   r,
	})
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

// resolver answers the converter's questions with images that this side fetched.
type resolver struct {
	resolve func(context.Context, Request) (*Image, error)
	mu      sync.Mutex // stages are resolved side by side
	images  []*Image
	err     error // the first failure, as resolve gave it
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
		if r.err == nil || errors.Is(r.err, context.Canceled) { // of the stages that another one's failure cut
			r.err = err
		}
		return "", "", nil, err
	}
	r.images = append(r.images, image)
	return ref, digest.Digest(image.Top.String()), image.config, nil
}

// Request is one image that a Dockerfile asks for.
type Request struct {
	Reference reference.Named // normalised, with a tag or digest
	Platform  ocispecs.Platform
}

func newRequest(ref string, opt sourceresolver.Opt) (Request, error) {
	named, err := reference.ParseNormalizedNamed(ref)
	if err != nil {
		return Request{}, err
	}
	if opt.ImageOpt == nil || opt.ImageOpt.Platform == nil {
		return Request{}, fmt.Errorf("%s is asked for without a platform", ref)
	}
	return Request{reference.TagNameOnly(named), platforms.Normalize(*opt.ImageOpt.Platform)}, nil
}

// identifier is the digest of the request's reference, else its tag.
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

// dependency names the image as BuildKit does in its provenance.
func (q Request) dependency(top v1.Hash) (Reference, error) {
	uri, err := purl.RefToPURL("docker", q.Reference.String(), &q.Platform)
	return Reference{uri, top.Hex}, err
}

// Lowest fails unless the first of the image's layers are those of its base.
func Lowest(base, image []v1.Hash) error {
	for i, want := range base {
		if i >= len(image) {
			return fmt.Errorf("the image has %d layers, its base image has %d", len(image), len(base))
		}
		if image[i] != want {
			return fmt.Errorf("layer %d of the image unpacks to %s, that of its base image to %s", i+1, image[i], want)
		}
	}
	return nil
}

// configuration is the part of an image configuration that matters here.
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

// String names an image in messages: docker.io/library/golang:1.26.
func (i *Image) String() string {
	s := i.Domain + "/" + i.Name
	if i.Tag != "" {
		return s + ":" + i.Tag
	}
	return s + "@" + i.Top.String()
}

// registryHost is where the images of a domain are.
func registryHost(domain string) string {
	if domain == "docker.io" {
		return "registry-1.docker.io"
	}
	return domain
}
