package main

import (
	"encoding/json"
	"html"
	"net/url"
	"os"
	"path"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
)

// The site of this repository builds, and has no broken links or anchors.
func TestSite(t *testing.T) {
	out := filepath.Join(t.TempDir(), "site")
	n, err := build("../..", out)
	if err != nil {
		t.Fatal(err)
	}
	pages, ids := map[string]string{}, map[string]map[string]bool{}
	id := regexp.MustCompile(` id="([^"]+)"`)
	err = filepath.WalkDir(out, func(file string, _ os.DirEntry, err error) error {
		if err != nil || !strings.HasSuffix(file, ".html") {
			return err
		}
		data, err := os.ReadFile(file)
		rel, _ := filepath.Rel(out, file)
		pages[rel], ids[rel] = string(data), map[string]bool{}
		for _, m := range id.FindAllStringSubmatch(string(data), -1) {
			if ids[rel][m[1]] {
				t.Errorf("%s has two elements with the id %q", rel, m[1])
			}
			ids[rel][m[1]] = true
		}
		return err
	})
	if err != nil || len(pages) != n || n < 20 {
		t.Fatalf("got %d pages of %d, want at least 20 (%v)", len(pages), n, err)
	}
	links := 0
	resolves := func(from, to string) {
		u, err := url.Parse(html.UnescapeString(to))
		if err != nil {
			t.Errorf("%s: %v", from, err)
			return
		}
		if u.Scheme != "" {
			return
		}
		links++
		file := from
		if u.Path != "" {
			file = path.Join(path.Dir(from), u.Path)
		}
		if _, err := os.Stat(filepath.Join(out, file)); err != nil {
			t.Errorf("%s: %v", from, err)
		} else if u.Fragment != "" && !ids[file][u.Fragment] {
			t.Errorf("%s: %s has no #%s", from, file, u.Fragment)
		}
	}
	address := regexp.MustCompile(` (?:href|src)="([^"]*)"`)
	for name, page := range pages {
		for _, m := range address.FindAllStringSubmatch(page, -1) {
			resolves(name, m[1])
		}
		if strings.Contains(page, "<!-- ") || strings.Contains(page, "raw HTML") {
			t.Errorf("%s has a comment of the source", name)
		}
	}
	if links < 500 {
		t.Errorf("got %d links, want many more", links)
	}
	searchIndex(t, out, resolves)
}

// searchIndex checks that the index has all pages and finds known text.
func searchIndex(t *testing.T, out string, resolves func(from, to string)) {
	raw, err := os.ReadFile(filepath.Join(out, "index.js"))
	if err != nil {
		t.Fatal(err)
	}
	var index []struct{ T, H, U, X string }
	data := strings.TrimSuffix(strings.TrimPrefix(string(raw), "const searchIndex = "), ";\n")
	if err := json.Unmarshal([]byte(data), &index); err != nil {
		t.Fatal(err)
	}
	found := false
	for _, e := range index {
		resolves("index.html", e.U)
		found = found || e.U == "docs/release.html#hermetic" && e.H == "Hermetic" && strings.Contains(e.X, "--write-lock")
	}
	if !found {
		t.Error("the index does not have the section about hermetic builds with its commands")
	}
}

// The navigation has each page of docs and spec.
func TestNavigationIsComplete(t *testing.T) {
	s := &site{root: "../..", pages: map[string]*page{}, files: map[string]bool{}}
	if err := s.read(); err != nil {
		t.Fatal(err)
	}
	nav, err := s.navigation()
	if err != nil {
		t.Fatal(err)
	}
	listed := map[*page]bool{}
	for _, g := range nav {
		listed[g.index] = true
		for _, e := range g.pages {
			listed[e.page] = true
		}
	}
	for name, p := range s.pages {
		if (strings.HasPrefix(name, "docs/") || strings.HasPrefix(name, "spec/")) && !listed[p] {
			t.Errorf("%s is listed in neither docs/README.md nor spec/README.md", name)
		}
	}
}
