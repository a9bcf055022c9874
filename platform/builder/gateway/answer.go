package gateway

import (
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"hash"
	"io"
	"io/fs"
	"net/http"
	"net/url"
	"strconv"
	"strings"
	"time"

	"github.com/colophon-build/colophon/internal/credential"
	"github.com/colophon-build/colophon/internal/limits"
	"github.com/colophon-build/colophon/internal/printable"
	"github.com/colophon-build/colophon/internal/strict"
	"github.com/colophon-build/colophon/platform/builder"
)

// answer gets the answer to an exchange. It records the status and headers that the
// room receives; the body is recorded as it is read.
func (g *Gateway) answer(r *http.Request) (*http.Response, error) {
	e := r.Context().Value(exchangeKey{}).(*exchange)
	u := *e.url
	r.URL, r.Host = &u, u.Host
	e.Credential = g.login(r) != nil
	// What a build with credentials downloads, others do not get from the store: also what a
	// private server redirected it to.
	e.open = len(g.logins) == 0 && g.open(e, r)
	resp, keep, err := g.find(e, r)
	if err != nil {
		return nil, err
	}
	if e.Method == http.MethodHead || builder.Bodiless(resp.StatusCode) {
		resp.Body.Close()
		resp.Body = http.NoBody
		if e.Method != http.MethodHead {
			resp.ContentLength = 0
		}
	}
	header := http.Header{}
	for _, k := range builder.Headers {
		if v := strings.Join(resp.Header.Values(k), ", "); v != "" && len(v) <= limits.FetchHeader && printable.IsField(v) {
			header.Set(k, v)
		}
	}
	e.Status, e.Header = resp.StatusCode, map[string]string{}
	for k := range header {
		e.Header[k] = header.Get(k)
		if k == "Location" { // the room gets all of it, the record not
			e.Header[k] = credential.URL(e.Header[k])
		}
	}
	if resp.ContentLength >= 0 && resp.StatusCode != http.StatusNoContent {
		n := strconv.FormatInt(resp.ContentLength, 10)
		header.Set("Content-Length", n)
		if e.Method == http.MethodHead { // for other methods e.Size has it
			e.Header["Content-Length"] = n
		}
	}
	if len(e.Header) == 0 {
		e.Header = nil
	}
	if resp.Body == http.NoBody {
		e.SHA256 = emptySum
	} else {
		b := &body{ReadCloser: resp.Body, g: g, e: e, left: resp.ContentLength, sum: sha256.New()}
		b.keep = keep && resp.StatusCode < 500
		b.share = e.pinned != nil && !e.Stored && g.store != nil && resp.StatusCode == http.StatusOK
		if err := b.storeIt(); err != nil {
			resp.Body.Close()
			return nil, err
		}
		resp.Body = b
	}
	resp.Header, resp.Trailer = header, nil
	return resp, nil
}

var emptySum = sumOf(nil)

func sumOf(b []byte) string {
	s := sha256.Sum256(b)
	return hex.EncodeToString(s[:])
}

// find gets the answer from the lock, the mirror, the platform's registry or the network.
// keep reports whether the body must be kept in the store.
func (g *Gateway) find(e *exchange, r *http.Request) (resp *http.Response, keep bool, err error) {
	if g.lock != nil {
		resp, err = g.replay(e, r)
		return resp, false, err
	}
	if e.url.Host == MirrorHost {
		if resp = g.mirror.answer(r); resp.StatusCode != http.StatusNotFound || !g.own.named(e.url) {
			return resp, false, nil // the mirror has the bodies on disk
		}
		resp, err = g.own.answer(g.ctx, r)
		return resp, g.set.Session.Record, err
	}
	e.pinned = g.pinned(e)
	if resp = g.stored(e); resp != nil {
		return resp, false, nil
	}
	if resp, err = g.live(r); err != nil {
		return nil, false, err
	}
	g.follow(e, resp)
	switch {
	case resp.StatusCode == http.StatusUnauthorized:
		g.tokens.challenged(e.url, strings.Join(resp.Header.Values("Www-Authenticate"), ", "))
	case g.tokens.realm(e.url) && e.Method == http.MethodGet && resp.StatusCode == http.StatusOK:
		resp, err = g.hideToken(e, resp)
	}
	return resp, g.set.Session.Record, err
}

// hideToken stores the token of a realm's answer and returns an answer with a
// placeholder instead.
func (g *Gateway) hideToken(e *exchange, resp *http.Response) (*http.Response, error) {
	u := e.url
	if !e.open {
		g.tokens.close(u)
	}
	raw, err := strict.Read(resp.Body, maxToken)
	resp.Body.Close()
	if err != nil {
		return nil, fmt.Errorf("token from %s: %w", withoutQuery(u), err)
	}
	value, life, ok := parseToken(raw)
	if !ok {
		return nil, fmt.Errorf("token from %s: the answer has no token", withoutQuery(u))
	}
	if err := g.tokens.keep(u, value, life); err != nil {
		return nil, err
	}
	return newToken(u), nil
}

// newToken returns the answer, with a placeholder, that a room receives from the
// realm at u.
func newToken(u *url.URL) *http.Response {
	raw := tokenAnswer(u)
	return &http.Response{
		StatusCode: http.StatusOK, Header: http.Header{"Content-Type": {"application/json"}},
		Body: io.NopCloser(bytes.NewReader(raw)), ContentLength: int64(len(raw)),
	}
}

// live sends a request to the network.
func (g *Gateway) live(r *http.Request) (*http.Response, error) {
	if g.tokens.realm(r.URL) && r.Method == http.MethodPost {
		// Clients then use GET, whose answer hideToken understands.
		return &http.Response{StatusCode: http.StatusMethodNotAllowed, Header: http.Header{}, Body: http.NoBody}, nil
	}
	out := r.Clone(g.ctx) // drops the proxy's trace for 1xx answers, which the record does not contain
	out.Host, out.RequestURI = "", ""
	for _, h := range []string{"Cookie", "If-None-Match", "If-Modified-Since"} {
		out.Header.Del(h)
	}
	out.Header.Set("Accept-Encoding", "identity")
	login := g.login(out)
	if login != nil {
		login.prepare(out)
	}
	// A token that a credential got is for what that credential is for: another host may name the same realm.
	ours := func(realm *url.URL) bool {
		of := g.realmLogin(realm)
		return of == nil || of == login
	}
	token, err := g.tokens.authorize(g.ctx, out, g.get, ours)
	if err != nil {
		return nil, err
	}
	if login != nil {
		login.authorize(out, token, g.tokens.realm(out.URL))
	}
	resp, err := g.trans.RoundTrip(out)
	if err != nil {
		return nil, err
	}
	if login != nil {
		if err := login.guard(resp, token); err != nil {
			resp.Body.Close()
			return nil, err
		}
	}
	if resp.StatusCode < 200 || resp.StatusCode > 999 {
		resp.Body.Close()
		return nil, fmt.Errorf("status: got %d, want 200 to 999", resp.StatusCode)
	}
	return resp, nil
}

// get sends a request for the gateway itself, not for the room.
func (g *Gateway) get(ctx context.Context, u *url.URL) (*http.Response, error) {
	r, err := http.NewRequestWithContext(ctx, http.MethodGet, u.String(), nil)
	if err != nil {
		return nil, err
	}
	r.Header.Set("User-Agent", "")
	return g.live(r)
}

// body reads an answer's body for the room. It counts and hashes the bytes, subtracts
// them from the session's budget, and writes them to the store if the session records.
type body struct {
	io.ReadCloser
	g    *Gateway
	e    *exchange
	left int64 // bytes to come; negative if unknown
	sum  hash.Hash
	end  error // what ended the body: io.EOF, or what went wrong

	blob  *blob // nil if the body is not stored
	keep  bool  // the session needs the body in the store
	share bool  // other builds may have it
}

// storeIt begins to store the body if the session needs it or others may have it.
func (b *body) storeIt() (err error) {
	if !b.keep && !b.share {
		return nil
	}
	s := b.g.store
	if !b.e.open {
		s = b.g.private
	}
	b.blob, err = s.create()
	return b.storeFailed(err)
}

// storeFailed handles an error of the store: it ends the answer only if the session needs
// the body.
func (b *body) storeFailed(err error) error {
	switch {
	case err == nil:
		return nil
	case b.keep:
		cause := err
		if path, ok := errors.AsType[*fs.PathError](err); ok {
			cause = path.Err // paths of the host are not the requester's
		}
		denied := &DeniedError{Reason: fmt.Sprintf("the platform cannot keep this download for the lock: %v; see build.network.storeSize", cause)}
		b.e.Denied = clip(denied.Error())
		return denied
	case b.blob != nil:
		b.blob.discard()
	}
	b.blob, b.share = nil, false
	return nil
}

// If a client stops reading a body, the gateway reads it to the end, so that the
// record is complete. These limit how much it reads and for how long.
const (
	maxDrain  = 256 << 20 // bytes
	drainTime = time.Minute
)

func (b *body) Read(p []byte) (n int, _ error) {
	if b.end != nil {
		return 0, b.end
	}
	n, b.end = b.ReadCloser.Read(p)
	b.e.Size += int64(n)
	b.left -= int64(n)
	b.sum.Write(p[:n])
	if err := b.g.spend(n); err != nil {
		b.end = err
		return 0, err
	}
	if b.blob != nil {
		_, err := b.blob.Write(p[:n])
		if err := b.storeFailed(err); err != nil {
			b.end = err
			return 0, err
		}
	}
	if b.end == nil && b.left == 0 {
		b.end = io.EOF
	}
	if b.end != io.EOF {
		if d, ok := errors.AsType[*DeniedError](b.end); ok {
			b.e.Denied = clip(d.Error())
		}
		return n, b.end
	}
	// Return the last byte only after the store has the whole body.
	if b.blob != nil {
		if err := b.storeFailed(b.blob.commit(b.keep)); err != nil {
			b.end = err
			return 0, err
		}
	}
	b.e.SHA256 = hex.EncodeToString(b.sum.Sum(nil))
	if b.share {
		b.g.remember(b.e)
	}
	return n, io.EOF
}

func (b *body) Close() error {
	if b.end == nil && b.g.ctx.Err() == nil {
		stop := time.AfterFunc(drainTime, func() { b.ReadCloser.Close() })
		buf := buffers.Get()
		for most := b.e.Size + maxDrain; b.e.Size < most; {
			if _, err := b.Read(buf); err != nil {
				break
			}
		}
		buffers.Put(buf)
		stop.Stop()
	}
	if b.blob != nil {
		b.blob.discard()
	}
	return b.ReadCloser.Close()
}
