package release

import (
	"io"
	"log"
	"net/http"
	"net/http/httptest"
	"runtime"
	"strings"
	"sync/atomic"
	"testing"

	"github.com/google/go-containerregistry/pkg/name"
	"github.com/google/go-containerregistry/pkg/registry"
	"github.com/google/go-containerregistry/pkg/v1/random"
	"github.com/google/go-containerregistry/pkg/v1/remote"
	"github.com/moby/buildkit/util/purl"
	ocispecs "github.com/opencontainers/image-spec/specs-go/v1"

	"github.com/colophon-build/colophon/attest"
	"github.com/colophon-build/colophon/platform/builder"
)

// Of this host's loopback, a base image may come from the platform's own registry alone,
// whatever the gateway's record says that the room asked for; a lock, which the requester
// chooses, can make it say anything.
func TestBaseOnLoopback(t *testing.T) {
	images := registry.New(registry.Logger(log.New(io.Discard, "", 0)))
	var asked, authorized atomic.Int64
	srv := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		asked.Add(1)
		if r.Header.Get("Authorization") != "" {
			authorized.Add(1)
		}
		images.ServeHTTP(w, r)
	}))
	t.Cleanup(srv.Close)
	host := strings.TrimPrefix(srv.URL, "http://")
	img, err := random.Image(100, 2)
	if err != nil {
		t.Fatal(err)
	}
	base := platformed(img)
	ref, err := name.ParseReference(host + "/team/base:v1")
	if err != nil {
		t.Fatal(err)
	}
	if err := remote.Write(ref, base); err != nil {
		t.Fatal(err)
	}
	top, err := base.Digest()
	if err != nil {
		t.Fatal(err)
	}
	uri, err := purl.RefToPURL("docker", host+"/team/base:v1", &ocispecs.Platform{OS: "linux", Architecture: runtime.GOARCH})
	if err != nil {
		t.Fatal(err)
	}
	claim := attest.ResourceDescriptor{URI: uri, Digest: map[string]string{"sha256": top.Hex}}
	tag := builder.Exchange{Method: "HEAD", URL: "http://mirror.invalid/v2/team/base/manifests/v1?ns=" + host, Status: 200, Header: map[string]string{"Docker-Content-Digest": top.String()}}
	moved := tag
	moved.Header = map[string]string{"Docker-Content-Digest": "sha256:" + hex64("a")}
	for what, test := range map[string]struct {
		own   string // the platform's registry
		saw   builder.Exchange
		asked bool
		want  []string
	}{
		"the platform's":           {host, tag, true, nil},
		"a tag that moved between": {host, moved, true, []string{"team/base:v1", top.String(), hex64("a")}},
		"another port":             {"127.0.0.1:1", tag, false, []string{host, "loopback", "127.0.0.1:1"}},
		"a public platform":        {"registry.example.com", tag, false, []string{host, "loopback"}},
	} {
		asked.Store(0)
		authorized.Store(0)
		s := dockerStage(t, &builds{seeds: []int64{1}, base: base, says: builder.Result{Dependencies: []attest.ResourceDescriptor{claim}}},
			&rooms{saw: [][]builder.Exchange{{test.saw}}}, "FROM "+host+"/team/base:v1\nCOPY go.mod /\n")
		s.RegistryHost, s.RegistryToken = test.own, "secret"
		err, _ := s.run(t)
		if (asked.Load() > 0) != test.asked || authorized.Load() > 0 {
			t.Errorf("%s: got %s after %d requests to the registry, %d of them with a token", what, err, asked.Load(), authorized.Load())
		}
		ends(t, what, err, test.want)
	}
}
