package gate

import (
	"cmp"
	"context"
	"net/http"
	"strconv"
	"time"

	v1 "github.com/google/go-containerregistry/pkg/v1"

	"github.com/colophon-build/colophon/internal/limits"
	"github.com/colophon-build/colophon/internal/printable"
	"github.com/colophon-build/colophon/internal/strict"
	"github.com/colophon-build/colophon/oci"
	"github.com/colophon-build/colophon/platform/verdicts"
	"github.com/colophon-build/colophon/verify"
)

// manifestFile has the members of a manifest or index that the gate needs.
type manifestFile struct {
	Config    *v1.Descriptor  `json:"config"`
	Layers    []v1.Descriptor `json:"layers"`
	Manifests []v1.Descriptor `json:"manifests"`
	Subject   *v1.Descriptor  `json:"subject"`
}

// content is a manifest whose bytes have the digest.
type content struct {
	v1.Descriptor
	raw []byte
	manifestFile
}

// fetch reads the manifest that the client asked for, once.
func fetch(ctx context.Context, src *oci.Registry, ref string) (*content, error) {
	d, err := src.Resolve(ctx, ref)
	if err != nil {
		return nil, err
	}
	// If the registry's memory had no place for it, it is read by the digest that is judged.
	c := &content{Descriptor: d}
	if c.raw, _, err = src.Manifest(ctx, d.Digest); err != nil {
		return nil, err
	}
	if err := strict.Unmarshal(c.raw, limits.Manifest, &c.manifestFile); err != nil {
		return nil, &unreadable{err}
	}
	return c, nil
}

// manifest serves GET and HEAD of /v2/NAME/manifests/REFERENCE.
func (g *Gate) manifest(ctx context.Context, w http.ResponseWriter, req *request) error {
	src, err := g.source(req)
	if err != nil {
		return err
	}
	c, err := fetch(ctx, src, req.ref)
	if err != nil {
		return err
	}
	byDigest := digestGrammar.MatchString(req.ref)
	of := part{req.reader, req.name, c.Digest, g.Verdicts.Policies()}
	if s, ok := g.opened.get(of, aManifest, g.Now()); ok && byDigest {
		g.open(req, of.policies, c, s.until) // no longer than what was accepted
		return answerManifest(w, req, c)
	}
	switch attached, err := isAttachment(ctx, src, req.ref, c); {
	case err != nil:
		return err
	case attached && c.Manifests != nil: // a list: it opens nothing
		return answerManifest(w, req, c)
	case attached:
		g.openBlobs(req, of.policies, c, g.Now().Add(blobOpen))
		return answerManifest(w, req, c)
	}
	a, err := g.judge(ctx, req, c, byDigest)
	if err != nil && !g.Audit {
		return err
	}
	g.open(req, cmp.Or(a.Policies, of.policies), c, g.Now().Add(manifestOpen))
	return answerManifest(w, req, c)
}

// judge asks the policies about an image. It returns the refusal, if the image may not be served.
func (g *Gate) judge(ctx context.Context, req *request, c *content, byDigest bool) (a verdicts.Answer, refusal error) {
	start, ref := g.Now(), ":"+req.ref
	if byDigest {
		ref = "@" + req.ref
	}
	named := req.repository + ref
	image, err := g.names.Image(named)
	if err != nil {
		return a, failed(http.StatusBadRequest, codeNameInvalid, "%s: %v", named, err)
	}
	image.Digest, named = c.Digest.String(), image.Name+ref
	a = g.Verdicts.Ask(ctx, verdicts.Question{Image: image, Repository: req.repository, Logins: req.logins})
	switch d := a.Decision; d.Outcome {
	case verify.Accepted:
	case verify.Rejected:
		refusal = failed(http.StatusForbidden, codeDenied, "image %s: %s", named, printable.Line(d.Reason))
	default:
		refusal = unavailable("image " + named + ": nobody knows whether it may run: " + printable.Line(d.Reason))
	}
	g.record(req, named, image.Digest, a, refusal, g.Now().Sub(start))
	return a, refusal
}

// open opens the image itself and its parts for whoever got the manifest: clients ask for them by
// digest alone. The manifests are open until then, the blobs for the time of a download longer.
func (g *Gate) open(req *request, policies string, c *content, then time.Time) {
	g.opened.add(part{req.reader, req.name, c.Digest, policies}, aManifest, c.Size, then)
	for _, m := range c.Manifests {
		g.opened.add(part{req.reader, req.name, m.Digest, policies}, aManifest, m.Size, then)
	}
	g.openBlobs(req, policies, c, then.Add(blobOpen-manifestOpen))
}

func (g *Gate) openBlobs(req *request, policies string, c *content, until time.Time) {
	blobs := c.Layers
	if c.Config != nil {
		blobs = append([]v1.Descriptor{*c.Config}, blobs...)
	}
	for _, b := range blobs {
		g.opened.add(part{req.reader, req.name, b.Digest, policies}, aBlob, b.Size, until)
	}
}

func answerManifest(w http.ResponseWriter, req *request, c *content) error {
	w.Header().Set("Docker-Content-Digest", c.Digest.String())
	w.Header().Set("Etag", `"`+c.Digest.String()+`"`)
	return answer(w, req, string(c.MediaType), c.raw)
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
