package serving

import (
	"context"
	"io"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	v1 "github.com/google/go-containerregistry/pkg/v1"

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
	var all sync.WaitGroup
	for range 4 * maxReading {
		all.Go(func() {
			if attached, err := j.isAttachment(t.Context(), src, "v1", m); attached || err != nil {
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
	if _, err := j.isAttachment(ctx, src, "v1", m); err == nil {
		t.Error("it does not wait for its turn")
	}
}
