// Package credentials holds the credentials of a platform: for private sources, and for
// private downloads of builds. It decides which release may use which. A credential is for
// one host and path; that of a download is also bound to the sources whose builds may use
// it, because everybody else could read the downloads by a build of their own.
//
// Source credentials go to the process that fetches the commit, those of downloads to the
// gateway of the build's room. Neither a recipe, a room, a record nor a log has one.
package credentials

import (
	"context"
	"crypto/rsa"
	"crypto/x509"
	"encoding/base64"
	"encoding/pem"
	"errors"
	"fmt"
	"net"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"golang.org/x/crypto/ssh"

	"github.com/colophon-build/colophon/internal/credential"
	"github.com/colophon-build/colophon/internal/limits"
	"github.com/colophon-build/colophon/internal/owned"
	"github.com/colophon-build/colophon/internal/strict"
	"github.com/colophon-build/colophon/platform/builder"
	"github.com/colophon-build/colophon/source"
)

// Set holds the credentials of a platform. Spec: docs/configuration.md, "Credentials". It is
// safe for concurrent use after Read, or after it was unmarshalled.
type Set struct {
	Sources   []Source   `json:"sources,omitempty"`
	Downloads []Download `json:"downloads,omitempty"`

	apps apps
}

// Login is how to log in, exactly one of: Password with User, Token, GitHubApp, KeyFile.
type Login struct {
	User      string     `json:"user,omitempty"`
	Password  string     `json:"password,omitempty"`
	Token     string     `json:"token,omitempty"` // a bearer token
	GitHubApp *GitHubApp `json:"githubApp,omitempty"`
}

// Source is a credential for private repositories.
type Source struct {
	URL string `json:"url"` // https://HOST/PATH or ssh://USER@HOST/PATH: a repository, or a directory of repositories
	Login
	KeyFile    string   `json:"keyFile,omitempty"`    // of ssh: a private key without passphrase
	KnownHosts []string `json:"knownHosts,omitempty"` // of ssh: lines as in known_hosts, for the host of URL

	Key []byte `json:"key,omitempty"` // the content of KeyFile; not in the file
}

// Download is a credential for private downloads.
type Download struct {
	URL string `json:"url"` // https://HOST/PATH
	Login
	// Realm is where the registry at URL has its clients fetch tokens: https://HOST/PATH,
	// without a query. If it is set, the credential is sent there only.
	Realm string   `json:"realm,omitempty"`
	For   []string `json:"for"` // the sources whose builds may use it: https://HOST/PATH, ssh://… or file:///PATH
}

// GitHubApp is an installation of a GitHub App, whose tokens GitHub makes for an hour.
type GitHubApp struct {
	AppID          int64  `json:"appID"`
	InstallationID int64  `json:"installationID"`
	KeyFile        string `json:"keyFile,omitempty"`
	API            string `json:"api,omitempty"` // default https://api.github.com; of GitHub Enterprise https://HOST/api/v3

	Key []byte `json:"key,omitempty"` // the content of KeyFile; not in the file
}

// String keeps secrets out of texts.
func (Login) String() string { return "a credential" }

// String keeps secrets out of texts.
func (s Source) String() string { return "the credential for " + s.URL }

// String keeps secrets out of texts.
func (d Download) String() string { return "the credential for " + d.URL }

// String keeps secrets out of texts.
func (app GitHubApp) String() string { return fmt.Sprintf("GitHub App %d", app.AppID) }

// Read reads the credentials in a file, and the files that it names. Only its owner, who
// is root or runs the platform, may read and write each of them.
func Read(file string) (*Set, error) {
	if file == "" {
		return &Set{}, nil
	}
	data, err := owned.ReadSecret(file)
	if err != nil {
		return nil, err
	}
	var s Set
	if err := strict.UnmarshalKnown(data, limits.Request, &s); err != nil {
		return nil, strict.In(file, err)
	}
	for i := range s.Sources {
		if err := s.Sources[i].load(filepath.Dir(file)); err != nil {
			return nil, fmt.Errorf("%s: sources[%d]: %w", file, i, err)
		}
		for j := range i {
			if s.Sources[i].scope() == s.Sources[j].scope() {
				return nil, fmt.Errorf("%s: sources[%d] and sources[%d] have one url", file, j, i)
			}
		}
	}
	for i := range s.Downloads {
		if err := s.Downloads[i].load(filepath.Dir(file)); err != nil {
			return nil, fmt.Errorf("%s: downloads[%d]: %w", file, i, err)
		}
		for j := range i {
			if s.Downloads[i].collides(&s.Downloads[j]) {
				return nil, fmt.Errorf("%s: downloads[%d] and downloads[%d] have one url, and some source may use both", file, j, i)
			}
		}
	}
	return &s, nil
}

// load checks a login and reads the files that it names.
func (l *Login) load(dir string) error {
	n := 0
	for _, has := range []bool{l.Password != "", l.Token != "", l.GitHubApp != nil} {
		if has {
			n++
		}
	}
	secret := l.Password + l.Token
	switch {
	case n != 1:
		return errors.New("expected exactly one of: user and password; token; githubApp")
	case (l.User == "") != (l.Password == "") || strings.Contains(l.User, ":"):
		return errors.New("user and password belong together, and a user has no colon")
	case l.GitHubApp != nil:
		return l.GitHubApp.load(dir)
	case len(secret) < builder.MinSecret:
		return fmt.Errorf("a password or token of %d characters is too short: the gateway could not recognize it; expected %d or more", len(secret), builder.MinSecret)
	case !printableSecret(l.User + secret):
		return errors.New("a user, password or token has a space, or a character that is not ASCII")
	}
	return nil
}

func printableSecret(s string) bool {
	return !strings.ContainsFunc(s, func(r rune) bool { return r <= ' ' || r >= 0x7f })
}

// authorization returns the value of the header Authorization. What a GitHub App gives is
// valid for life at least.
func (l *Login) authorization(ctx context.Context, apps *apps, life time.Duration) (string, error) {
	user, password := l.User, l.Password
	switch {
	case l.Token != "":
		return "Bearer " + l.Token, nil
	case l.GitHubApp != nil:
		token, err := apps.token(ctx, l.GitHubApp, life)
		if err != nil {
			return "", err
		}
		user, password = "x-access-token", token
	}
	return "Basic " + base64.StdEncoding.EncodeToString([]byte(user+":"+password)), nil
}

func (s *Source) load(dir string) error {
	scope, err := credential.ParseScope(s.URL)
	if err != nil {
		return fmt.Errorf("url: %w", err)
	}
	if s.Key != nil {
		return errors.New(`"key" is not a field of this file: name the file with the key in "keyFile"`)
	}
	if scope.Scheme() == "file" {
		return errors.New("url: expected https or ssh")
	}
	if scope.Scheme() != "ssh" {
		if s.KeyFile != "" || s.KnownHosts != nil {
			return errors.New("keyFile and knownHosts are for ssh://… only")
		}
		return s.Login.load(dir)
	}
	if s.Login != (Login{}) || s.KeyFile == "" || len(s.KnownHosts) == 0 {
		return errors.New("ssh takes keyFile and knownHosts, and nothing else: a key, and the lines of known_hosts by which the host is known")
	}
	if s.Key, err = readKey(dir, s.KeyFile); err != nil {
		return err
	}
	if _, err := ssh.ParseRawPrivateKey(s.Key); err != nil {
		if _, ok := errors.AsType[*ssh.PassphraseMissingError](err); ok {
			err = errors.New("the key has a passphrase, which nobody can type here: expected a key without one, as ssh-keygen -N '' makes it")
		}
		return fmt.Errorf("keyFile: %s: %w", s.KeyFile, err)
	}
	for _, line := range s.KnownHosts {
		if err := checkKnownHost(line, scope.Host()); err != nil {
			return fmt.Errorf("knownHosts: %w", err)
		}
	}
	return nil
}

// checkKnownHost returns an error if a line of known_hosts is for another host.
func checkKnownHost(line, host string) error {
	if strings.ContainsAny(line, "\r\n") {
		return errors.New("expected one line in each text")
	}
	want := strings.Trim(host, "[]")
	if name, port, err := net.SplitHostPort(host); err == nil {
		want = "[" + name + "]:" + port
	}
	marker, hosts, _, _, _, err := ssh.ParseKnownHosts([]byte(line))
	if err != nil || marker != "" || len(hosts) != 1 || hosts[0] != want {
		return fmt.Errorf("expected %q and a key, as ssh-keyscan prints them, found %.100q", want, line)
	}
	return nil
}

func (d *Download) load(dir string) error {
	scope, err := credential.ParseScope(d.URL)
	switch {
	case err != nil:
		return fmt.Errorf("url: %w", err)
	case scope.Scheme() != "https" && scope.Scheme() != "http":
		return errors.New("url: expected https")
	case scope.Path() == "":
		return errors.New("url: expected a path: the credential of a whole host would also open what hands out other credentials")
	case len(d.For) == 0:
		return errors.New(`for: expected the sources whose builds may use it, such as ["https://git.example.com/org"]`)
	}
	for _, f := range d.For {
		if _, err := credential.ParseScope(f); err != nil {
			return fmt.Errorf("for: %w", err)
		}
	}
	if d.Realm != "" {
		realm, err := credential.ParseScope(d.Realm)
		if err != nil || realm.Scheme() != scope.Scheme() || realm.Path() == "" {
			return errors.New("realm: expected https://HOST/PATH without a query")
		}
		if !strings.HasPrefix(scope.Path()+"/", "/v2/") {
			return errors.New("realm: a registry's url begins with https://HOST/v2/")
		}
		if d.Token != "" {
			return errors.New("realm: a service that makes tokens takes user and password")
		}
	}
	return d.Login.load(dir)
}

func (s *Source) scope() credential.Scope {
	scope, _ := credential.ParseScope(s.URL) // load has checked it
	return scope
}

// collides reports whether some build could use both credentials for one download.
func (d *Download) collides(other *Download) bool {
	a, _ := credential.ParseScope(d.URL)
	b, _ := credential.ParseScope(other.URL)
	if a != b {
		return false
	}
	for _, f := range d.For {
		for _, g := range other.For {
			x, _ := credential.ParseScope(f)
			y, _ := credential.ParseScope(g)
			if x.Contains(y) || y.Contains(x) {
				return true
			}
		}
	}
	return false
}

// readKey reads a file with a key. A relative path is relative to dir.
func readKey(dir, file string) ([]byte, error) {
	if !filepath.IsAbs(file) {
		file = filepath.Join(dir, file)
	}
	key, err := owned.ReadSecret(file)
	if err == nil && len(key) > limits.Keys {
		err = fmt.Errorf("got %d bytes, want at most %d", len(key), limits.Keys)
	}
	if err != nil {
		return nil, fmt.Errorf("keyFile: %w", err)
	}
	return key, nil
}

func (app *GitHubApp) load(dir string) (err error) {
	if app.Key != nil {
		return errors.New(`githubApp: "key" is not a field of this file: name the file with the key in "keyFile"`)
	}
	if app.AppID <= 0 || app.InstallationID <= 0 || app.KeyFile == "" {
		return errors.New("githubApp: expected appID, installationID and keyFile")
	}
	if app.API == "" {
		app.API = "https://api.github.com"
	}
	if s, err := credential.ParseScope(app.API); err != nil || s.Scheme() == "ssh" || s.Scheme() == "file" {
		return errors.New("githubApp: api: expected https://HOST/PATH")
	}
	if app.Key, err = readKey(dir, app.KeyFile); err != nil {
		return fmt.Errorf("githubApp: %w", err)
	}
	_, err = app.key()
	return err
}

// key parses the private key of the app: PKCS #1 as GitHub makes it, or PKCS #8.
func (app *GitHubApp) key() (*rsa.PrivateKey, error) {
	block, _ := pem.Decode(app.Key)
	if block == nil {
		return nil, errors.New("githubApp: keyFile has no PEM block")
	}
	if k, err := x509.ParsePKCS1PrivateKey(block.Bytes); err == nil {
		return k, nil
	}
	k, err := x509.ParsePKCS8PrivateKey(block.Bytes)
	if r, ok := k.(*rsa.PrivateKey); ok && err == nil {
		return r, nil
	}
	return nil, errors.New("githubApp: keyFile has no RSA key")
}

// Times for which a GitHub App's token must be valid when it is handed out: while a source
// is fetched, and while a build runs. GitHub makes them for an hour.
const (
	sourceLife   = 15 * time.Minute
	downloadLife = 55 * time.Minute
)

// ForSource returns the credential for the repository at uri; nil if there is none. It is
// the one with the longest path.
func (s *Set) ForSource(ctx context.Context, uri string) (*source.Credential, error) {
	if s == nil {
		return nil, nil
	}
	var best *Source
	for i := range s.Sources {
		c := &s.Sources[i]
		if (&source.Credential{Scope: c.URL}).Covers(uri) && (best == nil || len(c.scope().Path()) > len(best.scope().Path())) {
			best = c
		}
	}
	if best == nil {
		return nil, nil
	}
	c := &source.Credential{Scope: best.scope().String(), Key: best.Key}
	if best.Key != nil {
		c.KnownHosts = []byte(strings.Join(best.KnownHosts, "\n") + "\n")
		return c, nil
	}
	var err error
	c.Authorization, err = best.authorization(ctx, &s.apps, sourceLife)
	return c, err
}

// ForDownloads returns the credentials that builds of the source may use, whose canonical
// address is uri.
func (s *Set) ForDownloads(ctx context.Context, uri string) (out []builder.Credential, err error) {
	if s == nil {
		return nil, nil
	}
	for i := range s.Downloads {
		d := &s.Downloads[i]
		if !d.admits(uri) {
			continue
		}
		c := builder.Credential{Scope: d.URL, Realm: d.Realm}
		if c.Authorization, err = d.authorization(ctx, &s.apps, downloadLife); err != nil {
			return nil, fmt.Errorf("%s: %w", d, err)
		}
		out = append(out, c)
	}
	return out, nil
}

// ForAdded returns the credential for a git repository that a build of the source adds; nil
// if there is none. As for a submodule, that is the source's own if it covers the
// repository; or else one of its builds' downloads.
func (s *Set) ForAdded(ctx context.Context, uri, added string) (*source.Credential, error) {
	own, err := s.ForSource(ctx, uri)
	if err != nil || own != nil && own.Covers(added) {
		return own, err
	}
	downloads, err := s.ForDownloads(ctx, uri)
	var best *source.Credential
	for _, d := range downloads {
		c := &source.Credential{Scope: d.Scope, Authorization: d.Authorization}
		if d.Realm == "" && c.Covers(added) && (best == nil || len(c.Scope) > len(best.Scope)) {
			best = c
		}
	}
	return best, err
}

// admits reports whether builds of the source may use the credential.
func (d *Download) admits(uri string) bool {
	for _, f := range d.For {
		if (&source.Credential{Scope: f}).Covers(uri) {
			return true
		}
	}
	return false
}

// Hosts returns the hosts of scopes, sorted, each once.
func Hosts(scopes []string) (hosts []string) {
	for _, s := range scopes {
		if scope, err := credential.ParseScope(s); err == nil {
			hosts = append(hosts, scope.Host())
		}
	}
	slices.Sort(hosts)
	return slices.Compact(hosts)
}
