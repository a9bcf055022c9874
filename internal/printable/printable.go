// Package printable makes text from outside safe to print on a terminal. Text of a
// registry, a repository, a build or a platform must not control the terminal or look
// like a line of ours.
package printable

import (
	"strconv"
	"strings"
	"unicode"
	"unicode/utf8"
)

// Text returns s with U+FFFD in place of every character that a terminal obeys or does not
// show: control and formatting characters (escape sequences, changes of the writing
// direction), line breaks, and bytes that are not UTF-8. Tabs stay; other kinds of space
// become ' '.
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

// Line returns Text of s on one line: line breaks become "; ".
func Line(s string) string {
	if IsASCII(s) {
		return strings.Trim(s, " ") // most lines
	}
	lines := strings.FieldsFunc(s, func(r rune) bool { return r == '\n' || r == '\r' })
	return strings.TrimSpace(Text(strings.Join(lines, "; ")))
}

// unmarked replaces what means something in the middle of a line of Markdown, with GitHub's
// extensions.
var unmarked = strings.NewReplacer(
	"\\", "\\\\", "`", "\\`", "*", "\\*", "_", "\\_", "[", "\\[", "]", "\\]", "!", "\\!", "~", "\\~", "|", "\\|", "$", "\\$",
	"<", "&lt;", "&", "&amp;", "@", "&#64;", "://", "&#58;//", "www.", "www&#46;")

// Markdown returns Line of s for a line of Markdown. It becomes no markup, no HTML, no link, and
// mentions nobody.
func Markdown(s string) string {
	s = unmarked.Replace(Line(s))
	if s != "" && strings.ContainsRune("#+->=:1234567890", rune(s[0])) {
		return "&#8203;" + s // nor the start of a list, a heading or a quotation
	}
	return s
}

// Count returns a number with its noun, which is given for one: "1 file", "2 files".
func Count(n int, noun string) string {
	if n == 1 {
		return "1 " + noun
	}
	return strconv.Itoa(n) + " " + noun + "s"
}

// Cut returns s if it has at most max bytes, else at most its first max bytes and " …". It
// does not split characters.
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

// Head keeps the first Max bytes that are written to it, such as what a program says before it
// fails. Its text is from outside.
type Head struct {
	Max  int
	text strings.Builder
}

// Write implements io.Writer. It never fails.
func (h *Head) Write(p []byte) (int, error) {
	h.text.Write(p[:min(len(p), h.Max-h.text.Len())])
	return len(p), nil
}

// String returns what h kept, without the white space around it.
func (h *Head) String() string { return strings.TrimSpace(h.text.String()) }

// IsASCII reports whether s consists of printable ASCII characters, including spaces.
func IsASCII(s string) bool {
	return strings.IndexFunc(s, func(r rune) bool { return r < ' ' || r > '~' }) < 0
}

// IsField reports whether s is UTF-8 without the control characters that RFC 9110, section
// 5.5, forbids in header fields. It refuses tabs too.
func IsField(s string) bool {
	return utf8.ValidString(s) && strings.IndexFunc(s, func(r rune) bool { return r < ' ' || r == 0x7f }) < 0
}

// ShellWord returns s as one word of a POSIX shell, quoted if it needs that.
func ShellWord(s string) string {
	const plain = "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789-_./:@+=,%"
	if s != "" && strings.Trim(s, plain) == "" {
		return s
	}
	return "'" + strings.ReplaceAll(s, "'", `'\''`) + "'"
}
