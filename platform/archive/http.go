package archive

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"os"
	"strconv"
	"strings"
	"syscall"
	"time"

	"github.com/colophon-build/colophon/internal/intact"
	"github.com/colophon-build/colophon/internal/lazyregexp"
	"github.com/colophon-build/colophon/platform/api"
)

// Access says what the bearer of a token may do; the token is empty if a request has none.
type Access func(token string) (mayRead, mayAdd bool)

// server serves the archive over HTTP. Spec: docs/api.md.
type server struct {
	*Archive
	access Access
	adding chan struct{} // one element for each bundle that is being received
}

// maxAdding is how many bundles are received at the same time: each is in memory.
const maxAdding = 8

// patience is how long a client may take to send a bundle, or to read an answer.
const patience = time.Minute

// Register adds the archive's paths to mux.
func (a *Archive) Register(mux *http.ServeMux, access Access) {
	s := &server{a, access, make(chan struct{}, maxAdding)}
	mux.HandleFunc("GET "+api.PathArchive, s.allowed(false, s.list))
	mux.HandleFunc("POST "+api.PathArchive, s.allowed(true, s.add))
	mux.HandleFunc("GET "+api.PathArchive+"/{digest}", s.allowed(false, s.content))
}

// allowed serves a request with next if its token is good enough.
func (s *server) allowed(add bool, next func(http.ResponseWriter, *http.Request) error) http.HandlerFunc {
	return func(w http.ResponseWriter, r *http.Request) {
		h := w.Header()
		// The archive serves bytes from strangers on the same origin as the platform's pages.
		h.Set("X-Content-Type-Options", "nosniff")
		h.Set("Content-Security-Policy", "sandbox")
		token, _ := strings.CutPrefix(r.Header.Get("Authorization"), "Bearer ")
		mayRead, mayAdd := s.access(token)
		if ok := mayRead && !add || mayAdd; !ok {
			h.Set("WWW-Authenticate", `Bearer realm="colophon"`)
			http.Error(w, "the request has no token that may do this; run colophon login", http.StatusUnauthorized)
			return
		}
		if err := next(w, r); err != nil {
			s.refuse(w, r, err)
		}
	}
}

// refused is an error that the client should see.
type refused struct {
	status int
	text   string
}

func (e *refused) Error() string { return e.text }

func (s *server) refuse(w http.ResponseWriter, r *http.Request, err error) {
	if e, ok := errors.AsType[*refused](err); ok {
		http.Error(w, e.text, e.status)
		return
	}
	if r.Context().Err() != nil {
		return // the client has gone
	}
	s.log.Error("the archive failed a request", "error", err)
	if errors.Is(err, syscall.ENOSPC) || errors.Is(err, syscall.EDQUOT) {
		http.Error(w, "the archive's disk is full", http.StatusInsufficientStorage)
		return
	}
	http.Error(w, "the archive failed; the platform's log has the reason", http.StatusInternalServerError)
}

var (
	leafForm   = lazyregexp.New(`^[0-9a-f]{64}$`)
	objectForm = lazyregexp.New(`^sha256:([0-9a-f]{64})$`)
)

// list serves GET PathArchive?leaf=HEX|subject=ALGORITHM:HEX&after=NUMBER.
func (s *server) list(w http.ResponseWriter, r *http.Request) error {
	q := r.URL.Query()
	leaf, subject, key := q.Get("leaf"), q.Get("subject"), ""
	switch {
	case leaf != "" && subject != "":
		return &refused{http.StatusBadRequest, "expected leaf or subject, found both"}
	case leaf != "" && !leafForm.MatchString(leaf):
		return &refused{http.StatusBadRequest, fmt.Sprintf("leaf: expected 64 hex digits, found %q", leaf)}
	case subject != "" && !isSubject(subject):
		return &refused{http.StatusBadRequest, fmt.Sprintf("subject: expected ALGORITHM:HEX, found %q", subject)}
	case leaf != "":
		key = "leaf:" + leaf
	default:
		key = subject
	}
	var after int64
	if text := q.Get("after"); text != "" {
		var err error
		if after, err = strconv.ParseInt(text, 10, 64); err != nil || after < 0 {
			return &refused{http.StatusBadRequest, fmt.Sprintf("after: expected a number, found %q", text)}
		}
	}
	filling := !s.filled.Load() // before the list is read: what it lacks may have come since
	list, err := s.index.list(key, after)
	list.Filling = filling
	if err != nil {
		return err
	}
	return answer(w, http.StatusOK, list)
}

func answer(w http.ResponseWriter, status int, v any) error {
	body, err := json.Marshal(v)
	if err != nil {
		return err
	}
	w.Header().Set("Content-Type", "application/json")
	w.Header().Set("Cache-Control", "no-store")
	http.NewResponseController(w).SetWriteDeadline(time.Now().Add(patience))
	w.WriteHeader(status)
	w.Write(body)
	return nil
}

// content serves GET PathArchive/sha256:HEX. It compares the content with its digest first.
func (s *server) content(w http.ResponseWriter, r *http.Request) error {
	m := objectForm.FindStringSubmatch(r.PathValue("digest"))
	if m == nil {
		return &refused{http.StatusBadRequest, fmt.Sprintf("expected sha256:HEX, found %q", r.PathValue("digest"))}
	}
	f, ok, err := intact.Open(s.object(m[1]), m[1])
	switch {
	case errors.Is(err, os.ErrNotExist):
		return &refused{http.StatusNotFound, "the archive does not have " + m[0]}
	case err != nil:
		return err
	case !ok:
		return fmt.Errorf("%s is damaged on the archive's disk; see colophond scrub", m[0])
	}
	defer f.Close()
	w.Header().Set("Content-Type", "application/octet-stream")
	w.Header().Set("Etag", `"`+m[0]+`"`)
	http.NewResponseController(w).SetWriteDeadline(time.Now().Add(patience))
	http.ServeContent(w, r, "", time.Time{}, f)
	return nil
}

// add serves POST PathArchive, whose body is a Sigstore bundle.
func (s *server) add(w http.ResponseWriter, r *http.Request) error {
	select {
	case s.adding <- struct{}{}:
		defer func() { <-s.adding }()
	default:
		w.Header().Set("Retry-After", "1")
		return &refused{http.StatusServiceUnavailable, "the archive is busy; try again"}
	}
	http.NewResponseController(w).SetReadDeadline(time.Now().Add(patience))
	raw, err := io.ReadAll(http.MaxBytesReader(w, r.Body, api.MaxContent))
	if _, tooLarge := errors.AsType[*http.MaxBytesError](err); tooLarge {
		return &refused{http.StatusRequestEntityTooLarge, fmt.Sprintf("expected a bundle of at most %d bytes", api.MaxContent)}
	} else if err != nil {
		return &refused{http.StatusBadRequest, "the bundle ended early"}
	}
	kept, err := s.Keep(r.Context(), raw)
	if errors.Is(err, errNoBundle) {
		return &refused{http.StatusBadRequest, err.Error()}
	} else if err != nil {
		return err
	}
	return answer(w, http.StatusCreated, kept)
}
