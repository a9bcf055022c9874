package main

import (
	"fmt"
	"os"
	"slices"
	"strings"
	"time"

	"github.com/colophon-build/colophon/platform/api"
)

// liveProgress draws what runs on a terminal. Of what is finished, it leaves one line: for
// each phase of one release, or for each of several releases.
type liveProgress struct {
	*region
	verbose bool
	names   []string // of several images
	jobs    map[string]*liveJob
	now     func() time.Time
}

// liveJob is one release.
type liveJob struct {
	start  time.Time
	phases []*livePhase // that run
	steps  []*liveStep  // of the build, that run
	long   []string     // some steps that took longWork, with their durations
	more   int          // others
	done   int          // steps that have ended
	output []outputLine // the last lines of the build
	lost   int          // lines before these
	ended  bool
}

type livePhase struct {
	name, detail string
	count        int
	start        time.Time
}

type outputLine struct{ step, text string }

type liveStep struct {
	name  string
	start time.Time
}

const (
	longWork     = time.Second // a finished step that took as long is named when the build ends
	longSteps    = 12          // so many of them
	runningSteps = 1000        // that are followed
	keptOutput   = 40          // lines of a failed build's output that are printed
	recentOutput = 3           // lines of the running build's output that are drawn
)

func newLiveProgress(f *os.File, verbose bool) *liveProgress {
	p := &liveProgress{verbose: verbose, jobs: map[string]*liveJob{}, now: time.Now}
	p.region = newRegion(f, 0, p.rows)
	go p.run(p.stop)
	return p
}

func (p *liveProgress) images(names []string) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if j := p.jobs[""]; j != nil { // which asked for the names
		p.endPhases(j, "", "✓")
		delete(p.jobs, "")
	}
	p.names = names
}

// job returns the job of an image. What happened before the image was known is its own if
// it is the only one.
func (p *liveProgress) job(image string) *liveJob {
	if first := p.jobs[""]; image != "" && first != nil && len(p.names) == 0 {
		delete(p.jobs, "")
		p.jobs[image] = first
	}
	if p.jobs[image] == nil {
		p.jobs[image] = &liveJob{start: p.now()}
	}
	return p.jobs[image]
}

// together are phases that run at the same time.
var together = []string{"push", "sign"}

func (p *liveProgress) event(image string, e api.Event) {
	if e.Phase == "alive" {
		return
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	j := p.job(image)
	i := slices.IndexFunc(j.phases, func(f *livePhase) bool { return f.name == e.Phase })
	if i < 0 {
		if !slices.Contains(together, e.Phase) || !slices.ContainsFunc(j.phases, func(f *livePhase) bool { return slices.Contains(together, f.name) }) {
			p.endPhases(j, image, "✓")
		}
		i = len(j.phases)
		j.phases = append(j.phases, &livePhase{name: e.Phase, detail: e.Step, start: p.now()})
	} else if e.Phase != "build" && e.Step != "" {
		j.phases[i].detail = e.Step
	}
	if e.Step != "" {
		j.phases[i].count++
	}
	line := row(lastState(e.Line))
	switch {
	case e.Phase == "build" && e.Step != "" && e.Step != j.phases[i].detail:
		p.step(j, image, e, line)
	case e.Phase == "build" && e.Step != "": // another attempt begins
		j.steps = nil
	case line != "" && (len(p.names) == 0 || p.verbose):
		p.print(p.prefix(image) + "           " + paint(p.f, faint, line))
	}
}

// step follows the steps of a build.
func (p *liveProgress) step(j *liveJob, image string, e api.Event, line string) {
	i := slices.IndexFunc(j.steps, func(s *liveStep) bool { return s.name == e.Step })
	switch {
	case e.Done && i >= 0:
		j.done++
		took := p.now().Sub(j.steps[i].start)
		text := fmt.Sprintf("%s  %s", seconds(took), row(e.Step))
		if p.verbose {
			p.print(fmt.Sprintf("%s  %s        %s", p.prefix(image), paint(p.f, green, "✓"), text))
		} else if took >= longWork && len(j.long) == longSteps {
			j.more++
		} else if took >= longWork {
			j.long = append(j.long, text)
		}
		j.steps = slices.Delete(j.steps, i, i+1)
	case e.Done:
	case line != "":
		if j.output = append(j.output, outputLine{e.Step, line}); len(j.output) > keptOutput {
			j.output = j.output[1:]
			j.lost++
		}
		if p.verbose {
			p.print(p.prefix(image) + "           │ " + line)
		}
	case i < 0 && e.Line == "" && len(j.steps) < runningSteps:
		j.steps = append(j.steps, &liveStep{e.Step, p.now()})
	}
}

// endPhases leaves one line for each phase that has run.
func (p *liveProgress) endPhases(j *liveJob, image, mark string) {
	for _, f := range j.phases {
		if len(p.names) == 0 || p.verbose {
			p.print(p.prefix(image) + fmt.Sprintf("%s %-8s %s  %s", p.mark(mark), row(f.name), seconds(p.now().Sub(f.start)), j.detail(f)))
		}
		if f.name == "build" && len(p.names) == 0 {
			for _, s := range j.long {
				p.print("           " + paint(p.f, faint, s))
			}
			if j.more > 0 {
				p.print("           " + paint(p.f, faint, fmt.Sprintf("and %d more steps", j.more)))
			}
		}
	}
	j.phases, j.steps = nil, nil
}

func (p *liveProgress) mark(mark string) string {
	if mark == "✗" {
		return paint(p.f, red, mark)
	}
	return paint(p.f, green, mark)
}

// detail describes a phase in a few words.
func (j *liveJob) detail(f *livePhase) string {
	switch {
	case f.name == "build" && j.done == 1:
		return row(f.detail) + ", 1 step done"
	case f.name == "build" && j.done > 0:
		return fmt.Sprintf("%s, %d steps done", row(f.detail), j.done)
	case f.name == "sign":
		return fmt.Sprintf("%d statements", f.count)
	}
	return row(f.detail)
}

func (p *liveProgress) ended(image string, failed bool) {
	p.mu.Lock()
	defer p.mu.Unlock()
	j := p.job(image)
	j.ended = true
	mark, word := "✓", "released"
	if failed {
		mark, word = "✗", "not released"
	}
	building := slices.ContainsFunc(j.phases, func(f *livePhase) bool { return f.name == "build" })
	p.endPhases(j, image, mark)
	if failed && building && !p.verbose {
		if j.lost > 0 {
			p.print(fmt.Sprintf("%s           %d earlier lines of output: --verbose shows them", p.prefix(image), j.lost))
		}
		for _, line := range j.output {
			p.print(p.prefix(image) + "           │ " + line.text)
		}
	}
	if len(p.names) > 0 {
		p.print(fmt.Sprintf("%s %s  %s %s", p.mark(mark), seconds(p.now().Sub(j.start)), row(shortName(image)), word))
	}
}

// prefix names the image where there are several.
func (p *liveProgress) prefix(image string) string {
	if len(p.names) == 0 || image == "" {
		return ""
	}
	return row(shortName(image)) + " │ "
}

// rows draws what runs.
func (p *liveProgress) rows(now time.Time, rows int) (lines []string) {
	spin := paint(p.f, yellow, spinner(now))
	total := fmt.Sprintf("  elapsed  %s", seconds(now.Sub(p.start)))
	if len(p.names) > 0 {
		waiting := 0
		for _, name := range p.names {
			switch j := p.jobs[name]; {
			case j == nil:
				waiting++
			case !j.ended:
				lines = append(lines, fmt.Sprintf("%s %s  %s  %s", spin, seconds(now.Sub(j.start)), row(shortName(name)), j.doing()))
			}
		}
		if waiting > 0 {
			total += fmt.Sprintf(", %d images wait", waiting)
		}
		return append(lines[:min(len(lines), rows-1)], total)
	}
	for _, j := range p.jobs { // one
		lines = append(lines, p.running(j, spin, now, rows-2)...)
	}
	if len(lines) == 0 {
		lines = append(lines, spin+" waiting for the platform")
	}
	return append(lines[:min(len(lines), rows-1)], total)
}

// running draws one release.
func (p *liveProgress) running(j *liveJob, spin string, now time.Time, rows int) (lines []string) {
	for _, f := range j.phases {
		lines = append(lines, fmt.Sprintf("%s %-8s %s  %s", spin, row(f.name), seconds(now.Sub(f.start)), j.detail(f)))
	}
	var recent []string
	for _, line := range slices.Backward(j.output) {
		if !p.verbose && len(recent) < recentOutput && slices.ContainsFunc(j.steps, func(s *liveStep) bool { return s.name == line.step }) {
			recent = slices.Insert(recent, 0, line.text)
		}
	}
	room := max(rows-len(lines)-len(recent), 1)
	for i, s := range j.steps {
		if i == room-1 && len(j.steps) > room {
			lines = append(lines, fmt.Sprintf("           and %d more steps", len(j.steps)-i))
			break
		}
		lines = append(lines, fmt.Sprintf("           %s  %s", seconds(now.Sub(s.start)), row(s.name)))
	}
	for _, line := range recent {
		lines = append(lines, "           "+paint(p.f, faint, "│ "+line))
	}
	return lines
}

// doing says in a few words what a release does.
func (j *liveJob) doing() string {
	if len(j.phases) == 0 {
		return "waiting for the platform"
	}
	var names []string
	for _, f := range j.phases {
		names = append(names, row(f.name))
	}
	text := strings.Join(names, ", ")
	if n := len(j.steps); n > 0 {
		text += "  " + row(j.steps[n-1].name)
	}
	return text
}
