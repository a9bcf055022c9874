package buildkit

import (
	"archive/tar"
	"errors"
	"io"
	"slices"
	"strings"
	"testing"

	v1 "github.com/google/go-containerregistry/pkg/v1"
	oci "github.com/google/go-containerregistry/pkg/v1/layout"

	"github.com/colophon-build/colophon/platform/builder"
)

// Programs in a step accept the proxy's certificates, also those that have bundles of their own,
// the Dockerfile's own variables count, and the image keeps nothing of it.
func TestStepsTrustTheProxy(t *testing.T) {
	b := realBuilder(t)
	dir := t.TempDir()
	_, log, err := run(t, b, builder.Request{Layout: dir, Tree: tree(t, `FROM busybox:1.35
RUN env | sed 's/^/bare: /' && mkdir -p /etc/ssl/certs && echo mine >/etc/ssl/certs/ca-certificates.crt
RUN env | sort && grep -c 'buildkit proxy CA begin' /etc/ssl/certs/ca-certificates.crt && test -s /dev/colophon-java.p12
RUN echo spoilt | tee /dev/colophon-java.p12 /proc/1/root/dev/colophon-java.p12 || echo it cannot be written
ENV JAVA_TOOL_OPTIONS=-Xmx64m SSL_CERT_FILE=/mine
RUN env | sed 's/^/own: /'
ENV JAVA_TOOL_OPTIONS=
RUN env | sed 's/^/empty: /'
RUN --network=none env | sed 's/^/alone: /'
USER 1234
RUN cat /dev/colophon-java.p12 >/tmp/copy && echo everybody reads it
`)})
	if err != nil {
		t.Fatalf("%v\n%s", err, log)
	}
	said := func(prefix string) (out []string) {
		for line := range strings.Lines(log) {
			text := line[strings.LastIndex(line, " | ")+len(" | "):] // steps have pipes too
			if said, ok := strings.CutPrefix(text, prefix); ok {
				out = append(out, strings.TrimSpace(said))
			}
		}
		return out
	}
	const bundle = "/etc/ssl/certs/ca-certificates.crt"
	for _, want := range []string{"SSL_CERT_FILE=" + bundle, "NODE_EXTRA_CA_CERTS=" + bundle, "REQUESTS_CA_BUNDLE=" + bundle, "it cannot be written", "everybody reads it"} {
		if !slices.Contains(said(""), want) {
			t.Errorf("the log does not have %q", want)
		}
	}
	java := said("JAVA_TOOL_OPTIONS=")
	if len(java) != 1 || !strings.HasPrefix(java[0], "-Djavax.net.ssl.trustStore=/dev/colophon-java.p12 -Djavax.net.ssl.trustStoreType=PKCS12 -Dhttp.proxyHost=10.") || strings.Count(java[0], "Port=") != 2 {
		t.Errorf("got the options %q", java)
	}
	if got := said("own: JAVA_TOOL_OPTIONS="); len(got) != 1 || !strings.HasSuffix(got[0], " -Xmx64m") || !strings.HasPrefix(got[0], "-Djavax.net.ssl.trustStore=") {
		t.Errorf("got %q, want the options before the Dockerfile's own", got)
	}
	if got := said("own: SSL_CERT_FILE="); !slices.Equal(got, []string{"/mine"}) {
		t.Errorf("got %q, want the Dockerfile's own", got)
	}
	if got := said("empty: JAVA_TOOL_OPTIONS="); !slices.Equal(got, []string{""}) {
		t.Errorf("got %q, want the Dockerfile's own", got)
	}
	if got := said("bare: SSL_CERT_FILE="); len(got) != 0 {
		t.Errorf("got %q without a bundle", got)
	}
	if got := said("alone: JAVA_TOOL_OPTIONS="); !slices.Equal(got, []string{""}) {
		t.Errorf("got %q without a network", got)
	}
	keepsNothing(t, dir)
	if t.Failed() {
		t.Log(log)
	}
}

// keepsNothing fails if the image in a layout has something of what its steps got.
func keepsNothing(t *testing.T, dir string) {
	t.Helper()
	path, err := oci.FromPath(dir)
	if err != nil {
		t.Fatal(err)
	}
	index, err := path.ImageIndex()
	if err != nil {
		t.Fatal(err)
	}
	manifest, err := index.IndexManifest()
	if err != nil || len(manifest.Manifests) != 1 {
		t.Fatalf("got %+v, %v", manifest, err)
	}
	img, err := index.Image(manifest.Manifests[0].Digest)
	if err != nil {
		t.Fatal(err)
	}
	config, err := img.RawConfigFile()
	if err != nil || strings.Contains(string(config), "trustStore") || strings.Contains(string(config), "NODE_EXTRA") {
		t.Errorf("got the configuration %s, %v", config, err)
	}
	layers, err := img.Layers()
	if err != nil || len(layers) < 2 {
		t.Fatalf("got %d layers, %v", len(layers), err)
	}
	for _, l := range layers[1:] {
		filesOf(t, l, func(name, content string) {
			if strings.HasPrefix(name, "dev/") || strings.Contains(content, "BEGIN CERTIFICATE") {
				t.Errorf("the image has %s: %.200q", name, content)
			}
		})
	}
}

func filesOf(t *testing.T, l v1.Layer, see func(name, content string)) {
	t.Helper()
	r, err := l.Uncompressed()
	if err != nil {
		t.Fatal(err)
	}
	defer r.Close()
	for files := tar.NewReader(r); ; {
		h, err := files.Next()
		if errors.Is(err, io.EOF) {
			return
		}
		if err != nil {
			t.Fatal(err)
		}
		content, err := io.ReadAll(files)
		if err != nil {
			t.Fatal(err)
		}
		see(h.Name, string(content))
	}
}
