package main

import (
	"errors"
	"os"
	"path/filepath"
	"testing"

	"github.com/colophon-build/colophon/platform/api"
	"github.com/colophon-build/colophon/test/gittest"
)

func TestBuildArg(t *testing.T) {
	var args buildArgs
	for _, arg := range []string{"FLAGS=-a,b=c", "EMPTY=", "X=1"} {
		if err := args.Set(arg); err != nil {
			t.Errorf("%q: %v", arg, err)
		}
	}
	if got, want := args["FLAGS"], "-a,b=c"; got != want {
		t.Errorf("got %q, want %q", got, want)
	}
	for _, arg := range []string{"X=2", "NAME", "=value", ""} {
		if err := args.Set(arg); err == nil {
			t.Errorf("%q: got no error", arg)
		}
	}
}

func TestSourceDirectory(t *testing.T) {
	dir, err := filepath.EvalSymlinks(t.TempDir())
	if err != nil {
		t.Fatal(err)
	}
	work, bare, inside := filepath.Join(dir, "work"), filepath.Join(dir, "bare.git"), filepath.Join(dir, "work", "inside")
	gittest.Git(t, work, "init", "-q")
	gittest.Git(t, bare, "init", "-q", "--bare")
	if err := os.Mkdir(inside, 0o755); err != nil {
		t.Fatal(err)
	}
	for _, good := range []string{work, bare} {
		if got, _, err := sourceOf(t.Context(), good, "v1"); err != nil || got != "file://"+good {
			t.Errorf("%s: got %q, %v", good, got, err)
		}
	}
	if err := os.WriteFile(filepath.Join(work, "new"), nil, 0o644); err != nil {
		t.Fatal(err)
	}
	for bad, code := range map[string]int{work: exitFailure, inside: exitUsage, dir: exitUsage, filepath.Join(dir, "none"): exitUsage} {
		_, _, err := sourceOf(t.Context(), bad, "v1")
		if exit, ok := errors.AsType[*exitError](err); !ok || exit.code != code {
			t.Errorf("%s: got %v, want exit code %d", bad, err, code)
		}
	}
}

func TestLastState(t *testing.T) {
	for line, want := range map[string]string{"plain": "plain", "5%\r50%\rdone": "done", "done\r": "done", "\r": "", "": ""} {
		if got := lastState(line); got != want {
			t.Errorf("%q: got %q, want %q", line, got, want)
		}
	}
}

// TestLockErrorsNameTheFile: what the platform says about the lock of a request is about the
// user's file.
func TestLockErrorsNameTheFile(t *testing.T) {
	wrong := &api.Error{Message: "lock: not in canonical form (line 3)", Kind: api.Usage, Member: "lock"}
	err := releaseOptions{locked: "deps/web.lock"}.explain(t.Context(), wrong)
	if got, want := err.Error(), "deps/web.lock: not in canonical form (line 3)"; got != want {
		t.Errorf("got %q, want %q", got, want)
	}
	if e, ok := errors.AsType[*api.Error](err); !ok || e.Kind != api.Usage {
		t.Errorf("got kind %v, want %v", e, api.Usage)
	}
	if err := (releaseOptions{locked: "deps/web.lock"}).explain(t.Context(), &api.Error{Message: "lock: x"}); err.Error() != "lock: x" {
		t.Errorf("another error: got %q", err)
	}
}
