package dockerfile

import (
	"bytes"
	"path"
	"slices"

	"github.com/moby/buildkit/frontend/dockerfile/instructions"
	"github.com/moby/buildkit/frontend/dockerfile/parser"

	"github.com/colophon-build/colophon/lint/finding"
)

// Whole is an instruction that puts all files of the build context into the image.
type Whole struct {
	Position finding.Position
	First    int      // first line of the instruction
	Text     string   // COPY . or ADD .
	Excluded []string // patterns of --exclude
}

// WholeContext returns the instructions of a Dockerfile that put the whole context into the image that is
// the result: those of the last stage, and of the stages that it begins from.
func WholeContext(f *finding.File) (out []Whole) {
	result, err := parser.Parse(bytes.NewReader(f.Data))
	if err != nil {
		return nil // Check says so
	}
	d := newDocument(f)
	d.escape = result.EscapeToken
	for _, n := range result.AST.Children {
		d.read(n)
	}
	if len(d.stages) == 0 {
		return nil
	}
	seen := []*stage{}
	for s := d.stages[len(d.stages)-1]; s != nil && !slices.Contains(seen, s); s = s.local {
		seen = append(seen, s)
		for _, in := range s.all {
			var sources, excluded []string
			switch p := in.parsed.(type) {
			case *instructions.CopyCommand:
				if p.From == "" {
					sources, excluded = p.SourcePaths, p.ExcludePatterns
				}
			case *instructions.AddCommand:
				sources, excluded = p.SourcePaths, p.ExcludePatterns
			}
			for _, source := range sources {
				if clean := path.Clean("/" + source); clean == "/" || clean == "/*" {
					out = append(out, Whole{Position: f.Position(in.start, in.start+len(f.Line(in.StartLine))), First: in.StartLine, Text: in.Value + " " + source, Excluded: excluded})
				}
			}
		}
	}
	return out
}

// Secret reports whether a file at a path of a tree holds secrets, as far as its name tells, and its
// content if that is all settings of a package manager. t may be nil: only the name is known.
func Secret(t *finding.Tree, name string) bool {
	base := path.Base(name)
	return (secretFiles.MatchString(base) || secretDirs.MatchString(name)) && !notSecret.MatchString(base) && !withoutCredential(t, name)
}
