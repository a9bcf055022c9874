package admission

import (
	"context"
	"encoding/json"
	"log/slog"
	"strings"
	"sync"
	"time"

	"github.com/colophon-build/colophon/platform/admission/kubeapi"
	"github.com/colophon-build/colophon/platform/verdicts"
)

// loader is a Loader that also reads resources of the cluster.
type loader struct {
	*verdicts.Loader
	log *slog.Logger
}

// resource is a policy or trust root as an object of the cluster.
type resource struct {
	APIVersion string `json:"apiVersion"`
	Kind       string `json:"kind"`
	Metadata   struct {
		Name       string `json:"name"`
		Namespace  string `json:"namespace,omitempty"`
		Generation int64  `json:"generation,omitempty"`
	} `json:"metadata"`
	Spec   json.RawMessage `json:"spec"`
	Status json.RawMessage `json:"status,omitempty"` // of no weight: others may write it
}

type condition struct {
	Type       string    `json:"type"`
	Status     string    `json:"status"`
	Reason     string    `json:"reason"`
	Message    string    `json:"message"`
	Generation int64     `json:"observedGeneration,omitempty"`
	Since      time.Time `json:"lastTransitionTime"`
}

const resources = "/apis/colophon.build/v1/"

// fromCluster follows the policies or the trust roots of the cluster until ctx ends.
func (l *loader) fromCluster(ctx context.Context, api *kubeapi.Client, of int) {
	lists := []string{"imagepolicies", "namespacedimagepolicies"}
	if of == verdicts.TrustDocuments {
		lists = []string{"trustroots"}
	}
	var mu sync.Mutex
	got := map[string][]verdicts.Document{}
	for _, list := range lists {
		go api.Follow(ctx, resources+list, func(objects []json.RawMessage) {
			var docs []verdicts.Document
			for _, raw := range objects {
				docs = append(docs, l.documentOf(ctx, api, list, raw))
			}
			mu.Lock()
			defer mu.Unlock()
			if got[list] = docs; len(got) == len(lists) {
				var all []verdicts.Document
				for _, name := range lists {
					all = append(all, got[name]...)
				}
				l.Tell(of, all)
			}
		}, func(err error) {
			l.log.Error("cannot follow the resources of the cluster", "resources", list, "error", err)
		})
	}
}

// documentOf returns a resource as a document. Only what people write is in it: a status that
// changes is no other policy.
func (l *loader) documentOf(ctx context.Context, api *kubeapi.Client, list string, raw json.RawMessage) verdicts.Document {
	var r resource
	if err := json.Unmarshal(raw, &r); err != nil {
		return verdicts.Document{Name: list, Raw: raw} // it is refused when it is parsed
	}
	d := verdicts.Document{Name: strings.TrimSpace(r.Kind + " " + strings.TrimPrefix(r.Metadata.Namespace+"/"+r.Metadata.Name, "/")), Namespace: r.Metadata.Namespace}
	path := resources + list + "/" + r.Metadata.Name
	if r.Metadata.Namespace != "" {
		path = resources + "namespaces/" + r.Metadata.Namespace + "/" + list + "/" + r.Metadata.Name
	}
	d.Report = func(problem string) { go l.report(ctx, api, path, r, problem) }
	if list == "trustroots" {
		var spec struct {
			Document string `json:"document"`
		}
		if json.Unmarshal(r.Spec, &spec) == nil {
			d.Raw = []byte(spec.Document)
		}
		return d
	}
	clean := map[string]any{"apiVersion": r.APIVersion, "kind": r.Kind, "spec": r.Spec}
	metadata := map[string]string{"name": r.Metadata.Name}
	if r.Metadata.Namespace != "" {
		metadata["namespace"] = r.Metadata.Namespace
	}
	clean["metadata"] = metadata
	d.Raw, _ = json.Marshal(clean) // of JSON
	return d
}

// report writes the condition Ready of a resource, unless it says the same already.
func (l *loader) report(ctx context.Context, api *kubeapi.Client, path string, r resource, problem string) {
	want := condition{Type: "Ready", Status: "True", Reason: "InForce", Generation: r.Metadata.Generation, Since: time.Now().UTC().Truncate(time.Second)}
	if problem != "" {
		want.Status, want.Reason, want.Message = "False", "NotInForce", problem
	}
	var have struct {
		Conditions []condition `json:"conditions"`
	}
	_ = json.Unmarshal(r.Status, &have) // what cannot be read is replaced
	for _, c := range have.Conditions {
		if c.Type == want.Type && c.Status == want.Status && c.Message == want.Message && c.Generation == want.Generation {
			return
		}
	}
	err := api.Patch(ctx, path+"/status", kubeapi.MergePatch, map[string]any{"status": map[string]any{"conditions": []condition{want}}})
	if err != nil && ctx.Err() == nil {
		l.log.Warn("cannot write the status", "resource", path, "error", err)
	}
}
