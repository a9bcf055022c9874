package clusterimagepolicy

import (
	"errors"
	"fmt"

	"github.com/colophon-build/colophon/internal/strict/documents"
	"github.com/colophon-build/colophon/policy"
)

// controllerConfig is the name of the ConfigMap with the configuration of the controller.
const controllerConfig = "config-policy-controller"

// ConfigMap has texts that policies refer to.
type ConfigMap struct {
	APIVersion string                  `json:"apiVersion"`
	Kind       string                  `json:"kind"`
	Metadata   policy.MetadataDocument `json:"metadata"`
	Data       map[string]string       `json:"data,omitempty"`
	BinaryData map[string]string       `json:"binaryData,omitempty"`
	Immutable  bool                    `json:"immutable,omitempty"`
}

// Secret has public keys that policies refer to.
type Secret struct {
	APIVersion string                  `json:"apiVersion"`
	Kind       string                  `json:"kind"`
	Metadata   policy.MetadataDocument `json:"metadata"`
	Type       string                  `json:"type,omitempty"`
	Data       map[string][]byte       `json:"data,omitempty"`
	StringData map[string]string       `json:"stringData,omitempty"`
	Immutable  bool                    `json:"immutable,omitempty"`
}

// NoMatch returns what happens to an image that no policy is about: what the controller's
// ConfigMap says, or else deny.
func (o *Objects) NoMatch() policy.Unmatched {
	for _, m := range o.ConfigMaps {
		if m.Metadata.Name == controllerConfig && m.Data["no-match-policy"] != "" {
			return policy.Unmatched(m.Data["no-match-policy"])
		}
	}
	return policy.DenyUnmatched
}

func (m *ConfigMap) check() error {
	if m.Metadata.Name == "" {
		return documents.In(errors.New("name: expected the name of the ConfigMap, found none"), "metadata")
	}
	if m.Metadata.Name != controllerConfig {
		return nil
	}
	return documents.In(among("no-match-policy", m.Data["no-match-policy"], true, "deny", "warn", "allow"), "data")
}

// Text returns the text that a policy is, from itself or a ConfigMap. It fails if neither has it.
func (o *Objects) Text(p *Policy) (string, error) {
	switch {
	case p.Data != "":
		return p.Data, nil
	case p.Remote != nil:
		return "", fmt.Errorf("the policy is at %s, which is not asked: put its text into data", p.Remote.URL)
	}
	for _, m := range o.ConfigMaps {
		if text, ok := m.Data[p.ConfigMapRef.Key]; ok && m.Metadata.Name == p.ConfigMapRef.Name {
			return text, nil
		}
	}
	return "", fmt.Errorf("the policy is in the ConfigMap %s, key %s: put that ConfigMap into the file", p.ConfigMapRef.Name, p.ConfigMapRef.Key)
}

// PEM returns the text of a key, from itself or a Secret with one entry. It fails if neither has it.
func (o *Objects) PEM(k *Key) (string, error) {
	switch {
	case k.Data != "":
		return k.Data, nil
	case k.KMS != "":
		return "", fmt.Errorf("the key is %s, which is not asked: put its public key into data", k.KMS)
	}
	for _, s := range o.Secrets {
		if s.Metadata.Name != k.SecretRef.Name {
			continue
		}
		if n := len(s.Data) + len(s.StringData); n != 1 {
			return "", fmt.Errorf("the secret %s: expected one entry, found %d", k.SecretRef.Name, n)
		}
		for _, text := range s.Data {
			return string(text), nil
		}
		for _, text := range s.StringData {
			return text, nil
		}
	}
	return "", fmt.Errorf("the key is in the secret %s: put its public key into data, or that secret into the file", k.SecretRef.Name)
}
