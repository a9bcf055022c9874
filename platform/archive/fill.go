package archive

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"

	"github.com/colophon-build/colophon/internal/durable"
)

// filledFile exists once the evidence from before the archive is in it. It may be deleted: then it is
// looked for again.
const filledFile = "filled"

// Fill fills the archive with the evidence of a registry from before the archive existed, unless that was
// done: walk calls Manifest for everything that the registry has. If walk fails or the process is killed,
// the next call starts again; what is kept already is not kept twice. Until walk has returned nil once,
// lists say that more may come.
func (a *Archive) Fill(ctx context.Context, walk func(context.Context) error) error {
	if a.filled.Load() {
		return nil
	}
	a.log.Info("archiving the evidence that the registry has had since before it had an archive")
	if err := walk(ctx); err != nil {
		return fmt.Errorf("archiving earlier evidence: %w", err)
	}
	if err := durable.WriteFile(filepath.Join(a.dir, filledFile), nil, 0o600); err != nil {
		return err
	}
	a.filled.Store(true)
	a.mu.Lock()
	defer a.mu.Unlock()
	a.log.Info("the earlier evidence of the registry is archived", "records", a.index.number)
	return nil
}

// readFilled reads whether the archive is filled. One without a record is not: its journal may be lost, and
// what it had is looked for again. The file goes then, so that what is pushed meanwhile does not stand for it.
func (a *Archive) readFilled() error {
	path := filepath.Join(a.dir, filledFile)
	_, err := os.Lstat(path)
	if errors.Is(err, os.ErrNotExist) {
		return nil
	}
	if err == nil && a.index.number == 0 {
		return errors.Join(os.Remove(path), durable.SyncDir(a.dir))
	}
	a.filled.Store(err == nil)
	return err
}
