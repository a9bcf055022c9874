// Package tuf asks TUF repositories (TUF specification 1.0, section 5) for trust
// roots. It is the one part of trust that needs a network, and verification
// never calls it.
package tuf

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"net/url"
	"os"
	"path/filepath"
	"strings"
	"time"

	"github.com/sigstore/sigstore-go/pkg/tuf"
	"github.com/theupdateframework/go-tuf/v2/metadata"
	"github.com/theupdateframework/go-tuf/v2/metadata/config"
	"github.com/theupdateframework/go-tuf/v2/metadata/updater"

	"github.com/colophon-build/colophon/internal/limits"
	"github.com/colophon-build/colophon/internal/strict"
	"github.com/colophon-build/colophon/trust"
)

// Known returns the root metadata that is built in for a repository: of the
// public Sigstore instance alone. Nil: there is none.
func Known(repository string) []byte {
	if strings.TrimSuffix(repository, "/") == tuf.DefaultMirror {
		return tuf.DefaultRoot()
	}
	return nil
}

// Add asks the repository at a URL, whose root metadata the caller got another
// way, for a trust root.
func Add(ctx context.Context, repository string, root []byte) (*trust.Root, error) {
	return ask(ctx, &trust.Repository{URL: strings.TrimSuffix(repository, "/"), Roots: [][]byte{root}})
}

// Refresh asks again. The answer may not be older than what r has, is held to
// the root metadata that r was led to from the pinned one, and speaks for whom r
// does: a platform that became a plain Sigstore root could vouch for builders
// that nobody believed it for.
func Refresh(ctx context.Context, r *trust.Root) (*trust.Root, error) {
	next, err := ask(ctx, r.Repository)
	if err == nil && next.URL != r.URL {
		return nil, fmt.Errorf("TUF repository %s: the trust root there is of %q now, and was of %q: remove it, and add it again", r.Repository.URL, next.URL, r.URL)
	}
	return next, err
}

func ask(ctx context.Context, old *trust.Repository) (*trust.Root, error) {
	fail := func(err error) (*trust.Root, error) { return nil, fmt.Errorf("TUF repository %s: %w", old.URL, err) }
	u, err := url.Parse(old.URL)
	if err != nil || u.User != nil || u.RawQuery != "" || u.Fragment != "" {
		return fail(errors.New("not a URL to fetch from"))
	}
	origin := u.Scheme + "://" + u.Host
	if err := trust.CheckOrigin(origin); err != nil {
		return fail(err)
	}
	dir, err := os.MkdirTemp("", "colophon-tuf-")
	if err != nil {
		return nil, err
	}
	defer os.RemoveAll(dir)
	// What was seen before is what the library holds a rollback against.
	for name, data := range map[string][]byte{metadata.TIMESTAMP: old.Timestamp, metadata.SNAPSHOT: old.Snapshot, metadata.TARGETS: old.Targets} {
		if len(data) > 0 {
			if err := os.WriteFile(filepath.Join(dir, name+".json"), data, 0o600); err != nil {
				return nil, err
			}
		}
	}
	cfg, err := config.New(old.URL, old.Roots[len(old.Roots)-1])
	if err != nil {
		return fail(err)
	}
	f := &fetcher{ctx: ctx}
	cfg.LocalMetadataDir, cfg.LocalTargetsDir, cfg.Fetcher = dir, dir, f
	client, err := updater.New(cfg)
	if err != nil {
		return fail(err)
	}
	if err := client.Refresh(); err != nil {
		return fail(err)
	}
	now := &trust.Repository{URL: old.URL, Roots: append(old.Roots[:len(old.Roots):len(old.Roots)], f.roots...)}
	for name, into := range map[string]*[]byte{metadata.TIMESTAMP: &now.Timestamp, metadata.SNAPSHOT: &now.Snapshot, metadata.TARGETS: &now.Targets} {
		if *into, err = os.ReadFile(filepath.Join(dir, name+".json")); err != nil {
			return fail(err)
		}
	}
	if err := f.target(client, now); err != nil {
		return fail(err)
	}
	raw, err := now.Encode()
	if err != nil {
		return fail(err)
	}
	r, err := trust.Parse(raw)
	if err != nil {
		return fail(err)
	}
	if r.URL != "" && r.URL != origin {
		return fail(fmt.Errorf("trust document is of another platform: got %q, want %q", r.URL, origin))
	}
	if r.Stale(time.Now()) { // the library refuses such metadata; this is for the day it does not
		return fail(fmt.Errorf("its metadata expired %s", r.Expires.Format(time.RFC3339)))
	}
	return r, nil
}

// target fetches the trust root.
func (f *fetcher) target(client *updater.Updater, into *trust.Repository) error {
	listed := client.GetTopLevelTargets()
	for _, name := range trust.Targets {
		info := listed[name]
		if info == nil {
			continue
		}
		if info.Length > limits.TrustRoot {
			return fmt.Errorf("%s has %d bytes, at most %d are taken", name, info.Length, limits.TrustRoot)
		}
		_, data, err := client.DownloadTarget(info, "", "")
		into.Target, into.Content = name, data
		return err
	}
	return fmt.Errorf("it has none of the targets %q", trust.Targets)
}

// fetcher is the library's way out. It keeps each root metadata that it brought.
type fetcher struct {
	ctx   context.Context
	roots [][]byte
}

// DownloadFile implements go-tuf's Fetcher. The time is bounded by the context.
func (f *fetcher) DownloadFile(from string, most int64, _ time.Duration) ([]byte, error) {
	req, err := http.NewRequestWithContext(f.ctx, http.MethodGet, from, nil)
	if err != nil {
		return nil, err
	}
	// Metadata is signed, but a redirect could have this machine ask others.
	client := http.Client{CheckRedirect: func(*http.Request, []*http.Request) error { return errors.New("redirects are not followed") }}
	resp, err := client.Do(req)
	if err != nil {
		return nil, err
	}
	defer resp.Body.Close()
	if resp.StatusCode != http.StatusOK {
		return nil, &metadata.ErrDownloadHTTP{StatusCode: resp.StatusCode, URL: from}
	}
	data, err := strict.Read(resp.Body, int(most))
	if err == nil && strings.HasSuffix(req.URL.Path, ".root.json") { // N.root.json; no other role ends so
		f.roots = append(f.roots, data)
	}
	return data, err
}
