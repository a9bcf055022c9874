package admission_test

import (
	"context"
	"errors"
	"sync"
	"testing"

	"github.com/colophon-build/colophon/audit"
)

// ledger is an audit ledger that takes records, or does not.
type ledger struct {
	mu   sync.Mutex
	down error
	got  []audit.Record
}

func (l *ledger) Record(_ context.Context, r audit.Record) error {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.down == nil {
		l.got = append(l.got, r)
	}
	return l.down
}

// An object is admitted only when the decision about each of its images is recorded.
func TestRequiredLedger(t *testing.T) {
	c := newScene(t)
	l := &ledger{down: errors.New("the disk of the audit ledger is full")}
	c.config.Recorder, c.config.Name = l, "prod-a"
	c.start()
	c.validate("without a record", c.goodPod(), false, "the disk of the audit ledger is full")
	l.down = nil
	c.validate("good", c.goodPod(), true)
	c.validate("bad", c.badPod(), false)
	if len(l.got) != 2 {
		t.Fatalf("got %d records", len(l.got))
	}
	good, bad := l.got[0], l.got[1]
	if good.Outcome != audit.Accepted || good.Effect != audit.Allowed || good.Where.Cluster != "prod-a" || good.Where.Namespace.Value != "shop" || good.By.User.Value != "ada" || good.About.Digest != c.goodAt {
		t.Errorf("got %+v", good)
	}
	if bad.Outcome != audit.Rejected || bad.Effect != audit.Refused {
		t.Errorf("got %+v", bad)
	}
}
