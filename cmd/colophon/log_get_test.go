package main

import (
	"bytes"
	"crypto/sha256"
	"encoding/json"
	"fmt"
	"io"
	"runtime"
	"strings"
	"testing"
)

// TestLogGetLists: what log get prints of several pieces is one document in each format, though
// they are printed as they come.
func TestLogGetLists(t *testing.T) {
	s := newLogStage(t)
	s.trustIt()
	const n = 3
	for range n {
		if _, err := s.archive.Keep(t.Context(), s.add("same")); err != nil {
			t.Fatal(err)
		}
	}
	digest := fmt.Sprintf("sha256:%x", sha256.Sum256([]byte("same")))
	var list []gotten
	if out := s.run(exitOK, []string{"log", "get", digest, "--json"}); json.Unmarshal([]byte(out), &list) != nil || len(list) != n || list[2].Index != 2 {
		t.Errorf("--json: got %s", out)
	}
	if whole, err := encodeJSON(list); err != nil || string(whole) != s.run(exitOK, []string{"log", "get", digest, "--json"}) {
		t.Errorf("--json: it is not laid out as other lists are: %v", err)
	}
	if out := s.run(exitOK, []string{"log", "get", digest, "-o", "yaml"}); strings.Count(out, "\n- ")+1 != n || !strings.HasPrefix(out, "- ") {
		t.Errorf("yaml: got %s", out)
	}
	if out := s.run(exitOK, []string{"log", "get", digest, "-o", "template={{len .}}"}); out != "3\n" {
		t.Errorf("template: got %q", out)
	}
	if out := s.run(exitOK, []string{"log", "get", digest, "--raw"}); strings.Count(out, "\n") != n {
		t.Errorf("--raw: got %s", out)
	}
}

// TestLogGetHoldsOne: printing keeps nothing of what it printed, and a template is told when it would
// be too much.
func TestLogGetHoldsOne(t *testing.T) {
	p := &gottenPrinter{w: io.Discard, o: logGetOptions{output: output{format: "json"}}}
	var before, after runtime.MemStats
	runtime.GC()
	runtime.ReadMemStats(&before)
	for range 10 {
		text, err := json.Marshal(strings.Repeat("x", 4<<20))
		if err != nil {
			t.Fatal(err)
		}
		if err := p.add(gotten{Statement: text, raw: text}); err != nil {
			t.Fatal(err)
		}
	}
	runtime.GC()
	runtime.ReadMemStats(&after)
	if held := int64(after.HeapAlloc) - int64(before.HeapAlloc); held > 10<<20 {
		t.Errorf("after 40 MiB, %d MiB are held", held>>20)
	}
	runtime.KeepAlive(p)

	o := logGetOptions{output: output{format: templateFormat + "{{len .}}"}}
	if err := o.check(); err != nil {
		t.Fatal(err)
	}
	p = &gottenPrinter{w: io.Discard, o: o}
	raw := bytes.Repeat([]byte("x"), 16<<20)
	for i := range 5 {
		err := p.add(gotten{raw: raw})
		if tooMuch := i == 4; (err != nil) != tooMuch {
			t.Errorf("piece %d: got %v", i, err)
		}
	}
}
