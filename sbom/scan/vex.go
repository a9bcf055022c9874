package scan

import (
	"fmt"
	"maps"
	"slices"
	"strings"
)

// readOpenVEX reads OpenVEX 0.2 (github.com/openvex/spec).
func readOpenVEX(raw []byte) (*Document, error) {
	type component struct {
		ID          string            `json:"@id"`
		Identifiers map[string]string `json:"identifiers"`
	}
	d, err := decode[struct {
		Context    string `json:"@context"`
		Author     string `json:"author"`
		Statements []struct {
			Vulnerability struct {
				Name    string   `json:"name"`
				Aliases []string `json:"aliases"`
			} `json:"vulnerability"`
			Products []struct {
				component
				Subcomponents []component `json:"subcomponents"`
			} `json:"products"`
			Status Status `json:"status"`
		} `json:"statements"`
	}](raw, OpenVEX)
	if err != nil {
		return nil, err
	}
	if !strings.HasPrefix(d.Context, "https://openvex.dev/ns") {
		return nil, fmt.Errorf("openvex: @context: got %q, want https://openvex.dev/ns/VERSION", d.Context)
	}
	out := &Document{Format: OpenVEX, Tool: d.Author}
	purl := func(c component) string {
		if p := c.Identifiers["purl"]; p != "" {
			return p
		}
		if strings.HasPrefix(c.ID, "pkg:") {
			return c.ID
		}
		return ""
	}
	for _, s := range d.Statements {
		if !slices.Contains([]Status{Affected, NotAffected, Fixed, Investigating}, s.Status) {
			return nil, fmt.Errorf("openvex: status: got %q, want affected, not_affected, fixed or under_investigation", s.Status)
		}
		base := Finding{ID: s.Vulnerability.Name, Aliases: s.Vulnerability.Aliases, Status: s.Status}
		for _, p := range s.Products {
			base.Product = p.ID
			if len(p.Subcomponents) == 0 {
				out.add(base, purl(p.component), true)
			}
			for _, c := range p.Subcomponents {
				part := base
				part.Package = c.ID // the name, if it is no package URL
				out.add(part, purl(c), false)
			}
		}
		if len(s.Products) == 0 {
			out.Findings = append(out.Findings, base)
		}
	}
	return out, out.check()
}

// add adds a statement about a package URL; without one, about f.Package. A product with the package URL of an image
// means all packages in it.
func (d *Document) add(f Finding, purl string, product bool) {
	if purl != "" && !(product && ofImage(purl)) {
		f.PURL = purl
		f.Package, f.Version = splitPURL(purl)
	}
	d.Findings = append(d.Findings, f)
}

func ofImage(purl string) bool {
	return strings.HasPrefix(purl, "pkg:oci/") || strings.HasPrefix(purl, "pkg:docker/")
}

// readCSAF reads CSAF 2.0 in the profile VEX (docs.oasis-open.org/csaf/csaf/v2.0): which products have which
// status, by the names that the product tree gives them.
func readCSAF(raw []byte) (*Document, error) {
	d, err := decode[struct {
		Document struct {
			Version   string `json:"csaf_version"`
			Publisher struct {
				Name string `json:"name"`
			} `json:"publisher"`
		} `json:"document"`
		Tree            csafTree `json:"product_tree"`
		Vulnerabilities []struct {
			CVE string `json:"cve"`
			IDs []struct {
				Text string `json:"text"`
			} `json:"ids"`
			Status map[string][]string `json:"product_status"`
		} `json:"vulnerabilities"`
	}](raw, CSAF)
	if err != nil {
		return nil, err
	}
	if !strings.HasPrefix(d.Document.Version, "2.") {
		return nil, fmt.Errorf("csaf: csaf_version: got %q, want 2.0", d.Document.Version)
	}
	purls := map[string]string{}
	for _, p := range d.Tree.Products {
		p.note(purls)
	}
	for _, b := range d.Tree.Branches {
		b.note(purls)
	}
	for _, r := range d.Tree.Relationships {
		r.Product.note(purls)
		if purls[r.Product.ID] == "" {
			purls[r.Product.ID] = purls[r.Part]
		}
	}
	statuses := map[string]Status{
		"known_affected": Affected, "first_affected": Affected, "last_affected": Affected, "known_not_affected": NotAffected,
		"fixed": Fixed, "first_fixed": Fixed, "under_investigation": Investigating,
	}
	out := &Document{Format: CSAF, Tool: d.Document.Publisher.Name}
	for _, v := range d.Vulnerabilities {
		base := Finding{ID: v.CVE}
		for _, id := range v.IDs {
			if base.ID == "" {
				base.ID = id.Text
			} else {
				base.Aliases = append(base.Aliases, id.Text)
			}
		}
		for _, status := range slices.Sorted(maps.Keys(v.Status)) {
			if base.Status = statuses[status]; base.Status == "" {
				continue // recommended: a product to use in place of others
			}
			for _, product := range v.Status[status] {
				base.Product = product
				out.add(base, purls[product], false)
			}
		}
	}
	return out, out.check()
}

type csafTree struct {
	Branches      []csafBranch  `json:"branches"`
	Products      []csafProduct `json:"full_product_names"`
	Relationships []struct {
		Part    string      `json:"product_reference"`
		Product csafProduct `json:"full_product_name"`
	} `json:"relationships"`
}

type csafBranch struct {
	Branches []csafBranch `json:"branches"`
	Product  *csafProduct `json:"product"`
}

type csafProduct struct {
	ID     string `json:"product_id"`
	Helper struct {
		PURL string `json:"purl"`
	} `json:"product_identification_helper"`
}

func (p *csafProduct) note(purls map[string]string) {
	if p != nil && p.Helper.PURL != "" {
		purls[p.ID] = p.Helper.PURL
	}
}

func (b csafBranch) note(purls map[string]string) {
	b.Product.note(purls)
	for _, c := range b.Branches { // no deeper than limits.JSONDepth
		c.note(purls)
	}
}

// readCycloneDX reads the vulnerabilities of a CycloneDX document (cyclonedx.org/capabilities/vex).
func readCycloneDX(raw []byte) (*Document, error) {
	d, err := decode[struct {
		Components      []cdxComponent `json:"components"`
		Vulnerabilities []struct {
			ID      string `json:"id"`
			Ratings []struct {
				Severity string `json:"severity"`
			} `json:"ratings"`
			References []struct {
				ID string `json:"id"`
			} `json:"references"`
			Analysis struct {
				State string `json:"state"`
			} `json:"analysis"`
			Affects []struct {
				Ref string `json:"ref"`
			} `json:"affects"`
		} `json:"vulnerabilities"`
	}](raw, CycloneDX)
	if err != nil {
		return nil, err
	}
	states := map[string]Status{
		"": "", "resolved": Fixed, "resolved_with_pedigree": Fixed, "exploitable": Affected, "in_triage": Investigating, "false_positive": NotAffected, "not_affected": NotAffected,
	}
	purls := map[string]string{}
	for _, c := range d.Components {
		c.note(purls)
	}
	out := &Document{Format: CycloneDX}
	for _, v := range d.Vulnerabilities {
		base := Finding{ID: v.ID}
		known := false
		if base.Status, known = states[v.Analysis.State]; !known {
			return nil, fmt.Errorf("cyclonedx: state: got %q, want one of the specification", v.Analysis.State)
		}
		for _, r := range v.References {
			base.Aliases = append(base.Aliases, r.ID)
		}
		if len(v.Ratings) > 0 {
			base.Severity = v.Ratings[0].Severity
		}
		for _, a := range v.Affects {
			base.Product = a.Ref
			purl := purls[a.Ref]
			if _, part, ok := strings.Cut(a.Ref, "#"); ok && purl == "" { // BOM-Link
				purl = part
			}
			if purl == "" {
				purl = a.Ref
			}
			if !strings.HasPrefix(purl, "pkg:") {
				purl = ""
			}
			out.add(base, purl, false)
		}
		if len(v.Affects) == 0 {
			out.Findings = append(out.Findings, base)
		}
	}
	return out, out.check()
}

type cdxComponent struct {
	Ref        string         `json:"bom-ref"`
	PURL       string         `json:"purl"`
	Components []cdxComponent `json:"components"`
}

func (c cdxComponent) note(purls map[string]string) {
	if c.Ref != "" && c.PURL != "" {
		purls[c.Ref] = c.PURL
	}
	for _, inner := range c.Components {
		inner.note(purls)
	}
}
