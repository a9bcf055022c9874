package release

import (
	"cmp"
	"context"
	"encoding/base64"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"maps"
	"net/url"
	"os"
	"slices"
	"strings"

	"github.com/colophon-build/colophon/attest"
	"github.com/colophon-build/colophon/oci"
	"github.com/colophon-build/colophon/platform/api"
	"github.com/colophon-build/colophon/platform/release/base"
	"github.com/colophon-build/colophon/platform/release/network"
)

const (
	maxDockerfile = 1 << 20  // bytes
	maxGoSum      = 32 << 20 // bytes
	maxNotes      = 256      // requests that are told of one by one, beside the dependencies
)

func refuseToSign(err error) error {
	if _, known := errors.AsType[*api.Error](err); known || errors.Is(err, context.Canceled) || errors.Is(err, context.DeadlineExceeded) {
		return err
	}
	return &api.Error{Message: "refusing to sign: " + err.Error()}
}

// checkNetwork finds what the image was made from: its base images, from the
// Dockerfile of the exported tree and the registries themselves, and what else
// was fetched, from the gateway's record. The image must stand on the base that
// the Dockerfile names, and the builder must have told the same.
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
	}
	images, err := j.bases(ctx, rec, a.Lock != "", m)
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
	if rec == nil { // nobody outside the room knows what else was fetched
		return deps, nil
	}
	claims := network.Claims{Dependencies: a.said.Dependencies, Incomplete: a.said.Config["network.incomplete"]}
	if err := rec.Agree(claims, images); err != nil {
		return nil, refuseToSign(err)
	}
	return append(deps, rec.Fetched(images)...), nil
}

// note adds a list to the build's internal parameters, up to a bound.
func note(config map[string]string, name string, list []string) {
	if more := len(list) - maxNotes; more > 0 {
		list = append(list[:maxNotes:maxNotes], fmt.Sprintf("and %d more", more))
	}
	if len(list) > 0 {
		config[name] = strings.Join(list, "\n")
	}
}

// bases resolves every image that the Dockerfile takes, and fails unless the
// lowest layers of each platform's image are those of the base it names. A tag
// that is pinned stands for what the lock says, whatever became of it since.
func (j *run) bases(ctx context.Context, rec *network.Record, pinned bool, m *oci.Measured) ([]*base.Image, error) {
	text, err := readInTree(j.tree, j.recipe.Dockerfile, maxDockerfile)
	if err != nil {
		return nil, err
	}
	r := &base.Resolver{Mirror: j.mirror, Pinned: pinned, Registry: func(name string) (oci.Source, error) {
		host, _, _ := strings.Cut(name, "/")
		return oci.OpenRegistry(name, oci.RegistryOptions{Transport: &staysOut{host: host}})
	}}
	if rec != nil {
		r.Seen = rec.Manifest
	}
	d := base.Dockerfile{Text: text, Recipe: j.recipe, Epoch: j.commit.Time}
	var all []*base.Image
	for _, p := range m.Platforms {
		images, lowest, err := d.Images(ctx, p.Platform.String(), r.Image)
		if err != nil {
			return nil, err
		}
		if err := base.Lowest(lowest, diffIDs(p)); err != nil {
			return nil, fmt.Errorf("image for %s: %w", p.Platform, err)
		}
		all = append(all, images...)
	}
	return all, nil
}

// readInTree reads a file of the exported tree, following no link out of it.
func readInTree(tree, name string, most int64) ([]byte, error) {
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
	data, err := io.ReadAll(io.LimitReader(f, most+1))
	if err == nil && int64(len(data)) > most {
		err = fmt.Errorf("%s: more than %d bytes", name, most)
	}
	return data, err
}

// checkModules holds the modules that the golang builder found in the binary
// against the go.sum of the commit. A sum that is there is one that the commit's
// authors pinned; the builder cannot name another.
func checkModules(tree string, said []attest.ResourceDescriptor) ([]attest.ResourceDescriptor, error) {
	if len(said) == 0 {
		return nil, nil
	}
	text, err := readInTree(tree, "go.sum", maxGoSum)
	if err != nil {
		return nil, refuseToSign(fmt.Errorf("the builder names %d modules, and the commit's go.sum cannot be read: %w", len(said), err))
	}
	pinned := map[string]string{} // hex sha256 of h1, by MODULE@VERSION
	for line := range strings.Lines(string(text)) {
		f := strings.Fields(line)
		if len(f) != 3 {
			continue
		}
		if sum, ok := strings.CutPrefix(f[2], "h1:"); ok {
			if raw, err := base64.StdEncoding.DecodeString(sum); err == nil {
				pinned[f[0]+"@"+f[1]] = hex.EncodeToString(raw)
			}
		}
	}
	out := make([]attest.ResourceDescriptor, 0, len(said))
	for _, d := range said {
		want := pinned[d.Name]
		if want == "" || d.Digest["dirHash"] != want || len(d.Digest) != 1 {
			return nil, refuseToSign(fmt.Errorf("module %s: the builder says %v, go.sum of the commit dirHash %q", d.Name, d.Digest, want))
		}
		path, version, _ := strings.Cut(d.Name, "@")
		out = append(out, attest.ResourceDescriptor{ // purl-spec, type golang
			Name: d.Name, URI: "pkg:golang/" + strings.ToLower(path) + "@" + url.QueryEscape(version), Digest: map[string]string{"dirHash": want},
		})
	}
	return out, nil
}
