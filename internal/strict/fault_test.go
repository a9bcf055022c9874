package strict

import (
	"errors"
	"strings"
	"testing"
)

// part decodes itself, as policy.DocumentValue does.
type part struct{ exact string }

func (p *part) UnmarshalJSON(data []byte) error {
	var v struct {
		Pattern string `json:"pattern"`
	}
	if err := UnmarshalKnown(data, 1000, &v); err != nil {
		return err
	}
	if p.exact = v.Pattern; p.exact == "" {
		return errors.New("want a pattern")
	}
	return nil
}

type member struct {
	MinLevel int      `json:"minLevel"`
	Name     string   `json:"name"`
	List     []string `json:"list"`
}

type faulty struct {
	Source string            `json:"source"`
	In     *member           `json:"in"`
	All    []member          `json:"all"`
	By     map[string]member `json:"by"`
	U      uint8             `json:"u"`
	Part   *part             `json:"part"`
}

// TestFaultsNameThePlace: an error about a file says where, what, and what may be meant,
// without a word of the library.
func TestFaultsNameThePlace(t *testing.T) {
	for document, want := range map[string]string{
		"{\n \"sauce\": 1}":                      `FILE:2:2: there is no member "sauce"; did you mean "source"?`,
		"{\"in\": {\n  \"minlevl\": 2}}":         `FILE:2:3: there is no member "minlevl"; did you mean "minLevel"?`,
		`{"all": [{}, {"nam": 1}]}`:              `FILE:1:15: there is no member "nam"; did you mean "name"?`,
		`{"by":{"x":{"lst":[]}}}`:                `FILE:1:13: there is no member "lst"; did you mean "list"?`,
		`{"entitlements": 1}`:                    `FILE:1:2: there is no member "entitlements"`,
		`{"source": 3}`:                          `FILE:1:12: source: got a number, want a string`,
		"{\"source\":\"a\",\n\"source\":\"b\"}":  `FILE:2:1: duplicate member "source"`,
		`{"source": "a",}`:                       `FILE:1:15: it is not JSON here: ",}"`,
		`{"source"`:                              `FILE:1:10: it is not JSON here: it ends too early`,
		`{"u": 300}`:                             `u: got a number, want a number that fits`,
		`{"in":{"list":"x"}}`:                    `FILE:1:15: in.list: got a string, want an array`,
		"":                                       `FILE:1:1: it is not JSON here: it ends too early`,
		"[]":                                     `FILE:1:1: got an array, want an object`,
		"{} x":                                   `FILE:1:4: it is not JSON here: "x"`,
		"{\"source\": \"\xff\"}":                 `it is not UTF-8`,
		"{\n \"part\": {\n  \"patern\": \"x\"}}": `FILE:3:3: part: there is no member "patern"; did you mean "pattern"?`,
		`{"part": {}}`:                           `FILE:1:10: part: want a pattern`,
		"{" + strings.Repeat(`"in":{`, 100) + `}`: `FILE: got JSON nested deeper than`,
	} {
		err := UnmarshalKnown([]byte(document), 1000, new(faulty))
		if err == nil {
			t.Errorf("%q: got no error", document)
			continue
		}
		got := In("FILE", err).Error()
		if !strings.Contains(got, want) {
			t.Errorf("%q: got %s, want %s", document, got, want)
		}
		for _, library := range []string{"json:", "jsontext", "strict.", "object member", "Go "} {
			if strings.Contains(got, library) {
				t.Errorf("%q: got %s, want no words of the library", document, got)
			}
		}
	}
}
