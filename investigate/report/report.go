// Package report writes a case for people: as Markdown, as HTML, as pictures of its time line and of
// its graph (SVG), and as drafts of the reports that the Cyber Resilience Act demands. Each is a pure
// function of the case. Much of a case is text of strangers: nothing of it becomes markup.
package report

import (
	"bytes"
	_ "embed"
	"fmt"
	"html/template"
	"slices"
	"sync"

	"github.com/colophon-build/colophon/internal/inert"
	"github.com/colophon-build/colophon/internal/printable"
	"github.com/colophon-build/colophon/investigate"
)

// Markdown returns the report of a case.
func Markdown(c *investigate.Case) []byte {
	var b bytes.Buffer
	out := c.Conclusion
	fmt.Fprintf(&b, "# %s\n\n", printable.Markdown(out.Line))
	fmt.Fprintf(&b, "%s %s", c.Subject.Kind, printable.Markdown(c.Subject.Name))
	if c.Subject.Digest != "" {
		fmt.Fprintf(&b, ", %s", printable.Markdown(c.Subject.Digest))
	}
	fmt.Fprintf(&b, ". Investigated at %s with %s.\n", c.At.Format("2006-01-02 15:04:05Z"), printable.Markdown(c.By))
	b.WriteString("\n## Links\n\n| link | status | what was found |\n|---|---|---|\n")
	for _, f := range out.Findings {
		fmt.Fprintf(&b, "| %s | %s | %s |\n", printable.Markdown(f.Name), printable.Markdown(string(f.Status)), printable.Markdown(f.Says))
	}
	b.WriteString("\n## Time line\n\n| time | basis | what happened |\n|---|---|---|\n")
	for _, e := range out.Timeline {
		fmt.Fprintf(&b, "| %s | %s | %s |\n", e.Time.Format("2006-01-02 15:04:05Z"), printable.Markdown(string(e.Basis)), printable.Markdown(e.What))
	}
	list := func(title string, lines []string) {
		if len(lines) > 0 {
			fmt.Fprintf(&b, "\n## %s\n\n", title)
		}
		for _, l := range lines {
			fmt.Fprintf(&b, "* %s\n", printable.Markdown(l))
		}
	}
	list("What to do", out.Do)
	list("Questions without an answer", out.Open)
	b.WriteString("\n## Questions and answers\n\n")
	for _, a := range c.Answers {
		fmt.Fprintf(&b, "* %s %s", printable.Markdown(a.Question), printable.Markdown(string(a.Outcome)))
		if a.Asked != "" {
			fmt.Fprintf(&b, ", by %s", printable.Markdown(a.Asked))
		}
		if a.Query != "" {
			fmt.Fprintf(&b, ", asked for %s", printable.Markdown(a.Query))
		}
		fmt.Fprintf(&b, ", %d pieces of evidence\n", len(a.Evidence))
	}
	b.WriteString("\nWhat the words mean: proved, a log or timestamp authority of a trust root shows it; claimed, whoever wrote it could choose it; said, whoever was asked says so.\n")
	return b.Bytes()
}

//go:embed report.html
var page string

//go:embed report.css
var style string

// pageTemplate is parsed when a report is wanted: most commands make none.
var pageTemplate = sync.OnceValue(func() *template.Template {
	return template.Must(template.New("report").Parse(inert.Head + page))
})

// HTML returns the report of a case as one page without scripts, links and outer resources. Its
// policy forbids them too.
func HTML(c *investigate.Case) ([]byte, error) {
	shown := clean(c)
	var b bytes.Buffer
	err := pageTemplate().Execute(&b, struct {
		Case            *investigate.Case
		Page            inert.Page
		Timeline, Graph template.URL
		At              string
	}{
		shown, inert.Page{Title: shown.Conclusion.Line, Style: template.CSS(style)},
		inert.Picture(Timeline(c)), inert.Picture(Graph(c)), c.At.Format("2006-01-02 15:04:05Z"),
	})
	return b.Bytes(), err
}

// clean returns what the page shows of a case, without characters that control a terminal or change
// the direction of writing: the page may be read in either.
func clean(c *investigate.Case) *investigate.Case {
	out := *c
	out.Subject.Name, out.Subject.Digest, out.By = printable.Line(c.Subject.Name), printable.Line(c.Subject.Digest), printable.Line(c.By)
	out.Answers = nil
	for _, a := range c.Answers {
		a.Asked, a.Query, a.Why = printable.Line(a.Asked), printable.Line(a.Query), printable.Line(a.Why)
		a.Evidence = slices.Clone(a.Evidence)
		for i, d := range a.Evidence {
			a.Evidence[i] = printable.Line(d)
		}
		out.Answers = append(out.Answers, a)
	}
	return &out
}
