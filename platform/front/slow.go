package front

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"net/http"
	"time"
)

// A client must send its bodies and take its answers at minRate on average, after grace. One
// that does not is cut off: a client that sends one byte a minute would otherwise keep a
// connection for ever.
const (
	grace   = 30 * time.Second
	minRate = 8 << 10 // bytes per second
)

// Patience limits how long the clients of h may keep it waiting. Only the time that h waits
// for its client counts, so that a slow platform cuts nobody off.
func Patience(h http.Handler) http.Handler { return patience{h, grace, minRate} }

type patience struct {
	next  http.Handler
	grace time.Duration
	rate  int64
}

func (p patience) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	control := http.NewResponseController(w)
	control.SetWriteDeadline(time.Time{}) // a request before this one on the connection set one
	if r.Body != nil && r.Body != http.NoBody {
		r.Body = &slowBody{ReadCloser: r.Body, wait: wait{patience: p, deadline: control.SetReadDeadline}}
		// The server reads what is left of the body after the answer.
		defer func() { control.SetReadDeadline(time.Now().Add(p.grace)) }()
	}
	answer := &slowAnswer{ResponseWriter: w, control: control, wait: wait{patience: p, deadline: control.SetWriteDeadline}}
	p.next.ServeHTTP(answer, r)
	control.SetWriteDeadline(time.Now().Add(p.grace)) // for what is still buffered
}

// wait measures how long a client kept us waiting, in one direction.
type wait struct {
	patience
	deadline func(time.Time) error
	bytes    int64
	waited   time.Duration
}

// during calls do, which transfers bytes to or from the client, with a deadline.
func (w *wait) during(do func() (int, error)) (int, error) {
	allowed := w.grace + time.Duration(w.bytes/w.rate)*time.Second - w.waited
	began := time.Now()
	w.deadline(began.Add(allowed)) // if not supported, as in tests, nothing is limited
	n, err := do()
	w.bytes += int64(n)
	w.waited += time.Since(began)
	return n, err
}

type slowBody struct {
	io.ReadCloser
	wait
}

func (b *slowBody) Read(p []byte) (int, error) {
	return b.during(func() (int, error) { return b.ReadCloser.Read(p) })
}

type slowAnswer struct {
	http.ResponseWriter
	control *http.ResponseController
	wait
}

func (a *slowAnswer) Write(p []byte) (int, error) {
	return a.during(func() (int, error) { return a.ResponseWriter.Write(p) })
}

// FlushError implements what http.ResponseController calls.
func (a *slowAnswer) FlushError() error {
	_, err := a.during(func() (int, error) { return 0, a.control.Flush() })
	return err
}

// Unwrap implements what http.ResponseController calls.
func (a *slowAnswer) Unwrap() http.ResponseWriter { return a.ResponseWriter }

// maxBuffered is the limit of a body that Buffered reads: log entries have 128 KiB at most,
// requests for certificates and timestamps less.
const maxBuffered = 256 << 10

// Buffered reads the whole body of a request before it passes the request to h, so that a slow
// client never takes up one of the places that a role has for requests.
func Buffered(h http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.Body == nil || r.Body == http.NoBody {
			h.ServeHTTP(w, r)
			return
		}
		body, err := io.ReadAll(http.MaxBytesReader(w, r.Body, maxBuffered))
		if _, tooLarge := errors.AsType[*http.MaxBytesError](err); tooLarge {
			http.Error(w, fmt.Sprintf("the request has more than %d bytes", maxBuffered), http.StatusRequestEntityTooLarge)
			return
		} else if err != nil {
			http.Error(w, "the body ended early: "+err.Error(), http.StatusRequestTimeout)
			return
		}
		out := r.Clone(r.Context())
		out.Body, out.ContentLength, out.TransferEncoding = io.NopCloser(bytes.NewReader(body)), int64(len(body)), nil
		h.ServeHTTP(w, out)
	})
}
