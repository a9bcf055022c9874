package tiles

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"

	"github.com/colophon-build/colophon/internal/durable"
	"github.com/colophon-build/colophon/tlog"
)

// Record is the path of a file, outside the directory of a log, with the log's origin and key: a verifier
// key of C2SP signed-note. It is created with the first entry. If it is there and the log is not, the log does
// not start: with its key, Tessera would begin another history.
type Record string

// Check fails if there is a record, and the checkpoint of the log in dir is missing.
func (r Record) Check(dir string) error {
	_, err := os.Lstat(string(r))
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	} else if err != nil {
		return err
	}
	if _, err := tlog.Dir(dir).Checkpoint(context.Background()); errors.Is(err, fs.ErrNotExist) {
		return fmt.Errorf("its checkpoint is missing, and %s shows that the log has entries; restore it from a backup", string(r))
	}
	return nil
}

// Write creates the record, unless it is there.
func (r Record) Write(vkey string) error {
	if _, err := os.Lstat(string(r)); !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	return durable.WriteFile(string(r), []byte(vkey+"\n"), 0o644)
}
