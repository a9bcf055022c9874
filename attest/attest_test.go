package attest_test

import (
	"strings"
	"testing"

	"github.com/colophon-build/colophon/attest"
)

// A statement that NewStatement writes can be parsed again.
func TestNewStatement(t *testing.T) {
	digest := strings.Repeat("ab", 32)
	raw, err := attest.NewStatement("reg/app", digest, attest.PredicateSign, map[string]any{})
	if err != nil {
		t.Fatal(err)
	}
	s, err := attest.ParseStatement(raw)
	if err != nil || s.Subject[0].Digest["sha256"] != digest || s.PredicateType != attest.PredicateSign || string(s.Predicate) != "{}" {
		t.Errorf("got %+v, %v", s, err)
	}
}

func TestParseStatementRefuses(t *testing.T) {
	const subject = `"subject":[{"digest":{"sha256":"00"}}]`
	for _, tt := range []struct{ json, want string }{
		{`{"_type":"https://in-toto.io/Statement/v0.1",` + subject + `}`, `got "https://in-toto.io/Statement/v0.1"`},
		{`{"_type":"https://in-toto.io/Statement/v1","subject":[]}`, "no subject"},
		{`{"_type":"https://in-toto.io/Statement/v1","subject":[{"name":"x"}]}`, "no digest"},
		{`{"_type":"https://in-toto.io/Statement/v1",` + subject + `,` + subject + `}`, "duplicate"},
		{`{"_TYPE":"https://in-toto.io/Statement/v1",` + subject + `}`, "another case"},
		{`{"_type":"https://in-toto.io/Statement/v1",` + subject + `} {}`, "after top-level value"},
	} {
		if _, err := attest.ParseStatement([]byte(tt.json)); err == nil || !strings.Contains(err.Error(), tt.want) {
			t.Errorf("%s: got %v, want %q in it", tt.json, err, tt.want)
		}
	}
}

func TestParseProvenanceRefuses(t *testing.T) {
	for _, tt := range []struct{ json, want string }{
		{`{}`, "no builder id"},
		{`{"runDetails":{"builder":{"id":"x"}}}`, "no build type"},
		{`{"runDetails":{"builder":{"id":"x","id":"y"}}}`, "duplicate"},
	} {
		if _, err := attest.ParseProvenance([]byte(tt.json)); err == nil || !strings.Contains(err.Error(), tt.want) {
			t.Errorf("%s: got %v, want %q in it", tt.json, err, tt.want)
		}
	}
}
