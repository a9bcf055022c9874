package prooftest_test

import (
	"testing"

	"github.com/colophon-build/colophon/test/prooftest"
)

// TestSplice: each kind of change has an effect, and leaves the other parts in place.
func TestSplice(t *testing.T) {
	doc, donor := []byte(`{"a":[{"b":"AAAA"}],"c":1}`), []byte(`{"a":[{"b":"BBBB"}],"c":2}`)
	for program, want := range map[string]string{
		"\x00\x00\x00": `{"c":1}`, "\x03\x01\x00": `{"a":[{"b":"AAAA"}],"c":2}`, "\x00\x03\x00": `{"a":[{"b":"AAAA"},{"b":"AAAA"}],"c":1}`,
		"\x00\x04\x00": `{"a":[{"b":"AAAA"},{"b":"BBBB"}],"c":1}`, "\x02\x05\x00": `{"a":[{"b":"AQAA"}],"c":1}`, "\x03\x02\x02": `{"a":[{"b":"AAAA"}],"c":"BBBB"}`,
	} {
		if got := prooftest.Splice(t, doc, donor, []byte(program)); string(got) != want {
			t.Errorf("%x: got %s, want %s", program, got, want)
		}
	}
}
