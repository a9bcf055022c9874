// Package localgit lets the attestor fetch from repositories on this host that
// its own user may not read: a role that may act as other users runs git's
// upload-pack as the repository's owner, and the attestor's git is joined to it
// over a Unix socket. What comes out of it is checked like any repository's.
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
	"strings"

	"github.com/colophon-build/colophon/internal/limits"
	"github.com/colophon-build/colophon/internal/peer"
	"github.com/colophon-build/colophon/internal/strict"
	"github.com/colophon-build/colophon/source"
)

// Path is where Handler is served: POST Path?path=/absolute/path switches to
// git's protocol.
const Path = "/upload-pack"

const protocol = "git"

// Handler answers POST requests. Whoever reaches it can read every repository of this host.
func Handler(log *slog.Logger) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		path, version := r.FormValue("path"), r.Header.Get("Git-Protocol")
		if r.Method != http.MethodPost || strings.Trim(version, "abcdefghijklmnopqrstuvwxyz=:0123456789") != "" {
			http.Error(w, "want POST, and a plain Git-Protocol", http.StatusBadRequest)
			return
		}
		conn, in, err := peer.Upgrade(w, protocol)
		if err != nil {
			return
		}
		defer conn.Close()
		if err := source.ServeLocal(context.WithoutCancel(r.Context()), path, version, in, conn); err != nil {
			log.Info("local repository", "path", path, "error", err)
			// git shows its user a packet that begins with ERR.
			text := "ERR " + err.Error()
			fmt.Fprintf(conn, "%04x%s", len(text)+4, text)
		}
	})
}

// Command is the value of source.Request.UploadPack: program is one whose
// "upload-pack SOCKET PATH" calls Relay.
func Command(program, socket string) string {
	return quote(program) + " upload-pack " + quote(socket)
}

func quote(s string) string { return "'" + strings.ReplaceAll(s, "'", `'\''`) + "'" }

// Relay joins in and out to the repository at path, by way of Handler at socket.
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
