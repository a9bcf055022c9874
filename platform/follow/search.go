package follow

import (
	"context"
	"crypto/ed25519"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"net/http"
	"os"
	"path/filepath"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/colophon-build/colophon/internal/logkey"
	"github.com/colophon-build/colophon/internal/owned"
	"github.com/colophon-build/colophon/internal/ports"
	"github.com/colophon-build/colophon/internal/strict"
	"github.com/colophon-build/colophon/monitor"
	"github.com/colophon-build/colophon/platform/authority/indexlog"
	"github.com/colophon-build/colophon/platform/authority/tiles"
	"github.com/colophon-build/colophon/platform/authority/witnesses"
	"github.com/colophon-build/colophon/platform/search"
	proofs "github.com/colophon-build/colophon/search"
	"github.com/colophon-build/colophon/tlog"
	"github.com/colophon-build/colophon/tlog/witness"
)

const (
	keyFile   = "index.pem"  // in Settings.Dir: key of all index logs
	recordEnd = ".vkey"      // after the name of the directory of a log: the record of its index log
	oldRecord = "index.vkey" // the same in that directory, by older releases
	indexWait = time.Second  // for a quorum of witnesses, before a new state is answered from
	maxPolicy = 64 << 10     // bytes of a witness policy
)

// SearchSettings say that the logs can be searched. The follower's key signs the index logs: whoever
// has the log can audit them.
type SearchSettings struct {
	Name      string `json:"name,omitempty"`      // of the follower, such as example.org/follow: the index log of ORIGIN is NAME/ORIGIN/index; empty: no search
	Witnesses string `json:"witnesses,omitempty"` // file with the witness policy (C2SP tlog-policy) for the index logs

	ports.Settings
}

// check completes the settings with the defaults.
func (s *SearchSettings) check(health string) (*tlog.WitnessPolicy, error) {
	if s.Health != "" {
		return nil, errors.New("health: the role has one, beside search")
	}
	s.Health = health
	if err := s.Settings.Check("127.0.0.1:5030", health); err != nil {
		return nil, err
	}
	if s.Witnesses == "" {
		return nil, nil
	}
	text, err := strict.ReadFile(s.Witnesses, maxPolicy)
	if err != nil {
		return nil, fmt.Errorf("witnesses: %w", err)
	}
	policy, err := tlog.ParseWitnessPolicy(text)
	if err != nil {
		return nil, err
	}
	for _, w := range policy.Witnesses {
		if err := witness.CheckURL(w.URL); err != nil {
			return nil, fmt.Errorf("witness %s: URL: %w", w.Name, err)
		}
	}
	return policy, nil
}

// indexOrigin returns the origin of the index log of a log.
func (s *SearchSettings) indexOrigin(log string) string {
	return s.Name + "/" + proofs.IndexOrigin(log)
}

// indexed is a log that can be searched.
type indexed struct {
	search  *search.Service
	index   *indexlog.Server
	cosigns *witnesses.Set // nil: nobody
}

// searches are all logs that can be searched.
type searches struct {
	mux  *http.ServeMux
	logs []*indexed
}

// openSearches opens the index of each log in dir.
func openSearches(p *plan, dir string, logs []*monitor.Followed, metrics prometheus.Registerer, log *slog.Logger) (_ *searches, err error) {
	s := &searches{mux: http.NewServeMux()}
	defer func() {
		if err != nil {
			err = errors.Join(err, s.close())
		}
	}()
	if dir, err = owned.Dir(dir); err != nil {
		return nil, err
	}
	key, err := openKey(dir)
	if err != nil {
		return nil, err
	}
	keys := ""
	for _, l := range logs {
		vkey, err := s.open(p, filepath.Join(dir, witness.OriginHash(l.Origin())), key, l, metrics, log)
		if err != nil {
			return nil, fmt.Errorf("index of %s: %w", l.Origin(), err)
		}
		keys += vkey + "\n"
	}
	s.mux.HandleFunc("GET /keys", func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("Content-Type", "text/plain; charset=utf-8")
		_, _ = w.Write([]byte(keys)) // the client is gone
	})
	return s, nil
}

// openKey returns the follower's key. It is not created again if an index log was signed with it.
func openKey(dir string) (ed25519.PrivateKey, error) {
	path := filepath.Join(dir, keyFile)
	key, err := logkey.Read(path)
	if !errors.Is(err, fs.ErrNotExist) {
		return key, err
	}
	var signed []string
	for _, pattern := range []string{"*" + recordEnd, filepath.Join("*", oldRecord)} {
		found, err := filepath.Glob(filepath.Join(dir, pattern))
		if err != nil {
			return nil, err
		}
		signed = append(signed, found...)
	}
	if len(signed) > 0 {
		return nil, fmt.Errorf("%s is missing, but %s shows that it existed; restore it from a backup", path, signed[0])
	}
	return logkey.Create(path)
}

// open opens the index of one log, and returns the verifier key of its index log.
func (s *searches) open(p *plan, dir string, key ed25519.PrivateKey, l *monitor.Followed, metrics prometheus.Registerer, log *slog.Logger) (vkey string, err error) {
	origin, log := p.search.indexOrigin(l.Origin()), log.With("log", l.Origin())
	public := key.Public().(ed25519.PublicKey)
	signer, err := tlog.NewSigner(origin, key)
	if err != nil {
		return "", err
	}
	indexKey, err := tlog.NewVerifier(origin, public)
	if err != nil {
		return "", err
	}
	x := &indexed{}
	s.logs = append(s.logs, x)
	if p.witnesses != nil {
		if x.cosigns, err = witnesses.New(witnesses.Config{Policy: p.witnesses, Name: origin, Metrics: metrics, Log: log}); err != nil {
			return "", err
		}
	}
	x.index, err = indexlog.New(indexlog.Config{
		LogConfig: tiles.LogConfig{
			Dir: filepath.Join(dir, "index"), Record: dir + recordEnd, Signer: signer, PublicKey: public,
			Witnesses: x.cosigns, WitnessWait: indexWait, Log: log,
		},
		Of: l.Copy(), OfVerifier: l.Key(),
	})
	if err != nil {
		return "", err
	}
	cfg := search.Config{
		Dir: filepath.Join(dir, "map"), Log: l.Copy(), LogKey: l.Key(), Index: x.index.Source(), IndexKey: indexKey,
		Append:  func(ctx context.Context, entry []byte) error { _, err := x.index.Append(ctx, entry); return err },
		Metrics: prometheus.WrapRegistererWith(prometheus.Labels{"origin": l.Origin()}, metrics), Logger: log,
	}
	if err := os.Mkdir(cfg.Dir, 0o700); err != nil && !errors.Is(err, fs.ErrExist) {
		return "", err
	}
	x.search = search.New(cfg)
	one := http.NewServeMux()
	x.search.Register(one)
	x.index.Register(one)
	one.Handle("GET /", http.StripPrefix("/", tlog.Handler{Source: l.Copy()}))
	prefix := "/" + filepath.Base(dir)
	s.mux.Handle("GET "+prefix+"/", http.StripPrefix(prefix, one))
	if vkey, err = tlog.FormatLogKey(origin, public); err == nil {
		log.Info("this log can be searched", "path", prefix, "key", vkey)
	}
	return vkey, err
}

// run keeps the indexes until ctx ends.
func (x *indexed) run(ctx context.Context) { _ = x.search.Run(ctx) } // it logs why it ended, and Ready says it

// unready says which indexes contradict their logs.
func (s *searches) unready() (all []string) {
	for _, x := range s.logs {
		if err := x.search.Ready(); err != nil {
			all = append(all, err.Error())
		}
	}
	return all
}

func (s *searches) close() error {
	ctx, cancel := context.WithTimeout(context.Background(), 10*time.Second)
	defer cancel()
	var errs []error
	for _, x := range s.logs {
		if x.index != nil {
			errs = append(errs, x.index.Close(ctx))
		}
		if x.cosigns != nil {
			x.cosigns.Close()
		}
	}
	return errors.Join(errs...)
}
