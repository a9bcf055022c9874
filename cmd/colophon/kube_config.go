package main

import (
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"path"
	"strings"
	"time"

	"github.com/colophon-build/colophon/distrust"
	"github.com/colophon-build/colophon/distrust/follow"
	"github.com/colophon-build/colophon/internal/limits"
	"github.com/colophon-build/colophon/internal/strict/documents"
	"github.com/colophon-build/colophon/oci/imagelist"
	"github.com/colophon-build/colophon/policy"
	"github.com/colophon-build/colophon/policy/clusterimagepolicy"
	"github.com/colophon-build/colophon/trust"
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

	Distrust *struct {
		Issuers string `json:"issuers"`
	} `json:"distrust"`

	namespace string // that admission is in
	fields    imagelist.Fields
	issuers   []distrust.Issuer // whose lists count in the cluster
	lists     distrust.Lists    // theirs: see readLists
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
		printHint(errs, "you may not read admission's configuration: its fields of custom kinds, names of mirrors, ClusterImagePolicies and lists of what is no longer trusted are not known here")
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
		if err == nil && config.Distrust != nil {
			err = config.readIssuers(m.Data[path.Base(config.Distrust.Issuers)])
		}
		if err != nil {
			return nil, fmt.Errorf("ConfigMap %s/%s: %w", m.Metadata.Namespace, m.Metadata.Name, err)
		}
		config.namespace = m.Metadata.Namespace
	}
	return config, nil
}

// readIssuers reads the issuers whose lists count, which the chart keeps beside the configuration. Of those in
// another place, nobody here knows what they say.
func (config *admissionConfig) readIssuers(text string) (err error) {
	if text == "" {
		config.issuers = []distrust.Issuer{{Name: config.Distrust.Issuers}}
		return nil
	}
	if config.issuers, err = distrust.ParseIssuers([]byte(text)); err != nil {
		return fmt.Errorf("%s: %w", config.Distrust.Issuers, err)
	}
	return nil
}

// readLists reads the lists that count in the cluster, under its trust roots. A list that cannot be read here is
// not known.
func (config *admissionConfig) readLists(ctx context.Context, now time.Time, roots []*trust.Root) {
	var served []distrust.Issuer
	for _, i := range config.issuers {
		if strings.HasPrefix(i.From, "https://") || strings.HasPrefix(i.From, "http://") {
			served = append(served, i)
		} else { // a path in admission's pod is not one here
			config.lists = append(config.lists, distrust.Known{Issuer: i, Problem: "it is a file in the cluster"})
		}
	}
	config.lists = append(config.lists, follow.New("", served).Refresh(ctx, now, roots)...)
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
