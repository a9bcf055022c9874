package admission

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"slices"
	"time"

	"github.com/colophon-build/colophon/platform/admission/kubeapi"
	"github.com/colophon-build/colophon/policy"
	"github.com/colophon-build/colophon/verify"
)

// Eviction says how admission evicts running pods whose images are rejected by a rule with
// onRunning: evict.
type Eviction struct {
	Enabled   bool `json:"enabled,omitempty"`   // false: pods are only reported
	Percent   int  `json:"percent,omitempty"`   // of the running pods of a namespace, and of the cluster, at most that many are evicted within 24 hours, but always one. If more would be, none is. Default 10
	PerMinute int  `json:"perMinute,omitempty"` // pods that are evicted at most; default 6
}

func (e *Eviction) check() error {
	e.Percent, e.PerMinute = cmp.Or(e.Percent, 10), cmp.Or(e.PerMinute, 6)
	if e.Percent < 1 || e.Percent > 100 {
		return fmt.Errorf("eviction: percent: expected 1 to 100, found %d", e.Percent)
	}
	if e.PerMinute < 1 || e.PerMinute > 600 {
		return fmt.Errorf("eviction: perMinute: expected 1 to 600, found %d", e.PerMinute)
	}
	return nil
}

// evictionAgain is how long a pod is left alone that could not be evicted.
const evictionAgain = 30 * time.Second

// evictOne evicts one of the pods that a policy says are evicted, if all is as it should be: all
// pods were verified by the policies that count, and not so many would go that the policy is rather
// wrong than the pods. Each namespace has its own limit, so that the pods of one use up no other's.
func (v *verifier) evictOne(ctx context.Context, pods []*held, now time.Time) {
	rejected, runs := map[string][]*held{}, map[string]int{}
	for _, o := range pods {
		if o.ends {
			continue // it goes by itself
		}
		runs[""]++
		runs[o.Namespace]++
		if o.checked.evict != nil && !o.static && !o.breaksGlass(now) {
			rejected[o.Namespace] = append(rejected[o.Namespace], o)
		}
	}
	done, doneIn := v.lead.evictions()
	stops := map[string]stop{}
	var go_ []*held
	for namespace, some := range rejected {
		before := doneIn[namespace] + doneIn[""]
		switch limit := v.limit(namespace, runs[namespace], before); {
		case v.h.DryRun || !v.eviction.Enabled:
			stops[""] = stop{some[0], "the configuration of admission does not enable evictions"}
		case before+len(some) > limit:
			stops[namespace] = stop{some[0], v.tooMany(len(some), before, namespace, limit)}
		default:
			go_ = append(go_, some...)
		}
	}
	if limit := v.limit("", runs[""], done); len(go_) > 0 && done+len(go_) > limit {
		stops[""] = stop{go_[0], v.tooMany(len(go_), done, "", limit)}
		go_ = nil
	}
	v.stop(ctx, stops)
	go_ = slices.DeleteFunc(go_, func(o *held) bool { return now.Before(o.checked.retry) })
	if len(go_) == 0 || now.Sub(v.evicted) < time.Minute/time.Duration(v.eviction.PerMinute) {
		return
	}
	// Those that nothing kept go first, and the namespaces take turns.
	o := slices.MinFunc(go_, func(a, b *held) int {
		return cmp.Or(a.checked.retry.Compare(b.checked.retry), cmp.Compare(doneIn[a.Namespace], doneIn[b.Namespace]), cmp.Compare(a.uid, b.uid))
	})
	v.evicted = now
	if v.verify(ctx, o, v.under, now); o.checked.evict == nil || v.h.Verdicts.Policies() != v.under || !v.seen.has(o) {
		return
	}
	o.checked.retry = now.Add(jitter(evictionAgain))
	v.evict(ctx, o)
}

// limit returns how many pods may be evicted in a namespace ("" is the cluster) within evictionWindow: of
// those that ran before any was, because those that were evicted are gone, or were replaced.
func (v *verifier) limit(namespace string, run, done int) int {
	if v.most == nil {
		v.most = map[string]int{}
	}
	if done == 0 || v.most[namespace] < run {
		v.most[namespace] = run
	}
	return max(1, v.most[namespace]*v.eviction.Percent/100)
}

func (v *verifier) tooMany(would, done int, namespace string, limit int) string {
	where := "the cluster"
	if namespace != "" {
		where = "the namespace " + namespace
	}
	return fmt.Sprintf("%d pods would be evicted, besides %d in the last 24 hours. Of %d running pods of %s, at most %d may be (%d percent): is the policy right?", would, done, v.most[namespace], where, limit, v.eviction.Percent)
}

// breaksGlass reports whether somebody broke the glass for a pod, and the time is not over. A time
// that is too far ahead was set before admission was installed, or never asked about.
func (o *held) breaksGlass(now time.Time) bool {
	return now.Before(o.glass) && o.glass.Sub(now) <= longestGlass
}

// stop says why no pod is evicted that should be: one of them, and the reason.
type stop struct {
	pod *held
	why string
}

// stop says, by namespace, why no pod is evicted, once; or that nothing keeps them any longer.
func (v *verifier) stop(ctx context.Context, stops map[string]stop) {
	was := v.stopped
	v.stopped = map[string]bool{}
	v.h.metrics.stopped.Set(float64(min(1, len(stops))))
	for namespace, s := range stops {
		v.stopped[namespace] = true
		if was[namespace] {
			continue // the numbers change as pods come and go
		}
		r := s.pod.checked.evict
		v.h.Log.Error("no pod is evicted, though a policy says so", "namespace", namespace, "policy", r.Policy, "rule", r.Rule, "why", s.why)
		err := v.rec.write(ctx, policyReference(r), "EvictionStopped", "rule "+r.Rule+" evicts no pod: "+s.why)
		if err != nil && ctx.Err() == nil {
			v.h.Log.Warn("that no pod is evicted is in no event", "error", err)
		}
	}
}

// policyReference names the policy of a rule in events.
func policyReference(r *verify.RuleDecision) map[string]any {
	out := map[string]any{"apiVersion": policy.APIVersion, "kind": policy.KindPolicy, "name": r.Policy}
	if r.Namespace != "" {
		out["kind"], out["namespace"] = policy.KindNamespacePolicy, r.Namespace
	}
	return out
}

// evict asks the API server to evict a pod (policy/v1, Eviction), which refuses that while a
// PodDisruptionBudget needs the pod. It is counted before, so that a leader that ends meanwhile
// leaves no eviction uncounted.
func (v *verifier) evict(ctx context.Context, o *held) {
	ctx, cancel := context.WithTimeout(ctx, leaseAhead/2)
	defer cancel()
	if err := v.lead.renew(ctx, o.Namespace, 1); err != nil || !v.lead.leads() {
		v.h.Log.Warn("a pod was not evicted: another replica may lead", "object", o.describe(), "error", err)
		return
	}
	name := o.object.Metadata.Name
	err := v.rec.api.Create(ctx, "/api/v1/namespaces/"+o.Namespace+"/pods/"+name+"/eviction", map[string]any{
		"apiVersion": "policy/v1", "kind": "Eviction", "metadata": map[string]string{"name": name, "namespace": o.Namespace},
		"deleteOptions": map[string]any{"preconditions": map[string]string{"uid": o.uid}},
	}, nil)
	result := "evicted"
	switch {
	case err == nil:
		v.h.Log.Warn("a pod was evicted", "object", o.describe(), "objectUID", o.uid, "policy", o.checked.evict.Policy, "rule", o.checked.evict.Rule, "reason", o.checked.evict.Reason)
		err = v.rec.write(ctx, o.reference(), "PodEvicted", fmt.Sprintf("rule %s of the policy %s rejects an image: %s", o.checked.evict.Rule, o.checked.evict.Policy, o.checked.evict.Reason))
		if err != nil {
			v.h.Log.Warn("the eviction of a pod is in no event", "object", o.describe(), "error", err)
		}
	case errors.Is(err, kubeapi.ErrNotFound), errors.Is(err, kubeapi.ErrConflict): // it has gone, or another pod has its name
		result = "gone"
	case errors.Is(err, kubeapi.ErrLater):
		result = "later"
		v.h.Log.Info("a pod is evicted later", "object", o.describe(), "error", err)
	default:
		result = "failed"
		v.h.Log.Error("a pod could not be evicted", "object", o.describe(), "error", err)
	}
	v.h.metrics.evictions.WithLabelValues(result).Inc()
	if result != "evicted" && !errors.Is(err, kubeapi.ErrNoAnswer) { // without an answer, it may be gone
		if err := v.lead.renew(ctx, o.Namespace, -1); err != nil {
			v.h.Log.Warn("an eviction is counted that was none", "error", err)
		}
	}
}
