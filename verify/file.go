package verify

import (
	"context"
	"errors"
	"fmt"
	"io"

	v1 "github.com/google/go-containerregistry/pkg/v1"

	"github.com/colophon-build/colophon/attest"
	"github.com/colophon-build/colophon/trust"
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

// BuiltFile answers whether one of the bundles proves where a file comes from,
// for files built by workflows on GitHub. Signers and policy are those of Image.
func BuiltFile(ctx context.Context, f File, bundles [][]byte, opts Options) *Verdict {
	c := &check{opts: opts}
	v := f.verdict()
	if err := c.ready(); err != nil {
		v.add(Link{Name: LinkSignature, Status: Unknown, Reason: err.Error()})
		return v
	}
	if len(c.plainRoots()) == 0 {
		v.add(Link{Name: LinkSignature, Status: Unknown, Reason: "no Sigstore trusted root is believed, and files are signed under those: see `colophon trust add`"})
		return v
	}
	ev := &evidence{}
	var refused error
	for _, raw := range bundles {
		b, err := attest.ParseSigned(raw)
		if err == nil && !namesWorkflow(b) {
			err = errors.New("not signed by a workflow on GitHub: say who should have signed it")
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
		v.add(l)
	} else {
		links, best := c.workflowLinks(ev)
		for _, l := range append(links, c.sourceLink(ctx, &best.candidate)) {
			v.add(l)
		}
	}
	v.demand(map[string]bool{LinkFile: true, LinkSignature: true, LinkLog: true, LinkProvenance: true, LinkSource: opts.Policy.RequireSource})
	return v
}

// SignedFile answers whether one of the bundles is of the signer and about the
// file. It says nothing of where the file comes from: opts.Policy is not asked.
func SignedFile(f File, bundles [][]byte, signer Signer, opts Options) *Verdict {
	v := f.verdict()
	signature := Link{Name: LinkSignature, Status: Absent, Reason: "there is no bundle"}
	if len(opts.Trust) == 0 {
		signature.Status, signature.Reason = Unknown, trust.ErrEmpty.Error()
		bundles = nil
	}
	log := Link{Name: LinkLog, Status: Unknown, Reason: "not told apart from the signature"}
try:
	for _, raw := range bundles {
		for _, r := range opts.Trust {
			sig, err := Artifact(raw, f.subject(), signer, r.Material, opts.Now)
			if err != nil {
				signature.Status, signature.Reason = Broken, err.Error()
				continue
			}
			signature = Link{Name: LinkSignature, Status: Holds, Claim: "of the key given"}
			if signer.Key == nil {
				signature.Claim = sig.Identity.SubjectAlternativeName
			}
			log = Link{Name: LinkLog, Status: Holds, Claim: "the trust root keeps no log"}
			if sig.Index >= 0 {
				log.Claim = fmt.Sprintf("entry %d", sig.Index)
			}
			if len(sig.Times) > 0 {
				log.Claim += ", signed " + show(sig.Times[0])
			}
			break try
		}
	}
	v.add(signature)
	v.add(log)
	v.add(Link{Name: LinkProvenance, Status: NotAsked, Reason: "only who signed was asked"})
	v.demand(map[string]bool{LinkFile: true, LinkSignature: true, LinkLog: true})
	return v
}
