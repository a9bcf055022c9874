// Command colophon-eval answers one question: does a policy in CUE or Rego hold of a JSON
// value? It is a module of its own, so that neither language is in any other program.
//
// It reads one order from standard input, and writes one answer to standard output, each a JSON
// object (package policy/clusterimagepolicy/eval). Policy and value are strangers': the process
// opens no file and no connection, starts no program, and ends when it needs more than 512 MiB
// or 5 seconds of CPU.
package main

import (
	"context"
	"encoding/json"
	"fmt"
	"io"
	"os"

	"github.com/colophon-build/colophon/policy/clusterimagepolicy/eval"
)

// version is set by the linker.
var version = "devel"

func main() {
	if len(os.Args) == 2 && os.Args[1] == "--version" {
		fmt.Println(version)
		return
	}
	if err := run(os.Stdin, os.Stdout); err != nil {
		fmt.Fprintln(os.Stderr, "colophon-eval:", err)
		os.Exit(1)
	}
}

func run(in io.Reader, out io.Writer) error {
	raw, err := io.ReadAll(io.LimitReader(in, eval.MaxOrder+1))
	if err != nil {
		return err
	}
	if len(raw) > eval.MaxOrder {
		return fmt.Errorf("expected an order of at most %d bytes", eval.MaxOrder)
	}
	if err := confineSelf(); err != nil {
		return err
	}
	var o eval.Order
	if err := json.Unmarshal(raw, &o); err != nil {
		return err
	}
	a := evaluate(context.Background(), o)
	if len(a.Reason) > eval.MaxReason {
		a.Reason = a.Reason[:eval.MaxReason]
	}
	return json.NewEncoder(out).Encode(a)
}

func evaluate(ctx context.Context, o eval.Order) eval.Answer {
	switch o.Type {
	case eval.CUE:
		return evalCUE(o)
	case eval.Rego:
		return evalRego(ctx, o)
	}
	return undecided("expected a policy in cue or rego, found %q", o.Type)
}

func undecided(format string, args ...any) eval.Answer {
	return eval.Answer{Result: eval.Undecided, Reason: fmt.Sprintf(format, args...)}
}

func fails(format string, args ...any) eval.Answer {
	return eval.Answer{Result: eval.Fails, Reason: fmt.Sprintf(format, args...)}
}
