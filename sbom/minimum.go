package sbom

import (
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"strings"
)

// Lists of minimum elements, for Check.
const (
	NTIA = "ntia" // The Minimum Elements For a Software Bill of Materials (NTIA, July 2021)
	CISA = "cisa" // 2025 Minimum Elements for a Software Bill of Materials (CISA, draft for comment of August 2025)
	BSI  = "bsi"  // TR-03183-2, version 2.1.0 (BSI, 2025): the required fields that an SBOM of an image can have
)

// Lists are the names of the lists.
func Lists() []string { return []string{NTIA, CISA, BSI} }

// Missing is one element of a list that a document lacks.
type Missing struct {
	Element  string   // in the words of the list, such as "supplier name"
	Packages []string // NAME@VERSION of the packages that lack it, in the order of the document; nil if the document itself lacks it
}

// Check returns what a document lacks of a list of minimum elements, in the order of the list.
// It looks at what the document says and not at whether that is true: a supplier that is
// called "unknown" is a supplier. The predicate type names the format, as in Read, which must
// accept the document. It knows the members of SPDX 2.2, 2.3 and of CycloneDX; for SPDX 3.0,
// it fails.
func Check(document []byte, predicateType, list string) ([]Missing, error) {
	d, err := Read(document, predicateType)
	if err != nil {
		return nil, err
	}
	m := manifest{}
	switch {
	case d.Format == "CycloneDX":
		err = m.readCycloneDX(document)
	case strings.HasPrefix(d.Version, "3"):
		err = errors.New("the minimum elements of SPDX 3.0 documents cannot be checked")
	default:
		err = m.readSPDX(document)
	}
	if err != nil {
		return nil, err
	}
	var missing []Missing
	whole := func(element string, there bool) {
		if !there {
			missing = append(missing, Missing{Element: element})
		}
	}
	each := func(element string, there func(*item) bool) {
		var without []string
		for i := range m.items {
			if p := &m.items[i]; !there(p) {
				without = append(without, p.name+"@"+p.version)
			}
		}
		if len(without) > 0 {
			missing = append(missing, Missing{element, without})
		}
	}
	named := func(p *item) bool { return p.name != "" }
	versioned := func(p *item) bool { return p.version != "" }
	supplied := func(p *item) bool { return p.supplier }
	identified := func(p *item) bool { return p.identified }
	related := func(p *item) bool { return p.related }
	licensed := func(p *item) bool { return p.licensed }
	switch list {
	case NTIA:
		each("supplier name", supplied)
		each("component name", named)
		each("version of the component", versioned)
		each("other unique identifiers", identified)
		each("dependency relationship", related)
		whole("author of SBOM data", m.author)
		whole("timestamp", !d.Created.IsZero())
	case CISA:
		whole("SBOM author", m.author)
		each("software producer", supplied)
		each("component name", named)
		each("component version", versioned)
		each("software identifiers", identified)
		each("component hash", func(p *item) bool { return len(p.hashes) > 0 })
		each("license", licensed)
		each("dependency relationship", related)
		whole("tool name", m.tool)
		whole("timestamp", !d.Created.IsZero())
		whole("generation context", m.context)
	case BSI:
		whole("format: CycloneDX 1.6 or SPDX 3.0.1 at least", d.Format == "CycloneDX" && d.Version >= "1.6")
		whole("creator of the SBOM: an e-mail address or a URL", m.contact)
		whole("timestamp", !d.Created.IsZero())
		each("component creator", supplied)
		each("component name", named)
		each("component version", versioned)
		each("dependencies on other components", related)
		each("distribution licences", licensed)
		each("hash value of the deployable component (SHA-512)", func(p *item) bool { return slices.Contains(p.hashes, "sha512") })
	default:
		return nil, fmt.Errorf("list of minimum elements: got %q, want one of %s", list, strings.Join(Lists(), ", "))
	}
	return missing, nil
}

// manifest is what a document says beyond Document. Verification does not read it, so it is
// parsed apart, and members of unexpected types count as missing.
type manifest struct {
	author, contact, tool, context bool
	items                          []item
}

type item struct {
	name, version                           string
	supplier, identified, related, licensed bool
	hashes                                  []string // algorithms in lower case, without "-"
}

// object is a JSON object. Its methods return zero values for members of other types.
type object map[string]any

func (o object) text(name string) string { s, _ := o[name].(string); return s }
func (o object) object(name string) object {
	m, _ := o[name].(map[string]any)
	return m
}
func (o object) objects(name string) (all []object) {
	list, _ := o[name].([]any)
	for _, v := range list {
		if m, ok := v.(map[string]any); ok {
			all = append(all, m)
		}
	}
	return all
}

func algorithm(name string) string { return strings.ToLower(strings.ReplaceAll(name, "-", "")) }

// isContact reports whether a text is an e-mail address or URL, or ends with an address in
// parentheses, as in SPDX.
func isContact(text string) bool { return strings.Contains(text, "@") || strings.Contains(text, "://") }

// asserted reports whether SPDX says something.
func asserted(value string) bool {
	return value != "" && value != "NOASSERTION" && value != "NONE"
}

// spdxRelations are the relationships of SPDX 2 that say what depends on what, or contains it.
var spdxRelations = []string{
	"CONTAINS", "CONTAINED_BY", "DEPENDS_ON", "DEPENDENCY_OF", "RUNTIME_DEPENDENCY_OF", "BUILD_DEPENDENCY_OF", "DEV_DEPENDENCY_OF",
	"OPTIONAL_DEPENDENCY_OF", "PROVIDED_DEPENDENCY_OF", "STATIC_LINK", "DYNAMIC_LINK", "PACKAGE_OF",
}

func (m *manifest) readSPDX(document []byte) error {
	var doc object
	if err := json.Unmarshal(document, &doc); err != nil {
		return err
	}
	creators, _ := doc.object("creationInfo")["creators"].([]any)
	for _, c := range creators {
		text, _ := c.(string)
		kind, name, _ := strings.Cut(text, ": ")
		switch {
		case kind == "Tool":
			m.tool = true
		case name != "":
			m.author, m.contact = true, m.contact || isContact(name)
		}
	}
	related, described, variants := map[string]bool{}, map[string]bool{}, map[string]bool{}
	listed, _ := doc["documentDescribes"].([]any)
	for _, id := range listed {
		text, _ := id.(string)
		described[text] = true
	}
	for _, r := range doc.objects("relationships") {
		from, to := r.text("spdxElementId"), r.text("relatedSpdxElement")
		switch kind := r.text("relationshipType"); {
		case kind == "DESCRIBES":
			described[to] = true
		case slices.Contains(spdxRelations, kind):
			related[from], related[to] = true, true
		}
	}
	for _, r := range doc.objects("relationships") {
		if r.text("relationshipType") == variantOf && described[r.text("relatedSpdxElement")] {
			variants[r.text("spdxElementId")] = true
		}
	}
	for _, p := range doc.objects("packages") {
		if described[p.text("SPDXID")] || variants[p.text("SPDXID")] {
			continue
		}
		i := item{
			name: p.text("name"), version: p.text("versionInfo"), supplier: asserted(p.text("supplier")) || asserted(p.text("originator")),
			licensed: asserted(p.text("licenseConcluded")) || asserted(p.text("licenseDeclared")), related: related[p.text("SPDXID")],
		}
		for _, r := range p.objects("externalRefs") {
			kind := r.text("referenceType")
			i.identified = i.identified || kind == "purl" || kind == "cpe23Type" || kind == "cpe22Type" || kind == "swid" || kind == "gitoid" || kind == "swh"
		}
		for _, c := range p.objects("checksums") {
			i.hashes = append(i.hashes, algorithm(c.text("algorithm")))
		}
		m.items = append(m.items, i)
	}
	return nil
}

func (m *manifest) readCycloneDX(document []byte) error {
	var doc object
	if err := json.Unmarshal(document, &doc); err != nil {
		return err
	}
	meta := doc.object("metadata")
	for _, by := range append(meta.objects("authors"), meta.object("manufacturer"), meta.object("manufacture"), meta.object("supplier")) {
		urls, _ := by["url"].([]any)
		m.author = m.author || by.text("name") != "" || by.text("email") != ""
		m.contact = m.contact || by.text("email") != "" || len(urls) > 0
		for _, c := range by.objects("contact") {
			m.contact = m.contact || c.text("email") != ""
		}
	}
	// "tools" is a list up to 1.4, and an object since.
	tools := meta.object("tools")
	m.tool = len(meta.objects("tools"))+len(tools.objects("components"))+len(tools.objects("services")) > 0
	m.context = len(meta.objects("lifecycles")) > 0
	related := map[string]bool{}
	for _, d := range doc.objects("dependencies") {
		related[d.text("ref")] = true
		on, _ := d["dependsOn"].([]any)
		for _, ref := range on {
			text, _ := ref.(string)
			related[text] = true
		}
	}
	m.addCycloneDX(meta.object("component").objects("components"), related)
	m.addCycloneDX(doc.objects("components"), related)
	return nil
}

// addCycloneDX lists components as Document.add does.
func (m *manifest) addCycloneDX(components []object, related map[string]bool) {
	for _, c := range components {
		if kind := c.text("type"); kind != "file" && kind != "operating-system" {
			i := item{
				name: c.text("name"), version: c.text("version"), licensed: len(c.objects("licenses")) > 0, related: related[c.text("bom-ref")],
				supplier:   c.text("publisher") != "" || c.text("author") != "" || c.object("supplier").text("name") != "" || c.object("manufacturer").text("name") != "" || len(c.objects("authors")) > 0,
				identified: c.text("purl") != "" || c.text("cpe") != "" || c.object("swid").text("tagId") != "",
			}
			for _, h := range c.objects("hashes") {
				i.hashes = append(i.hashes, algorithm(h.text("alg")))
			}
			m.items = append(m.items, i)
		}
		m.addCycloneDX(c.objects("components"), related)
	}
}
