package attack

import (
	"crypto/rand"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"net/http"
	"os"
	"path/filepath"
	"strings"

	"github.com/colophon-build/colophon/platform/api"
	"github.com/colophon-build/colophon/test/harness"
)

// fetching makes a repository whose build downloads one path from the internet.
func (s *scene) fetching(path string) string {
	s.Helper()
	return s.repository(map[string]string{"Dockerfile": "FROM scratch\nADD http://world.test" + path + " /fetched\n"})
}

// locked makes a hermetic release of a repository, and returns its lock.
func (s *scene) locked(p *harness.Platform, repo string) string {
	s.Helper()
	r, said, err := s.release(p, repo, "hermetic-"+strings.ToLower(rand.Text()), func(r *api.ReleaseRequest) { r.Hermetic = true })
	if err != nil || r.Lock == "" {
		s.Fatalf("hermetic release: %+v, %v\n%s", r, err, said)
	}
	code, lock := s.put(p, http.MethodGet, api.PathLogs+"/"+r.Lock, "client.json", "", nil)
	if code != http.StatusOK {
		s.Fatalf("fetching the lock: %d %s", code, lock)
	}
	return lock
}

// serves makes the internet answer a path with text, and counts the requests.
func (s *scene) serves(path string, text func(n int) string) (count func() int) {
	n := 0
	s.world.page(path, func(w http.ResponseWriter, _ *http.Request) {
		n++
		io.WriteString(w, text(n))
	})
	return func() int { return n }
}

var _ = register(attack{
	name: "tampered-replay", tries: "change a recorded download in the gateway's store and on its server",
	guard: "the gateway checks all bytes against the lock before it sends the first: platform/builder/gateway openVerified, refetch",
	cuts: []cut{{"platform/builder/gateway/store.go", `sum || n != size {
			return nil, &mismatchError{path, sum, got, size, n}
		}
		f.Close()`, `sum && n != size {
			return nil, &mismatchError{path, sum, got, size, n}
		}
		f.Close()`}},
	beside: func(s *scene) (string, string) {
		p := s.platform("step")
		good, evil := "good "+rand.Text(), "evil "+rand.Text()
		now := good
		s.serves("/tampered", func(int) string { return now })
		repo := s.fetching("/tampered")
		lock := s.locked(p, repo)
		store, found := filepath.Join(p.Data, "gateway"), ""
		filepath.WalkDir(store, func(path string, d fs.DirEntry, err error) error {
			if err == nil && d.Name() == hexSum([]byte(good)) {
				found = path
			}
			return nil
		})
		if found == "" {
			s.Fatalf("%s has no %s", store, hexSum([]byte(good)))
		}
		var stopped []string
		for _, harm := range []func() error{
			func() error { return os.WriteFile(found, []byte(evil), 0o600) },
			func() error { now = evil; return nil },
			func() error { return os.Remove(found) },
		} {
			if err := harm(); err != nil && !errors.Is(err, fs.ErrNotExist) {
				s.Fatal(err)
			}
			_, said, err := s.release(p, repo, "replayed-"+strings.ToLower(rand.Text()), func(r *api.ReleaseRequest) { r.Lock = lock })
			if evidence := s.inRegistry(p, evil); evidence != "" {
				return "other bytes were released: " + evidence, ""
			}
			// BuildKit reports the status of the gateway's answer, but not always its text.
			if err != nil && !strings.Contains(err.Error()+said, "lock") && !strings.Contains(err.Error(), "status 502") && !strings.Contains(err.Error()+said, "sha256") {
				s.Errorf("stopped for another reason: %v\n%s", err, said)
			}
			stopped = append(stopped, fmt.Sprint(err))
		}
		return "", brief(stopped)
	},
})

var _ = register(attack{
	name: "outside-the-lock", tries: "download something that the lock does not list",
	guard: "the gateway gives a locked build only what the lock lists: platform/builder/gateway replay",
	cuts:  []cut{{"platform/builder/gateway/replay.go", `return nil, &DeniedError{Reason: "not in the lock: " + e.Method + " " + e.URL}`, `return g.live(r)`}},
	beside: func(s *scene) (string, string) {
		p := s.platform("step")
		s.serves("/listed", func(int) string { return "listed" })
		hits := s.serves("/unlisted", func(int) string { return "unlisted" })
		lock := s.locked(p, s.fetching("/listed"))
		_, said, err := s.release(p, s.fetching("/unlisted"), "unlisted", func(r *api.ReleaseRequest) { r.Lock = lock })
		if hits() > 0 {
			return "the internet was asked for it", ""
		}
		if err == nil {
			return "it was released", ""
		}
		if !strings.Contains(err.Error()+said, "/unlisted") {
			s.Errorf("the error does not name the address: %v\n%s", err, said)
		}
		return "", err.Error()
	},
})

var _ = register(attack{
	name: "another-second-build", tries: "release a hermetic build that differs from its first run",
	guard: "both builds must produce the same digest: release hermetic",
	cuts:  []cut{{"platform/release/hermetic.go", `if m1.Descriptor.Digest != m2.Descriptor.Digest {`, `if false {`}},
	beside: func(s *scene) (string, string) {
		p := s.platform("step")
		repo := s.repository(map[string]string{"Dockerfile": "FROM debian:bookworm-slim AS attack\nRUN cat /proc/sys/kernel/random/uuid > /now\nFROM scratch\nCOPY --from=attack /now /now\n"})
		_, said, err := s.release(p, repo, "changing", func(r *api.ReleaseRequest) { r.Hermetic = true })
		if err == nil {
			return "it was released", ""
		}
		if !strings.Contains(err.Error(), "now") {
			s.Errorf("the error does not name the file: %v\n%s", err, said)
		}
		return "", err.Error()
	},
})
