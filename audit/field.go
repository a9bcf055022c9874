package audit

import (
	"crypto/rand"
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"iter"
	"slices"

	"github.com/colophon-build/colophon/internal/printable"
)

// Names of the fields that can be hidden.
const (
	FieldUser      = "user"      // By.User
	FieldImage     = "image"     // About.Image
	FieldNamespace = "namespace" // Where.Namespace
	FieldName      = "name"      // Where.Name
	FieldReason    = "reason"    // Reason
)

// Fields returns the names of all fields that can be hidden.
func Fields() []string {
	return []string{FieldUser, FieldImage, FieldNamespace, FieldName, FieldReason}
}

// Private returns the names of the fields that are hidden unless a configuration says otherwise:
// those that name persons. A reason may name whose certificate was found.
func Private() []string { return []string{FieldUser, FieldReason} }

// fields are the fields of a record that can be hidden, by name.
func (r *Record) fields() iter.Seq2[string, *Field] {
	all := []*Field{&r.By.User, &r.About.Image, &r.Where.Namespace, &r.Where.Name, &r.Reason}
	return func(yield func(string, *Field) bool) {
		for i, name := range Fields() {
			if !yield(name, all[i]) {
				return
			}
		}
	}
}

// saltSize is the size of a salt, in bytes. A fixed size: salt ‖ value can be split in one way only.
const saltSize = 32

// Opening shows what a Field commits to. Without it, nobody finds the value, not even by trying
// all values; and nobody finds another value for the same Field.
type Opening struct {
	Field string `json:"field"` // its name: see Fields
	Salt  []byte `json:"salt"`  // 32 bytes, random
	Value string `json:"value"`
}

// hide replaces the values of these fields by commitments, and returns the openings.
func (r *Record) hide(private []string) (openings []Opening) {
	for name, f := range r.fields() {
		if f.Value == "" || !slices.Contains(private, name) {
			continue
		}
		o := Opening{Field: name, Salt: make([]byte, saltSize), Value: f.Value}
		_, _ = rand.Read(o.Salt) // never fails
		*f = Field{Hidden: o.commitment()}
		openings = append(openings, o)
	}
	return openings
}

func (o Opening) commitment() string {
	h := sha256.New()
	h.Write(o.Salt)
	h.Write([]byte(o.Value))
	return hex.EncodeToString(h.Sum(nil))
}

// Open returns the record with the values that the openings show. It fails if an opening is not
// one of the record's.
func (r Record) Open(openings []Opening) (*Record, error) {
	for _, o := range openings {
		if err := r.open(o); err != nil {
			return nil, err
		}
	}
	return &r, nil
}

func (r *Record) open(o Opening) error {
	for name, f := range r.fields() {
		if name != o.Field {
			continue
		}
		if len(o.Salt) != saltSize || len(o.Value) > MaxText || f.Hidden != o.commitment() {
			return fmt.Errorf("opening of %s: it is not what the record commits to", name)
		}
		*f = Shown(o.Value)
		return nil
	}
	return fmt.Errorf("opening: there is no field %q", printable.Line(o.Field))
}

// Hidden returns the names of the fields that the record only commits to.
func (r *Record) Hidden() (names []string) {
	for name, f := range r.fields() {
		if f.Hidden != "" {
			names = append(names, name)
		}
	}
	return names
}
