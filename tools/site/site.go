package main

import (
	"bytes"
	"embed"
	"encoding/json"
	"fmt"
	"html/template"
	"io/fs"
	"os"
	"path"
	"path/filepath"
	"regexp"
	"slices"
	"strings"

	"github.com/yuin/goldmark"
	"github.com/yuin/goldmark/ast"
	"github.com/yuin/goldmark/extension"
	"github.com/yuin/goldmark/parser"
	"github.com/yuin/goldmark/text"
)

// repository is the target of links to files that are not pages.
const repository = "https://github.com/colophon-build/colophon"

//go:embed assets/page.html assets/site.css assets/search.js
var assets embed.FS

var markdown = goldmark.New(goldmark.WithExtensions(extension.GFM), goldmark.WithParserOptions(parser.WithAutoHeadingID()))

// headings gives the headings of a page the anchors that GitHub gives them, so that a link leads to the
// same place on both. It has those of the page so far.
type headings map[string]bool

var notInAnchors = regexp.MustCompile(`[^\p{L}\p{N} _-]`)

// Generate implements parser.IDs.
func (h headings) Generate(heading []byte, _ ast.NodeKind) []byte {
	anchor := strings.ReplaceAll(notInAnchors.ReplaceAllString(strings.ToLower(string(heading)), ""), " ", "-")
	id := anchor
	for n := 1; h[id]; n++ {
		id = fmt.Sprintf("%s-%d", anchor, n)
	}
	h[id] = true
	return []byte(id)
}

// Put implements parser.IDs.
func (h headings) Put(id []byte) { h[string(id)] = true }

// site holds the pages and files of the site.
type site struct {
	root  string
	pages map[string]*page // by path in the repository: docs/verify.md
	files map[string]bool  // files to copy for the pages: docs/diagrams/zones.svg
}

// page is one Markdown file.
type page struct {
	path     string // docs/verify.md
	out      string // docs/verify.html
	source   []byte
	doc      ast.Node
	title    string
	sections []section
}

// section is a heading with its text: one entry of the search index.
type section struct {
	id, heading string
	level       int
	text        strings.Builder
}

// build writes the site and returns the number of pages.
func build(root, out string) (int, error) {
	s := &site{root: root, pages: map[string]*page{}, files: map[string]bool{}}
	if err := s.read(); err != nil {
		return 0, err
	}
	if err := os.RemoveAll(out); err != nil {
		return 0, err
	}
	nav, err := s.navigation()
	if err != nil {
		return 0, err
	}
	for _, p := range s.pages {
		if err := s.link(p); err != nil {
			return 0, fmt.Errorf("%s: %w", p.path, err)
		}
		html, err := s.render(p, nav)
		if err != nil {
			return 0, fmt.Errorf("%s: %w", p.path, err)
		}
		if err := write(filepath.Join(out, p.out), html); err != nil {
			return 0, err
		}
	}
	return len(s.pages), s.copy(out)
}

// read parses the Markdown files at the root, and those in docs, spec and examples.
func (s *site) read() error {
	var paths []string
	for _, name := range []string{"README.md", "CONTRIBUTING.md", "SECURITY.md"} {
		paths = append(paths, filepath.Join(s.root, name))
	}
	for _, dir := range []string{"docs", "spec", "examples"} {
		err := filepath.WalkDir(filepath.Join(s.root, dir), func(path string, d fs.DirEntry, err error) error {
			if err == nil && strings.HasSuffix(path, ".md") {
				paths = append(paths, path)
			}
			return err
		})
		if err != nil {
			return err
		}
	}
	for _, file := range paths {
		rel, err := filepath.Rel(s.root, file)
		if err != nil {
			return err
		}
		p := &page{path: filepath.ToSlash(rel)}
		if p.source, err = os.ReadFile(file); err != nil {
			return err
		}
		dir, name := path.Split(p.path)
		if name = strings.TrimSuffix(name, ".md"); name == "README" {
			name = "index"
		}
		p.out = dir + name + ".html"
		p.doc = markdown.Parser().Parse(text.NewReader(p.source), parser.WithContext(parser.NewContext(parser.WithIDs(headings{}))))
		if p.scan(); p.title == "" {
			return fmt.Errorf("%s has no title", p.path)
		}
		s.pages[p.path] = p
	}
	return nil
}

// scan finds the title and the sections of a page, and removes its comments, which are
// for tests.
func (p *page) scan() {
	var comments []ast.Node
	ast.Walk(p.doc, func(n ast.Node, entering bool) (ast.WalkStatus, error) {
		if entering && n.Kind() == ast.KindHTMLBlock { // also within lists
			comments = append(comments, n)
		}
		return ast.WalkContinue, nil
	})
	for _, c := range comments {
		c.Parent().RemoveChild(c.Parent(), c)
	}
	for n := p.doc.FirstChild(); n != nil; {
		next := n.NextSibling()
		switch h := n.(type) {
		case *ast.Heading:
			id, _ := h.AttributeString("id")
			anchor, _ := id.([]byte)
			p.sections = append(p.sections, section{id: string(anchor), heading: p.words(h), level: h.Level})
			if h.Level == 1 && p.title == "" {
				p.title = p.words(h)
			}
		default:
			if len(p.sections) > 0 {
				p.sections[len(p.sections)-1].text.WriteString(p.words(n) + " ")
			}
		}
		n = next
	}
}

// words returns the text of a node.
func (p *page) words(n ast.Node) string {
	var b strings.Builder
	ast.Walk(n, func(n ast.Node, entering bool) (ast.WalkStatus, error) {
		switch {
		case !entering:
			if n.Type() == ast.TypeBlock {
				b.WriteByte(' ')
			}
		case n.Kind() == ast.KindText:
			t := n.(*ast.Text)
			b.Write(t.Segment.Value(p.source))
			if t.SoftLineBreak() {
				b.WriteByte(' ')
			}
		case n.Kind() == ast.KindFencedCodeBlock || n.Kind() == ast.KindCodeBlock:
			b.Write(n.Lines().Value(p.source))
		}
		return ast.WalkContinue, nil
	})
	return strings.Join(strings.Fields(b.String()), " ")
}

// link points the links of a page to pages of the site, or to the repository.
func (s *site) link(p *page) error {
	return ast.Walk(p.doc, func(n ast.Node, entering bool) (ast.WalkStatus, error) {
		var err error
		switch n := n.(type) {
		case *ast.Link:
			if entering {
				n.Destination, err = s.target(p, n.Destination)
			}
		case *ast.Image:
			if entering {
				n.Destination, err = s.target(p, n.Destination)
			}
		}
		return ast.WalkContinue, err
	})
}

// target returns the destination of a link on the site.
func (s *site) target(p *page, destination []byte) ([]byte, error) {
	dest, anchor, hasAnchor := strings.Cut(string(destination), "#")
	if dest == "" || strings.Contains(dest, "://") || strings.HasPrefix(dest, "mailto:") {
		return destination, nil
	}
	file := path.Join(path.Dir(p.path), dest)
	info, err := os.Stat(filepath.Join(s.root, file))
	if err != nil {
		return nil, fmt.Errorf("link %s: %w", destination, err)
	}
	if info.IsDir() && s.pages[path.Join(file, "README.md")] != nil {
		file = path.Join(file, "README.md")
	}
	to := repository + "/blob/main/" + file
	switch other := s.pages[file]; {
	case other != nil:
		to = p.to(other.out)
	case info.IsDir():
		to = repository + "/tree/main/" + file
	case path.Ext(file) == ".svg":
		s.files[file], to = true, p.to(file)
	}
	if hasAnchor {
		to += "#" + anchor
	}
	return []byte(to), nil
}

// to returns the relative URL of another file of the site.
func (p *page) to(file string) string {
	rel, err := filepath.Rel(path.Dir(p.out), file)
	if err != nil {
		panic(err) // impossible: both are relative
	}
	return filepath.ToSlash(rel)
}

// group is a part of the navigation: an index page and the pages that it lists.
type group struct {
	index *page
	pages []entry
}

type entry struct {
	text string
	page *page
}

// navigation returns the pages that the indexes of docs and spec list in their tables,
// in the order of the tables.
func (s *site) navigation() ([]group, error) {
	var out []group
	for _, name := range []string{"docs/README.md", "spec/README.md"} {
		index := s.pages[name]
		if index == nil {
			return nil, fmt.Errorf("%s is missing", name)
		}
		g := group{index: index}
		err := ast.Walk(index.doc, func(n ast.Node, entering bool) (ast.WalkStatus, error) {
			l, ok := n.(*ast.Link)
			if !ok || !entering {
				return ast.WalkContinue, nil
			}
			file := path.Join(path.Dir(name), strings.TrimSuffix(string(l.Destination), "/"))
			p := s.pages[file]
			if p == nil {
				p = s.pages[path.Join(file, "README.md")]
			}
			listed := slices.ContainsFunc(g.pages, func(e entry) bool { return e.page == p })
			if p != nil && p != index && !listed && strings.HasPrefix(p.path, path.Dir(name)+"/") {
				g.pages = append(g.pages, entry{index.words(l), p})
			}
			return ast.WalkSkipChildren, nil
		})
		if err != nil {
			return nil, err
		}
		out = append(out, g)
	}
	return out, nil
}

// render returns a page as HTML.
func (s *site) render(p *page, nav []group) ([]byte, error) {
	var body bytes.Buffer
	if err := markdown.Renderer().Render(&body, p.source, p.doc); err != nil {
		return nil, err
	}
	tmpl, err := template.ParseFS(assets, "assets/page.html")
	if err != nil {
		return nil, err
	}
	type link struct {
		Text, URL string
		Here      bool
	}
	type part struct {
		link
		Pages []link
	}
	data := struct {
		Title, Root, Repository string
		Parts                   []part
		Contents                []link
		Body                    template.HTML
	}{Title: p.title, Root: p.to(".") + "/", Repository: repository, Body: template.HTML(body.String())}
	for _, g := range nav {
		pt := part{link: link{g.index.title, p.to(g.index.out), g.index == p}}
		for _, e := range g.pages {
			pt.Pages = append(pt.Pages, link{e.text, p.to(e.page.out), e.page == p})
		}
		data.Parts = append(data.Parts, pt)
	}
	for _, sec := range p.sections {
		if sec.level == 2 {
			data.Contents = append(data.Contents, link{Text: sec.heading, URL: "#" + sec.id})
		}
	}
	var out bytes.Buffer
	err = tmpl.Execute(&out, data)
	return out.Bytes(), err
}

// copy writes all files that are not pages: style, search and pictures.
func (s *site) copy(out string) error {
	type result struct {
		Title   string `json:"t"`
		Heading string `json:"h"`
		URL     string `json:"u"`
		Text    string `json:"x"`
	}
	var index []result
	names := []string{}
	for name := range s.pages {
		names = append(names, name)
	}
	slices.Sort(names)
	for _, name := range names {
		p := s.pages[name]
		for _, sec := range p.sections {
			index = append(index, result{p.title, sec.heading, p.out + "#" + sec.id, strings.TrimSpace(sec.text.String())})
		}
	}
	// A page from file:// may load a script, but not JSON.
	data, err := json.Marshal(index)
	if err != nil {
		return err
	}
	if err := write(filepath.Join(out, "index.js"), []byte("const searchIndex = "+string(data)+";\n")); err != nil {
		return err
	}
	for _, name := range []string{"site.css", "search.js"} {
		data, err := assets.ReadFile("assets/" + name)
		if err != nil {
			return err
		}
		if err := write(filepath.Join(out, name), data); err != nil {
			return err
		}
	}
	for file := range s.files {
		data, err := os.ReadFile(filepath.Join(s.root, file))
		if err != nil {
			return err
		}
		if err := write(filepath.Join(out, file), data); err != nil {
			return err
		}
	}
	return nil
}

func write(file string, data []byte) error {
	if err := os.MkdirAll(filepath.Dir(file), 0o755); err != nil {
		return err
	}
	return os.WriteFile(file, data, 0o644)
}
