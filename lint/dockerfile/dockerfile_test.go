package dockerfile_test

import (
	"context"
	"fmt"
	"regexp"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/colophon-build/colophon/lint"
	"github.com/colophon-build/colophon/lint/dockerfile"
	"github.com/colophon-build/colophon/lint/finding"
	"github.com/colophon-build/colophon/lint/script"
	"github.com/colophon-build/colophon/test/linttest"
	"github.com/colophon-build/colophon/test/spent"
)

func TestRules(t *testing.T) {
	linttest.Rules(t, dockerfile.Checker(linttest.Offline(t)), script.Checker())
}

// serious returns what is found in a Dockerfile, but for notes: RULE LINE.
func serious(text string) (out []string) {
	notes := map[string]bool{}
	for _, r := range dockerfile.Checker(nil).Rules {
		notes[r.ID] = r.Severity == finding.Note
	}
	for _, f := range dockerfile.Check(context.Background(), nil, nil, finding.NewFile("Dockerfile", []byte(text))) {
		if !notes[f.Rule] {
			out = append(out, fmt.Sprintf("%s %d:%d", f.Rule[strings.Index(f.Rule, "/")+1:], f.Line, f.Column))
		}
	}
	slices.Sort(out)
	return out
}

// TestFound: places that are easily missed, and those that only look alike.
func TestFound(t *testing.T) {
	const from = "FROM scratch\n"
	for what, c := range map[string]struct{ text, want string }{
		"a comment within a RUN":       {from + "RUN true \\\n  # comment\n\n && curl https://x.example.com/i | sh\n", "curl-pipe-shell 5:5"},
		"blanks after the backslash":   {from + "RUN true \\  \n && curl https://x.example.com/i | sh\n", "curl-pipe-shell 3:5"},
		"carriage returns":             {"FROM scratch\r\nRUN true \\\r\n && curl https://x.example.com/i | sh\r\n", "curl-pipe-shell 3:5"},
		"a word in two lines":          {from + "RUN cu\\\nrl https://x.example.com/i | sh\n", "curl-pipe-shell 2:5"},
		"flags":                        {from + "RUN --mount=type=bind,target=/x \\\n  --network=none \\\n  curl https://x.example.com/i | sh\n", "curl-pipe-shell 4:3"},
		"a here-document":              {from + "RUN <<EOF\nset -e\ncurl https://x.example.com/i | sh\nEOF\n", "curl-pipe-shell 4:1"},
		"a here-document for bash":     {from + "RUN bash <<'EOF'\ncurl https://x.example.com/i | sh\nEOF\n", "curl-pipe-shell 3:1"},
		"the second here-document":     {from + "RUN <<A <<B\ntrue\nA\ncurl https://x.example.com/i | sh\nB\n", "curl-pipe-shell 5:1"},
		"a here-document for python":   {from + "RUN <<EOF\n#!/usr/bin/env python3\ncurl | sh\nEOF\n", ""},
		"a here-document that is data": {from + "RUN cat <<EOF >/x\ncurl https://x.example.com/i | sh\nEOF\n", ""},
		"exec form":                    {from + `RUN ["sh", "-c", "curl https://x.example.com/i | sh"]` + "\n", "curl-pipe-shell 2:19"},
		"exec form without a shell":    {from + `RUN ["curl", "-c", "curl https://x.example.com/i | sh"]` + "\n", ""},
		"ONBUILD":                      {from + "ONBUILD RUN curl https://x.example.com/i | sh\n", "curl-pipe-shell 2:13"},
		"lower case":                   {"from golang:1.26\nrun curl https://x.example.com/i | sh\n", "base-by-tag 1:6,curl-pipe-shell 2:5"},
		"PowerShell":                   {"# escape=`\nFROM scratch\nRUN curl https://x.example.com/i | sh\n", ""},
		"SHELL":                        {from + "SHELL [\"powershell\"]\nRUN curl https://x.example.com/i | sh\n", ""},
		"SHELL of a stage before":      {"FROM scratch AS a\nSHELL [\"cmd\"]\nFROM a\nRUN curl https://x.example.com/i | sh\n", ""},
		"a stage":                      {"FROM scratch AS golang\nFROM golang\nCOPY --from=golang / /\nCOPY --from=0 / /\n", ""},
		"a frontend's line":            {"# SYNTAX = f.example.com/f:1 \u0130\n" + from, "unpinned-frontend 1:12"},
		"ENV without checks":           {from + "ENV A=b GOSUMDB=off\nENV NODE_TLS_REJECT_UNAUTHORIZED 0\n", "unauthenticated 2:9,unauthenticated 3:5"},
		"ARG without checks":           {from + "ARG GIT_SSL_NO_VERIFY=1 A GONOSUMDB=*\n", "unauthenticated 2:27,unauthenticated 2:5"},
		"ENV with checks":              {from + "ENV GOSUMDB=sum.example.com NODE_TLS_REJECT_UNAUTHORIZED=1 GONOSUMDB=example.com\nARG GOSUMDB\n", ""},
		"a stage that follows":         {"FROM later\nFROM scratch AS later\n", "base-latest 1:6"},
		"a build context":              {from + "COPY --from=assets / /\n", ""},
		"an image to copy from":        {from + "COPY --from=team/assets / /\n", "base-latest 2:13"},
		"an image to mount":            {from + "RUN --mount=type=bind,from=team/tool:v1,target=/t /t/x\n", "base-by-tag 2:28"},
		"a platform":                   {"FROM --platform=$BUILDPLATFORM golang:1.26\n", "base-by-tag 1:32"},
		"an argument without default":  {"ARG BASE\nFROM $BASE\n", ""},
		"an argument with a default":   {"ARG BASE=alpine\nFROM ${BASE}\n", "base-latest 2:6"},
		"one broken instruction":       {"FROM golang:1.26\nCOPY x\nRUN --network=host true\n", "base-by-tag 1:6,host-network 3:5,syntax 2:1"},
		"no instruction":               {"# nothing\n", "syntax 1:1"},
		"a local wheel":                {from + "RUN pip install . ./a.whl --no-cache-dir && pip install -r requirements.txt\n", ""},
		"a group of pyproject.toml":    {from + "RUN pip install --group dev && pip install --group dev flask\n", "unpinned-dependencies 2:32"},
		"uv":                           {from + "RUN uv pip install flask && uv sync --frozen\n", "unpinned-dependencies 2:5"},
		"go install of the module":     {from + "RUN go install ./... && go install -v example.com/x@v1.2.3 && go install example.com/x@v1\n", "unpinned-dependencies 2:63"},
		"a version in a variable":      {from + "ARG V=1.2.3\nRUN npm install -g typescript@$V && pip install flask==$V\n", ""},
		"a check further down":         {from + "RUN curl -LO https://x.example.com/t.tgz && \\\n sha256sum -c sums && tar xf t.tgz\n", ""},
		"a request, not a download":    {from + "RUN curl -fsS https://x.example.com/ping > /dev/null && curl -fsS https://x.example.com/v | jq .\n", ""},
		"a method, and what is sent":   {from + "RUN curl -X GET -o /bin/t https://x.example.com/t\nRUN curl -d a=b -o /bin/t https://x.example.com/t\nRUN curl -X POST -d up https://x.example.com/hook\n", "unchecked-download 2:5,unchecked-download 3:5"},
		"a key":                        {from + "RUN curl -fsSL https://x.example.com/key.asc -o /etc/apt/keyrings/x.asc\n", ""},
		"a redirect":                   {from + "RUN curl -fsSL https://x.example.com/t > /usr/bin/t\n", "unchecked-download 2:5"},
		"names that look secret":       {from + "ENV TOKENIZER=x SECRET_NAME=y PASSWORD_FILE=/z MYSQL_ALLOW_EMPTY_PASSWORD=yes API_TOKEN=\n", ""},
		"an argument with a path":      {from + "ARG SECRET_KEY=/run/secrets/key\n", ""},
		"copied from a stage":          {"FROM scratch AS a\nFROM scratch\nCOPY --from=a /root/.npmrc /\n", ""},
		"a public key":                 {from + "COPY id_ed25519.pub signing.pub.key /\n", ""},
		"ADD of a commit":              {from + "ADD https://git.example.com/a.git#0123456789abcdef0123456789abcdef01234567 /a\n", ""},
		"npm with variables":           {from + "RUN npm install $PACKAGES\n", ""},
		"curl's bundled flags":         {from + "RUN curl -fsSLk https://x.example.com/v | jq .\n", "unauthenticated 2:10"},
	} {
		if got := strings.Join(serious(c.text), ","); got != c.want {
			t.Errorf("%s: got %s, want %s", what, got, c.want)
		}
	}
}

// TestRunsAsRoot: an image of files alone runs nothing.
func TestRunsAsRoot(t *testing.T) {
	for text, want := range map[string]bool{
		"FROM scratch\nCOPY app /\n":                              false,
		"FROM scratch\nCOPY app /\nENTRYPOINT [\"/app\"]\n":       true,
		"FROM scratch AS a\nCMD [\"/app\"]\nFROM a\nCOPY app /\n": true,
		"FROM alpine\nCOPY app /\n":                               true,
		"FROM scratch AS a\nCMD [\"/app\"]\nFROM scratch\n":       false,
	} {
		found := dockerfile.Check(t.Context(), nil, nil, finding.NewFile("Dockerfile", []byte(text)))
		if got := slices.ContainsFunc(found, func(f finding.Finding) bool { return f.Rule == "dockerfile/root-user" }); got != want {
			t.Errorf("%q: got %v, want %v", text, got, want)
		}
	}
}

// TestSettings: the settings of a package manager are secret if they have a credential, or are not known.
func TestSettings(t *testing.T) {
	for what, c := range map[string]struct {
		files map[string]string
		want  bool
	}{
		"harmless":               {map[string]string{".npmrc": "registry=https://npm.example.com\nfetch-timeout=9\n"}, false},
		"a token":                {map[string]string{".npmrc": "//npm.example.com/:_authToken=x\n"}, true},
		"a token in a variable":  {map[string]string{".npmrc": "//npm.example.com/:_authToken=${T}\n"}, true},
		"not there":              {nil, true},
		"a link out of the tree": {map[string]string{}, true},
	} {
		for at, name := range map[string]string{"": ".npmrc", "web/": "web/.npmrc"} {
			files := map[string]string{at + "Dockerfile": "FROM scratch\nCOPY .npmrc /\n"}
			for _, text := range c.files {
				files[name] = text
			}
			script := ""
			if what == "a link out of the tree" {
				script = "echo registry=x > ../settings; ln -s ../settings .npmrc"
			}
			r := linttest.Run(t, linttest.Write(t, files, script), dockerfile.Checker(nil))
			if got := slices.ContainsFunc(r.Findings, func(f finding.Finding) bool { return f.Rule == "dockerfile/secret-in-layer" }); got != c.want {
				t.Errorf("%s in %q: got %v, want %v", what, at, got, c.want)
			}
		}
	}
}

// TestWants: what is a Dockerfile by its name.
func TestWants(t *testing.T) {
	for name, want := range map[string]bool{
		"Dockerfile": true, "a/dockerfile": true, "Dockerfile.prod": true, "api.Dockerfile": true, "Containerfile": true, "a/Containerfile.x86_64": true,
		"Dockerfile.dockerignore": false, "Dockerfile.j2": false, "dockerfile.go": false, "MyDockerfile": false, "Dockerfile/README.md": false, "Dockerfile.md": false,
	} {
		if got := dockerfile.Wants(name); got != want {
			t.Errorf("%s: got %v, want %v", name, got, want)
		}
	}
}

// TestBytesOfNobody: a script that is not UTF-8 does not stop the program, which looks for images in all files.
func TestBytesOfNobody(t *testing.T) {
	if got := dockerfile.Images(finding.NewFile("Dockerfile", []byte("FROM golang:1\nRUN 0&0\x83\n"))); len(got) != 1 {
		t.Errorf("got %+v", got)
	}
}

// TestImages: names with their places, for those who look up digests.
func TestImages(t *testing.T) {
	text := "# syntax=docker/dockerfile:1\nARG BASE=alpine:3.22\nFROM golang:1.26 AS b\nFROM $BASE\nFROM b\nFROM scratch\nCOPY --from=team/x:v1 / /\n"
	var got []string
	for _, i := range dockerfile.Images(finding.NewFile("Dockerfile", []byte(text))) {
		got = append(got, fmt.Sprint(i.Name, " ", text[i.Start:i.End], " ", i.Literal))
	}
	want := []string{"docker/dockerfile:1 docker/dockerfile:1 true", "golang:1.26 golang:1.26 true", "alpine:3.22 $BASE false", "team/x:v1 team/x:v1 true"}
	if !slices.Equal(got, want) {
		t.Errorf("got %q, want %q", got, want)
	}
}

// TestFix: where digests are written, and where none may be.
func TestFix(t *testing.T) {
	r := linttest.Offline(t)
	for what, c := range map[string]struct{ text, want string }{
		"the flag has the word":         {"ARG A=x\nFROM --platform=golang:1.26 golang:1.26\n", "ARG A=x\nFROM --platform=golang:1.26 golang:1.26@8\n"},
		"an owner of this name":         {"FROM scratch\nCOPY --chown=ghcr.io/team/tool:v1 --from=ghcr.io/team/tool:v1 / /\n", "FROM scratch\nCOPY --chown=ghcr.io/team/tool:v1 --from=ghcr.io/team/tool:v1@7 / /\n"},
		"a source of this name":         {"FROM scratch\nRUN --mount=source=ghcr.io/team/tool:v1,from=ghcr.io/team/tool:v1,target=/t true\n", "FROM scratch\nRUN --mount=source=ghcr.io/team/tool:v1,from=ghcr.io/team/tool:v1@7,target=/t true\n"},
		"two mounts":                    {"FROM scratch\nRUN --mount=from=ghcr.io/team/tool:v1,target=/a --mount=from=ghcr.io/team/tool:v1,target=/b true\n", "FROM scratch\nRUN --mount=from=ghcr.io/team/tool:v1@7,target=/a --mount=from=ghcr.io/team/tool:v1@7,target=/b true\n"},
		"a comment within":              {"FROM \\\n # golang:1.26 \n golang:1.26 \\\n AS a\n", "FROM \\\n # golang:1.26 \n golang:1.26@8 \\\n AS a\n"},
		"a name in two lines":           {"FROM golang:\\\n1.26\n", ""},
		"carriage returns":              {"# syntax=docker/dockerfile:1\r\nFROM golang:1.26\r\n", "# syntax=docker/dockerfile:1@4\r\nFROM golang:1.26@8\r\n"},
		"no last newline":               {"FROM golang:1.26", "FROM golang:1.26@8"},
		"not UTF-8 elsewhere":           {"FROM golang:1.26\nLABEL a=\xff\n", "FROM golang:1.26@8\nLABEL a=\xff\n"},
		"a stage of this name":          {"FROM scratch AS alpine\nFROM alpine\n", ""},
		"a default for two bases":       {"ARG B=golang:1.26\nFROM $B AS a\nFROM $B AS b\n", "ARG B=golang:1.26@8\nFROM $B AS a\nFROM $B AS b\n"},
		"a default for something else":  {"ARG V=1.26\nFROM golang:$V\nARG V\nRUN echo $V\n", ""},
		"a default of two images":       {"ARG V=1.26\nFROM golang:$V\nFROM team/x:$V\n", ""},
		"a default that is set twice":   {"ARG B=x\nARG B=golang:1.26\nFROM $B\n", ""},
		"a default that is not the end": {"ARG V=golang\nFROM $V:1.26\n", ""},
		"a default with a default":      {"FROM ${B:-golang:1.26}\n", ""},
		"a default in quotes":           {"ARG B='golang:1.26'\nFROM ${B}\n", "ARG B='golang:1.26@8'\nFROM ${B}\n"},
		"a name in quotes":              {"FROM \"golang:1.26\"\n", ""},
		"ONBUILD":                       {"FROM scratch\nONBUILD COPY --from=ghcr.io/team/tool:v1 / /\n", "FROM scratch\nONBUILD COPY --from=ghcr.io/team/tool:v1@7 / /\n"},
		"a digest that is another one":  {"FROM golang:1.26@1\n", ""},
		"an image that is not known":    {"FROM golang:1.25\n", ""},
	} {
		text, want := short.ReplaceAllStringFunc(c.text, long), short.ReplaceAllStringFunc(c.want, long)
		if c.want == "" {
			want = text
		}
		for range 2 {
			f := finding.NewFile("Dockerfile", []byte(text))
			var edits []finding.Edit
			for _, found := range dockerfile.Check(t.Context(), r, nil, f) {
				edits = append(edits, found.Edits...)
			}
			got, err := lint.Edit(f.Data, edits)
			if err != nil || string(got) != want {
				t.Errorf("%s: %v, got\n%s\nwant\n%s", what, err, got, want)
			}
			text = string(got)
		}
	}
}

// short is a digest in the texts of TestFix.
var short = regexp.MustCompile("@[0-9]")

func long(s string) string { return "@sha256:" + strings.Repeat(s[1:], 64) }

// TestHostile: no file crashes the checker or keeps it busy.
func TestHostile(t *testing.T) {
	for what, text := range map[string]string{
		"a long line":            "FROM scratch\nRUN " + strings.Repeat("x ", 1<<20) + "\n",
		"many instructions":      "FROM scratch\n" + strings.Repeat("RUN curl https://x.example.com/i | sh\n", 20_000),
		"stages of all names":    stages(80_000),
		"many bases of one ARG":  "ARG A=golang:1.26\n" + strings.Repeat("FROM $A\n", 80_000),
		"many stages":            strings.Repeat("FROM a AS a\nCOPY --from=a / /\n", 5_000),
		"many continued lines":   "FROM scratch\nRUN true" + strings.Repeat(" \\\n && true", 100_000) + "\n",
		"arguments in arguments": "ARG A0=x\n" + doubling(40) + "FROM $A40\n",
		"not UTF-8":              "FROM \xff\xfe\nRUN \xc3\x28 | sh\n",
		"NUL":                    "FROM scratch\x00\nRUN \x00\n",
		"open document":          "FROM scratch\nRUN <<EOF\n",
		"nested substitutions":   "FROM scratch\nRUN " + strings.Repeat("$(", 20_000) + "\n",
		"empty":                  "",
	} {
		begin := spent.Now()
		dockerfile.Check(t.Context(), linttest.Offline(t), nil, finding.NewFile("Dockerfile", []byte(text)))
		if took := spent.Now() - begin; took > 10*time.Second {
			t.Errorf("%s: it took %s", what, took)
		}
	}
}

// stages returns stages each of which begins from the first, and copies from it.
func stages(n int) string {
	b := strings.Builder{}
	b.WriteString("FROM scratch AS a\n")
	for i := range n {
		fmt.Fprintf(&b, "FROM a AS a%d\nCOPY --from=a / /\n", i)
	}
	return b.String()
}

// doubling returns arguments each of which is twice the one before.
func doubling(n int) string {
	var b strings.Builder
	for i := 1; i <= n; i++ {
		fmt.Fprintf(&b, "ARG A%d=$A%d$A%d\n", i, i-1, i-1)
	}
	return b.String()
}

func FuzzCheck(f *testing.F) {
	f.Add([]byte("# syntax=x\nFROM a:1 AS b\nRUN --mount=type=cache,target=/x <<EOF\ncurl x | sh\nEOF\nCOPY --from=b . .\n"))
	f.Fuzz(func(t *testing.T, data []byte) {
		file := finding.NewFile("Dockerfile", data)
		for _, found := range dockerfile.Check(t.Context(), nil, nil, file) {
			if found.Line < 1 || found.Line > file.Lines() {
				t.Fatalf("%s is on line %d of %d", found.Rule, found.Line, file.Lines())
			}
		}
		dockerfile.Images(file)
	})
}
