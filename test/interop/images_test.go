package interop

import (
	"bytes"
	"context"
	"encoding/base64"
	"encoding/json"
	"io"
	"log"
	"net/http"
	"net/http/httptest"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	ggcr "github.com/google/go-containerregistry/pkg/registry"
	v1 "github.com/google/go-containerregistry/pkg/v1"

	"github.com/colophon-build/colophon/attest"
	"github.com/colophon-build/colophon/oci"
	"github.com/colophon-build/colophon/platform/registry"
	"github.com/colophon-build/colophon/test/await"
	"github.com/colophon-build/colophon/test/harness"
)

// images is a registry with stock clients that are logged in to it.
type images struct {
	t    *testing.T
	host string
	home string
}

const imagesToken = "push-token-of-this-test"

// newImages serves the registry that open returns, which clients reach at url.
func newImages(t *testing.T, open func(url string) http.Handler) *images {
	srv := httptest.NewUnstartedServer(nil)
	srv.Config.Handler = open("http://" + srv.Listener.Addr().String())
	srv.Start()
	t.Cleanup(srv.Close)
	i := &images{t: t, host: strings.TrimPrefix(srv.URL, "http://"), home: t.TempDir()}
	config, err := json.Marshal(map[string]any{"auths": map[string]any{i.host: map[string]string{"username": "colophon", "password": imagesToken}}})
	if err != nil {
		t.Fatal(err)
	}
	i.write("config.json", config)
	return i
}

func (i *images) write(name string, data []byte) {
	i.t.Helper()
	if err := os.WriteFile(filepath.Join(i.home, name), data, 0o600); err != nil {
		i.t.Fatal(err)
	}
}

func (i *images) run(program string, args ...string) string {
	i.t.Helper()
	ctx, cancel := context.WithTimeout(i.t.Context(), await.Patience)
	defer cancel()
	cmd := exec.CommandContext(ctx, harness.Bin(i.t, program), args...)
	cmd.Dir = i.home
	cmd.Env = append(os.Environ(), "HOME="+i.home, "DOCKER_CONFIG="+i.home, "COSIGN_PASSWORD=")
	var errs bytes.Buffer
	cmd.Stderr = &errs
	out, err := cmd.Output()
	if err != nil {
		i.t.Fatalf("%s %s: %v\n%s%s", program, strings.Join(args, " "), err, out, &errs)
	}
	return strings.TrimSpace(string(out))
}

func (i *images) repository(name string) *oci.Registry {
	i.t.Helper()
	r, err := oci.OpenRegistry(i.host+"/"+name, oci.RegistryOptions{Token: imagesToken})
	if err != nil {
		i.t.Fatal(err)
	}
	return r
}

// TestImagesAgree compares package oci with what stock crane and cosign read and write,
// on the platform's registry and on one without the referrers API.
func TestImagesAgree(t *testing.T) {
	own := func(url string) http.Handler {
		r, err := registry.New(registry.Config{
			URL: url, Dir: t.TempDir(),
			Authorize: func(token string) (string, registry.Role) {
				if token == imagesToken {
					return "images", registry.Push
				}
				return "", registry.Nobody
			},
			AnonymousPull: true,
		})
		if err != nil {
			t.Fatal(err)
		}
		return r
	}
	without := func(string) http.Handler { return ggcr.New(ggcr.Logger(log.New(io.Discard, "", 0))) }
	for name, open := range map[string]func(string) http.Handler{"own registry": own, "registry without referrers API": without} {
		t.Run(name, func(t *testing.T) { imagesAgree(newImages(t, open)) })
	}
}

func imagesAgree(i *images) {
	t := i.t
	i.write("hello", []byte("hello"))
	tarball := exec.CommandContext(t.Context(), "tar", "cf", "layer.tar", "hello")
	tarball.Dir = i.home
	if out, err := tarball.CombinedOutput(); err != nil {
		t.Fatalf("tar: %v %s", err, out)
	}
	image := i.host + "/team/app:v1"
	i.run("crane", "append", "--oci-empty-base", "-f", "layer.tar", "-t", image)
	repo := i.repository("team/app")
	d, err := repo.Resolve(t.Context(), "v1")
	if err != nil {
		t.Fatal(err)
	}
	if got := i.run("crane", "digest", image); got != d.Digest.String() {
		t.Errorf("digest: crane says %s, oci %s", got, d.Digest)
	}

	// Package oci copies the image, and crane validates the copy.
	layout, err := oci.CreateLayout(filepath.Join(i.home, "layout"))
	if err != nil {
		t.Fatal(err)
	}
	if err := oci.Copy(t.Context(), layout, repo, d); err != nil {
		t.Fatal(err)
	}
	other := i.repository("team/copy")
	if err := oci.Copy(t.Context(), other, layout, d); err != nil {
		t.Fatal(err)
	}
	if err := other.Tag(t.Context(), "v1", d); err != nil {
		t.Fatal(err)
	}
	i.run("crane", "validate", "--remote", i.host+"/team/copy:v1")

	cosignWritesOciReads(i, repo, d)
	ociWritesCosignReads(i, repo, d)
}

// cosignWritesOciReads: package oci finds the bundle that cosign attached, and would
// have written the same bytes.
func cosignWritesOciReads(i *images, repo *oci.Registry, d v1.Descriptor) {
	t := i.t
	image := repo.Name() + "@" + d.Digest.String()
	i.write("predicate.json", []byte(`{"buildDefinition":{},"runDetails":{}}`))
	i.run("cosign", "generate-key-pair")
	i.write("signing.json", []byte(i.run("cosign", "signing-config", "create")))
	i.run("cosign", "attest", "--yes", "--key", "cosign.key", "--signing-config", "signing.json", "--type", "slsaprovenance1", "--predicate", "predicate.json", image)
	found, err := oci.Bundles(t.Context(), repo, d.Digest)
	if err != nil || len(found) != 1 || found[0].Err != nil {
		t.Fatalf("bundles: got %+v, %v", found, err)
	}
	created, err := time.Parse(time.RFC3339, found[0].Annotations["org.opencontainers.image.created"])
	if err != nil {
		t.Fatal(err)
	}
	theirs, _, err := repo.Manifest(t.Context(), found[0].Descriptor.Digest)
	if err != nil {
		t.Fatal(err)
	}
	ours, err := oci.BundleManifest(d, found[0].Raw, attest.PredicateSLSA1, created)
	// Ours also contains the bundle inline.
	ours = bytes.Replace(ours, []byte(`,"data":"`+base64.StdEncoding.EncodeToString(found[0].Raw)+`"`), nil, 1)
	if err != nil || !bytes.Equal(ours, theirs) {
		t.Errorf("manifest of a bundle: got\n%s\ncosign wrote\n%s\n%v", ours, theirs, err)
	}
}

// ociWritesCosignReads: a bundle that package oci copied verifies with cosign.
func ociWritesCosignReads(i *images, repo *oci.Registry, d v1.Descriptor) {
	t := i.t
	found, err := oci.Bundles(t.Context(), repo, d.Digest)
	if err != nil {
		t.Fatal(err)
	}
	moved := i.repository("team/copy")
	for range 2 { // the second time changes nothing
		if _, err := oci.AttachBundle(t.Context(), moved, d, found[0].Raw, attest.PredicateSLSA1, time.Unix(0, 0)); err != nil {
			t.Fatal(err)
		}
	}
	if again, err := oci.Bundles(t.Context(), moved, d.Digest); err != nil || len(again) != 1 {
		t.Fatalf("got %d bundles, %v; want 1", len(again), err)
	}
	image := moved.Name() + "@" + d.Digest.String()
	if got := i.run("cosign", "tree", image); !strings.Contains(got, attest.BundleMediaType) && !strings.Contains(got, found[0].Layers[0].Digest.String()) {
		t.Errorf("cosign tree does not show the bundle:\n%s", got)
	}
	i.run("cosign", "verify-attestation", "--key", "cosign.pub", "--private-infrastructure", "--type", "slsaprovenance1", image)
}
