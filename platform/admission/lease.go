package admission

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"log/slog"
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
	maxEvicted     = 1024 // counts in the annotation
)

// annotationEvicted is where the lease says how many pods were evicted, by hour and namespace:
// HOUR/NAMESPACE=COUNT, with commas, hours since 1970. So a new leader knows what earlier ones did.
// HOUR=COUNT is of a namespace that is not known: it counts for each of them.
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
	evicted map[evictedIn]int
	said    string
}

// evictedIn is an hour and a namespace in which pods were evicted; "" is any of them.
type evictedIn struct {
	hour      int64
	namespace string
}

func newLease(api *kubeapi.Client, namespace string, log *slog.Logger) *lease {
	return &lease{api: api, path: "/apis/coordination.k8s.io/v1/namespaces/" + namespace + "/leases/" + installed, id: rand.Text(), log: log, now: time.Now, evicted: map[evictedIn]int{}}
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
		err := l.renew(ctx, "", 0)
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

// renew takes the lease, or keeps it, and counts evictions that are about to be made in a namespace, or
// fewer if they were not made. It fails with kubeapi.ErrConflict if another replica changed the lease.
func (l *lease) renew(ctx context.Context, namespace string, evictions int) error {
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
	if evictions != 0 {
		in := evictedIn{started.Unix() / 3600, namespace}
		if _, counted := l.evicted[in]; !counted && len(l.evicted) >= maxEvicted-25 { // there is one without a namespace for each hour
			in.namespace = ""
		}
		l.evicted[in] = max(0, l.evicted[in]+evictions)
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

// evictions returns how many pods were evicted within evictionWindow, in the cluster and in each
// namespace. Those of "" may be of any.
func (l *lease) evictions() (all int, in map[string]int) {
	l.mu.Lock()
	defer l.mu.Unlock()
	in = map[string]int{}
	for at, count := range l.evicted {
		all += count
		in[at.namespace] += count
	}
	return all, in
}

// parseEvicted reads an annotation, leaves out what is over, and ignores what cannot be read.
func parseEvicted(text string, now time.Time) map[evictedIn]int {
	out := map[evictedIn]int{}
	for _, part := range strings.SplitN(text, ",", maxEvicted+1) {
		at, count, _ := strings.Cut(part, "=")
		hour, namespace, named := strings.Cut(at, "/")
		h, err := strconv.ParseInt(hour, 10, 64)
		n, err2 := strconv.Atoi(count)
		if named && !objectName.MatchString(namespace) {
			continue
		}
		if err == nil && err2 == nil && n > 0 && n <= 1<<20 && len(out) < maxEvicted && now.Sub(time.Unix((h+1)*3600, 0)) < evictionWindow {
			out[evictedIn{h, namespace}] = n
		}
	}
	return out
}

func encodeEvicted(evicted map[evictedIn]int) string {
	var parts []string
	for at, count := range evicted {
		where := strconv.FormatInt(at.hour, 10)
		if at.namespace != "" {
			where += "/" + at.namespace
		}
		parts = append(parts, fmt.Sprintf("%s=%d", where, count))
	}
	slices.Sort(parts)
	return strings.Join(parts, ",")
}

// jitter returns a time between one half and one and a half of d.
func jitter(d time.Duration) time.Duration { return d/2 + mathrand.N(d) }
