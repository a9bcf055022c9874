package track

import (
	"errors"
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/colophon-build/colophon/source"
	"github.com/colophon-build/colophon/source/forge"
)

var (
	commit, head, older = strings.Repeat("c", 40), strings.Repeat("b", 40), strings.Repeat("a", 40)

	mergedAt = time.Date(2026, 11, 20, 10, 5, 0, 0, time.UTC)
	alice    = forge.Account{ID: 2, Name: "alice"}
	bob      = forge.Account{ID: 3, Name: "bob"}
	carol    = forge.Account{ID: 4, Name: "carol"}
)

// good returns facts about a commit that reaches level 4: alice proposed it, bob approved it.
func good() Facts {
	on := forge.Control{On: forge.Yes, By: "rule", Since: mergedAt.AddDate(0, -6, 0), Exempt: forge.No}
	return Facts{
		URI: "https://git.example.com/team/app", Commit: commit, Ref: "refs/heads/main", Branch: "refs/heads/main",
		Standing: source.Standing{Commit: true, Ref: source.RefThere, Now: commit},
		Changes: []forge.Change{{
			Number: 7, Target: "refs/heads/main", Head: head, Result: commit, Ref: "refs/pull/7/head", Steps: 1, Author: alice, Trust: forge.Yes, Merger: bob, Merged: mergedAt,
			Writers: []forge.Account{alice}, Pushers: []forge.Account{alice}, Pushed: forge.Yes,
			Reviews: []forge.Review{{By: bob, Verdict: forge.Approved, Commit: head, Time: mergedAt.Add(-time.Hour), Trust: forge.Yes}},
		}},
		Merged: map[int64]Merged{7: {How: "it is the merge of the proposed commit"}},
		Rules:  &forge.Rules{Ref: "refs/heads/main", Forward: on, Kept: on, Requests: on, Review: on, Needed: 1, LastPush: on},
	}
}

// TestLevels tries what could get a commit a level that it has not: each change of the facts
// gives the level that is shown, the one that is possible, and the number of reviewers.
func TestLevels(t *testing.T) {
	for what, c := range map[string]struct {
		change                         func(f *Facts, c *forge.Change)
		level, possible, sure, further int
	}{
		"good": {func(*Facts, *forge.Change) {}, 4, 4, 1, 0},

		"a path":              {func(f *Facts, _ *forge.Change) { f.URI = "file:///srv/app" }, 0, 0, 1, 0},
		"no answer of git":    {func(f *Facts, _ *forge.Change) { f.StandingErr = errors.New("late") }, 0, 4, 1, 0},
		"the tag was moved":   {func(f *Facts, _ *forge.Change) { f.Standing.Ref = source.RefMoved }, 0, 0, 1, 0},
		"history rewritten":   {func(f *Facts, _ *forge.Change) { f.Standing.Ref = source.RefRewritten }, 0, 0, 1, 0},
		"no forge":            {func(f *Facts, _ *forge.Change) { f.ChangesErr, f.RulesErr = forge.ErrNoForge, forge.ErrNoForge }, 1, 4, 0, -1},
		"no answer on rules":  {func(f *Facts, _ *forge.Change) { f.RulesErr = errors.New("late") }, 1, 4, 1, 0},
		"pushed":              {func(f *Facts, _ *forge.Change) { f.Changes = nil }, 1, 1, 0, 0},
		"a part of a change":  {func(_ *Facts, c *forge.Change) { c.Result = older }, 1, 1, 0, 0},
		"into another branch": {func(_ *Facts, c *forge.Change) { c.Target = "refs/heads/attic" }, 1, 1, 0, 0},
		"no known branch":     {func(f *Facts, _ *forge.Change) { f.Rules = nil }, 1, 4, 1, 0},
		"signed but pushed": {func(f *Facts, _ *forge.Change) {
			f.Changes = nil
			f.Standing.Signature = source.Signature{Status: source.Verified}
		}, 1, 1, 0, 0},
		"deleted accounts":     {func(_ *Facts, c *forge.Change) { c.Author = forge.Account{} }, 1, 3, 1, 0},
		"time of merge hidden": {func(_ *Facts, c *forge.Change) { c.Merged = time.Time{} }, 1, 4, 1, 0},

		"force pushes":             {func(f *Facts, _ *forge.Change) { f.Rules.Forward.On = forge.No }, 1, 1, 1, 0},
		"force pushes by some":     {func(f *Facts, _ *forge.Change) { f.Rules.Forward.Exempt = forge.Yes }, 1, 1, 1, 0},
		"deletion":                 {func(f *Facts, _ *forge.Change) { f.Rules.Kept.On = forge.No }, 1, 1, 1, 0},
		"bypass list not shown":    {func(f *Facts, _ *forge.Change) { f.Rules.Forward.Exempt = forge.NotSaid }, 1, 4, 1, 0},
		"rules not shown":          {func(f *Facts, _ *forge.Change) { *f.Rules = forge.Rules{Ref: f.Ref} }, 1, 4, 1, 0},
		"rules of yesterday":       {func(f *Facts, _ *forge.Change) { f.Rules.Forward.Since = mergedAt.Add(time.Hour) }, 1, 1, 1, 0},
		"rules seen only now":      {func(f *Facts, _ *forge.Change) { f.Rules.Forward.Since = time.Time{} }, 1, 4, 1, 0},
		"pushes to the branch":     {func(f *Facts, _ *forge.Change) { f.Rules.Requests.On = forge.No }, 2, 2, 1, 0},
		"pushes by some":           {func(f *Facts, _ *forge.Change) { f.Rules.Requests.Exempt = forge.Yes }, 2, 2, 1, 0},
		"requests since yesterday": {func(f *Facts, _ *forge.Change) { f.Rules.Requests.Since = mergedAt.Add(time.Hour) }, 2, 2, 1, 0},
		"review not demanded":      {func(f *Facts, _ *forge.Change) { f.Rules.Review.On = forge.No }, 3, 3, 1, 0},
		"review since yesterday":   {func(f *Facts, _ *forge.Change) { f.Rules.Review.Since = mergedAt.Add(time.Hour) }, 3, 3, 1, 0},
		"review seen only now":     {func(f *Facts, _ *forge.Change) { f.Rules.Review.Since = time.Time{} }, 3, 4, 1, 0},
		"review bypassed":          {func(f *Facts, _ *forge.Change) { f.Rules.Review.Exempt = forge.Yes }, 3, 3, 1, 0},

		"no review":  {func(_ *Facts, c *forge.Change) { c.Reviews = nil }, 3, 3, 0, 0},
		"the author": {func(_ *Facts, c *forge.Change) { c.Reviews[0].By, c.Writers, c.Pushers = alice, nil, nil }, 3, 3, 0, 0},
		"the author, renamed": {func(_ *Facts, c *forge.Change) {
			c.Reviews[0].By, c.Writers, c.Pushers = forge.Account{ID: 2, Name: "malice"}, nil, nil
		}, 3, 3, 0, 0},
		"the author's e-mail":                       {func(_ *Facts, c *forge.Change) { c.Writers = append(c.Writers, bob) }, 3, 3, 0, 0},
		"whoever pushed":                            {func(_ *Facts, c *forge.Change) { c.Pushers = append(c.Pushers, bob) }, 3, 3, 0, 0},
		"pushers not said":                          {func(f *Facts, c *forge.Change) { c.Pushed, f.Rules.LastPush = forge.NotSaid, forge.Control{} }, 3, 4, 0, 1},
		"pushers not said, but rule":                {func(f *Facts, c *forge.Change) { c.Pushed = forge.NotSaid }, 4, 4, 1, 0},
		"rule, and somebody may have pushed before": {func(_ *Facts, c *forge.Change) { c.Pushed, c.Steps = forge.NotSaid, 2 }, 3, 4, 0, 1},
		"rule, number of commits not said":          {func(_ *Facts, c *forge.Change) { c.Pushed, c.Steps = forge.NotSaid, 0 }, 3, 4, 0, 1},
		"several commits, pushers said":             {func(_ *Facts, c *forge.Change) { c.Steps = 2 }, 4, 4, 1, 0},
		"rule about pushers, bypassed":              {lastPush(func(l *forge.Control) { l.Exempt = forge.Yes }), 3, 4, 0, 1},
		"rule about pushers, perhaps so":            {lastPush(func(l *forge.Control) { l.Exempt = forge.NotSaid }), 3, 4, 0, 1},
		"rule about pushers of yesterday":           {lastPush(func(l *forge.Control) { l.Since = mergedAt.Add(time.Hour) }), 3, 4, 0, 1},
		"rule about pushers seen now":               {lastPush(func(l *forge.Control) { l.Since = time.Time{} }), 3, 4, 0, 1},
		"no rule about pushers":                     {lastPush(func(l *forge.Control) { l.On = forge.No }), 3, 4, 0, 1},
		"rule about pushers, merge not dated":       {func(f *Facts, c *forge.Change) { c.Pushed, c.Merged = forge.NotSaid, time.Time{} }, 1, 4, 0, 1},
		"a bot":                                     {func(_ *Facts, c *forge.Change) { c.Reviews[0].By.Bot = true }, 3, 3, 0, 0},
		"a deleted account":                         {func(_ *Facts, c *forge.Change) { c.Reviews[0].By = forge.Account{} }, 3, 3, 0, 0},
		"a stranger":                                {func(_ *Facts, c *forge.Change) { c.Reviews[0].Trust = forge.No }, 3, 3, 0, 0},
		"perhaps a stranger":                        {func(_ *Facts, c *forge.Change) { c.Reviews[0].Trust = forge.NotSaid }, 3, 4, 0, 1},
		"an older head":                             {func(_ *Facts, c *forge.Change) { c.Reviews[0].Commit = older }, 3, 3, 0, 0},
		"head not said":                             {func(_ *Facts, c *forge.Change) { c.Reviews[0].Commit = "" }, 3, 4, 0, 1},
		"after the merge":                           {func(_ *Facts, c *forge.Change) { c.Reviews[0].Time = mergedAt.Add(time.Minute) }, 3, 3, 0, 0},
		"a comment":                                 {func(_ *Facts, c *forge.Change) { c.Reviews[0].Verdict = forge.Commented }, 3, 3, 0, 0},
		"dismissed":                                 {func(_ *Facts, c *forge.Change) { c.Reviews[0].Verdict = forge.Dismissed }, 3, 3, 0, 0},
		"taken back":                                {also(forge.Review{By: bob, Verdict: forge.Refused, Commit: head, Time: mergedAt.Add(-time.Minute)}), 3, 3, 0, 0},
		"given later":                               {also(forge.Review{By: bob, Verdict: forge.Refused, Commit: head, Time: mergedAt.Add(-2 * time.Hour)}), 4, 4, 1, 0},
		"a comment later":                           {also(forge.Review{By: bob, Verdict: forge.Commented, Commit: head, Time: mergedAt.Add(-time.Minute)}), 4, 4, 1, 0},
		"approved twice":                            {also(forge.Review{By: bob, Verdict: forge.Approved, Commit: head, Time: mergedAt.Add(-time.Minute), Trust: forge.Yes}), 4, 4, 1, 0},
		"two reviewers":                             {also(forge.Review{By: carol, Verdict: forge.Approved, Commit: head, Time: mergedAt.Add(-time.Minute), Trust: forge.Yes}), 4, 4, 2, 0},
		"another asks for changes":                  {also(forge.Review{By: carol, Verdict: forge.Refused, Commit: head, Time: mergedAt.Add(-time.Minute), Trust: forge.Yes}), 4, 4, 1, 0},

		"a stranger's change":         {func(_ *Facts, c *forge.Change) { c.Trust = forge.No }, 3, 3, 1, 0},
		"perhaps a stranger's change": {func(_ *Facts, c *forge.Change) { c.Trust = forge.NotSaid }, 3, 4, 1, 0},
		"a bot's change":              {func(_ *Facts, c *forge.Change) { c.Author.Bot = true }, 3, 3, 1, 0},
		"a stranger's with two reviewers": {func(f *Facts, c *forge.Change) {
			c.Trust = forge.No
			also(forge.Review{By: carol, Verdict: forge.Approved, Commit: head, Time: mergedAt.Add(-time.Minute), Trust: forge.Yes})(f, c)
		}, 4, 4, 2, 0},

		"merged with more": {func(f *Facts, _ *forge.Change) {
			f.Merged[7] = Merged{Err: fmt.Errorf("x: %w", source.ErrOtherContent)}
		}, 3, 3, 0, 0},
		"merge that nobody compared": {func(f *Facts, _ *forge.Change) { f.Merged = nil }, 3, 4, 0, 1},
		"merge not compared":         {func(f *Facts, _ *forge.Change) { f.Merged[7] = Merged{Err: errors.New("late")} }, 3, 4, 0, 1},

		"a tag":                   {tag(forge.Control{On: forge.Yes, Exempt: forge.No}, nil), 4, 4, 1, 0},
		"a tag that may move":     {tag(forge.Control{On: forge.No}, nil), 1, 1, 1, 0},
		"a tag that some move":    {tag(forge.Control{On: forge.Yes, Exempt: forge.Yes}, nil), 1, 1, 1, 0},
		"a tag of unknown rules":  {tag(forge.Control{}, errors.New("late")), 1, 4, 1, 0},
		"a tag, rules not looked": {func(f *Facts, _ *forge.Change) { f.Ref = "refs/tags/v1" }, 1, 4, 1, 0},
	} {
		f := good()
		c.change(&f, &f.Changes[0])
		r := Evaluate(f)
		if r.Level != c.level || r.Possible != c.possible || r.Reviewers != c.sure || r.Unsure != c.further {
			t.Errorf("%s: got level %d of %d, reviewers %d and %d; want %d of %d, %d and %d\n%s", what, r.Level, r.Possible, r.Reviewers, r.Unsure, c.level, c.possible, c.sure, c.further, text(r))
		}
	}
}

// lastPush has a forge that does not say who pushed, and changes the rule about it.
func lastPush(change func(*forge.Control)) func(*Facts, *forge.Change) {
	return func(f *Facts, c *forge.Change) {
		c.Pushed = forge.NotSaid
		change(&f.Rules.LastPush)
	}
}

func also(r forge.Review) func(*Facts, *forge.Change) {
	return func(_ *Facts, c *forge.Change) { c.Reviews = append(c.Reviews, r) }
}

func tag(c forge.Control, err error) func(*Facts, *forge.Change) {
	return func(f *Facts, _ *forge.Change) {
		f.Ref, f.TagErr, f.TagRules = "refs/tags/v1.2.0", err, &forge.Rules{Ref: "refs/tags/v1.2.0", Forward: c, Kept: c}
	}
}

func text(r Result) string {
	var b strings.Builder
	for _, q := range r.Requirements {
		fmt.Fprintf(&b, "  L%d %-9s %s: %s\n", q.Level, q.Status, q.Name, q.Evidence)
	}
	return b.String()
}

// TestMeets: what is missing and what is not known are two answers.
func TestMeets(t *testing.T) {
	for _, c := range []struct {
		r                Result
		level, reviewers int
		known, good      bool
	}{
		{Result{Level: 3, Possible: 4, Reviewers: 1}, 3, 1, true, true},
		{Result{Level: 3, Possible: 4, Reviewers: 1}, 4, 1, false, false},
		{Result{Level: 3, Possible: 3, Reviewers: 2}, 4, 1, true, false},
		{Result{Level: 4, Possible: 4, Reviewers: 1}, 4, 2, true, false},
		{Result{Level: 4, Possible: 4, Reviewers: 1, Unsure: 1}, 4, 2, false, false},
		{Result{Level: 1, Possible: 4, Reviewers: 0}, 3, 1, true, false},
		{Result{Level: 1, Possible: 4, Unsure: -1}, 0, 2, false, false},
		{Result{Level: 1, Possible: 1, Unsure: -1}, 2, 2, true, false},
	} {
		err := c.r.Meets(c.level, c.reviewers)
		if (err == nil) != c.good || errors.Is(err, ErrNotKnown) == c.known {
			t.Errorf("%+v, %d, %d: got %v", c.r, c.level, c.reviewers, err)
		}
	}
	err := Evaluate(Facts{URI: "https://git.example.com/team/app", Commit: commit, ChangesErr: errors.New("late"), StandingErr: errors.New("late"), RulesErr: errors.New("late")}).Meets(1, 0)
	if !errors.Is(err, ErrNotKnown) || !strings.Contains(err.Error(), "late") {
		t.Errorf("nothing is known: got %v", err)
	}
}
