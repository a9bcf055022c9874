package gateway

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/url"
	"path/filepath"
	"reflect"
	"strings"
	"testing"
	"time"

	"github.com/colophon-build/colophon/platform/builder"
)

func TestRun(t *testing.T) {
	up, s := world(t, func(w http.ResponseWriter, r *http.Request) { io.WriteString(w, r.URL.Path) })
	s.Session = builder.Session{Record: true}
	s.Store = filepath.Join(t.TempDir(), "store")
	// As they travel to a process.
	raw, err := json.Marshal(s)
	if err != nil {
		t.Fatal(err)
	}
	var back Settings
	if err := json.Unmarshal(raw, &back); err != nil || !reflect.DeepEqual(back, s) {
		t.Fatalf("settings: got %+v, %v, want %+v", back, err, s)
	}
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	ctx, stop := context.WithCancel(t.Context())
	out, in := io.Pipe()
	ran := make(chan error, 1)
	g, err := New(back)
	if err != nil {
		t.Fatal(err)
	}
	reachable(g)
	go func() {
		err := g.run(ctx, l, in)
		in.Close()
		ran <- err
	}()
	var whole bytes.Buffer
	record, err := ReadRecord(io.TeeReader(out, &whole), func(ca []byte) {
		// In a goroutine: the reader must go on reading.
		go func() {
			defer stop()
			room := &room{t: t, addr: l.Addr().String(), Client: client(t, l.Addr().String(), ca)}
			for i := range 5 {
				room.want(200, fmt.Sprint(i), "GET", fmt.Sprintf("%s/%d", up.URL, i))
			}
			room.want(403, "denied", "GET", "http://169.254.169.254:80/")
		}()
	})
	if err != nil {
		t.Fatal(err)
	}
	if err := <-ran; err != nil {
		t.Fatal(err)
	}
	if len(record) != 6 || record[4].SHA256 != hexSum("/4") || record[5].Denied == "" {
		t.Errorf("got %+v", record)
	}
	// Whatever is missing or changed of it is noticed.
	lines := strings.SplitAfter(whole.String(), "\n")
	lines = lines[:len(lines)-1]
	for i := range lines {
		for what, bad := range map[string]string{
			"without":      strings.Join(append(append([]string{}, lines[:i]...), lines[i+1:]...), ""),
			"twice":        strings.Join(append(append([]string{}, lines[:i+1]...), lines[i:]...), ""),
			"cut before":   strings.Join(lines[:i], ""),
			"cut within":   strings.Join(lines[:i], "") + lines[i][:len(lines[i])/2],
			"extended":     strings.Join(lines[:i], "") + strings.Replace(lines[i], "{", `{"more":1,`, 1) + strings.Join(lines[i+1:], ""),
			"renumbered":   strings.Join(lines[:i], "") + strings.Replace(lines[i], `"n":`, `"n":1`, 1) + strings.Join(lines[i+1:], ""),
			"another end":  strings.Join(lines[:i], "") + `{"end":true,"count":4}` + "\n" + strings.Join(lines[i:], ""),
			"much of it":   strings.Join(lines[:i], "") + strings.Repeat(" ", maxLine+1) + strings.Join(lines[i:], ""),
			"an empty end": strings.Join(lines[:i], "") + `{}` + "\n" + strings.Join(lines[i:], ""),
		} {
			if what == "renumbered" && !strings.Contains(lines[i], `"n":`) {
				continue
			}
			if got, err := ReadRecord(strings.NewReader(bad), func([]byte) {}); err == nil {
				t.Errorf("line %d, %s: got a record of %d exchanges", i+1, what, len(got))
			}
		}
	}
}

// Nothing passes that is not recorded.
func TestNoRecordNoAnswer(t *testing.T) {
	up, s := world(t, func(w http.ResponseWriter, r *http.Request) { io.WriteString(w, "answer") })
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	out := &full{ca: make(chan []byte, 1)}
	g, err := New(s)
	if err != nil {
		t.Fatal(err)
	}
	reachable(g)
	ran := make(chan error, 1)
	go func() { ran <- g.run(t.Context(), l, out) }()
	var first line
	if err := json.Unmarshal(<-out.ca, &first); err != nil {
		t.Fatal(err)
	}
	room := &room{t: t, addr: l.Addr().String(), Client: client(t, l.Addr().String(), []byte(first.CA))}
	room.fetch("GET", up.URL)
	if err := <-ran; err == nil {
		t.Error("a record that could not be written has an end")
	}
	if status, _ := room.fetch("GET", up.URL); status == 200 {
		t.Error("a request was answered that cannot be recorded")
	}
}

// full takes one line.
type full struct {
	ca    chan []byte
	lines int
}

func (f *full) Write(p []byte) (int, error) {
	if f.lines++; f.lines > 1 {
		return 0, errors.New("no space left on device")
	}
	f.ca <- bytes.Clone(p)
	return len(p), nil
}

func FuzzReadRecord(f *testing.F) {
	f.Add([]byte(`{"ca":"x"}` + "\n" + `{"n":1,"exchange":{"method":"GET","url":"http://a/","status":200,"size":0}}` + "\n" + `{"end":true,"count":1}` + "\n"))
	f.Add([]byte(`{"ca":"x"}` + "\n" + `{"end":true}` + "\n"))
	f.Fuzz(func(t *testing.T, data []byte) {
		started := 0
		record, err := ReadRecord(bytes.NewReader(data), func([]byte) { started++ })
		if err == nil && (started != 1 || !bytes.Contains(data, []byte(`"end"`)) || len(record) > bytes.Count(data, []byte("\n"))+1) {
			t.Errorf("got a record of %d exchanges, started %d times", len(record), started)
		}
	})
}

// A record that is as long as it may be takes no further request, which is then not sent.
func TestFullRecord(t *testing.T) {
	for name, g := range map[string]*Gateway{
		"bytes":    {set: Settings{Requests: 2}, written: maxRecord},
		"requests": {set: Settings{Requests: 2}, begun: 2},
	} {
		if _, err := g.begin("GET", "https://h.example/"); err == nil || !strings.Contains(err.Error(), "limit of") {
			t.Errorf("%s: got %v, want the limit of the session", name, err)
		}
	}
	if _, err := (&Gateway{set: Settings{Requests: 2}, written: maxRecord - 1, begun: 1}).begin("GET", "https://h.example/"); err != nil {
		t.Errorf("below the limit: got %v", err)
	}
	t0 := &tokens{held: map[string]*token{}}
	for i := range maxTokens {
		if err := t0.keep(&url.URL{Scheme: "https", Host: "h.example", Path: fmt.Sprint("/", i)}, "", time.Minute); err != nil {
			t.Fatal(err)
		}
	}
	if err := t0.keep(&url.URL{Scheme: "https", Host: "h.example", Path: "/more"}, "", time.Minute); err == nil || !strings.Contains(err.Error(), "limit of 4096 tokens") {
		t.Errorf("got %v, want the limit of tokens", err)
	}
}

// A request's body that is longer than it may be is not sent.
func TestLongRequest(t *testing.T) {
	if _, err := (&upload{size: maxUpload}).Write([]byte("x")); err == nil || !strings.Contains(err.Error(), "more than") {
		t.Errorf("got %v, want the limit of a body", err)
	}
}
