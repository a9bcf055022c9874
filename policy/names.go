package policy

import (
	"fmt"
	"strings"
)

// Names gives images that were copied, as to a mirror, the names of their originals. A key is the
// beginning of a repository's name, REGISTRY/ or REGISTRY/NAME/, that the copies have. The value
// replaces it in the name that rules see: {"mirror.example.com/hub/": "docker.io/"}. The longest key counts.
// Only whoever writes the policies may choose them: a name decides which rules are about an image.
type Names map[string]string

// maxNames limits Names.
const maxNames = 1024

// Check fails if a key or a value is not the beginning of a name up to a slash, or if two keys are
// about the same repositories.
func (n Names) Check() error {
	if len(n) > maxNames {
		return fmt.Errorf("names: expected at most %d, found %d", maxNames, len(n))
	}
	seen := map[string]string{}
	for key, value := range n {
		for _, prefix := range []string{key, value} {
			if _, err := canonicalPrefix(prefix); err != nil {
				return err
			}
		}
		where, _ := canonicalPrefix(key)
		if other, twice := seen[where]; twice {
			return fmt.Errorf("names: %q and %q are about the same repositories", other, key)
		}
		seen[where] = key
	}
	return nil
}

// canonicalPrefix returns the beginning of Image.Name of the images under a prefix.
func canonicalPrefix(prefix string) (string, error) {
	host, _, slash := strings.Cut(prefix, "/")
	image, err := ParseImage(prefix + "x/x")
	if err != nil || !slash || !isHost(host) || !strings.HasSuffix(prefix, "/") || strings.Contains(prefix, "//") {
		return "", fmt.Errorf("names: expected REGISTRY/ or REGISTRY/NAME/, found %q", prefix)
	}
	return strings.TrimSuffix(image.Name, "x/x"), nil
}

// Image is ParseImage, with the name of what the image is. n must have passed its Check.
func (n Names) Image(reference string) (Image, error) {
	image, err := ParseImage(reference)
	if err != nil {
		return image, err
	}
	named, ok, err := n.replaced(image.Name)
	if err != nil {
		return Image{}, fmt.Errorf("%s: %w", reference, err)
	}
	if ok {
		image.Name = named
	}
	return image, nil
}

// Repository returns what stands in place of a repository, REGISTRY/NAME, or the repository itself if
// no key is about it. n must have passed its Check.
func (n Names) Repository(repository string) (string, error) {
	image, err := ParseImage(repository)
	if err != nil {
		return "", err
	}
	named, ok, err := n.replaced(image.Name)
	if err != nil || !ok {
		return repository, err
	}
	return named, nil
}

// replaced returns the name with its longest key replaced. ok is false if no key is about it.
func (n Names) replaced(name string) (out string, ok bool, err error) {
	longest, is := "", ""
	for key, value := range n {
		prefix, err := canonicalPrefix(key)
		if err != nil {
			return "", false, err
		}
		if strings.HasPrefix(name, prefix) && len(prefix) > len(longest) {
			longest, is = prefix, value
		}
	}
	if longest == "" {
		return name, false, nil
	}
	named := is + strings.TrimPrefix(name, longest)
	image, err := ParseImage(named)
	if err != nil {
		return "", false, fmt.Errorf("it is named %s: %w", named, err)
	}
	return image.Name, true, nil
}
