package buildkit

import (
	"context"
	"errors"
	"fmt"
	"testing"
	"time"

	"github.com/moby/buildkit/solver/errdefs"
	"github.com/moby/buildkit/solver/pb"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	"github.com/colophon-build/colophon/platform/builder"
)

// Of what buildkitd says about a line, only its number is used, and only if it is about the
// Dockerfile that was built.
func TestSaidLine(t *testing.T) {
	source := func(file string, lines ...int32) error {
		s := &errdefs.Source{Info: &pb.SourceInfo{Filename: file}}
		for _, l := range lines {
			s.Ranges = append(s.Ranges, &pb.Range{Start: &pb.Position{Line: l}})
		}
		return fmt.Errorf("failed to solve: %w", errdefs.WithSource(errors.New("x"), s))
	}
	if got := saidLine(source("app/Dockerfile", 0, 3, 4), "app/Dockerfile"); got != 3 {
		t.Errorf("got %d, want 3", got)
	}
	for _, err := range []error{errors.New("x"), source("\x1b[2J", 3), source("app/Dockerfile"), source("app/Dockerfile", -1), errdefs.WithSource(errors.New("x"), &errdefs.Source{})} {
		if got := saidLine(err, "app/Dockerfile"); got != 0 {
			t.Errorf("%v: got %d, want 0", err, got)
		}
	}
}

func TestStepLine(t *testing.T) {
	text := []byte("# a comment\nFROM a AS b\nrun echo one && \\\n  false\nRUN twice\nRUN twice\nCOPY $X /\n")
	for step, want := range map[string]int{
		"[b 2/3] RUN echo one &&   false": 3,
		"[b 2/3] RUN twice":               0, // which one?
		"[2/3] COPY y /":                  0, // BuildKit has replaced the variable
		"[internal] load build context":   0,
		"RUN echo one":                    0,
		"":                                0,
	} {
		if got := stepLine(text, step); got != want {
			t.Errorf("%q: got %d, want %d", step, got, want)
		}
	}
	if got := stepLine([]byte("FROM a\nRUN <<E\n"), "[2/2] RUN <<E"); got != 0 {
		t.Errorf("a Dockerfile that does not parse: got line %d", got)
	}
}

func TestPlain(t *testing.T) {
	for said, want := range map[string]string{
		"failed to solve: dockerfile parse error on line 3: unknown instruction: COPYY":              "unknown instruction: COPYY",
		`failed to compute cache key: failed to calculate checksum of ref a::b: "/x y": not found`:   `there is no file "x y" where the step copies from (paths are relative to the build's context, and .dockerignore leaves files out)`,
		"process \"/bin/sh -c echo \\\"a\\\" && false\" did not complete successfully: exit code: 1": "the command ended with exit code: 1",
		"unexpected status from HEAD request to https://x/v2/: 502 Bad Gateway":                      "unexpected status from HEAD request to https://x/v2/: 502 Bad Gateway",
		`process "x" did not complete successfully: exec: "x": no such file`:                         `process "x" did not complete successfully: exec: "x": no such file`,
	} {
		if got := plain(said); got != want {
			t.Errorf("%s: got %q, want %q", said, got, want)
		}
	}
}

// TestDeadlineOfTheOther: buildkitd may end a build at its deadline a moment before ours. That is the limit all the same.
func TestDeadlineOfTheOther(t *testing.T) {
	tooLong := errors.New("the build exceeded its time limit of 6s")
	ctx, cancel := context.WithTimeoutCause(t.Context(), 100*time.Millisecond, tooLong)
	defer cancel()
	place := func(error, string) string { return "" }
	err := new(daemon).explain(ctx, tooLong, place, &progress{}, fmt.Errorf("failed to solve: %w", status.Error(codes.DeadlineExceeded, "stream terminated by RST_STREAM")))
	if limit, ok := errors.AsType[*builder.Error](err); !ok || limit.Err != tooLong {
		t.Errorf("got %v, want the limit", err)
	}
}
