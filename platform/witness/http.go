package witness

import (
	"errors"
	"io"
	"io/fs"
	"net/http"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/colophon-build/colophon/internal/metered"
	"github.com/colophon-build/colophon/internal/strict"
	"github.com/colophon-build/colophon/platform/cosigner"
	protocol "github.com/colophon-build/colophon/tlog/witness"
)

// Handler serves both prefixes of the witness at the root: POST /add-checkpoint, and GET
// /HEX/checkpoint. GET /keys has the verifier keys, which are worth nothing unless somebody
// compared them.
func (w *Witness) Handler() http.Handler {
	mux := http.NewServeMux()
	mux.HandleFunc("POST "+protocol.PathAdd, w.serveAdd)
	mux.HandleFunc("GET /{hash}/checkpoint", w.serveLatest)
	mux.HandleFunc("GET /keys", func(rw http.ResponseWriter, _ *http.Request) {
		answer(rw, http.StatusOK, "", cosigner.Text(w.signers))
	})
	return mux
}

func (w *Witness) serveAdd(rw http.ResponseWriter, r *http.Request) {
	began := time.Now()
	result := "cosigned"
	defer func() {
		w.metrics.requests.WithLabelValues(result).Inc()
		w.metrics.seconds.Observe(time.Since(began).Seconds())
	}()
	body, err := strict.Read(r.Body, protocol.MaxRequest)
	if err != nil {
		result = "malformed"
		answer(rw, http.StatusBadRequest, "", "request: "+err.Error()+"\n")
		return
	}
	lines, err := w.Add(body)
	refused, isRefusal := errors.AsType[*protocol.Refusal](err)
	switch {
	case err == nil:
		answer(rw, http.StatusOK, "", string(lines))
	case isRefusal && refused.Status == http.StatusConflict:
		result = "conflict"
		answer(rw, refused.Status, refused.Kind, refused.Text)
	case isRefusal:
		result = results[refused.Status]
		answer(rw, refused.Status, "", refused.Text+"\n")
	default:
		result = "failed"
		w.log.Error("a checkpoint was not cosigned", "error", err)
		rw.Header().Set("Retry-After", "10")
		answer(rw, http.StatusServiceUnavailable, "", "the witness cannot cosign now; its log has the reason\n")
	}
}

// results names what refusals mean, for metrics.
var results = map[int]string{
	http.StatusBadRequest: "malformed", http.StatusForbidden: "unsigned", http.StatusNotFound: "unknown", http.StatusUnprocessableEntity: "inconsistent",
}

func (w *Witness) serveLatest(rw http.ResponseWriter, r *http.Request) {
	signed, err := w.Latest(r.PathValue("hash"))
	if errors.Is(err, fs.ErrNotExist) {
		answer(rw, http.StatusNotFound, "", "this witness has cosigned no checkpoint of this log\n")
		return
	}
	answer(rw, http.StatusOK, "", string(signed))
}

func answer(rw http.ResponseWriter, status int, kind, text string) {
	if kind == "" {
		kind = "text/plain; charset=utf-8"
	}
	rw.Header().Set("Content-Type", kind)
	rw.Header().Set("X-Content-Type-Options", "nosniff")
	rw.Header().Set("Cache-Control", "no-store")
	rw.WriteHeader(status)
	_, _ = io.WriteString(rw, text)
}

type metrics struct {
	*metered.Metrics
	requests *prometheus.CounterVec
	seconds  prometheus.Histogram
	size     *prometheus.GaugeVec
	forks    *prometheus.CounterVec
}

func newMetrics(registry prometheus.Registerer) (*metrics, error) {
	m := &metrics{
		requests: prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: "colophon_witness_requests_total",
			Help: "Checkpoints by result: cosigned, conflict (the log asks again), inconsistent, unsigned, unknown (log), malformed, failed.",
		}, []string{"result"}),
		seconds: prometheus.NewHistogram(prometheus.HistogramOpts{
			Name:    "colophon_witness_seconds",
			Help:    "Time from a request for a cosignature to its answer.",
			Buckets: []float64{.001, .0025, .005, .01, .025, .05, .1, .5, 1},
		}),
		size: prometheus.NewGaugeVec(prometheus.GaugeOpts{
			Name: "colophon_witness_log_size",
			Help: "Entries under the last checkpoint that was cosigned, by log.",
		}, []string{"origin"}),
		forks: prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: "colophon_witness_forks_total",
			Help: "Checkpoints, signed by the log, that contradict one that was cosigned.",
		}, []string{"origin"}),
	}
	var err error
	m.Metrics, err = metered.Register(registry, m.requests, m.seconds, m.size, m.forks)
	return m, err
}
