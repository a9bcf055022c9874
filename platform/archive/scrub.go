package archive

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"

	"github.com/colophon-build/colophon/internal/intact"
)

// Scrub compares the content in dir, a Config.Dir, with its digests, and the lines of the
// journal with theirs. It reports content of the journal that is missing. The archive may
// run meanwhile.
func Scrub(ctx context.Context, r *intact.Report, dir string) error {
	if err := intact.Named(ctx, r, filepath.Join(dir, objectsDir), nil); err != nil {
		return err
	}
	path := filepath.Join(dir, journalFile)
	f, err := os.Open(path)
	if errors.Is(err, os.ErrNotExist) {
		return nil
	} else if err != nil {
		return err
	}
	defer f.Close()
	info, err := f.Stat()
	if err != nil {
		return err
	}
	j := &journal{f: f, size: info.Size()}
	a := &Archive{dir: dir}
	r.Read(j.size)
	number := int64(0)
	return j.scan(func(line int64, rec *record, err error) error {
		switch {
		case err != nil:
			r.Found(path, fmt.Sprintf("line %d: %v", line, err), nil)
			number = 0
			return ctx.Err()
		case number != 0 && rec.Number != number+1:
			r.Found(path, fmt.Sprintf("line %d: it has number %d, and the line before %d", line, rec.Number, number), nil)
		}
		number = rec.Number
		if m := objectForm.FindStringSubmatch(rec.Digest); m != nil {
			if _, err := os.Lstat(a.object(m[1])); errors.Is(err, os.ErrNotExist) {
				r.Found(a.object(m[1]), fmt.Sprintf("it is missing; record %d has it", rec.Number), nil)
			}
		}
		return ctx.Err()
	})
}
