package mirror

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"path/filepath"
	"sync"
	"time"

	"github.com/colophon-build/colophon/internal/limits"
	"github.com/colophon-build/colophon/internal/ports"
	"github.com/colophon-build/colophon/internal/strict/documents"
	"github.com/colophon-build/colophon/platform/cosigner"
	"github.com/colophon-build/colophon/tlog"
	"github.com/colophon-build/colophon/tlog/follow"
	"github.com/colophon-build/colophon/tlog/witness"
)

// maxLogs limits the logs of one mirror.
const maxLogs = 256

// Settings are the configuration file of colophond mirror. docs/log.md has the manual.
type Settings struct {
	Name  string        `json:"name,omitempty"`  // of the mirror as a cosigner, such as example.org/mirror; required
	Dir   string        `json:"dir,omitempty"`   // directory for keys and copies; required
	Logs  []LogSettings `json:"logs,omitempty"`  // logs to copy; required
	Every string        `json:"every,omitempty"` // how often logs are asked for new entries; default 10s

	ports.Settings
}

// LogSettings are a log to copy.
type LogSettings struct {
	Key string `json:"key"` // verifier key: ORIGIN+HEX+BASE64
	URL string `json:"url"` // prefix of its tiles; for a Rekor v2 log it ends in /api/v2. Empty: the log pushes its entries
}

// ReadSettings reads a configuration file, YAML or JSON. An empty path gives no settings.
func ReadSettings(path string) (s Settings, err error) {
	if path == "" {
		return s, nil
	}
	err = documents.ReadFile(path, limits.Request, &s)
	return s, err
}

// Check completes the settings with the defaults, and returns the logs.
func (s *Settings) Check() (logs []Log, every time.Duration, err error) {
	switch {
	case s.Name == "" || s.Dir == "":
		return nil, 0, errors.New("a name and a directory are required: --name and --dir, or name and dir in the configuration")
	case len(s.Logs) == 0 || len(s.Logs) > maxLogs:
		return nil, 0, fmt.Errorf("logs: expected 1 to %d, found %d", maxLogs, len(s.Logs))
	}
	if s.Every != "" {
		if every, err = time.ParseDuration(s.Every); err != nil || every < time.Second {
			return nil, 0, fmt.Errorf("every: expected a duration of at least 1s, found %q", s.Every)
		}
	}
	for _, l := range s.Logs {
		key, err := tlog.ParseLogKey(l.Key)
		if err != nil {
			return nil, 0, fmt.Errorf("logs: %w", err)
		}
		if l.URL == "" {
			logs = append(logs, Log{Key: key})
			continue
		}
		if err := witness.CheckURL(l.URL); err != nil {
			return nil, 0, fmt.Errorf("logs: %s: url: %w", key.Name(), err)
		}
		logs = append(logs, Log{key, follow.HTTP(l.URL)})
	}
	return logs, every, s.Settings.Check("127.0.0.1:5020", "127.0.0.1:5021")
}

// Serve copies and serves logs until ctx ends.
func Serve(ctx context.Context, s Settings, log *slog.Logger) error {
	logs, every, err := s.Check()
	if err != nil {
		return err
	}
	metrics := ports.Metrics()
	m, err := New(Config{Dir: s.Dir, Name: s.Name, Logs: logs, Every: every, Metrics: metrics, Log: log})
	if err != nil {
		return err
	}
	log.Info("this mirror cosigns; its public keys are in the file", "name", s.Name, "file", filepath.Join(s.Dir, cosigner.PublicFile))
	for _, l := range logs {
		if l.Source == nil {
			log.Info("this log has no URL: it has to push its entries", "origin", l.Key.Name())
		}
	}
	work, stop := context.WithCancel(ctx)
	var running sync.WaitGroup
	running.Go(func() { m.Run(work) })
	err = ports.Serve(ctx, s.Settings, m.Handler(), ports.Checks(metrics, m.Problem), log)
	stop()
	running.Wait()
	return errors.Join(err, m.Close())
}
