package admission

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/colophon-build/colophon/audit"
)

// liveLedger is an audit ledger that takes records, or does not.
type liveLedger struct {
	mu         sync.Mutex
	down, full error // what Record and Note return
	got        []audit.Record
	before     func() // is called before Record takes a record
}

func (l *liveLedger) Record(_ context.Context, r audit.Record) error {
	if l.before != nil {
		l.before()
	}
	return l.take(r, &l.down)
}

func (l *liveLedger) Note(_ context.Context, r audit.Record) error { return l.take(r, &l.full) }

func (l *liveLedger) take(r audit.Record, fails *error) error {
	l.mu.Lock()
	defer l.mu.Unlock()
	if *fails != nil {
		return *fails
	}
	l.got = append(l.got, r)
	return nil
}

// of returns the records of a kind and an outcome, as EFFECT NAMESPACE/NAME.
func (l *liveLedger) of(kind audit.Kind, outcome string) (out []string) {
	l.mu.Lock()
	defer l.mu.Unlock()
	for _, r := range l.got {
		if r.Kind == kind && r.Outcome == outcome {
			out = append(out, r.Effect+" "+r.Where.Namespace.Value+"/"+r.Where.Name.Value)
		}
	}
	return out
}

func (l *liveLedger) want(t *testing.T, when string, kind audit.Kind, outcome string, want ...string) {
	t.Helper()
	if got := l.of(kind, outcome); strings.Join(got, ", ") != strings.Join(want, ", ") {
		t.Errorf("%s: got the records %q of the kind %s and the outcome %s, want %q", when, got, kind, outcome, want)
	}
}

func (l *liveLedger) fails(down, full error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.down, l.full = down, full
}

func newRecorded(t *testing.T) (*live, *liveLedger) {
	c, l := newLive(t), &liveLedger{}
	c.h.Recorder, c.h.Name = l, "prod-a"
	return c, l
}

var errFull = errors.New("the disk of the audit ledger is full")

// TestRunningRecords: what is found about an image of running pods is in the ledger once for each namespace, and again
// when something else is found, other policies count, or another replica leads.
func TestRunningRecords(t *testing.T) {
	c, l := newRecorded(t)
	c.v.eviction.Enabled = false
	for n := range 4 {
		c.runs("shop", fmt.Sprint("good", n), c.good, "")
	}
	c.runs("tenant", "good", c.good, "")
	c.runs("shop", "bad", c.bad, "")
	c.settles(time.Minute)
	l.want(t, "at first", audit.KindRunning, audit.Rejected, "none shop/")
	if got := l.of(audit.KindRunning, audit.Accepted); len(got) != 2 {
		t.Fatalf("got %q, want one of each namespace", got)
	}
	for _, r := range l.got {
		_, digest, _ := strings.Cut(c.good, "@")
		if r.Outcome == audit.Accepted && (r.About.Digest != digest || r.About.Image.Value != c.good || r.About.Commit == "" || r.Where.Cluster != "prod-a" || r.Where.UID != "" || len(r.Rules) == 0) {
			t.Errorf("got %+v", r)
		}
	}
	c.runs("shop", "another", c.good, "")
	c.now = c.now.Add(25 * time.Hour)
	c.settles(time.Minute)
	if len(l.got) != 3 {
		t.Errorf("got %d records after another pod and another day, want the 3 from before", len(l.got))
	}
	c.use(strings.Replace(evicting, "unmatched: deny", "unmatched: allow", 1))
	c.settles(10 * time.Second)
	if len(l.got) != 6 {
		t.Errorf("got %d records when other policies count, want 3 more", len(l.got))
	}
	// Nobody knows, and then the image is accepted again.
	c.down.Store(true)
	c.use(evicting + "    - name: more\n      images: [{glob: \"HOST/team/**\"}]\n      accept:\n        - built: {source: https://git.example.com/team/app}\n")
	c.settles(10 * time.Second)
	undecided := len(l.of(audit.KindRunning, audit.Undecided))
	if undecided == 0 {
		t.Fatal("what nobody knows is not in the ledger")
	}
	c.settles(16 * time.Minute)
	if n := len(l.of(audit.KindRunning, audit.Undecided)); n != undecided {
		t.Errorf("got %d records of what nobody knows, want the %d from before", n, undecided)
	}
	c.down.Store(false)
	before := len(l.of(audit.KindRunning, audit.Accepted))
	c.settles(16 * time.Minute)
	if n := len(l.of(audit.KindRunning, audit.Accepted)); n != before+2 {
		t.Errorf("got %d more records when the images are known again, want 2", n-before)
	}
	c.runs("shop", "later", c.host+"/team/later@sha256:"+strings.Repeat("1", 64), "")
	c.settles(10 * time.Second)
	if n := len(l.of(audit.KindRunning, audit.Undecided)); n != undecided+1 {
		t.Errorf("got %d records of what nobody knows, want one of a new image", n-undecided)
	}
	// Another replica leads meanwhile.
	n := len(l.got)
	c.v.lead.until = time.Time{}
	c.v.step(t.Context(), c.now)
	c.settles(10 * time.Second)
	if got := len(l.got) - n; got != 4 {
		t.Errorf("got %d records by the next leader, want 4", got)
	}
}

// TestUnrecordedFindingIsTriedAgain: what could be kept nowhere is recorded later.
func TestUnrecordedFindingIsTriedAgain(t *testing.T) {
	c, l := newRecorded(t)
	c.runs("shop", "good", c.good, "")
	l.fails(nil, errFull)
	c.settles(10 * time.Second)
	if !strings.Contains(c.log.String(), errFull.Error()) {
		t.Error("the log does not say it")
	}
	l.fails(nil, nil)
	c.settles(20 * time.Minute)
	l.want(t, "later", audit.KindRunning, audit.Accepted, "none shop/")
}

// TestFindingsAreBounded: at most maxFindings are kept, and one that was dropped is new again.
func TestFindingsAreBounded(t *testing.T) {
	var f findings
	now := time.Now()
	of := func(n int) finding { return finding{imageIn: imageIn{"shop", fmt.Sprint(n)}} }
	for n := range maxFindings + 1 {
		if !f.add(of(n), now) {
			t.Fatal(n)
		}
	}
	if len(f.last) > maxFindings || f.add(of(maxFindings), now) || !f.add(of(0), now) {
		t.Errorf("%d findings are remembered", len(f.last))
	}
	pod := &held{checked: checked{found: []finding{of(0)}}}
	f.forget([]*held{pod}, now.Add(againEvery-time.Second))
	if f.add(of(0), now) || f.add(of(maxFindings), now) {
		t.Error("an image that ran a day ago is forgotten")
	}
	f.forget([]*held{pod}, now.Add(2*againEvery))
	if f.add(of(0), now) || !f.add(of(maxFindings), now) {
		t.Error("want that only the finding about an image that no pod has run for a day is dropped")
	}
}

// TestEvictionIsRecorded: the ledger has the verdict before a pod is evicted, and then what came of it.
func TestEvictionIsRecorded(t *testing.T) {
	c, l := newRecorded(t)
	c.runs("shop", "bad", c.bad, "")
	c.api.evict = func(string) int {
		l.want(t, "before the eviction", audit.KindRunning, audit.Rejected, "none shop/", "refused shop/bad")
		l.want(t, "before the eviction", audit.KindEvict, audit.Done)
		go c.seen.set(podsPath+" shop/bad", nil)
		return http.StatusCreated
	}
	c.settles(10 * time.Second)
	l.want(t, "after it", audit.KindEvict, audit.Done, " shop/bad")
	act := l.got[len(l.got)-1]
	_, digest, _ := strings.Cut(c.bad, "@")
	if act.About.Digest != digest || act.About.Image.Value != c.bad || act.Where.Kind != "Pod" || act.Where.UID != "uid-of-bad" || act.Where.Cluster != "prod-a" || len(act.Rules) == 0 || !strings.Contains(act.Reason.Value, "rule app of the policy shop") {
		t.Errorf("got %+v", act)
	}
}

// TestNoEvictionWithoutRecord: if the ledger does not record the verdict, no pod is evicted, none is counted, and it is
// said. Later it is tried again.
func TestNoEvictionWithoutRecord(t *testing.T) {
	c, l := newRecorded(t)
	c.runs("shop", "bad", c.bad, "")
	l.fails(errFull, nil)
	c.settles(5 * time.Minute)
	if got := c.api.posted("/eviction"); len(got) != 0 || counted(c.v.lead) != 0 {
		t.Fatalf("got %q, and %d counted, though the ledger has no verdict", got, counted(c.v.lead))
	}
	l.want(t, "without a record", audit.KindEvict, audit.Done)
	l.want(t, "without a record", audit.KindEvict, audit.Failed)
	if got := c.api.posted("EvictionStopped"); len(got) == 0 || !strings.Contains(c.log.String(), errFull.Error()) || c.metric("colophon_admission_evictions_total") == 0 {
		t.Errorf("got events %q, and the metric %v; log: %s", got, c.metric("colophon_admission_evictions_total"), &c.log)
	}
	l.fails(nil, nil)
	c.settles(time.Minute)
	if got := c.api.posted("/eviction"); len(got) == 0 {
		t.Error("when the ledger takes records again, no pod is evicted")
	}
}

// TestOldVerdictEvictsNoPod: other policies that begin to count while the ledger takes the verdict keep the pod.
func TestOldVerdictEvictsNoPod(t *testing.T) {
	c, l := newRecorded(t)
	c.runs("shop", "bad", c.bad, "")
	l.before = func() { c.use(strings.Replace(evicting, "evict", "report", 1)) }
	c.settles(time.Minute)
	if got := c.api.posted("/eviction"); len(got) != 0 || counted(c.v.lead) != 0 {
		t.Errorf("got %q by a policy that counts no longer", got)
	}
	l.want(t, "at last", audit.KindEvict, audit.Failed, " shop/bad")
}

// TestFailedEvictionIsRecorded: an eviction that was not made, or perhaps, is recorded once as failed, however often it is
// tried; one without an answer says that the pod may be gone.
func TestFailedEvictionIsRecorded(t *testing.T) {
	for status, want := range map[int]string{http.StatusGatewayTimeout: "may be gone", http.StatusInternalServerError: "500", http.StatusTooManyRequests: "not now", http.StatusNotFound: "has gone"} {
		c, l := newRecorded(t)
		c.runs("shop", "bad", c.bad, "")
		c.v.eviction.Percent = 100
		c.api.evict = func(string) int { return status }
		c.settles(5 * time.Minute)
		l.want(t, fmt.Sprint(status), audit.KindEvict, audit.Failed, " shop/bad")
		l.want(t, fmt.Sprint(status), audit.KindRunning, audit.Rejected, "none shop/", "refused shop/bad")
		if act := l.got[len(l.got)-1]; !strings.Contains(act.Reason.Value, want) {
			t.Errorf("%d: got %q, want that it says %q", status, act.Reason.Value, want)
		}
		// The record of what happened does not need the ledger: it cannot be withdrawn.
		l.fails(errFull, nil)
		c.api.evict = nil
		if c.settles(time.Minute); status != http.StatusGatewayTimeout { // which was counted as the one of a day
			l.want(t, fmt.Sprint(status), audit.KindEvict, audit.Done, " shop/bad")
		}
	}
}
