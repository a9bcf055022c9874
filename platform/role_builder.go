package platform

import (
	"context"
	"os"
	"path/filepath"

	"github.com/colophon-build/colophon/internal/peer"
	"github.com/colophon-build/colophon/platform/builder"
	"github.com/colophon-build/colophon/platform/builder/golang"
	"github.com/colophon-build/colophon/platform/builder/rooms"
	"github.com/colophon-build/colophon/platform/builder/sandbox"
	"github.com/colophon-build/colophon/platform/builder/worker"
	"github.com/colophon-build/colophon/platform/zone"
)

// builderSettings are the settings that serve passes to the builder. They hold no token.
type builderSettings struct {
	Dir         string         `json:"dir"`
	Std         string         `json:"std"`         // the compiled standard library; empty: a directory below Dir
	RoomsSocket string         `json:"roomsSocket"` // empty if this host cannot open rooms
	NoRooms     string         `json:"noRooms"`     // why RoomsSocket is empty
	Limits      builder.Limits `json:"limits"`
	Concurrent  int            `json:"concurrent"`
}

func prepareBuilder(p *platform, process *zone.Process) error {
	if std := p.file.Build.StdCache; std != "" {
		process.Zone.Mounts = append(process.Zone.Mounts, zone.Mount{Source: std, Name: "std", Write: true})
	}
	z := process.Zone
	s := builderSettings{Dir: z.Path("builder"), Std: z.Path("std"), Limits: p.file.Build.Limits, Concurrent: p.file.Build.Concurrent}
	if err := sandbox.Supported(); err != nil {
		s.NoRooms = err.Error()
	} else {
		s.RoomsSocket = socket(z.Path("run"), roleRooms)
	}
	process.Settings = s
	return nil
}

func runBuilder(ctx context.Context, c zone.Child[builderSettings]) error {
	o := c.Settings
	builders, apart, missing := map[string]builder.Builder{}, map[string]worker.Apart{}, map[string]string{}
	goDir, modules, std := filepath.Join(o.Dir, "golang"), filepath.Join(o.Dir, "modules"), o.Std
	if std == "" {
		std = filepath.Join(o.Dir, "std")
	}
	for _, d := range []string{goDir, modules} {
		if err := os.MkdirAll(d, 0o700); err != nil {
			return err
		}
	}
	gb, err := golang.New(golang.Config{Dir: goDir, ModuleCache: modules, StdCache: std, Limits: o.Limits})
	if err != nil {
		c.Log.Warn("no golang builder", "reason", err)
		missing["golang"] = err.Error()
	} else {
		builders["golang"] = gb
	}
	opener := rooms.Client{At: peer.At(o.RoomsSocket)}
	reason := o.NoRooms
	if reason == "" {
		if err := opener.Available(ctx); err != nil {
			reason = err.Error()
		}
	}
	if reason != "" {
		c.Log.Warn("no buildkit builder", "reason", reason)
		missing["buildkit"] = reason
	} else {
		apart["buildkit"] = driverProcess(o.RoomsSocket, o.Limits.WallTime, []string{o.Dir, std})
	}
	return worker.Serve(ctx, worker.Config{
		Listener: c.Listener, Users: c.Users, Dir: filepath.Join(o.Dir, "work"),
		Builders: builders, Apart: apart, Missing: missing, Concurrent: o.Concurrent, Log: c.Log,
		Ready: watchDisks(ctx, roleBuilder, c.Dirs, c.Log).ready,
	})
}
