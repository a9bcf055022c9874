package imagelist

import (
	"fmt"
	"slices"
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
	custom := func(fields string) string {
		return "apiVersion: example.com/v1\nkind: Engine\nmetadata: {name: e}\nspec: {" + fields + "}\nstatus: {runtimeImage: r.example.com/old}\n"
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
		"a container without image":     {pod("{name: a}, {image: r.example.com/b}"), "!spec.containers[0] of Pod p r.example.com/b"},
		"an image that is not a string": {pod("{image: 1.25}"), "!spec.containers[0] of Pod p"},
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
		"a custom object with parts":              {"apiVersion: helm.example.com/v2\nkind: HelmRelease\nmetadata: {name: r}\nspec: {values: {image: {repository: r.example.com/a, tag: v1}}}\n", "!spec.values.image of HelmRelease r"},
		"a definition of custom objects":          {"apiVersion: apiextensions.k8s.io/v1\nkind: CustomResourceDefinition\nspec: {properties: {image: {type: string}}}\n---\napiVersion: v1\nkind: Pod\nspec: {containers: [{image: r.example.com/a}]}\n", "r.example.com/a"},
		"containers that are a mapping":           {"apiVersion: v1\nkind: Pod\nspec: {containers: {image: r.example.com/a}}\n", "error: expected a list"},
		"a field that may be an image":            {custom("runtimeImage: r.example.com/run"), "!spec.runtimeImage of Engine e"},
		"a list that may be images":               {custom("cachedImages: [r.example.com/run]"), "!spec.cachedImages[0] of Engine e"},
		"a field that may be an image, in parts":  {custom("runtimeImage: {repository: r.example.com/run, tag: v1}"), "!spec.runtimeImage of Engine e"},
		"a field of a known kind":                 {"apiVersion: postgresql.cnpg.io/v1\nkind: Cluster\nspec: {imageName: r.example.com/pg:17, imageCatalogRef: {name: x}}\n", "r.example.com/pg:17"},
		"a known kind in another group":           {"apiVersion: other.example/v1\nkind: Cluster\nmetadata: {name: c}\nspec: {imageName: r.example.com/pg:17}\n", "!spec.imageName of Cluster c"},
		"a field that is no image at all":         {custom("imagePullPolicy: Always, imageCount: 2"), ""},
		"a custom group that ends like a builtin": {"apiVersion: tools.sigs.k8s.io/v1\nkind: Runner\nspec: {image: r.example.com/run}\n", "r.example.com/run"},
		"a custom object in a custom object":      {"apiVersion: v1\nkind: List\nitems: [{apiVersion: example.com/v1, kind: Engine, spec: {inner: {apiVersion: v1, kind: Pod, spec: {containers: [{image: r.example.com/a}]}}}}]\n", "r.example.com/a"},
		"an injected container":                   {"apiVersion: v1\nkind: Pod\nmetadata: {name: p, annotations: {sidecar.istio.io/proxyImage: r.example.com/evil}}\nspec: {containers: [{image: r.example.com/a}]}\n", `!metadata.annotations["sidecar.istio.io/proxyImage"] of Pod p r.example.com/a`},
		"compose without services":                {"services: [a]\n", "error: expected a mapping"},
		"aliases without end":                     {bomb, "error: excessive aliasing"},
		"an alias of itself":                      {"a: &a\n  b: *a\n", "error: contains itself"},
		"deep nesting, JSON":                      {`{"apiVersion":"v1","kind":"X","a":` + strings.Repeat("[", 100) + strings.Repeat("]", 100) + "}", "error: nested deeper"},
		"deep nesting, YAML":                      {"apiVersion: v1\nkind: X\na: " + strings.Repeat("[", 100) + strings.Repeat("]", 100) + "\n", "error: nested deeper"},
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

// TestPlaces: each image has the object, the field and the line that name it.
func TestPlaces(t *testing.T) {
	const aliased = `apiVersion: v1
kind: Pod
metadata: {name: a, namespace: n}
spec:
  base: &base
    image: r.example.com/base
  containers:
  - <<: *base
  - image: r.example.com/own
  - name: none
`
	for what, test := range map[string]struct{ doc, want string }{
		"JSON": {podList, `r.example.com/app:1 = Pod shop/web, spec.containers[0].image, line 4 = Pod shop/web, spec.containers[1].image, line 4
r.example.com/debug:1 = Pod shop/web, spec.ephemeralContainers[0].image, line 5
r.example.com/init:1 = Pod shop/web, spec.initContainers[0].image, line 3
r.example.com/data:1 = Pod shop/web, spec.volumes[0].image.reference, line 6
`},
		"JSON, a container without image": {"{\"apiVersion\":\"v1\",\"kind\":\"Pod\",\n\"spec\":{\"containers\":[\n{\"name\":\"x\"}]}}", "spec.containers[0] of Pod = Pod, spec.containers[0], line 3\n"},
		"YAML": {helm, `nginx:1.25 = Deployment web, spec.template.spec.containers[0].image, line 10 = Custom c, spec.parts[0].podTemplate.spec.containers[0].image, line 22
team/side = Deployment web, spec.template.spec.containers[1].image, line 11
localhost:5000/job@sha256:` + sixtyFour + ` = CronJob shop/nightly, spec.jobTemplate.spec.template.spec.containers[0].image, line 17
r.example.com/odd = Custom c, spec["1"].containers[0].image, line 22
`},
		"YAML, merged": {aliased, `r.example.com/base = Pod n/a, spec.containers[0].image, line 6
r.example.com/own = Pod n/a, spec.containers[1].image, line 9
spec.containers[2] of Pod n/a = Pod n/a, spec.containers[2], line 10
`},
		"a list":  {"# x\nr.example.com/a\nr.example.com/b # x\nr.example.com/a\n", "r.example.com/a = line 2 = line 4\nr.example.com/b = line 3\n"},
		"compose": {composed, "r.example.com/api:1 = service api, services.api.image, line 5\nservice own = service own, services.own, line 6\nr.example.com/base:1 = service web, services.web.image, line 2\n"},
	} {
		var l List
		if err := l.Document([]byte(test.doc)); err != nil {
			t.Fatalf("%s: %v", what, err)
		}
		var got strings.Builder
		for _, i := range l.Images {
			got.WriteString(i.Name)
			for _, p := range i.Places {
				fmt.Fprintf(&got, " = %s", p)
			}
			got.WriteString("\n")
		}
		if got.String() != test.want {
			t.Errorf("%s: got\n%swant\n%s", what, got.String(), test.want)
		}
	}
}

// TestFieldsAnywhere: a named field is an image also where only some members of built-in objects
// are, and a container of a custom kind may have more than an image.
func TestFieldsAnywhere(t *testing.T) {
	const doc = "apiVersion: example.com/v1\nkind: Engine\nmetadata: {name: e, annotations: {runner: r.example.com/d}}\n" +
		"spec: {containers: [{image: r.example.com/a, runner: r.example.com/b, debug: {image: r.example.com/c}}],\n  volumes: [{csi: {volumeAttributes: {runner: r.example.com/e, other: x}}}]}\n"
	fields, err := ParseFields([]string{"Engine.example.com=spec.containers[].runner,metadata.annotations.runner,spec.volumes[].csi.volumeAttributes.runner"})
	if err != nil {
		t.Fatal(err)
	}
	l := List{Fields: fields}
	if err := l.Document([]byte(doc)); err != nil {
		t.Fatal(err)
	}
	got := map[string]bool{}
	for _, i := range l.Images {
		got[i.Name] = true
	}
	for _, name := range []string{"a", "b", "c", "d", "e"} {
		if !got["r.example.com/"+name] {
			t.Errorf("%s was not found, got %v", name, got)
		}
	}
	if len(got) != 5 {
		t.Errorf("got %v", got)
	}
}

// TestFields: fields of custom kinds that a caller names are images, and end the guessing.
func TestFields(t *testing.T) {
	const doc = "apiVersion: example.com/v1\nkind: Engine\nmetadata: {name: e}\nspec: {logoImage: x.png, steps: [{runner: r.example.com/run}], extra: [r.example.com/b, 'a b']}\n"
	for text, want := range map[string]string{
		"":                    "!spec.logoImage of Engine e",
		"Engine.example.com=": "",
		"Engine.example.com=spec.steps[].runner,spec.extra[]": "!a b r.example.com/b r.example.com/run",
		"Engine.example.org=spec.steps[].runner":              "!spec.logoImage of Engine e",
	} {
		var texts []string
		if text != "" {
			texts = append(texts, text)
		}
		fields, err := ParseFields(texts)
		if err != nil {
			t.Fatal(err)
		}
		l := List{Fields: fields}
		if err := l.Document([]byte(doc)); err != nil {
			t.Fatal(err)
		}
		var got []string
		for _, i := range l.Images {
			if i.Problem != "" {
				i.Name = "!" + i.Name
			}
			got = append(got, i.Name)
		}
		slices.Sort(got)
		if strings.Join(got, " ") != want {
			t.Errorf("%q: got %q, want %q", text, got, want)
		}
	}
	l := List{Fields: Fields{"Engine.example.com": {"spec"}}}
	if err := l.Document([]byte(doc)); err == nil {
		t.Error("a field that is a mapping is taken for an image")
	}
	for _, bad := range []string{"", "Engine", "Engine=spec.a", "Engine.example.com", ".example.com=a", "Engine.example.com=a,", "Engine.example.com=.a", "Engine.example.com=a..b", "Engine.example.com=$.a", "Engine.example.com=*"} {
		if f, err := ParseFields([]string{bad}); err == nil {
			t.Errorf("%q: got %v, want an error", bad, f)
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
		ref, err := Reference(name)
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
