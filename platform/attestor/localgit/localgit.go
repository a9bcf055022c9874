// Package localgit lets the attestor fetch from repositories on this host that its own
// user cannot read. A role of root runs git's upload-pack in a jail, as the repository's
// owner, and a relay connects the attestor's git to it over a Unix socket. The attestor
// checks what it fetches as from any other repository.
package localgit

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/http"
	"net/url"
	"os"
	"strings"
	"syscall"
	"time"

	"golang.org/x/sys/unix"

	"github.com/colophon-build/colophon/internal/limits"
	"github.com/colophon-build/colophon/internal/peer"
	"github.com/colophon-build/colophon/internal/strict"
)

// Path is the URL path of Handler. POST Path?path=/absolute/path switches the connection
// to git's protocol (101 Switching Protocols).
const Path = "/upload-pack"

const protocol = "git"

// Handler answers POST requests. Clients of it can read every repository on this host:
// restrict it with peer.Allow.
func Handler(log *slog.Logger) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		path, version := r.FormValue("path"), r.Header.Get("Git-Protocol")
		if r.Method != http.MethodPost || strings.Trim(version, "abcdefghijklmnopqrstuvwxyz=:0123456789") != "" {
			http.Error(w, "want a POST request with a Git-Protocol of a-z, 0-9, = and :", http.StatusBadRequest)
			return
		}
		conn, _, err := peer.Upgrade(w, protocol)
		if err != nil {
			return
		}
		defer conn.Close()
		if err := upload(context.WithoutCancel(r.Context()), path, version, conn, log); err != nil {
			conn.SetWriteDeadline(time.Now().Add(10 * time.Second))
			// git prints the text of a packet that begins with ERR.
			text := "ERR " + err.Error()
			fmt.Fprintf(conn, "%04x%s", len(text)+4, text)
		}
	})
}

// Forward listens on socket and passes requests of Relay, and no others, to the Handler
// at to, as the attestor. A process that must reach no other service of that role gets this socket.
func Forward(socket string, to peer.Endpoint, log *slog.Logger) (stop func(), err error) {
	l, err := net.Listen("unix", socket)
	if err != nil {
		return nil, err
	}
	mux := http.NewServeMux()
	mux.Handle("POST "+Path, peer.Proxy("attestor", "local repositories", to, log))
	srv := &http.Server{Handler: mux, ReadHeaderTimeout: 10 * time.Second}
	go srv.Serve(l)
	return func() { srv.Close() }, nil
}

// upload connects git's upload-pack for the repository at path to conn. Its error is for
// the requester. What git says is only for the log, because it may quote files.
func upload(ctx context.Context, path, version string, conn net.Conn, log *slog.Logger) error {
	r, err := open(path)
	if err != nil {
		log.Info("local repository", "path", path, "error", err)
		return fmt.Errorf("%s: %w", path, err)
	}
	defer r.dir.Close()
	socket, ok := conn.(interface {
		syscall.Conn
		File() (*os.File, error)
	})
	if !ok {
		return fmt.Errorf("connection: got a %T, want a socket", conn)
	}
	f, err := socket.File()
	if err != nil {
		return err
	}
	defer f.Close()
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	go func() {
		awaitHangUp(ctx, socket)
		cancel()
	}()
	said, err := r.serve(ctx, version, f)
	// The process got a blocking connection, and it became so for us too.
	if raw, rerr := socket.SyscallConn(); rerr == nil {
		raw.Control(func(fd uintptr) { unix.SetNonblock(int(fd), true) })
	}
	if err != nil {
		log.Warn("local repository", "path", path, "error", err, "stderr", said)
		return fmt.Errorf("%s: git cannot read the repository (%w); the platform's log says why", path, err)
	}
	return nil
}

// awaitHangUp returns when the other end of a connection is closed, or ctx is done. It
// reads nothing: git reads the connection.
func awaitHangUp(ctx context.Context, c syscall.Conn) {
	raw, err := c.SyscallConn()
	if err != nil {
		return
	}
	for gone := false; !gone && ctx.Err() == nil; {
		err := raw.Control(func(fd uintptr) {
			p := []unix.PollFd{{Fd: int32(fd)}} // POLLHUP is always reported
			_, err := unix.Poll(p, 0)
			gone = err == nil && p[0].Revents&(unix.POLLHUP|unix.POLLERR) != 0
		})
		if err != nil {
			return
		}
		select {
		case <-ctx.Done():
		case <-time.After(200 * time.Millisecond):
		}
	}
}

// Command returns a value for source.Request.UploadPack. The command "upload-pack SOCKET
// PATH" of program must call Relay.
func Command(program, socket string) string {
	return quote(program) + " upload-pack " + quote(socket)
}

func quote(s string) string { return "'" + strings.ReplaceAll(s, "'", `'\''`) + "'" }

// Relay connects in and out to the repository at path through Handler at socket. version
// is git's GIT_PROTOCOL.
func Relay(ctx context.Context, socket, path, version string, in io.Reader, out io.Writer) error {
	conn, err := new(net.Dialer).DialContext(ctx, "unix", socket)
	if err != nil {
		return err
	}
	defer conn.Close()
	stop := context.AfterFunc(ctx, func() { conn.Close() })
	defer stop()
	r, err := http.NewRequest(http.MethodPost, "http://rooms"+Path+"?path="+url.QueryEscape(path), nil)
	if err != nil {
		return err
	}
	r.Header.Set("Connection", "Upgrade")
	r.Header.Set("Upgrade", protocol)
	r.Header.Set("Git-Protocol", version)
	if err := r.Write(conn); err != nil {
		return err
	}
	from := bufio.NewReader(conn)
	resp, err := http.ReadResponse(from, r)
	if err != nil {
		return err
	}
	if resp.StatusCode != http.StatusSwitchingProtocols {
		text, err := strict.Read(resp.Body, limits.Request)
		return errors.Join(fmt.Errorf("%s: %s", resp.Status, text), err)
	}
	go func() {
		io.Copy(conn, in)
		conn.(*net.UnixConn).CloseWrite()
	}()
	_, err = io.Copy(out, from)
	return err
}
