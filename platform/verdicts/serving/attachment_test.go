package serving

import (
	"context"
	"io"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	v1 "github.com/google/go-containerregistry/pkg/v1"

	"github.com/colophon-build/colophon/internal/limits"
	"github.com/colophon-build/colophon/oci"
)

// slow is a source whose blobs take a while.
type slow struct {
	oci.Source
	now, most atomic.Int64
}

func (s *slow) Blob(context.Context, v1.Descriptor) (io.ReadCloser, error) {
	defer s.now.Add(-1)
	for n := s.now.Add(1); ; {
		before := s.most.Load()
		if n <= before || s.most.CompareAndSwap(before, n) {
			break
		}
	}
	time.Sleep(5 * time.Millisecond)
	return io.NopCloser(strings.NewReader("{")), nil
}

// TestAttachmentsAtOnce: what might be attached is read in its turn, and never for longer than the client
// waits.
func TestAttachmentsAtOnce(t *testing.T) {
	j, src := &Judge{reading: make(chan struct{}, maxReading)}, &slow{}
	m := &Manifest{manifestFile: manifestFile{Config: &v1.Descriptor{}, Layers: []v1.Descriptor{{MediaType: "text/plain", Size: 1}}}}
	tag := "sha256-" + strings.Repeat("a", 64) + ".sig"
	var all sync.WaitGroup
	for range 4 * maxReading {
		all.Go(func() {
			if attached, err := j.isAttachment(t.Context(), src, tag, m); attached || err != nil {
				t.Errorf("got %v, %v", attached, err)
			}
		})
	}
	all.Wait()
	if n := src.most.Load(); n > maxReading || n < 2 {
		t.Errorf("%d were read at once, want at most %d", n, maxReading)
	}
	for range maxReading {
		j.reading <- struct{}{}
	}
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if _, err := j.isAttachment(ctx, src, tag, m); err == nil {
		t.Error("it does not wait for its turn")
	}
}

// TestAttachmentsAreBounded: a manifest with many layers, or large ones, is none, and nothing of it is read.
func TestAttachmentsAreBounded(t *testing.T) {
	j := &Judge{reading: make(chan struct{}, maxReading)}
	tag := "sha256-" + strings.Repeat("a", 64) + ".sig"
	empty := v1.Descriptor{MediaType: "application/json", Size: 2, Data: []byte("{}")}
	var err error
	if empty.Digest, _, err = v1.SHA256(strings.NewReader("{}")); err != nil {
		t.Fatal(err)
	}
	for n, want := range map[int]bool{1: true, limits.Layers: true, limits.Layers + 1: false} {
		m := &Manifest{manifestFile: manifestFile{Config: &empty, Layers: slices.Repeat([]v1.Descriptor{empty}, n)}}
		if got, err := j.isAttachment(t.Context(), nil, tag, m); got != want || err != nil {
			t.Errorf("%d layers: got %v, %v, want %v", n, got, err, want)
		}
	}
	large := empty
	large.Size = limits.Bundle + 1
	for _, m := range []manifestFile{{Config: &large, Layers: []v1.Descriptor{empty}}, {Config: &empty, Layers: []v1.Descriptor{large}}} {
		if got, err := j.isAttachment(t.Context(), nil, tag, &Manifest{manifestFile: m}); got || err != nil {
			t.Errorf("16 MiB and more: got %v, %v", got, err)
		}
	}
}
