package source

import "strings"

// CheckCommit verifies the signature of a commit object, for package source_test.
func CheckCommit(raw []byte, s *Signers) (Signature, error) {
	obj := &object{id: strings.Repeat("12", 20), kind: "commit", headers: map[string]string{}}
	if err := obj.parse(raw); err != nil {
		return Signature{}, err
	}
	k, err := parseKeys(s.AllowedSigners, s.Keyring)
	k.certified = s.Certified
	return k.check(obj), err
}
