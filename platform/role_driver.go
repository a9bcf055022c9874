package platform

import (
	"context"
	"os"
	"os/exec"
	"slices"
	"syscall"
	"time"

	"github.com/colophon-build/colophon/internal/logs"
	"github.com/colophon-build/colophon/internal/peer"
	"github.com/colophon-build/colophon/platform/builder/buildkit"
	"github.com/colophon-build/colophon/platform/builder/rooms"
	"github.com/colophon-build/colophon/platform/builder/worker"
	"github.com/colophon-build/colophon/platform/zone"
)

// driverSettings are the settings that the role rooms passes to a driver.
type driverSettings struct {
	Dir   string        `json:"dir"`   // for the tree and the layout of this build
	Rooms string        `json:"rooms"` // socket of the role rooms
	Wall  time.Duration `json:"wall"`
}

// driverZone returns the zone of the drivers of this host's rooms.
func (p *platform) driverZone() (zone.Zone, error) {
	r, err := findRole(roleDriver)
	if err != nil {
		return zone.Zone{}, err
	}
	z := p.zone(r)
	z.HideProc = true
	return z, nil
}

// driverProcess returns a function that prepares the process that drives the BuildKit of
// one room, in z. A hostile build may control that BuildKit and attack the driver. So the
// driver has namespaces of its own and no network, sees the directory of its build and no
// other, and knows the name of no other session: from there an attacker reaches this
// build alone.
func driverProcess(z zone.Zone, users peer.Users, how logs.Settings, wall time.Duration) worker.Apart {
	return func(ctx context.Context, dir string) (*exec.Cmd, error) {
		own := z
		own.Mounts = append(slices.Clone(z.Mounts), zone.Mount{Source: dir, Name: "build", Write: true})
		if err := os.Chown(dir, own.UID, own.UID); err != nil {
			return nil, err
		}
		s := driverSettings{Dir: own.Path("build"), Rooms: socket(own.Path("run"), roleRooms), Wall: wall}
		cmd, err := zone.Process{Name: roleDriver, Zone: own, Users: users, Settings: s, Logs: how}.Command(ctx)
		if err != nil {
			return nil, err
		}
		cmd.SysProcAttr.Cloneflags |= syscall.CLONE_NEWPID | syscall.CLONE_NEWIPC | syscall.CLONE_NEWUTS | syscall.CLONE_NEWNET
		return cmd, nil
	}
}

// runDriver runs one build. The role rooms starts it, and passes it the attestor's
// request, with recipe and tree, on standard input.
func runDriver(ctx context.Context, c zone.Child[driverSettings]) error {
	b := buildkit.New(buildkit.Config{Rooms: rooms.Client{At: peer.At(c.Settings.Rooms)}, WallTime: c.Settings.Wall})
	defer b.Wait()
	return worker.Child(ctx, b, c.Settings.Dir, os.Stdin, os.Stdout)
}
