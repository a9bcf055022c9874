package main

import (
	"github.com/colophon-build/colophon/internal/strict"
)

// didYouMean returns a hint with the known name that is closest to one that is not known,
// or "" if none is close.
func didYouMean(name string, known []string) string {
	if near := strict.Nearest(name, known); near != "" {
		return "did you mean " + near + "?"
	}
	return ""
}
