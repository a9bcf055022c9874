package platform

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"net/http"
	"net/url"
	"slices"
	"strings"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/promhttp"

	records "github.com/colophon-build/colophon/audit"
	"github.com/colophon-build/colophon/internal/durable"
	"github.com/colophon-build/colophon/internal/garbage"
	"github.com/colophon-build/colophon/internal/owned"
	"github.com/colophon-build/colophon/internal/peer"
	"github.com/colophon-build/colophon/platform/audit"
	"github.com/colophon-build/colophon/platform/registry"
	"github.com/colophon-build/colophon/platform/zone"
)

// auditConfig is the member audit of the configuration: the platform's audit ledger.
type auditConfig struct {
	Required  bool             `json:"required,omitempty"`  // releases, changes of the distrust list, and what the gate of the registry lets through, have an effect only when the ledger has recorded them
	Writers   []records.Writer `json:"writers,omitempty"`   // whose records count besides those of the platform's roles: gates and clusters
	Private   []string         `json:"private,omitempty"`   // fields that records of the platform's roles only commit to: user, image, reason. Default: user, reason
	Witnesses string           `json:"witnesses,omitempty"` // path of a witness policy, as log.witnesses: who cosigns the checkpoints of the ledger. Nothing waits for them
	Retention string           `json:"retention,omitempty"` // leaves of closed segments that are older are deleted: "8760h". Default: never
}

// check returns an error if the ledger would refuse the settings at its start.
func (c auditConfig) check() error {
	for i, w := range c.Writers {
		if _, err := records.ParseKey(w.Key); err != nil || w.Role == "" || w.Role == records.RoleLedger || slices.Contains(recordingRoles, w.Role) {
			return errors.Join(fmt.Errorf("writers: %d: expected the role of a gate or cluster, and its key, found the role %q", i+1, w.Role), err)
		}
	}
	for _, field := range c.Private {
		if !slices.Contains(records.Fields(), field) {
			return fmt.Errorf("private: expected %s, found %q", strings.Join(records.Fields(), ", "), field)
		}
	}
	_, err := audit.ParseRetention(c.Retention)
	return err
}

// recordingRoles are the roles of the platform that write to its audit ledger.
var recordingRoles = []string{roleAttestor, roleRegistry, roleTrust, roleServe}

// ledgerSettings are the settings that serve passes to the role ledger.
type ledgerSettings struct {
	Dir       string           `json:"dir"`
	Origin    string           `json:"origin"`
	Writers   []records.Writer `json:"writers"`
	Private   []string         `json:"private"`
	Retention string           `json:"retention"`
	Tokens    tokens           `json:"tokens"`
	Witnesses witnessSettings  `json:"witnesses,omitzero"`
}

func prepareLedger(p *platform, process *zone.Process) error {
	u, err := url.Parse(p.url)
	if err != nil {
		return err
	}
	c := p.file.Audit
	process.Settings = ledgerSettings{
		Dir: process.Zone.Path("audit"), Origin: records.Origin(u.Hostname()),
		Writers: c.Writers, Private: c.Private, Retention: c.Retention, Tokens: p.known, Witnesses: p.file.auditWitnesses,
	}
	process.Zone.Confine.Inet = p.file.auditWitnesses.Policy != "" // to ask them
	return nil
}

// pathAuditKey is where serve reads the ledger's key. The port does not lead there: the key of a
// ledger comes from the operator.
const pathAuditKey = "/key"

// runLedger is the role ledger.
func runLedger(ctx context.Context, c zone.Child[ledgerSettings]) (err error) {
	garbage.CollectLess(audit.Memory)
	s := c.Settings
	retention, err := audit.ParseRetention(s.Retention)
	if err != nil {
		return err
	}
	metrics := prometheus.NewRegistry()
	cosigned, err := s.Witnesses.open("audit", metrics, c.Log)
	if err != nil {
		return err
	}
	if cosigned != nil {
		defer cosigned.Close() // after the ledger
	}
	ledger, err := audit.Open(ctx, audit.Config{Dir: s.Dir, Origin: s.Origin, Writers: s.Writers, Private: s.Private, Witnesses: cosigned, Metrics: metrics, Log: c.Log})
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, ledger.Close()) }()
	c.Log.Info("verify the audit ledger with its key", "origin", s.Origin, "key", ledger.Key())
	if retention > 0 {
		go ledger.RetireDaily(ctx, retention)
	}
	mux := http.NewServeMux()
	ledger.Register(mux, s.access)
	inside := http.NewServeMux()
	inside.Handle("/", peer.Allow(mux, append(recordingRoles, roleAPI)...))
	inside.Handle("GET /metrics", peer.Allow(promhttp.HandlerFor(metrics, promhttp.HandlerOpts{}), roleAPI))
	inside.Handle("GET "+pathAuditKey, peer.Allow(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) { io.WriteString(w, ledger.Key()) }), roleServe))
	disks := watchDisks(ctx, roleLedger, c.Dirs, c.Log)
	return peer.Serve(ctx, c.Listener, c.Users, peer.Ready(inside, func(ctx context.Context) error {
		return errors.Join(disks.ready(ctx), ledger.Ready())
	}))
}

// access says what a request may do. A role enrols its own key alone, at the socket: the port passes
// no enrolment. Whoever may release reads the ledger and records his verdicts, and an administrator erases openings.
func (s ledgerSettings) access(r *http.Request) (by audit.Access) {
	for _, role := range recordingRoles {
		if peer.From(r, role) {
			by.Enrol = append(by.Enrol, role)
		}
	}
	if token, ok := strings.CutPrefix(r.Header.Get("Authorization"), "Bearer "); ok {
		name, role := s.Tokens.account(token)
		by.Account, by.Read, by.Report, by.Erase = name, role >= registry.Push, role >= registry.Push, role >= registry.Admin
	}
	return by
}

// auditKeyFile has the verifier key of the audit ledger, for operators and their clients.
const auditKeyFile = "audit.vkey"

// writeAuditKey writes the ledger's key beside client.json. It fails if another key is there: clients
// would take the ledger for a forged one.
func (p *platform) writeAuditKey(ctx context.Context) error {
	ledger, err := p.endpoint(p.dir("run"), roleServe, roleLedger)
	if err != nil {
		return err
	}
	key, err := get(ctx, ledger.Client(), "http://ledger"+pathAuditKey)
	if err != nil && !p.runs(roleLedger) && !p.file.Audit.Required {
		p.log.Warn("the audit ledger does not answer; enrol the role trust again, if its host has none", "error", err)
		return nil
	} else if err != nil {
		return fmt.Errorf("audit ledger: %w", err)
	}
	path := p.dir(auditKeyFile)
	switch old, err := owned.ReadFile(path); {
	case errors.Is(err, fs.ErrNotExist):
		return durable.CreateFile(path, append(key, '\n'), 0o644)
	case err != nil:
		return err
	case string(bytes.TrimSpace(old)) != string(key):
		return fmt.Errorf("the audit ledger has another key than %s says; restore audit/ from a backup, or remove the file if the new ledger is meant", path)
	}
	return nil
}
