package release

import (
	"encoding/json"
	"fmt"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/colophon-build/colophon/attest"
	"github.com/colophon-build/colophon/internal/limits"
)

const pinnedSum = "sha256:0123456789abcdef0123456789abcdef0123456789abcdef0123456789abcdef"

func writeTree(t *testing.T, files map[string]string) string {
	t.Helper()
	tree := t.TempDir()
	for name, text := range files {
		name = filepath.Join(tree, name)
		if err := os.MkdirAll(filepath.Dir(name), 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(name, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	return tree
}

func TestFindPins(t *testing.T) {
	tree := writeTree(t, map[string]string{
		"web/Dockerfile": "FROM x\nADD --checksum=" + pinnedSum + " https://h.example/a.tar /\nARG V\nADD --checksum=" + pinnedSum + " https://h.example/$V.tar /\n" +
			"ADD https://h.example/b.tar /\nADD --checksum=" + pinnedSum + " https://u:p@h.example/c.tar /\n",
		"web/go.sum": "github.com/BurntSushi/toml v1.0.0 h1:a=\ngithub.com/BurntSushi/toml v1.0.0/go.mod h1:b=\nx.example/m v2.0.0+incompatible h1:c=\n" +
			"too few\nx.example/m v1.0.0 h2:d=\n../up v1.0.0 h1:e=\n",
		"web/package-lock.json": `{"lockfileVersion": 3, "packages": {"": {}, "node_modules/a": {"resolved": "https://r.example/a.tgz", "integrity": "sha1-x sha512-y"},
			"node_modules/b": {"resolved": "git+ssh://git@r.example/b.git", "integrity": "sha512-z"}, "node_modules/c": {"link": true},
			"node_modules/x/node_modules/@s/d": {"version": "1.0.0", "resolved": "https://r.example/elsewhere/d.tgz", "integrity": "sha512-d"}, "node_modules/alias": {"name": "real", "version": "2.0.0", "integrity": "sha512-r"}}}`,
		"web/deep/go.work.sum":    "x.example/w v1.0.0 h1:w=\n",
		"web/b/package-lock.json": "{",
		"api/go.sum":              "x.example/outside v1.0.0 h1:o=\n",
		"web/directory/go.sum/x":  "",
	})
	if err := os.Symlink(filepath.Join(tree, "api"), filepath.Join(tree, "web", "link")); err != nil {
		t.Fatal(err)
	}
	want := map[string]string{
		"https://h.example/a.tar":                     pinnedSum,
		"/github.com/!burnt!sushi/toml/@v/v1.0.0.zip": "h1:a=", "/github.com/!burnt!sushi/toml/@v/v1.0.0.mod": "h1:b=",
		"/x.example/m/@v/v2.0.0+incompatible.zip": "h1:c=", "/x.example/w/@v/v1.0.0.zip": "h1:w=",
		"https://r.example/a.tgz": "sha512-y", "https://r.example/elsewhere/d.tgz": "sha512-d", "/real/-/real-2.0.0.tgz": "sha512-r",
	}
	got := map[string]string{}
	for _, d := range findPins(t.Context(), tree, attest.Recipe{Dockerfile: "web/Dockerfile", Context: "web"}) {
		got[d.URL] = d.Digest
	}
	if !maps.Equal(got, want) {
		t.Errorf("got %q, want %q", got, want)
	}
}

// The lock files are of testdata/locks; those of uv, pdm and cargo have lines as theirs.
func TestFindPinsOfTools(t *testing.T) {
	const (
		types, debug = "sha512-GsCCIZDE/p3i96vtEqx+7dBUGXrc7zeSK3wwPHIaRThS+9OhWIXRqzs4d6k1SVU8g91DrNRWxWUGhp5KXQb2VA==", "sha512-PRWFHuSU3eDtQJPvnNY7Jcket1j0t5OuOsFzPPzsekD52Zl8qUfFIPEiswXqIvHWGVHOgX+7G/vCNNhehwxfkQ=="
		pad, ms      = "sha512-XI5MPzVNApjAyhQzphX8BkmKsKUxD4LdyK24iZeQGinBN9yTQT3bFlCBy/aVx2HrNcqQGsdot8ghrjyrvMCoEA==", "sha512-sGkPx+VjMtmA6MX27oA4FBFELFCZZ4S4XqeGOXCv68tT+jb3vk/RyaKWP0PTKyWtmLSM0b+adUTEvbs1PEaH2w=="
		wheel, sdist = "sha256:dd01dfd66e7bf89fdb79d446fb9b2105043e6842a0ea6715d74f8c473afd4897", "sha256:cc3a969799b392efb1ec98f0905d72b094946ee41b6adba9694e38287ab85a21"
		lib          = "sha256:f818047e65d0e70a713cda9307c7c950cfde55f7ef4bfff52201c79a39d31cda"
	)
	pnpm := map[string]string{"/@types/ms/-/ms-2.1.0.tgz": types, "/debug/-/debug-4.3.4.tgz": debug, "/left-pad/-/left-pad-1.3.0.tgz": pad, "/ms/-/ms-2.1.2.tgz": ms}
	yarn := map[string]string{}
	for end, digest := range pnpm {
		yarn["https://registry.yarnpkg.com"+end] = digest
	}
	python := map[string]string{"pkg:pypi/demo@1.0": sdist + " " + wheel, "pkg:pypi/demo-lib@2.0": lib}
	files := map[string]string{"/demo-1.0-py3-none-any.whl": wheel, "/demo-1.0.tar.gz": sdist, "/Demo_Lib-2.0-py3-none-any.whl": lib}
	for name, c := range map[string]struct {
		file string // its name in the commit
		text string // empty: testdata/locks has it
		want map[string]string
	}{
		"pnpm-5-lock.yaml":                    {file: "pnpm-lock.yaml", want: pnpm},
		"pnpm-6-lock.yaml":                    {file: "pnpm-lock.yaml", want: pnpm},
		"pnpm-9-lock.yaml":                    {file: "pnpm-lock.yaml", want: pnpm},
		"yarn.lock":                           {file: "yarn.lock", want: yarn},
		"package-lock.json":                   {file: "package-lock.json", want: pnpm},
		"package-lock-omitting-resolved.json": {file: "package-lock.json", want: pnpm},
		"poetry.lock":                         {file: "poetry.lock", want: files},
		"Pipfile.lock":                        {file: "Pipfile.lock", want: python},
		"requirements.txt":                    {file: "requirements.txt", want: python},
		"continued lines": {"requirements/base.txt", "# demo==9 --hash=" + wheel + "\n--require-hashes\ndemo [x] == 1.0 ; python_version > '3' \\\n    --hash=" + wheel + " \\\r\n    --hash " + sdist + "  # via --hash=" + lib + "\nDemo_Lib==2.0 \\\n    --hash=" + lib + "\n" +
			"range>=1.0 --hash=" + wheel + "\nunhashed==1.0\nother==1.0 --hash=sha384:" + strings.Repeat("0", 96) + "\n", python},
		"pdm": {"pdm.lock", "[[package]]\nname = \"demo\"\nfiles = [\n    {file = \"demo-1.0-py3-none-any.whl\", hash = \"" + wheel + "\"},\n    {file = \"demo-1.0.tar.gz\", hash = \"" + sdist + "\"},\n    {file = \"a/b.whl\", hash = \"" + lib + "\"},\n]\n" +
			"[[package]]\nname = \"Demo-Lib\"\nfiles = [\n    {file = \"Demo_Lib-2.0-py3-none-any.whl\", hash = \"" + lib + "\"},\n]\n", files},
		"uv": {"uv.lock", "[[package]]\nname = \"demo\"\nsdist = { url = \"https://f.example/a/demo-1.0.tar.gz\", hash = \"" + sdist + "\", size = 1 }\nwheels = [\n    { url = \"https://f.example/b/demo-1.0-py3-none-any.whl\", hash = \"" + wheel + "\", size = 2, upload-time = \"2026-01-01T00:00:00Z\" },\n" +
			"    { url = \"file:///c.whl\", hash = \"" + lib + "\" },\n]\n",
			map[string]string{"https://f.example/a/demo-1.0.tar.gz": sdist, "https://f.example/b/demo-1.0-py3-none-any.whl": wheel}},
		"cargo": {"Cargo.lock", "version = 4\n\n[[package]]\nname = \"app\"\nversion = \"9.0.0\"\n\n[[package]]\nname = \"demo\"\nversion = \"1.0.0+b\"\nsource = \"registry+https://r.example/index\"\nchecksum = \"" + lib[7:] + "\"\ndependencies = [\n \"x\",\n]\n",
			map[string]string{"/demo/1.0.0+b/download": lib, "/demo-1.0.0+b.crate": lib}},
		"a later yarn": {"yarn.lock", "__metadata:\n  version: 8\n\n\"ms@npm:2.1.2\":\n  version: 2.1.2\n  resolution: \"ms@npm:2.1.2\"\n  checksum: 10c0/aa\n", nil},
	} {
		t.Run(name, func(t *testing.T) {
			if c.text == "" {
				raw, err := os.ReadFile(filepath.Join("testdata", "locks", name))
				if err != nil {
					t.Fatal(err)
				}
				c.text = string(raw)
			}
			got := map[string]string{}
			for _, d := range findPins(t.Context(), writeTree(t, map[string]string{"app/" + c.file: c.text}), attest.Recipe{Dockerfile: "Dockerfile", Context: "app"}) {
				got[d.URL] = strings.Join(slices.Sorted(strings.FieldsSeq(got[d.URL]+" "+d.Digest)), " ")
			}
			if !maps.Equal(got, c.want) {
				t.Errorf("got %q, want %q", got, c.want)
			}
		})
	}
}

// A commit that pins more than is kept, or in a file that is too long, or nothing that can be read,
// builds as any other.
func TestFindPinsIsBounded(t *testing.T) {
	var many, long strings.Builder
	for i := range maxDemands + 10 {
		fmt.Fprintf(&many, "x.example/m v1.%d.0 h1:a=\n", i)
	}
	for i := range maxDemandBytes / limits.FetchURL * 2 {
		fmt.Fprintf(&long, "x.example/%s v1.%d.0 h1:a=\n", strings.Repeat("a", limits.FetchURL-100), i)
	}
	lock := `{"packages": {"node_modules/a": {"resolved": "https://r.example/a.tgz", "integrity": "sha512-y"}}}`
	for size, pins := range map[int]int{32 << 20: 1, 32<<20 + 1: 0} {
		tree := writeTree(t, map[string]string{"package-lock.json": lock + strings.Repeat(" ", size-len(lock))})
		if list := findPins(t.Context(), tree, attest.Recipe{Dockerfile: "Dockerfile"}); len(list) != pins {
			t.Errorf("a package-lock.json of %d bytes: got %d pins, want %d", size, len(list), pins)
		}
	}
	const part = 30 << 20 // each of these files takes up to 4 s to read; git stores one of them
	files := map[string]string{}
	for i := range 4 {
		files[fmt.Sprint(i, "/requirements.txt")] = fmt.Sprintf("a==1.%d --hash=%s\n", i, pinnedSum) + strings.Repeat("#", part)
	}
	list := findPins(t.Context(), writeTree(t, files), attest.Recipe{Dockerfile: "Dockerfile"})
	if want := maxLocks / part; len(list) != want {
		t.Errorf("4 lock files of %d bytes: got %d pins, want %d", part, len(list), want)
	}
	for what, text := range map[string]string{"many": many.String(), "long": long.String(), "too long": "x.example/" + strings.Repeat("a", limits.FetchURL) + " v1.0.0 h1:a=\n"} {
		list := findPins(t.Context(), writeTree(t, map[string]string{"go.sum": text}), attest.Recipe{Dockerfile: "Dockerfile"})
		raw, err := json.Marshal(list)
		if err != nil || len(list) > maxDemands || len(raw) > 32<<20 || what == "too long" && len(list) > 0 {
			t.Errorf("%s: got %d pins in %d bytes, %v", what, len(list), len(raw), err)
		}
		if what == "many" && len(slices.Compact(list)) != maxDemands {
			t.Errorf("many: got %d pins, want %d", len(list), maxDemands)
		}
	}
}
