// Package tuf downloads trust roots from TUF repositories, and refreshes them, with
// the client workflow of the TUF specification 1.0, section 5.
//
// Add needs the repository's root metadata, which the caller got from somewhere
// else, or from Known. The result is a trust.Root that contains all TUF metadata:
// keep it in a trust.Store. Verification uses that copy and never calls this
// package.
package tuf

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"net/http"
	"net/url"
	"os"
	"path/filepath"
	"strings"
	"time"

	"github.com/theupdateframework/go-tuf/v2/metadata"
	"github.com/theupdateframework/go-tuf/v2/metadata/config"
	"github.com/theupdateframework/go-tuf/v2/metadata/updater"

	"github.com/colophon-build/colophon/internal/limits"
	"github.com/colophon-build/colophon/internal/reach"
	"github.com/colophon-build/colophon/internal/strict"
	"github.com/colophon-build/colophon/trust"
)

// Add downloads the trust root of the repository with this URL. Root is the root
// metadata that the caller trusts for it (root.json of any version). The repository
// must be served over https, or on loopback. A trust document must belong to the
// host that serves it.
func Add(ctx context.Context, repository string, root []byte) (*trust.Root, error) {
	return download(ctx, &trust.Repository{URL: strings.TrimSuffix(repository, "/"), Roots: [][]byte{root}})
}

// Refresh downloads the trust root of r.Repository again; r must come from Add,
// Refresh or a trust.Store, with a Repository that is not nil. Refresh fails if the
// repository's metadata is older than that of r, and if r's root metadata did not sign
// the new root metadata. No person looks at the result, so it may have other keys, be
// valid for longer, and be trusted for less. Refresh fails with a WiderError if it
// would be trusted for more.
func Refresh(ctx context.Context, r *trust.Root) (*trust.Root, error) {
	next, err := download(ctx, r.Repository)
	if err != nil {
		return nil, err
	}
	return narrower(r, next)
}

// narrower returns next, or a WiderError if it would be trusted for more than r.
func narrower(r, next *trust.Root) (*trust.Root, error) {
	wider := &WiderError{Repository: next.Repository.URL}
	for _, c := range trust.Changes(r, next) {
		if c.Wider {
			wider.Changes = append(wider.Changes, c.Text)
		}
	}
	if len(wider.Changes) > 0 {
		return nil, wider
	}
	return next, nil
}

// WiderError is the error of a refresh that needs a person, because the new trust root
// would be trusted for more. Show Changes, and let the user add the repository again.
type WiderError struct {
	Repository string   // URL
	Changes    []string // for people
}

func (e *WiderError) Error() string {
	return fmt.Sprintf("TUF repository %s: its new trust root would be trusted for more: %s", e.Repository, strings.Join(e.Changes, "; "))
}

// download runs the TUF client workflow, starting from the newest metadata in old.
func download(ctx context.Context, old *trust.Repository) (*trust.Root, error) {
	fail := func(err error) (*trust.Root, error) { return nil, fmt.Errorf("TUF repository %s: %w", old.URL, err) }
	u, err := url.Parse(old.URL)
	if err != nil || u.User != nil || u.RawQuery != "" || u.Fragment != "" {
		return fail(errors.New("the URL is malformed, or has a user, query or fragment"))
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
	// The library compares these files with the download to detect a rollback.
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
		return fail(cmp.Or(f.failed, metadataFault(err)))
	}
	now := &trust.Repository{URL: old.URL, Issuers: old.Issuers, Roots: append(old.Roots[:len(old.Roots):len(old.Roots)], f.roots...)}
	for name, into := range map[string]*[]byte{metadata.TIMESTAMP: &now.Timestamp, metadata.SNAPSHOT: &now.Snapshot, metadata.TARGETS: &now.Targets} {
		if *into, err = os.ReadFile(filepath.Join(dir, name+".json")); err != nil {
			return fail(err)
		}
	}
	now.Target, now.Content, err = f.target(client, trust.Targets())
	if err == nil && now.Target == "" {
		err = fmt.Errorf("it has none of the targets %q", trust.Targets())
	}
	if err == nil {
		now.SigningConfigTarget, now.SigningConfig, err = f.target(client, trust.SigningConfigs())
	}
	if err != nil {
		return fail(cmp.Or(f.failed, metadataFault(err)))
	}
	now.Refreshed = time.Now().UTC().Truncate(time.Second)
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
	if r.Stale(time.Now()) { // the library should have refused it
		return fail(fmt.Errorf("the metadata expired at %s", r.Expires.Format(time.RFC3339)))
	}
	return r, nil
}

// metadataFault returns in words for people what is wrong with metadata.
func metadataFault(err error) error {
	said := ""
	switch {
	case is[*metadata.ErrExpiredMetadata](err):
		said = "its metadata has expired"
	case is[*metadata.ErrUnsignedMetadata](err):
		said = "its metadata (root, timestamp, snapshot or targets) is not signed by the keys expected"
	case is[*metadata.ErrBadVersionNumber](err), is[*metadata.ErrEqualVersionNumber](err):
		said = "its metadata is older than what was seen, or of another version than announced"
	case is[*metadata.ErrLengthOrHashMismatch](err):
		said = "a file does not have the length and hash that the metadata says"
	default:
		answer, ok := errors.AsType[*metadata.ErrDownloadHTTP](err)
		if !ok {
			return err
		}
		said = fmt.Sprintf("%s: expected HTTP status 200, found %d", answer.URL, answer.StatusCode)
	}
	return &faultError{said, err}
}

func is[E error](err error) bool {
	_, ok := errors.AsType[E](err)
	return ok
}

type faultError struct {
	said string
	err  error
}

func (e *faultError) Error() string { return e.said }
func (e *faultError) Unwrap() error { return e.err }

// target downloads the first of the targets that the repository has. If it has none of them,
// target returns no name.
func (f *fetcher) target(client *updater.Updater, names []string) (name string, content []byte, err error) {
	listed := client.GetTopLevelTargets()
	for _, name := range names {
		info := listed[name]
		if info == nil {
			continue
		}
		if info.Length > limits.TrustRoot {
			return "", nil, fmt.Errorf("%s: got %d bytes, want at most %d", name, info.Length, limits.TrustRoot)
		}
		_, content, err := client.DownloadTarget(info, "", "")
		return name, content, err
	}
	return "", nil, nil
}

// fetcher makes the HTTP requests of the TUF library, and keeps the root metadata that
// it downloads.
type fetcher struct {
	ctx    context.Context
	roots  [][]byte
	failed error // why the repository gave no answer; the library does not always keep it
}

// DownloadFile implements go-tuf's Fetcher. Its timeout is that of the context.
func (f *fetcher) DownloadFile(from string, most int64, _ time.Duration) ([]byte, error) {
	req, err := http.NewRequestWithContext(f.ctx, http.MethodGet, from, nil)
	if err != nil {
		return nil, err
	}
	// Metadata is signed, but a redirect could make this machine send requests to
	// hosts inside its network.
	client := http.Client{CheckRedirect: reach.NoRedirect}
	resp, err := client.Do(req)
	if err != nil {
		f.failed = reach.Explain(err)
		return nil, f.failed
	}
	defer resp.Body.Close()
	if resp.StatusCode != http.StatusOK {
		return nil, &metadata.ErrDownloadHTTP{StatusCode: resp.StatusCode, URL: from}
	}
	data, err := strict.Read(resp.Body, int(most))
	if err == nil && strings.HasSuffix(req.URL.Path, ".root.json") { // N.root.json; no other file name ends like this
		f.roots = append(f.roots, data)
	}
	return data, err
}
