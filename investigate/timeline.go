package investigate

import (
	"cmp"
	"fmt"
	"slices"
	"strings"
	"time"
)

// maxEvents bounds a time line: its first and its last events are kept.
const maxEvents = 2000

// timeline returns what happened, ordered by time.
func timeline(c *Case) []Event {
	out := []Event{}
	add := func(t time.Time, basis Basis, format string, args ...any) {
		if !t.IsZero() {
			out = append(out, Event{t.UTC(), line(fmt.Sprintf(format, args...)), basis})
		}
	}
	for _, a := range c.Answers {
		if a.Outcome != Answered {
			continue
		}
		if o := a.Facts.Commit; o != nil {
			add(o.Authored, Claimed, "commit %s written by %s", short(o.ID), o.Author)
			add(o.Committed, Claimed, "commit %s committed by %s", short(o.ID), o.Committer)
		}
		for _, m := range a.Facts.History {
			if m.Entry != nil {
				add(m.Time, Proved, "%s led to commit %s (log entry %d)", m.Ref, short(m.Commit), *m.Entry)
			} else {
				add(m.Time, Said, "%s led to commit %s, as the platform remembers", m.Ref, short(m.Commit))
			}
		}
		for _, r := range a.Facts.Releases {
			add(r.Asked, Said, "release %s of %s asked for by %s: %s", short(r.ID), r.Image, cmp.Or(r.Actor, "somebody"), r.State)
			if r.Digest != "" {
				add(r.Ended, Said, "tags %s of %s set to %s", strings.Join(r.Tags, ", "), r.Image, r.Digest)
			}
		}
		if f := a.Facts.Found; f != nil {
			for _, e := range f.Entries {
				if e.Issued != nil { // whoever logs an entry may add a certificate of their own
					add(*e.Issued, Claimed, "%s", f.event(e))
				}
			}
		}
		if d := a.Facts.Decided; d != nil {
			for _, r := range d.Records {
				add(r.Time, Said, "%s", r.event())
			}
		}
		if d := a.Facts.Distrust; d != nil {
			for _, e := range d.Entries {
				add(e.Time, Said, "%s distrusted %s", e.Issuer, e.Scope)
			}
		}
		for _, r := range a.Facts.Running {
			add(r.Since, Said, "%s began to run %s", r.Where, r.Digest)
			add(r.Until, Said, "%s ended", r.Where)
		}
	}
	signed := slices.Clone(signedOf(c))
	for _, b := range c.Answer(AskChain).Facts.Others {
		signed = append(signed, b.Signed...)
	}
	for _, s := range signed {
		for _, t := range s.Times {
			where := ""
			if s.LogIndex != nil {
				where = fmt.Sprintf(" (log entry %d)", *s.LogIndex)
			}
			add(t, Proved, "%s signed by %s%s", cmp.Or(s.PredicateType, "image"), cmp.Or(s.Signer, "a key"), where)
		}
	}
	add(c.At, Said, "investigated")
	slices.SortFunc(out, func(a, b Event) int {
		return cmp.Or(a.Time.Compare(b.Time), cmp.Compare(a.What, b.What), cmp.Compare(a.Basis, b.Basis))
	})
	out = slices.Compact(out)
	if cut := len(out) - maxEvents; cut > 0 {
		half := maxEvents / 2
		middle := out[half]
		middle.What, middle.Basis = fmt.Sprintf("%d events are left out here", cut+1), Said
		out = slices.Concat(out[:half], []Event{middle}, out[len(out)-half+1:])
	}
	return out
}

// short returns the first digits of an id.
func short(id string) string {
	if len(id) > 12 {
		return id[:12]
	}
	return id
}

// event says what an entry with a certificate shows.
func (f *Found) event(e Entry) string {
	if len(f.Pages) == 0 { // of an archive
		return fmt.Sprintf("archive record %d: signed, about %s", e.Index, names(e.About))
	}
	return fmt.Sprintf("log entry %d: signed by %s for commit %s", e.Index, e.Identity, short(e.Commit))
}
