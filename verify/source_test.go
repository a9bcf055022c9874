package verify_test

import (
	"context"
	"errors"
	"strings"
	"testing"

	"github.com/colophon-build/colophon/attest"
	"github.com/colophon-build/colophon/source"
	"github.com/colophon-build/colophon/test/prooftest"
	"github.com/colophon-build/colophon/verify"
)

func TestSourceLink(t *testing.T) {
	there := source.Standing{Commit: true, Ref: source.RefThere, Now: prooftest.Commit, Tree: prooftest.Tree}
	with := func(change func(*source.Standing)) source.Standing {
		s := there
		change(&s)
		return s
	}
	ref := func(name source.RefStatus) source.Standing {
		return with(func(s *source.Standing) { s.Ref, s.Now = name, strings.Repeat("ab", 20) })
	}
	signed := func(status source.SignatureStatus) source.Standing {
		return with(func(s *source.Standing) {
			s.Signature = source.Signature{Object: "tag", Status: status, Signer: "ada", Reason: "a stranger"}
		})
	}
	for name, a := range map[string]struct {
		now     source.Standing
		err     error
		require bool
		outcome verify.Outcome
		status  verify.Status
		words   string
	}{
		"there":                    {there, nil, true, verify.Accepted, verify.Holds, "commit is there, unchanged; tag signed by key SHA256:ada, named release@example.com by the requester"},
		"branch moved forward":     {ref(source.RefForward), nil, true, verify.Accepted, verify.Holds, "moved on"},
		"branch merged":            {ref(source.RefMerged), nil, true, verify.Accepted, verify.Holds, "default branch"},
		"history rewritten":        {ref(source.RefRewritten), nil, false, verify.Rejected, verify.Broken, "rewritten"},
		"tag moved":                {ref(source.RefMoved), nil, false, verify.Rejected, verify.Broken, "moved to abab"},
		"ref gone":                 {ref(source.RefGone), nil, false, verify.Rejected, verify.Broken, "its ref is gone"},
		"gone":                     {with(func(s *source.Standing) { s.Commit = false }), nil, false, verify.Rejected, verify.Broken, "no longer served"},
		"nothing filled in":        {source.Standing{}, nil, false, verify.Rejected, verify.Broken, "no longer served"},
		"another tree":             {with(func(s *source.Standing) { s.Tree = strings.Repeat("ab", 20) }), nil, false, verify.Rejected, verify.Broken, "tree of commit"},
		"no tree":                  {with(func(s *source.Standing) { s.Tree = "" }), nil, false, verify.Rejected, verify.Broken, "tree of commit"},
		"signed":                   {signed(source.Verified), nil, true, verify.Accepted, verify.Holds, "tag signed by ada (verified)"},
		"unsigned":                 {signed(source.Unsigned), nil, false, verify.Rejected, verify.Broken, "unsigned"},
		"signed by a stranger":     {signed(source.Unverified), nil, false, verify.Rejected, verify.Broken, "a stranger"},
		"badly signed":             {signed(source.Bad), nil, false, verify.Rejected, verify.Broken, `"bad"`},
		"unreachable":              {source.Standing{}, errors.New("no route"), false, verify.Accepted, verify.Unknown, "does not demand an answer"},
		"unreachable and required": {source.Standing{}, errors.New("no route"), true, verify.Undecided, verify.Unknown, "no route"},
	} {
		t.Run(name, func(t *testing.T) {
			c := newScene(t)
			c.r.Attach(prooftest.Kinds...)
			c.wants.RequireSource = a.require
			c.opts.SourceCheck = func(context.Context, source.Question) (source.Standing, error) { return a.now, a.err }
			c.want(a.outcome, "source", a.status, a.words)
		})
	}
	t.Run("not asked, and required", func(t *testing.T) {
		c := newScene(t)
		c.r.Attach(prooftest.Kinds...)
		c.wants.RequireSource = true
		c.want(verify.Undecided, "source", verify.NotAsked, "was not asked")
	})
	t.Run("provenance of another source", func(t *testing.T) {
		c := newScene(t)
		c.r.Attach(prooftest.Kinds...)
		c.wants.Source = "https://git.example.com/team/other"
		c.opts.SourceCheck = func(context.Context, source.Question) (source.Standing, error) {
			t.Error("the repository of a provenance that is not accepted was asked")
			return source.Standing{}, nil
		}
		c.want(verify.Rejected, "source", verify.NotAsked, "no valid provenance names a repository")
	})
}

// TestCommitOfNoRef: an image that was released by commit id is accepted if a branch or
// tag had the commit, and still has it. The host may also serve commits of forks.
func TestCommitOfNoRef(t *testing.T) {
	released := func(within string) *scene {
		c := newScene(t)
		c.wants.Ref, c.wants.RequireSource = "", true
		c.r.Identity.Ref, c.r.Parameters.Source.Ref = "", ""
		d := &c.r.Provenance.BuildDefinition.ResolvedDependencies[0]
		d.URI = attest.GitURI(prooftest.Source, "")
		if within != "" {
			d.Annotations["within"] = within
		}
		c.r.Attach(prooftest.Kinds...)
		return c
	}
	for now, status := range map[string]verify.Status{"refs/heads/main": verify.Holds, "": verify.Broken} {
		c := released("refs/heads/release")
		c.opts.SourceCheck = func(_ context.Context, q source.Question) (source.Standing, error) {
			return source.Standing{Commit: true, Within: now, Tree: q.Tree}, nil
		}
		if status == verify.Holds {
			c.want(verify.Accepted, verify.LinkSource, status, "commit is there in refs/heads/main")
			c.want(verify.Accepted, verify.LinkProvenance, verify.Holds, "no ref, contained in refs/heads/release")
			continue
		}
		c.want(verify.Rejected, verify.LinkSource, status, "contained in no branch or tag")
	}
	c := released("")
	c.wants.RequireSource = false
	c.want(verify.Rejected, verify.LinkProvenance, verify.Broken, "got no ref, and")
}

// TestPullRequest: a ref that strangers can write is accepted only by its name.
func TestPullRequest(t *testing.T) {
	const ref = "refs/pull/7/merge"
	c := newScene(t)
	c.wants.Ref = ""
	c.r.Identity.Ref, c.r.Parameters.Source.Ref = ref, ref
	c.r.Provenance.BuildDefinition.ResolvedDependencies[0].URI = attest.GitURI(prooftest.Source, ref)
	c.r.Attach(prooftest.Kinds...)
	c.want(verify.Rejected, verify.LinkProvenance, verify.Broken, "neither a branch nor a tag")
	c.wants.Ref = ref
	c.want(verify.Accepted, verify.LinkProvenance, verify.Holds, ref)
}
