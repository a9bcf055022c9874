// Package trust holds the trust roots of a verifier: which certificate authorities,
// transparency logs and timestamp authorities it trusts, and which builders up to
// which SLSA Build level.
//
// Parse reads a trust root in one of three forms:
//
//   - a platform's trust document (spec/trust), which also names the platform's
//     builders: Document;
//   - a Sigstore trusted root (protobuf-specs v0.1, trusted_root.json);
//   - one of these two as a TUF repository delivered it, with the TUF metadata that
//     proves it: Repository. Package trust/tuf downloads and refreshes these.
//
// A Store keeps trust roots in a directory; the fingerprint of each is pinned in its
// file name. Workflow and Pipeline are the identities of GitHub Actions workflows
// and GitLab pipelines in certificates.
//
// The package does no network access. A verifier trusts the signatures of a Root's
// Material, and the provenance of its builders.
package trust

import (
	"crypto/sha256"
	"crypto/x509"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"net/url"
	"strings"
	"time"

	"github.com/sigstore/sigstore-go/pkg/root"

	"github.com/colophon-build/colophon/internal/limits"
	"github.com/colophon-build/colophon/internal/loopback"
	"github.com/colophon-build/colophon/internal/strict"
)

// Document is a platform's trust document (spec/trust). A platform serves it at
// /.well-known/colophon.json. "colophon trust add" pins its fingerprint, which
// covers all of its bytes. The document of another Sigstore instance has only Issuers
// and TrustedRoot.
type Document struct {
	URL         string          `json:"url"`               // the platform's origin: https://HOST[:PORT]
	Issuer      string          `json:"issuer"`            // OIDC issuer of the platform's own services; below URL
	Issuers     []string        `json:"issuers,omitempty"` // other OIDC issuers whose identities the trusted root may vouch for
	Builders    []Builder       `json:"builders"`          // who may sign provenance; each belongs to Issuer
	TrustedRoot json.RawMessage `json:"trustedRoot"`       // Sigstore trusted root (protobuf-specs, JSON)
}

// Builder is a builder, and the SLSA Build level it is trusted for.
type Builder struct {
	ID    string `json:"id"`    // ISSUER/builders/NAME
	Level int    `json:"level"` // 0 to 3
}

// Root is a trust root that was parsed and checked. It vouches for the identities of
// its Issuers alone. "A plain trusted root" means a Sigstore trusted root that is no
// platform's.
type Root struct {
	Fingerprint string               // sha256:hex of the trust document or trusted root
	Raw         []byte               // the bytes that Parse read
	URL         string               // the platform's origin; empty for a plain trusted root
	Issuer      string               // the platform's OIDC issuer; empty for a plain trusted root
	Builders    []Builder            // the platform's builders; empty for a plain trusted root
	Material    root.TrustedMaterial // certificate authorities, logs and timestamp authorities
	Repository  *Repository          // the TUF repository that delivered it; nil if the bytes themselves are pinned
	Expires     time.Time            // when the TUF metadata expires; zero: never

	plain bool // no document lists the issuers
}

// builders is the part of a builder id between its issuer and its name.
const builders = "/builders/"

// Parse reads a trust document, a plain trusted root (trusted_root.json), or a
// Repository that contains one of them. It verifies the TUF signatures of a
// Repository, but not that its metadata is unexpired: see Root.Stale.
func Parse(raw []byte) (*Root, error) {
	var head struct {
		Roots json.RawMessage `json:"roots"`
	}
	if err := strict.Unmarshal(raw, limits.TrustRepository, &head); err != nil {
		return nil, fmt.Errorf("trust root: %w", err)
	}
	if len(head.Roots) == 0 {
		return parseDocument(raw, nil)
	}
	r, err := parseRepository(raw)
	if err != nil {
		return nil, fmt.Errorf("TUF repository: %w", err)
	}
	return r, nil
}

// parseDocument reads a trust document or a plain trusted root. For the latter, issuers
// are those that it vouches for; nil: those of the public Sigstore instance if it is
// that instance's, otherwise none.
func parseDocument(raw []byte, issuers []string) (*Root, error) {
	var head struct {
		MediaType   string          `json:"mediaType"`
		TrustedRoot json.RawMessage `json:"trustedRoot"`
	}
	if err := strict.Unmarshal(raw, limits.TrustRoot, &head); err != nil {
		return nil, fmt.Errorf("trust root: %w", err)
	}
	sum := sha256.Sum256(raw)
	r := &Root{Fingerprint: "sha256:" + hex.EncodeToString(sum[:]), Raw: append([]byte(nil), raw...)}
	material := []byte(raw)
	switch {
	case head.MediaType != "":
		r.plain = true // parseMaterial checks the media type
		if err := checkIssuers(issuers); err != nil {
			return nil, err
		}
	case len(issuers) > 0:
		return nil, errors.New("trust document: it says itself which issuers it vouches for")
	case len(head.TrustedRoot) > 0:
		var doc Document
		if err := strict.UnmarshalKnown(raw, limits.TrustRoot, &doc); err != nil {
			return nil, fmt.Errorf("trust document: %w", err)
		}
		if err := doc.check(); err != nil {
			return nil, fmt.Errorf("trust document: %w", err)
		}
		r.URL, r.Issuer, r.Builders, material, issuers = doc.URL, doc.Issuer, doc.Builders, doc.TrustedRoot, doc.issuers()
	default:
		return nil, errors.New("trust root: got neither a platform's trust document nor a Sigstore trusted root")
	}
	tr, err := parseMaterial(material)
	if err != nil {
		return nil, err
	}
	if err := checkComplete(tr, r.URL != ""); err != nil {
		return nil, fmt.Errorf("trusted root: %w", err)
	}
	if r.plain && len(issuers) == 0 {
		issuers = issuersOf(tr)
	}
	r.Material = newMaterial(tr, issuers)
	return r, nil
}

// ParseMaterial reads a plain trusted root for callers who verify with a public key
// of their own. Unlike for Parse, the root may lack certificate authorities, logs and
// timestamp authorities. It vouches for no issuer.
func ParseMaterial(raw []byte) (root.TrustedMaterial, error) {
	var head struct{}
	if err := strict.Unmarshal(raw, limits.TrustRoot, &head); err != nil {
		return nil, fmt.Errorf("trusted root: %w", err)
	}
	tr, err := parseMaterial(raw)
	if err != nil {
		return nil, err
	}
	return newMaterial(tr, nil), nil
}

func parseMaterial(raw []byte) (*root.TrustedRoot, error) {
	tr, err := root.NewTrustedRootFromJSON(raw)
	if err == nil {
		err = checkMaterial(tr)
	}
	if err != nil {
		return nil, fmt.Errorf("trusted root: %w", err)
	}
	return tr, nil
}

// issuers returns whom the document vouches for.
func (d *Document) issuers() []string {
	if d.Issuer == "" {
		return d.Issuers
	}
	return append([]string{d.Issuer}, d.Issuers...)
}

// check fails if the document is malformed, names an issuer of its own that is not at
// its origin, or a builder of another issuer: a platform may only name its own.
func (d *Document) check() error {
	if d.URL == "" && d.Issuer == "" && len(d.Builders) == 0 {
		if len(d.Issuers) == 0 {
			return errors.New("issuers: got none, want at least one")
		}
		return checkIssuers(d.Issuers)
	}
	if err := CheckOrigin(d.URL); err != nil {
		return fmt.Errorf("url: %w", err)
	}
	if d.Issuer != d.URL && !strings.HasPrefix(d.Issuer, d.URL+"/") || strings.HasSuffix(d.Issuer, "/") || strings.Contains(d.Issuer, "*") {
		return fmt.Errorf("issuer: got %q, want %q or a URL below it, without a trailing slash", d.Issuer, d.URL)
	}
	if err := checkIssuers(d.issuers()); err != nil {
		return err
	}
	if len(d.Builders) == 0 {
		return errors.New("builders: got none, want at least one")
	}
	seen := make(map[string]bool)
	for _, b := range d.Builders {
		issuer, err := IssuerOf(b.ID)
		if err != nil {
			return err
		}
		if issuer != d.Issuer {
			return fmt.Errorf("builder %q does not belong to the issuer: got %q, want %q", b.ID, issuer, d.Issuer)
		}
		if b.Level < 0 || b.Level > 3 {
			return fmt.Errorf("builder %q: level: got %d, want 0 to 3", b.ID, b.Level)
		}
		if seen[b.ID] {
			return fmt.Errorf("builder %q is named twice", b.ID)
		}
		seen[b.ID] = true
	}
	return nil
}

// IssuerOf returns the OIDC issuer that a builder id ISSUER/builders/NAME belongs to.
func IssuerOf(builderID string) (string, error) {
	issuer, name, _ := strings.Cut(builderID, builders)
	u, err := url.Parse(builderID)
	if issuer == "" || name == "" || strings.Contains(name, builders) || err != nil || u.Host == "" || u.User != nil {
		return "", fmt.Errorf("builder id: got %q, want ISSUER%sNAME", builderID, builders)
	}
	return issuer, nil
}

// CheckOrigin fails unless s is https://HOST[:PORT], or http://HOST[:PORT] and the
// host is loopback.
func CheckOrigin(s string) error {
	u, err := url.Parse(s)
	if err != nil || u.Host == "" || u.Scheme+"://"+u.Host != s {
		return fmt.Errorf("got %q, want https://HOST[:PORT]", s)
	}
	if loopback.OrTLS(u) {
		return nil
	}
	return fmt.Errorf("got %q, want https (http is allowed only on loopback)", s)
}

// Builder returns the builder with this id if r trusts it. If wanted is not empty,
// the id must also be in wanted. A plain trusted root names no builders: it trusts
// the ids in wanted, for level 0, because it says nothing about levels.
func (r *Root) Builder(id string, wanted []string) (Builder, bool) {
	demanded := len(wanted) == 0
	for _, w := range wanted {
		demanded = demanded || w == id
	}
	if !demanded {
		return Builder{}, false
	}
	if b, ok := r.builder(id); ok {
		return b, true
	}
	if len(r.Builders) == 0 && len(wanted) > 0 {
		_, err := IssuerOf(id)
		return Builder{ID: id}, err == nil
	}
	return Builder{}, false
}

// checkComplete fails for roots that cannot verify any signature. A platform has at
// least one of each kind of service. Others may have less: GitHub's own Sigstore
// instance has no logs, and old trusted roots have no timestamp authority.
func checkComplete(tr *root.TrustedRoot, platform bool) error {
	cas, cts, logs, tsas := len(tr.FulcioCertificateAuthorities()), len(tr.CTLogs()), len(tr.RekorLogs()), len(tr.TimestampingAuthorities())
	switch {
	case platform && (cas == 0 || cts == 0 || logs == 0 || tsas == 0):
		return fmt.Errorf("got %d certificate authorities, %d certificate transparency logs, %d logs, %d timestamp authorities, want at least one of each", cas, cts, logs, tsas)
	case cas == 0 || logs+tsas == 0:
		return fmt.Errorf("got %d certificate authorities, %d logs, %d timestamp authorities, want a certificate authority, and a log or a timestamp authority", cas, logs, tsas)
	}
	return nil
}

// checkMaterial fails for roots that lack required parts, and for key ids that do
// not belong to their keys.
func checkMaterial(tr *root.TrustedRoot) error {
	for _, ca := range tr.FulcioCertificateAuthorities() {
		if f, ok := ca.(*root.FulcioCertificateAuthority); !ok || f.Root == nil {
			return errors.New("a certificate authority has no root certificate")
		}
	}
	for _, tsa := range tr.TimestampingAuthorities() {
		if s, ok := tsa.(*root.SigstoreTimestampingAuthority); !ok || s.Root == nil || s.Leaf == nil {
			return errors.New("a timestamp authority has no root or no leaf certificate")
		}
	}
	for id, log := range tr.CTLogs() {
		spki, err := x509.MarshalPKIXPublicKey(log.PublicKey)
		if err != nil {
			return fmt.Errorf("certificate transparency log %s: %w", log.BaseURL, err)
		}
		if want := sha256.Sum256(spki); id != hex.EncodeToString(want[:]) {
			return fmt.Errorf("certificate transparency log %s: key id: got %s, want %x", log.BaseURL, id, want)
		}
	}
	for id, log := range tr.RekorLogs() {
		if LogWindow(log).From.IsZero() {
			return fmt.Errorf("log %s: the start of its key's validity period is missing", id)
		}
		if u, err := url.Parse(log.BaseURL); err != nil || u.Hostname() == "" {
			return fmt.Errorf("log %s: base URL: got %q, want one with a host", id, log.BaseURL)
		}
	}
	return nil
}
