package follow

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"log/slog"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/colophon-build/colophon/test/await"
	"github.com/colophon-build/colophon/test/freeport"
	"github.com/colophon-build/colophon/test/logtest"
	"github.com/colophon-build/colophon/test/prooftest"
	"github.com/colophon-build/colophon/test/tlogtest"
	"github.com/colophon-build/colophon/tlog"
	"github.com/colophon-build/colophon/tlog/follow"
	"github.com/colophon-build/colophon/tlog/witness"
)

// lines is a log that tests may read while it is written.
type lines struct {
	mu sync.Mutex
	bytes.Buffer
}

func (l *lines) Write(p []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.Buffer.Write(p)
}

func (l *lines) String() string {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.Buffer.String()
}

// running is the role, and what it says.
type running struct {
	t      *testing.T
	health string
	out    *lines
	stop   func() error
}

func start(t *testing.T, s Settings, batch Batch) *running {
	t.Helper()
	s.Health, s.Every, s.pause = freeport.Address(t), "1s", 10*time.Millisecond
	r := &running{t: t, health: s.Health, out: &lines{}}
	r.stop = await.Background(t, func(ctx context.Context) error {
		return Serve(ctx, s, batch, slog.New(slog.NewJSONHandler(r.out, nil)))
	})
	return r
}

func (r *running) get(path string) (int, string) {
	resp, err := http.Get("http://" + r.health + path)
	if err != nil {
		return 0, err.Error()
	}
	defer resp.Body.Close()
	body, _ := io.ReadAll(resp.Body)
	return resp.StatusCode, string(body)
}

// until waits until path is answered with a status and all texts.
func (r *running) until(path string, status int, want ...string) {
	r.t.Helper()
	var got int
	var body string
	defer func() {
		if r.t.Failed() {
			r.t.Logf("%s: got %d %s\n%s", path, got, body, r.out)
		}
	}()
	await.True(r.t, fmt.Sprintf("%s is answered with %d and %q", path, status, want), func() bool {
		got, body = r.get(path)
		all := got == status
		for _, w := range want {
			all = all && strings.Contains(body, w)
		}
		return all
	})
}

func vkey(t *testing.T, l *tlogtest.Log) string {
	t.Helper()
	key, err := tlog.FormatLogKey(l.Origin, l.Key.Public())
	if err != nil {
		t.Fatal(err)
	}
	return key
}

// TestFollow: the role reports entries and failures of several logs in its log, metrics and
// readiness, keeps copies, and goes on where it was after a new start.
func TestFollow(t *testing.T) {
	one, two := tlogtest.New(t, "one.example"), tlogtest.New(t, "two.example")
	for i := range 300 {
		one.Add(t, fmt.Appendf(nil, "garbage %d", i))
	}
	s := Settings{Dir: t.TempDir(), Copy: true, Logs: []LogSettings{{one.Serve(t), vkey(t, one)}, {two.Serve(t), vkey(t, two)}}}
	var mu sync.Mutex
	seen := map[string]int{}
	batch := func(_ context.Context, origin string, b follow.Batch) error {
		mu.Lock()
		defer mu.Unlock()
		seen[origin] += len(b.Entries)
		return nil
	}
	r := start(t, s, batch)
	r.until("/readyz", 200)
	r.until("/metrics", 200, `colophon_follow_log_size{origin="one.example"} 300`, `colophon_follow_read_entries{origin="one.example"} 300`,
		`colophon_follow_alarms_total{kind="unread"} 300`, `colophon_follow_log_failed{kind="misbehaves",origin="two.example"} 0`, `colophon_follow_log_size{origin="two.example"} 0`)
	one.Become(one.Clone(t, 10))
	r.until("/readyz", 503, "one.example misbehaves")
	r.until("/metrics", 200, `colophon_follow_log_failed{kind="misbehaves",origin="one.example"} 1`)
	two.Add(t, []byte("also garbage"))
	r.until("/metrics", 200, `colophon_follow_read_entries{origin="two.example"} 1`)
	if err := r.stop(); err != nil {
		t.Fatal(err)
	}
	mu.Lock()
	if seen["one.example"] != 300 || seen["two.example"] != 1 {
		t.Errorf("the batches have %v entries", seen)
	}
	mu.Unlock()
	if n := strings.Count(r.out.String(), `"kind":"misbehaves"`); n == 0 || n > 2 { // a line has it twice
		t.Errorf("the failure was told %d times", n)
	}
	copied := tlog.Dir(filepath.Join(s.Dir, witness.OriginHash("one.example"), "copy"))
	if cp, err := copied.Checkpoint(t.Context()); err != nil || !strings.Contains(string(cp), "\n300\n") {
		t.Errorf("the copy has %q, %v", cp, err)
	}
	r = start(t, s, batch)
	r.until("/readyz", 503, "one.example misbehaves")
	if err := r.stop(); err != nil {
		t.Fatal(err)
	}
	if strings.Contains(r.out.String(), "unread") {
		t.Errorf("entries were reported again: %s", r.out)
	}
}

// TestSettings: settings that contradict themselves are refused, and the key of a log comes
// from a trust root, or from the settings.
func TestSettings(t *testing.T) {
	l := tlogtest.New(t, "log.example")
	key := vkey(t, l)
	p := prooftest.New(t)
	dir := t.TempDir()
	file := func(name, text string) string {
		path := filepath.Join(dir, name)
		if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
		return path
	}
	trusted := file("root.json", string(p.Document()))
	good := func() Settings {
		return Settings{Dir: "d", Trust: trusted, Logs: []LogSettings{{URL: prooftest.URL + "/api/v2/"}, {"https://log.example", key}}}
	}
	wkey := logtest.Cosigner(t, "w.example").Key.String()
	searchable := good()
	searchable.Search.Name, searchable.Search.Witnesses = "f.example", file("witnesses", "witness a "+wkey+" https://w.example\nquorum a\n")
	if p, err := searchable.plan(); err != nil || p.witnesses == nil || !p.logs[0].Copy {
		t.Errorf("a search: got %+v, %v", p, err)
	}
	s := good()
	plan, err := s.plan()
	if err != nil {
		t.Fatal(err)
	}
	if plan.logs[0].Key.Name() != "127.0.0.1" || len(plan.watch.Roots) != 1 || plan.every != 30*time.Second {
		t.Errorf("got %+v", plan)
	}
	if s.Trust = dir; s.Check() != nil {
		t.Errorf("a directory of trust roots: %v", s.Check())
	}
	for name, bend := range map[string]func(*Settings){
		"no directory":            func(s *Settings) { s.Dir = "" },
		"no logs":                 func(s *Settings) { s.Logs = nil },
		"many logs":               func(s *Settings) { s.Logs = make([]LogSettings, maxLogs+1) },
		"a log twice":             func(s *Settings) { s.Logs = append(s.Logs, s.Logs[1]) },
		"a log without key":       func(s *Settings) { s.Logs[1].Key = "" },
		"a key that is none":      func(s *Settings) { s.Logs[1].Key = "x" },
		"plain http":              func(s *Settings) { s.Logs[1].URL = "http://log.example" },
		"a URL with a user":       func(s *Settings) { s.Logs[1].URL = "https://u:p@log.example" },
		"no trust root":           func(s *Settings) { s.Trust = t.TempDir() },
		"too often":               func(s *Settings) { s.Every = "10ms" },
		"no duration":             func(s *Settings) { s.Stalled = "soon" },
		"a pattern":               func(s *Settings) { s.Watch.Issuers = []string{"("} },
		"no known file":           func(s *Settings) { s.Known.Files = []string{"no-file"} },
		"no platform":             func(s *Settings) { s.Known.Platform = "no-file" },
		"a webhook":               func(s *Settings) { s.Webhook = "http://hook.example" },
		"a search without a name": func(s *Settings) { s.Search.Listen = "127.0.0.1:0" },
		"a name that is none":     func(s *Settings) { s.Search.Name = "a b" },
		"a search of half a log":  func(s *Settings) { s.Search.Name, s.FromNewest = "f", true },
		"a search for others":     func(s *Settings) { s.Search.Name, s.Search.Listen = "f", "0.0.0.0:1" },
		"two addresses of health": func(s *Settings) { s.Search.Name, s.Search.Health = "f", "127.0.0.1:1" },
		"no file of witnesses":    func(s *Settings) { s.Search.Name, s.Search.Witnesses = "f", "no-file" },
		"witnesses without a URL": func(s *Settings) {
			s.Search.Name, s.Search.Witnesses = "f", file("w", "witness a "+wkey+"\nquorum a\n")
		},
		"a large file of witnesses": func(s *Settings) {
			s.Search.Name, s.Search.Witnesses = "f", file("large", "witness a "+wkey+" https://w.example\nquorum a\n"+strings.Repeat("#", 64<<10))
		},
		"half a copy": func(s *Settings) { s.Copy, s.FromNewest = true, true },
		"health":      func(s *Settings) { s.Health = "here" },
	} {
		s := good()
		if bend(&s); s.Check() == nil {
			t.Errorf("%s: got no error", name)
		}
	}
	read, err := ReadSettings(file("follow.yaml", "dir: d\nlogs:\n- url: https://log.example\nwatch:\n  sources: ['https://git\\.example/.*']\nknown:\n  files: [runs.jsonl]\n"))
	if err != nil || read.Logs[0].URL != "https://log.example" || read.Known.Files[0] != "runs.jsonl" {
		t.Errorf("got %+v, %v", read, err)
	}
	for _, bad := range []string{"dirs: d\n", "", "dir: d\n---\ndir: e\n"} {
		if _, err := ReadSettings(file("bad.yaml", bad)); err == nil {
			t.Errorf("%q: got no error", bad)
		}
	}
	if _, err := json.Marshal(read); err != nil {
		t.Error(err)
	}
}
