// Package test holds what is true of the house as a whole.
package test

import (
	"encoding/json"
	"errors"
	"io"
	"os/exec"
	"slices"
	"strings"
	"testing"
)

const module = "github.com/colophon-build/colophon"

// rows is the import order, from the bottom of the house to the top: a package
// imports only from rows below its own, and from its own directory. A package
// that is in no row may not exist.
var rows = [][]string{
	// Mechanisms, named for the property they give; any package may import them.
	{
		"internal/cachedb",
		"internal/confine",
		"internal/credential",
		"internal/dirlock",
		"internal/durable",
		"internal/every",
		"internal/garbage",
		"internal/inert",
		"internal/intact",
		"internal/keypair",
		"internal/keys",
		"internal/lazyregexp",
		"internal/limits",
		"internal/logkey",
		"internal/logs",
		"internal/loopback",
		"internal/metered",
		"internal/owned",
		"internal/peer",
		"internal/ports",
		"internal/printable",
		"internal/pypi",
		"internal/reach",
		"internal/remembered",
		"internal/sarif",
		"internal/strict",
		"internal/together",
		"internal/usage",
		"internal/userns",
	},
	{"attest", "tlog", "scripts", "spec/schemas"},
	{"audit", "search", "trust"},
	{"bundle"},
	{"oci", "sign", "source"},
	{"provenance", "sbom", "policy"},
	{"distrust"},
	{"verify", "lint"},
	{"distrust/follow", "platform/api", "platform/zone", "platform/cosigner", "platform/authority/witnesses"},
	{"monitor", "investigate", "level", "pipeline", "pipeline/installers", "platform/authority/tiles", "platform/distribution", "platform/recorder", "platform/verdicts"},
	// Services meet over wire formats, never over imports. Only the attestor runs
	// releases, and a release hands its builds to builders.
	{
		"platform/acme",
		"platform/archive",
		"platform/audit",
		"platform/authority/archivelog",
		"platform/authority/ca",
		"platform/authority/ctlog",
		"platform/authority/distrust",
		"platform/authority/indexlog",
		"platform/authority/issuer",
		"platform/authority/log",
		"platform/authority/root",
		"platform/authority/tsa",
		"platform/builder",
		"platform/front",
		"platform/mirror",
		"platform/registry",
		"platform/search",
		"platform/web",
		"platform/witness",
	},
	{"platform/release", "platform/admission", "platform/gate", "platform/follow"},
	{"platform/attestor"},
	{"platform"},
	{"cmd/colophon", "cmd/colophond", "cmd/colophon-scan", "tools", "test"}, // nothing else can import from the last row
}

// thin is what the CLI is made of and what others check us with: small to trust,
// quick to start.
var thin = []string{
	"attest",
	"tlog",
	"audit",
	"search",
	"trust",
	"bundle",
	"oci",
	"source",
	"sign",
	"provenance",
	"sbom",
	"policy",
	"distrust",
	"distrust/follow",
	"verify",
	"lint",
	"platform/api",
	"monitor",
	"investigate",
	"level",
	"pipeline",
	"pipeline/installers",
	"scripts",
	"cmd/colophon",
}

// heavy may not be linked into any of them, however indirectly.
var heavy = []string{
	"database/sql", "modernc.org/sqlite", "github.com/jackc/pgx",
	"k8s.io/api", "k8s.io/apimachinery", "k8s.io/client-go", "sigs.k8s.io/controller-runtime", "github.com/moby/buildkit", "github.com/containerd", "github.com/opencontainers/runc",
	"github.com/sigstore/fulcio", "github.com/sigstore/rekor", "github.com/go-openapi", "google.golang.org/grpc", "github.com/anchore", "github.com/google/ko",
	"github.com/transparency-dev/tessera/storage",
	// Policies in CUE and Rego are those of colophon-eval, another module.
	"cuelang.org/go", "github.com/open-policy-agent",
	// Private keys elsewhere are those of colophon-keys, another module.
	"cloud.google.com/go", "github.com/aws", "github.com/Azure", "github.com/hashicorp/vault", "github.com/ebitengine/purego",
}

// light are packages of heavy modules that may be: BuildKit's parser of Dockerfiles, and what it
// is made of. They need nothing else that is heavy, and add about 1 ms to the start of the CLI.
var light = []string{
	"github.com/moby/buildkit/frontend/dockerfile/command", "github.com/moby/buildkit/frontend/dockerfile/instructions", "github.com/moby/buildkit/frontend/dockerfile/linter",
	"github.com/moby/buildkit/frontend/dockerfile/parser", "github.com/moby/buildkit/frontend/dockerfile/shell", "github.com/moby/buildkit/util/stack", "github.com/moby/buildkit/util/suggest",
	"github.com/containerd/typeurl/v2",
}

// pure packages decide from what they are handed: no I/O, no network, no environment.
var pure = map[string][]string{
	"attest":          {"net", "net/http", "os", "os/exec"},
	"audit":           {"net", "net/http", "os", "os/exec"},
	"bundle/notation": {"net", "net/http", "os", "os/exec"},
	"bundle":          {"net", "net/http", "os", "os/exec"},
	"distrust":        {"net", "net/http", "os", "os/exec"},
	"level":           {"net", "net/http", "os", "os/exec"},
	"policy":          {"net", "net/http", "os", "os/exec"},
	"provenance":      {"net", "net/http", "os", "os/exec"},
	"source/track":    {"net", "net/http", "os", "os/exec"},
	"verify":          {"net", "net/http", "os", "os/exec"},
}

type pkg struct {
	ImportPath string
	Imports    []string
	Deps       []string
}

func TestImports(t *testing.T) {
	packages := list(t)
	if len(packages) < 10 {
		t.Fatalf("got %d packages, want the whole module", len(packages))
	}
	for _, p := range packages {
		name := inModule(p.ImportPath)
		for _, problem := range problems(name, p) {
			t.Errorf("%s %s", p.ImportPath, problem)
		}
	}
}

// problems says what is wrong with one package.
func problems(name string, p pkg) (out []string) {
	row, home := find(name)
	if name == "" { // the map in doc.go
		if len(p.Imports) > 0 {
			out = append(out, "is the map of the house and imports nothing, got "+strings.Join(p.Imports, " "))
		}
		return out
	}
	if row < 0 {
		return []string{"is in no row of the import order: give it one in test/imports_test.go and DESIGN"}
	}
	for _, imported := range p.Imports {
		other := inModule(imported)
		if imported != module && other == imported {
			continue // not ours
		}
		switch above, itsHome := find(other); {
		case above < 0:
			out = append(out, "imports "+imported+", which is in no row")
		case strings.HasPrefix(other, "cmd/") && home != itsHome:
			out = append(out, "imports "+imported+", a command")
		case above > row, above == row && row > 0 && home != itsHome:
			out = append(out, "imports "+imported+", which is not in a row below it")
		}
	}
	if slices.Contains(thin, home) {
		for _, dep := range p.Deps {
			for _, h := range heavy {
				if (dep == h || strings.HasPrefix(dep, h+"/") && h != "database/sql") && !slices.Contains(light, dep) {
					out = append(out, "is part of the thin CLI and needs "+dep)
				}
			}
		}
	}
	for _, banned := range pure[name] {
		if slices.Contains(p.Imports, banned) {
			out = append(out, "is handed everything it decides from, and imports "+banned)
		}
	}
	return out
}

// find returns a package's row and the entry of it that the package belongs to.
func find(name string) (row int, home string) {
	row = -1
	for i, r := range rows {
		for _, h := range r {
			if (name == h || strings.HasPrefix(name, h+"/")) && len(h) > len(home) {
				row, home = i, h
			}
		}
	}
	return row, home
}

// inModule is the path below the module's root: "" for the root, and the import
// path itself for a package that is not ours.
func inModule(path string) string {
	if path == module {
		return ""
	}
	if rest, ok := strings.CutPrefix(path, module+"/"); ok {
		return rest
	}
	return path
}

// list lists the packages of the repository that programs of users consist of: those of the
// module, and of the scanner's own.
func list(t *testing.T) []pkg {
	t.Helper()
	return append(listModule(t, ".."), listModule(t, "../cmd/colophon-scan")...)
}

func listModule(t *testing.T, dir string) []pkg {
	t.Helper()
	cmd := exec.Command("go", "list", "-json=ImportPath,Imports,Deps", "./...")
	cmd.Dir = dir
	var stderr strings.Builder
	cmd.Stderr = &stderr
	out, err := cmd.Output()
	if err != nil {
		t.Fatalf("go list: %v: %s", err, stderr.String())
	}
	var packages []pkg
	dec := json.NewDecoder(strings.NewReader(string(out)))
	for {
		var p pkg
		if err := dec.Decode(&p); errors.Is(err, io.EOF) {
			return packages
		} else if err != nil {
			t.Fatal(err)
		}
		packages = append(packages, p)
	}
}

// The rules catch what they are for.
func TestImportRulesBite(t *testing.T) {
	for what, c := range map[string]struct {
		name string
		p    pkg
		bad  bool
	}{
		"downwards":               {"platform/release", pkg{Imports: []string{module + "/verify", module + "/sign"}}, false},
		"upwards":                 {"verify", pkg{Imports: []string{module + "/platform/release"}}, true},
		"sideways services":       {"platform/registry", pkg{Imports: []string{module + "/platform/authority/issuer"}}, true},
		"within a directory":      {"platform/builder/buildkit", pkg{Imports: []string{module + "/platform/builder/sandbox", module + "/platform/builder"}}, false},
		"sideways formats":        {"attest", pkg{Imports: []string{module + "/tlog"}}, true},
		"sideways logs":           {"tlog/witness", pkg{Imports: []string{module + "/attest"}}, true},
		"sideways answers":        {"sbom/scan", pkg{Imports: []string{module + "/policy"}}, true},
		"sideways policies":       {"policy", pkg{Imports: []string{module + "/provenance"}}, true},
		"a test's mechanism":      {"cmd/colophond", pkg{Imports: []string{module + "/test/await"}}, true},
		"a test of a test":        {"test/harness", pkg{Imports: []string{module + "/test/await"}}, false},
		"a command":               {"platform/web", pkg{Imports: []string{module + "/cmd/colophon"}}, true},
		"a package without row":   {"util", pkg{}, true},
		"an import without row":   {"platform/release", pkg{Imports: []string{module + "/internal/util"}}, true},
		"a mechanism":             {"attest", pkg{Imports: []string{module + "/internal/strict"}}, false},
		"a mechanism that looks":  {"internal/strict", pkg{Imports: []string{module + "/attest"}}, true},
		"SQL in the CLI":          {"cmd/colophon", pkg{Deps: []string{"database/sql"}}, true},
		"only a driver's types":   {"cmd/colophon", pkg{Deps: []string{"database/sql/driver"}}, false},
		"BuildKit in verify":      {"verify", pkg{Deps: []string{"github.com/moby/buildkit/client"}}, true},
		"BuildKit's parser":       {"lint", pkg{Deps: []string{"github.com/moby/buildkit/frontend/dockerfile/parser"}}, false},
		"BuildKit below a parser": {"lint", pkg{Deps: []string{"github.com/moby/buildkit/frontend/dockerfile/dockerfile2llb"}}, true},
		"BuildKit in the server":  {"cmd/colophond", pkg{Deps: []string{"github.com/moby/buildkit/client"}}, false},
		"a network in verify":     {"verify", pkg{Imports: []string{"net/http"}}, true},
		"imports of the root":     {"", pkg{Imports: []string{"fmt"}}, true},
	} {
		if got := problems(c.name, c.p); (len(got) > 0) != c.bad {
			t.Errorf("%s: got problems %q, want some: %v", what, got, c.bad)
		}
	}
}

// A package has one row: of two, find takes the lower one, and the other would be a wrong map.
func TestEachPackageHasOneRow(t *testing.T) {
	seen := map[string]bool{}
	for _, name := range slices.Concat(rows...) {
		if seen[name] {
			t.Errorf("%s is in the import order twice", name)
		}
		seen[name] = true
	}
	for i, name := range thin {
		if slices.Contains(thin[:i], name) {
			t.Errorf("%s is among the thin packages twice", name)
		}
		if !seen[name] {
			t.Errorf("%s is thin, and in no row", name)
		}
	}
}
