package attack

import (
	"archive/tar"
	"bufio"
	"bytes"
	"compress/gzip"
	"crypto/sha256"
	"encoding/binary"
	"encoding/json"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"runtime"

	"golang.org/x/sys/unix"

	"github.com/colophon-build/colophon/platform/builder"
	"github.com/colophon-build/colophon/test/harness"
)

// A liar is an attacker who controls the builder role (its user, and with it its
// socket), or the driver of a build. It returns any layout it likes.
type liar struct {
	layer      []byte // packed
	layerType  string
	diffID     string
	config     func(diffID string) string
	manifest   func(config, layer descriptor) string
	index      func(manifest descriptor) string
	rename     map[string]string // file names of blobs, by digest
	extra      []entry           // further entries of the tar
	result     builder.Result
	events     func(emit func(builder.Event))
	seenSource map[string]string // files of the source tree it received
	during     func()            // called between the request and the answer
	real       *http.Client      // client of the real builder; nil: do not ask it
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

// zeros returns a packed layer with one file of n zeros, a multiple of 64 MiB. 3 GiB
// compress to 3 MB.
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

// unpacked returns the content of a gzip file, and any other data unchanged.
func unpacked(b []byte) []byte {
	r, err := gzip.NewReader(bytes.NewReader(b))
	if err != nil {
		return b
	}
	out, _ := io.ReadAll(io.LimitReader(r, 64<<20))
	return out
}

// honest returns a liar that does not lie yet.
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

// setPlain is like setLayer for a layer that is not packed, whose size is predictable.
func (l *liar) setPlain(plain []byte) {
	l.layer, l.diffID, l.layerType = plain, "sha256:"+hexSum(plain), "application/vnd.oci.image.layer.v1.tar"
}

// layout returns the tar to send. Its result states the digest of the manifest unless one is set.
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

// ServeHTTP implements the worker's protocol (package platform/builder/worker).
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

// cutFrame removes the first frame from a stream of the worker's protocol.
func cutFrame(b []byte) (kind byte, payload, rest []byte) {
	if len(b) < 5 {
		return 0, nil, nil
	}
	end := min(len(b), 5+int(binary.BigEndian.Uint32(b[1:])))
	return b[0], b[5:end], b[end:]
}

// ask makes the real builder build in the session's room, and adopts its answer
// except for the layout and its digest.
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

// usurp replaces the platform's builder by the liar until the end of the test.
// Whoever controls the builder's user can do that.
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

// usurpDriver makes the liar answer builds in rooms, as if it had taken over their
// drivers from within, until the end of the test. All other requests to the role rooms
// reach it as their callers sent them. It sets l.real, if wanted, to the real drivers.
func (s *scene) usurpDriver(p *harness.Platform, l *liar, real bool) {
	s.Helper()
	path, aside := filepath.Join(p.Data, "run", "rooms.sock"), filepath.Join(p.Data, "run", "aside.sock")
	if err := os.Rename(path, aside); err != nil {
		s.Fatal(err)
	}
	s.Cleanup(func() {
		os.Remove(path)
		os.Rename(aside, path)
	})
	listener, err := net.ListenUnix("unix", &net.UnixAddr{Name: path, Net: "unix"})
	if err != nil {
		s.Fatal(err)
	}
	listener.SetUnlinkOnClose(false)
	if err := os.Chmod(path, 0o666); err != nil {
		s.Fatal(err)
	}
	s.Cleanup(func() { listener.Close() })
	as := map[uint32]func() (net.Conn, error){}
	for _, role := range []string{"attestor", "driver", "api"} {
		uid := p.UserOf(role)
		as[uint32(uid)] = func() (net.Conn, error) { return p.DialAs(uid, "aside") }
	}
	if real {
		l.real = p.As("attestor", "aside")
	}
	lies := &oneByOne{make(chan net.Conn)}
	go http.Serve(lies, l)
	s.Cleanup(func() { close(lies.conns) })
	go func() {
		for {
			c, err := listener.AcceptUnix()
			if err != nil {
				return
			}
			go func() {
				raw, _ := c.SyscallConn()
				var caller *unix.Ucred
				raw.Control(func(fd uintptr) { caller, _ = unix.GetsockoptUcred(int(fd), unix.SOL_SOCKET, unix.SO_PEERCRED) })
				in := bufio.NewReader(c)
				if line, _ := in.Peek(len("POST /build ")); string(line) == "POST /build " {
					lies.conns <- &peeked{c, in}
					return
				}
				defer c.Close()
				dial := as[caller.Uid]
				if dial == nil {
					return
				}
				to, err := dial()
				if err != nil {
					return
				}
				defer to.Close()
				go func() {
					io.Copy(to, in)
					to.(*net.UnixConn).CloseWrite()
				}()
				io.Copy(c, to)
			}()
		}
	}()
}

// oneByOne is a listener of the connections in a channel.
type oneByOne struct{ conns chan net.Conn }

func (l *oneByOne) Accept() (net.Conn, error) {
	if c, ok := <-l.conns; ok {
		return c, nil
	}
	return nil, net.ErrClosed
}

func (l *oneByOne) Close() error { return nil }

func (l *oneByOne) Addr() net.Addr { return &net.UnixAddr{Net: "unix"} }

// peeked is a connection whose first bytes are in a buffer.
type peeked struct {
	net.Conn
	in *bufio.Reader
}

func (p *peeked) Read(b []byte) (int, error) { return p.in.Read(b) }
