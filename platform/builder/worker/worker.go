// Package worker implements the protocol by which the attest zone has untrusted builds
// run, over a socket. A worker receives a source tree and returns an OCI layout.
// Everything else that it returns (digest, dependencies) is a claim. Only the attestor
// may start builds. A worker either runs builds itself, or passes each request
// unchanged to a process that runs this one build (Apart).
//
// POST /build runs one build. The request's body is the job, as a frame of type
// 'J', followed by a tar of the source tree, and one of each repository that the job's
// Dockerfile adds. The answer is a stream of frames: any
// number of 'E' (an event), then either several 'T' (pieces of a tar of the
// layout) and one 'R' (the result), or one 'F' (the failure). A frame is its type
// (1 byte), its payload's length (4 bytes, big endian) and its payload; all
// payloads except 'T' are JSON. A stream that ends without 'R' or 'F' is a
// failure. If the client closes the connection, the build ends.
//
// GET /missing returns the builders that cannot work on this host: a JSON object
// from name to reason. GET /metrics returns the worker's metrics (Prometheus).
package worker

import (
	"bytes"
	"context"
	"encoding/binary"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"log/slog"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"slices"
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

// Config describes a worker. Dir is required.
type Config struct {
	Dir        string                     // trees and layouts of running builds; emptied at start. One worker uses it at a time
	Builders   map[string]builder.Builder // by their name in recipes
	Apart      map[string]Apart           // builders that run each build in a process of its own, by name
	Missing    map[string]builder.Lack    // builders that cannot work on this host, by name
	Concurrent int                        // maximum number of running builds; default 2
	Queue      int                        // maximum number of waiting builds; default 64. Further builds are refused
	Log        *slog.Logger               // default: no log
}

// Apart returns a command whose process calls Child for one build, with dir and
// its standard input and output. The worker starts the process and ends it. If the
// command has a Stdin, the process reads that before it calls Child.
type Apart func(ctx context.Context, dir string) (*exec.Cmd, error)

const (
	defaultConcurrent = 2
	defaultQueue      = 64
)

const (
	maxFrame  = 1 << 20  // bytes of one frame's payload, except 'R'
	maxResult = 64 << 20 // bytes of the payload of 'R'
	jobPrefix = "job-"
)

// job is the part of a builder.Request that is sent to the worker: all but the
// directories and the log.
type job struct {
	Recipe  attest.Recipe   `json:"recipe"`
	Added   []builder.Added `json:"added,omitempty"`
	Epoch   time.Time       `json:"epoch"`
	Limits  builder.Limits  `json:"limits"`
	Session string          `json:"session,omitempty"`

	KeepCaches bool `json:"keepCaches,omitempty"`
}

// failure is the payload of 'F'. If Recipe is true, the client returns a
// *builder.Error; if Missing names a builder, a *builder.UnavailableError.
type failure struct {
	Recipe  bool   `json:"recipe"`
	Missing string `json:"missing,omitempty"`
	Hint    string `json:"hint,omitempty"`
	Step    string `json:"step,omitempty"`
	Message string `json:"message"`
}

// Worker runs builds for the attestor.
type Worker struct {
	cfg     Config
	lock    *dirlock.Lock
	turns   chan struct{}
	waiting atomic.Int64
	running sync.WaitGroup
}

// New locks cfg.Dir and empties it. Close releases it.
func New(cfg Config) (*Worker, error) {
	if cfg.Concurrent <= 0 {
		cfg.Concurrent = defaultConcurrent
	}
	if cfg.Queue <= 0 {
		cfg.Queue = defaultQueue
	}
	if cfg.Log == nil {
		cfg.Log = slog.New(slog.DiscardHandler)
	}
	lock, err := lockDir(cfg.Dir)
	if err != nil {
		return nil, err
	}
	return &Worker{cfg: cfg, lock: lock, turns: make(chan struct{}, cfg.Concurrent)}, nil
}

// Register adds the worker's paths to mux, for peer.Serve. The role "attestor" may build;
// every role may read /missing and /metrics.
func (s *Worker) Register(mux *http.ServeMux) {
	mux.Handle("POST /build", peer.Allow(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		s.running.Add(1)
		defer s.running.Done()
		s.build(w, r)
	}), "attestor"))
	mux.HandleFunc("GET /missing", func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("Content-Type", "application/json")
		_ = json.NewEncoder(w).Encode(s.cfg.Missing)
	})
	mux.Handle("GET /metrics", s.metrics())
}

// Close returns when the running builds have ended and their files are erased. Their
// requests must end first: peer.Serve cancels them.
func (s *Worker) Close() {
	s.running.Wait()
	s.lock.Release()
}

// metrics returns the handler of GET /metrics.
func (s *Worker) metrics() http.Handler {
	reg := prometheus.NewRegistry()
	for _, g := range []struct {
		name, help string
		value      func() float64
	}{
		{"colophon_builds_running", "Builds that have a room.", func() float64 { return float64(len(s.turns)) }},
		{"colophon_builds_waiting", "Builds that wait for their turn.", func() float64 { return max(0, float64(s.waiting.Load())-float64(len(s.turns))) }},
	} {
		reg.MustRegister(prometheus.NewGaugeFunc(prometheus.GaugeOpts{Name: g.name, Help: g.help, ConstLabels: prometheus.Labels{"builder": s.names()}}, g.value))
	}
	return promhttp.HandlerFor(reg, promhttp.HandlerOpts{})
}

// lockDir creates and locks dir, and removes the files of builds that a killed
// worker left in it.
func lockDir(dir string) (*dirlock.Lock, error) {
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return nil, err
	}
	lock, err := dirlock.Take(dir)
	if err != nil {
		return nil, err
	}
	stale, err := filepath.Glob(filepath.Join(dir, jobPrefix+"*"))
	for _, d := range stale {
		err = errors.Join(err, erase(d))
	}
	if err != nil {
		lock.Release()
		return nil, err
	}
	return lock, nil
}

// erase removes the directory of a build. The build may belong to another user, who may
// have protected files from removal (sticky bit, chmod(2)): then they become ours first.
func erase(dir string) error {
	if os.RemoveAll(dir) == nil {
		return nil
	}
	filepath.WalkDir(dir, func(path string, _ fs.DirEntry, err error) error {
		return errors.Join(err, os.Lchown(path, os.Geteuid(), -1))
	})
	return os.RemoveAll(dir)
}

func (s *Worker) build(w http.ResponseWriter, r *http.Request) {
	// The worker reads the whole tree before it answers, so the connection never
	// carries data both ways at once. After the tree, net/http cancels ctx when the
	// client closes the connection.
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
	name, err := s.runJob(ctx, r.Body, out)
	if took := time.Since(start).Round(time.Millisecond).String(); err != nil {
		s.cfg.Log.ErrorContext(ctx, "build failed", "builder", name, "took", took, "error", err)
	} else {
		s.cfg.Log.InfoContext(ctx, "built", "builder", name, "took", took)
	}
	if err != nil && ctx.Err() == nil {
		out.fail(err)
	}
}

// runJob reads the job and the tree from body, runs the build and writes the
// frames of its answer, except 'F'. name is the builder's.
func (s *Worker) runJob(ctx context.Context, body io.Reader, out *frames) (name string, err error) {
	j, raw, err := readJob(body)
	if err != nil {
		return "", err
	}
	name = j.Recipe.Builder
	b, apart := s.cfg.Builders[name], s.cfg.Apart[name]
	if lack, missing := s.cfg.Missing[name]; missing {
		return name, &builder.UnavailableError{Builder: name, Lack: lack}
	}
	if b == nil && apart == nil {
		return "", fmt.Errorf("this role has no builder %q; it has %q", name, s.names())
	}
	dir, err := os.MkdirTemp(s.cfg.Dir, jobPrefix)
	if err != nil {
		return name, err
	}
	defer func() { err = errors.Join(err, erase(dir)) }()
	if apart != nil {
		cmd, err := apart(ctx, dir)
		if err != nil {
			return name, err
		}
		return name, runProcess(cmd, io.MultiReader(bytes.NewReader(raw), body), out)
	}
	return name, build(ctx, b, dir, j, body, out)
}

// runProcess runs one build in the process of cmd. It passes the request in to the
// process, and the frames that the process writes to out, without interpreting them.
func runProcess(cmd *exec.Cmd, in io.Reader, out *frames) error {
	if cmd.Stdin != nil {
		in = io.MultiReader(cmd.Stdin, in)
	}
	cmd.Stdin = in
	cmd.WaitDelay = 10 * time.Second
	answer, err := cmd.StdoutPipe()
	if err != nil {
		return err
	}
	// The kernel sends the parent death signal when the thread that forked ends, so
	// this goroutine keeps its thread until the process has ended.
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
		return errors.Join(errors.New("the build process ended without a result"), err, ended)
	}
	return err
}

// Child runs one build in the process that an Apart prepared. It reads the request
// from in and writes the answer's frames to out.
func Child(ctx context.Context, b builder.Builder, dir string, in io.Reader, out io.Writer) error {
	f := &frames{w: out, flush: func() error { return nil }}
	j, _, err := readJob(in)
	if err == nil {
		err = build(ctx, b, dir, j, in, f)
	}
	if err != nil && ctx.Err() == nil {
		return f.fail(err)
	}
	return err
}

// readJob reads the job from the first frame of body. raw is the whole frame.
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

// build unpacks the tree from body below dir, builds it with b, and writes events,
// layout and result to out.
func build(ctx context.Context, b builder.Builder, dir string, j job, body io.Reader, out *frames) error {
	tree, layout := filepath.Join(dir, "tree"), filepath.Join(dir, "layout")
	trees := []string{tree}
	for i := range j.Added {
		j.Added[i].Tree = filepath.Join(dir, fmt.Sprintf("added-%d", i))
		trees = append(trees, j.Added[i].Tree)
	}
	for _, d := range append(trees, layout) {
		if err := os.Mkdir(d, 0o700); err != nil {
			return err
		}
	}
	for _, t := range trees {
		if err := unpackTree(body, t); err != nil {
			return fmt.Errorf("%s: %w", filepath.Base(t), err)
		}
	}
	// Read to the end, so that the request's whole body is consumed.
	if _, err := io.Copy(io.Discard, body); err != nil {
		return err
	}
	res, err := b.Build(ctx, builder.Request{
		Recipe: j.Recipe, Tree: tree, Added: j.Added, Epoch: j.Epoch, Layout: layout, Limits: j.Limits, Session: j.Session, KeepCaches: j.KeepCaches,
		Log: func(e builder.Event) {
			e.Step, e.Line = truncate(e.Step, 64<<10), truncate(e.Line, 64<<10)
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

// names lists the worker's builders, also those that are missing.
func (s *Worker) names() string {
	var names []string
	for n := range s.cfg.Builders {
		names = append(names, n)
	}
	for n := range s.cfg.Apart {
		names = append(names, n)
	}
	for n := range s.cfg.Missing {
		names = append(names, n)
	}
	slices.Sort(names)
	return strings.Join(names, ", ")
}

// truncate cuts s to at most size bytes and makes it valid UTF-8.
func truncate(s string, size int) string {
	return strings.ToValidUTF8(printable.Cut(s, size), "\uFFFD")
}

// frames writes frames. It is safe for concurrent use, because builders may log
// from several goroutines.
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

// fail writes err as the frame 'F'.
func (f *frames) fail(err error) error {
	w := failure{Message: err.Error()}
	if be, ok := errors.AsType[*builder.Error](err); ok {
		w = failure{Recipe: true, Step: be.Step, Message: be.Err.Error()}
	}
	if unavailable, ok := errors.AsType[*builder.UnavailableError](err); ok {
		w = failure{Missing: unavailable.Builder, Message: unavailable.Reason, Hint: unavailable.Hint}
	}
	w.Message, w.Step, w.Hint = truncate(w.Message, 64<<10), truncate(w.Step, 4<<10), truncate(w.Hint, 4<<10)
	return f.json('F', w)
}

func frameHead(kind byte, n int) []byte {
	return binary.BigEndian.AppendUint32([]byte{kind}, uint32(n))
}

// chunks is an io.Writer that writes its data as 'T' frames.
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

// readFrame reads one frame. It returns io.EOF only if the stream ends between
// two frames.
func readFrame(r io.Reader) (kind byte, payload []byte, err error) {
	var head [5]byte
	if _, err := io.ReadFull(r, head[:]); err != nil {
		return 0, nil, err
	}
	size := uint32(maxFrame)
	if head[0] == 'R' {
		size = maxResult
	}
	n := binary.BigEndian.Uint32(head[1:])
	if n > size {
		return 0, nil, fmt.Errorf("frame %q: got %d bytes, want at most %d", head[0], n, size)
	}
	payload = make([]byte, n)
	if _, err := io.ReadFull(r, payload); err != nil {
		return 0, nil, io.ErrUnexpectedEOF
	}
	return head[0], payload, nil
}
