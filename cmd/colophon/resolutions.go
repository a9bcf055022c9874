package main

import (
	"errors"

	"github.com/spf13/pflag"

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

// resolver returns what answers, and a function that keeps the answers for the next time.
func (o *resolutionOptions) resolver() (r *pins.Resolver, keep func() error, err error) {
	r = &pins.Resolver{Server: o.server, Offline: o.offline, Private: o.private}
	keep = func() error { return nil }
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
	r.Known = pins.Cache(path)
	if !o.offline {
		keep = func() error {
			if err := r.Known.Save(path); err != nil {
				return errors.Join(errors.New("what servers answered was not kept for the next time"), err)
			}
			return nil
		}
	}
	return r, keep, nil
}
