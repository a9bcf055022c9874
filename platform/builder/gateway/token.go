package gateway

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"net/http"
	"net/url"
	"strings"
	"sync"
	"time"

	"github.com/colophon-build/colophon/internal/lazyregexp"
	"github.com/colophon-build/colophon/internal/strict"
)

// tokens replaces registries' tokens by placeholders. A registry's realm gives a new
// token to every client that asks (distribution spec, token authentication). The
// gateway gives the room a placeholder instead, and replaces it by the token in the
// room's requests. So the room sees the same bytes in every session, and neither the
// room, the record nor the store contains a token.
type tokens struct {
	mu     sync.Mutex
	realms map[string]map[string]bool // realm without query → origins that named it
	held   map[string]*token          // by placeholder
	closed map[string]bool            // placeholders of tokens that a request with a credential got
}

// token is the token that a placeholder stands for.
type token struct {
	url     *url.URL // the realm's URL with query
	value   string   // empty if not requested yet
	expires time.Time
}

const (
	maxToken  = 64 << 10 // bytes of a realm's answer
	maxTokens = 4096     // realms, and placeholders, of one session
)

func newTokens() *tokens {
	return &tokens{realms: map[string]map[string]bool{}, held: map[string]*token{}, closed: map[string]bool{}}
}

// close notes that a request with a credential asked for the token from the realm at u.
func (t *tokens) close(u *url.URL) {
	t.mu.Lock()
	defer t.mu.Unlock()
	if len(t.closed) < maxTokens {
		t.closed[placeholder(u)] = true
	}
}

// open reports whether an Authorization header has a placeholder of a token that anybody
// can get.
func (t *tokens) open(authorization string) bool {
	scheme, name, _ := strings.Cut(authorization, " ")
	t.mu.Lock()
	defer t.mu.Unlock()
	return strings.EqualFold(scheme, "Bearer") && t.held[name] != nil && !t.closed[name] && len(t.closed) < maxTokens
}

var bearerRealm = lazyregexp.New(`(?i)(?:^|,)\s*Bearer\s(?:[^"]|"[^"]*")*?\brealm="([^"]+)"`)

// Realm returns the URL of the first realm in a registry's Bearer challenge (distribution spec, token
// authentication), or "" if the challenge has none.
func Realm(challenge string) string {
	if m := bearerRealm.FindStringSubmatch(challenge); m != nil {
		return m[1]
	}
	return ""
}

// challenged notes the realm that the origin of from named in a 401 challenge.
func (t *tokens) challenged(from *url.URL, challenge string) {
	name := Realm(challenge)
	if name == "" || !strings.HasPrefix(from.Path, "/v2/") { // outside of registries a realm is any text (RFC 6750)
		return
	}
	realm, err := from.Parse(name)
	if err != nil {
		return
	}
	t.mu.Lock()
	defer t.mu.Unlock()
	name = withoutQuery(realm)
	if t.realms[name] == nil {
		if len(t.realms) >= maxTokens {
			return
		}
		t.realms[name] = map[string]bool{}
	}
	t.realms[name][origin(from)] = true
}

// realm reports whether a registry named u as its realm.
func (t *tokens) realm(u *url.URL) bool {
	t.mu.Lock()
	defer t.mu.Unlock()
	return t.realms[withoutQuery(u)] != nil
}

func withoutQuery(u *url.URL) string { return origin(u) + u.EscapedPath() }

func origin(u *url.URL) string {
	port := uint16(80)
	if u.Scheme == "https" {
		port = 443
	}
	e, err := parseEndpoint(u.Host, port)
	if err != nil {
		return u.Scheme + "://" + u.Host
	}
	return u.Scheme + "://" + e.authority(u.Scheme)
}

// placeholder returns the placeholder for a token from the realm at u.
func placeholder(u *url.URL) string {
	s := sha256.Sum256([]byte("colophon token of " + u.String()))
	return "colophon-" + hex.EncodeToString(s[:16])
}

// tokenAnswer returns the body that a room receives from a realm. Its lifetime is the
// shortest that the specification allows, 60 seconds.
func tokenAnswer(u *url.URL) []byte {
	p := placeholder(u)
	return fmt.Appendf(nil, `{"token":%q,"access_token":%q,"expires_in":60}`+"\n", p, p)
}

// keep stores a token from the realm at u. An empty value means that authorize must
// request the token when it is first used.
func (t *tokens) keep(u *url.URL, value string, life time.Duration) error {
	t.mu.Lock()
	defer t.mu.Unlock()
	p := placeholder(u)
	if t.held[p] == nil && len(t.held) >= maxTokens {
		return &DeniedError{withoutQuery(u), fmt.Sprintf("the session's limit of %d tokens is reached", maxTokens)}
	}
	if old := t.held[p]; old != nil && value == "" {
		return nil
	}
	t.held[p] = &token{u, value, time.Now().Add(life)}
	return nil
}

// parseToken reads a token and its lifetime from a realm's answer; ok is false if it
// has no token.
func parseToken(raw []byte) (value string, life time.Duration, ok bool) {
	var answer struct {
		Token       string  `json:"token"`
		AccessToken string  `json:"access_token"`
		ExpiresIn   float64 `json:"expires_in"` // seconds
	}
	if strict.Unmarshal(raw, maxToken, &answer) != nil {
		return "", 0, false
	}
	if value = answer.Token; value == "" {
		value = answer.AccessToken
	}
	// The specification's minimum is 60 seconds; cap it at an hour.
	seconds := max(60, min(answer.ExpiresIn, 3600))
	return value, time.Duration(seconds) * time.Second, value != ""
}

// authorize replaces a placeholder in a request by its token, which it returns, but only
// if the request's origin named the token's realm, and if allowed for that realm. fetch
// sends a request to a realm.
func (t *tokens) authorize(ctx context.Context, r *http.Request, fetch func(context.Context, *url.URL) (*http.Response, error), allowed func(realm *url.URL) bool) (string, error) {
	scheme, name, _ := strings.Cut(r.Header.Get("Authorization"), " ")
	if !strings.EqualFold(scheme, "Bearer") {
		return "", nil
	}
	t.mu.Lock()
	held := t.held[name]
	if held == nil || !t.realms[withoutQuery(held.url)][origin(r.URL)] {
		t.mu.Unlock()
		return "", nil
	}
	value, fresh := held.value, held.value != "" && time.Now().Before(held.expires.Add(-10*time.Second))
	t.mu.Unlock()
	if !allowed(held.url) {
		return "", nil
	}
	if !fresh {
		resp, err := fetch(ctx, held.url)
		if err != nil {
			return "", fmt.Errorf("token from %s: %w", withoutQuery(held.url), err)
		}
		defer resp.Body.Close()
		raw, err := strict.Read(resp.Body, maxToken)
		if err != nil {
			return "", fmt.Errorf("token from %s: %w", withoutQuery(held.url), err)
		}
		var life time.Duration
		var ok bool
		if value, life, ok = parseToken(raw); resp.StatusCode != http.StatusOK || !ok {
			return "", fmt.Errorf("token from %s: got status %d without a usable token", withoutQuery(held.url), resp.StatusCode)
		}
		if err := t.keep(held.url, value, life); err != nil {
			return "", err
		}
	}
	r.Header.Set("Authorization", "Bearer "+value)
	return value, nil
}
