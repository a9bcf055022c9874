package policy

import (
	"encoding/hex"
	"errors"
	"fmt"
	"strings"

	"github.com/google/go-containerregistry/pkg/name"

	"github.com/colophon-build/colophon/internal/lazyregexp"
)

// Image names an image as rules of a Set see it: by its canonical name. The zero Image, of
// a layout or a file, has no name.
type Image struct {
	Name   string // REGISTRY/NAME in canonical form, as in index.docker.io/library/nginx; empty: it has none
	Tag    string // as it was asked for; empty: by digest
	Digest string // "sha256:HEX" that the name was resolved to
}

// ParseImage returns the Image that a reference to a registry names, NAME[:TAG][@sha256:HEX].
// As docker and Kubernetes do, it takes nginx for index.docker.io/library/nginx, and nginx
// without tag and digest for nginx:latest; and it ignores a tag beside a digest, which may be
// any text. A registry has one name, whatever the case of the letters, with :443 or without.
func ParseImage(reference string) (Image, error) {
	named, digest, pinned := strings.Cut(reference, "@")
	host, path, _ := strings.Cut(named, "/")
	if path != "" && isHost(host) {
		host, err := canonicalHost(host)
		if err != nil {
			return Image{}, fmt.Errorf("policy: image: %w", err)
		}
		named = host + "/" + path
	}
	ref, err := name.ParseReference(named, name.WeakValidation)
	if err != nil {
		return Image{}, fmt.Errorf("policy: image: %w", err)
	}
	out := Image{Name: ref.Context().Name()}
	if !pinned {
		out.Tag = ref.Identifier()
		return out, nil
	}
	if err := checkDigest(digest); err != nil {
		return Image{}, fmt.Errorf("policy: image: %w", err)
	}
	out.Digest = digest
	return out, nil
}

// isHost reports whether what stands before the first slash of a name is a registry, and not
// the beginning of a name on Docker Hub.
func isHost(first string) bool { return strings.ContainsAny(first, ".:") || first == "localhost" }

// validHost has one spelling of each host in lower case: no empty label, as after a dot at the
// end; no letters that a resolver maps to others; no port that begins with 0.
var validHost = lazyregexp.New(`^([a-z0-9_-]+(\.[a-z0-9_-]+)*|\[[0-9a-f:.]+\])(:[1-9][0-9]{0,4})?$`)

// canonicalHost returns the one name of a registry, HOST[:PORT].
func canonicalHost(host string) (string, error) {
	lower := strings.ToLower(host)
	if !validHost.MatchString(lower) {
		return "", fmt.Errorf("registry: got %q, want HOST or HOST:PORT, without a dot at the end", host)
	}
	switch lower = strings.TrimSuffix(lower, ":443"); lower {
	case "docker.io", "registry-1.docker.io", "registry.hub.docker.com":
		return name.DefaultRegistry, nil
	}
	return lower, nil
}

func checkDigest(digest string) error {
	hexed, ok := strings.CutPrefix(digest, "sha256:")
	if raw, err := hex.DecodeString(hexed); !ok || err != nil || len(raw) != 32 || hexed != strings.ToLower(hexed) {
		return fmt.Errorf("digest: got %q, want sha256:HEX", digest)
	}
	return nil
}

// ImagePattern says which images a rule or an exemption is about. An image must match all
// fields that are not empty; Glob or Digest is required.
type ImagePattern struct {
	// Glob is matched with NAME@sha256:HEX as a whole, by the rules of ClusterImagePolicy: "**"
	// stands for any text, "*" for any text without "/". "*" alone means
	// index.docker.io/library/*, and "*/*" means index.docker.io/*/*.
	Glob   string
	Tag    string // glob, in which "*" stands for any text. An image that is named by digest does not match
	Digest string // "sha256:HEX"
}

// maxGlob limits the length of a glob in bytes.
const maxGlob = 512

var (
	validGlob    = lazyregexp.New(`^[a-z0-9_:/*.@-]+$`)
	validTagGlob = lazyregexp.New(`^[a-zA-Z0-9_.*-]+$`)
)

func (p ImagePattern) check() error {
	switch {
	case p.Glob == "" && p.Digest == "":
		return errors.New("image: want a glob or a digest")
	case len(p.Glob) > maxGlob || len(p.Tag) > maxGlob:
		return fmt.Errorf("image: got a glob of more than %d bytes", maxGlob)
	case p.Glob != "" && !validGlob.MatchString(p.Glob):
		return fmt.Errorf("image: glob: got %q, want lower-case letters, digits and any of - _ : / * . @", p.Glob)
	case p.Tag != "" && !validTagGlob.MatchString(p.Tag):
		return fmt.Errorf("image: tag: got %q, want letters, digits and any of - _ . *", p.Tag)
	}
	if p.Digest != "" {
		if err := checkDigest(p.Digest); err != nil {
			return fmt.Errorf("image: %w", err)
		}
	}
	return p.checkReaches()
}

// checkReaches fails for the globs that seem right and match no image: they have another name
// of the registry than the canonical one, or none; a tag; or no digest.
func (p ImagePattern) checkReaches() error {
	if p.Glob == "" || p.everything() || p.canonical() != p.Glob {
		return nil
	}
	host, path, slash := strings.Cut(p.Glob, "/")
	if !strings.Contains(host, "**") {
		if err := p.checkHost(host, path, slash); err != nil {
			return err
		}
	}
	for segment := range strings.SplitSeq(path, "/") {
		// What is not before a star or the digest can only be a tag.
		if i := strings.IndexAny(segment, ":*@"); i >= 0 && segment[i] == ':' {
			return fmt.Errorf("image: glob: %q matches no image: globs are matched with NAME@DIGEST, without the tag: use the member tag", p.Glob)
		}
	}
	last := p.Glob[strings.LastIndexByte(p.Glob, '/')+1:]
	if !strings.HasSuffix(last, "*") && !strings.Contains(last, "@") {
		return fmt.Errorf("image: glob: %q matches no image: globs are matched with NAME@DIGEST: write %q", p.Glob, p.Glob+"@*")
	}
	return nil
}

// checkHost fails if the part of the glob before the first slash is no registry's name. The
// part has no "**", and so stands for nothing that has a slash.
func (p ImagePattern) checkHost(host, path string, slash bool) error {
	switch {
	case !slash:
		return fmt.Errorf("image: glob: %q matches no image: names have a slash after the registry, which * does not stand for: write %q", p.Glob, strings.TrimRight(host, "*")+"/**")
	case strings.HasSuffix(host, ":443"):
		return fmt.Errorf("image: glob: %q matches no image: registries are named without :443", p.Glob)
	case strings.Contains(host, "*"):
		return nil
	case !isHost(host):
		return fmt.Errorf("image: glob: %q matches no image: names begin with the registry: write %q", p.Glob, name.DefaultRegistry+"/"+p.Glob)
	}
	canonical, err := canonicalHost(host)
	switch {
	case err != nil:
		return fmt.Errorf("image: glob: %w", err)
	case canonical != host:
		return fmt.Errorf("image: glob: %q matches no image: the canonical name of %s is %s", p.Glob, host, canonical)
	case host == name.DefaultRegistry && !strings.Contains(path, "/") && !strings.Contains(path, "**"):
		return fmt.Errorf("image: glob: %q matches no image: the canonical name is %q", p.Glob, host+"/library/"+path)
	}
	return nil
}

// Matches reports whether the pattern is about an image.
func (p ImagePattern) Matches(image Image) bool {
	switch {
	case p.Digest != "" && p.Digest != image.Digest:
		return false
	case p.Tag != "" && (image.Tag == "" || !match(p.Tag, image.Tag, true)):
		return false
	case p.Glob == "":
		return p.Digest != ""
	case p.everything():
		return true
	case image.Name == "": // no name, not one that a glob such as *@* describes
		return false
	}
	return match(p.canonical(), image.Name+"@"+image.Digest, false)
}

// everything reports whether the glob matches every image.
func (p ImagePattern) everything() bool { return strings.Trim(p.Glob, "*") == "" && len(p.Glob) > 1 }

func (p ImagePattern) canonical() string {
	switch p.Glob {
	case "*/*":
		return "index.docker.io/*/*"
	case "*":
		return "index.docker.io/library/*"
	}
	return p.Glob
}

// String returns the pattern in words.
func (p ImagePattern) String() string {
	var out []string
	if p.Glob != "" {
		out = append(out, p.Glob)
	}
	if p.Tag != "" {
		out = append(out, "tag "+p.Tag)
	}
	if p.Digest != "" {
		out = append(out, p.Digest)
	}
	return strings.Join(out, ", ")
}

// match reports whether glob describes the whole text. Each star of a pair stands for any
// text; a single one for any without "/", unless all is set. It takes time in proportion to
// the product of the lengths.
func match(glob, text string, all bool) bool {
	literal := strings.IndexByte(glob, '*')
	if literal < 0 {
		return glob == text
	}
	if !strings.HasPrefix(text, glob[:literal]) {
		return false
	}
	glob, text = glob[literal:], text[literal:]
	switch glob { // most globs end so
	case "**":
		return true
	case "*":
		return all || !strings.Contains(text, "/")
	}
	// at[i] says that the first i bytes of glob can describe the text so far.
	at := make([]bool, len(glob)+1)
	at[0] = true
	crosses := crossing(glob)
	skip(at, glob)
	for i := 0; i < len(text); i++ {
		// Backwards, so that at[j-1] is still that of the text before this byte.
		for j := len(glob); j >= 1; j-- {
			at[j] = at[j-1] && glob[j-1] == text[i] && glob[j-1] != '*' ||
				at[j] && glob[j-1] == '*' && (all || text[i] != '/' || crosses[j-1])
		}
		at[0] = false
		skip(at, glob)
	}
	return at[len(glob)]
}

// skip lets stars stand for nothing.
func skip(at []bool, glob string) {
	for j := range len(glob) {
		at[j+1] = at[j+1] || at[j] && glob[j] == '*'
	}
}

// crossing returns for each byte of a glob whether it is a star of a pair: of three stars, the
// first two are the pair.
func crossing(glob string) []bool {
	out := make([]bool, len(glob))
	for i := 0; i+1 < len(glob); i++ {
		if glob[i] == '*' && glob[i+1] == '*' {
			out[i], out[i+1] = true, true
			i++
		}
	}
	return out
}
