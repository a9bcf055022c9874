package kubeapi_test

import (
	"context"
	"encoding/json"
	"encoding/pem"
	"errors"
	"fmt"
	"io"
	"log"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/colophon-build/colophon/platform/admission/kubeapi"
	"github.com/colophon-build/colophon/test/await"
)

// server answers as the test says: each request in turn.
func server(t *testing.T, h http.HandlerFunc) *kubeapi.Client {
	t.Helper()
	srv := httptest.NewUnstartedServer(h)
	srv.Config.ErrorLog = log.New(io.Discard, "", 0)
	srv.StartTLS()
	t.Cleanup(srv.Close)
	c, err := kubeapi.New(kubeapi.Settings{Server: srv.URL, Token: "s3cret", CA: pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: srv.Certificate().Raw})})
	if err != nil {
		t.Fatal(err)
	}
	return c
}

// TestErrors: each failure is told apart, and none quotes the token.
func TestErrors(t *testing.T) {
	status, text := 0, ""
	c := server(t, func(w http.ResponseWriter, r *http.Request) {
		if status == http.StatusFound {
			w.Header().Set("Location", "https://example.com/")
		}
		w.WriteHeader(status)
		_, _ = io.WriteString(w, text)
	})
	for _, tt := range []struct {
		status int
		text   string
		want   error
		words  string
	}{
		{404, `{"message":"no\nsuch \u001b[31mthing"}`, kubeapi.ErrNotFound, "such"},
		{401, ``, kubeapi.ErrDenied, ""}, {403, `<html>`, kubeapi.ErrDenied, ""}, {409, `{}`, kubeapi.ErrConflict, ""},
		{502, "", kubeapi.ErrNoAnswer, "502"}, {504, "{}", kubeapi.ErrNoAnswer, "504"}, {429, "{}", kubeapi.ErrLater, ""},
		{500, strings.Repeat("x", 1<<20), nil, "500"}, {302, "", nil, "302"}, {200, "no JSON", nil, "invalid"}, {200, "", nil, "JSON"},
	} {
		status, text = tt.status, tt.text
		var v map[string]any
		err := c.Get(t.Context(), "/api/v1/x", &v)
		if err == nil || tt.want != nil && !errors.Is(err, tt.want) || !strings.Contains(err.Error(), tt.words) || strings.ContainsAny(err.Error(), "\n\x1b") || len(err.Error()) > 1000 || strings.Contains(err.Error(), "s3cret") {
			t.Errorf("%d: got %v, want %v", tt.status, err, tt.want)
		}
	}
	if err := c.Get(t.Context(), "//example.com/x", nil); err == nil || !strings.Contains(err.Error(), "path") {
		t.Errorf("got %v, want no request to another host", err)
	}
	for _, s := range []kubeapi.Settings{{Server: "http://127.0.0.1", CA: []byte("x")}, {Server: "https://x"}, {Server: "", CA: []byte("x")}} {
		if _, err := kubeapi.New(s); err == nil {
			t.Errorf("%+v: got a client", s)
		}
	}
}

// TestFollow: the list, changes, a bookmark, a page, an end of the watch, one that must be listed
// anew, and failures between them.
func TestFollow(t *testing.T) {
	object := func(name, version string) string {
		return fmt.Sprintf(`{"metadata":{"name":%q,"namespace":"shop","resourceVersion":%q}}`, name, version)
	}
	var mu sync.Mutex
	lists, watches := 0, []string{}
	c := server(t, func(w http.ResponseWriter, r *http.Request) {
		mu.Lock()
		q := r.URL.Query()
		if q.Get("watch") == "" {
			lists++
			n := lists
			mu.Unlock()
			switch {
			case n == 1:
				w.WriteHeader(http.StatusServiceUnavailable)
			case q.Get("continue") == "":
				fmt.Fprintf(w, `{"kind":"ThingList","apiVersion":"v1","metadata":{"resourceVersion":"10","continue":"more&x"},"items":[%s]}`, object("b", "1"))
			case q.Get("continue") == "more&x":
				fmt.Fprintf(w, `{"kind":"ThingList","apiVersion":"v1","metadata":{"resourceVersion":"10"},"items":[%s]}`, object("a", "2"))
			}
			return
		}
		watches = append(watches, q.Get("resourceVersion"))
		n := len(watches)
		mu.Unlock()
		switch n {
		case 1:
			fmt.Fprintf(w, `{"type":"ADDED","object":%s}{"type":"DELETED","object":%s}`, object("c", "11"), object("b", "12"))
			fmt.Fprint(w, `{"type":"BOOKMARK","object":{"metadata":{"resourceVersion":"20"}}}`)
		case 2:
			fmt.Fprint(w, `{"type":"ERROR","object":{"code":410,"reason":"Expired"}}`)
		default:
			w.(http.Flusher).Flush()
			<-r.Context().Done()
		}
	})
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	told, failed := make(chan string, 100), make(chan error, 100)
	ended := make(chan struct{})
	go func() {
		defer close(ended)
		c.Follow(ctx, "/api/v1/things", func(all []json.RawMessage) {
			var names []string
			for _, raw := range all {
				var o struct {
					Kind, APIVersion string
					Metadata         struct{ Name string }
				}
				if err := json.Unmarshal(raw, &o); err != nil {
					t.Error(err)
				}
				names = append(names, o.Metadata.Name)
			}
			told <- strings.Join(names, " ")
		}, func(err error) { failed <- err })
	}()
	for _, want := range []string{"a b", "a c", "a b"} {
		select {
		case got := <-told:
			if got != want {
				t.Fatalf("got %q, want %q", got, want)
			}
		case <-time.After(await.Patience):
			t.Fatalf("%q was not told", want)
		}
	}
	cancel()
	<-ended
	if len(failed) != 2 {
		t.Errorf("got %d failures, want that of the first list and that of the second watch", len(failed))
	}
	if strings.Join(watches[:2], " ") != "10 20" {
		t.Errorf("watches began at %q, want 10, and then at the bookmark", watches)
	}
}

// TestShortWatches: a server that ends each watch at once, as a proxy may, is not asked all the time.
func TestShortWatches(t *testing.T) {
	var watches atomic.Int64
	var began time.Time
	ctx, cancel := context.WithTimeout(t.Context(), await.Patience)
	defer cancel()
	c := server(t, func(w http.ResponseWriter, r *http.Request) {
		if r.URL.Query().Get("watch") != "" {
			if watches.Add(1) == 1 {
				began = time.Now()
				time.AfterFunc(2500*time.Millisecond, cancel)
			}
			return
		}
		_, _ = io.WriteString(w, `{"metadata":{"resourceVersion":"1"},"items":[]}`)
	})
	c.Follow(ctx, "/api/v1/things", func([]json.RawMessage) {}, func(error) {})
	if n, seconds := watches.Load(), int64(time.Since(began)/time.Second); n < 1 || n > seconds+2 {
		t.Errorf("got %d watches in %d seconds, want at most one a second", n, seconds)
	}
}

// TestSilentWatch: a server that takes a watch and never begins to answer is told of, and asked again.
func TestSilentWatch(t *testing.T) {
	var watches atomic.Int64
	c := server(t, func(w http.ResponseWriter, r *http.Request) {
		if r.URL.Query().Get("watch") != "" {
			watches.Add(1)
			<-r.Context().Done()
			return
		}
		_, _ = io.WriteString(w, `{"metadata":{"resourceVersion":"1"},"items":[]}`)
	})
	ctx, cancel := context.WithTimeout(t.Context(), await.Patience)
	defer cancel()
	var failed atomic.Int64
	c.Follow(ctx, "/api/v1/things", func([]json.RawMessage) {
		if failed.Load() > 0 {
			cancel()
		}
	}, func(error) { failed.Add(1) })
	if failed.Load() == 0 || watches.Load() == 0 {
		t.Errorf("got %d failures after %d watches, want one", failed.Load(), watches.Load())
	}
}

// TestGarbageFromTheServer: what the API server does not send ends the watch, and changes nothing.
func TestGarbageFromTheServer(t *testing.T) {
	for _, event := range []string{`{"type":"MAGIC","object":{"metadata":{"name":"x"}}}`, `{"type":"ADDED","object":{}}`, `{"type":"ADDED"}`, `nonsense`, `[1]`, strings.Repeat(`{"a":`, 100_000)} {
		c := server(t, func(w http.ResponseWriter, r *http.Request) {
			if r.URL.Query().Get("watch") != "" {
				_, _ = io.WriteString(w, event)
				return
			}
			_, _ = io.WriteString(w, `{"metadata":{"resourceVersion":"1"},"items":[]}`)
		})
		ctx, cancel := context.WithTimeout(t.Context(), await.Patience)
		failed := make(chan error, 1)
		c.Follow(ctx, "/api/v1/things", func(all []json.RawMessage) {
			if len(all) > 0 {
				t.Errorf("%.40s: got %d objects", event, len(all))
			}
		}, func(err error) { failed <- err; cancel() })
		if ctx.Err() == context.DeadlineExceeded && !strings.HasPrefix(event, `{"a"`) {
			t.Errorf("%.40s: got no failure", event)
		}
		cancel()
	}
}

// TestLargeObjects: objects that are too many bytes for one answer are read in smaller pages, so that
// those of one namespace do not keep the others from being read.
func TestLargeObjects(t *testing.T) {
	const n = 70
	large := strings.Repeat("x", 1<<20)
	c := server(t, func(w http.ResponseWriter, r *http.Request) {
		var limit, from int
		_, _ = fmt.Sscan(r.URL.Query().Get("limit"), &limit)
		_, _ = fmt.Sscan(r.URL.Query().Get("continue"), &from)
		to, next := min(n, from+limit), ""
		if to < n {
			next = fmt.Sprint(to)
		}
		fmt.Fprintf(w, `{"kind":"PodList","apiVersion":"v1","metadata":{"continue":%q},"items":[`, next)
		for i := from; i < to; i++ {
			fmt.Fprintf(w, `{"metadata":{"name":"p%d"},"x":%q}%s`, i, large, map[bool]string{true: ","}[i+1 < to])
		}
		_, _ = io.WriteString(w, "]}")
	})
	names, gone := map[string]bool{}, 0
	ctx, cancel := context.WithTimeout(t.Context(), await.Patience)
	defer cancel()
	c.Watch(ctx, "/api/v1/pods", kubeapi.Watcher{
		Set:     func(key string, _ json.RawMessage) { names[key] = true },
		Gone:    func(string) { gone++ },
		Settled: cancel,
		Failed:  func(err error) { t.Log(err) }, // on a slow machine; it is listed again
	})
	if len(names) != n || gone != 0 {
		t.Errorf("got %d objects, and %d that are gone, want %d", len(names), gone, n)
	}
}
