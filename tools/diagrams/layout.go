package main

import (
	"slices"
	"strings"
)

// Sizes in pixels. Widths of text are estimates for a sans-serif font.
const (
	margin     = 16
	cellWidth  = 140
	boxPad     = 11 // between a box's border and its text
	lineHeight = 16
	titleChar  = 7.4 // width of a character of a title
	textChar   = 6.2 // of other text
	gap        = 26  // between cells, unless a label needs more
	panelPad   = 13
	panelHead  = 46 // title and text of a panel
	labelWidth = 96
	narrow     = 44 // label of the first arrow of a pair, beside a frame
	headSize   = 7
)

// rect is a rectangle on the drawing.
type rect struct{ x, y, w, h float64 }

func (r rect) right() float64  { return r.x + r.w }
func (r rect) bottom() float64 { return r.y + r.h }

// layout holds the positions of all parts.
type layout struct {
	*diagram
	x, w []float64 // of columns
	y, h []float64 // of rows
	size rect
}

func newLayout(d *diagram) *layout {
	l := &layout{diagram: d}
	columns, rows := len(d.rows[0]), len(d.rows)
	across, down := l.gaps(columns, rows)
	x := margin + across[0]
	for c := range columns {
		l.x, l.w = append(l.x, x), append(l.w, cellWidth)
		x += cellWidth + across[c+1]
	}
	y := margin + down[0]
	for r := range rows {
		h := 0.0
		for _, id := range d.rows[r] {
			if b := d.boxes[id]; b != nil {
				h = max(h, l.need(b)/float64(b.bottom-b.top+1))
			}
		}
		l.y, l.h = append(l.y, y), append(l.h, h)
		y += h + down[r+1]
	}
	l.size = rect{0, 0, x - gap + margin, y - gap + margin}
	return l
}

// need returns the height of a box's text.
func (l *layout) need(b *box) float64 {
	return float64(len(b.lines()))*lineHeight + 2*boxPad
}

// gaps computes the spaces before, between and after columns and rows. Labels need
// space there, and so do the frames of panels.
func (l *layout) gaps(columns, rows int) (across, down []float64) {
	across, down = make([]float64, columns+1), make([]float64, rows+1)
	for i := 1; i <= columns; i++ {
		across[i] = gap
	}
	for i := 1; i <= rows; i++ {
		down[i] = gap
	}
	starts, ends := map[int]bool{}, map[int]bool{}
	for _, p := range l.panels {
		top, left, bottom, right := l.cells(p)
		for c, where := range map[int]float64{left: panelPad, right + 1: panelPad} {
			across[c] = max(across[c], where)
		}
		above, below := float64(panelHead), float64(panelPad)
		if l.entered(p) {
			above, below = below, above
		}
		if !starts[top] {
			down[top] += above
		}
		if !ends[bottom] {
			down[bottom+1] += below
		}
		starts[top], ends[bottom] = true, true
	}
	for _, a := range l.arrows {
		f, t := l.boxes[a.from], l.boxes[a.to]
		lines := a.lines()
		switch first, second := f, t; {
		case f.beside(t):
			if first.left > second.left {
				first, second = second, first
			}
			if a.text != "" {
				across[first.right+1] = max(across[first.right+1], widest(lines)+2*panelPad+10)
			}
		case f.bottom < t.top || t.bottom < f.top:
			if first.top > second.top {
				first, second = second, first
			}
			// The head of a panel shares the space with the label.
			down[second.top] = max(down[second.top], float64(len(lines))*lineHeight+gap+panelPad)
		}
	}
	return across, down
}

// cells returns the first and last cells that a panel covers.
func (l *layout) cells(p panel) (top, left, bottom, right int) {
	top, left = len(l.diagram.rows), len(l.diagram.rows[0])
	for _, id := range p.boxes {
		b := l.boxes[id]
		top, left, bottom, right = min(top, b.top), min(left, b.left), max(bottom, b.bottom), max(right, b.right)
	}
	return top, left, bottom, right
}

func (l *layout) over(top, left, bottom, right int) rect {
	return rect{l.x[left], l.y[top], l.x[right] + l.w[right] - l.x[left], l.y[bottom] + l.h[bottom] - l.y[top]}
}

func (l *layout) place(b *box) rect { return l.over(b.top, b.left, b.bottom, b.right) }

func (l *layout) frame(p panel) rect {
	r := l.over(l.cells(p))
	if l.entered(p) {
		return rect{r.x - panelPad, r.y - panelPad, r.w + 2*panelPad, r.h + panelHead + panelPad}
	}
	return rect{r.x - panelPad, r.y - panelHead, r.w + 2*panelPad, r.h + panelHead + panelPad}
}

// entered reports whether an arrow crosses the top of a panel. Its head is then at the
// bottom.
func (l *layout) entered(p panel) bool {
	top, _, _, _ := l.cells(p)
	return slices.ContainsFunc(l.arrows, func(a arrow) bool {
		f, t := l.boxes[a.from], l.boxes[a.to]
		return slices.Contains(p.boxes, a.to) && f.bottom < top && !f.beside(t)
	})
}

// line returns the ends of an arrow. It runs from edge to edge, in the middle of the
// range that both boxes share.
func (l *layout) line(a arrow) (x1, y1, x2, y2 float64) {
	f, t := l.place(l.boxes[a.from]), l.place(l.boxes[a.to])
	shift := float64(a.shift) * 26
	if l.boxes[a.from].beside(l.boxes[a.to]) {
		y := (max(f.y, t.y)+min(f.bottom(), t.bottom()))/2 + shift/2
		if f.x < t.x {
			return f.right(), y, t.x, y
		}
		return f.x, y, t.right(), y
	}
	x := (max(f.x, t.x)+min(f.right(), t.right()))/2 + shift
	if f.y < t.y {
		return x, f.bottom(), x, t.y
	}
	return x, f.y, x, t.bottom()
}

// lines returns the title of a box, and its text wrapped to its width.
func (b *box) lines() []string {
	width := float64((b.right-b.left+1)*cellWidth + (b.right-b.left)*gap - 2*boxPad)
	return append([]string{b.title}, wrap(b.text, width)...)
}

// lines returns the label of an arrow, wrapped.
func (a arrow) lines() []string {
	if a.shift < 0 {
		return wrap(a.text, narrow)
	}
	return wrap(a.text, labelWidth)
}

func wrap(text string, width float64) (lines []string) {
	for word := range strings.FieldsSeq(text) {
		if n := len(lines); n > 0 && float64(len([]rune(lines[n-1]+" "+word)))*textChar <= width {
			lines[n-1] += " " + word
		} else {
			lines = append(lines, word)
		}
	}
	return lines
}

func widest(lines []string) (w float64) {
	for _, s := range lines {
		w = max(w, float64(len([]rune(s)))*textChar)
	}
	return w
}
