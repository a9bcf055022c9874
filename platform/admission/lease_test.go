package admission

import (
	"encoding/json"
	"encoding/pem"
	"fmt"
	"io"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/colophon-build/colophon/platform/admission/kubeapi"
)

// clusterAPI is the API server as leases, events and evictions need it. test/kube has the real one.
type clusterAPI struct {
	mu      sync.Mutex
	lease   leaseObject
	version int
	posts   []string              // PATH BODY
	evict   func(path string) int // status of an eviction; nil: 201
	down    bool
}

func newClusterAPI(t *testing.T) (*clusterAPI, *kubeapi.Client) {
	a := &clusterAPI{}
	srv := httptest.NewTLSServer(a)
	t.Cleanup(srv.Close)
	c, err := kubeapi.New(kubeapi.Settings{Server: srv.URL, CA: pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: srv.Certificate().Raw})})
	if err != nil {
		t.Fatal(err)
	}
	return a, c
}

func (a *clusterAPI) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	a.mu.Lock()
	defer a.mu.Unlock()
	body, _ := io.ReadAll(r.Body)
	lease := strings.HasSuffix(r.URL.Path, "/leases/colophon-admission")
	switch {
	case a.down:
		w.WriteHeader(http.StatusServiceUnavailable)
		return
	case r.Method == http.MethodPost:
		a.posts = append(a.posts, r.URL.Path+" "+string(body))
		if code := http.StatusCreated; strings.HasSuffix(r.URL.Path, "/eviction") && a.evict != nil {
			if code = a.evict(r.URL.Path); code >= 300 {
				w.WriteHeader(code)
				return
			}
		}
		_, _ = io.WriteString(w, "{}")
		return
	case !lease:
		w.WriteHeader(http.StatusNotFound)
		return
	case r.Method == http.MethodPatch:
		next := a.lease
		next.Spec.Holder = "" // as null in the patch
		if json.Unmarshal(body, &next) != nil || next.Metadata.ResourceVersion != a.lease.Metadata.ResourceVersion {
			w.WriteHeader(http.StatusConflict)
			return
		}
		a.lease = next
	}
	if r.Method == http.MethodPatch || a.version == 0 {
		a.version++
		a.lease.Metadata.ResourceVersion = fmt.Sprint(a.version)
	}
	_ = json.NewEncoder(w).Encode(a.lease)
}

// posted returns the paths of the requests that end in suffix.
func (a *clusterAPI) posted(text string) (out []string) {
	a.mu.Lock()
	defer a.mu.Unlock()
	for _, p := range a.posts {
		if strings.Contains(p, text) {
			out = append(out, p)
		}
	}
	return out
}

// TestOneLeads: of several replicas one leads; the next one does when it has gone or was silent for
// long enough; and one that cannot renew stops before another one begins.
func TestOneLeads(t *testing.T) {
	a, api := newClusterAPI(t)
	now := time.Now()
	replica := func() *lease {
		l := newLease(api, "colophon", slog.New(slog.DiscardHandler))
		l.now = func() time.Time { return now }
		return l
	}
	renew := func(l *lease, want bool) {
		t.Helper()
		if err := l.renew(t.Context(), "shop", 0); err != nil || l.leads() != want {
			t.Fatalf("got %v, leads %v, want %v", err, l.leads(), want)
		}
	}
	first, second := replica(), replica()
	renew(first, true)
	renew(second, false)
	if err := first.renew(t.Context(), "shop", 2); err != nil || counted(first) != 2 {
		t.Errorf("got %v and %d evictions, want 2", err, counted(first))
	}
	if err := second.renew(t.Context(), "shop", 1); err == nil || second.leads() {
		t.Error("a replica that does not lead counted an eviction")
	}
	now = now.Add(leaseFor - time.Second)
	renew(first, true)
	renew(second, false) // it has just renewed
	a.mu.Lock()
	a.down = true
	a.mu.Unlock()
	if now = now.Add(leaseAhead); first.renew(t.Context(), "shop", 0) == nil || first.leads() {
		t.Error("a replica leads that cannot renew")
	}
	a.mu.Lock()
	a.down = false
	a.mu.Unlock()
	renew(second, false)
	now = now.Add(leaseFor - leaseAhead)
	renew(second, true)
	renew(first, false)
	if counted(second) != 2 {
		t.Errorf("the new leader counts %d evictions, want the 2 of the one before", counted(second))
	}
	now = now.Add(26 * time.Hour)
	renew(second, true)
	if counted(second) != 0 {
		t.Errorf("got %d evictions after a day, want 0", counted(second))
	}
	// Two that read the same lease: the second one to write does not lead.
	both := replica()
	now = now.Add(time.Hour)
	o, err := both.get(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	renew(second, true)
	if err := both.patch(t.Context(), o, both.id); err == nil {
		t.Error("a lease was taken that had changed")
	}
}

func counted(l *lease) int {
	n, _ := l.evictions()
	return n
}

// TestEvictedAnnotation: what somebody else wrote into the annotation is bounded.
func TestEvictedAnnotation(t *testing.T) {
	now := time.Unix(1_000_000*3600, 0)
	for text, want := range map[string]int{
		"": 0, "x": 0, "1000000=3,999990=2": 5, "999970=9": 0, "1000000=-5": 0, "1000000=99999999999": 0, strings.Repeat("1000000=1,", 10_000): 1, "1000000/shop=2,1000000/team=1,1000000=1": 4, "1000000/=1,1000000/../x=1,1000000/A=1": 0,
	} {
		got := 0
		for _, n := range parseEvicted(text, now) {
			got += n
		}
		if got != want {
			t.Errorf("%.30q: got %d, want %d", text, got, want)
		}
	}
	if got := encodeEvicted(parseEvicted("999999=2,1000000/shop=3", now)); got != "1000000/shop=3,999999=2" {
		t.Errorf("got %q", got)
	}
	var many []string
	for n := range 2 * maxEvicted {
		many = append(many, fmt.Sprintf("1000000/n%d=1", n))
	}
	if n := len(parseEvicted(strings.Join(many, ","), now)); n != maxEvicted {
		t.Errorf("got %d counts, want %d", n, maxEvicted)
	}
}
