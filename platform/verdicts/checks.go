package verdicts

import (
	"io"
	"net/http"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/promhttp"
)

// Checks returns the handler of /healthz, /readyz and /metrics of a role that decides. unready
// says what else keeps the role from being ready; "" if nothing does.
func (l *Loader) Checks(metrics *prometheus.Registry, unready func() string) http.Handler {
	mux := http.NewServeMux()
	mux.HandleFunc("GET /healthz", func(w http.ResponseWriter, _ *http.Request) { _, _ = io.WriteString(w, "ok\n") })
	mux.HandleFunc("GET /readyz", func(w http.ResponseWriter, _ *http.Request) {
		read, problem := l.Ready()
		why := unready()
		switch {
		case why != "":
			http.Error(w, why, http.StatusServiceUnavailable)
		case !read:
			http.Error(w, "the policies and trust roots were not read yet", http.StatusServiceUnavailable)
		case problem != "":
			// Ready: the last good ones decide, and without this process nothing would.
			_, _ = io.WriteString(w, "ok, but what was read last is not in force: "+problem+"\n")
		default:
			_, _ = io.WriteString(w, "ok\n")
		}
	})
	mux.Handle("GET /metrics", promhttp.HandlerFor(metrics, promhttp.HandlerOpts{}))
	return mux
}
