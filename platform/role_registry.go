package platform

import (
	"context"
	"encoding/json"
	"errors"
	"log/slog"
	"net/http"
	"sync"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/promhttp"

	"github.com/colophon-build/colophon/internal/peer"
	"github.com/colophon-build/colophon/platform/archive"
	"github.com/colophon-build/colophon/platform/registry"
	"github.com/colophon-build/colophon/platform/verdicts"
	"github.com/colophon-build/colophon/platform/zone"
)

// registrySettings are the settings that serve passes to the registry.
type registrySettings struct {
	URL         string   `json:"url"`
	Dir         string   `json:"dir"`
	Archive     string   `json:"archive"` // directory
	Tokens      tokens   `json:"tokens"`
	PrivatePull bool     `json:"privatePull"`
	Mutable     []string `json:"mutable"`

	Recording recording `json:"recording"` // of what the gate decides

	Gate *gateConfig `json:"gate,omitempty"` // the files are read by serve, which hands on what is in them
}

func prepareRegistry(p *platform, process *zone.Process) error {
	var recording recording
	if p.file.Registry.Gate != nil {
		var err error
		if recording, err = p.records(process, roleRegistry, "registry"); err != nil {
			return err
		}
	}
	process.Settings = registrySettings{
		URL: p.url, Dir: process.Zone.Path("registry"), Archive: process.Zone.Path("archive"), Tokens: p.known,
		PrivatePull: p.file.Registry.PrivatePull, Mutable: p.file.Registry.Mutable, Gate: p.file.Registry.Gate, Recording: recording,
	}
	process.Updates = p.gate.updates
	return nil
}

func runRegistry(ctx context.Context, c zone.Child[registrySettings]) (err error) {
	s := c.Settings
	metrics := prometheus.NewRegistry()
	kept, err := archive.Open(archive.Config{Dir: s.Archive, Metrics: metrics, Log: c.Log})
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, kept.Close()) }()
	config := registry.Config{
		URL: s.URL, Dir: s.Dir, Authorize: s.Tokens.account,
		AnonymousPull: !s.PrivatePull, Mutable: s.Mutable,
		Archive: kept.Manifest, Log: c.Log, Registerer: metrics,
	}
	var acts verdicts.Acts
	if s.Gate != nil {
		config.Gate = &registry.Gate{Audit: s.Gate.Mode == "audit", Memory: int64(s.Gate.Memory) << 20}
		ledger, closeLedger, err := s.Recording.open(roleRegistry, metrics, c.Log)
		if err != nil {
			return err
		}
		defer closeLedger()
		if ledger != nil {
			config.Gate.Recorder, acts = ledger, ledger
		}
	}
	reg, err := registry.New(config)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, reg.Close()) }()
	filling, stop := context.WithCancel(ctx)
	var group sync.WaitGroup
	group.Go(func() { fillArchive(filling, kept, reg, c.Log) })
	defer func() { stop(); group.Wait() }()
	ready := watchDisks(ctx, roleRegistry, c.Dirs, c.Log).ready
	if s.Gate != nil {
		l := verdicts.NewLoader(reg.Verdicts(), c.Log, nil)
		l.WithActs(acts)
		if others := s.Gate.ClusterImagePolicies; others != nil {
			l.WithClusterImagePolicies(&verdicts.ClusterImagePolicies{NoMatchPolicy: others.NoMatchPolicy, Alone: true})
		}
		go tellGate(l, c.Updates, c.Log)
		disks := ready
		ready = func(ctx context.Context) error {
			if read, _ := l.Ready(); !read {
				return errors.New("its gate has no policies or trust roots yet, so no image is served")
			}
			return disks(ctx)
		}
	}
	mux := http.NewServeMux()
	mux.Handle("/v2/", reg)
	kept.Register(mux, func(token string) (mayRead, mayAdd bool) {
		_, role := s.Tokens.account(token)
		return s.Tokens.mayRead(token, s.PrivatePull), role >= registry.Push
	})
	inside := http.NewServeMux()
	inside.Handle("/archive/", peer.Allow(kept.Inside(), roleSearch))
	inside.Handle("/", peer.Allow(mux, roleAPI))
	mux.Handle("GET /metrics", promhttp.HandlerFor(metrics, promhttp.HandlerOpts{}))
	return peer.Serve(ctx, c.Listener, c.Users, peer.Ready(inside, ready))
}

// fillArchive archives what the registry has from before it had an archive.
func fillArchive(ctx context.Context, kept *archive.Archive, reg *registry.Registry, log *slog.Logger) {
	const again = time.Hour
	for {
		err := kept.Fill(ctx, reg.ArchiveAll)
		if err == nil || ctx.Err() != nil {
			return
		}
		log.Error("some evidence is not archived yet; trying again", "in", again, "error", err)
		select {
		case <-ctx.Done():
			return
		case <-time.After(again):
		}
	}
}

// tellGate makes what serve read the policies and trust roots of the gate, as often as it changes.
func tellGate(l *verdicts.Loader, updates <-chan []byte, log *slog.Logger) {
	again := time.NewTicker(newsEvery)
	defer again.Stop()
	for {
		var data []byte
		select {
		case more, ok := <-updates:
			if !ok {
				return
			}
			data = more
		case <-again.C:
			l.Retry()
			continue
		}
		var d gateDocuments
		if err := json.Unmarshal(data, &d); err != nil {
			log.Error("policies from serve", "error", err)
			continue
		}
		if d.List != nil { // first: after a restart, nothing is answered without policies
			l.TellList(d.List.Name, d.List.Raw, d.List.Key)
		}
		l.Tell(verdicts.PolicyDocuments, d.Policies)
		if d.Roots != nil {
			l.Tell(verdicts.TrustDocuments, d.Roots)
		}
	}
}
