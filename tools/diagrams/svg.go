package main

import (
	"encoding/xml"
	"fmt"
	"io"
	"maps"
	"math"
	"slices"
	"strings"
)

const style = `
svg { color-scheme: light dark; font: 12px system-ui, "Segoe UI", "DejaVu Sans", sans-serif; }
.page { fill: #ffffff; } text { fill: #1f2328; } .text, .label { fill: #57606a; } .title { font-weight: 600; font-size: 13px; }
.box { fill: #ffffff; stroke: #8c959f; } .line { stroke: #57606a; fill: none; stroke-width: 1.3; } .head { fill: #57606a; }
.panel { stroke-width: 1.4; }
.trusted { fill: #eaf5ec; stroke: #4a9c5d; } .keys { fill: #fdf3dc; stroke: #c08a1e; }
.stranger { fill: #fcebea; stroke: #cc5a52; } .plain { fill: #eef2f7; stroke: #7d8fa6; }
@media (prefers-color-scheme: dark) {
.page { fill: #0d1117; } text { fill: #e6edf3; } .text, .label { fill: #a9b3bf; }
.box { fill: #161b22; stroke: #6e7681; } .line { stroke: #a9b3bf; } .head { fill: #a9b3bf; }
.trusted { fill: #10241a; stroke: #3f8f55; } .keys { fill: #272010; stroke: #b3842a; }
.stranger { fill: #2b1615; stroke: #c2564e; } .plain { fill: #151c26; stroke: #5b6d85; }
}`

// svg writes the drawing.
func (l *layout) svg(w io.Writer) {
	fmt.Fprintf(w, `<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 %s %s" width="%s" role="img" aria-label="%s">`+"\n",
		num(l.size.w), num(l.size.h), num(l.size.w), esc(l.title))
	fmt.Fprintf(w, "<style>%s\n</style>\n", style)
	fmt.Fprintf(w, `<rect class="page" width="100%%" height="100%%" rx="8"/>`+"\n")
	for _, p := range l.panels {
		r := l.frame(p)
		drawRect(w, "panel "+p.kind, r, 10)
		y := r.y
		if l.entered(p) {
			y = r.bottom() - panelHead
		}
		drawText(w, "title", "start", r.x+panelPad, y+20, p.title)
		drawText(w, "text", "start", r.x+panelPad, y+36, p.text)
	}
	for _, a := range l.arrows {
		l.arrow(w, a)
	}
	for _, id := range slices.Sorted(maps.Keys(l.boxes)) {
		l.box(w, l.boxes[id])
	}
	for _, a := range l.arrows {
		l.label(w, a)
	}
	fmt.Fprintln(w, "</svg>")
}

func (l *layout) box(w io.Writer, b *box) {
	r, lines := l.place(b), b.lines()
	drawRect(w, "box", r, 6)
	y := r.y + r.h/2 - float64(len(lines)-1)*lineHeight/2 + 4.5
	for i, s := range lines {
		class := "text"
		if i == 0 {
			class = "title"
		}
		drawText(w, class, "middle", r.x+r.w/2, y+float64(i)*lineHeight, s)
	}
}

func (l *layout) arrow(w io.Writer, a arrow) {
	x1, y1, x2, y2 := l.line(a)
	dx, dy := sign(x2-x1), sign(y2-y1)
	fmt.Fprintf(w, `<path class="line" d="M%s %sL%s %s"/>`+"\n", num(x1), num(y1), num(x2-dx*headSize), num(y2-dy*headSize))
	fmt.Fprintf(w, `<path class="head" d="M%s %sL%s %sL%s %sZ"/>`+"\n", num(x2), num(y2),
		num(x2-dx*headSize-dy*4), num(y2-dy*headSize-dx*4), num(x2-dx*headSize+dy*4), num(y2-dy*headSize+dx*4))
}

// label writes a label above a horizontal line, or beside a vertical one.
func (l *layout) label(w io.Writer, a arrow) {
	lines := a.lines()
	if len(lines) == 0 {
		return
	}
	x1, y1, x2, y2 := l.line(a)
	x, y, anchor := (x1+x2)/2, y1-6-float64(len(lines)-1)*lineHeight, "middle"
	if a.shift > 0 {
		y = y1 + 15
	}
	if x1 == x2 {
		x, y, anchor = x1+8, (y1+y2)/2-float64(len(lines)-1)*lineHeight/2+4, "start"
		if a.shift < 0 {
			x, anchor = x1-8, "end"
		}
	}
	for i, s := range lines {
		drawText(w, "label", anchor, x, y+float64(i)*lineHeight, s)
	}
}

func drawRect(w io.Writer, class string, r rect, radius float64) {
	fmt.Fprintf(w, `<rect class="%s" x="%s" y="%s" width="%s" height="%s" rx="%s"/>`+"\n", class, num(r.x), num(r.y), num(r.w), num(r.h), num(radius))
}

func drawText(w io.Writer, class, anchor string, x, y float64, s string) {
	if s != "" {
		fmt.Fprintf(w, `<text class="%s" text-anchor="%s" x="%s" y="%s">%s</text>`+"\n", class, anchor, num(x), num(y), esc(s))
	}
}

func num(f float64) string { return strings.TrimSuffix(fmt.Sprintf("%.1f", f), ".0") }

func sign(f float64) float64 {
	if f == 0 {
		return 0
	}
	return math.Copysign(1, f)
}

func esc(s string) string {
	var b strings.Builder
	xml.EscapeText(&b, []byte(s))
	return b.String()
}
