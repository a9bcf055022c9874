package main

import (
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"strings"

	"github.com/colophon-build/colophon/internal/limits"
	"github.com/colophon-build/colophon/internal/strict/documents"
	"github.com/colophon-build/colophon/oci/imagelist"
	"github.com/colophon-build/colophon/policy"
	"github.com/colophon-build/colophon/policy/clusterimagepolicy"
)

// admissionConfig is what decides about images in admission's configuration in a cluster
// (docs/admission.md, "Configuration").
type admissionConfig struct {
	Images               map[string][]string `json:"images"`
	Names                policy.Names        `json:"names"`
	ClusterImagePolicies *struct {
		NoMatchPolicy policy.Unmatched `json:"noMatchPolicy"`
		Secrets       []string         `json:"secrets"`
		ConfigMaps    []string         `json:"configMaps"`
	} `json:"clusterImagePolicies"`

	namespace string // that admission is in
	fields    imagelist.Fields
}

// configMap is what is read of a ConfigMap.
type configMap struct {
	Metadata metadata          `json:"metadata"`
	Data     map[string]string `json:"data"`
}

// installedIn returns the namespace that admission is in: the one in which the API server asks it, or
// "" if it asks nobody. Labels do not say that: whoever has a namespace may put them on objects there.
func (c *kubernetes) installedIn(ctx context.Context) (string, error) {
	config, err := c.webhookConfiguration(ctx, "ValidatingWebhookConfiguration")
	if err != nil && !isAbsent(err) {
		return "", err
	}
	for _, w := range config {
		if w.ClientConfig.Service.Namespace != "" {
			return w.ClientConfig.Service.Namespace, nil
		}
	}
	return "", nil
}

// admissionConfig reads the configuration of admission, which the chart keeps in a ConfigMap. Whoever
// may not read it is told so, and gets what decides without one.
func (c *kubernetes) admissionConfig(ctx context.Context, errs io.Writer) (*admissionConfig, error) {
	config := &admissionConfig{}
	var all []configMap
	namespace, err := c.installedIn(ctx)
	if err == nil && namespace != "" {
		all, err = list[configMap](ctx, c, "configmaps", "-n", namespace, "--field-selector=metadata.name="+admission)
	}
	if exit, ok := errors.AsType[*exitError](err); ok && strings.Contains(exit.msg, "Forbidden") {
		printHint(errs, "you may not read admission's configuration: its fields of custom kinds, names of mirrors and ClusterImagePolicies are not known here")
		return config, nil
	}
	if err != nil {
		return nil, err
	}
	for _, m := range all {
		text := m.Data["admission.yaml"]
		if strings.TrimSpace(text) == "" {
			continue
		}
		docs, err := documents.Read([]byte(text), limits.Request, 1)
		if err == nil && len(docs) == 1 {
			err = json.Unmarshal(docs[0].JSON, config) // admission itself reads it strictly
		}
		var texts []string
		for kind, paths := range config.Images {
			texts = append(texts, kind+"="+strings.Join(paths, ","))
		}
		if err == nil {
			config.fields, err = imagelist.ParseFields(texts)
		}
		if err != nil {
			return nil, fmt.Errorf("ConfigMap %s/%s: %w", m.Metadata.Namespace, m.Metadata.Name, err)
		}
		config.namespace = m.Metadata.Namespace
	}
	return config, nil
}

// clusterImagePolicies adds the documents of policy-controller to a file, if admission reads them. What
// nobody may read who asks here is not there: a policy that needs it is undecided.
func (c *kubernetes) clusterImagePolicies(ctx context.Context, config *admissionConfig, file *policyFile) error {
	of := config.ClusterImagePolicies
	if of == nil {
		return nil
	}
	file.noMatch = cmp.Or(of.NoMatchPolicy, policy.DenyUnmatched)
	all, err := list[json.RawMessage](ctx, c, "clusterimagepolicies."+clusterimagepolicy.Group+",trustroots."+clusterimagepolicy.Group)
	if err != nil {
		return err
	}
	for kind, names := range map[string][]string{"secret": of.Secrets, "configmap": of.ConfigMaps} {
		for _, name := range names {
			if raw, err := c.run(ctx, "get", "-o", "json", kind, name, "-n", config.namespace); err == nil {
				all = append(all, raw)
			}
		}
	}
	for _, raw := range all {
		objects, err := clusterimagepolicy.Parse(raw)
		if err != nil {
			var o object
			_ = json.Unmarshal(raw, &o) // only for its name
			return &exitError{code: exitFailure, msg: fmt.Sprintf("%s %s: %v", o.Kind, o.Metadata.Name, err), hint: "admission decides by the last good version, which the cluster no longer has: mend it"}
		}
		file.objects.Add(objects)
	}
	return nil
}
