package oci

import (
	"encoding/base64"
	"errors"
	"fmt"
	"net/http"
	"net/url"
	"strings"
	"testing"
)

// TestSpoken: what a registry repeats of a credential is in no error, and a redirect to it is not followed.
func TestSpoken(t *testing.T) {
	s := &spoken{}
	ask := func(header string) { s.add(&http.Request{Header: http.Header{"Authorization": {header}}}) }
	basic := base64.StdEncoding.EncodeToString([]byte("ada:pass?>word"))
	ask("Basic " + basic)
	ask("Bearer to/ken")
	ask("")
	for _, text := range []string{"Basic " + basic, "Bearer to/ken", "to%2Fken", "ada:pass?>word", "pass?>word", "pass%3F%3Eword", url.QueryEscape(basic)} {
		if got := s.said("x " + text + " y"); strings.Contains(got, "pass") || strings.Contains(got, "ken") || strings.Contains(got, basic) || !strings.HasPrefix(got, "x ") || !strings.HasSuffix(got, " y") {
			t.Errorf("%q: got %q", text, got)
		}
	}
	if got := s.said(strings.Repeat("a", 496) + basic); strings.Contains(got, basic[:3]) { // before it is cut
		t.Errorf("got %q", got)
	}
	inner := errors.New("found " + basic)
	if err := s.quote(inner); !errors.Is(err, inner) || err.Error() != "found redacted" {
		t.Errorf("got %v", err)
	}
	for address, want := range map[string]bool{"https://a/" + basic: true, "https://a/x?t=" + url.QueryEscape(basic): true, "https://a/to/ken": true, "https://a/x": false, "https://a/?b=%zz": false} {
		u, err := url.Parse(address)
		if err != nil {
			t.Fatal(err)
		}
		if s.in(u) != want {
			t.Errorf("%s: got %v", address, !want)
		}
	}
	for i := range maxSpoken + 5 {
		ask(fmt.Sprint("Bearer token", i))
	}
	if len(s.headers) != maxSpoken {
		t.Errorf("got %d headers", len(s.headers))
	}
}
