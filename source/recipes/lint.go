package recipes

import (
	"fmt"
	"path"
	"strings"

	"go.yaml.in/yaml/v3"
)

// lint says what "colophon lint" is to do with this repository.
type lint struct {
	Ignore []ignore `yaml:"ignore"`
}

// ignore is a rule whose findings do not count in some files.
type ignore struct {
	Rule   string `yaml:"rule"`   // id
	Path   string `yaml:"path"`   // glob: "*" and "?" within a name, "**" for any directories. One of a directory is about all below it
	Reason string `yaml:"reason"` // why the findings may stay
}

// Ignore says that the findings of a rule of "colophon lint" do not count in some files.
type Ignore struct {
	Rule   string // id of the rule; nothing here knows which there are
	Path   string // glob
	Reason string
	Line   int // in the file, from 1
}

// Ignores returns what a file says that "colophon lint" is to ignore. raw is the content of the file.
func Ignores(raw []byte) ([]Ignore, error) {
	d, node, err := decode(raw)
	if err != nil || d.Lint == nil {
		return nil, err
	}
	var all []Ignore
	items := member(member(node.Content[0], "lint"), "ignore").Content
	for n, i := range d.Lint.Ignore {
		all = append(all, Ignore{Rule: i.Rule, Path: i.Path, Reason: i.Reason, Line: items[n].Line})
	}
	return all, nil
}

// member returns a member of a mapping, which decode has found there.
func member(n *yaml.Node, name string) *yaml.Node {
	for i := 0; i+1 < len(n.Content); i += 2 {
		if n.Content[i].Value == name {
			return n.Content[i+1]
		}
	}
	return &yaml.Node{}
}

func (l *lint) check() error {
	if l == nil {
		return nil
	}
	if n := len(l.Ignore); n == 0 || n > maxIgnore {
		return fmt.Errorf("lint.ignore: got %d, want 1 to %d", n, maxIgnore)
	}
	for _, i := range l.Ignore {
		switch {
		case i.Rule == "":
			return fmt.Errorf("lint.ignore: got no rule, want the id of one")
		case strings.TrimSpace(i.Reason) == "":
			return fmt.Errorf("lint.ignore: got no reason for %s, want one", i.Rule)
		case i.Path == "" || path.Clean(i.Path) != i.Path || path.IsAbs(i.Path) || strings.HasPrefix(i.Path, ".."):
			return fmt.Errorf("lint.ignore: got path %q for %s, want one in the repository, such as examples/**", i.Path, i.Rule)
		}
		if _, err := path.Match(i.Path, ""); err != nil {
			return fmt.Errorf("lint.ignore: got path %q for %s, want a glob", i.Path, i.Rule)
		}
		if strings.Count(i.Path, "**") > 2 {
			return fmt.Errorf("lint.ignore: got path %q for %s, want at most two **", i.Path, i.Rule)
		}
	}
	return nil
}
