package policy

import (
	"encoding/hex"
	"errors"
	"fmt"
	"regexp"
	"strings"

	"github.com/google/go-containerregistry/pkg/name"
)

// Image names an image as rules of a Set see it: by its canonical name. The zero Image, of
// a layout or a file, has no name.
type Image struct {
	Name   string // REGISTRY/NAME in canonical form, as in index.docker.io/library/nginx; empty: it has none
	Tag    string // as it was asked for; empty: by digest alone
	Digest string // "sha256:HEX" that the name was resolved to
}

// ParseImage returns the Image that a reference to a registry names, NAME[:TAG][@sha256:HEX].
// As docker and Kubernetes do, it takes nginx for index.docker.io/library/nginx, and nginx
// without tag and digest for nginx:latest.
func ParseImage(reference string) (Image, error) {
	named, digest, pinned := strings.Cut(reference, "@")
	ref, err := name.ParseReference(named, name.WeakValidation)
	if err != nil {
		return Image{}, fmt.Errorf("policy: image: %w", err)
	}
	out := Image{Name: ref.Context().Name()}
	// A colon after the last slash begins a tag, and before it a port.
	if !pinned || strings.LastIndexByte(named, ':') > strings.LastIndexByte(named, '/') {
		out.Tag = ref.Identifier()
	}
	if pinned {
		if err := checkDigest(digest); err != nil {
			return Image{}, fmt.Errorf("policy: image: %w", err)
		}
		out.Digest = digest
	}
	return out, nil
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
	Tag    string // glob, in which "*" stands for any text. An image that is named by digest alone does not match
	Digest string // "sha256:HEX"
}

// maxGlob limits the length of a glob in bytes.
const maxGlob = 512

var (
	validGlob    = regexp.MustCompile(`^[a-zA-Z0-9_:/*.@-]+$`)
	validTagGlob = regexp.MustCompile(`^[a-zA-Z0-9_.*-]+$`)
)

func (p ImagePattern) check() error {
	switch {
	case p.Glob == "" && p.Digest == "":
		return errors.New("image: want a glob or a digest")
	case len(p.Glob) > maxGlob || len(p.Tag) > maxGlob:
		return fmt.Errorf("image: got a glob of more than %d bytes", maxGlob)
	case p.Glob != "" && !validGlob.MatchString(p.Glob):
		return fmt.Errorf("image: glob: got %q, want letters, digits and any of - _ : / * . @", p.Glob)
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

// checkReaches fails for the globs that seem right and match no image: they end in a tag, or
// in a name without its digest.
func (p ImagePattern) checkReaches() error {
	last := p.Glob[strings.LastIndexByte(p.Glob, '/')+1:]
	switch {
	case p.Glob == "" || strings.HasSuffix(p.Glob, "*") || strings.Contains(last, "@"):
	case strings.Contains(last, ":"):
		return fmt.Errorf("image: glob: %q matches no image: globs are matched with NAME@DIGEST, without the tag: use the member tag", p.Glob)
	default:
		return fmt.Errorf("image: glob: %q matches no image: globs are matched with NAME@DIGEST: write %q", p.Glob, p.Glob+"@*")
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
	// at[i] says that the first i bytes of glob can describe the text so far.
	at := make([]bool, len(glob)+1)
	at[0] = true
	skip(at, glob)
	for i := 0; i < len(text); i++ {
		// Backwards, so that at[j-1] is still that of the text before this byte.
		for j := len(glob); j >= 1; j-- {
			at[j] = at[j-1] && glob[j-1] == text[i] && glob[j-1] != '*' ||
				at[j] && glob[j-1] == '*' && (all || text[i] != '/' || pair(glob, j-1))
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

// pair reports whether the star at i is one of two: of three, the first two are the pair.
func pair(glob string, i int) bool {
	first := i
	for first > 0 && glob[first-1] == '*' {
		first--
	}
	last := i
	for last+1 < len(glob) && glob[last+1] == '*' {
		last++
	}
	n := last - first + 1
	return n%2 == 0 || i < last
}
