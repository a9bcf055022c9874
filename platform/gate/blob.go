package gate

import (
	"context"
	"errors"
	"io"
	"net/http"
	"strconv"
	"time"

	v1 "github.com/google/go-containerregistry/pkg/v1"

	"github.com/colophon-build/colophon/platform/distribution"
)

// blob serves GET and HEAD of /v2/NAME/blobs/DIGEST: the blobs of what the client was given. A range
// is answered with the whole blob, as HTTP allows, so that every byte is verified.
func (g *Gate) blob(w http.ResponseWriter, req *request) error {
	digest, err := v1.NewHash(req.ref)
	if err != nil {
		return distribution.Failed(http.StatusBadRequest, distribution.CodeDigestInvalid, "expected a sha256, found %q", req.ref)
	}
	size, ok := g.judge.Blob(req.reader, req.repository, digest)
	if !ok {
		return distribution.Failed(http.StatusForbidden, distribution.CodeDenied, "blob %s is of no image that this gate served you lately; pull the image again", digest)
	}
	w.Header().Set("Docker-Content-Digest", digest.String())
	w.Header().Set("Etag", `"`+digest.String()+`"`)
	w.Header().Set("Content-Type", "application/octet-stream") // a browser must not interpret it
	w.Header().Set("Content-Length", strconv.FormatInt(size, 10))
	if req.Method == http.MethodHead {
		return nil
	}
	select {
	case g.blobs <- struct{}{}:
		defer func() { <-g.blobs }()
	default:
		return distribution.Failed(http.StatusTooManyRequests, distribution.CodeTooManyRequests, "%d blobs are being served already", maxBlobs)
	}
	ctx, cancel := context.WithCancel(req.Context())
	defer cancel()
	d := v1.Descriptor{Digest: digest, Size: size}
	if f := g.Cache.open(d); f != nil {
		defer f.Close()
		if g.shows(ctx, req, digest) {
			g.metrics.blobs.WithLabelValues("cache").Inc()
			return send(w, f)
		}
	}
	src, err := g.source(req)
	if err != nil {
		return err
	}
	body, err := src.Blob(ctx, d)
	if err != nil {
		return err
	}
	defer body.Close()
	g.metrics.blobs.WithLabelValues("upstream").Inc()
	kept := g.Cache.create(d)
	err = send(w, io.TeeReader(body, kept))
	kept.end(err == nil)
	return err
}

// shows reports whether the upstream would give a blob that the cache has to the client. A manifest
// that the client was served is no proof of that: whoever pushes it may name a blob of another
// repository, and not every registry refuses that.
func (g *Gate) shows(ctx context.Context, req *request, digest v1.Hash) bool {
	if !g.AskClients {
		return true
	}
	src, err := g.source(req)
	if err != nil {
		return false
	}
	resp, err := src.Forward(ctx, http.MethodHead, "blobs", digest.String(), nil)
	if err != nil {
		return false
	}
	resp.Body.Close()
	return resp.StatusCode == http.StatusOK
}

// send streams a blob whose last Read fails if it is not what it should be. It keeps the end back until
// then, so that no client gets a whole blob that is another one.
func send(w http.ResponseWriter, from io.Reader) error {
	rc := http.NewResponseController(w)
	defer func() { _ = rc.SetWriteDeadline(time.Time{}) }()
	var buffers [2][64 << 10]byte
	held := []byte(nil)
	began := false
	for i := 0; ; i = 1 - i {
		n, err := io.ReadFull(from, buffers[i][:])
		last := errors.Is(err, io.EOF) || errors.Is(err, io.ErrUnexpectedEOF)
		if err != nil && !last {
			if !began {
				return err // the client gets the reason
			}
			return errors.Join(errBegan, err)
		}
		_ = rc.SetWriteDeadline(time.Now().Add(stall))
		for _, b := range [][]byte{held, when(last, buffers[i][:n])} {
			if len(b) == 0 {
				continue
			}
			began = true
			if _, err := w.Write(b); err != nil {
				return errors.Join(errBegan, err)
			}
		}
		if last {
			return nil
		}
		held = buffers[i][:n]
	}
}

func when(ok bool, b []byte) []byte {
	if ok {
		return b
	}
	return nil
}
