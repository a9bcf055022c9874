package sandbox

import (
	"errors"
	"fmt"
	"math"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"

	"github.com/colophon-build/colophon/internal/dirlock"
)

const slotDir = "/run/colophon/rooms"

// layout says which ids the rooms of a host have.
type layout struct {
	first uint32 // default of Config.UIDBase
	slots uint32 // maximum number of rooms at a time

	// A room has low ids from 0 on, and high ones from highFrom on.
	low, highFrom, high uint32
}

// size is the number of one room's ids.
func (l layout) size() uint32 { return l.low + l.high }

const (
	slots = 128 // maximum number of rooms on one machine at a time

	// A room has the ids from 0 on, as many accounts of large organizations have, and
	// those that OpenShift gives to its first hundred projects.
	lowIDs   = 1 << 20
	highFrom = 1_000_000_000
	highIDs  = 1 << 20
	slotSize = lowIDs + highIDs // uids of one room on the host

	// uidBase is the default of Config.UIDBase. Neither Debian nor systemd gives uids from
	// here to 0x7fffffff, where the last slot ends, to users, containers or services
	// (systemd's UIDS-GIDS.md).
	uidBase = 0x70000000
)

// hostIDs is the layout where we are root of the host.
var hostIDs = layout{first: uidBase, slots: slots, low: lowIDs, highFrom: highFrom, high: highIDs}

func ids() layout {
	if nested() {
		return nestedIDs
	}
	return hostIDs
}

// Range returns the uids of the rooms whose Config.UIDBase is base: first is the first of
// size uids. It returns an error if base is no multiple of the size of a slot: two platforms that
// start elsewhere would give two rooms overlapping uids, under different locks.
func Range(base uint32) (first, size uint32, err error) { return ids().uids(base) }

func (l layout) uids(base uint32) (first, size uint32, err error) {
	one := l.size()
	switch {
	case base == 0:
		return l.first, l.slots * one, nil
	case l != hostIDs:
		return 0, 0, fmt.Errorf("expected 0, because a plain user's subordinate ids are no others than he was given, found %d", base)
	case base%slotSize != 0 || base > math.MaxUint32-slots*slotSize:
		return 0, 0, fmt.Errorf("expected a multiple of %d from %d to %d, found %d", slotSize, slotSize, (math.MaxUint32-slots*slotSize)/slotSize*slotSize, base)
	}
	return base, l.slots * one, nil
}

// Rooms returns the maximum number of rooms at a time.
func Rooms() int { return int(ids().slots) }

// IDs says, for people, which user and group ids exist in a room.
func IDs() string {
	l := ids()
	return fmt.Sprintf("0 to %d and %d to %d", l.low-1, l.highFrom, l.highFrom+l.high-1)
}

// ids returns the map from the ids of a room to those of the host.
func (s *slot) ids() []syscall.SysProcIDMap {
	l := ids()
	return []syscall.SysProcIDMap{
		{ContainerID: 0, HostID: int(s.uid), Size: int(l.low)},
		{ContainerID: int(l.highFrom), HostID: int(s.uid + l.low), Size: int(l.high)},
	}
}

// A slot is a uid range that one room uses while it holds the lock of the slot's
// file. The lock is valid between all processes of the machine, and the kernel
// releases it when its holder dies.
type slot struct {
	uid  uint32
	lock *dirlock.Lock
}

func (s *slot) name() string { return "uid-" + strconv.FormatUint(uint64(s.uid), 10) }
func (s *slot) release()     { s.lock.Release() }

func takeSlot(base uint32) (*slot, error) {
	l := ids()
	for n := range l.slots {
		s, err := trySlot(base + n*l.size())
		if err != nil {
			return nil, err
		}
		if s != nil {
			return s, nil
		}
	}
	return nil, fmt.Errorf("all %d uid ranges from %d are in use by running builds", l.slots, base)
}

// trySlot takes the slot whose first uid is uid; it returns nil if the slot is in
// use. It first removes the cgroups that a dead holder left under the slot's name.
func trySlot(uid uint32) (*slot, error) {
	if err := os.MkdirAll(slotDir, 0o700); err != nil {
		return nil, err
	}
	s := &slot{uid: uid}
	var err error
	if s.lock, err = dirlock.TakeFile(filepath.Join(slotDir, s.name())); errors.Is(err, dirlock.ErrHeld) {
		return nil, nil
	} else if err != nil {
		return nil, err
	}
	if err := sweepCgroup(s.name()); err != nil {
		s.release()
		return nil, err
	}
	return s, nil
}

// makeRoomDir creates and locks the directory DIR/room-UID-RANDOM. The room keeps the
// lock until it is closed; its image and its socket are in that directory.
func makeRoomDir(dir string, uid uint32) (string, *dirlock.Lock, error) {
	room, err := os.MkdirTemp(dir, fmt.Sprintf("room-%d-", uid))
	if err != nil {
		return "", nil, err
	}
	lock, err := dirlock.Take(room)
	if err != nil {
		os.RemoveAll(room)
		return "", nil, err
	}
	return room, lock, nil
}

// Sweep erases the directories and cgroups of rooms in dir whose parent died before
// it closed them. (The kernel has already removed their processes, mounts, loop
// devices and network.) It skips rooms in use. Call it at start.
func Sweep(dir string) error {
	entries, err := os.ReadDir(dir)
	if err != nil && !errors.Is(err, os.ErrNotExist) {
		return err
	}
	var errs []error
	for _, e := range entries {
		rest, ok := strings.CutPrefix(e.Name(), "room-")
		if !ok || !e.IsDir() {
			continue
		}
		room := filepath.Join(dir, e.Name())
		lock, err := dirlock.Take(room)
		if errors.Is(err, dirlock.ErrHeld) {
			continue
		} else if err != nil {
			errs = append(errs, err)
			continue
		}
		id, _, _ := strings.Cut(rest, "-")
		if uid, err := strconv.ParseUint(id, 10, 32); err == nil {
			// Taking the slot removes its cgroup. If a newer room uses the slot, it has
			// removed the cgroup already.
			if s, err := trySlot(uint32(uid)); err != nil {
				errs = append(errs, err)
			} else if s != nil {
				s.release()
			}
		}
		errs = append(errs, os.RemoveAll(room))
		lock.Release()
	}
	return errors.Join(append(errs, sweepThrottles())...)
}
