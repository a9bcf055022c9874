package sbom

import (
	"errors"
	"fmt"
	"strings"

	"github.com/colophon-build/colophon/internal/limits"
	"github.com/colophon-build/colophon/internal/strict"
)

type spdxPackage struct {
	ID        string `json:"SPDXID"`
	Name      string `json:"name"`
	Version   string `json:"versionInfo"`
	Source    string `json:"sourceInfo"`
	Concluded any    `json:"licenseConcluded"`
	Declared  any    `json:"licenseDeclared"`
	Checksums []struct {
		Algorithm string `json:"algorithm"`
		Value     string `json:"checksumValue"`
	} `json:"checksums"`
	Refs []struct {
		Type    string `json:"referenceType"`
		Locator string `json:"referenceLocator"`
	} `json:"externalRefs"`
}

// license returns what the author of the document concluded or, without that, what the package
// declares.
func (p spdxPackage) license() string {
	for _, said := range []any{p.Concluded, p.Declared} {
		if text, _ := said.(string); asserted(text) {
			return text
		}
	}
	return ""
}

func (p spdxPackage) purl() string {
	for _, r := range p.Refs {
		if r.Type == "purl" {
			return r.Locator
		}
	}
	return ""
}

// variantOf relates the image of one platform to the index, in a document of Merge. Such an
// image is no package.
const variantOf = "VARIANT_OF"

// spdxDocument is a document of SPDX 2.2 or 2.3, with the members that are used here.
type spdxDocument struct {
	Context  any    `json:"@context"`
	Version  string `json:"spdxVersion"`
	ID       string `json:"SPDXID"`
	Creation struct {
		Created string `json:"created"`
	} `json:"creationInfo"`
	Annotations []struct {
		Comment string `json:"comment"`
	} `json:"annotations"`
	Describes     []string      `json:"documentDescribes"`
	Packages      []spdxPackage `json:"packages"`
	Relationships []struct {
		From string `json:"spdxElementId"`
		Type string `json:"relationshipType"`
		To   string `json:"relatedSpdxElement"`
	} `json:"relationships"`
}

// described returns the id of the one element that the document describes, alone in a set.
func (doc *spdxDocument) described() (map[string]bool, error) {
	about := map[string]bool{}
	for _, id := range doc.Describes {
		about[id] = true
	}
	for _, r := range doc.Relationships {
		if r.Type == "DESCRIBES" && r.From == doc.ID {
			about[r.To] = true
		}
	}
	if len(about) != 1 {
		return nil, fmt.Errorf("described elements: got %d, want 1", len(about))
	}
	return about, nil
}

// variants returns the ids of the images of single platforms, if about is an index.
func (doc *spdxDocument) variants(about map[string]bool) map[string]bool {
	images := map[string]bool{}
	for _, r := range doc.Relationships {
		if r.Type == variantOf && about[r.To] {
			images[r.From] = true
		}
	}
	return images
}

// readSPDX parses SPDX 2.2 and 2.3. A document of SPDX 3, which it recognizes by its
// @context, goes to readSPDX3.
func readSPDX(data []byte) (*Document, error) {
	var doc spdxDocument
	if err := strict.Unmarshal(data, limits.Statement, &doc); err != nil {
		return nil, err
	}
	d := &Document{Info: Info{Format: "SPDX"}}
	switch {
	case doc.Context != nil && doc.Version == "":
		return d, d.readSPDX3(data)
	case doc.Context != nil:
		return nil, fmt.Errorf("version: got %q, and an @context, which only SPDX 3 has", doc.Version)
	case doc.Version == "SPDX-2.2" || doc.Version == "SPDX-2.3":
		d.Version = doc.Version[len("SPDX-"):]
	default:
		return nil, fmt.Errorf("version: got %q, want SPDX 2.2, 2.3 or 3.0", doc.Version)
	}
	for _, a := range doc.Annotations {
		if file, ok := strings.CutPrefix(a.Comment, unreadSPDX); ok {
			d.Unread = append(d.Unread, file)
		}
	}
	about, err := doc.described()
	if err != nil {
		return nil, err
	}
	images := doc.variants(about)
	seen := map[string]bool{}
	var image *spdxPackage
	for i, p := range doc.Packages {
		if seen[p.ID] {
			return nil, fmt.Errorf("id of a package: got %q twice", p.ID)
		}
		seen[p.ID] = true
		if about[p.ID] {
			image = &doc.Packages[i]
			continue
		}
		if images[p.ID] {
			continue
		}
		d.List = append(d.List, Package{Name: p.Name, Version: p.Version, PURL: p.purl(), License: p.license()})
	}
	if image == nil {
		return nil, errors.New("the described element is not among the packages")
	}
	d.Name = image.Name
	if from, ok := strings.CutPrefix(image.Source, "built from "); ok { // free text, as cmd/colophon-scan writes it
		d.built(from)
	}
	for _, c := range image.Checksums {
		if c.Algorithm == "SHA256" {
			if err := d.subject(c.Value); err != nil {
				return nil, err
			}
		}
	}
	return d, d.created(doc.Creation.Created)
}

// element is a node in the graph of an SPDX 3 document (SPDX 3.0.1, "JSON-LD
// serialization"), with the members that are used here.
type element struct {
	Type     string   `json:"type"`
	ID       string   `json:"spdxId"`
	BlankID  string   `json:"@id"`
	Spec     string   `json:"specVersion"`
	Created  string   `json:"created"`
	Creation any      `json:"creationInfo"` // id of a node, or the node itself
	Roots    []string `json:"rootElement"`
	Name     string   `json:"name"`
	Version  string   `json:"software_packageVersion"`
	PURL     string   `json:"software_packageUrl"`
	External []struct {
		Type string `json:"externalIdentifierType"`
		ID   string `json:"identifier"`
	} `json:"externalIdentifier"`
	Verified []struct {
		Algorithm string `json:"algorithm"`
		Value     string `json:"hashValue"`
	} `json:"verifiedUsing"`
}

func (e *element) purl() string {
	for _, x := range e.External {
		if e.PURL == "" && (x.Type == "packageUrl" || x.Type == "packageURL") {
			return x.ID
		}
	}
	return e.PURL
}

// readSPDX3 parses SPDX 3.0.
func (d *Document) readSPDX3(data []byte) error {
	var doc struct {
		Graph []element `json:"@graph"`
	}
	if err := strict.Unmarshal(data, limits.Statement, &doc); err != nil {
		return err
	}
	nodes := map[string]*element{}
	var whole *element
	for i := range doc.Graph {
		e := &doc.Graph[i]
		id := e.ID
		if id == "" {
			id = e.BlankID
		}
		if id == "" || nodes[id] != nil {
			return fmt.Errorf("id of an element: got %q, want one that no other element has", id)
		}
		nodes[id] = e
		if e.Type == "SpdxDocument" {
			if whole != nil {
				return errors.New("the graph has two documents, want one")
			}
			whole = e
		}
	}
	if whole == nil {
		return errors.New("the graph has no document")
	}
	image, err := rootOf(nodes, whole)
	if err != nil {
		return err
	}
	for i := range doc.Graph {
		if e := &doc.Graph[i]; e.Type == "software_Package" && e != image {
			d.List = append(d.List, Package{Name: e.Name, Version: e.Version, PURL: e.purl()})
		}
	}
	d.Name = image.Name
	for _, v := range image.Verified {
		if v.Algorithm == "sha256" {
			if err := d.subject(v.Value); err != nil {
				return err
			}
		}
	}
	return d.creation(nodes, whole)
}

// rootOf returns the element that the document describes: its root element or, if
// that is an SBOM, the root element of the SBOM.
func rootOf(nodes map[string]*element, e *element) (*element, error) {
	for range 3 {
		if len(e.Roots) != 1 {
			return nil, fmt.Errorf("described elements: got %d, want 1", len(e.Roots))
		}
		next := nodes[e.Roots[0]]
		if next == nil {
			return nil, errors.New("the described element is not in the graph")
		}
		if e = next; e.Type == "software_Package" {
			return e, nil
		}
	}
	return nil, fmt.Errorf("described element: got a %q, want a software_Package", e.Type)
}

// creation reads version and creation time from the node that the document names or
// contains.
func (d *Document) creation(nodes map[string]*element, whole *element) error {
	var spec, at string
	switch c := whole.Creation.(type) {
	case string:
		if e := nodes[c]; e != nil {
			spec, at = e.Spec, e.Created
		}
	case map[string]any:
		spec, _ = c["specVersion"].(string)
		at, _ = c["created"].(string)
	}
	if spec != "3.0.0" && spec != "3.0.1" {
		return fmt.Errorf("version: got %q, want SPDX 2.2, 2.3 or 3.0", spec)
	}
	d.Version = spec
	return d.created(at)
}
