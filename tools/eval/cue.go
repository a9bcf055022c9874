package main

import (
	"bytes"
	"encoding/json"
	"fmt"
	"slices"
	"strconv"
	"strings"

	"cuelang.org/go/cue"
	"cuelang.org/go/cue/cuecontext"
	cuejson "cuelang.org/go/encoding/json"

	"github.com/colophon-build/colophon/policy/clusterimagepolicy/eval"
)

// evalCUE unifies policy and value. What the policy says about a member that the value does not
// have is no contradiction to CUE, which would add the member. Here such a policy does not hold,
// unless the order says so.
func evalCUE(o eval.Order) eval.Answer {
	ctx := cuecontext.New()
	policy := ctx.CompileString(o.Policy)
	if err := policy.Err(); err != nil {
		return undecided("the policy is not CUE: %v", err)
	}
	expr, err := cuejson.Extract("input", o.Input)
	if err != nil {
		return undecided("the input is not JSON: %v", err)
	}
	value := ctx.BuildExpr(expr)
	both := policy.Unify(value)
	if o.AbsentPasses {
		if err := both.Validate(); err != nil {
			return fails("%v", err)
		}
		return eval.Answer{Result: eval.Holds}
	}
	if err := both.Validate(cue.Concrete(true), cue.Final()); err != nil {
		return fails("%v", err)
	}
	if err := unresolved(both); err != nil {
		return fails("%v", err)
	}
	dec := json.NewDecoder(bytes.NewReader(o.Input))
	dec.UseNumber()
	var input any
	if err := dec.Decode(&input); err != nil {
		return undecided("the input is not JSON: %v", err)
	}
	if path := added(both, input, nil); path != nil {
		return fails("%s: the policy names it, and the input does not have it", strings.Join(path, "."))
	}
	return eval.Answer{Result: eval.Holds}
}

// unresolved fails if a hidden field or a definition refers to a member that is not there.
// Validate does not look for that.
func unresolved(v cue.Value) error {
	if err := v.Err(); err != nil {
		return err
	}
	switch v.IncompleteKind() {
	case cue.StructKind:
		fields, err := v.Fields(cue.Hidden(true), cue.Definitions(true))
		if err != nil {
			return err
		}
		for fields.Next() {
			if err := unresolved(fields.Value()); err != nil {
				return err
			}
		}
	case cue.ListKind:
		items, err := v.List()
		if err != nil {
			return err
		}
		for items.Next() {
			if err := unresolved(items.Value()); err != nil {
				return err
			}
		}
	}
	return nil
}

// added returns the path of a member that is in the value and not in the input, or nil.
func added(v cue.Value, input any, path []string) []string {
	switch v.IncompleteKind() {
	case cue.StructKind:
		object, ok := input.(map[string]any)
		if !ok {
			return path
		}
		fields, err := v.Fields()
		if err != nil {
			return append(path, fmt.Sprint(err))
		}
		for fields.Next() {
			name := fields.Selector().Unquoted()
			here := append(slices.Clone(path), name)
			inner, ok := object[name]
			if !ok {
				return here
			}
			if found := added(fields.Value(), inner, here); found != nil {
				return found
			}
		}
	case cue.ListKind:
		list, ok := input.([]any)
		items, err := v.List()
		if !ok || err != nil {
			return append(path, "[]")
		}
		for i := 0; items.Next(); i++ {
			here := append(slices.Clone(path), strconv.Itoa(i))
			if i >= len(list) {
				return here
			}
			if found := added(items.Value(), list[i], here); found != nil {
				return found
			}
		}
	}
	return nil
}
