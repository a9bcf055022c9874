package worker

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"

	"github.com/colophon-build/colophon/internal/limits"
	"github.com/colophon-build/colophon/internal/peer"
	"github.com/colophon-build/colophon/internal/strict"
	"github.com/colophon-build/colophon/platform/builder"
	"github.com/colophon-build/colophon/source"
)

// Client runs builds on the worker at the endpoint At. Tree and Layout of a
// request are directories of the client's host. Client implements builder.Builder
// with one exception: if ctx is cancelled, Build returns at once, and the worker
// erases the room later.
type Client struct {
	At peer.Endpoint
}

// Build implements builder.Builder.
func (c Client) Build(ctx context.Context, req builder.Request) (*builder.Result, error) {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	first, err := json.Marshal(job{Recipe: req.Recipe, Added: req.Added, Epoch: req.Epoch, Limits: req.Limits, Session: req.Session, KeepCaches: req.KeepCaches})
	if err != nil {
		return nil, err
	}
	body, w := io.Pipe()
	packed := make(chan error, 1)
	go func() {
		err := send(w, first, req)
		w.CloseWithError(err)
		packed <- err
	}()
	res, err := c.exchange(ctx, body, req)
	body.Close()
	// The worker may have answered before it read the whole tree.
	sent := <-packed
	switch {
	case errors.Is(sent, source.ErrNotTheTree):
		return nil, sent
	case err != nil && ctx.Err() != nil:
		return nil, context.Cause(ctx)
	case err != nil:
		return nil, err
	case sent != nil:
		return nil, fmt.Errorf("worker: it answered, but the source tree was not sent completely: %w", sent)
	}
	return res, nil
}

// exchange sends body to the worker and reads its answer.
func (c Client) exchange(ctx context.Context, body io.Reader, req builder.Request) (*builder.Result, error) {
	resp, err := c.ask(ctx, http.MethodPost, "build", body)
	if err != nil {
		return nil, err
	}
	defer resp.Body.Close()
	return receive(resp.Body, req)
}

// ask sends one request to the worker. The answer is a 200, and its connection is
// for this request alone.
func (c Client) ask(ctx context.Context, method, path string, body io.Reader) (*http.Response, error) {
	r, err := http.NewRequestWithContext(ctx, method, "http://worker/"+path, body)
	if err != nil {
		return nil, err
	}
	r.Close = true
	resp, err := c.At.Client().Do(r)
	if err != nil {
		return nil, fmt.Errorf("worker: %w", err)
	}
	if resp.StatusCode != http.StatusOK {
		defer resp.Body.Close()
		msg, _ := io.ReadAll(io.LimitReader(resp.Body, 4096))
		return nil, fmt.Errorf("worker: %s: %s: %s", path, resp.Status, msg)
	}
	return resp, nil
}

// Missing returns the builders that cannot work on this platform, by name.
func (c Client) Missing(ctx context.Context) (map[string]builder.Lack, error) {
	resp, err := c.ask(ctx, http.MethodGet, "missing", nil)
	if err != nil {
		return nil, err
	}
	defer resp.Body.Close()
	raw, err := strict.Read(resp.Body, limits.Request)
	if err != nil {
		return nil, fmt.Errorf("worker: missing builders: %w", err)
	}
	var missing map[string]builder.Lack
	if err := strict.UnmarshalKnown(raw, limits.Request, &missing); err != nil {
		return nil, fmt.Errorf("worker: missing builders: %w", err)
	}
	return missing, nil
}

func send(w io.Writer, first []byte, req builder.Request) error {
	if _, err := w.Write(append(frameHead('J', len(first)), first...)); err != nil {
		return err
	}
	if err := packTree(w, req.Tree, req.Source); err != nil {
		return err
	}
	for _, a := range req.Added {
		if err := packTree(w, a.Tree, a.Source); err != nil {
			return fmt.Errorf("%s: %w", a.Name, err)
		}
	}
	return nil
}

// receive reads the worker's answer. The build zone wrote all of it, so nothing
// in it is trusted.
func receive(r io.Reader, req builder.Request) (*builder.Result, error) {
	pr, pw := io.Pipe()
	defer pw.Close()
	unpacked := make(chan error, 1)
	began := false
	for {
		kind, payload, err := readFrame(r)
		if err != nil {
			pw.CloseWithError(err)
			return nil, fmt.Errorf("worker: the answer ended early: %w", err)
		}
		switch kind {
		case 'E':
			var e builder.Event
			if err := strict.UnmarshalKnown(payload, maxFrame, &e); err != nil {
				return nil, fmt.Errorf("worker: event: %w", err)
			}
			if req.Log != nil {
				req.Log(e)
			}
		case 'T':
			if !began {
				began = true
				go func() {
					err := builder.UnpackLayout(pr, req.Layout)
					pr.CloseWithError(err)
					unpacked <- err
				}()
			}
			if _, err := pw.Write(payload); err != nil {
				return nil, fmt.Errorf("worker: %w", err)
			}
		case 'F':
			var f failure
			if err := strict.UnmarshalKnown(payload, maxFrame, &f); err != nil {
				return nil, fmt.Errorf("worker: failure: %w", err)
			}
			if f.Recipe {
				return nil, &builder.Error{Step: f.Step, Err: errors.New(f.Message)}
			}
			if f.Missing != "" {
				return nil, &builder.UnavailableError{Builder: f.Missing, Lack: builder.Lack{Reason: f.Message, Hint: f.Hint}}
			}
			return nil, fmt.Errorf("worker: %s", f.Message)
		case 'R':
			if !began {
				return nil, errors.New("worker: got a result without a layout")
			}
			pw.Close()
			if err := <-unpacked; err != nil {
				return nil, fmt.Errorf("worker: %w", err)
			}
			var res builder.Result
			if err := strict.UnmarshalKnown(payload, maxResult, &res); err != nil {
				return nil, fmt.Errorf("worker: result: %w", err)
			}
			if len(res.Dependencies) > maxDependencies || len(res.Config) > limits.Layers {
				return nil, fmt.Errorf("worker: result: got %d dependencies and %d settings, want at most %d and %d", len(res.Dependencies), len(res.Config), maxDependencies, limits.Layers)
			}
			return &res, nil
		default:
			return nil, fmt.Errorf("worker: got frame %q, want 'E', 'T', 'F' or 'R'", kind)
		}
	}
}

// maxDependencies is the maximum length of a result's list of dependencies.
const maxDependencies = 100000
