package sign

import (
	"errors"
	"fmt"
	"net/http"
	"net/url"
	"strings"
	"time"

	pb "github.com/sigstore/protobuf-specs/gen/pb-go/trustroot/v1"
	"github.com/sigstore/sigstore-go/pkg/root"
	"google.golang.org/protobuf/encoding/protojson"

	"github.com/colophon-build/colophon/internal/limits"
	"github.com/colophon-build/colophon/internal/loopback"
	"github.com/colophon-build/colophon/internal/strict"
)

// maxServices is how many logs, and how many timestamp authorities, one signature may need:
// verifiers read no bundle with many more of them.
const maxServices = 8

// Major versions of the services' protocols that this package speaks.
const (
	fulcioVersion = 1 // path /api/v2
	rekorVersion  = 2
	tsaVersion    = 1
)

// ParseConfig reads a Sigstore signing config v0.2 (protobuf-specs, sigstore_trustroot.proto,
// SigningConfig), for Open and OpenKey. They select its services by version, validity and
// selector when they open a session.
func ParseConfig(raw []byte) (*root.SigningConfig, error) {
	var members map[string]any
	if err := strict.Unmarshal(raw, limits.TrustRoot, &members); err != nil {
		return nil, fmt.Errorf("signing config: %w", err)
	}
	config := new(pb.SigningConfig)
	if err := protojson.Unmarshal(raw, config); err != nil {
		return nil, fmt.Errorf("signing config: %w", err)
	}
	// Without a selector, nobody knows how many of the services must take part.
	if config.GetRekorTlogConfig() == nil || config.GetTsaConfig() == nil {
		return nil, errors.New("signing config: rekorTlogConfig or tsaConfig is missing")
	}
	return root.NewSigningConfigFromProtobuf(config)
}

// selectAuthority selects the certificate authority.
func selectAuthority(services *root.SigningConfig, transport http.RoundTripper, now time.Time) (*service, error) {
	all := services.FulcioCertificateAuthorityURLs()
	one, err := root.SelectService(all, []uint32{fulcioVersion}, now)
	if err != nil {
		return nil, fmt.Errorf("certificate authority: %w", unusable(all, fulcioVersion, now, err))
	}
	s, err := newEndpoint(one.URL, "/api/v2/signingCert", transport)
	if err != nil {
		return nil, fmt.Errorf("certificate authority: %w", err)
	}
	return s, nil
}

// selectServices selects logs and timestamp authorities. Both are required: without them,
// nobody could verify a bundle after its certificate has expired.
func (s *Session) selectServices(services *root.SigningConfig, transport http.RoundTripper, now time.Time) (err error) {
	s.logs, err = selectAll(services.RekorLogURLs(), services.RekorLogURLsConfig(), rekorVersion, "/api/v2/log/entries", transport, now)
	if err != nil {
		return fmt.Errorf("transparency log: %w", err)
	}
	s.timestamps, err = selectAll(services.TimestampAuthorityURLs(), services.TimestampAuthorityURLsConfig(), tsaVersion, "", transport, now)
	if err != nil {
		return fmt.Errorf("timestamp authority: %w", err)
	}
	return nil
}

func selectAll(all []root.Service, config root.ServiceConfiguration, version uint32, path string, transport http.RoundTripper, now time.Time) (selected []*service, err error) {
	found, err := root.SelectServices(all, config, []uint32{version}, now)
	if err != nil {
		return nil, unusable(all, version, now, err)
	}
	if len(found) > maxServices {
		return nil, fmt.Errorf("the signing config wants %d of them to take part, at most %d can", len(found), maxServices)
	}
	for _, f := range found {
		s, err := newEndpoint(f.URL, path, transport)
		if err != nil {
			return nil, err
		}
		selected = append(selected, s)
	}
	return selected, nil
}

// unusable says why none of the services can be used, or returns err if there is one.
func unusable(all []root.Service, version uint32, now time.Time, err error) error {
	var names []string
	for _, s := range all {
		if s.MajorAPIVersion == version && s.ValidAtTime(now) {
			return err // there are services, but the selector is wrong, or wants more of them
		}
		if len(names) < maxServices {
			why := fmt.Sprintf("version %d", s.MajorAPIVersion)
			if !s.ValidAtTime(now) {
				why += ", not valid now"
			}
			names = append(names, fmt.Sprintf("%.200q (%s)", s.URL, why))
		}
	}
	if names == nil {
		return errors.New("the signing config names none")
	}
	return fmt.Errorf("expected one of version %d that is valid now in the signing config, found %s", version, strings.Join(names, ", "))
}

// newEndpoint returns the service with this base URL and path. Plain HTTP is for loopback alone: one of
// the requests has a token.
func newEndpoint(base, path string, transport http.RoundTripper) (*service, error) {
	u, err := url.Parse(base)
	if err != nil || u.Host == "" || u.User != nil || u.Fragment != "" || path != "" && u.RawQuery != "" {
		return nil, fmt.Errorf("the signing config has the URL %.200q, expected https://HOST[:PORT]/PATH", base)
	}
	if !loopback.OrTLS(u) {
		return nil, fmt.Errorf("the signing config has the URL %.200q, expected https (http is allowed only on loopback)", base)
	}
	if path != "" {
		base = strings.TrimSuffix(base, "/") + path
	}
	return newService(base, transport), nil
}
