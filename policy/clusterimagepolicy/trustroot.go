package clusterimagepolicy

import (
	"errors"
	"fmt"

	"github.com/colophon-build/colophon/internal/strict/documents"
	"github.com/colophon-build/colophon/policy"
)

// TrustRoot is a Sigstore instance that policies name by trustRootRef.
type TrustRoot struct {
	APIVersion string                  `json:"apiVersion"`
	Kind       string                  `json:"kind"`
	Metadata   policy.MetadataDocument `json:"metadata"`
	Spec       TrustRootSpec           `json:"spec"`
	Status     any                     `json:"status,omitempty"` // what the controller writes there: it decides nothing
}

// TrustRootSpec is exactly one of its members.
type TrustRootSpec struct {
	Remote       *RemoteRepository `json:"remote,omitempty"`       // a TUF repository on a server
	Repository   *Repository       `json:"repository,omitempty"`   // a TUF repository in the document itself
	SigstoreKeys *SigstoreKeys     `json:"sigstoreKeys,omitempty"` // certificates and keys
}

// RemoteRepository is a TUF repository on a server.
type RemoteRepository struct {
	Root              []byte `json:"root"`                        // root.json to start from
	Mirror            string `json:"mirror"`                      // URL of the repository
	Targets           string `json:"targets,omitempty"`           // directory of its targets; if absent: targets
	TrustedRootTarget string `json:"trustedRootTarget,omitempty"` // if absent: trusted_root.json
}

// Repository is a TUF repository as a gzipped tar archive.
type Repository struct {
	Root              []byte `json:"root"`     // root.json to start from
	MirrorFS          []byte `json:"mirrorFS"` // tar.gz
	Targets           string `json:"targets"`  // directory of its targets
	TrustedRootTarget string `json:"trustedRootTarget,omitempty"`
}

// SigstoreKeys are the certificates and keys of a Sigstore instance.
type SigstoreKeys struct {
	CertificateAuthorities []CertificateAuthority `json:"certificateAuthorities,omitempty"`
	TLogs                  []LogInstance          `json:"tLogs,omitempty"`                // transparency logs
	CTLogs                 []LogInstance          `json:"ctLogs,omitempty"`               // certificate transparency logs
	TimestampAuthorities   []CertificateAuthority `json:"timestampAuthorities,omitempty"` // with the certificate that signs first
}

// CertificateAuthority is a certificate authority, or a timestamp authority.
type CertificateAuthority struct {
	Subject   DistinguishedName `json:"subject"`
	URI       string            `json:"uri"`
	CertChain []byte            `json:"certChain"` // PEM; the last one is the root
}

// DistinguishedName is the subject of a root certificate.
type DistinguishedName struct {
	Organization string `json:"organization"`
	CommonName   string `json:"commonName"`
}

// LogInstance is a log and its key.
type LogInstance struct {
	BaseURL       string `json:"baseURL"`
	HashAlgorithm string `json:"hashAlgorithm"` // sha-256, sha256, ...
	PublicKey     []byte `json:"publicKey"`     // PEM (PKIX)
}

// Limits on one TrustRoot.
const (
	maxAuthorities = 16
	maxLogs        = 32
)

// Check fails if a member is missing, or if members exclude each other. Parse calls it.
func (t *TrustRoot) Check() error {
	if err := checkHead(t.APIVersion, t.Metadata, OldAPIVersion); err != nil {
		return err
	}
	if err := documents.OneOf(map[string]bool{"remote": t.Spec.Remote != nil, "repository": t.Spec.Repository != nil, "sigstoreKeys": t.Spec.SigstoreKeys != nil}); err != nil {
		return documents.In(err, "spec")
	}
	switch s := t.Spec; {
	case s.Remote != nil:
		return documents.In(s.Remote.check(), "spec", "remote")
	case s.Repository != nil:
		return documents.In(s.Repository.check(), "spec", "repository")
	}
	return documents.In(t.Spec.SigstoreKeys.check(), "spec", "sigstoreKeys")
}

func (r *RemoteRepository) check() error {
	if len(r.Root) == 0 {
		return errors.New("root: expected the root.json of the repository, found nothing")
	}
	return documents.In(checkHTTPS("mirror", r.Mirror), "mirror")
}

func (r *Repository) check() error {
	switch {
	case len(r.Root) == 0:
		return errors.New("root: expected the root.json of the repository, found nothing")
	case len(r.MirrorFS) == 0:
		return errors.New("mirrorFS: expected the repository as tar.gz, found nothing")
	case r.Targets == "":
		return errors.New("targets: expected the directory of the targets, found nothing")
	}
	return nil
}

func (k *SigstoreKeys) check() error {
	if len(k.CertificateAuthorities)+len(k.TimestampAuthorities) == 0 {
		return errors.New("sigstoreKeys: expected certificateAuthorities or timestampAuthorities, found neither")
	}
	for name, list := range map[string][]CertificateAuthority{"certificateAuthorities": k.CertificateAuthorities, "timestampAuthorities": k.TimestampAuthorities} {
		if n := len(list); n > maxAuthorities {
			return documents.In(fmt.Errorf("%s: expected at most %d, found %d", name, maxAuthorities, n), name)
		}
		for i, ca := range list {
			if ca.Subject.Organization == "" || ca.Subject.CommonName == "" {
				return documents.In(errors.New("subject: expected organization and commonName, found nothing"), name, i)
			}
			if ca.URI == "" || len(ca.CertChain) == 0 {
				return documents.In(fmt.Errorf("%s: expected uri and certChain, found nothing", name), name, i)
			}
		}
	}
	for name, list := range map[string][]LogInstance{"tLogs": k.TLogs, "ctLogs": k.CTLogs} {
		if n := len(list); n > maxLogs {
			return documents.In(fmt.Errorf("%s: expected at most %d, found %d", name, maxLogs, n), name)
		}
		for i, l := range list {
			if l.BaseURL == "" || l.HashAlgorithm == "" || len(l.PublicKey) == 0 {
				return documents.In(fmt.Errorf("%s: expected baseURL, hashAlgorithm and publicKey, found nothing", name), name, i)
			}
		}
	}
	return nil
}
