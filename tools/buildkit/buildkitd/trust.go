package main

import (
	"context"
	"errors"
	"os"
	"slices"
	"strings"

	"github.com/containerd/continuity/fs"
	"github.com/moby/buildkit/executor"
	resourcestypes "github.com/moby/buildkit/executor/resources/types"
	"github.com/moby/buildkit/snapshot"
)

// trusting runs steps with the variables that name the image's bundle of certificate
// authorities. BuildKit adds its proxy's authority to that file, but Node.js, pip and others
// have bundles of their own, and would refuse every server. The image does not keep the
// variables, and the Dockerfile's own values count.
type trusting struct{ executor.Executor }

func (t trusting) Run(ctx context.Context, id string, root executor.Mount, mounts []executor.Mount, process executor.ProcessInfo, started chan<- struct{}) (resourcestypes.Recorder, error) {
	bundle, err := bundleOf(ctx, root)
	if err != nil {
		return nil, err
	}
	process.Meta.Env = trust(process.Meta.Env, bundle)
	return t.Executor.Run(ctx, id, root, mounts, process, started)
}

// bundles are where distributions have it, in the order in which BuildKit looks for it.
var bundles = []string{
	"/etc/ssl/certs/ca-certificates.crt", "/etc/pki/tls/certs/ca-bundle.crt", "/etc/ssl/ca-bundle.pem",
	"/etc/pki/tls/cacert.pem", "/etc/pki/ca-trust/extracted/pem/tls-ca-bundle.pem", "/etc/ssl/cert.pem",
}

// bundleOf returns the path of the bundle in a step's file system; "" if it has none.
func bundleOf(ctx context.Context, root executor.Mount) (path string, err error) {
	mountable, err := root.Src.Mount(ctx, true)
	if err != nil {
		return "", err
	}
	mounter := snapshot.LocalMounter(mountable)
	dir, err := mounter.Mount()
	if err != nil {
		return "", err
	}
	defer func() { err = errors.Join(err, mounter.Unmount()) }()
	for _, b := range bundles {
		file, err := fs.RootPath(dir, b)
		if err != nil {
			continue // BuildKit says what is wrong with it
		}
		if info, err := os.Stat(file); err == nil && info.Mode().IsRegular() {
			return b, nil
		}
	}
	return "", nil
}

// trust adds the variables that are missing, if there is a bundle.
func trust(env []string, bundle string) []string {
	for _, name := range []string{"SSL_CERT_FILE", "NODE_EXTRA_CA_CERTS", "REQUESTS_CA_BUNDLE"} {
		if bundle != "" && !slices.ContainsFunc(env, func(e string) bool { return strings.HasPrefix(e, name+"=") }) {
			env = append(slices.Clip(env), name+"="+bundle)
		}
	}
	return env
}
