package contents

import (
	"bufio"
	"bytes"
	"debug/buildinfo"
	"encoding/json"
	"fmt"
	"io"
	"path"
	"runtime/debug"
	"slices"
	"strings"

	"github.com/colophon-build/colophon/internal/strict"
)

// A reader returns the packages that a file of size bytes names.
type reader func(content io.Reader, size int64) ([]Package, error)

// kindOf returns the reader for a file with a known name, or nil.
func kindOf(name string) reader {
	dir, base := path.Split(name)
	switch {
	case name == "var/lib/dpkg/status":
		return dpkg
	case dir == "var/lib/dpkg/status.d/" && path.Ext(base) != ".md5sums": // distroless
		return dpkg
	case name == "lib/apk/db/installed", name == "usr/lib/apk/db/installed":
		return apk
	case base == "package.json":
		return npm
	case base == "METADATA" && strings.HasSuffix(dir, ".dist-info/"),
		base == "PKG-INFO" && strings.HasSuffix(dir, ".egg-info/"),
		strings.HasSuffix(base, ".egg-info"):
		return python
	}
	return nil
}

// whole reads a file of at most the given size into memory.
func whole(content io.Reader, size int64, most int) ([]byte, error) {
	if size > int64(most) {
		return nil, fmt.Errorf("got %d bytes, want at most %d: it %w", size, most, errUnread)
	}
	return strict.Read(content, most)
}

// dpkg reads deb-control(5) paragraphs.
func dpkg(content io.Reader, size int64) ([]Package, error) {
	var found []Package
	err := paragraphs(content, size, ":", func(field map[string]string) {
		// A removed package keeps its paragraph. In all other states (dpkg(1)), its files
		// are there. The paragraphs of distroless have no status.
		if s := strings.Fields(field["Status"]); len(s) > 0 && (s[len(s)-1] == "config-files" || s[len(s)-1] == "not-installed") {
			return
		}
		if field["Package"] != "" {
			found = append(found, Package{"deb", field["Package"], field["Version"]})
		}
	})
	return found, err
}

// apk reads Alpine's database of installed packages: P is the name, V the version.
func apk(content io.Reader, size int64) ([]Package, error) {
	var found []Package
	err := paragraphs(content, size, ":", func(field map[string]string) {
		if field["P"] != "" {
			found = append(found, Package{"apk", field["P"], field["V"]})
		}
	})
	return found, err
}

// paragraphs reads groups of lines NAME SEPARATOR VALUE, with empty lines between the
// groups. The first line of each name counts.
func paragraphs(content io.Reader, size int64, separator string, each func(map[string]string)) error {
	data, err := whole(content, size, maxDatabase)
	if err != nil {
		return err
	}
	field := map[string]string{}
	flush := func() {
		if len(field) > 0 {
			each(field)
			field = map[string]string{}
		}
	}
	for line := range bytes.Lines(data) {
		line = bytes.TrimRight(line, "\r\n")
		if len(bytes.TrimSpace(line)) == 0 {
			flush()
			continue
		}
		name, value, ok := strings.Cut(string(line), separator)
		if _, twice := field[name]; ok && !twice && line[0] != ' ' && line[0] != '\t' {
			field[name] = strings.TrimSpace(value)
		}
	}
	flush()
	return nil
}

// npm reads a package.json. In tests and templates it is often not valid JSON, and
// then not a package: Node.js cannot load it either. Parts of a package may have one
// with a name and no version; some scanners list them.
func npm(content io.Reader, size int64) ([]Package, error) {
	data, err := whole(content, size, maxManifest)
	if err != nil {
		return nil, err
	}
	var p struct {
		Name    string `json:"name"`
		Version string `json:"version"`
	}
	if json.Unmarshal(bytes.TrimPrefix(data, []byte("\xef\xbb\xbf")), &p) != nil || p.Name == "" {
		return nil, nil
	}
	return []Package{{"npm", p.Name, p.Version}}, nil
}

// python reads the header of a distribution's metadata (PEP 566).
func python(content io.Reader, size int64) ([]Package, error) {
	data, err := whole(content, size, maxManifest)
	if err != nil {
		return nil, err
	}
	var name, version string
	lines := bufio.NewScanner(bytes.NewReader(data))
	lines.Buffer(nil, maxManifest+1)
	for lines.Scan() && lines.Text() != "" {
		key, value, _ := strings.Cut(lines.Text(), ":")
		switch strings.ToLower(key) {
		case "name":
			name = strings.TrimSpace(value)
		case "version":
			version = strings.TrimSpace(value)
		}
	}
	if name == "" {
		return nil, nil
	}
	return []Package{{"pypi", normalPython(name), version}}, nil
}

// normalPython returns a name in the form of PEP 503: lower case, and one "-" for
// each run of "-", "_" and ".".
func normalPython(name string) string {
	return strings.Join(strings.FieldsFunc(strings.ToLower(name), func(r rune) bool { return strings.ContainsRune("-_.", r) }), "-")
}

// maxBinary is the maximum size in bytes of an executable that is read.
const maxBinary = 2 << 30

// binaryStarts are the first bytes of programs for Linux (ELF), Windows (PE) and macOS (Mach-O,
// for one processor and for several). Scanners list the modules of all of them.
var binaryStarts = []string{"\x7fELF", "MZ", "\xfe\xed\xfa\xce", "\xfe\xed\xfa\xcf", "\xce\xfa\xed\xfe", "\xcf\xfa\xed\xfe", "\xca\xfe\xba\xbe", "\xca\xfe\xba\xbf"}

// binary returns the modules that a Go program was built from. It returns none for other
// files.
func (t *tree) binary(content io.Reader, size int64) ([]Package, error) {
	in := bufio.NewReader(content)
	start, err := in.Peek(4)
	if err != nil || !slices.ContainsFunc(binaryStarts, func(s string) bool { return strings.HasPrefix(string(start), s) }) {
		return nil, nil // reading the rest of the layer repeats a failure to read
	}
	if size > maxBinary {
		return nil, fmt.Errorf("size of an executable: got %d bytes, want at most %d: it %w", size, maxBinary, errUnread)
	}
	if _, err := t.scratch.Seek(0, io.SeekStart); err != nil {
		return nil, err
	}
	n, err := io.Copy(t.scratch, in)
	if err != nil {
		return nil, err
	}
	info, err := buildinfo.Read(io.NewSectionReader(t.scratch, 0, n))
	if err != nil {
		return nil, nil // not Go, or without build information
	}
	found := []Package{{"golang", "stdlib", strings.TrimPrefix(strings.Fields(info.GoVersion + " ")[0], "go")}}
	main := info.Main.Path
	if main == "" {
		main = info.Path // Go's own commands belong to no module
	}
	if main != "" {
		found = append(found, Package{"golang", main, ""})
	}
	for _, d := range info.Deps {
		if d.Replace != nil {
			d = &debug.Module{Path: d.Replace.Path, Version: d.Replace.Version}
		}
		found = append(found, Package{"golang", d.Path, d.Version})
	}
	return found, nil
}
