package source

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"time"

	"github.com/colophon-build/colophon/internal/lazyregexp"
	"github.com/colophon-build/colophon/internal/limits"
	"github.com/colophon-build/colophon/internal/printable"
)

// Time limits of one git command. The caller's context can shorten them.
const (
	localTimeout  = 5 * time.Minute
	remoteTimeout = 15 * time.Minute
)

// git runs git commands in isolation: with an empty home directory, only the settings
// below, and an environment that contains nothing of this process's own but the path
// and the certificate files.
type git struct {
	path string // of the program
	home string // temporary home directory; contains gitconfig
	dir  string // the bare repository, or empty
	root string // the directory whose size is limited: dir, or the directory of the outermost repository

	uploadPack string      // see Request
	credential *Credential // see Request
	most       int64       // size limit of root in bytes; 0: packedCap
}

// settings are the configuration of all git commands: in their environment, where they
// override the configuration of the repository, and in the global configuration file.
// The latter is for the upload-pack that git starts for a local repository. There the
// repository's configuration overrides it, but upload-pack reads settings that run
// programs only from protected configuration, which a repository's is not.
var settings = [][2]string{
	// Without this, upload-pack refuses the local repository of another user, whose
	// hooks could run. Hooks are disabled here.
	{"safe.directory", "*"},
	{"core.hooksPath", "/dev/null"},
	{"core.fsmonitor", "false"},
	{"core.untrackedCache", "false"},
	{"core.attributesFile", "/dev/null"},
	{"core.excludesFile", "/dev/null"},
	{"core.useReplaceRefs", "false"},
	{"core.protectHFS", "true"},
	{"core.protectNTFS", "true"},
	{"core.pager", "cat"},
	{"core.gitProxy", ""},
	{"core.askPass", ""},
	{"credential.helper", ""},
	{"http.followRedirects", "initial"}, // only to the same scheme: GIT_ALLOW_PROTOCOL
	{"http.lowSpeedLimit", "100"},       // bytes/s
	{"http.lowSpeedTime", "60"},         // s
	{"transfer.fsckObjects", "true"},
	{"fetch.fsckObjects", "true"},
	// Old tools wrote these into authors and dates of real commits. They are only
	// text: object.parse checks what is used.
	{"fetch.fsck.badEmail", "ignore"},
	{"fetch.fsck.badTimezone", "ignore"},
	{"fetch.fsck.missingEmail", "ignore"},
	{"fetch.fsck.missingNameBeforeEmail", "ignore"},
	{"fetch.fsck.missingSpaceBeforeEmail", "ignore"},
	{"fetch.fsck.multipleAuthors", "ignore"},
	{"fetch.fsck.zeroPaddedDate", "ignore"},
	{"fetch.unpackLimit", "1"},
	{"transfer.unpackLimit", "1"},
	{"fetch.recurseSubmodules", "false"},
	{"submodule.recurse", "false"},
	{"uploadpack.allowAnySHA1InWant", "true"},
	{"uploadpack.allowFilter", "true"},
	{"gc.auto", "0"},
	{"maintenance.auto", "false"},
	{"init.defaultBranch", "main"},
	{"advice.detachedHead", "false"},
	{"advice.graftFileDeprecated", "false"}, // env names a graft file, which is empty
}

// oldest is the oldest version of git that knows all settings used here:
// GIT_CONFIG_GLOBAL (2.32), safe.directory "*" and protected configuration (2.38),
// GIT_NO_LAZY_FETCH in upload-pack (2.39.4). An older git would silently ignore them.
var oldest = [3]int{2, 39, 4}

var findGit = sync.OnceValues(func() (string, error) {
	path, err := exec.LookPath("git")
	if err != nil {
		return "", fmt.Errorf("git is required: %w", err)
	}
	version := exec.Command(path, "version")
	version.Env = []string{"PATH=" + os.Getenv("PATH"), "LC_ALL=C", "GIT_CONFIG_NOSYSTEM=1"} // no secrets
	out, err := version.Output()
	if err != nil {
		return "", fmt.Errorf("asking git for its version: %w", err)
	}
	var have [3]int
	fmt.Sscanf(string(out), "git version %d.%d.%d", &have[0], &have[1], &have[2])
	for i := range have {
		if have[i] != oldest[i] {
			if have[i] < oldest[i] {
				return "", fmt.Errorf("git version: got %q, want at least %d.%d.%d", strings.TrimSpace(string(out)), oldest[0], oldest[1], oldest[2])
			}
			break
		}
	}
	return path, nil
})

// newGit creates a temporary home directory for git commands on dir. Close removes it.
func newGit(dir string) (*git, error) {
	path, err := findGit()
	if err != nil {
		return nil, err
	}
	home, err := os.MkdirTemp("", "colophon-git-")
	if err != nil {
		return nil, err
	}
	var conf strings.Builder
	for _, s := range settings {
		section, name, _ := strings.Cut(s[0], ".")
		if sub, rest, ok := strings.Cut(name, "."); ok {
			section, name = fmt.Sprintf("%s %q", section, sub), rest
		}
		fmt.Fprintf(&conf, "[%s]\n\t%s = %q\n", section, name, s[1])
	}
	if err := os.WriteFile(filepath.Join(home, "gitconfig"), []byte(conf.String()), 0o600); err != nil {
		os.RemoveAll(home)
		return nil, err
	}
	return &git{path: path, home: home, dir: dir}, nil
}

func (g *git) Close() error { return os.RemoveAll(g.home) }

// sshCommand is the ssh that git runs. It asks nothing and connects to known hosts only.
const sshCommand = "ssh -F /dev/null -o BatchMode=yes -o StrictHostKeyChecking=yes " +
	"-o PermitLocalCommand=no -o ProxyCommand=none -o ClearAllForwardings=yes -o ConnectTimeout=30"

// env returns the complete environment of a command. The command may use only the
// protocol scheme, or none if scheme is empty.
func (g *git) env(scheme string) []string {
	if scheme == "" {
		scheme = "none" // without GIT_ALLOW_PROTOCOL, git allows several protocols
	}
	env := []string{
		"PATH=" + os.Getenv("PATH"),
		"HOME=" + g.home,
		"XDG_CONFIG_HOME=" + g.home,
		"TMPDIR=" + g.home,
		"LC_ALL=C",
		"GIT_CONFIG_NOSYSTEM=1",
		"GIT_CONFIG_GLOBAL=" + filepath.Join(g.home, "gitconfig"),
		"GIT_ATTR_NOSYSTEM=1",
		"GIT_ALLOW_PROTOCOL=" + scheme,
		"GIT_PROTOCOL_FROM_USER=0",
		"GIT_TERMINAL_PROMPT=0",
		"GIT_ASKPASS=",
		"GIT_NO_REPLACE_OBJECTS=1",
		"GIT_GRAFT_FILE=/dev/null",
		"GIT_NO_LAZY_FETCH=1",
		"GIT_OPTIONAL_LOCKS=0",
		"GIT_FLUSH=1",
	}
	switch scheme {
	case "https":
		ca := os.Getenv("GIT_SSL_CAINFO")
		if ca == "" {
			ca = os.Getenv("SSL_CERT_FILE")
		}
		if ca != "" {
			env = append(env, "GIT_SSL_CAINFO="+ca)
		}
		for _, name := range []string{"GIT_SSL_CAPATH", "SSL_CERT_FILE", "SSL_CERT_DIR", "CURL_CA_BUNDLE"} {
			if v := os.Getenv(name); v != "" {
				env = append(env, name+"="+v)
			}
		}
	case "ssh":
		// ssh finds keys and known hosts in the home directory of the account, not in $HOME.
		env = append(env, "GIT_SSH_VARIANT=ssh", "GIT_SSH_COMMAND="+sshCommand)
	}
	// These variables override the configuration of any repository.
	env = append(env, "GIT_CONFIG_COUNT="+strconv.Itoa(len(settings)))
	for i, s := range settings {
		env = append(env, fmt.Sprintf("GIT_CONFIG_KEY_%d=%s", i, s[0]), fmt.Sprintf("GIT_CONFIG_VALUE_%d=%s", i, s[1]))
	}
	return env
}

// command returns a git command. When ctx ends, git and the programs that it started are killed.
func (g *git) command(ctx context.Context, scheme string, args ...string) *exec.Cmd {
	if g.dir != "" {
		args = append([]string{"--git-dir=" + g.dir}, args...)
	}
	cmd := exec.CommandContext(ctx, g.path, args...)
	cmd.Dir = g.home
	cmd.Env = g.env(scheme)
	killAll(cmd)
	cmd.WaitDelay = 5 * time.Second
	return cmd
}

// local runs a command that uses no other repository.
func (g *git) local(ctx context.Context, args ...string) ([]byte, error) {
	ctx, cancel := context.WithTimeout(ctx, localTimeout)
	defer cancel()
	return run(ctx, g.command(ctx, "", args...))
}

// remote runs a command that talks to the repository r. It kills the command when g.root
// exceeds its size limit, because the server decides how much it sends.
func (g *git) remote(ctx context.Context, r remote, args ...string) ([]byte, error) {
	ctx, cancel := context.WithTimeout(ctx, remoteTimeout)
	defer cancel()
	if r.scheme == "file" && g.uploadPack != "" {
		args = append([]string{args[0], "--upload-pack=" + g.uploadPack}, args[1:]...)
	}
	run := func(ctx context.Context) ([]byte, error) {
		if g.credential.covers(r) {
			return g.authorized(ctx, r, args...)
		}
		return run(ctx, g.command(ctx, r.scheme, args...))
	}
	if g.root == "" {
		return run(ctx)
	}
	ctx, stop := context.WithCancelCause(ctx)
	defer stop(nil)
	go func() {
		for tick := time.Tick(250 * time.Millisecond); ; {
			select {
			case <-ctx.Done():
				return
			case <-tick:
				if err := g.tooLarge(); err != nil {
					stop(err)
				}
			}
		}
	}()
	out, err := run(ctx)
	if err != nil {
		return nil, err
	}
	return out, g.tooLarge()
}

func (g *git) tooLarge() error {
	var size int64
	err := filepath.WalkDir(g.root, func(_ string, d fs.DirEntry, err error) error {
		if err != nil {
			return nil // git renames files meanwhile
		}
		if info, err := d.Info(); err == nil && info.Mode().IsRegular() {
			size += info.Size()
		}
		return nil
	})
	most := g.most
	if most == 0 {
		most = packedCap
	}
	if err == nil && size > most {
		err = fmt.Errorf("the repository takes more than %d bytes: %w", most, errLimit)
	}
	return err
}

// The size limits are variables so that tests can lower them.
var (
	packedCap  int64 = limits.GitPacked
	historyCap int64 = limits.GitHistory
)

// run runs cmd and returns its standard output. An error contains the end of standard
// error, without characters that control a terminal.
func run(ctx context.Context, cmd *exec.Cmd) ([]byte, error) {
	out, errs := &capped{max: limits.GitOutput}, &tail{max: 4096}
	cmd.Stdout, cmd.Stderr = out, errs
	err := cmd.Run()
	switch {
	case context.Cause(ctx) != nil:
		return nil, context.Cause(ctx)
	case out.over:
		return nil, fmt.Errorf("git: got more than %d bytes of output", out.max)
	case err != nil:
		return nil, &gitError{err: err, stderr: errs.String()}
	}
	return out.buf.Bytes(), nil
}

// gitError is the error of a git command that failed.
type gitError struct {
	err    error
	stderr string
}

func (e *gitError) Error() string {
	switch said, _, _ := strings.Cut(e.stderr, "; fatal: Could not read from remote repository."); {
	case said == "":
		return "git: " + e.err.Error()
	case strings.Contains(said, "HAS CHANGED"): // ssh fills a screen
		return "ssh: Host key verification failed: the host has another key than the known one: " + fingerprint.FindString(said)
	case strings.Contains(said, "host key is known for"):
		return "ssh: Host key verification failed: no key of this host is known"
	case strings.Contains(said, "Permission denied ("):
		return "ssh: " + said
	default:
		return "git: " + said
	}
}

// fingerprint matches a key's fingerprint in ssh's words.
var fingerprint = lazyregexp.New(`SHA256:[A-Za-z0-9+/]{43}`)

func (e *gitError) Unwrap() error { return e.err }

// gitSays reports whether a git command failed and its standard error contains text. Use
// it only where git has no other way to report a reason; LC_ALL=C fixes its language.
func gitSays(err error, text string) bool {
	ge, ok := errors.AsType[*gitError](err)
	return ok && strings.Contains(ge.stderr, text)
}

// capped keeps max bytes. After them it fails, which ends the command.
type capped struct {
	buf  bytes.Buffer
	max  int
	over bool
}

func (c *capped) Write(p []byte) (int, error) {
	if c.buf.Len()+len(p) > c.max {
		c.over = true
		return 0, io.ErrShortBuffer
	}
	return c.buf.Write(p)
}

// tail keeps the last max bytes.
type tail struct {
	buf []byte
	max int
}

func (t *tail) Write(p []byte) (int, error) {
	t.buf = append(t.buf, p...)
	if n := len(t.buf) - t.max; n > 0 {
		t.buf = t.buf[n:]
	}
	return len(p), nil
}

// String is one line without what a terminal would obey.
func (t *tail) String() string { return printable.Line(string(t.buf)) }
