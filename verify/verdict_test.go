package verify_test

import (
	"bytes"
	"encoding/json"
	"flag"
	"go/ast"
	"go/parser"
	"go/token"
	"os"
	"reflect"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/colophon-build/colophon/attest"
	"github.com/colophon-build/colophon/internal/limits"
	"github.com/colophon-build/colophon/internal/strict"
	"github.com/colophon-build/colophon/oci"
	"github.com/colophon-build/colophon/policy"
	"github.com/colophon-build/colophon/provenance"
	"github.com/colophon-build/colophon/source"
	"github.com/colophon-build/colophon/trust"
	"github.com/colophon-build/colophon/verify"
)

var update = flag.Bool("update", false, "rewrite spec/verdict/accepted.json")

const (
	rejectedJSON = "../spec/verdict/example.json"
	acceptedJSON = "../spec/verdict/accepted.json"
)

// asJSON writes a verdict as "colophon verify --json" does.
func asJSON(t *testing.T, v *verify.Verdict) []byte {
	t.Helper()
	var out bytes.Buffer
	enc := json.NewEncoder(&out)
	enc.SetIndent("", "  ")
	enc.SetEscapeHTML(false)
	if err := enc.Encode(v); err != nil {
		t.Fatal(err)
	}
	return out.Bytes()
}

// specExample parses an example of the specification strictly, and fails unless it is
// written again as it was.
func specExample(t *testing.T, path string) *verify.Verdict {
	t.Helper()
	raw := read(t, path)
	var v verify.Verdict
	if err := strict.UnmarshalKnown(raw, limits.Request, &v); err != nil {
		t.Fatalf("%s: %v", path, err)
	}
	if out := asJSON(t, &v); !bytes.Equal(out, raw) {
		t.Errorf("%s: got\n%s\nwant\n%s", path, out, raw)
	}
	return &v
}

// TestExamples compares the specification's examples with the type.
func TestExamples(t *testing.T) {
	if v := specExample(t, rejectedJSON); v.Outcome != verify.Rejected || v.Why() != "provenance: "+v.Links[3].Reason {
		t.Errorf("%s: got %v, %q", rejectedJSON, v.Outcome, v.Why())
	}
	if v := specExample(t, acceptedJSON); v.Outcome != verify.Accepted || v.Why() != "" || v.Facts == nil || v.Facts.Build == nil || len(v.Facts.Signed) != 4 {
		t.Errorf("%s: got %v, %q, facts %+v", acceptedJSON, v.Outcome, v.Why(), v.Facts)
	}
}

// TestAcceptedExample: the accepted example is the verdict on testdata/example.
func TestAcceptedExample(t *testing.T) {
	v := verifyExample(t)
	v.Image = "verify/testdata/example/app" // as a command at the repository's root names it
	got := asJSON(t, v)
	if *update {
		if err := os.WriteFile(acceptedJSON, got, 0o644); err != nil {
			t.Fatal(err)
		}
	}
	if want := read(t, acceptedJSON); !bytes.Equal(got, want) {
		t.Errorf("%s: got\n%s\nwant\n%s\nif that is right: go test ./verify -run TestAcceptedExample -update", acceptedJSON, got, want)
	}
}

func verifyExample(t *testing.T) *verify.Verdict {
	t.Helper()
	roots, err := trust.Store{Dir: "testdata/example/trust"}.Load()
	if err != nil {
		t.Fatal(err)
	}
	src, err := oci.OpenLayout("testdata/example/app")
	if err != nil {
		t.Fatal(err)
	}
	defer src.Close()
	demand := demanded(t, policy.Document{Source: "git.example.com/team/app", Ref: "v1.2.0"})
	return verify.Image(t.Context(), src, "v1.2.0", time.Now(), verify.Options{Trust: roots, Policy: demand, Layout: true})
}

// tables are the sections of the specification that list the members of a type.
var tables = map[string]reflect.Type{
	"Verdict":                        reflect.TypeFor[verify.Verdict](),
	"Link":                           reflect.TypeFor[verify.Link](),
	"Cause":                          reflect.TypeFor[verify.Cause](),
	"Requirement":                    reflect.TypeFor[provenance.Requirement](),
	"Facts":                          reflect.TypeFor[verify.Facts](),
	"Build":                          reflect.TypeFor[provenance.Facts](),
	"Signature of the tag or commit": reflect.TypeFor[source.Signature](),
	"Recipe":                         reflect.TypeFor[attest.Recipe](),
	"Default recipe":                 reflect.TypeFor[attest.DefaultRecipe](),
	"Isolation":                      reflect.TypeFor[attest.Isolation](),
	"Signed":                         reflect.TypeFor[verify.Signed](),
	"SBOM":                           reflect.TypeFor[verify.SBOM](),
	"Unsigned":                       reflect.TypeFor[verify.Claim](),
}

// neverThere are members of a type that no verdict has.
var neverThere = map[string][]string{
	"Build":    {"parameters", "dependencies"}, // dropped, since they may be large
	"Unsigned": {"says"},                       // only "colophon inspect" reads it
}

// TestMemberTables compares each table of members in the specification with the
// JSON members of its type, in order.
func TestMemberTables(t *testing.T) {
	documented := map[string][]string{}
	section := ""
	for line := range strings.Lines(string(read(t, "../spec/verdict/README.md"))) {
		if title, ok := strings.CutPrefix(strings.TrimSpace(line), "#"); ok {
			section = strings.TrimLeft(title, "# ")
		} else if name, ok := strings.CutPrefix(line, "| `"); ok {
			name, _, _ = strings.Cut(name, "`")
			documented[section] = append(documented[section], name)
		}
	}
	for section, of := range tables {
		var want []string
		for _, f := range reflect.VisibleFields(of) {
			name, _, _ := strings.Cut(f.Tag.Get("json"), ",")
			if f.IsExported() && name != "-" && !slices.Contains(neverThere[section], name) {
				want = append(want, name)
			}
		}
		if got := documented[section]; !slices.Equal(got, want) {
			t.Errorf("section %q: got the members %q, want %q", section, got, want)
		}
		delete(documented, section)
	}
	if len(documented) > 0 {
		t.Errorf("no type belongs to the tables of %v", documented)
	}
}

// TestZeroVerdict: an empty verdict never passes.
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
