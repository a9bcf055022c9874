package gateway

import (
	"bytes"
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"io"
	"net/http"
	"os"
	"sync"
)

// upload is the body of a request. The gateway reads all of it before it looks for an
// answer, because a lock finds the answer by the body's hash too.
type upload struct {
	mem  []byte
	file *os.File // an unlinked file; nil if mem has the whole body
	size int64
	sum  string // hex sha256; empty if there is no body
}

func (g *Gateway) upload(r *http.Request) (*upload, error) {
	b, h := &upload{}, sha256.New()
	buf := buffers.Get()
	defer buffers.Put(buf)
	_, err := io.CopyBuffer(io.MultiWriter(b, h), struct{ io.Reader }{r.Body}, buf)
	if serr := g.spend(int(b.size)); err == nil {
		err = serr
	}
	if err != nil {
		b.Close()
		return nil, fmt.Errorf("request body: %w", err)
	}
	if b.size > 0 {
		b.sum = hex.EncodeToString(h.Sum(nil))
	}
	return b, nil
}

func (b *upload) Write(p []byte) (n int, err error) {
	if b.size += int64(len(p)); b.size > maxUpload {
		return 0, fmt.Errorf("more than %d bytes", maxUpload)
	}
	if b.file == nil && b.size <= spill {
		b.mem = append(b.mem, p...)
		return len(p), nil
	}
	if b.file == nil {
		if b.file, err = os.CreateTemp("", "upload-"); err != nil {
			return 0, err
		}
		if err := os.Remove(b.file.Name()); err != nil {
			return 0, err
		}
		if _, err := b.file.Write(b.mem); err != nil {
			return 0, err
		}
		b.mem = nil
	}
	return b.file.Write(p)
}

func (b *upload) reader() io.ReadCloser {
	if b.file != nil {
		return io.NopCloser(io.NewSectionReader(b.file, 0, b.size))
	}
	return io.NopCloser(bytes.NewReader(b.mem))
}

func (b *upload) Close() {
	if b.file != nil {
		b.file.Close()
	}
}

// buffers is a pool of buffers for copying bodies.
var buffers = &bufferPool{}

type bufferPool struct{ pool sync.Pool }

func (p *bufferPool) Get() []byte {
	if b, ok := p.pool.Get().(*[]byte); ok {
		return *b
	}
	return make([]byte, 32<<10)
}

func (p *bufferPool) Put(b []byte) { p.pool.Put(&b) }
