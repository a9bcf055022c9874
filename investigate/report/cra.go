package report

import (
	"bytes"
	"fmt"
	"slices"
	"strings"

	"github.com/colophon-build/colophon/internal/printable"
	"github.com/colophon-build/colophon/investigate"
	"github.com/colophon-build/colophon/verify"
)

// Kind is a report that the Cyber Resilience Act (Regulation (EU) 2024/2847, Article 14(4)) demands
// of a manufacturer about a severe incident.
type Kind string

// The three reports.
const (
	Early Kind = "early" // early warning, within 24 hours: Article 14(4)(a)
	After Kind = "72h"   // incident notification, within 72 hours: (b)
	Final Kind = "final" // final report, within a month after that: (c)
)

// Draft is a report for a person to check, complete and send. Nothing sends it.
type Draft struct {
	Kind   Kind    `json:"kind"`
	Basis  string  `json:"basis"` // article
	Due    string  `json:"due"`
	Case   string  `json:"case"` // digest of the manifest of the case file; empty if it has none
	Fields []Field `json:"fields"`
}

// Field is a part of a draft.
type Field struct {
	Name  string   `json:"name"`
	Asked string   `json:"asked"` // what the article asks for
	Lines []string `json:"lines"` // what the case says
	Fill  string   `json:"fill"`  // what a person must decide or add; empty: only to check
}

// CRA returns the draft of a report. manifest is the digest of the case file.
func CRA(c *investigate.Case, kind Kind, manifest string) (*Draft, error) {
	d := &Draft{Kind: kind, Case: manifest}
	product := Field{Name: "product", Asked: "the product with digital elements", Lines: []string{c.Subject.Name, c.Subject.Digest}, Fill: "name and version of the product, and its manufacturer"}
	product.Lines = slices.DeleteFunc(product.Lines, func(s string) bool { return s == "" })
	nature := Field{Name: "nature of the incident", Asked: "general information about the nature of the incident", Lines: []string{c.Conclusion.Line}}
	measures := Field{Name: "measures taken", Asked: "corrective or mitigating measures taken", Fill: "which of these were done, and when; the case only proposes them", Lines: c.Conclusion.Do}
	switch kind {
	case Early:
		d.Basis, d.Due = "Regulation (EU) 2024/2847, Article 14(4)(a)", "within 24 hours after the manufacturer became aware"
		d.Fields = []Field{product, aware(c),
			{Name: "unlawful or malicious", Asked: "whether the incident is suspected of being caused by unlawful or malicious acts", Lines: suspicion(c), Fill: "yes, no or not known: a person decides"},
			{Name: "Member States", Asked: "where applicable, in which Member States the product was made available, as far as the manufacturer knows", Fill: "the Member States; the case does not know them"}}
	case After:
		d.Basis, d.Due = "Regulation (EU) 2024/2847, Article 14(4)(b)", "within 72 hours after the manufacturer became aware"
		d.Fields = []Field{product, aware(c), nature,
			{Name: "initial assessment", Asked: "an initial assessment of the incident", Lines: assessment(c), Fill: "the severity"},
			measures,
			{Name: "measures that users can take", Asked: "corrective or mitigating measures that users can take", Lines: userMeasures(c), Fill: "the release that replaces it"},
			{Name: "sensitivity", Asked: "where applicable, how sensitive the manufacturer considers the information to be", Fill: "how sensitive it is"}}
	case Final:
		d.Basis, d.Due = "Regulation (EU) 2024/2847, Article 14(4)(c)", "within one month after the incident notification"
		d.Fields = []Field{product, aware(c),
			{Name: "description", Asked: "a detailed description of the incident, with its severity and impact", Lines: append([]string{c.Conclusion.Line}, assessment(c)...), Fill: "severity and impact"},
			{Name: "time line", Asked: "part of the description", Lines: events(c)},
			{Name: "root cause", Asked: "the type of threat or root cause that is likely to have triggered the incident", Lines: suspicion(c), Fill: "the root cause"},
			measures}
	default:
		return nil, fmt.Errorf("there is no report %q", kind)
	}
	return d, nil
}

func aware(c *investigate.Case) Field {
	return Field{Name: "aware since", Asked: "from then on the time counts", Lines: []string{"the investigation was made at " + c.At.Format("2006-01-02 15:04:05Z")}, Fill: "when the manufacturer became aware; this is not when the case was made"}
}

// suspicion says what the broken links suggest. It accuses nobody.
func suspicion(c *investigate.Case) (out []string) {
	for _, f := range c.Conclusion.Findings {
		if f.Status == verify.Broken || f.Status == verify.Absent {
			out = append(out, f.Name+": "+f.Says)
		}
	}
	if len(out) == 0 {
		out = []string{"no link of the proof is broken, as far as it was asked"}
	}
	return out
}

// assessment says how much is concerned.
func assessment(c *investigate.Case) (out []string) {
	for _, a := range c.Answers {
		if f := a.Facts.Found; f != nil {
			out = append(out, fmt.Sprintf("%s: %d log entries with the %s %s", a.ID, f.Total, f.Kind, f.Value))
		}
	}
	out = append(out, fmt.Sprintf("it runs, or ran, at %d places that were asked", len(c.Answer(investigate.AskRunning).Facts.Running)))
	for _, open := range c.Conclusion.Open {
		out = append(out, "not known: "+open)
	}
	return out
}

func userMeasures(c *investigate.Case) []string {
	if c.Subject.Digest == "" {
		return []string{"do not use what is listed in the case"}
	}
	return []string{"do not run the image with the digest " + c.Subject.Digest, "verify images before you run them: colophon verify IMAGE --source URI"}
}

func events(c *investigate.Case) (out []string) {
	for _, e := range c.Conclusion.Timeline {
		out = append(out, fmt.Sprintf("%s %s (%s)", e.Time.Format("2006-01-02 15:04:05Z"), e.What, e.Basis))
	}
	return out
}

// Markdown returns the draft as text.
func (d *Draft) Markdown() []byte {
	var b bytes.Buffer
	fmt.Fprintf(&b, "# Draft: %s\n\nDue %s. A person must check, complete and send it.\n", printable.Markdown(d.Basis), printable.Markdown(d.Due))
	if d.Case != "" {
		fmt.Fprintf(&b, "Case file: %s\n", printable.Markdown(d.Case))
	}
	for _, f := range d.Fields {
		fmt.Fprintf(&b, "\n## %s\n\nAsked for: %s.\n\n", printable.Markdown(f.Name), printable.Markdown(f.Asked))
		for _, l := range f.Lines {
			fmt.Fprintf(&b, "* %s\n", printable.Markdown(l))
		}
		if f.Fill != "" {
			fmt.Fprintf(&b, "* TO FILL IN: %s\n", printable.Markdown(strings.TrimSpace(f.Fill)))
		}
	}
	return b.Bytes()
}
