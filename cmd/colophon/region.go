package main

import (
	"fmt"
	"io"
	"os"
	"strings"
	"sync"
	"time"

	"golang.org/x/term"

	"github.com/colophon-build/colophon/internal/printable"
)

// region is the last lines of a terminal, which are redrawn while a command works. What
// is printed meanwhile goes above them.
type region struct {
	f     *os.File
	delay time.Duration // how long nothing is drawn
	start time.Time

	mu    sync.Mutex
	lines func(now time.Time, rows int) []string // what to draw; called with mu held
	above strings.Builder                        // lines to print above it
	drawn int                                    // lines on the terminal
	stop  chan struct{}                          // nil: closed
	ended chan struct{}
}

// redraw is how often a region is drawn.
const redraw = 100 * time.Millisecond

// regionRows bounds the height of a region, and regionColumns the bytes of a line in it.
const (
	regionRows    = 16
	regionColumns = 500
)

// newRegion returns a region of the terminal f that is drawn after a delay.
func newRegion(f *os.File, delay time.Duration, lines func(now time.Time, rows int) []string) *region {
	return &region{f: f, delay: delay, start: time.Now(), lines: lines, stop: make(chan struct{}), ended: make(chan struct{})}
}

// run draws it until close is called.
func (r *region) run(stop <-chan struct{}) {
	defer close(r.ended)
	tick := time.NewTicker(redraw)
	defer tick.Stop()
	for {
		select {
		case <-stop:
			return
		case <-tick.C:
			r.mu.Lock()
			r.draw(time.Now())
			r.mu.Unlock()
		}
	}
}

// print prints a line above the region; mu is held. The caller made it printable.
func (r *region) print(line string) { r.above.WriteString(line + "\n") }

// Write prints whole lines above the region.
func (r *region) Write(text []byte) (int, error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.stop == nil {
		return r.f.Write(text)
	}
	return r.above.Write(text)
}

// draw replaces what is drawn, with one write, so that nothing flickers. The terminal must
// not wrap these lines (DECAWM), because a wrapped line takes several rows.
func (r *region) draw(now time.Time) {
	var lines []string
	if r.stop != nil && now.Sub(r.start) >= r.delay {
		rows := regionRows
		if _, height, err := term.GetSize(int(r.f.Fd())); err == nil && height > 1 {
			rows = min(rows, height-1)
		}
		lines = r.lines(now, rows)
		lines = lines[:min(len(lines), rows)]
	}
	var out strings.Builder
	if r.drawn > 0 {
		fmt.Fprintf(&out, "\r\x1b[%dA\x1b[J", r.drawn)
	}
	out.WriteString(r.above.String())
	r.above.Reset()
	if r.drawn = len(lines); r.drawn > 0 {
		out.WriteString("\x1b[?7l" + strings.Join(lines, "\n") + "\n\x1b[?7h")
	}
	if out.Len() > 0 {
		_, _ = r.f.WriteString(out.String()) // nobody can be told
	}
}

// close removes the region. What was printed above it stays.
func (r *region) close() {
	r.mu.Lock()
	stop := r.stop
	r.stop = nil
	if stop != nil {
		r.draw(time.Now())
		close(stop)
	}
	r.mu.Unlock()
	<-r.ended
}

// spinner is the sign of what runs.
func spinner(now time.Time) string {
	const signs = "⠋⠙⠹⠸⠼⠴⠦⠧⠇⠏"
	return string([]rune(signs)[now.UnixMilli()/redraw.Milliseconds()%10])
}

// row makes text from outside one line of a region.
func row(text string) string { return printable.Cut(printable.Line(text), regionColumns) }

// waiting shows on a terminal what the command waits for, and for how long, if it takes
// more than a second. stop removes it.
func waiting(w io.Writer, what string) (stop func()) {
	f, ok := w.(*os.File)
	if !ok || !isTerminal(f) {
		return func() {}
	}
	start := time.Now()
	r := newRegion(f, time.Second, func(now time.Time, _ int) []string {
		return []string{fmt.Sprintf("%s %s  %s", paint(f, yellow, spinner(now)), seconds(now.Sub(start)), row(what))}
	})
	go r.run(r.stop)
	return r.close
}

func seconds(d time.Duration) string { return fmt.Sprintf("%6.1fs", d.Seconds()) }
