package attack

import (
	"archive/tar"
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

	"github.com/colophon-build/colophon/attest"
	"github.com/colophon-build/colophon/build"
	"github.com/colophon-build/colophon/internal/api"
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
	result     build.Result
	events     func(emit func(build.Event))
	seenSource map[string]string // files of the tree that it was given
	during     func()            // called between the request and the answer
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

// ServeHTTP speaks the worker's protocol (package internal/worker).
func (l *liar) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	if r.URL.Path != "/build" {
		io.WriteString(w, "{}")
		return
	}
	var head [5]byte
	io.ReadFull(r.Body, head[:])
	io.CopyN(io.Discard, r.Body, int64(binary.BigEndian.Uint32(head[1:])))
	l.seenSource = map[string]string{}
	for in := tar.NewReader(r.Body); ; {
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
	if l.events != nil {
		l.events(func(e build.Event) {
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

// usurp puts the liar in the place of the platform's builder until the end of
// the test: whoever has the builder's user can do that.
func (s *scene) usurp(p *harness.Platform, l *liar) {
	s.Helper()
	path := filepath.Join(p.Data, "run", "builder.sock")
	if err := os.Rename(path, path+".aside"); err != nil {
		s.Fatal(err)
	}
	s.Cleanup(func() {
		os.Remove(path)
		os.Rename(path+".aside", path)
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
// the platform signs it; else it is stopped with the words of want.
func (s *scene) lie(want string, l *liar, look ...func() string) (through, stopped string) {
	s.Helper()
	p := s.platform("step")
	s.usurp(p, l)
	_, _, err := s.release(p, s.repository(map[string]string{"go.mod": "module x\n"}), "lied-"+strings.ToLower(rand.Text()), golang)
	for _, f := range look {
		if evidence := f(); evidence != "" {
			return evidence, ""
		}
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
	beside: func(s *scene) (string, string) {
		p := s.platform("step")
		l := honest()
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

const measureGuard = "the attestor measures what it is handed: oci MeasureLayout, build UnpackLayout"

var cutMeasure = cut{"release/build.go", `if got, said := m.Descriptor.Digest.String(), a.said.Digest; got != said {`, `if got, said := m.Descriptor.Digest.String(), a.said.Digest; false && got != said {`}

// lies are attacks by a builder on the attestor, each a layout or a result.
var lies = []struct {
	name, tries, want string
	cuts              []cut
	harm              func(l *liar)
}{
	{"lie-digest", "say another digest than the bytes have", "its bytes are", []cut{cutMeasure},
		func(l *liar) { l.result.Digest = "sha256:" + strings.Repeat("ab", 32) }},
	{"lie-blob-name", "file bytes under the digest of others", "got digest", nil,
		func(l *liar) {
			said := descriptor{"sha256:" + hexSum(l.layer), len(l.layer)}
			l.layer = bytes.Repeat([]byte{0}, len(l.layer))
			l.rename = map[string]string{"sha256:" + hexSum(l.layer): said.digest[len("sha256:"):]}
			m := l.manifest
			l.manifest = func(c, _ descriptor) string { return m(c, said) }
		}},
	{"duplicate-manifest-keys", "write a member twice, so that two readers see two images", "duplicate", nil,
		func(l *liar) {
			m := l.manifest
			l.manifest = func(c, layer descriptor) string {
				return strings.Replace(m(c, layer), `"layers":[`, `"layers":[],"layers":[`, 1)
			}
		}},
	{"duplicate-index-keys", "the same in index.json", "duplicate", nil,
		func(l *liar) {
			f := l.index
			l.index = func(m descriptor) string {
				return strings.Replace(f(m), `"manifests":[`, `"manifests":[],"manifests":[`, 1)
			}
		}},
	{"duplicate-config-keys", "the same in the configuration", "duplicate", nil,
		func(l *liar) {
			f := l.config
			l.config = func(d string) string {
				return strings.Replace(f(d), `"os":"linux"`, `"os":"windows","os":"linux"`, 1)
			}
		}},
	{"lie-diff-id", "name another diff_id than the layer unpacks to", "unpacks to", []cut{{"oci/measure.go", `if got.DiffID != layer.DiffID {`, `if false {`}},
		func(l *liar) { l.diffID = "sha256:" + strings.Repeat("cd", 32) }},
	{"lie-size", "name another size than the blob has", "bytes", nil,
		func(l *liar) {
			m := l.manifest
			l.manifest = func(c, layer descriptor) string { layer.size++; return m(c, layer) }
		}},
	{"lie-platform", "hand over an image for another platform", "the recipe asked for", []cut{{"release/build.go", `if !slices.Equal(want, got) {`, `if false {`}},
		func(l *liar) {
			f := l.config
			l.config = func(d string) string { return strings.Replace(f(d), runtime.GOARCH, "s390x", 1) }
		}},
	{"two-images", "hand over two images, one to be looked at", "got 2 entries, want 1", nil,
		func(l *liar) {
			f := l.index
			l.index = func(m descriptor) string {
				e := fmt.Sprintf(`{"mediaType":"application/vnd.oci.image.manifest.v1+json",%s}`, m)
				return strings.Replace(f(m), e, e+","+e, 1)
			}
		}},
	{"blob-too-many", "hide a file among the blobs", "no part of the image", []cut{{"oci/measure.go", `if _, ok := m.used[h]; !ok {`, `if _, ok := m.used[h]; false && !ok {`}},
		func(l *liar) {
			l.extra = []entry{{tar.Header{Name: "blobs/sha256/" + hexSum([]byte("hidden"))}, []byte("hidden")}}
		}},
	{"layout-bomb", "hand over a layer that unpacks to gigabytes", "unpacks to more than", []cut{{"oci/unpack.go", `if b.read > b.left {`, `if false {`}},
		func(l *liar) {
			// A tar of one file of zeros, packed piece by piece: 3 GiB of 3 MB.
			const size = 3 << 30
			h := pack(entry{Header: tar.Header{Name: "zeros", Typeflag: tar.TypeReg, Size: size}})[:512]
			piece := make([]byte, 64<<20)
			packed := zip(piece)
			sum := sha256.New()
			sum.Write(h)
			l.layer = zip(h)
			for range size / len(piece) {
				sum.Write(piece)
				l.layer = append(l.layer, packed...)
			}
			sum.Write(make([]byte, 1024))
			l.layer = append(l.layer, zip(make([]byte, 1024))...)
			l.diffID = fmt.Sprintf("sha256:%x", sum.Sum(nil))
		}},
	{"layer-traversal", "hand over a layer whose files climb out of it", "entry", []cut{{"oci/files.go", `		if err := checkName(h.Name); err != nil {`, `		if err := error(nil); err != nil {`}},
		func(l *liar) {
			l.setLayer(pack(entry{tar.Header{Name: "../../../../etc/cron.d/evil"}, []byte("* * * * * root id\n")}))
		}},
	{"trailing-data", "hide data behind the end of a layer's tar", "data follows the end of the tar", nil,
		func(l *liar) {
			l.setLayer(append(pack(entry{tar.Header{Name: "hello"}, []byte("hello")}), pack(entry{tar.Header{Name: "evil"}, []byte("evil")})...))
		}},
	{"unknown-media-type", "hand over a kind of layer that nobody here reads", "is not known", nil,
		func(l *liar) { l.layerType = "application/vnd.evil.layer" }},
	{"foreign-layer", "have a layer fetched from elsewhere", "elsewhere too", nil,
		func(l *liar) {
			m := l.manifest
			l.manifest = func(c, layer descriptor) string {
				return strings.Replace(m(c, layer), `"layers":[{`, `"layers":[{"urls":["http://127.0.0.1/?attack=foreign-layer"],`, 1)
			}
		}},
	{"claimed-source", "say that the image was made of another repository too", "refusing to sign", nil,
		func(l *liar) {
			l.result.Dependencies = []attest.ResourceDescriptor{{Name: "source", URI: "git+https://git.example.com/other@refs/tags/v1", Digest: map[string]string{"gitCommit": strings.Repeat("a", 40)}}}
		}},
	{"claimed-modules", "say that the image has modules which go.sum does not name", "go.sum", nil,
		func(l *liar) {
			l.result.Dependencies = []attest.ResourceDescriptor{{Name: "example.com/x@v1.0.0", URI: "pkg:golang/example.com/x@v1.0.0", Digest: map[string]string{"dirHash": strings.Repeat("a", 64)}}}
		}},
}

func init() {
	for _, lie := range lies {
		register(attack{name: lie.name, tries: lie.tries, guard: measureGuard, cuts: lie.cuts, beside: func(s *scene) (string, string) {
			l := honest()
			lie.harm(l)
			return s.lie(lie.want, l, func() string { return s.world.hit(lie.name) })
		}})
	}
}

var _ = register(attack{
	name: "layout-traversal", tries: "have files written outside of the output, by names and links in the layout's archive",
	guard: "only names of a layout's grammar are written, and no links: build UnpackLayout",
	beside: func(s *scene) (string, string) {
		outside := filepath.Join(s.dir, "written")
		written := func() string {
			if _, err := os.Lstat(outside); err == nil {
				return "a file was written outside"
			}
			return ""
		}
		up := strings.Repeat("../", 14) + outside[1:]
		var stopped []string
		for n, extra := range [][]entry{
			{{tar.Header{Name: up}, []byte("x")}},
			{{tar.Header{Name: outside}, []byte("x")}},
			{{tar.Header{Name: "blobs/sha256/" + up}, []byte("x")}},
			{{tar.Header{Name: "blobs/sha512", Typeflag: tar.TypeSymlink, Linkname: s.dir}, nil}, {tar.Header{Name: "blobs/sha512/written"}, []byte("x")}},
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
	cuts:  []cut{{"release/record.go", `if len(s) > l.left {`, `if false {`}},
	beside: func(s *scene) (string, string) {
		p := s.platform("step")
		l := honest()
		line := strings.Repeat("flood ", 5000)
		l.events = func(emit func(build.Event)) {
			for range 3500 { // 105 MB
				emit(build.Event{Step: "[1/1] RUN yes", Line: line})
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
	guard: "control characters do not reach it: cmd/colophon ui",
	beside: func(s *scene) (string, string) {
		p := s.platform("step")
		l := honest()
		l.events = func(emit func(build.Event)) {
			emit(build.Event{Step: "\x1b[2J\x1b]0;evil\x07step", Line: "\x1b]52;c;ZXZpbA==\x07\x1b[1A\r  ✓ accepted\x08\x9b31m\u202eevil"})
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
