package policy_test

import (
	"encoding/json"
	"os"
	"path/filepath"
	"reflect"
	"testing"

	"github.com/colophon-build/colophon/policy"
)

// FuzzParse: a policy that is taken demands something, and means the same after
// it was written again.
func FuzzParse(f *testing.F) {
	paths, err := filepath.Glob("../spec/policy/*/*.json")
	if err != nil || len(paths) < 4 {
		f.Fatalf("got %d seeds, %v, want at least 4", len(paths), err)
	}
	for _, path := range paths {
		raw, err := os.ReadFile(path)
		if err != nil {
			f.Fatal(err)
		}
		f.Add(raw)
	}
	f.Fuzz(func(t *testing.T, raw []byte) {
		p, err := policy.Parse(raw)
		if err != nil {
			return
		}
		if p.Origin == nil || p.Check() != nil {
			t.Error("demands nothing")
		}
		again, err := json.Marshal(p)
		if err != nil {
			t.Fatal(err)
		}
		if q, err := policy.Parse(again); err != nil || !sameMeaning(p, q) {
			t.Errorf("got %+v, %v, want %+v", q, err, p)
		}
	})
}

// sameMeaning compares as JSON does: no list and an empty one are one.
func sameMeaning(a, b policy.Policy) bool {
	x, err1 := json.Marshal(a)
	y, err2 := json.Marshal(b)
	return err1 == nil && err2 == nil && reflect.DeepEqual(x, y)
}
