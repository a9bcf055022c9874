package monitor_test

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/sigstore/sigstore-go/pkg/root"

	"github.com/colophon-build/colophon/bundle"
	"github.com/colophon-build/colophon/monitor"
	"github.com/colophon-build/colophon/platform/api"
	"github.com/colophon-build/colophon/test/prooftest"
	"github.com/colophon-build/colophon/test/tlogtest"
	"github.com/colophon-build/colophon/tlog/follow"
)

const (
	statement = `{"_type":"https://in-toto.io/Statement/v1","subject":[{"name":"app","digest":{"sha256":"e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855"}}],"predicateType":"https://example.com/p","predicate":{}}`
	issuer    = "https://issuer.example"
	source    = "https://git.example/acme/app"
	identity  = "https://ci.example/acme/app"
)

var commit = strings.Repeat("a", 40)

// body returns the log entry of a signature by an identity.
func body(t testing.TB, p *prooftest.Platform, id prooftest.Identity) []byte {
	t.Helper()
	b, err := bundle.Parse(p.Sign(id, []byte(statement)))
	if err != nil {
		t.Fatal(err)
	}
	return b.Entries[0].GetCanonicalizedBody()
}

func ours() prooftest.Identity {
	return prooftest.Identity{SAN: identity, Issuer: issuer, SourceURI: source, Commit: commit, Invocation: "https://ci.example/runs/1"}
}

func pattern(t testing.TB, expr string) []monitor.Pattern {
	t.Helper()
	p, err := monitor.ParsePattern(expr)
	if err != nil {
		t.Fatal(err)
	}
	return []monitor.Pattern{p}
}

// taken is a sink that keeps alarms, and may fail.
type taken struct {
	alarms []monitor.Alarm
	fail   error
}

func (s *taken) Report(_ context.Context, alarms []monitor.Alarm) error {
	if s.fail == nil {
		s.alarms = append(s.alarms, alarms...)
	}
	return s.fail
}

// kinds returns the alarms as KIND:INDEX, or KIND:REASON.
func (s *taken) kinds() (out []string) {
	for _, a := range s.alarms {
		if a.Entry != nil {
			out = append(out, fmt.Sprintf("%s:%d", a.Kind, a.Entry.Index))
		} else {
			out = append(out, fmt.Sprintf("%s:%s", a.Kind, a.Reason))
		}
	}
	return out
}

// world is a log, and what watches it.
type world struct {
	t    *testing.T
	log  *tlogtest.Log
	p    *prooftest.Platform
	dir  string
	sink *taken
	m    *monitor.Monitor
}

func newWorld(t *testing.T, w monitor.Watch) *world {
	s := &taken{}
	return &world{t: t, log: tlogtest.New(t, "log.example"), p: prooftest.New(t), dir: t.TempDir(), sink: s, m: &monitor.Monitor{Watch: w, Sinks: []monitor.Sink{s}}}
}

// once reads the log once in a new process, and fails the test unless it found these
// alarms, as kinds writes them.
func (w *world) once(want ...string) {
	w.t.Helper()
	w.sink.alarms = nil
	logs, err := w.m.Open([]monitor.Log{{URL: "https://log.example", Config: follow.Config{Key: w.log.Verifier(w.t), Source: w.log, Dir: w.dir, Pause: time.Millisecond}}})
	if err != nil {
		w.t.Fatal(err)
	}
	defer logs[0].Close()
	w.m.Run(w.t.Context(), logs, 0)
	got := slices.DeleteFunc(w.sink.kinds(), func(k string) bool { return k == "recovered:" })
	if !slices.Equal(got, want) {
		w.t.Errorf("got %v, want %v: %+v", got, want, w.sink.alarms)
	}
}

// TestStolenIdentity: a signature under a watched name that no known release explains is
// found, however the thief varies it; names of others are not.
func TestStolenIdentity(t *testing.T) {
	other := prooftest.Identity{SAN: "https://ci.example/acme/app2", Issuer: "https://other.example", SourceURI: "https://git.example/acme/app2"}
	second := other
	second.More = []string{identity}
	old := other
	old.OldIssuer = issuer
	repository := other
	repository.Extensions = map[int]string{}
	for name, tt := range map[string]struct {
		watch monitor.Watch
		id    prooftest.Identity
		found bool
	}{
		"by identity":                   {monitor.Watch{Identities: pattern(t, `https://ci\.example/acme/app`)}, ours(), true},
		"by issuer":                     {monitor.Watch{Issuers: pattern(t, `https://issuer\..*`)}, ours(), true},
		"by source":                     {monitor.Watch{Sources: pattern(t, `https://git\.example/acme/.*`)}, ours(), true},
		"by any":                        {monitor.Watch{}, ours(), true},
		"another":                       {monitor.Watch{Identities: pattern(t, `https://ci\.example/acme/app`)}, other, false},
		"as the second name":            {monitor.Watch{Identities: pattern(t, `https://ci\.example/acme/app`)}, second, true},
		"in the old issuer's extension": {monitor.Watch{Issuers: pattern(t, issuer)}, old, true},
		"a pattern matches whole names": {monitor.Watch{Identities: pattern(t, `ci|app`)}, ours(), false},
		"an alternative does not open the anchors": {monitor.Watch{Identities: pattern(t, `nothing|https://ci`)}, ours(), false},
		"one of two kinds is enough":               {monitor.Watch{Identities: pattern(t, `nobody`), Sources: pattern(t, source)}, ours(), true},
	} {
		w := newWorld(t, tt.watch)
		w.log.Add(t, body(t, w.p, tt.id))
		if tt.found {
			w.once("unexplained:0")
			if w.m.Worst() != monitor.Unexplained {
				t.Errorf("%s: the worst is %q", name, w.m.Worst())
			}
		} else {
			w.once()
		}
		w.once() // it was reported
		if t.Failed() {
			t.Fatal(name)
		}
	}
	for _, bad := range []string{"", "(", "a)|(b", strings.Repeat("a", 2000)} {
		if _, err := monitor.ParsePattern(bad); err == nil {
			t.Errorf("pattern %.20q: got no error", bad)
		}
	}
	w := monitor.Watch{}
	for range 257 {
		w.Sources = append(w.Sources, pattern(t, "a")...)
	}
	if w.Check() == nil {
		t.Error("got no error for 257 patterns")
	}
}

// TestEntriesThatCannotBeRead: an entry of an unknown kind, or that is damaged, is reported,
// whatever is watched, and the ones after it are read.
func TestEntriesThatCannotBeRead(t *testing.T) {
	w := newWorld(t, monitor.Watch{Sources: pattern(t, source)})
	good := body(t, w.p, ours())
	w.log.Add(t, []byte{}, []byte("garbage"), []byte(`{"apiVersion":"0.0.7","kind":"helm","spec":{}}`), good[:len(good)-1],
		bytes.Repeat([]byte("["), 60_000), bytes.Repeat([]byte{0}, 65535), good)
	w.once("unread:0", "unread:1", "unread:2", "unread:3", "unread:4", "unread:5", "unexplained:6")
	for _, a := range w.sink.alarms {
		if len(a.Why) > 2000 {
			t.Errorf("entry %d: got %d bytes of explanation", a.Entry.Index, len(a.Why))
		}
	}
}

// TestForged: a name in a certificate that anybody can make is no alarm, and is said.
func TestForged(t *testing.T) {
	w := newWorld(t, monitor.Watch{Sources: pattern(t, source)})
	w.m.Watch.Roots = []root.TrustedMaterial{w.p.Root().Material}
	w.log.Add(t, body(t, prooftest.New(t), ours()), body(t, w.p, ours()))
	w.once("forged:0", "unexplained:1")
	w.log.Add(t, body(t, prooftest.New(t), ours()))
	w.once("forged:2")
	if w.m.Worst() != "" {
		t.Errorf("the worst is %q, want no alarm", w.m.Worst())
	}
}

// TestKnownFile: a line of the file explains a signature that has all of its members.
func TestKnownFile(t *testing.T) {
	p := prooftest.New(t)
	entry := body(t, p, ours())
	e, err := bundle.ParseEntry(entry)
	if err != nil {
		t.Fatal(err)
	}
	at := e.Signers[0].Certificate.NotBefore
	for line, explained := range map[string]bool{
		`{"commit":"` + commit + `"}`:         true,
		`{"run":"https://ci.example/runs/1"}`: true,
		`{"digest":"` + e.Digests[0] + `"}`:   true,
		`{"commit":"` + commit + `","source":"` + source + `","identity":"` + identity + `"}`:                                                               true,
		`{"commit":"` + commit + `","from":"` + at.Add(-time.Second).Format(time.RFC3339) + `","until":"` + at.Add(time.Second).Format(time.RFC3339) + `"}`: true,
		`{"commit":"` + commit + `","from":"` + at.Add(time.Minute).Format(time.RFC3339) + `"}`:                                                             false,
		`{"commit":"` + commit + `","until":"` + at.Add(-time.Minute).Format(time.RFC3339) + `"}`:                                                           false,
		`{"commit":"` + commit + `","source":"https://git.example/acme/other"}`:                                                                             false,
		`{"commit":"` + commit + `","run":"https://ci.example/runs/2"}`:                                                                                     false,
		`{"commit":"` + strings.ToUpper(commit) + `"}`:                                                                                                      false,
		`{"digest":"sha256:00"}`: false,
		"":                       false,
	} {
		path := filepath.Join(t.TempDir(), "known.jsonl")
		if err := os.WriteFile(path, []byte("\n"+line+"\n"), 0o600); err != nil {
			t.Fatal(err)
		}
		known, err := monitor.OpenFile(path)
		if err != nil {
			t.Fatal(err)
		}
		w := newWorld(t, monitor.Watch{Known: []monitor.Known{known}})
		w.log.Add(t, entry)
		if explained {
			w.once()
		} else {
			w.once("unexplained:0")
		}
		if t.Failed() {
			t.Fatal(line)
		}
		// The file is read again when it changes.
		if err := os.WriteFile(path, []byte(`{"commit":"`+commit+`","ref":""}`+"\n\n"), 0o600); err != nil {
			t.Fatal(err)
		}
		w.log.Add(t, entry)
		w.once()
		// A file that is damaged or gone explains nothing, and accuses nobody: undecided.
		for _, damage := range []func() error{func() error { return os.WriteFile(path, []byte("{"), 0o600) }, func() error { return os.Remove(path) }} {
			if err := damage(); err != nil {
				t.Fatal(err)
			}
			w.log.Add(t, entry)
			w.once("undecided:")
		}
	}
	for _, bad := range []string{`{`, `{}`, `{"source":"x"}`, `{"commit":"x","unknown":1}`, `"sha256:00"`, `{"commit":"` + strings.Repeat("a", 70_000) + `"}`} {
		path := filepath.Join(t.TempDir(), "known.jsonl")
		if err := os.WriteFile(path, []byte(`{"commit":"x"}`+"\n"+bad), 0o600); err != nil {
			t.Fatal(err)
		}
		if _, err := monitor.OpenFile(path); err == nil || !strings.Contains(err.Error(), "known.jsonl:2") {
			t.Errorf("%.40q: got %v, want an error about line 2", bad, err)
		}
	}
	path := filepath.Join(t.TempDir(), "known.jsonl")
	if err := errors.Join(os.WriteFile(path, []byte(`{"commit":"x"}`+"\n"), 0o600), os.Truncate(path, 256<<20+1)); err != nil {
		t.Fatal(err)
	}
	if _, err := monitor.OpenFile(path); err == nil || strings.Contains(err.Error(), "known.jsonl:2") {
		t.Errorf("a large file: got %v, want it refused for its size", err)
	}
}

// TestKnownPlatform: a platform explains the signatures that were made while a release ran,
// for its commit; a thief who names a release that is over, or of another commit, is found.
func TestKnownPlatform(t *testing.T) {
	const id = "0123456789abcdef0123456789abcdef"
	p := prooftest.New(t)
	record := api.Run{ID: id, State: api.Released, Source: source, Commit: commit, Started: p.Now.Add(-time.Minute), Ended: p.Now.Add(time.Minute)}
	status := http.StatusOK
	s := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.Header.Get("Authorization") != "Bearer secret" {
			t.Errorf("got the token %q", r.Header.Get("Authorization"))
		}
		if !strings.HasSuffix(r.URL.Path, "/"+id) && status == http.StatusOK {
			w.WriteHeader(http.StatusNotFound)
			json.NewEncoder(w).Encode(api.Error{Message: "none"})
			return
		}
		w.WriteHeader(status)
		json.NewEncoder(w).Encode(record)
	}))
	defer s.Close()
	runs := s.URL + api.PathReleases + "/"
	for name, tt := range map[string]struct {
		bend func(*prooftest.Identity)
		run  func(*api.Run)
		want []string
		down bool
	}{
		"of the release":       {},
		"of one that runs":     {run: func(r *api.Run) { r.State, r.Ended = api.Publishing, time.Time{} }},
		"of one that failed":   {run: func(r *api.Run) { r.State = api.Failed }},
		"after it ended":       {run: func(r *api.Run) { r.Started, r.Ended = p.Now.Add(-2*time.Hour), p.Now.Add(-time.Hour) }, want: []string{"unexplained:0"}},
		"before it began":      {run: func(r *api.Run) { r.Started, r.Ended = p.Now.Add(time.Hour), p.Now.Add(2*time.Hour) }, want: []string{"unexplained:0"}},
		"of one that waits":    {run: func(r *api.Run) { r.State, r.Started, r.Ended = api.Waiting, time.Time{}, time.Time{} }, want: []string{"unexplained:0"}},
		"of another commit":    {bend: func(i *prooftest.Identity) { i.Commit = strings.Repeat("b", 40) }, want: []string{"unexplained:0"}},
		"of another source":    {bend: func(i *prooftest.Identity) { i.SourceURI += "2" }, want: []string{"unexplained:0"}},
		"of no release":        {bend: func(i *prooftest.Identity) { i.Invocation = runs + strings.Repeat("f", 32) }, want: []string{"unexplained:0"}},
		"of another platform":  {bend: func(i *prooftest.Identity) { i.Invocation = "https://elsewhere.example" + api.PathReleases + "/" + id }, want: []string{"unexplained:0"}},
		"by another issuer":    {bend: func(i *prooftest.Identity) { i.Issuer = issuer }, want: []string{"unexplained:0"}},
		"of a short id":        {bend: func(i *prooftest.Identity) { i.Invocation = runs + id[:4] }, want: []string{"unexplained:0"}},
		"of a path":            {bend: func(i *prooftest.Identity) { i.Invocation = runs + id + "/../" + id }, want: []string{"unexplained:0"}},
		"the platform is down": {down: true, want: []string{"undecided:"}},
	} {
		identity := ours()
		identity.Issuer, identity.Invocation = s.URL, runs+id
		if tt.bend != nil {
			tt.bend(&identity)
		}
		before := record
		if tt.run != nil {
			tt.run(&record)
		}
		if status = http.StatusOK; tt.down {
			status = http.StatusUnauthorized
		}
		w := newWorld(t, monitor.Watch{Known: []monitor.Known{monitor.NewPlatform(&api.ClientConfig{URL: s.URL, Token: "secret"})}})
		w.log.Add(t, body(t, p, identity))
		w.once(tt.want...)
		if tt.down { // nothing was lost
			status = http.StatusOK
			w.once()
		}
		record = before
		if t.Failed() {
			t.Fatal(name)
		}
	}
}

// TestSinksThatFail: an alarm that a sink did not take is given to it again, and not again to
// those that took it, until a new start.
func TestSinksThatFail(t *testing.T) {
	w := newWorld(t, monitor.Watch{})
	bad := &taken{fail: errors.New("down")}
	w.m.Sinks = append(w.m.Sinks, bad)
	w.log.Add(t, body(t, w.p, ours()))
	logs, err := w.m.Open([]monitor.Log{{Config: follow.Config{Key: w.log.Verifier(t), Source: w.log, Dir: w.dir}}})
	if err != nil {
		t.Fatal(err)
	}
	for range 3 {
		w.m.Run(t.Context(), logs, 0)
	}
	if got := fmt.Sprint(w.sink.kinds()); got != "[unexplained:0 undecided:]" {
		t.Errorf("the good sink got %s", got)
	}
	if w.m.Worst() != monitor.Unexplained {
		t.Errorf("the worst is %q", w.m.Worst())
	}
	bad.fail = nil
	w.m.Run(t.Context(), logs, 0)
	if got := fmt.Sprint(bad.kinds()); got != "[unexplained:0]" {
		t.Errorf("the sink that was down got %s", got)
	}
	if got := fmt.Sprint(w.sink.kinds()); got != "[unexplained:0 undecided: recovered:]" {
		t.Errorf("the good sink got %s", got)
	}
	logs[0].Close()
}

// TestLogThatFails: a failure of the log is told when it begins and when it ends, and each
// kind is told apart.
func TestLogThatFails(t *testing.T) {
	w := newWorld(t, monitor.Watch{})
	w.log.Add(t, body(t, w.p, ours()))
	w.once("unexplained:0")
	good, _ := w.log.Checkpoint(t.Context())
	logs, err := w.m.Open([]monitor.Log{{Config: follow.Config{Key: w.log.Verifier(t), Source: w.log, Dir: w.dir, Pause: time.Millisecond}}})
	if err != nil {
		t.Fatal(err)
	}
	defer logs[0].Close()
	w.sink.alarms = nil
	for _, shown := range [][]byte{[]byte("<html>"), w.log.SignText(t, "I owe you 100\n"), w.log.SignText(t, strings.Replace(w.log.Tree().String(), "\n1\n", "\n0\n", 1)), good} {
		w.log.Show(shown)
		for range 2 {
			w.m.Run(t.Context(), logs, 0)
		}
	}
	if got := fmt.Sprint(w.sink.kinds()); got != "[unreachable:no-checkpoint key-suspect:signed-other key-suspect:signed-other recovered:]" &&
		got != "[unreachable:no-checkpoint key-suspect:signed-other recovered:]" {
		t.Errorf("got %s", got)
	}
	w.log.Become(w.log.Clone(t, 0))
	w.m.Run(t.Context(), logs, 0)
	if w.m.Worst() != monitor.Misbehaves {
		t.Errorf("the worst is %q, want %q", w.m.Worst(), monitor.Misbehaves)
	}
}

// TestFailureThatASinkMissed: a log that misbehaves once, while a sink is down, is told to the sink
// when it is up again, although the log then behaves.
func TestFailureThatASinkMissed(t *testing.T) {
	w := newWorld(t, monitor.Watch{})
	bad := &taken{fail: errors.New("down")}
	w.m.Sinks = append(w.m.Sinks, bad)
	good, _ := w.log.Checkpoint(t.Context())
	logs, err := w.m.Open([]monitor.Log{{Config: follow.Config{Key: w.log.Verifier(t), Source: w.log, Dir: w.dir, Pause: time.Millisecond}}})
	if err != nil {
		t.Fatal(err)
	}
	defer logs[0].Close()
	w.m.Run(t.Context(), logs, 0)
	w.log.Show(w.log.SignText(t, "I owe you 100\n"))
	for range 3 {
		w.m.Run(t.Context(), logs, 0)
	}
	w.log.Show(good)
	w.m.Run(t.Context(), logs, 0)
	bad.fail = nil
	for range 2 {
		w.m.Run(t.Context(), logs, 0)
	}
	if got := fmt.Sprint(bad.kinds()); got != "[key-suspect:signed-other recovered:]" {
		t.Errorf("the sink that was down got %s", got)
	}
	if got := fmt.Sprint(w.sink.kinds()); got != "[key-suspect:signed-other recovered:]" {
		t.Errorf("the good sink got %s", got)
	}
}

// TestWebhookFile: a webhook is https or on this machine, and no error quotes its file.
func TestWebhookFile(t *testing.T) {
	for where, good := range map[string]bool{
		"https://hook.example/x": true, "http://127.0.0.1:1/x": true, "http://hook.example/x": false, "https://u:p@hook.example/": false, "ftp://hook.example/": false, "https:///x": false,
	} {
		if _, err := monitor.NewWebhook(where); (err == nil) != good {
			t.Errorf("%s: got %v", where, err)
		}
	}
	for text, good := range map[string]bool{
		"https://hook.example/s3cret\n": true, "https://hook.example/s3cret\r\nAuthorization: s3cret\r\n": true, "http://hook.example/s3cret\n": false, "": false,
		"https://hook.example/\nAuthorization s3cret": false, "https://hook.example/\nA b: s3cret": false, "https://hook.example/\nA: s3cret\x00": false,
		"https://hook.example/\nA: " + strings.Repeat("s3cret", 4000): false,
	} {
		path := filepath.Join(t.TempDir(), "hook")
		if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
		_, err := monitor.NewWebhook(path)
		if (err == nil) != good || err != nil && strings.Contains(err.Error(), "s3cret") {
			t.Errorf("%.60q: got %v", text, err)
		}
	}
}

// BenchmarkWatch watches a log of 10⁶ entries of certificates, of which no pattern matches
// one, over HTTP on loopback. It reports entries per minute.
func BenchmarkWatch(b *testing.B) {
	const size = 1_000_000
	p := prooftest.New(b)
	log := tlogtest.New(b, "log.example")
	var different [][]byte
	for i := range 200 { // signatures of five things are made with one certificate
		id := ours()
		id.Invocation = fmt.Sprintf("https://ci.example/runs/%d", i)
		different = append(different, body(b, p, id))
	}
	entries := make([][]byte, size)
	for i := range entries {
		entries[i] = different[i/5%len(different)]
	}
	log.Add(b, entries...)
	url := log.Serve(b)
	for b.Loop() {
		m := &monitor.Monitor{Watch: monitor.Watch{Sources: pattern(b, `https://git\.example/acme/other`), Identities: pattern(b, `.*@acme\.example`)}}
		logs, err := m.Open([]monitor.Log{{Config: follow.Config{Key: log.Verifier(b), Source: follow.HTTP(url), Dir: b.TempDir()}}})
		if err != nil {
			b.Fatal(err)
		}
		began := time.Now()
		m.Run(b.Context(), logs, 0)
		if _, err := logs[0].State(); err != nil || m.Worst() != "" || logs[0].Progress().Next != size {
			b.Fatalf("got %v, %q", err, m.Worst())
		}
		b.ReportMetric(size/time.Since(began).Minutes(), "entries/min")
		logs[0].Close()
	}
}
