// Package metered registers the metrics of services that open and close while a process runs.
package metered

import "github.com/prometheus/client_golang/prometheus"

// Metrics are those of one service, registered until Unregister.
type Metrics struct {
	registry prometheus.Registerer // nil: they are not registered
	all      []prometheus.Collector
}

// Register registers metrics, all or none. A nil registry registers none, and is no error.
func Register(registry prometheus.Registerer, all ...prometheus.Collector) (*Metrics, error) {
	m := &Metrics{registry: registry}
	if registry == nil {
		return m, nil
	}
	for _, c := range all {
		if err := registry.Register(c); err != nil {
			m.Unregister()
			return nil, err
		}
		m.all = append(m.all, c)
	}
	return m, nil
}

// Unregister removes the metrics from the registry.
func (m *Metrics) Unregister() {
	for _, c := range m.all {
		m.registry.Unregister(c)
	}
}
