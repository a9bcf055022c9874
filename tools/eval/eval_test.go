package main

import (
	"context"
	"encoding/json"
	"strings"
	"testing"
	"time"

	"github.com/open-policy-agent/opa/v1/ast"

	"github.com/colophon-build/colophon/policy/clusterimagepolicy/eval"
)

const statement = `{"predicateType":"https://example.com/scan/v1","predicate":{"scanner":"x","high":2,"list":[{"a":1},{"a":2}],"big":12345678901234567890}}`

func TestEvaluate(t *testing.T) {
	now := time.Date(2026, 11, 27, 0, 0, 0, 0, time.UTC)
	for name, c := range map[string]struct{ language, policy, want, words string }{
		"cue":                       {eval.CUE, `predicate: {scanner: "x", high: <5}`, eval.Holds, ""},
		"cue in a list":             {eval.CUE, `predicate: list: [...{a: <5}]`, eval.Holds, ""},
		"cue adds to a list":        {eval.CUE, `predicate: list: [...{a: <5, b: 1}]`, eval.Fails, "predicate.list.0.b"},
		"cue with a definition":     {eval.CUE, "#D: {scanner: string, ...}\npredicate: #D", eval.Holds, ""},
		"cue that is closed":        {eval.CUE, "#D: {scanner: string}\npredicate: #D", eval.Fails, "not allowed"},
		"cue with a helper":         {eval.CUE, "_names: [\"x\", \"y\"]\npredicate: scanner: or(_names)", eval.Holds, ""},
		"cue with a default":        {eval.CUE, `predicate: missing: *"x" | "y"`, eval.Fails, "predicate.missing"},
		"cue with an empty object":  {eval.CUE, `predicate: missing: {}`, eval.Fails, "predicate.missing"},
		"cue hides a demand":        {eval.CUE, "_c: predicate.missing & \"x\"\npredicate: _", eval.Fails, "_c"},
		"cue hides it deeper":       {eval.CUE, "_c: {a: [predicate.missing + 1]}\npredicate: _", eval.Fails, "_c"},
		"cue defines a demand":      {eval.CUE, "#C: {a: predicate.missing & \"x\"}\npredicate: _", eval.Fails, "#C"},
		"cue hides a condition":     {eval.CUE, "_c: {if predicate.missing == 1 {a: _|_}}\npredicate: _", eval.Fails, "_c"},
		"cue hides what holds":      {eval.CUE, "_c: predicate.high & <5\npredicate: _", eval.Holds, ""},
		"cue hides a type":          {eval.CUE, "_c: {n: string, o?: int}\npredicate: scanner: _c.n", eval.Holds, ""},
		"cue with a number":         {eval.CUE, `predicate: big: 12345678901234567890`, eval.Holds, ""},
		"cue with a number beside":  {eval.CUE, `predicate: big: 12345678901234567891`, eval.Fails, "big"},
		"cue of a file":             {eval.CUE, "@embed(file=/etc/passwd)\nx: _", eval.Fails, ""},
		"cue with a command":        {eval.CUE, "import \"tool/exec\"\nx: exec.Run & {cmd: \"id\"}", eval.Fails, ""},
		"cue with another package":  {eval.CUE, "import \"example.com/x\"\ny: x.z", eval.Undecided, "is not CUE"},
		"cue that is empty":         {eval.CUE, ``, eval.Holds, ""},
		"rego":                      {eval.Rego, "package sigstore\nisCompliant { input.predicate.high < 5 }", eval.Holds, ""},
		"rego with the time":        {eval.Rego, "package sigstore\nisCompliant { time.now_ns() == time.parse_rfc3339_ns(\"2026-11-27T00:00:00Z\") }", eval.Holds, ""},
		"rego with a number":        {eval.Rego, "package sigstore\nisCompliant { input.predicate.big == 12345678901234567890 }", eval.Holds, ""},
		"rego set with a warning":   {eval.Rego, "package sigstore\nisCompliant[r] { r := {\"result\": true, \"warning\": \"old\"} }", eval.Fails, "warning: old"},
		"rego set of two":           {eval.Rego, "package sigstore\nisCompliant[r] { r := {\"result\": input.predicate.list[_].a == 1} }", eval.Fails, "not true"},
		"rego set of other things":  {eval.Rego, "package sigstore\nisCompliant[r] { r := \"true\" }", eval.Fails, "expected objects"},
		"rego set that is empty":    {eval.Rego, "package sigstore\nisCompliant[r] { input.x; r := {\"result\": true} }", eval.Fails, "empty set"},
		"rego that divides by zero": {eval.Rego, "package sigstore\nisCompliant { 1 / (input.predicate.high - 2) == 1 }", eval.Undecided, "divide by zero"},
		"rego with random numbers":  {eval.Rego, "package sigstore\nisCompliant { rand.intn(\"x\", 10) < 11 }", eval.Undecided, "undefined function"},
		"rego with a name server":   {eval.Rego, "package sigstore\nisCompliant { net.lookup_ip_addr(\"example.com\") }", eval.Undecided, "undefined function"},
		"rego with other data":      {eval.Rego, "package sigstore\nimport data.secrets\nisCompliant { secrets }", eval.Fails, "not defined"},
		"another language":          {"js", "true", eval.Undecided, "cue or rego"},
	} {
		a := evaluate(context.Background(), eval.Order{Type: c.language, Policy: c.policy, Input: json.RawMessage(statement), Time: now})
		if a.Result != c.want || !strings.Contains(a.Reason, c.words) {
			t.Errorf("%s: got %s: %s, want %s: %s", name, a.Result, a.Reason, c.want, c.words)
		}
	}
}

// TestCapabilities: each function of Rego that is not a function of its input alone is refused,
// but for the time, which the order has.
func TestCapabilities(t *testing.T) {
	have := map[string]bool{}
	for _, b := range capabilities().Builtins {
		have[b.Name] = true
		if b.Nondeterministic && b.Name != "time.now_ns" {
			t.Errorf("%s is not refused", b.Name)
		}
	}
	known := map[string]bool{}
	for _, b := range ast.CapabilitiesForThisVersion().Builtins {
		known[b.Name] = true
	}
	for _, name := range append(refused, "http.send", "net.lookup_ip_addr", "rand.intn", "json.match_schema") {
		if have[name] || !known[name] {
			t.Errorf("%s: refused %v, known %v", name, !have[name], known[name])
		}
	}
}
