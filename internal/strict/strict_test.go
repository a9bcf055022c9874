package strict

import (
	"strings"
	"testing"
)

func TestUnmarshal(t *testing.T) {
	type doc struct {
		Name string `json:"name"`
	}
	for what, test := range map[string]struct {
		data string
		ok   bool
	}{
		"plain":             {`{"name":"a"}`, true},
		"a member too much": {`{"name":"a","more":1}`, true},
		"duplicate":         {`{"name":"a","name":"b"}`, false},
		"duplicate, deep":   {`{"more":{"x":1,"x":2},"name":"a"}`, false},
		"trailing data":     {`{"name":"a"} {}`, false},
		"trailing space":    {"{\"name\":\"a\"}\n", true},
		"empty":             {``, false},
		"cut short":         {`{"name":"a"`, false},
		"not UTF-8":         {"{\"name\":\"\xff\"}", false},
		"wrong type":        {`{"name":1}`, false},
		"too deep":          {`{"more":` + strings.Repeat("[", 100) + strings.Repeat("]", 100) + `}`, false},
		"too large":         {`{"name":"` + strings.Repeat("a", 2000) + `"}`, false},
	} {
		var d doc
		if err := Unmarshal([]byte(test.data), 1000, &d); (err == nil) != test.ok {
			t.Errorf("%s: got error %v, want ok %v", what, err, test.ok)
		}
	}
	// Another spelling is another member: two readers must not differ on it.
	var d doc
	if err := Unmarshal([]byte(`{"NAME":"b"}`), 1000, &d); err != nil || d.Name != "" {
		t.Errorf("NAME: got %q, %v, want nothing", d.Name, err)
	}
	if err := UnmarshalKnown([]byte(`{"name":"a","more":1}`), 1000, &d); err == nil {
		t.Error("UnmarshalKnown took an unknown member")
	}
}

func TestRead(t *testing.T) {
	if got, err := Read(strings.NewReader("abc"), 3); err != nil || string(got) != "abc" {
		t.Errorf("got %q, %v, want all three bytes", got, err)
	}
	if got, err := Read(strings.NewReader("abcd"), 3); err == nil {
		t.Errorf("got %q, want an error for a byte too many", got)
	}
}

func FuzzUnmarshal(f *testing.F) {
	f.Add([]byte(`{"a":[1,{"b":null}]}`))
	f.Add([]byte(`{"a":1,"a":2}`))
	f.Fuzz(func(t *testing.T, data []byte) {
		var v any
		if err := Unmarshal(data, 1<<16, &v); err == nil && len(data) == 0 {
			t.Error("nothing was taken for a value")
		}
	})
}
