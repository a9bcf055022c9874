package main

import (
	"context"
	"os"
	"os/exec"
	"path/filepath"

	"github.com/colophon-build/colophon/internal/peer"
	"github.com/colophon-build/colophon/platform/builder"
	"github.com/colophon-build/colophon/platform/builder/golang"
	"github.com/colophon-build/colophon/platform/builder/rooms"
	"github.com/colophon-build/colophon/platform/builder/worker"
)

// builderSettings is what serve tells the builder. No token is among it.
type builderSettings struct {
	Dir         string      `json:"dir"`
	Std         string      `json:"std"`         // empty: below Dir
	RoomsSocket string      `json:"roomsSocket"` // empty: NoRooms says why
	NoRooms     string      `json:"noRooms"`
	Build       buildConfig `json:"build"`
}

func runBuilder(ctx context.Context, s start[builderSettings]) error {
	o := s.settings
	limits := o.Build.limits()
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
	gb, err := golang.New(golang.Config{Dir: goDir, ModuleCache: modules, StdCache: std, Limits: limits})
	if err != nil {
		s.log.Warn("no golang builder", "reason", err)
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
		s.log.Warn("no buildkit builder", "reason", reason)
		missing["buildkit"] = reason
	} else {
		apart["buildkit"] = driverProcess(o.RoomsSocket, limits.WallTime, []string{o.Dir, std})
	}
	return worker.Serve(ctx, worker.Config{
		Listener: s.listener, Users: s.users, Dir: filepath.Join(o.Dir, "work"),
		Builders: builders, Apart: apart, Missing: missing, Concurrent: o.Build.Concurrent, Log: s.log,
	})
}

// findBuildkitd looks beside this program and in PATH; it returns "" where neither has one.
func findBuildkitd() string {
	if self, err := os.Executable(); err == nil {
		p := filepath.Join(filepath.Dir(self), "buildkitd")
		if st, err := os.Stat(p); err == nil && st.Mode().IsRegular() {
			return p
		}
	}
	p, err := exec.LookPath("buildkitd")
	if err != nil {
		return ""
	}
	return p
}
