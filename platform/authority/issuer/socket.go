package issuer

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"net/http"

	"github.com/colophon-build/colophon/internal/limits"
	"github.com/colophon-build/colophon/internal/peer"
	"github.com/colophon-build/colophon/internal/strict"
)

// PathToken is the URL path of Tokens.
const PathToken = "/token"

// Tokens answers a POST request, whose body is Claims in JSON, with {"token": "…"}. Its
// clients can sign as the platform: restrict it with peer.Allow.
func (s *Service) Tokens() http.Handler { return http.HandlerFunc(s.serveToken) }

func (s *Service) serveToken(w http.ResponseWriter, r *http.Request) {
	data, err := strict.Read(r.Body, limits.Request)
	if err != nil {
		http.Error(w, err.Error(), http.StatusRequestEntityTooLarge)
		return
	}
	var c Claims
	if err := strict.UnmarshalKnown(data, limits.Request, &c); err != nil {
		http.Error(w, err.Error(), http.StatusBadRequest)
		return
	}
	token, err := s.Mint(c)
	if err != nil {
		http.Error(w, err.Error(), http.StatusBadRequest)
		return
	}
	w.Header().Set("Content-Type", "application/json")
	json.NewEncoder(w).Encode(answer{token})
}

type answer struct {
	Token string `json:"token"`
}

// Client gets tokens from the trust services.
type Client struct {
	At peer.Endpoint // the role trust
}

// Token returns a token with these claims.
func (c Client) Token(ctx context.Context, claims Claims) (string, error) {
	body, err := json.Marshal(claims)
	if err != nil {
		return "", err
	}
	req, err := http.NewRequestWithContext(ctx, http.MethodPost, "http://trust"+PathToken, bytes.NewReader(body))
	if err != nil {
		return "", err
	}
	client := c.At.Client()
	defer client.CloseIdleConnections()
	resp, err := client.Do(req)
	if err != nil {
		return "", fmt.Errorf("token from %s: %w", c.At.Socket, err)
	}
	defer resp.Body.Close()
	data, err := strict.Read(resp.Body, limits.Request)
	if err != nil {
		return "", fmt.Errorf("token from %s: %w", c.At.Socket, err)
	}
	if resp.StatusCode != http.StatusOK {
		return "", fmt.Errorf("token from %s: %s: %s", c.At.Socket, resp.Status, bytes.TrimSpace(data))
	}
	var a answer
	if err := strict.UnmarshalKnown(data, limits.Request, &a); err != nil {
		return "", fmt.Errorf("token from %s: %w", c.At.Socket, err)
	}
	return a.Token, nil
}
