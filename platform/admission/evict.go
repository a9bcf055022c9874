package admission

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"slices"
	"time"

	"github.com/colophon-build/colophon/audit"
	"github.com/colophon-build/colophon/internal/printable"
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

// evict evicts a pod, and records it in three steps: the audit ledger gets the verdict on which the eviction rests, with
// the effect refused; then the API server is asked; then the ledger gets its answer. If the ledger is required and does
// not take the verdict, nothing is evicted. A process that ends in between leaves a verdict without an act, which says
// that the pod may be gone.
func (v *verifier) evict(ctx context.Context, o *held) {
	if err := v.recordBefore(ctx, o); err != nil {
		v.h.metrics.evictions.WithLabelValues("unrecorded").Inc()
		v.h.Log.Error("a pod is not evicted: the audit ledger did not record why", "object", o.describe(), "objectUID", o.uid, "error", err)
		r := o.checked.evict
		if err := v.rec.write(ctx, policyReference(r), "EvictionStopped", "rule "+r.Rule+" evicts no pod: the audit ledger does not record it"); err != nil && ctx.Err() == nil {
			v.h.Log.Warn("that no pod is evicted is in no event", "error", err)
		}
		return
	}
	result, err := v.attempt(ctx, o)
	reason := fmt.Sprint(err)
	switch {
	case result == "not asked":
		v.h.Log.Warn("a pod was not evicted", "object", o.describe(), "error", err)
	case result == "evicted":
		reason = fmt.Sprintf("rule %s of the policy %s rejects an image: %s", o.checked.evict.Rule, o.checked.evict.Policy, o.checked.evict.Reason)
		v.h.Log.Warn("a pod was evicted", "object", o.describe(), "objectUID", o.uid, "policy", o.checked.evict.Policy, "rule", o.checked.evict.Rule, "reason", o.checked.evict.Reason)
	case result == "gone":
		reason = "the pod has gone, or another one has its name"
	case result == "later":
		v.h.Log.Info("a pod is evicted later", "object", o.describe(), "error", err)
	default:
		if result == "no answer" {
			reason = "the API server did not answer, so the pod may be gone: " + reason
		}
		v.h.Log.Error("a pod could not be evicted", "object", o.describe(), "error", err)
	}
	v.recordAfter(ctx, o, result, reason)
	v.h.metrics.evictions.WithLabelValues(result).Inc()
	if result != "evicted" {
		return
	}
	if err := v.rec.write(ctx, o.reference(), "PodEvicted", reason); err != nil {
		v.h.Log.Warn("the eviction of a pod is in no event", "object", o.describe(), "error", err)
	}
}

// attempt asks the API server to evict a pod (policy/v1, Eviction), which refuses that while a
// PodDisruptionBudget needs the pod. It is counted before, so that a leader that ends meanwhile
// leaves no eviction uncounted. The result is a label of the metric.
func (v *verifier) attempt(ctx context.Context, o *held) (result string, err error) {
	ctx, cancel := context.WithTimeout(ctx, leaseAhead/2)
	defer cancel()
	if v.h.Verdicts.Policies() != v.under || !v.seen.has(o) { // while the verdict was recorded
		return "not asked", errors.New("other policies count now, or the pod has changed")
	}
	if err := v.lead.renew(ctx, o.Namespace, 1); err != nil || !v.lead.leads() {
		return "not asked", fmt.Errorf("another replica may lead: %w", cmp.Or(err, kubeapi.ErrConflict))
	}
	name := o.object.Metadata.Name
	err = v.rec.api.Create(ctx, "/api/v1/namespaces/"+o.Namespace+"/pods/"+name+"/eviction", map[string]any{
		"apiVersion": "policy/v1", "kind": "Eviction", "metadata": map[string]string{"name": name, "namespace": o.Namespace},
		"deleteOptions": map[string]any{"preconditions": map[string]string{"uid": o.uid}},
	}, nil)
	switch {
	case err == nil:
		return "evicted", nil
	case errors.Is(err, kubeapi.ErrNoAnswer): // it may be gone, and stays counted
		return "no answer", err
	case errors.Is(err, kubeapi.ErrNotFound), errors.Is(err, kubeapi.ErrConflict): // it has gone, or another pod has its name
		result = "gone"
	case errors.Is(err, kubeapi.ErrLater):
		result = "later"
	default:
		result = "failed"
	}
	if err := v.lead.renew(ctx, o.Namespace, -1); err != nil {
		v.h.Log.Warn("an eviction is counted that was none", "error", err)
	}
	return result, err
}

// recordBefore brings the verdict on which the eviction of a pod rests to the audit ledger, once. After an error,
// the pod must not be evicted.
func (v *verifier) recordBefore(ctx context.Context, o *held) error {
	if v.h.Recorder == nil {
		return nil
	}
	r := v.h.auditRecord(audit.KindRunning, o.admitted, o.checked.rejects, audit.Refused)
	based := findingOf(o, o.checked.rejects, r, o.checked.under)
	if o.checked.based == based {
		return nil
	}
	if err := v.h.Recorder.Record(ctx, r); err != nil {
		return err
	}
	o.checked.based, o.checked.tried = based, ""
	return nil
}

// recordAfter brings what came of an eviction to the audit ledger. A pod that its budget keeps is asked about twice a
// minute: the same failure is recorded once.
func (v *verifier) recordAfter(ctx context.Context, o *held, result, reason string) {
	if v.h.Recorder == nil || result != "evicted" && o.checked.tried == result {
		return
	}
	verdict := v.h.auditRecord(audit.KindRunning, o.admitted, o.checked.rejects, audit.Refused)
	act := audit.Record{Kind: audit.KindEvict, Outcome: audit.Failed, About: verdict.About, Where: verdict.Where, Basis: verdict.Basis, Rules: verdict.Rules, Reason: audit.Shown(printable.Cut(printable.Line(reason), maxRecorded))}
	if result == "evicted" {
		act.Outcome = audit.Done
	}
	if err := v.h.Recorder.Note(context.WithoutCancel(ctx), act); err != nil {
		v.h.Log.Error("an eviction is not in the audit ledger, which has the verdict on which it rests", "object", o.describe(), "objectUID", o.uid, "outcome", act.Outcome, "error", err)
		return
	}
	o.checked.tried = result
}
