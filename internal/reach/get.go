package reach

import (
	"errors"
	"io"
	"net/http"
	"time"
)

// Busy is an answer of status 503: the server starts again, or has too much to do.
type Busy struct{ RetryAfter string } // header of the answer

func (Busy) Error() string { return "the server has no time now" }

// Reads returns a Retry for requests that only read. They are repeated if the answer is Busy, and
// if the server closes the connection before or in its answer: what is in progress while a
// part of the server starts again ends so.
func Reads(server string) *Retry {
	return &Retry{
		Server: server, Pause: 250 * time.Millisecond,
		MayPass: func(err error) bool {
			_, busy := errors.AsType[Busy](err)
			unreached, _ := errors.AsType[*Error](err)
			return busy || unreached != nil && unreached.Why == Closed || errors.Is(err, io.ErrUnexpectedEOF)
		},
		After: func(err error) string {
			e, _ := errors.AsType[Busy](err)
			return e.RetryAfter
		},
	}
}

// Get sends a request without a body that only reads, again as Reads says. It returns the last
// answer, whatever its status, or an error that Explain returned.
func Get(client *http.Client, server string, r *http.Request) (*http.Response, error) {
	var resp *http.Response
	err := Reads(server).Do(r.Context(), func() (err error) {
		if resp != nil {
			resp.Body.Close()
		}
		if resp, err = client.Do(r); err != nil {
			return Explain(err)
		}
		if resp.StatusCode == http.StatusServiceUnavailable {
			return Busy{resp.Header.Get("Retry-After")}
		}
		return nil
	})
	if _, answered := errors.AsType[Busy](err); answered {
		return resp, nil
	}
	return resp, err
}
