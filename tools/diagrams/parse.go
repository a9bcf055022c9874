package main

import (
	"fmt"
	"slices"
	"strings"
)

// A diagram is a text with one element per line; "#" begins a comment:
//
//	title TEXT                     for screen readers
//	row ID ID . ID                 one row of the grid: a box may cover several cells, "." is empty
//	box ID TITLE | TEXT            text of a box; the text may be missing
//	panel KIND TITLE | TEXT : ID ID   a frame around boxes; the kind is its colour
//	arrow FROM TO TEXT             between boxes that face each other; the text may be missing
//	both FROM TO TEXT | TEXT       two arrows, there and back
type diagram struct {
	title  string
	rows   [][]string
	boxes  map[string]*box
	panels []panel
	arrows []arrow
}

type box struct {
	title, text              string
	top, left, bottom, right int // cells covered, inclusive
}

type panel struct {
	kind, title, text string
	boxes             []string
}

type arrow struct {
	from, to, text string
	shift          int // -1 or 1 for an arrow of a pair
}

// kinds are the kinds of panels, which are CSS classes.
var kinds = []string{"trusted", "keys", "stranger", "plain"}

func parse(text string) (*diagram, error) {
	d := &diagram{boxes: map[string]*box{}}
	for n, line := range strings.Split(text, "\n") {
		line, _, _ = strings.Cut(line, "#")
		word, rest, _ := strings.Cut(strings.TrimSpace(line), " ")
		if word == "" {
			continue
		}
		if err := d.line(word, strings.TrimSpace(rest)); err != nil {
			return nil, fmt.Errorf("line %d: %w", n+1, err)
		}
	}
	return d, d.check()
}

func (d *diagram) line(word, rest string) error {
	fields := strings.Fields(rest)
	switch {
	case word == "title":
		d.title = rest
	case word == "row" && len(fields) > 0:
		d.place(fields)
	case word == "box" && len(fields) > 1:
		b := d.boxes[fields[0]]
		if b == nil {
			return fmt.Errorf("box %s is in no row", fields[0])
		}
		b.title, b.text = halves(strings.TrimPrefix(rest, fields[0]))
	case word == "panel" && strings.Contains(rest, " : ") && slices.Contains(kinds, fields[0]):
		at := strings.LastIndex(rest, " : ")
		p := panel{kind: fields[0], boxes: strings.Fields(rest[at+3:])}
		p.title, p.text = halves(strings.TrimPrefix(rest[:at], fields[0]))
		d.panels = append(d.panels, p)
	case word == "arrow" && len(fields) > 1:
		d.arrows = append(d.arrows, arrow{from: fields[0], to: fields[1], text: strings.Join(fields[2:], " ")})
	case word == "both" && len(fields) > 1:
		there, back := halves(strings.Join(fields[2:], " "))
		d.arrows = append(d.arrows, arrow{fields[0], fields[1], there, -1}, arrow{fields[1], fields[0], back, 1})
	default:
		return fmt.Errorf("got %q, want a line of a diagram", word+" "+rest)
	}
	return nil
}

// place adds a row to the grid.
func (d *diagram) place(ids []string) {
	y := len(d.rows)
	d.rows = append(d.rows, ids)
	for x, id := range ids {
		if id == "." {
			continue
		}
		b := d.boxes[id]
		if b == nil {
			b = &box{title: id, top: y, bottom: y, left: x, right: x}
			d.boxes[id] = b
		}
		b.bottom, b.left, b.right = y, min(b.left, x), max(b.right, x)
	}
}

func (d *diagram) check() error {
	if d.title == "" || len(d.rows) == 0 {
		return fmt.Errorf("a diagram has a title and at least one row")
	}
	for _, row := range d.rows {
		if len(row) != len(d.rows[0]) {
			return fmt.Errorf("row %q has %d cells, want %d", row, len(row), len(d.rows[0]))
		}
	}
	var named []string
	for _, p := range d.panels {
		named = append(named, p.boxes...)
	}
	for _, a := range d.arrows {
		named = append(named, a.from, a.to)
	}
	for _, id := range named {
		if d.boxes[id] == nil {
			return fmt.Errorf("%s is in no row", id)
		}
	}
	for _, a := range d.arrows {
		if f, t := d.boxes[a.from], d.boxes[a.to]; !f.beside(t) && !f.above(t) {
			return fmt.Errorf("arrow %s %s: they do not face each other", a.from, a.to)
		}
	}
	return nil
}

// beside and above report whether a straight line can join two boxes.
func (b *box) beside(o *box) bool { return b.top <= o.bottom && o.top <= b.bottom }
func (b *box) above(o *box) bool  { return b.left <= o.right && o.left <= b.right }

func halves(s string) (string, string) {
	a, b, _ := strings.Cut(s, "|")
	return strings.TrimSpace(a), strings.TrimSpace(b)
}
