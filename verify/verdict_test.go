package verify_test

import (
	"bytes"
	"encoding/json"
	"go/ast"
	"go/parser"
	"go/token"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/colophon-build/colophon/internal/limits"
	"github.com/colophon-build/colophon/internal/strict"
	"github.com/colophon-build/colophon/verify"
)

// TestExample holds the specification's example to the type: what is read
// from it is written as it was.
func TestExample(t *testing.T) {
	raw := read(t, "../spec/verdict/example.json")
	var v verify.Verdict
	if err := strict.UnmarshalKnown(raw, limits.Request, &v); err != nil {
		t.Fatal(err)
	}
	var out bytes.Buffer
	enc := json.NewEncoder(&out)
	enc.SetIndent("", "  ")
	enc.SetEscapeHTML(false)
	if err := enc.Encode(v); err != nil {
		t.Fatal(err)
	}
	if !bytes.Equal(out.Bytes(), raw) {
		t.Errorf("got\n%s\nwant\n%s", &out, raw)
	}
	if v.Outcome != verify.Rejected || v.Why() != "provenance: "+v.Links[3].Reason {
		t.Errorf("got %v, %q", v.Outcome, v.Why())
	}
}

// TestZeroVerdict: what nobody filled in is never a pass.
func TestZeroVerdict(t *testing.T) {
	var v verify.Verdict
	if v.Outcome == verify.Accepted || v.Outcome.String() != "undecided" || v.Why() == "" {
		t.Errorf("got %v, %q", v.Outcome, v.Why())
	}
	if err := v.Outcome.UnmarshalText([]byte("ACCEPTED")); err == nil {
		t.Error("an unknown outcome was read")
	}
}

// TestLinkNames holds the list to the constants: reports have a rule for each
// name that is in it.
func TestLinkNames(t *testing.T) {
	file, err := parser.ParseFile(token.NewFileSet(), "verdict.go", nil, 0)
	if err != nil {
		t.Fatal(err)
	}
	var want []string
	ast.Inspect(file, func(n ast.Node) bool {
		spec, ok := n.(*ast.ValueSpec)
		if !ok || !strings.HasPrefix(spec.Names[0].Name, "Link") {
			return true
		}
		name, err := strconv.Unquote(spec.Values[0].(*ast.BasicLit).Value)
		if err != nil {
			t.Fatal(err)
		}
		want = append(want, name)
		return true
	})
	got := verify.LinkNames()
	slices.Sort(got)
	slices.Sort(want)
	if len(want) < 9 || !slices.Equal(got, want) {
		t.Errorf("got %q, want %q", got, want)
	}
	for _, name := range got {
		if (verify.Options{}).Explain(name, time.Now()) == (verify.Explanation{}) {
			t.Errorf("%s: there is no explanation", name)
		}
	}
}
