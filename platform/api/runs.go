package api

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"strconv"
	"strings"
	"time"

	"github.com/colophon-build/colophon/internal/lazyregexp"
	"github.com/colophon-build/colophon/internal/limits"
	"github.com/colophon-build/colophon/internal/strict"
)

// Run is a release that somebody asked for, and what became of it. Spec: spec/release.
type Run struct {
	ID      string    `json:"id"`
	State   State     `json:"state"`
	Actor   string    `json:"actor,omitempty"` // account whose token asked for it; empty: not kept any more
	Image   string    `json:"image"`           // REGISTRY/NAME
	Source  string    `json:"source"`          // URI without credentials
	Ref     string    `json:"ref"`
	Commit  string    `json:"commit,omitempty"` // once it is known
	Asked   time.Time `json:"asked"`
	Started time.Time `json:"started,omitzero"`
	Ended   time.Time `json:"ended,omitzero"`
	Error   *Error    `json:"error,omitempty"`  // why it was not released
	Result  *Release  `json:"result,omitempty"` // of state released

	// Request is what was asked for, without its lock: Lock names that. A list has neither.
	Request *ReleaseRequest `json:"request,omitempty"`
	Lock    string          `json:"lock,omitempty"` // sha256:hex
}

// State is how far a release has come.
type State string

const (
	Waiting    State = "waiting"    // for another release of the image, or for its turn
	Running    State = "running"    // until its image is measured and its SBOMs are written; it can be cancelled
	Publishing State = "publishing" // it runs to its end, after a restart of the platform too
	Released   State = "released"
	Failed     State = "failed"
	Cancelled  State = "cancelled"
	Parked     State = "parked" // it cannot be finished, or may be what made the platform's process die; see the operator's docs
)

// States are all states, in the order in which a release may come to them.
var States = []State{Waiting, Running, Publishing, Released, Failed, Cancelled, Parked}

// Ended reports whether nothing more happens to the release by itself.
func (s State) Ended() bool { return s != Waiting && s != Running && s != Publishing }

// ShortID is how many digits of an id people are shown. MinID is how many they must give.
const (
	ShortID = 8
	MinID   = 4
)

// Runs is a list of releases, the newest first.
type Runs struct {
	Releases []Run `json:"releases"`
}

// RunFilter chooses releases. The zero value means the newest ones.
type RunFilter struct {
	Image string // REGISTRY/NAME, or the end of it after a /
	State State
	Limit int

	Source string // canonical address of the repository
	Ref    string // as it was asked for
	Commit string // full id
	Digest string // of what was released
}

// Runs lists the releases that f chooses, the newest first.
func (c *ClientConfig) Runs(ctx context.Context, f RunFilter) ([]Run, error) {
	q := url.Values{}
	if f.Image != "" {
		q.Set("image", f.Image)
	}
	if f.State != "" {
		q.Set("state", string(f.State))
	}
	for name, value := range map[string]string{"source": f.Source, "ref": f.Ref, "commit": f.Commit, "digest": f.Digest} {
		if value != "" {
			q.Set(name, value)
		}
	}
	if f.Limit != 0 {
		q.Set("limit", strconv.Itoa(f.Limit))
	}
	var all Runs
	if err := c.ask(ctx, http.MethodGet, PathReleases+"?"+q.Encode(), &all); err != nil {
		return nil, err
	}
	for _, run := range all.Releases {
		if err := run.named(""); err != nil {
			return nil, fmt.Errorf("platform %s: %w", c.URL, err)
		}
	}
	return all.Releases, nil
}

// Run returns the release whose id begins with id.
func (c *ClientConfig) Run(ctx context.Context, id string) (*Run, error) {
	return c.run(ctx, http.MethodGet, id, "")
}

// Cancel cancels the release whose id begins with id, and returns what became of it. If it
// cannot be cancelled, the error is an *Error.
func (c *ClientConfig) Cancel(ctx context.Context, id string) (*Run, error) {
	return c.run(ctx, http.MethodPost, id, "/cancel")
}

// RunEvents calls progress for each event of the release whose id begins with id but the
// last, and returns that one: it has Result or Error. It returns nil if the release has not
// ended. If follow is set, it waits for that.
func (c *ClientConfig) RunEvents(ctx context.Context, id string, follow bool, progress func(Event)) (*Event, error) {
	path, err := runPath(id)
	if err != nil {
		return nil, err
	}
	if path += "/log"; follow {
		path += "?follow=true"
	}
	resp, err := c.send(ctx, http.MethodGet, path)
	if err != nil {
		return nil, err
	}
	defer resp.Body.Close()
	last, err := c.events(ctx, resp.Body, progress)
	if err == nil && last == nil && follow {
		err = &Error{Message: fmt.Sprintf("platform %s closed the connection before the release ended", c.URL), Hint: "run the same command again"}
	}
	return last, err
}

func (c *ClientConfig) run(ctx context.Context, method, id, suffix string) (*Run, error) {
	path, err := runPath(id)
	if err != nil {
		return nil, err
	}
	var run Run
	if err := c.ask(ctx, method, path+suffix, &run); err != nil {
		return nil, err
	}
	if err := run.named(id); err != nil {
		return nil, fmt.Errorf("platform %s: %w", c.URL, err)
	}
	return &run, nil
}

// maxAnswer is the maximum size of a list of releases, in bytes.
const maxAnswer = 64 << 20

// ask sends a request without a body and reads the JSON answer into v.
func (c *ClientConfig) ask(ctx context.Context, method, path string, v any) error {
	resp, err := c.send(ctx, method, path)
	if err != nil {
		return err
	}
	defer resp.Body.Close()
	data, err := strict.Read(resp.Body, maxAnswer)
	if err == nil {
		err = strict.Unmarshal(data, maxAnswer, v)
	}
	if err != nil {
		return fmt.Errorf("platform %s: %w", c.URL, err)
	}
	return nil
}

// send sends a request without a body. The answer's status is 200.
func (c *ClientConfig) send(ctx context.Context, method, path string) (*http.Response, error) {
	r, err := c.request(ctx, method, path, nil)
	if err != nil {
		return nil, err
	}
	r.Header.Set("Authorization", "Bearer "+c.Token)
	resp, err := do(r)
	if ctx.Err() != nil {
		return nil, context.Cause(ctx)
	} else if err != nil {
		return nil, err
	}
	if resp.StatusCode == http.StatusOK {
		return resp, nil
	}
	defer resp.Body.Close()
	if resp.StatusCode != http.StatusNotFound && resp.StatusCode != http.StatusConflict {
		return nil, refusal(c.URL, resp)
	}
	var known Error
	data, err := strict.Read(io.LimitReader(resp.Body, limits.Request), limits.Request)
	if err = errors.Join(err, strict.Unmarshal(data, limits.Request, &known)); err != nil || known.Message == "" {
		return nil, fmt.Errorf("platform %s: %s", c.URL, resp.Status)
	}
	if resp.StatusCode == http.StatusNotFound {
		return nil, &missing{&known}
	}
	return nil, &known
}

// ErrNoRelease matches the error of ClientConfig.Run for an id that no release of the platform has.
var ErrNoRelease = errors.New("the platform has no such release")

type missing struct{ answer *Error }

func (m *missing) Error() string      { return m.answer.Error() }
func (*missing) Is(target error) bool { return target == ErrNoRelease }
func (m *missing) Unwrap() error      { return m.answer }

var runID = lazyregexp.New(`^[0-9a-f]{32}$`)

// named fails if the release is not one whose id begins with prefix.
func (r *Run) named(prefix string) error {
	if !runID.MatchString(r.ID) || !strings.HasPrefix(r.ID, prefix) {
		return fmt.Errorf("id of a release: got %q, want 32 hex digits that begin with %q", r.ID, prefix)
	}
	return nil
}

// Short returns the first digits of the id, for people.
func (r *Run) Short() string { return r.ID[:ShortID] }

func runPath(id string) (string, error) {
	if len(id) < MinID || len(id) > 32 || strings.Trim(id, "0123456789abcdef") != "" {
		return "", &Error{Message: fmt.Sprintf("release %q: expected its id, or the first %d or more of its digits", id, MinID), Hint: "colophon releases lists them", Kind: Usage}
	}
	return PathReleases + "/" + id, nil
}
