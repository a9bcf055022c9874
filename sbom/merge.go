package sbom

import (
	"bytes"
	"cmp"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	v1 "github.com/google/go-containerregistry/pkg/v1"

	"github.com/colophon-build/colophon/internal/limits"
)

// Part is the SBOM of one platform's image.
type Part struct {
	Document []byte
	Type     string // predicate type
	Platform string // "linux/arm64"; empty: the digest of the image
}

// Index is the image for several platforms that a merged SBOM describes.
type Index struct {
	Name   string  // empty: the name in the parts
	Digest v1.Hash // zero if it is not known
}

// Merge returns one SBOM of an index from the SBOMs of its images: SPDX 2.2 or 2.3, or
// CycloneDX, all in the same version. It says which package is in which image: in SPDX, the
// image CONTAINS the package and is VARIANT_OF the index; in CycloneDX, the package has the
// property colophon:platform for each of its images, which are variants in the pedigree of the
// index. The order of the parts does not matter. Merge fails if a part has no digest of its
// image, if two parts are about the same image, or if they name different images.
func Merge(index Index, parts []Part) ([]byte, error) {
	if len(parts) == 0 {
		return nil, errors.New("got no SBOM, want one for each platform")
	}
	m := merger{index: index}
	for _, p := range parts {
		if err := m.read(p); err != nil {
			return nil, err
		}
	}
	if err := m.compare(); err != nil {
		return nil, err
	}
	m.rename()
	merge := m.mergeCycloneDX
	if m.parts[0].doc.Format == "SPDX" {
		merge = m.mergeSPDX
	}
	doc, err := merge()
	if err != nil {
		return nil, err
	}
	raw, err := canonical(doc)
	if err != nil {
		return nil, err
	}
	if _, err := Read(raw, parts[0].Type); err != nil {
		return nil, fmt.Errorf("merged SBOM: %w", err)
	}
	return raw, nil
}

type merger struct {
	index Index
	parts []*part
}

// part is a document that is merged.
type part struct {
	platform string
	doc      *Document
	tree     object
	root     object // what it describes
	elements []object
	id       string // the name of the member with an element's identifier
}

func (m *merger) read(p Part) error {
	doc, err := Read(p.Document, p.Type)
	if err != nil {
		return err
	}
	if doc.SubjectDigest == "" {
		return fmt.Errorf("%s document about %q: it has no sha256 digest of its image, so nothing says which one it is", doc.Format, doc.Name)
	}
	if strings.HasPrefix(doc.Version, "3") {
		return fmt.Errorf("SPDX document: version: got %s, want 2.2 or 2.3", doc.Version)
	}
	out := &part{platform: cmp.Or(p.Platform, doc.SubjectDigest), doc: doc}
	dec := json.NewDecoder(bytes.NewReader(p.Document))
	dec.UseNumber()
	if err := dec.Decode(&out.tree); err != nil {
		return err
	}
	if doc.Format == "SPDX" {
		err = out.splitSPDX()
	} else {
		out.splitCycloneDX()
	}
	m.parts = append(m.parts, out)
	return err
}

// compare returns an error unless the parts can be one document, and sorts them.
func (m *merger) compare() error {
	slices.SortFunc(m.parts, func(a, b *part) int { return cmp.Compare(a.doc.SubjectDigest, b.doc.SubjectDigest) })
	first := m.parts[0].doc
	m.index.Name = cmp.Or(m.index.Name, first.Name)
	platforms := map[string]bool{}
	for i, p := range m.parts {
		switch {
		case p.doc.Format != first.Format || p.doc.Version != first.Version:
			return fmt.Errorf("got SBOMs in %s %s and %s %s, want one format and version", first.Format, first.Version, p.doc.Format, p.doc.Version)
		case p.doc.Name != first.Name:
			return fmt.Errorf("got SBOMs of %q and %q, want those of one image", first.Name, p.doc.Name)
		case i > 0 && p.doc.SubjectDigest == m.parts[i-1].doc.SubjectDigest:
			return fmt.Errorf("got two SBOMs of %s", p.doc.SubjectDigest)
		case platforms[p.platform]:
			return fmt.Errorf("got two SBOMs for %s", p.platform)
		case p.doc.SubjectDigest == m.index.Digest.String():
			return fmt.Errorf("%s is the index itself, want SBOMs of its images", p.doc.SubjectDigest)
		}
		platforms[p.platform] = true
	}
	return nil
}

// references are the members of both formats whose values are identifiers of elements.
var references = []string{"SPDXID", "spdxElementId", "relatedSpdxElement", "hasFiles", "bom-ref", "ref", "dependsOn", "provides", "assemblies", "dependencies", "subjects"}

// rename gives elements that have the same identifier in several parts, and another content,
// another one.
func (m *merger) rename() {
	contents := map[string]map[string]bool{}
	for _, p := range m.parts {
		p.each(func(id, content string) {
			if contents[id] == nil {
				contents[id] = map[string]bool{}
			}
			contents[id][content] = true
		})
	}
	for _, p := range m.parts {
		names := map[string]string{}
		p.each(func(id, content string) {
			if len(contents[id]) > 1 {
				names[id] = id + "-" + content[:16]
			}
		})
		replace(p.tree, names, false)
		replace(p.root, names, false)
	}
}

// each calls visit with the identifier and a hash of the content of each element.
func (p *part) each(visit func(id, content string)) {
	for _, e := range p.elements {
		if id := e.text(p.id); id != "" {
			rest := object{}
			for k, v := range e {
				if k != p.id {
					rest[k] = v
				}
			}
			visit(id, sum(rest))
		}
	}
}

// replace replaces the identifiers in v; referring says that v is the value of a reference.
func replace(v any, names map[string]string, referring bool) any {
	switch v := v.(type) {
	case object:
		return replace(map[string]any(v), names, referring)
	case map[string]any:
		for k := range v {
			v[k] = replace(v[k], names, slices.Contains(references, k))
		}
	case []any:
		for i := range v {
			v[i] = replace(v[i], names, referring)
		}
	case string:
		if name := names[v]; referring && name != "" {
			return name
		}
	}
	return v
}

// sum returns a hash of a JSON value, in hexadecimal.
func sum(v any) string {
	raw, _ := canonical(v) // fails only for what JSON cannot have
	h := sha256.Sum256(raw)
	return hex.EncodeToString(h[:])
}

// canonical writes JSON with sorted members.
func canonical(v any) ([]byte, error) {
	var buf bytes.Buffer
	enc := json.NewEncoder(&buf)
	enc.SetEscapeHTML(false)
	if err := enc.Encode(v); err != nil {
		return nil, err
	}
	if buf.Len() > limits.Statement {
		return nil, fmt.Errorf("document: got %d bytes, want at most %d", buf.Len(), limits.Statement)
	}
	return bytes.TrimSuffix(buf.Bytes(), []byte("\n")), nil
}

// uuid returns a UUID (RFC 9562, version 8) of the content.
func uuid(content any) string {
	raw, _ := hex.DecodeString(sum(content))
	raw[6], raw[8] = raw[6]&0x0f|0x80, raw[8]&0x3f|0x80
	s := hex.EncodeToString(raw[:16])
	return strings.Join([]string{s[:8], s[8:12], s[12:16], s[16:20], s[20:]}, "-")
}

// union returns the values of the lists, each once, in the order of their JSON.
func union(lists ...[]any) []any {
	seen := map[string]any{}
	for _, l := range lists {
		for _, v := range l {
			raw, _ := canonical(v)
			seen[string(raw)] = v
		}
	}
	var keys []string
	for k := range seen {
		keys = append(keys, k)
	}
	slices.Sort(keys)
	var out []any
	for _, k := range keys {
		out = append(out, seen[k])
	}
	return out
}

// combine returns the object that has the members of all: the lists together, and of other
// values the first one.
func combine(all []object) object {
	out := object{}
	for _, o := range all {
		for k, v := range o {
			list, isList := v.([]any)
			before, had := out[k]
			was, wasList := before.([]any)
			switch {
			case isList && (wasList || !had):
				out[k] = union(was, list)
			case !had:
				out[k] = v
			}
		}
	}
	return out
}

// created returns the time of the newest part.
func (m *merger) created() time.Time {
	var at time.Time
	for _, p := range m.parts {
		if p.doc.Created.After(at) {
			at = p.doc.Created
		}
	}
	return at
}

// version is the digest of the index, or empty.
func (m *merger) version() string {
	if m.index.Digest.Hex == "" {
		return ""
	}
	return m.index.Digest.String()
}

// trees returns the documents of the parts.
func (m *merger) trees() (all []object) {
	for _, p := range m.parts {
		all = append(all, p.tree)
	}
	return all
}
