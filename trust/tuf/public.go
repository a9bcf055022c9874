package tuf

import (
	"context"
	_ "embed"
	"strings"

	"github.com/sigstore/sigstore-go/pkg/tuf"

	"github.com/colophon-build/colophon/trust"
)

// Public is a trust root that people know by a name, and that is built in: root metadata
// to begin with where there is a network, and a copy of the trust root for where there is
// none.
type Public struct {
	Name    string
	URL     string   // of its TUF repository
	For     string   // what it is trusted for, for people
	Issuers []string // OIDC issuers that it may vouch for; nil: all that the instance serves
	Copied  string   // date of the copy, as in 2006-01-02

	root, copy []byte // root metadata; trusted_root.json
}

// sigstoreCopy is targets/trusted_root.json of github.com/sigstore/root-signing (Apache-2.0),
// unmodified. Tests of other packages read the file.
//
//go:embed sigstore_trusted_root.json
var sigstoreCopy []byte

// Publics returns the trust roots that are built in.
//
// GitHub's workflows in public repositories sign under the public Sigstore instance, so
// that the root "github" is that instance for GitHub's issuer alone. The instance that
// GitHub runs for private repositories is not built in.
func Publics() []Public {
	return []Public{
		{Name: "sigstore", URL: tuf.DefaultMirror, For: "whoever signs with the public Sigstore instance: workflows on GitHub, pipelines on GitLab, people", Copied: "2026-11-20", root: tuf.DefaultRoot(), copy: sigstoreCopy},
		{Name: "github", URL: tuf.DefaultMirror, For: "workflows in public repositories on GitHub", Copied: "2026-11-20", root: tuf.DefaultRoot(), copy: sigstoreCopy,
			Issuers: []string{trust.GitHubIssuer, trust.GitHubIssuer + "/*"}},
	}
}

// Named returns the built-in trust root with this name.
func Named(name string) (p Public, ok bool) {
	for _, p := range Publics() {
		if p.Name == name {
			return p, true
		}
	}
	return Public{}, false
}

// CopyOf returns the built-in trust root of which r is the copy, so that r can be replaced
// by what its repository has now.
func CopyOf(r *trust.Root) (p Public, ok bool) {
	for _, p := range Publics() {
		if c, err := p.Copy(); err == nil && c.Pin() == r.Pin() {
			return p, true
		}
	}
	return Public{}, false
}

// Download returns the trust root that the repository has now, limited to the issuers of p.
func (p Public) Download(ctx context.Context) (*trust.Root, error) {
	r, err := Add(ctx, p.URL, p.root)
	if err != nil {
		return nil, err
	}
	return p.limited(r)
}

// Refresh replaces r, the copy, by what the repository has now, as the function Refresh does.
func (p Public) Refresh(ctx context.Context, r *trust.Root) (*trust.Root, error) {
	next, err := p.Download(ctx)
	if err != nil {
		return nil, err
	}
	return narrower(r, next)
}

// Copy returns the built-in copy, for machines without a network. It does not say whether
// a key in it was withdrawn since.
func (p Public) Copy() (*trust.Root, error) {
	r, err := trust.Parse(p.copy)
	if err != nil {
		return nil, err
	}
	return p.limited(r)
}

func (p Public) limited(r *trust.Root) (*trust.Root, error) {
	if p.Issuers == nil {
		return r, nil
	}
	return r.ForIssuers(p.Issuers)
}

// Known returns the built-in root metadata of the repository with this URL, or nil.
// Only that of the public Sigstore instance is built in.
func Known(repository string) []byte {
	if strings.TrimSuffix(repository, "/") == tuf.DefaultMirror {
		return tuf.DefaultRoot()
	}
	return nil
}
