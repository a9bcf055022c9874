package release

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"hash"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"strings"

	"github.com/colophon-build/colophon/internal/credential"
	"github.com/colophon-build/colophon/internal/durable"
	"github.com/colophon-build/colophon/internal/intact"
	"github.com/colophon-build/colophon/internal/lazyregexp"
	"github.com/colophon-build/colophon/platform/api"
	"github.com/colophon-build/colophon/platform/builder"
)

// maxBuildLog is the maximum size in bytes of a stored build log. BuildKit truncates a
// step's output at 2 MiB, but the build zone is not trusted to do so.
const maxBuildLog = 64 << 20

// buildLog writes a build's output to a file, which keep names by its sha256.
type buildLog struct {
	dir  string // the file's final directory
	f    *os.File
	sum  hash.Hash
	w    io.Writer
	left int // bytes that may still be written
	step string
	err  error
}

// newBuildLog creates a log in work, which is swept after a crash; keep moves it to dir.
func newBuildLog(work, dir string) (*buildLog, error) {
	f, err := os.CreateTemp(work, "log-")
	if err != nil {
		return nil, err
	}
	l := &buildLog{dir: dir, f: f, sum: sha256.New(), left: maxBuildLog}
	l.w = io.MultiWriter(f, l.sum)
	return l, nil
}

func (l *buildLog) write(e builder.Event) {
	if e.Done {
		return
	}
	if e.Step != "" && e.Step != l.step {
		l.step = e.Step
		l.line(e.Step + "\n")
	}
	if e.Line != "" {
		l.line("  " + e.Line + "\n")
	}
}

func (l *buildLog) line(s string) {
	s = credential.Text(s) // everybody can read the log
	if l.err != nil || l.left == 0 {
		return
	}
	if len(s) > l.left {
		l.left, s = 0, fmt.Sprintf("(the log is truncated here, at %d bytes)\n", maxBuildLog-l.left)
	} else {
		l.left -= len(s)
	}
	_, l.err = io.WriteString(l.w, s)
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
	os.Remove(l.f.Name()) // fails if keep has renamed it, which is fine
}

// record stores a finished release, so that it can be looked up by the invocation id in
// its provenance. If an earlier run has stored it, that record stays.
func (j *run) record(rel *api.Release) error {
	id, ok := strings.CutPrefix(rel.Invocation, j.URL+api.PathReleases+"/")
	if !ok || !idGrammar.MatchString(id) {
		return fmt.Errorf("provenance of %s: invocation id: got %q, want that of a release of this platform", rel.Digest, rel.Invocation)
	}
	data, err := json.MarshalIndent(rel, "", "  ")
	if err != nil {
		return err
	}
	err = durable.CreateFile(filepath.Join(j.Dir, "records", id+".json"), append(data, '\n'), 0o600)
	if errors.Is(err, fs.ErrExist) {
		return nil
	}
	return err
}

// idGrammar matches the ids that newID makes.
var idGrammar = lazyregexp.New(`^[0-9a-f]{32}$`)

// Scrub compares the files of finished releases in dir, a Config.Dir, with their names.
func Scrub(ctx context.Context, r *intact.Report, dir string) error {
	return intact.Named(ctx, r, filepath.Join(dir, "logs"), nil)
}

// keepFile writes data to a file in dir that is named by its hex sha256, and returns
// that name.
func keepFile(dir string, data []byte) (string, error) {
	name := hexSum(data)
	return name, durable.WriteFile(filepath.Join(dir, name), data, 0o600)
}

func hexSum(data []byte) string {
	sum := sha256.Sum256(data)
	return hex.EncodeToString(sum[:])
}
