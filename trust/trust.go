// Package trust says whom to believe: platforms, their trust roots (Sigstore's
// trusted root, protobuf-specs v0.1), and the builders they speak for.
package trust

import (
	"crypto/sha256"
	"crypto/x509"
	"encoding/hex"
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

// Document is what a platform serves at /.well-known/colophon.json, and what
// `trust add` pins: its fingerprint covers every byte of it. Spec: spec/trust.
type Document struct {
	URL         string    `json:"url"`         // the platform's origin
	Issuer      string    `json:"issuer"`      // OIDC issuer of its own workloads
	Builders    []Builder `json:"builders"`    // who may sign provenance
	TrustedRoot RawJSON   `json:"trustedRoot"` // Sigstore trusted root (protobuf-specs, JSON)
}

// Builder is a builder id and the SLSA Build level it is believed for.
type Builder struct {
	ID    string `json:"id"`
	Level int    `json:"level"`
}

// RawJSON is JSON kept as the bytes received.
type RawJSON []byte

// MarshalJSON implements json.Marshaler.
func (r RawJSON) MarshalJSON() ([]byte, error) {
	if len(r) == 0 {
		return []byte("null"), nil
	}
	return r, nil
}

// UnmarshalJSON implements json.Unmarshaler.
func (r *RawJSON) UnmarshalJSON(data []byte) error {
	*r = append((*r)[:0], data...)
	return nil
}

// Root is a trust document or a plain Sigstore trusted root, checked and ready
// to verify with.
type Root struct {
	Fingerprint string               // "sha256:…" of Raw, or of what a Repository holds
	Raw         []byte               // as received, or a Repository
	URL         string               // the platform's origin; empty for a plain trusted root
	Issuer      string               // empty for a plain trusted root
	Builders    []Builder            // none for a plain trusted root
	Material    root.TrustedMaterial // certificate authorities, logs and clocks
	Repository  *Repository          // the TUF repository it came from; nil where the bytes themselves were pinned
	Expires     time.Time            // when the repository has to be asked again; zero: never
}

// builders is the part of a builder id that stands between its issuer and its name.
const builders = "/builders/"

// Parse reads a trust document, a plain trusted_root.json, or a Repository that
// holds one of them.
func Parse(raw []byte) (*Root, error) {
	var head struct {
		Roots RawJSON `json:"roots"`
	}
	if err := strict.Unmarshal(raw, limits.TrustRepository, &head); err != nil {
		return nil, fmt.Errorf("trust root: %w", err)
	}
	if len(head.Roots) == 0 {
		return parseDocument(raw)
	}
	r, err := parseRepository(raw)
	if err != nil {
		return nil, fmt.Errorf("TUF repository: %w", err)
	}
	return r, nil
}

func parseDocument(raw []byte) (*Root, error) {
	var head struct {
		MediaType   string  `json:"mediaType"`
		TrustedRoot RawJSON `json:"trustedRoot"`
	}
	if err := strict.Unmarshal(raw, limits.TrustRoot, &head); err != nil {
		return nil, fmt.Errorf("trust root: %w", err)
	}
	sum := sha256.Sum256(raw)
	r := &Root{Fingerprint: "sha256:" + hex.EncodeToString(sum[:]), Raw: append([]byte(nil), raw...)}
	material := []byte(raw)
	switch {
	case head.MediaType != "":
		// A plain trusted root; its media type is checked with the rest of it.
	case len(head.TrustedRoot) > 0:
		var doc Document
		if err := strict.UnmarshalKnown(raw, limits.TrustRoot, &doc); err != nil {
			return nil, fmt.Errorf("trust document: %w", err)
		}
		if err := doc.check(); err != nil {
			return nil, fmt.Errorf("trust document: %w", err)
		}
		r.URL, r.Issuer, r.Builders, material = doc.URL, doc.Issuer, doc.Builders, doc.TrustedRoot
	default:
		return nil, errors.New("neither a platform's trust document nor a Sigstore trusted root")
	}
	tr, err := parseMaterial(material)
	if err != nil {
		return nil, err
	}
	if err := enough(tr, r.URL != ""); err != nil {
		return nil, fmt.Errorf("trusted root: %w", err)
	}
	r.Material = anchor(tr)
	return r, nil
}

// ParseMaterial reads a plain trusted root for signatures of a key that the
// caller has: it may vouch for nobody, but must be well-formed.
func ParseMaterial(raw []byte) (root.TrustedMaterial, error) {
	var head struct{}
	if err := strict.Unmarshal(raw, limits.TrustRoot, &head); err != nil {
		return nil, fmt.Errorf("trusted root: %w", err)
	}
	tr, err := parseMaterial(raw)
	if err != nil {
		return nil, err
	}
	return anchor(tr), nil
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

// check holds a document to its own issuer: it cannot speak for the builders
// of another.
func (d *Document) check() error {
	if err := CheckOrigin(d.URL); err != nil {
		return fmt.Errorf("url: %w", err)
	}
	u, err := url.Parse(d.Issuer)
	if err != nil || u.Host == "" || u.User != nil || (u.Scheme != "https" && u.Scheme != "http") || strings.HasSuffix(d.Issuer, "/") {
		return fmt.Errorf("issuer: got %q, want a URL without a trailing slash", d.Issuer)
	}
	if len(d.Builders) == 0 {
		return errors.New("names no builder")
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

// IssuerOf returns the issuer that a builder id belongs to: all that stands
// before "/builders/".
func IssuerOf(builderID string) (string, error) {
	issuer, name, ok := strings.Cut(builderID, builders)
	u, err := url.Parse(builderID)
	if !ok || issuer == "" || name == "" || strings.Contains(name, builders) || err != nil || u.Host == "" || u.User != nil {
		return "", fmt.Errorf("builder id: got %q, want ISSUER%sNAME", builderID, builders)
	}
	return issuer, nil
}

// CheckOrigin fails unless s is scheme://host[:port], over https or, on
// loopback, http.
func CheckOrigin(s string) error {
	u, err := url.Parse(s)
	if err != nil || u.Host == "" || u.Scheme+"://"+u.Host != s {
		return fmt.Errorf("got %q, want https://HOST[:PORT]", s)
	}
	if loopback.OrTLS(u) {
		return nil
	}
	return fmt.Errorf("got %q, want https (plain http is for loopback only)", s)
}

// Builder says whether this root believes the builder id, and for which level.
// A plain trusted root names no builders: it goes along with the ids that the
// caller demands (wanted), and knows no level of them.
func (r *Root) Builder(id string, wanted []string) (Builder, bool) {
	demanded := len(wanted) == 0
	for _, w := range wanted {
		demanded = demanded || w == id
	}
	if !demanded {
		return Builder{}, false
	}
	for _, b := range r.Builders {
		if b.ID == id {
			return b, true
		}
	}
	if len(r.Builders) == 0 && len(wanted) > 0 {
		_, err := IssuerOf(id)
		return Builder{ID: id}, err == nil
	}
	return Builder{}, false
}

// enough refuses roots that could not verify anything. A platform has one of
// everything. Others do without: GitHub's own Sigstore keeps no logs, old roots
// have no clock.
func enough(tr *root.TrustedRoot, platform bool) error {
	cas, cts, logs, clocks := len(tr.FulcioCertificateAuthorities()), len(tr.CTLogs()), len(tr.RekorLogs()), len(tr.TimestampingAuthorities())
	switch {
	case platform && (cas == 0 || cts == 0 || logs == 0 || clocks == 0):
		return fmt.Errorf("got %d certificate authorities, %d certificate logs, %d logs, %d clocks, want at least one of each", cas, cts, logs, clocks)
	case cas == 0 || logs+clocks == 0:
		return fmt.Errorf("got %d certificate authorities, %d logs, %d clocks, want an authority, and a log or a clock to know the time by", cas, logs, clocks)
	}
	return nil
}

// checkMaterial refuses roots with parts missing, and those whose key ids are
// not the ids of their keys.
func checkMaterial(tr *root.TrustedRoot) error {
	for _, ca := range tr.FulcioCertificateAuthorities() {
		if f, ok := ca.(*root.FulcioCertificateAuthority); !ok || f.Root == nil {
			return errors.New("certificate authority without a root certificate")
		}
	}
	for _, tsa := range tr.TimestampingAuthorities() {
		if s, ok := tsa.(*root.SigstoreTimestampingAuthority); !ok || s.Root == nil || s.Leaf == nil {
			return errors.New("clock without a root and a leaf certificate")
		}
	}
	for id, log := range tr.CTLogs() {
		spki, err := x509.MarshalPKIXPublicKey(log.PublicKey)
		if err != nil {
			return fmt.Errorf("certificate log %s: %w", log.BaseURL, err)
		}
		if want := sha256.Sum256(spki); id != hex.EncodeToString(want[:]) {
			return fmt.Errorf("certificate log %s: key id: got %s, want %x", log.BaseURL, id, want)
		}
	}
	for id, log := range tr.RekorLogs() {
		if LogWindow(log).From.IsZero() {
			return fmt.Errorf("log %s: got no time from which its key is trusted, want one", id)
		}
		if u, err := url.Parse(log.BaseURL); err != nil || u.Hostname() == "" {
			return fmt.Errorf("log %s: base URL: got %q, want one with a host", id, log.BaseURL)
		}
	}
	return nil
}
