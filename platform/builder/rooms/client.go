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

// Client implements Rooms with requests to the endpoint At, where Handler serves.
type Client struct {
	At peer.Endpoint
}

// send sends a request with in as its JSON body; nil means no body. It returns the
// answer only if its status is 200; the caller then calls the returned function
// when it has read the answer.
func (c Client) send(ctx context.Context, method, path string, in any) (*http.Response, func(), error) {
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

// call sends a request and decodes its answer, of at most size bytes, into v. If v
// is nil, call ignores the answer's body.
func (c Client) call(ctx context.Context, method, path string, in, v any, size int) error {
	resp, done, err := c.send(ctx, method, path, in)
	if err != nil {
		return err
	}
	defer done()
	raw, err := strict.Read(resp.Body, size)
	if err != nil || v == nil {
		return err
	}
	if err := strict.UnmarshalKnown(raw, size, v); err != nil {
		return fmt.Errorf("rooms: %w", err)
	}
	return nil
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

// Keep implements Rooms.
func (c Client) Keep(ctx context.Context, id string, keep bool) error {
	method := http.MethodDelete
	if keep {
		method = http.MethodPut
	}
	return c.call(ctx, method, "/sessions/"+id+"/caches", nil, nil, limits.Request)
}

// Open implements Rooms. The room lives until Close, or until this process ends.
func (c Client) Open(ctx context.Context, id string, l builder.Limits) (buildkit.Room, error) {
	path := "/sessions/" + id + "/room"
	life, cancel := context.WithCancel(context.WithoutCancel(ctx))
	stop := context.AfterFunc(ctx, cancel)
	resp, done, err := c.send(life, http.MethodPost, path, l)
	if err != nil {
		cancel()
		return nil, err
	}
	line, err := bufio.NewReader(io.LimitReader(resp.Body, 64)).ReadString('\n')
	if err != nil || line != opened {
		cancel()
		done()
		return nil, fmt.Errorf("rooms: opening a room: got answer %q, want %q (%v)", line, opened, err)
	}
	stop() // from here on only Close ends the room
	m := &room{client: c, id: id, done: make(chan struct{}), hangUp: func() { cancel(); done() }}
	go func() {
		defer close(m.done)
		// An error means that the process that holds the room has ended. The room
		// ended with it, so the error needs no handling.
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
	return &bufferedConn{conn, in}, nil
}

// bufferedConn is a connection whose first bytes may already be in the buffer in.
type bufferedConn struct {
	net.Conn
	in *bufio.Reader
}

// CloseWrite ends the sending direction. If the connection cannot do that, it does
// nothing; gRPC does not depend on it.
func (c *bufferedConn) CloseWrite() error {
	if h, ok := c.Conn.(interface{ CloseWrite() error }); ok {
		return h.CloseWrite()
	}
	return nil
}

func (c *bufferedConn) Read(p []byte) (int, error) { return c.in.Read(p) }

// Done implements buildkit.Room.
func (m *room) Done() <-chan struct{} { return m.done }

// State implements buildkit.Room. If the server cannot tell the room's state, for
// example because the room is gone, State says that it has ended.
func (m *room) State(ctx context.Context) buildkit.State {
	var s buildkit.State
	if err := m.client.call(context.WithoutCancel(ctx), http.MethodGet, m.path("/room"), nil, &s, limits.Request); err != nil {
		return buildkit.State{Ended: true, Said: err.Error()}
	}
	return s
}

// Pack implements buildkit.Room.
func (m *room) Pack(ctx context.Context) error {
	return m.client.call(ctx, http.MethodPost, m.path("/caches"), nil, nil, limits.Request)
}

// Close implements buildkit.Room.
func (m *room) Close() error {
	m.once.Do(func() {
		m.err = m.client.call(context.Background(), http.MethodDelete, m.path("/room"), nil, nil, limits.Request)
		m.hangUp()
	})
	return m.err
}
