package platform

import (
	"context"
	"net/http"
	"os"
	"path/filepath"

	"github.com/colophon-build/colophon/internal/peer"
	"github.com/colophon-build/colophon/platform/builder"
	"github.com/colophon-build/colophon/platform/builder/golang"
	"github.com/colophon-build/colophon/platform/builder/worker"
	"github.com/colophon-build/colophon/platform/zone"
)

// builderSettings are the settings that serve passes to the builder. They hold no token.
type builderSettings struct {
	Dir        string         `json:"dir"`
	Std        string         `json:"std"` // the compiled standard library; empty: a directory below Dir
	Limits     builder.Limits `json:"limits"`
	Concurrent int            `json:"concurrent"`
}

func prepareBuilder(p *platform, process *zone.Process) error {
	if std := p.file.Build.StdCache; std != "" {
		process.Zone.Mounts = append(process.Zone.Mounts, zone.Mount{Source: std, Name: "std", Write: true})
	}
	z := process.Zone
	process.Settings = builderSettings{Dir: z.Path("builder"), Std: z.Path("std"), Limits: p.file.Build.Limits, Concurrent: p.file.Build.Concurrent}
	return nil
}

func runBuilder(ctx context.Context, c zone.Child[builderSettings]) error {
	o := c.Settings
	builders, missing := map[string]builder.Builder{}, map[string]builder.Lack{}
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
		missing["golang"] = builder.LackOf(err)
	} else {
		builders["golang"] = gb
	}
	w, err := worker.New(worker.Config{
		Dir: filepath.Join(o.Dir, "work"), Builders: builders, Missing: missing, Concurrent: o.Concurrent, Log: c.Log,
	})
	if err != nil {
		return err
	}
	defer w.Close()
	mux := http.NewServeMux()
	w.Register(mux)
	return peer.Serve(ctx, c.Listener, c.Users, peer.Ready(mux, watchDisks(ctx, roleBuilder, c.Dirs, c.Log).ready))
}
