package verify

import (
	"context"
	"errors"
	"fmt"
	"io"

	v1 "github.com/google/go-containerregistry/pkg/v1"

	"github.com/colophon-build/colophon/attest"
	"github.com/colophon-build/colophon/policy"
)

// File is a file to verify. Content is read as often as there are bundles to
// check it against; what it says must be what Digest says each time.
type File struct {
	Name    string // as the user named it
	Digest  v1.Hash
	Size    int64 // bytes
	Content io.ReaderAt
}

func (f File) subject() Subject {
	return Subject{Digest: f.Digest, Content: io.NewSectionReader(f.Content, 0, f.Size)}
}

func (f File) verdict() *Verdict {
	v := &Verdict{Image: f.Name, Digest: f.Digest.String()}
	v.add(Link{Name: LinkFile, Status: Holds, Claim: fmt.Sprintf("%d bytes", f.Size)})
	return v
}

// Bundled answers whether one of the bundles proves where a file comes from,
// for files built by workflows on GitHub and pipelines on GitLab; or, where the
// policy names a signer, whether they are of that one. Policy is that of Image.
func Bundled(ctx context.Context, f File, bundles [][]byte, opts Options) *Verdict {
	c := &check{opts: opts, about: "file"}
	v := f.verdict()
	v.Dangers = opts.Policy.Dangers()
	if err := c.ready(); err != nil {
		v.add(Link{Name: LinkSignature, Status: Unknown, Reason: err.Error()})
		return v
	}
	look := func(w wanted) *search { return c.lookIn(f, bundles, w) }
	links, demanded := c.bundledLinks(ctx, f, bundles, look)
	required := map[string]bool{LinkFile: true}
	for _, l := range links {
		v.add(l)
	}
	for _, name := range demanded {
		required[name] = true
	}
	c.require(v)
	v.demand(required)
	c.attested(v, look)
	c.summarise(v, "", look)
	return v
}

func (c *check) bundledLinks(ctx context.Context, f File, bundles [][]byte, look func(wanted) *search) (links []Link, demanded []string) {
	switch c.opts.Policy.Origin.(type) {
	case policy.SummaryOnly:
		return unasked(LinkSignature, LinkLog, LinkProvenance, LinkSource), nil
	case policy.SignerProvenance, policy.SignatureOnly:
		return c.namedLinks(ctx, look, func(*attest.Signed) bool { return true })
	}
	return c.builtLinks(ctx, f, bundles)
}

// lookIn searches the bundles of a file.
func (c *check) lookIn(f File, bundles [][]byte, w wanted) *search {
	s := new(search)
	for _, raw := range bundles {
		if b, err := parseBundled(raw); err != nil {
			s.add(&found{err: err})
		} else {
			c.consider(s, b, f.subject, w)
		}
	}
	return s
}

// builtLinks are those of a file that a public builder made.
func (c *check) builtLinks(ctx context.Context, f File, bundles [][]byte) (links []Link, demanded []string) {
	demanded = []string{LinkSignature, LinkLog, LinkProvenance}
	if c.opts.Policy.Provenance().RequireSource {
		demanded = append(demanded, LinkSource)
	}
	if len(c.plainRoots()) == 0 {
		return []Link{{Name: LinkSignature, Status: Unknown, Reason: "no Sigstore trusted root is believed, and files are signed under those: see `colophon trust add`"}}, demanded
	}
	ev := &evidence{}
	var refused error
	for _, raw := range bundles {
		b, err := parseBundled(raw)
		if err == nil && !namesBuilder(b) {
			err = errors.New("not signed by a workflow on GitHub or a pipeline on GitLab: say who should have signed it")
		}
		if err != nil {
			refused = err
			continue
		}
		ev.workflows = append(ev.workflows, c.judgeWorkflow(b, Subject{Digest: f.Digest}))
	}
	if len(ev.workflows) == 0 {
		l := Link{Name: LinkSignature, Status: Absent, Reason: "there is no bundle"}
		if refused != nil {
			l.Status, l.Reason = Broken, refused.Error()
		}
		return []Link{l}, demanded
	}
	links, best := c.workflowLinks(ev)
	c.proven = &best.candidate
	return append(links, c.sourceLink(ctx, &best.candidate)), demanded
}

// parseBundled reads a Sigstore bundle, or an envelope by itself.
func parseBundled(raw []byte) (*attest.Signed, error) {
	if attest.IsEnvelope(raw) {
		return attest.ParseEnvelope(raw)
	}
	return attest.ParseSigned(raw)
}
