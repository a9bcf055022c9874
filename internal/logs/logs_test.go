package logs

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net/http/httptest"
	"strings"
	"testing"
)

func TestParse(t *testing.T) {
	for _, tc := range []struct {
		format, level, want string // of an error
	}{
		{"text", "info", ""},
		{"json", "debug", ""},
		{"xml", "info", `log format: got "xml", want text or json`},
		{"text", "loud", `log level: got "loud", want debug, info, warn or error`},
	} {
		_, err := Parse(tc.format, tc.level)
		if got := ""; err != nil {
			got = err.Error()
			if got != tc.want {
				t.Errorf("%s %s: got %q, want %q", tc.format, tc.level, got, tc.want)
			}
		} else if tc.want != "" {
			t.Errorf("%s %s: got no error, want %q", tc.format, tc.level, tc.want)
		}
	}
}

// A request keeps its id and actor on the way to another role, and only there.
func TestRequestAcrossRoles(t *testing.T) {
	of := Request{ID: "ABC123", Actor: "client"}
	out := httptest.NewRequest("GET", "/", nil)
	out.Header.Set("Colophon-Actor", "admin") // from a client
	Forward(out)
	if got, ok := Of(Receive(out).Context()); ok {
		t.Errorf("a request without one: got %+v", got)
	}
	out = out.WithContext(With(out.Context(), of))
	Forward(out)
	in := httptest.NewRequest("GET", "/", nil)
	in.Header = out.Header
	if got, _ := Of(Receive(in).Context()); got != of {
		t.Errorf("got %+v, want %+v", got, of)
	}
	for _, bad := range []string{"", "a b", "x\ny", strings.Repeat("x", 65)} {
		in.Header.Set("Colophon-Actor", bad)
		if got, ok := Of(Receive(in).Context()); ok {
			t.Errorf("actor %q: got %+v", bad, got)
		}
	}
	var lines bytes.Buffer
	New(&lines, Settings{}).With("role", "api").InfoContext(With(context.Background(), of), "pushed")
	if got := lines.String(); !strings.Contains(got, "level=INFO msg=pushed role=api request=ABC123 actor=client") {
		t.Errorf("line: got %s", got)
	}
}

// What a library calls info is debug; its warnings stay.
func TestLibrary(t *testing.T) {
	for level, want := range map[slog.Level]int{slog.LevelInfo: 1, slog.LevelDebug: 2} {
		var out bytes.Buffer
		log := Library(New(&out, Settings{Level: level})).With("a", 1).WithGroup("g")
		log.Info("initialized")
		log.Warn("broken")
		log.Log(t.Context(), -5, "far below")
		if got := strings.Count(out.String(), "\n"); got != want || !strings.Contains(out.String(), "level=WARN msg=broken") || strings.Contains(out.String(), "INFO") {
			t.Errorf("level %s: got %q", level, out.String())
		}
	}
}

// No line has a credential of a URL, whether a string or an error says it.
func TestCredentialsAreNotLogged(t *testing.T) {
	for _, s := range []Settings{{}, {JSON: true}} {
		var out bytes.Buffer
		New(&out, s).With("source", "https://ada:s3cret@example.com/a").Error("cannot read https://ada:s3cret@example.com/b",
			"error", fmt.Errorf("step: %w", errors.New("wget https://ada:s3cret@example.com/c: exit code 1")), "digest", "sha256:ab")
		if got := out.String(); strings.Contains(got, "s3cret") || strings.Count(got, "example.com/") != 3 || !strings.Contains(got, "exit code 1") || !strings.Contains(got, "sha256:ab") {
			t.Errorf("got %s", got)
		}
	}
}
