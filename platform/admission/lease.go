package admission

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"log/slog"
	"maps"
	mathrand "math/rand/v2"
	"slices"
	"strconv"
	"strings"
	"sync"
	"time"

	"github.com/colophon-build/colophon/platform/admission/kubeapi"
)

const (
	leaseFor   = 15 * time.Second // a leader that is silent for this long is none
	leaseAhead = 10 * time.Second // a leader that could not renew for this long stops by itself
	leaseEvery = 3 * time.Second
	// evictionWindow is the time in which evictions are counted together.
	evictionWindow = 24 * time.Hour
	maxHours       = 64 // in the annotation; the window has 25
)

// annotationEvicted is where the lease says how many pods were evicted, by hour: HOUR=COUNT, with
// commas, hours since 1970. So a new leader knows what earlier ones did.
const annotationEvicted = "colophon.build/evicted"

// lease makes one of several replicas the leader (coordination.k8s.io/v1, Lease). Only that one
// verifies running pods and evicts. Times of other machines are not compared with this one's: a
// leader has gone if its lease has not changed for leaseFor.
type lease struct {
	api  *kubeapi.Client
	path string
	id   string
	log  *slog.Logger
	now  func() time.Time

	turn sync.Mutex // one request at a time

	mu      sync.Mutex
	until   time.Time // this replica leads until then
	last    string    // the lease of another replica, as it was seen
	since   time.Time // when that was
	evicted map[int64]int
	said    string
}

func newLease(api *kubeapi.Client, namespace string, log *slog.Logger) *lease {
	return &lease{api: api, path: "/apis/coordination.k8s.io/v1/namespaces/" + namespace + "/leases/" + installed, id: rand.Text(), log: log, now: time.Now, evicted: map[int64]int{}}
}

// leaseObject is what is read of a Lease.
type leaseObject struct {
	Metadata struct {
		ResourceVersion string            `json:"resourceVersion"`
		Annotations     map[string]string `json:"annotations"`
	} `json:"metadata"`
	Spec struct {
		Holder string `json:"holderIdentity"`
		Renew  string `json:"renewTime"`
	} `json:"spec"`
}

// run tries to lead until ctx ends. Then another replica may, at once.
func (l *lease) run(ctx context.Context) {
	for ctx.Err() == nil {
		err := l.renew(ctx, 0)
		if errors.Is(err, kubeapi.ErrConflict) {
			err = nil // another one was faster
		}
		if text := fmt.Sprint(err); err != nil && ctx.Err() == nil && text != l.said {
			l.said = text
			l.log.Error("it is not known who verifies the running pods", "error", err)
		} else if err == nil {
			l.said = ""
		}
		select {
		case <-ctx.Done():
		case <-time.After(leaseEvery):
		}
	}
	if l.leads() {
		last, cancel := context.WithTimeout(context.WithoutCancel(ctx), 2*time.Second)
		defer cancel()
		l.mu.Lock()
		l.until = time.Time{}
		l.mu.Unlock()
		if o, err := l.get(last); err == nil && o.Spec.Holder == l.id {
			_ = l.patch(last, o, "") // it ends by itself otherwise
		}
	}
}

// leads reports whether this replica is the leader.
func (l *lease) leads() bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.now().Before(l.until)
}

func (l *lease) get(ctx context.Context) (o leaseObject, err error) {
	err = l.api.Get(ctx, l.path, &o)
	if errors.Is(err, kubeapi.ErrNotFound) {
		dir, name := l.path[:strings.LastIndex(l.path, "/")], installed
		err = l.api.Create(ctx, dir, map[string]any{"apiVersion": "coordination.k8s.io/v1", "kind": "Lease", "metadata": map[string]any{"name": name}}, &o)
	}
	return o, err
}

// renew takes the lease, or keeps it, and counts evictions that are about to be made, or fewer if
// they were not made. It fails with kubeapi.ErrConflict if another replica changed the lease.
func (l *lease) renew(ctx context.Context, evictions int) error {
	l.turn.Lock()
	defer l.turn.Unlock()
	started := l.now()
	o, err := l.get(ctx)
	if err != nil {
		return err
	}
	l.mu.Lock()
	if o.Spec.Holder != l.id {
		l.until = time.Time{}
		if seen := o.Spec.Holder + " " + o.Spec.Renew; seen != l.last {
			l.last, l.since = seen, started
		}
	}
	wait := o.Spec.Holder != "" && o.Spec.Holder != l.id && started.Sub(l.since) < leaseFor
	l.evicted = parseEvicted(o.Metadata.Annotations[annotationEvicted], started)
	if hour := started.Unix() / 3600; evictions != 0 {
		l.evicted[hour] = max(0, l.evicted[hour]+evictions)
	}
	l.mu.Unlock()
	if wait {
		if evictions != 0 {
			return kubeapi.ErrConflict
		}
		return nil
	}
	if err := l.patch(ctx, o, l.id); err != nil {
		return err
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.until.IsZero() {
		l.log.Info("this replica verifies the running pods")
	}
	l.until = started.Add(leaseAhead)
	return nil
}

func (l *lease) patch(ctx context.Context, o leaseObject, holder string) error {
	now := l.now().UTC().Format("2006-01-02T15:04:05.000000Z")
	spec := map[string]any{"holderIdentity": holder, "leaseDurationSeconds": int(leaseFor.Seconds()), "renewTime": now}
	if holder == "" {
		spec["holderIdentity"] = nil
	} else if o.Spec.Holder != holder {
		spec["acquireTime"] = now
	}
	l.mu.Lock()
	evicted := encodeEvicted(l.evicted)
	l.mu.Unlock()
	return l.api.Patch(ctx, l.path, kubeapi.MergePatch, map[string]any{
		"metadata": map[string]any{"resourceVersion": o.Metadata.ResourceVersion, "annotations": map[string]string{annotationEvicted: evicted}}, "spec": spec,
	})
}

// evictions returns how many pods were evicted within evictionWindow.
func (l *lease) evictions() (n int) {
	l.mu.Lock()
	defer l.mu.Unlock()
	for _, count := range l.evicted {
		n += count
	}
	return n
}

// parseEvicted reads an annotation, leaves out what is over, and ignores what cannot be read.
func parseEvicted(text string, now time.Time) map[int64]int {
	out := map[int64]int{}
	for _, part := range strings.SplitN(text, ",", maxHours+1) {
		hour, count, _ := strings.Cut(part, "=")
		h, err := strconv.ParseInt(hour, 10, 64)
		n, err2 := strconv.Atoi(count)
		if err == nil && err2 == nil && n > 0 && n <= 1<<20 && len(out) < maxHours && now.Sub(time.Unix((h+1)*3600, 0)) < evictionWindow {
			out[h] = n
		}
	}
	return out
}

func encodeEvicted(evicted map[int64]int) string {
	var parts []string
	for _, hour := range slices.Sorted(maps.Keys(evicted)) {
		parts = append(parts, fmt.Sprintf("%d=%d", hour, evicted[hour]))
	}
	return strings.Join(parts, ",")
}

// jitter returns a time between one half and one and a half of d.
func jitter(d time.Duration) time.Duration { return d/2 + mathrand.N(d) }
