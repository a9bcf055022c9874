package gateway

import (
	"errors"
	"fmt"
	"io"
	"io/fs"
	"net/http"
	"net/url"
	"strconv"
	"sync"

	"github.com/colophon-build/colophon/internal/credential"
	"github.com/colophon-build/colophon/platform/builder"
)

// request is the key of an answer in a lock.
type request struct {
	method, url, accept, ranges, body string
	authorized                        bool
}

func requestOf(e *builder.Exchange) request {
	return request{e.Method, e.URL, e.Accept, e.Range, e.Request, e.Authorized}
}

// locked is a lock that is being replayed.
type locked struct {
	mu      sync.Mutex
	answers map[request][]*builder.Exchange // the remaining answers; the last one is repeated
	// redirected maps the target of each redirect in the lock to the request that the
	// lock redirected. Redirects often lead to signed URLs that expire; the request
	// then has to be sent again to get a new URL.
	redirected map[string]*http.Request
}

func newLocked(l *builder.Lock, t *tokens) (*locked, error) {
	if err := l.Check(); err != nil {
		return nil, fmt.Errorf("lock: %w", err)
	}
	k := &locked{answers: map[request][]*builder.Exchange{}, redirected: map[string]*http.Request{}}
	for i := range l.Fetches {
		e := &l.Fetches[i]
		k.answers[requestOf(e)] = append(k.answers[requestOf(e)], e)
		if challenge := e.Header["Www-Authenticate"]; e.Status == http.StatusUnauthorized && challenge != "" {
			if u, err := url.Parse(e.URL); err == nil {
				t.challenged(u, challenge)
			}
		}
	}
	return k, nil
}

// next returns the next answer to a request; nil if the lock has none.
func (k *locked) next(q request) *builder.Exchange {
	k.mu.Lock()
	defer k.mu.Unlock()
	a := k.answers[q]
	if len(a) == 0 {
		return nil
	}
	if len(a) > 1 {
		k.answers[q] = a[1:]
	}
	return a[0]
}

// replay answers a request from the lock. Status and headers are the lock's. The body
// is checked against the lock before its first byte is returned.
func (g *Gateway) replay(e *exchange, r *http.Request) (*http.Response, error) {
	want := g.lock.next(requestOf(&e.Exchange))
	if want == nil {
		return nil, &DeniedError{Reason: "not in the lock: " + e.Method + " " + e.URL}
	}
	resp := &http.Response{StatusCode: want.Status, Header: http.Header{}, Body: http.NoBody, ContentLength: want.Size}
	for k, v := range want.Header {
		resp.Header.Set(k, v)
	}
	if e.Method == http.MethodHead {
		resp.ContentLength = -1
		if n, err := strconv.ParseInt(want.Header["Content-Length"], 10, 64); err == nil && n >= 0 {
			resp.ContentLength = n
		}
		return resp, nil
	}
	if to := want.Header["Location"]; to != "" && want.Status < 400 {
		g.follow(e, resp)
		if !g.set.Session.Sealed {
			g.lock.redirect(e.url, to, r)
		}
	}
	if want.Size == 0 {
		return resp, nil
	}
	var err error
	resp.Body, err = g.lockedBody(want, e, r)
	if errors.Is(err, errOtherText) {
		resp.Body, resp.ContentLength, err = http.NoBody, 0, nil
	}
	return resp, err
}

// lockedBody gets the body whose digest the lock lists: from the store, the mirror, the
// platform's registry or the network.
func (g *Gateway) lockedBody(want *builder.Exchange, e *exchange, r *http.Request) (io.ReadCloser, error) {
	if want.SHA256 == sumOf(tokenAnswer(e.url)) {
		if !e.open {
			g.tokens.close(e.url)
		}
		return newToken(e.url).Body, g.tokens.keep(e.url, "", 0)
	}
	store := g.store
	if !e.open {
		store = g.private
	}
	b, err := store.open(want.SHA256, want.Size, nil)
	if !errors.Is(err, fs.ErrNotExist) {
		return b, err
	}
	if b, err = g.mirror.blob(want.SHA256, want.Size); !errors.Is(err, fs.ErrNotExist) {
		return b, err
	}
	if g.set.Session.Sealed || e.url.Host == MirrorHost && !g.own.named(e.url) {
		return nil, &DeniedError{Reason: fmt.Sprintf("%s %s is in the lock, but its bytes (sha256:%s) are not in the store", e.Method, e.URL, want.SHA256)}
	}
	return g.refetch(store, want, e, r)
}

// errOtherText means that an error answer has the status that the lock lists, but a
// different body.
var errOtherText = errors.New("the error answer has a different text")

// refetch downloads the body whose digest the lock lists. It returns an error if the
// bytes differ from the lock.
func (g *Gateway) refetch(store *store, want *builder.Exchange, e *exchange, r *http.Request) (io.ReadCloser, error) {
	fetch := func() (*http.Response, error) { return g.followRedirects(r, 0) }
	if e.url.Host == MirrorHost {
		fetch = func() (*http.Response, error) { return g.own.answer(g.ctx, r) }
	}
	resp, err := fetch()
	if err != nil {
		return nil, err
	}
	defer resp.Body.Close()
	if resp.StatusCode != want.Status {
		return nil, &DeniedError{Reason: fmt.Sprintf("%s %s differs from the lock: got status %d, want %d", e.Method, e.URL, resp.StatusCode, want.Status)}
	}
	blob, err := store.create()
	if err != nil {
		return nil, fmt.Errorf("store: %w", err)
	}
	buf := buffers.Get()
	_, err = io.CopyBuffer(blob, struct{ io.Reader }{io.LimitReader(resp.Body, want.Size+1)}, buf)
	buffers.Put(buf)
	if err != nil {
		blob.discard()
		return nil, err
	}
	if got := blob.digest(); got != want.SHA256 || blob.n != want.Size {
		n := blob.n
		blob.discard()
		if want.Status >= 400 { // error texts often contain a request's id; the same status is enough
			return nil, errOtherText
		}
		size := fmt.Sprint(n)
		if n > want.Size {
			size = fmt.Sprintf("more than %d", want.Size)
		}
		return nil, &DeniedError{Reason: fmt.Sprintf("%s %s differs from the lock: got %s bytes with sha256:%s, want %d with sha256:%s", e.Method, e.URL, size, got, want.Size, want.SHA256)}
	}
	if err := blob.commit(true); err != nil {
		return nil, fmt.Errorf("store: %w", err)
	}
	return store.open(want.SHA256, want.Size, nil)
}

// redirect notes that the lock redirects the request r for from to the location to.
func (k *locked) redirect(from *url.URL, to string, r *http.Request) {
	target, err := from.Parse(to)
	if err != nil {
		return
	}
	k.mu.Lock()
	defer k.mu.Unlock()
	k.redirected[target.String()] = r
}

// followRedirects sends a request to the network. If r is for the target of a redirect
// in the lock, it sends the redirected request again and uses the new target, because
// the old one may have expired.
func (g *Gateway) followRedirects(r *http.Request, depth int) (*http.Response, error) {
	g.lock.mu.Lock()
	by := g.lock.redirected[r.URL.String()]
	g.lock.mu.Unlock()
	if by == nil || depth == 10 {
		return g.live(r)
	}
	resp, err := g.followRedirects(by, depth+1)
	if err != nil {
		return nil, err
	}
	resp.Body.Close()
	to := resp.Header.Get("Location")
	if resp.StatusCode < 300 || resp.StatusCode >= 400 || to == "" {
		return nil, &DeniedError{Reason: fmt.Sprintf("%s %s differs from the lock: got status %d, want a redirect", by.Method, credential.URL(by.URL.String()), resp.StatusCode)}
	}
	target, err := by.URL.Parse(to)
	if err != nil {
		return nil, fmt.Errorf("%s %s: the address that it leads to is no URL", by.Method, credential.URL(by.URL.String()))
	}
	out := r.Clone(g.ctx)
	out.URL = target
	return g.live(out)
}
