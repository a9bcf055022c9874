// Package contenttrust finds what Docker Content Trust says about an image: the metadata of
// Notary v1 (github.com/notaryproject/notary, a TUF repository for each image repository) that
// docker keeps on this machine, or that a Notary server has. It verifies nothing of that: its
// only purpose is to tell people what they have, before it ends. Registries know nothing of
// these signatures.
package contenttrust

import (
	"cmp"
	"context"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"net/http"
	"net/url"
	"os"
	"path"
	"path/filepath"
	"strings"
	"time"

	"github.com/google/go-containerregistry/pkg/authn"
	"github.com/google/go-containerregistry/pkg/name"
	"github.com/google/go-containerregistry/pkg/v1/remote/transport"

	"github.com/colophon-build/colophon/internal/limits"
	"github.com/colophon-build/colophon/internal/loopback"
	"github.com/colophon-build/colophon/internal/reach"
	"github.com/colophon-build/colophon/internal/strict"
)

// DefaultServer is the Notary server of Docker Hub.
const DefaultServer = "https://notary.docker.io"

// Found is what Docker Content Trust says about a repository. Nothing of it was verified.
type Found struct {
	Repository string            // as docker names it: docker.io/library/alpine
	Where      string            // directory or URL
	Expires    time.Time         // the earliest end of the metadata that names tags
	Tags       map[string]string // tag to digest, "sha256:HEX"
}

const (
	maxTags     = 100_000
	maxMetadata = limits.TrustRepository
)

// Repository returns the name under which docker signs a repository; name is its canonical
// name.
func Repository(name string) string {
	if rest, ok := strings.CutPrefix(name, "index.docker.io/"); ok {
		return "docker.io/" + rest
	}
	return name
}

// Local returns what docker keeps in dir, the directory trust of its configuration, about a
// repository, or nil if there is nothing.
func Local(dir, repository string) (*Found, error) {
	root, err := os.OpenRoot(dir)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil
	}
	if err != nil {
		return nil, err
	}
	defer root.Close()
	metadata := path.Join("tuf", repository, "metadata")
	f := &Found{Repository: repository, Where: filepath.Join(dir, filepath.FromSlash(metadata))}
	return f.read(func(role string) ([]byte, error) {
		file, err := root.Open(path.Join(metadata, role+".json"))
		if err != nil {
			return nil, err
		}
		defer file.Close()
		return strict.Read(file, maxMetadata)
	})
}

// Ask asks a Notary server about a repository, without credentials. It returns nil if the
// server has nothing. The server is the URL of its root: https, or http on loopback.
func Ask(ctx context.Context, inner http.RoundTripper, server, repository string) (*Found, error) {
	u, err := url.Parse(strings.TrimSuffix(server, "/"))
	if err != nil || u.Host == "" || u.Path != "" || u.User != nil || u.RawQuery != "" || u.Fragment != "" || !loopback.OrTLS(u) {
		return nil, fmt.Errorf("the Notary server: got %q, want https://HOST", server)
	}
	registry, err := name.NewRegistry(u.Host)
	if err != nil {
		return nil, fmt.Errorf("the Notary server: %w", err)
	}
	guarded := guard{inner, u.Scheme == "https"}
	up, err := transport.NewWithContext(ctx, registry, authn.Anonymous, guarded, []string{"repository:" + repository + ":pull"})
	if err != nil {
		return nil, fmt.Errorf("the Notary server %s: %w", u, err)
	}
	client := &http.Client{Transport: up}
	f := &Found{Repository: repository, Where: u.String()}
	found, err := f.read(func(role string) ([]byte, error) {
		req, err := http.NewRequestWithContext(ctx, http.MethodGet, u.JoinPath("v2", repository, "_trust", "tuf", role+".json").String(), nil)
		if err != nil {
			return nil, err
		}
		resp, err := client.Do(req)
		if err != nil {
			return nil, reach.Explain(err)
		}
		defer resp.Body.Close()
		switch resp.StatusCode {
		case http.StatusOK:
			return strict.Read(resp.Body, maxMetadata)
		case http.StatusNotFound:
			return nil, fs.ErrNotExist
		}
		return nil, fmt.Errorf("got status %s", resp.Status)
	})
	if err != nil {
		err = fmt.Errorf("the Notary server %s: %w", u, err)
	}
	return found, err
}

// guard lets nothing leave the machine without TLS. A server that has TLS leads to no service
// of this machine either.
type guard struct {
	inner http.RoundTripper
	tls   bool // the server has TLS
}

func (g guard) RoundTrip(req *http.Request) (*http.Response, error) {
	if !loopback.OrTLS(req.URL) || g.tls && req.URL.Scheme != "https" {
		return nil, fmt.Errorf("%s: plain HTTP is allowed only on loopback, for a server there", req.URL.Host)
	}
	return g.inner.RoundTrip(req)
}

// Roles that name tags: docker looks into the first one first.
var roles = []string{"targets/releases", "targets"}

// read reads the metadata of the roles that name tags. It returns nil if there is none.
func (f *Found) read(metadata func(role string) ([]byte, error)) (*Found, error) {
	f.Tags = map[string]string{}
	there := false
	for _, role := range roles {
		raw, err := metadata(role)
		if errors.Is(err, fs.ErrNotExist) {
			continue
		}
		if err == nil {
			err = f.add(raw)
		}
		if err != nil {
			return nil, fmt.Errorf("%s: %w", role, err)
		}
		there = true
	}
	if !there {
		return nil, nil
	}
	return f, nil
}

// add adds what one role says, but for tags that are known.
func (f *Found) add(raw []byte) error {
	var d struct {
		Signed struct {
			Type    string    `json:"_type"`
			Expires time.Time `json:"expires"`
			Targets map[string]struct {
				Hashes map[string][]byte `json:"hashes"`
			} `json:"targets"`
		} `json:"signed"`
		Signatures json.RawMessage `json:"signatures"`
	}
	if err := strict.Unmarshal(raw, maxMetadata, &d); err != nil {
		return err
	}
	switch {
	case d.Signed.Type != "Targets":
		return fmt.Errorf("type: got %q, want Targets", d.Signed.Type)
	case len(d.Signed.Targets) > maxTags:
		return fmt.Errorf("got %d tags, want at most %d", len(d.Signed.Targets), maxTags)
	}
	if f.Expires.IsZero() || d.Signed.Expires.Before(f.Expires) {
		f.Expires = d.Signed.Expires.UTC()
	}
	for tag, t := range d.Signed.Targets {
		sum := t.Hashes["sha256"]
		if len(sum) != 32 {
			return fmt.Errorf("tag %q: sha256: got %d bytes, want 32", tag, len(sum))
		}
		f.Tags[tag] = cmp.Or(f.Tags[tag], "sha256:"+hex.EncodeToString(sum))
	}
	return nil
}
