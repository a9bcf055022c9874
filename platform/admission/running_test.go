package admission

import (
	"bytes"
	"context"
	"log/slog"
	"net/http"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/colophon-build/colophon/oci/imagelist"
	"github.com/colophon-build/colophon/platform/verdicts"
)

// faulty is a cluster with a fault, for the pods of one namespace.
type faulty struct{ noCluster }

func (faulty) PullSecrets(_ context.Context, namespace, _ string, _ []string) ([]PullSecret, []string) {
	if namespace == "faulty" {
		panic("a fault")
	}
	return nil, nil
}

// TestRunningAfterFailure: pods that could not be listed are listed again soon, and a pod with
// which we have a fault does not keep the others from being verified.
func TestRunningAfterFailure(t *testing.T) {
	a, api := newAPIServer(t)
	var asked atomic.Int64
	pod := func(namespace string) string {
		return `{"metadata":{"name":"p","namespace":"` + namespace + `","uid":"` + namespace + `"},"spec":{"containers":[{"name":"a","image":"registry.example.com/app@sha256:` + strings.Repeat("a", 64) + `"}]}}`
	}
	a.answer = func(path string) (int, string) {
		switch {
		case path != "/api/v1/pods":
			return http.StatusNotFound, ""
		case asked.Add(1) == 1:
			return http.StatusInternalServerError, ""
		}
		return http.StatusOK, `{"kind":"PodList","apiVersion":"v1","metadata":{},"items":[` + pod("faulty") + `,` + pod("shop") + `]}`
	}
	var log bytes.Buffer
	metrics := prometheus.NewRegistry()
	h := New(Config{Verdicts: verdicts.New(verdicts.Config{}), Cluster: faulty{}, Log: slog.New(slog.NewTextHandler(&log, nil)), Registerer: metrics})
	refused := func() (n float64) {
		all, _ := metrics.Gather()
		for _, m := range all {
			if m.GetName() == "colophon_admission_running_refused" {
				n = m.GetMetric()[0].GetGauge().GetValue()
			}
		}
		return n
	}
	ctx, stop := context.WithTimeout(t.Context(), 10*time.Second)
	changed, done := make(chan struct{}, 1), make(chan struct{})
	changed <- struct{}{}
	go func() {
		defer close(done)
		h.watchRunning(ctx, &recorder{api: api, log: h.Log, now: time.Now}, changed, time.Millisecond)
	}()
	for ctx.Err() == nil && refused() == 0 {
		time.Sleep(time.Millisecond)
	}
	stop()
	<-done
	if got := refused(); got != 1 || asked.Load() != 2 || !strings.Contains(log.String(), "a fault") {
		t.Errorf("got %v refused after %d lists, want 1 after 2; log: %s", got, asked.Load(), &log)
	}
}

// TestPulledImage: of a pod that names a tag, the image is the one that runs, if exactly one does.
func TestPulledImage(t *testing.T) {
	a, b := "sha256:"+strings.Repeat("a", 64), "sha256:"+strings.Repeat("b", 64)
	const tagged = "registry.example.com/app:v1"
	for what, c := range map[string]struct {
		image    string
		statuses []containerStatus
		want     string // empty: not known
	}{
		"a digest":           {tagged + "@" + b, []containerStatus{{tagged, "registry.example.com/app@" + a}}, tagged + "@" + b},
		"a tag":              {tagged, []containerStatus{{tagged, "registry.example.com/app@" + a}}, tagged + "@" + a},
		"twice the same":     {tagged, []containerStatus{{tagged, "registry.example.com/app@" + a}, {tagged, "registry.example.com/app@" + a}}, tagged + "@" + a},
		"the tag moved":      {tagged, []containerStatus{{tagged, "registry.example.com/app@" + a}, {tagged, "registry.example.com/app@" + b}}, ""},
		"not pulled yet":     {tagged, []containerStatus{{tagged, ""}}, ""},
		"no repository":      {tagged, []containerStatus{{tagged, a}}, ""},
		"another image":      {tagged, []containerStatus{{"registry.example.com/other:v1", "registry.example.com/other@" + a}}, ""},
		"a text, no digest":  {tagged, []containerStatus{{tagged, "registry.example.com/app@latest"}}, ""},
		"no status, no name": {tagged, nil, ""},
	} {
		var list imagelist.List
		if err := list.Document([]byte(`{"apiVersion": "v1", "kind": "Pod", "metadata": {"name": "p"}, "spec": {"containers": [{"name": "c", "image": "` + c.image + `"}]}}`)); err != nil {
			t.Fatal(err)
		}
		var p runningPod
		p.Status.ContainerStatuses = c.statuses
		got, known := p.pulled(list.Images[0])
		if known != (c.want != "") || known && (got.Name != c.want || got.Reference.Digest != c.want[strings.Index(c.want, "@")+1:]) {
			t.Errorf("%s: got %s, %v, want %q", what, got.Name, known, c.want)
		}
	}
}
