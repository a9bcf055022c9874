package release

import (
	"context"
	"encoding/json"

	"github.com/opencontainers/go-digest"

	"github.com/colophon-build/colophon/audit"
	"github.com/colophon-build/colophon/internal/printable"
	"github.com/colophon-build/colophon/platform/api"
	"github.com/colophon-build/colophon/policy"
	"github.com/colophon-build/colophon/verify"
)

// expected is what the image of this release must prove.
func (j *run) expected() policy.Document {
	return policy.Document{Source: j.commit.URI, Ref: j.commit.Ref, Commit: j.commit.ID, Recipe: j.demand()}
}

// tell brings the verdict about an image, by its digest, to the audit ledger. After an accepted one, the tags
// follow, unless tell fails.
func (j *run) tell(ctx context.Context, image string, v *verify.Verdict) error {
	if j.Record == nil {
		return nil
	}
	demand, err := json.Marshal(j.expected())
	if err != nil {
		return err
	}
	line := func(s string) audit.Field { return audit.Shown(printable.Cut(printable.Line(s), audit.MaxText-8)) }
	r := v.Record(audit.KindRelease)
	r.About = audit.About{Image: line(j.req.Image + ":" + j.tags[0]), Digest: image, Source: j.commit.URI, Commit: j.commit.ID, Ref: j.commit.Ref, Builder: j.builder.ID, Level: v.Level}
	r.Basis = audit.Basis{Policy: digest.FromBytes(demand).String(), Trust: digest.FromBytes(j.Trust.Raw).String()}
	r.By.User = line(j.actor)
	if r.Effect = audit.Refused; v.Outcome == verify.Accepted {
		r.Effect = audit.Allowed
	}
	if err := j.Record(ctx, r); err != nil {
		j.Log.Error("A RELEASE STOPS", "image", j.req.Image, "digest", image, "error", err)
		return &api.Error{Message: "the audit ledger did not record the release, and the configuration of the platform requires it, so no tag was created", Hint: "ask the operator of the platform to look at the ledger's disk; then run the release again to finish it"}
	}
	return nil
}
