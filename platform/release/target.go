package release

import (
	"fmt"
	"net/http"
	"strings"
	"time"

	"github.com/colophon-build/colophon/internal/loopback"
	"github.com/colophon-build/colophon/oci"
	"github.com/colophon-build/colophon/platform/api"
)

// openTarget opens the image's repository, which the requester named. The requester
// may also control that registry, and the platform sends the requests. So neither the
// name nor the registry's answers may lead to this host's loopback, the only place
// that the platform contacts without TLS.
func (j *run) openTarget() error {
	host, _, ok := strings.Cut(j.req.Image, "/")
	if !ok {
		return &api.Error{Message: fmt.Sprintf("image: expected REGISTRY/NAME, found %q", j.req.Image), Kind: api.Usage}
	}
	opts := oci.RegistryOptions{Transport: &noLoopback{host: host}}
	switch {
	case j.inOwnRegistry():
		opts = oci.RegistryOptions{Token: j.RegistryToken, TLS: strings.HasPrefix(j.URL, "https://")}
	case loopback.Possible(host) && !j.LoopbackTargets:
		return &api.Error{Message: fmt.Sprintf("image %s is on the platform's own loopback, where only the platform's registry %s is allowed", j.req.Image, j.RegistryHost)}
	}
	target, err := oci.OpenRegistry(j.req.Image, opts)
	if err != nil {
		return &api.Error{Message: err.Error(), Kind: api.Usage}
	}
	j.target = target
	return nil
}

// inOwnRegistry reports whether the image goes to the platform's own registry.
func (j *run) inOwnRegistry() bool {
	host, _, _ := strings.Cut(j.req.Image, "/")
	return host == j.RegistryHost
}

// noLoopback is the transport for all registries but the platform's. It refuses requests to
// loopback, which redirects, upload locations or token realms of a remote registry
// could cause. It does not resolve names: a name that resolves to loopback is contacted
// with TLS, and no service there has a certificate for it.
type noLoopback struct{ host string }

// outside is shared, so that its connections are reused. Compression is off, because
// digests are of the stored bytes.
var outside = func() *http.Transport {
	t := http.DefaultTransport.(*http.Transport).Clone()
	t.DisableCompression, t.MaxIdleConnsPerHost, t.ResponseHeaderTimeout = true, 32, time.Minute
	return t
}()

func (s *noLoopback) RoundTrip(r *http.Request) (*http.Response, error) {
	if loopback.Possible(r.URL.Host) && !loopback.Possible(s.host) {
		if r.Body != nil {
			r.Body.Close()
		}
		return nil, fmt.Errorf("registry %s leads to %s, which is this host's loopback", s.host, r.URL.Host)
	}
	return outside.RoundTrip(r)
}
