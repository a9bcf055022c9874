package policy

import (
	"reflect"
	"testing"
	"time"
)

// TestEqual: policies that differ in any field are not equal, so that a field that is added must
// be compared, too.
func TestEqual(t *testing.T) {
	whole := func() Policy {
		signer := Identity{Name: "ada", Issuer: "https://accounts.example.com"}
		value := &Value{exact: "x"}
		return Policy{
			Origin: BuilderProvenance{Root: "r", SBOM: SBOMContents, CompleteSBOM: true, Provenance: Provenance{
				Source: Source{uri: "https://git.example.com/a"}, Ref: RefName("main"), Commit: "c", Inputs: map[string]string{"a": "b"}, MinLevel: 1, Builders: []string{"b"}, Levels: map[string]int{"b": 1}, RequireSource: true,
				Recipe:      Recipe{Image: "i", Context: value, Dockerfile: value, Target: value, BuildArgs: map[string]Value{"a": *value}},
				SourceTrack: SourceTrack{MinLevel: 1, Reviewers: 1}, SourceVerifiers: []Verifier{{ID: "v", Signer: signer}},
			}},
			Attestations: []Attestation{{PredicateType: "t", Signer: signer, Equals: map[string]any{"/a": "b"}}}, Verifiers: []Verifier{{ID: "v", Signer: signer}}, Absent: []Absent{{PredicateType: "t", Signer: signer}},
			MaxTrustAge: time.Hour, FreshTrust: true, Witnesses: Witnesses{AtLeast: 1, Keys: []string{"k"}},
		}
	}
	if !whole().Equal(whole()) || !(Policy{}).Equal(Policy{}) {
		t.Error("a policy is not equal to itself")
	}
	differs := func(name string, change func(*Policy)) {
		a, b := whole(), whole()
		if change(&b); a.Equal(b) || b.Equal(a) {
			t.Errorf("without %s: got equal", name)
		}
	}
	policies := reflect.TypeFor[Policy]()
	for i := range policies.NumField() {
		differs(policies.Field(i).Name, func(p *Policy) { reflect.ValueOf(p).Elem().Field(i).SetZero() })
	}
	fields := 0
	for _, path := range fieldsOf(reflect.TypeFor[BuilderProvenance](), nil) {
		fields++
		differs(reflect.TypeFor[BuilderProvenance]().FieldByIndex(path).Name, func(p *Policy) {
			o := p.Origin.(BuilderProvenance)
			f := reflect.ValueOf(&o).Elem().FieldByIndex(path)
			if f.IsZero() { // what excludes others
				f.Set(another(f.Type()))
			} else {
				f.SetZero()
			}
			p.Origin = o
		})
	}
	if fields < 20 {
		t.Errorf("got %d fields", fields)
	}
	for _, o := range []Origin{SignerProvenance{Signer: Identity{Name: "ada"}}, SignatureOnly{Signer: Identity{Name: "ada"}}, SummaryOnly{1}, nil} {
		differs("the origin", func(p *Policy) { p.Origin = o })
		if !(Policy{Origin: o}).Equal(Policy{Origin: o}) {
			t.Errorf("%T is not equal to itself", o)
		}
	}
	if (Policy{Origin: SummaryOnly{1}}).Equal(Policy{Origin: SummaryOnly{2}}) {
		t.Error("another level is equal")
	}
}

// fieldsOf returns the paths to the exported fields of a struct and of the structs in it.
func fieldsOf(t reflect.Type, above []int) (out [][]int) {
	for i := range t.NumField() {
		path := append(append([]int(nil), above...), i)
		f := t.Field(i)
		switch {
		case !f.IsExported():
		case f.Type.Kind() == reflect.Struct && f.Type != reflect.TypeFor[Source]():
			out = append(out, fieldsOf(f.Type, path)...)
		default:
			out = append(out, path)
		}
	}
	return out
}

func another(t reflect.Type) reflect.Value {
	v := reflect.New(t).Elem()
	switch t.Kind() {
	case reflect.Bool:
		v.SetBool(true)
	case reflect.String:
		v.SetString("x")
	case reflect.Pointer:
		v.Set(reflect.New(t.Elem()))
	}
	return v
}
