package scan

import (
	"fmt"
	"strings"
)

// readSARIF reads SARIF 2.1.0 (docs.oasis-open.org/sarif/sarif/v2.1.0). The rule of a result is the
// vulnerability; which package has it stands in words only, so that it is not read.
func readSARIF(raw []byte) (*Document, error) {
	d, err := decode[struct {
		Version string `json:"version"`
		Runs    []struct {
			Tool struct {
				Driver struct {
					Name    string `json:"name"`
					Version string `json:"version"`
				} `json:"driver"`
			} `json:"tool"`
			Results []struct {
				RuleID       string `json:"ruleId"`
				Level        string `json:"level"`
				Suppressions []struct {
					Status string `json:"status"`
				} `json:"suppressions"`
			} `json:"results"`
		} `json:"runs"`
	}](raw, SARIF)
	if err != nil {
		return nil, err
	}
	if d.Version != "2.1.0" {
		return nil, fmt.Errorf("sarif: version: got %q, want 2.1.0", d.Version)
	}
	out := &Document{Format: SARIF}
	for _, run := range d.Runs {
		out.Tool = tool(run.Tool.Driver.Name, run.Tool.Driver.Version)
		for _, r := range run.Results {
			if r.RuleID == "" {
				continue
			}
			f := Finding{ID: r.RuleID, Severity: r.Level}
			for _, s := range r.Suppressions {
				if s.Status == "" || s.Status == "accepted" { // section 3.35.3
					f.Status = NotAffected
				}
			}
			out.Findings = append(out.Findings, f)
		}
	}
	return out, nil
}

func tool(name, version string) string { return strings.TrimSpace(name + " " + version) }

// readTrivy reads the JSON of Trivy (trivy.dev, "Reporting", schema version 2).
func readTrivy(raw []byte) (*Document, error) {
	d, err := decode[struct {
		SchemaVersion int `json:"SchemaVersion"`
		Trivy         struct {
			Version string `json:"Version"`
		} `json:"Trivy"`
		Results []struct {
			Vulnerabilities []struct {
				VulnerabilityID  string   `json:"VulnerabilityID"`
				VendorIDs        []string `json:"VendorIDs"`
				PkgName          string   `json:"PkgName"`
				InstalledVersion string   `json:"InstalledVersion"`
				Severity         string   `json:"Severity"`
				PkgIdentifier    struct {
					PURL string `json:"PURL"`
				} `json:"PkgIdentifier"`
			} `json:"Vulnerabilities"`
		} `json:"Results"`
	}](raw, Trivy)
	if err != nil {
		return nil, err
	}
	if d.SchemaVersion != 2 {
		return nil, fmt.Errorf("trivy: SchemaVersion: got %d, want 2", d.SchemaVersion)
	}
	out := &Document{Format: Trivy, Tool: tool("Trivy", d.Trivy.Version)}
	for _, r := range d.Results {
		for _, v := range r.Vulnerabilities {
			out.Findings = append(out.Findings, Finding{ID: v.VulnerabilityID, Aliases: v.VendorIDs, Package: v.PkgName, Version: v.InstalledVersion, PURL: v.PkgIdentifier.PURL, Severity: v.Severity})
		}
	}
	return out, out.check()
}

// readGrype reads the JSON of Grype (github.com/anchore/grype, "Output formats").
func readGrype(raw []byte) (*Document, error) {
	type match struct {
		Vulnerability struct {
			ID       string `json:"id"`
			Severity string `json:"severity"`
		} `json:"vulnerability"`
		Related []struct {
			ID string `json:"id"`
		} `json:"relatedVulnerabilities"`
		Artifact struct {
			Name    string `json:"name"`
			Version string `json:"version"`
			PURL    string `json:"purl"`
		} `json:"artifact"`
		Rules []struct {
			VEXStatus string `json:"vex-status"`
		} `json:"appliedIgnoreRules"`
	}
	d, err := decode[struct {
		Matches    []match `json:"matches"`
		Ignored    []match `json:"ignoredMatches"`
		Descriptor struct {
			Name    string `json:"name"`
			Version string `json:"version"`
		} `json:"descriptor"`
	}](raw, Grype)
	if err != nil {
		return nil, err
	}
	out := &Document{Format: Grype, Tool: tool(d.Descriptor.Name, d.Descriptor.Version)}
	add := func(m match, status Status) {
		f := Finding{ID: m.Vulnerability.ID, Package: m.Artifact.Name, Version: m.Artifact.Version, PURL: m.Artifact.PURL, Severity: m.Vulnerability.Severity, Status: status}
		for _, r := range m.Related {
			f.Aliases = append(f.Aliases, r.ID)
		}
		out.Findings = append(out.Findings, f)
	}
	for _, m := range d.Matches {
		add(m, "")
	}
	for _, m := range d.Ignored {
		for _, r := range m.Rules {
			if s := Status(r.VEXStatus); s == NotAffected || s == Fixed {
				add(m, s)
				break
			}
		}
	}
	return out, out.check()
}

// readOSV reads the JSON of OSV-Scanner (google.github.io/osv-scanner, "Output").
func readOSV(raw []byte) (*Document, error) {
	d, err := decode[struct {
		Results []struct {
			Packages []struct {
				Package struct {
					Name    string `json:"name"`
					Version string `json:"version"`
				} `json:"package"`
				Vulnerabilities []struct {
					ID      string   `json:"id"`
					Aliases []string `json:"aliases"`
				} `json:"vulnerabilities"`
			} `json:"packages"`
		} `json:"results"`
	}](raw, OSV)
	if err != nil {
		return nil, err
	}
	out := &Document{Format: OSV, Tool: "OSV-Scanner"}
	for _, r := range d.Results {
		for _, p := range r.Packages {
			for _, v := range p.Vulnerabilities {
				out.Findings = append(out.Findings, Finding{ID: v.ID, Aliases: v.Aliases, Package: p.Package.Name, Version: p.Package.Version})
			}
		}
	}
	return out, out.check()
}

// check returns an error if a finding does not say what was found.
func (d *Document) check() error {
	for _, f := range d.Findings {
		if f.ID == "" {
			return fmt.Errorf("%s: a finding has no id", d.Format)
		}
	}
	return nil
}
