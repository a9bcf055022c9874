// Package pypi compares the names of Python packages, and reads those of their archives.
package pypi

import (
	"path"
	"strings"

	"github.com/colophon-build/colophon/internal/lazyregexp"
)

var hyphens = lazyregexp.New(`[-_.]+`)

// Name returns the name of a package as registries compare it (PEP 503).
func Name(name string) string {
	return hyphens.ReplaceAllString(strings.ToLower(name), "-")
}

// Requirements reports whether a path is that of pip's list of what to install, as far as names tell.
func Requirements(file string) bool {
	dir, base := path.Split(file)
	return strings.HasSuffix(base, ".txt") && (strings.HasPrefix(base, "requirements") || path.Base(dir) == "requirements")
}

// PackageURL returns the package URL of a version (github.com/package-url/purl-spec), without percent-encoding.
func PackageURL(name, version string) string { return "pkg:pypi/" + Name(name) + "@" + version }

// Archive returns the package URL of the version whose archive has a name: that of a wheel,
// NAME-VERSION-….whl, or a source distribution, NAME-VERSION.tar.gz or .zip (packaging.python.org, Binary
// distribution format and Source distribution format). It is empty for other files.
func Archive(file string) string {
	var name, version string
	if rest, wheel := strings.CutSuffix(file, ".whl"); wheel {
		if part := strings.SplitN(rest, "-", 3); len(part) == 3 {
			name, version = part[0], part[1]
		}
	} else if i := strings.LastIndexByte(file, '-'); i >= 0 { // names in old archives have hyphens
		for _, end := range []string{".tar.gz", ".zip"} {
			if rest, has := strings.CutSuffix(file[i+1:], end); has {
				name, version = file[:i], rest
			}
		}
	}
	if name == "" || version == "" {
		return ""
	}
	return PackageURL(name, version)
}
