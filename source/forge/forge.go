// Package forge asks the host of a git repository how a commit came to be: by which change
// request (pull or merge request), who opened, reviewed and merged it, and which rules its
// branch or tag has. It speaks the REST APIs of GitHub, GitLab, and Gitea or Forgejo.
//
// Everything that a forge answers is bounded and parsed strictly, and nothing in an answer
// decides whom to ask next. What a forge does not show to the caller is an error or NotSaid,
// never No. Package source/track decides what the answers mean.
package forge

import (
	"context"
	"errors"
	"fmt"
	"net/url"
	"slices"
	"strings"
	"time"

	"github.com/colophon-build/colophon/internal/loopback"
	"github.com/colophon-build/colophon/source"
)

// Forge answers questions about one commit of a repository: its requests and waits are limited
// together. An error means that the answer is not known. It is not safe for concurrent use.
type Forge interface {
	// Changes returns the merged change requests that a full commit id belongs to, with
	// everything that is known of them. None means that the forge knows the commit, and no
	// merged change request with it.
	Changes(ctx context.Context, commit string) ([]Change, error)
	// Rules returns the rules that a branch or tag has now, by its full name.
	Rules(ctx context.Context, ref string) (*Rules, error)
}

// Account is an account of a forge. Its ID identifies it: a name can be changed and taken by
// another, and an e-mail address in a commit is what its writer typed.
type Account struct {
	ID   int64  `json:"id"` // 0: the forge does not say, or the account was deleted
	Name string `json:"name,omitempty"`
	Bot  bool   `json:"bot,omitempty"`
}

func (a Account) String() string {
	if a.ID == 0 {
		return "an unknown account"
	}
	return fmt.Sprintf("%s (account %d)", a.Name, a.ID)
}

// Answer is what a forge says to a question.
type Answer string

const (
	NotSaid Answer = "" // it does not answer, or does not answer the caller
	Yes     Answer = "yes"
	No      Answer = "no"
)

func answer(yes bool) Answer {
	if yes {
		return Yes
	}
	return No
}

// Change is a merged change request.
type Change struct {
	Number int64     `json:"number"`
	Target string    `json:"target"`          // full name of the branch that it was merged into
	Head   string    `json:"head"`            // id of the commit that was proposed, as of the merge
	Result string    `json:"result"`          // id of the commit that the branch pointed to after the merge; empty: not said
	Ref    string    `json:"ref"`             // full name of the ref under which the repository serves Head
	Steps  int       `json:"steps,omitempty"` // number of proposed commits; 0: not said
	Author Account   `json:"author"`          // who opened it
	Trust  Answer    `json:"trust,omitempty"` // whether the author may approve changes
	Merger Account   `json:"merger"`          // who merged it
	Merged time.Time `json:"merged"`          // zero: not said

	Writers []Account `json:"writers,omitempty"` // accounts that the e-mail addresses in its commits belong to: anybody can write those
	Pushers []Account `json:"pushers,omitempty"` // who pushed to it after it was opened
	Pushed  Answer    `json:"pushed,omitempty"`  // Yes: Pushers is complete
	Reviews []Review  `json:"reviews,omitempty"`
}

// Verdicts of a review.
const (
	Approved  = "approved"
	Refused   = "changes requested"
	Commented = "commented"
	Dismissed = "dismissed" // withdrawn, by the reviewer or another
)

// Review is one review of a change request.
type Review struct {
	By      Account   `json:"by"`
	Verdict string    `json:"verdict"`          // Approved, Refused, Commented or Dismissed
	Commit  string    `json:"commit,omitempty"` // id of the commit that was reviewed; empty: not said
	Time    time.Time `json:"time"`             // zero: not said
	Trust   Answer    `json:"trust,omitempty"`  // whether the reviewer may approve changes of this repository
}

// Rules are the rules of one branch or tag.
type Rules struct {
	Ref      string  `json:"ref"`
	Forward  Control `json:"forward"`  // a branch moves to descendants only; a tag does not move
	Kept     Control `json:"kept"`     // it cannot be deleted
	Requests Control `json:"requests"` // it changes by change requests only
	Review   Control `json:"review"`   // a change request needs approvals
	Needed   int     `json:"needed"`   // number of approvals
	LastPush Control `json:"lastPush"` // the approval of whoever pushed last to the change request does not count
}

// Control is one technical control.
type Control struct {
	On     Answer    `json:"on,omitempty"`
	By     string    `json:"by,omitempty"`     // the rule that says so, for people
	Since  time.Time `json:"since,omitzero"`   // the rule is as it is since then; zero: not said
	Bypass []string  `json:"bypass,omitempty"` // who may bypass it, for people
	Exempt Answer    `json:"exempt,omitempty"` // No: nobody may bypass it; Yes: those in Bypass
}

// strongest returns the control that promises most: of several rules, each must be met.
func strongest(controls ...Control) Control {
	rank := func(c Control) int {
		switch {
		case c.On == Yes && c.Exempt == No:
			return 0
		case c.On == Yes && c.Exempt == NotSaid:
			return 1
		case c.On == Yes:
			return 2
		case c.On == NotSaid:
			return 3 // it may be on
		}
		return 4
	}
	return slices.MinFunc(controls, func(a, b Control) int {
		if d := rank(a) - rank(b); d != 0 {
			return d
		}
		switch { // the older of two: it held longer
		case a.Since.IsZero() == b.Since.IsZero():
			return a.Since.Compare(b.Since)
		case a.Since.IsZero():
			return 1
		}
		return -1
	})
}

// Kind is the API that a forge speaks.
type Kind string

const (
	GitHub Kind = "github"
	GitLab Kind = "gitlab"
	Gitea  Kind = "gitea" // and Forgejo
)

// Kinds lists the kinds.
func Kinds() []Kind { return []Kind{GitHub, GitLab, Gitea} }

// wellKnown are the hosts whose kind needs not be said.
var wellKnown = map[string]Kind{"github.com": GitHub, "gitlab.com": GitLab, "gitea.com": Gitea, "codeberg.org": Gitea}

// Config says how to ask a forge.
type Config struct {
	Kind  Kind   // empty: that of a well-known host
	API   string // base URL of the API; empty: where a forge of this kind has it on the repository's host
	Token string // a token that may read; empty: ask without
}

// String keeps the token out of texts.
func (c Config) String() string { return fmt.Sprintf("%s at %s", c.Kind, c.API) }

// GoString keeps the token out of texts.
func (c Config) GoString() string { return c.String() }

// ErrNoForge means that no API is known for a repository.
var ErrNoForge = errors.New("it is not known which kind of forge hosts it")

// Open returns the forge of a repository, to be asked about one commit. uri is its address, https or on loopback http.
func Open(uri string, c Config) (Forge, error) {
	canonical, err := source.Canonical(uri)
	if err != nil {
		return nil, err
	}
	u, err := url.Parse(canonical)
	if err != nil || u.Scheme != "https" && u.Scheme != "http" {
		return nil, fmt.Errorf("%s: %w: want an https address", canonical, ErrNoForge)
	}
	if c.Kind == "" {
		if c.Kind = wellKnown[u.Host]; c.Kind == "" {
			return nil, fmt.Errorf("%s: %w", canonical, ErrNoForge)
		}
	}
	base := u.Scheme + "://" + u.Host
	switch c.Kind {
	case GitHub:
		base += "/api/v3"
		if u.Host == "github.com" {
			base = "https://api.github.com"
		}
	case GitLab:
		base += "/api/v4"
	case Gitea:
		base += "/api/v1"
	default:
		return nil, fmt.Errorf("kind of forge: got %q, want one of %q", c.Kind, Kinds())
	}
	if c.API != "" {
		base = strings.TrimSuffix(c.API, "/")
	}
	api, err := url.Parse(base)
	if err != nil || api.Host == "" || api.User != nil || api.RawQuery != "" || api.Fragment != "" || !loopback.OrTLS(api) {
		return nil, errors.New("address of the forge's API: want https://HOST/PATH without a user, query or fragment")
	}
	path := strings.TrimPrefix(u.Path, "/")
	owner, name, two := strings.Cut(path, "/")
	if !two || c.Kind != GitLab && strings.Contains(name, "/") {
		return nil, fmt.Errorf("%s: got the path %q, want OWNER/NAME", canonical, u.Path)
	}
	cl := &client{base: api, kind: c.Kind, token: c.Token}
	repo := "/repos/" + url.PathEscape(owner) + "/" + url.PathEscape(name)
	switch c.Kind {
	case GitHub:
		return &github{cl, repo, path}, nil
	case GitLab:
		return &gitlab{cl, "/projects/" + url.PathEscape(path)}, nil
	}
	return &gitea{cl, repo, path}, nil
}

// pullEnds says what a pull request merges into what, in the API of GitHub and in that of Gitea,
// which is made after it.
type pullEnds struct {
	Head struct {
		SHA string `json:"sha"`
	} `json:"head"`
	Base struct {
		Ref  string `json:"ref"`
		Repo struct {
			Name string `json:"full_name"`
		} `json:"repo"`
	} `json:"base"`
}

// branchOrTag splits the full name of a branch or tag.
func branchOrTag(ref string) (name string, tag bool, err error) {
	if name, ok := strings.CutPrefix(ref, "refs/heads/"); ok && name != "" {
		return name, false, nil
	}
	if name, ok := strings.CutPrefix(ref, "refs/tags/"); ok && name != "" {
		return name, true, nil
	}
	return "", false, fmt.Errorf("ref: got %q, want refs/heads/NAME or refs/tags/NAME", ref)
}

// commitID returns id, or "" for what is no full commit id.
func commitID(id string) string {
	if source.IsCommitID(id) {
		return id
	}
	return ""
}
