package recipes

import (
	"reflect"
	"strings"
	"testing"
)

// TestIgnores: what "colophon lint" is to ignore, with or without images.
func TestIgnores(t *testing.T) {
	const text = "version: 1\nlint:\n  ignore:\n    - rule: a/b\n      path: examples/**\n      reason: made to be bad\n    - {rule: c, path: x, reason: y}\n"
	want := []Ignore{{"a/b", "examples/**", "made to be bad", 4}, {"c", "x", "y", 7}}
	for _, text := range []string{text, text + "images: [{name: app}]\n"} {
		if got, err := Ignores([]byte(text)); err != nil || !reflect.DeepEqual(got, want) {
			t.Errorf("got %+v, %v, want %+v", got, err, want)
		}
	}
	if got, err := Ignores([]byte("version: 1\nimages: [{name: app}]\n")); err != nil || got != nil {
		t.Errorf("got %+v, %v, want none", got, err)
	}
	if images, err := parse([]byte(text)); err != nil || len(images) != 0 {
		t.Errorf("got %+v, %v, want no images", images, err)
	}
}

// TestIgnoresRefused: a wish to ignore has a rule, a place in the repository and a reason.
func TestIgnoresRefused(t *testing.T) {
	for what, items := range map[string]string{
		"nothing":        "",
		"no rule":        "{path: a, reason: r}",
		"no path":        "{rule: a, reason: r}",
		"no reason":      "{rule: a, path: a}",
		"a blank reason": "{rule: a, path: a, reason: ' '}",
		"outside":        "{rule: a, path: ../a, reason: r}",
		"absolute":       "{rule: a, path: /a, reason: r}",
		"no glob":        "{rule: a, path: 'a[', reason: r}",
		"slow globs":     "{rule: a, path: '**/**/**/a', reason: r}",
		"unknown":        "{rule: a, path: a, reason: r, until: never}",
		"too many":       strings.Repeat("{rule: a, path: a, reason: r},", maxIgnore+1),
	} {
		if got, err := Ignores([]byte("version: 1\nlint: {ignore: [" + items + "]}\n")); err == nil {
			t.Errorf("%s: got %+v, want an error", what, got)
		}
	}
	if _, err := Ignores([]byte("version: 1\nlint: {ignore: [" + strings.Repeat("{rule: a, path: a, reason: r},", maxIgnore) + "]}\n")); err != nil {
		t.Errorf("got %v of %d", err, maxIgnore)
	}
}
