package main

import (
	"context"
	"fmt"
	"time"

	"github.com/spf13/cobra"
	"github.com/spf13/pflag"

	"github.com/colophon-build/colophon/internal/printable"
	"github.com/colophon-build/colophon/lint/pins"
)

// resolutionOptions say who answers what tags and branches point to.
type resolutionOptions struct {
	offline bool
	file    string
	server  string
	private bool
}

func (o *resolutionOptions) flags(f *pflag.FlagSet) {
	f.BoolVar(&o.offline, "offline", false, "ask no registry and no repository; the answer says what was not asked")
	f.StringVar(&o.file, "resolutions", "", "what tags and branches point to, from `FILE`, where no server can be asked; implies --offline. The file colophon/resolutions.json of a user's cache is one")
	f.BoolVar(&o.private, "private", false, "ask registries whose addresses are not public too, and those behind the proxy that the environment names: the files that are read choose which")
	f.StringVar(&o.server, "github", pins.GitHub, "`URL` of the server of actions: a GitHub Enterprise Server, Gitea or Forgejo")
}

// inDirectory returns the RunE of a command on a directory, which is the current one without an argument.
func inDirectory(timeout *time.Duration, run func(ctx context.Context, cmd *cobra.Command, dir string) error) func(*cobra.Command, []string) error {
	return func(cmd *cobra.Command, args []string) error {
		ctx, cancel := withTimeout(cmd.Context(), *timeout)
		defer cancel()
		dir := "."
		if len(args) == 1 {
			dir = args[0]
		}
		return run(ctx, cmd, dir)
	}
}

// resolver returns what answers, and a function that keeps the answers for the next time. What is
// wrong with the cache is said on standard error.
func (o *resolutionOptions) resolver(cmd *cobra.Command) (r *pins.Resolver, keep func(), err error) {
	r = &pins.Resolver{Server: o.server, Offline: o.offline, Private: o.private}
	keep = func() {}
	if o.file != "" {
		o.offline, r.Offline = true, true
		if r.Known, err = pins.ReadFile(o.file); err != nil {
			return nil, nil, usageError("where servers can be asked, colophon lint writes colophon/resolutions.json into the cache of the user (~/.cache)", "--resolutions: %v", err)
		}
		return r, keep, nil
	}
	path, err := pins.CacheFile()
	if err != nil { // no home: nothing is kept
		r.Known = pins.New()
		return r, keep, nil
	}
	warn := func(what string, err error) {
		if err != nil {
			fmt.Fprintln(cmd.ErrOrStderr(), printable.Line(what+": "+err.Error()))
		}
	}
	r.Known, err = pins.Cache(path)
	warn("the cache cannot be read: when releases were first seen is not known, and a tag that moved is not noticed", err)
	if !o.offline {
		keep = func() { warn("what servers answered was not kept for the next time", r.Known.Save(path)) }
	}
	return r, keep, nil
}
