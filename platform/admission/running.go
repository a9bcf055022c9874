package admission

import (
	"context"
	"fmt"
	"log/slog"
	"math/rand/v2"
	"slices"
	"strings"
	"time"

	"golang.org/x/sync/errgroup"

	"github.com/colophon-build/colophon/internal/printable"
	"github.com/colophon-build/colophon/oci"
	"github.com/colophon-build/colophon/oci/imagelist"
	"github.com/colophon-build/colophon/policy"
	"github.com/colophon-build/colophon/verify"
)

const (
	againEvery   = 24 * time.Hour // running pods are verified, whatever happens
	againUnknown = 10 * time.Minute
	atOnce       = 4  // pods that are verified
	stepPods     = 64 // pods that are verified before evictions are looked at
)

// checked is what was found about a running pod.
type checked struct {
	under   string    // id of the policies and trust roots by which it was verified; empty: it was not
	next    time.Time // when it is verified again
	refused int       // images that would be refused now
	evict   *verify.RuleDecision
	rejects outcome   // the image because of which it is evicted
	found   []finding // one for each image
	retry   time.Time // before then, it is not evicted

	based finding // the audit ledger has the verdict on which its eviction rests
	tried string  // what the audit ledger has of the last try to evict it
}

// verifier asks the policies about the images of running pods: when a pod comes, when other policies
// or trust roots count, and once a day. It records what it finds (found.go), and evicts pods where
// policies say so (evict.go). Of several replicas, only the leader does.
type verifier struct {
	h        *Handler
	seen     *inventory
	rec      *recorder
	lead     *lease
	eviction Eviction

	led     bool      // in the last step
	under   string    // id of the policies of the last step
	found   time.Time // when the kinds of reports were found
	count   int       // pods that were verified since all were
	evicted time.Time // when the last one was tried

	ledger findings // what the audit ledger has from this leader

	most    map[string]int  // pods that ran since the first eviction that counts, by namespace; "" is the cluster
	stopped map[string]bool // where no pod is evicted that should be
}

// run verifies until ctx ends. It looks every, and goes on at once while there is more to do.
func (v *verifier) run(ctx context.Context, every time.Duration) {
	for more := false; ; {
		wait := every
		if more {
			wait = 0
		}
		select {
		case <-ctx.Done():
			return
		case <-time.After(wait):
		}
		more = v.step(ctx, v.h.Now())
	}
}

// step verifies some of the pods that are due. When none is, it may evict one. more says that
// others are due.
func (v *verifier) step(ctx context.Context, now time.Time) (more bool) {
	under := v.h.Verdicts.Policies()
	pods, complete := v.seen.all(true)
	if !v.lead.leads() || under == "" {
		if v.led {
			v.led, v.most = false, nil
			v.ledger.clear()
			v.h.metrics.running.Set(0)
			v.h.metrics.stopped.Set(0)
			for _, o := range pods {
				o.checked = checked{} // the next leader may find something else
			}
		}
		return false
	}
	v.led = true
	if under != v.under || now.Sub(v.found) > againUnknown {
		if under != v.under {
			v.stopped = nil // it is said again
		}
		v.under, v.found = under, now
		v.rec.findReporters(ctx)
	}
	var due []*held
	for _, o := range pods {
		if len(due) < stepPods && (o.checked.under != under || !now.Before(o.checked.next)) {
			due = append(due, o)
		}
	}
	var g errgroup.Group
	g.SetLimit(atOnce)
	for _, o := range due {
		g.Go(func() error {
			if v.lead.leads() {
				v.verify(ctx, o, under, now)
			}
			return nil
		})
	}
	_ = g.Wait() // no task returns an error
	v.count += len(due)
	refused := 0
	for _, o := range pods {
		refused += o.checked.refused
	}
	v.h.metrics.running.Set(float64(refused))
	if len(due) > 0 {
		return true
	}
	if v.count > 0 {
		v.h.Log.Info("running pods were verified", "pods", len(pods), "refused", refused)
		v.ledger.forget(pods, now)
		v.count = 0
	}
	if complete {
		v.evictOne(ctx, pods, now)
	}
	return false
}

// verify finds out which images of a pod would be refused now. An image that the pod names by a tag
// is the one that the runtime pulled.
func (v *verifier) verify(ctx context.Context, o *held, under string, now time.Time) {
	o.checked = checked{under: under, next: now.Add(againEvery - rand.N(againEvery/12)), retry: o.checked.retry, based: o.checked.based, tried: o.checked.tried}
	defer func() { // a pod that we cannot read does not end the process
		if fault := recover(); fault != nil {
			o.checked.evict = nil
			v.h.Log.Error("a running pod could not be verified", "fault", fmt.Sprint(fault))
		}
	}()
	ctx, cancel := context.WithTimeout(ctx, time.Minute)
	defer cancel()
	access := v.h.access(ctx, o.admitted)
	var found []outcome
	for _, i := range o.images {
		out := v.h.judge(ctx, o.admitted, i, access)
		v.note(ctx, o, out, now)
		if out.refused == "" {
			continue
		}
		o.checked.refused++
		v.h.Log.LogAttrs(ctx, slog.LevelWarn, "a running image would be refused", slog.String("object", o.describe()), slog.String("objectUID", o.uid), slog.String("image", printable.Line(i.Name)), slog.String("reason", out.refused))
		found = append(found, out)
		if out.undecided() {
			o.checked.next = now.Add(jitter(againUnknown))
		}
		if r := out.evicts(); r != nil {
			o.checked.evict, o.checked.rejects = r, out
		}
	}
	v.rec.record(ctx, o, found)
}

// evicts returns the rule that says that a pod with the image is evicted, or nil. An image about
// which nobody knows makes no pod go, and neither does one that no rule is about.
func (o *outcome) evicts() *verify.RuleDecision {
	d := o.answer.Decision
	if d == nil {
		return nil
	}
	for i, r := range d.Rules {
		if r.Outcome == verify.Rejected && r.Mode == policy.Enforce && r.OnRunning == policy.EvictRunning {
			return &d.Rules[i]
		}
	}
	return nil
}

// runningPod is what is read of the status of a pod that runs.
type runningPod struct {
	Status struct {
		ContainerStatuses          []containerStatus `json:"containerStatuses"`
		InitContainerStatuses      []containerStatus `json:"initContainerStatuses"`
		EphemeralContainerStatuses []containerStatus `json:"ephemeralContainerStatuses"`
	} `json:"status"`
}

type containerStatus struct {
	Image   string `json:"image"`
	ImageID string `json:"imageID"` // REPOSITORY@sha256:HEX, as the runtime pulled it
}

// runs reports whether the container runs the image that the pod names by a tag. Runtimes write its name
// in full: docker.io/library/nginx:1 for nginx:1.
func (s *containerStatus) runs(i imagelist.Image) bool {
	if s.Image == i.Name {
		return true
	}
	said, err := policy.ParseImage(s.Image)
	if err != nil || said.Digest != "" || i.Name == "" {
		return false
	}
	named, err := policy.ParseImage(i.Name)
	return err == nil && said == named
}

// pulled returns an image with the digest that the runtime pulled, if the pod names a tag: so it is
// for pods that are older than admission. known is false if that cannot be told.
func (p *runningPod) pulled(i imagelist.Image) (out imagelist.Image, known bool) {
	if i.Problem != "" || i.Reference.Digest != "" {
		return i, i.Problem == ""
	}
	var digests []string
	for _, s := range slices.Concat(p.Status.ContainerStatuses, p.Status.InitContainerStatuses, p.Status.EphemeralContainerStatuses) {
		if _, digest, ok := strings.Cut(s.ImageID, "@"); ok && s.runs(i) && !slices.Contains(digests, digest) {
			digests = append(digests, digest)
		}
	}
	if len(digests) != 1 { // none was pulled yet, or the tag led to several
		return i, false
	}
	ref, err := oci.ParseReference(i.Name + "@" + digests[0])
	if err != nil {
		return i, false
	}
	i.Name, i.Reference = i.Name+"@"+digests[0], ref
	return i, true
}
