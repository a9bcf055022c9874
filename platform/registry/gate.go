package registry

import (
	"context"
	"errors"
	"net/http"
	"strings"
	"time"

	"github.com/google/go-containerregistry/pkg/authn"
	v1 "github.com/google/go-containerregistry/pkg/v1"
	"github.com/google/go-containerregistry/pkg/v1/types"

	"github.com/colophon-build/colophon/oci"
	"github.com/colophon-build/colophon/platform/distribution"
	"github.com/colophon-build/colophon/platform/verdicts"
	"github.com/colophon-build/colophon/platform/verdicts/serving"
)

// Gate says how the registry judges images by policies. Without policies, which Verdicts takes,
// nobody knows anything about an image. Blobs are not judged: nothing runs without a manifest.
//
// A manifest is judged when it is pulled by tag, when it gets a tag, and when somebody pulls it
// by digest who may not push. Whoever may push reads by digest what was pushed: proofs of an
// image come after the image, and the tag comes last.
type Gate struct {
	Audit    bool              // decisions are recorded, and nothing is refused
	Recorder verdicts.Recorder // gets each decision, for an audit ledger; nil: nobody does
	Memory   int64             // bytes for what is known about images; 0: verdicts.DefaultMemory
}

// maxJudged is the limit of manifests that are judged at once; more wait.
const maxJudged = 64

// gate is what a registry with a Gate has.
type gate struct {
	host    string // of the registry's URL: policies call images so
	store   *store
	judge   *serving.Judge
	judging chan struct{} // one element for each manifest that is being judged

	patience time.Duration // for one of them
}

func newGate(cfg Config, host string, s *store) *gate {
	known := verdicts.New(verdicts.Config{Memory: cfg.Gate.Memory, Open: func(repository string, _ authn.AuthConfig) (oci.Source, error) {
		return &source{s, repository, strings.TrimPrefix(repository, host+"/")}, nil
	}})
	judge := serving.New(serving.Config{Verdicts: known, Audit: cfg.Gate.Audit, Recorder: cfg.Gate.Recorder, Log: cfg.Log, Registerer: cfg.Registerer})
	return &gate{host: host, store: s, judge: judge, judging: make(chan struct{}, maxJudged), patience: serving.Patience}
}

// Verdicts returns what the gate asks, for a verdicts.Loader. It returns nil without Config.Gate.
func (r *Registry) Verdicts() *verdicts.Store {
	if r.gate == nil {
		return nil
	}
	return r.gate.judge.Verdicts
}

// mayPull fails if a client may not get the manifest d.
func (r *Registry) mayPull(w http.ResponseWriter, req *request, d digest) error {
	if r.gate == nil || strings.Contains(req.ref, ":") && req.grant.role >= Push {
		return nil
	}
	return r.gate.ask(w, req, "pull", req.ref, d, func() ([]byte, *manifestFile, error) { return r.store.readManifest(req.name, d) })
}

// mayTag fails if the manifest d may not get the tags. The manifest is stored then, without them:
// whoever pushes by tag can attach proofs to it and push it again.
func (r *Registry) mayTag(w http.ResponseWriter, req *request, d digest, tags []string, raw []byte, m *manifestFile) error {
	if r.gate == nil || len(tags) == 0 {
		return nil
	}
	if err := r.checkTags(req.name, d, tags, m); err != nil {
		return err
	}
	if err := r.storeManifest(req.name, d, nil, raw, m); err != nil {
		return err
	}
	read := func() ([]byte, *manifestFile, error) { return raw, m, nil }
	for _, tag := range tags {
		err := r.gate.ask(w, req, "tag", tag, d, read)
		if f, ok := errors.AsType[*distribution.Failure](err); ok {
			f.Message = "tag " + tag + " was not set; " + d.String() + " is stored without it. " + f.Message
		}
		if err != nil {
			return err
		}
	}
	return nil
}

// ask makes a decision about one manifest, in time and in its turn, and tells the client about it.
func (g *gate) ask(w http.ResponseWriter, req *request, operation, reference string, d digest, read func() ([]byte, *manifestFile, error)) error {
	ctx, cancel := context.WithTimeout(req.Context(), g.patience)
	defer cancel()
	name := g.host + "/" + req.name
	r := serving.Request{Repository: name, Reference: reference, User: req.grant.account}
	warnings, err := g.decide(ctx, operation, r, &source{g.store, name, req.name}, d, read)
	if err == nil {
		serving.Warn(w.Header(), warnings)
		return nil
	}
	if _, decided := errors.AsType[*serving.Refusal](err); !decided {
		err = g.judge.Unjudged(ctx, operation, r, d.String(), err)
	}
	refusal, refused := errors.AsType[*serving.Refusal](err)
	switch {
	case refused && refusal.Undecided:
		return distribution.Unavailable(refusal.Reason)
	case refused:
		return &distribution.Failure{Status: http.StatusForbidden, Code: distribution.CodeDenied, Message: refusal.Reason}
	}
	return err
}

// decide asks about one manifest, which it reads in its turn: many would fill the memory.
func (g *gate) decide(ctx context.Context, operation string, r serving.Request, src *source, d digest, read func() ([]byte, *manifestFile, error)) ([]string, error) {
	release, err := acquire(ctx, g.judging)
	if err != nil {
		return nil, distribution.Unavailable("too many requests wait")
	}
	defer release()
	raw, m, err := read()
	if err != nil {
		return nil, err
	}
	parsed, err := serving.Parse(v1.Descriptor{MediaType: types.MediaType(m.MediaType), Digest: d.hash(), Size: int64(len(raw))}, raw)
	if err != nil {
		return nil, &distribution.Failure{Status: http.StatusForbidden, Code: distribution.CodeManifestInvalid, Message: "the manifest is refused: " + err.Error()}
	}
	if operation == "tag" {
		return g.judge.Tag(ctx, r, src, parsed)
	}
	return g.judge.Pull(ctx, r, src, parsed)
}
