package lock_test

import (
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/colophon-build/colophon/lint/finding"
	"github.com/colophon-build/colophon/lint/lock"
	"github.com/colophon-build/colophon/test/linttest"
	"github.com/colophon-build/colophon/test/spent"
)

func TestRules(t *testing.T) { linttest.Rules(t, lock.Checker()) }

const sum = "0123456789abcdef0123456789abcdef0123456789abcdef0123456789abcdef"

const pom = `<project>
<groupId>mine</groupId>
<dependencies>
<dependency><groupId>g</groupId><artifactId>a</artifactId></dependency>
<dependency><groupId>g</groupId><artifactId>missing</artifactId></dependency>
<dependency><groupId>mine</groupId><artifactId>x</artifactId></dependency>
<dependency><groupId>${x}</groupId><artifactId>y</artifactId></dependency>
</dependencies><dependencyManagement><dependencies><dependency><groupId>z</groupId><artifactId>z</artifactId></dependency></dependencies></dependencyManagement>
</project>
`

type repository struct {
	files map[string]string
	want  string
}

// TestFound: each package manager's lock file, with and without what makes it one.
func TestFound(t *testing.T) {
	try(t, map[string]repository{
		"go without dependencies":   {map[string]string{"go.mod": "module a\n\ngo 1.26\n"}, ""},
		"go, replaced":              {map[string]string{"go.mod": "module a\nrequire b.example.com/b v1.0.0\nreplace b.example.com/b => ./b\n", "go.sum": ""}, ""},
		"go.mod, broken":            {map[string]string{"go.mod": "module a\nrequire (\nx\n)\n"}, "syntax go.mod:3"},
		"go.sum, short":             {map[string]string{"go.sum": "b v1.0.0\n"}, "without-hash go.sum:1"},
		"npm of a workspace":        {map[string]string{"package.json": `{"dependencies":{"b":"workspace:*"}}`}, ""},
		"npm, not in the lock":      {map[string]string{"package.json": `{"dependencies":{"b":"1"}}`, "package-lock.json": `{"packages":{"node_modules/c":{}}}`}, "out-of-date package.json:1"},
		"npm version 1":             {map[string]string{"package-lock.json": `{"dependencies":{"b":{"version":"1.0.0","resolved":"https://r.example.com/b.tgz"}}}`}, "without-hash package-lock.json:1"},
		"npm version 1, nested":     {map[string]string{"package-lock.json": `{"dependencies":{"b":{"version":"1.0.0","integrity":"x","requires":{"c":"1"},"dependencies":{"c":{"resolved":"https://r.example.com/c.tgz"}}}}}`}, "without-hash package-lock.json:1"},
		"npm, what packages need":   {map[string]string{"package-lock.json": `{"packages":{"":{"dependencies":{"b":"^1"}},"node_modules/b":{"resolved":"https://r.example.com/b.tgz","integrity":"sha512-x","dependencies":{"c":"^1"}}}}`}, ""},
		"npm, a link":               {map[string]string{"package-lock.json": `{"packages":{"node_modules/b":{"resolved":"packages/b","link":true}}}`}, ""},
		"pnpm":                      {map[string]string{"pnpm-lock.yaml": "lockfileVersion: '9.0'\npackages:\n  b@1.0.0:\n    resolution: {tarball: https://r.example.com/b.tgz}\n  c@1.0.0:\n    resolution: {integrity: sha512-x}\n"}, "without-hash pnpm-lock.yaml:3"},
		"pnpm, broken":              {map[string]string{"pnpm-lock.yaml": "a: [\n"}, "syntax pnpm-lock.yaml:0"},
		"yarn 1":                    {map[string]string{"yarn.lock": "# yarn lockfile v1\n\nb@^1:\n  version \"1.0.0\"\n  resolved \"https://r.example.com/b.tgz\"\n\nc@^1:\n  resolved \"https://r.example.com/c.tgz#" + sum[:40] + "\"\n"}, "without-hash yarn.lock:3"},
		"yarn 4":                    {map[string]string{"yarn.lock": "# x\n\n__metadata:\n  version: 8\n\n\"b@npm:^1\":\n  resolution: \"b@npm:1.0.0\"\n\n\"c@npm:^1\":\n  resolution: \"c@npm:1.0.0\"\n  checksum: 10c0/x\n\n\"d@workspace:.\":\n  resolution: \"d@workspace:.\"\n"}, "without-hash yarn.lock:6"},
		"Cargo":                     {map[string]string{"Cargo.lock": "[[package]]\nname = \"b\"\nversion = \"1.0.0\"\nsource = \"registry+https://index.example.com/crates\"\n\n[[package]]\nname = \"mine\"\nversion = \"1.0.0\"\n"}, "without-hash Cargo.lock:2"},
		"Cargo, no lock":            {map[string]string{"Cargo.toml": "[package]\nname = \"a\"\n[[bin]]\nname = \"a\"\n[dependencies]\nb = \"1\"\n"}, "missing Cargo.toml:0"},
		"Cargo, a library":          {map[string]string{"Cargo.toml": "[package]\nname = \"a\"\n[dependencies]\nb = \"1\"\n"}, ""},
		"Cargo, broken":             {map[string]string{"Cargo.lock": "[[package]]\nname = \n"}, "syntax Cargo.lock:2"},
		"poetry":                    {map[string]string{"poetry.lock": "[[package]]\nname = \"b\"\nversion = \"1\"\nfiles = []\n[[package]]\nname = \"c\"\nversion = \"1\"\nfiles = [{file = \"c.whl\", hash = \"sha256:x\"}]\n"}, "without-hash poetry.lock:2"},
		"poetry, not in the lock":   {map[string]string{"pyproject.toml": "[tool.poetry.dependencies]\npython = \"^3\"\nMy_Lib = \"1\"\nother = \"2\"\n", "poetry.lock": "[[package]]\nname = \"my-lib\"\nfiles = [{file = \"c\", hash = \"x\"}]\n"}, "out-of-date pyproject.toml:4"},
		"uv":                        {map[string]string{"uv.lock": "[[package]]\nname = \"b\"\nsource = { registry = \"https://index.example.com/simple\" }\nwheels = [{ url = \"https://x\" }]\n[[package]]\nname = \"me\"\nsource = { virtual = \".\" }\n"}, "without-hash uv.lock:2"},
		"Pipfile.lock":              {map[string]string{"Pipfile.lock": `{"_meta":{"hash":{"sha256":"x"}},"default":{"b":{"version":"==1"},"c":{"hashes":["sha256:x"]}}}`}, "without-hash Pipfile.lock:1"},
		"npm, no address":           {map[string]string{"package-lock.json": `{"packages":{"":{"version":"1.0.0"},"w":{"version":"1.0.0"},"node_modules/a":{"version":"1.0.0"},"node_modules/w":{"link":true},"node_modules/i":{"version":"1.0.0","integrity":"x"},"node_modules/f":{"version":"1.0.0","resolved":"file:f.tgz"}}}`}, "without-hash package-lock.json:1"},
		"npm version 1, no address": {map[string]string{"package-lock.json": `{"dependencies":{"a":{"version":"1.0.0"},"g":{"version":"git+https://g.example.com/g.git#0123"},"f":{"version":"file:f"}}}`}, "without-hash package-lock.json:1"},
		"a hash in a comment":       {map[string]string{"requirements.txt": "a==1 # --hash=sha256:x\nb==1 \\\n  # --hash=sha256:x\nc @ https://x/c.zip#sha256=x --hash=sha256:x\n"}, "without-hash requirements.txt:1"},
		"a comment goes not on":     {map[string]string{"requirements.txt": "# git+ \\\na==1\n"}, "without-hash requirements.txt:2"},
		"requirements with options": {map[string]string{"requirements/prod.txt": "-r base.txt\n# x\n.\n--no-binary :all:\n"}, ""},
		"Gemfile.lock":              {map[string]string{"Gemfile.lock": "GEM\n  remote: http://gems.example.com/\n  specs:\n    b (1.0)\n\nCHECKSUMS\n  b (1.0)\n  c (1.0) sha256=x\n"}, "plain-http Gemfile.lock:2,without-hash Gemfile.lock:7"},
		"Gemfile, not in the lock":  {map[string]string{"Gemfile": "gem \"b\"\ngem 'c', '~> 1'\n", "Gemfile.lock": "GEM\n  specs:\n    c (1.0)\n\nCHECKSUMS\n  c (1.0) sha256=x\n"}, "out-of-date Gemfile:1"},
		"composer":                  {map[string]string{"composer.json": `{"require":{"php":">=8","a/b":"1"}}`, "composer.lock": `{"packages":[{"name":"a/b","dist":{"url":"https://x","shasum":""}}]}`}, "without-hash composer.lock:1"},
		"NuGet":                     {map[string]string{"packages.lock.json": `{"dependencies":{"net9.0":{"B":{"type":"Direct","resolved":"1.0.0"},"C":{"type":"Project"}}}}`}, "without-hash packages.lock.json:1"},
		"Gradle":                    {map[string]string{"gradle/verification-metadata.xml": "<v>\n<component group=\"a\" name=\"b\" version=\"1\">\n<artifact name=\"b.jar\"></artifact></component></v>"}, "without-hash gradle/verification-metadata.xml:3"},
		"yarn 4, other platforms":   {map[string]string{"yarn.lock": "# x\n\n__metadata:\n  version: 8\n\n\"b@npm:^1\":\n  resolution: \"b@npm:1.0.0\"\n  conditions: os=a\n\n\"c@npm:^1\":\n  resolution: \"c@npm:1.0.0\"\n  conditions: os=b\n"}, "without-hash yarn.lock:6"},
		"a byte order mark":         {map[string]string{"package.json": "\ufeff{}"}, ""},
		"Pipfile, not in the lock":  {map[string]string{"Pipfile": "[packages]\nb = \"*\"\nC_d = \"*\"\ne = {path = \".\"}\n[dev-packages]\nf = \"*\"\n", "Pipfile.lock": `{"_meta":{},"default":{"c-d":{"hashes":["sha256:x"]},"b":{"hashes":["sha256:x"]}}}`}, "out-of-date Pipfile:6"},
		"NuGet, not in the lock":    {map[string]string{"a.csproj": "<Project><ItemGroup>\n<PackageReference Include=\"B\" />\n<PackageReference Include=\"c\"/></ItemGroup><ItemGroup Condition=\"x\"><PackageReference Include=\"D\"/></ItemGroup></Project>", "packages.lock.json": `{"dependencies":{"net9.0":{"b":{"type":"Direct","contentHash":"x"}}}}`}, "out-of-date a.csproj:3"},
		"NuGet, broken":             {map[string]string{"a.fsproj": "<Project>\n<PackageReference Include=\"B\">"}, "syntax a.fsproj:2"},
		"Maven, unverified":         {map[string]string{"pom.xml": "<project/>"}, "unverified pom.xml:0"},
		"Maven, not in the lock":    {map[string]string{"pom.xml": pom, "lockfile.json": `{"checksumAlgorithm":"SHA-256","dependencies":[{"groupId":"g","artifactId":"a","checksum":"x","children":[{"groupId":"g","artifactId":"c","version":"1"}]}]}`}, "without-hash lockfile.json:1,out-of-date pom.xml:5"},
		"Maven, trusted checksums":  {map[string]string{"pom.xml": pom, ".mvn/checksums/checksums.sha256": sum + "  g/a/1/a-1.jar\n"}, "out-of-date pom.xml:5"},
		"Maven, broken":             {map[string]string{"pom.xml": "<project>\n<a></project>"}, "syntax pom.xml:2"},
		"another lockfile.json":     {map[string]string{"lockfile.json": "[1]"}, ""},
		"a wrapper's colons":        {map[string]string{"gradle-wrapper.properties": "distributionUrl : https\\://x?a=b\n"}, "unverified gradle-wrapper.properties:1"},
		"a wrapper's spaces":        {map[string]string{"gradle-wrapper.properties": "  distributionUrl https\\://x\n#distributionSha256Sum=" + sum + "\n"}, "unverified gradle-wrapper.properties:1"},
		"a wrapper's sum":           {map[string]string{"gradle-wrapper.properties": "distributionUrl=https\\://x\ndistributionSha256Sum\\: a\ndistributionSha256Sum: " + sum + "\n"}, ""},
		"a wrapper's plain address": {map[string]string{"gradle-wrapper.properties": "distributionUrl=http\\://x\ndistributionSha256Sum=" + sum + "\n"}, "plain-http gradle-wrapper.properties:1"},
		"wrappers":                  {map[string]string{"gradle/wrapper/gradle-wrapper.properties": "a=b\ndistributionUrl=https\\://x\n", ".mvn/wrapper/maven-wrapper.properties": "distributionUrl=https://x\ndistributionSha256Sum=" + sum + "\n"}, "unverified gradle/wrapper/gradle-wrapper.properties:2"},
		"pdm":                       {map[string]string{"pdm.lock": "[[package]]\nname = \"b\"\nversion = \"1\"\n[[package]]\nname = \"c\"\nversion = \"1\"\nfiles = [{file = \"c.whl\", hash = \"sha256:x\"}]\n[[package]]\nname = \"d\"\ngit = \"https://x\"\n"}, "without-hash pdm.lock:2"},
		"pylock":                    {map[string]string{"pyproject.toml": "[project]\ndependencies = [\"B>1\"]\n[tool.pdm]\n", "pylock.toml": "[[packages]]\nname = \"b\"\nwheels = [{url = \"https://x\", hashes = {sha256 = \"x\"}}]\nsdist = {url = \"https://x\"}\n[[packages]]\nname = \"c\"\nvcs = {type = \"git\"}\n"}, "without-hash pylock.toml:2"},
		"poetry, a group":           {map[string]string{"pyproject.toml": "[tool.poetry.dependencies]\na = \"1\"\n[tool.poetry.group.dev.dependencies]\nb = \"1\"\n", "poetry.lock": "[[package]]\nname = \"a\"\nfiles = [{file = \"c\", hash = \"x\"}]\n"}, "out-of-date pyproject.toml:4"},
		"bun":                       {map[string]string{"bun.lock": "{\n  // x\n  \"packages\": {\n    \"b\": [\"b@1.0.0\", \"\", {}, \"\"],\n    \"c\": [\"c@1,]\", \"\", {}, \"sha512-x\"],\n    \"d\": [\"d@workspace:d\"],\n  },\n}\n"}, "without-hash bun.lock:4"},
		"bun, broken":               {map[string]string{"bun.lock": "{\n\"a\": [}\n"}, "syntax bun.lock:2"},
		"requirements.in":           {map[string]string{"requirements.in": "# x\nB[x]>1\n-r a.in\nc\nd; python_version < '3'\n", "requirements.txt": "b==2 --hash=sha256:x\n"}, "out-of-date requirements.in:4"},
		"requirements.in, alone":    {map[string]string{"requirements/dev.in": "b\n"}, "missing requirements/dev.in:0"},
		"npm, another version":      {map[string]string{"package.json": `{"dependencies":{"b":"^2"}}`, "package-lock.json": `{"packages":{"":{"dependencies":{"b":"^1"}},"node_modules/b":{}}}`}, "out-of-date package.json:1"},
		"pnpm, another version":     {map[string]string{"a/package.json": `{"dependencies":{"b":"^2","c":"catalog:"}}`, "pnpm-lock.yaml": "importers:\n  .:\n    dependencies: {b: {specifier: ^2}}\n  a:\n    dependencies: {b: {specifier: ^1}, c: {specifier: ^1}}\n"}, "out-of-date a/package.json:1"},
		"pnpm, old":                 {map[string]string{"package.json": `{"dependencies":{"b":"^2"}}`, "pnpm-lock.yaml": "specifiers: {b: ^1}\n"}, "out-of-date package.json:1"},
		"pnpm, overrides":           {map[string]string{"package.json": `{"dependencies":{"b":"^2"}}`, "pnpm-lock.yaml": "overrides:\n  b: ^1\nspecifiers:\n  b: ^1\n"}, ""},
		"composer, for tests":       {map[string]string{"composer.json": `{"require-dev":{"a/b":"1"}}`, "composer.lock": `{"packages-dev":[{"name":"a/b","dist":{"url":"http://x","shasum":""}}]}`}, "plain-http composer.lock:1,without-hash composer.lock:1"},
		"Cargo, for tests":          {map[string]string{"Cargo.toml": "[[bin]]\n[dev-dependencies]\nb = \"1\"\nc.workspace = true\n", "Cargo.lock": "[[package]]\nname = \"bin\"\n"}, "out-of-date Cargo.toml:3"},
		"Gradle, broken":            {map[string]string{"gradle/verification-metadata.xml": "<v>\n<a>"}, "syntax gradle/verification-metadata.xml:2"},
		"brackets":                  {map[string]string{"Cargo.lock": "a = " + strings.Repeat("[", 1<<20)}, "syntax Cargo.lock:0"},
		"braces":                    {map[string]string{"package-lock.json": strings.Repeat(`{"a":`, 1<<20)}, "syntax package-lock.json:0"},
	})
}

// TestReadersDiffer: package managers heed the case of names, and know no hash under another one; of two members
// with one name they take the last.
func TestReadersDiffer(t *testing.T) {
	const npm, resolved = `{"packages":{"node_modules/b":{"version":"1.0.0",`, `"resolved":"https://r.example.com/b.tgz"`
	try(t, map[string]repository{
		"npm, another case":       {map[string]string{"package-lock.json": npm + resolved + `,"Integrity":"sha512-x"}}}`}, "syntax package-lock.json:0"},
		"npm, another case above": {map[string]string{"package-lock.json": npm + resolved + `}},"Packages":{}}`}, "syntax package-lock.json:0"},
		"composer, two archives":  {map[string]string{"composer.lock": "{\"packages\":[{\"name\":\"a/b\",\"dist\":{\"shasum\":\"x\"},\n\"dist\":{\"url\":\"https://x\"}}]}"}, "syntax composer.lock:2"},
		"NuGet, another case":     {map[string]string{"packages.lock.json": `{"dependencies":{"net9.0":{"B":{"type":"Direct","ContentHash":"x"}}}}`}, "syntax packages.lock.json:0"},
		"Cargo, another case":     {map[string]string{"Cargo.lock": "[[package]]\nname = \"b\"\nversion = \"1.0.0\"\nsource = \"registry+https://index.example.com/crates\"\nChecksum = \"x\"\n"}, "syntax Cargo.lock:0"},
		"poetry, another case":    {map[string]string{"poetry.lock": "[[package]]\nname = \"c\"\nfiles = [{file = \"c.whl\", HASH = \"sha256:x\"}]\n"}, "syntax poetry.lock:0"},
		"pylock, another case":    {map[string]string{"pylock.toml": "[[packages]]\nname = \"b\"\nsdist = {url = \"https://x\", Hashes = {sha256 = \"x\"}}\n"}, "syntax pylock.toml:0"},
		"names in capitals":       {map[string]string{"poetry.lock": "[[package]]\nname = \"c\"\nfiles = [{file = \"c.whl\", hash = \"sha256:x\"}]\n[package.dependencies]\nHash = \">1\"\nName = {version = \"*\"}\n"}, ""},
	})
}

// TestNoHashes: what only looks like the hash of a requirement, or like a commit.
func TestNoHashes(t *testing.T) {
	try(t, map[string]repository{
		"in a marker":        {map[string]string{"requirements.txt": "a==1 ; sys_platform != \"--hash=x\"\n"}, "without-hash requirements.txt:1"},
		"in an address":      {map[string]string{"requirements.txt": "a @ https://x.example.com/git+/a.zip\n"}, "without-hash requirements.txt:1"},
		"a commit":           {map[string]string{"requirements.txt": "a @ git+https://x.example.com/a@0123\ngit+https://x.example.com/b@0123\nb@git+ssh://x.example.com/b@0123\n"}, ""},
		"a hash on its line": {map[string]string{"requirements.txt": "a==1 \\\n--hash=sha256:x\nb==1\t--hash sha256:x\n"}, ""},
	})
}

// TestPlainAddresses: an address only looks like one of this machine.
func TestPlainAddresses(t *testing.T) {
	locked := func(address string) map[string]string {
		return map[string]string{"package-lock.json": `{"packages":{"node_modules/b":{"version":"1.0.0","integrity":"sha512-x","resolved":"` + address + `"}}}`}
	}
	try(t, map[string]repository{
		"a host that begins so":     {locked(`http://localhost.example.com/b.tgz`), "plain-http package-lock.json:1"},
		"a user of that name":       {locked(`http://127.0.0.1@example.com/b.tgz`), "plain-http package-lock.json:1"},
		"a scheme in capitals":      {locked(`HTTP://example.com/b.tgz`), "plain-http package-lock.json:1"},
		"pip's index":               {map[string]string{"requirements.txt": "-i http://pypi.example.com/simple\n--extra-index-url=http://b.example.com --trusted-host b\n--index-url https://x\na==1 --hash=sha256:x\n"}, "plain-http requirements.txt:1,plain-http requirements.txt:2"},
		"uv":                        {map[string]string{"uv.lock": "[[package]]\nname = \"b\"\nsource = { registry = \"http://pypi.example.com/simple\" }\nwheels = [{ url = \"https://x\", hash = \"sha256:x\" }]\n[[package]]\nname = \"c\"\nsource = { registry = \"https://x\" }\nsdist = { url = \"http://x\", hash = \"sha256:x\" }\n"}, "plain-http uv.lock:2,plain-http uv.lock:6"},
		"poetry":                    {map[string]string{"poetry.lock": "[[package]]\nname = \"b\"\nfiles = [{file = \"b.whl\", hash = \"sha256:x\"}]\n[package.source]\ntype = \"legacy\"\nurl = \"http://x\"\n[[package]]\nname = \"g\"\n[package.source]\ntype = \"git\"\nurl = \"git://x\"\n"}, "plain-http poetry.lock:2,plain-http poetry.lock:8"},
		"Pipenv":                    {map[string]string{"Pipfile.lock": "{\"_meta\":{\"sources\":[{\"name\":\"p\",\n\"url\":\"http://pypi.example.com/simple\"}]},\"default\":{\n\"b\":{\"version\":\"==1\"}}}"}, "plain-http Pipfile.lock:2,without-hash Pipfile.lock:3"},
		"a registry of the machine": {locked(`http://localhost:4873/b.tgz`), ""},
	})
}

// TestWorkspaces: a lock file is for the manifests of its workspace, and for no other below it.
func TestWorkspaces(t *testing.T) {
	try(t, map[string]repository{
		"npm, of a workspace's":     {map[string]string{"w/a/package.json": `{"devDependencies":{"b":"^2"}}`, "package-lock.json": `{"packages":{"":{"dependencies":{"b":"^1"}},"w/a":{"devDependencies":{"b":"^2"}},"node_modules/b":{}}}`}, ""},
		"npm, not in the workspace": {map[string]string{"t/package.json": `{"dependencies":{"b":"1"}}`, "package-lock.json": `{"packages":{"":{},"a":{}}}`}, "note missing t/package.json:0"},
		"pnpm, not in it":           {map[string]string{"t/a/package.json": `{"dependencies":{"b":"1"}}`, "t/pnpm-lock.yaml": "importers:\n  b:\n    dependencies: {b: {specifier: 1}}\n"}, "note missing t/a/package.json:0"},
		"pnpm, in it":               {map[string]string{"t/a/package.json": `{"dependencies":{"c":"1"}}`, "t/pnpm-lock.yaml": "importers:\n  a:\n    dependencies: {b: {specifier: 1}}\n"}, "out-of-date t/a/package.json:1"},
		"yarn 4, not in it":         {map[string]string{"a/package.json": `{"dependencies":{"b":"1"}}`, "yarn.lock": "#\n__metadata:\n\"c@workspace:c\":\n"}, "note missing a/package.json:0"},
		"yarn 1, no workspace":      {map[string]string{"a/package.json": `{"dependencies":{"b":"1"}}`, "yarn.lock": "#\n", "package.json": "{}"}, "note missing a/package.json:0"},
		"bun, not in it":            {map[string]string{"a/package.json": `{"dependencies":{"b":"1"}}`, "bun.lock": `{"workspaces":{"b":{}}}`}, "note missing a/package.json:0"},
		"uv, not in it":             {map[string]string{"a/pyproject.toml": "[project]\ndependencies = [\"b\"]\n[tool.uv]\n", "uv.lock": "[[package]]\nname = \"c\"\nsource = { editable = \"c\" }\n"}, "note missing a/pyproject.toml:0"},
		"uv, in it":                 {map[string]string{"a/pyproject.toml": "[project]\ndependencies = [\"b\"]\n[tool.uv]\n", "uv.lock": "[[package]]\nname = \"a\"\nsource = { editable = \"a\" }\n"}, "out-of-date a/pyproject.toml:2"},
		"poetry, below another":     {map[string]string{"a/pyproject.toml": "[tool.poetry.dependencies]\nb = \"1\"\n", "poetry.lock": ""}, "note missing a/pyproject.toml:0"},
		"Cargo, not in it":          {map[string]string{"a/Cargo.toml": "[package]\nname = \"a\"\n[[bin]]\n[dependencies]\nb = \"1\"\n", "Cargo.lock": "[[package]]\nname = \"c\"\n"}, "note missing a/Cargo.toml:0"},
		"Cargo, of a workspace":     {map[string]string{"a/Cargo.toml": "[[bin]]\n[dependencies]\nb = \"1\"\n", "Cargo.lock": "[[package]]\nname = \"b\"\n"}, ""},
	})
}

func try(t *testing.T, all map[string]repository) {
	t.Helper()
	for what, c := range all {
		var got []string
		for _, f := range linttest.Run(t, linttest.Write(t, c.files, ""), lock.Checker()).Findings {
			text := fmt.Sprintf("%s %s:%d", strings.TrimPrefix(f.Rule, "lock/"), f.File, f.Line)
			if f.Rule == "lock/missing" && f.Severity == finding.Note {
				text = "note " + text
			}
			got = append(got, text)
		}
		if got := strings.Join(got, ","); got != c.want {
			t.Errorf("%s: got %s, want %s", what, got, c.want)
		}
	}
}

// TestKinds: docs/lint.md says that of each package manager a missing lock file is found, and one that git does
// not track.
func TestKinds(t *testing.T) {
	for lockName, m := range map[string]struct{ manifest, text, lock string }{
		"go.sum":                           {"go.mod", "module a\nrequire b.example.com/b v1.0.0\n", "b.example.com/b v1.0.0 h1:" + strings.Repeat("A", 43) + "=\n"},
		"package-lock.json":                {"package.json", `{"dependencies":{"b":"1"}}`, `{"packages":{"node_modules/b":{}}}`},
		"pnpm-lock.yaml":                   {"package.json", `{"dependencies":{"b":"1"}}`, "importers:\n  .:\n    dependencies:\n      b:\n        specifier: '1'\npackages:\n  b@1.0.0:\n    resolution: {integrity: x}\n"},
		"yarn.lock":                        {"package.json", `{"dependencies":{"b":"1"}}`, "# yarn lockfile v1\n\nb@1:\n  version \"1.0.0\"\n"},
		"bun.lock":                         {"package.json", `{"dependencies":{"b":"1"}}`, `{"packages":{"b":["b@1"]}}`},
		"requirements.txt":                 {"requirements.in", "b\n", "b==1 --hash=sha256:x\n"},
		"poetry.lock":                      {"pyproject.toml", "[tool.poetry.dependencies]\nb = \"1\"\n", "[[package]]\nname = \"b\"\nfiles = [{file = \"c\", hash = \"x\"}]\n"},
		"uv.lock":                          {"pyproject.toml", "[project]\ndependencies = [\"b\"]\n[tool.uv]\n", "[[package]]\nname = \"b\"\nsource = {registry = \"x\"}\nwheels = [{url = \"https://x\", hash = \"x\"}]\n"},
		"pdm.lock":                         {"pyproject.toml", "[project]\ndependencies = [\"b\"]\n[tool.pdm]\n", "[[package]]\nname = \"b\"\nfiles = [{file = \"c\", hash = \"x\"}]\n"},
		"pylock.toml":                      {"pyproject.toml", "[project]\ndependencies = [\"b\"]\n[tool.pdm]\n", "[[packages]]\nname = \"b\"\n"},
		"Pipfile.lock":                     {"Pipfile", "[packages]\nb = \"*\"\n", `{"default":{"b":{"hashes":["x"]}}}`},
		"Cargo.lock":                       {"Cargo.toml", "[[bin]]\n[dependencies]\nb = \"1\"\n", "[[package]]\nname = \"b\"\n"},
		"Gemfile.lock":                     {"Gemfile", "gem \"b\"\n", "GEM\n  specs:\n    b (1.0)\n\nCHECKSUMS\n  b (1.0) sha256=x\n"},
		"composer.lock":                    {"composer.json", `{"require":{"a/b":"1"}}`, `{"packages":[{"name":"a/b"}]}`},
		"gradle/verification-metadata.xml": {"build.gradle.kts", "", "<a/>"},
		"lockfile.json":                    {"pom.xml", "<project/>", `{"checksumAlgorithm":"SHA-256"}`},
		"packages.lock.json":               {"a.csproj", "<Project><PackageReference Include=\"B\"/></Project>", `{"dependencies":{"net9.0":{"B":{"contentHash":"x"}}}}`},
	} {
		files := map[string]string{m.manifest: m.text}
		for step, want := range []string{"missing", "not-committed", ""} {
			sh := []string{"git init -q; git add .", "git init -q; git add " + m.manifest, "git init -q; git add ."}[step]
			var got []string
			for _, f := range linttest.Run(t, linttest.Write(t, files, sh), lock.Checker()).Findings {
				got = append(got, strings.TrimPrefix(f.Rule, "lock/"))
			}
			if text := strings.Replace(strings.Join(got, ","), "unverified", "missing", 1); text != want {
				t.Errorf("%s, step %d: got %s, want %s", lockName, step, text, want)
			}
			files[lockName] = m.lock
		}
	}
}

// TestHostile: a lock file of as many entries as fit, each with a fault, costs a bounded time.
func TestHostile(t *testing.T) {
	var npm, cargo, requirements, gems strings.Builder
	npm.WriteString(`{"packages":{`)
	gems.WriteString("GEM\n  remote: https://x\n\nCHECKSUMS\n")
	const many = 100_000
	for i := range many {
		fmt.Fprintf(&npm, "\"node_modules/%d\":{\"resolved\":\"https://r.example.com/b.tgz\"},\n", i)
		fmt.Fprintf(&cargo, "[[package]]\nname = \"p%d\"\nversion = \"1\"\nsource = \"registry+http://x\"\n", i)
		fmt.Fprintf(&requirements, "p%d\n", i)
		fmt.Fprintf(&gems, "  p%d (1)\n", i)
	}
	npm.WriteString(`"":{}}}`)
	for name, src := range map[string]string{"package-lock.json": npm.String(), "Cargo.lock": cargo.String(), "requirements.in": requirements.String(), "Gemfile.lock": gems.String()} {
		start := spent.Now()
		r := linttest.Run(t, linttest.Write(t, map[string]string{name: src, "requirements.txt": "b --hash=x"}, ""), lock.Checker())
		if took := spent.Now() - start; len(r.Findings) == 0 || took > 20*time.Second {
			t.Errorf("%s: got %d findings in %s", name, len(r.Findings), took)
		}
	}
}

// TestNames: a package is in a lock file in each of the forms that package managers write, and another one whose name
// begins or ends like its name is not it.
func TestNames(t *testing.T) {
	all := map[string]repository{}
	add := func(lock, text, want string) {
		want = strings.ReplaceAll(want, "lacks", "out-of-date package.json:1")
		all[lock+" "+text] = repository{map[string]string{"package.json": `{"dependencies":{"b":"1","@s/b":"1"}}`, lock: text}, want}
	}
	for _, text := range []string{
		"\"@s/b@^1\", b@^1, b@^2:\n  version \"1\"\n", "# yarn lockfile v1\n\nb@1:\n  version \"1\"\n\n\"@s/b@1\":\n  version \"1\"\n", "a@1, b@1, \"@s/b@1\":\n  version \"1\"\n",
		"\"@s/b@npm:^1\":\n  version: 1\n\"b@npm:^1, b@npm:^2\":\n  version: 1\n",
	} {
		add("yarn.lock", text, "")
	}
	for _, text := range []string{
		"packages:\n  /@s/b/1.0.0:\n    dev: false\n  /b/1.0.0:\n    dev: false\n", "packages:\n  /@s/b@1.0.0(c@1):\n    dev: false\n  /b@1.0.0(c@1):\n    dev: false\n", "importers:\n  .:\n    dependencies:\n      '@s/b':\n        version: 1\n      b:\n        version: 1\n",
		"packages:\n  registry.example.com/@s/b/1.0.0:\n    dev: false\n  registry.example.com/b/1.0.0:\n    dev: false\n",
	} {
		add("pnpm-lock.yaml", text, "")
	}
	add("bun.lock", `{"packages":{"x":["@s/b@1"],"y":["b@1"]}}`, "")
	add("package-lock.json", `{"packages":{"node_modules/a/node_modules/@s/b":{},"w/node_modules/b":{}}}`, "")
	add("package-lock.json", `{"dependencies":{"b":{},"@s/b":{}}}`, "")
	for _, text := range []string{"xb@1, b-x@1, \"@s/b-x@1\", \"@t/b@1\":\n  version \"1\"\n  dependencies:\n    b \"^1\"\n"} {
		add("yarn.lock", text, "lacks")
	}
	add("package-lock.json", `{"packages":{"node_modules/xb":{},"node_modules/b-x":{},"node_modules/@s/b-x":{}}}`, "lacks")
	try(t, all)
}

// TestManyNames: a manifest of as many names as fit, with a lock file of as many, costs a bounded time, and so do as
// many manifests as a workspace has of one lock file.
func TestManyNames(t *testing.T) {
	const many = 100_000
	text := func(begin, each, end string) string {
		var b strings.Builder
		b.WriteString(begin)
		for i := range many {
			b.WriteString(strings.ReplaceAll(each, "N", fmt.Sprint(i)))
		}
		return b.String() + end
	}
	npm := text(`{"dependencies":{`, "\"n-N\":\"1\",", `"z":"1"}}`)
	members := func(name, text string) map[string]string {
		files := map[string]string{}
		for i := range 1000 {
			files[fmt.Sprintf("w/%d/%s", i, name)] = text
		}
		return files
	}
	with := func(files map[string]string, name, text string) map[string]string {
		files[name] = text
		return files
	}
	for what, files := range map[string]map[string]string{
		"npm":                 {"package.json": npm, "package-lock.json": text(`{"packages":{`, "\"node_modules/m-N\":{\"version\":\"1.0.0\",\"integrity\":\"x\"},", `"":{}}}`)},
		"npm, slashes":        {"package.json": npm, "package-lock.json": `{"a":"` + strings.Repeat("/", 5<<20) + `"}`},
		"npm, scopes":         {"package.json": npm, "yarn.lock": strings.Repeat("/@a", 1<<20) + "\n"},
		"npm, without hash":   {"package-lock.json": text(`{"packages":{`, "\"node_modules/m-N\":{\"version\":\"1.0.0\"},", `"":{}}}`)},
		"Ruby":                {"Gemfile": text("", "gem 'n-N'\n", ""), "Gemfile.lock": text("GEM\n  specs:\n", "    m-N (1)\n", "")},
		"PHP":                 {"composer.json": text(`{"require":{`, "\"a/n-N\":\"1\",", `"a/z":"1"}}`), "composer.lock": text(`{"packages":[`, "{\"name\":\"a/m-N\"},", `{}]}`)},
		"Maven":               {"pom.xml": text("<project><dependencies>", "<dependency><groupId>g</groupId><artifactId>n-N</artifactId></dependency>", "</dependencies></project>"), ".mvn/checksums/checksums.sha256": text("", "00  g/m-N/1/m-N.jar\n", "")},
		"Go":                  {"go.mod": text("module a.example.com/a\nrequire (\n", "b.example.com/nN v1.0.0\n", ")\nreplace (\n") + strings.ReplaceAll(text("", "b.example.com/mN => ./mN\n", ")\n"), "\n\n", "\n"), "go.sum": ""},
		"pip, continued":      {"requirements.txt": strings.Repeat("\\\n", 2<<20) + "a==1\n"},
		"a workspace of npm":  with(members("package.json", `{"dependencies":{"m-1":"2"}}`), "package-lock.json", text(`{"packages":{`, "\"node_modules/m-N\":{\"version\":\"1.0.0\",\"integrity\":\"x\"},\"w/N\":{},", `"":{}}}`)),
		"a workspace of Yarn": with(members("package.json", `{"dependencies":{"m-1":"2"}}`), "yarn.lock", text("#\n__metadata:\n", "\"m-N@workspace:w/N\":\n", "")),
		"a workspace of pnpm": with(members("package.json", `{"dependencies":{"z":"2"}}`), "pnpm-lock.yaml", strings.Replace(text("importers:\n", "  w/N: {}\n", ""), "  w/45000: {}\n", "  w/a: {}\n#", 1)[:1<<19]+"\n"),
	} {
		start := spent.Now()
		r := linttest.Run(t, linttest.Write(t, files, ""), lock.Checker())
		took := spent.Now() - start
		t.Logf("%s: %d findings in %s", what, len(r.Findings), took)
		if took > 20*time.Second || len(r.Findings) == 0 && !strings.HasPrefix(what, "a workspace of Yarn") && !strings.HasPrefix(what, "a workspace of npm") {
			t.Errorf("%s: got %d findings in %s", what, len(r.Findings), took)
		}
	}
}

// TestNested: brackets are counted as the parser sees them, so that none of its recursions goes too deep.
func TestNested(t *testing.T) {
	deep := strings.Repeat("[", 2000)
	for name, src := range map[string]string{
		"plain": "a = " + deep, "closed in comments": "a = " + strings.Repeat("[#]\n", 2000), "closed in strings": "a = " + strings.Repeat(`["]",`, 2000),
		"after a number sign": "a = " + strings.Repeat("['#', [\n", 1000), "after a quote": `a = ["\"", ` + deep, "after long strings": `a = ["""x\""""", '''it's''', ` + deep,
	} {
		r := linttest.Run(t, linttest.Write(t, map[string]string{"Cargo.lock": src, "Cargo.toml": "[package]\nname = \"a\"\n"}, ""), lock.Checker())
		if !slices.ContainsFunc(r.Findings, func(f finding.Finding) bool { return strings.Contains(f.Message, "brackets are open") }) {
			t.Errorf("%s: got %+v", name, r.Findings)
		}
	}
}
