package source

import (
	"context"
	"fmt"
	"os"
	"strconv"
	"strings"
	"time"

	"github.com/colophon-build/colophon/internal/printable"
)

const (
	maxBetween  = 1000 // commits that Between returns
	maxSubject  = 200  // bytes of a subject, and of the name of an author
	separator   = "\x00"
	betweenLine = "%H%x00%ct%x00%an%x00%s"
)

// Step is one commit of a history. Whoever made the commit chose all of it but the id.
type Step struct {
	Commit  string    `json:"commit"` // full id
	Time    time.Time `json:"time"`   // of the committer, UTC
	Author  string    `json:"author"` // name; no more than 200 bytes, printable
	Subject string    `json:"subject"`
}

// Between asks the repository at uri for the commits that are in the history of the commit to and
// not in that of the commit from, the newest first and at most 1,000. forward reports whether from
// is in the history of to. Trees are not fetched. credential may be nil.
func Between(ctx context.Context, uri, from, to string, credential *Credential) (steps []Step, forward bool, err error) {
	rem, err := parseRemote(uri)
	if err != nil {
		return nil, false, err
	}
	if rem.secret {
		return nil, false, errCreds
	}
	if !isID(from) || !isID(to) {
		return nil, false, fmt.Errorf("commits: got %q and %q, want full ids in lower case", from, to)
	}
	asker, err := newGit("")
	if err != nil {
		return nil, false, err
	}
	defer asker.Close()
	if rem.scheme == "file" {
		if err := asker.refuseAlternates(ctx, rem.localPath()); err != nil {
			return nil, false, err
		}
	}
	dir, err := os.MkdirTemp(asker.home, "between-")
	if err != nil {
		return nil, false, err
	}
	g := &git{path: asker.path, home: asker.home, dir: dir, root: dir, most: historyCap, credential: credential}
	if err := g.init(ctx, to); err != nil {
		return nil, false, err
	}
	for _, id := range []string{to, from} {
		if err := askedForLogin(g.fetchCommits(ctx, rem, id, "--depth=2147483647")); err != nil {
			return nil, false, fmt.Errorf("%s: %w", rem.canonical(), err)
		}
	}
	out, err := g.local(ctx, "log", "-n", strconv.Itoa(maxBetween), "--format="+betweenLine, from+".."+to, "--")
	if err != nil {
		return nil, false, err
	}
	for line := range strings.Lines(string(out)) {
		step, err := parseStep(strings.TrimSuffix(line, "\n"))
		if err != nil {
			return nil, false, err
		}
		steps = append(steps, step)
	}
	forward, err = g.ancestor(ctx, from, to)
	return steps, forward, err
}

// parseStep reads a line of git log with the format betweenLine. git writes neither a line break nor
// a NUL from a commit there.
func parseStep(line string) (Step, error) {
	parts := strings.Split(line, separator)
	if len(parts) != 4 || !isID(parts[0]) {
		return Step{}, fmt.Errorf("git log: got %q, want an id, a time, an author and a subject", line)
	}
	seconds, err := strconv.ParseInt(parts[1], 10, 64)
	if err != nil {
		return Step{}, fmt.Errorf("git log: got the time %q, want seconds since 1970", parts[1])
	}
	return Step{Commit: parts[0], Time: time.Unix(seconds, 0).UTC(), Author: shortened(parts[2]), Subject: shortened(parts[3])}, nil
}

func shortened(s string) string { return printable.Cut(printable.Line(s), maxSubject) }
