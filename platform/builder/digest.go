package builder

import (
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"io"
	"os"
	"sync"
	"time"

	"golang.org/x/sys/unix"
)

// FileDigest returns the hex sha256 of a file. Builders use it to record which
// programs took part in a build.
func FileDigest(path string) (string, error) {
	f, err := os.Open(path)
	if err != nil {
		return "", err
	}
	defer f.Close()
	return digest(f)
}

func digest(f *os.File) (string, error) {
	h := sha256.New()
	if _, err := io.Copy(h, f); err != nil {
		return "", err
	}
	return hex.EncodeToString(h.Sum(nil)), nil
}

// settled is how long ago a file must have changed so that a later change gives it another state: the
// kernel counts times of change in ticks of at most 10 ms.
const settled = 100 * time.Millisecond

// Programs remembers the digests of programs, so that each build can measure those that take
// part in it. It hashes one again when its file was replaced or changed: an upgrade of the host's packages
// does that while the platform runs. The zero value is ready. Safe for concurrent use.
type Programs struct {
	mu    sync.Mutex
	known map[string]program // by path
}

type program struct {
	state  state
	digest string
}

// state is what a file cannot keep when its content changes: its time of change is the kernel's.
type state struct {
	device, inode     uint64
	size              int64
	modified, changed unix.Timespec
}

func stateOf(f *os.File) (state, error) {
	var s unix.Stat_t
	if err := unix.Fstat(int(f.Fd()), &s); err != nil {
		return state{}, &os.PathError{Op: "stat", Path: f.Name(), Err: err}
	}
	return state{uint64(s.Dev), s.Ino, s.Size, s.Mtim, s.Ctim}, nil
}

// Digest returns the hex sha256 of the program at path. If it changes meanwhile, Digest fails.
func (p *Programs) Digest(path string) (string, error) {
	f, err := os.Open(path)
	if err != nil {
		return "", err
	}
	defer f.Close()
	p.mu.Lock()
	defer p.mu.Unlock()
	started := time.Now() // hashing may take longer than settled
	now, err := stateOf(f)
	if err != nil {
		return "", err
	}
	if known, ok := p.known[path]; ok && known.state == now {
		return known.digest, nil
	}
	sum, err := digest(f)
	if err != nil {
		return "", err
	}
	if after, err := stateOf(f); err != nil {
		return "", err
	} else if after != now {
		return "", fmt.Errorf("%s changes while it is measured", path)
	}
	if started.Sub(time.Unix(now.changed.Unix())) < settled {
		return sum, nil
	}
	if p.known == nil {
		p.known = map[string]program{}
	}
	p.known[path] = program{now, sum}
	return sum, nil
}
