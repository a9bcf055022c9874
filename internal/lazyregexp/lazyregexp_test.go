package lazyregexp

import (
	"reflect"
	"regexp"
	"testing"
)

func TestRegexp(t *testing.T) {
	defer func(was bool) { inTest = was }(inTest)
	inTest = false
	if New("(") == nil {
		t.Error("got no expression, want one that is compiled later")
	}
	const expr, text = `([a-z])([0-9])?`, "a1 b2 c"
	r, want := New(expr), regexp.MustCompile(expr)
	same := func(a, b any) {
		t.Helper()
		if !reflect.DeepEqual(a, b) {
			t.Errorf("got %v, want %v", a, b)
		}
	}
	twice := func(s string) string { return s + s }
	same(r.String(), want.String())
	same(r.MatchString(text), want.MatchString(text))
	same(r.Match([]byte(text)), want.Match([]byte(text)))
	same(r.FindString(text), want.FindString(text))
	same(r.FindStringSubmatch(text), want.FindStringSubmatch(text))
	same(r.FindStringSubmatchIndex(text), want.FindStringSubmatchIndex(text))
	same(r.FindAllIndex([]byte(text), 2), want.FindAllIndex([]byte(text), 2))
	same(r.FindAllStringIndex(text, -1), want.FindAllStringIndex(text, -1))
	same(r.FindAllStringSubmatch(text, -1), want.FindAllStringSubmatch(text, -1))
	same(r.FindAllStringSubmatchIndex(text, -1), want.FindAllStringSubmatchIndex(text, -1))
	same(r.ReplaceAllString(text, "$2$1"), want.ReplaceAllString(text, "$2$1"))
	same(r.ReplaceAllStringFunc(text, twice), want.ReplaceAllStringFunc(text, twice))
}

// TestWrong wants a wrong expression to fail the tests of its package, not the run that uses it.
func TestWrong(t *testing.T) {
	defer func() {
		if recover() == nil {
			t.Error("got an expression, want a panic")
		}
	}()
	New("(")
}
