package attack

import (
	"archive/tar"
	archive "archive/zip"
	"bytes"
	"crypto/rand"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strings"
	"testing"
	"time"

	"github.com/colophon-build/colophon/attest"
	"github.com/colophon-build/colophon/platform/api"
	"github.com/colophon-build/colophon/platform/builder"
	"github.com/colophon-build/colophon/test/await"
	"github.com/colophon-build/colophon/test/gittest"
)

// golang is the recipe of the releases that a liar builds. It needs no room.
func golang(r *api.ReleaseRequest) { r.Recipe.Builder = "golang" }

// lie makes the platform release a liar's layout. The attack succeeds if the platform
// signs it, or if look finds evidence. Otherwise the error must contain want.
func (s *scene) lie(want string, l *liar, look func() string) (through, stopped string) {
	s.Helper()
	p := s.platform("step")
	s.usurp(p, l)
	_, _, err := s.release(p, s.repository(map[string]string{"go.mod": "module x\n"}), "lied-"+strings.ToLower(rand.Text()), golang)
	if evidence := look(); evidence != "" {
		return evidence, ""
	}
	if err == nil {
		return "the platform signed it", ""
	}
	if !strings.Contains(err.Error(), want) {
		s.Errorf("stopped for another reason: %v, want %q", err, want)
	}
	return "", err.Error()
}

// This attack also proves that the lies below can succeed: it releases an honest layout.
var _ = register(attack{
	name: "name-the-source", tries: "get its image signed for another commit",
	guard: "the attestor determines commit and tree, and does not ask the builder: release fetch",
	cuts: []cut{{buildFile, `	a.Finished = time.Now().UTC()
`, `	a.Finished = time.Now().UTC()
	if id := a.claimed.Config["commit"]; id != "" {
		j.commit.ID = id
	}
`}},
	beside: func(s *scene) (string, string) {
		p := s.platform("step")
		l := honest()
		l.result.Config = map[string]string{"commit": strings.Repeat("e", 40)}
		s.usurp(p, l)
		repo := s.repository(map[string]string{"go.mod": "module x\n", "who": "the commit"})
		r, said, err := s.release(p, repo, "honest", golang)
		if err != nil {
			s.Fatalf("honest layout: %v\n%s", err, said)
		}
		if l.seenSource["who"] != "the commit" || r.Source.ID != gittest.Git(s, repo, "rev-parse", "HEAD") {
			return fmt.Sprintf("the tree was %q, the release says %s", l.seenSource["who"], r.Source.ID), ""
		}
		return "", "the builder cannot name a commit or tree"
	},
})

const (
	buildFile   = "platform/release/build.go"
	measureFile = "oci/measure.go"
	layersFile  = "oci/files.go"
)

// The attestor hashes a blob each time it reads it, and the registry hashes it on arrival.
var cutHashes = []cut{
	{"oci/manifest.go", `if got := hex.EncodeToString(r.sum.Sum(nil)); got`, `if got := hex.EncodeToString(r.sum.Sum(nil)); false && got`},
	{"platform/registry/upload.go", `	if got != want {`, `	if false && got != want {`},
}

const strictGuard = "a repeated JSON member is an error: internal/strict Unmarshal"

var cutStrict = []cut{
	{"internal/strict/strict.go", `	if err := json.Unmarshal(data, v); err != nil {
`, `	if err := json.Unmarshal(data, v, jsontext.AllowDuplicateNames(true)); err != nil {
`}, {"internal/strict/strict.go", `	"github.com/go-json-experiment/json"
`, `	"github.com/go-json-experiment/json"
	"github.com/go-json-experiment/json/jsontext"
`}}

var cutModules = cut{buildFile, `a.Dependencies, err = checkModules(j.tree, j.recipe, a.claimed.Dependencies); err == nil {`, `a.Dependencies = a.claimed.Dependencies; err == nil {`}

var cutStray = cut{measureFile, `if _, ok := m.used[h]; !ok {`, `if _, ok := m.used[h]; false && !ok {`}

var cutMeasure = cut{buildFile, `if got, claimed := m.Descriptor.Digest.String(), a.claimed.Digest; got != claimed {`, `if got, claimed := m.Descriptor.Digest.String(), a.claimed.Digest; false && got != claimed {`}

// attestorDir is the attestor's directory as the attestor sees it.
const attestorDir = "/run/colophon-zone/attestor"

// lies are attacks of a builder on the attestor, each by a layout or a result.
var lies = []struct {
	name, tries, guard, want string
	cuts                     []cut
	harm                     func(l *liar)
}{
	{"lie-digest", "state a digest that does not match the bytes",
		"the attestor computes the digest, and the builder must state the same: release measure", "its bytes are", []cut{cutMeasure},
		func(l *liar) { l.result.Digest = "sha256:" + strings.Repeat("ab", 32) }},
	{"lie-blob-name", "store bytes under the digest of other bytes",
		"each blob is hashed when it is unpacked, read and pushed: platform/builder UnpackLayout, oci verifying, platform/registry finish", "got digest",
		append([]cut{{"platform/builder/layout.go", `len(want) == len(got) && got != want`, `false && got != want`}}, cutHashes...),
		func(l *liar) {
			l.setPlain(pack(entry{tar.Header{Name: "hello"}, []byte("hello")}))
			said := descriptor{"sha256:" + hexSum(l.layer), len(l.layer)}
			l.setPlain(pack(entry{tar.Header{Name: "hello"}, []byte("evil!")}))
			l.rename = map[string]string{"sha256:" + hexSum(l.layer): said.digest[len("sha256:"):]}
			m := l.manifest
			l.manifest = func(c, _ descriptor) string { return m(c, said) }
		}},
	{"duplicate-manifest-keys", "repeat a JSON member, so that two readers see different images", strictGuard, "duplicate", cutStrict,
		func(l *liar) {
			m := l.manifest
			l.manifest = func(c, layer descriptor) string {
				return strings.Replace(m(c, layer), `"layers":[`, `"layers":[],"layers":[`, 1)
			}
		}},
	{"duplicate-index-keys", "repeat a JSON member in index.json", strictGuard, "duplicate", cutStrict,
		func(l *liar) {
			f := l.index
			l.index = func(m descriptor) string {
				return strings.Replace(f(m), `"manifests":[`, `"manifests":[],"manifests":[`, 1)
			}
		}},
	{"duplicate-config-keys", "repeat a JSON member in the configuration", strictGuard, "duplicate", cutStrict,
		func(l *liar) {
			f := l.config
			l.config = func(d string) string {
				return strings.Replace(f(d), `"os":"linux"`, `"os":"windows","os":"linux"`, 1)
			}
		}},
	{"lie-diff-id", "state a diff_id that does not match the layer",
		"the attestor unpacks and hashes each layer: oci layers", "unpacks to", []cut{{measureFile, `if got.DiffID != layer.DiffID {`, `if false {`}},
		func(l *liar) { l.diffID = "sha256:" + strings.Repeat("cd", 32) }},
	{"lie-size", "state a size that does not match the blob",
		"every reader compares the size of a blob with the stated size: oci Blob, oci verifying, platform/registry present, verify", "bytes",
		[]cut{
			{"oci/layout.go", `	if size != d.Size {
		f.Close()
		return`, `	if d.Size = size; false {
		return`},
			{"oci/manifest.go", `	return &verifyingReader{inner: inner, want: want, sum: sum, left: want.Size}, nil`, `	_ = sum
	return inner, nil`},
			{"oci/registry.go", `if resp.ContentLength >= 0 && resp.ContentLength != d.Size {`, `if false {`},
			{"oci/push.go", `req.ContentLength, req.GetBody = d.Size, body`, `req.ContentLength, req.GetBody = -1, body`},
			{"platform/registry/manifest.go", `if fi.Size() != want.Size {`, `if false {`},
			{"verify/image.go", `if err == nil && n != d.Size {`, `if false {`},
		},
		func(l *liar) {
			m := l.manifest
			l.manifest = func(c, layer descriptor) string { layer.size++; return m(c, layer) }
		}},
	{"lie-platform", "return an image for another platform",
		"the image's configuration must name the platform of the recipe: release samePlatforms", "platforms of the image", []cut{{buildFile, `if !slices.Equal(want, got) {`, `if false {`}},
		func(l *liar) {
			f := l.config
			l.config = func(d string) string { return strings.Replace(f(d), runtime.GOARCH, "s390x", 1) }
		}},
	{"two-images", "return two images, of which only one is checked",
		"a layout must contain exactly one image: oci MeasureLayout", "got 2 entries, want 1", []cut{{measureFile, `if len(index.Manifests) != 1 {`, `if len(index.Manifests) == 0 {`}, cutStray},
		func(l *liar) {
			m, f := l.manifest, l.index
			var other descriptor
			l.manifest = func(c, layer descriptor) string {
				text := m(c, layer)
				evil := []byte(strings.Replace(text, `{`, `{"annotations":{"the":"other"},`, 1))
				other = descriptor{"sha256:" + hexSum(evil), len(evil)}
				l.extra = []entry{{tar.Header{Name: "blobs/sha256/" + hexSum(evil)}, evil}}
				return text
			}
			l.index = func(d descriptor) string {
				e := `{"mediaType":"application/vnd.oci.image.manifest.v1+json",`
				return strings.Replace(f(d), e+d.String()+"}", e+d.String()+"},"+e+other.String()+"}", 1)
			}
		}},
	{"blob-too-many", "hide a file among the blobs",
		"a layout must contain exactly one image: oci MeasureLayout", "is not part of the image", []cut{cutStray},
		func(l *liar) {
			l.extra = []entry{{tar.Header{Name: "blobs/sha256/" + hexSum([]byte("hidden"))}, []byte("hidden")}}
		}},
	{"layout-bomb", "return a layer that unpacks to gigabytes",
		"unpacked layers and their files, including holes, have a size limit: oci boundedReader, readTar", "unpacks to more than",
		[]cut{{"oci/unpack.go", `if b.read > b.left {`, `if false {`}, {layersFile, `if files += h.Size; files > bytes || files < 0 {`, `if files += h.Size; false {`}},
		func(l *liar) { l.layer, l.diffID = zeros(3 << 30) }},
	{"layer-traversal", "return a layer with file names outside of it",
		"names in a layer cannot leave it: oci checkName", "entry", []cut{{layersFile, `		if err := checkName(h.Name); err != nil {`, `		if err := error(nil); err != nil {`}},
		func(l *liar) {
			l.setLayer(pack(entry{tar.Header{Name: "../../../../etc/cron.d/evil"}, []byte("* * * * * root id\n")}))
		}},
	{"trailing-data", "hide data after the end of a layer's tar",
		"only zeros may follow the end of a tar: oci onlyPadding", "data follows the end of the tar", []cut{{"oci/unpack.go", `return b != 0`, `return false`}},
		func(l *liar) {
			l.setLayer(append(pack(entry{tar.Header{Name: "hello"}, []byte("hello")}), pack(entry{tar.Header{Name: "evil"}, []byte("evil")})...))
		}},
	{"unknown-media-type", "return a layer of a type that verifiers do not read and registries need not store",
		"unknown media types are refused: oci packing", "want that of a layer", []cut{{measureFile, `return "", refuse("media type: got %q, want that of a layer", mediaType)`, `return "gzip", nil`}},
		func(l *liar) { l.layerType = "application/vnd.oci.image.layer.nondistributable.v1.tar+gzip" }},
	{"foreign-layer", "make clients fetch a layer from another place",
		"descriptors with URLs or inline data are refused: oci use", "urls or data", []cut{{measureFile, `if len(d.URLs) > 0 || len(d.Data) > 0 {`, `if false {`}},
		func(l *liar) {
			m := l.manifest
			l.manifest = func(c, layer descriptor) string {
				return strings.Replace(m(c, layer), `"layers":[{`, `"layers":[{"urls":["http://127.0.0.1/?attack=foreign-layer"],`, 1)
			}
		}},
	{"claimed-source", "claim that the image was also built from another repository",
		"the builder cannot name a source, and dependencies must be in go.sum: release checkClaims, release checkModules", "refusing to sign",
		[]cut{{"platform/release/claims.go", `if d.Name == "source" || taken[repository] {`, `if false && taken[repository] {`}, cutModules},
		func(l *liar) {
			l.result.Dependencies = []attest.ResourceDescriptor{{Name: "source", URI: "git+https://git.example.com/other@refs/tags/v1", Digest: map[string]string{"gitCommit": strings.Repeat("a", 40)}}}
		}},
	{"claimed-modules", "claim modules that are not in go.sum",
		"modules must be in the commit's go.sum: release checkModules", "go.sum", []cut{cutModules},
		func(l *liar) {
			l.result.Dependencies = []attest.ResourceDescriptor{{Name: "example.com/x@v1.0.0", URI: "pkg:golang/example.com/x@v1.0.0", Digest: map[string]string{"dirHash": strings.Repeat("a", 64)}}}
		}},
}

func init() {
	for _, lie := range lies {
		register(attack{name: lie.name, tries: lie.tries, guard: lie.guard, cuts: lie.cuts, beside: func(s *scene) (string, string) {
			l := honest()
			lie.harm(l)
			return s.lie(lie.want, l, func() string { return s.world.hit(lie.name) })
		}})
	}
}

var _ = register(attack{
	name: "unclaimed-module", tries: "link a module into a Go binary and leave it out of the account",
	guard: "the attestor reads the modules in the measured binaries: release linkedModules, checkLinked",
	cuts:  []cut{{"platform/release/modules.go", `if l.Sum == "" || sums[l.Name] != l.Sum {`, `if false {`}},
	unit:  "platform/release: TestModulesInTheBinary",
})

func init() {
	const file, hands = "platform/release/files.go", "platform/release: TestLyingFiles"
	for _, a := range []attack{
		{name: "another-file", tries: "hand over a release file under another name, or one more",
			guard: "the attestor computes the names from the commit: release sameFiles",
			cuts:  []cut{{file, `if !slices.Equal(want, got) {`, `if false && !slices.Equal(want, got) {`}}, unit: hands},
		{name: "exchanged-files", tries: "hand over the binary for one platform under the name of another",
			guard: "the attestor reads the platform from each binary: release checkTargets",
			cuts:  []cut{{file, `said[f.Name] != want {`, `false && said[f.Name] != want {`}}, unit: hands},
		{name: "link-as-file", tries: "have a link, a device or a hole in a file signed as a release file",
			guard: "only regular files of a stage count: release stageReader.add",
			cuts:  []cut{{"platform/release/stage.go", `case h.Typeflag != tar.TypeReg || isSparse(h):`, `case false:`}}, unit: "platform/release: TestHostileStage"},
		{name: "name-of-another-platform", tries: "let the build for one platform make a file with the name of one for another platform",
			guard: "the platform is the end of each name: attest FileNameFrom",
			cuts:  []cut{{"attest/files.go", `if i := strings.LastIndex(name, of); i > 0 && endings.MatchString(name[i+len(of):]) {`, `if strings.Contains(name, "-") {`}}, unit: "attest: TestFileNameFrom"},
		{name: "renamed-file", tries: "offer the file for one platform, with its proof, under the name of another",
			guard: "a file counts only under the name in its provenance: verify matchKind",
			cuts:  []cut{{"verify/judge.go", `if subject.Name == c.title && c.title != "" {`, `if true {`}}, unit: "verify: TestFileOfPlatform"},
		{name: "file-as-image", tries: "build a file with the bytes of an image's manifest, and offer it as that image",
			guard: "the build type says whether a provenance is about a file or an image: verify matchKind",
			cuts:  []cut{{"verify/judge.go", `case isFile && c.about != aboutFile:`, `case false && isFile:`}, {"verify/judge.go", `case !isFile:`, `case c.about != aboutFile:`}}, unit: "verify: TestFilesAreNoImage"},
	} {
		register(a)
	}
}

var _ = register(attack{
	name: "large-image", tries: "fill the disk on which all releases are scanned with the layers of one image",
	guard: "layers are unpacked into the directory of their release: release scan",
	cuts: []cut{{"platform/release/items.go", `	o.Dir = filepath.Join(j.dir, dirScan)
`, ``}},
	beside: func(s *scene) (string, string) {
		p := s.platform("step")
		l := honest()
		l.layer, l.diffID = zeros(1152 << 20) // the scanner's /tmp has 1 GiB
		s.usurp(p, l)
		_, said, err := s.release(p, s.repository(map[string]string{"go.mod": "module x\n"}), "large", golang)
		if err != nil && strings.Contains(err.Error(), "no space left on device") {
			return "it filled the attestor's disk: " + err.Error(), ""
		}
		if err != nil {
			s.Errorf("a large image: %v\n%s", err, said)
		}
		return "", "it was released"
	},
})

var _ = register(attack{
	name: "archive-bomb", tries: "make the SBOM scanner run out of space, so that an SBOM omits packages",
	guard: "the release fails if the scanner could not read a file for lack of space: cmd/colophon-scan complete",
	cuts:  []cut{{"cmd/colophon-scan/generate.go", `, complete(s)`, `, nil`}},
	beside: func(s *scene) (string, string) {
		p := s.platform("step")
		l := honest()
		var jar bytes.Buffer
		w := archive.NewWriter(&jar)
		manifest, err := w.Create("META-INF/MANIFEST.MF")
		if err != nil {
			s.Fatal(err)
		}
		io.WriteString(manifest, "Manifest-Version: 1.0\nImplementation-Title: left-out\nImplementation-Version: 1.0\n")
		inner, err := w.Create("zeros.jar")
		if err != nil {
			s.Fatal(err)
		}
		for range 1152 { // MiB; the scanner's /tmp has 1024
			inner.Write(make([]byte, 1<<20))
		}
		w.Close()
		l.setLayer(pack(entry{tar.Header{Name: "app/a.jar"}, jar.Bytes()}))
		s.usurp(p, l)
		_, said, err := s.release(p, s.repository(map[string]string{"go.mod": "module x\n"}), "bombed", golang)
		if err == nil {
			cmd := exec.Command(s.cli, "inspect", p.Addr+"/bombed:v1.0.0", "--sbom=spdx")
			cmd.Env = p.Env()
			if sbom, err := cmd.Output(); err != nil || bytes.Contains(sbom, []byte("left-out")) {
				s.Fatalf("the SBOM: %v\n%s", err, sbom)
			}
			return "the platform signed an SBOM without the archive's packages", ""
		}
		if !strings.Contains(err.Error(), "no space left on device") {
			s.Errorf("stopped for another reason: %v\n%s", err, said)
		}
		return "", err.Error()
	},
})

var _ = register(attack{
	name: "layout-traversal", tries: "write files outside of the output, by names and links in the layout's archive",
	guard: "the unpacker accepts only names of the layout format, and no links: platform/builder UnpackLayout",
	cuts:  []cut{{"platform/builder/layout.go", `if h.Typeflag != tar.TypeReg || !layoutFile.MatchString(name) {`, `if false {`}},
	beside: func(s *scene) (string, string) {
		outside := filepath.Join(s.platform("step").Data, "attestor", "records", "written")
		written := func() string {
			if _, err := os.Lstat(outside); err == nil {
				return "a file was written outside"
			}
			return ""
		}
		up := "../../../records/written" // from the layout, below work
		var stopped []string
		for n, extra := range [][]entry{
			{{tar.Header{Name: up}, []byte("x")}},
			{{tar.Header{Name: attestorDir + "/records/written"}, []byte("x")}},
			{{tar.Header{Name: "blobs/sha256/../../" + up}, []byte("x")}},
			{{tar.Header{Name: "blobs/sha512", Typeflag: tar.TypeSymlink, Linkname: attestorDir + "/records"}, nil}, {tar.Header{Name: "blobs/sha512/written"}, []byte("x")}},
			{{tar.Header{Name: "blobs/sha256/" + strings.Repeat("a", 64), Typeflag: tar.TypeSymlink, Linkname: s.canary}, nil}},
			{{tar.Header{Name: "blobs/sha256/" + strings.Repeat("a", 64), Typeflag: tar.TypeLink, Linkname: s.canary}, nil}},
			{{tar.Header{Name: "blobs/sha256/" + strings.Repeat("a", 64), Typeflag: tar.TypeBlock, Devmajor: 8}, nil}},
			{{tar.Header{Name: "blobs/sha256/" + strings.Repeat("a", 64), Typeflag: tar.TypeFifo}, nil}},
			{{tar.Header{Name: "index.json"}, []byte("{}")}},
		} {
			l := honest()
			l.extra = extra
			var through, how string
			s.Run(fmt.Sprintf("entry-%d", n), func(t *testing.T) { through, how = s.in(t).lie("OCI layout", l, written) })
			if through != "" {
				return extra[0].Name + ": " + through, ""
			}
			stopped = append(stopped, how)
		}
		return "", brief(stopped)
	},
})

var _ = register(attack{
	name: "log-flood", tries: "fill the platform's disk with the output of a build",
	guard: "the build log has a size limit: release newBuildLog",
	cuts:  []cut{{"platform/release/record.go", `if len(s) > l.left {`, `if false {`}},
	beside: func(s *scene) (string, string) {
		p := s.platform("step")
		l := honest()
		line := strings.Repeat("flood ", 5000)
		l.events = func(emit func(builder.Event)) {
			for range 3500 { // 105 MB
				emit(builder.Event{Step: "[1/1] RUN yes", Line: line})
			}
		}
		s.usurp(p, l)
		if _, _, err := s.release(p, s.repository(map[string]string{"go.mod": "module x\n"}), "flood", golang); err != nil {
			s.Fatal(err)
		}
		var size int64
		filepath.Walk(filepath.Join(p.Data, "attestor"), func(_ string, info os.FileInfo, err error) error {
			if err == nil && info.Mode().IsRegular() {
				size = max(size, info.Size())
			}
			return nil
		})
		if size > 80<<20 {
			return fmt.Sprintf("the platform kept %d bytes", size), ""
		}
		return "", fmt.Sprintf("stored %d bytes of 105 MB", size)
	},
})

var _ = register(attack{
	name: "terminal", tries: "control the terminal of a person who reads a build's output",
	guard: "the CLI replaces control characters: internal/printable Text",
	cuts:  []cut{{"internal/printable/printable.go", `case r == '\t' || unicode.IsPrint(r):`, `case true:`}},
	beside: func(s *scene) (string, string) {
		p := s.platform("step")
		l := honest()
		l.events = func(emit func(builder.Event)) {
			emit(builder.Event{Step: "\x1b[2J\x1b]0;evil\x07step", Line: "\x1b]52;c;ZXZpbA==\x07\x1b[1A\r  ✓ accepted\x08\x9b31m\u202eevil"})
		}
		s.usurp(p, l)
		repo := s.repository(map[string]string{"go.mod": "module x\n"})
		cmd := exec.Command(s.cli, "release", repo, "--ref", "v1.0.0", "--image", p.Addr+"/terminal", "--builder", "golang")
		cmd.Env = p.Env()
		out, err := cmd.CombinedOutput()
		if err != nil || !bytes.Contains(out, []byte("evil")) {
			s.Fatalf("release: %v\n%s", err, out)
		}
		for _, bad := range []string{"\x1b", "\x07", "\x08", "\r", "\u009b", "\u202e"} {
			if bytes.Contains(out, []byte(bad)) {
				return fmt.Sprintf("the output has %q", bad), ""
			}
		}
		return "", "no control character reached the terminal"
	},
})

var _ = register(attack{
	name: "built-elsewhere", tries: "build outside the watched room, and return that image",
	guard: "the attestor signs only a build of the session's room, whose record it gets from the rooms role: release attempt",
	cuts:  []cut{{buildFile, `if a.record, ended = j.endSession(ctx, req.Session); err == nil {`, `if a.record, _ = j.endSession(ctx, req.Session); err == nil {`}},
	beside: func(s *scene) (string, string) {
		p := s.platform("step")
		s.usurpDriver(p, honest(), false)
		repo := s.repository(map[string]string{"Dockerfile": "FROM scratch\nCOPY Dockerfile /\n"})
		if _, _, err := s.release(p, repo, "elsewhere"); err == nil {
			return "the platform signed it", ""
		} else {
			return "", err.Error()
		}
	},
})

// The liar is the builder role here. It needs no lie: it would pass another tree or
// recipe to the room, and the room's record would be in order.
var _ = register(attack{
	name: "pass-on-another-tree", tries: "take over the builder role, and pass another tree or recipe to the watched room",
	guard: "the attestor hands recipe and tree to the role rooms, which starts the build's driver with them: platform releaseConfig",
	cuts:  []cut{{"platform/role_attestor.go", `"buildkit": worker.Client{At: o.Rooms}`, `"buildkit": worker.Client{At: o.Builder}`}},
	beside: func(s *scene) (string, string) {
		p := s.platform("step")
		l := honest()
		s.usurp(p, l)
		repo := s.repository(map[string]string{"Dockerfile": "FROM scratch\nCOPY Dockerfile /\n", "who": "the commit"})
		_, said, err := s.release(p, repo, "passed-on")
		if l.seenSource != nil {
			return fmt.Sprintf("the builder got the tree %v to pass on", l.seenSource), ""
		}
		if err != nil {
			s.Fatalf("a release that does not need the builder: %v\n%s", err, said)
		}
		return "", "the build was made without the builder"
	},
})

var _ = register(attack{
	name: "lie-base-layers", tries: "build in the watched room, and return an image that is not based on the recipe's base image",
	guard: "the attestor resolves the base image, and compares the lowest layers with it: release bases, platform/release/base Lowest",
	cuts:  []cut{{"platform/release/dependencies.go", `if err := base.Lowest(lowest, diffIDs(p)); err != nil {`, `if err := base.Lowest(lowest, diffIDs(p)); false && err != nil {`}},
	beside: func(s *scene) (string, string) {
		p := s.platform("step")
		l := honest()
		s.usurpDriver(p, l, true)
		repo := s.repository(map[string]string{"Dockerfile": "FROM debian:bookworm-slim\nCOPY Dockerfile /\n"})
		_, said, err := s.release(p, repo, "other-base")
		if err == nil {
			return "the platform signed it", ""
		}
		if !strings.Contains(err.Error(), "of the base image") {
			s.Errorf("stopped for another reason: %v\n%s", err, said)
		}
		return "", err.Error()
	},
})

var _ = register(attack{
	name: "layout-swapped-after-check", tries: "change a blob between measuring and pushing it",
	guard: "each blob is hashed when it is read, and when it arrives in the registry: oci verifying, platform/registry finish",
	cuts:  cutHashes,
	beside: func(s *scene) (string, string) {
		p := s.platform("step")
		l := honest()
		l.setPlain(pack(entry{tar.Header{Name: "hello"}, []byte("the good")}))
		good, evil := l.layer, bytes.Replace(l.layer, []byte("the good"), []byte("the evil"), 1)
		// The attestor measures layers in order: a second layer keeps it busy while the first is changed.
		large, diffID := zeros(768 << 20)
		l.extra = []entry{{tar.Header{Name: "blobs/sha256/" + hexSum(large)}, large}}
		c, m := l.config, l.manifest
		l.config = func(d string) string { return strings.Replace(c(d), `"]}`, `","`+diffID+`"]}`, 1) }
		l.manifest = func(config, layer descriptor) string {
			more := fmt.Sprintf(`},{"mediaType":"application/vnd.oci.image.layer.v1.tar+gzip",%s}]`, descriptor{"sha256:" + hexSum(large), len(large)})
			return strings.Replace(m(config, layer), "}]", more, 1)
		}
		s.usurp(p, l)
		_, err := s.interrupted(s.Context(), p, s.repository(map[string]string{"go.mod": "module x\n"}), "swapped", "measure", func() {
			await.True(s, "the attestor measures the large layer", func() bool { return heldOpen(hexSum(large)) })
			time.Sleep(200 * time.Millisecond)
			found, err := filepath.Glob(filepath.Join(p.Data, "attestor", "work", "*", "layout", "blobs", "sha256", hexSum(good)))
			if err != nil || len(found) != 1 {
				s.Fatalf("the measured layer: %q, %v", found, err)
			}
			if err := os.WriteFile(found[0], evil, 0o644); err != nil {
				s.Fatal(err)
			}
			if !heldOpen(hexSum(large)) {
				s.Error("the large layer was measured too fast")
			}
		})
		if err == nil {
			if got := p.Get("/v2/swapped/blobs/sha256:" + hexSum(good)); !bytes.Equal(got, good) {
				return "signed, and the registry serves another layer as sha256:" + hexSum(good), ""
			}
			s.Fatal("the layer was not changed before it was pushed")
		}
		if !strings.Contains(err.Error(), "blob digest") {
			s.Errorf("stopped for another reason: %v", err)
		}
		return "", err.Error()
	},
})

// heldOpen reports whether any process has a file of this name open.
func heldOpen(name string) bool {
	fds, _ := filepath.Glob("/proc/[0-9]*/fd/*")
	for _, fd := range fds {
		if to, err := os.Readlink(fd); err == nil && filepath.Base(to) == name {
			return true
		}
	}
	return false
}
