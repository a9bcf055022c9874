package platform

import (
	"bytes"
	"fmt"
	"net/http"

	"github.com/prometheus/client_golang/prometheus"
	dto "github.com/prometheus/client_model/go"
	"github.com/prometheus/common/expfmt"
	"github.com/prometheus/common/model"

	"github.com/colophon-build/colophon/internal/limits"
	"github.com/colophon-build/colophon/internal/peer"
	"github.com/colophon-build/colophon/internal/strict"
)

// gatherRole returns a Gatherer of the metrics that a role serves at /metrics.
func gatherRole(role string, at peer.Endpoint) prometheus.Gatherer {
	return prometheus.GathererFunc(func() ([]*dto.MetricFamily, error) {
		client := at.Client()
		client.Timeout = roleTimeout
		defer client.CloseIdleConnections()
		resp, err := client.Get("http://role/metrics")
		if err != nil {
			return nil, err
		}
		defer resp.Body.Close()
		if resp.StatusCode != http.StatusOK {
			return nil, fmt.Errorf("metrics of %s: got status %d, want 200", role, resp.StatusCode)
		}
		text, err := strict.Read(resp.Body, limits.Request)
		if err != nil {
			return nil, fmt.Errorf("metrics of %s: %w", role, err)
		}
		parser := expfmt.NewTextParser(model.LegacyValidation)
		byName, err := parser.TextToMetricFamilies(bytes.NewReader(text))
		var families []*dto.MetricFamily
		for _, f := range byName {
			families = append(families, f)
		}
		return families, err
	})
}
