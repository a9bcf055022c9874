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

// Claims are a build's claims about its downloads.
type Claims struct {
	Dependencies []attest.ResourceDescriptor // images as package URLs, and URLs with the SHA-256 of the body
	// Incomplete is BuildKit's list of requests whose answers it did not hash, as
	// JSON; empty if there are none.
	Incomplete string
}

// incomplete is one entry of Claims.Incomplete. BuildKit's proxy does not hash answers
// that it decompresses, answers to methods other than GET, partial answers, and failures.
type incomplete struct {
	URL    string `json:"url"`
	Method string `json:"method"`
	Reason string `json:"reason"`
}

// Error means that a build's claims and the gateway's record disagree about a download.
type Error struct {
	What           string // method and URL, or the package URL of an image
	Build, Gateway string // the claim and the record
}

func (e *Error) Error() string {
	return fmt.Sprintf("the build and its gateway disagree about %s: the build claims %s, the gateway %s", e.What, e.Build, e.Gateway)
}

// Agree returns an *Error for the first download that only the claims or only the
// record has, or that differs between them. Requests by which the room received no
// content (HEAD, redirects, denials, failures) are not compared. For a download that
// the build could not hash, the record's digest is accepted.
func (r *Record) Agree(c Claims, images []*base.Image) error {
	gaps, err := c.gaps()
	if err != nil {
		return fmt.Errorf("the build's list of requests: %w", err)
	}
	urls, err := c.compareImages(images)
	if err != nil {
		return err
	}
	p := r.provision(images)
	seen := map[request][]string{} // digests of whole answers
	asked := map[request]bool{}
	hosts := map[string]bool{}
	led := map[string][]string{} // where redirects led
	for _, e := range r.exchanges {
		q := request{e.Method, e.url.String()}
		if to := e.target(); to != "" {
			led[q.url] = append(led[q.url], to)
		}
		asked[q], hosts[e.url.Hostname()] = true, true
		if e.whole() {
			seen[q] = append(seen[q], e.SHA256)
		}
	}
	for _, d := range urls {
		u, err := parse(d.URI)
		if err != nil {
			return fmt.Errorf("the build's list of downloads: %w", err)
		}
		q := request{http.MethodGet, u.String()}
		if !reached(u.String(), d.Digest["sha256"], seen, led) {
			return &Error{q.String(), "sha256:" + d.Digest["sha256"], describe(seen[q], asked[q])}
		}
	}
	for q, reason := range gaps {
		// A request that failed before it reached the gateway downloaded nothing.
		if !asked[q] && reason != "upstream_error" {
			return &Error{q.String(), "a request without a digest (" + reason + ")", "saw no such request"}
		}
	}
	claimed := map[request][]string{}
	for _, d := range urls {
		u, _ := parse(d.URI) // parsed without error above
		q := request{http.MethodGet, u.String()}
		claimed[q] = append(claimed[q], d.Digest["sha256"])
	}
	for _, e := range r.exchanges {
		if !e.arrived() || p.has(&e) {
			continue
		}
		q := request{e.Method, e.url.String()}
		_, gap := gaps[q]
		switch {
		case gap:
		case e.whole() && slices.Contains(claimed[q], e.SHA256):
		case e.SHA256 == "" && len(claimed[q]) > 0: // it broke off and was requested again
		default:
			return &Error{q.String(), describeClaim(claimed[q]), describe(nonEmpty(e.SHA256), true)}
		}
	}
	return nil
}

// reached reports whether the address gave bytes with the digest, or redirects led from it to
// one that did: BuildKit claims the bytes for each address on the way.
func reached(address, sha256 string, seen map[request][]string, led map[string][]string) bool {
	todo, known := []string{address}, map[string]bool{address: true}
	for len(todo) > 0 {
		at := todo[0]
		if todo = todo[1:]; slices.Contains(seen[request{http.MethodGet, at}], sha256) {
			return true
		}
		for _, to := range led[at] {
			if !known[to] {
				known[to] = true
				todo = append(todo, to)
			}
		}
	}
	return false
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
		return "saw no complete answer"
	}
	return "saw no such request"
}

func describeClaim(digests []string) string {
	if len(digests) == 0 {
		return "no download"
	}
	return "sha256:" + strings.Join(digests, ", sha256:")
}

// gaps returns the requests whose answers the build did not hash, with the reason.
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
		if g.URL == "" { // the last entry, which tells how many were left out
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

// compareImages compares the images in the claims with those that the trusted side
// resolved, and returns the other claimed dependencies.
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
			return nil, &Error{d.URI, "sha256:" + ref.SHA256, "and the Dockerfile say " + digestOf(want, d.URI)}
		}
	}
	for ref := range want {
		if !got[ref] {
			return nil, &Error{ref.URI, digestOf(got, ref.URI), "and the Dockerfile say sha256:" + ref.SHA256}
		}
	}
	return urls, nil
}

func digestOf(refs map[base.Reference]bool, uri string) string {
	for r := range refs {
		if r.URI == uri {
			return "sha256:" + r.SHA256
		}
	}
	return "no such image"
}
