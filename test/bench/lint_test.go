package bench

import (
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"github.com/colophon-build/colophon/test/harness"
)

// BenchmarkLint lints 1,000 workflows and 1,000 Dockerfiles, and this repository as a typical one. It
// compares the workflows with one process of actionlint for each, one after the other.
func BenchmarkLint(b *testing.B) {
	if os.Getenv("COLOPHON_BENCH") == "" {
		b.Skip("SKIPPED: make bench sets COLOPHON_BENCH")
	}
	const n = 1000
	dir, workflows := b.TempDir(), b.TempDir()
	files, only := map[string]string{}, map[string]string{}
	for i := range n {
		workflow := fmt.Sprintf(".github/workflows/w%d.yml", i)
		files[workflow] = lintWorkflow(i)
		only[workflow] = files[workflow]
		files[fmt.Sprintf("services/s%d/Dockerfile", i)] = lintDockerfile(i)
	}
	harness.Write(b, dir, files)
	harness.Write(b, workflows, only)
	colophon := func(dir string) func() {
		return func() {
			lints(b, exec.Command(harness.Bin(b, "colophon"), "lint", dir, "--offline", "--format", "json"), 3)
		}
	}
	all := times(3, colophon(dir))
	row(fmt.Sprintf("lint %d workflows and %d Dockerfiles", n, n), all, "aim 3000 ms")
	row("lint this repository", times(5, func() {
		lints(b, exec.Command(harness.Bin(b, "colophon"), "lint", harness.Root(b), "--offline", "--format", "json"), 0)
	}), "aim 100 ms")
	ours := times(5, colophon(workflows))
	theirs := times(1, func() {
		for i := range n {
			lints(b, exec.Command(harness.Bin(b, "actionlint"), "-shellcheck=", "-pyflakes=", filepath.Join(workflows, fmt.Sprintf(".github/workflows/w%d.yml", i))), 0)
		}
	})
	row(fmt.Sprintf("lint %d workflows", n), ours, "")
	row("  the same with actionlint, a process for each", theirs, "")
	ratio("  actionlint's time over ours", theirs, ours, "aim 5")
}

// lints runs a linter, which must exit with a code.
func lints(b *testing.B, cmd *exec.Cmd, want int) {
	out, err := cmd.CombinedOutput()
	code := 0
	if exit, ok := errors.AsType[*exec.ExitError](err); ok {
		code, err = exit.ExitCode(), nil
	}
	if err != nil || code != want {
		b.Errorf("%s: exit code %d, expected %d: %v: %.2000s", cmd, code, want, err, out)
	}
}

// lintWorkflow returns a workflow of usual size, with a test, a build for some systems, and a release.
func lintWorkflow(i int) string {
	var b strings.Builder
	fmt.Fprintf(&b, "name: service %d\non:\n  push: {branches: [main], tags: ['v*']}\n  pull_request:\npermissions:\n  contents: read\njobs:\n", i)
	for _, job := range []string{"test", "build", "release"} {
		fmt.Fprintf(&b, "  %s:\n    runs-on: ubuntu-24.04\n    timeout-minutes: 20\n    strategy:\n      matrix:\n        go: ['1.25', '1.26']\n    steps:\n", job)
		fmt.Fprintf(&b, "      - uses: actions/checkout@v4\n        with: {persist-credentials: false}\n      - uses: actions/setup-go@v5\n        with:\n          go-version: ${{ matrix.go }}\n")
		fmt.Fprintf(&b, "      - name: %s\n        env:\n          NAME: ${{ github.ref_name }}\n        run: |\n          set -euo pipefail\n          cd services/s%d\n          go vet ./...\n          go build -trimpath -o \"out/$NAME\" ./cmd/service\n", job, i)
		b.WriteString("      - if: github.event_name == 'push'\n        run: tar -C out -czf out.tgz . && sha256sum out.tgz | tee out.sum\n")
	}
	return b.String()
}

func lintDockerfile(i int) string {
	return fmt.Sprintf(`FROM golang:1.26 AS build
ARG VERSION=%d
WORKDIR /src
COPY go.mod go.sum ./
RUN --mount=type=cache,target=/go/pkg/mod go mod download
COPY . .
RUN CGO_ENABLED=0 go build -trimpath -ldflags="-s -w" -o /out/service ./cmd/service && \
    sha256sum /out/service
FROM debian:13-slim
RUN apt-get update && \
    apt-get install -y --no-install-recommends ca-certificates && \
    rm -rf /var/lib/apt/lists/*
COPY --from=build /out/service /usr/bin/service
USER 65532
EXPOSE 8080
ENTRYPOINT ["/usr/bin/service"]
`, i)
}
