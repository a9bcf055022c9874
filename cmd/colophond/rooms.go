package main

import (
	"context"
	"net/http"

	"golang.org/x/sys/unix"

	"github.com/colophon-build/colophon/internal/peer"
	"github.com/colophon-build/colophon/platform/attestor/localgit"
	"github.com/colophon-build/colophon/platform/builder/buildkit"
	"github.com/colophon-build/colophon/platform/builder/gateway"
	"github.com/colophon-build/colophon/platform/builder/rooms"
	"github.com/colophon-build/colophon/platform/builder/sandbox"
)

// roomsCapabilities are what is left of root: to open rooms, and to end gateways
// and take from them what they do not need.
var roomsCapabilities = append([]int{unix.CAP_KILL, unix.CAP_SETPCAP}, sandbox.Capabilities...)

// roomsSettings is what serve tells the role that needs root.
type roomsSettings struct {
	Buildkitd string            `json:"buildkitd"`
	LocalGit  bool              `json:"localGit"` // the attestor may read local repositories
	Dir       string            `json:"dir"`
	Network   gateway.Settings  `json:"network"`
	Gateway   zone              `json:"gateway"` // of the gateways that it starts
	Build     buildConfig       `json:"build"`
	Setup     map[string]string `json:"setup"`
}

// runRooms opens rooms for the builder, and local repositories for the attestor.
func runRooms(ctx context.Context, s start[roomsSettings]) error {
	mux := http.NewServeMux()
	if s.settings.LocalGit {
		mux.Handle(localgit.Path, peer.Allow(localgit.Handler(s.log), roleAttestor))
	}
	r, err := buildkit.NewRooms(buildkit.RoomsConfig{
		Buildkitd: s.settings.Buildkitd, Runtime: s.settings.Build.Runtime, StateDir: s.settings.Dir, Network: s.settings.Network,
		UIDBase: s.settings.Build.UIDBase, Limits: s.settings.Build.limits(), Setup: s.settings.Setup,
		Gateway: gatewayProcess(s.settings.Gateway, s.users),
	})
	if err != nil {
		s.log.Warn("no rooms", "reason", err)
		mux.Handle("/", rooms.Unavailable(err))
	} else {
		mux.Handle("/", rooms.Handler(r, s.log))
	}
	return peer.Serve(ctx, s.listener, s.users, mux)
}
