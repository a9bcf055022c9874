package sbom_test

import (
	"fmt"
	"reflect"
	"testing"

	"github.com/colophon-build/colophon/sbom"
)

func TestCompare(t *testing.T) {
	doc := func(list ...sbom.Package) *sbom.Document { return &sbom.Document{List: list} }
	old := doc(
		sbom.Package{Name: "openssl", Version: "3.5.0", PURL: "pkg:deb/debian/openssl@3.5.0?arch=amd64"},
		sbom.Package{Name: "gone", Version: "1"},
		sbom.Package{Name: "same", Version: "1", PURL: "pkg:npm/same@1"},
		sbom.Package{Name: "twice", Version: "1", PURL: "pkg:npm/twice@1"},
		sbom.Package{Name: "@a/scoped", Version: "1", PURL: "pkg:npm/%40a/scoped@1"},
	)
	next := doc(
		sbom.Package{Name: "twice", Version: "2", PURL: "pkg:npm/twice@2"},
		sbom.Package{Name: "twice", Version: "1", PURL: "pkg:npm/twice@1"},
		sbom.Package{Name: "scoped", Version: "1", PURL: "pkg:npm/%40a/scoped@1#sub"},
		sbom.Package{Name: "same", Version: "1", PURL: "pkg:npm/same@1"},
		sbom.Package{Name: "openssl", Version: "3.5.1", PURL: "pkg:deb/debian/openssl@3.5.1?arch=amd64"},
		sbom.Package{Name: "b", Version: "2"}, sbom.Package{Name: "a", Version: "2"},
	)
	got := sbom.Compare(old, next)
	want := sbom.Difference{
		Added:   []sbom.Package{{Name: "a", Version: "2"}, {Name: "b", Version: "2"}},
		Removed: []sbom.Package{{Name: "gone", Version: "1"}},
		Changed: []sbom.Change{{"openssl", []string{"3.5.0"}, []string{"3.5.1"}}, {"twice", []string{"1"}, []string{"1", "2"}}},
	}
	if !reflect.DeepEqual(got, want) {
		t.Errorf("got %+v\nwant %+v", got, want)
	}
	if got := sbom.Compare(next, next); !reflect.DeepEqual(got, sbom.Difference{}) {
		t.Errorf("a document and itself: got %+v", got)
	}
}

// What changed between two SBOMs.
func ExampleCompare() {
	d := sbom.Compare(
		&sbom.Document{List: []sbom.Package{{Name: "openssl", Version: "3.5.0", PURL: "pkg:deb/debian/openssl@3.5.0"}}},
		&sbom.Document{List: []sbom.Package{{Name: "openssl", Version: "3.5.1", PURL: "pkg:deb/debian/openssl@3.5.1"}}})
	fmt.Println(d.Changed[0].Name, d.Changed[0].Old, d.Changed[0].New)

	// Output:
	// openssl [3.5.0] [3.5.1]
}
