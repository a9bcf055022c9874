package lint

import (
	"bytes"
	"cmp"
	"crypto/rand"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path"
	"slices"

	"github.com/rogpeppe/go-internal/diff"

	"github.com/colophon-build/colophon/lint/finding"
)

// Change is what edits make of one file.
type Change struct {
	File   string
	Before []byte // nil: there is no file yet
	After  []byte
}

// Diff returns the change as a unified diff, with the prefixes a/ and b/ that patch -p1 and git
// apply expect.
func (c Change) Diff() []byte {
	before := "a/" + c.File
	if c.Before == nil {
		before = "/dev/null"
	}
	return diff.Diff(before, c.Before, "b/"+c.File, c.After)
}

// Mend returns what the edits of some findings make of the files of a tree, sorted by file.
// Bytes outside of the edits stay as they are. The edits of one finding are made together or not at
// all: if one overlaps an edit of an earlier finding, none is made. Lint and mend again for these.
func Mend(t *finding.Tree, found []finding.Finding) (changes []Change, err error) {
	byFile := map[string][]finding.Edit{}
	for _, f := range found {
		addTogether(byFile, f.Edits)
	}
	for name, edits := range byFile {
		if len(edits) == 0 {
			continue
		}
		f, err := t.Read(name)
		if err != nil {
			return nil, err
		}
		after, err := Edit(f.Data, edits)
		if err != nil {
			return nil, fmt.Errorf("%s: %w", name, err)
		}
		changes = append(changes, Change{File: name, Before: f.Data, After: after})
	}
	slices.SortFunc(changes, func(a, b Change) int { return cmp.Compare(a.File, b.File) })
	return changes, nil
}

// addTogether adds the edits of one finding to those of their files, which are sorted by Start and
// do not overlap. It adds none if one of them overlaps another edit.
func addTogether(byFile map[string][]finding.Edit, edits []finding.Edit) {
	var added []finding.Edit
	for _, e := range edits {
		if e.Old == e.New {
			continue
		}
		in := byFile[e.File]
		n, taken := slices.BinarySearchFunc(in, e, byStart)
		if taken && in[n] == e {
			continue // two findings may need the same edit
		}
		// Two insertions at one place have no order.
		if taken || n > 0 && in[n-1].End > e.Start || n < len(in) && in[n].Start < e.End {
			for _, e := range added {
				n, _ := slices.BinarySearchFunc(byFile[e.File], e, byStart)
				byFile[e.File] = slices.Delete(byFile[e.File], n, n+1)
			}
			return
		}
		byFile[e.File] = slices.Insert(in, n, e)
		added = append(added, e)
	}
}

func byStart(a, b finding.Edit) int { return cmp.Compare(a.Start, b.Start) }

// Edit returns data with edits of it made, but for those that overlap one before them. It fails if
// data does not have the old bytes of an edit where the edit says so.
func Edit(data []byte, edits []finding.Edit) (after []byte, err error) {
	edits = slices.Clone(edits)
	slices.SortStableFunc(edits, func(a, b finding.Edit) int {
		return cmp.Or(cmp.Compare(a.Start, b.Start), cmp.Compare(a.End, b.End), cmp.Compare(a.New, b.New))
	})
	edits = slices.Compact(edits) // two findings may need the same one
	at := 0
	for n, e := range edits {
		if e.Start < 0 || e.End < e.Start || e.End > len(data) || string(data[e.Start:e.End]) != e.Old {
			return nil, fmt.Errorf("bytes %d to %d: expected %q", e.Start, e.End, e.Old)
		}
		if e.Start < at || n > 0 && edits[n-1].Start == e.Start {
			continue // two insertions at one place have no order
		}
		after = append(after, data[at:e.Start]...)
		after = append(after, e.New...)
		at = e.End
	}
	return append(after, data[at:]...), nil
}

// ErrChanged is returned by Write if a file is not as it was when it was linted. Lint again.
var ErrChanged = errors.New("the file has changed since it was read")

// Write writes changes to the files of a tree, each file atomically, with the permissions that it
// has. It returns the files written. The error matches ErrChanged if a file is not as it was
// read: then neither that file nor those after it are written.
func Write(t *finding.Tree, changes []Change) (written []string, err error) {
	for _, c := range changes {
		if err := write(t.Root(), c); err != nil {
			return written, fmt.Errorf("%s: %w", c.File, err)
		}
		written = append(written, c.File)
	}
	return written, nil
}

func write(root *os.Root, c Change) (err error) {
	info, err := same(root, c)
	if err != nil {
		return err
	}
	temp := path.Join(path.Dir(c.File), ".colophon-"+rand.Text())
	f, err := root.OpenFile(temp, os.O_WRONLY|os.O_CREATE|os.O_EXCL, 0o600)
	if err != nil {
		return err
	}
	defer func() {
		if err != nil {
			_ = root.Remove(temp)
		}
	}()
	_, err = f.Write(c.After)
	err = errors.Join(err, f.Sync(), f.Close())
	if err == nil {
		err = root.Chmod(temp, info.Mode().Perm())
	}
	if err == nil { // once more, as late as possible
		_, err = same(root, c)
	}
	if err != nil {
		return err
	}
	return root.Rename(temp, c.File)
}

// same returns the description of a file that is as it was before a change.
func same(root *os.Root, c Change) (fs.FileInfo, error) {
	info, err := root.Lstat(c.File)
	if err != nil {
		return nil, err
	}
	if !info.Mode().IsRegular() {
		return nil, fmt.Errorf("%w: it is no regular file", ErrChanged)
	}
	f, err := root.Open(c.File)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	now, err := io.ReadAll(io.LimitReader(f, int64(len(c.Before))+1))
	if err != nil {
		return nil, err
	}
	if !bytes.Equal(now, c.Before) {
		return nil, ErrChanged
	}
	return info, nil
}
