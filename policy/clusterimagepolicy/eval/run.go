package eval

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"time"

	"github.com/colophon-build/colophon/internal/printable"
	"github.com/colophon-build/colophon/internal/strict"
)

// slots has a place for each process that may run.
var slots = make(chan struct{}, MaxAtOnce)

// Run starts Program with an order, and returns its answer. The process gets no environment. Run
// waits until fewer than MaxAtOnce others run, or ctx ends. An error means that there is no answer: the program is missing, was killed at a limit, or
// answered something else.
func Run(ctx context.Context, o Order) (Answer, error) { return run(ctx, o, MaxWait) }

func run(ctx context.Context, o Order, wait time.Duration) (Answer, error) {
	path, err := find()
	if err != nil {
		return Answer{}, err
	}
	order, err := json.Marshal(o)
	if err != nil || len(order) > MaxOrder {
		return Answer{}, fmt.Errorf("%s: expected policy and input of at most %d bytes, found %d: %w", Program, MaxOrder, len(order), err)
	}
	select {
	case slots <- struct{}{}:
		defer func() { <-slots }()
	case <-ctx.Done():
		return Answer{}, fmt.Errorf("%s: others were evaluated all the time: %w", Program, context.Cause(ctx))
	}
	ctx, cancel := context.WithTimeout(ctx, wait)
	defer cancel()
	cmd := exec.CommandContext(ctx, path)
	cmd.Env, cmd.Dir, cmd.Stdin = []string{}, "/", bytes.NewReader(order)
	cmd.WaitDelay = time.Second
	last := &printable.Head{Max: MaxReason}
	cmd.Stderr = last
	out, err := cmd.StdoutPipe()
	if err != nil {
		return Answer{}, err
	}
	if err := cmd.Start(); err != nil {
		return Answer{}, fmt.Errorf("%s: %w", Program, err)
	}
	raw, readErr := io.ReadAll(io.LimitReader(out, MaxAnswer+1))
	_, _ = io.Copy(io.Discard, out) // what is past the limit is refused below
	err = cmd.Wait()
	switch {
	case ctx.Err() != nil:
		return Answer{}, fmt.Errorf("%s had no answer within %s", Program, wait)
	case err != nil && cmd.ProcessState != nil && cmd.ProcessState.ExitCode() < 0:
		return Answer{}, fmt.Errorf("%s was killed: the policy needs more than %d MiB of memory, or %d seconds", Program, MaxMemory>>20, MaxCPU)
	case err != nil:
		return Answer{}, fmt.Errorf("%s: %w: %s", Program, err, last)
	case readErr != nil:
		return Answer{}, fmt.Errorf("%s: %w", Program, readErr)
	}
	var a Answer
	if err := strict.UnmarshalKnown(raw, MaxAnswer, &a); err != nil {
		return Answer{}, fmt.Errorf("%s: answer: %w", Program, err)
	}
	switch a.Result {
	case Holds, Fails, Undecided:
		return a, nil
	}
	return Answer{}, fmt.Errorf("%s: answer: expected %s, %s or %s, found %q", Program, Holds, Fails, Undecided, a.Result)
}

// find returns the path of Program: beside this program, or in PATH.
func find() (string, error) {
	if self, err := os.Executable(); err == nil {
		beside := filepath.Join(filepath.Dir(self), Program)
		if _, err := os.Stat(beside); err == nil {
			return beside, nil
		}
	}
	path, err := exec.LookPath(Program)
	if err != nil {
		return "", errors.New(Program + ", which evaluates policies in CUE and Rego, is neither beside this program nor in PATH")
	}
	return path, nil
}
