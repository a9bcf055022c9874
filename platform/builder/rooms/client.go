package rooms

import (
	"bufio"
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net"
	"net/http"
	"sync"

	"github.com/colophon-build/colophon/internal/limits"
	"github.com/colophon-build/colophon/internal/peer"
	"github.com/colophon-build/colophon/internal/strict"
	"github.com/colophon-build/colophon/platform/builder"
	"github.com/colophon-build/colophon/platform/builder/buildkit"
)

// Client asks the socket of Handler. It implements Rooms.
type Client struct {
	At peer.Endpoint
}

func (c Client) do(ctx context.Context, method, path string, in any) (*http.Response, func(), error) {
	var body io.Reader
	if in != nil {
		raw, err := json.Marshal(in)
		if err != nil {
			return nil, nil, err
		}
		body = bytes.NewReader(raw)
	}
	r, err := http.NewRequestWithContext(ctx, method, "http://rooms"+path, body)
	if err != nil {
		return nil, nil, err
	}
	hc := c.At.Client()
	resp, err := hc.Do(r)
	if err != nil {
		return nil, nil, fmt.Errorf("rooms: %w", err)
	}
	done := func() { resp.Body.Close(); hc.CloseIdleConnections() }
	if resp.StatusCode != http.StatusOK {
		defer done()
		return nil, nil, errStatus(resp)
	}
	return resp, done, nil
}

// call is a request whose whole answer is v; nil takes none.
func (c Client) call(ctx context.Context, method, path string, in, v any, most int) error {
	resp, done, err := c.do(ctx, method, path, in)
	if err != nil {
		return err
	}
	defer done()
	raw, err := strict.Read(resp.Body, most)
	if err != nil || v == nil {
		return err
	}
	if err := strict.UnmarshalKnown(raw, most, v); err != nil {
		return fmt.Errorf("rooms: %w", err)
	}
	return nil
}

// Available returns why no rooms can be had, or nil.
func (c Client) Available(ctx context.Context) error {
	return c.call(ctx, http.MethodGet, pathAvailable, nil, nil, limits.Request)
}

// Begin implements Rooms.
func (c Client) Begin(ctx context.Context, s builder.Session) (string, error) {
	var answer struct {
		ID string `json:"id"`
	}
	err := c.call(ctx, http.MethodPost, "/sessions", s, &answer, limits.Request)
	return answer.ID, err
}

// End implements Rooms.
func (c Client) End(ctx context.Context, id string) (*builder.Record, error) {
	var r builder.Record
	return &r, c.call(ctx, http.MethodDelete, "/sessions/"+id, nil, &r, maxRecord)
}

// Open implements Rooms. The room lives until Close, or until this process ends.
func (c Client) Open(ctx context.Context, id string, l builder.Limits) (buildkit.Room, error) {
	path := "/sessions/" + id + "/room"
	life, cancel := context.WithCancel(context.WithoutCancel(ctx))
	stop := context.AfterFunc(ctx, cancel)
	resp, done, err := c.do(life, http.MethodPost, path, l)
	if err != nil {
		cancel()
		return nil, err
	}
	line, err := bufio.NewReader(io.LimitReader(resp.Body, 64)).ReadString('\n')
	if err != nil || line != opened {
		cancel()
		done()
		return nil, fmt.Errorf("rooms: the answer was cut: %q, %v", line, err)
	}
	stop() // from here on only Close ends it
	m := &room{client: c, id: id, done: make(chan struct{}), hangUp: func() { cancel(); done() }}
	go func() {
		defer close(m.done)
		// An error says that whoever holds the room is gone, and the room with it.
		c.call(life, http.MethodGet, path+"?wait", nil, nil, limits.Request)
	}()
	return m, nil
}

type room struct {
	client Client
	id     string
	done   chan struct{}
	hangUp func()
	once   sync.Once
	err    error
}

func (m *room) path(tail string) string { return "/sessions/" + m.id + tail }

// Dial implements buildkit.Room.
func (m *room) Dial(ctx context.Context) (net.Conn, error) {
	conn, err := m.client.At.Dial(ctx)
	if err != nil {
		return nil, err
	}
	stop := context.AfterFunc(ctx, func() { conn.Close() })
	fail := func(err error) (net.Conn, error) { stop(); conn.Close(); return nil, err }
	if _, err := io.WriteString(conn, "POST "+m.path("/dial")+" HTTP/1.1\r\nHost: rooms\r\nConnection: Upgrade\r\nUpgrade: "+upgrade+"\r\nContent-Length: 0\r\n\r\n"); err != nil {
		return fail(err)
	}
	in := bufio.NewReader(conn)
	resp, err := http.ReadResponse(in, nil)
	if err != nil {
		return fail(fmt.Errorf("rooms: %w", err))
	}
	if resp.StatusCode != http.StatusSwitchingProtocols {
		return fail(errStatus(resp))
	}
	if !stop() {
		return fail(ctx.Err())
	}
	return &joined{conn, in}, nil
}

// joined is a connection of which some may have been read ahead.
type joined struct {
	net.Conn
	in *bufio.Reader
}

// CloseWrite says that nothing more comes; gRPC does without where it cannot be said.
func (c *joined) CloseWrite() error {
	if h, ok := c.Conn.(interface{ CloseWrite() error }); ok {
		return h.CloseWrite()
	}
	return nil
}

func (c *joined) Read(p []byte) (int, error) { return c.in.Read(p) }

// Done implements buildkit.Room.
func (m *room) Done() <-chan struct{} { return m.done }

// State implements buildkit.Room. A room that nobody knows of any more has ended.
func (m *room) State(ctx context.Context) buildkit.State {
	var s buildkit.State
	if err := m.client.call(context.WithoutCancel(ctx), http.MethodGet, m.path("/room"), nil, &s, limits.Request); err != nil {
		return buildkit.State{Ended: true, Said: err.Error()}
	}
	return s
}

// Close implements buildkit.Room.
func (m *room) Close() error {
	m.once.Do(func() {
		m.err = m.client.call(context.Background(), http.MethodDelete, m.path("/room"), nil, nil, limits.Request)
		m.hangUp()
	})
	return m.err
}
