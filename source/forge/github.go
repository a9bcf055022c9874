package forge

import (
	"context"
	"errors"
	"fmt"
	"net/url"
	"path"
	"slices"
	"strconv"
	"strings"
	"time"
)

// github is a repository of GitHub (REST API, version 2022-11-28, docs.github.com/rest).
type github struct {
	*client
	repo string // /repos/OWNER/NAME, escaped
	name string // OWNER/NAME
}

type githubUser struct {
	ID    int64  `json:"id"`
	Login string `json:"login"`
	Type  string `json:"type"`
}

func (u *githubUser) account() Account {
	if u == nil || u.ID <= 0 || u.Login == "ghost" { // ghost stands for deleted accounts
		return Account{}
	}
	return Account{ID: u.ID, Name: u.Login, Bot: u.Type != "User"}
}

type githubPull struct {
	Number   int64       `json:"number"`
	User     *githubUser `json:"user"`
	MergedAt *time.Time  `json:"merged_at"`
	MergedBy *githubUser `json:"merged_by"` // not in lists
	Result   string      `json:"merge_commit_sha"`
	Commits  int         `json:"commits"` // not in lists
	pullEnds
}

// mine reports whether the pull request was merged into this repository, not a fork.
func (p *githubPull) mine(name string) bool {
	return p.MergedAt != nil && strings.EqualFold(p.Base.Repo.Name, name)
}

func (g *github) Changes(ctx context.Context, commit string) (out []Change, err error) {
	all, err := list[githubPull](ctx, g.client, g.repo+"/commits/"+url.PathEscape(commit)+"/pulls", nil)
	if err != nil {
		return nil, err
	}
	trust := map[int64]Answer{}
	for _, p := range all {
		if !p.mine(g.name) {
			continue
		}
		at := g.repo + "/pulls/" + strconv.FormatInt(p.Number, 10)
		var whole githubPull
		if err := g.get(ctx, at, nil, &whole); err != nil {
			return nil, err
		}
		if whole.Number != p.Number || !whole.mine(g.name) {
			return nil, fmt.Errorf("%s: got pull request %d of %q", g.base.Host, whole.Number, whole.Base.Repo.Name)
		}
		c := Change{
			Number: p.Number, Target: "refs/heads/" + whole.Base.Ref, Head: commitID(whole.Head.SHA), Result: commitID(whole.Result), Steps: whole.Commits,
			Ref: fmt.Sprintf("refs/pull/%d/head", p.Number), Author: whole.User.account(), Merger: whole.MergedBy.account(), Merged: *whole.MergedAt,
		}
		if err := g.writers(ctx, at, &c); err != nil {
			return nil, err
		}
		if c.Reviews, err = g.reviews(ctx, at, trust); err != nil {
			return nil, err
		}
		c.Trust = g.trust(ctx, c.Author, trust)
		out = append(out, c)
	}
	return out, nil
}

// mostCommits is the number of commits that GitHub lists of one pull request at most.
const mostCommits = 250

func (g *github) writers(ctx context.Context, at string, c *Change) error {
	type commit struct {
		Author    *githubUser `json:"author"`
		Committer *githubUser `json:"committer"`
	}
	all, err := list[commit](ctx, g.client, at+"/commits", nil)
	if err == nil && len(all) >= mostCommits {
		err = fmt.Errorf("%s: pull request %d has %d commits or more, which GitHub does not list", g.base.Host, c.Number, mostCommits)
	}
	for _, one := range all {
		for _, a := range []Account{one.Author.account(), one.Committer.account()} {
			if !a.Bot { // "web-flow" commits what people click
				c.addWriters(a)
			}
		}
	}
	return err
}

func (g *github) reviews(ctx context.Context, at string, trust map[int64]Answer) (out []Review, err error) {
	type review struct {
		User      *githubUser `json:"user"`
		State     string      `json:"state"`
		Commit    string      `json:"commit_id"`
		Submitted time.Time   `json:"submitted_at"`
	}
	all, err := list[review](ctx, g.client, at+"/reviews", nil)
	if err != nil {
		return nil, err
	}
	for _, r := range all {
		v := map[string]string{"APPROVED": Approved, "CHANGES_REQUESTED": Refused, "DISMISSED": Dismissed}[r.State]
		if v == "" {
			v = Commented
		}
		one := Review{By: r.User.account(), Verdict: v, Commit: commitID(r.Commit), Time: r.Submitted}
		if v == Approved { // on a public repository everybody can write one
			one.Trust = g.trust(ctx, one.By, trust)
		}
		out = append(out, one)
	}
	return out, nil
}

func (g *github) trust(ctx context.Context, a Account, known map[int64]Answer) Answer {
	if t, ok := known[a.ID]; ok {
		return t
	}
	known[a.ID] = permission(ctx, g.client, g.repo, a, "write", "admin")
	return known[a.ID]
}

// githubRuleset is one ruleset. GitHub shows who may bypass it only to those who may write
// it.
type githubRuleset struct {
	ID          int64     `json:"id"`
	Name        string    `json:"name"`
	Target      string    `json:"target"`
	Enforcement string    `json:"enforcement"`
	Updated     time.Time `json:"updated_at"`
	Bypass      *[]struct {
		ID   *int64 `json:"actor_id"`
		Type string `json:"actor_type"`
		Mode string `json:"bypass_mode"`
	} `json:"bypass_actors"`
	Conditions struct {
		Ref struct {
			Include []string `json:"include"`
			Exclude []string `json:"exclude"`
		} `json:"ref_name"`
	} `json:"conditions"`
	Rules []githubRule `json:"rules"`
}

type githubRule struct {
	Type       string `json:"type"`
	Ruleset    int64  `json:"ruleset_id"`
	Parameters struct {
		Approvals int  `json:"required_approving_review_count"`
		LastPush  bool `json:"require_last_push_approval"`
	} `json:"parameters"`
}

func (s *githubRuleset) control() Control {
	c := Control{On: Yes, By: fmt.Sprintf("ruleset %q", s.Name), Since: s.Updated}
	if s.Bypass == nil {
		return c
	}
	c.Exempt = No
	for _, a := range *s.Bypass {
		c.Exempt = Yes
		text := a.Type
		if a.ID != nil {
			text += " " + strconv.FormatInt(*a.ID, 10)
		}
		c.Bypass = append(c.Bypass, text)
	}
	return c
}

func (g *github) Rules(ctx context.Context, ref string) (*Rules, error) {
	name, tag, err := branchOrTag(ref)
	if err != nil {
		return nil, err
	}
	if tag {
		return g.tagRules(ctx, ref)
	}
	r, err := g.classic(ctx, ref, name)
	if err != nil {
		return nil, err
	}
	rules, err := list[githubRule](ctx, g.client, g.repo+"/rules/branches/"+slashed(name), nil)
	if err != nil {
		return nil, err
	}
	sets := map[int64]*githubRuleset{}
	for _, rule := range rules {
		if !slices.Contains([]string{"non_fast_forward", "deletion", "pull_request"}, rule.Type) {
			continue
		}
		s := sets[rule.Ruleset]
		if s == nil {
			if s, err = g.ruleset(ctx, rule.Ruleset); err != nil {
				return nil, err
			}
			sets[rule.Ruleset] = s
		}
		if s.Enforcement == "active" {
			r.add(rule, s.control())
		}
	}
	return r, nil
}

// add adds a rule that a ruleset enforces.
func (r *Rules) add(rule githubRule, c Control) {
	switch rule.Type {
	case "non_fast_forward":
		r.Forward = strongest(r.Forward, c)
	case "deletion":
		r.Kept = strongest(r.Kept, c)
	case "pull_request":
		r.Requests = strongest(r.Requests, c)
		if n := rule.Parameters.Approvals; n > 0 {
			r.Review, r.Needed = strongest(r.Review, c), max(r.Needed, n)
		}
		if rule.Parameters.LastPush {
			r.LastPush = strongest(r.LastPush, c)
		}
	}
}

func (g *github) ruleset(ctx context.Context, id int64) (*githubRuleset, error) {
	var s githubRuleset
	err := g.get(ctx, g.repo+"/rulesets/"+strconv.FormatInt(id, 10), url.Values{"includes_parents": {"true"}}, &s)
	if err == nil && s.ID != id {
		err = fmt.Errorf("%s: got ruleset %d, want %d", g.base.Host, s.ID, id)
	}
	return &s, err
}

// classic returns what the branch protection of a branch says. Only administrators see it,
// and GitHub does not say since when it is so.
func (g *github) classic(ctx context.Context, ref, name string) (*Rules, error) {
	type enabled struct {
		Enabled bool `json:"enabled"`
	}
	var p struct {
		Admins    enabled `json:"enforce_admins"`
		ForcePush enabled `json:"allow_force_pushes"`
		Deletion  enabled `json:"allow_deletions"`
		Review    *struct {
			Approvals int  `json:"required_approving_review_count"`
			LastPush  bool `json:"require_last_push_approval"`
			Bypass    struct {
				Users []githubUser `json:"users"`
				Teams []struct {
					Slug string `json:"slug"`
				} `json:"teams"`
				Apps []struct {
					Slug string `json:"slug"`
				} `json:"apps"`
			} `json:"bypass_pull_request_allowances"`
		} `json:"required_pull_request_reviews"`
	}
	r := &Rules{Ref: ref}
	err := g.get(ctx, g.repo+"/branches/"+url.PathEscape(name)+"/protection", nil, &p)
	gone, isAbsent := errors.AsType[*absent](err)
	off := Control{On: No}
	switch {
	case isAbsent && gone.message == "Branch not protected":
		r.Forward, r.Kept, r.Requests, r.Review = off, off, off, off
		return r, nil
	case isAbsent, errors.Is(err, errHidden):
		return r, nil
	case err != nil:
		return nil, err
	}
	on := Control{On: Yes, By: "branch protection", Exempt: No}
	if !p.Admins.Enabled {
		on.Exempt, on.Bypass = Yes, []string{"administrators"}
	}
	if r.Forward = on; p.ForcePush.Enabled {
		r.Forward = off
	}
	if r.Kept = on; p.Deletion.Enabled {
		r.Kept = off
	}
	if r.Requests, r.Review = off, off; p.Review == nil {
		return r, nil
	}
	b := p.Review.Bypass
	on.Bypass = slices.Clone(on.Bypass)
	for _, u := range b.Users {
		on.Bypass = append(on.Bypass, u.Login)
	}
	for _, t := range b.Teams {
		on.Bypass = append(on.Bypass, "team "+t.Slug)
	}
	for _, a := range b.Apps {
		on.Bypass = append(on.Bypass, "app "+a.Slug)
	}
	if len(on.Bypass) > 0 {
		on.Exempt = Yes
	}
	r.Requests = on
	if p.Review.Approvals > 0 {
		r.Review, r.Needed = on, p.Review.Approvals
	}
	if p.Review.LastPush {
		r.LastPush = on
	}
	return r, nil
}

// tagRules returns what rulesets say about a tag.
func (g *github) tagRules(ctx context.Context, ref string) (*Rules, error) {
	all, err := list[githubRuleset](ctx, g.client, g.repo+"/rulesets", url.Values{"includes_parents": {"true"}, "targets": {"tag"}})
	if err != nil {
		return nil, err
	}
	r := &Rules{Ref: ref, Forward: Control{On: No}, Kept: Control{On: No}}
	for _, s := range all {
		if s.Target != "tag" || s.Enforcement != "active" {
			continue
		}
		whole, err := g.ruleset(ctx, s.ID)
		if err != nil {
			return nil, err
		}
		if whole.Enforcement != "active" {
			continue
		}
		c := whole.control()
		switch whole.covers(ref) {
		case No:
			continue
		case NotSaid:
			c = Control{}
		}
		for _, rule := range whole.Rules {
			switch rule.Type {
			case "update":
				r.Forward = strongest(r.Forward, c)
			case "deletion":
				r.Kept = strongest(r.Kept, c)
			}
		}
	}
	return r, nil
}

// covers says whether the ruleset applies to a ref. Ruby's fnmatch, which GitHub
// uses, and path.Match agree about patterns without "**", "{", "[" and "\": to Ruby,
// "[!v]" is anything but "v".
func (s *githubRuleset) covers(ref string) Answer {
	matches := func(pattern string) Answer {
		if pattern == "~ALL" {
			return Yes
		}
		if strings.ContainsAny(pattern, `{[\~`) || strings.Contains(pattern, "**") {
			return NotSaid
		}
		ok, err := path.Match(pattern, ref)
		if err != nil {
			return NotSaid
		}
		return answer(ok)
	}
	some := func(patterns []string) Answer {
		found := No
		for _, p := range patterns {
			switch matches(p) {
			case Yes:
				return Yes
			case NotSaid:
				found = NotSaid
			}
		}
		return found
	}
	included, excluded := some(s.Conditions.Ref.Include), some(s.Conditions.Ref.Exclude)
	switch {
	case included == No || excluded == Yes:
		return No
	case included == NotSaid || excluded == NotSaid:
		return NotSaid
	}
	return Yes
}
