package main

import (
	"context"
	"crypto"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"net/http"
	"net/url"
	"os"
	"path/filepath"
	"strings"
	"time"

	"github.com/spf13/cobra"
	"golang.org/x/mod/sumdb/note"

	"github.com/colophon-build/colophon/audit"
	"github.com/colophon-build/colophon/audit/files"
	"github.com/colophon-build/colophon/bundle"
	"github.com/colophon-build/colophon/internal/dirlock"
	"github.com/colophon-build/colophon/internal/durable"
	"github.com/colophon-build/colophon/internal/lazyregexp"
	"github.com/colophon-build/colophon/internal/limits"
	"github.com/colophon-build/colophon/internal/loopback"
	"github.com/colophon-build/colophon/internal/printable"
	"github.com/colophon-build/colophon/internal/reach"
	"github.com/colophon-build/colophon/internal/strict"
	"github.com/colophon-build/colophon/platform/api"
	"github.com/colophon-build/colophon/policy"
	"github.com/colophon-build/colophon/tlog"
)

// ledgerOptions choose the audit ledger that a command asks.
type ledgerOptions struct {
	url     string
	key     string // verifier key; empty: the one of the last time
	token   string // file
	timeout time.Duration

	witnesses policy.Witnesses
}

func (o *ledgerOptions) flags(cmd *cobra.Command, timeout time.Duration) {
	f := cmd.Flags()
	f.StringVar(&o.url, "ledger", "", "`URL` of the ledger (default: the platform that you are logged in to)")
	f.StringVar(&o.key, "key", "", "verifier `KEY` of the ledger: ORIGIN+HEX+BASE64; needed once, then remembered")
	f.StringVar(&o.token, "token-file", "", "`FILE` with the token of a reader, mode 0600 (default: that of the login, for its platform)")
	f.DurationVar(&o.timeout, "timeout", timeout, "give up after this long")
	f.IntVar(&o.witnesses.AtLeast, "witnesses", 0, "fail unless `N` of the witnesses of --witness-key have cosigned the checkpoint of the ledger")
	f.StringArrayVar(&o.witnesses.Keys, "witness-key", nil, "verifier `KEY` of a witness that you chose, NAME+HEX+BASE64; may be repeated")
	cmd.MarkFlagsRequiredTogether("witnesses", "witness-key")
	_ = cmd.MarkFlagFilename("token-file")
}

// auditLedger is a ledger that is served over HTTP. It remembers on this machine which key the
// ledger has and which checkpoint it signed last: a ledger that shows another history is found.
type auditLedger struct {
	files.HTTP
	url      string // without /audit/v1
	vkey     string
	verifier note.Verifier
	state    string // file that remembers
	seen     tlog.Checkpoint

	witnesses policy.Witnesses // must have cosigned what counts
}

// ledgerState is what this machine remembers of a ledger.
type ledgerState struct {
	Ledger     string `json:"ledger"` // URL
	Key        string `json:"key"`    // verifier key
	Checkpoint string `json:"checkpoint"`
}

// openLedger finds the ledger, its key and what was seen of it last. It sends nothing.
func (o *ledgerOptions) openLedger(ctx context.Context) (*auditLedger, error) {
	address, token, err := o.login(ctx)
	if err != nil {
		return nil, err
	}
	u, err := url.Parse(address)
	if err != nil || u.Host == "" || u.RawQuery != "" || u.User != nil || u.Scheme != "https" && (u.Scheme != "http" || !loopback.Is(u.Hostname())) {
		return nil, usageError("", "--ledger: expected https://HOST, or http on this machine, found %q", address)
	}
	if err := o.checkWitnesses(); err != nil {
		return nil, err
	}
	l := &auditLedger{url: address, witnesses: o.witnesses}
	l.HTTP.HTTP = tlog.HTTP{URL: address + api.PathAudit, Client: &http.Client{
		Transport:     withToken{token},
		CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse }, // the token is for this ledger
	}}
	dir, err := dataDir()
	if err != nil {
		return nil, err
	}
	name := sha256.Sum256([]byte(address))
	l.state = filepath.Join(dir, "audit", hex.EncodeToString(name[:16]), "seen.json")
	return l, l.remember(o.key)
}

// checkWitnesses fails if the flags name no witnesses that a checkpoint can have.
func (o *ledgerOptions) checkWitnesses() error {
	if o.witnesses.None() {
		return nil
	}
	if err := o.witnesses.Check(); err != nil {
		return usageError("", "%s", strings.TrimPrefix(err.Error(), "policy: log: "))
	}
	return nil
}

// witnessed fails unless enough witnesses of w have cosigned a checkpoint of the ledger with the verifier key vkey.
func witnessed(w policy.Witnesses, signed, vkey string) error {
	if w.None() {
		return nil
	}
	public, err := files.PublicKey(vkey)
	if err != nil {
		return err
	}
	if _, err := w.Cosigned([]string{signed}, []crypto.PublicKey{public}, time.Now().Add(bundle.ClockSkew)); err != nil {
		return &exitError{code: exitRejected, msg: "the checkpoint of the ledger: " + strings.Replace(err.Error(), "the policy demands", "expected", 1),
			hint: "witnesses may be behind or gone: try again, and ask them for their last checkpoint (colophon log gossip)"}
	}
	return nil
}

// login returns the URL and the token of the ledger. The token of the login goes to its platform only.
func (o *ledgerOptions) login(ctx context.Context) (address, token string, err error) {
	address = strings.TrimSuffix(strings.TrimSuffix(o.url, "/"), api.PathAudit)
	platform, err := configuredPlatform(ctx)
	if err != nil && (o.url == "" || o.token == "") {
		return "", "", err
	}
	if platform != nil && (address == "" || address == strings.TrimSuffix(platform.URL, "/")) {
		address, token = strings.TrimSuffix(platform.URL, "/"), platform.Token
	}
	if address == "" {
		return "", "", usageError("colophon login FILE, or name the ledger with --ledger", "which ledger? you are not logged in to a platform")
	}
	if o.token == "" {
		return address, token, nil
	}
	raw, err := readSecretFile(o.token)
	if err != nil {
		return "", "", usageError("", "--token-file: %v", err)
	}
	return address, strings.TrimSpace(string(raw)), nil
}

// readSecretFile reads a small file that only its owner may read.
func readSecretFile(path string) ([]byte, error) {
	info, err := os.Stat(path)
	if err != nil {
		return nil, err
	}
	if !info.Mode().IsRegular() || info.Mode().Perm()&0o077 != 0 && os.PathSeparator == '/' {
		return nil, fmt.Errorf("%s: expected a regular file that only its owner may read; chmod 600 %s", path, path)
	}
	return strict.ReadFile(path, limits.Request)
}

// remember sets the key and the last checkpoint. key is that of --key, or empty.
func (l *auditLedger) remember(key string) error {
	known, err := l.readState()
	if err != nil {
		return err
	}
	switch {
	case key == "" && known.Key == "":
		return usageError("ask the operator for it: a platform has it in audit.vkey of its directory, and logs it at its start, as colophond audit does", "--key is required the first time: the verifier key of the ledger %s", l.url)
	case key != "" && known.Key != "" && key != known.Key:
		return usageError("if the operator confirms that the ledger has a new key, remove "+l.state, "--key: this machine knows the ledger %s with another key, %s", l.url, known.Key)
	case key == "":
		key = known.Key
	}
	if l.verifier, err = note.NewVerifier(key); err != nil {
		return usageError("", "--key: %v", err)
	}
	l.vkey, l.seen = key, tlog.Checkpoint{Origin: l.verifier.Name(), Root: tlog.EmptyRoot()}
	if known.Checkpoint != "" {
		l.seen, err = tlog.OpenCheckpoint([]byte(known.Checkpoint), l.verifier)
	}
	return err
}

func (l *auditLedger) readState() (s ledgerState, err error) {
	raw, err := strict.ReadFile(l.state, limits.Request)
	if errors.Is(err, fs.ErrNotExist) {
		return s, nil
	}
	if err == nil {
		err = strict.UnmarshalKnown(raw, limits.Request, &s)
	}
	if err == nil && s.Ledger != l.url {
		err = fmt.Errorf("expected the ledger %s, found %q", l.url, s.Ledger)
	}
	if err != nil {
		return s, fmt.Errorf("%s: %w", l.state, err)
	}
	return s, nil
}

// advance fails unless the checkpoint extends the newest checkpoint that this machine has seen. It then stores the
// checkpoint. If storing fails, that is a fault of this machine and none of the ledger.
func (l *auditLedger) advance(ctx context.Context, signed string, cp tlog.Checkpoint) error {
	if err := witnessed(l.witnesses, signed, l.vkey); err != nil {
		return err
	}
	if err := tlog.Extends(ctx, l, l.seen, cp); err != nil {
		return err
	}
	local := func(err error) error {
		return &exitError{code: exitUndecided, msg: fmt.Sprintf("cannot remember the checkpoint of the ledger %s: %v", l.url, err)}
	}
	dir := filepath.Dir(l.state)
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return local(err)
	}
	lock, err := dirlock.Wait(dir)
	if err != nil {
		return local(err)
	}
	defer lock.Release()
	// Another command may have seen more in the meantime.
	known, err := l.readState()
	if err != nil {
		return local(err)
	}
	if known.Checkpoint != "" {
		other, err := tlog.OpenCheckpoint([]byte(known.Checkpoint), l.verifier)
		if err != nil {
			return local(fmt.Errorf("%s: %w", l.state, err))
		}
		if other.Size > cp.Size {
			l.seen = cp
			return tlog.Extends(ctx, l, cp, other)
		}
		if err := tlog.Extends(ctx, l, other, cp); err != nil {
			return err
		}
	}
	raw, err := json.Marshal(ledgerState{l.url, l.vkey, signed})
	if err != nil {
		return err
	}
	l.seen = cp
	if err := durable.WriteFile(l.state, raw, 0o600); err != nil {
		return local(err)
	}
	return nil
}

// fetch returns one answer, whatever its status, and its body.
func (l *auditLedger) fetch(ctx context.Context, path string) (*http.Response, []byte, error) {
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, l.url+api.PathAuditRecords+path, nil)
	if err != nil {
		return nil, nil, err
	}
	resp, err := l.Client.Do(req)
	if err != nil {
		return nil, nil, reach.Explain(err)
	}
	defer resp.Body.Close()
	body, err := strict.Read(resp.Body, audit.MaxAnswer)
	return resp, body, reach.Explain(err)
}

// ask returns the proven records of one answer.
func (l *auditLedger) ask(ctx context.Context, path string, f audit.Filter) (*audit.Answer, []audit.Proven, error) {
	var resp *http.Response
	var body []byte
	err := reach.Reads("the ledger").Do(ctx, func() (err error) {
		resp, body, err = l.fetch(ctx, path)
		if err == nil && resp.StatusCode == http.StatusServiceUnavailable {
			err = reach.Busy{RetryAfter: resp.Header.Get("Retry-After")}
		}
		return err
	})
	if _, busy := errors.AsType[reach.Busy](err); err != nil && !busy {
		return nil, nil, unread{err}
	}
	said := printable.Line(printable.Cut(strings.TrimSpace(string(body)), 500))
	switch resp.StatusCode {
	case http.StatusOK:
	case http.StatusBadRequest:
		return nil, nil, usageError("", "the ledger %s refuses the question: %s", l.url, said)
	case http.StatusUnauthorized, http.StatusForbidden:
		return nil, nil, &exitError{code: exitUndecided, msg: fmt.Sprintf("ledger %s: %s: %s", l.url, resp.Status, said), hint: "ask its operator for the token of a reader, and name its file with --token-file"}
	default:
		return nil, nil, unread{fmt.Errorf("got %s: %s", resp.Status, said)}
	}
	var a audit.Answer
	if err := strict.UnmarshalKnown(body, audit.MaxAnswer, &a); err != nil {
		return nil, nil, unread{err}
	}
	proven, cp, err := a.Verify(f, l.verifier)
	if err != nil {
		return nil, nil, fmt.Errorf("the answer proves nothing: %w", err)
	}
	return &a, proven, l.advance(ctx, a.Checkpoint, cp)
}

// recordName matches an index, or an ID that is long enough to mean one record.
var recordName = lazyregexp.New(`^([0-9]{1,19}|sha256:[0-9a-f]{12,64})$`)

// getRecord opens the ledger and returns its one record with an index or an ID. Its error has the exit code.
func (o *ledgerOptions) getRecord(ctx context.Context, name string) (*audit.Answer, *audit.Proven, error) {
	ctx, cancel := withTimeout(ctx, o.timeout)
	defer cancel()
	ledger, err := o.openLedger(ctx)
	if err != nil {
		return nil, nil, err
	}
	a, p, err := ledger.get(ctx, name)
	return a, p, ledger.exit(err)
}

// get returns the one record with an index or an ID.
func (l *auditLedger) get(ctx context.Context, name string) (*audit.Answer, *audit.Proven, error) {
	if !recordName.MatchString(name) {
		return nil, nil, usageError("", "expected an index, or sha256: and at least 12 hex digits, found %q", name)
	}
	a, proven, err := l.ask(ctx, "/"+url.PathEscape(name), audit.Filter{})
	if err != nil {
		return nil, nil, err
	}
	if len(proven) != 1 {
		return nil, nil, fmt.Errorf("expected one record, found %d", len(proven))
	}
	p := &proven[0]
	if name != fmt.Sprint(p.Index) && (!strings.HasPrefix(name, "sha256:") || !strings.HasPrefix(p.Leaf.ID(), name)) {
		return nil, nil, fmt.Errorf("expected the record %s, found entry %d, %s", name, p.Index, p.Leaf.ID())
	}
	return a, p, nil
}

// exit returns the error of a command that asks a ledger, with its exit code.
func (l *auditLedger) exit(err error) error {
	if _, isExit := errors.AsType[*exitError](err); err == nil || isExit {
		return err
	}
	_, status := errors.AsType[*tlog.StatusError](err)
	_, network := errors.AsType[*url.Error](err)
	if status || network || errors.Is(err, errUnread) || errors.Is(err, context.Canceled) || errors.Is(err, context.DeadlineExceeded) {
		return &exitError{code: exitUndecided, msg: fmt.Sprintf("ledger %s: %v", l.url, err)}
	}
	return &exitError{code: exitRejected, msg: fmt.Sprintf("ledger %s: %v", l.url, err),
		hint: "keep this answer, and " + l.state + ": a ledger that contradicts what it signed must explain itself"}
}

// withToken sends the token of a reader.
type withToken struct{ token string }

func (t withToken) RoundTrip(r *http.Request) (*http.Response, error) {
	if t.token != "" {
		r = r.Clone(r.Context())
		r.Header.Set("Authorization", "Bearer "+t.token)
	}
	return http.DefaultTransport.RoundTrip(r)
}
