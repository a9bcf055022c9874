package script

import "github.com/colophon-build/colophon/lint/finding"

// CheckAt returns what breaks the rules in a script that stands in a file from an offset on. Both
// have the same length; the script may have blanks where the file has something else.
func CheckAt(f *finding.File, base int, src string) []finding.Finding {
	var out []finding.Finding
	for _, p := range find(src) {
		found := finding.Finding{Rule: p.rule, Position: f.Position(base+p.start, base+p.end), Message: p.message, Mend: p.mend}
		for _, e := range p.edits {
			found.Edits = append(found.Edits, f.Replace(base+e.start, base+e.end, e.text))
		}
		out = append(out, found)
	}
	return out
}
