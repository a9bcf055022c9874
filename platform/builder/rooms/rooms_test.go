package rooms

import (
	"context"
	"errors"
	"io"
	"log/slog"
	"net"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"

	"github.com/colophon-build/colophon/internal/peer"
	"github.com/colophon-build/colophon/platform/builder"
	"github.com/colophon-build/colophon/platform/builder/buildkit"
	"github.com/colophon-build/colophon/test/await"
)

// fake rooms echo what is said to them: what is tested is the boundary. Real
// ones are tried by every platform of test/.
type fake struct {
	mu   sync.Mutex
	open map[string]*fakeRoom
	kept []bool
}

func (f *fake) Begin(_ context.Context, s builder.Session) (string, error) {
	if s.Record {
		return "", errors.New("no more sessions")
	}
	return "abc", nil
}

func (f *fake) End(_ context.Context, id string) (*builder.Record, error) {
	if id != "abc" {
		return nil, errors.New("no such session")
	}
	return &builder.Record{Config: map[string]string{"network": "none"}, Exchanges: []builder.Exchange{{Method: "GET", URL: "https://example.com/"}}}, nil
}

func (f *fake) Keep(_ context.Context, id string, keep bool) error {
	if id != "abc" {
		return errors.New("no such session")
	}
	f.kept = append(f.kept, keep)
	return nil
}

func (f *fake) Open(_ context.Context, id string, l builder.Limits) (buildkit.Room, error) {
	if id != "abc" || l.PIDs != 7 {
		return nil, errors.New("no such session")
	}
	m := &fakeRoom{done: make(chan struct{}), closed: make(chan struct{})}
	f.mu.Lock()
	defer f.mu.Unlock()
	f.open[id] = m
	return m, nil
}

type fakeRoom struct {
	done, closed chan struct{}
	once         sync.Once
}

func (m *fakeRoom) Dial(context.Context) (net.Conn, error) {
	a, b := net.Pipe()
	go func() { io.Copy(a, a); a.Close() }()
	return b, nil
}
func (m *fakeRoom) Done() <-chan struct{} { return m.done }
func (m *fakeRoom) State(context.Context) buildkit.State {
	return buildkit.State{Exceeded: "out of memory", Said: "aah"}
}
func (m *fakeRoom) Pack(context.Context) error { return errors.New("too large") }
func (m *fakeRoom) Close() error               { m.once.Do(func() { close(m.closed) }); return nil }

func serve(t *testing.T, users peer.Users) (Client, *fake) {
	t.Helper()
	c := Client{peer.At(filepath.Join(t.TempDir(), "s"))}
	l, err := peer.Listen(c.At.Socket, -1)
	if err != nil {
		t.Fatal(err)
	}
	f := &fake{open: map[string]*fakeRoom{}}
	await.Background(t, func(ctx context.Context) error {
		return peer.Serve(ctx, l, users, Handler(f, slog.New(slog.DiscardHandler)))
	})
	return c, f
}

func TestOverASocket(t *testing.T) {
	c, f := serve(t, peer.Users{"attestor": os.Getuid(), "driver": os.Getuid()})
	ctx := t.Context()
	if _, err := c.Begin(ctx, builder.Session{Record: true}); err == nil || err.Error() != "no more sessions" {
		t.Errorf("got %v, want the reason", err)
	}
	id, err := c.Begin(ctx, builder.Session{})
	if err != nil || id != "abc" {
		t.Fatalf("%q, %v", id, err)
	}
	if _, err := c.Open(ctx, "other", builder.Limits{PIDs: 7}); err == nil || err.Error() != "no such session" {
		t.Errorf("got %v, want the reason", err)
	}
	opening, cancel := context.WithCancel(ctx)
	room, err := c.Open(opening, id, builder.Limits{PIDs: 7})
	if err != nil {
		t.Fatal(err)
	}
	cancel() // an open room outlives the context that opened it
	conn, err := room.Dial(ctx)
	if err != nil {
		t.Fatal(err)
	}
	long := strings.Repeat("0123456789abcdef", 1<<16)
	go io.WriteString(conn, long)
	got := make([]byte, len(long))
	if _, err := io.ReadFull(conn, got); err != nil || string(got) != long {
		t.Errorf("echo: %d bytes, %v", len(got), err)
	}
	conn.Close()
	if s := room.State(ctx); s.Exceeded != "out of memory" || s.Said != "aah" || s.Ended {
		t.Errorf("state: %+v", s)
	}
	if err := room.Pack(ctx); err == nil || err.Error() != "too large" {
		t.Errorf("packing: got %v, want the reason", err)
	}
	close(f.open[id].done)
	<-room.Done()
	if err := room.Close(); err != nil {
		t.Error(err)
	}
	<-f.open[id].closed
	r, err := c.End(ctx, id)
	if err != nil || len(r.Exchanges) != 1 || r.Config["network"] != "none" {
		t.Errorf("record: %+v, %v", r, err)
	}
	if err := errors.Join(c.Keep(ctx, id, true), c.Keep(ctx, id, false)); err != nil || len(f.kept) != 2 || !f.kept[0] || f.kept[1] {
		t.Errorf("kept %v, %v", f.kept, err)
	}
	if err := c.Keep(ctx, "other", true); err == nil || err.Error() != "no such session" {
		t.Errorf("got %v, want the reason", err)
	}
	if _, err := c.End(ctx, "other"); err == nil {
		t.Error("an unknown session has a record")
	}
}

// A builder that dies takes its room with it.
func TestHangingUpClosesTheRoom(t *testing.T) {
	c, f := serve(t, peer.Users{"attestor": os.Getuid(), "driver": os.Getuid()})
	m, err := c.Open(t.Context(), "abc", builder.Limits{PIDs: 7})
	if err != nil {
		t.Fatal(err)
	}
	m.(*room).hangUp()
	<-f.open["abc"].closed
	<-m.Done()
}

// Neither side can do the other's part.
func TestWhoMayDoWhat(t *testing.T) {
	ctx := t.Context()
	forbidden := func(what string, err error) {
		t.Helper()
		if err == nil || !strings.Contains(err.Error(), "only [") {
			t.Errorf("%s: got %v, want a refusal", what, err)
		}
	}
	driver, _ := serve(t, peer.Users{"attestor": 12345, "driver": os.Getuid()})
	_, err := driver.Begin(ctx, builder.Session{})
	forbidden("the driver begins a session", err)
	_, err = driver.End(ctx, "abc")
	forbidden("the driver asks for the record", err)
	forbidden("the driver keeps cache mounts", driver.Keep(ctx, "abc", true))
	forbidden("the driver drops cache mounts", driver.Keep(ctx, "abc", false))
	attestor, _ := serve(t, peer.Users{"attestor": os.Getuid(), "driver": 12345})
	_, err = attestor.Open(ctx, "abc", builder.Limits{PIDs: 7})
	forbidden("the attestor opens a room", err)
	forbidden("the attestor packs cache mounts", (&room{client: attestor, id: "abc"}).Pack(ctx))
	stranger, _ := serve(t, peer.Users{"attestor": 12345, "driver": 12345})
	if _, err := stranger.Begin(ctx, builder.Session{}); err == nil || !strings.Contains(err.Error(), "may not use") {
		t.Errorf("a stranger: got %v, want a refusal", err)
	}
}

func TestUnavailable(t *testing.T) {
	c := Client{peer.At(filepath.Join(t.TempDir(), "s"))}
	l, err := peer.Listen(c.At.Socket, -1)
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan error, 1)
	lack := builder.Lack{Reason: "no runc", Hint: "install runc"}
	go func() {
		done <- peer.Serve(ctx, l, peer.Users{"driver": os.Getuid()}, Unavailable(lack))
	}()
	defer func() { cancel(); <-done }()
	_, err = c.Begin(t.Context(), builder.Session{})
	if away, ok := errors.AsType[*builder.UnavailableError](err); !ok || away.Builder != "buildkit" || away.Lack != lack {
		t.Errorf("got %v, want that there is no buildkit, and the reason", err)
	}
}
