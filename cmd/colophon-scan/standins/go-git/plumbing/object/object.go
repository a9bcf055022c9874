// Package object stands in for github.com/go-git/go-git/v5/plumbing/object.
package object

import "errors"

var errNone = errors.New("this program reads no git repositories")

type (
	Commit struct{} // Commit would be a commit.
	Tree   struct{} // Tree would be a directory of a commit.
	File   struct{} // File would be a file of a commit.
)

// Tree returns an error.
func (*Commit) Tree() (*Tree, error) { return nil, errNone }

// File returns an error.
func (*Tree) File(string) (*File, error) { return nil, errNone }

// Contents returns an error.
func (*File) Contents() (string, error) { return "", errNone }
