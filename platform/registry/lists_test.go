package registry

import (
	"bytes"
	"encoding/json"
	"fmt"
	"io"
	"net"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/colophon-build/colophon/test/await"
)

// A page of a list costs what it shows: the directory is read once, however many pages are
// asked for, and each change is added.
func TestPagesCostWhatTheyShow(t *testing.T) {
	c := start(t, Config{AnonymousPull: true})
	raw := c.image("a", "sha256", "x", nil)
	put := func(tag string) {
		t.Helper()
		if r := c.put("a", tag, raw); r.StatusCode != 201 {
			t.Fatalf("got %d %s", r.StatusCode, r.body)
		}
	}
	put("v1")
	s := c.reg.store
	const many = 2000
	for i := range many {
		if err := os.WriteFile(s.tag("a", fmt.Sprintf("t%04d", i)), []byte(sum("sha256", raw)+"\n"), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	page := func(query string) string {
		return string(c.as("").want(200, "GET", "/v2/a/tags/list"+query, nil).body)
	}
	if got := page("?n=1"); !strings.Contains(got, `["t0000"]`) {
		t.Fatalf("got %s", got)
	}
	// Whoever reads the directory again sees other names than this process wrote.
	if err := os.Rename(s.repo("a", "tags"), s.repo("a", "hidden")); err != nil {
		t.Fatal(err)
	}
	if err := os.Mkdir(s.repo("a", "tags"), 0o700); err != nil {
		t.Fatal(err)
	}
	if got := page("?n=2&last=t1000"); !strings.Contains(got, `["t1001","t1002"]`) {
		t.Errorf("got %s, want the list that was read before", got)
	}
	put("t1001-new")
	if got := page("?n=2&last=t1001"); !strings.Contains(got, `["t1001-new","t1002"]`) {
		t.Errorf("got %s, want the new tag in its place", got)
	}
	c.want(202, "DELETE", "/v2/a/manifests/t1001-new", nil)
	if got := page("?n=1&last=t1001"); !strings.Contains(got, `["t1002"]`) {
		t.Errorf("got %s, want the deleted tag to be gone", got)
	}
	// What nobody lists is not kept: anybody may ask for any digest.
	for i := range 100 {
		c.as("").want(200, "GET", "/v2/a/referrers/"+sum("sha256", fmt.Append(nil, i)), nil)
	}
	if n := len(s.lists.dirs); n != 1 {
		t.Errorf("got %d lists in memory, want 1", n)
	}
}

// Lists are complete while they are read and changed at the same time.
func TestListsUnderChange(t *testing.T) {
	dir := t.TempDir()
	l := newLists()
	var wg sync.WaitGroup
	for w := range 4 {
		wg.Go(func() {
			for i := range 200 {
				path := filepath.Join(dir, fmt.Sprintf("%d-%d", w, i))
				if err := os.WriteFile(path, nil, 0o600); err != nil {
					t.Error(err)
				}
				l.changed(path, true)
				names, err := l.names(t.Context(), dir)
				if _, found := slices.BinarySearch(names, filepath.Base(path)); !found || err != nil {
					t.Errorf("%s is missing right after it was made (%v)", path, err)
				}
				if i%2 == 0 {
					if err := os.Remove(path); err != nil {
						t.Error(err)
					}
					l.changed(path, false)
				}
				if i%50 == 0 {
					l.mu.Lock()
					delete(l.dirs, dir) // as if it was dropped
					l.mu.Unlock()
				}
			}
		})
	}
	wg.Wait()
	if names, err := l.names(t.Context(), dir); err != nil || len(names) != 400 || !slices.IsSorted(names) {
		t.Errorf("got %d names, %v, want 400 in order", len(names), err)
	}
}

// The lists in memory are bounded; the least recently used go first.
func TestListsAreBounded(t *testing.T) {
	l := newLists()
	for i := range maxListed/64 + 10 {
		dir := fmt.Sprint(i)
		l.dirs[dir] = &nameList{}
		l.keep(dir, l.dirs[dir])
	}
	if n := len(l.dirs); n > maxListed/64 || l.total > maxListed || l.total != n*64 {
		t.Errorf("got %d lists of weight %d, want %d lists at most", n, l.total, maxListed/64)
	}
	if l.dirs["0"] != nil || l.dirs[fmt.Sprint(maxListed/64+9)] == nil {
		t.Error("the least recently used list is not the one that was dropped")
	}
}

// Slow readers of long lists do not keep anybody from a short one.
func TestSlowListReaders(t *testing.T) {
	c := start(t, Config{AnonymousPull: true})
	subject := desc(typeManifest, "sha256", []byte("subject"))
	raw := c.image("a", "sha256", "x", map[string]any{"subject": subject, "annotations": map[string]string{"x": strings.Repeat("A", 3<<20)}})
	if r := c.put("a", "v1", raw); r.StatusCode != 201 {
		t.Fatalf("got %d %s", r.StatusCode, r.body)
	}
	var began sync.WaitGroup
	for range 2 * cap(c.reg.listing) {
		conn, err := net.Dial("tcp", strings.TrimPrefix(c.url, "http://"))
		if err != nil {
			t.Fatal(err)
		}
		defer conn.Close()
		io.WriteString(conn, "GET /v2/a/referrers/"+subject["digest"].(string)+" HTTP/1.1\r\nHost: x\r\n\r\n")
		began.Go(func() { // each answer begins, or waits for places that those before it keep
			conn.SetReadDeadline(time.Now().Add(5 * time.Second))
			conn.Read(make([]byte, 1))
		})
	}
	began.Wait()
	done := make(chan struct{})
	go func() {
		defer close(done)
		c.want(200, "GET", "/v2/a/tags/list", nil)
		c.want(200, "GET", "/v2/a/referrers/"+sum("sha256", []byte("another")), nil)
	}()
	await.Value(t, "a short list, which does not wait for slow readers of long ones", done)
}

// A push sets no more tags than it may, and no name is longer.
func TestPushPastItsLimits(t *testing.T) {
	c := start(t, Config{})
	tags := make([]string, maxPutTags+1)
	for i := range tags {
		tags[i] = fmt.Sprintf("tag=t%d", i)
	}
	digest := "sha256:" + strings.Repeat("ab", 32)
	c.want(414, "PUT", "/v2/a/manifests/"+digest+"?"+strings.Join(tags, "&"), []byte("{}"))
	c.want(404, "GET", "/v2/a/tags/list", nil)
	c.want(400, "GET", "/v2/"+strings.Repeat("a", 256)+"/tags/list", nil)
	c.want(404, "GET", "/v2/"+strings.Repeat("a", 255)+"/tags/list", nil)
}

// TestReferrersWithManifests: a list of referrers has the small manifests of artifacts in it, and of images
// none: what can be run is asked for.
func TestReferrersWithManifests(t *testing.T) {
	c := start(t, Config{Dir: t.TempDir()})
	subject := c.image("a", "sha256", "subject", nil)
	to := desc(typeManifest, "sha256", subject)
	empty := []byte("{}")
	c.blob("a", "sha256", empty)
	artifact := func(note string) []byte {
		return marshal(map[string]any{"schemaVersion": 2, "mediaType": typeManifest, "artifactType": "application/vnd.a", "config": desc(typeEmpty, "sha256", empty), "layers": []any{desc(typeEmpty, "sha256", empty)}, "subject": to, "annotations": map[string]string{"note": note}})
	}
	small, large := artifact("small"), artifact(strings.Repeat("x", maxInline))
	image := c.image("a", "sha256", "1", map[string]any{"subject": to})
	for _, raw := range [][]byte{small, large, image} {
		c.put("a", sum("sha256", raw), raw)
	}
	list := func() (found map[string][]byte, bytes int) {
		var l struct {
			Manifests []struct {
				Digest string
				Data   []byte
			}
		}
		found = map[string][]byte{}
		if err := json.Unmarshal(c.want(200, "GET", "/v2/a/referrers/"+sum("sha256", subject), nil).body, &l); err != nil {
			t.Fatal(err)
		}
		for _, d := range l.Manifests {
			found[d.Digest] = d.Data
			bytes += len(d.Data)
		}
		return found, bytes
	}
	found, _ := list()
	if !bytes.Equal(found[sum("sha256", small)], small) || found[sum("sha256", large)] != nil || found[sum("sha256", image)] != nil || len(found) != 3 {
		t.Errorf("got %q", found)
	}
	for i := range 8 {
		raw := artifact(fmt.Sprint(i, strings.Repeat("y", 200<<10)))
		c.put("a", sum("sha256", raw), raw)
	}
	if found, n := list(); len(found) != 11 || n > maxInlined || n < maxInlined/2 {
		t.Errorf("got %d referrers with manifests of %d bytes", len(found), n)
	}
}
