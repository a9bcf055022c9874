package main

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"

	v1 "github.com/google/go-containerregistry/pkg/v1"

	"github.com/colophon-build/colophon/internal/dirlock"
	"github.com/colophon-build/colophon/internal/durable"
	"github.com/colophon-build/colophon/oci"
	"github.com/colophon-build/colophon/platform/api"
	"github.com/colophon-build/colophon/verify"
)

// subject is an image or a file that is signed.
type subject interface {
	// name is what the user called it.
	name() string
	// digest is the SHA-256 of its bytes: of the manifest, or of the file.
	digest() v1.Hash
	// content opens the bytes of a file; nil for an image.
	content() (io.ReadSeekCloser, error)
	// title is the name in a statement; verifiers ignore it.
	title() string
	// bundles returns the bundles that it has.
	bundles(context.Context) ([]held, error)
	// prepare fails if it certainly takes no bundle. It is called before something is signed.
	prepare(context.Context) error
	// add adds a bundle, and returns where it is. predicateType is empty for a bundle
	// without a statement.
	add(ctx context.Context, bundle []byte, predicateType string) (where string, err error)
	close()
}

// held is a bundle that a subject has, and where it is.
type held struct {
	raw   []byte
	where string
}

// openSubjects opens what the arguments name, before anything is signed. suffix is the
// ending of the file with the bundles of a file; to is its name, if the user gave it.
func openSubjects(ctx context.Context, args []string, suffix, to string) (all []subject, err error) {
	defer func() {
		if err != nil {
			closeSubjects(all)
		}
	}()
	if to != "" && len(args) != 1 {
		return nil, usageError("", "--bundle needs exactly one file")
	}
	seen := map[string]bool{}
	for _, arg := range args {
		s, err := openSubject(ctx, arg, suffix, to)
		if err != nil {
			return all, err
		}
		all = append(all, s)
		if seen[s.name()] {
			return all, usageError("", "%s is named twice", s.name())
		}
		seen[s.name()] = true
	}
	return all, nil
}

func closeSubjects(all []subject) {
	for _, s := range all {
		s.close()
	}
}

func openSubject(ctx context.Context, arg, suffix, to string) (subject, error) {
	ref, refErr := oci.ParseReference(arg)
	isImage := refErr == nil && (ref.Dir == "" || strings.HasPrefix(arg, "oci:"))
	if !isImage {
		info, err := os.Stat(arg)
		switch {
		case refErr == nil && errors.Is(err, fs.ErrNotExist) && ref.Dir != arg: // DIR:TAG
			isImage = true
		case err != nil:
			return nil, err
		case info.Mode().IsRegular():
			return openSignedFile(arg, suffix, to)
		case !info.IsDir():
			return nil, usageError("", "%s is neither a file nor a directory", arg)
		case isReleaseDir(arg, ref):
			list, err := listFiles(ctx, ref.Dir)
			if err != nil {
				return nil, err
			}
			return openSignedFile(list, suffix, to)
		}
	}
	if to != "" {
		return nil, usageError("what is signed about an image is attached to it", "--bundle is for a file, and %s is an image", arg)
	}
	return openSignedImage(ctx, arg, ref)
}

// listName is the file that listFiles writes.
const listName = "SHA256SUMS"

// listFiles returns the file with the list of the digests of a directory's files. It makes the
// list if there is none, and otherwise compares it. Whoever signs the list signs the files:
// verify DIRECTORY compares them.
func listFiles(ctx context.Context, dir string) (string, error) {
	names, err := releaseFiles(dir)
	if err != nil {
		return "", err
	}
	locked, lock, err := lockFiles(ctx, dir, names)
	if err != nil {
		return "", err
	}
	defer lock.Release()
	names, err = withoutLeftovers(ctx, dir, locked, func() ([]string, error) { return releaseFiles(dir) })
	if err != nil {
		return "", err
	}
	d, err := verifyOptions{}.readFiles(dir, names)
	if err != nil {
		return "", err
	}
	defer func() {
		for _, f := range slices.Concat(d.Evidence, d.Files) {
			f.Content.(io.Closer).Close()
		}
	}()
	if d.Sums != nil {
		return filepath.Join(dir, filepath.FromSlash(d.Sums.Name)), checkList(dir, d)
	}
	raw, err := d.List()
	if err != nil {
		return "", fmt.Errorf("%s: %w", dir, err)
	}
	path := filepath.Join(dir, listName)
	return path, durable.WriteFile(path, raw, 0o644)
}

// checkList fails if the list in a directory is not one of its files.
func checkList(dir string, d verify.Directory) error {
	if err := d.CheckList(); err != nil {
		path := filepath.Join(dir, filepath.FromSlash(d.Sums.Name))
		return &exitError{code: exitFailure, msg: fmt.Sprintf("%s is not the list of what is in %s: %v", path, dir, err), hint: "remove it, and a new one is made"}
	}
	return nil
}

// signedImage is an image in a registry or a layout.
type signedImage struct {
	arg string
	ref oci.Reference
	dst oci.Target
	d   v1.Descriptor
}

func openSignedImage(ctx context.Context, arg string, ref oci.Reference) (subject, error) {
	platform, err := api.LoadConfig()
	if err != nil && !errors.Is(err, api.ErrNoPlatform) {
		return nil, err
	}
	dst, err := openTarget(ref, platform)
	if err != nil {
		return nil, err
	}
	i := &signedImage{arg: arg, ref: ref, dst: dst}
	// The digest is computed from the manifest that the registry returns.
	if i.d, err = dst.Resolve(ctx, ref.Identifier()); err != nil {
		i.close()
		return nil, fmt.Errorf("%s: %w", arg, err)
	}
	return i, nil
}

func (i *signedImage) name() string                        { return withDigest(i.arg, i.d.Digest.String()) }
func (i *signedImage) digest() v1.Hash                     { return i.d.Digest }
func (i *signedImage) content() (io.ReadSeekCloser, error) { return nil, nil }
func (i *signedImage) title() string                       { return i.ref.Repository }

func (i *signedImage) close() {
	if l, ok := i.dst.(*oci.Layout); ok {
		l.Close()
	}
}

func (i *signedImage) bundles(ctx context.Context) (all []held, err error) {
	found, err := oci.Bundles(ctx, i.dst, i.d.Digest)
	if err != nil {
		return nil, err
	}
	for _, b := range found {
		if b.Err == nil { // anybody may attach something that cannot be read
			all = append(all, held{b.Raw, i.dst.Name() + "@" + b.Descriptor.Digest.String()})
		}
	}
	return all, nil
}

func (i *signedImage) prepare(ctx context.Context) error { return oci.TryAttach(ctx, i.dst) }

// add attaches a bundle, and reads the list of what is attached again: a registry that has
// lost it, or a tag that names another image by now, is an error.
func (i *signedImage) add(ctx context.Context, bundle []byte, predicateType string) (string, error) {
	d, err := oci.AttachBundle(ctx, i.dst, i.d, bundle, predicateType, time.Now())
	if err != nil {
		return "", err
	}
	listed, err := i.dst.Referrers(ctx, i.d.Digest)
	if err != nil {
		return "", err
	}
	there := false
	for _, r := range listed {
		there = there || r.Digest == d.Digest
	}
	if !there {
		return "", fmt.Errorf("%s took the attachment %s, and does not list it: another client may have replaced the list; run the command again", i.dst.Name(), d.Digest)
	}
	if i.ref.Digest == "" && i.ref.Tag != "" {
		now, err := i.dst.Resolve(ctx, i.ref.Tag)
		if err == nil && now.Digest != i.d.Digest {
			err = fmt.Errorf("the tag %s named %s and was moved to %s while this ran; only the first is signed", i.ref.Tag, i.d.Digest, now.Digest)
		}
		if err != nil {
			return "", err
		}
	}
	return i.dst.Name() + "@" + d.Digest.String(), nil
}

// signedFile is a file with its bundles in another file beside it.
type signedFile struct {
	path string
	hash v1.Hash
	held []byte // its content, if it is not on the disk yet
	to   string
	many bool // to may have several bundles, one a line
}

func openSignedFile(path, suffix, to string) (subject, error) {
	f, err := openFile(path)
	if err != nil {
		return nil, err
	}
	s := &signedFile{path: path, hash: f.Digest, to: path + suffix, many: strings.HasSuffix(suffix, "l")}
	if c, ok := f.Content.(*os.File); ok {
		c.Close()
	}
	if to != "" {
		s.to, s.many = to, false
	}
	return s, s.regular()
}

// regular fails if something is in the place of the file with the bundles.
func (f *signedFile) regular() error {
	if info, err := os.Lstat(f.to); err == nil && !info.Mode().IsRegular() {
		return usageError("--bundle FILE", "%s is not a regular file", f.to)
	}
	return nil
}

func (f *signedFile) name() string    { return f.path }
func (f *signedFile) digest() v1.Hash { return f.hash }
func (f *signedFile) title() string   { return filepath.Base(f.path) }
func (f *signedFile) close()          {}

func (f *signedFile) content() (io.ReadSeekCloser, error) {
	if f.held != nil {
		return nopCloser{bytes.NewReader(f.held)}, nil
	}
	return os.Open(f.path)
}

type nopCloser struct{ io.ReadSeeker }

func (nopCloser) Close() error { return nil }

func (f *signedFile) bundles(context.Context) (all []held, err error) {
	found, err := readBundles(f.to)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil
	}
	for _, raw := range found {
		all = append(all, held{raw, f.to})
	}
	return all, err
}

func (f *signedFile) prepare(context.Context) error { return f.regular() }

// add writes the bundle. The file must still have the content that was signed. A file with
// bundles of others is not replaced.
func (f *signedFile) add(ctx context.Context, bundle []byte, _ string) (string, error) {
	lock, err := dirlock.WaitBeside(ctx, f.path)
	if err != nil {
		return "", err
	}
	defer lock.Release()
	if err := f.unchanged(); err != nil {
		return "", err
	}
	return f.to, f.write(ctx, bundle)
}

// unchanged fails if the file no longer has the content that is signed.
func (f *signedFile) unchanged() error {
	now, err := openFile(f.path)
	if err != nil {
		return err
	}
	now.Content.(*os.File).Close()
	if now.Digest != f.hash {
		return fmt.Errorf("%s was changed while this ran: nothing is signed", f.path)
	}
	return nil
}

// write writes a bundle. The caller holds a lock, so that nobody else adds one meanwhile.
func (f *signedFile) write(ctx context.Context, bundle []byte) error {
	have, err := f.bundles(ctx)
	if err == nil {
		err = f.takes(have)
	}
	if err != nil {
		return err
	}
	var content bytes.Buffer
	for _, b := range append(have, held{raw: bundle}) {
		content.Write(b.raw)
		if f.many {
			content.WriteByte('\n')
		}
	}
	if content.Len() > maxBundlesFile {
		return fmt.Errorf("%s would have more than %d bytes, and nobody reads that", f.to, maxBundlesFile)
	}
	return durable.WriteFile(f.to, content.Bytes(), 0o644)
}

// takes fails if another bundle may not be added to those that there are.
func (f *signedFile) takes(have []held) error {
	if len(have) >= maxBundles {
		return fmt.Errorf("%s has %d statements, and nobody reads more of them", f.to, len(have))
	}
	if len(have) > 0 && !f.many {
		return &exitError{code: exitFailure, msg: f.to + " is there, with a signature of something or somebody else", hint: "remove it, or name another file with --bundle"}
	}
	return nil
}
