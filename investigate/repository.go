package investigate

import (
	"context"
	"errors"
	"fmt"
	"sync"

	"github.com/colophon-build/colophon/source"
	"github.com/colophon-build/colophon/source/track"
)

// Lookup asks a repository, as source.Lookup does.
type Lookup func(context.Context, source.Question) (source.Standing, error)

// commitOf returns which commit to ask about, at which repository and under which ref. Only the
// repository that the investigator named is asked: evidence could name any host.
func (in *Inquiry) commitOf() (source.Question, error) {
	if in.Subject.Source == "" {
		return source.Question{}, NotAskedFor("--source names no repository")
	}
	q := source.Question{URI: in.Subject.Source, Object: true}
	if in.Subject.Kind == Commit {
		q.Commit = in.Subject.Name
		return q, nil
	}
	f := in.Holding()
	if f == nil || f.Build == nil {
		return q, NotAskedFor("no proof that holds names a commit")
	}
	want, err := source.Canonical(in.Subject.Source)
	if err != nil {
		return q, err
	}
	if f.Build.Source != want {
		return q, NotAskedFor("the provenance names the repository %s, which --source does not", f.Build.Source)
	}
	q.Commit, q.Ref = f.Build.Commit, f.Build.Ref
	return q, nil
}

// RepositoryAskers returns the Askers of AskStanding and AskCommit. They ask once for both.
func RepositoryAskers(lookup Lookup) map[ID]Asker {
	var once sync.Once
	var q source.Question
	var now source.Standing
	var err error
	ask := func(ctx context.Context, in *Inquiry) (Reply, error) {
		once.Do(func() {
			if q, err = in.commitOf(); err == nil {
				now, err = lookup(ctx, q)
			}
		})
		return Reply{Asked: q.URI, Query: q.Commit + " " + q.Ref}, err
	}
	return map[ID]Asker{
		AskStanding: func(ctx context.Context, in *Inquiry) (Reply, error) {
			r, err := ask(ctx, in)
			if err == nil {
				r.Facts.Standing = &Standing{URI: q.URI, Commit: q.Commit, Ref: q.Ref, There: now.Commit, Status: now.Ref, Now: now.Now, Within: now.Within, Back: now.Back}
			}
			return r, err
		},
		AskCommit: func(ctx context.Context, in *Inquiry) (Reply, error) {
			r, err := ask(ctx, in)
			if err != nil {
				return r, err
			}
			if now.Object == "" {
				return r, errors.New("the repository does not have the commit any more")
			}
			o, err := source.ReadCommit(q.Commit, now.Object)
			if err != nil {
				return r, err
			}
			kept, err := in.Evidence.Add([]byte(now.Object))
			r.Facts.Commit, r.Evidence = &o, []string{kept}
			return r, err
		},
	}
}

// recheckCommit computes the id of the commit again, and what stands in it.
func recheckCommit(a Answer, e *Evidence) error {
	if a.Facts.Commit == nil || len(a.Evidence) != 1 {
		return errors.New("it has no commit")
	}
	o, err := source.ReadCommit(a.Facts.Commit.ID, string(e.Get(a.Evidence[0])))
	if err != nil {
		return err
	}
	return sameJSON("commit", a.Facts.Commit, o)
}

// checkCommit fails if the commit of an answer is not that of the image or of the subject.
func checkCommit(c *Case, id string) error {
	want := buildOf(c).Commit
	if c.Subject.Kind == Commit {
		want = c.Subject.Name
	}
	if id != want {
		return fmt.Errorf("expected commit %s, found %s", want, id)
	}
	return nil
}

// checkStanding fails if an answer is about another repository, commit or ref than the case.
func checkStanding(c *Case, s *Standing) error {
	if s == nil {
		return errors.New("the answer is empty")
	}
	if s.URI != c.Subject.Source {
		return fmt.Errorf("expected the repository %s, found %s", c.Subject.Source, s.URI)
	}
	if want := buildOf(c).Ref; c.Subject.Kind == Image && s.Ref != want {
		return fmt.Errorf("expected ref %s, found %s", want, s.Ref)
	}
	return checkCommit(c, s.Commit)
}

// ReviewAsker asks a forge about the commit. review is as verify.TrackCheck.
func ReviewAsker(review func(ctx context.Context, uri, ref, commit string) (track.Result, error)) Asker {
	return func(ctx context.Context, in *Inquiry) (Reply, error) {
		q, err := in.commitOf()
		r := Reply{Asked: q.URI, Query: q.Commit + " " + q.Ref}
		if err != nil {
			return r, err
		}
		found, err := review(ctx, q.URI, q.Ref, q.Commit)
		r.Facts.Review = &found
		return r, err
	}
}
