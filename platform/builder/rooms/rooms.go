// Package rooms serves the trusted half of the BuildKit builder to the other
// roles over a socket. The attestor begins and ends sessions. The driver of a build
// opens the room of its session, connects to the daemon in it and closes it. Neither
// role may call the other's part of the interface: a compromised driver can neither
// choose what its gateway allows nor forge the gateway's record.
//
//	POST   /sessions            attestor: begins a session with a builder.Session;
//	                            answers {"id"}
//	DELETE /sessions/{id}       attestor: ends the session; answers builder.Record
//	PUT    /sessions/{id}/caches  attestor: keeps what the cache mounts of an ended session
//	                            hold for the next session of its scope; DELETE removes it
//	POST   /sessions/{id}/room  driver: opens the room with builder.Limits; answers
//	                            the line "open" when it is open. The room stays until
//	                            the client closes the connection
//	GET    /sessions/{id}/room  driver: answers buildkit.State; with ?wait only when
//	                            the room has ended
//	POST   /sessions/{id}/caches  driver: ends buildkitd and packs its cache mounts
//	DELETE /sessions/{id}/room  driver: closes the room; answers when it is erased
//	POST   /sessions/{id}/dial  driver: switches to a connection to buildkitd
package rooms

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net/http"
	"strings"
	"sync"

	"github.com/colophon-build/colophon/internal/limits"
	"github.com/colophon-build/colophon/internal/peer"
	"github.com/colophon-build/colophon/internal/strict"
	"github.com/colophon-build/colophon/platform/builder"
	"github.com/colophon-build/colophon/platform/builder/buildkit"
)

const (
	maxSession = 64 << 20 // bytes of a session with its lock
	maxRecord  = 64 << 20 // bytes of a record
	opened     = "open\n"
	upgrade    = "buildkit" // the protocol that /dial switches to
)

// Rooms is the interface that Handler serves; *buildkit.Rooms implements it.
type Rooms interface {
	buildkit.Opener
	Begin(ctx context.Context, s builder.Session) (id string, err error)
	End(ctx context.Context, id string) (*builder.Record, error)
	Keep(ctx context.Context, id string, keep bool) error
}

type server struct {
	rooms Rooms
	log   *slog.Logger

	mu   sync.Mutex
	open map[string]buildkit.Room // by session
}

// Handler serves r to the roles "attestor" and "driver" of peer.Serve.
func Handler(r Rooms, log *slog.Logger) http.Handler {
	s := &server{rooms: r, log: log, open: map[string]buildkit.Room{}}
	mux := http.NewServeMux()
	for pattern, h := range map[string]http.HandlerFunc{
		"POST /sessions": s.begin, "DELETE /sessions/{id}": s.end,
		"PUT /sessions/{id}/caches": s.keep(true), "DELETE /sessions/{id}/caches": s.keep(false),
	} {
		mux.Handle(pattern, peer.Allow(h, "attestor"))
	}
	for pattern, h := range map[string]http.HandlerFunc{
		"POST /sessions/{id}/room": s.openRoom, "GET /sessions/{id}/room": s.state,
		"DELETE /sessions/{id}/room": s.close, "POST /sessions/{id}/dial": s.dial, "POST /sessions/{id}/caches": s.pack,
	} {
		mux.Handle(pattern, peer.Allow(h, "driver"))
	}
	return mux
}

// Unavailable answers every request with status 503 and what this host lacks for rooms.
func Unavailable(lack builder.Lack) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("Content-Type", "application/json")
		w.WriteHeader(http.StatusServiceUnavailable)
		json.NewEncoder(w).Encode(lack)
	})
}

func (s *server) begin(w http.ResponseWriter, r *http.Request) {
	var session builder.Session
	if !readJSON(w, r, maxSession, &session) {
		return
	}
	id, err := s.rooms.Begin(r.Context(), session)
	if err != nil {
		http.Error(w, err.Error(), http.StatusUnprocessableEntity)
		return
	}
	writeJSON(w, map[string]string{"id": id})
}

func (s *server) end(w http.ResponseWriter, r *http.Request) {
	record, err := s.rooms.End(r.Context(), r.PathValue("id"))
	if err != nil {
		http.Error(w, err.Error(), http.StatusUnprocessableEntity)
		return
	}
	writeJSON(w, record)
}

func (s *server) keep(keep bool) http.HandlerFunc {
	return func(w http.ResponseWriter, r *http.Request) {
		if err := s.rooms.Keep(r.Context(), r.PathValue("id"), keep); err != nil {
			http.Error(w, err.Error(), http.StatusUnprocessableEntity)
		}
	}
}

func (s *server) openRoom(w http.ResponseWriter, r *http.Request) {
	var l builder.Limits
	if !readJSON(w, r, limits.Request, &l) {
		return
	}
	id := r.PathValue("id")
	room, err := s.rooms.Open(r.Context(), id, l)
	if err != nil {
		s.log.Warn("cannot open a room", "error", err)
		http.Error(w, err.Error(), http.StatusUnprocessableEntity)
		return
	}
	s.mu.Lock()
	s.open[id] = room
	s.mu.Unlock()
	defer func() {
		s.mu.Lock()
		delete(s.open, id)
		s.mu.Unlock()
		if err := room.Close(); err != nil {
			s.log.Error("cannot erase a room; the next start tries again", "error", err)
		}
	}()
	io.WriteString(w, opened)
	http.NewResponseController(w).Flush()
	// A room that has ended stays until the driver disconnects, so that the driver
	// can ask for its state.
	<-r.Context().Done()
}

// room returns the open room of a request's session. If there is none, it answers
// the request with an error and returns nil.
func (s *server) room(w http.ResponseWriter, r *http.Request) buildkit.Room {
	s.mu.Lock()
	defer s.mu.Unlock()
	room, ok := s.open[r.PathValue("id")]
	if !ok {
		http.Error(w, "the session has no open room", http.StatusNotFound)
		return nil
	}
	return room
}

func (s *server) state(w http.ResponseWriter, r *http.Request) {
	if room := s.room(w, r); room != nil {
		if r.URL.Query().Has("wait") {
			select {
			case <-room.Done():
			case <-r.Context().Done():
			}
		}
		writeJSON(w, room.State(r.Context()))
	}
}

func (s *server) pack(w http.ResponseWriter, r *http.Request) {
	if room := s.room(w, r); room != nil {
		if err := room.Pack(r.Context()); err != nil {
			http.Error(w, err.Error(), http.StatusUnprocessableEntity)
		}
	}
}

func (s *server) close(w http.ResponseWriter, r *http.Request) {
	room := s.room(w, r)
	if room == nil {
		return
	}
	if err := room.Close(); err != nil {
		http.Error(w, err.Error(), http.StatusInternalServerError)
	}
}

// dial joins the request's connection to a new connection to buildkitd. It copies
// bytes and does not interpret them.
func (s *server) dial(w http.ResponseWriter, r *http.Request) {
	room := s.room(w, r)
	if room == nil {
		return
	}
	up, err := room.Dial(r.Context())
	if err != nil {
		http.Error(w, err.Error(), http.StatusBadGateway)
		return
	}
	defer up.Close()
	down, in, err := peer.Upgrade(w, upgrade)
	if err != nil {
		return
	}
	defer down.Close()
	peer.Join(up, down, in)
}

// readJSON decodes a request's body, of at most size bytes, into v. If it cannot,
// it answers the request with an error and returns false.
func readJSON(w http.ResponseWriter, r *http.Request, size int, v any) bool {
	raw, err := strict.Read(r.Body, size)
	if err == nil {
		err = strict.UnmarshalKnown(raw, size, v)
	}
	if err != nil {
		http.Error(w, err.Error(), http.StatusBadRequest)
	}
	return err == nil
}

func writeJSON(w http.ResponseWriter, v any) {
	w.Header().Set("Content-Type", "application/json")
	json.NewEncoder(w).Encode(v)
}

// errStatus returns the error text of an answer whose status is not the expected one.
func errStatus(resp *http.Response) error {
	text, err := strict.Read(resp.Body, limits.Request)
	if err != nil {
		return fmt.Errorf("rooms: %s", resp.Status)
	}
	if resp.StatusCode == http.StatusServiceUnavailable {
		var lack builder.Lack
		if err := strict.UnmarshalKnown(text, limits.Request, &lack); err != nil {
			return fmt.Errorf("rooms: %s: %w", resp.Status, err)
		}
		return &builder.UnavailableError{Builder: "buildkit", Lack: lack}
	}
	return errors.New(strings.TrimSpace(string(text)))
}
