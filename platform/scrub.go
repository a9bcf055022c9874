package platform

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"log/slog"
	"os"
	"path/filepath"
	"runtime"
	"strings"
	"syscall"

	"github.com/colophon-build/colophon/internal/intact"
	"github.com/colophon-build/colophon/internal/userns"
	"github.com/colophon-build/colophon/platform/archive"
	"github.com/colophon-build/colophon/platform/audit"
	"github.com/colophon-build/colophon/platform/authority/ctlog"
	"github.com/colophon-build/colophon/platform/authority/indexlog"
	"github.com/colophon-build/colophon/platform/authority/log"
	"github.com/colophon-build/colophon/platform/authority/root"
	"github.com/colophon-build/colophon/platform/builder/gateway"
	"github.com/colophon-build/colophon/platform/registry"
	"github.com/colophon-build/colophon/platform/release"
	"github.com/colophon-build/colophon/platform/zone"
)

// scrubber compares directories of one role with what their files promise, and repairs or
// reports what is damaged. The role may run meanwhile.
type scrubber struct {
	dirs  []string // below the data directory
	holds string   // what is in them, for people
	scrub func(ctx context.Context, r *intact.Report, dirs ...string) error
}

// scrubbers lists what Scrub checks: everything whose bytes can be compared with a digest or
// a signature.
func scrubbers() []scrubber {
	return []scrubber{
		{[]string{"trust", "log", "ct", "index", "archivelog", "archiveindex"}, "logs and trust root", scrubTrust},
		{[]string{"registry"}, "images and proofs", func(ctx context.Context, r *intact.Report, dirs ...string) error {
			return registry.Scrub(ctx, r, dirs[0])
		}},
		{[]string{"archive"}, "archived evidence", func(ctx context.Context, r *intact.Report, dirs ...string) error {
			return archive.Scrub(ctx, r, dirs[0])
		}},
		{[]string{"gateway"}, "downloads of hermetic builds", func(ctx context.Context, r *intact.Report, dirs ...string) error {
			return gateway.Scrub(ctx, r, dirs[0])
		}},
		{[]string{"audit"}, "audit ledger", func(ctx context.Context, r *intact.Report, dirs ...string) error {
			return audit.Scrub(ctx, r, dirs[0])
		}},
		{[]string{"attestor"}, "build logs and lock files", func(ctx context.Context, r *intact.Report, dirs ...string) error {
			return release.Scrub(ctx, r, dirs[0])
		}},
	}
}

// scrubTrust checks what the trust services serve, as far as they exist: with outside services
// there is only the trust root.
func scrubTrust(ctx context.Context, r *intact.Report, dirs ...string) error {
	keyDir, logDir, ctDir := dirs[0], dirs[1], dirs[2]
	err := root.Scrub(r, keyDir, filepath.Join(keyDir, "tuf"))
	scrubs := map[string]func() error{
		filepath.Join(logDir, "log.json"):   func() error { return log.Scrub(ctx, r, logDir) },
		filepath.Join(keyDir, "ctlog.json"): func() error { return ctlog.Scrub(ctx, r, keyDir, ctDir) },
	}
	for i, record := range []string{indexRecord, archiveRecord, archiveIndexRecord} {
		path, dir := filepath.Join(keyDir, record), dirs[3+i]
		scrubs[path] = func() error { return indexlog.Scrub(ctx, r, path, dir) }
	}
	for path, scrub := range scrubs {
		if _, statErr := os.Stat(path); statErr == nil {
			err = errors.Join(err, scrub())
		} else if !errors.Is(statErr, fs.ErrNotExist) {
			err = errors.Join(err, statErr)
		}
	}
	return err
}

// ScrubCommand is the name of the command that Scrub starts for each directory, as the user
// that owns it. Its main function is ScrubDir.
const ScrubCommand = "scrub-dir"

// scrubMemory is the limit of the data of a process that checks one directory, in bytes. When
// memory runs out, the kernel kills it before any role.
const scrubMemory = 1 << 30

// scrubSettings are the settings of the process that checks one directory.
type scrubSettings struct {
	Name string   `json:"name"` // the first of scrubber.dirs
	Dirs []string `json:"dirs"` // their paths in the zone
}

// Scrub compares the stored bytes below the data directory with their digests and
// signatures. It writes to out one line for each damaged file and one for each directory, and
// returns an error if something is damaged that it could not repair. The platform may run.
func Scrub(ctx context.Context, data string, out io.Writer) error {
	data, err := filepath.Abs(data)
	if err != nil {
		return err
	}
	if info, err := os.Stat(filepath.Join(data, "registry")); err == nil && os.Geteuid() != 0 && int(info.Sys().(*syscall.Stat_t).Uid) != os.Geteuid() {
		// The subordinate ids of a plain user own it.
		if err := userns.Check(); err != nil {
			return err
		}
		return userns.Run(ctx, func() error { return nil })
	}
	// Processes of root are started below this directory: see zone.Root.
	separate := zone.Separable() == nil
	if separate {
		if err := os.MkdirAll(zone.Root, 0o755); err != nil {
			return err
		}
	}
	found := false
	var errs []error
	for _, s := range scrubbers() {
		info, err := os.Lstat(filepath.Join(data, s.dirs[0]))
		if errors.Is(err, fs.ErrNotExist) {
			continue // its role runs on another host, or never ran
		} else if err != nil {
			return err
		}
		found = true
		// Whoever owns the directory decides what is in it, so root does not read it.
		owner := info.Sys().(*syscall.Stat_t)
		z := zone.Zone{Separate: separate && owner.Uid != 0, UID: int(owner.Uid), Group: int(owner.Gid), Memory: scrubMemory, Killed: 900}
		settings := scrubSettings{Name: s.dirs[0]}
		for _, dir := range s.dirs {
			z.Mounts = append(z.Mounts, zone.Mount{Source: filepath.Join(data, dir), Name: dir, Write: true})
			settings.Dirs = append(settings.Dirs, z.Path(dir))
		}
		if err := runScrub(ctx, zone.Process{Name: ScrubCommand, Zone: z, Settings: settings, Log: slog.Default()}, out); err != nil {
			errs = append(errs, fmt.Errorf("%s: %w", s.dirs[0], err))
		}
	}
	if !found {
		return fmt.Errorf("%s holds no data of a platform", data)
	}
	return errors.Join(errs...)
}

func runScrub(ctx context.Context, p zone.Process, out io.Writer) error {
	// The kernel kills the child when the thread that started it ends.
	runtime.LockOSThread()
	defer runtime.UnlockOSThread()
	cmd, err := p.Command(ctx)
	if err != nil {
		return err
	}
	cmd.Stdout = out
	if err := cmd.Run(); err != nil {
		return fmt.Errorf("not all of it is intact: %w", err)
	}
	return nil
}

// ScrubDir is the main function of the process that Scrub starts for one directory.
func ScrubDir(ctx context.Context, in io.Reader, out io.Writer) error {
	return zone.Run(ctx, ScrubCommand, in, func(ctx context.Context, c zone.Child[scrubSettings]) error {
		for _, s := range scrubbers() {
			if s.dirs[0] != c.Settings.Name {
				continue
			}
			r := intact.Report{Tell: func(f intact.Finding) {
				for i, dir := range c.Settings.Dirs {
					f.File = strings.Replace(f.File, dir+"/", s.dirs[i]+"/", 1)
				}
				fmt.Fprintln(out, f)
			}}
			if err := s.scrub(ctx, &r, c.Settings.Dirs...); err != nil {
				return err
			}
			fmt.Fprintf(out, "%s: %d files, %d bytes; %d repaired, %d damaged\n", s.holds, r.Files, r.Bytes, r.Repaired, r.Damaged)
			if r.Damaged > 0 {
				return fmt.Errorf("%d files are damaged", r.Damaged)
			}
			return nil
		}
		return fmt.Errorf("nothing checks a directory %q", c.Settings.Name)
	})
}
