package attest

import (
	"fmt"
	"slices"
	"strings"

	"github.com/colophon-build/colophon/internal/lazyregexp"
)

// IsFiles reports whether provenance of a build type is about release files, and not an image.
func IsFiles(buildType string) bool {
	return buildType == BuildTypeFiles || buildType == BuildTypeDockerfileFiles
}

// FilesArtifactType is the artifact type of the manifest that lists the files of a release
// (spec/files/v1, "The manifest"): one layer for each file, with its name as TitleAnnotation.
const FilesArtifactType = "application/vnd.colophon.files.v1"

// TitleAnnotation has the name of the file that a layer is (OCI image spec, annotations.md).
const TitleAnnotation = "org.opencontainers.image.title"

// fileSystems are the operating systems (GOOS) for which release files are built.
var fileSystems = []string{"darwin", "freebsd", "linux", "netbsd", "openbsd", "windows"}

// SBOMBundleEnding is the ending of a bundle with an SBOM of the file before it.
const SBOMBundleEnding = ".spdx.sigstore.json"

// BundleEndings returns the endings of the names of files with bundles: NAME.sigstore.json is
// about the file NAME beside it.
func BundleEndings() []string {
	return []string{".sigstore.json", ".sigstore", ".sigstore.jsonl", ".intoto.jsonl", ".bundle", SBOMBundleEnding}
}

var fileList = lazyregexp.New(`(?i)^(?:.*[._-])?(?:sha256sums?|checksums)(?:\.txt)?$`)

// IsFileList reports whether a name is a usual one of a list of digests, as SHA256SUMS.
func IsFileList(name string) bool { return fileList.MatchString(name) }

var (
	fileName = lazyregexp.New(`^[A-Za-z0-9][A-Za-z0-9._-]{0,199}$`)
	// device matches the names that Windows takes for devices, with any ending.
	device = lazyregexp.New(`(?i)^(?:con|prn|aux|nul|com[0-9]|lpt[0-9])(?:\.|$)`)
)

// CheckFileName fails unless name can be that of a release file on every system: 1 to 200
// letters, digits, dots, underscores and hyphens, first a letter or digit, and last no dot. It
// is no name of a device on Windows, of a list of digests, or of a file with bundles.
func CheckFileName(name string) error {
	made := slices.ContainsFunc(BundleEndings(), func(e string) bool { return strings.HasSuffix(strings.ToLower(name), e) })
	switch {
	case !fileName.MatchString(name) || strings.HasSuffix(name, "."):
		return fmt.Errorf("name of a file: got %.100q, want letters, digits, dots, underscores and hyphens", name)
	case device.MatchString(name):
		return fmt.Errorf("name of a file: got %q, which is a device on Windows", name)
	case made || IsFileList(name):
		return fmt.Errorf("name of a file: got %q, which is the name of a list of digests or of a file with bundles", name)
	}
	return nil
}

// FileNameFor returns the name of the binary of a program for a platform, which is normal
// (NormalPlatform): PROGRAM-OS-ARCHITECTURE[-VARIANT], and ".exe" after it for Windows.
func FileNameFor(program, platform string) string {
	name := program + "-" + strings.ReplaceAll(platform, "/", "-")
	if strings.HasPrefix(platform, "windows/") {
		name += ".exe"
	}
	return name
}

// FileNameFrom returns the name of the release file that a build for a platform, which is
// normal, calls name. A name that ends with -OS-ARCHITECTURE[-VARIANT] of the platform, and
// perhaps endings such as ".tar.gz" after it, stays as it is. Another one gets that at its end,
// before ".exe" if it has that. So no build makes a file for another platform than its own.
func FileNameFrom(name, platform string) string {
	of := "-" + strings.ReplaceAll(platform, "/", "-")
	if i := strings.LastIndex(name, of); i > 0 && endings.MatchString(name[i+len(of):]) {
		return name
	}
	stem, isProgram := strings.CutSuffix(name, ".exe")
	if name = stem + of; isProgram {
		name += ".exe"
	}
	return name
}

// endings matches what may follow the platform in the name of a file.
var endings = lazyregexp.New(`^(?:\.[A-Za-z0-9]+)*$`)
