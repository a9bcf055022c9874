package platform

import (
	"crypto"
	"fmt"
	"log/slog"
	"path/filepath"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/colophon-build/colophon/internal/durable"
	"github.com/colophon-build/colophon/internal/peer"
	"github.com/colophon-build/colophon/platform/recorder"
	"github.com/colophon-build/colophon/platform/zone"
)

// recorderKey is the file with the key of a role's recorder, in recording.Dir.
const recorderKey = "key.pem"

// recording are the settings with which a role records.
type recording struct {
	Ledger   peer.Endpoint `json:"ledger"` // zero: the role does not reach the ledger, and records nothing
	Dir      string        `json:"dir"`    // for key and spool
	Private  []string      `json:"private,omitempty"`
	Required bool          `json:"required"`
}

// records returns the settings with which a role of this host records. dir is a directory of the role.
func (p *platform) records(process *zone.Process, role, dir string) (s recording, err error) {
	s = recording{Dir: filepath.Join(process.Zone.Path(dir), "recorder"), Private: p.file.Audit.Private, Required: p.file.Audit.Required}
	s.Ledger, err = p.endpoint(process.Zone.Path("run"), role, roleLedger)
	if err == nil && !p.runs(roleLedger) {
		process.Zone.Confine.Inet = true
		if s.Ledger.Credentials == nil {
			err = fmt.Errorf("the enrolment of %s is from before the audit ledger: enrol it again", role)
		}
	}
	switch {
	case err == nil:
		return s, nil
	case s.Required:
		return s, fmt.Errorf("audit.required: %w", err)
	}
	p.log.Warn("a role does not reach the audit ledger, so its decisions are not recorded; set roles.door to HOST:PORT of serve's host, and enrol the role again", "role", role, "error", err)
	s.Ledger = peer.Endpoint{}
	return s, nil
}

// open opens the recorder of a role; nil if the role does not reach the ledger. close ends it.
func (s recording) open(role string, metrics prometheus.Registerer, log *slog.Logger) (r *recorder.Recorder, close func() error, err error) {
	close = func() error { return nil }
	if s.Ledger == (peer.Endpoint{}) {
		return nil, close, nil
	}
	var key crypto.Signer
	if err := durable.MkdirAll(s.Dir, 0o700); err != nil {
		return nil, close, err
	}
	if key, err = recorder.Key(filepath.Join(s.Dir, recorderKey), func() error { return nil }); err != nil {
		return nil, close, fmt.Errorf("audit: key: %w", err)
	}
	client := s.Ledger.Client()
	client.Timeout = 30 * time.Second
	r, err = recorder.New(recorder.Config{
		Role: role, Key: key, Private: s.Private, URL: "http://ledger", HTTP: client, Spool: filepath.Join(s.Dir, "spool"),
		Required: s.Required, Enrol: true, Log: log.With("service", "recorder"),
		Registerer: prometheus.WrapRegistererWith(prometheus.Labels{"role": role}, metrics),
	})
	if err != nil {
		return nil, close, err
	}
	return r, r.Close, nil
}
