package platform

import (
	"encoding/json"
	"errors"
	"fmt"
	"math"
	"net"
	"net/netip"
	"net/url"
	"strconv"
	"strings"
	"time"

	"github.com/colophon-build/colophon/internal/limits"
	"github.com/colophon-build/colophon/internal/loopback"
	"github.com/colophon-build/colophon/internal/owned"
	"github.com/colophon-build/colophon/internal/strict"
	"github.com/colophon-build/colophon/platform/acme"
	"github.com/colophon-build/colophon/platform/authority/ca"
	"github.com/colophon-build/colophon/platform/authority/root"
	"github.com/colophon-build/colophon/platform/builder"
	"github.com/colophon-build/colophon/platform/builder/buildkit"
	"github.com/colophon-build/colophon/platform/builder/gateway"
	"github.com/colophon-build/colophon/platform/builder/sandbox"
	"github.com/colophon-build/colophon/platform/registry"
	"github.com/colophon-build/colophon/platform/release"
)

// configFile is the content of the --config file. Every field is optional. Spec: docs/configuration.md.
type configFile struct {
	// Schema is the address of a JSON Schema, for editors. It decides nothing.
	Schema string `json:"$schema,omitempty"`
	// Fulcio is a Fulcio configuration: outside OIDC issuers whose users may get certificates here.
	Fulcio json.RawMessage `json:"fulcio,omitempty"`
	// TrustedRoot and SigningConfig are paths. The services in these files replace the
	// platform's own CA, log and timestamp authority: public Sigstore or a private
	// deployment.
	TrustedRoot   string `json:"trustedRoot,omitempty"`
	SigningConfig string `json:"signingConfig,omitempty"`

	// Mirror is the path of an OCI layout, if the flag --mirror gives none.
	Mirror string `json:"mirror,omitempty"`

	TLS tlsConfig `json:"tls,omitzero"`

	Registry struct {
		Mutable     []string `json:"mutable,omitempty"`     // repositories whose tags may move: "scratch/*"
		PrivatePull bool     `json:"privatePull,omitempty"` // pulling needs a token too

		Gate *gateConfig `json:"gate,omitempty"` // absent: the registry serves and tags all images
	} `json:"registry,omitzero"`

	Recipes []release.RecipeRule `json:"recipes,omitempty"` // how images may be built

	// Credentials is the path of a file with credentials for private sources and downloads.
	Credentials string `json:"credentials,omitempty"`

	Log logConfig `json:"log,omitzero"`

	Audit auditConfig `json:"audit,omitzero"`

	Roles rolesConfig `json:"roles,omitzero"`
	Build buildConfig `json:"build,omitzero"`

	raw       []byte          // the file
	witnesses witnessSettings // what Log says, and the file that it names

	auditWitnesses witnessSettings // of Audit
}

// logConfig says who cosigns the checkpoints of the transparency log.
type logConfig struct {
	Witnesses string `json:"witnesses,omitempty"` // path of a witness policy (c2sp.org/tlog-policy), with a URL for each witness
	Wait      string `json:"wait,omitempty"`      // how long a release waits for a quorum, as time.ParseDuration reads it. Default "50ms"
	Required  bool   `json:"required,omitempty"`  // nothing is logged without a quorum
}

// settings returns the settings of the role trust.
func (c logConfig) settings() (s witnessSettings, err error) {
	if c.Witnesses == "" {
		if c != (logConfig{}) {
			err = errors.New("wait and required mean nothing without witnesses")
		}
		return s, err
	}
	policy, err := owned.ReadFile(c.Witnesses)
	if err != nil {
		return s, fmt.Errorf("witnesses: %w", err)
	}
	s = witnessSettings{Policy: string(policy), Wait: defaultWitnessWait, Required: c.Required}
	if c.Wait != "" {
		if s.Wait, err = time.ParseDuration(c.Wait); err != nil || s.Wait < 0 || s.Wait > maxWitnessWait {
			return s, fmt.Errorf("wait: expected a duration up to %s such as \"50ms\", found %q", maxWitnessWait, c.Wait)
		}
	}
	return s, s.check()
}

const (
	defaultWitnessWait = 50 * time.Millisecond
	maxWitnessWait     = 10 * time.Second // the log's clients do not wait much longer
)

// tlsConfig says where the certificate of the port comes from, if no flag names its file.
type tlsConfig struct {
	ACME *acme.Settings `json:"acme,omitempty"`
}

// rolesConfig says as which users and on which hosts roles run. In the file it is
// one object: "uidBase", and one address for each role.
type rolesConfig struct {
	UIDBase int // gid of the roles' group; the uids of the roles follow it. 0 means 64700
	// Hosts maps a role to host:port. It has the roles that run on hosts of their own
	// (colophond enrol), and "door": where those roles reach the roles on serve's host.
	Hosts map[string]string
}

// UnmarshalJSON implements json.Unmarshaler.
func (c *rolesConfig) UnmarshalJSON(data []byte) error {
	var fields map[string]json.RawMessage
	if err := json.Unmarshal(data, &fields); err != nil {
		return err
	}
	c.Hosts = map[string]string{}
	for name, raw := range fields {
		if name == "uidBase" {
			if err := json.Unmarshal(raw, &c.UIDBase); err != nil {
				return fmt.Errorf("uidBase: %w", err)
			}
			continue
		}
		if r, err := findRole(name); err != nil || r.listen == "" && name != roleDoor {
			return fmt.Errorf("roles.%s: no role of this name can run on a host of its own", name)
		}
		var address string
		if err := json.Unmarshal(raw, &address); err != nil {
			return fmt.Errorf("roles.%s: %w", name, err)
		}
		if host, port, err := net.SplitHostPort(address); address != "" && (err != nil || host == "" || port == "") {
			return fmt.Errorf("roles.%s: expected HOST:PORT, found %q", name, address)
		}
		c.Hosts[name] = address
	}
	return nil
}

// buildConfig says how builds run.
type buildConfig struct {
	builder.Limits                 // of one build
	WallTime       string          `json:"wallTime,omitempty"`   // Limits.WallTime as time.ParseDuration reads it: "30m"
	Concurrent     int             `json:"concurrent,omitempty"` // builds at once
	Runtime        string          `json:"runtime,omitempty"`    // OCI runtime: a name to look up in PATH, or a path
	UIDBase        uint32          `json:"uidBase,omitempty"`    // first host uid of the ranges that rooms use
	Network        gateway.Network `json:"network,omitzero"`     // which hosts builds may reach
	CacheMounts    cacheMounts     `json:"cacheMounts,omitzero"` // whether releases may keep their cache mounts
	StdCache       string          `json:"stdCache,omitempty"`   // directory of the compiled Go standard library. It depends on the toolchain alone, so platforms of one user may share it
}

// cacheMounts says how much of cache mounts is kept between builds. The zero value means
// that none are.
type cacheMounts struct {
	Size  int64  `json:"size,omitempty"`  // bytes of one scope; 0: none are kept
	Total int64  `json:"total,omitempty"` // bytes of all scopes; 0: ten times Size
	Age   string `json:"age,omitempty"`   // as time.ParseDuration reads it: after this time a scope begins anew, empty. Default "168h"
}

// settings returns the settings of the role rooms, without the directory.
func (c cacheMounts) settings() (s buildkit.CachesConfig, err error) {
	s = buildkit.CachesConfig{Size: c.Size, Total: c.Total, Age: defaultCacheAge}
	if s.Total == 0 {
		s.Total = 10 * s.Size
	}
	if s.Size < 0 || s.Total < s.Size {
		return s, fmt.Errorf("expected a size, and a total that is not smaller, found %d and %d", s.Size, s.Total)
	}
	if c.Age != "" {
		if s.Age, err = time.ParseDuration(c.Age); err != nil || s.Age <= 0 {
			return s, fmt.Errorf("age: expected a duration such as \"168h\", found %q", c.Age)
		}
	}
	return s, nil
}

// checkLimits refuses limits under which every build would fail.
func (c buildConfig) checkLimits() error {
	for _, l := range []struct {
		name string
		n    float64
	}{{"cpus", c.CPUs}, {"memory", float64(c.Memory)}, {"pids", float64(c.PIDs)}, {"disk", float64(c.Disk)}, {"io", float64(c.IO)}, {"concurrent", float64(c.Concurrent)}} {
		if l.n < 0 {
			return fmt.Errorf("%s: expected 0, for the default, or more, found %v", l.name, l.n)
		}
	}
	if c.Disk > 0 && c.Disk < sandbox.MinDisk {
		return fmt.Errorf("disk: expected at least %d bytes, found %d", sandbox.MinDisk, c.Disk)
	}
	return nil
}

const defaultCacheAge = 7 * 24 * time.Hour

func readConfig(path string) (c configFile, err error) {
	if path == "" {
		return c, nil
	}
	data, err := owned.ReadFile(path) // whoever writes it chooses programs that root runs
	if err != nil {
		return c, fmt.Errorf("--config: %w", err)
	}
	if err := strict.UnmarshalKnown(data, limits.Request, &c); err != nil {
		return c, strict.In(path, err)
	}
	c.raw = data
	if (c.TrustedRoot == "") != (c.SigningConfig == "") {
		return c, fmt.Errorf("%s: trustedRoot and signingConfig must be set together", path)
	}
	if err := registry.CheckMutable(c.Registry.Mutable); err != nil {
		return c, fmt.Errorf("%s: registry: %w", path, err)
	}
	if err := c.Registry.Gate.check(); err != nil {
		return c, fmt.Errorf("%s: registry.gate: %w", path, err)
	}
	if err := c.Build.Network.Check(); err != nil {
		return c, fmt.Errorf("%s: build.network: %w", path, err)
	}
	if err := c.Build.checkLimits(); err != nil {
		return c, fmt.Errorf("%s: build: %w", path, err)
	}
	if _, err := c.Build.CacheMounts.settings(); err != nil {
		return c, fmt.Errorf("%s: build.cacheMounts: %w", path, err)
	}
	if c.witnesses, err = c.Log.settings(); err != nil {
		return c, fmt.Errorf("%s: log: %w", path, err)
	}
	if c.auditWitnesses, err = (logConfig{Witnesses: c.Audit.Witnesses}).settings(); err != nil {
		return c, fmt.Errorf("%s: audit: %w", path, err)
	}
	if err := c.Audit.check(); err != nil {
		return c, fmt.Errorf("%s: audit: %w", path, err)
	}
	for _, r := range c.Recipes {
		if err := r.Check(); err != nil {
			return c, fmt.Errorf("%s: recipes: %w", path, err)
		}
	}
	if c.Build.WallTime != "" {
		if c.Build.Limits.WallTime, err = time.ParseDuration(c.Build.WallTime); err != nil || c.Build.Limits.WallTime <= 0 {
			return c, fmt.Errorf("%s: build.wallTime: expected a duration such as \"30m\", found %q", path, c.Build.WallTime)
		}
	}
	return c, nil
}

// checkIssuers refuses issuers that the role trust would refuse at its start.
func (p *platform) checkIssuers() error {
	if _, err := ca.OutsideIssuers(p.file.Fulcio, p.url); err != nil {
		return fmt.Errorf("%s: fulcio: %w", p.config.File, err)
	}
	return nil
}

// checkOutside returns the error with which the role trust would refuse the external trust services at its start.
func (p *platform) checkOutside() error {
	if p.outside == nil {
		return nil
	}
	documents := root.Config{URL: p.url, Outside: p.outside}
	for _, b := range p.builders() {
		documents.Builders = append(documents.Builders, b.Builder)
	}
	if err := root.Check(documents); err != nil {
		return fmt.Errorf("%s: trustedRoot, signingConfig: %w", p.config.File, err)
	}
	return nil
}

// trustFrom returns a digest of what decides what the trust document and the signing config of the platform say, besides
// its keys. Roles that read these at their start have it in their settings, so that they start anew when it changes.
func (p *platform) trustFrom() (string, error) {
	issuers, err := ca.OutsideIssuers(p.file.Fulcio, p.url)
	if err != nil {
		return "", err
	}
	raw, err := json.Marshal([]any{issuers, p.outside})
	return sumOf(raw), err
}

// origin returns the platform's URL: --url, or if that is empty the URL of --listen.
// It allows plain HTTP on loopback only.
func origin(listen, rawURL string, tls bool) (string, error) {
	host, port, err := net.SplitHostPort(listen)
	if err != nil {
		return "", fmt.Errorf("--listen %q: %w", listen, err)
	}
	n, err := net.LookupPort("tcp", port) // as net.Listen does; 0 if the port is empty
	if err != nil {
		return "", fmt.Errorf("--listen %s: expected a port from 0 to %d, found %q", listen, math.MaxUint16, port)
	}
	if !tls && !loopback.Is(host) {
		return "", fmt.Errorf("--listen %s without TLS: plain HTTP is for loopback only; give --tls-cert and --tls-key, set tls.acme in --config, or put a TLS proxy in front of a loopback address", listen)
	}
	if rawURL == "" {
		if a, err := netip.ParseAddr(host); host == "" || n == 0 || err == nil && a.IsUnspecified() {
			return "", fmt.Errorf("clients cannot connect to --listen %s: give --url too", listen)
		}
		scheme := "http"
		if tls {
			scheme = "https"
		}
		rawURL = scheme + "://" + listen
	}
	return parseOrigin(rawURL)
}

// parseOrigin checks a platform's URL and returns it as SCHEME://HOST[:PORT], in lower case.
func parseOrigin(rawURL string) (string, error) {
	u, err := url.Parse(rawURL)
	switch {
	case err != nil:
		return "", fmt.Errorf("--url: %w", err)
	case u.Host == "" || strings.Trim(u.Path, "/") != "" || u.RawQuery != "" || u.User != nil:
		return "", fmt.Errorf("--url: expected SCHEME://HOST[:PORT], found %q", rawURL)
	case u.Port() != "" && !isPort(u.Port()):
		return "", fmt.Errorf("--url %s: expected a port from 1 to %d, found %s", rawURL, math.MaxUint16, u.Port())
	case loopback.OrTLS(u):
		return u.Scheme + "://" + strings.ToLower(u.Host), nil
	}
	return "", errors.New("--url " + rawURL + ": plain HTTP is for loopback only")
}

func isPort(s string) bool {
	n, err := strconv.ParseUint(s, 10, 16)
	return err == nil && n > 0
}
