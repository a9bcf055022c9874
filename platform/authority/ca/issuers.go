package ca

import (
	"bytes"
	"context"
	"crypto"
	"crypto/x509"
	"encoding/json"
	"fmt"
	"maps"
	"net/url"
	"slices"
	"strings"

	"github.com/coreos/go-oidc/v3/oidc"
	"github.com/sigstore/fulcio/pkg/certificate"
	"github.com/sigstore/fulcio/pkg/config"
	"github.com/sigstore/fulcio/pkg/identity"
	"github.com/sigstore/fulcio/pkg/identity/ciprovider"
	"github.com/sigstore/fulcio/pkg/server"
	"go.yaml.in/yaml/v3"
	"golang.org/x/net/publicsuffix"

	"github.com/colophon-build/colophon/internal/limits"
	"github.com/colophon-build/colophon/internal/loopback"
	"github.com/colophon-build/colophon/internal/strict"
)

// ownProvider is the name of the platform's issuer in CIIssuerMetadata.
const ownProvider = "colophon"

// ownMetadata maps the claims of the platform's tokens to the certificate's subject and
// to its extensions 1.3.6.1.4.1.57264.1.N.
var ownMetadata = config.IssuerMetadata{
	SubjectAlternativeNameTemplate: "builder_id",
	ExtensionTemplates: certificate.Extensions{
		BuildSignerURI:         "builder_id",         // .9
		BuildSignerDigest:      "builder_digest",     // .10
		RunnerEnvironment:      "runner_environment", // .11
		SourceRepositoryURI:    "source_uri",         // .12
		SourceRepositoryDigest: "source_digest",      // .13
		SourceRepositoryRef:    "source_ref",         // .14
		BuildConfigDigest:      "parameters_digest",  // .19
		BuildTrigger:           "build_trigger",      // .20
		RunInvocationURI:       "invocation_uri",     // .21
	},
}

// maxOutside is how many tokens of outside issuers may be checked at a time. A check can
// wait seconds for an issuer that does not answer.
const maxOutside = 16

// issuers returns the configuration and pool of issuers: the platform's issuer first, then
// the configured ones. It contacts no issuer.
func issuers(cfg Config) (*config.FulcioConfig, identity.IssuerPool, error) {
	outside, fulcio, err := readOutside(cfg.Outside, cfg.URL)
	if err != nil {
		return nil, nil, fmt.Errorf("configuration of outside issuers: %w", err)
	}
	pool := identity.IssuerPool{&platformIssuer{
		url: cfg.URL,
		verifier: oidc.NewVerifier(cfg.URL, &oidc.StaticKeySet{PublicKeys: []crypto.PublicKey{cfg.TokenKey}},
			&oidc.Config{ClientID: Audience, SupportedSigningAlgs: []string{oidc.ES256}}),
	}}
	slots := make(chan struct{}, maxOutside)
	for _, i := range server.NewIssuerPool(outside) {
		pool = append(pool, &outsideIssuer{Issuer: i, origin: cfg.URL, slots: slots})
	}
	fulcio.OIDCIssuers = map[string]config.OIDCIssuer{cfg.URL: {
		IssuerURL: cfg.URL, ClientID: Audience, Type: config.IssuerTypeCIProvider, CIProvider: ownProvider,
		Description: "builds of this platform",
	}}
	maps.Copy(fulcio.OIDCIssuers, outside.OIDCIssuers)
	fulcio.MetaIssuers = outside.MetaIssuers
	return fulcio, pool, nil
}

// platformIssuer is the platform's own issuer. It verifies tokens with the configured key,
// not with keys fetched from the platform's URL, so it works before the platform listens.
type platformIssuer struct {
	url      string
	verifier *oidc.IDTokenVerifier
}

func (o *platformIssuer) Match(_ context.Context, url string) bool { return url == o.url }

func (o *platformIssuer) Authenticate(ctx context.Context, token string, _ ...config.InsecureOIDCConfigOption) (identity.Principal, error) {
	id, err := o.verifier.Verify(ctx, token)
	if err != nil {
		return nil, err
	}
	p, err := ciprovider.WorkflowPrincipalFromIDToken(ctx, id)
	if err != nil {
		return nil, err
	}
	return builder{p, o.url}, nil
}

// OutsideIssuers checks Config.Outside for a platform at origin and returns its issuers, for
// the platform's trust document: those with a "*" are meta issuers. It contacts nobody.
func OutsideIssuers(configuration []byte, origin string) ([]string, error) {
	cfg, _, err := readOutside(configuration, origin)
	if err != nil {
		return nil, fmt.Errorf("configuration of outside issuers: %w", err)
	}
	return append(slices.Sorted(maps.Keys(cfg.OIDCIssuers)), slices.Sorted(maps.Keys(cfg.MetaIssuers))...), nil
}

// readOutside returns the configuration of outside issuers, and Fulcio's with the templates
// of all providers and without issuers.
func readOutside(configuration []byte, origin string) (outside, fulcio *config.FulcioConfig, err error) {
	if outside, err = parseOutside(configuration); err != nil {
		return nil, nil, err
	}
	if err := checkOutside(outside, origin); err != nil {
		return nil, nil, err
	}
	// config.Read contacts every issuer in its input and waits. Without issuers it only
	// checks the templates and prepares the cache. The issuers are added afterwards, and
	// Fulcio contacts them when it needs them.
	providers := map[string]config.IssuerMetadata{ownProvider: ownMetadata}
	maps.Copy(providers, outside.CIIssuerMetadata)
	templates, err := json.Marshal(&config.FulcioConfig{CIIssuerMetadata: providers})
	if err != nil {
		return nil, nil, err
	}
	fulcio, err = config.Read(templates)
	return outside, fulcio, err
}

func parseOutside(data []byte) (*config.FulcioConfig, error) {
	cfg := &config.FulcioConfig{}
	data = bytes.TrimSpace(data)
	if len(data) == 0 {
		return cfg, nil
	}
	if data[0] == '{' {
		return cfg, strict.UnmarshalKnown(data, limits.Config, cfg)
	}
	if len(data) > limits.Config {
		return nil, fmt.Errorf("got %d bytes, want at most %d", len(data), limits.Config)
	}
	dec := yaml.NewDecoder(bytes.NewReader(data))
	dec.KnownFields(true)
	return cfg, dec.Decode(cfg)
}

var issuerTypes = []config.IssuerType{
	config.IssuerTypeBuildkiteJob, config.IssuerTypeEmail, config.IssuerTypeGithubWorkflow, config.IssuerTypeCodefreshWorkflow,
	config.IssuerTypeGitLabPipeline, config.IssuerTypeChainguard, config.IssuerTypeKubernetes, config.IssuerTypeSpiffe,
	config.IssuerTypeURI, config.IssuerTypeUsername, config.IssuerTypeCIProvider,
}

// checkOutside applies the rules of Fulcio's own validation, which Fulcio only offers
// together with contacting the issuers. It also refuses an issuer that is this platform.
func checkOutside(cfg *config.FulcioConfig, origin string) error {
	if _, ok := cfg.CIIssuerMetadata[ownProvider]; ok {
		return fmt.Errorf("CIIssuerMetadata %q is reserved for the platform; choose another name", ownProvider)
	}
	for name, i := range cfg.OIDCIssuers {
		if name != i.IssuerURL {
			return fmt.Errorf("issuer %q: got IssuerURL %q, want the same URL", name, i.IssuerURL)
		}
		u, err := url.Parse(name)
		if err != nil {
			return err
		}
		if err := checkScheme(u); err != nil {
			return fmt.Errorf("issuer %q: %w", name, err)
		}
		if sameOrigin(name, origin) {
			return fmt.Errorf("issuer %q is this platform; only outside issuers can be configured", name)
		}
		if err := checkIssuer(cfg, i, u); err != nil {
			return fmt.Errorf("issuer %q: %w", name, err)
		}
	}
	for name, i := range cfg.MetaIssuers {
		if !strings.HasPrefix(name, "https://") {
			return fmt.Errorf("meta issuer %q: want https", name)
		}
		re, err := config.MetaRegex(name)
		if err != nil {
			return fmt.Errorf("meta issuer %q: %w", name, err)
		}
		if re.MatchString(origin) || re.MatchString(origin+"/") {
			return fmt.Errorf("meta issuer %q matches this platform; make the pattern narrower", name)
		}
		if i.Type == config.IssuerTypeSpiffe || i.Type == config.IssuerTypeURI || i.Type == config.IssuerTypeUsername {
			return fmt.Errorf("meta issuer %q: type %q would let many issuers name the same subjects", name, i.Type)
		}
		if err := checkIssuer(cfg, i, nil); err != nil {
			return fmt.Errorf("meta issuer %q: %w", name, err)
		}
	}
	return nil
}

func checkScheme(u *url.URL) error {
	if u.Host == "" || u.User != nil || !loopback.OrTLS(u) {
		return fmt.Errorf("want an https URL (http only on loopback)")
	}
	return nil
}

// checkIssuer checks the settings that issuers and meta issuers share. u is the URL of an
// issuer, nil for a meta issuer.
func checkIssuer(cfg *config.FulcioConfig, i config.OIDCIssuer, u *url.URL) error {
	if !slices.Contains(issuerTypes, i.Type) {
		return fmt.Errorf("got type %q, want one of %q", i.Type, issuerTypes)
	}
	if i.ClientID == "" {
		return fmt.Errorf("ClientID is required, usually %q", Audience)
	}
	if i.IssuerClaim != "" && i.Type != config.IssuerTypeEmail {
		return fmt.Errorf("IssuerClaim is for type %q, got %q", config.IssuerTypeEmail, i.Type)
	}
	if i.CACert != "" && !x509.NewCertPool().AppendCertsFromPEM([]byte(i.CACert)) {
		return fmt.Errorf("CACert holds no certificate")
	}
	switch i.Type {
	case config.IssuerTypeCIProvider:
		if _, ok := cfg.CIIssuerMetadata[i.CIProvider]; !ok {
			return fmt.Errorf("CIProvider %q is not in CIIssuerMetadata", i.CIProvider)
		}
	case config.IssuerTypeSpiffe:
		if i.SPIFFETrustDomain == "" {
			return fmt.Errorf("SPIFFETrustDomain is required")
		}
	case config.IssuerTypeURI:
		d, err := url.Parse(i.SubjectDomain)
		if err != nil || d.Scheme != u.Scheme || d.Hostname() == "" {
			return fmt.Errorf("SubjectDomain is %q, want an origin with scheme %q", i.SubjectDomain, u.Scheme)
		}
		return sameOwner(d.Hostname(), u.Hostname())
	case config.IssuerTypeUsername:
		if i.SubjectDomain == "" || strings.Contains(i.SubjectDomain, "/") {
			return fmt.Errorf("SubjectDomain is %q, want a domain", i.SubjectDomain)
		}
		return sameOwner(i.SubjectDomain, u.Hostname())
	}
	return nil
}

// sameOwner checks that both host names belong to the same registrable domain. Fulcio is
// less strict: it accepts any two names under co.uk.
func sameOwner(subject, issuer string) error {
	if subject == issuer {
		return nil
	}
	s, err := publicsuffix.EffectiveTLDPlusOne(subject)
	if err != nil {
		return err
	}
	i, err := publicsuffix.EffectiveTLDPlusOne(issuer)
	if err != nil {
		return err
	}
	if s != i {
		return fmt.Errorf("SubjectDomain: got a name under %q, want one under %q, the domain of the issuer", s, i)
	}
	return nil
}
