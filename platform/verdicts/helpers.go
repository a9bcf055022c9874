package verdicts

import (
	"bytes"
	"cmp"
	"context"
	"errors"
	"fmt"
	"io"
	"maps"
	"os"
	"os/exec"
	"path"
	"slices"
	"strings"
	"sync"
	"syscall"
	"time"

	"github.com/google/go-containerregistry/pkg/authn"

	"github.com/colophon-build/colophon/internal/lazyregexp"
	"github.com/colophon-build/colophon/internal/strict"
)

// HelperPrograms says which program has the credentials for which registries: by HOST, in which *
// stands for a part between dots, the NAME of docker-credential-NAME. Its protocol is that of
// github.com/docker/docker-credential-helpers: "get" with the host on standard input, and on standard
// output an object with Username and Secret.
type HelperPrograms map[string]string

// Limits on one program.
const (
	helperWait     = 5 * time.Second // until it is killed
	helperKeeps    = 4 * time.Minute // what it said is used; clouds give tokens that are valid for 5 minutes or longer
	helperFails    = 5 * time.Second // it is not asked again after a failure
	maxHelpers     = 64              // patterns
	maxHelperSays  = 64 << 10        // bytes of its answer
	maxHelpersRun  = 4               // processes at once
	maxHelpersOf   = 2               // of them for one namespace, so that no other waits for all of its programs
	maxHelpersWait = 32              // hosts for which one namespace waits
	maxHelperHosts = 256             // whose answers are kept
)

var helperName = lazyregexp.New(`\A[a-z0-9][a-z0-9.-]{0,63}\z`)

// helperEnvironment begins the names of the variables that a program gets: those by which clouds say
// where an identity is. It gets no other one.
var helperEnvironment = []string{"AWS_", "AZURE_", "ACR_", "CLOUDSDK_", "GOOGLE_", "HOME=", "PATH=", "SSL_CERT_", "HTTPS_PROXY=", "NO_PROXY=", "https_proxy=", "no_proxy="}

// Check fails if a pattern or a name is malformed, or if a pattern could stand for registries of
// strangers: its last two parts must be fixed.
func (p HelperPrograms) Check() error {
	if len(p) > maxHelpers {
		return fmt.Errorf("credentialHelpers: expected at most %d, found %d", maxHelpers, len(p))
	}
	for pattern, name := range p {
		host, _, _ := strings.Cut(pattern, ":")
		labels := strings.Split(host, ".")
		if n := len(labels); n < 2 || strings.ContainsAny(labels[n-1]+labels[n-2], "*?[") || pattern != strings.ToLower(pattern) || strings.ContainsAny(pattern, "/@ ") || slices.Contains(labels, "") {
			return fmt.Errorf("credentialHelpers: expected HOST in lower case, with * only before its last two parts, as in *.dkr.ecr.*.amazonaws.com, found %q", pattern)
		}
		if _, err := path.Match(pattern, ""); err != nil {
			return fmt.Errorf("credentialHelpers: %q: %w", pattern, err)
		}
		if !helperName.MatchString(name) {
			return fmt.Errorf("credentialHelpers: expected the NAME of docker-credential-NAME, found %q", name)
		}
	}
	return nil
}

// Helpers asks the programs. It is safe for concurrent use; nil has no program.
type Helpers struct {
	programs map[string]string // path by pattern
	patterns []string          // the longest first

	mu      sync.Mutex
	kept    map[string]*helped   // by host
	waiting map[string][]*helped // by who asks: a namespace
	turns   []string             // those who wait, each once, in turn
	running map[string]int       // by who began it
	atOnce  int
}

// helped is the answer for one host. Several may wait for it, each in its own turn.
type helped struct {
	host  string
	began bool
	done  chan struct{} // closed when it is there
	login authn.AuthConfig
	err   error
	at    time.Time
}

// Find finds the programs in PATH. It fails if one is not there.
func (p HelperPrograms) Find() (*Helpers, error) {
	if err := p.Check(); err != nil || len(p) == 0 {
		return nil, err
	}
	h := &Helpers{programs: map[string]string{}, kept: map[string]*helped{}, waiting: map[string][]*helped{}, running: map[string]int{}}
	for pattern, name := range p {
		program, err := exec.LookPath("docker-credential-" + name)
		if err != nil {
			return nil, fmt.Errorf("credentialHelpers: %q: docker-credential-%s is not in PATH", pattern, name)
		}
		h.programs[pattern] = program
	}
	h.patterns = slices.SortedFunc(maps.Keys(h.programs), func(a, b string) int { return cmp.Or(len(b)-len(a), strings.Compare(a, b)) })
	return h, nil
}

// Covers reports whether a program has credentials for a registry, HOST[:PORT].
func (h *Helpers) Covers(host string) bool { return h.pattern(host) != "" }

func (h *Helpers) pattern(host string) string {
	if h == nil {
		return ""
	}
	i := slices.IndexFunc(h.patterns, func(p string) bool { return MatchHost(p, host) })
	if i < 0 {
		return ""
	}
	return h.patterns[i]
}

// Login returns the credentials for a registry, HOST[:PORT], that Covers reports. Questions at the
// same time share one process. Those who ask take turns: asker is a namespace, or "" if there is none.
func (h *Helpers) Login(ctx context.Context, host, asker string) (authn.AuthConfig, error) {
	host = strings.ToLower(host)
	if h.pattern(host) == "" {
		return authn.AuthConfig{}, fmt.Errorf("no credential helper is for %s", host)
	}
	one, err := h.ask(host, asker)
	if err != nil {
		return authn.AuthConfig{}, err
	}
	select {
	case <-one.done:
		return one.login, one.err
	case <-ctx.Done():
		return authn.AuthConfig{}, fmt.Errorf("the credential helper for %s did not answer in time: %w", host, context.Cause(ctx))
	}
}

// ask returns the answer for a host, which is there, on its way, or to be given in the asker's turn.
func (h *Helpers) ask(host, asker string) (*helped, error) {
	h.mu.Lock()
	defer h.mu.Unlock()
	one := h.kept[host]
	if one == nil || one.ended() {
		if len(h.kept) >= maxHelperHosts {
			maps.DeleteFunc(h.kept, func(_ string, o *helped) bool { return o.given() })
		}
		one = &helped{host: host, done: make(chan struct{})}
	}
	if one.began || slices.Contains(h.waiting[asker], one) {
		return one, nil
	}
	if len(h.waiting[asker]) >= maxHelpersWait {
		return nil, fmt.Errorf("the credential helper for %s is not asked: others are asked for %d registries of the same namespace first", host, maxHelpersWait)
	}
	h.kept[host] = one
	if len(h.waiting[asker]) == 0 {
		h.turns = append(h.turns, asker)
	}
	h.waiting[asker] = append(h.waiting[asker], one)
	h.begin()
	return one, nil
}

// begin begins what may run now. The caller holds the lock.
func (h *Helpers) begin() {
	for h.atOnce < maxHelpersRun {
		i := slices.IndexFunc(h.turns, func(asker string) bool { return h.running[asker] < maxHelpersOf })
		if i < 0 {
			return
		}
		asker := h.turns[i]
		one := h.waiting[asker][0]
		h.turns = slices.Delete(h.turns, i, i+1)
		if h.waiting[asker] = h.waiting[asker][1:]; len(h.waiting[asker]) > 0 {
			h.turns = append(h.turns, asker)
		} else {
			delete(h.waiting, asker)
		}
		if one.began { // in another one's turn
			continue
		}
		one.began = true
		h.atOnce++
		h.running[asker]++
		go h.run(one, asker)
	}
}

func (o *helped) given() bool {
	select {
	case <-o.done:
		return true
	default:
		return false
	}
}

// ended reports whether an answer is too old.
func (o *helped) ended() bool {
	if !o.given() {
		return false
	}
	keeps := helperKeeps
	if o.err != nil {
		keeps = helperFails
	}
	return time.Since(o.at) >= keeps
}

func (h *Helpers) run(one *helped, asker string) {
	defer func() {
		close(one.done)
		h.mu.Lock()
		defer h.mu.Unlock()
		h.atOnce--
		if h.running[asker]--; h.running[asker] == 0 {
			delete(h.running, asker)
		}
		h.begin()
	}()
	one.login, one.err = askHelper(h.programs[h.pattern(one.host)], one.host)
	one.at = time.Now()
}

// askHelper runs a program. No error quotes what it wrote: that may be a secret.
func askHelper(program, host string) (login authn.AuthConfig, err error) {
	name := path.Base(program)
	ctx, cancel := context.WithTimeout(context.Background(), helperWait)
	defer cancel()
	cmd := exec.CommandContext(ctx, program, "get")
	cmd.Env, cmd.Dir, cmd.Stdin = []string{}, "/", strings.NewReader(host+"\n")
	for _, variable := range os.Environ() {
		if slices.ContainsFunc(helperEnvironment, func(begin string) bool { return strings.HasPrefix(variable, begin) }) {
			cmd.Env = append(cmd.Env, variable)
		}
	}
	cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true} // with all that it starts
	cmd.Cancel = func() error { return syscall.Kill(-cmd.Process.Pid, syscall.SIGKILL) }
	cmd.WaitDelay = time.Second
	said := &bounded{most: maxHelperSays, full: cancel}
	cmd.Stdout = said
	err = cmd.Run()
	switch {
	case said.over:
		return login, fmt.Errorf("%s: expected an answer of at most %d bytes", name, maxHelperSays)
	case ctx.Err() != nil:
		return login, fmt.Errorf("%s had no answer for %s within %s", name, host, helperWait)
	case err != nil:
		return login, fmt.Errorf("%s has no credentials for %s: %v", name, host, exitOf(err))
	}
	var answer struct {
		ServerURL string
		Username  string
		Secret    string
	}
	if strict.Unmarshal(said.kept.Bytes(), maxHelperSays, &answer) != nil || answer.Username == "" || answer.Secret == "" {
		return login, fmt.Errorf("%s: expected an object with Username and Secret", name)
	}
	if answer.Username == "<token>" {
		return authn.AuthConfig{IdentityToken: answer.Secret}, nil
	}
	return authn.AuthConfig{Username: answer.Username, Password: answer.Secret}, nil
}

// exitOf says how a process ended, without its output.
func exitOf(err error) string {
	if exit, ok := errors.AsType[*exec.ExitError](err); ok {
		return exit.ProcessState.String()
	}
	return "it could not be run"
}

// bounded keeps what is written, up to a limit. What is past it is lost, and full is called.
type bounded struct {
	most int
	full func()
	kept bytes.Buffer
	over bool
}

// Write implements io.Writer.
func (b *bounded) Write(p []byte) (int, error) {
	if b.over = b.over || b.kept.Len()+len(p) > b.most; b.over {
		b.full()
		return 0, io.ErrShortWrite
	}
	return b.kept.Write(p)
}

// MatchHost reports whether a pattern is for a registry, HOST[:PORT]: the same port, and in the name, *
// stands for a part between dots, as the kubelet reads a Docker configuration.
func MatchHost(pattern, host string) bool {
	want, wantPort, _ := strings.Cut(pattern, ":")
	got, gotPort, _ := strings.Cut(strings.ToLower(host), ":")
	if wantPort != gotPort || strings.Count(want, ".") != strings.Count(got, ".") {
		return false
	}
	names := strings.Split(got, ".")
	for i, label := range strings.Split(want, ".") {
		if ok, err := path.Match(label, names[i]); err != nil || !ok {
			return false
		}
	}
	return true
}
