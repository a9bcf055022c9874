package release

import (
	"context"
	"fmt"
	"io/fs"
	"net/url"
	"path"
	"path/filepath"

	"github.com/colophon-build/colophon/attest"
	"github.com/colophon-build/colophon/internal/limits"
	"github.com/colophon-build/colophon/internal/pypi"
	"github.com/colophon-build/colophon/platform/api"
	"github.com/colophon-build/colophon/platform/builder"
	"github.com/colophon-build/colophon/platform/builder/dockerfile"
)

const (
	maxDemands     = limits.LockFetches // downloads that a commit pins
	maxDemandBytes = 16 << 20           // bytes of their URLs and digests
	maxLockFile    = 32 << 20           // bytes of one, but for go.sum
	maxLocks       = 64 << 20           // bytes of all that are read: 32 MiB can take 4 s of a processor
)

// pins collects the downloads that the files of a commit pin by digest. What cannot be read,
// and what is too much, is left out: the build then downloads it, as it does without pins.
type pins struct {
	list []builder.Demand
	size int   // bytes of their URLs and digests
	read int64 // bytes of lock files
}

// findPins reads the lock files of a build's context and its Dockerfile.
func findPins(ctx context.Context, tree string, r attest.Recipe) []builder.Demand {
	p := &pins{}
	if text, err := readInTree(tree, r.Dockerfile, maxDockerfile); err == nil {
		p.dockerfile(text)
	}
	top := filepath.Join(tree, filepath.FromSlash(path.Clean("/"+r.Context)))
	filepath.WalkDir(top, func(name string, e fs.DirEntry, err error) error {
		if err != nil || ctx.Err() != nil || p.full() {
			return fs.SkipAll
		}
		if !e.Type().IsRegular() {
			return nil
		}
		rel, err := filepath.Rel(tree, name)
		if err != nil {
			return nil
		}
		read, limit := p.reader(filepath.ToSlash(rel))
		if read == nil {
			return nil
		}
		if text, err := readInTree(tree, rel, min(limit, maxLocks-p.read)); err == nil {
			p.read += int64(len(text))
			read(text)
		}
		return nil
	})
	return p.list
}

// reader returns the method that reads the lock file with a path, and the most bytes of one. It returns nil for
// other files.
func (p *pins) reader(file string) (read func([]byte), limit int64) {
	switch path.Base(file) {
	case "go.sum", "go.work.sum":
		return p.goSum, maxGoSum
	case "package-lock.json", "npm-shrinkwrap.json":
		return p.packageLock, maxLockFile
	case "pnpm-lock.yaml":
		return p.pnpmLock, maxLockFile
	case "yarn.lock":
		return p.yarnLock, maxLockFile
	case "Cargo.lock":
		return p.cargoLock, maxLockFile
	case "poetry.lock", "pdm.lock", "uv.lock":
		return p.archives, maxLockFile
	case "Pipfile.lock":
		return p.pipfileLock, maxLockFile
	}
	if pypi.Requirements(file) {
		return p.requirements, maxLockFile
	}
	return nil, 0
}

func (p *pins) full() bool { return len(p.list) >= maxDemands || p.size >= maxDemandBytes }

func (p *pins) add(address, digest string) {
	if p.full() || len(address) > limits.FetchURL || len(digest) > 128 {
		return
	}
	p.list = append(p.list, builder.Demand{URL: address, Digest: digest})
	p.size += len(address) + len(digest)
}

// dockerfile reads ADD --checksum=sha256:… URL.
func (p *pins) dockerfile(text []byte) {
	for address, digest := range dockerfile.Checksums(text) {
		if isHTTP(address) {
			p.add(address, digest)
		}
	}
}

func isHTTP(address string) bool {
	u, err := url.Parse(address)
	return err == nil && (u.Scheme == "https" || u.Scheme == "http") && u.Host != "" && u.User == nil
}

// Downloads returns how many downloads of all builds came from the platform's store, and how
// many from elsewhere.
func (r *Releaser) Downloads() (stored, fetched int64) { return r.stored.Load(), r.fetched.Load() }

// tellStored counts a build's downloads and says how many came from the platform's store: to
// the requester, and in the provenance.
func (j *run) tellStored(a *attempt) {
	stored, all := 0, 0
	for _, e := range a.record.Exchanges {
		switch {
		case e.Stored:
			stored++
			all++
		case e.Denied == "" && e.Status >= 200 && e.Status < 300 && e.Method != "HEAD":
			all++
		}
	}
	j.stored.Add(int64(stored))
	j.fetched.Add(int64(all - stored))
	if stored > 0 {
		a.Config["network.stored"] = fmt.Sprintf("%d of %d downloads", stored, all)
		j.emit(api.Event{Phase: "build", Line: fmt.Sprintf("%d of %d downloads came from the platform's store, which has them by digest", stored, all)})
	}
}
