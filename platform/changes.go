package platform

import (
	"bytes"
	"context"
	"encoding/json"
	"encoding/pem"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"os"
	"os/user"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"sync"
	"time"

	"github.com/opencontainers/go-digest"
	"github.com/prometheus/client_golang/prometheus"

	"github.com/colophon-build/colophon/audit"
	"github.com/colophon-build/colophon/internal/durable"
	"github.com/colophon-build/colophon/internal/limits"
	"github.com/colophon-build/colophon/internal/owned"
	"github.com/colophon-build/colophon/internal/peer"
	"github.com/colophon-build/colophon/internal/printable"
	"github.com/colophon-build/colophon/internal/strict"
	"github.com/colophon-build/colophon/platform/recorder"
	"github.com/colophon-build/colophon/platform/registry"
)

// changesDir, below the data directory, is serve's: with its key and spool, what counts as recorded last, and
// the records that colophond enrol leaves.
const (
	changesDir  = "changes"
	leftDir     = "left"         // below changesDir
	privateFile = "private.json" // below changesDir: the fields that records only commit to, for Enrol
)

const (
	startTimeout  = 25 * time.Second // for changes to reach the ledger at the start of the platform, if they must
	changeTimeout = 10 * time.Second // and at SIGHUP
)

// changes records what administrators change by files on serve's host: the configuration and the tokens. It
// also sends what colophond enrol recorded. A nil *changes records nothing.
type changes struct {
	dir string
	log *slog.Logger

	mu       sync.Mutex
	recorder *recorder.Recorder
	private  []string // fields that records only commit to
}

// openChanges sets p.changes on serve's host.
func (p *platform) openChanges() error {
	if p.host != roleServe {
		return nil
	}
	c := &changes{dir: p.dir(changesDir), log: p.log.With("service", "changes")}
	if err := c.open(p); err != nil {
		return err
	}
	p.changes = c
	return nil
}

// open opens the recorder with the settings of the configuration.
func (c *changes) open(p *platform) (err error) {
	s := recording{Dir: c.dir, Private: p.file.Audit.Private, Required: p.file.Audit.Required}
	if s.Ledger, err = p.endpoint(p.dir("run"), roleServe, roleLedger); err != nil {
		return err
	}
	if err := durable.MkdirAll(c.dir, 0o700); err != nil {
		return err
	}
	if err := c.hide(s.Private); err != nil {
		return err
	}
	c.private = s.Private
	c.recorder, _, err = s.open(roleServe, prometheus.NewRegistry(), c.log)
	return err
}

// hide tells Enrol which fields its records only commit to.
func (c *changes) hide(private []string) error {
	raw, err := json.Marshal(private)
	if err != nil {
		return err
	}
	return durable.WriteFile(filepath.Join(c.dir, privateFile), raw, 0o600)
}

func (c *changes) close() {
	if c != nil {
		c.recorder.Close()
	}
}

// start records what changed since the platform ran last. If the ledger must have that, it runs already.
func (c *changes) start(ctx context.Context, p *platform) error {
	if c == nil {
		return nil
	}
	ctx, cancel := context.WithTimeout(ctx, startTimeout)
	defer cancel()
	c.mu.Lock()
	defer c.mu.Unlock()
	if err := c.tokens(ctx, p.known); err != nil {
		return fmt.Errorf("the tokens changed: %w", err)
	}
	if err := c.configuration(ctx, p, "the platform starts"); err != nil {
		return fmt.Errorf("the configuration changed: %w", err)
	}
	return nil
}

// tokenPrefix is how the names of tokens begin in what counts.
const tokenPrefix = "token/"

// tokens records which tokens were made, replaced or removed. Their digests stay here: somebody may have
// written a token that can be guessed.
func (c *changes) tokens(ctx context.Context, known tokens) error {
	replace := func(name, digest, what string) error {
		return c.recorder.Replace(ctx, tokenPrefix+name, digest, func(before string) audit.Record {
			done := map[bool]string{true: "made", false: "replaced"}[before == ""]
			if digest == "" {
				done = "removed"
			}
			return audit.Record{
				Kind: audit.KindUser, Outcome: audit.Done, Where: audit.Where{Kind: "token", Name: audit.Shown(name)},
				Reason: audit.Shown("the token was " + done + what),
			}
		})
	}
	var gone []string
	for _, name := range c.recorder.Names() {
		if name, ok := strings.CutPrefix(name, tokenPrefix); ok && !slices.ContainsFunc(known, func(g grant) bool { return g.Name == name }) {
			gone = append(gone, name)
		}
	}
	slices.Sort(gone)
	for _, name := range gone {
		if err := replace(name, "", ""); err != nil {
			return err
		}
	}
	for _, g := range slices.SortedFunc(slices.Values(known), func(a, b grant) int { return strings.Compare(a.Name, b.Name) }) {
		may := map[registry.Role]string{registry.Pull: "pull", registry.Push: "release and push", registry.Admin: "administer"}[g.Role]
		if err := replace(g.Name, sumOf(fmt.Appendf(nil, "%x %d", g.Sum, g.Role)), "; it may "+may); err != nil {
			return err
		}
	}
	return nil
}

// configurationType is the media type of the statement of a record about a configuration.
const configurationType = "application/vnd.colophon.configuration.v1+json"

// configurationStatement says which configuration counts. Digests are sha256:HEX.
type configurationStatement struct {
	Configuration string            `json:"configuration"`   // of the file
	Files         map[string]string `json:"files,omitempty"` // of the files that it names, by member
}

// statement returns the statement about the configuration, JSON; nil if there is none. Files with secrets are
// not in it.
func (p *platform) statement() ([]byte, error) {
	if p.file.raw == nil {
		return nil, nil
	}
	s := configurationStatement{Configuration: sumOf(p.file.raw), Files: map[string]string{}}
	if p.outside != nil {
		s.Files["trustedRoot"], s.Files["signingConfig"] = sumOf(p.outside.TrustedRoot), sumOf(p.outside.SigningConfig)
	}
	for member, policy := range map[string]string{"log.witnesses": p.file.witnesses.Policy, "audit.witnesses": p.file.auditWitnesses.Policy} {
		if policy != "" {
			s.Files[member] = sumOf([]byte(policy))
		}
	}
	if a := p.file.TLS.ACME; a != nil {
		switch roots, err := readACMERoots(*a); {
		case err != nil:
			return nil, err
		case roots != nil:
			s.Files["tls.acme.caFile"] = sumOf(roots)
		}
	}
	return json.Marshal(s)
}

// configure records that the configuration of fresh counts now, and then records as it says. former is the file of
// the one before. If it fails, nothing may change.
func (c *changes) configure(ctx context.Context, fresh *platform, former []byte) error {
	if c == nil {
		return nil
	}
	ctx, cancel := context.WithTimeout(ctx, changeTimeout)
	defer cancel()
	c.mu.Lock()
	defer c.mu.Unlock()
	now := fresh.file.Audit
	if err := c.hide(now.Private); err != nil { // whatever can fail comes before the record
		return err
	}
	if err := c.configuration(ctx, fresh, "changed: "+strings.Join(changedMembers(former, fresh.file.raw), ", ")); err != nil {
		return errors.Join(err, c.hide(c.private))
	}
	c.private = now.Private
	return c.recorder.Change(now.Private, now.Required)
}

// configuration records that the configuration of p counts, if another one counted before.
func (c *changes) configuration(ctx context.Context, p *platform, why string) error {
	raw, err := p.statement()
	if err != nil {
		return err
	}
	act := audit.Record{Kind: audit.KindConfig, Outcome: audit.Done, Reason: audit.Shown(why)}
	digest := ""
	if raw != nil {
		digest, act.Statement = sumOf(raw), &audit.Statement{MediaType: configurationType, Data: raw}
	}
	return c.recorder.Replace(ctx, "configuration", digest, func(before string) audit.Record {
		act.Basis.Before = before
		return act
	})
}

// changedMembers returns the names of the members that differ in two configuration files; "files that it names" if
// none does.
func changedMembers(before, now []byte) (names []string) {
	var a, b map[string]json.RawMessage
	_, _ = json.Unmarshal(before, &a), json.Unmarshal(now, &b) // both were read before, or there is none
	for name := range b {
		if !bytes.Equal(a[name], b[name]) {
			names = append(names, name)
		}
	}
	for name := range a {
		if _, there := b[name]; !there {
			names = append(names, name)
		}
	}
	if slices.Sort(names); len(names) == 0 {
		return []string{"files that it names"}
	}
	return names
}

// collect sends what colophond enrol recorded.
func (c *changes) collect() {
	if c == nil {
		return
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	if err := c.recorder.Collect(filepath.Join(c.dir, leftDir)); err != nil {
		c.log.Error("a record of colophond enrol was not read", "error", err)
	}
}

// leaver returns what records the acts of another command than serve. data is the platform's data directory.
func leaver(data string) (*recorder.Leaver, error) {
	dir := filepath.Join(data, changesDir)
	if err := durable.MkdirAll(dir, 0o700); err != nil {
		return nil, err
	}
	dir, err := owned.Dir(dir)
	if err != nil {
		return nil, err
	}
	key, err := recorder.Key(filepath.Join(dir, recorderKey), func() error { return nil })
	if err != nil {
		return nil, err
	}
	var private []string
	raw, err := owned.ReadFile(filepath.Join(dir, privateFile))
	if err == nil {
		err = strict.UnmarshalKnown(raw, limits.Request, &private)
	}
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return nil, err
	}
	return recorder.NewLeaver(filepath.Join(dir, leftDir), key, roleServe, private)
}

// enrolled returns the record of an enrolment.
func enrolled(c EnrolConfig, e *enrolment) audit.Record {
	r := audit.Record{Kind: audit.KindEnrolment, Outcome: audit.Done, Where: audit.Where{Kind: "role", Name: audit.Shown(e.Role)}}
	r.By.User = audit.Shown(operator())
	if len(c.Hosts) > 0 {
		r.Reason = audit.Shown(printable.Cut(printable.Line("for the host "+strings.Join(c.Hosts, ", ")), audit.MaxText-8))
	}
	for _, credentials := range []*peer.Credentials{e.Door, e.Asker} {
		if credentials == nil {
			continue
		}
		if block, _ := pem.Decode(credentials.Cert); block != nil {
			r.Evidence = append(r.Evidence, sumOf(block.Bytes))
		}
	}
	return r
}

// operator returns the name of the user who started this program: the one who logged in, also with sudo.
func operator() string {
	uid := strconv.Itoa(os.Getuid())
	if raw, err := os.ReadFile("/proc/self/loginuid"); err == nil { // proc(5); 2^32-1: nobody logged in
		if login := strings.TrimSpace(string(raw)); login != strconv.FormatUint(1<<32-1, 10) && login != "" {
			uid = login
		}
	}
	if u, err := user.LookupId(uid); err == nil {
		return u.Username
	}
	return "uid " + uid
}

func sumOf(data []byte) string { return digest.FromBytes(data).String() }
