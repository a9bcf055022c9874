package admission

import (
	"cmp"
	"errors"
	"fmt"
	"net"
	"slices"
	"strings"

	"github.com/colophon-build/colophon/internal/limits"
	"github.com/colophon-build/colophon/internal/strict"
	"github.com/colophon-build/colophon/internal/strict/documents"
	"github.com/colophon-build/colophon/oci/imagelist"
	"github.com/colophon-build/colophon/platform/admission/kubeapi"
	ledger "github.com/colophon-build/colophon/platform/recorder"
	"github.com/colophon-build/colophon/platform/verdicts"
	"github.com/colophon-build/colophon/policy"
)

// Settings are the configuration file of colophond admission. Every member is optional: without
// any, it serves as a pod of the cluster whose policies are resources. docs/admission.md has the
// manual.
type Settings struct {
	Listen string `json:"listen,omitempty"` // address of the webhooks; default :8443
	Health string `json:"health,omitempty"` // address of /healthz, /readyz and /metrics; default :8080

	Policies string `json:"policies,omitempty"` // file or directory of policies; absent: the resources of the cluster
	Trust    string `json:"trust,omitempty"`    // file or directory of trust roots; absent: the resources of the cluster

	// ClusterImagePolicies lets policies of policy-controller count beside our own; absent: none is read.
	ClusterImagePolicies *ClusterImagePolicies `json:"clusterImagePolicies,omitempty"`

	Distrust *verdicts.Distrusted `json:"distrust,omitempty"` // whose lists of what is no longer trusted count; absent: nobody's

	Names   policy.Names        `json:"names,omitempty"`   // names that rules see of images that were copied to mirrors
	Mirrors policy.Names        `json:"mirrors,omitempty"` // where images are read, by the beginning of what pods call them
	Hosts   Hosts               `json:"hosts,omitempty"`   // the same, as the nodes' containerd is told it
	Images  map[string][]string `json:"images,omitempty"`  // fields that name images, by KIND.GROUP of custom kinds
	Exempt  []string            `json:"exempt,omitempty"`  // namespaces whose running pods are left alone: those that the webhook configurations exempt
	DryRun  bool                `json:"dryRun,omitempty"`  // decisions are recorded, and nothing is refused or changed
	Memory  int                 `json:"memory,omitempty"`  // MiB for what is known about images; default 160

	// Remember keeps in the Secret colophon-admission-known of admission's namespace which images were
	// accepted, so that they are known after all replicas have ended.
	Remember bool `json:"remember,omitempty"`

	// CredentialHelpers are programs that have credentials for registries of clouds. They count for
	// the images of all pods.
	CredentialHelpers verdicts.HelperPrograms `json:"credentialHelpers,omitempty"`

	Platform string      `json:"platform,omitempty"` // file client.json of a platform, whose releases are read before pods ask
	List     *SignedList `json:"list,omitempty"`     // a signed list of images that are read before pods ask
	Eviction Eviction    `json:"eviction,omitzero"`  // of running pods whose images are rejected

	// LoopbackRegistries lets admission read registries on its own machine.
	LoopbackRegistries bool `json:"loopbackRegistries,omitempty"`

	TLS struct {
		Certificate string `json:"certificate,omitempty"` // file with a certificate chain in PEM; absent: admission makes one
		Key         string `json:"key,omitempty"`         // file with its key
	} `json:"tls,omitzero"`

	Ledger *ledger.Settings `json:"audit,omitempty"` // the audit ledger that gets the decisions; absent: none does. Its instance is the name of the cluster

	// API says how to reach the API server from outside of the cluster.
	API *struct {
		Server    string `json:"server"`
		CA        string `json:"ca"`        // file with the certificates, in PEM, that may certify it
		Token     string `json:"token"`     // file with a bearer token
		Namespace string `json:"namespace"` // that admission counts as its own
	} `json:"api,omitempty"`
}

// ClusterImagePolicies say how ClusterImagePolicies and TrustRoots of policy.sigstore.dev are read:
// from the files that Policies names, or else from the resources of the cluster.
type ClusterImagePolicies struct {
	NoMatchPolicy policy.Unmatched `json:"noMatchPolicy,omitempty"` // deny (default), warn or allow: an image that none of them is about
	Secrets       []string         `json:"secrets,omitempty"`       // names, in admission's namespace, of Secrets with keys
	ConfigMaps    []string         `json:"configMaps,omitempty"`    // names, in admission's namespace, of ConfigMaps with policies
}

// maxBeside limits the Secrets and ConfigMaps that ClusterImagePolicies may name.
const maxBeside = 64

func (c *ClusterImagePolicies) check() error {
	if c == nil {
		return nil
	}
	if c.NoMatchPolicy != "" && !slices.Contains([]policy.Unmatched{policy.DenyUnmatched, policy.WarnUnmatched, policy.AllowUnmatched}, c.NoMatchPolicy) {
		return fmt.Errorf("clusterImagePolicies: noMatchPolicy: expected deny, warn or allow, found %q", c.NoMatchPolicy)
	}
	if n := len(c.Secrets) + len(c.ConfigMaps); n > maxBeside {
		return fmt.Errorf("clusterImagePolicies: expected at most %d secrets and configMaps, found %d", maxBeside, n)
	}
	for _, name := range slices.Concat(c.Secrets, c.ConfigMaps) {
		if !objectName.MatchString(name) {
			return fmt.Errorf("clusterImagePolicies: expected the name of a Secret or ConfigMap, found %q", name)
		}
	}
	return nil
}

// ReadSettings reads a configuration file, YAML or JSON. An empty file, and an empty path, give
// the defaults.
func ReadSettings(path string) (s Settings, err error) {
	if path != "" {
		raw, err := strict.ReadFile(path, limits.Request)
		if err != nil {
			return s, err
		}
		if len(strings.TrimSpace(string(raw))) > 0 {
			docs, err := documents.Read(raw, limits.Request, 1)
			if err != nil {
				return s, strict.In(path, err)
			}
			if err := docs[0].Unmarshal(&s); err != nil {
				return s, strict.In(path, err)
			}
		}
	}
	if err := s.check(); err != nil {
		return s, fmt.Errorf("%s: %w", path, err)
	}
	return s, nil
}

func (s *Settings) check() error {
	for _, a := range []struct{ name, value, fallback string }{{"listen", s.Listen, ":8443"}, {"health", s.Health, ":8080"}} {
		if a.value == "" {
			a.value = a.fallback
		}
		if _, _, err := net.SplitHostPort(a.value); err != nil {
			return fmt.Errorf("%s: expected [HOST]:PORT, found %q", a.name, a.value)
		}
		if a.name == "listen" {
			s.Listen = a.value
		} else {
			s.Health = a.value
		}
	}
	if (s.TLS.Certificate == "") != (s.TLS.Key == "") {
		return errors.New("tls: expected both certificate and key, or none of them")
	}
	if s.Memory < 0 || s.Memory > 64<<10 {
		return fmt.Errorf("memory: expected MiB up to 65536, found %d", s.Memory)
	}
	if s.API != nil && (s.API.CA == "" || s.API.Token == "" || s.API.Namespace == "") {
		return errors.New("api: expected server, ca, token and namespace")
	}
	if s.List != nil {
		if err := s.List.check(); err != nil {
			return err
		}
	}
	if err := cmp.Or(s.Distrust.Check(), s.Eviction.check(), s.ClusterImagePolicies.check(), s.Names.Check(), s.CredentialHelpers.Check(), s.Ledger.Check()); err != nil {
		return err
	}
	hosts, err := s.Hosts.mirrors()
	if err != nil {
		return err
	}
	for registry, at := range hosts {
		if other, twice := s.Mirrors[registry]; twice && other != at {
			return fmt.Errorf("mirrors and hosts: images of %s are read from %s, or from %s: name one of them", registry, other, at)
		}
		if s.Mirrors == nil {
			s.Mirrors = policy.Names{}
		}
		s.Mirrors[registry] = at
	}
	if err := s.Mirrors.Check(); err != nil {
		return fmt.Errorf("mirrors: %w", err)
	}
	_, err = s.fields()
	return err
}

// fields returns Images in the form of package imagelist.
func (s *Settings) fields() (imagelist.Fields, error) {
	var texts []string
	for kind, paths := range s.Images {
		texts = append(texts, kind+"="+strings.Join(paths, ","))
	}
	f, err := imagelist.ParseFields(texts)
	if err != nil {
		return nil, fmt.Errorf("images: %w", err)
	}
	return f, nil
}

// client returns the client of the API server, and admission's own namespace.
func (s *Settings) client() (*kubeapi.Client, string, error) {
	if s.API == nil {
		return kubeapi.InCluster()
	}
	ca, err := strict.ReadFile(s.API.CA, limits.Request)
	if err != nil {
		return nil, "", err
	}
	c, err := kubeapi.New(kubeapi.Settings{Server: s.API.Server, CA: ca, TokenFile: s.API.Token})
	return c, s.API.Namespace, err
}
