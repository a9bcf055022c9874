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

// openTarget opens the repository that the requester named. The name is the
// requester's and the registry behind it may be theirs too, while the requests
// come from inside: neither may lead to what listens on this host's loopback,
// the one place that is spoken to without TLS.
func (j *run) openTarget() error {
	host, _, ok := strings.Cut(j.req.Image, "/")
	if !ok {
		return &api.Error{Message: fmt.Sprintf("image %q has no registry, want REGISTRY/NAME", j.req.Image), Kind: api.Usage}
	}
	opts := oci.RegistryOptions{Transport: &staysOut{host: host}}
	switch {
	case host == j.RegistryHost:
		opts = oci.RegistryOptions{Token: j.RegistryToken, TLS: strings.HasPrefix(j.URL, "https://")}
	case loopback.Possible(host) && !j.LoopbackTargets:
		return &api.Error{Message: fmt.Sprintf("image %s is on the platform's own loopback, and its registry there is %s", j.req.Image, j.RegistryHost)}
	}
	target, err := oci.OpenRegistry(j.req.Image, opts)
	if err != nil {
		return &api.Error{Message: err.Error(), Kind: api.Usage}
	}
	j.target = target
	return nil
}

// staysOut carries requests to a registry that is not ours. Redirects, upload
// locations and token realms of a registry elsewhere do not get it to loopback.
// A name that resolves to loopback gets TLS, for which nothing there has a
// certificate.
type staysOut struct{ host string }

// outside is shared, for its connections. Compression is off: we want the bytes stored.
var outside = func() *http.Transport {
	t := http.DefaultTransport.(*http.Transport).Clone()
	t.DisableCompression, t.MaxIdleConnsPerHost, t.ResponseHeaderTimeout = true, 32, time.Minute
	return t
}()

func (s *staysOut) RoundTrip(r *http.Request) (*http.Response, error) {
	if loopback.Possible(r.URL.Host) && !loopback.Possible(s.host) {
		if r.Body != nil {
			r.Body.Close()
		}
		return nil, fmt.Errorf("registry %s leads to %s, which is this host itself", s.host, r.URL.Host)
	}
	return outside.RoundTrip(r)
}
