// Package recipes reads how a commit says that its images are built: from the file
// .colophon.yaml at the top of its tree (spec/recipes), or else from the Dockerfile or
// go.mod there. What it returns is the commit's word, which no requester of a build can
// change.
package recipes

import (
	"bytes"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path"
	"reflect"
	"strconv"
	"strings"
	"unicode/utf8"

	"go.yaml.in/yaml/v3"

	"github.com/colophon-build/colophon/attest"
	"github.com/colophon-build/colophon/internal/lazyregexp"
	"github.com/colophon-build/colophon/internal/strict"
)

// File is the path of the file in the tree.
const File = ".colophon.yaml"

// Limits on the file.
const (
	maxFile   = 64 << 10 // bytes
	maxImages = 256
	maxIgnore = 256
)

// document is the content of the file.
type document struct {
	Schema  string  `yaml:"$schema,omitempty"` // address of a JSON Schema, for editors: it decides nothing
	Version int     `yaml:"version"`           // 1
	Images  []image `yaml:"images,omitempty"`
	Lint    *lint   `yaml:"lint,omitempty"`
}

// image is how one image is built. At most one of the builders' fields may be set.
type image struct {
	Name      string   `yaml:"name,omitempty"`      // repository, or the end of it: "app" or "team/app". Required if there are several images
	Context   string   `yaml:"context,omitempty"`   // both builders
	Platforms []string `yaml:"platforms,omitempty"` // both builders

	Dockerfile string            `yaml:"dockerfile,omitempty"` // buildkit
	Target     string            `yaml:"target,omitempty"`     // buildkit
	BuildArgs  map[string]string `yaml:"buildArgs,omitempty"`  // buildkit
	Package    string            `yaml:"package,omitempty"`    // golang
}

// Default returns how the commit whose tree is in a directory says that an image is
// built, or nil if it does not say. name is that of the image, REGISTRY/NAME.
func Default(tree, name string) (*attest.DefaultRecipe, error) {
	root, err := os.OpenRoot(tree)
	if err != nil {
		return nil, err
	}
	defer root.Close()
	images, raw, err := declared(root)
	if errors.Is(err, fs.ErrNotExist) {
		return undeclared(root), nil
	} else if err != nil {
		return nil, err
	}
	sum := sha256.Sum256(raw)
	var found *attest.DefaultRecipe
	for _, i := range images {
		d := &attest.DefaultRecipe{File: File, Digest: "sha256:" + hex.EncodeToString(sum[:]), Image: i.Name}
		if !d.For(name) || found != nil && len(found.Image) > len(i.Name) { // team/app wins over app
			continue
		}
		if d.Recipe = i.recipe(); d.Recipe.Builder == "" {
			if d.Recipe.Builder = BuilderOf(root, d.Recipe.Context); d.Recipe.Builder == "" {
				return nil, fmt.Errorf("%s: image %q names neither a dockerfile nor a package, and %s has neither a Dockerfile nor a go.mod", File, i.Name, place(i.Context))
			}
			d.Recipe = d.Recipe.Filled()
		}
		found = d
	}
	if found == nil {
		return undeclared(root), nil
	}
	return found, nil
}

// Names returns the names of the images that the commit whose tree is in a directory
// declares, in the order of the file. It returns none if the commit has no such file. The
// name is empty if the file has one image without a name.
func Names(tree string) (names []string, err error) {
	root, err := os.OpenRoot(tree)
	if err != nil {
		return nil, err
	}
	defer root.Close()
	images, _, err := declared(root)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil
	}
	for _, i := range images {
		names = append(names, i.Name)
	}
	return names, err
}

// declared reads the file. The error matches fs.ErrNotExist if there is none.
func declared(root *os.Root) ([]image, []byte, error) {
	raw, err := read(root)
	var images []image
	if err == nil {
		images, err = parse(raw)
	}
	if err != nil {
		return nil, nil, strict.In(File, err)
	}
	return images, raw, nil
}

// undeclared returns the recipe of a tree without the file, or nil if it has none.
func undeclared(root *os.Root) *attest.DefaultRecipe {
	builder := BuilderOf(root, "")
	if builder == "" {
		return nil
	}
	return &attest.DefaultRecipe{Recipe: attest.Recipe{Builder: builder}.Filled()}
}

// BuilderOf returns the builder of a tree, or of the context in it, for which no recipe
// names one: buildkit if there is a Dockerfile, golang if there is a go.mod, else "".
func BuilderOf(tree *os.Root, context string) string {
	if _, err := tree.Lstat(path.Join(context, "Dockerfile")); err == nil {
		return attest.BuildKit
	}
	if _, err := tree.Lstat(path.Join(context, "go.mod")); err == nil {
		return attest.Golang
	}
	return ""
}

func place(context string) string {
	if context = path.Clean(context); context != "." {
		return "the context " + context
	}
	return "the top of the tree"
}

// read returns the content of the file. A link is refused: its target could be outside
// of the tree, or change without the file.
func read(root *os.Root) ([]byte, error) {
	info, err := root.Lstat(File)
	if err != nil {
		return nil, err
	}
	if !info.Mode().IsRegular() {
		return nil, errors.New("want a regular file")
	}
	f, err := root.Open(File)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	return strict.Read(f, maxFile)
}

var nameRE = lazyregexp.New(`^[a-z0-9]+([._-]+[a-z0-9]+)*(/[a-z0-9]+([._-]+[a-z0-9]+)*)*$`)

// parse parses the file strictly: one YAML document with known members only, each once,
// and without anchors, aliases and tags, which two readers may understand differently.
func parse(raw []byte) ([]image, error) {
	d, _, err := decode(raw)
	if err != nil {
		return nil, err
	}
	return d.Images, nil
}

// decode returns the content of the file, and its YAML.
func decode(raw []byte) (*document, *yaml.Node, error) {
	if len(raw) > maxFile {
		return nil, nil, fmt.Errorf("got %d bytes, want at most %d", len(raw), maxFile)
	}
	if !utf8.Valid(raw) {
		return nil, nil, errors.New("not UTF-8")
	}
	dec := yaml.NewDecoder(bytes.NewReader(raw))
	var node yaml.Node
	if err := dec.Decode(&node); errors.Is(err, io.EOF) {
		return nil, nil, errors.New("the file is empty")
	} else if err != nil {
		return nil, nil, syntaxFault(err)
	}
	if err := dec.Decode(new(yaml.Node)); !errors.Is(err, io.EOF) {
		return nil, nil, errors.New("got more than one YAML document")
	}
	if err := checkNode(&node); err != nil {
		return nil, nil, err
	}
	if len(node.Content) == 1 {
		if err := checkNames(node.Content[0], reflect.TypeFor[document](), "the file"); err != nil {
			return nil, nil, err
		}
	}
	var d document
	dec = yaml.NewDecoder(bytes.NewReader(raw))
	dec.KnownFields(true)
	if err := dec.Decode(&d); err != nil {
		return nil, nil, errors.New("it is not the YAML of a recipe") // checkNames found nothing
	}
	switch n := len(d.Images); {
	case d.Version != 1:
		return nil, nil, fmt.Errorf("version: got %d, want 1", d.Version)
	case n > maxImages || n == 0 && d.Lint == nil:
		return nil, nil, fmt.Errorf("images: got %d, want 1 to %d", n, maxImages)
	}
	if err := checkImages(d.Images); err != nil {
		return nil, nil, err
	}
	if err := d.Lint.check(); err != nil {
		return nil, nil, err
	}
	return &d, &node, nil
}

func checkImages(images []image) error {
	names := map[string]bool{}
	for _, i := range images {
		switch {
		case i.Name == "" && len(images) > 1:
			return errors.New("images: got several and one without a name, want a name for each")
		case i.Name != "" && !nameRE.MatchString(i.Name) || len(i.Name) > 255:
			return fmt.Errorf("image: got name %q, want that of a repository, such as team/app", i.Name)
		case names[i.Name]:
			return fmt.Errorf("image %q: got it twice, want it once", i.Name)
		}
		names[i.Name] = true
		if err := i.check(); err != nil {
			return fmt.Errorf("image %q: %w", i.Name, err)
		}
	}
	return nil
}

// checkNames fails unless n has the form of a value of type t, with known members only,
// each once.
func checkNames(n *yaml.Node, t reflect.Type, what string) error {
	if t.Kind() == reflect.Pointer {
		t = t.Elem()
	}
	wanted := map[reflect.Kind]struct {
		kind yaml.Kind
		name string
	}{reflect.Struct: {yaml.MappingNode, "a mapping"}, reflect.Map: {yaml.MappingNode, "a mapping"}, reflect.Slice: {yaml.SequenceNode, "a list"}}[t.Kind()]
	if wanted.kind == 0 {
		wanted.kind, wanted.name = yaml.ScalarNode, "a value"
	}
	if n.Kind != wanted.kind {
		return fault(n, "%s: want %s", what, wanted.name)
	}
	switch t.Kind() {
	case reflect.Slice:
		for _, c := range n.Content {
			if err := checkNames(c, t.Elem(), what); err != nil {
				return err
			}
		}
	case reflect.Map, reflect.Struct:
		seen := map[string]bool{}
		for i := 0; i+1 < len(n.Content); i += 2 {
			name, of := n.Content[i], t
			if seen[name.Value] {
				return fault(name, "duplicate member %q", name.Value)
			}
			seen[name.Value] = true
			if t.Kind() == reflect.Map {
				of = t.Elem()
			} else if of = fieldOf(t, name.Value); of == nil {
				return fault(name, "there is no member %q%s", name.Value, meant(name.Value, t))
			}
			if err := checkNames(n.Content[i+1], of, name.Value); err != nil {
				return err
			}
		}
	}
	return nil
}

// syntaxRE matches the library's errors about a file that is not YAML.
var syntaxRE = lazyregexp.New(`^yaml: line ([0-9]+): `)

// syntaxFault returns where a file stops being YAML, in our words.
func syntaxFault(err error) error {
	f := &strict.Fault{Line: 1, Column: 1, What: "it is not YAML here: check indentation, colons and quotes"}
	if m := syntaxRE.FindStringSubmatch(err.Error()); m != nil {
		f.Line, _ = strconv.Atoi(m[1]) // digits
	}
	return f
}

func fault(n *yaml.Node, format string, args ...any) error {
	return &strict.Fault{Line: n.Line, Column: n.Column, What: fmt.Sprintf(format, args...)}
}

func memberOf(f reflect.StructField) string {
	name, _, _ := strings.Cut(f.Tag.Get("yaml"), ",")
	return name
}

// fieldOf returns the type of a member, or nil.
func fieldOf(t reflect.Type, name string) reflect.Type {
	for _, f := range reflect.VisibleFields(t) {
		if memberOf(f) == name {
			return f.Type
		}
	}
	return nil
}

// meant suggests the member that somebody meant.
func meant(name string, t reflect.Type) string {
	var known []string
	for _, f := range reflect.VisibleFields(t) {
		known = append(known, memberOf(f))
	}
	if near := strict.Nearest(name, known); near != "" {
		return fmt.Sprintf("; did you mean %q?", near)
	}
	return ""
}

// checkNode refuses anchors, aliases, explicit tags and null. All values but the version
// must be strings to every reader: 1.10 must be written as "1.10".
func checkNode(n *yaml.Node) error {
	switch {
	case n.Kind == yaml.AliasNode || n.Anchor != "":
		return fault(n, "got an anchor or alias, want none")
	case n.Style&yaml.TaggedStyle != 0:
		return fault(n, "got the tag %s, want none", n.Tag)
	case n.Kind == yaml.ScalarNode && n.Tag != "!!str" && n.Tag != "!!int":
		return fault(n, "got %s, want a string: put it in quotes", n.Value)
	}
	for i, child := range n.Content {
		isVersion := n.Kind == yaml.MappingNode && i%2 == 1 && n.Content[i-1].Value == "version"
		if child.Kind == yaml.ScalarNode && child.Tag == "!!int" && !isVersion {
			return fault(child, "got %s, want a string: put it in quotes", child.Value)
		}
		if err := checkNode(child); err != nil {
			return err
		}
	}
	return nil
}

// builder returns the builder whose fields are set, or "".
func (i image) builder() string {
	switch {
	case i.Package != "":
		return attest.Golang
	case i.Dockerfile != "" || i.Target != "" || len(i.BuildArgs) > 0:
		return attest.BuildKit
	}
	return ""
}

func (i image) recipe() attest.Recipe {
	return attest.Recipe{Builder: i.builder(), Context: i.Context, Platforms: i.Platforms, Dockerfile: i.Dockerfile, Target: i.Target, BuildArgs: i.BuildArgs, Package: i.Package}.Filled()
}

func (i image) check() error {
	if i.Package != "" && (i.Dockerfile != "" || i.Target != "" || len(i.BuildArgs) > 0) {
		return errors.New("got a package and a dockerfile, target or build argument: no builder has both")
	}
	return i.recipe().Check()
}
