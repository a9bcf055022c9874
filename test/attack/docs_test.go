package attack

import (
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"

	"github.com/colophon-build/colophon/test/harness"
)

// TestThreatsNameAttacks: docs/threats.md names exactly the attacks of this package.
func TestThreatsNameAttacks(t *testing.T) {
	text, err := os.ReadFile(filepath.Join(harness.Root(t), "docs", "threats.md"))
	if err != nil {
		t.Fatal(err)
	}
	known, named := map[string]bool{}, map[string]bool{}
	for _, a := range attacks {
		if known[a.name] {
			t.Errorf("two attacks have the name %s", a.name)
		}
		known[a.name] = true
	}
	for _, list := range regexp.MustCompile(`attack: ([a-z]+(?:-[a-z]+)*(?:, [a-z]+(?:-[a-z]+)*)*)`).FindAllSubmatch(text, -1) {
		for name := range strings.SplitSeq(string(list[1]), ", ") {
			if named[name] = true; !known[name] {
				t.Errorf("docs/threats.md names %s, which is not an attack", name)
			}
		}
	}
	for name := range known {
		if !named[name] {
			t.Errorf("docs/threats.md does not name %s", name)
		}
	}
}
