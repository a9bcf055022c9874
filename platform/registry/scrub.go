package registry

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"

	"github.com/colophon-build/colophon/internal/intact"
)

// Scrub compares every file of the registry in dir with its digest. It repairs a blob or
// manifest of which the registry has an intact copy, and what is derived from manifests. It
// reports each damaged file to r. The registry may run meanwhile.
func Scrub(ctx context.Context, r *intact.Report, dir string) error {
	dir, err := filepath.Abs(dir)
	if err != nil {
		return err
	}
	s := &scrubber{store: newStore(dir), Report: r, ctx: ctx}
	for _, alg := range []string{"sha256", "sha512"} {
		if err := s.blobs(alg); err != nil {
			return err
		}
	}
	return s.repositories(s.repository)
}

type scrubber struct {
	*store
	*intact.Report
	ctx context.Context
}

// intact reports whether the file at path is intact; it is, if it is missing.
func (s *scrubber) intact(path string, d digest) (bool, error) {
	f, err := s.openIntact(s.ctx, path, d)
	if missing(err) {
		return true, nil // deleted meanwhile
	} else if damaged(err) {
		return false, nil
	} else if err != nil {
		return false, err
	}
	defer f.Close()
	info, err := f.Stat()
	if err == nil {
		s.Read(info.Size())
	}
	return true, err
}

// blobs compares the blobs of the pool.
func (s *scrubber) blobs(alg string) error {
	return s.each(s.path("blobs", alg), func(name string) error {
		d, err := parseDigest(alg + ":" + name)
		if err != nil {
			s.Found(s.path("blobs", alg, name), "its name is not a digest", nil)
			return nil
		}
		if ok, err := s.intact(s.pool(d), d); ok || err != nil {
			return err
		}
		return s.repair(s.pool(d), d, "blob "+d.String(), s.blob)
	})
}

// repair replaces the damaged file at path by an intact one that the pool or a repository
// has. copyOf returns its path in a repository.
func (s *scrubber) repair(path string, d digest, what string, copyOf func(name string, d digest) string) error {
	var from string
	err := s.repositories(func(name string) error {
		if other := copyOf(name, d); from == "" && other != path {
			f, err := s.openIntact(s.ctx, other, d)
			if err == nil {
				f.Close()
				from = other
			} else if !missing(err) && !damaged(err) {
				return err
			}
		}
		return nil
	})
	if err != nil {
		return err
	}
	if from == "" {
		s.Found(path, what+" has other bytes, and nothing here has the right ones; push it again", nil)
		return nil
	}
	s.Found(path, what+" had other bytes", func() error { return s.replace(from, path) })
	return nil
}

// repository compares the files of one repository.
func (s *scrubber) repository(name string) error {
	var errs []error
	for _, alg := range []string{"sha256", "sha512"} {
		errs = append(errs,
			s.each(s.repo(name, "blobs", alg), func(file string) error { return s.link(name, alg, file) }),
			s.each(s.repo(name, "manifests", alg), func(file string) error { return s.manifestFile(name, alg, file) }))
	}
	return errors.Join(append(errs, s.each(s.repo(name, "tags"), func(tag string) error { return s.tagFile(name, tag) }))...)
}

func (s *scrubber) link(name, alg, file string) error {
	d, err := parseDigest(alg + ":" + file)
	if err != nil {
		s.Found(s.repo(name, "blobs", alg, file), "its name is not a digest", nil)
		return nil
	}
	if ok, err := s.intact(s.blob(name, d), d); ok || err != nil {
		return err
	}
	what := fmt.Sprintf("blob %s of repository %s", d, name)
	if f, err := s.openIntact(s.ctx, s.pool(d), d); err == nil {
		f.Close()
		s.Found(s.blob(name, d), what+" had other bytes", func() error { return s.replace(s.pool(d), s.blob(name, d)) })
		return nil
	}
	return s.repair(s.blob(name, d), d, what, s.blob)
}

func (s *scrubber) manifestFile(name, alg, file string) error {
	d, err := parseDigest(alg + ":" + file)
	if err != nil {
		if _, err := parseDigest(alg + ":" + strings.TrimSuffix(file, ".json")); err != nil {
			s.Found(s.repo(name, "manifests", alg, file), "its name is not a digest", nil)
		}
		return nil // a descriptor: see derived
	}
	ok, err := s.intact(s.manifest(name, d), d)
	if err != nil {
		return err
	}
	if !ok {
		if err := s.repair(s.manifest(name, d), d, fmt.Sprintf("manifest %s of repository %s", d, name), s.manifest); err != nil {
			return err
		}
	}
	raw, m, err := s.readManifest(name, d)
	if missing(err) || damaged(err) {
		return nil
	} else if err != nil {
		s.Found(s.manifest(name, d), err.Error(), nil)
		return nil
	}
	return s.derived(name, d, m, len(raw))
}

// derived writes the files that are derived from a manifest again if they are not right.
func (s *scrubber) derived(name string, d digest, m *manifestFile, size int) error {
	path := s.manifest(name, d) + ".json"
	want, err := m.encode(d, size)
	if err != nil {
		return err
	}
	have, err := os.ReadFile(path)
	if err != nil && !missing(err) {
		return err
	}
	right := string(have) == string(want)
	if right && m.Subject != nil {
		subject, err := parseDigest(m.Subject.Digest)
		if err != nil {
			return err
		}
		if right, err = exists(s.referrer(name, subject, d)); err != nil {
			return err
		}
	}
	if !right {
		s.Found(path, fmt.Sprintf("descriptor or place among the referrers of manifest %s of repository %s was not right", d, name), func() error { return s.writeDerived(name, d, m, size) })
	}
	return nil
}

func (s *scrubber) tagFile(name, tag string) error {
	d, err := s.readTag(name, tag)
	if missing(err) {
		return nil
	}
	s.Read(0)
	what := fmt.Sprintf("tag %s of repository %s", tag, name)
	if err != nil {
		s.Found(s.tag(name, tag), what+" holds no digest", nil)
		return nil
	}
	if ok, err := exists(s.manifest(name, d)); ok || err != nil {
		return err
	}
	if dangles, err := s.dangles(name, tag, d); err != nil {
		return err
	} else if dangles {
		s.Found(s.tag(name, tag), fmt.Sprintf("%s points at %s, which is missing", what, d), nil)
	}
	return nil
}

func (s *scrubber) each(dir string, do func(name string) error) error { return each(s.ctx, dir, do) }

// each calls do for every name in a directory, which may be missing.
func each(ctx context.Context, dir string, do func(name string) error) error {
	d, err := os.Open(dir)
	if missing(err) {
		return nil
	} else if err != nil {
		return err
	}
	defer d.Close()
	for {
		names, err := d.Readdirnames(1024)
		for _, name := range names {
			if err := ctx.Err(); err != nil {
				return err
			}
			if err := do(name); err != nil {
				return err
			}
		}
		if ended(err) {
			return nil
		} else if err != nil {
			return err
		}
	}
}

// repositories calls do with the name of every repository.
func (s *store) repositories(do func(name string) error) error {
	root := s.path("repositories")
	return filepath.WalkDir(root, func(path string, e os.DirEntry, err error) error {
		if missing(err) {
			return nil
		} else if err != nil || !e.IsDir() || e.Name() != "_" {
			return err
		}
		name, err := filepath.Rel(root, filepath.Dir(path))
		if err != nil {
			return err
		}
		if err := do(filepath.ToSlash(name)); err != nil {
			return fmt.Errorf("repository %q: %w", name, err)
		}
		return filepath.SkipDir
	})
}
