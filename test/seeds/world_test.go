package seeds

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"net/http"
	"net/http/httptest"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"github.com/colophon-build/colophon/platform/api"
	"github.com/colophon-build/colophon/test/await"
	"github.com/colophon-build/colophon/test/harness"
)

// world is what the commands run in: a platform with images, an issuer that gives tokens to
// jobs as GitHub does, and the stock tools.
type world struct {
	*harness.Platform
	dir    string // working directory of the commands
	bin    string // docker and the tools
	issuer string
	jobs   string // where jobs ask for tokens
	docker string
	commit string // of the released image
}

// workflows are the identities of GitHub jobs, by the names that rows call them. The first
// member is the workflow of the certificate, the second the repository that the job runs for.
var workflows = map[string][2]string{
	"apex":   {"fystack/apex/.github/workflows/docker-push.yml@refs/tags/v1.0.0", "fystack/apex"},
	"myrepo": {"myorg/myrepo/.github/workflows/build-sign.yml@refs/heads/main", "myorg/myrepo"},
	// Everybody may call a public reusable workflow: the certificate names it, not the caller.
	"slsa-workflows-of-others": {"fystack/slsa-workflows/.github/workflows/docker-build-slsa.yml@refs/tags/v1", "mallory/app"},
	// A branch may be called almost like the workflow of somebody else.
	"mallory": {"mallory/app/.github/workflows/x.yml@refs/heads/github.com/fystack/apex/xgithub/workflows/docker-push.yml", "mallory/app"},
	// Another repository of the organization, on the branch of a pull request.
	"playground": {"myorg/playground/.github/workflows/test.yml@refs/heads/first-try", "myorg/playground"},
}

func newWorld(t *testing.T) *world {
	t.Helper()
	w := &world{dir: t.TempDir(), bin: t.TempDir()}
	w.issuer, w.jobs = newIssuer(t)
	p := harness.Start(t, "--mirror", harness.BaseImages(t), "--config", harness.Config(t, map[string]any{"fulcio": map[string]any{
		"OIDCIssuers": map[string]any{w.issuer: map[string]any{"IssuerURL": w.issuer, "ClientID": "sigstore", "Type": "github-workflow"}},
	}}))
	p.Trust()
	w.Platform, w.docker = p, p.DockerConfig()
	if out, err := p.Colophon(t.Context(), "trust", "add", w.root(t), "--issuer", w.issuer, "--yes").CombinedOutput(); err != nil {
		t.Fatalf("trust add: %v\n%s", err, out)
	}
	harness.Write(t, w.bin, map[string]string{"docker": "#!/bin/sh\nshift\nexec " + harness.Bin(t, "buildx") + ` "$@"` + "\n"})
	if err := os.Chmod(filepath.Join(w.bin, "docker"), 0o755); err != nil {
		t.Fatal(err)
	}
	w.release(t)
	if code, out := w.exitCode(t, preparation); code != 0 {
		t.Fatalf("preparation: exit code %d\n%s", code, out)
	}
	return w
}

// root writes the trust root in both of its forms, and returns the file of the first.
func (w *world) root(t *testing.T) string {
	t.Helper()
	harness.Write(t, w.dir, map[string]string{"trusted_root.json": string(w.Get("/trusted_root.json")), "1.root.json": string(w.Get("/tuf/1.root.json"))})
	return filepath.Join(w.dir, "trusted_root.json")
}

// mpcium is the first seed's Dockerfile, word for word.
const mpcium = `FROM golang:1.25 AS builder

ARG TARGETOS=linux
ARG TARGETARCH=amd64

WORKDIR /src

COPY go.mod go.sum ./
RUN --mount=type=cache,target=/go/pkg/mod \
    go mod download

COPY . .

RUN --mount=type=cache,target=/go/pkg/mod \
    --mount=type=cache,target=/root/.cache/go-build \
    CGO_ENABLED=0 GOOS=${TARGETOS} GOARCH=${TARGETARCH} \
    go build -o /out/mpcium ./cmd/mpcium

FROM gcr.io/distroless/base-debian12:latest

USER nonroot:nonroot
WORKDIR /app

COPY --from=builder /out/mpcium /app/mpcium

ENTRYPOINT ["/app/mpcium"]
`

// release releases the image of the first seed from its Dockerfile.
func (w *world) release(t *testing.T) {
	t.Helper()
	repo := filepath.Join(w.dir, "apex")
	harness.Write(t, repo, map[string]string{
		"Dockerfile":         mpcium,
		"go.mod":             "module github.com/fystack/apex\n\ngo 1.25\n",
		"go.sum":             "",
		"cmd/mpcium/main.go": "package main\n\nfunc main() { println(\"hello\") }\n",
	})
	harness.Commit(t, repo, "v1.0.0")
	cmd := w.Colophon(t.Context(), "release", repo, "--ref", "v1.0.0", "--image", w.Addr+"/fystack/apex/api", "--docker-attestations", "--json")
	var stderr strings.Builder
	cmd.Stderr = &stderr
	out, err := cmd.Output()
	if err != nil {
		t.Fatalf("release: %v\n%s", err, &stderr)
	}
	var r api.Release
	if err := json.Unmarshal(out, &r); err != nil {
		t.Fatal(err)
	}
	w.commit = r.Source.ID
}

// shell prepares a script of bash. "as NAME COMMAND" runs a command in a job of a workflow.
func (w *world) shell(t *testing.T, script string) *exec.Cmd {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), await.Patience)
	t.Cleanup(cancel)
	const as = `as() { local name=$1; shift; GITHUB_ACTIONS=true ACTIONS_ID_TOKEN_REQUEST_URL=$JOBS/token/$name?api-version=2 ACTIONS_ID_TOKEN_REQUEST_TOKEN=hunter2 "$@"; }` + "\n"
	cmd := exec.CommandContext(ctx, "bash", "-c", as+script)
	cmd.Dir = w.dir
	cmd.Env = append(w.Env(), "PATH="+w.bin+":"+filepath.Join(harness.Root(t), "out/bin")+":"+os.Getenv("PATH"),
		"HOME="+w.dir, "DOCKER_CONFIG="+w.docker, "TUF_ROOT="+filepath.Join(w.dir, "tuf"), "COSIGN_PASSWORD=",
		"GIT_CONFIG_GLOBAL=/dev/null", "GIT_AUTHOR_NAME=Ada", "GIT_AUTHOR_EMAIL=ada@example.com", "GIT_COMMITTER_NAME=Ada", "GIT_COMMITTER_EMAIL=ada@example.com",
		"HOST="+w.Addr, "ISSUER="+w.issuer, "JOBS="+w.jobs, "PLATFORM="+w.URL, "COMMIT="+w.commit)
	return cmd
}

// exitCode runs a script.
func (w *world) exitCode(t *testing.T, script string) (code int, output string) {
	t.Helper()
	var out bytes.Buffer
	cmd := w.shell(t, script)
	cmd.Stdout, cmd.Stderr = &out, &out
	err := cmd.Run()
	if exit, ok := errors.AsType[*exec.ExitError](err); ok && exit.Exited() {
		return exit.ExitCode(), out.String()
	} else if err != nil {
		t.Fatalf("%s: %v\n%s", script, err, &out)
	}
	return 0, out.String()
}

// newIssuer runs an OIDC issuer with the claims of GitHub's, as GitHub documents them, and
// returns its URL. A job asks for its token at /token/NAME of jobs.
func newIssuer(t *testing.T) (issuer, jobs string) {
	t.Helper()
	i := harness.NewIssuer(t)
	mux := http.NewServeMux()
	mux.HandleFunc("GET /token/{name}", func(w http.ResponseWriter, r *http.Request) {
		workflow, ok := workflows[r.PathValue("name")]
		if !ok {
			http.NotFound(w, r)
			return
		}
		json.NewEncoder(w).Encode(map[string]string{"value": i.Token(t, claims(workflow[0], workflow[1]))})
	})
	srv := httptest.NewServer(mux)
	t.Cleanup(srv.Close)
	return i.URL, srv.URL
}

func claims(workflow, repository string) map[string]any {
	_, ref, _ := strings.Cut(workflow, "@")
	owner, _, _ := strings.Cut(repository, "/")
	const commit = "0123456789abcdef0123456789abcdef01234567"
	return map[string]any{
		"sub":              "repo:" + repository + ":ref:" + ref,
		"job_workflow_ref": workflow, "job_workflow_sha": commit, "workflow_ref": workflow, "workflow_sha": commit, "workflow": "build",
		"repository": repository, "repository_id": "1", "repository_owner": owner, "repository_owner_id": "2", "repository_visibility": "public",
		"sha": commit, "ref": ref, "event_name": "push", "runner_environment": "github-hosted", "run_id": "3", "run_attempt": "1",
	}
}

// expand replaces the variables that are different in each run.
func (w *world) expand(want string) string {
	return strings.NewReplacer("$HOST", w.Addr, "$COMMIT", w.commit).Replace(want)
}
