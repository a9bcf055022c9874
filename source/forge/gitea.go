package forge

import (
	"context"
	"errors"
	"fmt"
	"net/url"
	"regexp"
	"slices"
	"strings"
	"time"
)

// gitea is a repository of Gitea or Forgejo (API v1, docs.gitea.com/api and
// codeberg.org/api/swagger).
type gitea struct {
	*client
	repo string // /repos/OWNER/NAME, escaped
	name string // OWNER/NAME
}

type giteaUser struct {
	ID    int64  `json:"id"`
	Login string `json:"login"`
}

// account returns the account, without an ID for the ones that stand for deleted users and
// for the forge itself, whose ids are negative.
func (u *giteaUser) account() Account {
	if u == nil || u.ID <= 0 {
		return Account{}
	}
	return Account{ID: u.ID, Name: u.Login}
}

type giteaPull struct {
	Number   int64      `json:"number"`
	User     *giteaUser `json:"user"`
	Merged   bool       `json:"merged"`
	MergedAt *time.Time `json:"merged_at"`
	MergedBy *giteaUser `json:"merged_by"`
	Result   string     `json:"merge_commit_sha"`
	pullEnds
}

func (g *gitea) Changes(ctx context.Context, commit string) ([]Change, error) {
	// "Not found" would also be the answer about a repository that is not shown.
	if err := g.get(ctx, g.repo+"/git/commits/"+url.PathEscape(commit), url.Values{"stat": {"false"}, "files": {"false"}, "verification": {"false"}}, &struct{}{}); err != nil {
		return nil, err
	}
	var p giteaPull
	err := g.get(ctx, g.repo+"/commits/"+url.PathEscape(commit)+"/pull", nil, &p)
	if errors.Is(err, errAbsent) {
		return nil, nil
	} else if err != nil {
		return nil, err
	}
	if !p.Merged || !strings.EqualFold(p.Base.Repo.Name, g.name) {
		return nil, nil
	}
	c := Change{
		Number: p.Number, Target: "refs/heads/" + p.Base.Ref, Head: commitID(p.Head.SHA), Result: commitID(p.Result), Ref: fmt.Sprintf("refs/pull/%d/head", p.Number),
		Author: p.User.account(), Merger: p.MergedBy.account(),
	}
	if p.MergedAt != nil {
		c.Merged = *p.MergedAt
	}
	at := fmt.Sprintf("%s/pulls/%d", g.repo, p.Number)
	if err := g.commits(ctx, at, &c); err != nil {
		return nil, err
	}
	if err := g.pushes(ctx, &c); err != nil {
		return nil, err
	}
	if c.Reviews, err = g.reviews(ctx, at); err != nil {
		return nil, err
	}
	c.Trust = g.trust(ctx, c.Author)
	return []Change{c}, nil
}

// commits sets the number of proposed commits, and who wrote them.
func (g *gitea) commits(ctx context.Context, at string, c *Change) error {
	type commit struct {
		Author    *giteaUser `json:"author"`
		Committer *giteaUser `json:"committer"`
	}
	all, err := list[commit](ctx, g.client, at+"/commits", url.Values{"files": {"false"}, "verification": {"false"}})
	for _, one := range all {
		c.addWriters(one.Author.account(), one.Committer.account())
	}
	c.Steps = len(all)
	return err
}

// addWriters adds those accounts that are known.
func (c *Change) addWriters(accounts ...Account) {
	for _, a := range accounts {
		if a.ID != 0 {
			c.Writers = append(c.Writers, a)
		}
	}
}

// pushes sets who pushed, which the timeline records.
func (g *gitea) pushes(ctx context.Context, c *Change) error {
	type event struct {
		Type string     `json:"type"`
		User *giteaUser `json:"user"`
	}
	all, err := list[*event](ctx, g.client, fmt.Sprintf("%s/issues/%d/timeline", g.repo, c.Number), nil)
	if err != nil {
		return err
	}
	c.Pushed = Yes
	for _, e := range all {
		switch {
		case e == nil: // what the caller may not see can be a push
			c.Pushed = NotSaid
			continue
		case e.Type != "pull_push":
			continue
		}
		a := e.User.account()
		if a.ID == 0 {
			c.Pushed = NotSaid
			continue
		}
		c.Pushers = append(c.Pushers, a)
	}
	return nil
}

func (g *gitea) reviews(ctx context.Context, at string) (out []Review, err error) {
	type review struct {
		User      *giteaUser `json:"user"`
		State     string     `json:"state"`
		Commit    string     `json:"commit_id"`
		Official  bool       `json:"official"`
		Dismissed bool       `json:"dismissed"`
		Submitted time.Time  `json:"submitted_at"`
	}
	all, err := list[review](ctx, g.client, at+"/reviews", nil)
	for _, r := range all {
		v := map[string]string{"APPROVED": Approved, "REQUEST_CHANGES": Refused}[r.State]
		if v == "" {
			v = Commented
		}
		if r.Dismissed {
			v = Dismissed
		}
		// A review is official if its writer could approve when it was written.
		out = append(out, Review{By: r.User.account(), Verdict: v, Commit: commitID(r.Commit), Time: r.Submitted, Trust: answer(r.Official)})
	}
	return out, err
}

// trust asks whether an account may write to the repository.
func (g *gitea) trust(ctx context.Context, a Account) Answer {
	return permission(ctx, g.client, g.repo, a, "write", "admin", "owner")
}

// permission asks GitHub and Gitea for the permission of an account. Only administrators
// get an answer about another account.
func permission(ctx context.Context, c *client, repo string, a Account, writes ...string) Answer {
	var p struct {
		Permission string `json:"permission"`
		User       struct {
			ID int64 `json:"id"`
		} `json:"user"`
	}
	if a.ID == 0 || a.Name == "" {
		return NotSaid
	}
	err := c.get(ctx, repo+"/collaborators/"+url.PathEscape(a.Name)+"/permission", nil, &p)
	if err != nil || p.User.ID != a.ID { // the name may be another's by now
		return NotSaid
	}
	if slices.Contains(writes, p.Permission) {
		return Yes
	}
	return No
}

type giteaProtection struct {
	Name            string    `json:"rule_name"`
	Push            bool      `json:"enable_push"`
	PushList        bool      `json:"enable_push_whitelist"`
	PushUsers       []string  `json:"push_whitelist_usernames"`
	PushTeams       []string  `json:"push_whitelist_teams"`
	PushKeys        bool      `json:"push_whitelist_deploy_keys"`
	ForcePush       bool      `json:"enable_force_push"`
	ForcePushList   bool      `json:"enable_force_push_allowlist"`
	ForcePushUsers  []string  `json:"force_push_allowlist_usernames"`
	ForcePushTeams  []string  `json:"force_push_allowlist_teams"`
	Approvals       int       `json:"required_approvals"`
	AdminsBound     *bool     `json:"block_admin_merge_override"` // Gitea
	AppliesToAdmins *bool     `json:"apply_to_admins"`            // Forgejo
	Unprotected     string    `json:"unprotected_file_patterns"`
	Updated         time.Time `json:"updated_at"`
}

func (g *gitea) Rules(ctx context.Context, ref string) (*Rules, error) {
	name, tag, err := branchOrTag(ref)
	if err != nil {
		return nil, err
	}
	if tag {
		return g.tagRules(ctx, ref, name)
	}
	var b struct {
		Protected bool   `json:"protected"`
		Rule      string `json:"effective_branch_protection_name"`
		Approvals int    `json:"required_approvals"`
	}
	if err := g.get(ctx, g.repo+"/branches/"+slashed(name), nil, &b); err != nil {
		return nil, err
	}
	off := Control{On: No}
	r := &Rules{Ref: ref, Forward: off, Kept: off, Requests: off, Review: off}
	if !b.Protected {
		return r, nil
	}
	r.Kept = Control{On: Yes, By: "branch protection"} // Gitea never deletes a protected branch
	r.Needed, r.Review = b.Approvals, Control{On: answer(b.Approvals > 0), By: "branch protection"}
	r.Forward, r.Requests = Control{}, Control{}
	if b.Rule == "" { // shown to administrators only
		return r, nil
	}
	var p giteaProtection
	switch err := g.get(ctx, g.repo+"/branch_protections/"+url.PathEscape(b.Rule), nil, &p); {
	case errors.Is(err, errHidden), errors.Is(err, errAbsent):
		return r, nil
	case err != nil:
		return nil, err
	}
	p.fill(r)
	return r, nil
}

// fill sets the controls of a branch's protection.
func (p *giteaProtection) fill(r *Rules) {
	by := Control{On: Yes, By: fmt.Sprintf("branch protection %q", p.Name), Since: p.Updated, Exempt: No}
	r.Forward, r.Kept, r.Requests, r.Review = by, by, by, by
	if p.ForcePush {
		r.Forward.On = No
		if p.ForcePushList { // those listed bypass it
			r.Forward.On, r.Forward.Exempt, r.Forward.Bypass = Yes, Yes, append(named("team", p.ForcePushTeams), p.ForcePushUsers...)
		}
	}
	if p.Push {
		r.Requests.On = No
		if p.PushList {
			r.Requests.On, r.Requests.Exempt, r.Requests.Bypass = Yes, Yes, append(named("team", p.PushTeams), p.PushUsers...)
			if p.PushKeys {
				r.Requests.Bypass = append(r.Requests.Bypass, "deploy keys")
			}
		}
	}
	if r.Needed = p.Approvals; p.Approvals == 0 {
		r.Review.On = No
	}
	bound := p.AdminsBound != nil && *p.AdminsBound || p.AppliesToAdmins != nil && *p.AppliesToAdmins
	if !bound {
		r.Review.Exempt, r.Review.Bypass = Yes, []string{"administrators"}
	}
	if p.Unprotected != "" { // whoever may push may push these without a change request
		r.Requests.Exempt, r.Requests.Bypass = Yes, append(r.Requests.Bypass, fmt.Sprintf("pushes of files like %q", p.Unprotected))
	}
}

// named returns texts such as "team maintainers".
func named(what string, names []string) (out []string) {
	for _, n := range names {
		out = append(out, what+" "+n)
	}
	return out
}

// tagRules returns the rules of a tag. Whoever any of them lists may create, move and delete
// it, whatever the others say (IsUserAllowedToControlTag in Gitea's source).
func (g *gitea) tagRules(ctx context.Context, ref, name string) (*Rules, error) {
	type protection struct {
		Pattern string    `json:"name_pattern"`
		Users   []string  `json:"whitelist_usernames"`
		Teams   []string  `json:"whitelist_teams"`
		Updated time.Time `json:"updated_at"`
	}
	all, err := list[protection](ctx, g.client, g.repo+"/tag_protections", nil)
	if err != nil {
		return nil, err
	}
	c := Control{On: No}
	var by []string
	open := false // a rule that may be of this tag lists somebody
	for _, p := range all {
		listed := append(named("team", p.Teams), p.Users...)
		switch tagMatches(p.Pattern, name) {
		case NotSaid:
			open = open || len(listed) > 0
			if c.On == No {
				c.On = NotSaid
			}
		case Yes:
			// The last change counts: the rule could have listed somebody before.
			if len(by) == 0 || p.Updated.IsZero() || !c.Since.IsZero() && p.Updated.After(c.Since) {
				c.Since = p.Updated
			}
			c.On, by, c.Bypass = Yes, append(by, fmt.Sprintf("tag protection %q", p.Pattern)), append(c.Bypass, listed...)
		}
	}
	switch c.By = strings.Join(by, ", "); {
	case len(c.Bypass) > 0:
		c.Exempt = Yes
	case c.On == Yes && !open:
		c.Exempt = No
	}
	return &Rules{Ref: ref, Forward: c, Kept: c}, nil
}

// tagMatches says whether a pattern, a glob or /REGULAR EXPRESSION/, names a tag. Of globs, it
// decides those of text and *, which also matches slashes.
func tagMatches(pattern, name string) Answer {
	if inner, ok := strings.CutPrefix(pattern, "/"); ok && strings.HasSuffix(inner, "/") {
		if len(pattern) > 1024 {
			return NotSaid
		}
		re, err := regexp.Compile(strings.TrimSuffix(inner, "/"))
		if err != nil {
			return NotSaid
		}
		return answer(re.MatchString(name))
	}
	if strings.ContainsAny(pattern, `?[]{}\`) {
		return NotSaid
	}
	return answer(wildcard(pattern, name))
}
