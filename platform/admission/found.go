package admission

import (
	"cmp"
	"context"
	"crypto/sha256"
	"sync"
	"time"

	"github.com/colophon-build/colophon/audit"
)

// maxFindings limits what is remembered of the records about running pods.
const maxFindings = 1 << 16

// finding is what was found about an image that pods of a namespace run.
type finding struct {
	imageIn
	under string // id of the policies, trust roots and lists that counted
	said  [sha256.Size]byte
}

// imageIn is an image in a namespace, as its pods name it, with its digest.
type imageIn struct{ namespace, image string }

// findingOf returns the finding of a record. The reason of an undecided answer is left out: it differs from try to try,
// and would make each try a new finding.
func findingOf(o *held, out outcome, r audit.Record, under string) finding {
	said := r.Outcome
	if d := out.answer.Decision; d != nil && r.Outcome != audit.Undecided {
		said += " " + d.Reason
	}
	return finding{imageIn{o.Namespace, out.image}, cmp.Or(out.answer.Policies, under), sha256.Sum256([]byte(said))}
}

// findings are those that this leader has recorded in the audit ledger, and when it last found each. A new leader
// begins with none, so it records each once more.
type findings struct {
	mu   sync.Mutex
	last map[finding]time.Time
}

// add reports whether a finding is new, and must be recorded. From then on it is not new.
func (f *findings) add(x finding, now time.Time) bool {
	f.mu.Lock()
	defer f.mu.Unlock()
	_, had := f.last[x]
	if f.last == nil || !had && len(f.last) >= maxFindings {
		f.last = map[finding]time.Time{} // too many: begin anew, and record again what is still found
	}
	f.last[x] = now
	return !had
}

func (f *findings) remove(x finding) {
	f.mu.Lock()
	defer f.mu.Unlock()
	delete(f.last, x)
}

func (f *findings) clear() {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.last = nil
}

// forget drops the findings about images of which all pods now have another one, and about images that no pod has run
// for a day. If such a finding comes back, it is recorded again. The day keeps a job that runs every hour from being
// recorded each time.
func (f *findings) forget(pods []*held, now time.Time) {
	f.mu.Lock()
	defer f.mu.Unlock()
	runs := map[imageIn]bool{}
	for _, o := range pods {
		for _, x := range o.checked.found {
			runs[x.imageIn] = true
			if _, ok := f.last[x]; ok {
				f.last[x] = now
			}
		}
	}
	for x, last := range f.last {
		if last != now && (runs[x.imageIn] || now.Sub(last) >= againEvery) {
			delete(f.last, x)
		}
	}
}

// note records what was found about an image of a running pod, unless the audit ledger has the finding. One record is
// about all pods of a namespace that run the image: else each change of a policy would be a record for each pod.
// What could not be recorded is tried again with the pod.
func (v *verifier) note(ctx context.Context, o *held, out outcome, now time.Time) {
	if v.h.Recorder == nil {
		return
	}
	r := v.h.auditRecord(audit.KindRunning, o.admitted, out, audit.Nothing)
	r.Where.Kind, r.Where.Name, r.Where.UID = "", audit.Field{}, ""
	x := findingOf(o, out, r, o.checked.under)
	if v.ledger.add(x, now) {
		if err := v.h.Recorder.Note(ctx, r); err != nil {
			v.ledger.remove(x)
			v.h.Log.Error("what was found about running pods is not in the audit ledger", "namespace", o.Namespace, "image", out.image, "outcome", r.Outcome, "error", err)
			o.checked.next = now.Add(jitter(againUnknown))
			return
		}
	}
	o.checked.found = append(o.checked.found, x)
}
