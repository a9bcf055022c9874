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

// stdPackages are what services import of the standard library; what these
// import comes with them. A package that is missing here is compiled in each
// build that needs it, so the list decides speed and nothing else.
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

// stdFor returns the compiled standard library for the job's platforms, made
// first where it is missing. It comes out of a room like any other build, but of
// a tree of ours, so that nothing of a stranger is in it. That takes most of a
// minute, so logf hears of it.
func (b *Builder) stdFor(ctx context.Context, j *job, l builder.Limits, logf func(builder.Event)) (dirs []string, err error) {
	if b.cfg.StdCache == "" || b.cfg.Unconfined {
		return nil, nil
	}
	for _, p := range j.Platforms {
		dir := filepath.Join(b.cfg.StdCache, b.stdKey(p))
		if _, err := os.Stat(dir); errors.Is(err, fs.ErrNotExist) {
			if logf != nil {
				logf(builder.Event{Step: fmt.Sprintf("standard library for %s, once on this platform", p)})
			}
			if err := b.makeStd(ctx, dir, p, l); err != nil {
				return nil, fmt.Errorf("compiling the standard library for %s: %w", p, err)
			}
		} else if err != nil {
			return nil, err
		}
		dirs = append(dirs, dir)
	}
	return dirs, nil
}

// stdKey names all that the compiled library depends on.
func (b *Builder) stdKey(platform string) string {
	h := sha256.New()
	fmt.Fprintln(h, "v1", platform, goFlags, stdPackages)
	for _, t := range b.tools {
		fmt.Fprintln(h, t.Name, t.Annotations["version"], t.Digest["sha256"])
	}
	return "std-" + hex.EncodeToString(h.Sum(nil))[:32]
}

func (b *Builder) makeStd(ctx context.Context, dir, platform string, l builder.Limits) error {
	lock, err := dirlock.Wait(b.cfg.StdCache)
	if err != nil {
		return err
	}
	defer lock.Release()
	if _, err := os.Stat(dir); err == nil {
		return nil // while we waited
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
	// Copied, since the two may be different mounts, and only then put in place.
	kept := filepath.Join(b.cfg.StdCache, "unfinished")
	if err := os.RemoveAll(kept); err != nil { // what a killed process left; the lock is ours
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

// keepForever dates a build cache into the future: the go command then neither
// refreshes nor trims its entries, which would copy each one into every build.
func keepForever(cache string) error {
	future := time.Date(2200, 1, 1, 0, 0, 0, 0, time.UTC)
	return filepath.WalkDir(cache, func(path string, d fs.DirEntry, err error) error {
		if err != nil || !d.Type().IsRegular() {
			return err
		}
		return os.Chtimes(path, future, future)
	})
}

// overlay is the build cache of a room that starts from compiled libraries: they
// lie below, read-only, and what the build compiles goes on top and away with it.
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

// mountable tells whether a path can stand in an overlay's options.
func mountable(path string) bool { return !strings.ContainsAny(path, ":,\\") }
