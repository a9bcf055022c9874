package source

import (
	"context"
	"errors"
	"fmt"
	"net/url"
	"os"
	"path/filepath"
	"strings"

	"github.com/colophon-build/colophon/internal/credential"
	"github.com/colophon-build/colophon/internal/lazyregexp"
)

// Credential authenticates git to the repositories in its scope. It reaches git in files
// of a temporary home directory, never in arguments or the environment. While it is used,
// git follows no redirect.
type Credential struct {
	// Scope is the address of a repository, or of a directory of repositories:
	// https://HOST/PATH or ssh://USER@HOST/PATH. No other address gets the credential,
	// nor does a submodule elsewhere.
	Scope string `json:"scope"`

	Authorization string `json:"authorization,omitempty"` // for https: the value of the header, "Basic …" or "Bearer …"

	Key        []byte `json:"key,omitempty"`        // for ssh: a private key that OpenSSH can read, without passphrase
	KnownHosts []byte `json:"knownHosts,omitempty"` // for ssh: the only known_hosts that count
}

// authorizationRE matches the values of RFC 9110, 11.4: a scheme and a token68.
var authorizationRE = lazyregexp.New(`^(Basic|Bearer) [A-Za-z0-9._~+/-]+=*$`)

// covers reports whether the credential is for a repository.
func (c *Credential) covers(r remote) bool {
	if c == nil {
		return false
	}
	scope, err := credential.ParseScope(c.Scope)
	u, err2 := url.Parse(r.address())
	return err == nil && err2 == nil && scope.Covers(u)
}

// Covers reports whether the credential is for the repository at uri, in any form that
// Fetch accepts.
func (c *Credential) Covers(uri string) bool {
	r, err := parseRemote(uri)
	return err == nil && !r.secret && c.covers(r)
}

// authorized runs a command on the repository r, which the credential covers. The files
// with the credential exist while the command runs.
func (g *git) authorized(ctx context.Context, r remote, args ...string) ([]byte, error) {
	dir, err := os.MkdirTemp(g.home, "credential-")
	if err != nil {
		return nil, err
	}
	defer os.RemoveAll(dir)
	write := func(name string, content []byte) string {
		path := filepath.Join(dir, name)
		if werr := os.WriteFile(path, content, 0o600); err == nil {
			err = werr
		}
		return path
	}
	c := g.credential
	cmd := g.command(ctx, r.scheme, args...)
	if r.scheme == "ssh" {
		key, hosts := write("key", c.Key), write("known_hosts", c.KnownHosts)
		cmd.Env = append(cmd.Env, "GIT_SSH_COMMAND="+sshCommand+
			` -o 'IdentityFile="`+key+`"' -o IdentitiesOnly=yes -o IdentityAgent=none -o 'UserKnownHostsFile="`+hosts+`"'`+
			" -o GlobalKnownHostsFile=/dev/null -o UpdateHostKeys=no -o PreferredAuthentications=publickey")
	} else {
		if !authorizationRE.MatchString(c.Authorization) {
			return nil, errors.New("the credential is not of the form Basic … or Bearer …")
		}
		conf := fmt.Sprintf("[include]\n\tpath = %q\n[http %q]\n\textraHeader = %q\n\tfollowRedirects = false\n",
			filepath.Join(g.home, "gitconfig"), r.address(), "Authorization: "+c.Authorization)
		cmd.Env = append(cmd.Env, "GIT_CONFIG_GLOBAL="+write("gitconfig", []byte(conf)))
	}
	if err != nil {
		return nil, err
	}
	out, err := run(ctx, cmd)
	if gitSays(err, "returned error: 30") && !strings.HasSuffix(r.path, ".git") {
		// Some servers redirect to the address with .git.
		dotted := r
		dotted.path = r.trimmedPath() + ".git"
		for i, a := range args {
			if a == r.address() {
				args[i] = dotted.address()
			}
		}
		return g.authorized(ctx, dotted, args...)
	}
	return out, err
}
