package logs

import (
	"io"
	"net/http"
)

// Answer is a ResponseWriter that notes what was answered, for a log or a metric. The
// zero value with a ResponseWriter is an answer that has not begun.
type Answer struct {
	http.ResponseWriter
	Began bool  // the status and headers are sent
	Bytes int64 // of the body, so far

	status int
}

// Status returns the status of the answer. Go answers 200 if a handler says nothing.
func (a *Answer) Status() int {
	if a.status == 0 {
		return http.StatusOK
	}
	return a.status
}

// WriteHeader implements http.ResponseWriter.
func (a *Answer) WriteHeader(status int) {
	if !a.Began && status >= 200 { // others come before the answer (RFC 9110, section 15.2)
		a.status, a.Began = status, true
	}
	a.ResponseWriter.WriteHeader(status)
}

// Write implements http.ResponseWriter.
func (a *Answer) Write(p []byte) (int, error) {
	a.Began = true
	n, err := a.ResponseWriter.Write(p)
	a.Bytes += int64(n)
	return n, err
}

// ReadFrom implements io.ReaderFrom, so that files are sent with sendfile.
func (a *Answer) ReadFrom(src io.Reader) (int64, error) {
	a.Began = true
	n, err := io.Copy(a.ResponseWriter, src)
	a.Bytes += n
	return n, err
}

// Unwrap serves http.ResponseController.
func (a *Answer) Unwrap() http.ResponseWriter { return a.ResponseWriter }
