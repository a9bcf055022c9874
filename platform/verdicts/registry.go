package verdicts

import (
	"cmp"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"maps"
	"net"
	"net/http"
	"net/netip"
	"slices"
	"strings"
	"syscall"
	"time"

	"github.com/google/go-containerregistry/pkg/authn"
	v1 "github.com/google/go-containerregistry/pkg/v1"

	"github.com/colophon-build/colophon/oci"
	"github.com/colophon-build/colophon/verify"
)

// clouds are the addresses where clouds keep credentials that are not link-local: the metadata of
// AWS and of Google Cloud by IPv6, of Alibaba Cloud and of Oracle Cloud, and the host of Azure.
var clouds = []netip.Addr{
	netip.MustParseAddr("fd00:ec2::254"), netip.MustParseAddr("fd20:ce::254"), netip.MustParseAddr("100.100.100.200"),
	netip.MustParseAddr("192.0.0.192"), netip.MustParseAddr("168.63.129.16"),
}

// Transport returns the transport to registries. Strangers choose the hosts, so that it
// connects to no loopback and no link-local address and none of clouds (where clouds keep
// credentials), unless loopback is set, as for tests: then loopback is allowed. It asks no proxy:
// that would connect in its place.
func Transport(loopback bool) http.RoundTripper {
	dialer := &net.Dialer{Timeout: 5 * time.Second, KeepAlive: 30 * time.Second, Control: func(_, address string, _ syscall.RawConn) error {
		at, err := netip.ParseAddrPort(address)
		if err != nil {
			return err
		}
		ip := at.Addr().Unmap()
		if ip.IsLoopback() && loopback {
			return nil
		}
		if ip.IsLoopback() || ip.IsLinkLocalUnicast() || slices.Contains(clouds, ip) || ip.IsMulticast() || ip.IsUnspecified() {
			return fmt.Errorf("%s is an address of this machine or of its cloud, and no registry", ip)
		}
		return nil
	}}
	return &http.Transport{
		DialContext: dialer.DialContext, TLSHandshakeTimeout: 5 * time.Second, ResponseHeaderTimeout: readTimeout, MaxResponseHeaderBytes: 64 << 10,
		MaxIdleConnsPerHost: maxOfHost, IdleConnTimeout: 90 * time.Second, ForceAttemptHTTP2: true, DisableCompression: true,
	}
}

// Login is a Keychain with the same credentials for every registry that asks.
type Login authn.AuthConfig

// Resolve implements authn.Keychain.
func (l Login) Resolve(authn.Resource) (authn.Authenticator, error) {
	return authn.FromConfig(authn.AuthConfig(l)), nil
}

// each opens a repository with each of the credentials until do succeeds, or fails for another
// reason than the credentials. Those of a helper come last. Without any, it is anonymous.
func (s *Store) each(ctx context.Context, repository, namespace string, logins []authn.AuthConfig, do func(oci.Source) error) (src oci.Source, err error) {
	if host := hostOf(repository); s.config.Helpers.Covers(host) {
		login, helperErr := s.config.Helpers.Login(ctx, host, namespace)
		if helperErr == nil {
			logins = append(slices.Clone(logins), login)
		} else {
			defer func() {
				if err != nil {
					err = fmt.Errorf("%w (%w)", err, helperErr)
				}
			}()
		}
	}
	if len(logins) == 0 {
		logins = []authn.AuthConfig{{}}
	}
	for _, l := range logins {
		opened, openErr := s.config.Open(repository, l)
		if openErr != nil {
			return nil, openErr
		}
		again := do(opened)
		if again == nil {
			return opened, nil
		}
		err = cmp.Or(err, again)
		// A registry may say "not found" to those who may not read.
		if !errors.Is(again, oci.ErrDenied) && !errors.Is(again, oci.ErrNotFound) {
			return nil, again
		}
	}
	return nil, err
}

// open opens a repository with the first of the credentials that may read the image. With the first
// of them, it also asks at once what is attached to the image, and about the given tags.
func (s *Store) open(ctx context.Context, q Question, tags []oci.CosignTag) (oci.Source, error) {
	subject, err := v1.NewHash(q.Image.Digest)
	if err != nil {
		return nil, err
	}
	var first *early
	src, err := s.each(ctx, q.Repository, q.Namespace, q.Logins, func(src oci.Source) error {
		if first == nil {
			first = askEarly(ctx, src, subject, tags)
		}
		_, err := src.Resolve(ctx, q.Image.Digest)
		return err
	})
	switch {
	case err != nil:
		return nil, err
	case src == first.Source:
		return first, nil
	}
	return src, nil
}

// resolve returns the digest of a tag.
func (s *Store) resolve(ctx context.Context, repository, namespace string, logins []authn.AuthConfig, tag string) (digest string, err error) {
	_, err = s.each(ctx, repository, namespace, logins, func(src oci.Source) error {
		d, err := src.Resolve(ctx, tag)
		digest = d.Digest.String()
		return err
	})
	if err != nil {
		return "", err
	}
	return digest, nil
}

// listing returns a hash of what is attached to the manifests, beside the image and where queries
// look: their referrers, and the digests of the tags under which clients keep attachments.
func listing(ctx context.Context, beside oci.Source, subjects []v1.Hash, queries []verify.Query) (string, error) {
	h, places := sha256.New(), map[string]oci.Source{"": beside}
	for _, q := range queries {
		if q.From != nil {
			places["at "+q.From.Name()] = q.From
		}
	}
	for _, at := range slices.Sorted(maps.Keys(places)) {
		fmt.Fprintf(h, "%q\n", at)
		if err := listAt(ctx, h, places[at], subjects); err != nil {
			return "", err
		}
	}
	return hex.EncodeToString(h.Sum(nil)), nil
}

// listAt writes what is attached to the manifests in one place.
func listAt(ctx context.Context, h io.Writer, src oci.Source, subjects []v1.Hash) error {
	for _, subject := range subjects {
		referrers, err := src.Referrers(ctx, subject)
		if err != nil {
			return err
		}
		digests := make([]string, 0, len(referrers))
		for _, r := range referrers {
			digests = append(digests, r.Digest.String())
		}
		slices.Sort(digests)
		fmt.Fprintf(h, "%s %q\n", subject, slices.Compact(digests))
		fallback := strings.Replace(subject.String(), ":", "-", 1)
		for _, tag := range []string{fallback, oci.CosignSignatures.Of(subject), oci.CosignAttestations.Of(subject)} {
			d, err := src.Resolve(ctx, tag)
			switch {
			case errors.Is(err, oci.ErrNotFound):
			case err != nil:
				return err
			default:
				fmt.Fprintf(h, "%s %s\n", tag, d.Digest)
			}
		}
	}
	return nil
}

func hostOf(repository string) string {
	host, _, _ := strings.Cut(repository, "/")
	return host
}
