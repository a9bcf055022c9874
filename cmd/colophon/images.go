package main

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"strings"
	"unicode/utf8"

	"github.com/colophon-build/colophon/internal/limits"
	"github.com/colophon-build/colophon/internal/strict"
	"github.com/colophon-build/colophon/oci"
)

// stdin is the file name that means standard input.
const stdin = "-"

// target is one image to verify.
type target struct {
	name    string        // as the user or the document wrote it
	ref     oci.Reference // empty if there is a problem
	problem string        // why the image cannot be looked up; the verdict is undecided
}

// targets collects the images that one command verifies, without duplicates.
type targets struct {
	list  []target
	named int // images named so far, duplicates included
	seen  map[string]bool
}

func (ts *targets) add(t target) error {
	ts.named++
	key := t.ref.String()
	if t.problem != "" {
		key = "\x00" + t.name + "\x00" + t.problem
	}
	if ts.seen[key] {
		return nil
	}
	if len(ts.list) == limits.Images {
		return fmt.Errorf("more than %d images", limits.Images)
	}
	if ts.seen == nil {
		ts.seen = map[string]bool{}
	}
	ts.seen[key] = true
	ts.list = append(ts.list, t)
	return nil
}

// argument adds the image that a command line argument names.
func (ts *targets) argument(name string) error {
	ref, err := oci.ParseReference(name)
	if err != nil {
		return usageError("", "%v", err)
	}
	return ts.add(target{name: name, ref: ref})
}

// file adds the images of a list, a Kubernetes manifest or a compose file.
func (ts *targets) file(path string, in io.Reader) error {
	what := path
	if path == stdin {
		what = "standard input"
	} else {
		f, err := os.Open(path)
		if err != nil {
			return usageError("", "%v", err)
		}
		defer f.Close()
		in = f
	}
	raw, err := strict.Read(in, limits.ImageList)
	if err == nil {
		before := ts.named
		if err = ts.document(raw); err == nil && ts.named == before {
			err = errors.New("it names no image")
		}
	}
	if err != nil {
		return fmt.Errorf("%s: %w", what, err)
	}
	return nil
}

// document adds the images of a document. It tells the format by the content:
//
//	JSON     begins with "{"
//	YAML     the first line that is neither blank nor a comment begins with "---"
//	         or "%", contains white space, or ends in ":"
//	a list   anything else: image names have none of these
func (ts *targets) document(raw []byte) error {
	if !utf8.Valid(raw) || bytes.IndexByte(raw, 0) >= 0 {
		return errors.New("expected UTF-8 text")
	}
	if bytes.HasPrefix(bytes.TrimSpace(raw), []byte("{")) {
		var doc any
		if err := strict.Unmarshal(raw, limits.ImageList, &doc); err != nil {
			return err
		}
		return ts.object(doc)
	}
	for line := range bytes.Lines(raw) {
		line = bytes.TrimSpace(line)
		if len(line) == 0 || line[0] == '#' {
			continue
		}
		if bytes.HasPrefix(line, []byte("---")) || line[0] == '%' || bytes.HasSuffix(line, []byte(":")) || bytes.ContainsAny(uncomment(line), " \t") {
			return ts.yaml(raw)
		}
		break
	}
	return ts.lines(raw)
}

// lines reads a list. The grammar of a line, with white space around it:
//
//	[IMAGE] [SPACE "#" COMMENT]
//
// A layout must begin with "./", "../", "/" or "oci:". A name without a registry
// host is therefore an error, and is not taken for a directory.
func (ts *targets) lines(raw []byte) error {
	n := 0
	for line := range bytes.Lines(raw) {
		n++
		name := string(uncomment(bytes.TrimSpace(line)))
		if name == "" {
			continue
		}
		ref, err := oci.ParseReference(name)
		switch {
		case err != nil:
		case strings.ContainsAny(name, " \t"):
			err = fmt.Errorf("expected one image per line, found %q", name)
		case ref.Dir != "" && !isPath(name):
			err = fmt.Errorf("expected HOST/NAME or ./LAYOUT, found %q", name)
		default:
			err = ts.add(target{name: name, ref: ref})
		}
		if err != nil {
			return fmt.Errorf("line %d: %w", n, err)
		}
	}
	return nil
}

func uncomment(line []byte) []byte {
	if bytes.HasPrefix(line, []byte("#")) {
		return nil
	}
	for _, mark := range []string{" #", "\t#"} {
		if i := bytes.Index(line, []byte(mark)); i >= 0 {
			line = line[:i]
		}
	}
	return bytes.TrimSpace(line)
}

func isPath(name string) bool {
	for _, prefix := range []string{"./", "../", "/", "oci:"} {
		if strings.HasPrefix(name, prefix) {
			return true
		}
	}
	return false
}

// tags adds every tag of a repository. It skips the tags that hold attachments
// of images, and returns how many it skipped.
func (ts *targets) tags(ctx context.Context, repo string) (attachments int, err error) {
	reg, err := oci.OpenRegistry(repo, oci.RegistryOptions{})
	if err != nil {
		return 0, usageError("", "%v", err)
	}
	tags, attachments, err := reg.Tags(ctx)
	if err != nil {
		return 0, err
	}
	if len(tags) == 0 {
		return 0, fmt.Errorf("%s has no tags", repo)
	}
	for _, tag := range tags {
		ref := oci.Reference{Repository: repo, Tag: tag}
		if err := ts.add(target{name: ref.String(), ref: ref}); err != nil {
			return 0, err
		}
	}
	return attachments, nil
}
