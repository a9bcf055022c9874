package test

import (
	"bytes"
	"encoding/json"
	"go/ast"
	"go/token"
	"maps"
	"path/filepath"
	"reflect"
	"regexp"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/colophon-build/colophon/attest"
	"github.com/colophon-build/colophon/platform/admission"
	"github.com/colophon-build/colophon/platform/api"
	"github.com/colophon-build/colophon/platform/builder"
	"github.com/colophon-build/colophon/platform/gate"
	"github.com/colophon-build/colophon/policy"
	"github.com/colophon-build/colophon/policy/clusterimagepolicy"
	"github.com/colophon-build/colophon/source"
	"github.com/colophon-build/colophon/trust"
)

// These tests compare what the pages say with the code, one test for each kind of claim.

const (
	MiB = 1 << 20
	GiB = 1 << 30
)

// numbers are the limits and defaults that pages state. A page must have the words
// exactly; if the constant changes, both the words and this table change with it.
var numbers = []struct {
	constant string
	value    int64
	page     string
	words    string
}{
	{"platform/builder/buildkit.defaultPIDs", 8192, "docs/configuration.md", "4096 to 65536 | 8192 |"},
	{"platform/builder/buildkit.defaultWallTime", int64(time.Hour), "docs/configuration.md", "buildkit `1h`, golang `30m`"},
	{"platform/builder/golang.defaultWallTime", int64(30 * time.Minute), "docs/configuration.md", "buildkit `1h`, golang `30m`"},
	{"platform/builder/sandbox.defaultDisk", 20 * GiB, "docs/configuration.md", "| 20 GiB, or three quarters of the free space"},
	{"platform/builder/worker.defaultConcurrent", 2, "docs/configuration.md", "up to 64 more wait, and further ones are refused (503) | 2 |"},
	{"platform/builder/worker.defaultQueue", 64, "docs/configuration.md", "up to 64 more wait"},
	{"platform/builder/gateway.defaultStoreSize", 20 * GiB, "docs/configuration.md", "a build needs the store only if it is hermetic or locked | 20 GiB |"},
	{"platform/builder/gateway.maxIn", 512, "docs/configuration.md", "512 connections to its gateway"},
	{"platform/builder/gateway.defaultConns", 256, "docs/configuration.md", "256 requests at a time"},
	{"platform/builder/gateway.defaultBytes", 64 * GiB, "docs/configuration.md", "64 GiB in all"},
	{"platform/builder/gateway.maxUpload", GiB, "docs/configuration.md", "1 GiB in the body of a request"},
	{"internal/limits.LockFetches", 100_000, "docs/configuration.md", "100,000 requests"},
	{"internal/limits.FetchURL", 8192, "docs/configuration.md", "addresses of 8 KiB"},
	{"platform/builder/sandbox.uidBase", 0x70000000, "docs/configuration.md", "| 1879048192 (0x70000000)"},
	{"platform/builder/sandbox.slots", 128, "docs/configuration.md", "first of the 128 × 2097152 host uids"},
	{"platform/builder/sandbox.slotSize", 2 * MiB, "docs/configuration.md", "first of the 128 × 2097152 host uids"},
	{"platform.uidBase", 64700, "docs/configuration.md", "may have one of them | 64700 |"},
	{"platform.enrolmentLife", int64(365 * 24 * time.Hour), "docs/configuration.md", "An enrolment is valid for a year."},
	{"platform.firstCertificate", int64(15 * time.Second), "docs/configuration.md", "15 seconds for the certificate"},
	{"platform.spare", 16 * MiB, "docs/configuration.md", "it needs 16 MiB"},
	{"platform/release.maxScans", 2, "docs/configuration.md", "At most two images are scanned at once."},
	{"platform/release.maxTries", 3, "docs/configuration.md", "releases that killed three processes in a row"},
	{"platform/release.defaultConcurrent", 8, "docs/configuration.md", "at most 8 releases run at once"},
	{"platform/release.defaultConcurrent", 8, "docs/threats.md", "| 8 releases, and 2 builds of each builder at once;"},
	{"platform/attestor.patience", int64(time.Minute), "docs/threats.md", "a client that reads no event for a minute is cut off"},
	{"platform/attestor.patience", int64(time.Minute), "docs/api.md", "reads no event for a minute"},
	{"platform/api.MaxEvent", MiB, "docs/api.md", "A line has at most 1 MiB."},
	{"internal/limits.Request", MiB, "docs/api.md", "A request has at most 1 MiB"},
	{"internal/limits.Lock", 64 * MiB, "docs/api.md", "and a lock at most\n64 MiB more"},
	{"internal/limits.Lock", 64 * MiB, "spec/lock/v1/README.md", "A lock has at most 64 MiB"},
	{"internal/limits.LockFetches", 100_000, "spec/lock/v1/README.md", "and 100,000 fetches."},
	{"internal/limits.FetchURL", 8192, "spec/lock/v1/README.md", "at most 8192 bytes"},
	{"internal/limits.FetchHeader", 8192, "spec/lock/v1/README.md", "A header has at most 8192 bytes."},
	{"internal/limits.TrustRoot", 4 * MiB, "spec/trust/README.md", "at most\n4 MiB"},
	{"trust.maxIssuers", 100, "spec/trust/README.md", "at most 100"},
	{"internal/limits.Request", MiB, "spec/policy/README.md", "at most 1 MiB"},
	{"policy.maxAttestations", 32, "spec/policy/README.md", "at most 32"},
	{"policy.maxVerifiers", 16, "spec/policy/README.md", "there may be 16"},
	{"source/recipes.maxFile", 64 << 10, "spec/recipes/README.md", "at most 64 KiB"},
	{"source/recipes.maxImages", 256, "spec/recipes/README.md", "1 to 256 images"},
	{"cmd/colophon.sourceTimeout", int64(10 * time.Second), "docs/verify.md", "no answer within 10 seconds"},
	{"internal/limits.GitHistory", GiB, "docs/verify.md", "larger than 1 GiB"},
	{"internal/limits.Images", 10_000, "docs/verify.md", "more than 10,000 images"},
	{"internal/limits.ImageList", 32 * MiB, "docs/verify.md", "larger than 32 MiB"},
	{"internal/limits.Referrers", 4096, "docs/threats.md", "all of up to 4096 referrers are examined"},
	{"platform/front.grace", int64(30 * time.Second), "docs/threats.md", "keep it waiting for 30 s, plus 1 s for each 8 KiB"},
	{"platform/front.minRate", 8 << 10, "docs/threats.md", "keep it waiting for 30 s, plus 1 s for each 8 KiB"},
	{"platform/registry.recheck", int64(24 * time.Hour), "docs/threats.md", "and again after a day"},
	{"platform/registry.emptyIdle", int64(time.Minute), "docs/threats.md", "empty ones are dropped after a minute"},
	{"platform/release.maxRuns", 1000, "docs/incident.md", "It remembers the newest 1,000 releases"},
	{"cmd/colophon.exitOK", 0, "docs/verify.md", "| 0 | accepted |"},
	{"cmd/colophon.exitRejected", 3, "docs/verify.md", "| 3 | rejected |"},
	{"cmd/colophon.exitUndecided", 4, "docs/verify.md", "| 4 | undecided |"},
	{"cmd/colophon.exitFailure", 1, "docs/verify.md", "| 1, 2 | | verify itself failed, or the command line is wrong |"},
	{"cmd/colophon.exitUsage", 2, "docs/verify.md", "| 1, 2 | | verify itself failed, or the command line is wrong |"},
}

func TestNumbers(t *testing.T) {
	c := readSource(t)
	for _, n := range numbers {
		if got := c.number(t, n.constant); got != n.value {
			t.Errorf("%s: got %d, want the %d of %s: %q", n.constant, got, n.value, n.page, n.words)
		}
		if !strings.Contains(page(t, n.page), n.words) {
			t.Errorf("%s does not say %q", n.page, n.words)
		}
	}
}

// The tables of members in the specifications are the members of the types.
func TestMemberTables(t *testing.T) {
	for _, table := range []struct {
		page, section string
		of            reflect.Type
		without       []string // members of the type that the format never has
	}{
		{"spec/policy/README.md", "", reflect.TypeFor[policy.Document](), nil},
		{"spec/policy/README.md", "Recipe", reflect.TypeFor[policy.DocumentRecipe](), nil},
		{"spec/policy/README.md", "Verifiers", reflect.TypeFor[policy.DocumentVerifier](), nil},
		{"spec/trust/README.md", "", reflect.TypeFor[trust.Document](), nil},
		{clusterPage, "Spec", reflect.TypeFor[clusterimagepolicy.Spec](), nil},
		{clusterPage, "Match", reflect.TypeFor[clusterimagepolicy.Match](), nil},
		{clusterPage, "Authority", reflect.TypeFor[clusterimagepolicy.Authority](), nil},
		{clusterPage, "Key", reflect.TypeFor[clusterimagepolicy.Key](), nil},
		{clusterPage, "Keyless", reflect.TypeFor[clusterimagepolicy.Keyless](), nil},
		{clusterPage, "Attestation", reflect.TypeFor[clusterimagepolicy.Attestation](), nil},
		{clusterPage, "Policy", reflect.TypeFor[clusterimagepolicy.Policy](), nil},
		{clusterPage, "TrustRoot", reflect.TypeFor[clusterimagepolicy.TrustRootSpec](), nil},
		{"docs/admission.md", "Configuration", reflect.TypeFor[admission.Settings](), nil},
		{"docs/gate.md", "Configuration", reflect.TypeFor[gate.Settings](), nil},
	} {
		var want []string
		for _, name := range members(table.of) {
			if !slices.Contains(table.without, name) {
				want = append(want, name)
			}
		}
		same(t, table.page+" "+table.section, tableRows(t, table.page, table.section), want)
	}
	lock := slices.Concat(members(reflect.TypeFor[builder.Lock]()), members(reflect.TypeFor[builder.LockedGit]()), members(reflect.TypeFor[builder.Exchange]()))
	lock = slices.DeleteFunc(lock, func(name string) bool { return slices.Contains([]string{"denied", "failed", "stored"}, name) }) // of a record, never of a lock
	same(t, "spec/lock/v1", tableRows(t, "spec/lock/v1/README.md", ""), lock)

	parameters := []string{}
	for prefix, of := range map[string]reflect.Type{
		"": reflect.TypeFor[attest.ExternalParameters](), "source.": reflect.TypeFor[attest.SourceParameters](),
		"recipe.": reflect.TypeFor[attest.Recipe](), "default.": reflect.TypeFor[attest.DefaultRecipe](),
	} {
		for _, name := range members(of) {
			parameters = append(parameters, prefix+name)
		}
	}
	// Their own members follow, and the row of the recipe's builder is the example.
	parameters = slices.DeleteFunc(parameters, func(name string) bool {
		return slices.Contains([]string{"source", "recipe", "recipe.builder", "recipe.package", "recipe.files"}, name)
	})
	same(t, "spec/buildkit/v1, external parameters", tableRows(t, "spec/buildkit/v1/README.md", "External parameters"), parameters)
}

const clusterPage = "spec/clusterimagepolicy/README.md"

// spec/clusterimagepolicy has the members of the small types, too, and each rule there has a test.
func TestClusterImagePolicyPage(t *testing.T) {
	text := page(t, clusterPage)
	for _, of := range []reflect.Type{
		reflect.TypeFor[clusterimagepolicy.Image](), reflect.TypeFor[clusterimagepolicy.Selector](), reflect.TypeFor[clusterimagepolicy.LabelRequirement](),
		reflect.TypeFor[clusterimagepolicy.SecretReference](), reflect.TypeFor[clusterimagepolicy.Identity](), reflect.TypeFor[clusterimagepolicy.Static](),
		reflect.TypeFor[clusterimagepolicy.Source](), reflect.TypeFor[clusterimagepolicy.Log](), reflect.TypeFor[clusterimagepolicy.Timestamp](),
		reflect.TypeFor[clusterimagepolicy.Remote](), reflect.TypeFor[clusterimagepolicy.ConfigMapKey](), reflect.TypeFor[clusterimagepolicy.RemoteRepository](),
		reflect.TypeFor[clusterimagepolicy.Repository](), reflect.TypeFor[clusterimagepolicy.SigstoreKeys](), reflect.TypeFor[clusterimagepolicy.CertificateAuthority](),
		reflect.TypeFor[clusterimagepolicy.DistinguishedName](), reflect.TypeFor[clusterimagepolicy.LogInstance](),
	} {
		for _, name := range members(of) {
			if !strings.Contains(text, "`"+name+"`") {
				t.Errorf("%s does not have the member %s of %s", clusterPage, name, of)
			}
		}
	}
	for line := range strings.Lines(text) {
		row := strings.HasPrefix(line, "| ") && !strings.HasSuffix(line, "| test |\n")
		if row && !regexp.MustCompile(`: Test\w+(, Test\w+)* \|\n$`).MatchString(line) {
			t.Errorf("%s: no test in the row %s", clusterPage, line)
		}
	}
}

// members returns the names of a type's JSON members.
func members(of reflect.Type) (names []string) {
	for _, f := range reflect.VisibleFields(of) {
		if name, _, _ := strings.Cut(f.Tag.Get("json"), ","); name != "" {
			names = append(names, name)
		}
	}
	return names
}

// The JSON examples of the API and the release are what the types read, and have all
// their members.
func TestExamples(t *testing.T) {
	for _, example := range []struct {
		page, after string
		into        any
		without     []string // members that the example leaves out, which the page explains
	}{
		{"docs/api.md", "## POST /api/colophon/v1/releases", &api.ReleaseRequest{}, []string{"hermetic", "lock", "cacheMounts", "dockerAttestations"}},
		{"spec/release/README.md", "# Release", &api.Release{}, nil},
	} {
		text := page(t, example.page)
		_, rest, _ := strings.Cut(text, example.after)
		_, rest, _ = strings.Cut(rest, "```json\n")
		raw, _, found := strings.Cut(rest, "```")
		dec := json.NewDecoder(strings.NewReader(raw))
		dec.DisallowUnknownFields()
		if err := dec.Decode(example.into); !found || err != nil {
			t.Errorf("%s: %v", example.page, err)
			continue
		}
		var has map[string]json.RawMessage
		if err := json.Unmarshal([]byte(raw), &has); err != nil {
			t.Fatal(err)
		}
		got := append(slices.Collect(maps.Keys(has)), example.without...)
		same(t, example.page, got, members(reflect.TypeOf(example.into).Elem()))
		for _, name := range example.without {
			if !strings.Contains(text, "`"+name+"`") {
				t.Errorf("%s does not explain %s", example.page, name)
			}
		}
	}
	commit := members(reflect.TypeFor[source.Commit]())
	for _, name := range commit {
		text := page(t, "spec/release/README.md")
		if !strings.Contains(text, `"`+name+`":`) && !strings.Contains(text, "source."+name) {
			t.Errorf("spec/release does not have source.%s", name)
		}
	}
	text := page(t, "docs/api.md")
	for _, of := range []reflect.Type{reflect.TypeFor[api.Event](), reflect.TypeFor[api.Error]()} {
		for _, name := range members(of) {
			if !strings.Contains(text, "`"+name+"`") && !strings.Contains(text, `"`+name+`":`) {
				t.Errorf("docs/api.md does not have the member %s of %s", name, of)
			}
		}
	}
}

// docs/api.md lists the phases of a release's events.
func TestPhases(t *testing.T) {
	var got []string
	readSource(t).program([]string{"platform/release", "platform/attestor"}, func(_ string, f *ast.File) {
		ast.Inspect(f, func(n ast.Node) bool {
			switch n := n.(type) {
			case *ast.KeyValueExpr:
				if key, ok := n.Key.(*ast.Ident); ok && key.Name == "Phase" {
					got = append(got, literals(n.Value)...)
				}
			case *ast.AssignStmt:
				for i, to := range n.Lhs {
					if sel, ok := to.(*ast.SelectorExpr); ok && sel.Sel.Name == "Phase" {
						got = append(got, literals(n.Rhs[i])...)
					}
				}
			}
			return true
		})
	})
	said := regexp.MustCompile("(?s)`phase` is (.*?carry no information)").FindString(page(t, "docs/api.md"))
	var documented []string
	for _, m := range codeSpan.FindAllStringSubmatch(said, -1) {
		if m[1] != "phase" {
			documented = append(documented, m[1])
		}
	}
	same(t, "phases", documented, got)
}

// docs/api.md lists the paths that the platform's port answers. A path that ends in "…"
// stands for those below it.
func TestEndpoints(t *testing.T) {
	c := readSource(t)
	public := []string{"platform/front", "platform/role_front.go", "platform/web", "platform/role_registry.go", "platform/archive",
		"platform/authority/ca", "platform/authority/ctlog", "platform/authority/distrust", "platform/authority/indexlog", "platform/authority/issuer", "platform/authority/log", "platform/authority/root", "platform/authority/tsa"}
	var got []string
	c.program(public, func(path string, f *ast.File) {
		for _, pattern := range c.patterns(t, path, f) {
			_, p, ok := strings.Cut(pattern, " ")
			if !ok {
				p = pattern
			}
			p, _, _ = strings.Cut(p, "{")
			if p != "/v2" { // it leads to /v2/
				got = append(got, p)
			}
		}
	})
	var documented []string
	for _, name := range tableRows(t, "docs/api.md", "") {
		documented = append(documented, strings.TrimSuffix(name, "…"))
	}
	for _, m := range regexp.MustCompile(`(?m)^## (?:GET|POST) (\S+?)(?:ID|sha256:HEX)?$`).FindAllStringSubmatch(page(t, "docs/api.md"), -1) {
		documented = append(documented, m[1])
	}
	covers := func(list []string, p string) bool {
		return slices.ContainsFunc(list, func(other string) bool {
			return p == other || strings.HasSuffix(other, "/") && other != "/" && strings.HasPrefix(p, other)
		})
	}
	for _, p := range got {
		if !covers(documented, p) {
			t.Errorf("docs/api.md does not have %s", p)
		}
	}
	for _, p := range documented {
		if !covers(got, p) && !slices.ContainsFunc(got, func(other string) bool { return strings.HasPrefix(other, p) && strings.HasSuffix(p, "/") && p != "/" }) {
			t.Errorf("docs/api.md has %s, which nothing serves", p)
		}
	}
	if len(got) < 20 {
		t.Errorf("got %d paths, want all: %q", len(got), got)
	}
}

// patterns returns the patterns that a file registers at a mux. A pattern may be made of
// constants, and of a variable that ranges over a list of them.
func (c *code) patterns(t *testing.T, path string, f *ast.File) (out []string) {
	dir := filepath.Dir(path)
	ranges := map[string][]string{} // variable of a range: its values
	ast.Inspect(f, func(n ast.Node) bool {
		r, ok := n.(*ast.RangeStmt)
		if !ok {
			return true
		}
		list, ok := r.X.(*ast.CompositeLit)
		if !ok {
			return true
		}
		variable := r.Value
		for _, e := range list.Elts {
			if kv, ok := e.(*ast.KeyValueExpr); ok {
				e, variable = kv.Key, r.Key
			}
			if text, ok := c.text(dir, e); ok {
				if id, ok := variable.(*ast.Ident); ok {
					ranges[id.Name] = append(ranges[id.Name], text)
				}
			}
		}
		return true
	})
	ast.Inspect(f, func(n ast.Node) bool {
		call, ok := n.(*ast.CallExpr)
		if !ok || len(call.Args) != 2 {
			return true
		}
		if from, name := called(call); name != "Handle" && name != "HandleFunc" || from == "inside" {
			return true
		}
		if h, ok := call.Args[1].(*ast.CallExpr); ok {
			if _, name := called(h); name == "NotFoundHandler" {
				return true
			}
		}
		prefix, e := "", call.Args[0]
		if text, ok := c.text(dir, e); ok {
			out = append(out, text)
			return true
		}
		if sum, ok := e.(*ast.BinaryExpr); ok && sum.Op == token.ADD {
			if text, ok := c.text(dir, sum.X); ok {
				prefix, e = text, sum.Y
			}
		}
		id, ok := e.(*ast.Ident)
		switch {
		case ok && len(ranges[id.Name]) > 0:
			for _, text := range ranges[id.Name] {
				out = append(out, prefix+text)
			}
		case path == "platform/web/web.go": // the pages of builders, by their ids
			out = append(out, prefix+"/builders/")
		default:
			t.Errorf("%s: this test does not understand the pattern", c.fset.Position(call.Pos()))
		}
		return true
	})
	return out
}

// A test that cannot run says so through package needs, which fails where everything must
// be tested.
func TestSkips(t *testing.T) {
	c := readSource(t)
	skips := 0
	for path, f := range c.files {
		if !strings.HasSuffix(path, "_test.go") {
			continue
		}
		ast.Inspect(f, func(n ast.Node) bool {
			switch n := n.(type) {
			case *ast.CallExpr:
				from, name := called(n)
				if from != "t" || !strings.HasPrefix(name, "Skip") {
					return true
				}
				said := strings.Join(literals(n), "")
				if skips++; name == "SkipNow" || !strings.HasPrefix(said, "NOT ASKED FOR: ") && !strings.HasPrefix(said, "NOT HERE: ") {
					t.Errorf("%s: a test is skipped (%q): use package test/needs, or say NOT ASKED FOR, or NOT HERE if what it tests cannot exist here", c.fset.Position(n.Pos()), said)
				}
			case *ast.BasicLit:
				if n.Value == `"COLOPHON_REQUIRE_BUILD"` {
					t.Errorf("%s: only package test/needs reads the variable", c.fset.Position(n.Pos()))
				}
			case *ast.IfStmt:
				if cond, ok := n.Cond.(*ast.BinaryExpr); ok && cond.Op == token.NEQ && isUID(cond.X) && leaves(n.Body) {
					t.Errorf("%s: a test ends without root: use needs.Root", c.fset.Position(n.Pos()))
				}
			}
			return true
		})
	}
	if skips == 0 {
		t.Error("no skip was found")
	}
}

func isUID(e ast.Expr) bool {
	call, ok := e.(*ast.CallExpr)
	if !ok {
		return false
	}
	from, name := called(call)
	return from == "os" && (name == "Getuid" || name == "Geteuid")
}

func leaves(body *ast.BlockStmt) bool {
	for _, s := range body.List {
		if _, ok := s.(*ast.ReturnStmt); ok {
			return true
		}
	}
	return false
}

// The table of formats says which version a format has, and where the version stands.
func TestVersionsOfFormats(t *testing.T) {
	rows := regexp.MustCompile(`(?m)^\| \[([^]]+)\]\(([^)]+)/\) \| .* \| (.+) \|$`).FindAllStringSubmatch(page(t, "spec/README.md"), -1)
	var dirs []string
	for _, row := range rows {
		dir, version := row[2], row[3]
		dirs = append(dirs, filepath.Dir(dir+"/x"))
		text := page(t, "spec/"+dir+"/README.md")
		folder := regexp.MustCompile(`/v[0-9]+$`).MatchString(dir)
		member := strings.Contains(text, "| `version` | number | 1 |")
		switch version {
		case "the build type":
			if !folder || !strings.Contains(text, "tree/main/spec/"+dir) {
				t.Errorf("spec/%s: want a build type with the version in its address", dir)
			}
		case "the folder":
			if !folder {
				t.Errorf("spec/%s: want a folder of its version", dir)
			}
		case "`version`":
			if !member {
				t.Errorf("spec/%s: want a member version", dir)
			}
		case "`apiVersion`":
			if folder || !strings.Contains(text, "| `apiVersion`") {
				t.Errorf("spec/%s: want a member apiVersion", dir)
			}
		case "none":
			if folder || member {
				t.Errorf("spec/%s has a version", dir)
			}
		default:
			t.Errorf("spec/%s: version: got %q", dir, version)
		}
	}
	var pages []string
	repoFiles(t, "README.md", func(path string, _ []byte) {
		if rel, ok := strings.CutPrefix(filepath.ToSlash(path), "../spec/"); ok && rel != "README.md" {
			pages = append(pages, filepath.Dir(rel))
		}
	})
	same(t, "formats", dirs, pages)
}

// The ids of builders in the specifications are those that the platform gives them.
func TestBuilderIDs(t *testing.T) {
	c := readSource(t)
	var segment bytes.Buffer
	c.program([]string{"platform/builders.go"}, func(_ string, f *ast.File) {
		for _, text := range literals(f) {
			segment.WriteString(text + "\n")
		}
	})
	for _, name := range []string{"buildkit", "golang"} {
		if !strings.Contains(segment.String(), "/builders/"+name+"/") || !strings.Contains(segment.String(), "one-user/") || !strings.Contains(segment.String(), "plain-user/") {
			t.Errorf("platform/builders.go does not have the ids of %s", name)
		}
		for _, id := range []string{"ORIGIN/builders/" + name + "/v1`", "ORIGIN/builders/" + name + "/one-user/v1`", "ORIGIN/builders/" + name + "/plain-user/v1`"} {
			if !strings.Contains(page(t, "spec/"+name+"/v1/README.md"), "`"+id) {
				t.Errorf("spec/%s/v1 does not have the builder id `%s", name, id)
			}
		}
	}
}
