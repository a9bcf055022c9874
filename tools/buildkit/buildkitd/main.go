// Command buildkitd is BuildKit's daemon with what a room needs: its OCI worker on overlayfs,
// and its Dockerfile frontend. It consists of BuildKit's packages at the version in go.mod, and
// reads BuildKit's buildkitd.toml. BuildKit's own main also links what a room must not use, and what
// takes a third of the time to compile it: containerd's worker, caches in S3, Azure and
// GitHub, other snapshotters, tracing.
//
//	buildkitd --config FILE [--rootless]
package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"net"
	"os"
	"os/signal"
	"path/filepath"
	"runtime/debug"
	"strings"
	"syscall"

	"github.com/containerd/containerd/v2/core/snapshots"
	"github.com/containerd/containerd/v2/defaults"
	"github.com/containerd/containerd/v2/plugins/snapshots/overlay"
	"github.com/containerd/platforms"
	"github.com/coreos/go-systemd/v22/activation"
	"github.com/moby/buildkit/client"
	"github.com/moby/buildkit/cmd/buildkitd/config"
	"github.com/moby/buildkit/control"
	"github.com/moby/buildkit/executor/oci"
	"github.com/moby/buildkit/executor/runcexecutor"
	"github.com/moby/buildkit/frontend"
	dockerfile "github.com/moby/buildkit/frontend/dockerfile/builder"
	dockerfileversion "github.com/moby/buildkit/frontend/dockerfile/version"
	"github.com/moby/buildkit/frontend/gateway/forwarder"
	"github.com/moby/buildkit/session"
	"github.com/moby/buildkit/solver"
	"github.com/moby/buildkit/solver/bboltcachestorage"
	"github.com/moby/buildkit/util/apicaps"
	"github.com/moby/buildkit/util/archutil"
	"github.com/moby/buildkit/util/db/boltutil"
	"github.com/moby/buildkit/util/grpcerrors"
	_ "github.com/moby/buildkit/util/grpcutil/encoding/proto"
	"github.com/moby/buildkit/util/network/cniprovider"
	"github.com/moby/buildkit/util/network/netproviders"
	"github.com/moby/buildkit/util/resolver"
	"github.com/moby/buildkit/util/stack"
	"github.com/moby/buildkit/util/tracing/detect"
	"github.com/moby/buildkit/version"
	"github.com/moby/buildkit/worker"
	"github.com/moby/buildkit/worker/base"
	"github.com/moby/buildkit/worker/runc"
	fscopy "github.com/tonistiigi/fsutil/copy"
	bolt "go.etcd.io/bbolt"
	"google.golang.org/grpc"
)

func main() {
	file := flag.String("config", "", "path of buildkitd.toml")
	rootless := flag.Bool("rootless", false, "run in a user namespace")
	show := flag.Bool("version", false, "print the version of BuildKit's packages")
	flag.Parse()
	if *show {
		fmt.Println(module())
		return
	}
	cfg, err := config.LoadFile(*file)
	if err == nil {
		cfg.Workers.OCI.Rootless = cfg.Workers.OCI.Rootless || *rootless
		err = run(&cfg)
	}
	if err != nil {
		fmt.Fprintf(os.Stderr, "buildkitd: %+v\n", err)
		os.Exit(1)
	}
}

// module returns the path and version of BuildKit's module, as the build of this program
// recorded it.
func module() string {
	const path = "github.com/moby/buildkit"
	if info, ok := debug.ReadBuildInfo(); ok {
		for _, m := range info.Deps {
			if m.Path == path {
				return path + " " + m.Version
			}
		}
	}
	return path + " of unknown version"
}

func run(cfg *config.Config) error {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	apicaps.ExportedProduct = "buildkit"
	stack.SetVersionInfo(version.Version, version.Revision)
	detect.Recorder = detect.NewTraceRecorder() // the history of builds requires it
	syscall.Umask(0)
	fscopy.UmaskIsZero = true

	if err := os.MkdirAll(cfg.Root, 0o700); err != nil {
		return err
	}
	l, err := listen(cfg.GRPC.Address)
	if err != nil {
		return err
	}
	controller, err := newController(ctx, cfg)
	if err != nil {
		return err
	}
	defer controller.Close()
	server := grpc.NewServer(
		grpc.UnaryInterceptor(grpcerrors.UnaryServerInterceptor), grpc.StreamInterceptor(grpcerrors.StreamServerInterceptor),
		grpc.MaxRecvMsgSize(defaults.DefaultMaxRecvMsgSize), grpc.MaxSendMsgSize(defaults.DefaultMaxSendMsgSize),
	)
	controller.Register(server)
	context.AfterFunc(ctx, server.GracefulStop)
	return server.Serve(l)
}

// listen returns the listener of the address: fd:// is the one that the starter opened, as
// for systemd's socket activation.
func listen(addresses []string) (net.Listener, error) {
	if len(addresses) != 1 {
		return nil, fmt.Errorf("grpc.address: got %q, want one address", addresses)
	}
	if path, ok := strings.CutPrefix(addresses[0], "unix://"); ok {
		return net.Listen("unix", path)
	}
	if addresses[0] != "fd://" {
		return nil, fmt.Errorf("grpc.address: got %q, want fd:// or unix://PATH", addresses[0])
	}
	ls, err := activation.Listeners()
	if err == nil && len(ls) != 1 {
		err = fmt.Errorf("grpc.address fd://: got %d open listeners, want 1", len(ls))
	}
	if err != nil {
		return nil, err
	}
	return ls[0], nil
}

func newController(ctx context.Context, cfg *config.Config) (*control.Controller, error) {
	sessions, err := session.NewManager()
	if err != nil {
		return nil, err
	}
	w, err := newWorker(ctx, cfg)
	if err != nil {
		return nil, err
	}
	workers := &worker.Controller{}
	if err := workers.Add(w); err != nil {
		return nil, err
	}
	cache, err := bboltcachestorage.NewStore(filepath.Join(cfg.Root, "cache.db"))
	if err != nil {
		return nil, err
	}
	history, err := boltutil.SafeOpen(filepath.Join(cfg.Root, "history.db"), 0o600, &bolt.Options{FreelistType: bolt.FreelistMapType})
	if err != nil {
		return nil, err
	}
	return control.NewController(control.Opt{
		SessionManager:   sessions,
		WorkerController: workers,
		Frontends:        map[string]frontend.Frontend{"dockerfile.v0": forwarder.NewGatewayForwarder(workers.Infos(), dockerfile.Build)},
		CacheManager:     solver.NewCacheManager(context.WithoutCancel(ctx), "local", cache, worker.NewCacheResultStorage(workers)),
		Entitlements:     cfg.Entitlements,
		HistoryDB:        history,
		CacheStore:       cache,
		LeaseManager:     w.LeaseManager(),
		ContentStore:     w.ContentStore(),
		HistoryConfig:    cfg.History,
		ProxyNetwork:     cfg.ProxyNetwork,
		GarbageCollect:   w.GarbageCollect,
		GracefulStop:     ctx.Done(),
	})
}

// newWorker returns the OCI worker, whose steps share this process's network.
func newWorker(ctx context.Context, cfg *config.Config) (*base.Worker, error) {
	o := cfg.Workers.OCI
	if o.Snapshotter != "overlayfs" {
		return nil, fmt.Errorf("worker.oci.snapshotter: got %q, want overlayfs", o.Snapshotter)
	}
	if o.GC == nil || *o.GC {
		return nil, errors.New("worker.oci.gc: got true, want false")
	}
	snapshotter := runc.SnapshotterFactory{Name: o.Snapshotter, New: func(root string) (snapshots.Snapshotter, error) {
		return overlay.NewSnapshotter(root, overlay.AsynchronousRemove)
	}}
	network := netproviders.Opt{Mode: "host", CNI: cniprovider.Opt{Root: cfg.Root}}
	opt, err := runc.NewWorkerOpt(cfg.Root, snapshotter, o.Rootless, oci.ProcessSandbox, nil, nil, network, nil, o.Binary, "", false, nil, "", "", nil)
	if err != nil {
		return nil, err
	}
	var runtimes []string // nil: the default
	if o.Binary != "" {
		runtimes = []string{o.Binary}
	}
	run, err := runcexecutor.New(runcexecutor.Opt{ // as NewWorkerOpt makes it, but for ProxyProvider
		Root: filepath.Join(opt.Root, "executor"), CommandCandidates: runtimes, Rootless: o.Rootless, ProcessMode: oci.ProcessSandbox,
		ResourceMonitor: opt.ResourceMonitor, ProxyProvider: forJava{opt.ProxyProvider, cfg.Root},
	}, opt.NetworkProviders)
	if err != nil {
		return nil, err
	}
	opt.Executor = trusting{run}
	opt.RegistryHosts = resolver.NewRegistryConfig(cfg.Registries)
	opt.BuildkitVersion = client.BuildkitVersion{Package: version.Package, Version: version.Version, Revision: version.Revision, DockerfileVersion: dockerfileversion.Version()}
	opt.Platforms = nil
	for _, p := range archutil.SupportedPlatforms(false) {
		opt.Platforms = append(opt.Platforms, platforms.Normalize(p))
	}
	return base.NewWorker(context.WithoutCancel(ctx), opt)
}
