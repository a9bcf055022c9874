package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"strings"
	"time"

	"github.com/sigstore/sigstore-go/pkg/root"
	"github.com/spf13/cobra"

	"github.com/colophon-build/colophon/internal/limits"
	"github.com/colophon-build/colophon/internal/strict"
	"github.com/colophon-build/colophon/platform/api"
	"github.com/colophon-build/colophon/sign"
	"github.com/colophon-build/colophon/sign/token"
	"github.com/colophon-build/colophon/trust"
	"github.com/colophon-build/colophon/trust/tuf"
)

// signingOptions are the flags that say who signs, and with which services.
type signingOptions struct {
	key          string // PEM file, or URI
	password     string // file with the password of key, or the PIN of its token
	token        string // file with an OIDC token
	tokenFrom    string // a provider, or browser
	tokenCommand string
	issuer       string // for browser
	config       string // name of a trust root that has a signing config, or file with one
	root         string // name of a trust root, for a file
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
	f.StringVar(&o.config, "signing-config", "", "trust root whose TUF repository names certificate authority, log and timestamp authority: sigstore or its URL; or a `FILE` that names them (Sigstore signing config; default: those of the platform that release uses)")
	f.StringVar(&o.root, "trust-root", "", "with --signing-config FILE: `NAME` of the trust root to verify the signature with before it is published")
	cmd.MarkFlagsMutuallyExclusive("key", "identity-token-file", "identity-token-from", "identity-token-command")
}

// services is where signatures are made, and whom to trust for them.
type services struct {
	config  *root.SigningConfig
	trusted root.TrustedMaterial
}

// find returns the services that the flags name.
func (o *signingOptions) find(ctx context.Context) (*services, error) {
	roots, err := storedRoots()
	if err != nil && !errors.Is(err, trust.ErrEmpty) {
		return nil, err
	}
	switch {
	case o.config != "" && namesTrust(o.config):
		return o.fromTrust(roots)
	case o.config != "":
		return o.fromFile(roots)
	case o.root != "":
		return nil, usageError("", "--trust-root needs --signing-config FILE")
	}
	platform, err := api.LoadConfig()
	if errors.Is(err, api.ErrNoPlatform) {
		return nil, &exitError{code: exitFailure, msg: "it is not said who logs and timestamps the signature: no platform is configured, and there is no --signing-config", hint: "colophon login FILE, or --signing-config sigstore"}
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
	config, err := sign.ParseConfig(raw)
	if err != nil {
		return nil, fmt.Errorf("%s: %w", platform.URL, err)
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

// namesTrust reports whether a --signing-config is the name of a trust root. A file of that
// name, which a repository may have, never takes its place: ./NAME is a file.
func namesTrust(config string) bool {
	_, public := tuf.Named(config)
	return public || strings.Contains(config, "://") || strings.HasPrefix(config, "sha256:")
}

// fromTrust returns the services that the TUF repository of a trust root names, as of when
// it was added or refreshed.
func (o *signingOptions) fromTrust(roots []*trust.Root) (*services, error) {
	if o.root != "" {
		return nil, usageError("", "--trust-root is for a --signing-config FILE: %s is a trust root itself", o.config)
	}
	failed := func(hint, format string, args ...any) (*services, error) {
		return nil, &exitError{code: exitFailure, msg: "--signing-config: " + fmt.Sprintf(format, args...), hint: hint}
	}
	var named []*trust.Root
	for _, r := range roots {
		if p, _ := publicOf(r); r.Named(o.config) || p.Name == o.config {
			named = append(named, r)
		}
	}
	if len(named) != 1 {
		return failed("colophon trust list; colophon trust add "+o.config, "this machine has %d trust roots %q, expected one; a file is named ./FILE", len(named), o.config)
	}
	r := named[0]
	refresh := "colophon trust refresh"
	if r.Repository != nil {
		refresh += " " + r.Repository.URL
	}
	_, copied := tuf.CopyOf(r)
	switch {
	case r.Repository == nil && !copied:
		return failed("--signing-config FILE, or add its TUF repository: colophon trust add URL --root FILE", "the trust root %s does not come from a TUF repository, so nothing says where to sign", o.config)
	case copied:
		return failed(refresh, "the trust root %s is the copy that is built in, and does not say where to sign", o.config)
	case r.Stale(time.Now()):
		return failed(refresh, "the trust root %s is stale since %s", o.config, r.Expires.Format(time.DateOnly))
	case len(r.Repository.SigningConfig) == 0:
		return failed(refresh, "the trust root %s has no signing config: its repository had none of %q when it was last refreshed", o.config, trust.SigningConfigs())
	}
	config, err := sign.ParseConfig(r.Repository.SigningConfig)
	if err != nil {
		return nil, fmt.Errorf("trust root %s: %s: %w", o.config, r.Repository.SigningConfigTarget, err)
	}
	return &services{config, r.Material}, nil
}

func (o *signingOptions) fromFile(roots []*trust.Root) (*services, error) {
	raw, err := strict.ReadFile(o.config, limits.TrustRoot)
	if err != nil {
		return nil, usageError("", "%v", err)
	}
	config, err := sign.ParseConfig(raw)
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
