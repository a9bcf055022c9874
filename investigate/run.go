package investigate

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/colophon-build/colophon/attest"
	"github.com/colophon-build/colophon/policy"
	"github.com/colophon-build/colophon/search"
	"github.com/colophon-build/colophon/trust"
	"github.com/colophon-build/colophon/verify"
)

// Asker answers one question. It returns what was answered, of whom it asked and what, and the
// digests of the evidence, which it adds to in.Evidence. An error of NotAskedFor means that nobody
// was asked; any other that there was no answer.
type Asker func(ctx context.Context, in *Inquiry) (Reply, error)

// Reply is an answer of an Asker.
type Reply struct {
	Asked    string
	Query    string
	Facts    Facts
	Evidence []string
}

// Inquiry is what to investigate, and whom to ask. A question without an Asker is not asked.
type Inquiry struct {
	Subject  Subject
	At       time.Time // of the questions, by this machine's clock; required
	By       string
	Trust    []*trust.Root
	Policy   policy.Document // what is demanded of an image: see ChainAsker
	Askers   map[ID]Asker
	Evidence *Evidence // required
	// Patience limits each question but the first; 0 means a minute.
	Patience time.Duration
	// First is called when the first link that is broken is known, with the line that says so, if
	// that is known before all questions are answered. It may be nil.
	First func(line string)

	holding Answer                      // of AskChain
	inputs  []attest.ResourceDescriptor // what the build in holding used, which a case does not repeat
	digests []string                    // that the other answers name; set before late questions are asked
}

// late questions are about all digests that the other answers name.
var late = []ID{AskRunning, AskDecided, AskDistrust, AskRebuilder}

// Holding returns what holds of the proofs of the image, nil before the first question is answered
// and for what is no image.
func (in *Inquiry) Holding() *verify.Facts {
	f := in.holding.Facts.Holding
	if f == nil || f.Build == nil || in.inputs == nil {
		return f
	}
	out, build := *f, *f.Build
	out.Build, build.Dependencies = &build, in.inputs
	return &out
}

// notAsked is the reason why a question was not asked.
type notAsked struct{ why string }

func (n notAsked) Error() string { return n.why }

// NotAskedFor returns the error of an Asker that has nobody to ask. Its text, as by fmt.Sprintf, says why, for people.
func NotAskedFor(format string, args ...any) error { return notAsked{fmt.Sprintf(format, args...)} }

// nobody says why a question without an Asker was not asked.
var nobody = map[ID]string{
	AskStanding:     "--source names no repository, or nobody is to be asked",
	AskCommit:       "--source names no repository, or nobody is to be asked",
	AskReview:       "--source names no repository, or nobody is to be asked",
	AskHistory:      "no log with an index, and no platform, was named",
	AskSources:      "nothing is known of the source",
	AskBases:        "it asks hosts that the provenance names: --refetch allows it",
	AskFetched:      "it asks hosts that the provenance names: --refetch allows it",
	AskReleases:     "no platform is configured",
	AskTags:         "the registry was not asked for its tags",
	AskSameDigest:   "no log with an index was named",
	AskSameCommit:   "no log with an index was named",
	AskSameSource:   "no log with an index was named",
	AskSameIdentity: "no log with an index was named",
	AskSameBase:     "no archive that can be searched for base images was named",
	AskSamePackage:  "no archive that can be searched for packages was named",
	AskSameFetch:    "no archive that can be searched for downloads was named",
	AskSameHost:     "no archive that can be searched for hosts was named",
	AskRunning:      "no cluster was named",
	AskDecided:      "no audit ledger was named",
	AskDistrust:     "no list of what is distrusted was named",
	AskRebuilder:    "no audit ledger was named, in which rebuilders record what they find",
}

// Run asks all questions about the subject, and concludes. It fails only if the Inquiry is wrong: a
// question without an answer is part of the case.
func Run(ctx context.Context, in *Inquiry) (*Case, error) {
	if err := in.Subject.Check(); err != nil {
		return nil, err
	}
	if in.At.IsZero() || in.Evidence == nil {
		return nil, errors.New("an inquiry needs a time, and a place for evidence")
	}
	c := &Case{Version: Version, Subject: in.Subject, At: in.At.UTC().Truncate(time.Second), By: in.By, Trust: []string{}}
	in.At = c.At
	for _, r := range in.Trust {
		c.Trust = append(c.Trust, r.Pin())
	}
	slices.Sort(c.Trust)
	all := QuestionsAbout(in.Subject.Kind)
	c.Answers = make([]Answer, len(all))
	var group sync.WaitGroup
	var early sync.Mutex
	for i, q := range all {
		if q.ID == AskChain {
			c.Answers[i] = in.ask(ctx, q)
			in.holding = c.Answers[i]
			if v := in.holding.Facts.Verdict; v != nil {
				c.Subject.Digest, in.Subject.Digest = v.Digest, v.Digest
			}
			in.first(c, &early)
			continue
		}
		if slices.Contains(late, q.ID) {
			continue
		}
		group.Go(func() {
			a := in.ask(ctx, q)
			early.Lock()
			c.Answers[i] = a
			early.Unlock()
			if q.ID == AskStanding {
				in.first(c, &early)
			}
		})
	}
	group.Wait()
	in.digests = digestsOf(c)
	for i, q := range all {
		if slices.Contains(late, q.ID) {
			group.Go(func() { c.Answers[i] = in.ask(ctx, q) })
		}
	}
	group.Wait()
	if err := context.Cause(ctx); err != nil {
		return nil, err
	}
	c.Conclusion = Conclude(c)
	return c, nil
}

// first tells the caller the broken link as soon as it is known: the questions are in the order in
// which links count, so that no later answer replaces it.
func (in *Inquiry) first(c *Case, mu *sync.Mutex) {
	if in.First == nil || in.Subject.Kind != Image {
		return
	}
	mu.Lock()
	defer mu.Unlock()
	known := Case{Subject: c.Subject, At: c.At}
	for _, a := range c.Answers {
		if a.ID == AskChain || a.ID == AskStanding {
			known.Answers = append(known.Answers, a)
		}
	}
	if said := Conclude(&known); said.State == Broken {
		in.First(said.Line)
		in.First = nil
	}
}

// ask asks one question.
func (in *Inquiry) ask(ctx context.Context, q Question) Answer {
	a := Answer{ID: q.ID, Question: q.Text}
	asker := in.Askers[q.ID]
	if asker == nil {
		a.Outcome, a.Why = NotAsked, nobody[q.ID]
		return a
	}
	if q.ID != AskChain {
		var cancel context.CancelFunc
		patience := in.Patience
		if patience == 0 {
			patience = time.Minute
		}
		ctx, cancel = context.WithTimeoutCause(ctx, patience, fmt.Errorf("no answer within %s", patience))
		defer cancel()
	}
	r, err := asker(ctx, in)
	if err != nil && ctx.Err() != nil {
		err = context.Cause(ctx)
	}
	a.Asked, a.Query = r.Asked, r.Query
	switch none, ok := errors.AsType[notAsked](err); {
	case ok:
		a.Outcome, a.Why = NotAsked, none.why
	case err != nil:
		a.Outcome, a.Why = Failed, err.Error()
	default:
		a.Outcome, a.Facts, a.Evidence = Answered, r.Facts, r.Evidence
	}
	return a
}

// Digests returns the digests of images that are concerned: that of the image, or those that the
// answers name if the subject is no image.
func (in *Inquiry) Digests() []string { return in.digests }

func digestsOf(c *Case) (out []string) {
	if c.Subject.Kind == Image {
		if c.Subject.Digest != "" {
			out = append(out, c.Subject.Digest)
		} else if named := c.Subject.Name[strings.LastIndexByte(c.Subject.Name, '@')+1:]; search.IsDigest(named) {
			out = append(out, named) // the registry was not asked, or did not answer: where it runs is known all the same
		}
		return out
	}
	for _, a := range c.Answers {
		for _, r := range a.Facts.Releases {
			if r.Digest != "" {
				out = append(out, r.Digest)
			}
		}
		if f := a.Facts.Found; f != nil {
			out = append(out, aboutOthers(f, "")...)
		}
	}
	slices.Sort(out)
	return slices.Compact(out)
}
