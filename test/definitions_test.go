package test

import (
	"bytes"
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"go.yaml.in/yaml/v3"

	"github.com/colophon-build/colophon/policy"
	"github.com/colophon-build/colophon/spec/schemas"
)

// object is a part of a Kubernetes object or of a schema.
type object = map[string]any

// definitions is where the chart keeps the definitions of Colophon's resources.
var definitions = filepath.Join("..", "deploy", "kubernetes", "chart", "definitions")

// TestResourceDefinitions: the resources that Kubernetes knows are what the formats say. The
// schema of policies in Kubernetes is made from that in spec/schemas. UPDATE=1 writes them.
func TestResourceDefinitions(t *testing.T) {
	raw, err := schemas.Files.ReadFile("imagepolicy.json")
	if err != nil {
		t.Fatal(err)
	}
	var document object
	if err := json.Unmarshal(raw, &document); err != nil {
		t.Fatal(err)
	}
	rules := document["properties"].(object)["spec"].(object)
	structural(t, rules)
	unmatched := object{"name": "Unmatched", "type": "string", "jsonPath": ".spec.unmatched", "description": "what happens to an image that no rule is about"}
	trust := object{
		"type": "object", "description": "a trust root", "required": []any{"document"},
		"properties": object{
			"document": object{
				"type": "string", "minLength": 1, "maxLength": 1 << 20,
				"description": "the trust root, byte by byte: a platform's trust document, a trusted_root.json, or a file that colophon trust keeps",
			},
		},
	}
	for file, definition := range map[string]object{
		"imagepolicies.yaml":           resource("ImagePolicy", "imagepolicies", "imagepolicy", "Cluster", "which images may run in this cluster", rules, unmatched),
		"namespacedimagepolicies.yaml": resource("NamespacedImagePolicy", "namespacedimagepolicies", "namespacedimagepolicy", "Namespaced", "which images may run in this namespace", rules, unmatched),
		"trustroots.yaml":              resource("TrustRoot", "trustroots", "trustroot", "Cluster", "whom this cluster trusts for what", trust),
	} {
		var out bytes.Buffer
		fmt.Fprintf(&out, "# Made from spec/schemas: UPDATE=1 go test ./test -run TestResourceDefinitions\n")
		enc := yaml.NewEncoder(&out)
		enc.SetIndent(2)
		if err := enc.Encode(definition); err != nil {
			t.Fatal(err)
		}
		path := filepath.Join(definitions, file)
		if os.Getenv("UPDATE") != "" {
			if err := os.WriteFile(path, out.Bytes(), 0o644); err != nil {
				t.Fatal(err)
			}
		}
		if got, err := os.ReadFile(path); err != nil || !bytes.Equal(got, out.Bytes()) {
			t.Errorf("%s is not what the schema says (%v); write it with UPDATE=1", path, err)
		}
	}
}

// structural makes a schema one that Kubernetes accepts (structural schemas, OpenAPI 3.0). There
// additionalProperties may not be false: members that a schema does not name are refused, or
// removed, anyway.
func structural(t *testing.T, s object) {
	t.Helper()
	if s["additionalProperties"] == false {
		delete(s, "additionalProperties")
	}
	for keyword, value := range s {
		switch keyword {
		case "properties":
			for _, member := range value.(object) {
				structural(t, member.(object))
			}
		case "items", "additionalProperties":
			structural(t, value.(object))
		case "type", "description", "required", "enum", "minItems", "maxItems", "minProperties", "maxProperties", "pattern", "minLength", "maxLength", "minimum", "maximum":
		default:
			t.Errorf("a schema in Kubernetes cannot have the keyword %s", keyword)
		}
	}
	if s["type"] == "integer" {
		s["format"] = "int64"
	}
	if s["type"] == nil {
		t.Errorf("a schema in Kubernetes needs a type: %v", s)
	}
}

// resource returns the definition of a resource of the group colophon.build: one version, which is
// stored, and which no program must convert.
func resource(kind, plural, singular, scope, what string, spec object, columns ...any) object {
	group, version, _ := strings.Cut(policy.APIVersion, "/")
	return object{
		"apiVersion": "apiextensions.k8s.io/v1", "kind": "CustomResourceDefinition",
		"metadata": object{"name": plural + "." + group, "labels": object{"app.kubernetes.io/name": "colophon"}, "annotations": object{"helm.sh/resource-policy": "keep"}},
		"spec": object{
			"group": group, "scope": scope,
			"names":      object{"kind": kind, "listKind": kind + "List", "plural": plural, "singular": singular, "categories": []any{"colophon"}},
			"conversion": object{"strategy": "None"},
			"versions": []any{object{
				"name": version, "served": true, "storage": true,
				"subresources": object{"status": object{}},
				"additionalPrinterColumns": append(columns,
					object{"name": "Ready", "type": "string", "jsonPath": `.status.conditions[?(@.type=="Ready")].status`, "description": "whether admission works with it"},
					object{"name": "Reason", "type": "string", "priority": 1, "jsonPath": `.status.conditions[?(@.type=="Ready")].message`, "description": "what is wrong with it"},
					object{"name": "Age", "type": "date", "jsonPath": ".metadata.creationTimestamp"},
				),
				"schema": object{"openAPIV3Schema": object{
					"type": "object", "description": what, "required": []any{"spec"},
					"properties": object{
						"apiVersion": object{"type": "string", "description": policy.APIVersion},
						"kind":       object{"type": "string", "description": kind},
						"metadata":   object{"type": "object"},
						"spec":       spec,
						"status":     statusSchema(),
					},
				}},
			}},
		},
	}
}

// statusSchema is what admission says about a policy or trust root: conditions, as all of Kubernetes has
// them (metav1.Condition).
func statusSchema() object {
	text := func(what string) object { return object{"type": "string", "description": what} }
	return object{
		"type": "object", "description": "what admission says about it. It decides nothing",
		"properties": object{"conditions": object{
			"type": "array", "maxItems": 8, "x-kubernetes-list-type": "map", "x-kubernetes-list-map-keys": []any{"type"},
			"items": object{
				"type": "object", "required": []any{"type", "status", "lastTransitionTime", "reason", "message"},
				"properties": object{
					"type":               text("Ready"),
					"status":             object{"type": "string", "enum": []any{"True", "False", "Unknown"}, "description": "whether it is in force"},
					"observedGeneration": object{"type": "integer", "format": "int64", "description": "the generation that this is about"},
					"lastTransitionTime": object{"type": "string", "format": "date-time", "description": "when status last changed"},
					"reason":             text("one word"),
					"message":            text("what is wrong, with the place"),
				},
			},
		}},
	}
}
