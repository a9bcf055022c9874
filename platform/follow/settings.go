// Package follow is the role that watches transparency logs, without a platform: it follows
// logs, keeps verified copies of them if asked to, and reports what package monitor finds.
package follow

import (
	"cmp"
	"crypto/ed25519"
	"errors"
	"fmt"
	"net"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"github.com/sigstore/sigstore-go/pkg/root"
	"golang.org/x/mod/sumdb/note"

	"github.com/colophon-build/colophon/internal/limits"
	"github.com/colophon-build/colophon/internal/strict"
	"github.com/colophon-build/colophon/internal/strict/documents"
	"github.com/colophon-build/colophon/monitor"
	"github.com/colophon-build/colophon/platform/api"
	"github.com/colophon-build/colophon/tlog"
	"github.com/colophon-build/colophon/tlog/follow"
	"github.com/colophon-build/colophon/tlog/witness"
	"github.com/colophon-build/colophon/trust"
)

// maxLogs limits the logs of one role.
const maxLogs = 256

// Settings are the configuration file of colophond follow. docs/log.md has the manual.
type Settings struct {
	Dir   string        `json:"dir,omitempty"`   // directory for what was seen of the logs; required
	Logs  []LogSettings `json:"logs,omitempty"`  // logs to follow; required
	Trust string        `json:"trust,omitempty"` // file or directory of trust roots: the keys of logs, and who issues certificates

	Watch struct { // regular expressions that must match the whole text; without one, every entry is watched
		Identities []string `json:"identities,omitempty"` // subjects of certificates
		Issuers    []string `json:"issuers,omitempty"`    // OIDC issuers
		Sources    []string `json:"sources,omitempty"`    // URIs of source repositories
	} `json:"watch,omitzero"`
	Known struct { // releases that explain entries
		Files    []string `json:"files,omitempty"`    // JSON lines
		Platform string   `json:"platform,omitempty"` // client.json of a platform
	} `json:"known,omitzero"`
	Webhook string `json:"webhook,omitempty"` // URL for alarms, or a file with URL and headers

	Every      string `json:"every,omitempty"`      // how often logs are asked; default 30s
	Stalled    string `json:"stalled,omitempty"`    // a log that has not grown for longer is an alarm; default: never
	FromNewest bool   `json:"fromNewest,omitempty"` // skip the entries that a log has when it is followed for the first time
	Copy       bool   `json:"copy,omitempty"`       // keep verified copies of the logs in dir
	Health     string `json:"health,omitempty"`     // address of /healthz, /readyz and /metrics; default 127.0.0.1:5031

	Search SearchSettings `json:"search,omitzero"` // answer searches over the logs

	pause time.Duration // before a request to a log is repeated, for tests; 0: the default
}

// LogSettings are a log to follow.
type LogSettings struct {
	URL string `json:"url"`           // of the log; a log of Rekor v2 has its tiles below /api/v2
	Key string `json:"key,omitempty"` // verifier key: ORIGIN+HEX+BASE64; absent: a trust root has it
}

// ReadSettings reads a configuration file, YAML or JSON. An empty path gives no settings.
func ReadSettings(path string) (s Settings, err error) {
	if path == "" {
		return s, nil
	}
	err = documents.ReadFile(path, limits.Request, &s)
	return s, err
}

// plan is what Settings ask for.
type plan struct {
	watch  monitor.Watch
	hook   *monitor.Webhook // nil: none
	logs   []monitor.Log
	every  time.Duration
	health string

	search    SearchSettings      // without a name: logs cannot be searched
	witnesses *tlog.WitnessPolicy // of the index logs; nil: nobody
}

// Check reads the files that the settings name. It returns an error if the settings
// contradict themselves.
func (s *Settings) Check() error {
	_, err := s.plan()
	return err
}

func (s *Settings) plan() (p *plan, err error) {
	p = &plan{health: cmp.Or(s.Health, "127.0.0.1:5031")}
	if _, _, err := net.SplitHostPort(p.health); err != nil {
		return nil, fmt.Errorf("health: expected [HOST]:PORT, found %q", s.Health)
	}
	var stalled time.Duration
	for _, d := range []struct {
		name, value string
		least       time.Duration
		into        *time.Duration
	}{{"every", cmp.Or(s.Every, "30s"), time.Second, &p.every}, {"stalled", s.Stalled, time.Minute, &stalled}} {
		if d.value == "" {
			continue
		}
		if *d.into, err = time.ParseDuration(d.value); err != nil || *d.into < d.least {
			return nil, fmt.Errorf("%s: expected a duration of at least %s, found %q", d.name, d.least, d.value)
		}
	}
	if s.Search != (SearchSettings{}) {
		if s.Search.Name == "" {
			return nil, errors.New("search: expected the name of the follower, such as example.org/follow")
		}
		p.search = s.Search
		if p.witnesses, err = p.search.check(p.health); err != nil {
			return nil, fmt.Errorf("search: %w", err)
		}
	}
	copies := s.Copy || p.search.Name != "" // the index is made from the copy
	var roots []*trust.Root
	if s.Trust != "" {
		if roots, err = readRoots(s.Trust); err != nil {
			return nil, fmt.Errorf("trust: %w", err)
		}
	}
	if err := s.watch(&p.watch); err != nil {
		return nil, err
	}
	for _, r := range roots {
		p.watch.Roots = append(p.watch.Roots, root.TrustedMaterial(r.Material))
	}
	if s.Webhook != "" {
		if p.hook, err = monitor.NewWebhook(s.Webhook); err != nil {
			return nil, err
		}
	}
	if s.Dir == "" {
		return nil, errors.New("a directory is required: --dir, or dir in the configuration")
	}
	if len(s.Logs) == 0 || len(s.Logs) > maxLogs {
		return nil, fmt.Errorf("logs: expected 1 to %d, as URL or in the configuration, found %d", maxLogs, len(s.Logs))
	}
	for _, l := range s.Logs {
		key, tiles, err := l.find(roots)
		if err != nil {
			return nil, fmt.Errorf("logs: %s: %w", l.URL, err)
		}
		hash := witness.OriginHash(key.Name())
		if slices.ContainsFunc(p.logs, func(o monitor.Log) bool { return filepath.Base(o.Dir) == hash }) {
			return nil, fmt.Errorf("logs: expected each origin once, found %s twice", key.Name())
		}
		if p.search.Name != "" {
			if _, err := tlog.NewSigner(p.search.indexOrigin(key.Name()), make(ed25519.PrivateKey, ed25519.PrivateKeySize)); err != nil {
				return nil, fmt.Errorf("search: name: %w", err)
			}
		}
		p.logs = append(p.logs, monitor.Log{URL: l.URL, Config: follow.Config{
			Key: key, Source: follow.HTTP(tiles), Dir: filepath.Join(s.Dir, hash), FromNewest: s.FromNewest, Copy: copies, Stalled: stalled, Pause: s.pause,
		}})
	}
	if copies && s.FromNewest {
		return nil, errors.New("copy and search have all entries of a log; leave fromNewest out")
	}
	return p, nil
}

// watch reads the patterns and the known releases.
func (s *Settings) watch(w *monitor.Watch) error {
	for _, p := range []struct {
		name  string
		exprs []string
		into  *[]monitor.Pattern
	}{{"identities", s.Watch.Identities, &w.Identities}, {"issuers", s.Watch.Issuers, &w.Issuers}, {"sources", s.Watch.Sources, &w.Sources}} {
		for _, expr := range p.exprs {
			pattern, err := monitor.ParsePattern(expr)
			if err != nil {
				return fmt.Errorf("watch: %s: %w", p.name, err)
			}
			*p.into = append(*p.into, pattern)
		}
	}
	for _, path := range s.Known.Files {
		file, err := monitor.OpenFile(path)
		if err != nil {
			return fmt.Errorf("known: %w", err)
		}
		w.Known = append(w.Known, file)
	}
	if s.Known.Platform != "" {
		c, err := api.ReadConfig(s.Known.Platform)
		if err != nil {
			return fmt.Errorf("known: %w", err)
		}
		w.Known = append(w.Known, monitor.NewPlatform(c))
	}
	return w.Check()
}

// find returns the key of a log, and the URL of its tiles.
func (l LogSettings) find(roots []*trust.Root) (key note.Verifier, tiles string, err error) {
	if err := witness.CheckURL(l.URL); err != nil {
		return nil, "", err
	}
	base := strings.TrimSuffix(l.URL, "/")
	if l.Key != "" {
		key, err = tlog.ParseLogKey(l.Key)
		return key, base, err
	}
	base = strings.TrimSuffix(base, "/api/v2")
	for _, r := range roots {
		for _, known := range r.Material.RekorLogs() {
			if strings.TrimSuffix(known.BaseURL, "/") != base {
				continue
			}
			found, err := trust.LogVerifier(known)
			if err != nil {
				return nil, "", err
			}
			if key != nil && key.KeyHash() != found.KeyHash() {
				return nil, "", errors.New("the trust roots have several keys of it: choose one with key")
			}
			key = found
		}
	}
	if key == nil {
		return nil, "", errors.New("no trust root has its key, and the settings have none")
	}
	return key, base + "/api/v2", nil
}

// readRoots reads a trust root, or each in a directory whose name ends in .json.
func readRoots(path string) (roots []*trust.Root, err error) {
	info, err := os.Stat(path)
	if err != nil {
		return nil, err
	}
	files := []string{path}
	if info.IsDir() {
		if files, err = filepath.Glob(filepath.Join(path, "*.json")); err != nil {
			return nil, err
		}
	}
	for _, file := range files {
		raw, err := strict.ReadFile(file, limits.TrustRepository)
		if err != nil {
			return nil, err
		}
		r, err := trust.Parse(raw)
		if err != nil {
			return nil, fmt.Errorf("%s: %w", file, err)
		}
		roots = append(roots, r)
	}
	if len(roots) == 0 {
		return nil, fmt.Errorf("%s has no trust root", path)
	}
	return roots, nil
}
