package admission

import (
	"context"
	"encoding/json"
	"log/slog"
	"slices"
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

// fromCluster follows the policies or the trust roots of the cluster until ctx ends, and with others
// the documents of policy-controller beside our policies.
func (l *loader) fromCluster(ctx context.Context, api *kubeapi.Client, of int, namespace string, others *ClusterImagePolicies) {
	p := &parts{documents: map[string][]verdicts.Document{}, all: func(all []verdicts.Document) { l.Tell(of, all) }}
	if of == verdicts.TrustDocuments {
		p.names = []string{"trustroots"}
		l.followOurs(ctx, api, p.names, p)
		return
	}
	l.followPolicies(ctx, api, namespace, others, p)
}

// followPolicies tells p of all policies until ctx ends.
func (l *loader) followPolicies(ctx context.Context, api *kubeapi.Client, namespace string, others *ClusterImagePolicies, p *parts) {
	ours := []string{"imagepolicies", "namespacedimagepolicies"}
	p.names = ours
	if others != nil {
		p.names = slices.Concat(ours, controllerLists, []string{"beside"})
		for _, list := range controllerLists {
			l.follow(ctx, api, list, controllerDocument, p)
		}
		go l.besides(ctx, api, namespace, others, p)
	}
	l.followOurs(ctx, api, ours, p)
}

func (l *loader) followOurs(ctx context.Context, api *kubeapi.Client, lists []string, p *parts) {
	for _, list := range lists {
		l.follow(ctx, api, resources+list, func(raw json.RawMessage) verdicts.Document { return l.documentOf(ctx, api, list, raw) }, p)
	}
}

// follow tells p of all objects of a list until ctx ends.
func (l *loader) follow(ctx context.Context, api *kubeapi.Client, list string, document func(json.RawMessage) verdicts.Document, p *parts) {
	go api.Follow(ctx, list, func(objects []json.RawMessage) {
		var docs []verdicts.Document
		for _, raw := range objects {
			docs = append(docs, document(raw))
		}
		p.tell(strings.TrimPrefix(list, resources), docs)
	}, func(err error) {
		l.log.Error("cannot follow the resources of the cluster", "resources", list, "error", err)
	})
}

// parts collects what is read in several parts.
type parts struct {
	names []string                  // of all parts, in their order
	all   func([]verdicts.Document) // called once all parts are there, and after each change

	mu        sync.Mutex
	documents map[string][]verdicts.Document
}

func (p *parts) tell(part string, docs []verdicts.Document) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.documents[part] = docs; len(p.documents) < len(p.names) {
		return
	}
	var all []verdicts.Document
	for _, name := range p.names {
		all = append(all, p.documents[name]...)
	}
	p.all(all)
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
