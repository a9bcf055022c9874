package documents

import "testing"

func TestOneOf(t *testing.T) {
	for want, members := range map[string]map[string]bool{
		"": {"a": true, "b": false},
		"expected exactly one of a, b, found none":    {"b": false, "a": false},
		"expected exactly one of a, b, found a and b": {"b": true, "a": true},
	} {
		got := ""
		if err := OneOf(members); err != nil {
			got = err.Error()
		}
		if got != want {
			t.Errorf("%v: got %q, want %q", members, got, want)
		}
	}
}
