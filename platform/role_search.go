package platform

import (
	"bytes"
	"context"
	"crypto/ed25519"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"os"
	"path/filepath"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/promhttp"
	"golang.org/x/mod/sumdb/note"

	"github.com/colophon-build/colophon/internal/limits"
	"github.com/colophon-build/colophon/internal/peer"
	"github.com/colophon-build/colophon/internal/strict"
	"github.com/colophon-build/colophon/platform/api"
	kept "github.com/colophon-build/colophon/platform/archive"
	"github.com/colophon-build/colophon/platform/authority/archivelog"
	"github.com/colophon-build/colophon/platform/authority/indexlog"
	"github.com/colophon-build/colophon/platform/search"
	"github.com/colophon-build/colophon/platform/zone"
	proofs "github.com/colophon-build/colophon/search"
	"github.com/colophon-build/colophon/tlog"
)

// searchSettings are the settings that serve passes to the role search.
type searchSettings struct {
	Dir         string        `json:"dir"`
	Trust       peer.Endpoint `json:"trust"`
	Registry    peer.Endpoint `json:"registry"`
	Tokens      tokens        `json:"tokens"`
	PrivatePull bool          `json:"privatePull"`
}

// searches reports whether the platform has a log of its own, whose entries can be found.
func (p *platform) searches() bool { return p.outside == nil }

func (p *platform) needsSearch() bool { return p.searches() && p.runs(roleSearch) }

func prepareSearch(p *platform, process *zone.Process) (err error) {
	s := searchSettings{Dir: process.Zone.Path("search"), Tokens: p.known, PrivatePull: p.file.Registry.PrivatePull}
	run := process.Zone.Path("run")
	if s.Trust, err = p.endpoint(run, roleSearch, roleTrust); err != nil {
		return err
	}
	if s.Registry, err = p.endpoint(run, roleSearch, roleRegistry); err != nil || !p.runs(roleRegistry) && s.Registry.Credentials == nil {
		p.log.Warn("the archive cannot be searched: the role search does not reach the registry; set roles.door to HOST:PORT of serve's host, and enrol the role trust again", "error", err)
		s.Registry = peer.Endpoint{}
	}
	process.Settings = s
	return nil
}

// runSearch is the role search. It reads the log as everybody does, and the archive of the registry,
// and holds no key: the role trust commits to the roots that it computes.
func runSearch(ctx context.Context, c zone.Child[searchSettings]) error {
	client := c.Settings.Trust.Client()
	metrics := prometheus.NewRegistry()
	of, err := logOfIndex(ctx, client)
	if err != nil {
		return err
	}
	cfg := search.Config{
		Dir:     c.Settings.Dir,
		Log:     tlog.HTTP{URL: "http://trust/api/v2", Client: client},
		Index:   tlog.HTTP{URL: "http://trust/index", Client: client},
		Append:  func(ctx context.Context, entry []byte) error { return addToIndex(ctx, client, indexlog.PathAdd, entry) },
		Metrics: metricsOf(of.Origin, metrics), Logger: c.Log,
	}
	if cfg.LogKey, cfg.IndexKey, err = keysOfIndex(of.Origin, of.PublicKey); err != nil {
		return err
	}
	service := search.New(cfg)
	mux := http.NewServeMux()
	service.Register(mux)
	mux.Handle("GET /metrics", promhttp.HandlerFor(metrics, promhttp.HandlerOpts{}))
	searches := []interface {
		Run(context.Context) error
		Ready() error
	}{service}
	if c.Settings.Registry != (peer.Endpoint{}) {
		archive, err := searchOfArchive(c, client, of, metrics)
		if err != nil {
			return err
		}
		archive.Register(mux)
		searches = append(searches, archive)
	}
	done := make(chan error, len(searches))
	for _, s := range searches {
		go func() { done <- s.Run(ctx) }()
	}
	disks := watchDisks(ctx, roleSearch, c.Dirs, c.Log)
	ready := func(ctx context.Context) error {
		err := disks.ready(ctx)
		for _, s := range searches {
			err = errors.Join(err, s.Ready())
		}
		return err
	}
	err = peer.Serve(ctx, c.Listener, c.Users, peer.Ready(peer.Allow(mux, roleAPI), ready))
	if ctx.Err() != nil { // the maps are saved when Run returns
		for range searches {
			err = errors.Join(err, <-done)
		}
	}
	return err
}

// metricsOf registers metrics of the search of the log with this origin.
func metricsOf(origin string, metrics prometheus.Registerer) prometheus.Registerer {
	return prometheus.WrapRegistererWith(prometheus.Labels{"origin": origin}, metrics)
}

// keysOfIndex returns the verifiers of a log with this origin, and of its index log.
func keysOfIndex(origin string, key []byte) (log, index note.Verifier, err error) {
	if log, err = tlog.NewVerifier(origin, ed25519.PublicKey(key)); err == nil {
		index, err = tlog.NewVerifier(proofs.IndexOrigin(origin), ed25519.PublicKey(key))
	}
	return log, index, err
}

// searchOfArchive returns the search of what the registry archived.
func searchOfArchive(c zone.Child[searchSettings], trust *http.Client, of indexlog.Of, metrics prometheus.Registerer) (*search.Archive, error) {
	registry := c.Settings.Registry.Client()
	dir := filepath.Join(c.Settings.Dir, "archive")
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return nil, err
	}
	cfg := search.ArchiveConfig{
		Config: search.Config{
			Dir:   dir,
			Log:   tlog.HTTP{URL: "http://trust" + archivelog.Path, Client: trust},
			Index: tlog.HTTP{URL: "http://trust" + archivelog.PathIndex, Client: trust},
			Append: func(ctx context.Context, entry []byte) error {
				return addToIndex(ctx, trust, archivelog.PathIndex+"entries", entry)
			},
			Metrics: metricsOf(proofs.ArchiveOrigin(of.Origin), metrics), Logger: c.Log.With("service", "archive"),
		},
		Records: func(ctx context.Context, after int64) ([][]byte, error) {
			body, err := getAtMost(ctx, registry, fmt.Sprintf("http://registry%s?after=%d", kept.PathRecords, after), api.MaxKeptBytes)
			if err != nil {
				return nil, err
			}
			var list kept.RecordList
			err = strict.UnmarshalKnown(body, api.MaxKeptBytes, &list)
			return list.Entries, err
		},
		Add: func(ctx context.Context, from int64, entries [][]byte) error {
			body, err := json.Marshal(archivelog.Records{Entries: entries})
			if err != nil {
				return err
			}
			return addToIndex(ctx, trust, fmt.Sprintf("%s?from=%d", archivelog.PathAdd, from), body)
		},
		Content: func(ctx context.Context, r proofs.Record) ([]byte, error) {
			return getAtMost(ctx, registry, "http://registry"+kept.PathContent+r.Digest, api.MaxContent)
		},
		MayRead: func(token string) bool { return c.Settings.Tokens.mayRead(token, c.Settings.PrivatePull) },
	}
	var err error
	cfg.LogKey, cfg.IndexKey, err = keysOfIndex(proofs.ArchiveOrigin(of.Origin), of.PublicKey)
	return search.NewArchive(cfg), err
}

// logOfIndex asks the role trust which log the index log is of.
func logOfIndex(ctx context.Context, client *http.Client) (of indexlog.Of, err error) {
	body, err := get(ctx, client, "http://trust"+indexlog.PathOf)
	if err != nil {
		return of, err
	}
	err = strict.UnmarshalKnown(body, limits.TrustRoot, &of)
	return of, err
}

// addToIndex has the role trust add an entry, or several, to a log.
func addToIndex(ctx context.Context, client *http.Client, path string, entry []byte) error {
	req, err := http.NewRequestWithContext(ctx, http.MethodPost, "http://trust"+path, bytes.NewReader(entry))
	if err != nil {
		return err
	}
	resp, err := client.Do(req)
	if err != nil {
		return err
	}
	defer resp.Body.Close()
	body, err := strict.Read(resp.Body, limits.Request)
	if err != nil {
		return err
	}
	if resp.StatusCode != http.StatusOK {
		return fmt.Errorf("%s: got %s: %s", path, resp.Status, bytes.TrimSpace(body))
	}
	return nil
}
