package buildkit

import (
	"context"
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"testing"
	"time"

	"github.com/moby/buildkit/client"

	"github.com/colophon-build/colophon/platform/builder"
	"github.com/colophon-build/colophon/platform/builder/gateway"
)

// BenchmarkRoom is opening a room with a buildkitd that answers, and erasing it;
// BenchmarkBareBuildkitd is the same without a room: a daemon of root on the
// host, started, answering, ended and its directory removed.
func BenchmarkRoom(b *testing.B) {
	r := rooms(b)
	for b.Loop() {
		id, err := r.Begin(b.Context(), builder.Session{})
		if err != nil {
			b.Fatal(err)
		}
		room, err := r.Open(b.Context(), id, builder.Limits{})
		if err != nil {
			b.Fatal(err)
		}
		answers(b, func(ctx context.Context, _ string) (net.Conn, error) { return room.Dial(ctx) })
		if err := room.Close(); err != nil {
			b.Fatal(err)
		}
	}
}

func BenchmarkBareBuildkitd(b *testing.B) {
	rooms(b) // or skip
	for b.Loop() {
		dir := b.TempDir()
		sock, conf := filepath.Join(dir, "sock"), filepath.Join(dir, "buildkitd.toml")
		text := fmt.Sprintf("root = %q\n[grpc]\n  address = [%q]\n[worker.oci]\n  snapshotter = \"overlayfs\"\n  gc = false\n", filepath.Join(dir, "root"), "unix://"+sock)
		if err := os.WriteFile(conf, []byte(text), 0o600); err != nil {
			b.Fatal(err)
		}
		cmd := exec.Command(repo+"/out/bin/buildkitd", "--config", conf)
		if err := cmd.Start(); err != nil {
			b.Fatal(err)
		}
		// A connection that is refused is tried again a second later.
		for _, err := os.Stat(sock); err != nil; _, err = os.Stat(sock) {
			time.Sleep(5 * time.Millisecond)
		}
		answers(b, func(ctx context.Context, _ string) (net.Conn, error) {
			return new(net.Dialer).DialContext(ctx, "unix", sock)
		})
		cmd.Process.Kill()
		cmd.Wait()
		os.RemoveAll(dir)
	}
}

// BenchmarkErase is erasing the room of a build with a large base image.
func BenchmarkErase(b *testing.B) {
	r := rooms(b)
	dir := b.TempDir()
	if err := os.WriteFile(filepath.Join(dir, "Dockerfile"), []byte("FROM golang:1.26\nRUN true\n"), 0o644); err != nil {
		b.Fatal(err)
	}
	for b.Loop() {
		b.StopTimer()
		opened := &heldRoom{}
		d := New(Config{Rooms: openerFunc(func(ctx context.Context, id string, l builder.Limits) (Room, error) {
			room, err := r.Open(ctx, id, l)
			opened.Room = room
			return opened, err
		}), WallTime: 5 * time.Minute})
		id, err := r.Begin(b.Context(), builder.Session{})
		if err != nil {
			b.Fatal(err)
		}
		if _, err := d.Build(b.Context(), builder.Request{Tree: dir, Epoch: epoch, Layout: b.TempDir(), Session: id}); err != nil {
			b.Fatal(err)
		}
		d.Wait()
		b.StartTimer()
		if err := opened.Room.Close(); err != nil {
			b.Fatal(err)
		}
	}
}

// heldRoom is closed by the benchmark, not by the builder.
type heldRoom struct{ Room }

func (heldRoom) Close() error { return nil }

type openerFunc func(ctx context.Context, id string, l builder.Limits) (Room, error)

func (f openerFunc) Open(ctx context.Context, id string, l builder.Limits) (Room, error) {
	return f(ctx, id, l)
}

func rooms(b *testing.B) *Rooms {
	b.Helper()
	r, err := NewRooms(RoomsConfig{Buildkitd: repo + "/out/bin/buildkitd", StateDir: b.TempDir(), Network: gateway.Settings{Mirror: mirror}})
	if err != nil {
		b.Skipf("NOT MEASURED: %v", err)
	}
	return r
}

func answers(b *testing.B, dial func(context.Context, string) (net.Conn, error)) {
	b.Helper()
	ctx, cancel := context.WithTimeout(b.Context(), time.Minute)
	defer cancel()
	c, err := client.New(ctx, "", client.WithContextDialer(dial))
	if err != nil {
		b.Fatal(err)
	}
	defer c.Close()
	for {
		call, done := context.WithTimeout(ctx, time.Second)
		_, err := c.ListWorkers(call)
		done()
		if err == nil {
			return
		}
		if ctx.Err() != nil {
			b.Fatal(err)
		}
		time.Sleep(5 * time.Millisecond)
	}
}
