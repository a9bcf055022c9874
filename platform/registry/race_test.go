package registry

import (
	"fmt"
	"net/http"
	"slices"
	"strings"
	"sync"
	"testing"
)

// Images, their tags and their attachments are pushed and deleted at the same time.
// No answer is an error of the server, and what is left is consistent: a tag leads to a
// manifest, and a list of referrers names only manifests that are there.
func TestDeletionsAmidPushes(t *testing.T) {
	c := start(t, Config{Mutable: []string{"*"}})
	const images = 4
	subject := c.image("r", "sha256", "subject", nil)
	on := descriptor{MediaType: typeManifest, Digest: sum("sha256", subject), Size: int64(len(subject))}
	var manifests [images][]byte
	for n := range manifests {
		manifests[n] = c.image("r", "sha256", fmt.Sprint("image ", n), map[string]any{"subject": on})
	}
	var running sync.WaitGroup
	at := func(method, path string, body []byte, allowed ...int) {
		r, err := c.try(method, path, body, "Content-Type", typeManifest)
		if err != nil {
			t.Error(err)
			return
		}
		if slices.Contains(allowed, r.StatusCode) {
			return
		}
		t.Errorf("%s %s: got %d %s, want one of %v", method, path, r.StatusCode, r.body, allowed)
	}
	for n, m := range manifests {
		digest, tag := "/v2/r/manifests/"+sum("sha256", m), fmt.Sprint("/v2/r/manifests/t", n)
		config := []byte(fmt.Sprintf(`{"seed":"image %d"}`, n))
		blob := sum("sha256", config)
		for range 2 {
			running.Go(func() {
				for range 40 {
					at(http.MethodPut, tag, m, 201, 404, 400) // 404, 400: without its blob
				}
			})
			running.Go(func() {
				for range 40 {
					at(http.MethodDelete, digest, nil, 202, 404)
				}
			})
		}
		running.Go(func() {
			for range 40 {
				at(http.MethodDelete, tag, nil, 202, 404)
			}
		})
		running.Go(func() {
			for range 40 {
				at(http.MethodDelete, "/v2/r/blobs/"+blob, nil, 202, 404)
				at(http.MethodPost, "/v2/r/blobs/uploads/?digest="+blob, config, 201)
			}
		})
		running.Go(func() {
			for range 40 {
				at(http.MethodGet, tag, nil, 200, 404)
				at(http.MethodGet, "/v2/r/referrers/"+on.Digest, nil, 200)
			}
		})
	}
	running.Wait()
	for n, m := range manifests {
		digest := sum("sha256", m)
		tagged := c.do(http.MethodGet, fmt.Sprint("/v2/r/manifests/t", n), nil)
		there := c.do(http.MethodGet, "/v2/r/manifests/"+digest, nil)
		if tagged.StatusCode == 200 && (there.StatusCode != 200 || string(there.body) != string(m)) {
			t.Errorf("image %d: its tag is there, the manifest answers %d", n, there.StatusCode)
		}
		if listed := c.lists(on.Digest, digest); listed != (there.StatusCode == 200) {
			t.Errorf("image %d: the list of referrers has it: %v, the manifest answers %d", n, listed, there.StatusCode)
		}
		// The last word counts: what is pushed now stays.
		c.want(201, http.MethodPut, fmt.Sprint("/v2/r/manifests/t", n), m, "Content-Type", typeManifest)
		if !c.lists(on.Digest, digest) {
			t.Errorf("image %d: it was pushed, and is not listed", n)
		}
	}
}

// lists reports whether the referrers of subject in the repository r include digest.
func (c *client) lists(subject, digest string) bool {
	c.t.Helper()
	return strings.Contains(string(c.want(200, http.MethodGet, "/v2/r/referrers/"+subject, nil).body), digest)
}
