package forge

import (
	"context"
	"errors"
	"fmt"
	"io"
	"maps"
	"net/http"
	"net/url"
	"strconv"
	"strings"
	"time"

	"github.com/colophon-build/colophon/internal/reach"
	"github.com/colophon-build/colophon/internal/strict"
)

// Bounds on what a forge may answer to one question.
const (
	maxAnswer = 8 << 20 // bytes of one answer
	maxPages  = 10      // pages of one list
	pageSize  = 50      // entries of one page
	maxAsked  = 100     // requests of one Forge

	answerTimeout = 30 * time.Second
	maxWait       = time.Minute // for a forge that puts requests off, together
)

// Errors that say why an answer is not known.
var (
	errMoved   = errors.New("the forge redirects: the repository was renamed or transferred, or the address is not that of the API")
	errHidden  = errors.New("the forge does not show it to this caller")
	errAbsent  = errors.New("the forge does not have it, or does not show it to this caller")
	errTooLong = fmt.Errorf("the list has more than %d entries", maxPages*pageSize)
)

// client asks one API. It sends its token to no other host, and to no other path.
type client struct {
	base  *url.URL
	kind  Kind
	token string

	asked  int
	waited time.Duration
}

// transport follows no redirect: the token would go where an answer says.
var transport = &http.Client{
	Timeout:       answerTimeout,
	CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse },
}

// get reads one JSON answer into v. path is escaped, and below the base of the API.
func (c *client) get(ctx context.Context, path string, query url.Values, v any) error {
	body, err := c.fetch(ctx, path, query)
	if err == nil {
		err = strict.Unmarshal(body, maxAnswer, v)
	}
	if err != nil {
		return fmt.Errorf("%s%s: %w", c.base.Host, path, err)
	}
	return nil
}

func (c *client) fetch(ctx context.Context, path string, query url.Values) ([]byte, error) {
	u, err := url.Parse(c.base.String() + path)
	if err != nil {
		return nil, errors.New("the path cannot be part of an address")
	}
	u.RawQuery = query.Encode()
	for {
		if c.asked++; c.asked > maxAsked {
			return nil, fmt.Errorf("got more than %d requests for one commit", maxAsked)
		}
		body, wait, err := c.ask(ctx, u)
		if err != nil || wait < 0 {
			return body, err
		}
		if wait > maxWait-c.waited {
			return nil, fmt.Errorf("the forge puts requests off for %s, want at most %s together", wait, maxWait)
		}
		c.waited += wait
		select {
		case <-ctx.Done():
			return nil, context.Cause(ctx)
		case <-time.After(wait):
		}
	}
}

// ask sends one request. wait is not negative if the forge puts it off.
func (c *client) ask(ctx context.Context, u *url.URL) (body []byte, wait time.Duration, err error) {
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, u.String(), nil)
	if err != nil {
		return nil, -1, errors.New("the address of the request cannot be used")
	}
	req.Header.Set("User-Agent", "colophon")
	req.Header.Set("Accept", "application/json")
	if c.kind == GitHub {
		req.Header.Set("Accept", "application/vnd.github+json")
		req.Header.Set("X-GitHub-Api-Version", "2022-11-28")
	}
	if c.token != "" {
		req.Header.Set("Authorization", c.scheme()+" "+c.token)
	}
	resp, err := transport.Do(req)
	if err != nil {
		return nil, -1, reach.Explain(err)
	}
	defer resp.Body.Close()
	switch code := resp.StatusCode; {
	case code == http.StatusOK:
		body, err = strict.Read(resp.Body, maxAnswer)
		return body, -1, err
	case code >= 300 && code < 400:
		return nil, -1, errMoved
	case code == http.StatusTooManyRequests, code == http.StatusForbidden && limited(resp.Header):
		wait, err := putOff(resp.Header, time.Now())
		return nil, wait, err
	case code == http.StatusNotFound:
		return nil, -1, &absent{message(resp.Body)}
	case code == http.StatusUnauthorized, code == http.StatusForbidden:
		return nil, -1, errHidden
	default:
		return nil, -1, fmt.Errorf("got status %d, want 200", code)
	}
}

func (c *client) scheme() string {
	if c.kind == Gitea {
		return "token"
	}
	return "Bearer"
}

// absent is status 404: the thing is not there, or the caller may not know.
type absent struct{ message string }

func (a *absent) Error() string        { return errAbsent.Error() }
func (a *absent) Is(target error) bool { return target == errAbsent }

// message returns what an answer of status 404 says. Only fixed texts are compared with it.
func message(body io.Reader) string {
	var m struct {
		Message string `json:"message"`
	}
	raw, err := strict.Read(body, 64<<10)
	if err != nil || strict.Unmarshal(raw, 64<<10, &m) != nil {
		return ""
	}
	return m.Message
}

// limited reports whether status 403 means that too much was asked, as at GitHub.
func limited(h http.Header) bool {
	return h.Get("Retry-After") != "" || h.Get("X-RateLimit-Remaining") == "0"
}

// putOff returns how long to wait before the request may be sent again.
func putOff(h http.Header, now time.Time) (time.Duration, error) {
	if wait, ok := reach.RetryAfter(h.Get("Retry-After"), now); ok {
		return atLeastOne(wait), nil
	}
	for _, name := range []string{"X-RateLimit-Reset", "RateLimit-Reset"} {
		if n, err := strconv.ParseInt(h.Get(name), 10, 64); err == nil {
			return atLeastOne(time.Unix(n, 0).Sub(now)), nil
		}
	}
	return 0, errors.New("too many requests, and the forge does not say how long to wait")
}

// atLeastOne keeps a forge that says "now" from being asked without a pause.
func atLeastOne(d time.Duration) time.Duration { return max(d, time.Second) }

// list reads all pages of a list.
func list[T any](ctx context.Context, c *client, path string, query url.Values) (all []T, err error) {
	size := "per_page"
	if c.kind == Gitea {
		size = "limit"
	}
	q := url.Values{size: {strconv.Itoa(pageSize)}}
	maps.Copy(q, query)
	for page := 1; page <= maxPages; page++ {
		q.Set("page", strconv.Itoa(page))
		var got []T
		if err := c.get(ctx, path, q, &got); err != nil {
			return nil, err
		}
		// A server may have smaller pages than asked for, so that only an empty one is surely
		// the last.
		if all = append(all, got...); len(got) == 0 {
			return all, nil
		}
	}
	return nil, fmt.Errorf("%s%s: %w", c.base.Host, path, errTooLong)
}

// slashed escapes the name of a branch for a path in which its slashes stay, as GitHub and
// Gitea want it.
func slashed(name string) string { return strings.ReplaceAll(url.PathEscape(name), "%2F", "/") }
