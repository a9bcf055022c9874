// Package worker is the build zone's role: it runs builds of strangers' code for
// the attest zone, over a Unix socket that only the attestor may build through.
// Bytes cross that boundary: a source tree in, an OCI layout out. What the
// worker says beside them (digest, dependencies) is a claim.
//
// One request is POST /build. Its body is the job, as a frame of type 'J', and
// then a tar of the source tree. The answer is a stream of frames: any number
// of 'E' (an event), and then either 'T's (pieces of a tar of the layout) and
// one 'R' (the result), or one 'F' (the failure). A frame is its type (1 byte),
// its length (4 bytes, big endian) and its payload; all payloads but 'T' are
// JSON. A stream that ends without 'R' or 'F' is a failure. Closing the
// connection ends the build.
//
// GET /missing answers the builders that cannot work here, and why: a JSON
// object of names and reasons. GET /metrics is for the platform's.
package worker

import (
	"bytes"
	"context"
	"encoding/binary"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/promhttp"

	"github.com/colophon-build/colophon/attest"
	"github.com/colophon-build/colophon/internal/dirlock"
	"github.com/colophon-build/colophon/internal/limits"
	"github.com/colophon-build/colophon/internal/peer"
	"github.com/colophon-build/colophon/internal/printable"
	"github.com/colophon-build/colophon/internal/strict"
	"github.com/colophon-build/colophon/platform/builder"
)

// Config of a worker. Listener, Users, Dir and Builders are required.
type Config struct {
	Listener   net.Listener               // role "attestor" may build; all that Users has may ask how it is
	Users      peer.Users                 // of the platform
	Dir        string                     // trees and layouts of builds in flight; emptied at start. One worker's alone
	Builders   map[string]builder.Builder // by the name that recipes use
	Apart      map[string]Apart           // builders whose builds are a process each
	Missing    map[string]string          // builders that cannot work here, and why
	Concurrent int                        // builds at one time; default 2
	Queue      int                        // builds that may wait for their turn; default 64. More are refused
	Log        *slog.Logger               // default discards
}

// Apart prepares a process that calls Child for one build, with the directory dir
// and its standard input and output. The worker starts it and ends it.
type Apart func(ctx context.Context, dir string) *exec.Cmd

const (
	maxFrame  = 1 << 20 // payload of one frame, apart from 'R'
	maxResult = 64 << 20
	jobPrefix = "job-"
)

// job is what a builder.Request is without the directories of either side.
type job struct {
	Recipe  attest.Recipe  `json:"recipe"`
	Epoch   time.Time      `json:"epoch"`
	Limits  builder.Limits `json:"limits"`
	Session string         `json:"session,omitempty"`
}

// failure is an error; Recipe tells a *builder.Error from a broken builder, and
// Missing, the builder's name, a *builder.UnavailableError.
type failure struct {
	Recipe  bool   `json:"recipe"`
	Missing string `json:"missing,omitempty"`
	Step    string `json:"step,omitempty"`
	Message string `json:"message"`
}

type server struct {
	cfg     Config
	turns   chan struct{}
	waiting atomic.Int64
}

// Serve answers until ctx is done; builds in flight are ended then and erased
// before it returns.
func Serve(ctx context.Context, cfg Config) error {
	if cfg.Concurrent <= 0 {
		cfg.Concurrent = 2
	}
	if cfg.Queue <= 0 {
		cfg.Queue = 64
	}
	if cfg.Log == nil {
		cfg.Log = slog.New(slog.DiscardHandler)
	}
	lock, err := claim(cfg.Dir)
	if err != nil {
		return err
	}
	defer lock.Release()
	s := &server{cfg: cfg, turns: make(chan struct{}, cfg.Concurrent)}
	var running sync.WaitGroup
	mux := http.NewServeMux()
	mux.Handle("POST /build", peer.Allow(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		running.Add(1)
		defer running.Done()
		s.build(w, r)
	}), "attestor"))
	mux.HandleFunc("GET /missing", func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("Content-Type", "application/json")
		_ = json.NewEncoder(w).Encode(cfg.Missing)
	})
	mux.Handle("GET /metrics", s.metrics())
	err = peer.Serve(ctx, cfg.Listener, cfg.Users, mux)
	running.Wait()
	return err
}

// metrics of the builds now.
func (s *server) metrics() http.Handler {
	reg := prometheus.NewRegistry()
	for _, g := range []struct {
		name, help string
		value      func() float64
	}{
		{"colophon_builds_running", "Builds that have a room.", func() float64 { return float64(len(s.turns)) }},
		{"colophon_builds_waiting", "Builds that wait for their turn.", func() float64 { return max(0, float64(s.waiting.Load())-float64(len(s.turns))) }},
	} {
		reg.MustRegister(prometheus.NewGaugeFunc(prometheus.GaugeOpts{Name: g.name, Help: g.help}, g.value))
	}
	return promhttp.HandlerFor(reg, promhttp.HandlerOpts{})
}

// claim makes dir ours and removes what a killed worker left in it.
func claim(dir string) (*dirlock.Lock, error) {
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return nil, err
	}
	lock, err := dirlock.Take(dir)
	if err != nil {
		return nil, err
	}
	left, err := filepath.Glob(filepath.Join(dir, jobPrefix+"*"))
	for _, d := range left {
		err = errors.Join(err, os.RemoveAll(d))
	}
	if err != nil {
		lock.Release()
		return nil, err
	}
	return lock, nil
}

func (s *server) build(w http.ResponseWriter, r *http.Request) {
	// The tree is read whole before anything is answered, so the connection is
	// never used both ways at once; from then on the server notices its end.
	ctx := r.Context()
	if s.waiting.Add(1) > int64(s.cfg.Queue+s.cfg.Concurrent) {
		s.waiting.Add(-1)
		http.Error(w, fmt.Sprintf("more than %d builds are waiting", s.cfg.Queue), http.StatusServiceUnavailable)
		return
	}
	defer s.waiting.Add(-1)
	select {
	case s.turns <- struct{}{}:
		defer func() { <-s.turns }()
	case <-ctx.Done():
		return
	}
	out := &frames{w: w, flush: http.NewResponseController(w).Flush}
	start := time.Now()
	name, err := s.one(ctx, r.Body, out)
	s.cfg.Log.Info("build", "builder", name, "took", time.Since(start).Round(time.Millisecond).String(), "err", err)
	if err != nil && ctx.Err() == nil {
		out.fail(err)
	}
}

// one is one build, from the request's bytes to the last frame.
func (s *server) one(ctx context.Context, body io.Reader, out *frames) (name string, err error) {
	j, raw, err := readJob(body)
	if err != nil {
		return "", err
	}
	name = j.Recipe.Builder
	b, apart := s.cfg.Builders[name], s.cfg.Apart[name]
	if reason, missing := s.cfg.Missing[name]; missing {
		return name, &builder.UnavailableError{Builder: name, Reason: reason}
	}
	if b == nil && apart == nil {
		return "", fmt.Errorf("builder %q is not on this platform; it has %s", name, s.names())
	}
	dir, err := os.MkdirTemp(s.cfg.Dir, jobPrefix)
	if err != nil {
		return name, err
	}
	defer func() { err = errors.Join(err, os.RemoveAll(dir)) }()
	if apart != nil {
		return name, hand(apart(ctx, dir), io.MultiReader(bytes.NewReader(raw), body), out)
	}
	return name, do(ctx, b, dir, j, body, out)
}

// hand has a process do the build, and hands on its frames unread.
func hand(cmd *exec.Cmd, in io.Reader, out *frames) error {
	cmd.Stdin = in
	cmd.WaitDelay = 10 * time.Second
	answer, err := cmd.StdoutPipe()
	if err != nil {
		return err
	}
	// A parent death signal comes when the thread that forked ends.
	runtime.LockOSThread()
	defer runtime.UnlockOSThread()
	if err := cmd.Start(); err != nil {
		return err
	}
	var last byte
	for err == nil {
		var payload []byte
		var kind byte
		if kind, payload, err = readFrame(answer); err == nil {
			last = kind
			err = out.write(kind, payload)
		}
	}
	if !errors.Is(err, io.EOF) {
		cmd.Process.Kill()
	} else {
		err = nil
	}
	if ended := cmd.Wait(); last != 'R' && last != 'F' {
		return errors.Join(errors.New("the process of this build ended without a word"), err, ended)
	}
	return err
}

// Child is a build in a process that Apart prepared: it reads the request from in
// and answers on out.
func Child(ctx context.Context, b builder.Builder, dir string, in io.Reader, out io.Writer) error {
	f := &frames{w: out, flush: func() error { return nil }}
	j, _, err := readJob(in)
	if err == nil {
		err = do(ctx, b, dir, j, in, f)
	}
	if err != nil && ctx.Err() == nil {
		return f.fail(err)
	}
	return err
}

// readJob reads the first frame, and returns its bytes too.
func readJob(body io.Reader) (j job, raw []byte, err error) {
	kind, payload, err := readFrame(body)
	if err != nil {
		return j, nil, fmt.Errorf("reading the job: %w", err)
	}
	if kind != 'J' {
		return j, nil, fmt.Errorf("first frame: got %q, want 'J'", kind)
	}
	if err := strict.UnmarshalKnown(payload, limits.Request, &j); err != nil {
		return j, nil, fmt.Errorf("job: %w", err)
	}
	return j, append(frameHead(kind, len(payload)), payload...), nil
}

// do builds below dir.
func do(ctx context.Context, b builder.Builder, dir string, j job, body io.Reader, out *frames) error {
	tree, layout := filepath.Join(dir, "tree"), filepath.Join(dir, "layout")
	for _, d := range []string{tree, layout} {
		if err := os.Mkdir(d, 0o700); err != nil {
			return err
		}
	}
	if err := unpackTree(body, tree); err != nil {
		return fmt.Errorf("the source tree: %w", err)
	}
	res, err := b.Build(ctx, builder.Request{
		Recipe: j.Recipe, Tree: tree, Epoch: j.Epoch, Layout: layout, Limits: j.Limits, Session: j.Session,
		Log: func(e builder.Event) {
			e.Step, e.Line = bounded(e.Step, 64<<10), bounded(e.Line, 64<<10)
			out.json('E', e)
		},
	})
	if err != nil {
		return err
	}
	if err := builder.PackLayout(&chunks{out}, layout); err != nil {
		return fmt.Errorf("sending the layout: %w", err)
	}
	return out.json('R', res)
}

func (s *server) names() string {
	var names []string
	for n := range s.cfg.Builders {
		names = append(names, n)
	}
	for n := range s.cfg.Apart {
		names = append(names, n)
	}
	if len(names) == 0 {
		return "none (its log says why)"
	}
	return strings.Join(names, ", ")
}

func bounded(s string, most int) string {
	return strings.ToValidUTF8(printable.Cut(s, most), "\uFFFD")
}

// frames writes frames; builders may log from several goroutines.
type frames struct {
	mu    sync.Mutex
	w     io.Writer
	flush func() error
}

func (f *frames) write(kind byte, payload []byte) error {
	f.mu.Lock()
	defer f.mu.Unlock()
	if _, err := f.w.Write(frameHead(kind, len(payload))); err != nil {
		return err
	}
	if _, err := f.w.Write(payload); err != nil {
		return err
	}
	if kind == 'T' {
		return nil
	}
	return f.flush()
}

func (f *frames) json(kind byte, v any) error {
	raw, err := json.Marshal(v)
	if err != nil {
		return err
	}
	return f.write(kind, raw)
}

// fail is the last word of a build that failed.
func (f *frames) fail(err error) error {
	w := failure{Message: err.Error()}
	if be, ok := errors.AsType[*builder.Error](err); ok {
		w = failure{Recipe: true, Step: be.Step, Message: be.Err.Error()}
	}
	if away, ok := errors.AsType[*builder.UnavailableError](err); ok {
		w = failure{Missing: away.Builder, Message: away.Reason}
	}
	w.Message, w.Step = bounded(w.Message, 64<<10), bounded(w.Step, 4<<10)
	return f.json('F', w)
}

func frameHead(kind byte, n int) []byte {
	return binary.BigEndian.AppendUint32([]byte{kind}, uint32(n))
}

// chunks is a writer of 'T' frames.
type chunks struct{ out *frames }

func (c *chunks) Write(p []byte) (n int, err error) {
	for len(p) > 0 {
		k := min(len(p), maxFrame)
		if err := c.out.write('T', p[:k]); err != nil {
			return n, err
		}
		n, p = n+k, p[k:]
	}
	return n, nil
}

// readFrame reads one frame; io.EOF only where the stream ends between frames.
func readFrame(r io.Reader) (kind byte, payload []byte, err error) {
	var head [5]byte
	if _, err := io.ReadFull(r, head[:]); err != nil {
		return 0, nil, err
	}
	most := uint32(maxFrame)
	if head[0] == 'R' {
		most = maxResult
	}
	n := binary.BigEndian.Uint32(head[1:])
	if n > most {
		return 0, nil, fmt.Errorf("frame %q of %d bytes, at most %d are taken", head[0], n, most)
	}
	payload = make([]byte, n)
	if _, err := io.ReadFull(r, payload); err != nil {
		return 0, nil, io.ErrUnexpectedEOF
	}
	return head[0], payload, nil
}
