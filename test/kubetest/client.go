package kubetest

import (
	"bytes"
	"context"
	"crypto/tls"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"testing"
	"time"
)

// Client asks the API server as the administrator, over a connection of its own. It is for tests that
// ask thousands of times: each kubectl takes a tenth of a second of a processor.
type Client struct{ http *http.Client }

// Client returns a new Client.
func (c *Cluster) Client(t testing.TB) *Client {
	t.Helper()
	transport := &http.Transport{TLSClientConfig: &tls.Config{InsecureSkipVerify: true}, ForceAttemptHTTP2: true} // as in the kubeconfig
	t.Cleanup(transport.CloseIdleConnections)
	return &Client{&http.Client{Transport: transport, Timeout: 30 * time.Second}}
}

// Refused is the answer of the API server to a request that it did not grant.
type Refused struct {
	Code    int    `json:"code"`
	Reason  string `json:"reason"`
	Message string `json:"message"`
}

func (r *Refused) Error() string { return fmt.Sprintf("%d %s: %s", r.Code, r.Reason, r.Message) }

// Do sends a request with a body in JSON, and returns the answer. The error is a *Refused if the API
// server answered.
func (c *Client) Do(ctx context.Context, method, path string, body []byte) ([]byte, error) {
	r, err := http.NewRequestWithContext(ctx, method, "https://"+apiAddress+path, bytes.NewReader(body))
	if err != nil {
		return nil, err
	}
	r.Header.Set("Authorization", "Bearer "+token)
	r.Header.Set("Content-Type", "application/json")
	resp, err := c.http.Do(r)
	if err != nil {
		return nil, err
	}
	defer resp.Body.Close()
	raw, err := io.ReadAll(resp.Body)
	if err != nil {
		return nil, err
	}
	if resp.StatusCode/100 != 2 {
		refused := &Refused{Code: resp.StatusCode, Message: string(raw)}
		_ = json.Unmarshal(raw, refused) // what is no Status stays the message
		return nil, refused
	}
	return raw, nil
}
