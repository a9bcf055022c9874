package platform

import (
	"bytes"
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"net"
	"net/http"
	"time"

	"github.com/colophon-build/colophon/internal/limits"
	"github.com/colophon-build/colophon/internal/peer"
	"github.com/colophon-build/colophon/internal/strict"
	"github.com/colophon-build/colophon/platform/authority/root"
	"github.com/colophon-build/colophon/trust"
)

// allReady returns when every role answers and client.json is up to date.
func (p *platform) allReady(ctx context.Context) error {
	if err := p.rolesReady(ctx); err != nil {
		return err
	}
	if err := p.tellTrust(ctx); err != nil {
		return err
	}
	p.gateReady(ctx)
	if err := p.writeAuditKey(ctx); err != nil {
		return err
	}
	if err := p.frontReady(ctx); err != nil {
		return err
	}
	if p.runs(roleAttestor) { // its log has the reason if not; a proxy may start after the platform
		health(ctx, peer.At(socket(p.dir("run"), roleAttestor)).Client(), "http://role"+peer.PathReady)
	}
	return nil
}

// tellTrust brings the platform's own trust document to the gate of the registry, and its fingerprint to the files of
// clients.
func (p *platform) tellTrust(ctx context.Context) error {
	trusted, err := p.ownTrust(ctx)
	if err != nil {
		return err
	}
	if err := p.gate.trusts(trusted); err != nil {
		return err
	}
	return writeClients(p.data, p.url, trusted.Fingerprint)
}

// rolesReady returns when every role of this host that has a socket answers.
func (p *platform) rolesReady(ctx context.Context) error {
	for _, role := range p.sockets {
		if err := health(ctx, peer.At(socket(p.dir("run"), role)).Client(), "http://role"+peer.PathHealth); err != nil {
			return fmt.Errorf("%s: %w", role, err)
		}
	}
	return nil
}

// frontReady returns when the API answers, if it runs on this host.
func (p *platform) frontReady(ctx context.Context) error {
	if !p.runs(roleAPI) {
		return nil
	}
	scheme := "http"
	if p.usesTLS() {
		scheme = "https"
	}
	// We hold the listener, so whoever answers is our own process: no certificate to check.
	client := &http.Client{Transport: &http.Transport{TLSClientConfig: &tls.Config{InsecureSkipVerify: true}}}
	answers := func() error { return health(ctx, client, scheme+"://"+p.port.Addr().String()+peer.PathHealth) }
	if p.usesACME() {
		return p.awaitCertificate(ctx, answers)
	}
	return answers()
}

// firstCertificate is how long the start waits for the first certificate of an authority.
const firstCertificate = 15 * time.Second

// awaitCertificate returns when the API answers. If the authority gives no certificate in
// time, the platform starts nevertheless: if it ended, its restarts would get it none, and an
// authority that does not answer would keep the other roles from working.
func (p *platform) awaitCertificate(ctx context.Context, answers func() error) error {
	last := time.Now().Add(firstCertificate)
	for {
		err := answers()
		// Only the refused handshake means that there is no certificate.
		if op, ok := errors.AsType[*net.OpError](err); !ok || op.Op != "remote error" {
			return err
		}
		if time.Now().After(last) {
			p.log.Error("the port has no certificate yet, so no client can connect; the role acme says why, and tries again by itself")
			return nil
		}
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-time.After(100 * time.Millisecond):
		}
	}
}

// getTrustDocument asks the trust services for the platform's trust document.
func getTrustDocument(ctx context.Context, services *http.Client) (*trust.Root, error) {
	document, err := get(ctx, services, "http://trust"+root.DocumentPath)
	if err != nil {
		return nil, fmt.Errorf("trust document: %w", err)
	}
	trusted, err := trust.Parse(document)
	if err != nil {
		return nil, fmt.Errorf("trust document of this platform: %w", err)
	}
	return trusted, nil
}

func health(ctx context.Context, c *http.Client, url string) error {
	defer c.CloseIdleConnections()
	_, err := get(ctx, c, url)
	return err
}

// get returns the body of a 200 answer: at most limits.TrustRoot bytes.
func get(ctx context.Context, c *http.Client, url string) ([]byte, error) {
	return getAtMost(ctx, c, url, limits.TrustRoot)
}

// getAtMost is get for answers of at most max bytes.
func getAtMost(ctx context.Context, c *http.Client, url string, max int) ([]byte, error) {
	r, err := http.NewRequestWithContext(ctx, http.MethodGet, url, nil)
	if err != nil {
		return nil, err
	}
	resp, err := c.Do(r)
	if err != nil {
		return nil, err
	}
	defer resp.Body.Close()
	body, err := strict.Read(resp.Body, max)
	switch text := bytes.TrimSpace(body); {
	case err != nil || resp.StatusCode == http.StatusOK:
	case resp.StatusCode == http.StatusServiceUnavailable && len(text) > 0: // a role says why: see peer.Ready
		err = errors.New(string(text))
	default:
		err = fmt.Errorf("%s: %s", resp.Status, text)
	}
	return body, err
}
