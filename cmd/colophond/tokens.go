package main

import (
	"crypto/rand"
	"crypto/sha256"
	"crypto/subtle"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"

	"github.com/colophon-build/colophon/internal/api"
	"github.com/colophon-build/colophon/internal/durable"
	"github.com/colophon-build/colophon/internal/registry"
)

// tokens are the platform's bearer tokens and what each may do. Comparison is
// over hashes, in constant time.
type tokens struct {
	known []grant
}

type grant struct {
	sum  [sha256.Size]byte
	role registry.Role
}

func (t *tokens) allow(token string, role registry.Role) {
	t.known = append(t.known, grant{sha256.Sum256([]byte(token)), role})
}

func (t *tokens) role(token string) registry.Role {
	sum, found := sha256.Sum256([]byte(token)), registry.Nobody
	for _, g := range t.known {
		if subtle.ConstantTimeCompare(sum[:], g.sum[:]) == 1 {
			found = max(found, g.role)
		}
	}
	return found
}

func (t *tokens) mayRelease(token string) bool { return t.role(token) >= registry.Push }

// openTokens reads client.json (releases and pushes) and admin.json (also
// deletes) in dir, or makes them; a token that was handed out stays good over
// restarts. URL and fingerprint are brought up to date.
func openTokens(dir, url, fingerprint string) (*tokens, error) {
	t := &tokens{}
	for role, name := range map[registry.Role]string{registry.Push: "client.json", registry.Admin: "admin.json"} {
		c, err := openToken(filepath.Join(dir, name), url, fingerprint)
		if err != nil {
			return nil, err
		}
		t.allow(c.Token, role)
	}
	return t, nil
}

func openToken(path, url, fingerprint string) (*api.ClientConfig, error) {
	want := api.ClientConfig{URL: url, Fingerprint: fingerprint}
	data, err := os.ReadFile(path)
	switch {
	case errors.Is(err, fs.ErrNotExist):
		want.Token = newToken()
	case err != nil:
		return nil, err
	default:
		c, err := api.ParseConfig(data)
		if err != nil {
			return nil, fmt.Errorf("%s: %w", path, err)
		}
		if want.Token = c.Token; *c == want {
			return c, nil
		}
	}
	if data, err = json.MarshalIndent(want, "", "  "); err != nil {
		return nil, err
	}
	return &want, durable.WriteFile(path, append(data, '\n'), 0o600)
}

func newToken() string {
	var b [32]byte
	rand.Read(b[:])
	return "colophon_" + hex.EncodeToString(b[:])
}
