package platform

import (
	"context"
	"crypto/tls"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"net/http"
	"net/url"
	"slices"
	"time"

	protocol "golang.org/x/crypto/acme"

	"github.com/colophon-build/colophon/internal/limits"
	"github.com/colophon-build/colophon/internal/owned"
	"github.com/colophon-build/colophon/internal/peer"
	"github.com/colophon-build/colophon/internal/strict"
	"github.com/colophon-build/colophon/platform/acme"
	"github.com/colophon-build/colophon/platform/zone"
)

// acmeSettings are the settings that serve passes to the role acme.
type acmeSettings struct {
	ACME   acme.Settings `json:"acme"`
	Origin string        `json:"origin"`
	Roots  []byte        `json:"roots,omitempty"`
	Dir    string        `json:"dir"`
}

// usesACME reports whether this host runs the role acme: the host of the port does, if an
// authority certifies it.
func (p *platform) usesACME() bool { return p.file.TLS.ACME != nil && p.runs(roleACME) }

// usesTLS reports whether the port has a certificate.
func (p *platform) usesTLS() bool { return p.config.TLSCert != "" || p.file.TLS.ACME != nil }

// checkACME checks the member tls.acme of the configuration.
func (p *platform) checkACME() error {
	settings := p.file.TLS.ACME
	if settings == nil {
		return nil
	}
	if p.config.TLSCert != "" {
		return errors.New("--tls-cert and tls.acme: the port has one certificate; give one of them")
	}
	err := settings.Check(p.url)
	if err == nil {
		_, err = readACMERoots(*settings)
	}
	if err != nil {
		return fmt.Errorf("%s: tls.acme: %w", p.config.File, err)
	}
	return nil
}

func readACMERoots(s acme.Settings) ([]byte, error) {
	if s.CAFile == "" {
		return nil, nil
	}
	data, err := owned.ReadFile(s.CAFile) // whoever writes it chooses whom the platform trusts
	if err != nil {
		return nil, fmt.Errorf("caFile: %w", err)
	}
	return data, nil
}

func prepareACME(p *platform, process *zone.Process) error {
	s := acmeSettings{ACME: *p.file.TLS.ACME, Origin: p.url, Dir: process.Zone.Path("acme")}
	var err error
	if s.Roots, err = readACMERoots(s.ACME); err != nil {
		return err
	}
	process.Settings = s
	return nil
}

// runACME is the role acme. It alone speaks to the authority. It sees neither clients of the
// port nor, with its own user, what other roles store.
func runACME(ctx context.Context, c zone.Child[acmeSettings]) error {
	s := c.Settings
	keeper, err := acme.Open(acme.Config{Settings: s.ACME, Origin: s.Origin, Roots: s.Roots, Dir: s.Dir, Log: c.Log})
	if err != nil {
		return err
	}
	go keeper.Run(ctx)
	return peer.Serve(ctx, c.Listener, c.Users, peer.Ready(peer.Allow(keeper.Handler(), roleAPI), watchDisks(ctx, roleACME, c.Dirs, c.Log).ready))
}

// follow keeps h.certificate equal to what the role acme has, until ctx is done.
func (h *heard) follow(ctx context.Context, log *slog.Logger) {
	client := h.authority.Client()
	client.Timeout = roleTimeout
	for {
		if err := h.ask(ctx, client); err != nil && ctx.Err() == nil {
			log.Warn("the role acme does not say which certificate to use", "error", err)
		}
		wait := newsEvery
		if h.certificate.Load() == nil { // clients wait
			wait = 250 * time.Millisecond
		}
		select {
		case <-ctx.Done():
			return
		case <-time.After(wait):
		}
	}
}

// ask asks the role acme once.
func (h *heard) ask(ctx context.Context, client *http.Client) error {
	body, err := get(ctx, client, "http://acme"+acme.PathCurrent)
	if err != nil {
		return err
	}
	var state acme.State
	if err := strict.Unmarshal(body, limits.TrustRoot, &state); err != nil {
		return err
	}
	h.renewal.Store(&state)
	if state.Pair == nil {
		return nil
	}
	both, err := tls.X509KeyPair(state.Pair.Cert, state.Pair.Key)
	if err == nil {
		h.certificate.Store(&both)
	}
	return err
}

// challenge returns the TLS configuration for a connection by which an authority looks at the
// port, and nil for every other one.
func (h *heard) challenge(hello *tls.ClientHelloInfo) (*tls.Config, error) {
	if h.authority == nil || !slices.Equal(hello.SupportedProtos, []string{protocol.ALPNProto}) {
		return nil, nil
	}
	ctx, cancel := context.WithTimeout(hello.Context(), roleTimeout)
	defer cancel()
	client := h.authority.Client()
	defer client.CloseIdleConnections()
	body, err := get(ctx, client, "http://acme"+acme.PathChallenge+"?name="+url.QueryEscape(hello.ServerName))
	if err != nil {
		return nil, err
	}
	var pair acme.Pair
	if err := json.Unmarshal(body, &pair); err != nil {
		return nil, err
	}
	both, err := tls.X509KeyPair(pair.Cert, pair.Key)
	return &tls.Config{Certificates: []tls.Certificate{both}, NextProtos: []string{protocol.ALPNProto}, MinVersion: tls.VersionTLS12}, err
}
