package attack

import (
	"archive/tar"
	archive "archive/zip"
	"bytes"
	"compress/gzip"
	"crypto/rand"
	"crypto/sha256"
	"encoding/binary"
	"encoding/json"
	"fmt"
	"io"
	"net"
	"net/http"
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
	"github.com/colophon-build/colophon/test/harness"
)

// A liar is the builder's role in other hands: somebody who has the builder's
// user, and with it its socket. It hands over whatever layout it likes.
type liar struct {
	layer      []byte // packed
	layerType  string
	diffID     string
	config     func(diffID string) string
	manifest   func(config, layer descriptor) string
	index      func(manifest descriptor) string
	rename     map[string]string // digest of a blob: the name that it goes by
	extra      []entry           // more of the tar
	result     builder.Result
	events     func(emit func(builder.Event))
	seenSource map[string]string // files of the tree that it was given
	during     func()            // called between the request and the answer
	real       *http.Client      // of the builder whose place it took; nil: it does not ask that
}

type descriptor struct {
	digest string
	size   int
}

func (d descriptor) String() string { return fmt.Sprintf(`"digest":%q,"size":%d`, d.digest, d.size) }

type entry struct {
	tar.Header
	body []byte
}

func hexSum(b []byte) string { return fmt.Sprintf("%x", sha256.Sum256(b)) }

func pack(files ...entry) []byte {
	var out bytes.Buffer
	w := tar.NewWriter(&out)
	for _, f := range files {
		if f.Typeflag == 0 {
			f.Typeflag, f.Size = tar.TypeReg, int64(len(f.body))
		}
		f.Mode = 0o644
		w.WriteHeader(&f.Header)
		w.Write(f.body)
	}
	w.Close()
	return out.Bytes()
}

func zip(b []byte) []byte {
	var out bytes.Buffer
	w := gzip.NewWriter(&out)
	w.Write(b)
	w.Close()
	return out.Bytes()
}

// zeros is a packed layer with one file of so many zeros, a multiple of 64 MiB,
// made piece by piece: of 3 GiB it has 3 MB.
func zeros(size int) (packed []byte, diffID string) {
	h := pack(entry{Header: tar.Header{Name: "zeros", Typeflag: tar.TypeReg, Size: int64(size)}})[:512]
	piece, end := make([]byte, 64<<20), make([]byte, 1024)
	one := zip(piece)
	sum := sha256.New()
	sum.Write(h)
	packed = zip(h)
	for range size / len(piece) {
		sum.Write(piece)
		packed = append(packed, one...)
	}
	sum.Write(end)
	return append(packed, zip(end)...), fmt.Sprintf("sha256:%x", sum.Sum(nil))
}

// unpacked is the content of a gzip, or what is none as it is.
func unpacked(b []byte) []byte {
	r, err := gzip.NewReader(bytes.NewReader(b))
	if err != nil {
		return b
	}
	out, _ := io.ReadAll(io.LimitReader(r, 64<<20))
	return out
}

// honest is a liar that does not lie yet.
func honest() *liar {
	l := &liar{layerType: "application/vnd.oci.image.layer.v1.tar+gzip"}
	l.setLayer(pack(entry{tar.Header{Name: "hello"}, []byte("hello")}))
	l.config = func(diffID string) string {
		return fmt.Sprintf(`{"architecture":%q,"os":"linux","config":{},"rootfs":{"type":"layers","diff_ids":[%q]}}`, runtime.GOARCH, diffID)
	}
	l.manifest = func(config, layer descriptor) string {
		return fmt.Sprintf(`{"schemaVersion":2,"mediaType":"application/vnd.oci.image.manifest.v1+json","config":{"mediaType":"application/vnd.oci.image.config.v1+json",%s},"layers":[{"mediaType":%q,%s}]}`, config, l.layerType, layer)
	}
	l.index = func(manifest descriptor) string {
		return fmt.Sprintf(`{"schemaVersion":2,"mediaType":"application/vnd.oci.image.index.v1+json","manifests":[{"mediaType":"application/vnd.oci.image.manifest.v1+json",%s}]}`, manifest)
	}
	return l
}

func (l *liar) setLayer(plain []byte) { l.layer, l.diffID = zip(plain), "sha256:"+hexSum(plain) }

// setPlain is setLayer for one that is not packed: bytes of one length stay so.
func (l *liar) setPlain(plain []byte) {
	l.layer, l.diffID, l.layerType = plain, "sha256:"+hexSum(plain), "application/vnd.oci.image.layer.v1.tar"
}

// layout is the tar that it hands over; the digest that it says is the manifest's where none is set.
func (l *liar) layout() []byte {
	files := []entry{{tar.Header{Name: "oci-layout"}, []byte(`{"imageLayoutVersion":"1.0.0"}`)}}
	blob := func(b []byte) descriptor {
		d := descriptor{"sha256:" + hexSum(b), len(b)}
		name := hexSum(b)
		if other, ok := l.rename[d.digest]; ok {
			name = other
		}
		files = append(files, entry{tar.Header{Name: "blobs/sha256/" + name}, b})
		return d
	}
	layer := blob(l.layer)
	config := blob([]byte(l.config(l.diffID)))
	manifest := blob([]byte(l.manifest(config, layer)))
	if l.result.Digest == "" {
		l.result.Digest = manifest.digest
	}
	files = append(files, entry{tar.Header{Name: "index.json"}, []byte(l.index(manifest))})
	return pack(append(files, l.extra...)...)
}

// ServeHTTP speaks the worker's protocol (package platform/builder/worker).
func (l *liar) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	if r.URL.Path != "/build" {
		io.WriteString(w, "{}")
		return
	}
	body, _ := io.ReadAll(r.Body)
	_, _, tree := cutFrame(body)
	l.seenSource = map[string]string{}
	for in := tar.NewReader(bytes.NewReader(tree)); ; {
		h, err := in.Next()
		if err != nil {
			break
		}
		data, _ := io.ReadAll(in)
		l.seenSource[h.Name] = string(data)
	}
	if l.during != nil {
		l.during()
	}
	frame := func(kind byte, payload []byte) {
		w.Write(append(binary.BigEndian.AppendUint32([]byte{kind}, uint32(len(payload))), payload...))
	}
	if l.real != nil {
		if err := l.ask(body, frame); err != nil {
			http.Error(w, err.Error(), http.StatusBadGateway)
			return
		}
	}
	if l.events != nil {
		l.events(func(e builder.Event) {
			raw, _ := json.Marshal(e)
			frame('E', raw)
		})
	}
	layout := l.layout()
	for len(layout) > 0 {
		n := min(len(layout), 1<<20)
		frame('T', layout[:n])
		layout = layout[n:]
	}
	raw, _ := json.Marshal(l.result)
	frame('R', raw)
}

// cutFrame takes the first frame off a stream of the worker's protocol.
func cutFrame(b []byte) (kind byte, payload, rest []byte) {
	if len(b) < 5 {
		return 0, nil, nil
	}
	end := min(len(b), 5+int(binary.BigEndian.Uint32(b[1:])))
	return b[0], b[5:end], b[end:]
}

// ask has the real builder build, in the session's room, and takes over all
// that it answers but the layout and its digest.
func (l *liar) ask(job []byte, frame func(kind byte, payload []byte)) error {
	resp, err := l.real.Post("http://worker/build", "", bytes.NewReader(job))
	if err != nil {
		return err
	}
	defer resp.Body.Close()
	answer, err := io.ReadAll(resp.Body)
	for len(answer) > 0 && err == nil {
		var kind byte
		var payload []byte
		switch kind, payload, answer = cutFrame(answer); kind {
		case 'T':
		case 'R':
			err = json.Unmarshal(payload, &l.result)
			l.result.Digest = ""
		default:
			frame(kind, payload)
		}
	}
	return err
}

// usurp puts the liar in the place of the platform's builder until the end of
// the test: whoever has the builder's user can do that.
func (s *scene) usurp(p *harness.Platform, l *liar) {
	s.Helper()
	path, aside := filepath.Join(p.Data, "run", "builder.sock"), filepath.Join(p.Data, "run", "aside.sock")
	if err := os.Rename(path, aside); err != nil {
		s.Fatal(err)
	}
	s.Cleanup(func() {
		os.Remove(path)
		os.Rename(aside, path)
	})
	listener, err := net.Listen("unix", path)
	if err != nil {
		s.Fatal(err)
	}
	listener.(*net.UnixListener).SetUnlinkOnClose(false)
	if err := os.Chmod(path, 0o666); err != nil {
		s.Fatal(err)
	}
	s.Cleanup(func() { listener.Close() })
	go http.Serve(listener, l)
}

// golang is the recipe of releases that a liar builds: one without a room.
func golang(r *api.ReleaseRequest) { r.Recipe.Builder = "golang" }

// lie has the platform release what a liar hands over. It gets through where
// the platform signs it, or look finds evidence; else it is stopped with the
// words of want.
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
		s.Errorf("stopped by something else: %v, want %q", err, want)
	}
	return "", err.Error()
}

// It is the control of the lies below too: what a liar hands over honestly is released.
var _ = register(attack{
	name: "name-the-source", tries: "have what it made signed as another commit's",
	guard: "commit and tree come from the attestor, which asks the builder for neither: release fetch",
	cuts: []cut{{buildFile, `	a.Finished = time.Now().UTC()
`, `	a.Finished = time.Now().UTC()
	if id := a.said.Config["commit"]; id != "" {
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
			s.Fatalf("an honest layout by the liar's hands: %v\n%s", err, said)
		}
		if l.seenSource["who"] != "the commit" || r.Source.ID != harness.Git(s, repo, "rev-parse", "HEAD") {
			return fmt.Sprintf("the tree was %q, the release says %s", l.seenSource["who"], r.Source.ID), ""
		}
		return "", "the builder can name neither commit nor tree"
	},
})

const (
	buildFile   = "platform/release/build.go"
	measureFile = "oci/measure.go"
	layersFile  = "oci/files.go"
)

// A blob is hashed whenever the attestor reads it, and by the registry as it comes in.
var cutHashes = []cut{
	{"oci/manifest.go", `if got := hex.EncodeToString(r.sum.Sum(nil)); got`, `if got := hex.EncodeToString(r.sum.Sum(nil)); false && got`},
	{"platform/registry/upload.go", `	if got != want {`, `	if false && got != want {`},
}

const strictGuard = "a member that is there twice is an error: internal/strict Unmarshal"

var cutStrict = []cut{
	{"internal/strict/strict.go", `	return json.Unmarshal(data, v)
`, `	return json.Unmarshal(data, v, jsontext.AllowDuplicateNames(true))
`}, {"internal/strict/strict.go", `	"github.com/go-json-experiment/json"
`, `	"github.com/go-json-experiment/json"
	"github.com/go-json-experiment/json/jsontext"
`}}

var cutModules = cut{buildFile, `a.Dependencies, err = checkModules(j.tree, a.said.Dependencies)`, `a.Dependencies = a.said.Dependencies`}

var cutStray = cut{measureFile, `if _, ok := m.used[h]; !ok {`, `if _, ok := m.used[h]; false && !ok {`}

var cutMeasure = cut{buildFile, `if got, said := m.Descriptor.Digest.String(), a.said.Digest; got != said {`, `if got, said := m.Descriptor.Digest.String(), a.said.Digest; false && got != said {`}

// attestorDir is the attestor's directory as it sees it itself.
const attestorDir = "/run/colophon-zone/attestor"

// lies are attacks by a builder on the attestor, each a layout or a result.
var lies = []struct {
	name, tries, guard, want string
	cuts                     []cut
	harm                     func(l *liar)
}{
	{"lie-digest", "say another digest than the bytes have",
		"the digest is that of the bytes, and the builder must have said the same: release measure", "its bytes are", []cut{cutMeasure},
		func(l *liar) { l.result.Digest = "sha256:" + strings.Repeat("ab", 32) }},
	{"lie-blob-name", "file bytes under the digest of others",
		"each blob is hashed as it is unpacked, read and pushed: build UnpackLayout, oci verifying, platform/registry finish", "got digest",
		append([]cut{{"platform/builder/layout.go", `len(want) == len(got) && got != want`, `false && got != want`}}, cutHashes...),
		func(l *liar) {
			l.setPlain(pack(entry{tar.Header{Name: "hello"}, []byte("hello")}))
			said := descriptor{"sha256:" + hexSum(l.layer), len(l.layer)}
			l.setPlain(pack(entry{tar.Header{Name: "hello"}, []byte("evil!")}))
			l.rename = map[string]string{"sha256:" + hexSum(l.layer): said.digest[len("sha256:"):]}
			m := l.manifest
			l.manifest = func(c, _ descriptor) string { return m(c, said) }
		}},
	{"duplicate-manifest-keys", "write a member twice, so that two readers see two images", strictGuard, "duplicate", cutStrict,
		func(l *liar) {
			m := l.manifest
			l.manifest = func(c, layer descriptor) string {
				return strings.Replace(m(c, layer), `"layers":[`, `"layers":[],"layers":[`, 1)
			}
		}},
	{"duplicate-index-keys", "the same in index.json", strictGuard, "duplicate", cutStrict,
		func(l *liar) {
			f := l.index
			l.index = func(m descriptor) string {
				return strings.Replace(f(m), `"manifests":[`, `"manifests":[],"manifests":[`, 1)
			}
		}},
	{"duplicate-config-keys", "the same in the configuration", strictGuard, "duplicate", cutStrict,
		func(l *liar) {
			f := l.config
			l.config = func(d string) string {
				return strings.Replace(f(d), `"os":"linux"`, `"os":"windows","os":"linux"`, 1)
			}
		}},
	{"lie-diff-id", "name another diff_id than the layer unpacks to",
		"each layer is unpacked, and hashed: oci layers", "unpacks to", []cut{{measureFile, `if got.DiffID != layer.DiffID {`, `if false {`}},
		func(l *liar) { l.diffID = "sha256:" + strings.Repeat("cd", 32) }},
	{"lie-size", "name another size than the blob has",
		"a blob has the size that is said of it, wherever it is read: oci Blob, oci verifying, platform/registry present, verify", "bytes",
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
	{"lie-platform", "hand over an image for another platform",
		"the platform is that of the configuration, and of the recipe: release samePlatforms", "the recipe asked for", []cut{{buildFile, `if !slices.Equal(want, got) {`, `if false {`}},
		func(l *liar) {
			f := l.config
			l.config = func(d string) string { return strings.Replace(f(d), runtime.GOARCH, "s390x", 1) }
		}},
	{"two-images", "hand over two images, one to be looked at",
		"a layout is one image and nothing else: oci MeasureLayout", "got 2 entries, want 1", []cut{{measureFile, `if len(index.Manifests) != 1 {`, `if len(index.Manifests) == 0 {`}, cutStray},
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
		"a layout is one image and nothing else: oci MeasureLayout", "no part of the image", []cut{cutStray},
		func(l *liar) {
			l.extra = []entry{{tar.Header{Name: "blobs/sha256/" + hexSum([]byte("hidden"))}, []byte("hidden")}}
		}},
	{"layout-bomb", "hand over a layer that unpacks to gigabytes",
		"a layer is bounded as it unpacks, and so are its files, holes included: oci boundedReader, readTar", "unpacks to more than",
		[]cut{{"oci/unpack.go", `if b.read > b.left {`, `if false {`}, {layersFile, `if files += h.Size; files > bytes || files < 0 {`, `if files += h.Size; false {`}},
		func(l *liar) { l.layer, l.diffID = zeros(3 << 30) }},
	{"layer-traversal", "hand over a layer whose files climb out of it",
		"names in a layer do not climb: oci checkName", "entry", []cut{{layersFile, `		if err := checkName(h.Name); err != nil {`, `		if err := error(nil); err != nil {`}},
		func(l *liar) {
			l.setLayer(pack(entry{tar.Header{Name: "../../../../etc/cron.d/evil"}, []byte("* * * * * root id\n")}))
		}},
	{"trailing-data", "hide data behind the end of a layer's tar",
		"only zeros follow the end of a tar: oci onlyPadding", "data follows the end of the tar", []cut{{"oci/unpack.go", `return b != 0`, `return false`}},
		func(l *liar) {
			l.setLayer(append(pack(entry{tar.Header{Name: "hello"}, []byte("hello")}), pack(entry{tar.Header{Name: "evil"}, []byte("evil")})...))
		}},
	{"unknown-media-type", "hand over a kind of layer that nobody here reads, and registries need not keep",
		"what is not known is refused: oci packing", "is not known", []cut{{measureFile, `return "", refuse("media type %q is not known", mediaType)`, `return "gzip", nil`}},
		func(l *liar) { l.layerType = "application/vnd.oci.image.layer.nondistributable.v1.tar+gzip" }},
	{"foreign-layer", "have a layer fetched from elsewhere",
		"no part of an image is elsewhere: oci use", "elsewhere too", []cut{{measureFile, `if len(d.URLs) > 0 || len(d.Data) > 0 {`, `if false {`}},
		func(l *liar) {
			m := l.manifest
			l.manifest = func(c, layer descriptor) string {
				return strings.Replace(m(c, layer), `"layers":[{`, `"layers":[{"urls":["http://127.0.0.1/?attack=foreign-layer"],`, 1)
			}
		}},
	{"claimed-source", "say that the image was made of another repository too",
		"the source is not the builder's to name, and dependencies are those of go.sum: release checkClaims, release checkModules", "refusing to sign",
		[]cut{{"platform/release/claims.go", `if d.Name == "source" || taken[repository] {`, `if false && taken[repository] {`}, cutModules},
		func(l *liar) {
			l.result.Dependencies = []attest.ResourceDescriptor{{Name: "source", URI: "git+https://git.example.com/other@refs/tags/v1", Digest: map[string]string{"gitCommit": strings.Repeat("a", 40)}}}
		}},
	{"claimed-modules", "say that the image has modules which go.sum does not name",
		"modules are those of the commit's go.sum: release checkModules", "go.sum", []cut{cutModules},
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
	name: "large-image", tries: "fill with one image's layers what all other releases are scanned in",
	guard: "layers are unpacked into the directory of their release, on disk: release sboms",
	cuts:  []cut{{"platform/release/proofs.go", `Dir: p.dir, `, ``}},
	beside: func(s *scene) (string, string) {
		p := s.platform("step")
		l := honest()
		l.layer, l.diffID = zeros(1152 << 20) // the attestor's /tmp has 1 GiB
		s.usurp(p, l)
		_, said, err := s.release(p, s.repository(map[string]string{"go.mod": "module x\n"}), "large", golang)
		if err != nil && strings.Contains(err.Error(), "no space left on device") {
			return "it filled what the attestor writes to: " + err.Error(), ""
		}
		if err != nil {
			s.Errorf("a large image: %v\n%s", err, said)
		}
		return "", "it was released"
	},
})

var _ = register(attack{
	name: "archive-bomb", tries: "have the scanner of SBOMs run out of room, to have packages left out of an SBOM",
	guard: "where there was no room to look into a file there is no SBOM: platform/release/scan complete",
	cuts:  []cut{{"platform/release/scan/generate.go", `	return s, complete(s)`, `	return s, nil`}},
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
		for range 1152 { // MiB; the attestor's /tmp has 1024
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
			return "the platform signed an SBOM without what is in the archive", ""
		}
		if !strings.Contains(err.Error(), "no space left on device") {
			s.Errorf("stopped by something else: %v\n%s", err, said)
		}
		return "", err.Error()
	},
})

var _ = register(attack{
	name: "layout-traversal", tries: "have files written outside of the output, by names and links in the layout's archive",
	guard: "only names of a layout's grammar are written, and no links: build UnpackLayout",
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
			s.Run(fmt.Sprintf("entry-%d", n), func(t *testing.T) { through, how = s.in(t).lie("the OCI layout", l, written) })
			if through != "" {
				return extra[0].Name + ": " + through, ""
			}
			stopped = append(stopped, how)
		}
		return "", brief(stopped)
	},
})

var _ = register(attack{
	name: "log-flood", tries: "fill the platform's disk with a build's output",
	guard: "the log that is kept is cut: release newBuildLog",
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
		return "", fmt.Sprintf("%d bytes were kept of 105 MB", size)
	},
})

var _ = register(attack{
	name: "terminal", tries: "steer the terminal of whoever reads a build's output",
	guard: "control characters do not reach it: internal/printable Text",
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
		return "", "no control character is left"
	},
})

var _ = register(attack{
	name: "built-elsewhere", tries: "build outside of the room that the platform watches, and hand that over",
	guard: "what is signed was made in the session's room, whose record the attestor has from the opener: release attempt",
	cuts:  []cut{{buildFile, `if a.record, ended = j.endSession(ctx, req.Session); err == nil {`, `if a.record, _ = j.endSession(ctx, req.Session); err == nil {`}},
	beside: func(s *scene) (string, string) {
		p := s.platform("step")
		s.usurp(p, honest())
		repo := s.repository(map[string]string{"Dockerfile": "FROM scratch\nCOPY Dockerfile /\n"})
		if _, _, err := s.release(p, repo, "elsewhere"); err == nil {
			return "the platform signed it", ""
		} else {
			return "", err.Error()
		}
	},
})

var _ = register(attack{
	name: "lie-base-layers", tries: "build in the room that is watched, and hand over an image that does not stand on the recipe's base image",
	guard: "the lowest layers are those of the base image, which the attestor resolves itself: release bases, platform/release/base Lowest",
	cuts:  []cut{{"platform/release/dependencies.go", `if err := base.Lowest(lowest, diffIDs(p)); err != nil {`, `if err := base.Lowest(lowest, diffIDs(p)); false && err != nil {`}},
	beside: func(s *scene) (string, string) {
		p := s.platform("step")
		l := honest()
		s.usurp(p, l)
		l.real = p.As("attestor", "aside")
		repo := s.repository(map[string]string{"Dockerfile": "FROM debian:bookworm-slim\nCOPY Dockerfile /\n"})
		_, said, err := s.release(p, repo, "other-base")
		if err == nil {
			return "the platform signed it", ""
		}
		if !strings.Contains(err.Error(), "its base image") {
			s.Errorf("stopped by something else: %v\n%s", err, said)
		}
		return "", err.Error()
	},
})

var _ = register(attack{
	name: "layout-swapped-after-check", tries: "change a blob after it was measured, before it is pushed",
	guard: "each blob is hashed as it is read, and as it arrives: oci verifying, platform/registry finish",
	cuts:  cutHashes,
	beside: func(s *scene) (string, string) {
		p := s.platform("step")
		l := honest()
		l.setPlain(pack(entry{tar.Header{Name: "hello"}, []byte("the good")}))
		good, evil := l.layer, bytes.Replace(l.layer, []byte("the good"), []byte("the evil"), 1)
		// Layers are measured in their order: another one keeps the attestor busy while the first is changed.
		large, diffID := zeros(768 << 20)
		l.extra = []entry{{tar.Header{Name: "blobs/sha256/" + hexSum(large)}, large}}
		c, m := l.config, l.manifest
		l.config = func(d string) string { return strings.Replace(c(d), `"]}`, `","`+diffID+`"]}`, 1) }
		l.manifest = func(config, layer descriptor) string {
			more := fmt.Sprintf(`},{"mediaType":"application/vnd.oci.image.layer.v1.tar+gzip",%s}]`, descriptor{"sha256:" + hexSum(large), len(large)})
			return strings.Replace(m(config, layer), "}]", more, 1)
		}
		s.usurp(p, l)
		attestor := p.Role("attestor")
		_, err := s.interrupted(s.Context(), p, s.repository(map[string]string{"go.mod": "module x\n"}), "swapped", "measure", func() {
			for n := 0; !holdsOpen(attestor, hexSum(large)); n++ {
				if n == 500 {
					s.Fatal("the large layer is not measured")
				}
				time.Sleep(10 * time.Millisecond)
			}
			time.Sleep(200 * time.Millisecond)
			found, err := filepath.Glob(filepath.Join(p.Data, "attestor", "work", "*", "layout", "blobs", "sha256", hexSum(good)))
			if err != nil || len(found) != 1 {
				s.Fatalf("the measured layer: %q, %v", found, err)
			}
			if err := os.WriteFile(found[0], evil, 0o644); err != nil {
				s.Fatal(err)
			}
			if !holdsOpen(attestor, hexSum(large)) {
				s.Error("the large layer was measured too fast")
			}
		})
		if err == nil {
			if got := p.Get("/v2/swapped/blobs/sha256:" + hexSum(good)); !bytes.Equal(got, good) {
				return "signed, and the registry hands out another layer as sha256:" + hexSum(good), ""
			}
			s.Fatal("the layer was not changed before it was pushed")
		}
		if !strings.Contains(err.Error(), "pushing") {
			s.Errorf("stopped by something else: %v", err)
		}
		return "", err.Error()
	},
})

// holdsOpen says whether a process has a file of this name open.
func holdsOpen(pid int, name string) bool {
	fds, _ := filepath.Glob(fmt.Sprintf("/proc/%d/fd/*", pid))
	for _, fd := range fds {
		if to, err := os.Readlink(fd); err == nil && filepath.Base(to) == name {
			return true
		}
	}
	return false
}
