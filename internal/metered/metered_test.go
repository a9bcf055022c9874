package metered

import (
	"testing"

	"github.com/prometheus/client_golang/prometheus"
)

// All metrics are registered or none is, and none is left after the service.
func TestRegister(t *testing.T) {
	gauge := func(name string) prometheus.Collector {
		return prometheus.NewGauge(prometheus.GaugeOpts{Name: name, Help: name})
	}
	registry := prometheus.NewRegistry()
	count := func() int {
		families, err := registry.Gather()
		if err != nil {
			t.Fatal(err)
		}
		return len(families)
	}
	m, err := Register(registry, gauge("a"), gauge("b"))
	if err != nil || count() != 2 {
		t.Fatalf("got %d metrics, %v", count(), err)
	}
	if _, err := Register(registry, gauge("c"), gauge("a")); err == nil || count() != 2 {
		t.Errorf("a name twice: got %d metrics, %v", count(), err)
	}
	m.Unregister()
	if count() != 0 {
		t.Errorf("%d metrics are left", count())
	}
	if m, err = Register(nil, gauge("a")); err != nil {
		t.Error(err)
	}
	m.Unregister()
}
