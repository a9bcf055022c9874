package platform

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"reflect"
	"sync"
	"time"

	"github.com/colophon-build/colophon/internal/owned"
	"github.com/colophon-build/colophon/internal/peer"
	"github.com/colophon-build/colophon/platform/authority/distrust"
	"github.com/colophon-build/colophon/platform/verdicts"
	"github.com/colophon-build/colophon/platform/zone"
	"github.com/colophon-build/colophon/trust"
)

// gateConfig says by which policies the registry judges images.
type gateConfig struct {
	Policies string `json:"policies"`         // file or directory; required
	Trust    string `json:"trust,omitempty"`  // file or directory of trust roots besides the platform's own
	Mode     string `json:"mode,omitempty"`   // enforce (default), or audit: decisions are recorded, and nothing is refused
	Memory   int    `json:"memory,omitempty"` // MiB for what is known about images; default 160

	// ClusterImagePolicies lets documents of policy-controller in Policies count; absent: they are an error.
	ClusterImagePolicies *verdicts.ClusterImagePolicies `json:"clusterImagePolicies,omitempty"`
}

// check returns an error if the settings contradict themselves.
func (c *gateConfig) check() error {
	switch {
	case c == nil:
	case c.Policies == "":
		return errors.New("policies: expected a file or a directory")
	case c.Mode != "" && c.Mode != "enforce" && c.Mode != "audit":
		return fmt.Errorf("mode: expected enforce or audit, found %q", c.Mode)
	case c.Memory < 0 || c.Memory > 1024:
		return fmt.Errorf("memory: expected MiB up to 1024, found %d", c.Memory)
	}
	if c != nil {
		return c.ClusterImagePolicies.Check()
	}
	return nil
}

// gateDocuments are what serve tells the role registry at the start and when it changes.
type gateDocuments struct {
	Policies []verdicts.Document
	Roots    []verdicts.Document // none until the platform's own is known
	List     *ownList            // nil until it is known, and if the registry has a host of its own
}

// ownList is the platform's own list of what is no longer trusted, as the role trust serves it.
type ownList struct {
	Name     string // of the list, for people
	Raw, Key []byte // the list, and the key that signs it, PEM
}

// read reads the files. Whoever can write them decides what is served, so nobody but root or the user
// that runs serve may.
func (c *gateConfig) read() (d gateDocuments, err error) {
	if d.Policies, err = verdicts.ReadDocuments(c.Policies, owned.ReadFile); err != nil {
		return d, fmt.Errorf("policies: %w", err)
	}
	if c.Trust != "" {
		if d.Roots, err = verdicts.ReadDocuments(c.Trust, owned.ReadFile); err != nil {
			return d, fmt.Errorf("trust: %w", err)
		}
	}
	return d, verdicts.Check(d.Policies, d.Roots, c.ClusterImagePolicies)
}

// gateHere returns the settings of the gate, or nil if there is none on this host.
func (p *platform) gateHere() *gateConfig {
	if !p.runs(roleRegistry) {
		return nil
	}
	return p.file.Registry.Gate
}

// checkGate reads the files of the gate, if it is on this host.
func (p *platform) checkGate() (d gateDocuments, err error) {
	c := p.gateHere()
	if c == nil {
		return d, nil
	}
	if p.host != roleServe && c.Trust == "" {
		return d, fmt.Errorf("%s: registry.gate.trust: a registry on a host of its own needs the platform's trust document here", p.config.File)
	}
	if d, err = c.read(); err != nil {
		return d, fmt.Errorf("%s: registry.gate: %w", p.config.File, err)
	}
	return d, nil
}

// gateFiles keeps what the role registry knows about the files up to date. Safe for concurrent use.
type gateFiles struct {
	updates *zone.Updates
	remote  bool // the registry has a host of its own, to which the platform's own trust root comes by a file

	mu     sync.Mutex
	config *gateConfig // nil: there is no gate
	read   gateDocuments
	own    *trust.Root // nil: not known yet
	list   *ownList    // nil: not known yet
	asked  time.Time   // when own was asked for
}

func newGateFiles(c *gateConfig, first gateDocuments, remote bool) (*gateFiles, error) {
	g := &gateFiles{config: c, read: first, remote: remote}
	var err error
	g.updates, err = zone.NewUpdates(g.documents())
	return g, err
}

// documents returns what the role registry gets.
func (g *gateFiles) documents() gateDocuments {
	d := g.read
	d.List = g.list
	switch {
	case g.own != nil:
		d.Roots = append([]verdicts.Document{{Name: "the platform's own", Raw: g.own.Raw}}, d.Roots...)
	case !g.remote:
		d.Roots = nil
	}
	return d
}

// use changes the settings. documents are what was read by them.
func (g *gateFiles) use(c *gateConfig, documents gateDocuments) error {
	g.mu.Lock()
	defer g.mu.Unlock()
	g.config, g.read = c, documents
	return g.updates.Set(g.documents())
}

// trusts tells the registry the platform's own trust root.
func (g *gateFiles) trusts(own *trust.Root) error {
	g.mu.Lock()
	defer g.mu.Unlock()
	g.asked = time.Now()
	if g.own != nil && g.own.Fingerprint == own.Fingerprint {
		return nil
	}
	g.own = own
	return g.updates.Set(g.documents())
}

// lists tells the registry the platform's own list of what is no longer trusted.
func (g *gateFiles) lists(own *ownList) error {
	g.mu.Lock()
	defer g.mu.Unlock()
	if g.list != nil && bytes.Equal(g.list.Raw, own.Raw) && bytes.Equal(g.list.Key, own.Key) {
		return nil
	}
	g.list = own
	return g.updates.Set(g.documents())
}

// ownEvery is how often the platform's own trust root is asked for: it changes with the configuration.
const ownEvery = time.Minute

// look reads the files again, and asks for the platform's own trust root now and then. It returns what
// is wrong with them; then what was good before counts.
func (g *gateFiles) look(ctx context.Context, own func(context.Context) (*trust.Root, error), list func(context.Context) (*ownList, error)) string {
	g.mu.Lock()
	config, stale := g.config, time.Since(g.asked) > ownEvery
	g.mu.Unlock()
	if config == nil {
		return ""
	}
	fresh, err := config.read()
	if stale && !g.remote {
		ctx, cancel := context.WithTimeout(ctx, roleTimeout)
		defer cancel()
		if root, ownErr := own(ctx); ownErr != nil {
			err = errors.Join(err, ownErr)
		} else {
			err = errors.Join(err, g.trusts(root))
		}
	}
	if !g.remote {
		ctx, cancel := context.WithTimeout(ctx, roleTimeout)
		defer cancel()
		if l, listErr := list(ctx); listErr != nil {
			err = errors.Join(err, listErr)
		} else {
			err = errors.Join(err, g.lists(l))
		}
	}
	if err != nil {
		return "the gate of the registry cannot read its policies or trust roots again; those that counted before still do: " + err.Error()
	}
	g.mu.Lock()
	defer g.mu.Unlock()
	if g.config != config || reflect.DeepEqual(fresh, g.read) {
		return ""
	}
	before := g.read
	g.read = fresh
	if err := g.updates.Set(g.documents()); err != nil {
		g.read = before // so that it is said as long as it is so
		return "the registry cannot get the policies and trust roots of its gate; those that counted before still do: " + err.Error()
	}
	return ""
}

// gateReady returns when the role registry has what its gate decides by, or did not get it in time.
func (p *platform) gateReady(ctx context.Context) {
	if p.gateHere() == nil {
		return
	}
	ctx, cancel := context.WithTimeout(ctx, roleTimeout)
	defer cancel()
	at := peer.At(socket(p.dir("run"), roleRegistry)).Client()
	for health(ctx, at, "http://role"+peer.PathReady) != nil && ctx.Err() == nil {
		time.Sleep(20 * time.Millisecond)
	}
}

// ownList asks the trust services for the platform's list of what is no longer trusted. One of more than
// limits.TrustRoot bytes is an error.
func (p *platform) ownList(ctx context.Context) (*ownList, error) {
	trustServices, err := p.endpoint(p.dir("run"), roleServe, roleTrust)
	if err != nil {
		return nil, err
	}
	l := &ownList{Name: p.url + distrust.Path}
	client := trustServices.Client()
	defer client.CloseIdleConnections()
	for path, into := range map[string]*[]byte{distrust.Path: &l.Raw, distrust.PathKey: &l.Key} {
		if *into, err = get(ctx, client, "http://trust"+path); err != nil {
			return nil, fmt.Errorf("list of what is no longer trusted: %w", err)
		}
	}
	return l, nil
}

// ownTrust asks the trust services for the platform's trust document.
func (p *platform) ownTrust(ctx context.Context) (*trust.Root, error) {
	trustServices, err := p.endpoint(p.dir("run"), roleServe, roleTrust)
	if err != nil {
		return nil, err
	}
	return getTrustDocument(ctx, trustServices.Client())
}
