package oci

import (
	"errors"
	"io"
	"net"
	"net/http"
	"time"

	"github.com/colophon-build/colophon/internal/reach"
)

// again repeats requests: after 100 ms, then after 400 ms, and when the registry says.
var again = reach.Retry{
	Server: "the registry", Pause: 100 * time.Millisecond, MayPass: mayPass,
	After: func(err error) string {
		if e, ok := errors.AsType[*statusError](err); ok {
			return e.retryAfter
		}
		return ""
	},
}

// mayPass reports whether the failure may be temporary.
func mayPass(err error) bool {
	if errors.Is(err, ErrMismatch) {
		return false
	}
	if _, answered := errors.AsType[*statusError](err); answered {
		return hasStatus(err, http.StatusTooManyRequests, http.StatusInternalServerError,
			http.StatusBadGateway, http.StatusServiceUnavailable, http.StatusGatewayTimeout)
	}
	late, isNet := errors.AsType[net.Error](err)
	_, isOp := errors.AsType[*net.OpError](err)
	return errors.Is(err, io.EOF) || errors.Is(err, io.ErrUnexpectedEOF) || isOp || isNet && late.Timeout()
}
