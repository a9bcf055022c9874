package platform

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
	"strings"

	"github.com/colophon-build/colophon/internal/durable"
	"github.com/colophon-build/colophon/internal/limits"
	"github.com/colophon-build/colophon/internal/owned"
	"github.com/colophon-build/colophon/internal/strict"
	"github.com/colophon-build/colophon/platform/api"
	"github.com/colophon-build/colophon/platform/registry"
)

// tokens are the platform's bearer tokens and what each may do. They are compared by
// hash, in constant time.
type tokens []grant

// grant is what a role that checks tokens knows about one token.
type grant struct {
	Name string        `json:"name"` // of the token's file, without suffix
	Sum  []byte        `json:"sum"`  // sha256
	Role registry.Role `json:"role"`
}

// account returns the name and role of a token.
func (t tokens) account(token string) (name string, role registry.Role) {
	sum := sha256.Sum256([]byte(token))
	for _, g := range t {
		if subtle.ConstantTimeCompare(sum[:], g.Sum) == 1 && g.Role >= role {
			name, role = g.Name, g.Role
		}
	}
	return name, role
}

// name returns the name of a token's account, or "".
func (t tokens) name(token string) string {
	name, _ := t.account(token)
	return name
}

// mayRead reports whether the bearer of a token may pull, and read what the archive keeps. The
// token is empty if a request has none; private: then it may not.
func (t tokens) mayRead(token string, private bool) bool {
	_, role := t.account(token)
	return role >= registry.Pull || token == "" && !private
}

func (t tokens) mayRelease(token string) bool {
	_, role := t.account(token)
	return role >= registry.Push
}

// administrator returns the name of a token's account, or "" if it may not administer the platform.
func (t tokens) administrator(token string) string {
	name, role := t.account(token)
	if role < registry.Admin {
		return ""
	}
	return name
}

// clients are the files that hold a token, and the registry role of each token. The
// token of client.json may release and push, that of admin.json may also delete, and that of
// pull.json may only pull. The attestor pushes releases with the token of attestor.json.
var clients = map[string]registry.Role{"pull.json": registry.Pull, "client.json": registry.Push, "admin.json": registry.Admin, "attestor.json": registry.Push}

// openTokens reads the tokens from the files in dir and creates those that are
// missing. It also returns the attestor's token.
func openTokens(dir string) (known tokens, attestor string, err error) {
	for name, role := range clients {
		path := filepath.Join(dir, name)
		// Enrol and serve may both create it: the first wins, and both use its token.
		if err := createClient(path); err != nil {
			return nil, "", err
		}
		c, err := readClient(path)
		if err != nil {
			return nil, "", err
		}
		sum := sha256.Sum256([]byte(c.Token))
		known = append(known, grant{strings.TrimSuffix(name, ".json"), sum[:], role})
		if name == "attestor.json" {
			attestor = c.Token
		}
	}
	return known, attestor, nil
}

// writeClients updates URL and fingerprint in the files of clients.
func writeClients(dir, url, fingerprint string) error {
	for name := range clients {
		path := filepath.Join(dir, name)
		c, err := readClient(path)
		if err != nil {
			return err
		}
		if want := (api.ClientConfig{URL: url, Token: c.Token, Fingerprint: fingerprint}); c != want {
			if err := writeClient(path, want); err != nil {
				return err
			}
		}
	}
	return nil
}

// readClient reads the file at path. If there is none, it returns the zero value.
func readClient(path string) (c api.ClientConfig, err error) {
	data, err := owned.ReadFile(path)
	if errors.Is(err, fs.ErrNotExist) {
		return c, nil
	} else if err != nil {
		return c, err
	}
	if err := strict.UnmarshalKnown(data, limits.Request, &c); err != nil {
		return c, fmt.Errorf("%s: %w", path, err)
	}
	if c.Token == "" {
		return c, fmt.Errorf("%s holds no token; remove the file to get a new one", path)
	}
	return c, nil
}

// createClient creates the file at path with a new token, unless it exists.
func createClient(path string) error {
	if _, err := os.Lstat(path); err == nil {
		return nil
	}
	data, err := json.MarshalIndent(api.ClientConfig{Token: newToken()}, "", "  ")
	if err != nil {
		return err
	}
	if err := durable.CreateFile(path, append(data, '\n'), 0o600); !errors.Is(err, fs.ErrExist) {
		return err
	}
	return nil
}

func writeClient(path string, c api.ClientConfig) error {
	data, err := json.MarshalIndent(c, "", "  ")
	if err != nil {
		return err
	}
	return durable.WriteFile(path, append(data, '\n'), 0o600)
}

func newToken() string {
	var b [32]byte
	rand.Read(b[:])
	return "colophon_" + hex.EncodeToString(b[:])
}
