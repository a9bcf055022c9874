// Package memory stands in for github.com/go-git/go-git/v5/storage/memory.
package memory

// Storage would keep the objects of a repository.
type Storage struct{}

// NewStorage returns an empty Storage.
func NewStorage() *Storage { return &Storage{} }
