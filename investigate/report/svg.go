package report

import (
	"bytes"
	"encoding/xml"
	"fmt"

	"github.com/colophon-build/colophon/internal/printable"
	"github.com/colophon-build/colophon/investigate"
	"github.com/colophon-build/colophon/verify"
)

const (
	maxPictured = 200 // events of the picture of a time line: the first and the last ones
	maxNodes    = 12  // of each kind in the graph
	maxLabel    = 96  // bytes of one text in a picture
)

// text writes text of strangers into SVG.
func text(b *bytes.Buffer, s string) {
	xml.EscapeText(b, []byte(printable.Cut(printable.Line(s), maxLabel)))
}

func open(b *bytes.Buffer, width, height int) {
	fmt.Fprintf(b, `<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 %d %d" width="%d" height="%d" font-family="sans-serif" font-size="12">`+"\n", width, height, width, height)
	fmt.Fprintf(b, `<rect width="%d" height="%d" fill="#fff"/>`+"\n", width, height)
}

// Timeline returns a picture of the time line.
func Timeline(c *investigate.Case) []byte {
	events := c.Conclusion.Timeline
	left := 0
	if left = len(events) - maxPictured; left > 0 {
		half := maxPictured / 2
		events = append(append([]investigate.Event{}, events[:half]...), events[len(events)-half:]...)
	}
	const row = 22
	var b bytes.Buffer
	height := 2*row + row*len(events)
	open(&b, 1000, height)
	fmt.Fprintf(&b, `<line x1="170" y1="%d" x2="170" y2="%d" stroke="#999"/>`+"\n", row/2, height-row/2)
	colours := map[investigate.Basis]string{investigate.Proved: "#0a6b2e", investigate.Claimed: "#8a5a00", investigate.Said: "#777"}
	for i, e := range events {
		y := row + row*i
		fmt.Fprintf(&b, `<text x="10" y="%d">%s</text><circle cx="170" cy="%d" r="5" fill="%s"/><text x="185" y="%d">`, y+4, e.Time.Format("2006-01-02 15:04:05Z"), y, colours[e.Basis], y+4)
		text(&b, e.What)
		b.WriteString("</text>\n")
	}
	if left > 0 {
		fmt.Fprintf(&b, `<text x="185" y="%d">%d events in the middle are left out</text>`+"\n", height-6, left)
	}
	b.WriteString("</svg>\n")
	return b.Bytes()
}

// node is a box of the graph.
type node struct{ kind, label, colour string }

// Graph returns a picture of what leads to what: commit, builder, image, and what has the image or is
// made from the same.
func Graph(c *investigate.Case) []byte {
	columns := [][]node{sources(c), builders(c), {{"image", c.Subject.Name, colourOf(c)}}, concerned(c)}
	tallest := 1
	for _, col := range columns {
		tallest = max(tallest, len(col))
	}
	const width, height, gap = 290, 40, 70
	var b bytes.Buffer
	total := tallest*(height+16) + 16
	open(&b, len(columns)*(width+gap), total)
	middle := func(col []node, i int) int {
		return total/2 - len(col)*(height+16)/2 + i*(height+16) + (height+16)/2
	}
	for n, col := range columns {
		x := gap/2 + n*(width+gap)
		for i, one := range col {
			y := middle(col, i)
			if n > 0 {
				for j := range columns[n-1] {
					fmt.Fprintf(&b, `<line x1="%d" y1="%d" x2="%d" y2="%d" stroke="#bbb"/>`+"\n", x-gap, middle(columns[n-1], j), x, y)
				}
			}
			fmt.Fprintf(&b, `<rect x="%d" y="%d" width="%d" height="%d" rx="4" fill="#f7f7f7" stroke="%s"/><text x="%d" y="%d" fill="#777">`, x, y-height/2, width, height, one.colour, x+8, y-4)
			text(&b, one.kind)
			fmt.Fprintf(&b, `</text><text x="%d" y="%d">`, x+8, y+12)
			text(&b, printable.Cut(one.label, 44))
			b.WriteString("</text>\n")
		}
	}
	b.WriteString("</svg>\n")
	return b.Bytes()
}

const (
	plain = "#999"
	red   = "#b00020"
	green = "#0a6b2e"
	brown = "#8a5a00"
)

func colourOf(c *investigate.Case) string {
	switch c.Conclusion.State {
	case investigate.Broken:
		return red
	case investigate.Whole:
		return green
	}
	return brown
}

// finding returns the colour of a finding, by its name.
func finding(c *investigate.Case, name investigate.ID) string {
	for _, f := range c.Conclusion.Findings {
		if f.Name != string(name) {
			continue
		}
		switch f.Status {
		case verify.Holds:
			return green
		case verify.Broken, verify.Absent:
			return red
		}
	}
	return plain
}

func sources(c *investigate.Case) []node {
	f := c.Answer(investigate.AskChain).Facts.Holding
	if f == nil || f.Build == nil {
		return []node{{"commit", "not known", plain}}
	}
	out := []node{{"commit of " + f.Build.Source, f.Build.Commit, finding(c, investigate.AskStanding)}, {"ref", f.Build.Ref, finding(c, investigate.AskHistory)}}
	for _, b := range c.Answer(investigate.AskChain).Facts.Others {
		if len(out) < maxNodes {
			out = append(out, node{"commit of " + b.Source, b.Commit, plain})
		}
	}
	return out
}

func builders(c *investigate.Case) (out []node) {
	f := c.Answer(investigate.AskChain).Facts.Holding
	if f == nil {
		return []node{{"signer", "not known", plain}}
	}
	seen := map[string]bool{}
	for _, s := range f.Signed {
		if s.Signer != "" && !seen[s.Signer] && len(out) < maxNodes {
			seen[s.Signer] = true
			out = append(out, node{"signer", s.Signer, green})
		}
	}
	if len(out) == 0 {
		out = append(out, node{"signer", "a key", green})
	}
	return out
}

func concerned(c *investigate.Case) (out []node) {
	add := func(kind, label string) {
		if len(out) < maxNodes {
			out = append(out, node{kind, label, plain})
		}
	}
	for _, t := range c.Answer(investigate.AskTags).Facts.Tags {
		add("tag", t.Name)
	}
	for _, r := range c.Answer(investigate.AskRunning).Facts.Running {
		add("runs", r.Where)
	}
	for _, a := range c.Answers {
		if f := a.Facts.Found; f != nil && f.Total > 0 {
			add(string(a.ID), fmt.Sprintf("%d log entries", f.Total))
		}
	}
	return out
}
