package policy

import (
	"errors"
	"fmt"
)

// Absent demands that the image has no such attestation: none of the PredicateType whose
// signature a trust root verifies, and that meets the other fields. Attestations by strangers,
// and unsigned ones, do not count: everybody who may push can write them. The demand is met
// only if everything attached to the image was listed and read.
type Absent struct {
	PredicateType string         // URI, compared whole; required
	Signer        Signer         // only what it signed counts; nil: what anybody signed whom a trust root vouches for
	Equals        map[string]any // only predicates that have all of these values count, as in Attestation; empty: all
}

func (a Absent) check() error {
	if err := Attestation(a).check(); err != nil {
		return fmt.Errorf("%w, in what must be absent", err)
	}
	return nil
}

// Match reports whether the predicate, JSON, is of an attestation that must be absent. It
// fails if that cannot be read from it. A value that is missing equals nothing, and a number
// equals another however it is written: whoever signs chooses whether 9 is written as 9.0.
func (a Absent) Match(predicate []byte) (bool, error) {
	for pointer, want := range a.Equals {
		err := equals(predicate, pointer, want, mayBeSame)
		if _, differs := errors.AsType[*valueError](err); differs {
			return false, nil
		}
		if err != nil {
			return false, err
		}
	}
	return true, nil
}
