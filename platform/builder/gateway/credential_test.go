package gateway

import (
	"encoding/json"
	"io"
	"net/http"
	"strings"
	"sync/atomic"
	"testing"
)

// TestCredentialsAreRedacted: the server gets the address that the build asked for, with
// its token or signature. Record and lock get neither, and the lock can be replayed.
func TestCredentialsAreRedacted(t *testing.T) {
	var live atomic.Bool
	live.Store(true)
	up, s := world(t, func(w http.ResponseWriter, r *http.Request) {
		switch q := r.URL.Query(); {
		case !live.Load():
			t.Errorf("%s was asked for in a sealed session", r.URL)
		case r.URL.Path == "/moved":
			w.Header().Set("Location", "/signed?v=2&X-Amz-Signature=hunter2")
			w.WriteHeader(http.StatusFound)
		case q.Get("private_token") == "hunter2", q.Get("X-Amz-Signature") == "hunter2":
			io.WriteString(w, "bytes of v"+q.Get("v"))
		default:
			http.Error(w, "who are you?", http.StatusForbidden)
		}
	})
	var said []byte
	var location string
	sealed, lock := recorded(t, s, func(room *room) {
		room.want(200, "bytes of v1", "GET", up.URL+"/file?v=1&private_token=hunter2")
		req, err := http.NewRequest("GET", up.URL+"/moved", nil)
		if err != nil {
			t.Fatal(err)
		}
		resp, err := room.Transport.RoundTrip(req)
		if err != nil {
			t.Fatal(err)
		}
		resp.Body.Close()
		location = resp.Header.Get("Location")
		room.want(200, "bytes of v2", "GET", up.URL+location)
	})
	if !strings.Contains(location, "hunter2") {
		t.Errorf("the room was led to %q, want the address with its signature", location)
	}
	said, err := json.Marshal(lock)
	if err != nil || strings.Contains(string(said), "hunter2") || strings.Count(string(said), "=redacted") != 3 {
		t.Errorf("got lock %s, %v", said, err)
	}
	live.Store(false)
	room := start(t, sealed)
	room.want(200, "bytes of v1", "GET", up.URL+"/file?v=1&private_token=hunter2")
	room.want(200, "bytes of v1", "GET", up.URL+"/file?v=1&private_token=another")
	room.want(403, "not in the lock", "GET", up.URL+"/file?v=3&private_token=hunter2")
	room.want(200, "bytes of v2", "GET", up.URL+"/signed?v=2&X-Amz-Signature=redacted")
	for _, e := range room.end() {
		if raw, err := json.Marshal(e); err != nil || strings.Contains(string(raw), "hunter2") {
			t.Errorf("got %s, %v", raw, err)
		}
	}
}
