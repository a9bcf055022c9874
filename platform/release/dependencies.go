package release

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"io"
	"maps"
	"os"
	"slices"
	"strings"

	"github.com/colophon-build/colophon/attest"
	"github.com/colophon-build/colophon/internal/loopback"
	"github.com/colophon-build/colophon/oci"
	"github.com/colophon-build/colophon/platform/api"
	"github.com/colophon-build/colophon/platform/builder/dockerfile"
	"github.com/colophon-build/colophon/platform/release/base"
	"github.com/colophon-build/colophon/platform/release/network"
)

const (
	maxDockerfile = 1 << 20 // bytes
	maxNotes      = 256     // requests that a note lists one by one
)

func refuseToSign(err error) error {
	if _, known := errors.AsType[*api.Error](err); known || errors.Is(err, context.Canceled) || errors.Is(err, context.DeadlineExceeded) {
		return err
	}
	return &api.Error{Message: "refusing to sign: " + err.Error()}
}

// checkNetwork determines the image's dependencies: its base images, from the
// Dockerfile in the exported tree and from the registries, and all other downloads,
// from the gateway's record. It returns an error if the image's lowest layers are not
// the base that the Dockerfile names, or if the builder claims other downloads.
func (j *run) checkNetwork(ctx context.Context, a *attempt, m *oci.Measured) ([]attest.ResourceDescriptor, error) {
	var rec *network.Record
	if a.record != nil {
		var err error
		if rec, err = network.Read(a.record.Exchanges); err != nil {
			return nil, err
		}
		if a.Lock != "" {
			if err := outsideTheLock(rec.Denied()); err != nil {
				return nil, err
			}
		}
		note(a.Config, "network.denied", rec.Denied())
		note(a.Config, "network.cut", rec.Cut())
		note(a.Config, "network.credential", rec.Credentials())
	}
	images, err := j.findBases(ctx, rec, a, m)
	if err != nil {
		return nil, refuseToSign(err)
	}
	found := map[base.Reference]bool{}
	for _, i := range images {
		found[i.Dependency] = true
	}
	var deps []attest.ResourceDescriptor
	for _, r := range slices.SortedFunc(maps.Keys(found), func(a, b base.Reference) int { return cmp.Compare(a.URI+a.SHA256, b.URI+b.SHA256) }) {
		deps = append(deps, r.Descriptor())
	}
	if rec == nil { // there is no trusted record of other downloads
		return deps, nil
	}
	claims := network.Claims{Dependencies: a.claimed.Dependencies, Incomplete: a.claimed.Config["network.incomplete"]}
	if err := rec.Agree(claims, images); err != nil {
		return nil, refuseToSign(err)
	}
	return append(deps, rec.Fetched(images)...), nil
}

// note adds at most maxNotes entries of a list to the build's internal parameters.
func note(config map[string]string, name string, list []string) {
	if more := len(list) - maxNotes; more > 0 {
		list = append(list[:maxNotes:maxNotes], fmt.Sprintf("and %d more", more))
	}
	if len(list) > 0 {
		config[name] = strings.Join(list, "\n")
	}
}

// findBases resolves every image that the Dockerfile uses, and sets a.Bases. It returns an
// error if the lowest layers of a platform's image are not those of the base that the
// Dockerfile names. With a lock, a tag means the digest there, even if the tag has moved.
func (j *run) findBases(ctx context.Context, rec *network.Record, a *attempt, m *oci.Measured) ([]*base.Image, error) {
	text, err := readInTree(j.tree, j.recipe.Dockerfile, maxDockerfile)
	if err != nil {
		return nil, err
	}
	r := &base.Resolver{Mirror: j.mirror, Pinned: a.Lock != "", Registry: j.openBase}
	if rec != nil {
		r.Seen = rec.Manifest
	}
	d := dockerfile.Dockerfile{Text: text, Recipe: j.recipe, Epoch: j.commit.Time}
	var all []*base.Image
	a.Bases = map[string]baseOf{}
	for _, p := range m.Platforms {
		images, lowest, err := base.Images(ctx, d, p.Platform.String(), r.Image)
		if err != nil {
			return nil, err
		}
		if err := base.Lowest(lowest, diffIDs(p)); err != nil {
			return nil, fmt.Errorf("image for %s: %w", p.Platform, err)
		}
		a.Bases[p.Platform.String()] = basedOn(images, lowest)
		all = append(all, images...)
	}
	return all, nil
}

// openBase opens the repository of a base image, which the Dockerfile named: as a stranger,
// like the room, and on this host's loopback only in the platform's own registry.
func (j *run) openBase(name string) (oci.Source, error) {
	host, _, _ := strings.Cut(name, "/")
	if host != j.RegistryHost && loopback.Possible(host) {
		return nil, fmt.Errorf("%s is on this host's loopback, where builds reach only the platform's registry %s", host, j.RegistryHost)
	}
	return oci.OpenRegistry(name, oci.RegistryOptions{Transport: &noLoopback{host: host}, TLS: host == j.RegistryHost && strings.HasPrefix(j.URL, "https://")})
}

// readInTree reads a file of at most size bytes in the exported tree. It does not
// follow links out of the tree.
func readInTree(tree, name string, size int64) ([]byte, error) {
	root, err := os.OpenRoot(tree)
	if err != nil {
		return nil, err
	}
	defer root.Close()
	f, err := root.Open(name)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	data, err := io.ReadAll(io.LimitReader(f, size+1))
	if err == nil && int64(len(data)) > size {
		err = fmt.Errorf("%s: got more than %d bytes", name, size)
	}
	return data, err
}
