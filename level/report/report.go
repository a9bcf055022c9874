// Package report writes which levels of SLSA an image or a repository reaches, for people: as
// text, as Markdown, as an HTML page, and as a badge (SVG). Each is a pure function of the
// document. Much of a document is text of strangers: nothing of it becomes markup.
package report

import (
	"bytes"
	_ "embed"
	"fmt"
	"html/template"
	"strings"
	"sync"

	"github.com/colophon-build/colophon/internal/inert"
	"github.com/colophon-build/colophon/internal/printable"
	"github.com/colophon-build/colophon/level"
	"github.com/colophon-build/colophon/verify"
)

// Document is the answer about one image or repository, as programs read it.
type Document struct {
	Image      string `json:"image,omitempty"`      // as the caller named it
	Digest     string `json:"digest,omitempty"`     // "sha256:HEX", of the image
	Directory  string `json:"directory,omitempty"`  // whose files were read, as the caller named it
	Repository string `json:"repository,omitempty"` // canonical address
	Ref        string `json:"ref,omitempty"`        // full name of the branch or tag
	Commit     string `json:"commit,omitempty"`     // full id
	Branch     string `json:"branch,omitempty"`     // full name of the branch whose rules count
	*level.Report
	Outcome verify.Outcome `json:"outcome"` // whether it has what is demanded
	Why     string         `json:"why,omitempty"`
	VSA     string         `json:"vsa,omitempty"` // file with the signed summary
}

// Formats maps the names of formats to their writers.
var Formats = map[string]func(*Document) ([]byte, error){
	"html":     HTML,
	"markdown": func(d *Document) ([]byte, error) { return Markdown(d), nil },
	"badge":    func(d *Document) ([]byte, error) { return Badge(d), nil },
}

// Title names what the document is about, on one line.
func (d *Document) Title() string {
	for _, name := range []string{d.Image, d.Repository, d.Directory} {
		if name != "" {
			return line(name)
		}
	}
	return ""
}

// About returns what else identifies it, one line each.
func (d *Document) About() (out []string) {
	add := func(format, value string) {
		if value != "" {
			out = append(out, fmt.Sprintf(format, line(value)))
		}
	}
	add("%s", d.Digest)
	if d.Image != "" {
		add("repository %s", d.Repository)
	}
	if d.Image != "" || d.Repository != "" {
		add("directory %s", d.Directory)
	}
	commit := "commit " + d.Commit
	if d.Ref != "" {
		commit += ", " + d.Ref
	}
	if d.Commit != "" {
		add("%s", commit)
	}
	return out
}

// Tracks names the levels, one line each.
func (d *Document) Tracks() (out []string) {
	for _, t := range d.tracks() {
		out = append(out, t.line())
	}
	return out
}

// reached is a track for people.
type reached struct {
	Name string
	*level.Reached
}

func (d *Document) tracks() (out []reached) {
	if d.Build != nil {
		out = append(out, reached{"Build", d.Build})
	}
	return append(out, reached{"Source", d.Source})
}

func (t reached) line() string {
	text := fmt.Sprintf("SLSA %s L%d", t.Name, t.Level)
	if t.Possible > t.Level {
		text += fmt.Sprintf(", up to L%d if what is not known were met", t.Possible)
	}
	return text
}

// line makes text of strangers one line without characters that control a terminal.
func line(s string) string { return printable.Cut(printable.Line(s), 2000) }

// words say a status for people.
var words = map[level.Status]string{level.Met: "met", level.NotMet: "not met", level.NotKnown: "cannot tell"}

// Markdown returns the report, with GitHub's check boxes.
func Markdown(d *Document) []byte {
	var b bytes.Buffer
	fmt.Fprintf(&b, "# SLSA level of %s\n\n", printable.Markdown(d.Title()))
	for _, a := range d.About() {
		fmt.Fprintf(&b, "* %s\n", printable.Markdown(a))
	}
	for _, t := range d.tracks() {
		fmt.Fprintf(&b, "* **%s**\n", t.line())
	}
	fmt.Fprintf(&b, "* outcome: %s\n", d.Outcome)
	if d.Why != "" {
		fmt.Fprintf(&b, "* %s\n", printable.Markdown(d.Why))
	}
	if len(d.Next) > 0 {
		b.WriteString("\n## Next steps\n\n")
	}
	for i, s := range d.Next {
		fmt.Fprintf(&b, "%d. %s (%s) %s\n", i+1, printable.Markdown(s.Text), words[s.Status], printable.Markdown(s.Mend))
	}
	for _, t := range d.tracks() {
		fmt.Fprintf(&b, "\n## %s track\n\n| level | requirement | status | evidence |\n|---|---|---|---|\n", t.Name)
		for _, q := range t.Requirements {
			fmt.Fprintf(&b, "| %s | [%s](%s) | %s | %s |\n", levelOf(q), printable.Markdown(q.Name), q.Spec, words[q.Status], printable.Markdown(q.Evidence))
		}
	}
	b.WriteString("\n## Roadmap\n")
	for _, p := range d.Roadmap {
		fmt.Fprintf(&b, "\n### %s\n\n", printable.Markdown(p.Title))
		for _, s := range p.Steps {
			box := " "
			if s.Status == level.Met {
				box = "x"
			}
			fmt.Fprintf(&b, "- [%s] %s (%s: %s)\n", box, printable.Markdown(s.Text), words[s.Status], printable.Markdown(s.Evidence))
		}
	}
	return b.Bytes()
}

func levelOf(q level.Judged) string {
	if q.Level == 0 {
		return "any"
	}
	return fmt.Sprintf("L%d", q.Level)
}

//go:embed report.html
var page string

//go:embed report.css
var style string

// pageTemplate is parsed when a report is wanted: most commands make none.
var pageTemplate = sync.OnceValue(func() *template.Template {
	return template.Must(template.New("report").Funcs(template.FuncMap{
		"line": line, "level": levelOf, "word": func(s level.Status) string { return words[s] },
		"class": func(s level.Status) string { return strings.ReplaceAll(string(s), " ", "-") },
		"met":   func(s level.Status) bool { return s == level.Met },
	}).Parse(inert.Head + page))
})

// HTML returns the report as one page without scripts and outer resources. Its policy forbids
// them too. It links to the specification alone.
func HTML(d *Document) ([]byte, error) {
	var b bytes.Buffer
	err := pageTemplate().Execute(&b, struct {
		*Document
		All   []reached
		Page  inert.Page
		Badge template.URL
	}{d, d.tracks(), inert.Page{Title: "SLSA level of " + d.Title(), Style: template.CSS(style)}, inert.Picture(Badge(d))})
	return b.Bytes(), err
}

// Badge returns a picture (SVG) of the levels. It has numbers and words of ours, and nothing that
// anybody else wrote. It is a picture: whoever wants to rely on a level asks for it.
func Badge(d *Document) []byte {
	value, colour, lowest := []string{}, "#8a5a00", 4
	for _, t := range d.tracks() {
		if t.Name == "Source" && d.Image != "" && t.Level == 0 {
			continue // of an image, the level of the build is what was asked for
		}
		if t.Name == "Build" && d.Image == "" {
			continue // files of a repository show no level of a build
		}
		lowest = min(lowest, t.Level)
		value = append(value, fmt.Sprintf("%s L%d", t.Name, t.Level))
	}
	text := strings.Join(value, ", ")
	switch {
	case d.Outcome == verify.Rejected:
		text, colour = "rejected", "#b00020"
	case d.Outcome != verify.Accepted:
		text, colour = "not known", "#777"
	case lowest == 0:
		colour = "#777"
	case lowest >= 3:
		colour = "#0a6b2e"
	}
	const left, each = 42, 7
	right := 14 + each*len(text)
	var b bytes.Buffer
	fmt.Fprintf(&b, `<svg xmlns="http://www.w3.org/2000/svg" width="%d" height="20" role="img" aria-label="SLSA: %s" font-family="Verdana,sans-serif" font-size="11" fill="#fff">`+"\n", left+right, text)
	fmt.Fprintf(&b, "<title>SLSA: %s</title>\n", text)
	fmt.Fprintf(&b, `<rect width="%d" height="20" fill="#444"/><rect x="%d" width="%d" height="20" fill="%s"/>`+"\n", left, left, right, colour)
	fmt.Fprintf(&b, `<text x="%d" y="14" text-anchor="middle">SLSA</text><text x="%d" y="14" text-anchor="middle">%s</text>`+"\n</svg>\n", left/2, left+right/2, text)
	return b.Bytes()
}
