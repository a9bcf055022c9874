package credentials

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"sync"
	"time"

	"github.com/go-jose/go-jose/v4"

	"github.com/colophon-build/colophon/internal/strict"
	"github.com/colophon-build/colophon/platform/builder"
)

// apps has the tokens of GitHub Apps until they expire. The zero value is empty.
type apps struct {
	mu     sync.Mutex
	tokens map[installation]appToken
}

type installation struct {
	api          string
	app, install int64
}

type appToken struct {
	value   string
	expires time.Time
}

// appClient follows no redirect: a token is asked of the configured API only.
var appClient = &http.Client{
	Timeout:       30 * time.Second,
	CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse },
}

const maxAppAnswer = 64 << 10 // bytes of GitHub's answer

// token returns an installation token that is valid for life. Its only permission is to
// read contents. GitHub's tokens are valid for an hour.
func (a *apps) token(ctx context.Context, app *GitHubApp, life time.Duration) (string, error) {
	a.mu.Lock() // also while it asks: others would ask for the same
	defer a.mu.Unlock()
	i := installation{app.API, app.AppID, app.InstallationID}
	if t := a.tokens[i]; time.Until(t.expires) > life {
		return t.value, nil
	}
	t, err := app.ask(ctx)
	if err != nil {
		return "", fmt.Errorf("%s: %w", app, err)
	}
	if a.tokens == nil {
		a.tokens = map[installation]appToken{}
	}
	a.tokens[i] = t
	return t.value, nil
}

// ask asks GitHub for an installation token (REST API, "Create an installation access
// token for an app").
func (app *GitHubApp) ask(ctx context.Context) (t appToken, err error) {
	key, err := app.key()
	if err != nil {
		return t, err
	}
	signer, err := jose.NewSigner(jose.SigningKey{Algorithm: jose.RS256, Key: key}, (&jose.SignerOptions{}).WithType("JWT"))
	if err != nil {
		return t, err
	}
	now := time.Now()
	claims, err := json.Marshal(map[string]any{
		"iss": fmt.Sprint(app.AppID),
		"iat": now.Add(-time.Minute).Unix(), // GitHub's clock may be behind
		"exp": now.Add(5 * time.Minute).Unix(),
	})
	if err != nil {
		return t, err
	}
	signed, err := signer.Sign(claims)
	if err != nil {
		return t, err
	}
	jwt, err := signed.CompactSerialize()
	if err != nil {
		return t, err
	}
	body := []byte(`{"permissions":{"contents":"read"}}`)
	r, err := http.NewRequestWithContext(ctx, http.MethodPost, fmt.Sprintf("%s/app/installations/%d/access_tokens", app.API, app.InstallationID), bytes.NewReader(body))
	if err != nil {
		return t, err
	}
	r.Header.Set("Authorization", "Bearer "+jwt)
	r.Header.Set("Accept", "application/vnd.github+json")
	r.Header.Set("X-GitHub-Api-Version", "2022-11-28")
	resp, err := appClient.Do(r)
	if err != nil {
		return t, err
	}
	defer resp.Body.Close()
	if resp.StatusCode != http.StatusCreated {
		return t, fmt.Errorf("asking %s for a token: expected status 201, found %s", app.API, resp.Status)
	}
	raw, err := strict.Read(resp.Body, maxAppAnswer)
	if err != nil {
		return t, err
	}
	var answer struct {
		Token   string    `json:"token"`
		Expires time.Time `json:"expires_at"`
	}
	if err := strict.Unmarshal(raw, maxAppAnswer, &answer); err != nil {
		return t, err
	}
	if len(answer.Token) < builder.MinSecret || !printableSecret(answer.Token) || time.Until(answer.Expires) < time.Minute {
		return t, errors.New("GitHub's answer has no token that is valid for a minute")
	}
	return appToken{answer.Token, answer.Expires}, nil
}
