package main

import (
	"encoding/json"
	"fmt"
	"io"
	"os"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/spf13/cobra"

	"github.com/colophon-build/colophon/internal/printable"
	"github.com/colophon-build/colophon/platform/api"
)

// progress shows on standard error what happens while releases run. Its methods may be
// called by several goroutines.
type progress interface {
	// images names the images that will be released, if there are several.
	images(names []string)
	// event is one of an image's release; image is "" before it is known which it is.
	event(image string, e api.Event)
	// ended is called when the release of an image has ended; failed: without success.
	ended(image string, failed bool)
	// Write prints whole lines of other parts of the command.
	io.Writer
	// close prints what there is left to print. Nothing may be printed before, except
	// through the other methods.
	close()
}

// progressOptions are the flags that choose how progress is shown.
type progressOptions struct {
	mode    string // auto, tty, plain, json
	verbose bool
}

var progressModes = []string{"auto", "tty", "plain", "json"}

func (o *progressOptions) flags(cmd *cobra.Command) {
	f := cmd.Flags()
	f.StringVar(&o.mode, "progress", "auto", "`FORMAT` of the progress on standard error: auto, tty (redrawn), plain (a line for each event), or json (the platform's events, one a line)")
	f.BoolVarP(&o.verbose, "verbose", "v", false, "also show the output of finished steps, and what each SLSA requirement rests on")
	cmd.MarkFlagsMutuallyExclusive("quiet", "progress")
	cmd.MarkFlagsMutuallyExclusive("quiet", "verbose")
}

// check refuses a mode that does not exist or that w does not allow.
func (o *progressOptions) check(w io.Writer) error {
	switch {
	case !slices.Contains(progressModes, o.mode):
		return usageError("", "--progress: expected %s, found %q", strings.Join(progressModes, ", "), o.mode)
	case o.mode == "tty" && !isTerminal(w):
		return usageError("--progress=plain works everywhere", "--progress=tty: standard error is not a terminal that can be redrawn")
	}
	return nil
}

// start returns the progress that the flags choose.
func (o *progressOptions) start(w io.Writer, quiet bool) progress {
	switch {
	case quiet:
		return silent{w}
	case o.mode == "json":
		return &jsonProgress{w: w}
	case o.mode == "plain" || !isTerminal(w):
		return &plainProgress{w: w, start: time.Now(), jobs: map[string]*plainJob{}}
	}
	return newLiveProgress(w.(*os.File), o.verbose)
}

// silent shows no progress.
type silent struct{ io.Writer }

func (silent) images([]string)         {}
func (silent) event(string, api.Event) {}
func (silent) ended(string, bool)      {}
func (silent) close()                  {}

// jsonProgress prints the events as JSON, one a line.
type jsonProgress struct {
	mu sync.Mutex
	w  io.Writer
}

func (p *jsonProgress) images([]string)    {}
func (p *jsonProgress) ended(string, bool) {}
func (p *jsonProgress) close()             {}

func (p *jsonProgress) Write(text []byte) (int, error) {
	p.event("", api.Event{Time: time.Now().UTC(), Line: strings.TrimSpace(string(text))})
	return len(text), nil
}

func (p *jsonProgress) event(image string, e api.Event) {
	e.Phase, e.Step, e.Line = printable.Text(e.Phase), printable.Text(e.Step), printable.Text(e.Line)
	line, err := json.Marshal(struct {
		Image string `json:"image,omitempty"`
		api.Event
	}{printable.Text(image), e})
	if err != nil {
		return // these types marshal
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	fmt.Fprintf(p.w, "%s\n", line)
}

// silentFor is after how much silence plainProgress says what goes on, when the platform says
// that it is alive, as it does every 15 s.
const silentFor = 30 * time.Second

// plainProgress prints each phase with the seconds since the start, and the build's
// output below each of its steps.
type plainProgress struct {
	mu     sync.Mutex
	w      io.Writer
	start  time.Time
	replay bool // the events are of an earlier release, and start is the time of the first
	width  int  // of the names of several images; 0: there is one
	jobs   map[string]*plainJob
	last   time.Time // when something was printed
}

type plainJob struct {
	phase, step string
	running     []string // steps of the build that have not ended, in the order in which they began
}

// now returns the phase, and the step that has run longest. The step that printed last may have ended.
func (j *plainJob) now() string {
	step := j.step
	if j.phase == "build" && len(j.running) > 0 {
		step = j.running[0]
	}
	return strings.TrimSpace(j.phase + " " + step)
}

func (p *plainProgress) images(names []string) {
	p.mu.Lock()
	defer p.mu.Unlock()
	for _, name := range names {
		p.width = max(p.width, len(shortName(name)))
	}
}

func (p *plainProgress) ended(string, bool) {}
func (p *plainProgress) close()             {}

func (p *plainProgress) Write(text []byte) (int, error) {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.w.Write(text)
}

func (p *plainProgress) event(image string, e api.Event) {
	if e.Phase == "queue" && e.ID != "" {
		e.Step = "release " + e.ID[:min(api.ShortID, len(e.ID))]
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	if e.Done {
		if j := p.jobs[image]; j != nil {
			j.running = slices.DeleteFunc(j.running, func(step string) bool { return step == e.Step })
		}
		return
	}
	if e.Phase == "alive" && (time.Since(p.last) < silentFor-time.Second || p.jobs[image] == nil) {
		return
	}
	p.last = time.Now()
	elapsed := time.Since(p.start)
	if p.replay {
		if p.start.IsZero() {
			p.start = e.Time
		}
		elapsed = e.Time.Sub(p.start)
	}
	j := p.jobs[image]
	if j == nil {
		j = &plainJob{}
		p.jobs[image] = j
	}
	prefix := ""
	if p.width > 0 && image != "" {
		prefix = fmt.Sprintf("%-*s │", p.width, printable.Text(shortName(image)))
	}
	if e.Phase == "alive" {
		fmt.Fprintf(p.w, "%s%7.1fs %s goes on\n", prefix, elapsed.Seconds(), printable.Text(j.now()))
		return
	}
	if e.Phase == "build" && j.phase == "build" && e.Line == "" && !slices.Contains(j.running, e.Step) {
		j.running = append(j.running, e.Step)
	}
	if e.Phase == "build" && e.Step != "" && e.Step != j.step && j.phase == "build" {
		j.step = e.Step
		fmt.Fprintf(p.w, "%s         │ %s\n", prefix, printable.Text(e.Step))
		e.Step = ""
	}
	if e.Phase != j.phase || e.Phase != "build" && e.Step != "" {
		j.phase, j.step = e.Phase, e.Step
		fmt.Fprintf(p.w, "%s%7.1fs %s %s\n", prefix, elapsed.Seconds(), printable.Text(e.Phase), printable.Text(e.Step))
	}
	if e.Line = lastState(e.Line); e.Line != "" {
		bar := " "
		if e.Phase == "build" {
			bar = "│   "
		}
		fmt.Fprintf(p.w, "%s         %s%s\n", prefix, bar, printable.Text(e.Line))
	}
}

// lastState returns what a terminal finally shows of a line in which a progress
// bar overwrote itself with carriage returns.
func lastState(line string) string {
	line = strings.TrimRight(line, "\r")
	return line[strings.LastIndexByte(line, '\r')+1:]
}
