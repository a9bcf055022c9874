package recorder

import (
	"crypto"
	"errors"
	"os"
	"path/filepath"
	"strings"
	"time"

	"github.com/colophon-build/colophon/audit"
	"github.com/colophon-build/colophon/internal/durable"
	"github.com/colophon-build/colophon/internal/strict"
)

// Leaver signs records in a process that is not the one with the Recorder, and leaves them for that one in a
// directory: see Collect.
type Leaver struct {
	signer *audit.Signer
	dir    string
}

// NewLeaver returns a Leaver. key and role are those of the Recorder.
func NewLeaver(dir string, key crypto.Signer, role string, private []string) (*Leaver, error) {
	signer, err := audit.NewSigner(key, role, "", private)
	return &Leaver{signer, dir}, err
}

const leftSuffix = ".json" // of the files in the directory of a Leaver

// Leave signs and leaves a record. It is on the disk when Leave returns nil.
func (l *Leaver) Leave(what audit.Record) error {
	if err := durable.MkdirAll(l.dir, 0o700); err != nil {
		return err
	}
	e, err := l.signer.Seal(what, time.Now())
	if err != nil {
		return err
	}
	name := strings.TrimPrefix(audit.ID(e.Envelope), "sha256:") + leftSuffix
	return durable.CreateFile(filepath.Join(l.dir, name), e.Marshal(), 0o600)
}

// Collect takes the records that Leavers left in dir, which may be missing, to send them. A crash sends one
// twice at most, and the ledger takes it once.
func (r *Recorder) Collect(dir string) error {
	files, err := os.ReadDir(dir)
	if errors.Is(err, os.ErrNotExist) {
		return nil
	}
	errs := []error{err}
	for _, f := range files {
		if strings.HasPrefix(f.Name(), ".") || !strings.HasSuffix(f.Name(), leftSuffix) {
			continue
		}
		path := filepath.Join(dir, f.Name())
		data, err := strict.ReadFile(path, audit.MaxRequest)
		if err == nil {
			err = r.spool.add(data)
		}
		if err == nil {
			err = errors.Join(os.Remove(path), durable.SyncDir(dir))
		}
		errs = append(errs, err)
	}
	return errors.Join(errs...)
}
