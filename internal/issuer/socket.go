package issuer

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"slices"
	"time"

	"golang.org/x/sys/unix"

	"github.com/colophon-build/colophon/internal/limits"
	"github.com/colophon-build/colophon/internal/strict"
)

type peerKey struct{}

// ServeSocket serves POST /token on a Unix socket at path until ctx is done:
// the request is Claims in JSON, the answer {"token": "…"}. Only processes of
// uids (as the kernel knows them, SO_PEERCRED) get an answer. The socket is
// 0600; where uids begins with another user than ours, it is given to that one.
// A socket left by a killed process is replaced.
func (s *Service) ServeSocket(ctx context.Context, path string, uids []int) error {
	if len(uids) == 0 {
		return errors.New("token socket: no user may use it")
	}
	l, err := listen(path, uids[0])
	if err != nil {
		return fmt.Errorf("token socket: %w", err)
	}
	defer os.Remove(path)
	mux := http.NewServeMux()
	mux.HandleFunc("POST /token", func(w http.ResponseWriter, r *http.Request) { s.serveToken(w, r, uids) })
	srv := &http.Server{
		Handler:           mux,
		ReadHeaderTimeout: 5 * time.Second,
		ReadTimeout:       10 * time.Second,
		WriteTimeout:      10 * time.Second,
		ConnContext: func(ctx context.Context, c net.Conn) context.Context {
			uid, err := peer(c)
			if err != nil {
				return ctx // without a peer every request is refused
			}
			return context.WithValue(ctx, peerKey{}, uid)
		},
	}
	stop := context.AfterFunc(ctx, func() { srv.Close() })
	defer stop()
	if err := srv.Serve(l); !errors.Is(err, http.ErrServerClosed) {
		return fmt.Errorf("token socket: %w", err)
	}
	return nil
}

// listen makes the socket under another name in a directory that only we can
// enter, so that at no moment anybody else can connect.
func listen(path string, uid int) (net.Listener, error) {
	if st, err := os.Lstat(path); err == nil && st.Mode().Type() != fs.ModeSocket {
		return nil, fmt.Errorf("%s is there and no socket", path)
	}
	tmp, err := os.MkdirTemp(filepath.Dir(path), ".sock-*")
	if err != nil {
		return nil, err
	}
	defer os.RemoveAll(tmp)
	l, err := net.ListenUnix("unix", &net.UnixAddr{Name: filepath.Join(tmp, "s"), Net: "unix"})
	if err != nil {
		return nil, err
	}
	l.SetUnlinkOnClose(false)
	err = os.Chmod(filepath.Join(tmp, "s"), 0o600)
	if err == nil && uid != os.Geteuid() {
		err = os.Chown(filepath.Join(tmp, "s"), uid, -1)
	}
	if err == nil {
		err = os.Rename(filepath.Join(tmp, "s"), path)
	}
	if err != nil {
		l.Close()
		return nil, err
	}
	return l, nil
}

func (s *Service) serveToken(w http.ResponseWriter, r *http.Request, uids []int) {
	uid, ok := r.Context().Value(peerKey{}).(int)
	if !ok || !slices.Contains(uids, uid) {
		http.Error(w, fmt.Sprintf("user %d may not have tokens", uid), http.StatusForbidden)
		return
	}
	data, err := strict.Read(r.Body, limits.Request)
	if err != nil {
		http.Error(w, err.Error(), http.StatusRequestEntityTooLarge)
		return
	}
	var c Claims
	if err := strict.UnmarshalKnown(data, limits.Request, &c); err != nil {
		http.Error(w, err.Error(), http.StatusBadRequest)
		return
	}
	token, err := s.Mint(c)
	if err != nil {
		http.Error(w, err.Error(), http.StatusBadRequest)
		return
	}
	w.Header().Set("Content-Type", "application/json")
	json.NewEncoder(w).Encode(answer{token})
}

type answer struct {
	Token string `json:"token"`
}

// peer is the user at the other end.
func peer(c net.Conn) (int, error) {
	uc, ok := c.(*net.UnixConn)
	if !ok {
		return 0, fmt.Errorf("%T is no Unix connection", c)
	}
	raw, err := uc.SyscallConn()
	if err != nil {
		return 0, err
	}
	var cred *unix.Ucred
	var credErr error
	if err := raw.Control(func(fd uintptr) {
		cred, credErr = unix.GetsockoptUcred(int(fd), unix.SOL_SOCKET, unix.SO_PEERCRED)
	}); err != nil {
		return 0, err
	}
	if credErr != nil {
		return 0, credErr
	}
	return int(cred.Uid), nil
}

// Client asks for tokens over the socket.
type Client struct {
	Socket string // path
}

// Token asks for one token.
func (c Client) Token(ctx context.Context, claims Claims) (string, error) {
	body, err := json.Marshal(claims)
	if err != nil {
		return "", err
	}
	tr := &http.Transport{
		DisableKeepAlives: true,
		DialContext: func(ctx context.Context, _, _ string) (net.Conn, error) {
			return (&net.Dialer{}).DialContext(ctx, "unix", c.Socket)
		},
	}
	req, err := http.NewRequestWithContext(ctx, http.MethodPost, "http://issuer/token", bytes.NewReader(body))
	if err != nil {
		return "", err
	}
	resp, err := tr.RoundTrip(req)
	if err != nil {
		return "", fmt.Errorf("token from %s: %w", c.Socket, err)
	}
	defer resp.Body.Close()
	data, err := strict.Read(resp.Body, limits.Request)
	if err != nil {
		return "", fmt.Errorf("token from %s: %w", c.Socket, err)
	}
	if resp.StatusCode != http.StatusOK {
		return "", fmt.Errorf("token from %s: %s: %s", c.Socket, resp.Status, bytes.TrimSpace(data))
	}
	var a answer
	if err := strict.UnmarshalKnown(data, limits.Request, &a); err != nil {
		return "", fmt.Errorf("token from %s: %w", c.Socket, err)
	}
	return a.Token, nil
}
