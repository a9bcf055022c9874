// Package plumbing stands in for github.com/go-git/go-git/v5/plumbing.
package plumbing

// ReferenceName would name a branch or a tag.
type ReferenceName string

// Revision would name a commit.
type Revision string

// Hash would be the hash of an object.
type Hash string

// NewTagReferenceName returns the full name of a tag.
func NewTagReferenceName(name string) ReferenceName { return ReferenceName("refs/tags/" + name) }

// NewHash returns the hash that s writes.
func NewHash(s string) Hash { return Hash(s) }

func (h Hash) String() string { return string(h) }
