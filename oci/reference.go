package oci

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"strings"

	"github.com/google/go-containerregistry/pkg/name"
	v1 "github.com/google/go-containerregistry/pkg/v1"

	"github.com/colophon-build/colophon/internal/lazyregexp"
)

// Reference is the name of an image. In its grammar, DIR is the path of a directory
// or tar file:
//
//	IMAGE  = HOST "/" NAME [":" TAG] ["@" DIGEST]
//	LAYOUT = ["oci:"] DIR [":" TAG] ["@" DIGEST]
//	HOST   = "localhost" | a name with "." or ":"
//
// A name is an IMAGE if its first component is a HOST. Any other name, or one that
// begins with "oci:", "/", "./" or "../", is a LAYOUT. What is on the disk does not
// matter, so nobody changes the meaning of a command by creating a directory.
type Reference struct {
	Repository string // HOST/NAME; empty for a layout
	Dir        string // path of the layout; empty for a repository
	Tag        string // empty if the name has none
	Digest     string // "sha256:HEX"; empty if the name has none
}

// Grammars of the distribution spec 1.1, "Pulling manifests", and of hosts.
var (
	tagGrammar  = lazyregexp.New(`^[A-Za-z0-9_][A-Za-z0-9._-]{0,127}$`)
	hostGrammar = lazyregexp.New(`^([A-Za-z0-9]([A-Za-z0-9.-]*[A-Za-z0-9])?|\[[0-9a-fA-F:]+\])(:[0-9]{1,5})?$`)
	nameGrammar = lazyregexp.New(`^[a-z0-9]+((\.|_|__|-+)[a-z0-9]+)*(/[a-z0-9]+((\.|_|__|-+)[a-z0-9]+)*)*$`)
)

func parseRepository(s string) (name.Repository, error) {
	host, path, _ := strings.Cut(s, "/")
	if !startsWithHost(s) || !hostGrammar.MatchString(host) || !nameGrammar.MatchString(path) || len(s) > 255 {
		if lower := host + "/" + strings.ToLower(path); startsWithHost(s) && lower != s && nameGrammar.MatchString(strings.ToLower(path)) {
			return name.Repository{}, fmt.Errorf("repository %q: want a name in lower case, such as %s", s, lower)
		}
		return name.Repository{}, fmt.Errorf("repository %q: want HOST/NAME", s)
	}
	return name.NewRepository(s, name.StrictValidation)
}

// ParseReference parses an IMAGE or LAYOUT. It adds no default tag.
func ParseReference(s string) (Reference, error) {
	rest, digest, hasDigest := strings.Cut(s, "@")
	var r Reference
	if hasDigest {
		h, err := v1.NewHash(digest)
		if err != nil {
			return r, fmt.Errorf("image %q: %w", s, err)
		}
		r.Digest = h.String()
	}
	place := strings.TrimPrefix(rest, "oci:")
	layout := place != rest || !startsWithHost(rest)
	if i := strings.LastIndexByte(place, ':'); i > strings.LastIndexByte(place, '/') && (layout || strings.Contains(place, "/")) {
		r.Tag, place = place[i+1:], place[:i]
		if !tagGrammar.MatchString(r.Tag) {
			return Reference{}, fmt.Errorf("image %q: tag %q is not a tag", s, r.Tag)
		}
	}
	if layout {
		if place == "" {
			return Reference{}, fmt.Errorf("image %q names no directory", s)
		}
		r.Dir = place // not cleaned: a cleaned path could parse as something else
		return r, nil
	}
	if _, err := parseRepository(place); err != nil {
		return Reference{}, fmt.Errorf("image %q: %w", s, err)
	}
	r.Repository = place
	return r, nil
}

func startsWithHost(s string) bool {
	host, _, slash := strings.Cut(s, "/")
	if host == "" || host == "." || host == ".." || !slash {
		return false
	}
	return host == "localhost" || strings.ContainsAny(host, ".:")
}

// Identifier returns the argument for Source.Resolve: the digest, or else the tag, or
// else "latest" for a repository and "" (the only image) for a layout.
func (r Reference) Identifier() string {
	switch {
	case r.Digest != "":
		return r.Digest
	case r.Tag != "":
		return r.Tag
	case r.Dir != "":
		return ""
	}
	return "latest"
}

// String returns a name that ParseReference parses to r again.
func (r Reference) String() string {
	s := r.Repository
	if r.Dir != "" {
		s = r.Dir
	}
	if r.Tag != "" {
		s += ":" + r.Tag
	}
	if r.Digest != "" {
		s += "@" + r.Digest
	}
	if r.Dir != "" && (startsWithHost(s) || strings.HasPrefix(s, "oci:")) {
		s = "oci:" + s
	}
	return s
}

// Open opens the repository or layout that r names, without sending anything. The
// caller closes a *Layout. An archive by docker before version 25 gives
// ErrNoManifest.
func (r Reference) Open(opts RegistryOptions) (Source, error) {
	if r.Dir != "" {
		open := OpenLayout
		if info, err := os.Stat(r.Dir); err == nil && !info.IsDir() {
			open = openArchive
		}
		l, err := open(r.Dir)
		if errors.Is(err, fs.ErrNotExist) {
			return nil, fmt.Errorf("%w; an image is HOST/NAME, with the registry's host", err)
		}
		if err != nil {
			return nil, err
		}
		return l, nil
	}
	return OpenRegistry(r.Repository, opts)
}
