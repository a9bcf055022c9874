// Package storage stands in for github.com/go-git/go-git/v5/storage.
package storage

// Storer would keep the objects of a repository.
type Storer any
