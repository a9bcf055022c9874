package main

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"regexp"
	"slices"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/colophon-build/colophon/internal/limits"
	"github.com/colophon-build/colophon/internal/printable"
	"github.com/colophon-build/colophon/internal/strict"
	"github.com/colophon-build/colophon/policy"
	"github.com/colophon-build/colophon/source"
	"github.com/colophon-build/colophon/source/forge"
	"github.com/colophon-build/colophon/source/look"
	"github.com/colophon-build/colophon/source/track"
	"github.com/colophon-build/colophon/verify"
)

type levelOptions struct {
	ref     string
	commit  string
	forge   forgeOptions
	signers string // file
	demand  policy.SourceTrack
	summary levelSummary
	output  output
	timeout time.Duration
}

func newLevelCommand() *cobra.Command {
	var o levelOptions
	cmd := &cobra.Command{
		Use:   "level REPOSITORY [--ref REF] [--commit ID]",
		Short: "say which SLSA Source level a commit has, and why",
		Long: `Level asks a git repository, and the forge that hosts it, how a commit came to be: by which
change request (pull or merge request), who proposed, reviewed and merged it, and which
rules its branch or tag has. It prints each requirement of SLSA's Source track
(slsa.dev/spec/v1.2/source-requirements) with what shows that it is met, not met, or not
known: forges show much to administrators only.

The forges are GitHub, GitLab, and Gitea or Forgejo. The kind of a host other than
github.com, gitlab.com, gitea.com and codeberg.org must be said: --forge. A token that may
read is sent to the API on the repository's own host, or the one of --forge-api, only.

With --vsa, the answer is signed as a SLSA verification summary about the commit, for those
who verify what is built from it. For who signs it, see "colophon sign --help".

Exit codes: 0 the commit has what is demanded, or nothing is, 2 usage error, 1 failure,
3 it has not, 4 that is not known.`,
		Example: `  colophon level https://github.com/team/app --ref main
  colophon level git.example.com/team/app --ref v1.2.0 --forge gitea --forge-token-file token --min-level 3 --reviewers 1
  colophon level git.example.com/team/app --forge gitea --vsa source.vsa.json --verifier https://example.com/source --key source.key`,
		Args: cobra.ExactArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			ctx, cancel := withTimeout(cmd.Context(), o.timeout)
			defer cancel()
			return o.run(ctx, cmd, args[0])
		},
	}
	f := cmd.Flags()
	f.StringVar(&o.ref, "ref", "", "`NAME` of the branch or tag (default: the default branch)")
	f.StringVar(&o.commit, "commit", "", "full `ID` of the commit (default: the one that --ref points to)")
	o.forge.flags(cmd)
	f.StringVar(&o.signers, "signers", "", "`FILE` with those who may sign commits and tags (ssh allowed_signers or OpenPGP keyring)")
	f.IntVar(&o.demand.MinLevel, "min-level", 0, "demand this Source level, 1 to 4")
	f.IntVar(&o.demand.Reviewers, "reviewers", 0, "demand so many reviewers other than the author")
	o.summary.flags(cmd)
	o.output.flags(cmd)
	o.output.quietFlag(cmd, "the level, a number")
	f.DurationVar(&o.timeout, "timeout", 5*time.Minute, "give up after this long")
	return cmd
}

// levelAnswer is the answer of the command.
type levelAnswer struct {
	Repository string `json:"repository"`
	Ref        string `json:"ref,omitempty"`
	Commit     string `json:"commit"`
	Branch     string `json:"branch,omitempty"` // whose rules count
	track.Result
	Outcome verify.Outcome `json:"outcome"` // whether the commit has what is demanded
	Why     string         `json:"why,omitempty"`
	VSA     string         `json:"vsa,omitempty"` // file with the signed summary
}

func (o *levelOptions) run(ctx context.Context, cmd *cobra.Command, repository string) error {
	uri, err := source.Canonical(repository)
	if err == nil {
		err = o.demand.Check()
	}
	if err != nil {
		return usageError("", "%v", err)
	}
	signing, err := o.summary.prepare(ctx, cmd)
	if err != nil {
		return err
	}
	q, err := o.question(ctx, uri)
	if err != nil {
		return err
	}
	facts := look.Facts(ctx, *q)
	a := &levelAnswer{Repository: uri, Ref: q.Ref, Commit: q.Commit, Branch: facts.Branch, Result: track.Evaluate(facts)}
	switch err := a.Meets(o.demand.MinLevel, o.demand.Reviewers); {
	case err == nil:
		a.Outcome = verify.Accepted
	case errors.Is(err, track.ErrNotKnown):
		a.Outcome, a.Why = verify.Undecided, err.Error()
	default:
		a.Outcome, a.Why = verify.Rejected, err.Error()
	}
	if signing != nil && a.Outcome == verify.Accepted {
		if err := signing.issue(ctx, a, o.demand); err != nil {
			return err
		}
	}
	return exitWith(a.Outcome, o.print(cmd.OutOrStdout(), a))
}

// question says whom to ask about which commit.
func (o *levelOptions) question(ctx context.Context, uri string) (q *look.Question, err error) {
	q = &look.Question{URI: uri, Commit: o.commit, Lookup: lookup, Merged: checkMerged}
	if q.Signers, err = readSigners(o.signers); err != nil {
		return nil, err
	}
	c, err := o.forge.config(uri)
	if err != nil {
		return nil, err
	}
	q.Forge, q.ForgeErr = forge.Open(uri, c)
	if o.commit != "" && !source.IsCommitID(o.commit) {
		return nil, usageError("", "--commit: expected a full id, found %q", o.commit)
	}
	if o.commit != "" && o.ref == "" {
		return q, nil
	}
	ref := o.ref
	if ref == "" {
		ref = "HEAD"
	}
	name, commit, err := source.Resolve(ctx, uri, ref, nil)
	if errors.Is(err, source.ErrLogin) {
		if login := gitLogin(ctx, uri); login != nil {
			name, commit, err = source.Resolve(ctx, uri, ref, login)
		}
	}
	if err != nil {
		return nil, err
	}
	if q.Ref = name; q.Commit == "" {
		q.Commit = commit
	}
	return q, nil
}

// checkMerged compares contents, if the repository wants it with the login that the user's git
// has.
func checkMerged(ctx context.Context, p source.Proposal) (string, error) {
	how, err := source.CheckMerged(ctx, p)
	if errors.Is(err, source.ErrLogin) {
		if p.Credential = gitLogin(ctx, p.URI); p.Credential != nil {
			return source.CheckMerged(ctx, p)
		}
	}
	return how, err
}

// readSigners reads an ssh allowed_signers file or an OpenPGP keyring; nil without a file.
func readSigners(file string) (*source.Signers, error) {
	if file == "" {
		return nil, nil
	}
	keys, err := strict.ReadFile(file, limits.Keys)
	if err != nil {
		return nil, usageError("", "--signers: %v", err)
	}
	signers := &source.Signers{AllowedSigners: keys}
	if bytes.Contains(keys, []byte("-----BEGIN PGP PUBLIC KEY BLOCK-----")) {
		signers = &source.Signers{Keyring: keys}
	}
	if err := signers.Check(); err != nil {
		return nil, usageError("", "%v", strict.In(file, err))
	}
	return signers, nil
}

// forgeOptions are the flags that say how to ask a forge.
type forgeOptions struct {
	kind  string
	api   string
	token string // file
}

func (o *forgeOptions) flags(cmd *cobra.Command) {
	f := cmd.Flags()
	f.StringVar(&o.kind, "forge", "", "`KIND` of forge that hosts the repository: github, gitlab or gitea (also Forgejo) (default: that of a well-known host)")
	f.StringVar(&o.api, "forge-api", "", "`URL` of its API (default: on the repository's host, where forges of this kind have it)")
	f.StringVar(&o.token, "forge-token-file", "", "`FILE` with a token of the forge that may read")
}

// forgeToken matches what can be sent in a header. What else is in a file may be another
// secret, and is sent to nobody.
var forgeToken = regexp.MustCompile(`^[A-Za-z0-9._~+/=-]+$`)

// config returns what the flags say. It fails if they cannot be used for the repository at uri; it
// does not fail if they do not say which forge that has.
func (o *forgeOptions) config(uri string) (forge.Config, error) {
	c := forge.Config{Kind: forge.Kind(o.kind), API: o.api}
	if o.token != "" {
		raw, err := strict.ReadFile(o.token, limits.Request)
		if err != nil {
			return c, usageError("", "--forge-token-file: %v", err)
		}
		if c.Token = string(bytes.TrimSpace(raw)); !forgeToken.MatchString(c.Token) {
			return c, usageError("", "--forge-token-file: %s holds no token", o.token)
		}
	}
	if _, err := forge.Open(uri, c); err != nil && (o.kind != "" || o.api != "" || !errors.Is(err, forge.ErrNoForge)) {
		return c, usageError("", "%v", err)
	}
	return c, nil
}

func (o *levelOptions) print(w io.Writer, a *levelAnswer) error {
	switch {
	case o.output.quiet:
		_, err := fmt.Fprintln(w, a.Level)
		return err
	case !o.output.text():
		return o.output.print(w, a)
	}
	fmt.Fprintf(w, "%s\ncommit %s", printable.Text(a.Repository), a.Commit)
	if a.Ref != "" {
		fmt.Fprintf(w, ", %s", printable.Text(a.Ref))
	}
	fmt.Fprint(w, "\n\n")
	for _, q := range a.Requirements {
		mark := marks[verify.Unknown]
		switch q.Status {
		case track.Met:
			mark = marks[verify.Holds]
		case track.NotMet:
			mark = marks[verify.Broken]
		}
		fmt.Fprintf(w, "  %s L%d  %-47s  %s\n", paint(w, mark[0], mark[1]), q.Level, q.Name, printable.Text(q.Evidence))
	}
	fmt.Fprintf(w, "\nSLSA Source L%d, reviewers other than the author: %d\n", a.Level, a.Reviewers)
	if a.Possible > a.Level {
		fmt.Fprintf(w, "up to L%d if what is not known (?) were met\n", a.Possible)
	}
	if a.VSA != "" {
		fmt.Fprintf(w, "signed: %s\n", printable.Text(a.VSA))
	}
	if o.demand != (policy.SourceTrack{}) {
		fmt.Fprintf(w, "%s\n", paint(w, outcomeMark(a.Outcome)[0], a.Outcome.String()))
	}
	if a.Why != "" {
		fmt.Fprintf(w, "%s\n", printable.Text(a.Why))
	}
	if slices.ContainsFunc(a.Requirements, func(q track.Requirement) bool { return strings.Contains(q.Evidence, forge.ErrNoForge.Error()) }) {
		printHint(w, "say which forge hosts it: --forge github, gitlab or gitea")
	}
	return nil
}
