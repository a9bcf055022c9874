// Package pins finds out what names that can change point to: tags and branches of actions, tags
// of images. It writes pins, and says whether a pin is still what it was.
package pins

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/http"
	"net/url"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/colophon-build/colophon/internal/lazyregexp"
	"github.com/colophon-build/colophon/internal/reach"
	"github.com/colophon-build/colophon/oci"
	"github.com/colophon-build/colophon/oci/imagelist"
	"github.com/colophon-build/colophon/source"
)

// GitHub is the server of actions that are named by OWNER/REPO.
const GitHub = "https://github.com"

// timeout caps the time for one question to one server.
const timeout = 30 * time.Second

// maxRefs caps the branches and tags of one repository.
const maxRefs = 50_000

// ErrNotAsked means that nobody was asked: there is no network, or it is not to be used.
var ErrNotAsked = errors.New("not asked")

// ErrNoRef means that a repository answered, and has no tag or branch of a name.
var ErrNoRef = errors.New("no tag or branch")

// Resolver asks servers what names point to, each question once. A nil Resolver asks nobody. Its
// methods can be called at once.
type Resolver struct {
	Server  string // of actions; empty: GitHub
	Offline bool   // only Known answers
	Known   *Known // answers from before, and those of this Resolver; nil: none are kept
	// Private also asks registries whose addresses are not public (reach.NotPublic), and those behind
	// the proxy that the environment names. The names of images are the repository's: whoever wrote
	// them would choose what is asked in the networks of this machine.
	Private bool

	mu    sync.Mutex
	calls map[string]*call
	down  map[string]error // servers that did not answer are asked no more

	public *http.Transport // to public addresses only
}

// Target is what a tag or branch points to.
type Target struct {
	Commit string // id
	Ref    string // full name: refs/tags/v4
	// Precise is the most precise version tag of the commit, or "": v4.2.1 for v4.
	Precise string
}

// Branch reports whether the target is a branch.
func (t Target) Branch() bool { return strings.HasPrefix(t.Ref, "refs/heads/") }

// Label returns what is written beside the commit: the most precise version, or ref.
func (t Target) Label(ref string) string {
	if t.Precise != "" && !t.Branch() {
		return t.Precise
	}
	return strings.TrimPrefix(strings.TrimPrefix(ref, "refs/tags/"), "refs/heads/")
}

// Standing is what a repository says about a commit.
type Standing struct {
	Commit string
	Tags   map[string]string // all tags of the repository, with the ids of their commits
	Within string            // a branch or tag whose history has the commit; empty: none
}

// Known reports whether a branch or tag of the repository contains the commit.
func (s Standing) Known() bool { return s.Within != "" }

// Has reports whether the repository has a tag.
func (s Standing) Has(tag string) bool { return s.Tags[tag] != "" }

// Named returns the tag of the repository that a comment means, which may leave out its "v" or add one. Without such a
// tag, it returns what the comment says.
func (s Standing) Named(comment string) string {
	for _, tag := range []string{comment, "v" + comment, strings.TrimPrefix(comment, "v")} {
		if s.Has(tag) {
			return tag
		}
	}
	return comment
}

// Is reports whether a tag points to the commit.
func (s Standing) Is(tag string) bool { return s.Tags[tag] == s.Commit }

// Of returns the tags that point to the commit, sorted.
func (s Standing) Of() (tags []string) {
	for name, id := range s.Tags {
		if id == s.Commit {
			tags = append(tags, name)
		}
	}
	slices.Sort(tags)
	return tags
}

var commitID = lazyregexp.New(`^(?:[0-9a-f]{40}|[0-9a-f]{64})$`)

// IsCommit reports whether a ref is the full id of a commit.
func IsCommit(ref string) bool { return commitID.MatchString(ref) }

var repoName = lazyregexp.New(`^[A-Za-z0-9][A-Za-z0-9-]{0,99}/[A-Za-z0-9._-]{1,100}$`)

// uri returns the address of OWNER/REPO.
func (r *Resolver) uri(repo string) (string, error) {
	if !repoName.MatchString(repo) || strings.HasSuffix(repo, "/..") || strings.HasSuffix(repo, "/.") {
		return "", fmt.Errorf("%q is not OWNER/REPO", repo)
	}
	server := GitHub
	if r.Server != "" {
		server = strings.TrimSuffix(r.Server, "/")
	}
	return server + "/" + repo, nil
}

// Ref returns what a tag or branch of OWNER/REPO points to. A tag counts before a branch of the
// same name, as GitHub has it; refs/tags/NAME names only the tag. The error matches ErrNoRef if the
// repository has neither.
func (r *Resolver) Ref(ctx context.Context, repo, ref string) (Target, error) {
	refs, err := r.refs(ctx, repo)
	if err != nil {
		return Target{}, err
	}
	for _, name := range []string{ref, "refs/tags/" + ref, "refs/heads/" + ref} {
		if id := refs[name]; id != "" && strings.HasPrefix(name, "refs/") {
			return Target{Commit: id, Ref: name, Precise: precise(refs, id, ref)}, nil
		}
	}
	return Target{}, fmt.Errorf("%s has %w %q", repo, ErrNoRef, ref)
}

// precise returns the most precise version tag of a commit that continues a tag: v4.2.1 for v4.
func precise(refs map[string]string, id, ref string) (best string) {
	for name, to := range refs {
		tag, ok := strings.CutPrefix(name, "refs/tags/")
		if !ok || to != id || tag != ref && !strings.HasPrefix(tag, ref+".") || !Exact(tag) {
			continue
		}
		if best == "" || Newer(tag, best) {
			best = tag
		}
	}
	return best
}

// Commit asks OWNER/REPO about a commit.
func (r *Resolver) Commit(ctx context.Context, repo, id string) (Standing, error) {
	refs, err := r.refs(ctx, repo)
	if err != nil {
		return Standing{}, err
	}
	s := Standing{Commit: id, Tags: map[string]string{}}
	for name, to := range refs {
		if tag, ok := strings.CutPrefix(name, "refs/tags/"); ok {
			s.Tags[tag] = to
		}
		if to == id && (s.Within == "" || name < s.Within) {
			s.Within = name
		}
	}
	if s.Within != "" {
		return s, nil
	}
	uri, err := r.uri(repo)
	if err != nil {
		return Standing{}, err
	}
	s.Within, err = ask(ctx, r, uri+"@"+id, server(uri), func(ctx context.Context) (string, error) {
		if within, ok := r.Known.within(uri, id); ok {
			return within, nil
		}
		if r.Offline {
			return "", ErrNotAsked
		}
		standing, err := source.Lookup(ctx, source.Question{URI: uri, Commit: id})
		if err == nil {
			r.Known.addWithin(uri, id, standing.Within)
		}
		return standing.Within, err
	})
	return s, err
}

// refs returns the branches and tags of OWNER/REPO.
func (r *Resolver) refs(ctx context.Context, repo string) (map[string]string, error) {
	if r == nil {
		return nil, ErrNotAsked
	}
	uri, err := r.uri(repo)
	if err != nil {
		return nil, err
	}
	return ask(ctx, r, uri, server(uri), func(ctx context.Context) (map[string]string, error) {
		if refs, ok := r.Known.refs(uri); ok {
			return refs, nil
		}
		if r.Offline {
			return nil, ErrNotAsked
		}
		refs, err := source.Refs(ctx, uri, nil)
		if err != nil {
			return nil, err
		}
		if len(refs) > maxRefs {
			return nil, fmt.Errorf("expected at most %d branches and tags, found %d", maxRefs, len(refs))
		}
		r.Known.addRefs(uri, refs)
		return refs, nil
	})
}

// Digest returns the digest that the name of an image has now. A name without a registry is of
// Docker Hub, one without a tag is "latest".
func (r *Resolver) Digest(ctx context.Context, name string) (string, error) {
	if r == nil {
		return "", ErrNotAsked
	}
	ref, err := reference(name)
	if err != nil {
		return "", err
	}
	host, _, _ := strings.Cut(ref.Repository, "/")
	return ask(ctx, r, "image:"+ref.String(), host, func(ctx context.Context) (string, error) {
		if digest, ok := r.Known.image(ref.String()); ok {
			return digest, nil
		}
		if r.Offline {
			return "", ErrNotAsked
		}
		src, err := ref.Open(oci.RegistryOptions{Transport: r.transport()})
		if err != nil {
			return "", err
		}
		d, err := src.Resolve(ctx, ref.Tag)
		if err != nil {
			return "", err
		}
		r.Known.addImage(ref.String(), d.Digest.String())
		return d.Digest.String(), nil
	})
}

// reference reads the name of an image, which has a tag then.
func reference(name string) (ref oci.Reference, err error) {
	if ref, err = imagelist.Reference(name); err == nil && ref.Tag == "" {
		ref.Tag = "latest"
	}
	return ref, err
}

// call is one question, and its answer when done is closed.
type call struct {
	done  chan struct{}
	value any
	err   error
}

// ask answers a question once. Past a failure to reach a server, it is not asked again.
func ask[T any](ctx context.Context, r *Resolver, key, server string, question func(context.Context) (T, error)) (T, error) {
	r.mu.Lock()
	c := r.calls[key]
	if c == nil {
		if r.calls == nil {
			r.calls, r.down = map[string]*call{}, map[string]error{}
		}
		c = &call{done: make(chan struct{})}
		r.calls[key] = c
		down := r.down[server]
		r.mu.Unlock()
		if down != nil {
			c.err = down
		} else {
			within, cancel := context.WithTimeout(ctx, timeout)
			var value T
			if value, c.err = question(within); c.err == nil {
				c.value = value
			} else if unreachable(c.err) {
				r.mu.Lock()
				r.down[server] = fmt.Errorf("%s did not answer before, and was not asked again", server)
				r.mu.Unlock()
			}
			cancel()
		}
		close(c.done)
	} else {
		r.mu.Unlock()
	}
	select {
	case <-c.done:
	case <-ctx.Done():
		var none T
		return none, ctx.Err()
	}
	value, _ := c.value.(T)
	return value, c.err
}

// unreachable reports whether an error is of a server as a whole, and not about one name.
func unreachable(err error) bool {
	if errors.Is(err, context.DeadlineExceeded) {
		return true
	}
	_, failed := errors.AsType[*net.OpError](err)
	return failed || strings.Contains(err.Error(), "Could not resolve host") || strings.Contains(err.Error(), "Failed to connect")
}

func server(uri string) string {
	u, err := url.Parse(uri)
	if err != nil || u.Host == "" {
		return uri
	}
	return u.Host
}

// transport returns what sends requests to registries; nil is the transport of package oci.
func (r *Resolver) transport() http.RoundTripper {
	if r.Private {
		return nil
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.public == nil {
		d := &net.Dialer{Timeout: 10 * time.Second, Control: reach.Public}
		r.public = &http.Transport{DialContext: d.DialContext, TLSHandshakeTimeout: 10 * time.Second, ResponseHeaderTimeout: timeout,
			MaxResponseHeaderBytes: 64 << 10, IdleConnTimeout: timeout, ForceAttemptHTTP2: true, DisableCompression: true}
	}
	return r.public
}

// Between returns the commits of OWNER/REPO that to has in its history and from has not, the newest
// first, and whether from is in the history of to.
func (r *Resolver) Between(ctx context.Context, repo, from, to string) (steps []source.Step, forward bool, err error) {
	type answer struct {
		steps   []source.Step
		forward bool
	}
	if r == nil || r.Offline {
		return nil, false, ErrNotAsked
	}
	uri, err := r.uri(repo)
	if err != nil {
		return nil, false, err
	}
	a, err := ask(ctx, r, uri+"@"+from+".."+to, server(uri), func(ctx context.Context) (a answer, err error) {
		a.steps, a.forward, err = source.Between(ctx, uri, from, to, nil)
		return a, err
	})
	return a.steps, a.forward, err
}
