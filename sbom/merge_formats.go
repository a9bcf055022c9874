package sbom

import (
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"
)

// platformProperty is the property of a component of a merged CycloneDX document that names
// the platform of an image that has it.
const platformProperty = "colophon:platform"

// splitSPDX takes the described package and what describes it out of the document.
func (p *part) splitSPDX() error {
	p.id = "SPDXID"
	if len(p.tree.objects("snippets")) > 0 {
		return errors.New("SPDX document: it has snippets, which cannot be merged")
	}
	about := ""
	if listed, _ := p.tree["documentDescribes"].([]any); len(listed) == 1 {
		about, _ = listed[0].(string)
	}
	var relations []any
	for _, r := range p.tree.objects("relationships") {
		if r.text("relationshipType") == "DESCRIBES" && r.text("spdxElementId") == p.tree.text("SPDXID") {
			about = r.text("relatedSpdxElement")
			continue
		}
		if r.text("relationshipType") == variantOf {
			return errors.New("SPDX document: it is of an index already, want those of its images")
		}
		relations = append(relations, map[string]any(r))
	}
	digest := strings.TrimPrefix(p.doc.SubjectDigest, "sha256:")
	replace(relations, map[string]string{about: "SPDXRef-Image-" + digest, p.tree.text("SPDXID"): "SPDXRef-DOCUMENT"}, false)
	var packages []any
	for _, e := range p.tree.objects("packages") {
		if e.text("SPDXID") == about {
			e["SPDXID"] = "SPDXRef-Image-" + digest
			e["comment"] = "platform: " + p.platform
			p.root = e
			continue
		}
		packages = append(packages, map[string]any(e))
		p.elements = append(p.elements, e)
	}
	p.elements = append(p.elements, p.tree.objects("files")...)
	p.tree["packages"], p.tree["relationships"] = packages, relations
	delete(p.tree, "documentDescribes")
	return nil
}

func (m *merger) mergeSPDX() (object, error) {
	const whole = "SPDXRef-Index"
	root := object{"SPDXID": whole, "name": m.index.Name, "downloadLocation": "NOASSERTION", "filesAnalyzed": false, "primaryPackagePurpose": "CONTAINER",
		"supplier": "NOASSERTION", "licenseConcluded": "NOASSERTION", "licenseDeclared": "NOASSERTION", "copyrightText": "NOASSERTION"}
	name := m.index.Name
	if v := m.version(); v != "" {
		name += "@" + v
		root["versionInfo"] = v
		root["checksums"] = []any{object{"algorithm": "SHA256", "checksumValue": m.index.Digest.Hex}}
	}
	relation := func(from, kind, to string) any {
		return map[string]any{"spdxElementId": from, "relationshipType": kind, "relatedSpdxElement": to}
	}
	relations := []any{relation("SPDXRef-DOCUMENT", "DESCRIBES", whole)}
	images := []any{root}
	var infos []object
	for _, p := range m.parts {
		image := p.root.text("SPDXID")
		images = append(images, map[string]any(p.root))
		relations = append(relations, relation(image, variantOf, whole))
		for _, e := range p.tree.objects("packages") {
			relations = append(relations, relation(image, "CONTAINS", e.text("SPDXID")))
		}
		infos = append(infos, p.tree.object("creationInfo"))
	}
	out := combine(m.trees())
	for _, list := range []struct {
		name string
		more []any
	}{{"packages", images}, {"relationships", relations}} {
		old, _ := out[list.name].([]any)
		out[list.name] = union(old, list.more)
	}
	info := combine(infos)
	creators, _ := info["creators"].([]any)
	info["creators"] = union(creators, []any{"Tool: colophon"})
	info["created"] = m.created().Format(time.RFC3339)
	out["SPDXID"], out["name"], out["creationInfo"] = "SPDXRef-DOCUMENT", name, info
	licenses := map[string]bool{}
	for _, l := range out.objects("hasExtractedLicensingInfos") {
		if id := l.text("licenseId"); licenses[id] {
			return nil, fmt.Errorf("SPDX documents: two licences have the identifier %q", id)
		} else {
			licenses[id] = true
		}
	}
	delete(out, "documentNamespace")
	out["documentNamespace"] = "https://colophon.build/spdx/" + uuid(out)
	return out, nil
}

// splitCycloneDX takes the described component out of the document, and names the platform
// of the others.
func (p *part) splitCycloneDX() {
	p.id = "bom-ref"
	meta := p.tree.object("metadata")
	p.root = meta.object("component")
	delete(meta, "component")
	nested, _ := p.root["components"].([]any)
	delete(p.root, "components")
	old := p.root.text("bom-ref")
	now := "image:" + p.doc.SubjectDigest
	p.root["bom-ref"] = now
	replace(map[string]any(p.tree), map[string]string{old: now}, false)
	top, _ := p.tree["components"].([]any)
	p.tree["components"] = append(top, nested...)
	p.addElements(p.tree.objects("components"))
}

// addElements lists components and the components within them.
func (p *part) addElements(components []object) {
	for _, c := range components {
		p.elements = append(p.elements, c)
		p.addElements(c.objects("components"))
	}
}

func (m *merger) mergeCycloneDX() (object, error) {
	root := object{"bom-ref": "index:" + m.version(), "type": "container", "name": m.index.Name}
	if v := m.version(); v != "" {
		root["version"] = v
		root["hashes"] = []any{object{"alg": "SHA-256", "content": m.index.Digest.Hex}}
	}
	components := map[string]object{}
	platforms := map[string][]any{}
	depends := map[string]object{}
	var variants, images []any
	var metas []object
	for _, p := range m.parts {
		tag := map[string]any{"name": platformProperty, "value": p.platform}
		p.root["properties"] = union(listOf(p.root, "properties"), []any{tag})
		variants, images = append(variants, map[string]any(p.root)), append(images, p.root["bom-ref"])
		for _, c := range p.tree.objects("components") {
			key := sum(c)
			components[key] = c
			platforms[key] = union(platforms[key], []any{tag})
		}
		for _, d := range p.tree.objects("dependencies") {
			ref := d.text("ref")
			depends[ref] = combine([]object{depends[ref], d})
		}
		metas = append(metas, p.tree.object("metadata"))
	}
	depends[root.text("bom-ref")] = object{"ref": root["bom-ref"], "dependsOn": union(images)}
	root["pedigree"] = object{"variants": union(variants)}
	var all, dependencies []any
	for key, c := range components {
		c["properties"] = append(slices.Clone(listOf(c, "properties")), platforms[key]...)
		all = append(all, map[string]any(c))
	}
	for _, d := range depends {
		dependencies = append(dependencies, map[string]any(d))
	}
	meta := combine(metas)
	tools := make([]object, 0, len(metas))
	for _, t := range metas {
		tools = append(tools, t.object("tools"))
	}
	if t := combine(tools); len(t) > 0 {
		meta["tools"] = t
	}
	delete(meta, "timestamp")
	if at := m.created(); !at.IsZero() {
		meta["timestamp"] = at.Format(time.RFC3339)
	}
	meta["component"] = root
	out := combine(m.trees())
	out["metadata"], out["components"], out["dependencies"] = meta, union(all), union(dependencies)
	delete(out, "serialNumber")
	out["serialNumber"] = "urn:uuid:" + uuid(out)
	return out, nil
}

func listOf(o object, name string) []any {
	list, _ := o[name].([]any)
	return list
}
