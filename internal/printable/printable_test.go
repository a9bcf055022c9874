package printable

import (
	"strings"
	"testing"
	"unicode/utf8"
)

func TestText(t *testing.T) {
	for _, c := range []struct{ in, text, line string }{
		{"", "", ""},
		{"plain text, größer 日本 ✓ 🙂", "plain text, größer 日本 ✓ 🙂", "plain text, größer 日本 ✓ 🙂"},
		{"a\tb", "a\tb", "a\tb"},
		{"one\ntwo", "one�two", "one; two"},
		{"one\r\ntwo\r\n", "one��two��", "one; two"},
		{"\n\none\n\n\ntwo", "��one���two", "one; two"},
		{"  set in ", "  set in ", "set in"},
		{"over\rwritten", "over�written", "over; written"},
		{"\x1b[2J\x1b]0;title\x07", "�[2J�]0;title�", "�[2J�]0;title�"}, // ECMA-48, XTerm
		{"\u009b31m", "�31m", "�31m"},                                   // CSI in one character
		{"back\x08\x7f", "back��", "back��"},                            // over what was written
		{"\u202eevil\u2066", "�evil�", "�evil�"},                        // the writing direction
		{"zero\u200bwidth\ufeff", "zero�width�", "zero�width�"},         // not shown
		{"\u2028\u2029", "��", "��"},                                    // line breaks to some
		{"no\u00a0break\u3000wide", "no break wide", "no break wide"},   // spaces
		{"not UTF-8: \xff\xc3", "not UTF-8: ��", "not UTF-8: ��"},       //
		{"\ue000\U000f0000\U0010ffff", "���", "���"},                    // private, and no character
		{"tag\U000e0041", "tag�", "tag�"},                               // tags
		{"cut at NUL\x00accepted", "cut at NUL�accepted", "cut at NUL�accepted"},
	} {
		if got := Text(c.in); got != c.text {
			t.Errorf("Text(%q): got %q, want %q", c.in, got, c.text)
		}
		if got := Line(c.in); got != c.line {
			t.Errorf("Line(%q): got %q, want %q", c.in, got, c.line)
		}
	}
}

func TestCut(t *testing.T) {
	for _, c := range []struct {
		in   string
		max  int
		want string
	}{
		{"", 0, ""},
		{"abc", 3, "abc"},
		{"abcd", 3, "abc …"},
		{"日本", 6, "日本"},
		{"日本", 5, "日 …"},
		{"日本", 4, "日 …"},
		{"日本", 3, "日 …"},
		{"日本", 2, " …"},
		{"🙂", 3, " …"},
		{"\xff\xff\xff", 2, "\xff\xff …"}, // bytes stay as they are
		{strings.Repeat("\x80", 9), 8, strings.Repeat("\x80", 4) + " …"},
	} {
		if got := Cut(c.in, c.max); got != c.want {
			t.Errorf("Cut(%q, %d): got %q, want %q", c.in, c.max, got, c.want)
		}
	}
}

func TestIs(t *testing.T) {
	for s, want := range map[string]struct{ ascii, field bool }{
		"":                   {true, true},
		"GET /a?b=c d~":      {true, true},
		"größer":             {false, true},
		"a\tb":               {false, false},
		"a\r\nSet-Cookie: b": {false, false},
		"\x00":               {false, false},
		"\x7f":               {false, false},
		"\x1b[2J":            {false, false},
		"\xff":               {false, false},
	} {
		if got := IsASCII(s); got != want.ascii {
			t.Errorf("IsASCII(%q): got %v, want %v", s, got, want.ascii)
		}
		if got := IsField(s); got != want.field {
			t.Errorf("IsField(%q): got %v, want %v", s, got, want.field)
		}
	}
}

func FuzzText(f *testing.F) {
	f.Add("a\x1b[2J\nb")
	f.Fuzz(func(t *testing.T, s string) {
		for _, got := range []string{Text(s), Line(s)} {
			if !utf8.ValidString(got) || strings.ContainsAny(got, "\x00\a\b\n\v\f\r\x1b\x7f\u0085\u009b\u2028\u202e") || Text(got) != got {
				t.Errorf("%q: got %q", s, got)
			}
		}
		if got := Cut(s, 10); len(got) > 10+len(" …") || len(s) <= 10 && got != s {
			t.Errorf("Cut(%q): got %q", s, got)
		}
	})
}

func TestMarkdown(t *testing.T) {
	for in, want := range map[string]string{
		"":                                  "",
		"1. https://www.example.com/ # <b>": "&#8203;1. https&#58;//www&#46;example.com/ # &lt;b>",
		"@all [a](x) `b` *c* |":             "&#64;all \\[a\\](x) \\`b\\` \\*c\\* \\|",
		"a\nb":                              "a; b",
		"&lt;":                              "&amp;lt;",
	} {
		if got := Markdown(in); got != want {
			t.Errorf("%q: got %q, want %q", in, got, want)
		}
	}
}

// TestHead: a program that says a lot costs no memory, and its text does not fail.
func TestHead(t *testing.T) {
	h := &Head{Max: 8}
	for _, text := range []string{" four", "five and more", "nothing of it"} {
		if n, err := h.Write([]byte(text)); n != len(text) || err != nil {
			t.Errorf("%q: got %d bytes and %v, want all", text, n, err)
		}
	}
	if got := h.String(); got != "fourfiv" {
		t.Errorf("got %q, want the first 8 bytes without the space", got)
	}
}

func TestCount(t *testing.T) {
	for n, want := range []string{"0 files", "1 file", "2 files"} {
		if got := Count(n, "file"); got != want {
			t.Errorf("got %q, want %q", got, want)
		}
	}
}
