package release

import (
	"archive/tar"
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	v1 "github.com/google/go-containerregistry/pkg/v1"
	"github.com/google/go-containerregistry/pkg/v1/empty"
	"github.com/google/go-containerregistry/pkg/v1/mutate"
	"github.com/google/go-containerregistry/pkg/v1/tarball"
	"github.com/google/go-containerregistry/pkg/v1/types"

	"github.com/colophon-build/colophon/attest"
	"github.com/colophon-build/colophon/platform/api"
	"github.com/colophon-build/colophon/platform/builder"
	"github.com/colophon-build/colophon/platform/zone"
	"github.com/colophon-build/colophon/test/await"
	"github.com/colophon-build/colophon/test/needs"
)

// files is a builder whose image has these files.
type files map[string]string

func (f files) Build(_ context.Context, req builder.Request) (*builder.Result, error) {
	var buf bytes.Buffer
	w := tar.NewWriter(&buf)
	for name, content := range f {
		w.WriteHeader(&tar.Header{Name: name, Mode: 0o644, Size: int64(len(content)), Typeflag: tar.TypeReg})
		io.WriteString(w, content)
	}
	w.Close()
	layer, err := tarball.LayerFromOpener(func() (io.ReadCloser, error) { return io.NopCloser(bytes.NewReader(buf.Bytes())), nil }, tarball.WithMediaType(types.OCILayer))
	if err != nil {
		return nil, err
	}
	img, err := mutate.AppendLayers(mutate.ConfigMediaType(mutate.MediaType(empty.Image, types.OCIManifestSchema1), types.OCIConfigJSON), layer)
	if err != nil {
		return nil, err
	}
	cf, err := img.ConfigFile()
	if err != nil {
		return nil, err
	}
	cf = cf.DeepCopy()
	cf.OS, cf.Architecture, _ = strings.Cut(hostPlatform(), "/")
	if img, err = mutate.ConfigFile(img, cf); err != nil {
		return nil, err
	}
	digest, err := handOver(req.Layout, img)
	return &builder.Result{Digest: digest, Started: time.Now(), Finished: time.Now()}, err
}

// square is a package database of n packages that all provide and depend on one name, so
// that Syft relates each of them to each.
func square(n int) files {
	var b strings.Builder
	for i := range n {
		fmt.Fprintf(&b, "Package: p%d\nVersion: 1\nArchitecture: amd64\nStatus: install ok installed\nProvides: x\nDepends: x\n\n", i)
	}
	return files{"var/lib/dpkg/status": b.String(), "etc/os-release": "ID=debian\nVERSION_ID=\"12\"\n"}
}

// A file that makes the SBOM's scanner use up the memory ends its process, not the
// attestor. The release is refused before it is certain to finish: nothing is signed or
// pushed, and no restart tries it again.
func TestImageThatKillsTheScanner(t *testing.T) {
	defer func(l zone.Limits) { imageLimits = l }(imageLimits)
	imageLimits.Memory, imageLimits.Time = 512<<20, 2*time.Minute
	s := newStage(t, square(1500), http.NotFound)
	var before, after syscall.Rusage
	syscall.Getrusage(syscall.RUSAGE_SELF, &before)
	_, err := s.Run(t.Context(), s.req, func(api.Event) {})
	syscall.Getrusage(syscall.RUSAGE_SELF, &after)
	want, ok := errors.AsType[*api.Error](err)
	if !ok || !strings.Contains(want.Message, "bytes of memory") {
		t.Errorf("got %v, want the limit of memory", err)
	}
	if grew := after.Maxrss - before.Maxrss; grew > 100<<10 {
		t.Errorf("the attestor's own memory grew by %d KiB", grew)
	}
	if s.pushed.Load() > 0 {
		t.Error("something was pushed")
	}
	if q, w := names(t, filepath.Join(s.Dir, "queue")), names(t, filepath.Join(s.Dir, "work")); len(q)+len(w) > 0 {
		t.Errorf("left in the queue %v, of the work %v", q, w)
	}
	// The next release, of another image, is not affected.
	s.Build = files{"hello": "world"}
	if _, err := s.Run(t.Context(), s.req, func(api.Event) {}); err == nil || strings.Contains(err.Error(), "memory") {
		t.Errorf("the next release: got %v, want the end of this test's stage", err)
	}
}

// What the processes apart may see of the attestor: the item that they read.
func TestItemsSeeNoKey(t *testing.T) {
	needs.Root(t, "a process with namespaces of its own")
	dir := t.TempDir()
	if err := Probe(Confinement{Namespaces: true, Hide: []string{dir}}, scanner(t)); err != nil {
		t.Fatal(err)
	}
	secret := filepath.Join(dir, "secret")
	if err := os.MkdirAll(filepath.Join(secret, "blobs"), 0o700); err != nil {
		t.Fatal(err)
	}
	s := newStage(t, files{"hello": "world"}, http.NotFound)
	s.Confinement = Confinement{Namespaces: true, Hide: []string{dir, s.Dir}}
	j := &run{Releaser: s.Releaser, req: s.req, id: newID()}
	j.report(func(api.Event) {})
	if err := j.enqueue(); err != nil {
		t.Fatal(err)
	}
	defer j.cleanUp()
	if err := os.Mkdir(filepath.Join(j.dir, "layout"), 0o700); err != nil {
		t.Fatal(err)
	}
	if err := j.startImage("layout"); err != nil {
		t.Fatal(err)
	}
	if _, err := j.measureLayout(t.Context(), secret, false); err == nil || !strings.Contains(err.Error(), "no such file") {
		t.Errorf("a directory of the attestor: got %v", err)
	}
	if _, err := files(nil).Build(t.Context(), builder.Request{Layout: filepath.Join(j.dir, "layout")}); err != nil {
		t.Fatal(err)
	}
	if m, err := j.measureLayout(t.Context(), filepath.Join(j.dir, "layout"), false); err != nil || m.Descriptor.Digest == (v1.Hash{}) {
		t.Errorf("the layout of the release: got %+v, %v", m, err)
	}
	// The whole way, up to the first signature: git, export, measurement, scan.
	if _, err := s.Run(t.Context(), s.req, func(api.Event) {}); err == nil || !strings.Contains(err.Error(), "no token in this test") && !strings.Contains(err.Error(), "404") {
		t.Errorf("got %v, want the end of this test's stage", err)
	}
}

// Of the releases that an earlier process began to publish, one that killed maxTries
// processes is parked with its reason; its work is kept, and the others are finished.
func TestParked(t *testing.T) {
	s := newStage(t, nil, http.NotFound)
	write := func(c string, tries int) string {
		id := strings.Repeat(c, 32)
		if err := os.MkdirAll(filepath.Join(s.Dir, "work", "release-"+c, "layout"), 0o700); err != nil {
			t.Fatal(err)
		}
		data, err := json.Marshal(pending{ID: id, Request: s.req, Begun: &begun{Dir: "release-" + c}, Tries: tries})
		if err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(filepath.Join(s.Dir, "queue", id+".json"), data, 0o600); err != nil {
			t.Fatal(err)
		}
		return id
	}
	killer, other := write("1", maxTries), write("2", maxTries-1)
	r, err := New(s.Config)
	if err != nil {
		t.Fatal(err)
	}
	if len(r.unfinished) != 1 || r.unfinished[0].ID != other {
		t.Errorf("unfinished: got %+v, want %s", r.unfinished, other)
	}
	for range 2 { // also at the start after
		p, err := readPending(filepath.Join(s.Dir, "parked", killer+".json"))
		if err != nil || !strings.Contains(p.Parked, "3 processes in a row died") || p.Tries != 0 {
			t.Errorf("parked: got %+v, %v", p, err)
		}
		if w := names(t, filepath.Join(s.Dir, "work")); !strings.Contains(strings.Join(w, " "), "release-1") {
			t.Errorf("work: got %v, want that of the parked release too", w)
		}
		if _, err := New(s.Config); err != nil {
			t.Fatal(err)
		}
	}
}

// leave leaves a release in the queue that one process died publishing.
func leave(t *testing.T, s *stage, id string) pending {
	t.Helper()
	layout := filepath.Join(s.Dir, "work", "release-1", "layout")
	if err := os.MkdirAll(layout, 0o700); err != nil {
		t.Fatal(err)
	}
	res, err := files{"hello": "world"}.Build(t.Context(), builder.Request{Layout: layout})
	if err != nil {
		t.Fatal(err)
	}
	p := pending{ID: id, Request: s.req, Tries: 1, Begun: &begun{Dir: "release-1", Recipe: attest.Recipe{Builder: "golang"}, Digest: res.Digest}}
	if err := writePending(s.entry(id), p); err != nil {
		t.Fatal(err)
	}
	return p
}

// A try is on disk before it begins, and a process that is stopped takes it back.
func TestTriesAreCounted(t *testing.T) {
	id := strings.Repeat("1", 32)
	var seen []int
	var entry string
	var mu sync.Mutex
	s := newStage(t, nil, func(w http.ResponseWriter, r *http.Request) {
		if p, err := readPending(entry); err == nil {
			mu.Lock()
			seen = append(seen, p.Tries)
			mu.Unlock()
		}
		http.NotFound(w, r)
	})
	p := leave(t, s, id)
	entry = s.entry(id)
	ended := make(chan struct{})
	go func() {
		defer close(ended)
		s.resume(p, &sync.Mutex{})
	}()
	await.True(t, "a try", func() bool {
		mu.Lock()
		defer mu.Unlock()
		return len(seen) > 0
	})
	s.Close()
	<-ended
	if len(seen) == 0 || seen[0] != 2 {
		t.Errorf("tries on disk while it is finished: got %v, want 2", seen)
	}
	if p, err := readPending(entry); err != nil || p.Tries != 0 {
		t.Errorf("after a clean stop: got %+v, %v, want no tries", p, err)
	}
}
