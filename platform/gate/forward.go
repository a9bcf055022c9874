package gate

import (
	"errors"
	"io"
	"net/http"
	"time"

	v1 "github.com/google/go-containerregistry/pkg/v1"

	"github.com/colophon-build/colophon/internal/printable"
	"github.com/colophon-build/colophon/oci"
	"github.com/colophon-build/colophon/platform/distribution"
)

// unjudged records that nothing could be decided about a manifest because of err. In audit mode, it serves what
// the gate would not serve, a manifest or a blob: the client gets the upstream's own answer, as it does without a
// gate. What the upstream has not, or does not give, is no decision.
func (g *Gate) unjudged(w http.ResponseWriter, req *request, err error) error {
	if f, ok := errors.AsType[*distribution.Failure](err); ok && f.Code == distribution.CodeTooManyRequests {
		return err
	}
	if errors.Is(err, errBegan) || errors.Is(err, oci.ErrNotFound) || errors.Is(err, oci.ErrDenied) || req.Context().Err() != nil {
		return err
	}
	if !g.Audit {
		if req.kind == "manifests" && !req.decided {
			digest, _ := v1.NewHash(req.ref) // zero for a tag
			return g.judge.Unjudged(req.Context(), "pull", g.asks(req), digest.String(), err)
		}
		return err
	}
	src, openErr := g.source(req)
	if openErr != nil {
		return err
	}
	resp, forwardErr := src.Forward(req.Context(), req.Method, req.kind, req.ref, req.Header.Values("Accept"))
	if forwardErr != nil {
		return err
	}
	defer resp.Body.Close()
	if err := g.judge.Unjudged(req.Context(), "pull of "+req.kind, g.asks(req), printable.Cut(printable.Line(resp.Header.Get("Docker-Content-Digest")), maxMessage), err); err != nil {
		return refused(err) // the audit ledger must have the record, and does not
	}
	h := w.Header()
	for _, name := range []string{"Content-Type", "Content-Length", "Docker-Content-Digest", "Etag"} {
		h.Del(name)
		if v := resp.Header.Get(name); v != "" {
			h.Set(name, v)
		}
	}
	if req.kind == "blobs" {
		h.Set("Content-Type", "application/octet-stream") // a browser must not interpret it
	}
	w.WriteHeader(resp.StatusCode)
	if req.Method == http.MethodHead {
		return nil
	}
	rc := http.NewResponseController(w)
	defer func() { _ = rc.SetWriteDeadline(time.Time{}) }()
	buffer := make([]byte, 64<<10)
	for {
		n, err := resp.Body.Read(buffer)
		_ = rc.SetWriteDeadline(time.Now().Add(stall))
		if _, writeErr := w.Write(buffer[:n]); writeErr != nil || err != nil && !errors.Is(err, io.EOF) {
			return errors.Join(errBegan, writeErr, err)
		}
		if err != nil {
			return nil
		}
	}
}
