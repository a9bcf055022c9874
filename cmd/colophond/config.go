package main

import (
	"encoding/json"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"net/url"
	"os"
	"strings"
	"time"

	"github.com/colophon-build/colophon/internal/limits"
	"github.com/colophon-build/colophon/internal/strict"
	"github.com/colophon-build/colophon/platform/builder"
	"github.com/colophon-build/colophon/platform/builder/gateway"
)

// config is the file that --config names. Every field may be left out. Spec: docs/configuration.md.
type config struct {
	// Fulcio is a Fulcio configuration: outside OIDC issuers whose users may get certificates here.
	Fulcio json.RawMessage `json:"fulcio,omitempty"`
	// TrustedRoot and SigningConfig are files that take the place of the
	// platform's own CA, log and clock: public Sigstore or a private deployment.
	TrustedRoot   string `json:"trustedRoot,omitempty"`
	SigningConfig string `json:"signingConfig,omitempty"`

	Registry struct {
		Mutable     []string `json:"mutable,omitempty"`     // repositories whose tags may move: "scratch/*"
		PrivatePull bool     `json:"privatePull,omitempty"` // pulling needs a token too
	} `json:"registry,omitzero"`

	Roles struct {
		UIDBase int `json:"uidBase,omitempty"` // the roles' group, and behind it their users; default 64700

		// host:port of roles that run on hosts of their own (colophond enrol), and
		// of serve's host, where they reach the others.
		Trust    string `json:"trust,omitempty"`
		Registry string `json:"registry,omitempty"`
		Attestor string `json:"attestor,omitempty"`
		Builder  string `json:"builder,omitempty"`
		API      string `json:"api,omitempty"`
		Door     string `json:"door,omitempty"`
	} `json:"roles,omitzero"`

	Build buildConfig `json:"build,omitzero"`
}

// buildConfig says how builds run.
type buildConfig struct {
	builder.Limits                 // of one build
	WallTime       string          `json:"wallTime,omitempty"`   // Limits.WallTime as people write it: "30m"
	Concurrent     int             `json:"concurrent,omitempty"` // builds at once
	Runtime        string          `json:"runtime,omitempty"`    // OCI runtime: a name in PATH, or a path
	UIDBase        uint32          `json:"uidBase,omitempty"`    // first host uid of the rooms' ranges
	Network        gateway.Network `json:"network,omitzero"`     // what rooms may reach
	StdCache       string          `json:"stdCache,omitempty"`   // Go's standard library, compiled from the toolchain alone; platforms of one user may share it
}

func (b buildConfig) limits() builder.Limits {
	l := b.Limits
	l.WallTime, _ = time.ParseDuration(b.WallTime) // readConfig has checked it
	return l
}

func readConfig(path string) (config, error) {
	var c config
	if path == "" {
		return c, nil
	}
	data, err := os.ReadFile(path)
	if err != nil {
		return c, err
	}
	if err := strict.UnmarshalKnown(data, limits.Request, &c); err != nil {
		return c, fmt.Errorf("%s: %w", path, err)
	}
	if (c.TrustedRoot == "") != (c.SigningConfig == "") {
		return c, fmt.Errorf("%s: trustedRoot and signingConfig belong together", path)
	}
	for name, address := range c.hosts() {
		if host, port, err := net.SplitHostPort(address); address != "" && (err != nil || host == "" || port == "") {
			return c, fmt.Errorf("%s: roles.%s: got %q, want HOST:PORT", path, name, address)
		}
	}
	if c.Build.WallTime != "" {
		if d, err := time.ParseDuration(c.Build.WallTime); err != nil || d <= 0 {
			return c, fmt.Errorf("%s: build.wallTime: got %q, want a duration such as \"30m\"", path, c.Build.WallTime)
		}
	}
	return c, nil
}

// origin settles the platform's URL. Plain HTTP is for loopback alone.
func origin(listen, rawURL string, tls bool) (string, error) {
	host, port, err := net.SplitHostPort(listen)
	if err != nil {
		return "", fmt.Errorf("--listen %q: %w", listen, err)
	}
	if !tls && !loopback(host) {
		return "", fmt.Errorf("--listen %s without TLS: plain HTTP is for loopback only; give --tls-cert and --tls-key, or put a TLS proxy in front of a loopback address", listen)
	}
	if rawURL == "" {
		if a, err := netip.ParseAddr(host); host == "" || port == "0" || err == nil && a.IsUnspecified() {
			return "", fmt.Errorf("--listen %s is no address that clients could use: give --url too", listen)
		}
		scheme := "http"
		if tls {
			scheme = "https"
		}
		rawURL = scheme + "://" + listen
	}
	return parseOrigin(rawURL)
}

// parseOrigin checks a platform's URL and writes it as all do.
func parseOrigin(rawURL string) (string, error) {
	u, err := url.Parse(rawURL)
	switch {
	case err != nil:
		return "", fmt.Errorf("--url: %w", err)
	case u.Host == "" || strings.Trim(u.Path, "/") != "" || u.RawQuery != "" || u.User != nil:
		return "", fmt.Errorf("--url %q: want SCHEME://HOST[:PORT] and nothing more", rawURL)
	case u.Scheme == "https" || u.Scheme == "http" && loopback(u.Hostname()):
		return u.Scheme + "://" + strings.ToLower(u.Host), nil
	}
	return "", errors.New("--url " + rawURL + ": plain HTTP is for loopback only")
}

func loopback(host string) bool {
	if host == "localhost" {
		return true
	}
	a, err := netip.ParseAddr(host)
	return err == nil && a.IsLoopback()
}
