package buildkit

import (
	"archive/tar"
	"errors"
	"io"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/colophon-build/colophon/oci"
	"github.com/colophon-build/colophon/platform/builder"
)

// A room has the ids of large organizations and of OpenShift. A step that needs others is
// told which there are.
func TestUserIDs(t *testing.T) {
	b := realBuilder(t)
	layout := t.TempDir()
	if _, log, err := run(t, b, builder.Request{Tree: tree(t, "FROM busybox:1.35\nRUN touch /low /high && chown 100000:100000 /low && chown 1000660000:1000660000 /high\nUSER 1000660000\nRUN id -u | grep -x 1000660000\n"), Layout: layout}); err != nil {
		t.Fatalf("%v\n%s", err, log)
	}
	got := map[string]int{}
	for _, h := range entries(t, layout) {
		got[h.Name] = h.Uid
	}
	if got["low"] != 100000 || got["high"] != 1000660000 {
		t.Errorf("got the owners %d and %d, want those of the steps", got["low"], got["high"])
	}
	for _, steps := range []string{"RUN touch /x && chown 2000000 /x\n", "USER 4000000\nRUN true\n", "COPY --chown=3000000:3000000 Dockerfile /x\n"} {
		_, log, err := run(t, b, builder.Request{Tree: tree(t, "FROM busybox:1.35\n"+steps)})
		if failed, ok := errors.AsType[*builder.Error](err); !ok || !strings.Contains(failed.Error(), "ids 0 to 1048575 and 1000000000 to 1001048575") {
			t.Errorf("%q: got %v, want the ids of a room\n%s", steps, err, log)
		}
	}
}

// A name that is not UTF-8 stops only the build that reads it, with the name, also if only
// BuildKit can tell what it reads.
func TestNamesThatAreNotUTF8(t *testing.T) {
	b := realBuilder(t)
	for what, c := range map[string]struct{ dockerfile, ignore, want string }{
		"read":         {"COPY . /src\n", "", `"docs/caf\xe9.txt"`},
		"not read":     {"COPY Dockerfile /src/\n", "", ""},
		"excluded":     {"COPY . /src\n", "docs\nlink\n", ""},
		"a link":       {"COPY . /src\n", "docs\n", `"link", a link to "caf\xe9"`},
		"one excluded": {"COPY . /src\n", "**/*.txt\nlink\n", ""},
		"by its files": {"FROM busybox:1.35\nCOPY ${PATH:+docs}/c* /src/\n", "", `"docs/caf\xe9.txt"`},
	} {
		dir := tree(t, "FROM scratch\n"+c.dockerfile)
		if err := errors.Join(os.Mkdir(filepath.Join(dir, "docs"), 0o755), os.WriteFile(filepath.Join(dir, "docs/caf\xe9.txt"), nil, 0o644),
			os.Symlink("caf\xe9", filepath.Join(dir, "link")), os.WriteFile(filepath.Join(dir, ".dockerignore"), []byte(c.ignore), 0o644)); err != nil {
			t.Fatal(err)
		}
		_, log, err := run(t, b, builder.Request{Tree: dir})
		if failed, ok := errors.AsType[*builder.Error](err); (err == nil) != (c.want == "") || err != nil && (!ok || !strings.Contains(failed.Error(), c.want)) {
			t.Errorf("%s: got %v, want %q\n%s", what, err, c.want, log)
		}
	}
}

// entries returns the files in the layers of the image in a layout.
func entries(t *testing.T, layout string) (all []*tar.Header) {
	t.Helper()
	m, err := oci.MeasureLayout(layout)
	if err != nil {
		t.Fatal(err)
	}
	src, err := oci.OpenLayout(layout)
	if err != nil {
		t.Fatal(err)
	}
	defer src.Close()
	if err := oci.Entries(t.Context(), src, m.Platforms[0].Manifest.Digest, func(_ int, h *tar.Header, _ io.Reader) error {
		all = append(all, h)
		return nil
	}); err != nil {
		t.Fatal(err)
	}
	return all
}
