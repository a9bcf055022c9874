package manifest

import (
	"fmt"
	"slices"
	"strings"
	"testing"

	"github.com/colophon-build/colophon/sbom"
)

func TestCompare(t *testing.T) {
	files := map[string]string{
		"go.mod": "module example.com/app\n\ngo 1.26\n\nrequire (\n\tgithub.com/a/used v1.0.0\n\tgithub.com/a/tests v1.1.0 // indirect\n\tgithub.com/a/old v1.0.0\n)\n\nreplace github.com/a/old => github.com/b/fork v1.2.0\n",
		"go.sum": "github.com/a/used v1.0.0 h1:AAAA=\ngithub.com/a/used v1.0.0/go.mod h1:AAAA=\ngithub.com/a/other v0.1.0/go.mod h1:AAAA=\n",
		"web/package-lock.json": `{"name":"web","lockfileVersion":3,"packages":{"":{"name":"web","version":"1.0.0"},"node_modules/@babel/core":{"version":"7.0.0"},
			"node_modules/a/node_modules/b":{"version":"2.0.0"},"node_modules/dev":{"version":"1.0.0","dev":true},"packages/own":{"name":"own","version":"1.0.0"},"node_modules/own":{"resolved":"packages/own","link":true}}}`,
		"requirements-prod.txt": "# what it needs\n-r other.txt\nFoo_Bar[extra]==1.2.3 ; python_version > '3' \\\n    --hash=sha256:aa\nranged>=2\n",
		"Cargo.lock":            "version = 4\n\n[[package]]\nname = \"own\"\nversion = \"0.1.0\"\n\n[[package]]\nname = \"serde\"\nversion = \"1.0.0\"\nsource = \"registry+https://github.com/rust-lang/crates.io-index\"\n",
		"uv.lock":               "version = 1\n\n[[package]]\nname = \"app\"\nversion = \"0.1.0\"\nsource = { virtual = \".\" }\n\n[[package]]\nname = \"idna\"\nversion = \"3.10\"\nsource = { registry = \"https://pypi.org/simple\" }\n",
	}
	var s Set
	for name, raw := range files {
		if err := s.Add(name, []byte(raw)); err != nil {
			t.Fatal(err)
		}
	}
	pkg := func(kind, name, version string) sbom.Package {
		return sbom.Package{Name: name, Version: version, PURL: "pkg:" + kind + "/" + name + "@" + version}
	}
	d := s.Compare([]sbom.Package{
		pkg("golang", "example.com/app", "(devel)"), pkg("golang", "stdlib", "1.26"), pkg("golang", "github.com/a/used", "v1.0.0"), pkg("golang", "github.com/a/used", "v1.0.0"),
		pkg("golang", "github.com/a/other", "v0.1.0"), pkg("golang", "github.com/b/fork", "v1.2.0"), pkg("golang", "github.com/evil/miner", "v6.6.6"), pkg("golang", "github.com/a/used", "v1.0.1"),
		pkg("npm", "@babel/core", "7.0.0"), pkg("npm", "b", "2.0.0"), pkg("npm", "own", "1.0.0"), pkg("npm", "event-stream", "3.3.6"),
		pkg("pypi", "foo.bar", "1.2.3"), pkg("pypi", "ranged", "2.5"), pkg("pypi", "idna", "3.10"), pkg("cargo", "own", "0.1.0"),
		pkg("deb", "openssl", "3.0.1"), {Name: "no URL", Version: "1"},
	})
	if want := []string{"golang github.com/a/used@v1.0.1", "golang github.com/evil/miner@v6.6.6", "npm event-stream@3.3.6"}; !slices.Equal(d.Unnamed, want) {
		t.Errorf("that no manifest names: got %q, want %q", d.Unnamed, want)
	}
	if want := []string{"cargo serde@1.0.0", "golang github.com/a/tests@v1.1.0"}; !slices.Equal(d.Unlisted, want) {
		t.Errorf("that no SBOM lists: got %q, want %q", d.Unlisted, want)
	}
	if want := []Type{Cargo, Golang, NPM, PyPI}; d.Compared != 14 || !slices.Equal(d.Types, want) {
		t.Errorf("got %d packages of %v, want 14 of %v", d.Compared, d.Types, want)
	}
	// Without a manifest of a type, its packages say nothing.
	var none Set
	if d := none.Compare([]sbom.Package{pkg("golang", "a", "v1.0.0")}); d.Compared != 0 || len(d.Unnamed) != 0 {
		t.Errorf("without manifests: got %+v", d)
	}
}

// TestHostileManifests: a file that cannot be read is an error, whatever is in it, and never a short list.
func TestHostileManifests(t *testing.T) {
	many := func(line string) string {
		var b strings.Builder
		for i := range maxPackages + 1 {
			fmt.Fprintf(&b, line, i)
		}
		return b.String()
	}
	for _, c := range []struct{ name, raw, want string }{
		{"go.mod", "module a\nrequire (\n", "go.mod:"},
		{"go.mod", "\x00", "go.mod:"},
		{"go.sum", "only two\n", "module, version and hash"},
		{"go.sum", many("m%d v1 h1:a\n"), "more than 200000"},
		{"go.sum", strings.Repeat("a", MaxFile+1), "want at most"},
		{"package-lock.json", `{"lockfileVersion":1,"dependencies":{}}`, "expected 2 or 3, found 1"},
		{"package-lock.json", `{"lockfileVersion":3,"packages":[]}`, "package-lock.json:"},
		{"package-lock.json", strings.Repeat("[", 100_000), "package-lock.json:"},
		{"Cargo.lock", "[[package]]\nname = [\"a\"]\n", "expected a string"},
		{"requirements.txt", strings.Repeat("a", 2<<20), "requirements.txt:"},
		{"README.md", "", "no manifest"},
	} {
		var s Set
		if err := s.Add("x/"+c.name, []byte(c.raw)); err == nil || !strings.Contains(err.Error(), c.want) {
			t.Errorf("%s %.20q: got %v, want %q", c.name, c.raw, err, c.want)
		}
	}
	if !Wants("a/b/go.mod") || Wants("go.mod.bak") || Wants("requirements.in") || !Wants("requirements_dev.txt") {
		t.Error("Wants")
	}
}

func FuzzManifests(f *testing.F) {
	for _, name := range []string{"go.mod", "go.sum", "package-lock.json", "requirements.txt", "Cargo.lock", "uv.lock"} {
		f.Add(name, []byte("module a\n"))
	}
	f.Fuzz(func(t *testing.T, name string, raw []byte) {
		var s Set
		if s.Add(name, raw) == nil {
			s.Compare([]sbom.Package{{Name: "a", PURL: "pkg:golang/a"}})
		}
	})
}
