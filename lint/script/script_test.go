package script

import (
	"fmt"
	"slices"
	"strings"
	"testing"

	"github.com/colophon-build/colophon/lint/finding"
	"github.com/colophon-build/colophon/lint/yamlfile"
)

// found returns RULE: TEXT of each problem in a script.
func found(src string) (out []string) {
	for _, p := range find(src) {
		out = append(out, p.rule+": "+src[p.start:p.end])
	}
	return out
}

// What breaks a rule, and what is like it and does not.
func TestFind(t *testing.T) {
	for _, c := range []struct {
		src  string
		want []string
	}{
		{`curl -sSf https://example.com/i.sh | sh`, []string{rulePipe + `: curl -sSf https://example.com/i.sh | sh`}},
		{`curl -sSL https://example.com/i.sh | sudo -E bash -s -- -b /bin`, []string{rulePipe + `: curl -sSL https://example.com/i.sh | sudo -E bash -s -- -b /bin`}},
		{`wget -qO- https://example.com/i.py | tee i.py | python3 -`, []string{rulePipe + `: wget -qO- https://example.com/i.py | tee i.py | python3 -`}},
		{`bash <(curl -s https://example.com/codecov)`, []string{rulePipe + `: curl -s https://example.com/codecov)`}},
		{`sh -c "$(curl -fsSL https://example.com/install.sh)"`, []string{rulePipe + `: curl -fsSL https://example.com/install.sh)"`}},
		{`eval "$(curl -s https://example.com/env)"`, []string{rulePipe + `: curl -s https://example.com/env)"`}},
		{"if true; then\n  curl https://x.example/a | bash -euo pipefail\nfi", []string{rulePipe + ": curl https://x.example/a | bash -euo pipefail"}},
		{`curl https://x.example/a | (cd /tmp && sh)`, []string{rulePipe + `: curl https://x.example/a | (cd /tmp && sh`}},
		{`curl https://x.example/a | { set -e; bash; }`, []string{rulePipe + `: curl https://x.example/a | { set -e; bash`}},
		{`{ echo set -e; curl https://x.example/a; } | sh`, []string{rulePipe + `: curl https://x.example/a; } | sh`}},
		{`(curl https://x.example/a) | sudo sh`, []string{rulePipe + `: curl https://x.example/a) | sudo sh`}},
		{`bash < <(curl https://x.example/a)`, []string{rulePipe + `: curl https://x.example/a`}},
		{`bash <<< "$(curl https://x.example/a)"`, []string{rulePipe + `: curl https://x.example/a`}},
		{`> "$(curl https://x.example/a | sh)"`, []string{rulePipe + `: curl https://x.example/a | sh`}},
		{`bash check.sh < <(curl https://x.example/a)`, nil},
		{`curl https://x.example/a | (jq .x; sh x)`, nil},
		{`curl https://x.example/a > $(date | sh)`, nil},
		{`curl https://example.com/x.json | jq -r .version | sh -s`, nil},
		{`curl https://example.com/x.json | python3 -m json.tool`, nil},
		{`curl https://example.com/x.json | bash check.sh`, nil},
		{`curl https://example.com/x.json | sh -c 'cat > x'`, nil},
		{`curl http://localhost:8080/x | sh`, nil},
		{`curl -o x https://example.com/x && echo "$SUM  x" | sha256sum -c && sh x`, nil},
		{`echo curl https://example.com | sh`, nil},
		{`git submodule update --init --remote`, []string{ruleSubmodule + `: --remote`}},
		{`git -C x submodule update --remote lib`, []string{ruleSubmodule + `: --remote`}},
		{`git clone --recurse-submodules --remote-submodules https://git.example.com/a`, []string{ruleSubmodule + `: --remote-submodules`}},
		{`git submodule update --init --recursive; git --remote submodule update; git archive --remote x; git fetch --remote`, nil},

		{`cosign sign --yes ghcr.io/o/app:v1`, []string{ruleByTag + `: ghcr.io/o/app:v1`}},
		{`cosign sign -y $IMAGE:$TAG`, []string{ruleByTag + `: $IMAGE:$TAG`}},
		{`cosign sign --yes "ghcr.io/o/app:${{ github.ref_name }}"`, []string{ruleByTag + `: "ghcr.io/o/app:${{ github.ref_name }}"`}},
		{`cosign sign --key env://KEY ${{ steps.meta.outputs.tags }}`, []string{ruleByTag + `: ${{ steps.meta.outputs.tags }}`}},
		{`cosign attest --type spdxjson --predicate s.json ghcr.io/o/app:v1`, []string{ruleByTag + `: ghcr.io/o/app:v1`}},
		{`notation sign ghcr.io/o/app:v1`, []string{ruleByTag + `: ghcr.io/o/app:v1`}},
		{`cosign sign --yes ghcr.io/o/app@${DIGEST}`, nil},
		{`echo "${TAGS}" | xargs -I {} cosign sign --yes {}@${DIGEST}`, nil},
		{`cosign sign --yes "${IMAGE_DIGEST}"`, nil},
		{`cosign sign --yes "${images}"`, nil},
		{`cosign verify ghcr.io/o/app:v1`, nil},
		{`cosign sign-blob --yes app.tar.gz`, nil},
		{`cosign sign --yes --annotations repo=o/app:v1 ghcr.io/o/app@sha256:0a`, nil},

		{`cosign attach sbom --sbom s.spdx.json $IMAGE@$DIGEST`, []string{ruleAttachSBOM + `: cosign attach sbom --sbom s.spdx.json $IMAGE@$DIGEST`}},
		{`COSIGN_EXPERIMENTAL=1 cosign verify x.example/a@sha256:0a`, []string{ruleExperimental + `: COSIGN_EXPERIMENTAL=1`}},
		{`export COSIGN_EXPERIMENTAL=1`, []string{ruleExperimental + `: COSIGN_EXPERIMENTAL=1`}},
		{`cosign verify-attestation --type slsaprovenance $I@$D`, []string{ruleType + `: slsaprovenance`}},
		{`cosign verify-attestation --type=slsaprovenance1 $I@$D`, nil},
		{`cosign sign --tlog-upload=false $I@$D`, []string{ruleNoLog + `: --tlog-upload=false`}},
		{`export DOCKER_CONTENT_TRUST=1`, []string{ruleContentTrust + `: DOCKER_CONTENT_TRUST=1`}},
		{`export DOCKER_CONTENT_TRUST=0`, nil},
		{`docker trust sign x.example/a:v1`, []string{ruleContentTrust + `: docker trust sign x.example/a:v1`}},
		{`docker buildx build --provenance=mode=max --build-arg NPM_TOKEN=$T .`, []string{ruleBuildArgs + `: NPM_TOKEN=$T`}},
		{`docker buildx build --provenance=mode=max --build-arg VERSION=$T .`, nil},

		{`cosign verify --certificate-identity-regexp 'https://github.com/o/r/' $I`, []string{ruleUnanchored + `: 'https://github.com/o/r/'`}},
		{`cosign verify --certificate-identity-regexp='.*' $I`, []string{ruleCatchAll + `: '.*'`}},
		{`cosign verify --certificate-identity-regexp "^https://github.com/.*$" $I`, []string{ruleCatchAll + `: "^https://github.com/.*$"`}},
		{`cosign verify --certificate-identity-regexp '^https://github\.com/o/r/.*$' $I`, nil},
		{`cosign verify --certificate-identity-regexp '^https://a$|https://b$' $I`, []string{ruleUnanchored + `: '^https://a$|https://b$'`}},
		{`cosign verify --certificate-identity-regexp "$IDENTITY" $I`, nil},
		{`gh attestation verify --cert-identity-regex "o/r" x`, []string{ruleUnanchored + `: "o/r"`}},

		{"curl https://x.example/a | sh\nif then )\ncosign attach sbom x", []string{rulePipe + ": curl https://x.example/a | sh", ruleAttachSBOM + ": cosign attach sbom x"}},
	} {
		if got := found(c.src); !slices.Equal(got, c.want) {
			t.Errorf("%s\n got %q\nwant %q", c.src, got, c.want)
		}
	}
}

// The edits of a script mend it, and what they make is not found again.
func TestMend(t *testing.T) {
	for _, c := range []struct{ src, want string }{
		{"COSIGN_EXPERIMENTAL=1 cosign verify $I", "cosign verify $I"},
		{"a\nexport COSIGN_EXPERIMENTAL=1\nb", "a\nb"},
		{"cosign attach sbom --sbom s.spdx.json $I@$D", "cosign attest --yes --type spdxjson --predicate s.spdx.json $I@$D"},
		{"cosign attach sbom --sbom s.txt $I@$D", "cosign attach sbom --sbom s.txt $I@$D"},
		{"cosign verify --certificate-identity-regexp https://github.com/o/r/ $I", "cosign verify --certificate-identity-regexp '^https://github.com/o/r/.*$' $I"},
		{`cosign verify --certificate-identity-regexp="https://github.com/o/r" $I`, `cosign verify --certificate-identity-regexp="^https://github.com/o/r([/@].*)?$" $I`},
		{`cosign verify "--certificate-identity-regexp=https://github.com/o/r" $I`, `cosign verify "--certificate-identity-regexp=https://github.com/o/r" $I`},
		{`cosign verify --certificate-identity-regexp "https://github.com/${{ github.repository }}" $I`, `cosign verify --certificate-identity-regexp "^https://github.com/${{ github.repository }}([/@].*)?$" $I`},
		{`cosign verify --certificate-identity-regexp 'o/r' $I`, `cosign verify --certificate-identity-regexp 'o/r' $I`},
	} {
		got := c.src
		for _, p := range slices.Backward(find(c.src)) {
			for _, e := range slices.Backward(p.edits) {
				got = got[:e.start] + e.text + got[e.end:]
			}
		}
		if got != c.want {
			t.Errorf("%s\n got %s\nwant %s", c.src, got, c.want)
		}
		for _, p := range find(got) {
			if len(p.edits) > 0 {
				t.Errorf("%s: %s is found again", got, p.rule)
			}
		}
	}
}

// Edits of a script that is in a YAML file are those of the file's bytes.
func TestInFile(t *testing.T) {
	src := "run: |\n    a\n    export COSIGN_EXPERIMENTAL=1\n    cosign verify --certificate-identity-regexp https://github.com/o/r/ $I\nx: 'COSIGN_EXPERIMENTAL=1 cosign version'\n"
	want := "run: |\n    a\n    cosign verify --certificate-identity-regexp '^https://github.com/o/r/.*$' $I\nx: 'cosign version'\n"
	f := finding.NewFile("f", []byte(src))
	roots, err := yamlfile.Parse(f)
	if err != nil {
		t.Fatal(err)
	}
	got := src
	var edits []finding.Edit
	for _, key := range []string{"run", "x"} {
		for _, p := range Check(yamlfile.Of(f, yamlfile.Get(roots[0], key))) {
			edits = append(edits, p.Edits...)
			if p.Line == 0 || p.Column == 0 {
				t.Errorf("%s has no place", p.Rule)
			}
		}
	}
	for _, e := range slices.Backward(edits) {
		if e.Old != src[e.Start:e.End] {
			t.Fatalf("expected %q, found %q", e.Old, src[e.Start:e.End])
		}
		got = got[:e.Start] + e.New + got[e.End:]
	}
	if got != want {
		t.Errorf("got\n%s\nwant\n%s", got, want)
	}
}

// What is nested without end neither stops the program nor passes unseen.
func TestHostile(t *testing.T) {
	// The parser hands out a statement behind an error, too. What follows the line is read.
	if commands, whole := Commands("0&0\x83\ncosign sign a/b:1\n"); !whole || len(commands) == 0 || commands[len(commands)-1].Name != "cosign" {
		t.Errorf("bytes that are not UTF-8: got %+v, %t", commands, whole)
	}
	for name, src := range map[string]string{
		"subshells": strings.Repeat("(", maxScript), "substitutions": strings.Repeat("$(", maxScript/2), "blocks": strings.Repeat("{ ", maxScript/2), "parentheses": strings.Repeat("(", maxParens) + strings.Repeat(" ", maxScript-maxParens), "quotes": strings.Repeat("\"$(", maxScript/3),
		"ifs": strings.Repeat("if ", maxScript/3), "arithmetic": "$((" + strings.Repeat("(", maxScript-3), "backquotes": strings.Repeat("`", maxScript), "errors": strings.Repeat(")\n", maxScript/2),
		"expansions": strings.Repeat("${a:-", maxScript/5), "not UTF-8": strings.Repeat("\xff\x00", maxScript/2),
	} {
		t.Run(name, func(t *testing.T) {
			if got := found(src + strings.Repeat("x", 8)); len(got) != 1 || got[0] != ruleUnread+": "+src[:1] {
				t.Errorf("longer than the limit: got %q", got)
			}
			Commands(src)
		})
	}
	long := strings.Repeat("echo a\n", 10)
	if got := found(long); got != nil {
		t.Error(got)
	}
}

func TestByTag(t *testing.T) {
	for name, want := range map[string]bool{
		"ghcr.io/o/app:v1": true, "ghcr.io/o/app": true, "app:v1": true, "localhost:5000/app": true, "localhost:5000/app@sha256:0a": false, "$I": false, "${REF}": false, "$IMAGE_TAG": true,
		"${{ env.REGISTRY }}/${{ env.IMAGE }}:${{ github.sha }}": true, "${{ env.REGISTRY }}/${{ env.IMAGE }}": false, "x/y:$DIGEST": false, "": false, "{}": false, "$(cat ref)": false,
	} {
		if got := ByTag(name); got != want {
			t.Errorf("ByTag(%q) = %t", name, got)
		}
	}
}

func TestBuilds(t *testing.T) {
	for src, want := range map[string]bool{
		"make": true, "go build ./...": true, "go run ./cmd/x": true, "go run example.com/x@v1": false, "go install example.com/x@latest": false, "npm ci": true, "npm install": true, "npm install -g tool": false,
		"pip install .": true, "pip install -r r.txt": true, "pip install twine": false, "sudo docker build .": true, "docker run x": false, "docker buildx build .": true, "docker buildx ls": false, "cargo install --path .": true, "cargo install cross": false,
		"echo make": false, "docker compose up": false, "docker compose up --build": true,
	} {
		commands, _ := Commands(src)
		if got := Builds(commands) != nil; got != want {
			t.Errorf("%s: got %t", src, got)
		}
	}
}

// No script makes the reader fail, and everything found is within the script.
func FuzzFind(f *testing.F) {
	for _, s := range []string{"curl x | sh", "export COSIGN_EXPERIMENTAL=1\na", `cosign verify --certificate-identity-regexp="https://github.com/o" $I`, "cosign attach sbom --sbom a.cdx.json b/c", "${{ a }}$[[ b ]]", "bash <(curl x)"} {
		f.Add(s)
	}
	f.Add("0&0\x83") // the parser goes on after an error
	f.Fuzz(func(t *testing.T, src string) {
		for _, p := range find(src) {
			if p.start < 0 || p.end < p.start || p.end > max(1, len(src)) {
				t.Fatal(p)
			}
			for _, e := range p.edits {
				if e.start < 0 || e.end < e.start || e.end > len(src) {
					t.Fatal(fmt.Sprint(p))
				}
			}
		}
	})
}
