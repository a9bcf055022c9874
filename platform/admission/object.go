package admission

import (
	"bytes"
	"encoding/json"
	"fmt"
	"reflect"
	"slices"
	"strings"

	"github.com/colophon-build/colophon/internal/strict"
)

// objectHead is what decides in an object besides its images.
type objectHead struct {
	APIVersion string   `json:"apiVersion"`
	Kind       string   `json:"kind"`
	Metadata   metadata `json:"metadata"`
	Spec       headSpec `json:"spec"`
}

type metadata struct {
	Name         string            `json:"name"`
	GenerateName string            `json:"generateName"`
	UID          string            `json:"uid"`
	Annotations  map[string]string `json:"annotations"`
}

// headSpec has the specification of a pod at the places where the kinds have it.
type headSpec struct {
	podSpec
	Template    *template `json:"template"`
	JobTemplate *struct {
		Spec struct {
			Template *template `json:"template"`
		} `json:"spec"`
	} `json:"jobTemplate"`
}

type template struct {
	Metadata metadata `json:"metadata"`
	Spec     podSpec  `json:"spec"`
}

// podSpec is what is read of a pod's specification.
type podSpec struct {
	NodeName           string `json:"nodeName"`
	ServiceAccountName string `json:"serviceAccountName"`
	ImagePullSecrets   []struct {
		Name string `json:"name"`
	} `json:"imagePullSecrets"`
}

func readHead(raw json.RawMessage, head *objectHead) error {
	if len(bytes.TrimSpace(raw)) == 0 || bytes.Equal(bytes.TrimSpace(raw), []byte("null")) {
		return errNull
	}
	var shape struct {
		APIVersion string          `json:"apiVersion"`
		Kind       string          `json:"kind"`
		Metadata   metadata        `json:"metadata"`
		Spec       json.RawMessage `json:"spec"`
	}
	if err := strict.Unmarshal(raw, maxReview, &shape); err != nil {
		return err
	}
	*head = objectHead{APIVersion: shape.APIVersion, Kind: shape.Kind, Metadata: shape.Metadata}
	group, _, grouped := strings.Cut(shape.APIVersion, "/")
	if !grouped {
		group = ""
	}
	if !slices.Contains(workloads[group], shape.Kind) || len(shape.Spec) == 0 {
		return nil // a custom kind may have members of these names and another type
	}
	if err := strict.Unmarshal(shape.Spec, maxReview, &head.Spec); err != nil {
		return fmt.Errorf("spec: %w", err)
	}
	return nil
}

// unchanged reports whether an update of an object is about its metadata and its status alone. An
// annotation may name an image of a custom kind.
func unchanged(object, old json.RawMessage) bool {
	var versions [2]map[string]any
	for i, raw := range []json.RawMessage{object, old} {
		if strict.Unmarshal(raw, maxReview, &versions[i]) != nil {
			return false
		}
		if m, ok := versions[i]["metadata"].(map[string]any); ok {
			versions[i]["metadata"] = m["annotations"]
		}
		delete(versions[i], "status")
	}
	return reflect.DeepEqual(versions[0], versions[1])
}

// pod returns the metadata and specification of the pods that the object makes. Of a custom kind
// they are not known.
func (o *objectHead) pod() (m metadata, s podSpec) {
	switch {
	case o.Spec.Template != nil:
		return o.Spec.Template.Metadata, o.Spec.Template.Spec
	case o.Spec.JobTemplate != nil && o.Spec.JobTemplate.Spec.Template != nil:
		t := o.Spec.JobTemplate.Spec.Template
		return t.Metadata, t.Spec
	}
	return o.Metadata, o.Spec.podSpec
}

// name returns the object's name, or the beginning of it that it was given.
func (o *objectHead) name() string {
	if o.Metadata.Name == "" && o.Metadata.GenerateName != "" {
		return o.Metadata.GenerateName + "…"
	}
	return o.Metadata.Name
}

// mirrors reports whether the object is the mirror of a static pod, which a kubelet runs whatever
// the API server says. Only the kubelet of the pod's node is trusted to say so.
func (h *Handler) mirrors(a *admitted) bool {
	_, spec := a.object.pod()
	_, marked := a.object.Metadata.Annotations["kubernetes.io/config.mirror"]
	return marked && a.Kind.String() == "Pod" && a.SubResource == "" && a.Operation == "CREATE" &&
		spec.NodeName != "" && a.UserInfo.Username == "system:node:"+spec.NodeName && slices.Contains(a.UserInfo.Groups, "system:nodes")
}
