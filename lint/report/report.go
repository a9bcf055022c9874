// Package report writes what package lint found in the formats that people and CI systems read:
// text, JSON (spec/lint), SARIF 2.1.0, GitHub's workflow commands, and GitLab's code quality.
package report

import (
	"bytes"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"maps"
	"slices"
	"strings"

	"github.com/colophon-build/colophon/internal/printable"
	"github.com/colophon-build/colophon/internal/sarif"
	"github.com/colophon-build/colophon/lint"
	"github.com/colophon-build/colophon/lint/finding"
)

// Formats maps the names of formats to their writers. version is that of this program.
func Formats() map[string]func(d *Document, version string) ([]byte, error) {
	return map[string]func(*Document, string) ([]byte, error){
		"text":   func(d *Document, _ string) ([]byte, error) { return d.text(), nil },
		"json":   func(d *Document, _ string) ([]byte, error) { return indent(d) },
		"sarif":  func(d *Document, version string) ([]byte, error) { return d.sarif(version) },
		"github": func(d *Document, _ string) ([]byte, error) { return d.github(), nil },
		"gitlab": func(d *Document, _ string) ([]byte, error) { return d.gitlab() },
	}
}

// Names returns the names of the formats, sorted.
func Names() []string { return slices.Sorted(maps.Keys(Formats())) }

// Outcomes of a document.
const (
	Accepted  = "accepted"
	Rejected  = "rejected"
	Undecided = "undecided"
)

// Document is what linting found, as programs read it (spec/lint).
type Document struct {
	Outcome   string            `json:"outcome"`             // "accepted", "rejected" or "undecided"
	FailOn    finding.Severity  `json:"failOn"`              // findings of this severity, or a greater one, are the outcome "rejected"
	Files     int               `json:"files"`               // files of the repository
	Checked   int               `json:"checked"`             // files that rules are about
	Findings  []finding.Finding `json:"findings"`            // sorted by file and place
	Ignored   []lint.Ignored    `json:"ignored"`             // findings that a comment or .colophon.yaml ignores, with the reasons
	Undecided []finding.Finding `json:"undecided,omitempty"` // what could not be found out
	Mended    []string          `json:"mended,omitempty"`    // files that --fix has changed; the findings are those after it

	rules []finding.Rule
}

// Of returns the document about a report. The outcome is "rejected" if a finding is at least as
// severe as failOn; else "undecided" if something could not be found out, unless it was not to be
// asked for (offline); else "accepted".
func Of(r *lint.Report, failOn finding.Severity, offline bool) *Document {
	d := &Document{Outcome: Accepted, FailOn: failOn, Files: r.Files, Checked: r.Checked,
		Findings: r.Findings, Ignored: r.Ignored, Undecided: r.Undecided, rules: r.Rules}
	if d.Findings == nil {
		d.Findings = []finding.Finding{}
	}
	if d.Ignored == nil {
		d.Ignored = []lint.Ignored{}
	}
	switch {
	case r.Worst().AtLeast(failOn):
		d.Outcome = Rejected
	case len(r.Undecided) > 0 && !offline:
		d.Outcome = Undecided
	}
	return d
}

func indent(v any) ([]byte, error) {
	var out bytes.Buffer
	enc := json.NewEncoder(&out)
	enc.SetIndent("", "  ")
	enc.SetEscapeHTML(false)
	err := enc.Encode(v)
	return out.Bytes(), err
}

// text returns a paragraph for each finding.
func (d *Document) text() []byte {
	var b bytes.Buffer
	write := func(f *finding.Finding, word string) {
		fmt.Fprintf(&b, "%s: %s: %s [%s]\n", place(f.Position), word, f.Message, f.Rule)
		fmt.Fprintf(&b, "  why:  %s\n", f.Why)
		if f.Mend != "" {
			fmt.Fprintf(&b, "  mend: %s\n", f.Mend)
		}
		b.WriteByte('\n')
	}
	for i := range d.Findings {
		write(&d.Findings[i], string(d.Findings[i].Severity))
	}
	for i := range d.Undecided {
		write(&d.Undecided[i], "undecided")
	}
	for _, i := range d.Ignored {
		fmt.Fprintf(&b, "%s: ignored: %s [%s]\n  reason: %s (%s)\n\n", place(i.Position), i.Message, i.Rule, printable.Line(i.Reason), place(i.By))
	}
	return b.Bytes()
}

// place returns a position for people: whoever wrote the repository chose the name of the file.
func place(p finding.Position) string { return printable.Line(p.String()) }

// Summary returns one line about a document.
func (d *Document) Summary() string {
	var parts []string
	for _, s := range slices.Backward(finding.Severities()) {
		n := 0
		for _, f := range d.Findings {
			if f.Severity == s {
				n++
			}
		}
		if n > 0 {
			parts = append(parts, printable.Count(n, string(s)))
		}
	}
	if len(parts) == 0 {
		parts = []string{"no findings"}
	}
	if n := len(d.Undecided); n > 0 {
		parts = append(parts, fmt.Sprintf("%d undecided", n))
	}
	if n := len(d.Ignored); n > 0 {
		parts = append(parts, fmt.Sprintf("%d ignored", n))
	}
	return fmt.Sprintf("%s; checked %d of %s", strings.Join(parts, ", "), d.Checked, printable.Count(d.Files, "file"))
}

// sarif returns one result for each finding; those that are ignored have a suppression.
func (d *Document) sarif(version string) ([]byte, error) {
	var rules, results []sarif.Object
	for _, r := range d.rules {
		rule := sarif.Object{"id": r.ID, "shortDescription": sarif.Object{"text": r.Title}, "fullDescription": sarif.Object{"text": r.Why},
			"defaultConfiguration": sarif.Object{"level": string(r.Severity)}}
		if r.Link != "" {
			rule["helpUri"] = r.Link
		}
		rules = append(rules, rule)
	}
	for _, f := range d.Findings {
		results = append(results, result(f, string(f.Severity)))
	}
	for _, f := range d.Undecided {
		results = append(results, result(f, "warning"))
	}
	for _, i := range d.Ignored {
		kind := "inSource"
		if i.By.File != i.File {
			kind = "external"
		}
		r := result(i.Finding, string(i.Severity))
		r["suppressions"] = []sarif.Object{{"kind": kind, "status": "accepted", "justification": i.Reason}}
		results = append(results, r)
	}
	return sarif.Log(version, rules, results)
}

func result(f finding.Finding, level string) sarif.Object {
	physical := sarif.Object{"artifactLocation": sarif.Artifact(f.File)}
	if region := region(f.Position); region != nil {
		physical["region"] = region
	}
	text := f.Message
	if f.Mend != "" {
		text += ". Mend: " + f.Mend
	}
	r := sarif.Object{
		"ruleId": f.Rule, "kind": "fail", "level": level, "message": sarif.Object{"text": text},
		"locations": []sarif.Object{{"physicalLocation": physical}},
	}
	var replacements []sarif.Object
	for _, e := range f.Edits {
		if e.File == f.File {
			replacements = append(replacements, sarif.Object{
				"deletedRegion":   sarif.Object{"byteOffset": e.Start, "byteLength": e.End - e.Start},
				"insertedContent": sarif.Object{"text": e.New},
			})
		}
	}
	if len(replacements) == len(f.Edits) && len(replacements) > 0 {
		r["fixes"] = []sarif.Object{{"artifactChanges": []sarif.Object{{"artifactLocation": sarif.Artifact(f.File), "replacements": replacements}}}}
	}
	return r
}

func region(p finding.Position) sarif.Object {
	if p.Line == 0 {
		return nil
	}
	r := sarif.Object{"startLine": p.Line}
	if p.Column > 0 {
		r["startColumn"] = p.Column
	}
	if p.EndLine > 0 && p.EndColumn > 0 {
		r["endLine"], r["endColumn"] = p.EndLine, p.EndColumn
	}
	return r
}

// Escapes of GitHub's workflow commands: of a message, and of a property.
var (
	message  = strings.NewReplacer("%", "%25", "\r", "%0D", "\n", "%0A")
	property = strings.NewReplacer("%", "%25", "\r", "%0D", "\n", "%0A", ":", "%3A", ",", "%2C")
)

// github returns a workflow command for each finding.
func (d *Document) github() []byte {
	var b bytes.Buffer
	write := func(f finding.Finding, command string) {
		fmt.Fprintf(&b, "::%s file=%s", command, property.Replace(f.File))
		if f.Line > 0 {
			fmt.Fprintf(&b, ",line=%d", f.Line)
		}
		if f.Column > 0 {
			fmt.Fprintf(&b, ",col=%d", f.Column)
		}
		if f.EndLine > 0 {
			fmt.Fprintf(&b, ",endLine=%d,endColumn=%d", f.EndLine, f.EndColumn)
		}
		text := f.Message + "\n" + f.Why
		if f.Mend != "" {
			text += "\nMend: " + f.Mend
		}
		fmt.Fprintf(&b, ",title=%s::%s\n", property.Replace(f.Rule), message.Replace(text))
	}
	for _, f := range d.Findings {
		command := string(f.Severity)
		if f.Severity == finding.Note {
			command = "notice"
		}
		write(f, command)
	}
	for _, f := range d.Undecided {
		f.Message = "undecided: " + f.Message
		write(f, "warning")
	}
	return b.Bytes()
}

// issue is a finding as GitLab's code quality takes it.
type issue struct {
	Description string   `json:"description"`
	CheckName   string   `json:"check_name"`
	Fingerprint string   `json:"fingerprint"` // must be unique, and the same as long as the finding is
	Severity    string   `json:"severity"`
	Location    location `json:"location"`
}

type location struct {
	Path  string `json:"path"`
	Lines lines  `json:"lines"`
}

type lines struct {
	Begin int `json:"begin"`
}

// gitlab returns an issue for each finding.
func (d *Document) gitlab() ([]byte, error) {
	severity := map[finding.Severity]string{finding.Note: "info", finding.Warning: "major", finding.Error: "critical"}
	seen := map[string]int{}
	issues := []issue{}
	add := func(f finding.Finding, severity, text string) {
		// Without the line: what is added above a finding does not make it a new one.
		key := f.Rule + "\x00" + f.File + "\x00" + f.Message
		sum := sha256.Sum256(fmt.Appendf(nil, "%s\x00%d", key, seen[key]))
		seen[key]++
		issues = append(issues, issue{Description: text, CheckName: f.Rule, Fingerprint: hex.EncodeToString(sum[:]), Severity: severity,
			Location: location{Path: f.File, Lines: lines{Begin: max(1, f.Line)}}})
	}
	for _, f := range d.Findings {
		add(f, severity[f.Severity], f.Message)
	}
	for _, f := range d.Undecided {
		add(f, "minor", "undecided: "+f.Message)
	}
	return indent(issues)
}
