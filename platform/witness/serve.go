package witness

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"path/filepath"

	"golang.org/x/mod/sumdb/note"

	"github.com/colophon-build/colophon/internal/limits"
	"github.com/colophon-build/colophon/internal/ports"
	"github.com/colophon-build/colophon/internal/strict/documents"
	"github.com/colophon-build/colophon/platform/cosigner"
	"github.com/colophon-build/colophon/tlog"
)

// maxLogs limits the keys of logs.
const maxLogs = 10_000

// Settings are the configuration file of colophond witness. docs/log.md has the manual.
type Settings struct {
	Name string   `json:"name,omitempty"` // of the witness, such as example.org/witness; required
	Dir  string   `json:"dir,omitempty"`  // directory for keys and state; required
	Logs []string `json:"logs,omitempty"` // verifier keys of the logs to cosign; required

	ports.Settings
}

// ReadSettings reads a configuration file, YAML or JSON. An empty path gives no settings.
func ReadSettings(path string) (s Settings, err error) {
	if path == "" {
		return s, nil
	}
	err = documents.ReadFile(path, limits.TrustRepository, &s)
	return s, err
}

// Check completes the settings with the defaults, and returns the keys of the logs.
func (s *Settings) Check() (logs []note.Verifier, err error) {
	switch {
	case s.Name == "" || s.Dir == "":
		return nil, errors.New("a name and a directory are required: --name and --dir, or name and dir in the configuration")
	case len(s.Logs) == 0 || len(s.Logs) > maxLogs:
		return nil, fmt.Errorf("logs: expected the verifier keys of 1 to %d logs, found %d", maxLogs, len(s.Logs))
	}
	seen := map[string]bool{}
	for _, vkey := range s.Logs {
		key, err := tlog.ParseLogKey(vkey)
		if err != nil {
			return nil, fmt.Errorf("logs: %w", err)
		}
		if seen[vkey] {
			return nil, fmt.Errorf("logs: expected each key once, found that of %s twice", key.Name())
		}
		seen[vkey] = true
		logs = append(logs, key)
	}
	return logs, s.Settings.Check("127.0.0.1:5010", "127.0.0.1:5011")
}

// Serve cosigns checkpoints until ctx ends.
func Serve(ctx context.Context, s Settings, log *slog.Logger) error {
	logs, err := s.Check()
	if err != nil {
		return err
	}
	metrics := ports.Metrics()
	w, err := New(Config{Dir: s.Dir, Name: s.Name, Logs: logs, Metrics: metrics, Log: log})
	if err != nil {
		return err
	}
	log.Info("this witness cosigns; its public keys are in the file", "name", s.Name, "file", filepath.Join(s.Dir, cosigner.PublicFile))
	err = ports.Serve(ctx, s.Settings, w.Handler(), ports.Checks(metrics, func() string { return "" }), log)
	return errors.Join(err, w.Close())
}
