package api

import (
	"context"
	"encoding/json"
	"fmt"
	"net/http"

	"github.com/colophon-build/colophon/distrust"
	"github.com/colophon-build/colophon/internal/limits"
)

// PathDistrust is the path of the platform's list of what is no longer trusted (spec/distrust/v1). GET
// answers the list. POST of an entry without number, time and account, by an account that may
// administer the platform, answers the entry as it was added.
const PathDistrust = "/distrust"

// AddDistrust adds an entry to the platform's list, and returns it as it was added. Its number, time and
// account are the platform's.
func (c *ClientConfig) AddDistrust(ctx context.Context, e distrust.Entry) (*distrust.Entry, error) {
	body, err := json.Marshal(e)
	if err != nil {
		return nil, err
	}
	raw, err := c.read(ctx, http.MethodPost, PathDistrust, body, http.StatusOK, limits.Request)
	if err != nil {
		return nil, err
	}
	added, err := distrust.ParseEntry(raw)
	if err != nil {
		return nil, fmt.Errorf("platform %s: entry: %w", c.URL, err)
	}
	return added, nil
}
