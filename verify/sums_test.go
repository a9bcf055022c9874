package verify

import (
	"fmt"
	"strings"
	"testing"
)

// TestLongListOfFiles: a list of more files than it may have is refused, not cut.
func TestLongListOfFiles(t *testing.T) {
	var list strings.Builder
	for i := range 10_001 {
		fmt.Fprintf(&list, "%064x  file-%d\n", i, i)
	}
	for n, want := range map[int]string{10_000: "", 10_001: "more than 10000"} {
		_, err := parseSums([]byte(strings.Join(strings.SplitAfter(list.String(), "\n")[:n], "")))
		if (err == nil) != (want == "") || err != nil && !strings.Contains(err.Error(), want) {
			t.Errorf("%d files: got %v, want %q", n, err, want)
		}
	}
}
