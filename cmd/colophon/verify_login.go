package main

import (
	"context"
	"encoding/base64"
	"errors"
	"fmt"
	"net/url"
	"os"
	"os/exec"
	"strings"

	"github.com/colophon-build/colophon/source"
)

// lookup asks a repository, and if that wants a login, again with what the user's own git
// has for it.
func lookup(ctx context.Context, q source.Question) (source.Standing, error) {
	now, err := source.Lookup(ctx, q)
	if !errors.Is(err, source.ErrLogin) {
		return now, err
	}
	if q.Credential = gitLogin(ctx, q.URI); q.Credential == nil {
		return now, fmt.Errorf("%w, and git's credential helper has none for it", err)
	}
	now, err = source.Lookup(ctx, q)
	if errors.Is(err, source.ErrLogin) {
		err = fmt.Errorf("%w, and refuses the one that git's credential helper has", err)
	}
	return now, err
}

// maxLogin is the size limit in bytes of what a credential helper answers.
const maxLogin = 64 << 10

// gitLogin asks the user's git for the login to a repository (git-credential(1)); nil if it
// has none. Git may ask a credential helper, but not the user, unless GIT_TERMINAL_PROMPT
// is set. It does not see the working directory, whose configuration may be a stranger's.
func gitLogin(ctx context.Context, uri string) *source.Credential {
	u, err := url.Parse(uri)
	if err != nil {
		return nil
	}
	cmd := exec.CommandContext(ctx, "git", "credential", "fill")
	if cmd.Dir, err = os.UserHomeDir(); err != nil {
		return nil
	}
	cmd.Stdin = strings.NewReader(fmt.Sprintf("protocol=%s\nhost=%s\npath=%s\n\n", u.Scheme, u.Host, strings.TrimPrefix(u.Path, "/")))
	if os.Getenv("GIT_TERMINAL_PROMPT") == "" {
		cmd.Env = append(os.Environ(), "GIT_TERMINAL_PROMPT=0", "GIT_ASKPASS=", "GCM_INTERACTIVE=never")
	}
	out, err := cmd.Output()
	if err != nil || len(out) > maxLogin {
		return nil
	}
	got := map[string]string{}
	for line := range strings.Lines(string(out)) {
		name, value, _ := strings.Cut(strings.TrimSuffix(line, "\n"), "=")
		got[name] = value
	}
	if got["password"] == "" || got["protocol"] != u.Scheme || got["host"] != u.Host {
		return nil
	}
	return &source.Credential{Scope: uri, Authorization: "Basic " + base64.StdEncoding.EncodeToString([]byte(got["username"]+":"+got["password"]))}
}
