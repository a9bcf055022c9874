package admission

import (
	"context"
	"encoding/json"
	"errors"
	"maps"
	"slices"
	"sync"
	"time"

	"github.com/colophon-build/colophon/oci/imagelist"
	"github.com/colophon-build/colophon/platform/admission/kubeapi"
)

// inventory is what the cluster runs or is about to run: its pods, and the workloads that make pods.
// It follows them by watches and keeps what names images, and little else.
type inventory struct {
	h      *Handler
	exempt []string // namespaces that are left alone
	whole  bool     // ClusterImagePolicies may ask about the whole object

	mu     sync.Mutex
	held   map[string]*held // by the path of the list and NAMESPACE/NAME
	listed map[string]bool  // paths whose objects are known
	news   bool             // something has changed since the last fill
}

// held is a pod or a workload. Its fields do not change after it is in the inventory, but for
// those of checked, which the one goroutine has that verifies pods.
type held struct {
	*admitted // without the bytes of the object
	uid       string
	images    []imagelist.Image // those with a digest
	static    bool              // it is the mirror of a pod that the kubelet runs from a file
	glass     time.Time         // until when the glass is broken for it
	pod       bool
	ends      bool // it is a pod that somebody has deleted, and still runs
	checked   checked
}

// watched are the kinds that name images. A kind that admission may not list is left out.
var watched = map[string]kind{
	"/api/v1/pods":                   {"", "v1", "Pod"},
	"/api/v1/replicationcontrollers": {"", "v1", "ReplicationController"},
	"/apis/apps/v1/daemonsets":       {"apps", "v1", "DaemonSet"},
	"/apis/apps/v1/deployments":      {"apps", "v1", "Deployment"},
	"/apis/apps/v1/replicasets":      {"apps", "v1", "ReplicaSet"},
	"/apis/apps/v1/statefulsets":     {"apps", "v1", "StatefulSet"},
	"/apis/batch/v1/cronjobs":        {"batch", "v1", "CronJob"},
	"/apis/batch/v1/jobs":            {"batch", "v1", "Job"},
}

const podsPath = "/api/v1/pods"

func newInventory(h *Handler, exempt []string) *inventory {
	return &inventory{h: h, exempt: exempt, held: map[string]*held{}, listed: map[string]bool{}}
}

// follow follows the cluster until ctx ends.
func (v *inventory) follow(ctx context.Context, api *kubeapi.Client) {
	for path, of := range watched {
		said := ""
		go api.Watch(ctx, path, kubeapi.Watcher{
			Set:  func(key string, raw json.RawMessage) { v.set(path+" "+key, v.hold(ctx, of, raw)) },
			Gone: func(key string) { v.set(path+" "+key, nil) },
			Settled: func() {
				v.mu.Lock()
				defer v.mu.Unlock()
				v.listed[path], said = true, ""
			},
			Failed: func(err error) {
				if text := err.Error(); text != said { // a right that is missing is said once
					said = text
					v.h.Log.Error("cannot follow what the cluster runs", "kind", of.String(), "error", err)
				}
			},
		})
	}
}

// set keeps an object, or forgets it. What was found about a pod stays true if the same images run.
func (v *inventory) set(key string, o *held) {
	v.mu.Lock()
	defer v.mu.Unlock()
	old := v.held[key]
	switch {
	case o == nil:
		delete(v.held, key)
		return
	case old != nil && old.uid == o.uid && sameImages(old.images, o.images) && old.glass.Equal(o.glass) && old.ends == o.ends && samePulls(old, o):
		return
	}
	v.held[key], v.news = o, true
}

func sameImages(a, b []imagelist.Image) bool {
	return slices.EqualFunc(a, b, func(a, b imagelist.Image) bool { return a.Name == b.Name })
}

func samePulls(a, b *held) bool {
	if a.runs != nil && b.runs != nil && !maps.Equal(a.runs.Labels, b.runs.Labels) {
		return false // for ClusterImagePolicies, another object
	}
	_, x := a.object.pod()
	_, y := b.object.pod()
	return x.ServiceAccountName == y.ServiceAccountName && slices.Equal(x.ImagePullSecrets, y.ImagePullSecrets)
}

// hold returns what is kept of an object, or nil if it runs nothing.
func (v *inventory) hold(ctx context.Context, of kind, raw json.RawMessage) *held {
	var shape struct {
		Metadata struct {
			Namespace         string
			DeletionTimestamp *time.Time
		}
		Spec   struct{ Replicas *int }
		Status struct {
			Phase          string
			CompletionTime *time.Time
		}
	}
	if err := json.Unmarshal(raw, &shape); err != nil {
		v.h.Log.Warn("an object of the cluster cannot be read", "kind", of.String(), "error", err)
		return nil
	}
	ended := shape.Status.Phase == "Succeeded" || shape.Status.Phase == "Failed" || shape.Status.CompletionTime != nil
	old := of.Kind == "ReplicaSet" && shape.Spec.Replicas != nil && *shape.Spec.Replicas == 0 // of an earlier Deployment
	ends := shape.Metadata.DeletionTimestamp != nil
	if ended || old || ends && of.Kind != "Pod" || slices.Contains(v.exempt, shape.Metadata.Namespace) {
		return nil
	}
	a, err := v.h.read(ctx, &request{Operation: "CREATE", Kind: of, Namespace: shape.Metadata.Namespace, Object: raw})
	if err != nil {
		if !errors.Is(err, context.Canceled) {
			v.h.Log.Warn("an object of the cluster cannot be read", "kind", of.String(), "namespace", shape.Metadata.Namespace, "error", err)
		}
		return nil
	}
	o := &held{admitted: a, uid: a.object.Metadata.UID, pod: of.Kind == "Pod", ends: ends}
	o.name()
	var pod runningPod
	if o.pod && json.Unmarshal(raw, &pod) != nil {
		return nil
	}
	for _, i := range a.images {
		if o.pod {
			known := false
			if i, known = pod.pulled(i); !known {
				continue
			}
		}
		if i.Problem == "" && i.Reference.Dir == "" && i.Reference.Digest != "" {
			place := i.Places[0]
			place.Object = nil // the whole object
			i.Places = []imagelist.Place{place}
			o.images = append(o.images, i)
		}
	}
	a.running, a.images = true, o.images
	if !v.whole {
		a.runs = nil
	}
	return o
}

// name reduces the annotations to what the inventory says by itself, and forgets the bytes.
func (o *held) name() {
	m := o.object.Metadata.Annotations
	_, o.static = m["kubernetes.io/config.mirror"]
	if m[AnnotationReason] != "" {
		o.glass, _ = time.Parse(time.RFC3339, m[AnnotationUntil]) // zero: it is not broken
	}
	o.object.Metadata.Annotations, o.request.Object, o.old = nil, nil, nil
	if t := o.object.Spec.Template; t != nil {
		t.Metadata.Annotations = nil
	}
}

// all returns the objects of the inventory. complete reports whether all pods are known.
func (v *inventory) all(pods bool) (out []*held, complete bool) {
	v.mu.Lock()
	defer v.mu.Unlock()
	for _, o := range v.held {
		if o.pod || !pods {
			out = append(out, o)
		}
	}
	return out, v.listed[podsPath]
}

// changed reports whether something has changed since it was asked last.
func (v *inventory) changed() bool {
	v.mu.Lock()
	defer v.mu.Unlock()
	was := v.news
	v.news = false
	return was
}

// has reports whether a pod is still there, as far as anybody knows.
func (v *inventory) has(o *held) bool {
	v.mu.Lock()
	defer v.mu.Unlock()
	return v.held[podsPath+" "+o.Namespace+"/"+o.object.Metadata.Name] == o
}
