package admission_test

import (
	"context"
	"errors"
	"net/http"
	"strings"
	"sync"
	"testing"

	"github.com/colophon-build/colophon/audit"
	"github.com/colophon-build/colophon/platform/admission"
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

func (l *ledger) Note(ctx context.Context, r audit.Record) error { return l.Record(ctx, r) }

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

// TestUndecidedIsRecorded: each refusal is recorded, also where no policy was asked: the registry does not answer, for the
// image or for its tag, or the object cannot be read.
func TestUndecidedIsRecorded(t *testing.T) {
	c := newScene(t)
	l := &ledger{}
	c.config.Recorder = l
	c.start()
	for what, path := range map[string]string{
		pod(c.host + "/team/gone@sha256:" + strings.Repeat("1", 64)):                 admission.PathValidate,
		pod(c.host + "/team/gone:v1"):                                                admission.PathMutate,
		`{"apiVersion":"v1","kind":"Pod","metadata":{},"spec":{"containers":["x"]}}`: admission.PathValidate,
	} {
		l.got = nil
		if code, a, text := c.post(path, c.body(what)); code != http.StatusOK || a.Response.Allowed {
			t.Fatalf("%s: got %d %s", what, code, text)
		}
		if len(l.got) != 1 || l.got[0].Kind != audit.KindAdmission || l.got[0].Outcome != audit.Undecided || l.got[0].Effect != audit.Refused || l.got[0].Reason.Value == "" || l.got[0].By.User.Value != "ada" {
			t.Errorf("%s: got the records %+v", what, l.got)
		}
	}
}
