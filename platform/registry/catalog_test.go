package registry

import (
	"encoding/json"
	"fmt"
	"os"
	"slices"
	"strings"
	"testing"
)

// catalog reads the pages of a catalog, and returns the repositories and the number of
// pages.
func (c *client) catalog(query string) (all []string, pages int) {
	c.t.Helper()
	for next := "/v2/_catalog" + query; next != ""; pages++ {
		r := c.want(200, "GET", next, nil)
		var page struct{ Repositories []string }
		if err := json.Unmarshal(r.body, &page); err != nil || page.Repositories == nil {
			c.t.Fatalf("%s: got %s, %v", next, r.body, err)
		}
		all = append(all, page.Repositories...)
		next = ""
		if l := r.Header.Get("Link"); l != "" {
			next, _, _ = strings.Cut(strings.TrimPrefix(l, "<"), ">")
		}
		if pages > 100 {
			c.t.Fatal("the pages have no end")
		}
	}
	return all, pages
}

func (c *client) repository(name string) {
	c.t.Helper()
	if r := c.put(name, "v1", c.image(name, "sha256", "x", nil)); r.StatusCode != 201 {
		c.t.Fatalf("%s: got %d %s", name, r.StatusCode, r.body)
	}
}

// TestCatalog: every repository is listed once, whatever the size of the pages, and a new
// one is listed at once.
func TestCatalog(t *testing.T) {
	c := start(t, Config{AnonymousPull: true})
	if all, _ := c.catalog(""); len(all) != 0 {
		t.Errorf("an empty registry: got %q", all)
	}
	want := []string{"a", "a/b", "a/b/c", "a-b", "blobs/tags", "team/app", "team/app2", "x/y/z"}
	for _, name := range want {
		c.repository(name)
	}
	for n := 1; n <= len(want)+1; n++ {
		all, pages := c.as("").catalog(fmt.Sprintf("?n=%d", n))
		if !slices.Equal(all, want) || pages != (len(want)+n-1)/n {
			t.Errorf("n=%d: got %q in %d pages, want %q", n, all, pages, want)
		}
	}
	for last, from := range map[string]int{"a": 1, "a/a": 1, "a/b": 2, "a/b/c/d": 3, "a-": 3, "team": 5, "team/app": 6, "team/app/x": 6, "zz": 8, "../../etc": 0, "_": 0, "a/_": 1, "/": 0} {
		if all, _ := c.catalog("?last=" + last); !slices.Equal(all, want[from:]) && len(all)+len(want[from:]) > 0 {
			t.Errorf("after %q: got %q, want %q", last, all, want[from:])
		}
	}
	if all, pages := c.catalog("?n=0"); len(all) != 0 || pages != 1 {
		t.Errorf("n=0: got %q in %d pages", all, pages)
	}
	for _, bad := range []string{"?n=-1", "?n=x", "?n="} {
		c.want(400, "GET", "/v2/_catalog"+bad, nil)
	}
	c.want(405, "PUT", "/v2/_catalog", nil)
	c.want(404, "GET", "/v2/_catalog/x", nil)
	c.repository("m/new")
	want = slices.Insert(want, 5, "m/new")
	if all, _ := c.catalog(""); !slices.Equal(all, want) {
		t.Errorf("after a push: got %q, want %q", all, want)
	}
}

// TestCatalogOfWhoMayPull: nobody lists what he may not pull.
func TestCatalogOfWhoMayPull(t *testing.T) {
	for _, anonymous := range []bool{true, false} {
		c := start(t, Config{AnonymousPull: anonymous})
		c.repository("team/secret")
		status := map[bool]int{true: 200, false: 401}[anonymous]
		for token, want := range map[string]int{"": status, "wrong": 401, "puller": 200, "pusher": 200, "boss": 200} {
			r := c.as(token).want(want, "GET", "/v2/_catalog", nil)
			if seen := strings.Contains(string(r.body), "secret"); seen != (want == 200) {
				t.Errorf("anonymous pull %v, token %q: got %s", anonymous, token, r.body)
			}
		}
	}
}

// TestCatalogPages: a page costs what it shows, whatever comes before and after it, and
// keeps no list of tags from memory.
func TestCatalogPages(t *testing.T) {
	c := start(t, Config{AnonymousPull: true})
	c.repository("zz/app")
	s := c.reg.store
	const many = 2500
	for i := range many {
		if err := os.MkdirAll(s.repo(fmt.Sprintf("team%d/r%04d", i%2, i)), 0o700); err != nil {
			t.Fatal(err)
		}
	}
	c.want(200, "GET", "/v2/zz/app/tags/list", nil)
	before := len(s.lists.dirs)
	page := c.as("").want(200, "GET", "/v2/_catalog?n=2&last=team0/r2000", nil)
	if !strings.Contains(string(page.body), `["team0/r2002","team0/r2004"]`) {
		t.Errorf("got %s", page.body)
	}
	// The top, team0, and the repositories up to the first that is not shown.
	if n := len(s.catalog.dirs); n != 6 {
		t.Errorf("got %d directories read, want 6", n)
	}
	if len(s.lists.dirs) != before {
		t.Error("the catalog changed the lists of tags")
	}
	all, pages := c.catalog("")
	if len(all) != many+1 || pages != 3 {
		t.Errorf("got %d repositories in %d pages, want %d in 3", len(all), pages, many+1)
	}
	if s.catalog.total > maxListed {
		t.Errorf("got %d names in memory", s.catalog.total)
	}
}
