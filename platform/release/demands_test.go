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
			"node_modules/b": {"resolved": "git+ssh://git@r.example/b.git", "integrity": "sha512-z"}, "node_modules/c": {"link": true}}}`,
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
		"https://r.example/a.tgz": "sha512-y",
	}
	got := map[string]string{}
	for _, d := range findPins(t.Context(), tree, attest.Recipe{Dockerfile: "web/Dockerfile", Context: "web"}) {
		got[d.URL] = d.Digest
	}
	if !maps.Equal(got, want) {
		t.Errorf("got %q, want %q", got, want)
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
