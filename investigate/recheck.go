package investigate

import (
	"context"
	"errors"
	"fmt"
	"slices"

	"golang.org/x/mod/sumdb/note"

	"github.com/colophon-build/colophon/search"
	"github.com/colophon-build/colophon/trust"
)

// Checked is what the evidence of a case shows about one of its answers.
type Checked struct {
	ID     ID
	Result Result
	Why    string // one line for people
	Words  bool   // of Misleading: only texts for people differ, which another version may word otherwise
}

// Result says how far an answer was checked.
type Result string

// Results of checks.
const (
	Recomputed Result = "recomputed"   // the evidence gives the same answer
	OnlySaid   Result = "said"         // nobody can check it from the case: the investigator says so
	Misleading Result = "contradicted" // the evidence gives another answer
	NotDecided Result = "undecided"    // the evidence could not be read here
)

// Logs returns the keys of a log and of its index, by the URL of the log, if one of the trust roots
// of whoever checks has it.
type Logs func(name string) (log, index note.Verifier, ok bool)

// Recheck computes the answers of a case again from its evidence, under roots, which must be those
// of whoever checks, and its conclusions from the answers. It returns one Checked for each answer, and
// an error if the conclusions, or a signature of a log that is trusted, contradict the case.
func Recheck(ctx context.Context, c *Case, e *Evidence, roots []*trust.Root, logs Logs) ([]Checked, error) {
	used, missing := trusted(c, roots)
	if err := c.checkDigest(); err != nil {
		return nil, err
	}
	out := make([]Checked, len(c.Answers))
	for i, a := range c.Answers {
		out[i] = recheck(ctx, c, a, e, used, missing, logs)
	}
	for _, a := range c.Answers {
		for _, d := range a.Evidence {
			if e.Get(d) == nil {
				return out, fmt.Errorf("answer %s: its evidence %s is missing", a.ID, d)
			}
		}
	}
	return out, CheckConclusion(c)
}

// CheckConclusion fails unless the whole conclusion of a case follows from its answers.
func CheckConclusion(c *Case) error {
	again := Conclude(c)
	if err := sameJSON("conclusion", c.Conclusion, again); err != nil {
		return fmt.Errorf("%w: its first line must be %q", err, again.Line)
	}
	return nil
}

// trusted returns the trust roots of the case that whoever checks has too.
func trusted(c *Case, roots []*trust.Root) (used []*trust.Root, missing []string) {
	for _, pin := range c.Trust {
		i := slices.IndexFunc(roots, func(r *trust.Root) bool { return r.Pin() == pin })
		if i < 0 {
			missing = append(missing, pin)
			continue
		}
		used = append(used, roots[i])
	}
	return used, missing
}

func untrusted(missing []string) string {
	return fmt.Sprintf("this machine does not trust %s, which the investigator trusted", missing[0])
}

func recheck(ctx context.Context, c *Case, a Answer, e *Evidence, used []*trust.Root, missing []string, logs Logs) Checked {
	result := func(r Result, why string) Checked { return Checked{ID: a.ID, Result: r, Why: why} }
	if err := a.checkEmpty(); err != nil {
		return result(Misleading, err.Error())
	}
	if a.Outcome != Answered {
		return result(OnlySaid, string(a.Outcome)+": "+a.Why)
	}
	if err := onlyFacts(a); err != nil {
		return result(Misleading, err.Error())
	}
	var err error
	switch a.ID {
	case AskChain:
		if len(missing) > 0 {
			return result(NotDecided, untrusted(missing))
		}
		err = recheckChain(ctx, c, a, e, used)
	case AskCommit:
		if err = recheckCommit(a, e); err == nil {
			err = checkCommit(c, a.Facts.Commit.ID)
		}
	case AskSources:
		if err = recheckSources(c, a, e); err == nil && a.Facts.Sources.Manifests != nil && len(a.Facts.Sources.Manifests.Files) > 0 {
			return result(Recomputed, "but that the commit has these manifests, and no others: the repository said so")
		}
	case AskSameDigest, AskSameCommit, AskSameSource, AskSameIdentity, AskHistory:
		if len(missing) > 0 {
			return result(NotDecided, untrusted(missing))
		}
		return recheckLog(c, a, e, used, logs)
	case AskStanding:
		if err = checkStanding(c, a.Facts.Standing); err == nil {
			return result(OnlySaid, "the repository "+c.Subject.Source+" said so to the investigator")
		}
	default:
		return result(OnlySaid, a.Asked+" said so to the investigator")
	}
	if err != nil {
		x := result(Misleading, err.Error())
		_, x.Words = errors.AsType[errWords](err)
		return x
	}
	return result(Recomputed, "")
}

// onlyFacts fails if an answer has facts of another question, from which conclusions could follow.
func onlyFacts(a Answer) error {
	f := a.Facts
	has := map[string]bool{
		"verdict": f.Verdict != nil || f.Holding != nil || f.Others != nil, "standing": f.Standing != nil, "commit": f.Commit != nil, "review": f.Review != nil, "history": f.History != nil,
		"bases": f.Bases != nil, "fetches": f.Fetches != nil, "found": f.Found != nil, "releases": f.Releases != nil, "tags": f.Tags != nil, "running": f.Running != nil, "sources": f.Sources != nil,
		"decided": f.Decided != nil, "distrust": f.Distrust != nil,
	}
	own := map[ID]string{
		AskChain: "verdict", AskStanding: "standing", AskCommit: "commit", AskReview: "review", AskHistory: "history", AskSources: "sources", AskBases: "bases", AskFetched: "fetches",
		AskReleases: "releases", AskTags: "tags", AskRunning: "running", AskDecided: "decided", AskDistrust: "distrust", AskRebuilder: "decided",
	}
	want := own[a.ID]
	if want == "" {
		want = "found"
	}
	for name, there := range has {
		if there && name != want {
			return fmt.Errorf("it has facts of another question: %s", name)
		}
	}
	return nil
}

// recheckLog verifies the answers of a log again.
func recheckLog(c *Case, a Answer, e *Evidence, roots []*trust.Root, logs Logs) Checked {
	stated, platform := a.Facts.Found, 0
	name, key := "", search.Key{}
	if a.ID == AskHistory {
		build := buildOf(c)
		key = search.Key{Kind: search.Ref, Value: build.Ref}
		name = a.Asked
		platform = len(slices.DeleteFunc(slices.Clone(a.Facts.History), func(m RefMove) bool { return m.Entry != nil }))
	} else {
		if stated == nil {
			return Checked{ID: a.ID, Result: Misleading, Why: "the answer is empty"}
		}
		name, key = stated.Log, search.Key{Kind: stated.Kind, Value: stated.Value}
	}
	log, index, ok := logs(name)
	if !ok {
		return Checked{ID: a.ID, Result: NotDecided, Why: "this machine has no trust root with the log " + name}
	}
	again, err := c.readFound(a, e, name, key, log, index, roots)
	if err == nil && a.ID == AskHistory {
		moves := historyOf(again, buildOf(c).Source)
		proved := slices.DeleteFunc(slices.Clone(a.Facts.History), func(m RefMove) bool { return m.Entry == nil })
		err = sameJSON("history", proved, append([]RefMove{}, moves...))
	} else if err == nil {
		if err = c.checkKey(a.ID, key); err == nil {
			err = sameJSON("entries", stated, again)
		}
	}
	if err != nil {
		return Checked{ID: a.ID, Result: Misleading, Why: err.Error()}
	}
	if platform > 0 {
		return Checked{ID: a.ID, Result: Recomputed, Why: fmt.Sprintf("but for %d moves that a platform remembers", platform)}
	}
	return Checked{ID: a.ID, Result: Recomputed, Why: ""}
}

// readFound reads the pages of a log in the evidence, and the bundles after them.
func (c *Case) readFound(a Answer, e *Evidence, name string, key search.Key, log, index note.Verifier, roots []*trust.Root) (*Found, error) {
	var froms []int64
	if a.Facts.Found != nil {
		froms = a.Facts.Found.Pages
	} else {
		froms = a.Facts.Pages
	}
	if len(froms) > len(a.Evidence) {
		return nil, errors.New("pages of the answer are missing")
	}
	var pages []page
	for i, from := range froms {
		pages = append(pages, page{from, e.Get(a.Evidence[i])})
	}
	f, err := readPages(name, key, pages, log, index, roots)
	if err != nil {
		return nil, err
	}
	var bundles [][]byte
	for _, d := range a.Evidence[len(froms):] {
		bundles = append(bundles, e.Get(d))
	}
	addAbout(f, bundles)
	if a.ID != AskHistory {
		f.keepBetween(c.Subject)
	}
	return f, nil
}

// checkKey fails if entries were asked for with another key than the question has.
func (c *Case) checkKey(id ID, key search.Key) error {
	in := Inquiry{Subject: c.Subject, holding: c.Answer(AskChain)}
	want := map[ID]search.Key{
		AskSameDigest: {Kind: search.Digest, Value: c.Subject.Digest}, AskSameCommit: {Kind: search.Commit, Value: in.commitID()},
		AskSameSource: {Kind: search.Source, Value: in.sourceURI()}, AskSameIdentity: {Kind: search.Identity, Value: in.identity()},
	}[id]
	if key != want {
		return fmt.Errorf("the log was asked for the %s %q, expected %s %q", key.Kind, key.Value, want.Kind, want.Value)
	}
	return nil
}
