package files

import (
	"context"
	"fmt"
	"net/http"
	"strings"

	"github.com/colophon-build/colophon/internal/strict"
	"github.com/colophon-build/colophon/tlog"
)

// HTTP is the Source of a ledger that is served over HTTP. URL ends in /audit/v1; the client
// authenticates itself.
type HTTP struct{ tlog.HTTP }

// File implements Source.
func (h HTTP) File(ctx context.Context, path string) ([]byte, error) {
	url := strings.TrimSuffix(h.URL, "/") + "/" + path
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, url, nil)
	if err != nil {
		return nil, err
	}
	resp, err := h.Client.Do(req)
	if err != nil {
		return nil, err
	}
	defer resp.Body.Close()
	if resp.StatusCode != http.StatusOK {
		return nil, &tlog.StatusError{URL: url, Status: resp.StatusCode, RetryAfter: resp.Header.Get("Retry-After")}
	}
	data, err := strict.Read(resp.Body, MaxFile)
	if err != nil {
		return nil, fmt.Errorf("GET %s: %w", url, err)
	}
	return data, nil
}
