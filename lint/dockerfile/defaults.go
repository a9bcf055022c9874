package dockerfile

import (
	"strings"

	"github.com/colophon-build/colophon/internal/lazyregexp"
	"github.com/colophon-build/colophon/lint/finding"
)

// defaults says where the default of an ARG can get a digest: where it ends the name of an image, and
// is used for nothing else.
type defaults struct {
	file  *finding.File
	ends  map[string]int // offset behind the default of each ARG before the first FROM; -1: not as it is
	bases map[string]int // number of FROM with each name, with variables
	words map[string]int // number of each identifier in the file
}

// defaultOf notes the default of an ARG before the first FROM.
func (d *document) defaultOf(in *instruction, key, value string) {
	_, end, ok := d.find(in, in.start, key+"="+value, "")
	if n := len(value); n > 2 && (value[0] == '"' || value[0] == '\'') && value[n-1] == value[0] {
		value, end = value[1:n-1], end-1
	}
	if _, twice := d.defaults.ends[key]; twice || !ok || value == "" || strings.ContainsAny(value, "$@'\"\\` \t") {
		end = -1
	}
	d.defaults.ends[key] = end
}

var lastVariable = lazyregexp.New(`\$(?:([A-Za-z_][A-Za-z0-9_]*)|\{([A-Za-z_][A-Za-z0-9_]*)\})$`)

// end returns the offset of the file at which a digest gets into all images that FROM names by a word
// with variables, and into nothing else; -1: there is none.
func (u *defaults) end(word string) int {
	m := lastVariable.FindStringSubmatch(word)
	if m == nil {
		return -1
	}
	name := m[1] + m[2]
	end, ok := u.ends[name]
	if u.words == nil {
		u.words = map[string]int{}
		for _, w := range strings.FieldsFunc(string(u.file.Data), func(r rune) bool { return !isIdentifier(r) }) {
			u.words[w]++
		}
	}
	if !ok || u.words[name] != 1+u.bases[word] {
		return -1
	}
	return end
}

func isIdentifier(r rune) bool {
	return r == '_' || r >= '0' && r <= '9' || r >= 'A' && r <= 'Z' || r >= 'a' && r <= 'z'
}
