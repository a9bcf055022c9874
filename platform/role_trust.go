package platform

import (
	"context"
	"crypto/x509"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"net/http"
	"net/url"
	"path/filepath"
	"slices"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/promhttp"
	"k8s.io/klog/v2"

	"github.com/colophon-build/colophon/audit"
	"github.com/colophon-build/colophon/internal/keys"
	"github.com/colophon-build/colophon/internal/logs"
	"github.com/colophon-build/colophon/internal/owned"
	"github.com/colophon-build/colophon/internal/peer"
	"github.com/colophon-build/colophon/platform/authority/archivelog"
	"github.com/colophon-build/colophon/platform/authority/ca"
	"github.com/colophon-build/colophon/platform/authority/ctlog"
	"github.com/colophon-build/colophon/platform/authority/distrust"
	"github.com/colophon-build/colophon/platform/authority/indexlog"
	"github.com/colophon-build/colophon/platform/authority/issuer"
	"github.com/colophon-build/colophon/platform/authority/log"
	"github.com/colophon-build/colophon/platform/authority/root"
	"github.com/colophon-build/colophon/platform/authority/tiles"
	"github.com/colophon-build/colophon/platform/authority/tsa"
	"github.com/colophon-build/colophon/platform/authority/witnesses"
	"github.com/colophon-build/colophon/platform/recorder"
	"github.com/colophon-build/colophon/platform/release"
	"github.com/colophon-build/colophon/platform/zone"
	"github.com/colophon-build/colophon/search"
	"github.com/colophon-build/colophon/tlog"
)

// trustSettings are the settings that serve passes to the trust services.
type trustSettings struct {
	URL      string `json:"url"`
	KeyDir   string `json:"keyDir"`
	LogDir   string `json:"logDir"`
	CTDir    string `json:"ctDir"`
	IndexDir string `json:"indexDir"`

	ArchiveDir      string `json:"archiveDir"`      // of the log of the archive
	ArchiveIndexDir string `json:"archiveIndexDir"` // of its index log
	Distrust        string `json:"distrust"`        // directory of the list of what is no longer trusted

	Recording recording `json:"recording"`

	Fulcio   json.RawMessage       `json:"fulcio,omitempty"`
	Outside  *root.Outside         `json:"outside,omitempty"`
	Builders []release.BuilderInfo `json:"builders"`

	Witnesses witnessSettings `json:"witnesses,omitzero"`
}

func prepareTrust(p *platform, process *zone.Process) error {
	witnesses := p.file.witnesses
	process.Zone.Confine.Inet = p.file.Fulcio != nil || witnesses.Policy != "" // to ask outside issuers for their keys, and witnesses
	z := process.Zone
	recording, err := p.records(process, roleTrust, "distrust")
	if err != nil {
		return err
	}
	process.Settings = trustSettings{
		URL: p.url, KeyDir: z.Path("trust"), LogDir: z.Path("log"), CTDir: z.Path("ct"), IndexDir: z.Path("index"),
		ArchiveDir: z.Path("archivelog"), ArchiveIndexDir: z.Path("archiveindex"), Distrust: z.Path("distrust"), Recording: recording,
		Fulcio: p.file.Fulcio, Outside: p.outside, Builders: p.builders(), Witnesses: witnesses,
	}
	return nil
}

// runTrust opens the services that hold keys and serves them. The services do not
// import each other; this function connects them.
func runTrust(ctx context.Context, c zone.Child[trustSettings]) (err error) {
	s := c.Settings
	t := &trustServices{settings: s, log: c.Log, mux: http.NewServeMux(), inside: http.NewServeMux(), metrics: prometheus.NewRegistry()}
	klog.SetSlogLogger(logs.Library(c.Log)) // Tessera logs with klog
	defer func() { err = errors.Join(err, t.close()) }()
	documents := root.Config{KeyDir: s.KeyDir, Dir: filepath.Join(s.KeyDir, "tuf"), URL: s.URL, Outside: s.Outside, Logger: c.Log}
	for _, b := range s.Builders {
		documents.Builders = append(documents.Builders, b.Builder)
	}
	// The logs first: if their keys were lost, they do not start, and no other service
	// has created a new key by then.
	var ct *ctlog.Service
	if documents.Outside == nil {
		if documents.Issuers, err = ca.OutsideIssuers(s.Fulcio, s.URL); err != nil {
			return err
		}
		if ct, err = t.openLogs(&documents); err != nil {
			return err
		}
	}
	tokens, err := issuer.New(issuer.Config{Dir: s.KeyDir, URL: s.URL})
	if err != nil {
		return err
	}
	tokens.Register(t.mux)
	if documents.Outside == nil {
		if err := t.openAuthorities(&documents, tokens, ct); err != nil {
			return err
		}
	}
	changes := distrust.Config{KeyDir: s.KeyDir, Dir: s.Distrust, URL: s.URL, Log: c.Log.With("service", "distrust")}
	ledger, closeLedger, err := s.Recording.open(roleTrust, t.metrics, c.Log)
	if err != nil {
		return err
	}
	t.closers = append(t.closers, func(context.Context) error { return closeLedger() })
	if ledger != nil {
		changes.Record = ledger.Record
		documents.Record = func(document []byte) error { return recordTrust(ctx, ledger, document) }
	}
	withdrawn, err := distrust.New(changes)
	if err != nil {
		return err
	}
	withdrawn.Register(t.mux)
	go withdrawn.Run(ctx.Done())
	published, err := root.New(documents)
	if err != nil {
		return err
	}
	if err := keys.Seal(s.KeyDir); err != nil {
		return err
	}
	published.Register(t.mux)
	go published.Run(ctx)

	// The attestor alone gets tokens, search alone adds to the index log, and the api, which checks
	// tokens, adds to the list of what is no longer trusted. All the rest is public.
	inside := t.inside
	inside.Handle("POST "+issuer.PathToken, peer.Allow(tokens.Tokens(), roleAttestor))
	inside.Handle("POST "+distrust.Path, peer.Allow(withdrawn.Adding(), roleAPI))
	inside.Handle("GET /metrics", peer.Allow(promhttp.HandlerFor(t.metrics, promhttp.HandlerOpts{}), roleAPI))
	inside.Handle("/", peer.Allow(t.mux, roleAPI, roleAttestor, roleSearch, roleServe))
	disks := watchDisks(ctx, roleTrust, c.Dirs, c.Log)
	return peer.Serve(ctx, c.Listener, c.Users, peer.Ready(inside, func(ctx context.Context) error {
		return errors.Join(disks.ready(ctx), t.witnessed())
	}))
}

// recordTrust records that another trust document counts. At the first start, the ledger starts at the same time.
func recordTrust(ctx context.Context, ledger *recorder.Recorder, document []byte) error {
	ctx, cancel := context.WithTimeout(ctx, startTimeout)
	defer cancel()
	now := sumOf(document)
	return ledger.Replace(ctx, "trust", now, func(before string) audit.Record {
		return audit.Record{Kind: audit.KindTrust, Outcome: audit.Done, Basis: audit.Basis{Trust: now, Before: before}}
	})
}

// trustServices are the services opened so far.
type trustServices struct {
	settings trustSettings
	log      *slog.Logger
	mux      *http.ServeMux // public
	inside   *http.ServeMux // for some roles
	metrics  *prometheus.Registry
	closers  []func(context.Context) error // in order of opening

	witnesses *witnesses.Set // of the transparency log; nil: none
}

// openLogs opens the platform's own CT log and transparency log.
func (t *trustServices) openLogs(documents *root.Config) (*ctlog.Service, error) {
	s := t.settings
	u, err := url.Parse(s.URL)
	if err != nil {
		return nil, err
	}
	ct, err := ctlog.New(ctlog.Config{KeyDir: s.KeyDir, TileDir: s.CTDir, URL: s.URL, Log: t.log.With("service", "ctlog")})
	if err != nil {
		return nil, err
	}
	t.closers = append(t.closers, ct.Close)
	ct.Register(t.mux)
	if t.witnesses, err = t.openWitnesses("log"); err != nil {
		return nil, err
	}
	log, err := log.New(log.Config{
		Dir: s.LogDir, KeyFile: filepath.Join(s.KeyDir, "log.pem"), Origin: u.Hostname(),
		Metrics: t.metrics, Log: t.log.With("service", "log"),
		Reserved:  func(r *http.Request) bool { return peer.From(r, roleAttestor) },
		Witnesses: t.witnesses, WitnessWait: s.Witnesses.Wait, NeedWitnesses: s.Witnesses.Required,
	})
	if err != nil {
		return nil, err
	}
	t.closers = append(t.closers, log.Close)
	log.Register(t.mux)
	if err := t.openIndex(log); err != nil {
		return nil, err
	}
	if err := t.openArchive(log); err != nil {
		return nil, err
	}
	documents.CT = root.Log{BaseURL: s.URL + "/ct", PublicKey: ct.PublicKey(), Since: ct.Since()}
	documents.Log = root.Log{Origin: log.Origin(), BaseURL: s.URL, PublicKey: log.PublicKey(), KeyID: log.KeyID(), Since: log.Created()}
	return ct, nil
}

// indexRecord is the name of the index log's record in the directory of keys.
const indexRecord = "index.vkey"

// indexWait is how long the search waits for witnesses before it answers from a new state. No
// release waits for it.
const indexWait = time.Second

// beside returns the configuration of a log beside the transparency log, but for its key. The same witnesses
// cosign it.
func (t *trustServices) beside(name, dir, record string) (cfg tiles.LogConfig, err error) {
	cfg = tiles.LogConfig{Dir: dir, Record: filepath.Join(t.settings.KeyDir, record), WitnessWait: indexWait, Log: t.log.With("service", name)}
	cfg.Witnesses, err = t.openWitnesses(name)
	return cfg, err
}

// openIndex opens the index log of the transparency log.
func (t *trustServices) openIndex(of *log.Server) error {
	origin := search.IndexOrigin(of.Origin())
	cfg := indexlog.Config{Of: of.Source(), OfVerifier: of.Verifier()}
	var err error
	if cfg.LogConfig, err = t.beside("index", t.settings.IndexDir, indexRecord); err != nil {
		return err
	}
	if cfg.Signer, cfg.PublicKey, err = of.Signer(origin); err != nil {
		return err
	}
	index, err := indexlog.New(cfg)
	if err != nil {
		return err
	}
	t.closers = append(t.closers, index.Close)
	index.Register(t.mux)
	t.inside.Handle("POST "+indexlog.PathAdd, peer.Allow(index.Add(), roleSearch))
	t.inside.Handle("GET "+indexlog.PathOf, peer.Allow(indexlog.About(of.Origin(), cfg.PublicKey), roleSearch))
	return nil
}

// Names of the records of the archive's log and its index log in the directory of keys.
const (
	archiveRecord      = "archivelog.vkey"
	archiveIndexRecord = "archiveindex.vkey"
)

// openArchive opens the log of the archive, and its index log. The role search alone reads them: who
// may read the archive asks the role search.
func (t *trustServices) openArchive(of *log.Server) error {
	origin := search.ArchiveOrigin(of.Origin())
	cfg, err := t.beside("archive", t.settings.ArchiveDir, archiveRecord)
	if err != nil {
		return err
	}
	if cfg.Signer, cfg.PublicKey, err = of.Signer(origin); err != nil {
		return err
	}
	archive, err := archivelog.New(cfg)
	if err != nil {
		return err
	}
	t.closers = append(t.closers, archive.Close)
	indexed := indexlog.Config{Of: archive.Source()}
	if indexed.LogConfig, err = t.beside("archiveindex", t.settings.ArchiveIndexDir, archiveIndexRecord); err != nil {
		return err
	}
	if indexed.OfVerifier, err = tlog.NewVerifier(origin, cfg.PublicKey); err != nil {
		return err
	}
	if indexed.Signer, indexed.PublicKey, err = of.Signer(search.IndexOrigin(origin)); err != nil {
		return err
	}
	index, err := indexlog.New(indexed)
	if err != nil {
		return err
	}
	t.closers = append(t.closers, index.Close)
	t.inside.Handle("GET "+archivelog.Path, peer.Allow(archive.Handler(archivelog.Path, archive.Source()), roleSearch))
	t.inside.Handle("GET "+archivelog.PathIndex, peer.Allow(index.Handler(archivelog.PathIndex, index.Source()), roleSearch))
	t.inside.Handle("POST "+archivelog.PathAdd, peer.Allow(archive.Add(), roleSearch))
	t.inside.Handle("POST "+archivelog.PathIndex+"entries", peer.Allow(index.Add(), roleSearch))
	return nil
}

// openAuthorities opens the platform's own CA and timestamp authority.
func (t *trustServices) openAuthorities(documents *root.Config, tokens *issuer.Service, ct *ctlog.Service) error {
	s := t.settings
	authority, err := ca.New(ca.Config{
		Dir: s.KeyDir, URL: s.URL, TokenKey: tokens.PublicKey(), AddPreChain: ct.AddPreChain,
		Outside: s.Fulcio, Log: t.log.With("service", "ca"),
	})
	if err != nil {
		return err
	}
	authority.Register(t.mux)
	timestamps, err := tsa.New(tsa.Config{Dir: s.KeyDir, Log: t.log.With("service", "tsa")})
	if err != nil {
		return err
	}
	timestamps.Register(t.mux)
	documents.CA, documents.TSA = authority.Chain(), timestamps.Chain()
	for name, chain := range map[string][]*x509.Certificate{"ca": documents.CA, "tsa": documents.TSA} {
		first := slices.MinFunc(chain, func(a, b *x509.Certificate) int { return a.NotAfter.Compare(b.NotAfter) }).NotAfter
		t.metrics.MustRegister(certificateEnd(name, func() time.Time { return first }))
	}
	return nil
}

func (t *trustServices) close() error {
	ctx, cancel := context.WithTimeout(context.Background(), 10*time.Second)
	defer cancel()
	var errs []error
	for i := len(t.closers) - 1; i >= 0; i-- {
		errs = append(errs, t.closers[i](ctx))
	}
	return errors.Join(errs...)
}

// readOutside reads the trusted root and signing config that the configuration names;
// it returns nil if the configuration names none.
func readOutside(c configFile) (*root.Outside, error) {
	if c.TrustedRoot == "" {
		return nil, nil
	}
	trusted, err := owned.ReadFile(c.TrustedRoot)
	if err != nil {
		return nil, fmt.Errorf("trustedRoot: %w", err)
	}
	signing, err := owned.ReadFile(c.SigningConfig)
	if err != nil {
		return nil, fmt.Errorf("signingConfig: %w", err)
	}
	return &root.Outside{TrustedRoot: trusted, SigningConfig: signing}, nil
}
