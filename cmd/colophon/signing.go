package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"strings"

	"github.com/sigstore/sigstore-go/pkg/root"
	"github.com/spf13/cobra"

	"github.com/colophon-build/colophon/internal/limits"
	"github.com/colophon-build/colophon/internal/strict"
	"github.com/colophon-build/colophon/platform/api"
	"github.com/colophon-build/colophon/sign"
	"github.com/colophon-build/colophon/sign/token"
	"github.com/colophon-build/colophon/trust"
)

// signingOptions are the flags that say who signs, and with which services.
type signingOptions struct {
	key          string // PEM file, or URI
	password     string // file with the password of key, or the PIN of its token
	token        string // file with an OIDC token
	tokenFrom    string // a provider, or browser
	tokenCommand string
	issuer       string // for browser
	config       string // file with a signing config
	root         string // name of a trust root
}

// fromBrowser is the value of --identity-token-from for a person.
const fromBrowser = "browser"

func (o *signingOptions) flags(cmd *cobra.Command) {
	f := cmd.Flags()
	f.StringVar(&o.key, "key", "", "private key that signs, ECDSA or RSA: `FILE` (PEM, by openssl or cosign), or URI of a token or key management service (pkcs11:…, awskms://…, azurekms://…, gcpkms://…, hashivault://…, openbao://…)")
	f.StringVar(&o.password, "password-file", "", "`FILE` with the password of the key, or the PIN of its token (default: ask on the terminal)")
	f.StringVar(&o.token, "identity-token-file", "", "`FILE` with the OIDC token of whoever signs")
	f.StringVar(&o.tokenFrom, "identity-token-from", "", "`SOURCE` of the token: "+strings.Join(token.Providers(), ", ")+" or "+fromBrowser+" (default: the CI system or machine that this is)")
	f.StringVar(&o.tokenCommand, "identity-token-command", "", "`COMMAND` of the shell that prints the token")
	f.StringVar(&o.issuer, "oidc-issuer", token.PublicIssuer, "with --identity-token-from browser: `URL` of the issuer to log in at")
	f.StringVar(&o.config, "signing-config", "", "`FILE` that names certificate authority, log and timestamp authority (Sigstore signing config; default: those of the platform that release uses)")
	f.StringVar(&o.root, "trust-root", "", "with --signing-config: `NAME` of the trust root to verify the signature with before it is published")
	cmd.MarkFlagsMutuallyExclusive("key", "identity-token-file", "identity-token-from", "identity-token-command")
}

// services is where signatures are made, and whom to trust for them.
type services struct {
	config  *root.SigningConfig
	trusted root.TrustedMaterial
}

// find returns the services that the flags name.
func (o *signingOptions) find(ctx context.Context) (*services, error) {
	store, err := openTrust()
	if err != nil {
		return nil, err
	}
	roots, err := store.Load()
	if err != nil && !errors.Is(err, trust.ErrEmpty) {
		return nil, err
	}
	if o.config != "" {
		return o.fromFile(roots)
	}
	if o.root != "" {
		return nil, usageError("", "--trust-root needs --signing-config")
	}
	platform, err := api.LoadConfig()
	if errors.Is(err, api.ErrNoPlatform) {
		return nil, &exitError{code: exitFailure, msg: "it is not said who logs and timestamps the signature: no platform is configured, and there is no --signing-config", hint: "colophon login FILE, or --signing-config FILE --trust-root NAME"}
	} else if err != nil {
		return nil, err
	}
	return platformServices(ctx, platform, roots)
}

// platformServices returns the services of a platform that this machine trusts.
func platformServices(ctx context.Context, platform *api.ClientConfig, roots []*trust.Root) (*services, error) {
	trusted, err := platformTrust(platform, roots)
	if err != nil {
		return nil, err
	}
	raw, err := platform.SigningConfig(ctx)
	if err != nil {
		return nil, err
	}
	config, err := root.NewSigningConfigFromJSON(raw)
	if err != nil {
		return nil, fmt.Errorf("signing config of %s: %w", platform.URL, err)
	}
	return &services{config, trusted}, nil
}

func platformTrust(platform *api.ClientConfig, roots []*trust.Root) (root.TrustedMaterial, error) {
	for _, r := range roots {
		if r.URL == strings.TrimSuffix(platform.URL, "/") {
			return r.Material, nil
		}
	}
	return nil, &exitError{code: exitFailure, msg: fmt.Sprintf("this machine does not trust the platform that would log the signature, %s", platform.URL), hint: "colophon trust add " + platform.URL}
}

func (o *signingOptions) fromFile(roots []*trust.Root) (*services, error) {
	raw, err := strict.ReadFile(o.config, limits.TrustRoot)
	if err != nil {
		return nil, usageError("", "%v", err)
	}
	config, err := root.NewSigningConfigFromJSON(raw)
	if err != nil {
		return nil, usageError("want a Sigstore signing config, such as a platform serves at /signing_config.json", "--signing-config: %s: %v", o.config, err)
	}
	var named []*trust.Root
	for _, r := range roots {
		if o.root == "" || r.Named(o.root) {
			named = append(named, r)
		}
	}
	switch {
	case len(named) == 1:
		return &services{config, named[0].Material}, nil
	case o.root != "":
		return nil, usageError("see colophon trust list", "--trust-root: this machine has no trust root %q", o.root)
	case len(named) == 0:
		return nil, &exitError{code: exitFailure, msg: trust.ErrEmpty.Error(), hint: "add that of the services: colophon trust add"}
	}
	return nil, usageError("see colophon trust list", "--signing-config needs --trust-root: this machine has %d trust roots", len(named))
}

// opener opens a signing session. It is called when there is something to sign, because
// certificates are short-lived.
type opener func(context.Context, *services) (*sign.Session, error)

// signer reads the key or the token that the flags name. It says on w whose token it takes
// if no flag says it.
func (o *signingOptions) signer(ctx context.Context, in io.Reader, w io.Writer) (opener, error) {
	noCoreDump()
	if o.key != "" {
		key, err := o.openKey(ctx, in, w)
		return func(_ context.Context, s *services) (*sign.Session, error) {
			return sign.OpenKey(s.config, s.trusted, key)
		}, err
	}
	secret, err := o.readToken(ctx, w)
	return func(ctx context.Context, s *services) (*sign.Session, error) {
		session, err := sign.Open(ctx, s.config, s.trusted, secret, nil)
		if err != nil {
			return nil, fmt.Errorf("%w; %s", err, token.Describe(secret))
		}
		return session, nil
	}, err
}

func (o *signingOptions) readToken(ctx context.Context, w io.Writer) (secret string, err error) {
	switch {
	case o.token != "":
		return token.File(o.token)
	case o.tokenCommand != "":
		return token.Command(ctx, o.tokenCommand)
	case o.tokenFrom == fromBrowser:
		return token.Browser(ctx, o.issuer, w)
	case o.tokenFrom != "":
		return token.Get(ctx, o.tokenFrom)
	}
	secret, from, err := token.Ambient(ctx)
	if errors.Is(err, token.ErrNoProvider) {
		return "", usageError("in CI, let the job have an OIDC token; on a laptop, --identity-token-from browser", "it is not said who signs: %v, and there is no --key and no --identity-token-…", err)
	}
	if err == nil {
		fmt.Fprintf(w, "signing with the token of %s\n", from)
	}
	return secret, err
}
