package audit

import (
	"cmp"
	"context"
	"crypto/sha256"
	"crypto/subtle"
	"errors"
	"fmt"
	"log/slog"
	"net/http"
	"strings"
	"time"

	"github.com/colophon-build/colophon/internal/garbage"
	"github.com/colophon-build/colophon/internal/limits"
	"github.com/colophon-build/colophon/internal/owned"
	"github.com/colophon-build/colophon/internal/ports"
	"github.com/colophon-build/colophon/internal/strict"
	"github.com/colophon-build/colophon/internal/strict/documents"

	records "github.com/colophon-build/colophon/audit"
)

// Settings are the configuration file of colophond audit. docs/audit.md has the manual.
type Settings struct {
	Origin    string           `json:"origin,omitempty"`    // name of the ledger in its checkpoints, such as audit.example.com; required; cannot change
	Dir       string           `json:"dir,omitempty"`       // directory of the ledger; required
	Writers   []records.Writer `json:"writers,omitempty"`   // whose records count
	Tokens    string           `json:"tokens,omitempty"`    // file with the tokens of those who read the ledger, and of administrators; required
	Retention string           `json:"retention,omitempty"` // leaves of closed segments that are older are deleted: "8760h"; absent: never

	ports.Settings
}

// ReadSettings reads a configuration file, YAML or JSON.
func ReadSettings(path string) (s Settings, err error) {
	err = documents.ReadFile(path, limits.Request, &s)
	return s, err
}

// Check completes the settings with the defaults, and returns the retention; 0: for ever.
func (s *Settings) Check() (retention time.Duration, err error) {
	if s.Origin == "" || s.Dir == "" || s.Tokens == "" {
		return 0, errors.New("expected origin, dir and tokens")
	}
	if retention, err = ParseRetention(s.Retention); err != nil {
		return 0, err
	}
	return retention, s.Settings.Check("127.0.0.1:5040", "127.0.0.1:5041")
}

// ParseRetention reads how old a leaf may be; 0: it stays for ever.
func ParseRetention(s string) (retention time.Duration, err error) {
	if s == "" {
		return 0, nil
	}
	if retention, err = time.ParseDuration(s); err != nil || retention < time.Hour {
		return 0, fmt.Errorf("retention: expected a duration of an hour or more, such as \"8760h\", found %q", s)
	}
	return retention, nil
}

// accounts are who may read the ledger, by name.
type accounts struct {
	Readers map[string]string `json:"readers"` // tokens
	Admins  map[string]string `json:"admins"`  // tokens of those who may also erase openings

	Reporters map[string]string `json:"reporters"` // tokens of those who may record their own verdicts, and read nothing
}

func readAccounts(path string) (a accounts, err error) {
	raw, err := owned.ReadSecret(path)
	if err != nil {
		return a, fmt.Errorf("tokens: %w", err)
	}
	if strict.UnmarshalKnown(raw, limits.Request, &a) != nil {
		return a, fmt.Errorf(`tokens: %s: expected {"readers": {NAME: TOKEN}, "admins": {NAME: TOKEN}, "reporters": {NAME: TOKEN}}`, path) // no error that could quote it
	}
	for _, list := range []map[string]string{a.Readers, a.Admins, a.Reporters} {
		for name, token := range list {
			if name == "" || len(token) < 20 {
				return a, fmt.Errorf("tokens: %s: expected names, and tokens of 20 characters or more", path)
			}
		}
	}
	return a, nil
}

// access says what the bearer token of a request allows.
func (a accounts) access(r *http.Request) Access {
	token, ok := strings.CutPrefix(r.Header.Get("Authorization"), "Bearer ")
	if !ok {
		return Access{}
	}
	sum := sha256.Sum256([]byte(token))
	has := func(list map[string]string) (name string) {
		for each, known := range list {
			if want := sha256.Sum256([]byte(known)); subtle.ConstantTimeCompare(sum[:], want[:]) == 1 {
				name = each
			}
		}
		return name
	}
	reader, admin, reporter := has(a.Readers), has(a.Admins), has(a.Reporters)
	return Access{Account: cmp.Or(admin, reader, reporter), Read: reader != "" || admin != "", Erase: admin != "", Report: reporter != "" || admin != ""}
}

// Memory is how many bytes the process of a ledger may have before it collects more garbage. With less collecting,
// a record takes a quarter less of a processor.
const Memory = 512 << 20

// Serve keeps a ledger until ctx ends.
func Serve(ctx context.Context, s Settings, log *slog.Logger) (err error) {
	garbage.CollectLess(Memory)
	retention, err := s.Check()
	if err != nil {
		return err
	}
	known, err := readAccounts(s.Tokens)
	if err != nil {
		return err
	}
	metrics := ports.Metrics()
	l, err := Open(ctx, Config{Dir: s.Dir, Origin: s.Origin, Writers: s.Writers, Metrics: metrics, Log: log})
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, l.Close()) }()
	log.Info("this audit ledger takes records; verify it with its key", "origin", s.Origin, "key", l.Key())
	if retention > 0 {
		go l.RetireDaily(ctx, retention)
	}
	mux := http.NewServeMux()
	l.Register(mux, known.access)
	return ports.Serve(ctx, s.Settings, mux, ports.Checks(metrics, func() string {
		if err := l.Ready(); err != nil {
			return err.Error()
		}
		return ""
	}), log)
}

// RetireDaily deletes the leaves of closed segments that are older than age, once a day until ctx ends.
func (l *Ledger) RetireDaily(ctx context.Context, age time.Duration) {
	for ctx.Err() == nil {
		if err := l.Retire(ctx, age); err != nil && ctx.Err() == nil {
			l.cfg.Log.Error("old segments of the audit ledger are not deleted", "error", err)
		}
		select {
		case <-time.After(24 * time.Hour):
		case <-ctx.Done():
		}
	}
}
