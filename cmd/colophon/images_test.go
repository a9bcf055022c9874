package main

import (
	"strings"
	"testing"

	"github.com/colophon-build/colophon/internal/limits"
)

const sixtyFour = "0123456789abcdef0123456789abcdef0123456789abcdef0123456789abcdef"

func TestImagesAreBounded(t *testing.T) {
	var ts targets
	if err := ts.file(stdin, strings.NewReader(strings.Repeat("#\n", limits.ImageList))); err == nil || !strings.Contains(err.Error(), "more than") {
		t.Errorf("got %v, want an error", err)
	}
	for _, empty := range []string{"", "# nothing\n", `{"apiVersion":"v1","kind":"List","items":[]}`, "---\n"} {
		if err := ts.file(stdin, strings.NewReader(empty)); err == nil || !strings.Contains(err.Error(), "names no image") {
			t.Errorf("%q: got %v, want an error", empty, err)
		}
	}
}
