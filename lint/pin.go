package lint

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/colophon-build/colophon/lint/bitbucket"
	"github.com/colophon-build/colophon/lint/dockerfile"
	"github.com/colophon-build/colophon/lint/finding"
	"github.com/colophon-build/colophon/lint/gitlab"
	"github.com/colophon-build/colophon/lint/manifest"
	"github.com/colophon-build/colophon/lint/pins"
	"github.com/colophon-build/colophon/lint/tekton"
	"github.com/colophon-build/colophon/lint/workflow"
	"github.com/colophon-build/colophon/lint/yamlfile"
	"github.com/colophon-build/colophon/source"
)

// PinState says what became of a name that can be pinned.
type PinState string

// States of a pin.
const (
	PinCurrent   PinState = "current"   // there is nothing newer
	PinUnpinned  PinState = "unpinned"  // it has no pin, and an update would write To
	PinOutdated  PinState = "outdated"  // there is something newer, and an update would write To
	PinUpdated   PinState = "updated"   // the edits write To
	PinWaiting   PinState = "waiting"   // what is newer was first seen within the cooldown
	PinMoved     PinState = "moved"     // an alarm: the tag of a version points to another commit than before, or is gone
	PinForeign   PinState = "foreign"   // an alarm: no branch or tag of the repository contains the commit
	PinVariable  PinState = "variable"  // its name has variables: it is not known here
	PinUndecided PinState = "undecided" // a server did not answer, or was not asked
)

// PinStates lists all.
func PinStates() []PinState {
	return []PinState{PinCurrent, PinUnpinned, PinOutdated, PinUpdated, PinWaiting, PinMoved, PinForeign, PinVariable, PinUndecided}
}

// Alarm reports whether somebody must look before anything is changed.
func (s PinState) Alarm() bool { return s == PinMoved || s == PinForeign }

// Pin is a name that can be pinned: that of an action, a reusable workflow or an image.
type Pin struct {
	finding.Position
	Name    string         `json:"name"` // OWNER/REPO[/PATH]; or that of an image, with its tag
	State   PinState       `json:"state"`
	Tag     string         `json:"tag,omitempty"`    // of From; of an action
	From    string         `json:"from,omitempty"`   // commit or digest that the file has; empty: it is not pinned
	NewTag  string         `json:"newTag,omitempty"` // of To; of an action
	To      string         `json:"to,omitempty"`     // commit or digest of an update; empty: there is none
	Message string         `json:"message,omitempty"`
	Changes []source.Step  `json:"changes,omitempty"` // commits that To has and From has not, the newest first, at most 1,000
	Edits   []finding.Edit `json:"-"`
}

// Pinner looks at pins, and updates them.
type Pinner struct {
	Resolver *pins.Resolver
	Update   bool // return the edits that update pins, and that pin what is not pinned
	// Cooldown is how long a release must have been seen before it is taken. The time counts from
	// when Resolver.Known first saw the tag point to its commit: the time in a commit is chosen by
	// whoever made it. A commit that says that it is younger is not taken either.
	Cooldown time.Duration
	Major    bool // newer major versions too
	Now      time.Time
}

const (
	maxTried = 5 // newer versions of one action whose history is asked for
	askers   = 8 // pins that are looked at at once
)

// Pins returns the names that can be pinned in the workflows, actions, Dockerfiles and pipelines of
// a tree, in the order of files and places. It changes no file: Edits has the changes. Files that cannot be
// read are findings of Run, and have no pins. The error is that of ctx.
func (p *Pinner) Pins(ctx context.Context, t *finding.Tree) ([]Pin, error) {
	var jobs []func() Pin
	for _, name := range t.Files() {
		if f, err := readPinned(t, name); err == nil {
			for _, job := range p.jobs(ctx, f) {
				jobs = append(jobs, func() Pin { return decided(f, job) })
			}
		}
	}
	all := make([]Pin, len(jobs))
	var group sync.WaitGroup
	slots := make(chan struct{}, askers)
	for i, job := range jobs {
		slots <- struct{}{}
		group.Go(func() {
			all[i] = job()
			<-slots
		})
	}
	group.Wait()
	slices.SortStableFunc(all, func(a, b Pin) int {
		return cmp.Or(cmp.Compare(a.File, b.File), cmp.Compare(a.Line, b.Line), cmp.Compare(a.Column, b.Column))
	})
	return all, ctx.Err()
}

// pipelines are the readers of pipelines and manifests that name images, but no actions.
var pipelines = []struct {
	wants  func(path string) bool
	images func(*finding.File) ([]yamlfile.Text, error)
}{{bitbucket.Wants, bitbucket.Images}, {gitlab.Wants, gitlab.Images}, {manifest.Wants, manifest.Images}, {tekton.Wants, tekton.Images}}

// errNoPins means that no reader wants a file.
var errNoPins = errors.New("no names of images or actions")

func readPinned(t *finding.Tree, name string) (*finding.File, error) {
	if workflow.Wants(name) || dockerfile.Wants(name) {
		return t.Read(name)
	}
	for _, l := range pipelines {
		if l.wants(name) {
			return t.Read(name)
		}
	}
	return nil, errNoPins
}

// decided returns what job returns, and an undecided pin if job panics: libraries parse strangers' files there.
func decided(f *finding.File, job func() Pin) (pin Pin) {
	defer func() {
		if v := recover(); v != nil {
			pin = Pin{Position: finding.Position{File: f.Path, Line: 1, Column: 1}}.with(PinUndecided, fmt.Sprintf("the reader failed: %v", v))
		}
	}()
	return job()
}

// jobs returns the functions that look at the names in a file.
func (p *Pinner) jobs(ctx context.Context, f *finding.File) (jobs []func() Pin) {
	defer func() {
		if v := recover(); v != nil {
			jobs = []func() Pin{func() Pin { panic(v) }}
		}
	}()
	if dockerfile.Wants(f.Path) {
		for _, i := range dockerfile.Images(f) {
			jobs = append(jobs, func() Pin { return p.base(ctx, f, i) })
		}
		return jobs
	}
	for _, l := range pipelines {
		if !l.wants(f.Path) {
			continue
		}
		images, err := l.images(f)
		if err != nil {
			continue
		}
		for _, t := range images {
			jobs = append(jobs, func() Pin { return p.named(ctx, t) })
		}
	}
	if !workflow.Wants(f.Path) {
		return jobs
	}
	uses, err := workflow.Uses(f)
	if err != nil {
		return jobs
	}
	for _, u := range uses {
		if u.Image || u.Repo != "" && u.Ref != "" && u.Repo != workflow.Generator {
			jobs = append(jobs, func() Pin { return p.use(ctx, u) })
		}
	}
	return jobs
}

// named looks at the image that a text of a pipeline or manifest names.
func (p *Pinner) named(ctx context.Context, t yamlfile.Text) Pin {
	pin := Pin{Position: t.Position(0, len(t.Value)), Name: t.Value}
	if strings.Contains(t.Value, "$") {
		return pin.with(PinVariable, "its name has variables")
	}
	return p.image(ctx, pin, func(name string) []finding.Edit { return t.Replace(0, len(t.Value), name) })
}

// base looks at an image of a Dockerfile.
func (p *Pinner) base(ctx context.Context, f *finding.File, i dockerfile.Image) Pin {
	pin := Pin{Position: f.Position(i.Start, i.End), Name: i.Name}
	if !i.Literal {
		return pin.with(PinVariable, "its name has variables")
	}
	return p.image(ctx, pin, func(name string) []finding.Edit { return []finding.Edit{f.Replace(i.Start, i.End, name)} })
}

// use looks at what a workflow uses.
func (p *Pinner) use(ctx context.Context, u *workflow.Use) Pin {
	pin := Pin{Position: u.Text.Position(0, len(u.Text.Value)), Name: u.Name}
	switch {
	case strings.Contains(u.Text.Value, "${{"):
		return pin.with(PinVariable, "its name has variables")
	case u.Image:
		at := len(u.Text.Value) - len(u.Name)
		return p.image(ctx, pin, func(name string) []finding.Edit { return u.Text.Replace(at, len(u.Text.Value), name) })
	case pins.IsCommit(u.Ref):
		return p.pinned(ctx, pin, u)
	}
	pin.Tag = u.Ref
	target, err := p.Resolver.Ref(ctx, u.Repo, u.Ref)
	if err != nil {
		return pin.undecided(err)
	}
	pin.To, pin.NewTag = target.Commit, target.Label(u.Ref)
	if seen, ok := p.Resolver.Seen(u.Repo, pin.NewTag); ok && seen.Before != "" {
		return pin.moved(pin.NewTag, seen)
	}
	return p.edited(pin, PinUnpinned, pins.Pin(u.Text, afterAt(u), len(u.Text.Value), pin.To, pin.NewTag))
}

// afterAt returns where the ref begins in what a step uses.
func afterAt(u *workflow.Use) int { return strings.IndexByte(u.Text.Value, '@') + 1 }

func (pin Pin) with(s PinState, message string) Pin {
	pin.State, pin.Message = s, message
	return pin
}

func (pin Pin) undecided(err error) Pin {
	if errors.Is(err, pins.ErrNotAsked) {
		return pin.with(PinUndecided, "no server was asked")
	}
	return pin.with(PinUndecided, err.Error())
}

// moved returns the alarm that the tag of a version is not what it was.
func (pin Pin) moved(tag string, seen pins.Seen) Pin {
	pin.To, pin.NewTag = "", ""
	return pin.with(PinMoved, fmt.Sprintf("the tag %s pointed to %.12s, and was seen to point to %.12s on %s", tag, seen.Before, seen.Commit, seen.Since.Format(time.DateOnly)))
}

// edited returns a pin with the edits that update it. What is to be told of it, if none are asked
// for, is the state before.
func (p *Pinner) edited(pin Pin, before PinState, edits []finding.Edit) Pin {
	switch {
	case edits == nil:
		return pin.with(before, "its line cannot be edited: write it on a line of its own")
	case !p.Update:
		pin.State = before
	default:
		pin.State, pin.Edits = PinUpdated, edits
	}
	return pin
}

// image looks at an image. The tags of images move when the images are built again: that is how
// their pins are updated, and the tag stays.
func (p *Pinner) image(ctx context.Context, pin Pin, edits func(name string) []finding.Edit) Pin {
	name, digest, pinned := strings.Cut(pin.Name, "@")
	pin.Name, pin.From = name, digest
	now, err := p.Resolver.Digest(ctx, name)
	if err != nil {
		return pin.undecided(err)
	}
	if pinned && now == digest {
		return pin.with(PinCurrent, "")
	}
	before := PinUnpinned
	if pinned {
		before = PinOutdated
		if since, ok := p.Resolver.SeenImage(name, now); p.Cooldown > 0 && (!ok || p.Now.Sub(since) < p.Cooldown) {
			return pin.with(PinWaiting, "its tag was first seen to point to "+now+" "+day(since, ok))
		}
	}
	pin.To = now
	return p.edited(pin, before, edits(name+"@"+now))
}

func day(since time.Time, ok bool) string {
	if !ok {
		return "now"
	}
	return "on " + since.UTC().Format(time.DateOnly)
}

// pinned looks at the pin of an action.
func (p *Pinner) pinned(ctx context.Context, pin Pin, u *workflow.Use) Pin {
	pin.From, pin.Tag = u.Ref, pins.Comment(u.Text)
	s, err := p.Resolver.Commit(ctx, u.Repo, u.Ref)
	if err != nil {
		return pin.undecided(err)
	}
	pin.Tag = s.Named(pin.Tag)
	if is := pins.Precise(s.Of()); is != "" && !pins.Exact(pin.Tag) && (pin.Tag == "" || strings.HasPrefix(is, pin.Tag+".")) {
		pin.Tag = is // "v4" beside the commit of v4.2.1
	}
	switch exact := pins.Exact(pin.Tag); {
	case !s.Known():
		return pin.with(PinForeign, "no branch or tag of "+u.Repo+" contains the commit")
	case exact && !s.Has(pin.Tag):
		return pin.with(PinMoved, "the tag "+pin.Tag+" is gone")
	case exact && !s.Is(pin.Tag):
		return pin.with(PinMoved, fmt.Sprintf("the tag %s points to %.12s now", pin.Tag, s.Tags[pin.Tag]))
	case !pins.IsVersion(pin.Tag):
		return pin.with(PinCurrent, "no tag says which version it is")
	}
	return p.newer(ctx, pin, u, s)
}

// newer looks for a newer version of an action that may be taken.
func (p *Pinner) newer(ctx context.Context, pin Pin, u *workflow.Use, s pins.Standing) Pin {
	major := pin.Tag
	if p.Major {
		major = ""
	}
	pin.State = PinCurrent
	tried := 0
	for _, tag := range pins.Releases(s.Tags, major) {
		to := s.Tags[tag]
		if to == pin.From || pins.Exact(pin.Tag) && !pins.Newer(tag, pin.Tag) || tried == maxTried {
			break
		}
		seen, ok := p.Resolver.Seen(u.Repo, tag)
		switch {
		case ok && seen.Before != "":
			return pin.moved(tag, seen)
		case p.Cooldown > 0 && (!ok || p.Now.Sub(seen.Since) < p.Cooldown):
			pin = pin.with(PinWaiting, tag+" was first seen "+day(seen.Since, ok))
			continue
		}
		tried++
		steps, forward, err := p.Resolver.Between(ctx, u.Repo, pin.From, to)
		if err != nil && !errors.Is(err, pins.ErrNotAsked) {
			return pin.undecided(err)
		}
		if err == nil && len(steps) > 0 && p.Now.Sub(steps[0].Time) < p.Cooldown {
			pin = pin.with(PinWaiting, fmt.Sprintf("%s says that it is of %s", tag, steps[0].Time.Format(time.DateOnly)))
			continue
		}
		pin.To, pin.NewTag, pin.Changes, pin.Message = to, tag, steps, ""
		switch {
		case err != nil:
			pin.Message = "what changed is not known: no server was asked"
		case !forward:
			pin.Message = "the new commit does not have the old one in its history"
		}
		return p.edited(pin, PinOutdated, pins.Repin(u.Text, afterAt(u), len(u.Text.Value), to, tag))
	}
	return pin
}
