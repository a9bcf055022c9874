package monitor

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"slices"
	"strings"
	"time"

	"golang.org/x/net/http/httpguts"

	"github.com/colophon-build/colophon/internal/loopback"
	"github.com/colophon-build/colophon/internal/reach"
	"github.com/colophon-build/colophon/internal/strict"
)

const (
	postAlarms = 100      // alarms of one request to a webhook
	maxWebhook = 16 << 10 // bytes of a file with URL and headers
)

// Lines writes each alarm as one line of JSON.
type Lines struct{ W io.Writer }

// Report implements Sink.
func (l Lines) Report(_ context.Context, alarms []Alarm) error {
	var out bytes.Buffer
	for _, a := range alarms {
		line, err := json.Marshal(a)
		if err != nil {
			return err
		}
		out.Write(append(line, '\n'))
	}
	_, err := l.W.Write(out.Bytes())
	return err
}

// Webhook sends alarms by HTTP: POST of {"alarms": [ALARM, …]}, at most 100 at once. Any
// status 2xx means that they were taken. It repeats other requests as long as that may help.
type Webhook struct {
	url    string
	header http.Header
	client *http.Client
	retry  reach.Retry
}

// NewWebhook returns the webhook at a URL: https, or http on this machine. A URL with a
// secret in it, and headers, come from a file instead: where is its path. Its first line is
// the URL, and the others are headers for each request, NAME: VALUE.
func NewWebhook(where string) (*Webhook, error) {
	w := &Webhook{url: where, header: http.Header{}, client: &http.Client{
		Timeout:       30 * time.Second,
		CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse },
	}}
	w.retry = reach.Retry{Server: "the webhook", Pause: time.Second, Jitter: true, MayPass: mayPass, After: func(err error) string {
		if s, ok := errors.AsType[*answered](err); ok {
			return s.after
		}
		return ""
	}}
	if !strings.Contains(where, "://") {
		if err := w.read(where); err != nil {
			return nil, err
		}
	}
	// No error may quote what could be a secret.
	if u, err := url.Parse(w.url); err != nil || u.Host == "" || !loopback.OrTLS(u) || u.User != nil {
		return nil, errors.New("webhook: expected https://HOST/…, or http on this machine, without a password")
	}
	return w, nil
}

// read reads the file of a webhook.
func (w *Webhook) read(path string) error {
	raw, err := strict.ReadFile(path, maxWebhook)
	if err != nil {
		return err
	}
	lines := strings.Split(strings.TrimRight(string(raw), "\r\n"), "\n")
	w.url = strings.TrimSpace(lines[0])
	for n, line := range lines[1:] {
		name, value, ok := strings.Cut(strings.TrimRight(line, "\r"), ":")
		value = strings.TrimSpace(value)
		if !ok || !httpguts.ValidHeaderFieldName(name) || !httpguts.ValidHeaderFieldValue(value) {
			return fmt.Errorf("%s:%d: expected NAME: VALUE", path, n+2)
		}
		w.header.Add(name, value)
	}
	return nil
}

// answered is an answer of a webhook that did not take alarms.
type answered struct {
	status int
	after  string
}

func (a *answered) Error() string {
	return fmt.Sprintf("the webhook answered %d %s", a.status, http.StatusText(a.status))
}

func mayPass(err error) bool {
	a, ok := errors.AsType[*answered](err)
	return !ok || a.status == http.StatusTooManyRequests || a.status >= 500
}

// Report implements Sink.
func (w *Webhook) Report(ctx context.Context, alarms []Alarm) error {
	for part := range slices.Chunk(alarms, postAlarms) {
		body, err := json.Marshal(map[string]any{"alarms": part})
		if err != nil {
			return err
		}
		if err := w.retry.Do(ctx, func() error { return w.post(ctx, body) }); err != nil {
			return err
		}
	}
	return nil
}

func (w *Webhook) post(ctx context.Context, body []byte) error {
	req, err := http.NewRequestWithContext(ctx, http.MethodPost, w.url, bytes.NewReader(body))
	if err != nil {
		return err
	}
	req.Header = w.header.Clone()
	req.Header.Set("Content-Type", "application/json")
	resp, err := w.client.Do(req)
	if err != nil {
		return reach.Explain(err)
	}
	defer resp.Body.Close()
	if resp.StatusCode/100 != 2 {
		return &answered{resp.StatusCode, resp.Header.Get("Retry-After")}
	}
	return nil
}
