package registry

import (
	"context"
	"errors"
	"slices"
	"strings"
	"sync"
	"testing"

	"github.com/colophon-build/colophon/audit"
	"github.com/colophon-build/colophon/test/shop"
)

// ledger notes what the gate records.
type ledger struct {
	mu   sync.Mutex
	got  []audit.Record
	down error
}

func (l *ledger) Record(_ context.Context, r audit.Record) error {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.got = append(l.got, r)
	return l.down
}

// Each decision of the gate about a pull or a tag is recorded, with who asked. Without a record, nothing is served
// and no tag is set.
func TestGateRecords(t *testing.T) {
	l := &ledger{}
	g := startGated(t, Config{Gate: &Gate{Recorder: l}})
	good := g.bytesOf(g.good.Digest)
	last := func(kind audit.Kind, outcome, effect, user string) {
		t.Helper()
		l.mu.Lock()
		defer l.mu.Unlock()
		if len(l.got) == 0 {
			t.Fatalf("no record, want %s %s", kind, outcome)
		}
		r := l.got[len(l.got)-1]
		if r.Kind != kind || r.Outcome != outcome || r.Effect != effect || r.By.User.Value != user || r.About.Digest == "" || r.About.Image.Value == "" {
			t.Errorf("got %+v, want %s %s %s by %q", r, kind, outcome, effect, user)
		}
	}
	g.want(200, "GET", at("v1.2.0"), nil)
	last(audit.KindGate, audit.Accepted, audit.Allowed, "")
	g.denied("GET", at("bad"), unsigned)
	last(audit.KindGate, audit.Rejected, audit.Refused, "")
	if r := g.as("pusher").put("team/app", "again", good); r.StatusCode != 201 {
		t.Fatalf("a tag: got %d %s", r.StatusCode, r.body)
	}
	last(audit.KindTag, audit.Accepted, audit.Allowed, "pusher")
	if r := g.as("pusher").put("team/app", "worse", g.bytesOf(g.bad.Digest)); r.StatusCode != 403 {
		t.Fatalf("a tag for what is not signed: got %d %s", r.StatusCode, r.body)
	}
	last(audit.KindTag, audit.Rejected, audit.Refused, "pusher")
	l.down = errors.New("the disk of the audit ledger is full")
	if r := g.do("GET", at("v1.2.0"), nil); r.StatusCode != 503 {
		t.Errorf("served without a record: %d %s", r.StatusCode, r.body)
	}
	if r := g.as("pusher").put("team/app", "third", good); r.StatusCode != 503 {
		t.Errorf("a tag without a record: %d %s", r.StatusCode, r.body)
	}
	l.down = nil
	g.as("").want(404, "GET", at("third"), nil)
}

// In audit mode, what is served or tagged though nothing could be decided about it is recorded, or it is neither.
func TestGateRecordsUndecidable(t *testing.T) {
	l := &ledger{}
	g := startGated(t, Config{Gate: &Gate{Recorder: l, Audit: true}})
	push := g.as("pusher")
	raw := marshal(map[string]any{"schemaVersion": 2, "mediaType": typeIndex, "manifests": []any{map[string]any{"mediaType": typeIndex, "digest": g.good.Digest, "size": g.good.Size, "platform": "a text"}}})
	if r := push.put("team/app", "one", raw); r.StatusCode != 201 {
		t.Fatalf("the tag: got %d %s", r.StatusCode, r.body)
	}
	g.want(200, "GET", at("one"), nil)
	for _, kind := range []audit.Kind{audit.KindTag, audit.KindGate} {
		if !slices.ContainsFunc(l.got, func(r audit.Record) bool {
			return r.Kind == kind && r.Outcome == audit.Undecided && r.Effect == audit.Allowed
		}) {
			t.Errorf("got the records %+v, want one of the kind %s", l.got, kind)
		}
	}
	l.down = errors.New("the disk of the audit ledger is full")
	if r := g.do("GET", at("one"), nil); r.StatusCode != 503 {
		t.Errorf("served without a record: %d %s", r.StatusCode, r.body)
	}
	if r := push.put("team/app", "two", raw); r.StatusCode != 503 {
		t.Errorf("a tag without a record: %d %s", r.StatusCode, r.body)
	}
	l.down = nil
	g.want(404, "GET", at("two"), nil)
}

// TestUndecidedIsRecorded: a registry that enforces records what it refuses because nobody could decide, with and without
// asking a policy.
func TestUndecidedIsRecorded(t *testing.T) {
	l := &ledger{}
	g := startGated(t, Config{Gate: &Gate{Recorder: l}})
	g.use(strings.Replace(shop.Rules, "accept:", "distrust: {maxAge: 1h}\n      accept:", 1))
	push := g.as("pusher")
	index := marshal(map[string]any{"schemaVersion": 2, "mediaType": typeIndex, "manifests": []any{map[string]any{"mediaType": typeIndex, "digest": g.good.Digest, "size": g.good.Size, "platform": "a text"}}})
	for _, raw := range [][]byte{g.bytesOf(g.good.Digest), index} {
		l.got = nil
		if r := push.put("team/app", "v9", raw); r.StatusCode < 400 {
			t.Errorf("got %d %s", r.StatusCode, r.body)
		}
		if len(l.got) != 1 || l.got[0].Kind != audit.KindTag || l.got[0].Outcome != audit.Undecided || l.got[0].Effect != audit.Refused || l.got[0].About.Digest == "" || l.got[0].By.User.Value != "pusher" {
			t.Errorf("got the records %+v", l.got)
		}
	}
}
