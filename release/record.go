package release

import (
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"hash"
	"io"
	"os"
	"path/filepath"

	"github.com/colophon-build/colophon/build"
	"github.com/colophon-build/colophon/internal/api"
	"github.com/colophon-build/colophon/internal/durable"
)

// buildLog is a build's output on its way into a file named by its own sha256.
type buildLog struct {
	dir  string
	f    *os.File
	sum  hash.Hash
	w    io.Writer
	step string
	err  error
}

func newBuildLog(dir string) (*buildLog, error) {
	f, err := os.CreateTemp(dir, ".log-")
	if err != nil {
		return nil, err
	}
	l := &buildLog{dir: dir, f: f, sum: sha256.New()}
	l.w = io.MultiWriter(f, l.sum)
	return l, nil
}

func (l *buildLog) write(e build.Event) {
	if l.err != nil {
		return
	}
	if e.Step != "" && e.Step != l.step {
		l.step = e.Step
		_, l.err = fmt.Fprintf(l.w, "%s\n", e.Step)
	}
	if e.Line != "" && l.err == nil {
		_, l.err = fmt.Fprintf(l.w, "  %s\n", e.Line)
	}
}

// keep makes the log durable and returns its hex sha256.
func (l *buildLog) keep() (string, error) {
	if l.err != nil {
		return "", l.err
	}
	sum := hex.EncodeToString(l.sum.Sum(nil))
	if err := errors.Join(l.f.Sync(), os.Rename(l.f.Name(), filepath.Join(l.dir, sum))); err != nil {
		return "", err
	}
	return sum, durable.SyncDir(l.dir)
}

func (l *buildLog) discard() {
	l.f.Close()
	os.Remove(l.f.Name()) // gone already where keep renamed it
}

// record keeps a finished release, so that its invocation id can be looked up.
func (j *run) record(rel *api.Release) error {
	data, err := json.MarshalIndent(rel, "", "  ")
	if err != nil {
		return err
	}
	return durable.WriteFile(filepath.Join(j.Dir, "records", j.id+".json"), append(data, '\n'), 0o600)
}
