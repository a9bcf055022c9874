package clusterimagepolicy

import (
	"cmp"
	"encoding/hex"
	"errors"
	"fmt"
	"net/url"
	"regexp"
	"slices"
	"strings"

	"github.com/google/go-containerregistry/pkg/name"
	"github.com/sigstore/sigstore/pkg/cryptoutils"

	"github.com/colophon-build/colophon/internal/lazyregexp"
	"github.com/colophon-build/colophon/internal/strict/documents"
	"github.com/colophon-build/colophon/policy"
)

// Limits on one ClusterImagePolicy. The original has none.
const (
	maxImages            = 256
	maxGlob              = 512 // bytes
	maxPolicyAuthorities = 32
	maxIdentities        = 64
	maxAttestations      = 32
	maxMatch             = 64
	maxExpression        = 1024 // bytes of a regular expression
)

// Modes and formats.
const (
	Enforce = "enforce"
	Warn    = "warn"

	FormatLegacy = "legacy"
	FormatBundle = "bundle"

	TypeCUE  = "cue"
	TypeRego = "rego"

	ActionPass = "pass"
	ActionFail = "fail"
)

// DefaultCA is the certificate authority of a Keyless without URL.
const DefaultCA = "https://fulcio.sigstore.dev"

var nameRE = lazyregexp.New(`^[a-z0-9]([a-z0-9.-]*[a-z0-9])?$`)

// checkHead fails unless the document is of one of the versions, and has a name.
func checkHead(apiVersion string, m policy.MetadataDocument, versions ...string) error {
	if !slices.Contains(versions, apiVersion) {
		return documents.In(fmt.Errorf("apiVersion: expected %s, found %q", strings.Join(versions, " or "), apiVersion), "apiVersion")
	}
	if len(m.Name) > 253 || !nameRE.MatchString(m.Name) {
		return documents.In(fmt.Errorf("name: expected lower-case letters, digits, - and . as Kubernetes names objects, found %q", m.Name), "metadata", "name")
	}
	if m.Namespace != "" {
		return documents.In(fmt.Errorf("namespace: expected none, because the document is about the whole cluster, found %q", m.Namespace), "metadata", "namespace")
	}
	return nil
}

// among fails unless value is one of the values, or is empty and may be.
func among(member, value string, optional bool, values ...string) error {
	if value == "" && optional || slices.Contains(values, value) {
		return nil
	}
	return documents.In(fmt.Errorf("%s: expected %s, found %q", member, strings.Join(values, " or "), value), member)
}

func checkHTTPS(member, address string) error {
	if u, err := url.Parse(address); err != nil || u.Scheme != "https" || u.Host == "" {
		return documents.In(fmt.Errorf("%s: expected an https URL, found %q", member, address), member)
	}
	return nil
}

func checkURL(member, address string) error {
	if u, err := url.Parse(address); address != "" && (err != nil || u.Host == "" || u.User != nil) {
		return documents.In(fmt.Errorf("%s: expected a URL, found %q", member, address), member)
	}
	return nil
}

func atMost(member string, n, most int) error {
	if n > most {
		return documents.In(fmt.Errorf("%s: expected at most %d, found %d", member, most, n), member)
	}
	return nil
}

// Check fails if a member is missing or malformed, or if members exclude each other. A policy
// without authorities is no error: it accepts no image. Parse calls Check.
func (c *ClusterImagePolicy) Check() error {
	if err := checkHead(c.APIVersion, c.Metadata, APIVersion, OldAPIVersion); err != nil {
		return err
	}
	return documents.In(c.Spec.check(), "spec")
}

func (s *Spec) check() error {
	if n := len(s.Images); n == 0 || n > maxImages {
		return documents.In(fmt.Errorf("images: expected 1 to %d, found %d", maxImages, n), "images")
	}
	for i, image := range s.Images {
		if err := checkGlob(image.Glob); err != nil {
			return documents.In(err, "images", i, "glob")
		}
	}
	if err := cmp.Or(atMost("authorities", len(s.Authorities), maxPolicyAuthorities), atMost("match", len(s.Match), maxMatch), among("mode", s.Mode, true, Enforce, Warn)); err != nil {
		return err
	}
	names := map[string]bool{}
	for i, a := range s.Authorities {
		if err := a.check(); err != nil {
			return documents.In(err, "authorities", i)
		}
		if names[s.AuthorityName(i)] {
			return documents.In(fmt.Errorf("name: expected each authority to have another, found %q twice", s.AuthorityName(i)), "authorities", i)
		}
		names[s.AuthorityName(i)] = true
	}
	for i, m := range s.Match {
		if err := m.check(); err != nil {
			return documents.In(err, "match", i)
		}
	}
	return documents.In(s.Policy.check(), "policy")
}

// AuthorityName returns the name of an authority: its own, or authority-N.
func (s *Spec) AuthorityName(i int) string {
	if s.Authorities[i].Name != "" {
		return s.Authorities[i].Name
	}
	return fmt.Sprintf("authority-%d", i)
}

var validGlob = lazyregexp.New(`^[A-Za-z0-9_:/*.@-]+$`)

func checkGlob(glob string) error {
	if len(glob) > maxGlob || !validGlob.MatchString(glob) {
		return fmt.Errorf("glob: expected 1 to %d letters, digits and any of - _ : / * . @, found %q", maxGlob, glob)
	}
	return nil
}

func (m *Match) check() error {
	if m.Selector == nil {
		return nil
	}
	if m.Group == "" && m.Version == "" && m.Resource == "" {
		return documents.In(errors.New("selector: expected a resource beside it, found none"), "selector")
	}
	for i, r := range m.Selector.MatchExpressions {
		err := among("operator", r.Operator, false, "In", "NotIn", "Exists", "DoesNotExist")
		if err == nil && (r.Key == "" || strings.HasSuffix(r.Operator, "In") != (len(r.Values) > 0)) {
			err = errors.New("matchExpressions: expected a key, and values with In and NotIn only")
		}
		if err != nil {
			return documents.In(err, "selector", "matchExpressions", i)
		}
	}
	return nil
}

func (a *Authority) check() error {
	if err := documents.OneOf(map[string]bool{"key": a.Key != nil, "keyless": a.Keyless != nil, "static": a.Static != nil}); err != nil {
		return err
	}
	if err := cmp.Or(atMost("source", len(a.Source), 1), atMost("attestations", len(a.Attestations), maxAttestations), among("signatureFormat", a.SignatureFormat, true, FormatLegacy, FormatBundle)); err != nil {
		return err
	}
	switch {
	case a.Static != nil:
		if len(a.Attestations) > 0 || len(a.Source) > 0 || a.CTLog != nil || a.RFC3161Timestamp != nil {
			return documents.In(errors.New("static: expected no attestations, source, ctlog and rfc3161timestamp beside it"), "static")
		}
		return documents.In(among("action", a.Static.Action, false, ActionPass, ActionFail), "static")
	case a.Key != nil:
		if err := a.Key.check(); err != nil {
			return documents.In(err, "key")
		}
	default:
		if err := a.Keyless.check(); err != nil {
			return documents.In(err, "keyless")
		}
	}
	if a.CTLog != nil {
		if err := checkURL("url", a.CTLog.URL); err != nil {
			return documents.In(err, "ctlog")
		}
	}
	for i, s := range a.Source {
		if err := s.check(); err != nil {
			return documents.In(err, "source", i)
		}
	}
	seen := map[string]bool{}
	for i, t := range a.Attestations {
		if err := t.check(); err != nil {
			return documents.In(err, "attestations", i)
		}
		if seen[t.Name] {
			return documents.In(fmt.Errorf("name: expected each attestation to have another, found %q twice", t.Name), "attestations", i, "name")
		}
		seen[t.Name] = true
	}
	return nil
}

func (k *Key) check() error {
	if err := documents.OneOf(map[string]bool{"data": k.Data != "", "kms": k.KMS != "", "secretRef": k.SecretRef != nil}); err != nil {
		return err
	}
	if k.Data != "" {
		if public, err := cryptoutils.UnmarshalPEMToPublicKey([]byte(k.Data)); err != nil || public == nil {
			return documents.In(errors.New("data: expected a public key in PEM"), "data")
		}
	}
	if k.KMS != "" && !slices.ContainsFunc([]string{"awskms://", "gcpkms://", "azurekms://", "hashivault://"}, func(scheme string) bool { return strings.HasPrefix(k.KMS, scheme) }) {
		return documents.In(fmt.Errorf("kms: expected awskms, gcpkms, azurekms or hashivault with ://, found %q", k.KMS), "kms")
	}
	if k.SecretRef != nil && k.SecretRef.Name == "" {
		return documents.In(errors.New("secretRef: expected the name of a secret, found none"), "secretRef")
	}
	return among("hashAlgorithm", k.HashAlgorithm, true, "sha224", "sha256", "sha384", "sha512")
}

func (k *Keyless) check() error {
	if k.URL != "" && k.CACert != nil {
		return errors.New("keyless: expected one of url and ca-cert, found both")
	}
	if err := checkURL("url", k.URL); err != nil {
		return err
	}
	if k.CACert != nil {
		if err := k.CACert.checkCertificate(); err != nil {
			return documents.In(err, "ca-cert")
		}
	}
	if n := len(k.Identities); n == 0 || n > maxIdentities {
		return documents.In(fmt.Errorf("identities: expected 1 to %d, found %d", maxIdentities, n), "identities")
	}
	for i, id := range k.Identities {
		if err := id.check(); err != nil {
			return documents.In(err, "identities", i)
		}
	}
	return nil
}

// checkCertificate is check for a ca-cert, which accepts no image whatever its data is.
func (k *Key) checkCertificate() error {
	return documents.OneOf(map[string]bool{"data": k.Data != "", "kms": k.KMS != "", "secretRef": k.SecretRef != nil})
}

func (id Identity) check() error {
	if err := documents.OneOf(map[string]bool{"issuer": id.Issuer != "", "issuerRegExp": id.IssuerRegExp != ""}); err != nil {
		return err
	}
	if err := documents.OneOf(map[string]bool{"subject": id.Subject != "", "subjectRegExp": id.SubjectRegExp != ""}); err != nil {
		return err
	}
	for member, expr := range map[string]string{"issuerRegExp": id.IssuerRegExp, "subjectRegExp": id.SubjectRegExp} {
		if len(expr) > maxExpression {
			return documents.In(fmt.Errorf("%s: expected at most %d bytes, found %d", member, maxExpression, len(expr)), member)
		}
		if _, err := regexp.Compile(expr); err != nil {
			return documents.In(fmt.Errorf("%s: expected a regular expression (RE2): %w", member, err), member)
		}
	}
	return nil
}

var validTagPrefix = lazyregexp.New(`^[A-Za-z0-9_.-]{0,64}$`)

func (s *Source) check() error {
	if s.OCI != "" {
		if _, err := name.NewRepository(s.OCI); err != nil {
			return documents.In(fmt.Errorf("oci: expected REGISTRY/NAME, found %q", s.OCI), "oci")
		}
	}
	for i, secret := range s.SignaturePullSecrets {
		if secret.Name == "" {
			return documents.In(errors.New("signaturePullSecrets: expected the name of a secret, found none"), "signaturePullSecrets", i)
		}
	}
	if s.TagPrefix != nil && !validTagPrefix.MatchString(*s.TagPrefix) {
		return documents.In(fmt.Errorf("tagPrefix: expected at most 64 letters, digits and any of _ . -, found %q", *s.TagPrefix), "tagPrefix")
	}
	return nil
}

func (t *Attestation) check() error {
	if t.Name == "" || t.PredicateType == "" {
		return errors.New("attestation: expected a name and a predicateType, found none")
	}
	if p := t.Policy; p != nil && (p.FetchConfigFile || p.IncludeSpec || p.IncludeObjectMeta || p.IncludeTypeMeta) {
		return documents.In(errors.New("policy: expected fetchConfigFile, includeSpec, includeObjectMeta and includeTypeMeta in the policy of the spec only"), "policy")
	}
	return documents.In(t.Policy.check(), "policy")
}

func (p *Policy) check() error {
	if p == nil {
		return nil
	}
	if err := among("type", p.Type, false, TypeCUE, TypeRego); err != nil {
		return err
	}
	if err := documents.OneOf(map[string]bool{"data": p.Data != "", "remote": p.Remote != nil, "configMapRef": p.ConfigMapRef != nil}); err != nil {
		return err
	}
	if r := p.Remote; r != nil {
		if err := checkHTTPS("url", r.URL); err != nil {
			return documents.In(err, "remote")
		}
		if raw, err := hex.DecodeString(r.SHA256Sum); err != nil || len(raw) != 32 {
			return documents.In(fmt.Errorf("sha256sum: expected 64 hex digits, found %q", r.SHA256Sum), "remote", "sha256sum")
		}
	}
	if r := p.ConfigMapRef; r != nil && (r.Name == "" || r.Key == "") {
		return documents.In(errors.New("configMapRef: expected name and key, found none"), "configMapRef")
	}
	return nil
}
