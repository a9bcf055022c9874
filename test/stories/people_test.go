package stories

import (
	"fmt"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"

	"github.com/colophon-build/colophon/test/harness"
)

// people are the stories of four people. The head of each lists the commands that it takes,
// and those of other tools for the same.
var people = []string{"developer", "sre", "operator", "jobs/team"}

// Each person needs at most as many commands as with the tools that people like. The lists
// are those of the stories, and docs/README.md has them.
func TestPeopleNeedFewCommands(t *testing.T) {
	pages, err := os.ReadFile(filepath.Join(harness.Root(t), "docs", "README.md"))
	if err != nil {
		t.Fatal(err)
	}
	program := regexp.MustCompile(`\b(colophond? [a-z]+( add| log)?|kill -HUP|kill)\b`)
	for _, name := range people {
		text, err := os.ReadFile(filepath.Join("testdata", name+".txtar"))
		if err != nil {
			t.Fatal(err)
		}
		list := func(whose string) []string {
			_, rest, ok := strings.Cut(string(text), "# "+whose+": ")
			if !ok {
				t.Fatalf("%s: no list of %s", name, whose)
			}
			line, _, _ := strings.Cut(rest, "\n")
			return strings.Split(line, ", ")
		}
		ours, theirs := list("ours"), list("theirs")
		if len(ours) > len(theirs) {
			t.Errorf("%s: %d commands, and %d with other tools", name, len(ours), len(theirs))
		}
		_, story, ok := strings.Cut(string(text), "# The story.\n")
		story, _, _ = strings.Cut(story, "\n# After")
		story, _, _ = strings.Cut(story, "\n-- ")
		var used []string
		for line := range strings.Lines(story) {
			if strings.HasPrefix(line, "exec ") || strings.HasPrefix(line, "exits ") {
				used = append(used, program.FindAllString(line, -1)...)
			}
		}
		if !ok || !slices.Equal(used, ours) {
			t.Errorf("%s: the story uses %q, and its head lists %q", name, used, ours)
		}
		row := fmt.Sprintf("| %d: `%s` | %d: `%s` |", len(ours), strings.Join(ours, "`, `"), len(theirs), strings.Join(theirs, "`, `"))
		if !strings.Contains(string(pages), row) {
			t.Errorf("docs/README.md does not have %s", row)
		}
	}
}
