package platform

import (
	"context"
	"errors"
	"io"
	"log/slog"
	"os"
	"path/filepath"
	"runtime"
	"syscall"
	"time"

	"github.com/colophon-build/colophon/internal/logs"
	"github.com/colophon-build/colophon/internal/peer"
	"github.com/colophon-build/colophon/platform/builder"
	"github.com/colophon-build/colophon/platform/builder/sums"
	"github.com/colophon-build/colophon/platform/zone"
)

const (
	maxHashing = time.Minute // of the modules of one build; the others are downloaded again
	maxUnheard = 16          // builds whose modules wait to be hashed; those of further ones are not
)

// hasher has the modules that builds downloaded hashed, each once, in processes that no room
// reaches. It belongs to the role rooms.
type hasher struct {
	zone    zone.Zone
	users   peer.Users
	logs    logs.Settings
	log     *slog.Logger
	store   string // of the gateways' downloads
	file    *sums.File
	most    time.Duration // for the modules of one build
	waiting chan struct{} // a place for each build
	turn    chan struct{} // one process at a time
}

func newHasher(s roomsSettings, c zone.Child[roomsSettings]) *hasher {
	return &hasher{
		zone: s.Hasher, users: c.Users, logs: c.Logs, log: c.Log,
		store: s.Store, file: sums.At(filepath.Join(s.Sums, "modules")), most: maxHashing,
		waiting: make(chan struct{}, maxUnheard), turn: make(chan struct{}, 1),
	}
}

// hasherZone returns the zone of the processes that hash modules. Anybody may have made
// these, so such a process sees no directory of the platform, no socket and no network.
func (p *platform) hasherZone() (zone.Zone, error) {
	r, err := findRole(roleHasher)
	if err != nil {
		return zone.Zone{}, err
	}
	z := p.zone(r)
	z.Mounts, z.HideProc = nil, true
	return z, nil
}

// find returns the sums that the demands of a session ask for.
func (h *hasher) find(demands []builder.Demand) []sums.Sum {
	found, err := h.file.Find(demands)
	if err != nil {
		h.log.Warn("builds download modules again: what is known of them cannot be read", "error", err)
	}
	return found
}

// learn has the modules of an ended session hashed, in the background. A failure costs later
// builds a download.
func (h *hasher) learn(demands []builder.Demand, record []builder.Exchange) {
	select {
	case h.waiting <- struct{}{}:
	default:
		return
	}
	go func() {
		defer func() { <-h.waiting }()
		h.turn <- struct{}{}
		defer func() { <-h.turn }()
		wanted := sums.Wanted(demands, record, h.find(demands))
		if len(wanted) == 0 {
			return
		}
		got, err := h.hash(wanted)
		if err := errors.Join(err, h.file.Add(got)); err != nil {
			h.log.Warn("builds will download some modules again: not all could be hashed", "hashed", len(got), "of", len(wanted), "error", err)
		}
	}()
}

// hash hashes modules in a process of its own.
func (h *hasher) hash(wanted []string) ([]sums.Sum, error) {
	// The child dies with the thread that started it; see zone.Process.
	runtime.LockOSThread()
	defer runtime.UnlockOSThread()
	ctx, cancel := context.WithTimeout(context.Background(), h.most)
	defer cancel()
	cmd, err := zone.Process{Name: roleHasher, Zone: h.zone, Users: h.users, Settings: struct{}{}, Logs: h.logs}.Command(ctx)
	if err != nil {
		return nil, err
	}
	if h.zone.Separate {
		cmd.SysProcAttr.Cloneflags |= syscall.CLONE_NEWPID | syscall.CLONE_NEWIPC | syscall.CLONE_NEWUTS | syscall.CLONE_NEWNET
	}
	order := cmd.Stdin
	cmd.Stdin = nil
	in, err := cmd.StdinPipe()
	if err != nil {
		return nil, err
	}
	out, err := cmd.StdoutPipe()
	if err != nil {
		return nil, err
	}
	if err := cmd.Start(); err != nil {
		return nil, err
	}
	var got []sums.Sum
	if _, err = io.Copy(in, order); err == nil {
		got, err = sums.Ask(in, out, h.store, wanted)
	}
	if err != nil {
		cancel() // kills it
	}
	return got, errors.Join(ctx.Err(), err, cmd.Wait())
}

// runHasher computes the sums of modules. The role rooms starts it, and passes it the zips on
// standard input.
func runHasher(_ context.Context, _ zone.Child[struct{}]) error {
	return sums.Serve(os.Stdin, os.Stdout)
}
