package oci

import (
	"context"
	"errors"
	"net/http"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	v1 "github.com/google/go-containerregistry/pkg/v1"

	"github.com/colophon-build/colophon/test/await"
)

// busy answers 429 to the first n requests, with the header Retry-After.
func busy(t *testing.T, n int32, retryAfter func() string) (*Registry, *atomic.Int32) {
	var asked atomic.Int32
	host := newServer(t, true, func(w http.ResponseWriter, _ *http.Request) bool {
		if asked.Add(1) > n {
			return false
		}
		w.Header().Set("Retry-After", retryAfter())
		w.WriteHeader(http.StatusTooManyRequests)
		return true
	})
	return openRegistry(t, host+"/team/app", RegistryOptions{}), &asked
}

// TestRetryAfter: a registry that says when to come back is asked then, more often than
// one that just fails.
func TestRetryAfter(t *testing.T) {
	r, asked := busy(t, 4, func() string { return "0" })
	if _, err := r.Resolve(t.Context(), "v1"); !errors.Is(err, ErrNotFound) || asked.Load() != 5 {
		t.Errorf("got %v after %d requests, want not found after 5", err, asked.Load())
	}
	r, asked = busy(t, 1, func() string { return "1" })
	began := time.Now()
	if _, err := r.Blob(t.Context(), v1.Descriptor{Digest: digestOf(nil)}); !errors.Is(err, ErrNotFound) || time.Since(began) < time.Second || asked.Load() != 2 {
		t.Errorf("got %v after %s and %d requests, want not found after 1s", err, time.Since(began), asked.Load())
	}
	for name, header := range map[string]string{"no time": "", "not a time": "soon", "negative": "-1", "in the past": "Mon, 02 Jan 2006 15:04:05 GMT"} {
		r, asked = busy(t, 3, func() string { return header })
		_, err := r.Resolve(t.Context(), "v1")
		if want := int32(3); name == "in the past" {
			if !errors.Is(err, ErrNotFound) || asked.Load() != want+1 {
				t.Errorf("%s: got %v after %d requests", name, err, asked.Load())
			}
		} else if !hasStatus(err, http.StatusTooManyRequests) || asked.Load() != want {
			t.Errorf("%s: got %v after %d requests, want 429 after %d", name, err, asked.Load(), want)
		}
	}
}

// TestRetryAfterTooLong: nobody waits in vain, for an hour or past the deadline.
func TestRetryAfterTooLong(t *testing.T) {
	for name, header := range map[string]func() string{
		"seconds": func() string { return "3600" },
		"a date":  func() string { return time.Now().Add(time.Hour).UTC().Format(http.TimeFormat) },
		"forever": func() string { return "2147483647" },
	} {
		r, asked := busy(t, 1000, header)
		began := time.Now()
		if _, err := r.Resolve(t.Context(), "v1"); !hasStatus(err, http.StatusTooManyRequests) || !strings.Contains(err.Error(), "too long") || asked.Load() != 1 || time.Since(began) > await.Patience {
			t.Errorf("%s: got %v after %s and %d requests", name, err, time.Since(began), asked.Load())
		}
	}
	r, asked := busy(t, 1000, func() string { return "30" })
	ctx, cancel := context.WithTimeout(t.Context(), 20*time.Second)
	defer cancel()
	began := time.Now()
	if _, err := r.Resolve(ctx, "v1"); !strings.Contains(err.Error(), "asks to wait 30s") || asked.Load() != 1 || time.Since(began) > 15*time.Second {
		t.Errorf("past the deadline: got %v after %s and %d requests", err, time.Since(began), asked.Load())
	}
	// The deadline ends a wait, and the error says what the registry answered.
	r, _ = busy(t, 1000, func() string { return "0" })
	ctx, cancel = context.WithTimeout(t.Context(), time.Second)
	defer cancel()
	if _, err := r.Resolve(ctx, "v1"); err == nil || ctx.Err() == nil && !hasStatus(err, http.StatusTooManyRequests) {
		t.Errorf("at the deadline: got %v", err)
	}
}
