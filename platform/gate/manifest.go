package gate

import (
	"context"
	"errors"
	"net/http"
	"strconv"
	"time"

	"github.com/colophon-build/colophon/oci"
	"github.com/colophon-build/colophon/platform/verdicts/serving"
)

// fetch reads the manifest that the client asked for, once.
func fetch(ctx context.Context, src *oci.Registry, ref string) (*serving.Manifest, error) {
	d, err := src.Resolve(ctx, ref)
	if err != nil {
		return nil, err
	}
	// If the registry's memory had no place for it, it is read by the digest that is judged.
	raw, _, err := src.Manifest(ctx, d.Digest)
	if err != nil {
		return nil, err
	}
	m, err := serving.Parse(d, raw)
	if err != nil {
		return nil, &unreadable{err}
	}
	return m, nil
}

// manifest serves GET and HEAD of /v2/NAME/manifests/REFERENCE.
func (g *Gate) manifest(ctx context.Context, w http.ResponseWriter, req *request) error {
	src, err := g.source(req)
	if err != nil {
		return err
	}
	m, err := fetch(ctx, src, req.ref)
	if err != nil {
		return err
	}
	warnings, err := g.judge.Pull(ctx, g.asks(req), src, m)
	if err != nil {
		_, req.decided = errors.AsType[*serving.Refusal](err)
		return refused(err)
	}
	serving.Warn(w.Header(), warnings)
	return answerManifest(w, req, m)
}

// asks returns what the client asks about a manifest.
func (g *Gate) asks(req *request) serving.Request {
	r := serving.Request{Repository: req.repository, Reference: req.ref, Logins: req.logins, Reader: req.reader, Client: req.RemoteAddr}
	if g.AskClients {
		r.User, _, _ = req.BasicAuth()
	}
	return r
}

func answerManifest(w http.ResponseWriter, req *request, m *serving.Manifest) error {
	w.Header().Set("Docker-Content-Digest", m.Digest.String())
	w.Header().Set("Etag", `"`+m.Digest.String()+`"`)
	return answer(w, req, string(m.MediaType), m.Raw)
}

// stall is how long a client may take for a part of an answer, so that it cannot keep it in memory.
const stall = time.Minute

// answer writes a whole answer.
func answer(w http.ResponseWriter, req *request, mediaType string, body []byte) error {
	w.Header().Set("Content-Type", mediaType)
	w.Header().Set("Content-Length", strconv.Itoa(len(body)))
	if req.Method == http.MethodHead {
		return nil
	}
	rc := http.NewResponseController(w)
	_ = rc.SetWriteDeadline(time.Now().Add(stall)) // not every writer has one
	defer func() { _ = rc.SetWriteDeadline(time.Time{}) }()
	if _, err := w.Write(body); err != nil {
		return errBegan
	}
	_ = rc.Flush() // before the deadline is lifted
	return nil
}
