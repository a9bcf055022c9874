package imagelist

import (
	"fmt"
	"strings"
	"testing"

	"github.com/colophon-build/colophon/internal/limits"
)

const podList = `{"apiVersion":"v1","kind":"List","items":[
 {"apiVersion":"v1","kind":"Pod","metadata":{"name":"web","namespace":"shop"},
  "spec":{"initContainers":[{"name":"i","image":"r.example.com/init:1"}],
          "containers":[{"name":"a","image":"r.example.com/app:1"},{"name":"b","image":"r.example.com/app:1"}],
          "ephemeralContainers":[{"name":"d","image":"r.example.com/debug:1"}],
          "volumes":[{"name":"v","image":{"reference":"r.example.com/data:1"}},{"name":"w","emptyDir":{}}]},
  "status":{"containerStatuses":[{"image":"r.example.com/status:1"}]}}]}`

const helm = `---
# Source: shop/templates/web.yaml
apiVersion: apps/v1
kind: Deployment
metadata: {name: web}
spec:
  template:
    spec:
      containers:
        - {name: web, image: "nginx:1.25"}
        - {name: side, image: team/side}
---
---
apiVersion: batch/v1
kind: CronJob
metadata: {name: nightly, namespace: shop}
spec: {jobTemplate: {spec: {template: {spec: {containers: [{name: j, image: localhost:5000/job@sha256:` + sixtyFour + `}]}}}}}
---
apiVersion: example.com/v1
kind: Custom
metadata: {name: c}
spec: {parts: [{podTemplate: {spec: {containers: [{image: docker.io/library/nginx:1.25}]}}}], 1: {containers: [{image: r.example.com/odd}]}}
`

const sixtyFour = "0123456789abcdef0123456789abcdef0123456789abcdef0123456789abcdef"

const composed = `x-base: &base
  image: r.example.com/base:1
services:
  web: {<<: *base, ports: ["80:80"]}
  api: {image: r.example.com/api:1}
  own: {build: .}
`

// TestImagesOfADocument reads every kind of document, and text that is none of them.
// want is the list of images, joined by spaces, with "!" before a target that has a
// problem; or "error: " and words of the expected error.
func TestImagesOfADocument(t *testing.T) {
	pod := func(containers string) string {
		return "apiVersion: v1\nkind: Pod\nmetadata: {name: p}\nspec: {containers: [" + containers + "]}\n"
	}
	bomb := "a: &a [x,x,x,x,x,x,x,x,x,x]\n"
	for c := 'b'; c < 'k'; c++ {
		bomb += fmt.Sprintf("%c: &%c [%s*%c]\n", c, c, strings.Repeat(fmt.Sprintf("*%c,", c-1), 9), c-1)
	}
	for what, test := range map[string]struct{ doc, want string }{
		"a list": {"# ours\nr.example.com/app:v1\n\n r.example.com/b@sha256:" + sixtyFour + "  # pinned\r\n./layout:v1\nr.example.com/app:v1\n",
			"r.example.com/app:v1 r.example.com/b@sha256:" + sixtyFour + " ./layout:v1"},
		"a list without a host":         {"r.example.com/a\nnginx:1.25\n", "error: line 2"},
		"a list with two on a line":     {"r.example.com/a\nr.example.com/b r.example.com/c\n", "error: line 2"},
		"a list that is not text":       {"r.example.com/a\n\xff\n", "error: UTF-8"},
		"a list with a NUL":             {"r.example.com/a\x00b\n", "error: UTF-8"},
		"a JSON array":                  {`["r.example.com/a"]`, "error: line 1"},
		"prose":                         {"Error from server (Forbidden): pods is forbidden", "error: found neither"},
		"a web page":                    {"<!DOCTYPE html>\n<html></html>", "error: document 1"},
		"pods":                          {podList, "r.example.com/app:1 r.example.com/debug:1 r.example.com/init:1 r.example.com/data:1"},
		"pods, a member twice":          {`{"apiVersion":"v1","kind":"Pod","spec":{"containers":[{"image":"r.example.com/a","image":"r.example.com/b"}]}}`, "error: duplicate"},
		"pods, cut short":               {podList[:len(podList)-1], "error: it ends too early"},
		"pods, and trailing data":       {podList + podList, "error: it is not JSON here"},
		"helm":                          {helm, "nginx:1.25 team/side localhost:5000/job@sha256:" + sixtyFour + " r.example.com/odd"},
		"helm, a member twice":          {pod("{image: r.example.com/a, image: r.example.com/b}"), "error: already defined"},
		"helm, a broken document":       {helm + "---\n{{ .Values.x }}\n", "error: document 5"},
		"helm, an unknown document":     {helm + "---\nfoo: bar\n", "error: found neither"},
		"a container without image":     {pod("{name: a}, {image: r.example.com/b}"), "!containers[0] of Pod p r.example.com/b"},
		"an image that is not a string": {pod("{image: 1.25}"), "!containers[0] of Pod p"},
		"a directory for an image":      {pod("{image: ./evil}, {image: /evil}, {image: 'oci:evil'}, {image: ../evil}"), "!./evil !/evil oci:evil !../evil"},
		"no name at all":                {pod("{image: 'UP:CASE:x'}"), "!UP:CASE:x"},
		"a container that is a string":  {pod("web"), "error: expected a container"},
		"no apiVersion":                 {"kind: Pod\nspec: {containers: [{image: r.example.com/a}]}\n", "error: found neither"},
		"two kinds at once":             {"kind: Pod\nservices: {a: {image: r.example.com/a}}\n", "error: found neither"},
		"compose":                       {composed, "r.example.com/api:1 !service own r.example.com/base:1"},
		"compose with variables":        {"services:\n  a: {image: 'r.example.com/a:${TAG}'}\n", "error: variables"},
		"compose with includes":         {"include: [other.yaml]\nservices: {}\n", "error: includes"},
		"compose, images as volumes": {"services:\n  a: {image: r.example.com/a, volumes: [x:/x, {type: bind, source: /b}, {type: image, source: r.example.com/tools:1, target: /t}]}\n",
			"r.example.com/a r.example.com/tools:1"},
		"compose, a volume without image":   {"services:\n  a: {image: r.example.com/a, volumes: [{type: image, target: /t}]}\n", "r.example.com/a !volumes[0] of service a"},
		"compose, a volume with variables":  {"services:\n  a: {image: r.example.com/a, volumes: [{type: image, source: $T}]}\n", "error: variables"},
		"compose, built in any case":        {"services:\n  a: {image: r.example.com/a, build: ., pull_policy: build}\n", "r.example.com/a !service a"},
		"compose, built and never pulled":   {"services:\n  a: {image: r.example.com/a, build: {context: .}, pull_policy: never}\n", "r.example.com/a !service a"},
		"compose, built if it is not there": {"services:\n  a: {image: r.example.com/a, build: .}\n", "r.example.com/a"},
		"compose, extends beside an image":  {"services:\n  a: {image: r.example.com/a, extends: {file: other.yaml, service: b}}\n", "error: extends another service"},
		"compose, extends in one file":      {"services:\n  a: {image: r.example.com/a, extends: b}\n  b: {image: r.example.com/b}\n", "error: extends another service"},
		"compose, a model":                  {"services:\n  a: {image: r.example.com/a, models: [m]}\nmodels:\n  m: {model: ai/small:1}\n", "r.example.com/a ai/small:1"},
		"compose, a provider":               {"services:\n  a: {provider: {type: cloud}}\n", "!service a"},
		"a CSI volume with an image":        {"apiVersion: v1\nkind: Pod\nspec: {volumes: [{csi: {driver: d, volumeAttributes: {image: r.example.com/v}}}], containers: [{image: r.example.com/a}]}\n", "r.example.com/a r.example.com/v"},
		"a persistent volume":               {"apiVersion: v1\nkind: PersistentVolume\nspec: {csi: {driver: d, volumeAttributes: {image: r.example.com/v}}}\n", "r.example.com/v"},
		"a custom object":                   {"apiVersion: tekton.dev/v1\nkind: Task\nspec: {steps: [{image: r.example.com/step}], sidecars: [{image: r.example.com/side}]}\n", "r.example.com/side r.example.com/step"},
		"a custom object in a list": {"apiVersion: v1\nkind: List\nitems: [{apiVersion: argoproj.io/v1alpha1, kind: Workflow, spec: {templates: [{script: {image: r.example.com/s}}]}}, {apiVersion: v1, kind: ConfigMap, data: {image: r.example.com/no}}, {apiVersion: v1, kind: Pod, spec: {containers: [{image: r.example.com/a}]}}]\n",
			"r.example.com/s r.example.com/a"},
		"a custom object with parts":     {"apiVersion: helm.example.com/v2\nkind: HelmRelease\nmetadata: {name: r}\nspec: {values: {image: {repository: r.example.com/a, tag: v1}}}\n", "!image of HelmRelease r"},
		"a definition of custom objects": {"apiVersion: apiextensions.k8s.io/v1\nkind: CustomResourceDefinition\nspec: {properties: {image: {type: string}}}\n---\napiVersion: v1\nkind: Pod\nspec: {containers: [{image: r.example.com/a}]}\n", "r.example.com/a"},
		"compose without services":       {"services: [a]\n", "error: expected a mapping"},
		"aliases without end":            {bomb, "error: excessive aliasing"},
		"an alias of itself":             {"a: &a\n  b: *a\n", "error: contains itself"},
		"deep nesting, JSON":             {`{"apiVersion":"v1","kind":"X","a":` + strings.Repeat("[", 100) + strings.Repeat("]", 100) + "}", "error: nested deeper"},
		"deep nesting, YAML":             {"apiVersion: v1\nkind: X\na: " + strings.Repeat("[", 100) + strings.Repeat("]", 100) + "\n", "error: nested deeper"},
	} {
		var ts List
		err := ts.Document([]byte(test.doc))
		var names []string
		for _, target := range ts.Images {
			name := target.Name
			if target.Problem != "" {
				name = "!" + name
			} else if target.Reference.Repository == "" && target.Reference.Dir == "" {
				t.Errorf("%s: %s has no reference", what, name)
			}
			names = append(names, name)
		}
		got := strings.Join(names, " ")
		word, wantErr := strings.CutPrefix(test.want, "error: ")
		switch {
		case wantErr && (err == nil || !strings.Contains(err.Error(), word)):
			t.Errorf("%s: got %q, %v, want an error with %q", what, got, err, word)
		case !wantErr && (err != nil || got != test.want):
			t.Errorf("%s: got %q, %v, want %q", what, got, err, test.want)
		}
	}
}

func TestImagesAreBounded(t *testing.T) {
	var doc strings.Builder
	for i := range limits.Images + 1 {
		fmt.Fprintf(&doc, "r.example.com/a:v%d\n", i)
	}
	var ts List
	if err := ts.Document([]byte(doc.String())); err == nil || !strings.Contains(err.Error(), "more than") {
		t.Errorf("got %d images, %v, want an error", len(ts.Images), err)
	}
	for _, empty := range []string{"", "# nothing\n", `{"apiVersion":"v1","kind":"List","items":[]}`, "---\n"} {
		ts = List{}
		if err := ts.Document([]byte(empty)); err != nil || ts.Named != 0 {
			t.Errorf("%q: got %d images, %v, want none", empty, ts.Named, err)
		}
	}
}

// TestContainerReference: image names mean what container runtimes make of them.
func TestContainerReference(t *testing.T) {
	for name, want := range map[string]string{
		"nginx":                    "docker.io/library/nginx",
		"nginx:1.25":               "docker.io/library/nginx:1.25",
		"team/app":                 "docker.io/team/app",
		"localhost/app":            "localhost/app",
		"r.example.com:443/a/b:v1": "r.example.com:443/a/b:v1",
		"a:v1@sha256:" + sixtyFour: "docker.io/library/a:v1@sha256:" + sixtyFour,
		"oci:x":                    "docker.io/library/oci:x",
		"./x":                      "",
		"/x":                       "",
		"oci:/x":                   "",
		"oci:./x":                  "",
		"a b":                      "",
		"":                         "",
	} {
		ref, err := containerReference(name)
		if got := ref.String(); err == nil && got != want || err != nil && want != "" {
			t.Errorf("%q: got %q, %v, want %q", name, got, err, want)
		}
	}
}

func FuzzImagesOfADocument(f *testing.F) {
	for _, seed := range []string{podList, helm, composed, "r.example.com/a:v1 # x\n./b\n"} {
		var ts List
		if err := ts.Document([]byte(seed)); err != nil || len(ts.Images) == 0 {
			f.Fatalf("a seed has %d images, %v", len(ts.Images), err)
		}
		f.Add([]byte(seed))
	}
	f.Fuzz(func(t *testing.T, data []byte) {
		var ts List
		ts.Document(data)
		for _, target := range ts.Images {
			if (target.Problem == "") == (target.Reference.Repository == "" && target.Reference.Dir == "") {
				t.Errorf("%q: got %+v, want either a reference or a problem", target.Name, target)
			}
		}
	})
}
