// Package expr evaluates the expressions of policies: CEL (cel.dev) over verified facts.
//
// The types of all facts are known, so that a misspelled name is an error when the policy
// is read. A fact that is missing is an error when it is read: it equals nothing, differs
// from nothing, and nothing can ask whether it is there. An error is never true.
package expr

import (
	"reflect"
	"strings"
	"sync"
	"time"

	"cel.dev/cel-go/cel"
)

// Facts is what expressions are about: each field with a tag is a name in them. Empty texts,
// zero times, nil pointers and nil lists are missing; numbers and booleans that are no
// pointers are always there.
type Facts struct {
	Now   time.Time `cel:"now"`   // time of verification
	Image *Image    `cel:"image"` // as it was asked for
	Level int       `cel:"level"` // SLSA Build level that follows from the evidence

	Build        *Build        `cel:"build"`        // how it was built, from the provenance
	Source       *Source       `cel:"source"`       // what it was built from, from the provenance
	Signers      []Signer      `cel:"signers"`      // who signed what the verdict rests on
	Requirements []Requirement `cel:"requirements"` // those of SLSA's Build track
	SBOM         *SBOM         `cel:"sbom"`         // the SBOMs that hold
	Attestations []Attestation `cel:"attestations"` // attestations that hold, of the types that the policy names
}

// Image is the image.
type Image struct {
	Name   string `cel:"name"`   // REGISTRY/NAME in canonical form
	Tag    string `cel:"tag"`    // missing if the image is named by its digest
	Digest string `cel:"digest"` // sha256:HEX
}

// Build is how an image was built.
type Build struct {
	System     string            `cel:"system"`     // kind of builder
	Builder    string            `cel:"builder"`    // its id
	Type       string            `cel:"type"`       // build type, a URI
	Invocation string            `cel:"invocation"` // the run
	Trigger    string            `cel:"trigger"`    // event that started the run; GitHub only
	Runner     string            `cel:"runner"`     // kind of machine; GitHub and GitLab
	Hermetic   *bool             `cel:"hermetic"`   // Colophon only
	Lock       string            `cel:"lock"`       // sha256:HEX of the lock file; Colophon only
	Context    string            `cel:"context"`    // of the recipe; Colophon only
	Dockerfile string            `cel:"dockerfile"` // of the recipe; Colophon only
	Target     string            `cel:"target"`     // of the recipe; Colophon only
	Package    string            `cel:"package"`    // of the recipe; Colophon only
	BuildArgs  map[string]string `cel:"buildArgs"`  // of the recipe; Colophon only
}

// Source is what an image was built from.
type Source struct {
	Repository string `cel:"repository"` // canonical address
	Ref        string `cel:"ref"`        // full ref
	Commit     string `cel:"commit"`     // full id
	Tree       string `cel:"tree"`       // Colophon only
	Within     string `cel:"within"`     // branch or tag whose history had the commit, without a ref; Colophon only
}

// Signer is who signed one thing.
type Signer struct {
	Type     string    `cel:"type"`     // predicate type of what was signed; of a signature of notation, its artifact type
	Identity string    `cel:"identity"` // subject of the certificate; missing if a key signed
	Issuer   string    `cel:"issuer"`   // of the identity
	Root     string    `cel:"root"`     // fingerprint of the trust root
	Time     time.Time `cel:"time"`     // earliest proved time of the signature
	Logged   bool      `cel:"logged"`   // it is in a transparency log
}

// Requirement is one of SLSA's Build track.
type Requirement struct {
	Name   string `cel:"name"`
	Level  int    `cel:"level"`  // the lowest that demands it
	Status string `cel:"status"` // met, not met or not known
}

// SBOM is what the SBOMs of an image list.
type SBOM struct {
	Formats  []string  `cel:"formats"`  // SPDX, CycloneDX
	Packages []Package `cel:"packages"` // of all documents
	Unread   []string  `cel:"unread"`   // files that their scanner could not read
}

// Package is a package in an SBOM.
type Package struct {
	Name     string   `cel:"name"`
	Version  string   `cel:"version"`
	PURL     string   `cel:"purl"`     // package URL
	Licenses []string `cel:"licenses"` // SPDX expressions
}

// Attestation is a verified statement about the image. Its functions text, number, flag and
// texts read the predicate at a JSON pointer.
type Attestation struct {
	Type      string `cel:"type"`     // predicate type
	Identity  string `cel:"identity"` // of the signer; missing if a key signed
	Issuer    string `cel:"issuer"`   // of the identity
	Predicate []byte // JSON
}

// object types of expressions, by the Go type, and their fields.
var (
	objects = []reflect.Type{
		reflect.TypeFor[Image](), reflect.TypeFor[Build](), reflect.TypeFor[Source](), reflect.TypeFor[Signer](), reflect.TypeFor[Requirement](),
		reflect.TypeFor[SBOM](), reflect.TypeFor[Package](), reflect.TypeFor[Attestation](),
	}
)

// prefix begins the names of the object types: no identifier in an expression can be one.
const prefix = "colophon."

// celType returns the type that values of a Go type have in expressions.
func celType(t reflect.Type) *cel.Type {
	switch {
	case t == reflect.TypeFor[time.Time]():
		return cel.TimestampType
	case t.Kind() == reflect.Pointer:
		return celType(t.Elem())
	case t.Kind() == reflect.Slice:
		return cel.ListType(celType(t.Elem()))
	case t.Kind() == reflect.Map:
		return cel.MapType(cel.StringType, celType(t.Elem()))
	case t.Kind() == reflect.Struct:
		return cel.ObjectType(prefix + t.Name())
	case t.Kind() == reflect.Bool:
		return cel.BoolType
	case t.Kind() == reflect.Int:
		return cel.IntType
	}
	return cel.StringType
}

// fields are the fields of Facts and of the object types, by their names in expressions.
var fields = sync.OnceValue(func() map[reflect.Type]map[string]reflect.StructField {
	out := map[reflect.Type]map[string]reflect.StructField{}
	for _, t := range append([]reflect.Type{reflect.TypeFor[Facts]()}, objects...) {
		out[t] = map[string]reflect.StructField{}
		for f := range t.Fields() {
			if name := f.Tag.Get("cel"); name != "" {
				out[t][name] = f
			}
		}
	}
	return out
})

// fieldOf returns the field of a struct type that has a name in expressions.
func fieldOf(t reflect.Type, name string) (reflect.StructField, bool) {
	f, ok := fields()[t][name]
	return f, ok
}

// namesIn returns the names that the fields of a struct type have in expressions.
func namesIn(t reflect.Type) (names []string) {
	for f := range t.Fields() {
		if name := f.Tag.Get("cel"); name != "" {
			names = append(names, name)
		}
	}
	return names
}

// everyName returns all names in expressions.
func everyName() (names []string) {
	names = namesIn(reflect.TypeFor[Facts]())
	for _, t := range objects {
		names = append(names, namesIn(t)...)
	}
	return names
}

// typeNamed returns the Go type of an object type.
func typeNamed(name string) (reflect.Type, bool) {
	name = strings.TrimPrefix(name, prefix)
	for _, t := range objects {
		if name == t.Name() {
			return t, true
		}
	}
	return nil, false
}

// isObject reports whether a Go type is one of the object types.
func isObject(t reflect.Type) bool {
	_, ok := fields()[t]
	return ok
}

// missing reports whether a value is that of a fact that is not known.
func missing(v reflect.Value) bool {
	switch v.Kind() {
	case reflect.Bool, reflect.Int:
		return false
	}
	return v.IsZero()
}
