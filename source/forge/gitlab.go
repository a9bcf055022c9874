package forge

import (
	"context"
	"errors"
	"fmt"
	"net/url"
	"strconv"
	"strings"
	"time"
)

// gitlab is a project of GitLab (REST API v4, docs.gitlab.com/api).
type gitlab struct {
	*client
	project string // /projects/PATH, escaped
}

type gitlabUser struct {
	ID   int64  `json:"id"`
	Name string `json:"username"`
	Bot  bool   `json:"bot"`
}

func (u *gitlabUser) account() Account {
	if u == nil || u.ID <= 0 {
		return Account{}
	}
	// The accounts of access tokens have fixed forms of names.
	bot := u.Bot || strings.HasPrefix(u.Name, "project_") && strings.Contains(u.Name, "_bot") || strings.HasPrefix(u.Name, "group_") && strings.Contains(u.Name, "_bot")
	return Account{ID: u.ID, Name: u.Name, Bot: bot || u.Name == "ghost"}
}

type gitlabRequest struct {
	Number  int64       `json:"iid"`
	Project int64       `json:"project_id"`
	Target  int64       `json:"target_project_id"`
	State   string      `json:"state"`
	Author  *gitlabUser `json:"author"`
	Merger  *gitlabUser `json:"merge_user"`
	Merged  *time.Time  `json:"merged_at"`
	Branch  string      `json:"target_branch"`
	Head    string      `json:"sha"`
	Merge   string      `json:"merge_commit_sha"`
	Squash  string      `json:"squash_commit_sha"`
}

// result returns the commit that the branch pointed to after the merge: the merge commit, or
// without one the squashed commit, or the head itself.
func (r *gitlabRequest) result() string {
	for _, id := range []string{r.Merge, r.Squash, r.Head} {
		if id != "" {
			return commitID(id)
		}
	}
	return ""
}

func (g *gitlab) Changes(ctx context.Context, commit string) (out []Change, err error) {
	all, err := list[gitlabRequest](ctx, g.client, g.project+"/repository/commits/"+url.PathEscape(commit)+"/merge_requests", nil)
	if err != nil {
		return nil, err
	}
	for _, m := range all {
		if m.State != "merged" || m.Project != m.Target {
			continue
		}
		c := Change{
			Number: m.Number, Target: "refs/heads/" + m.Branch, Head: commitID(m.Head), Result: m.result(), Ref: fmt.Sprintf("refs/merge-requests/%d/head", m.Number),
			Author: m.Author.account(), Merger: m.Merger.account(),
		}
		if m.Merged != nil {
			c.Merged = *m.Merged
		}
		at := g.project + "/merge_requests/" + strconv.FormatInt(m.Number, 10)
		type one struct{}
		commits, err := list[one](ctx, g.client, at+"/commits", nil)
		if err != nil {
			return nil, err
		}
		c.Steps = len(commits) // their writers are e-mail addresses only
		if c.Reviews, err = g.reviews(ctx, at, c.Head); err != nil {
			return nil, err
		}
		c.Trust = g.trust(ctx, c.Author)
		out = append(out, c)
	}
	return out, nil
}

// reviews returns the approvals. GitLab says when one was given, not to which commit: it was
// to the version that was the newest then.
func (g *gitlab) reviews(ctx context.Context, at, head string) (out []Review, err error) {
	var a struct {
		By []struct {
			User *gitlabUser `json:"user"`
			At   *time.Time  `json:"approved_at"`
		} `json:"approved_by"`
	}
	if err := g.get(ctx, at+"/approvals", nil, &a); err != nil {
		return nil, err
	}
	if len(a.By) == 0 {
		return nil, nil
	}
	type version struct {
		Head    string    `json:"head_commit_sha"`
		Created time.Time `json:"created_at"`
	}
	versions, err := list[version](ctx, g.client, at+"/versions", nil)
	if err != nil {
		return nil, err
	}
	for _, by := range a.By {
		r := Review{By: by.User.account(), Verdict: Approved}
		r.Trust = g.trust(ctx, r.By)
		if by.At != nil {
			r.Time = *by.At
			var newest version
			for _, v := range versions {
				// An approval at the time of a push may be to what was there before.
				if v.Created.Before(r.Time) && v.Created.After(newest.Created) {
					newest = v
				}
			}
			r.Commit = commitID(newest.Head)
		}
		out = append(out, r)
	}
	return out, nil
}

// developer is the access level from which on a member may approve (docs.gitlab.com/api/members).
const developer = 30

func (g *gitlab) trust(ctx context.Context, a Account) Answer {
	if a.ID == 0 {
		return NotSaid
	}
	var m struct {
		ID    int64  `json:"id"`
		Level int    `json:"access_level"`
		State string `json:"state"`
	}
	err := g.get(ctx, g.project+"/members/all/"+strconv.FormatInt(a.ID, 10), nil, &m)
	if err != nil || m.ID != a.ID { // also "not found": those who may not see members get it
		return NotSaid
	}
	return answer(m.Level >= developer && (m.State == "" || m.State == "active"))
}

type gitlabAccess struct {
	Level int    `json:"access_level"`
	User  *int64 `json:"user_id"`
	Group *int64 `json:"group_id"`
	Key   *int64 `json:"deploy_key_id"`
	Text  string `json:"access_level_description"`
}

type gitlabProtected struct {
	Name      string         `json:"name"`
	Push      []gitlabAccess `json:"push_access_levels"`
	ForcePush bool           `json:"allow_force_push"`
}

func (g *gitlab) Rules(ctx context.Context, ref string) (*Rules, error) {
	name, tag, err := branchOrTag(ref)
	if err != nil {
		return nil, err
	}
	kind := "/protected_branches"
	if tag {
		kind = "/protected_tags"
	}
	all, err := list[gitlabProtected](ctx, g.client, g.project+kind, nil)
	if errors.Is(err, errHidden) || errors.Is(err, errAbsent) {
		return &Rules{Ref: ref}, nil
	} else if err != nil {
		return nil, err
	}
	off := Control{On: No}
	r := &Rules{Ref: ref, Forward: off, Kept: off, Requests: off, Review: off}
	if tag {
		r.Requests, r.Review = Control{}, Control{}
	}
	open := false // some rule lets members force push: the most permissive rule counts
	for _, p := range all {
		if !wildcard(p.Name, name) {
			continue
		}
		on := Control{On: Yes, By: fmt.Sprintf("protected %q", p.Name), Exempt: No}
		r.Forward, r.Kept = on, on
		// docs.gitlab.com: maintainers delete a protected branch or tag in the web interface, not by git.
		r.Kept.Exempt, r.Kept.Bypass = Yes, []string{"maintainers, in the web interface"}
		open = open || p.ForcePush
		if !tag {
			r.Requests = weaker(r.Requests, p.pushes(on))
		}
	}
	if open {
		r.Forward = off
	}
	if tag || r.Requests.On == No && r.Forward.On == No {
		return r, nil
	}
	return r, g.approvals(ctx, r)
}

// pushes returns whether a rule lets changes in by merge requests only.
func (p *gitlabProtected) pushes(on Control) Control {
	for _, a := range p.Push {
		if a.Level == 0 && a.User == nil && a.Group == nil && a.Key == nil {
			continue // no one
		}
		on.Exempt, on.Bypass = Yes, append(on.Bypass, a.Text)
	}
	return on
}

// weaker returns the weaker of two controls of rules of which the most permissive counts.
func weaker(a, b Control) Control {
	if a.On == Yes && a.Exempt == Yes {
		return a
	}
	return b
}

// approvals sets what the project demands of merge requests. Only paid editions can demand
// approvals; the others do not know the addresses.
func (g *gitlab) approvals(ctx context.Context, r *Rules) error {
	type rule struct {
		Name     string `json:"name"`
		Needed   int    `json:"approvals_required"`
		Branches []struct {
			Name string `json:"name"`
		} `json:"protected_branches"`
	}
	r.Review = Control{}
	rules, err := list[rule](ctx, g.client, g.project+"/approval_rules", nil)
	if errors.Is(err, errHidden) || errors.Is(err, errAbsent) {
		return nil
	} else if err != nil {
		return err
	}
	r.Review.On = No
	name := strings.TrimPrefix(r.Ref, "refs/heads/")
	for _, one := range rules {
		covers := len(one.Branches) == 0
		for _, b := range one.Branches {
			covers = covers || wildcard(b.Name, name)
		}
		if covers && one.Needed > r.Needed {
			r.Needed, r.Review = one.Needed, Control{On: Yes, By: fmt.Sprintf("approval rule %q", one.Name)}
		}
	}
	var s struct {
		Overrides bool `json:"disable_overriding_approvers_per_merge_request"`
	}
	// "Prevent approvals by users who add commits" (merge_requests_disable_committers_approval) says
	// nothing of who pushed: it compares the e-mail address in the commits, which anybody can write.
	switch err := g.get(ctx, g.project+"/approvals", nil, &s); {
	case errors.Is(err, errHidden), errors.Is(err, errAbsent):
	case err != nil:
		return err
	default:
		if r.Review.Exempt = No; !s.Overrides {
			r.Review.Exempt, r.Review.Bypass = Yes, []string{"whoever may change the approval rules of one merge request"}
		}
	}
	return nil
}

// wildcard reports whether a pattern, in which * is any text, names a branch or tag.
func wildcard(pattern, name string) bool {
	parts := strings.Split(pattern, "*")
	if len(parts) == 1 {
		return pattern == name
	}
	rest, ok := strings.CutPrefix(name, parts[0])
	if !ok {
		return false
	}
	for _, p := range parts[1 : len(parts)-1] {
		i := strings.Index(rest, p)
		if i < 0 {
			return false
		}
		rest = rest[i+len(p):]
	}
	return strings.HasSuffix(rest, parts[len(parts)-1])
}
