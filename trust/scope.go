package trust

import (
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"net/url"
	"regexp"
	"slices"
	"strings"

	"github.com/sigstore/sigstore-go/pkg/root"

	"github.com/colophon-build/colophon/internal/lazyregexp"
	"github.com/colophon-build/colophon/internal/loopback"
)

// maxIssuers is the maximum number of issuers that a trust document lists. The
// public Sigstore instance has 28.
const maxIssuers = 100

// publicIssuers lists the OIDC issuers whose identities the public Sigstore instance
// certifies: config/identity/config.yaml of github.com/sigstore/fulcio v1.8.8. Dex, at
// oauth2.sigstore.dev, names in the certificate the provider that authenticated the
// person: the last three.
var publicIssuers = []string{
	"https://agent.buildkite.com",
	"https://auth.eclipse.org/auth/realms/foundation-service-accounts",
	"https://dev.gitlab.org",
	"https://gitlab.archlinux.org",
	"https://gitlab.com",
	"https://issuer.enforce.dev",
	"https://issuer.chainops.dev",
	"https://issuer.hello.coop",
	"https://oauth2.sigstore.dev/auth",
	"https://oidc.circleci.com",
	"https://oidc.circleci.com/org/*",
	"https://oidc.codefresh.io",
	"https://ops.gitlab.net",
	"https://sigstore.verify.ibm.com/oauth2",
	"https://token.actions.githubusercontent.com",
	"https://token.actions.githubusercontent.com/*",
	"https://www.kaggle.com/api/v1/models/signing",
	"https://*.oic.prod-aks.azure.com/*/*",
	"https://*.oic.prod-aks.azure.com/*/*/",
	"https://container.googleapis.com/v1/projects/*/locations/*/clusters/*",
	"https://oidc.eks.*.amazonaws.com/id/*",
	"https://oidc.prod-aks.azure.com/*",
	"https://oidc.prod-aks.azure.com/*/",
	"https://oidc.prod-aks.azure.com/*/*",
	"https://accounts.google.com",
	"https://github.com/login/oauth",
	"https://login.microsoftonline.com",
}

// publicAuthorities holds the SHA-256 of the root certificates of the public Sigstore
// instance. A plain trusted root with only these is that instance's.
var publicAuthorities = []string{
	"03a38ffb1f450100c2596d1d10b900ac4d504058006dda58199576bbeb9c73d0",
	"3ba7b6cc4e95469d4d334b49cb257ad8537076fa84b0ca87ff4ecfe6a54680c1",
}

// issuersOf returns the issuers that a plain trusted root vouches for if nobody said
// which: those of the public Sigstore instance, or none.
func issuersOf(tr *root.TrustedRoot) []string {
	for _, ca := range tr.FulcioCertificateAuthorities() {
		sum := sha256.Sum256(ca.(*root.FulcioCertificateAuthority).Root.Raw)
		if !slices.Contains(publicAuthorities, hex.EncodeToString(sum[:])) {
			return nil
		}
	}
	return publicIssuers
}

// Issuers returns the OIDC issuers whose identities r may vouch for: the platform's
// own, then the others that its trust document lists. A "*" in a name stands for one
// or more letters, digits, "-" and "_", as in Fulcio's meta issuers.
func (r *Root) Issuers() []string {
	if m, ok := r.Material.(*material); ok {
		return slices.Clone(m.issuers)
	}
	return nil
}

// Vouches fails unless the trust root with this material may vouch for identities of
// the OIDC issuer. Without this limit, each certificate authority that a machine
// trusts could name every identity of every other. Material that is not of a Root, and
// has no method Vouches of its own, vouches for nobody.
func Vouches(m root.TrustedMaterial, issuer string) error {
	if v, ok := m.(interface{ Vouches(issuer string) error }); ok {
		return v.Vouches(issuer)
	}
	return (&material{}).Vouches(issuer)
}

// Vouches is the method that the function Vouches calls.
func (m *material) Vouches(issuer string) error {
	if m.every {
		return nil
	}
	listed := m.issuers
	if slices.ContainsFunc(listed, func(pattern string) bool { return matchIssuer(pattern, issuer) }) {
		return nil
	}
	if len(listed) == 0 {
		return &IssuerError{issuer, fmt.Sprintf("issuer of the signer's certificate: got %q, but the trust root vouches for no issuer", issuer)}
	}
	if len(listed) > 3 {
		listed = append(listed[:3:3], fmt.Sprintf("%d more", len(listed)-3))
	}
	return &IssuerError{issuer, fmt.Sprintf("issuer of the signer's certificate: got %q, but the trust root vouches only for %s", issuer, strings.Join(listed, ", "))}
}

// IssuerError means that a trust root does not vouch for identities of an OIDC issuer.
type IssuerError struct {
	Issuer string
	text   string
}

func (e *IssuerError) Error() string { return e.text }

// matchIssuer compares an issuer with an entry of a list.
func matchIssuer(pattern, issuer string) bool {
	if !strings.Contains(pattern, "*") {
		return pattern == issuer
	}
	quoted := strings.ReplaceAll(regexp.QuoteMeta(pattern), `\*`, `[-_a-zA-Z0-9]+`)
	return regexp.MustCompile(`\A` + quoted + `\z`).MatchString(issuer)
}

// checkIssuers fails unless each issuer is a URL that is listed once, and each pattern
// names the domain that it is about.
func checkIssuers(issuers []string) error {
	if len(issuers) > maxIssuers {
		return fmt.Errorf("issuers: got %d, want at most %d", len(issuers), maxIssuers)
	}
	for i, s := range issuers {
		u, err := url.Parse(s)
		if err != nil || u.Host == "" || u.User != nil || u.RawQuery != "" || u.Fragment != "" || !loopback.OrTLS(u) {
			return fmt.Errorf("issuers: got %q, want an https URL (http is allowed only on loopback)", s)
		}
		labels := strings.Split(u.Host, ".")
		if strings.Contains(strings.Join(labels[max(0, len(labels)-2):], "."), "*") {
			return fmt.Errorf("issuers: got %q, want a domain without \"*\"", s)
		}
		if slices.Contains(issuers[:i], s) {
			return fmt.Errorf("issuers: got %q twice, want each once", s)
		}
	}
	return nil
}

// ForIssuers returns a plain trusted root that vouches for the given issuers and for
// no others. The list is pinned together with the root. It fails for a root that came
// with a trust document, because that document lists the issuers.
func (r *Root) ForIssuers(issuers []string) (*Root, error) {
	switch {
	case len(issuers) == 0:
		return nil, errors.New("issuers: got none, want at least one")
	case !r.plain:
		return nil, errors.New("the trust document says which issuers it vouches for")
	case r.Repository != nil:
		repo := *r.Repository
		repo.Issuers = issuers
		raw, err := repo.Encode()
		if err != nil {
			return nil, err
		}
		return Parse(raw)
	}
	raw, err := json.Marshal(Document{Issuers: issuers, TrustedRoot: r.Raw})
	if err != nil {
		return nil, err
	}
	return Parse(raw)
}

// Named reports whether name is one of the names that a person gives r: its pin, the
// platform's origin, or the URL of its TUF repository.
func (r *Root) Named(name string) bool {
	return name != "" && (name == r.Pin() || name == r.URL || r.Repository != nil && name == r.Repository.URL)
}

var pinRE = lazyregexp.New(`\Asha256:[0-9a-f]{64}\z`)

// CheckName fails unless name is a name that a Root can have.
func CheckName(name string) error {
	u, err := url.Parse(name)
	if pinRE.MatchString(name) || err == nil && u.Host != "" && u.User == nil && loopback.OrTLS(u) {
		return nil
	}
	return fmt.Errorf("trust root: got %q, want a platform's or repository's URL, or sha256:HEX", name)
}
