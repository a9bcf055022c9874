package api

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"net/http"
	"strings"

	"github.com/colophon-build/colophon/distrust"
	"github.com/colophon-build/colophon/internal/limits"
	"github.com/colophon-build/colophon/internal/strict"
)

// Paths of the platform's list of what is no longer trusted (spec/distrust/v1).
const (
	PathDistrust    = "/distrust"     // GET answers the list; POST an entry without number, time and account, of an account that may administer the platform, answers the entry as it was added
	PathDistrustKey = "/distrust/key" // GET answers the public key that signs the list, PEM
)

// AddDistrust adds an entry to the platform's list, and returns it as it was added. Its number, time and
// account are the platform's.
func (c *ClientConfig) AddDistrust(ctx context.Context, e distrust.Entry) (*distrust.Entry, error) {
	body, err := json.Marshal(e)
	if err != nil {
		return nil, err
	}
	hr, err := http.NewRequestWithContext(ctx, http.MethodPost, strings.TrimSuffix(c.URL, "/")+PathDistrust, bytes.NewReader(body))
	if err != nil {
		return nil, err
	}
	hr.Header.Set("Authorization", "Bearer "+c.Token)
	hr.Header.Set("Content-Type", "application/json")
	resp, err := client.Do(hr)
	if err != nil {
		return nil, unreached(err)
	}
	defer resp.Body.Close()
	if resp.StatusCode != http.StatusOK {
		return nil, refusal(c.URL, resp)
	}
	raw, err := strict.Read(resp.Body, limits.Request)
	if err != nil {
		return nil, err
	}
	added, err := distrust.ParseEntry(raw)
	if err != nil {
		return nil, fmt.Errorf("platform %s: entry: %w", c.URL, err)
	}
	return added, nil
}
