package registry

import (
	"context"
	"net/http"
	"net/url"
	"slices"
	"sort"
	"strconv"
	"strings"

	"github.com/colophon-build/colophon/platform/distribution"
)

// maxCatalog is the limit of repositories in one answer; a Link leads to the next answer.
const maxCatalog = 1000

// listRepositories serves GET /v2/_catalog?n=COUNT&last=NAME, which is not in the spec and
// which clients know from Docker's registry. It lists what the request may pull, and so all
// repositories: roles apply to all of them. They are sorted by the components of their names.
func (r *Registry) listRepositories(w http.ResponseWriter, req *request) error {
	n, err := pageSize(req, maxCatalog)
	if err != nil {
		return err
	}
	var after []string
	if last := req.URL.Query().Get("last"); last != "" {
		after = strings.Split(last, "/")
	}
	walk := catalogWalk{store: r.store, most: n + 1, found: []string{}}
	if err := walk.below(req.Context(), "", after); err != nil {
		return err
	}
	if found := walk.found; len(found) > n {
		walk.found = found[:n]
		if n > 0 {
			link(w, req, url.Values{"n": {strconv.Itoa(n)}, "last": {found[n-1]}})
		}
	}
	return r.answerJSON(w, req, "application/json", map[string]any{"repositories": walk.found})
}

// catalogWalk finds repositories in order.
type catalogWalk struct {
	store *store
	most  int // repositories to find
	found []string
}

// below finds the repositories whose names are, or begin with, the components of name. If
// after is not nil, it skips those up to the one whose further components are after: name
// itself, and what comes before. Each directory that it reads leads to a repository, so it
// reads about as many as it finds.
func (c *catalogWalk) below(ctx context.Context, name string, after []string) error {
	components, err := c.store.catalog.names(ctx, c.store.path("repositories", name))
	if err != nil {
		return err
	}
	if _, is := slices.BinarySearch(components, "_"); is && after == nil {
		c.found = append(c.found, name)
	}
	if len(after) > 0 {
		components = components[sort.SearchStrings(components, after[0]):]
	}
	for _, component := range components {
		if len(c.found) >= c.most {
			return nil
		}
		if component == "_" {
			continue
		}
		var rest []string
		if len(after) > 0 && component == after[0] {
			rest = after[1:]
		}
		if err := c.below(ctx, strings.TrimPrefix(name+"/"+component, "/"), rest); err != nil {
			return err
		}
	}
	return nil
}

// pageSize returns the number of names that a request wants in one answer, at most most.
func pageSize(req *request, most int) (int, error) {
	q := req.URL.Query()
	if !q.Has("n") {
		return most, nil
	}
	n, err := strconv.ParseUint(q.Get("n"), 10, 31)
	if err != nil {
		return 0, distribution.Failed(http.StatusBadRequest, distribution.CodeUnsupported, "got n=%q, want a number", q.Get("n"))
	}
	return min(int(n), most), nil
}
