// Package printable makes text from outside fit for a person's terminal: what a
// registry, a repository, a build or a platform says can neither steer the
// terminal nor look like a line that we wrote.
package printable

import (
	"strings"
	"unicode"
	"unicode/utf8"
)

// Text is s with every character replaced by U+FFFD that a terminal would obey or
// not show: control and formatting characters (escape sequences, changes of the
// writing direction), line breaks, and bytes that are not UTF-8. Tabs stay, and
// other spaces than ' ' become one.
func Text(s string) string {
	return strings.Map(func(r rune) rune {
		switch {
		case r == '\t' || unicode.IsPrint(r):
			return r
		case unicode.Is(unicode.Zs, r):
			return ' '
		}
		return utf8.RuneError
	}, s)
}

// Line is Text of s on one line: line breaks become "; ".
func Line(s string) string {
	lines := strings.FieldsFunc(s, func(r rune) bool { return r == '\n' || r == '\r' })
	return strings.TrimSpace(Text(strings.Join(lines, "; ")))
}

// Cut is s where it has at most max bytes, else its beginning, followed by " …".
// No character is cut in two.
func Cut(s string, max int) string {
	if len(s) <= max {
		return s
	}
	end := max
	for end > 0 && max-end < utf8.UTFMax && !utf8.RuneStart(s[end]) {
		end--
	}
	return s[:end] + " …"
}

// IsASCII reports whether s is printable ASCII alone, with spaces.
func IsASCII(s string) bool {
	return strings.IndexFunc(s, func(r rune) bool { return r < ' ' || r > '~' }) < 0
}

// IsField reports whether s is UTF-8 without the control characters that no
// header field may have (RFC 9110, 5.5); tabs are not accepted either.
func IsField(s string) bool {
	return utf8.ValidString(s) && strings.IndexFunc(s, func(r rune) bool { return r < ' ' || r == 0x7f }) < 0
}
