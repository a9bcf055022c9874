package main

import (
	"cmp"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"

	v1 "github.com/google/go-containerregistry/pkg/v1"
	"github.com/spf13/cobra"
	"golang.org/x/sync/errgroup"

	"github.com/colophon-build/colophon/attest"
	"github.com/colophon-build/colophon/internal/dirlock"
	"github.com/colophon-build/colophon/internal/durable"
	"github.com/colophon-build/colophon/internal/lazyregexp"
	"github.com/colophon-build/colophon/internal/printable"
	"github.com/colophon-build/colophon/provenance"
	"github.com/colophon-build/colophon/verify"
)

// maxSignedFiles limits the files of one attest --files: all are signed with one certificate,
// which is valid for 10 minutes, and nothing is written before all are signed.
const maxSignedFiles = 1000

// parallelSigning is how many bundles are made at once.
const parallelSigning = 8

// Endings of the files with bundles that attest --files writes.
const (
	signatureEnding = ".sigstore.json"
	statementEnding = ".intoto.jsonl"
)

// runFiles signs release files: each of them, and the list of their digests. Nothing is
// written before everything is signed and the files are found unchanged; what concerns the
// list comes last. So after a crash the same command finishes.
func (o *attestOptions) runFiles(ctx context.Context, cmd *cobra.Command, args []string) error {
	set, err := openFileSet(ctx, args, archiveSBOM(ctx, func(hint string) { printHint(cmd.ErrOrStderr(), hint) }))
	if err != nil {
		return err
	}
	defer set.lock.Release()
	p, err := startSigning(ctx, cmd, &o.signing)
	if err != nil {
		return err
	}
	var job *predicate
	switch {
	case o.signing.key != "":
		printHint(cmd.ErrOrStderr(), "no provenance is made: a key does not say what built the files; the token of a GitHub or GitLab job does")
	case !isJob(p.session.Identity().SubjectAlternativeName):
		printHint(cmd.ErrOrStderr(), "no provenance is made: "+p.session.Identity().SubjectAlternativeName+" is no job of GitHub or GitLab")
	default:
		if job, err = jobPredicate(p.session.Identity()); err != nil {
			return err
		}
	}
	stop := waiting(cmd.ErrOrStderr(), "signing")
	pieces, err := set.pieces(job)
	if err == nil {
		err = p.makeAll(ctx, pieces)
	}
	if err == nil {
		err = set.publish(ctx, pieces)
	}
	stop()
	if err != nil {
		return err
	}
	for _, piece := range pieces {
		p.done = append(p.done, piece.answer)
	}
	if o.output.text() && !o.output.quiet {
		return printFileSet(cmd.OutOrStdout(), set, pieces)
	}
	return p.answer(cmd, o.output)
}

func isJob(signer string) bool {
	s := provenance.SystemOf(signer)
	return s == provenance.GitHub || s == provenance.GitLab
}

// fileSet is release files with the list of their digests.
type fileSet struct {
	dir    string
	list   string        // name of the list
	raw    []byte        // its content
	listed bool          // it is on the disk
	files  []verify.File // ordered by name
	sboms  []newSBOM     // those of files that are not on the disk
	locked string        // path of the first of them, which lock locks until the command ends
	lock   *dirlock.Lock
}

// openFileSet reads the files that the arguments name: those of one directory, or files that
// are all in one. It fails for anything that is no regular file, for names that a list cannot
// hold, and if there is a list of other files. If there is no list, describe makes SBOMs.
func openFileSet(ctx context.Context, args []string, describe func(path string) ([]byte, error)) (_ *fileSet, err error) {
	s := &fileSet{}
	names, err := s.names(args)
	if err != nil {
		return nil, err
	}
	// One command at a time on the same files: so a second one finds all done.
	if s.locked, s.lock, err = lockFiles(ctx, s.dir, names); err != nil {
		return nil, err
	}
	defer func() {
		if err != nil {
			s.lock.Release()
		}
	}()
	names, err = withoutLeftovers(ctx, s.dir, s.locked, func() ([]string, error) { return s.names(args) })
	if err != nil {
		return nil, err
	}
	d, err := verifyOptions{}.readFiles(s.dir, names)
	for _, f := range slices.Concat(d.Evidence, d.Files) {
		f.Content.(io.Closer).Close()
	}
	if err != nil {
		return nil, err
	}
	if len(d.Files) > maxSignedFiles {
		return nil, usageError("sign the list of their digests alone: colophon sign "+s.dir, "%d files: expected at most %d", len(d.Files), maxSignedFiles)
	}
	if s.files = d.Files; d.Sums != nil {
		s.list, s.raw, s.listed = d.Sums.Name, d.Raw, true
		err = checkList(s.dir, d)
	} else if err = s.addSBOMs(describe); err == nil {
		d.Files, s.list = s.files, listName
		s.raw, err = d.List()
	}
	slices.SortFunc(s.files, func(a, b verify.File) int { return strings.Compare(a.Name, b.Name) })
	return s, err
}

// isMade reports whether a file is a list or has bundles, by its name.
func isMade(name string) bool {
	return attest.IsFileList(name) || slices.ContainsFunc(attest.BundleEndings(), func(e string) bool { return strings.HasSuffix(name, e) })
}

// names returns the names of the files, within s.dir, which it sets. A list beside them and
// the SBOMs of archives are among them, also if no argument names them.
func (s *fileSet) names(args []string) (names []string, err error) {
	for _, arg := range args {
		info, err := os.Lstat(arg)
		if errors.Is(err, fs.ErrNotExist) && leftoverRE.MatchString(filepath.Base(arg)) {
			continue // somebody has finished or removed it since the shell listed it
		}
		if err != nil {
			return nil, err
		}
		dir := filepath.Dir(filepath.Clean(arg))
		switch {
		case info.IsDir() && len(args) == 1:
			s.dir = arg
			names, err := releaseFiles(arg)
			slices.Sort(names)
			return names, err
		case info.IsDir():
			return nil, usageError("name the directory that has them all", "%s is a directory: expected files, or one directory", arg)
		case !info.Mode().IsRegular():
			return nil, usageError("", "%s is not a regular file", arg)
		case s.dir != "" && dir != s.dir:
			return nil, usageError("name the directory that has them all", "%s is in %s, and other files are in %s: one list names files of one directory", arg, dir, s.dir)
		}
		s.dir = dir
		name := filepath.Base(arg)
		if slices.Contains(names, name) {
			return nil, usageError("", "%s is named twice", arg)
		}
		names = append(names, name)
	}
	// What an earlier run has added to the files that are named.
	made := []string{listName}
	for _, name := range names {
		if archiveRE.MatchString(name) {
			made = append(made, name+sbomEnding)
		}
	}
	for _, name := range made {
		info, err := os.Lstat(filepath.Join(s.dir, name))
		switch {
		case err != nil || slices.Contains(names, name):
		case !info.Mode().IsRegular():
			return nil, usageError("", "%s is not a regular file", filepath.Join(s.dir, name))
		default:
			names = append(names, name)
		}
	}
	slices.Sort(names)
	return names, nil
}

// leftoverRE matches the temporary file of something that attest or sign writes.
var leftoverRE = lazyregexp.New(`^\.(.+)\.tmp-[0-9]+$`)

// lockFiles locks the first of release files for what is written beside them and about them.
// Whoever locks further ones meanwhile takes them in the order of their names, and one at a time.
func lockFiles(ctx context.Context, dir string, names []string) (path string, lock *dirlock.Lock, err error) {
	first := ""
	for _, name := range names {
		if !isMade(name) && !leftoverRE.MatchString(filepath.Base(name)) && (first == "" || name < first) {
			first = name
		}
	}
	if first == "" {
		return "", nil, usageError("", "there are no files to sign in %s", dir)
	}
	path = filepath.Join(dir, filepath.FromSlash(first))
	lock, err = dirlock.WaitBeside(ctx, path)
	return path, lock, err
}

// withoutLeftovers returns the names that list finds, after it has removed what commands that
// crashed have left of the files that they wrote. Whoever writes beside release files holds the
// lock of one of them: so a temporary file that is there once each of them was free is nobody's.
// This command has locked the file at the path locked.
func withoutLeftovers(ctx context.Context, dir, locked string, list func() ([]string, error)) ([]string, error) {
	names, err := list()
	left, others := splitLeftovers(names)
	if err != nil || len(left) == 0 {
		return others, err
	}
	for _, name := range others {
		path := filepath.Join(dir, filepath.FromSlash(name))
		if path == locked {
			continue
		}
		lock, err := dirlock.WaitBeside(ctx, path)
		if errors.Is(err, fs.ErrNotExist) {
			continue
		}
		if err != nil {
			return nil, err
		}
		lock.Release()
	}
	for _, name := range left {
		if err := os.Remove(filepath.Join(dir, filepath.FromSlash(name))); err != nil && !errors.Is(err, fs.ErrNotExist) {
			return nil, err
		}
	}
	names, err = list() // the others may have written more meanwhile, and may be writing
	_, others = splitLeftovers(names)
	return others, err
}

// splitLeftovers tells the temporary files of attest and sign from other files.
func splitLeftovers(names []string) (left, others []string) {
	for _, name := range names {
		at, base := filepath.Split(filepath.FromSlash(name))
		m := leftoverRE.FindStringSubmatch(base)
		ours := m != nil && m[1] == listName && at == ""
		for _, ending := range []string{signatureEnding, statementEnding, sbomEnding} {
			if m == nil {
				break
			}
			about, ok := strings.CutSuffix(filepath.ToSlash(at)+m[1], ending)
			ours = ours || ok && (about == listName || slices.Contains(names, about))
		}
		if ours {
			left = append(left, name)
		} else {
			others = append(others, name)
		}
	}
	return left, others
}

// piece is one bundle about one file.
type piece struct {
	subject   *signedFile
	signature signature
	answer    signed
	raw       []byte // the new bundle; nil if the file has it already
}

// unwritten returns the content of a file that is not on the disk yet, or nil.
func (s *fileSet) unwritten(path string) []byte {
	if !s.listed && path == filepath.Join(s.dir, s.list) {
		return s.raw
	}
	for _, b := range s.sboms {
		if b.path == path {
			return b.raw
		}
	}
	return nil
}

// pieces returns what is to be there in the end, in the order in which it is written: for
// each file and, last, for the list a signature and, if there is one, the job's provenance.
func (s *fileSet) pieces(job *predicate) (all []*piece, err error) {
	sum := sha256.Sum256(s.raw)
	list := verify.File{Name: s.list, Digest: v1.Hash{Algorithm: "sha256", Hex: hex.EncodeToString(sum[:])}}
	for _, f := range append(s.files[:len(s.files):len(s.files)], list) {
		path := filepath.Join(s.dir, filepath.FromSlash(f.Name))
		add := func(ending string, sig signature) error {
			subject := &signedFile{path: path, hash: f.Digest, held: s.unwritten(path), to: path + ending, many: ending == statementEnding}
			all = append(all, &piece{subject: subject, signature: sig})
			return subject.regular()
		}
		if job != nil {
			statement, err := attest.NewStatement(f.Name, f.Digest.Hex, job.uri, json.RawMessage(job.raw))
			if err = cmp.Or(err, add(statementEnding, signature{statement, job.uri})); err != nil {
				return nil, err
			}
		}
		if err := add(signatureEnding, signature{}); err != nil {
			return nil, err
		}
	}
	return all, nil
}

// makeAll makes the bundles that are missing, in memory.
func (p *signing) makeAll(ctx context.Context, pieces []*piece) error {
	for _, w := range pieces {
		var have []held
		var err error
		if w.answer, err = p.begin(ctx, w.subject, w.signature); err == nil && !w.answer.Already {
			if have, err = w.subject.bundles(ctx); err == nil {
				err = w.subject.takes(have)
			}
			w.answer.Bundle = w.subject.to
		}
		if err != nil {
			return fmt.Errorf("%s: %w", w.subject.path, err)
		}
	}
	g, ctx := errgroup.WithContext(ctx)
	g.SetLimit(parallelSigning)
	for _, w := range pieces {
		if w.answer.Already {
			continue
		}
		g.Go(func() (err error) {
			if w.raw, err = p.fresh(ctx, w.subject, w.signature, &w.answer); err != nil {
				return fmt.Errorf("%s: %w", w.subject.path, err)
			}
			return nil
		})
	}
	return g.Wait()
}

// publish writes the list and the new bundles. The files must still have the content that was
// signed.
func (s *fileSet) publish(ctx context.Context, pieces []*piece) error {
	unwritten := map[string]bool{}
	for _, b := range s.sboms {
		unwritten[b.path] = true
	}
	for _, f := range s.files {
		file := signedFile{path: filepath.Join(s.dir, filepath.FromSlash(f.Name)), hash: f.Digest}
		if unwritten[file.path] {
			continue
		}
		if err := file.unchanged(); err != nil {
			return err
		}
	}
	for _, b := range s.sboms {
		if err := durable.CreateFile(b.path, b.raw, 0o644); err != nil {
			return err
		}
	}
	if !s.listed {
		if err := durable.CreateFile(filepath.Join(s.dir, s.list), s.raw, 0o644); err != nil {
			return err
		}
	}
	for _, w := range pieces {
		if w.raw == nil {
			continue
		}
		if err := s.write(ctx, w); err != nil {
			return fmt.Errorf("%s: %w", w.subject.path, err)
		}
	}
	return nil
}

func (s *fileSet) write(ctx context.Context, w *piece) error {
	if w.subject.path != s.locked {
		lock, err := dirlock.WaitBeside(ctx, w.subject.path)
		if err != nil {
			return err
		}
		defer lock.Release()
	}
	return w.subject.write(ctx, w.raw)
}

// printFileSet prints what is there now.
func printFileSet(w io.Writer, s *fileSet, pieces []*piece) error {
	made := 0
	for _, p := range pieces {
		if p.raw != nil {
			made++
		}
	}
	by := cmp.Or(pieces[0].answer.Key, pieces[0].answer.Identity)
	if pieces[0].answer.Key != "" {
		by = "key " + by
	}
	state := printable.Count(made, "new bundle")
	if made == 0 {
		state = "nothing to do: all was signed before"
	}
	fmt.Fprintf(w, "%s and %s signed by %s; %s\n", printable.Count(len(s.files), "file"), printable.Text(filepath.Join(s.dir, s.list)), printable.Text(by), state)
	for _, p := range pieces {
		mark := " "
		if p.raw != nil {
			mark = "+"
		}
		fmt.Fprintf(w, "  %s %s\n", mark, printable.Text(p.answer.Bundle))
	}
	return nil
}
