package main

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"slices"

	"github.com/open-policy-agent/opa/v1/ast"
	"github.com/open-policy-agent/opa/v1/rego"

	"github.com/colophon-build/colophon/policy/clusterimagepolicy/eval"
)

// refused are functions of Rego that tell of the program, or write for its user.
var refused = []string{"opa.runtime", "trace", "print", "internal.print"}

// capabilities are those of Rego without I/O, and without what gives another answer the next time,
// as http.send and rand.intn do. A policy that calls another function does not compile. The time is
// that of the order.
func capabilities() *ast.Capabilities {
	c := ast.CapabilitiesForThisVersion()
	c.Builtins = slices.DeleteFunc(c.Builtins, func(b *ast.Builtin) bool {
		return b.Nondeterministic && b.Name != "time.now_ns" || slices.Contains(refused, b.Name)
	})
	c.AllowNet = []string{}
	return c
}

// evalRego evaluates data.sigstore.isCompliant of a policy in Rego v0: true, or a set of objects
// {result, warning, error} of which each has the result true, and no warning and no error.
func evalRego(ctx context.Context, o eval.Order) eval.Answer {
	dec := json.NewDecoder(bytes.NewReader(o.Input))
	dec.UseNumber()
	var input any
	if err := dec.Decode(&input); err != nil {
		return undecided("the input is not JSON: %v", err)
	}
	r := rego.New(
		rego.Query("data.sigstore.isCompliant"), rego.Module("policy.rego", o.Policy), rego.SetRegoVersion(ast.RegoV0),
		rego.Capabilities(capabilities()), rego.StrictBuiltinErrors(true),
	)
	prepared, err := r.PrepareForEval(ctx)
	if err != nil {
		return undecided("the policy is not Rego v0 without I/O: %v", err)
	}
	results, err := prepared.Eval(ctx, rego.EvalInput(input), rego.EvalTime(o.Time))
	if err != nil {
		return undecided("%v", err)
	}
	if len(results) != 1 || len(results[0].Expressions) != 1 {
		return fails("isCompliant of package sigstore is not defined for this input")
	}
	switch v := results[0].Expressions[0].Value.(type) {
	case bool:
		if v {
			return eval.Answer{Result: eval.Holds}
		}
		return fails("isCompliant is false")
	case []any:
		return complies(v)
	default:
		return fails("isCompliant: expected true, or a set of results, found a %T", v)
	}
}

func complies(set []any) eval.Answer {
	for _, item := range set {
		object, ok := item.(map[string]any)
		if !ok {
			return fails("isCompliant: expected objects with result, warning and error, found a %T", item)
		}
		for _, member := range []string{"error", "warning"} {
			if said := object[member]; said != nil && said != "" {
				return fails("%s: %s", member, fmt.Sprint(said))
			}
		}
		if object["result"] != true {
			return fails("isCompliant: a result is not true")
		}
	}
	if len(set) == 0 {
		return fails("isCompliant is an empty set")
	}
	return eval.Answer{Result: eval.Holds}
}
