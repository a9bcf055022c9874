package admission

import (
	"context"
	"encoding/json"
	"errors"
	"reflect"
	"strings"
	"time"

	"github.com/colophon-build/colophon/platform/admission/kubeapi"
	"github.com/colophon-build/colophon/platform/verdicts"
	"github.com/colophon-build/colophon/policy/clusterimagepolicy"
)

// controllerLists are the resources of policy-controller: its version of the API that has each.
var controllerLists = []string{
	"/apis/" + clusterimagepolicy.APIVersion + "/clusterimagepolicies",
	"/apis/" + clusterimagepolicy.OldAPIVersion + "/trustroots",
}

// besideEvery is how often the Secrets and ConfigMaps that policies may name are read.
const besideEvery = 10 * time.Second

// controllerDocument returns a resource of policy-controller as a document: what people write, and of
// the metadata the name and the annotations. It gets no status: another program writes that.
func controllerDocument(raw json.RawMessage) verdicts.Document {
	var r struct {
		APIVersion string `json:"apiVersion"`
		Kind       string `json:"kind"`
		Metadata   struct {
			Name        string            `json:"name"`
			Annotations map[string]string `json:"annotations,omitempty"`
		} `json:"metadata"`
		Spec json.RawMessage `json:"spec"`
	}
	if err := json.Unmarshal(raw, &r); err != nil {
		return verdicts.Document{Name: clusterimagepolicy.Group, Raw: raw} // it is refused when it is parsed
	}
	d := verdicts.Document{Name: r.Kind + " " + r.Metadata.Name}
	d.Raw, _ = json.Marshal(r) // of JSON
	return d
}

// besides reads, until ctx ends, the Secrets and ConfigMaps of admission's own namespace that
// ClusterImagePolicies may name. What cannot be read is as it was, or else is not there: then what
// needs it is undecided.
func (l *loader) besides(ctx context.Context, api *kubeapi.Client, namespace string, of *ClusterImagePolicies, p *parts) {
	known := map[string]verdicts.Document{}
	for first := true; ctx.Err() == nil; first = false {
		var docs []verdicts.Document
		changed := first
		for _, list := range []struct {
			resource, kind string
			names          []string
		}{{"secrets", "Secret", of.Secrets}, {"configmaps", "ConfigMap", of.ConfigMaps}} {
			for _, name := range list.names {
				path := "/api/v1/namespaces/" + namespace + "/" + list.resource + "/" + name
				d, err := besideDocument(ctx, api, path, list.kind, name)
				before, had := known[path]
				switch {
				case errors.Is(err, kubeapi.ErrNotFound):
					delete(known, path)
				case err != nil:
					l.log.Error("cannot read what ClusterImagePolicies name", "path", path, "error", err)
				default:
					known[path] = d
				}
				now, has := known[path]
				changed = changed || had != has || !reflect.DeepEqual(before.Raw, now.Raw)
				if has {
					docs = append(docs, now)
				}
			}
		}
		if changed {
			p.tell("beside", docs)
		}
		select {
		case <-ctx.Done():
		case <-time.After(besideEvery):
		}
	}
}

// besideDocument reads a Secret or a ConfigMap.
func besideDocument(ctx context.Context, api *kubeapi.Client, path, kind, name string) (d verdicts.Document, err error) {
	var got struct {
		Data       json.RawMessage `json:"data,omitempty"`
		BinaryData json.RawMessage `json:"binaryData,omitempty"`
	}
	if err := api.Get(ctx, path, &got); err != nil {
		return d, err
	}
	object := map[string]any{"apiVersion": "v1", "kind": kind, "metadata": map[string]string{"name": name}}
	for member, value := range map[string]json.RawMessage{"data": got.Data, "binaryData": got.BinaryData} {
		if len(value) > 0 {
			object[member] = value
		}
	}
	d.Name = strings.Join([]string{kind, name}, " ")
	d.Raw, err = json.Marshal(object)
	return d, err
}
