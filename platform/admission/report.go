package admission

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"log/slog"
	"strings"
	"time"

	"github.com/colophon-build/colophon/internal/printable"
	"github.com/colophon-build/colophon/platform/admission/kubeapi"
	"github.com/colophon-build/colophon/verify"
)

// maxNote is the limit of the API server on the text of an event (events.k8s.io/v1), in bytes.
const maxNote = 1000

// recorder writes what is found about running pods into the cluster: events, and the reports that
// tools read. All replicas write the same: names and contents depend on nothing else than what is
// found, so that the API server keeps one of each.
type recorder struct {
	api       *kubeapi.Client
	log       *slog.Logger
	now       func() time.Time
	reporters []reporter // of the kinds that the cluster has
}

// reporter writes reports of one kind. Each is about one pod, which owns it.
type reporter struct {
	group, version, kind, plural string
}

// reporters are the kinds that tools read: PolicyReport of the Kubernetes policy working group
// (wgpolicyk8s.io/v1alpha2), and Report of OpenReports (openreports.io/v1alpha1).
var reporters = []reporter{
	{"wgpolicyk8s.io", "v1alpha2", "PolicyReport", "policyreports"},
	{"openreports.io", "v1alpha1", "Report", "reports"},
}

// findReporters finds the kinds of reports that the cluster has.
func (r *recorder) findReporters(ctx context.Context) {
	r.reporters = nil
	for _, k := range reporters {
		var served struct {
			Resources []struct {
				Name string `json:"name"`
			} `json:"resources"`
		}
		err := r.api.Get(ctx, "/apis/"+k.group+"/"+k.version, &served)
		if err != nil && !errors.Is(err, kubeapi.ErrNotFound) {
			r.log.Warn("it is not known whether the cluster has reports", "kind", k.kind, "error", err)
		}
		for _, s := range served.Resources {
			if s.Name == k.plural {
				r.reporters = append(r.reporters, k)
			}
		}
	}
}

// record writes what was found about a pod.
func (r *recorder) record(ctx context.Context, p *held, found []outcome) {
	var errs []error
	if len(found) > 0 {
		errs = append(errs, r.event(ctx, p, found))
	}
	for _, k := range r.reporters {
		errs = append(errs, k.write(ctx, r.api, p, found))
	}
	if err := errors.Join(errs...); err != nil && ctx.Err() == nil {
		r.log.Warn("what was found about a running pod is in no event or report", "pod", p.Namespace+"/"+p.object.Metadata.Name, "error", err)
	}
}

// event writes one event about a pod (events.k8s.io/v1).
func (r *recorder) event(ctx context.Context, p *held, found []outcome) error {
	reason, text := "ImageUndecided", []string{}
	for _, o := range found {
		if !o.undecided() {
			reason = "ImageRejected"
		}
		text = append(text, o.refused)
	}
	return r.write(ctx, p.reference(), reason, "would be refused now: "+strings.Join(text, "; "))
}

// write writes an event about an object. One that is there is not written again.
func (r *recorder) write(ctx context.Context, regarding map[string]any, reason, note string) error {
	note = printable.Cut(note, maxNote)
	namespace, _ := regarding["namespace"].(string)
	if namespace == "" {
		namespace = "default" // where events about objects of the cluster are
	}
	sum := sha256.Sum256(fmt.Append(nil, regarding["kind"], regarding["name"], regarding["uid"], reason, note))
	err := r.api.Create(ctx, "/apis/events.k8s.io/v1/namespaces/"+namespace+"/events", map[string]any{
		"apiVersion": "events.k8s.io/v1", "kind": "Event",
		"metadata":            map[string]any{"name": "colophon-" + hex.EncodeToString(sum[:10]), "namespace": namespace},
		"eventTime":           r.now().UTC().Format("2006-01-02T15:04:05.000000Z"),
		"reportingController": installed, "reportingInstance": installed,
		"action": "Verify", "reason": reason, "type": "Warning", "note": note,
		"regarding": regarding,
	}, nil)
	if errors.Is(err, kubeapi.ErrConflict) { // it is there
		return nil
	}
	return err
}

// reference names a pod in events and reports.
func (o *held) reference() map[string]any {
	return map[string]any{"apiVersion": "v1", "kind": "Pod", "namespace": o.Namespace, "name": o.object.Metadata.Name, "uid": o.uid}
}

// undecided reports whether nobody knows about the image.
func (o *outcome) undecided() bool {
	d := o.answer.Decision
	return d != nil && d.Outcome == verify.Undecided
}

// write makes the report about a pod, or changes it. A pod about which nothing was ever found has
// none.
func (k reporter) write(ctx context.Context, api *kubeapi.Client, p *held, found []outcome) error {
	results := []map[string]any{}
	summary := map[string]int{"pass": 0, "fail": 0, "warn": 0, "error": 0, "skip": 0}
	for _, o := range found {
		result := "fail"
		if o.undecided() {
			result = "error"
		}
		summary[result]++
		policy, rule := o.blames()
		results = append(results, map[string]any{
			"source": "colophon", "policy": policy, "rule": rule, "result": result, "message": printable.Cut(o.refused, maxMessage), "properties": map[string]string{"image": printable.Line(o.image)},
		})
	}
	name := "colophon-" + p.uid
	path := fmt.Sprintf("/apis/%s/%s/namespaces/%s/%s", k.group, k.version, p.Namespace, k.plural)
	report := map[string]any{
		"apiVersion": k.group + "/" + k.version, "kind": k.kind,
		"metadata": map[string]any{
			"name": name, "namespace": p.Namespace, "labels": map[string]string{"app.kubernetes.io/managed-by": "colophon"},
			"ownerReferences": []any{map[string]any{"apiVersion": "v1", "kind": "Pod", "name": p.object.Metadata.Name, "uid": p.uid}},
		},
		"scope": p.reference(), "results": results, "summary": summary,
	}
	err := api.Patch(ctx, path+"/"+name, kubeapi.MergePatch, report)
	if !errors.Is(err, kubeapi.ErrNotFound) {
		return err
	}
	if len(found) == 0 {
		return nil
	}
	if err = api.Create(ctx, path, report, nil); errors.Is(err, kubeapi.ErrConflict) {
		return nil // another replica made it
	}
	return err
}

// blames returns the policy and rule that do not accept the image.
func (o *outcome) blames() (policy, rule string) {
	if d := o.answer.Decision; d != nil {
		for _, r := range d.Rules {
			if r.Outcome != verify.Accepted {
				return r.Policy, r.Rule
			}
		}
	}
	return "colophon", "" // no rule is about it
}
