package network

import (
	"fmt"
	"net/http"
	"slices"
	"strings"

	"github.com/colophon-build/colophon/attest"
	"github.com/colophon-build/colophon/internal/limits"
	"github.com/colophon-build/colophon/internal/strict"
	"github.com/colophon-build/colophon/platform/release/base"
)

// Claims are what a build says that it fetched.
type Claims struct {
	Dependencies []attest.ResourceDescriptor // images as package URLs, and URLs with the SHA-256 of what came
	// Incomplete is BuildKit's list of requests whose answers it did not hash, as
	// JSON; empty where there are none.
	Incomplete string
}

// incomplete is one such request. What BuildKit's proxy unpacked, what was no
// GET, a part, or failed, is among them.
type incomplete struct {
	URL    string `json:"url"`
	Method string `json:"method"`
	Reason string `json:"reason"`
}

// Error is a fetch of which room and gateway do not say the same.
type Error struct {
	What           string // method and URL, or the package URL of an image
	Build, Gateway string // what each says
}

func (e *Error) Error() string {
	return fmt.Sprintf("the build and its gateway disagree about %s: the build says %s, the gateway %s", e.What, e.Build, e.Gateway)
}

// Agree fails (*Error) on the first fetch that one saw and the other did not, or
// saw with other bytes. Requests that brought nothing into the room (HEAD,
// redirects, refusals, failures) need no counterpart; of what the build could not
// hash the gateway's digest stands.
func (r *Record) Agree(c Claims, images []*base.Image) error {
	gaps, err := c.gaps()
	if err != nil {
		return fmt.Errorf("what the build says of its requests: %w", err)
	}
	urls, err := c.compareImages(images)
	if err != nil {
		return err
	}
	p := r.provision(images)
	seen := map[request][]string{} // digests, of what brought something
	asked := map[request]bool{}
	hosts := map[string]bool{}
	for _, e := range r.exchanges {
		q := request{e.Method, e.url.String()}
		asked[q], hosts[e.url.Hostname()] = true, true
		if e.whole() {
			seen[q] = append(seen[q], e.SHA256)
		}
	}
	for _, d := range urls {
		u, err := parse(d.URI)
		if err != nil {
			return fmt.Errorf("what the build says that it fetched: %w", err)
		}
		q := request{http.MethodGet, u.String()}
		if !slices.Contains(seen[q], d.Digest["sha256"]) {
			return &Error{q.String(), "sha256:" + d.Digest["sha256"], describe(seen[q], asked[q])}
		}
	}
	for q, reason := range gaps {
		// What failed before it got here brought nothing.
		if !asked[q] && reason != "upstream_error" {
			return &Error{q.String(), "that it was asked for (" + reason + ")", "saw no such request"}
		}
	}
	said := map[request][]string{}
	for _, d := range urls {
		u, _ := parse(d.URI) // it was read above
		q := request{http.MethodGet, u.String()}
		said[q] = append(said[q], d.Digest["sha256"])
	}
	for _, e := range r.exchanges {
		if !e.arrived() || p.has(&e) {
			continue
		}
		q := request{e.Method, e.url.String()}
		_, gap := gaps[q]
		switch {
		case gap:
		case e.whole() && slices.Contains(said[q], e.SHA256):
		case e.SHA256 == "" && len(said[q]) > 0: // cut off, and asked for again
		default:
			return &Error{q.String(), describeClaim(said[q]), describe(nonEmpty(e.SHA256), true)}
		}
	}
	return nil
}

type request struct{ method, url string }

func (q request) String() string { return q.method + " " + q.url }

func nonEmpty(s string) []string {
	if s == "" {
		return nil
	}
	return []string{s}
}

func describe(digests []string, asked bool) string {
	switch {
	case len(digests) > 0:
		return "saw sha256:" + strings.Join(slices.Compact(slices.Sorted(slices.Values(digests))), ", sha256:")
	case asked:
		return "saw no whole answer"
	}
	return "saw no such request"
}

func describeClaim(digests []string) string {
	if len(digests) == 0 {
		return "nothing of it"
	}
	return "sha256:" + strings.Join(digests, ", sha256:")
}

// gaps are the requests that the build did not hash, with the reason.
func (c Claims) gaps() (map[request]string, error) {
	if c.Incomplete == "" {
		return nil, nil
	}
	var list []incomplete
	if err := strict.UnmarshalKnown([]byte(c.Incomplete), limits.Statement, &list); err != nil {
		return nil, err
	}
	out := map[request]string{}
	for _, g := range list {
		if g.URL == "" { // says how many more there were
			continue
		}
		u, err := parse(g.URL)
		if err != nil {
			return nil, err
		}
		out[request{g.Method, u.String()}] = g.Reason
	}
	return out, nil
}

// compareImages holds the images that the build names against those that this
// side found, and returns the rest of its list.
func (c Claims) compareImages(images []*base.Image) (urls []attest.ResourceDescriptor, err error) {
	want, got := map[base.Reference]bool{}, map[base.Reference]bool{}
	for _, i := range images {
		want[i.Dependency] = true
	}
	for _, d := range c.Dependencies {
		if !strings.HasPrefix(d.URI, "pkg:") {
			urls = append(urls, d)
			continue
		}
		ref := base.Reference{URI: d.URI, SHA256: d.Digest["sha256"]}
		if got[ref] = true; !want[ref] {
			return nil, &Error{d.URI, "sha256:" + ref.SHA256, "and Dockerfile: " + known(want, d.URI)}
		}
	}
	for ref := range want {
		if !got[ref] {
			return nil, &Error{ref.URI, known(got, ref.URI), "and Dockerfile: sha256:" + ref.SHA256}
		}
	}
	return urls, nil
}

func known(refs map[base.Reference]bool, uri string) string {
	for r := range refs {
		if r.URI == uri {
			return "sha256:" + r.SHA256
		}
	}
	return "no such image"
}
