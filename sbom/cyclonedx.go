package sbom

import (
	"cmp"
	"errors"
	"fmt"
	"slices"
	"strings"

	"github.com/colophon-build/colophon/internal/limits"
	"github.com/colophon-build/colophon/internal/strict"
)

// cycloneDXVersions are the versions in which the members below mean the same.
var cycloneDXVersions = []string{"1.4", "1.5", "1.6", "1.7"}

type component struct {
	Type    string `json:"type"`
	Group   string `json:"group"`
	Name    string `json:"name"`
	Version string `json:"version"`
	PURL    string `json:"purl"`
	License any    `json:"licenses"` // of any form: it decides nothing here
	Hashes  []struct {
		Algorithm string `json:"alg"`
		Content   string `json:"content"`
	} `json:"hashes"`
	Components []component `json:"components"`
	External   []struct {
		Type string `json:"type"`
		URL  string `json:"url"`
	} `json:"externalReferences"`
}

// readCycloneDX parses a CycloneDX document.
func readCycloneDX(data []byte) (*Document, error) {
	var doc struct {
		Format   string `json:"bomFormat"`
		Version  string `json:"specVersion"`
		Metadata struct {
			Timestamp  string    `json:"timestamp"`
			Component  component `json:"component"`
			Properties []struct {
				Name  string `json:"name"`
				Value string `json:"value"`
			} `json:"properties"`
		} `json:"metadata"`
		Components []component `json:"components"`
	}
	if err := strict.Unmarshal(data, limits.Statement, &doc); err != nil {
		return nil, err
	}
	if doc.Format != "CycloneDX" {
		return nil, fmt.Errorf("format: got %q, want %q", doc.Format, "CycloneDX")
	}
	if !slices.Contains(cycloneDXVersions, doc.Version) {
		return nil, fmt.Errorf("version: got %q, want one of %q", doc.Version, cycloneDXVersions)
	}
	image := doc.Metadata.Component
	d := &Document{Info: Info{Format: "CycloneDX", Version: doc.Version, Name: image.Name}}
	if image.Name == "" && image.Version == "" {
		return nil, errors.New("metadata.component: there is none, so it describes nothing")
	}
	for _, p := range doc.Metadata.Properties {
		if p.Name == unreadCycloneDX {
			d.Unread = append(d.Unread, p.Value)
		}
	}
	for _, r := range image.External {
		if r.Type == "vcs" {
			d.built(r.URL)
		}
	}
	d.add(image.Components)
	d.add(doc.Components)
	for _, h := range image.Hashes {
		if h.Algorithm == "SHA-256" {
			if err := d.subject(h.Content); err != nil {
				return nil, err
			}
		}
	}
	// Syft writes no hash, and the digest as the version.
	if hex, ok := strings.CutPrefix(image.Version, "sha256:"); ok {
		if err := d.subject(hex); err != nil {
			return nil, err
		}
	}
	if doc.Metadata.Timestamp == "" {
		return d, nil
	}
	return d, d.created(doc.Metadata.Timestamp)
}

// license returns the licenses of a component as one expression. All of several apply.
func (c component) license() string {
	list, _ := c.License.([]any)
	var all []string
	for _, entry := range list {
		o, _ := entry.(map[string]any)
		one := object(o)
		if name := cmp.Or(one.text("expression"), one.object("license").text("id"), one.object("license").text("name")); name != "" {
			all = append(all, name)
		}
	}
	if len(all) == 1 {
		return all[0]
	}
	for i, name := range all {
		if strings.Contains(name, " ") {
			all[i] = "(" + name + ")"
		}
	}
	return strings.Join(all, " AND ")
}

// add lists components and the components within them. limits.JSONDepth bounds the
// recursion.
func (d *Document) add(components []component) {
	for _, c := range components {
		if c.Type != "file" && c.Type != "operating-system" {
			name := c.Name
			if c.Group != "" {
				name = c.Group + "/" + name
			}
			d.List = append(d.List, Package{Name: name, Version: c.Version, PURL: c.PURL, License: c.license()})
		}
		d.add(c.Components)
	}
}
