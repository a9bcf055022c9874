package recipes

import (
	"strings"
	"testing"
)

// TestDeclare: what a compose or bake file builds, in the words of .colophon.yaml. What these
// cannot say is refused.
func TestDeclare(t *testing.T) {
	for name, tt := range map[string]struct{ file, want string }{
		"compose": {`
services:
  db: {image: "postgres:17"}
  web:
    image: registry.example.com/team/web:latest
    build:
      context: ./services/web
      dockerfile: build/web.Dockerfile
      target: final
      platforms: [linux/amd64, linux/arm64]
      args: {FLAVOR: plain, VERSION: 1.10, COUNT: 1, DEBUG: true}
      cache_from: [type=registry]
  api:
    build: services/api
  tool:
    build: {context: /src/deploy, args: ["A=b=c"]}
  top:
    image: acme/top@sha256:0000
    build: ..
`, `# left out: web: cache_from
version: 1
images:
  - name: api
    context: deploy/services/api
    dockerfile: deploy/services/api/Dockerfile
  - name: tool
    context: deploy
    buildArgs:
      A: b=c
  - name: acme/top
    dockerfile: Dockerfile
  - name: team/web
    context: deploy/services/web
    platforms:
      - linux/amd64
      - linux/arm64
    dockerfile: deploy/services/web/build/web.Dockerfile
    target: final
    buildArgs:
      COUNT: "1"
      DEBUG: "true"
      FLAVOR: plain
      VERSION: "1.10"
`},
		"bake": {`{"group": {"default": {"targets": ["web"]}}, "target": {"web": {"context": "../web", "dockerfile": "../web.Dockerfile", "tags": ["r.io:5000/acme/web:1", "x"], "args": {"A": "1"}, "output": ["type=image"]}, "api": {"context": "api", "target": "x"}}}`, `# left out: web: output
version: 1
images:
  - name: api
    context: deploy/api
    target: x
  - name: acme/web
    context: web
    dockerfile: web.Dockerfile
    buildArgs:
      A: "1"
`},
		"nothing to build":     {"services: {db: {image: postgres}}", "error: builds no image"},
		"another kind":         {"kind: Pod", "error: neither services"},
		"both":                 {"services: {a: {build: .}}\ntarget: {a: {context: .}}", "error: neither services"},
		"HCL":                  {"target \"web\" {\n  context = \".\"\n}\n", "error: docker buildx bake --print"},
		"include":              {"include: [a.yaml]\nservices: {a: {build: .}}", "error: docker compose config"},
		"extends":              {"services: {a: {extends: b, build: .}}", "error: docker compose config"},
		"inherits":             {`{"target": {"a": {"inherits": ["b"]}}}`, "error: inherits: a recipe has no such member"},
		"a secret":             {"services: {a: {build: {context: ., secrets: [x]}}}", "error: secrets: a recipe has no such member"},
		"inline":               {"services: {a: {build: {dockerfile_inline: FROM scratch}}}", "error: dockerfile_inline"},
		"other contexts":       {`{"target": {"a": {"contexts": {"x": "../x"}}}}`, "error: contexts"},
		"a variable":           {"services: {a: {build: {context: ., args: {A: \"${B}\"}}}}", "error: has variables"},
		"a variable as a name": {"services: {a: {image: \"$X\", build: .}}", "error: has variables"},
		"from the environment": {"services: {a: {build: {context: ., args: [A]}}}", "error: A has no value"},
		"null":                 {"services: {a: {build: {context: ., args: {A: }}}}", "error: A has no value"},
		"a repository":         {"services: {a: {build: \"https://git.example.com/x.git\"}}", "error: want a directory of the repository"},
		"outside":              {"services: {a: {build: ../../x}}", "error: outside the repository"},
		"of the host":          {"services: {a: {build: /etc}}", "error: outside the repository"},
		"a Dockerfile outside": {"services: {a: {build: {context: ., dockerfile: ../../x}}}", "error: outside the repository"},
		"a name that is none":  {"services: {A_b: {build: .}}", "error: want that of a repository"},
		"an empty digest":      {"services: {a: {image: a/b/c@, build: .}}", "error: want that of a repository"},
		"an empty hash":        {"services: {a: {image: \"a/b/c@sha256:\", build: .}}", "error: want that of a repository"},
		"the same name twice":  {"services: {a: {image: x, build: .}, b: {image: x, build: .}}", "error: twice"},
	} {
		out, err := Declare([]byte(tt.file), "/src", "/src/deploy")
		got := string(out)
		if err != nil {
			got = "error: " + err.Error()
		}
		want, failing := strings.CutPrefix(tt.want, "error: ")
		if failing != (err != nil) || failing && !strings.Contains(got, want) || !failing && got != want {
			t.Errorf("%s: got\n%s\nwant\n%s", name, got, tt.want)
		}
	}
}

// FuzzDeclare: whatever the file holds, what is printed is a .colophon.yaml.
func FuzzDeclare(f *testing.F) {
	f.Add([]byte("services: {a: {build: {context: ., args: {A: b}}}}"))
	f.Add([]byte(`{"target": {"a": {"context": "x", "tags": ["r.io/a:1"]}}}`))
	f.Fuzz(func(t *testing.T, raw []byte) {
		out, err := Declare(raw, "/src", "/src")
		if err != nil {
			return
		}
		if _, err := parse(out); err != nil {
			t.Errorf("%v:\n%s", err, out)
		}
	})
}
