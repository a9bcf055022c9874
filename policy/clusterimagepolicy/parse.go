package clusterimagepolicy

import (
	"fmt"
	"strings"

	"github.com/colophon-build/colophon/internal/limits"
	"github.com/colophon-build/colophon/internal/strict/documents"
)

// maxDocuments limits the documents of one file.
const maxDocuments = 64

// Objects are the documents of a file.
type Objects struct {
	Policies   []*ClusterImagePolicy
	TrustRoots []*TrustRoot
	ConfigMaps []*ConfigMap // with what policies refer to
	Secrets    []*Secret    // the same
}

// Add adds the documents of another file. Names must differ.
func (o *Objects) Add(other *Objects) {
	if other == nil {
		return
	}
	o.Policies, o.TrustRoots = append(o.Policies, other.Policies...), append(o.TrustRoots, other.TrustRoots...)
	o.ConfigMaps, o.Secrets = append(o.ConfigMaps, other.ConfigMaps...), append(o.Secrets, other.Secrets...)
}

// Names returns each document as KIND NAME.
func (o *Objects) Names() (out []string) {
	if o == nil {
		return nil
	}
	for _, p := range o.Policies {
		out = append(out, KindPolicy+" "+p.Metadata.Name)
	}
	for _, t := range o.TrustRoots {
		out = append(out, KindTrustRoot+" "+t.Metadata.Name)
	}
	for _, m := range o.ConfigMaps {
		out = append(out, "ConfigMap "+m.Metadata.Name)
	}
	for _, s := range o.Secrets {
		out = append(out, "Secret "+s.Metadata.Name)
	}
	return out
}

// Of reports whether Parse reads documents with this apiVersion: those of policy-controller, and
// what they refer to.
func Of(apiVersion string) bool {
	return strings.HasPrefix(apiVersion, Group+"/") || apiVersion == "v1"
}

// Parse parses a file of at most 1 MiB with documents of policy-controller as YAML, separated
// by "---", or one as JSON. It leaves out documents of other groups, which may stand in the
// same file. It never returns a part of its own. An error about a place in the file is a
// *strict.Fault.
func Parse(data []byte) (*Objects, error) {
	docs, err := documents.Objects(data, limits.Request, maxDocuments)
	if err != nil {
		return nil, fmt.Errorf("policy: %w", err)
	}
	out := &Objects{}
	seen := map[[2]string]bool{}
	for _, doc := range docs {
		apiVersion, kind, err := doc.Head()
		switch {
		case err != nil:
			return nil, fmt.Errorf("policy: %w", err)
		case !Of(apiVersion):
			continue
		}
		name, err := out.add(doc, apiVersion, kind)
		if err == nil && seen[[2]string{kind, name}] {
			err = doc.Fault("/metadata/name", fmt.Sprintf("expected another name, found two of kind %s with the name %q", kind, name))
		}
		if err != nil {
			return nil, fmt.Errorf("policy: %w", err)
		}
		seen[[2]string{kind, name}] = true
	}
	return out, nil
}

// add parses one document.
func (o *Objects) add(doc *documents.Document, apiVersion, kind string) (name string, err error) {
	if pointer, ok := doc.Nulls(writtenByKubernetes); ok {
		return "", doc.Fault(pointer, "expected a value, found null: leave the member out")
	}
	if apiVersion == "v1" {
		return o.addBeside(doc, kind)
	}
	switch kind {
	case KindPolicy:
		c := new(ClusterImagePolicy)
		if err := doc.Unmarshal(c); err != nil {
			return "", err
		}
		o.Policies = append(o.Policies, c)
		name, err = c.Metadata.Name, c.Check()
	case KindTrustRoot:
		t := new(TrustRoot)
		if err := doc.Unmarshal(t); err != nil {
			return "", err
		}
		o.TrustRoots = append(o.TrustRoots, t)
		name, err = t.Metadata.Name, t.Check()
	default:
		return "", doc.Fault("/kind", fmt.Sprintf("kind: expected %s or %s, found %q", KindPolicy, KindTrustRoot, kind))
	}
	if err != nil {
		return "", doc.Fault(documents.Where(err), err.Error())
	}
	return name, nil
}

// addBeside parses a document with what policies refer to.
func (o *Objects) addBeside(doc *documents.Document, kind string) (name string, err error) {
	switch kind {
	case "ConfigMap":
		m := new(ConfigMap)
		if err := doc.Unmarshal(m); err != nil {
			return "", err
		}
		o.ConfigMaps = append(o.ConfigMaps, m)
		name, err = m.Metadata.Name, m.check()
	case "Secret":
		s := new(Secret)
		if err := doc.Unmarshal(s); err != nil {
			return "", err
		}
		o.Secrets = append(o.Secrets, s)
		name = s.Metadata.Name
	default:
		return "", doc.Fault("/kind", fmt.Sprintf("kind: expected ConfigMap or Secret, found %q", kind))
	}
	if err != nil {
		return "", doc.Fault(documents.Where(err), err.Error())
	}
	return name, nil
}

// writtenByKubernetes reports whether Kubernetes may write null at a place.
func writtenByKubernetes(pointer string) bool {
	return strings.HasPrefix(pointer, "/status") || strings.HasPrefix(pointer, "/metadata/")
}

// YAML returns the document as text for a file.
func (c *ClusterImagePolicy) YAML() ([]byte, error) { return documents.YAML(c) }

// YAML returns the document as text for a file.
func (t *TrustRoot) YAML() ([]byte, error) { return documents.YAML(t) }
