package golang

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"time"

	"golang.org/x/sys/unix"

	"github.com/colophon-build/colophon/attest"
	"github.com/colophon-build/colophon/internal/dirlock"
	"github.com/colophon-build/colophon/platform/builder"
)

// stdPackages are the standard library's packages that services usually import; their
// own imports are compiled with them. A build compiles any package that is missing
// here itself, so the list affects only speed.
var stdPackages = strings.Fields(`
	archive/tar archive/zip bufio bytes cmp compress/flate compress/gzip compress/zlib container/heap container/list
	context crypto/aes crypto/ecdsa crypto/ed25519 crypto/hmac crypto/md5 crypto/rand crypto/rsa crypto/sha1 crypto/sha256
	crypto/sha512 crypto/subtle crypto/tls crypto/x509 database/sql embed encoding/base32 encoding/base64 encoding/binary
	encoding/csv encoding/gob encoding/hex encoding/json encoding/pem encoding/xml errors expvar flag fmt hash/crc32
	hash/fnv hash/maphash html/template io io/fs iter log log/slog maps math math/big math/rand math/rand/v2 mime
	mime/multipart net net/http net/http/httptest net/http/httputil net/http/pprof net/netip net/smtp net/textproto
	net/url os os/exec os/signal os/user path path/filepath reflect regexp runtime runtime/debug runtime/pprof
	runtime/trace slices sort strconv strings sync sync/atomic syscall testing text/tabwriter text/template time
	time/tzdata unicode unicode/utf16 unicode/utf8 unique unsafe`)

// stdFor returns the directories of the compiled standard library for the job's
// platforms. It first compiles what is missing, in a room like any other build, but
// from a tree that this package writes, so that no untrusted code affects it. This
// takes most of a minute, so stdFor reports it to logf.
func (b *Builder) stdFor(ctx context.Context, j *job, tools []attest.ResourceDescriptor, l builder.Limits, logf func(builder.Event)) (dirs []string, err error) {
	if b.cfg.StdCache == "" || b.unconfined {
		return nil, nil
	}
	for _, p := range j.Platforms {
		dir := filepath.Join(b.cfg.StdCache, stdKey(p, tools))
		_, err := os.Stat(dir)
		if errors.Is(err, fs.ErrNotExist) && len(j.Files) > 0 {
			continue // release files are for many platforms: compile what they need, and no more
		}
		if errors.Is(err, fs.ErrNotExist) {
			step := builder.Event{Step: fmt.Sprintf("standard library for %s, once on this platform", p)}
			if logf != nil {
				logf(step)
			}
			if err := b.makeStd(ctx, dir, p, tools, l); err != nil {
				return nil, fmt.Errorf("compiling the standard library for %s: %w", p, err)
			}
			if step.Done = true; logf != nil {
				logf(step)
			}
		} else if err != nil {
			return nil, err
		}
		dirs = append(dirs, dir)
	}
	return dirs, nil
}

// stdKey returns a directory name derived from everything that the compiled library
// depends on.
func stdKey(platform string, tools []attest.ResourceDescriptor) string {
	h := sha256.New()
	fmt.Fprintln(h, "v1", platform, goFlags, stdPackages)
	for _, t := range tools {
		fmt.Fprintln(h, t.Name, t.Annotations["version"], t.Digest["sha256"])
	}
	return "std-" + hex.EncodeToString(h.Sum(nil))[:32]
}

// makeStd compiles the standard library for one platform into dir.
func (b *Builder) makeStd(ctx context.Context, dir, platform string, tools []attest.ResourceDescriptor, l builder.Limits) error {
	lock, err := dirlock.Wait(b.cfg.StdCache)
	if err != nil {
		return err
	}
	defer lock.Release()
	if _, err := os.Stat(dir); err == nil {
		return nil // another process made it while this one waited for the lock
	}
	work, err := os.MkdirTemp(b.cfg.Dir, roomPrefix+"std-")
	if err != nil {
		return err
	}
	defer os.RemoveAll(work)
	tree, layout := filepath.Join(work, "tree"), filepath.Join(work, "layout")
	main := "package main\n\nimport (\n"
	for _, p := range stdPackages {
		main += "\t_ \"" + p + "\"\n"
	}
	main += ")\n\nfunc main() {}\n"
	for _, err := range []error{
		os.Mkdir(tree, 0o700), os.Mkdir(layout, 0o700),
		os.WriteFile(filepath.Join(tree, "go.mod"), []byte("module std.invalid\n"), 0o600),
		os.WriteFile(filepath.Join(tree, "main.go"), []byte(main), 0o600),
	} {
		if err != nil {
			return err
		}
	}
	r := builder.Request{
		Recipe: attest.Recipe{Builder: "golang", Package: ".", Platforms: []string{platform}},
		Tree:   tree, Layout: layout, Epoch: time.Unix(0, 0),
	}
	j, err := newJob(r)
	if err != nil {
		return err
	}
	room, err := b.open(r, j, l, nil)
	if err != nil {
		return err
	}
	defer os.RemoveAll(room.dir)
	if err := room.run(ctx, nil); err != nil {
		return err
	}
	if err := b.unchanged(ctx, tools); err != nil {
		return err // dir is named after them
	}
	// Copy first, because the two directories may be on different mounts; then rename.
	kept := filepath.Join(b.cfg.StdCache, "unfinished")
	if err := os.RemoveAll(kept); err != nil { // a killed process may have left it; we hold the lock
		return err
	}
	if err := os.CopyFS(kept, os.DirFS(filepath.Join(room.dir, "work", "cache"))); err != nil {
		return err
	}
	if err := keepForever(kept); err != nil {
		return err
	}
	return os.Rename(kept, dir)
}

// keepForever sets the times of a build cache's files to the year 2200. The go command
// then neither updates nor removes entries; updating one would copy it into the
// overlay of every build.
func keepForever(cache string) error {
	future := time.Date(2200, 1, 1, 0, 0, 0, 0, time.UTC)
	return filepath.WalkDir(cache, func(path string, d fs.DirEntry, err error) error {
		if err != nil || !d.Type().IsRegular() {
			return err
		}
		return os.Chtimes(path, future, future)
	})
}

// overlay is the overlay mount of a room's build cache. The compiled standard library
// is the read-only lower layer. The upper layer receives what the build compiles and
// is erased with the room.
type overlay struct {
	Lower []string `json:"lower"`
	Upper string   `json:"upper"`
	Work  string   `json:"work"`
	To    string   `json:"to"`
}

func (o *overlay) mount(root string) error {
	options := "userxattr,lowerdir=" + strings.Join(o.Lower, ":") + ",upperdir=" + o.Upper + ",workdir=" + o.Work
	return unix.Mount("overlay", filepath.Join(root, o.To), "overlay", unix.MS_NOSUID|unix.MS_NODEV, options)
}

// mountable reports whether an overlay's mount options can contain a path.
func mountable(path string) bool { return !strings.ContainsAny(path, ":,\\") }
