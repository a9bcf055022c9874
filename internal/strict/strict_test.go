package strict

import (
	"bytes"
	"encoding/json"
	"errors"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"reflect"
	"strings"
	"testing"

	jsonx "github.com/go-json-experiment/json"
	"github.com/go-json-experiment/json/jsontext"

	"github.com/colophon-build/colophon/internal/limits"
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
		"another case":      {`{"NAME":"b"}`, false},
		"two cases":         {`{"name":"a","Name":"b"}`, false},
		"two cases, equal":  {`{"name":"a","Name":"a"}`, false},
		"Unicode's case":    {`{"name":"a","\u004eame":"b"}`, false},
		"cases, unknown":    {`{"name":"a","more":{"x":1,"X":2}}`, true},
		"too deep":          {`{"more":` + strings.Repeat("[", 100) + strings.Repeat("]", 100) + `}`, false},
		"too large":         {`{"name":"` + strings.Repeat("a", 2000) + `"}`, false},
	} {
		var d doc
		if err := Unmarshal([]byte(test.data), 1000, &d); (err == nil) != test.ok {
			t.Errorf("%s: got error %v, want ok %v", what, err, test.ok)
		}
	}
	var d doc
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

// byToken reads data the slow way, token by token.
func byToken(data []byte) error {
	dec := jsontext.NewDecoder(bytes.NewReader(data))
	for values := 0; ; {
		if _, err := dec.ReadToken(); err == io.EOF && values == 1 {
			return nil
		} else if err != nil {
			return err
		}
		if dec.StackDepth() > limits.JSONDepth {
			return errors.New("too deep")
		}
		if dec.StackDepth() == 0 {
			values++
		}
	}
}

// FuzzUnmarshal: whatever is decoded into, nothing passes that a reader of
// every single token would refuse, be it in what is skipped or kept raw.
func FuzzUnmarshal(f *testing.F) {
	for _, seed := range []string{
		`{"a":[1,{"b":null}]}`, `{"a":1,"a":2}`, `{"raw":{"x":1,"x":2}}`, `{"skipped":{"x":1,"x":2}}`, `{"raw":"\\\"]"}`, `{"skipped":"\ud800"}`,
		`{"raw":` + strings.Repeat("[", limits.JSONDepth) + strings.Repeat("]", limits.JSONDepth) + `}`,
		`{"raw":` + strings.Repeat("[", limits.JSONDepth-1) + strings.Repeat("]", limits.JSONDepth-1) + `}`,
	} {
		f.Add([]byte(seed))
	}
	f.Fuzz(func(t *testing.T, data []byte) {
		var whole json.RawMessage // any would refuse numbers that no float64 holds
		var parts struct {
			Raw json.RawMessage `json:"raw"`
		}
		want := byToken(data)
		if err := Unmarshal(data, 1<<16, &whole); (err == nil) != (want == nil) && len(data) <= 1<<16 {
			t.Errorf("got %v, token by token %v", err, want)
		}
		if err := Unmarshal(data, 1<<16, &parts); err == nil && want != nil {
			t.Errorf("taken in parts, and token by token %v", want)
		}
	})
}

func TestReadFile(t *testing.T) {
	path := filepath.Join(t.TempDir(), "f")
	if _, err := ReadFile(path, 3); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("no file: got %v, want fs.ErrNotExist", err)
	}
	if err := os.WriteFile(path, []byte("abc"), 0o600); err != nil {
		t.Fatal(err)
	}
	if data, err := ReadFile(path, 3); err != nil || string(data) != "abc" {
		t.Errorf("got %q, %v", data, err)
	}
	if data, err := ReadFile(path, 2); err == nil || data != nil || !strings.Contains(err.Error(), path) {
		t.Errorf("too large: got %q, %v, want an error that names the file", data, err)
	}
}

// The quick look at names finds whatever a second decoding would find.
func FuzzCase(f *testing.F) {
	for _, s := range []string{`{"name":"a"}`, `{"NAME":"b"}`, `{"more":{"Name":1}}`, `{"inner":[{"oTher_":1}]}`, `{"na\u006de":"x"}`, `{"n-ame" : 1}`, `{"\u017fide":1}`, `["Name"]`} {
		f.Add(s)
	}
	type doc struct {
		Name  string `json:"name"`
		Inner []struct {
			Other any `json:"other_"`
		} `json:"inner"`
		Side map[string]*struct{ Field int } `json:"side"`
	}
	f.Fuzz(func(t *testing.T, s string) {
		var v, again doc
		if jsonx.Unmarshal([]byte(s), &v) != nil {
			return
		}
		err := jsonx.Unmarshal([]byte(s), &again, jsonx.MatchCaseInsensitiveNames(true))
		if (err != nil || !reflect.DeepEqual(v, again)) && !differInCase([]byte(s), namesOf(reflect.TypeFor[doc]())) {
			t.Errorf("%s: not found", s)
		}
	})
}
