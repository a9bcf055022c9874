package gate

import (
	"cmp"
	"errors"
	"fmt"
	"net"
	"net/url"
	"strings"

	"github.com/google/go-containerregistry/pkg/authn"

	"github.com/colophon-build/colophon/internal/limits"
	"github.com/colophon-build/colophon/internal/loopback"
	"github.com/colophon-build/colophon/internal/strict"
	"github.com/colophon-build/colophon/internal/strict/documents"
	"github.com/colophon-build/colophon/platform/recorder"
	"github.com/colophon-build/colophon/platform/verdicts"
	"github.com/colophon-build/colophon/policy"
)

// Settings are the configuration file of colophond gate. docs/gate.md has the manual.
type Settings struct {
	Upstream string       `json:"upstream,omitempty"` // URL of the registry that has the images; required
	Names    policy.Names `json:"names,omitempty"`    // names that rules see, by the prefix of the repository's name at the upstream
	Listen   string       `json:"listen,omitempty"`   // address for clients; default 127.0.0.1:5000
	Health   string       `json:"health,omitempty"`   // address of /healthz, /readyz and /metrics; default 127.0.0.1:5001

	Policies string `json:"policies,omitempty"` // file or directory of policies; required
	Trust    string `json:"trust,omitempty"`    // file or directory of trust roots; required
	// ClusterImagePolicies lets documents of policy-controller in Policies count; absent: they are an error.
	ClusterImagePolicies *verdicts.ClusterImagePolicies `json:"clusterImagePolicies,omitempty"`
	Distrust             *verdicts.Distrusted           `json:"distrust,omitempty"` // whose lists of what is no longer trusted count; absent: nobody's

	Mode   string `json:"mode,omitempty"`   // enforce (default), or audit: decisions are recorded, and nothing is refused
	Memory int    `json:"memory,omitempty"` // MiB for what is known about images; default 160

	Credentials string `json:"credentials,omitempty"` // file with the gate's username and password for the upstream
	Login       string `json:"login,omitempty"`       // none: everybody who reaches the gate may pull; upstream: clients send their credentials for the upstream

	// CredentialHelpers are programs of clouds that have the gate's credentials for the upstream.
	CredentialHelpers verdicts.HelperPrograms `json:"credentialHelpers,omitempty"`

	Cache struct {
		Dir  string `json:"dir,omitempty"`  // directory for blobs; absent: nothing is kept
		Size int    `json:"size,omitempty"` // MiB; default 20480
	} `json:"cache,omitzero"`

	TLS struct {
		Certificate string `json:"certificate,omitempty"` // file with a certificate chain in PEM
		Key         string `json:"key,omitempty"`         // file with its key
	} `json:"tls,omitzero"`

	Ledger *recorder.Settings `json:"audit,omitempty"` // the audit ledger that gets the decisions; absent: none does

	host string // of Upstream
}

// ReadSettings reads a configuration file, YAML or JSON. An empty path gives no settings. Check
// completes them.
func ReadSettings(path string) (s Settings, err error) {
	if path == "" {
		return s, nil
	}
	err = documents.ReadFile(path, limits.Request, &s)
	return s, err
}

// Check completes the settings with the defaults. It returns an error if they contradict themselves.
func (s *Settings) Check() error {
	u, err := url.Parse(s.Upstream)
	if err != nil || u.Host == "" || strings.TrimSuffix(s.Upstream, "/") != u.Scheme+"://"+u.Host {
		return fmt.Errorf("upstream: expected https://HOST, found %q", s.Upstream)
	}
	if plain := loopback.Is(u.Hostname()); plain && u.Scheme != "http" || !plain && u.Scheme != "https" {
		return fmt.Errorf("upstream: expected https, or http on this machine, found %q", s.Upstream)
	}
	s.host = u.Host
	for _, a := range []struct {
		name     string
		value    *string
		fallback string
		allowed  []string
	}{{"listen", &s.Listen, "127.0.0.1:5000", nil}, {"health", &s.Health, "127.0.0.1:5001", nil}, {"mode", &s.Mode, "enforce", []string{"audit"}}, {"login", &s.Login, "none", []string{"upstream"}}} {
		if *a.value == "" {
			*a.value = a.fallback
		}
		if _, _, err := net.SplitHostPort(*a.value); a.allowed == nil && err != nil {
			return fmt.Errorf("%s: expected [HOST]:PORT, found %q", a.name, *a.value)
		}
		if a.allowed != nil && *a.value != a.fallback && *a.value != a.allowed[0] {
			return fmt.Errorf("%s: expected %s or %s, found %q", a.name, a.fallback, a.allowed[0], *a.value)
		}
	}
	if err := namesAt(s.host, s.Names).Check(); err != nil {
		return err
	}
	if err := s.ClusterImagePolicies.Check(); err != nil {
		return err
	}
	if err := cmp.Or(s.Distrust.Check(), s.CredentialHelpers.Check(), s.Ledger.Check()); err != nil {
		return err
	}
	switch host, _, _ := net.SplitHostPort(s.Listen); {
	case s.Policies == "" || s.Trust == "":
		return errors.New("policies and trust: expected a file or a directory for each")
	case s.Memory < 0 || s.Memory > 64<<10:
		return fmt.Errorf("memory: expected MiB up to 65536, found %d", s.Memory)
	case s.Cache.Size < 0 || s.Cache.Size > 64<<20:
		return fmt.Errorf("cache: size: expected MiB up to 67108864, found %d", s.Cache.Size)
	case s.Credentials != "" && len(s.CredentialHelpers) > 0:
		return errors.New("credentials and credentialHelpers: expected one of them")
	case (s.Credentials != "" || len(s.CredentialHelpers) > 0) && s.Login == "upstream":
		return errors.New("credentials: with login: upstream, clients send their own; leave them out")
	case (s.TLS.Certificate == "") != (s.TLS.Key == ""):
		return errors.New("tls: expected both certificate and key, or none of them")
	case s.TLS.Certificate == "" && !loopback.Is(host):
		return fmt.Errorf("tls: expected a certificate and a key, because %s is reached from other machines", s.Listen)
	}
	if s.Cache.Size == 0 {
		s.Cache.Size = 20 << 10
	}
	return nil
}

// logins reads the gate's own credentials.
func (s *Settings) logins() ([]authn.AuthConfig, error) {
	if s.Credentials == "" {
		return nil, nil
	}
	raw, err := strict.ReadFile(s.Credentials, limits.Request)
	if err != nil {
		return nil, err
	}
	var c struct {
		Username string `json:"username"`
		Password string `json:"password"`
	}
	if err := strict.UnmarshalKnown(raw, limits.Request, &c); err != nil || c.Username == "" || c.Password == "" {
		return nil, fmt.Errorf(`%s: expected {"username": TEXT, "password": TEXT} and nothing else`, s.Credentials) // no error that could quote it
	}
	return []authn.AuthConfig{{Username: c.Username, Password: c.Password}}, nil
}
