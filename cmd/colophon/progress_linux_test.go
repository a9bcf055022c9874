package main

import (
	"bytes"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/colophon-build/colophon/platform/api"
)

// slow is a platform that streams events, and waits where an event says so.
type slow struct {
	events   []api.Event
	last     string
	declared []string
}

func (s *slow) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	if r.URL.Path == api.PathDeclared {
		json.NewEncoder(w).Encode(api.Event{Declared: &api.Declared{Commit: strings.Repeat("c", 40), Images: s.declared}})
		return
	}
	req, _, err := api.ReadReleaseRequest(r.Body)
	if err != nil {
		http.Error(w, err.Error(), http.StatusBadRequest)
		return
	}
	for _, e := range s.events {
		if e.Phase == "" { // a pause
			w.(http.Flusher).Flush()
			time.Sleep(2 * redraw)
			continue
		}
		json.NewEncoder(w).Encode(e)
	}
	io.WriteString(w, strings.ReplaceAll(s.last, "IMAGE", req.Image)+"\n")
}

const wasReleased = `{"result":{"image":"IMAGE","digest":"sha256:1111111111111111111111111111111111111111111111111111111111111111","tags":["v1"],` +
	`"source":{"uri":"https://git.example.com/team/app","commit":"cccccccccccccccccccccccccccccccccccccccc"},"level":2,"builder":"https://b",` +
	`"requirements":[{"name":"exists","level":1,"status":"met"},{"name":"isolated","level":3,"status":"unmet"}]}}`

var pause = api.Event{}

func build(step, line string, done bool) api.Event {
	return api.Event{Phase: "build", Step: step, Line: line, Done: done}
}

// release runs a release against the platform s, and returns what is on standard output.
func (s *slow) release(t *testing.T, errs io.Writer, args ...string) (code int, stdout string) {
	t.Helper()
	srv := httptest.NewServer(s)
	defer srv.Close()
	config := filepath.Join(t.TempDir(), "client.json")
	if err := os.WriteFile(config, []byte(`{"url":"`+srv.URL+`","token":"t","fingerprint":""}`), 0o600); err != nil {
		t.Fatal(err)
	}
	t.Setenv("COLOPHON_PLATFORM", config)
	var out bytes.Buffer
	root := newRootCommand()
	root.SetOut(&out)
	root.SetErr(errs)
	root.SetArgs(append([]string{"release", "https://git.example.com/team/app", "--ref", "v1"}, args...))
	code = execute(t.Context(), root)
	return code, out.String()
}

// TestLiveProgress: a terminal shows what runs, in place, from the first moment, and of
// what is finished one line each.
func TestLiveProgress(t *testing.T) {
	s := &slow{last: wasReleased, events: []api.Event{
		pause,
		{Phase: "source", Step: "https://git.example.com/team/app v1"},
		{Phase: "source", Line: "cccc at noon, unsigned"},
		build("buildkit", "", false),
		build("[1/2] FROM a", "", false), build("[1/2] FROM a", "", true),
		build("[2/2] RUN \x1b[2Jmake "+strings.Repeat("long ", 100), "", false),
		build("[2/2] RUN \x1b[2Jmake "+strings.Repeat("long ", 100), "compiling\x1b[31m one\r50%\rtwo", false),
		{Phase: "alive"}, pause,
		build("[2/2] RUN \x1b[2Jmake "+strings.Repeat("long ", 100), "", true),
		{Phase: "sign", Step: "one"}, {Phase: "push", Step: "sha256:1"}, {Phase: "sign", Step: "two"}, pause,
		{Phase: "verify"},
	}}
	tty := newTerminal(t, 24)
	code, stdout := s.release(t, tty.File, "--image", "r.example.com/app")
	last, seen := tty.stop(), tty.everSeen()
	if code != exitOK {
		t.Errorf("got exit code %d", code)
	}
	for _, want := range []string{
		"waiting for the platform\n  elapsed", "\n           │ two\n", "source  ", "build   ", "buildkit, 1 step done\n", "s  [2/2] RUN �[2Jmake long", "sign    ", "2 statements\n",
	} {
		if !strings.Contains(seen, want) {
			t.Errorf("the terminal never showed %q:\n%s", want, seen[max(0, len(seen)-8000):])
		}
	}
	for _, want := range []string{"✓ source ", "cccc at noon, unsigned", "✓ build ", "✓ sign ", "✓ push ", "✓ verify "} {
		if !strings.Contains(last, want) {
			t.Errorf("got at the end\n%s\nwant the line %q", last, want)
		}
	}
	for _, unwanted := range []string{"elapsed", "compiling", "two", "[1/2]", "[2/2]", "⠋", "buildkit, 1 step"} {
		if strings.Contains(last, unwanted) {
			t.Errorf("got at the end\n%s\nwant no %q", last, unwanted)
		}
	}
	want := "released r.example.com/app@sha256:" + strings.Repeat("1", 64) + `
  tag     r.example.com/app:v1
  proves  built from https://git.example.com/team/app@cccccccccccc
          by https://b: SLSA Build L2 (L3 lacks: isolated)
  verify  colophon verify r.example.com/app:v1 --source https://git.example.com/team/app
`
	if stdout != want {
		t.Errorf("got on standard output %s, want %s", stdout, want)
	}
}

// TestLiveProgressOfAFailure: the output of the build that failed stays on the terminal.
func TestLiveProgressOfAFailure(t *testing.T) {
	s := &slow{last: `{"error":{"message":"RUN make: exit code 2","hint":"the build log is above"}}`}
	s.events = append(s.events, build("buildkit", "", false), build("RUN make", "", false))
	for i := range keptOutput + 2 {
		s.events = append(s.events, build("RUN make", fmt.Sprint("line ", i), false))
	}
	tty := newTerminal(t, 24)
	code, _ := s.release(t, tty.File, "--image", "r.example.com/app")
	last := tty.stop()
	if code != exitFailure {
		t.Errorf("got exit code %d", code)
	}
	for _, want := range []string{"✗ build ", "2 earlier lines of output", "│ line 2\n", "│ line 41\ncolophon: RUN make: exit code 2\nhint: the build log is above\n"} {
		if !strings.Contains(last, want) {
			t.Errorf("got\n%s\nwant %q", last, want)
		}
	}
	if strings.Contains(last, "│ line 1\n") || strings.Contains(last, "elapsed") {
		t.Errorf("got\n%s", last)
	}
}

// TestLiveProgressOfMany: each image has one line while it runs, and one when it is done;
// however many there are, the screen is not left.
func TestLiveProgressOfMany(t *testing.T) {
	s := &slow{last: wasReleased, events: []api.Event{{Phase: "source"}, build("buildkit", "", false), build("RUN make", "", false), build("RUN make", "output", false), pause}}
	for i := range 40 {
		s.declared = append(s.declared, fmt.Sprintf("image-%d", i))
	}
	tty := newTerminal(t, 6)
	if code, stdout := s.release(t, tty.File); code != exitOK || !strings.Contains(stdout, "released 40 of 40 images") {
		t.Errorf("got exit code %d, %s", code, stdout)
	}
	last, seen := tty.stop(), tty.everSeen()
	if !strings.Contains(seen, "image-0  build  RUN make\n") || !strings.Contains(seen, "32 images wait") {
		t.Errorf("got\n%s", seen[:min(len(seen), 4000)])
	}
	if n := strings.Count(last, " released\n"); n != 40 || strings.Contains(last, "output") || strings.Contains(last, "RUN make") || strings.Contains(last, "elapsed") {
		t.Errorf("got %d images at the end:\n%s", n, last)
	}
}

func TestProgressModes(t *testing.T) {
	s := &slow{last: wasReleased, events: []api.Event{{Phase: "source", Step: "x\x1b[2J"}, build("buildkit", "", false), build("RUN make", "", false), build("RUN make", "out", false), build("RUN make", "", true)}}
	for _, tt := range []struct {
		args     []string
		terminal bool
		code     int
		stderr   string // one of its lines ends so; "": there is nothing
		without  string
	}{
		{nil, false, exitOK, "s source x�[2J", "\x1b"},
		{nil, false, exitOK, "│   out", "\x1b"},
		{[]string{"--progress", "plain"}, true, exitOK, "│   out", "\x1b"},
		{[]string{"--progress=json"}, true, exitOK, `{"image":"r.example.com/app","time":"0001-01-01T00:00:00Z","phase":"build","step":"RUN make","line":"out"}`, "\x1b"},
		{[]string{"--progress=tty"}, false, exitUsage, "hint: --progress=plain works everywhere", ""},
		{[]string{"--progress=fancy"}, false, exitUsage, `colophon: --progress: expected auto, tty, plain, json, found "fancy"`, ""},
		{[]string{"-q"}, true, exitOK, "", ""},
		{[]string{"-v"}, true, exitOK, "│ out", "elapsed\n"},
		{[]string{"-q", "-v"}, false, exitUsage, "hint: see colophon release --help", ""},
	} {
		name := fmt.Sprint(tt.args, tt.terminal)
		var code int
		var raw string
		if args := append(tt.args, "--image", "r.example.com/app"); tt.terminal {
			tty := newTerminal(t, 24)
			code, _ = s.release(t, tty.File, args...)
			tty.stop()
			raw = strings.ReplaceAll(tty.raw.String(), "\r\n", "\n")
		} else {
			var errs bytes.Buffer
			code, _ = s.release(t, &errs, args...)
			raw = errs.String()
		}
		if code != tt.code {
			t.Errorf("%s: got exit code %d, want %d: %s", name, code, tt.code, raw)
		}
		if !strings.Contains(raw, tt.stderr+"\n") && tt.stderr != "" || tt.stderr == "" && raw != "" || tt.without != "" && strings.Contains(raw, tt.without) {
			t.Errorf("%s: got %q, want %q and no %q", name, raw, tt.stderr, tt.without)
		}
	}
}

// TestDumbTerminal: a terminal that cannot be redrawn gets plain lines.
func TestDumbTerminal(t *testing.T) {
	s := &slow{last: wasReleased, events: []api.Event{{Phase: "source", Step: "x"}, pause}}
	tty := newTerminal(t, 24)
	t.Setenv("TERM", "dumb")
	s.release(t, tty.File, "--image", "r.example.com/app")
	if tty.stop(); strings.Contains(tty.raw.String(), "\x1b") {
		t.Errorf("got %q", tty.raw.String())
	}
}

// TestWaiting: what takes long says what it waits for.
func TestWaiting(t *testing.T) {
	tty := newTerminal(t, 24)
	stop := waiting(tty.File, "checking \x1b[2J")
	time.Sleep(time.Second + 3*redraw)
	stop()
	if last, seen := tty.stop(), tty.everSeen(); last != "" || !strings.Contains(seen, "s  checking �[2J\n") {
		t.Errorf("got %q at the end, and %q before", last, seen)
	}
	waiting(io.Discard, "nothing")()
}
