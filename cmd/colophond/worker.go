package main

import (
	"context"
	"fmt"
	"log/slog"
	"os"
	"os/exec"
	"path/filepath"
	"time"

	"github.com/spf13/cobra"

	"github.com/colophon-build/colophon/build"
	"github.com/colophon-build/colophon/build/buildkit"
	"github.com/colophon-build/colophon/build/golang"
	"github.com/colophon-build/colophon/internal/peer"
	"github.com/colophon-build/colophon/internal/worker"
)

// workerSettings is what serve tells the builder. No token is among it.
type workerSettings struct {
	Socket string `json:"socket"`
	Dir    string `json:"dir"`
	Mirror string `json:"mirror"`
	Config config `json:"config"`
}

func newWorkerCommand() *cobra.Command {
	return &cobra.Command{
		Use: "worker", Short: "role: builds, in sealed rooms (started by serve)",
		Args: cobra.NoArgs, Hidden: true,
		RunE: func(cmd *cobra.Command, _ []string) error {
			var s workerSettings
			if err := readSettings(os.Stdin, &s); err != nil {
				return err
			}
			return runWorker(cmd.Context(), s)
		},
	}
}

func runWorker(ctx context.Context, s workerSettings) error {
	log := slog.New(slog.NewTextHandler(os.Stderr, nil)).With("role", "worker")
	limits := build.Limits{CPUs: s.Config.Build.CPUs, Memory: s.Config.Build.Memory, PIDs: s.Config.Build.PIDs}
	if s.Config.Build.WallTime != "" {
		d, err := time.ParseDuration(s.Config.Build.WallTime)
		if err != nil {
			return fmt.Errorf("build.wallTime: %w", err)
		}
		limits.WallTime = d
	}
	builders, missing := map[string]build.Builder{}, map[string]string{}
	goDir := filepath.Join(s.Dir, "golang")
	modules := filepath.Join(s.Dir, "modules")
	for _, d := range []string{goDir, modules} {
		if err := os.MkdirAll(d, 0o700); err != nil {
			return err
		}
	}
	std := s.Config.Build.StdCache
	if std == "" {
		std = filepath.Join(s.Dir, "std")
	}
	gb, err := golang.New(golang.Config{Dir: goDir, ModuleCache: modules, StdCache: std, Limits: limits})
	if err != nil {
		log.Warn("no golang builder", "reason", err)
		missing["golang"] = err.Error()
	} else {
		builders["golang"] = gb
	}
	rooms, err := buildkit.NewRooms(buildkit.RoomsConfig{
		Buildkitd: findBuildkitd(), StateDir: filepath.Join(s.Dir, "buildkit"), Mirror: s.Mirror,
		UIDBase: s.Config.Build.UIDBase, Limits: limits,
	})
	if err != nil {
		log.Warn("no buildkit builder", "reason", err)
		missing["buildkit"] = err.Error()
	} else {
		bb := buildkit.New(buildkit.Config{Rooms: ownSessions{rooms}, WallTime: limits.WallTime})
		builders["buildkit"] = bb
		defer bb.Wait()
	}
	l, err := peer.Listen(s.Socket, -1)
	if err != nil {
		return err
	}
	return worker.Serve(ctx, worker.Config{Listener: l, Users: peer.Users{"attestor": os.Getuid()}, Dir: filepath.Join(s.Dir, "work"), Builders: builders, Missing: missing, Concurrent: s.Config.Build.Concurrent, Log: log})
}

// ownSessions begins the sessions itself.
type ownSessions struct{ *buildkit.Rooms }

func (r ownSessions) Open(ctx context.Context, _ string, l build.Limits) (buildkit.Room, error) {
	id, err := r.Begin(ctx, build.Session{})
	if err != nil {
		return nil, err
	}
	return r.Rooms.Open(ctx, id, l)
}

// findBuildkitd looks beside this program, where the Makefile puts it, and in PATH.
func findBuildkitd() string {
	if self, err := os.Executable(); err == nil {
		for _, p := range []string{"buildkitd", "../build/bin/buildkitd"} {
			p = filepath.Join(filepath.Dir(self), p)
			if st, err := os.Stat(p); err == nil && st.Mode().IsRegular() {
				return p
			}
		}
	}
	p, err := exec.LookPath("buildkitd")
	if err != nil {
		return ""
	}
	return p
}
