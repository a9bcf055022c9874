package main

import (
	"fmt"
	"maps"
	"slices"
	"strings"

	"github.com/anchore/stereoscope/pkg/image"
	syftsbom "github.com/anchore/syft/syft/sbom"

	"github.com/colophon-build/colophon/internal/lazyregexp"
)

// unreadFiles returns the files that Syft could not read, and the archives in which it
// does not look.
func unreadFiles(s *syftsbom.SBOM, content *image.Image) []string {
	unread := map[string]bool{}
	for at, reasons := range s.Artifacts.Unknowns {
		if hidesPackages(reasons) {
			unread[at.RealPath] = true
		}
	}
	for _, f := range content.SquashedTree().AllFiles() {
		p := string(f.RealPath)
		if entry, err := content.FileCatalog.Get(f); err == nil && entry.Size() == 0 {
			delete(unread, p) // there is nothing to read, as in the database of an image without packages
		} else if unopened.MatchString(p) {
			unread[p] = true
		}
	}
	return slices.Collect(maps.Keys(unread))
}

// noCryptography begins the reason that Syft gives for a Go program without symbols, as those are
// that are linked with -s and an empty build id. Syft looks for the cryptography that was
// linked, and has read the list of modules by then.
const noCryptography = "go-module-binary-cataloger: unable to read golang version info: "

// hidesPackages reports whether a file may have packages that Syft does not list.
func hidesPackages(reasons []string) bool {
	return slices.ContainsFunc(reasons, func(r string) bool { return !strings.HasPrefix(r, noCryptography) })
}

// unopened matches the names of archives that Syft does not open. A file that is only
// compressed, such as a manual page, is no archive.
var unopened = lazyregexp.New(`(?i)\.(tar(\.[a-z0-9]{1,4})?|tgz|tbz2?|txz|tzst|7z|rar|cpio|cab)$`)

// maxUnread is the maximum number of unread files that the documents name.
const maxUnread = 1000

// named sorts the files and removes duplicates. Of more than maxUnread it says how many
// are not named.
func named(files []string) []string {
	slices.Sort(files)
	files = slices.Compact(files)
	if n := len(files) - maxUnread; n > 0 {
		files = append(files[:maxUnread:maxUnread], fmt.Sprintf("(and %d more files)", n))
	}
	return files
}
