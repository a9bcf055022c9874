package oci

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"strconv"
	"time"
)

const (
	attempts = 3               // of a request that may be repeated, without those that the registry put off
	patience = 5 * time.Minute // longest that the waits for a registry that puts requests off may take together
)

// retry calls do again while its failure may be temporary. A registry that says when to
// come back (Retry-After, RFC 9110 section 10.2.3) is asked then, as often as it says so
// within patience and before the deadline of ctx. If the registry asks for more time than
// that, or ctx ends, retry returns the last failure at once.
func retry(ctx context.Context, do func() error) error {
	var waited time.Duration
	for failed := 1; ; {
		err := do()
		if err == nil || !mayPass(ctx, err) {
			return err
		}
		wait, putOff := retryAfter(err)
		if !putOff {
			if failed == attempts {
				return err
			}
			wait = backoff(failed)
			failed++
		}
		if waited += wait; putOff && (waited > patience || !inTime(ctx, wait)) {
			return fmt.Errorf("%w; the registry asks to wait %s, which is too long", err, wait)
		}
		if sleep(ctx, wait) != nil {
			return fmt.Errorf("%w; %w", err, context.Cause(ctx))
		}
	}
}

// retryAfter returns how long the registry asks to wait before the next request.
func retryAfter(err error) (wait time.Duration, ok bool) {
	e, _ := errors.AsType[*statusError](err)
	if e == nil || e.retryAfter == "" {
		return 0, false
	}
	seconds, err := strconv.ParseUint(e.retryAfter, 10, 31)
	if err == nil {
		return max(time.Duration(seconds)*time.Second, backoff(2)), true
	}
	at, err := http.ParseTime(e.retryAfter)
	return max(time.Until(at), backoff(2)), err == nil
}

func inTime(ctx context.Context, wait time.Duration) bool {
	end, ok := ctx.Deadline()
	return !ok || time.Until(end) > wait
}

// mayPass reports whether the failure may be temporary.
func mayPass(ctx context.Context, err error) bool {
	if ctx.Err() != nil || errors.Is(err, ErrMismatch) {
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

// backoff returns the wait after attempt i: 100 ms after the first, 400 ms after the
// second.
func backoff(i int) time.Duration { return 25 * time.Millisecond << (2 * i) }

func sleep(ctx context.Context, d time.Duration) error {
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-ctx.Done():
		return context.Cause(ctx)
	case <-t.C:
		return nil
	}
}
