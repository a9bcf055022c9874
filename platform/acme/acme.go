// Package acme keeps the certificate of the platform's port up to date. It gets certificates
// from an authority that speaks ACME (RFC 8555), to which the port proves by TLS-ALPN-01
// (RFC 8737) that it answers for the platform's name.
//
// The authority is asked for one name only, and none of its answers is trusted: addresses
// must be on the host of the directory, answers and attempts are bounded, and a certificate
// is used only if it is for that name and our key, and an authority that this host trusts
// has signed it. Attempts are counted on disk before they start, so that a role that is
// restarted again and again does not ask more often.
package acme

import (
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"net"
	"net/http"
	"net/url"
	"slices"
	"strings"
	"sync/atomic"
	"time"

	protocol "golang.org/x/crypto/acme"
)

// Settings say which authority certifies the port.
type Settings struct {
	Directory   string `json:"directory"`        // https URL of the authority's directory
	Email       string `json:"email,omitempty"`  // where the authority may write to about the account
	AcceptTerms bool   `json:"acceptTerms"`      // the operator accepts the authority's terms of service; required
	CAFile      string `json:"caFile,omitempty"` // path of PEM certificates: authorities to trust besides the host's, both for the connection to the directory and for the certificates that it gives
}

// Check returns an error if the settings cannot work, or if origin, the platform's URL, has
// no name that can be certified.
func (s Settings) Check(origin string) error {
	directory, err := url.Parse(s.Directory)
	switch {
	case err != nil:
		return fmt.Errorf("directory: %w", err)
	case directory.Scheme != "https" || directory.Host == "" || directory.User != nil || directory.Fragment != "":
		return fmt.Errorf("directory: expected the https URL of an ACME directory, found %q", s.Directory)
	case !s.AcceptTerms:
		return errors.New(`acceptTerms: read the terms of service of this authority and set "acceptTerms": true; without that it gives no certificate`)
	case strings.ContainsAny(s.Email, " \t\r\n,?") || s.Email != "" && !strings.Contains(s.Email, "@"):
		return fmt.Errorf("email: expected one address, found %q", s.Email)
	}
	_, err = nameOf(origin)
	return err
}

// nameOf returns the host name in a platform's URL.
func nameOf(origin string) (string, error) {
	u, err := url.Parse(origin)
	if err != nil {
		return "", err
	}
	name := u.Hostname()
	if u.Scheme != "https" || name == "" || net.ParseIP(name) != nil || strings.Trim(name, "abcdefghijklmnopqrstuvwxyz0123456789-.") != "" {
		return "", fmt.Errorf("a certificate is for a host name, and the platform's URL is %s: give --url https://NAME", origin)
	}
	return name, nil
}

const (
	maxAnswer  = 256 << 10 // limit of an answer of the authority, in bytes
	maxHeaders = 64 << 10
	maxAsked   = 400             // requests of one attempt; most of them ask whether the authority is done
	attemptFor = 5 * time.Minute // how long an attempt may take, with all that it waits for
)

// client returns a client of the authority. It asks again at once only for a new nonce: every
// other error ends the attempt, and the next one is later.
func (k *Keeper) client() (*protocol.Client, error) {
	directory, err := url.Parse(k.config.Directory)
	if err != nil {
		return nil, err
	}
	transport := &http.Transport{
		Proxy: http.ProxyFromEnvironment, TLSClientConfig: &tls.Config{RootCAs: k.roots, MinVersion: tls.VersionTLS12},
		TLSHandshakeTimeout: 15 * time.Second, ResponseHeaderTimeout: time.Minute, MaxResponseHeaderBytes: maxHeaders, ForceAttemptHTTP2: true,
	}
	return &protocol.Client{
		Key: k.account, DirectoryURL: k.config.Directory, UserAgent: "colophond",
		HTTPClient: &http.Client{
			Transport:     &guarded{Transport: transport, host: directory.Host},
			CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse },
		},
		RetryBackoff: func(n int, _ *http.Request, answer *http.Response) time.Duration {
			if answer.StatusCode == http.StatusBadRequest && n <= 3 { // badNonce: RFC 8555, section 6.5
				return 100 * time.Millisecond
			}
			return -1
		},
	}, nil
}

// guarded sends requests to one host only, over TLS, and bounds their number and answers.
type guarded struct {
	*http.Transport
	host  string
	asked atomic.Int32
}

func (g *guarded) RoundTrip(r *http.Request) (*http.Response, error) {
	if g.asked.Add(1) > maxAsked {
		return nil, fmt.Errorf("the ACME server was asked %d times and did not finish", maxAsked)
	}
	if r.URL.Scheme != "https" || r.URL.Host != g.host {
		return nil, fmt.Errorf("the ACME server leads to %s://%s, want https://%s, the host of its directory", r.URL.Scheme, r.URL.Host, g.host)
	}
	answer, err := g.Transport.RoundTrip(r)
	if err == nil {
		answer.Body = http.MaxBytesReader(nil, answer.Body, maxAnswer)
	}
	return answer, err
}

// obtain gets a new certificate from the authority.
func (k *Keeper) obtain(ctx context.Context) (*Pair, error) {
	ctx, cancel := context.WithTimeoutCause(ctx, attemptFor, fmt.Errorf("the ACME server did not finish within %s", attemptFor))
	defer cancel()
	client, err := k.client()
	if err != nil {
		return nil, err
	}
	defer client.HTTPClient.CloseIdleConnections()
	pair, err := k.order(ctx, client)
	if errors.Is(err, context.DeadlineExceeded) {
		err = context.Cause(ctx)
	}
	return pair, err
}

func (k *Keeper) order(ctx context.Context, client *protocol.Client) (*Pair, error) {
	account := &protocol.Account{}
	if k.config.Email != "" {
		account.Contact = []string{"mailto:" + k.config.Email}
	}
	if _, err := client.Register(ctx, account, protocol.AcceptTOS); err != nil && !errors.Is(err, protocol.ErrAccountAlreadyExists) {
		return nil, fmt.Errorf("account: %w", err)
	}
	order, err := client.AuthorizeOrder(ctx, protocol.DomainIDs(k.name))
	if err != nil {
		return nil, fmt.Errorf("order: %w", err)
	}
	if len(order.AuthzURLs) != 1 {
		return nil, fmt.Errorf("order: the ACME server asks for %d authorizations, want 1", len(order.AuthzURLs))
	}
	if err := k.authorize(ctx, client, order.AuthzURLs[0]); err != nil {
		return nil, fmt.Errorf("authorization of %s: %w", k.name, err)
	}
	if _, err = client.WaitOrder(ctx, order.URI); err != nil {
		return nil, fmt.Errorf("order: %w", err)
	}
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		return nil, err
	}
	request, err := x509.CreateCertificateRequest(rand.Reader, &x509.CertificateRequest{DNSNames: []string{k.name}}, key)
	if err != nil {
		return nil, err
	}
	chain, err := issue(ctx, client, order, request)
	if err != nil {
		return nil, fmt.Errorf("certificate: %w", err)
	}
	if err := k.checkChain(chain, key, time.Now()); err != nil {
		return nil, fmt.Errorf("certificate: %w", err)
	}
	return newPair(tls.Certificate{Certificate: chain, PrivateKey: key})
}

// issue asks for the certificate of an order that is ready.
func issue(ctx context.Context, client *protocol.Client, order *protocol.Order, request []byte) ([][]byte, error) {
	chain, _, err := client.CreateOrderCert(ctx, order.FinalizeURL, request, true)
	if err == nil {
		return chain, nil
	}
	// A server that takes its time need not repeat where the order is (RFC 8555, section 7.4;
	// Pebble does not), and then the library does not know whom to ask.
	if done, e := client.WaitOrder(ctx, order.URI); e == nil && done.Status == protocol.StatusValid {
		return client.FetchCert(ctx, done.CertURL, true)
	}
	return nil, err
}

// authorize proves to the authority that the port answers for the platform's name.
func (k *Keeper) authorize(ctx context.Context, client *protocol.Client, address string) error {
	authorization, err := client.GetAuthorization(ctx, address)
	if err != nil || authorization.Status == protocol.StatusValid {
		return err
	}
	if authorization.Identifier.Value != k.name {
		return fmt.Errorf("the ACME server asks about %q", authorization.Identifier.Value)
	}
	i := slices.IndexFunc(authorization.Challenges, func(c *protocol.Challenge) bool { return c.Type == "tls-alpn-01" })
	if i < 0 {
		return errors.New("the ACME server does not offer the challenge tls-alpn-01")
	}
	challenge := authorization.Challenges[i]
	cert, err := client.TLSALPN01ChallengeCert(challenge.Token, k.name)
	if err != nil {
		return err
	}
	pair, err := newPair(cert)
	if err != nil {
		return err
	}
	k.challenge.Store(pair)
	defer k.challenge.Store(nil)
	if _, err := client.Accept(ctx, challenge); err != nil {
		return err
	}
	_, err = client.WaitAuthorization(ctx, address)
	return err
}

// checkChain checks that chain is a certificate for the platform's name and key alone, signed
// by an authority that this host trusts.
func (k *Keeper) checkChain(chain [][]byte, key *ecdsa.PrivateKey, now time.Time) error {
	above := x509.NewCertPool()
	var leaf *x509.Certificate
	for i, der := range chain {
		cert, err := x509.ParseCertificate(der)
		if err != nil {
			return err
		}
		if i == 0 {
			leaf = cert
		} else {
			above.AddCert(cert)
		}
	}
	names := slices.Concat(leaf.DNSNames, leaf.EmailAddresses)
	for _, ip := range leaf.IPAddresses {
		names = append(names, ip.String())
	}
	for _, uri := range leaf.URIs {
		names = append(names, uri.String())
	}
	if !slices.Equal(names, []string{k.name}) {
		return fmt.Errorf("it is for %q, want %q", names, k.name)
	}
	if !key.PublicKey.Equal(leaf.PublicKey) {
		return errors.New("it is for another key than ours")
	}
	_, err := leaf.Verify(x509.VerifyOptions{DNSName: k.name, Roots: k.roots, Intermediates: above, CurrentTime: now, KeyUsages: []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth}})
	if err != nil {
		return fmt.Errorf("this host does not trust it (caFile and SSL_CERT_FILE name further authorities): %w", err)
	}
	return nil
}
