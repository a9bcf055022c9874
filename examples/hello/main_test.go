package main

import (
	"net/http/httptest"
	"strings"
	"testing"
)

func TestHello(t *testing.T) {
	w := httptest.NewRecorder()
	handler().ServeHTTP(w, httptest.NewRequest("GET", "/", nil))
	if got := w.Body.String(); w.Code != 200 || !strings.HasPrefix(got, "hello, this is answer ") {
		t.Errorf("got %d %q", w.Code, got)
	}
}
