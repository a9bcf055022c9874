package gate_test

import (
	"context"
	"errors"
	"net/http"
	"strings"
	"sync"
	"testing"

	"github.com/colophon-build/colophon/audit"
	"github.com/colophon-build/colophon/platform/gate"
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

// Each decision is recorded before the image is served. What cannot be recorded is not served, by no
// name of it.
func TestRequiredLedger(t *testing.T) {
	l := &ledger{down: errors.New("the disk of the audit ledger is full")}
	c := newScene(t, func(config *gate.Config) { config.Recorder = l })
	index := c.upstreamParts(c.good.Digest)
	for _, path := range []string{manifests("v1.2.0"), manifests(c.good.Digest.String())} {
		if r := c.do(http.MethodGet, path); r.StatusCode < 400 {
			t.Errorf("%s: served without a record: %d", path, r.StatusCode)
		}
	}
	if r := c.do(http.MethodGet, manifests(index.Manifests[0].Digest.String())); r.StatusCode < 400 {
		t.Errorf("a part is served without a record: %d", r.StatusCode)
	}
	l.down = nil
	c.want(200, "", manifests("v1.2.0"))
	c.want(403, "DENIED", manifests("bad"))
	if len(l.got) != 2 {
		t.Fatalf("got %d records", len(l.got))
	}
	good, bad := l.got[0], l.got[1]
	if good.Kind != audit.KindGate || good.Outcome != audit.Accepted || good.Effect != audit.Allowed || good.About.Digest != c.good.Digest.String() || good.About.Commit == "" || len(good.Rules) == 0 || len(good.Links) == 0 {
		t.Errorf("got %+v", good)
	}
	if bad.Outcome != audit.Rejected || bad.Effect != audit.Refused || bad.Reason.Value == "" {
		t.Errorf("got %+v", bad)
	}
}

// TestRequiredLedgerUndecidable: in audit mode, what is served though nothing could be decided about it is in the
// ledger, or it is not served.
func TestRequiredLedgerUndecidable(t *testing.T) {
	l := &ledger{}
	c := newScene(t, func(config *gate.Config) { config.Recorder, config.Audit = l, true })
	twice := []byte(`{"schemaVersion":2,"schemaVersion":2,"mediaType":"application/vnd.oci.image.manifest.v1+json"}`)
	c.upstream(func(w http.ResponseWriter, r *http.Request, registry http.Handler) {
		if strings.HasSuffix(r.URL.Path, "/manifests/twice") {
			w.Header().Set("Content-Type", "application/vnd.oci.image.manifest.v1+json")
			_, _ = w.Write(twice)
			return
		}
		registry.ServeHTTP(w, r)
	})
	c.want(200, "", manifests("twice"))
	if len(l.got) != 1 || l.got[0].Outcome != audit.Undecided || l.got[0].Effect != audit.Allowed || l.got[0].Kind != audit.KindGate || l.got[0].Reason.Value == "" {
		t.Fatalf("got the records %+v, want one of what was served undecided", l.got)
	}
	l.down = errors.New("the disk of the audit ledger is full")
	c.want(503, "the disk of the audit ledger is full", manifests("twice"))
	c.want(503, "the disk of the audit ledger is full", manifests("bad")) // decided, and not recorded
}

// TestUndecidedIsRecorded: a gate that enforces records what it refuses because nobody could decide: the proofs cannot be
// read, or the manifest is none. What the registry does not have is no decision.
func TestUndecidedIsRecorded(t *testing.T) {
	l := &ledger{}
	c := newScene(t, func(config *gate.Config) { config.Recorder = l })
	c.upstream(func(w http.ResponseWriter, r *http.Request, registry http.Handler) {
		switch {
		case strings.Contains(r.URL.Path, "/referrers/"):
			w.WriteHeader(http.StatusBadGateway)
		case strings.HasSuffix(r.URL.Path, "/manifests/twice"):
			w.Header().Set("Content-Type", "application/vnd.oci.image.manifest.v1+json")
			_, _ = w.Write([]byte(`{"schemaVersion":2,"schemaVersion":2}`))
		default:
			registry.ServeHTTP(w, r)
		}
	})
	for n, path := range []string{manifests("v1.2.0"), manifests("twice")} {
		if r := c.do(http.MethodGet, path); r.StatusCode < 400 {
			t.Fatalf("%s: got %d", path, r.StatusCode)
		}
		if len(l.got) != n+1 || l.got[n].Kind != audit.KindGate || l.got[n].Outcome != audit.Undecided || l.got[n].Effect != audit.Refused || l.got[n].Reason.Value == "" || l.got[n].About.Image.Value == "" {
			t.Fatalf("%s: got the records %+v", path, l.got)
		}
	}
	if c.want(404, "", manifests("nothing")); len(l.got) != 2 {
		t.Errorf("got the record %+v of an image that is not there", l.got[2])
	}
}
