package main

import (
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"maps"
	"slices"
	"strings"

	"github.com/spf13/cobra"

	"github.com/colophon-build/colophon/internal/limits"
	"github.com/colophon-build/colophon/internal/strict"
	"github.com/colophon-build/colophon/policy"
)

// buildArgs is the value of --build-arg, which may be given several times. A value may
// contain anything, commas too.
type buildArgs map[string]string

// Set implements pflag.Value.
func (a *buildArgs) Set(arg string) error {
	name, value, ok := strings.Cut(arg, "=")
	if !ok || name == "" {
		return fmt.Errorf("expected NAME=VALUE, found %q", arg)
	}
	if _, twice := (*a)[name]; twice {
		return fmt.Errorf("%s is given twice", name)
	}
	if *a == nil {
		*a = buildArgs{}
	}
	(*a)[name] = value
	return nil
}

// Type implements pflag.Value.
func (a *buildArgs) Type() string { return "NAME=VALUE" }

// String implements pflag.Value.
func (a *buildArgs) String() string {
	return strings.Join(slices.Sorted(maps.Keys(*a)), ",")
}

// recipeOptions are the flags of verify that say what the requester of a build may have
// chosen. A flag that was not given demands what the commit itself says.
type recipeOptions struct {
	context, dockerfile, target, pkg *string
	buildArgs                        buildArgs
	locked                           string // lock file
	image                            string
	any                              bool
}

// recipeFlags are the names of these flags.
var recipeFlags = []string{"context", "dockerfile", "target", "build-arg", "package", "locked", "declared-as", "any-recipe"}

func (o *recipeOptions) flags(cmd *cobra.Command) {
	f := cmd.Flags()
	text := func(to **string) func(string) error {
		return func(value string) error {
			*to = &value
			return nil
		}
	}
	f.Func("context", "`DIR` of the repository that must have been the build context (default: as the commit says)", text(&o.context))
	f.Func("dockerfile", "`PATH` of the Dockerfile that the image must be built from (default: as the commit says)", text(&o.dockerfile))
	f.Func("target", "`STAGE` of the Dockerfile that must have been built (default: as the commit says)", text(&o.target))
	f.Var(&o.buildArgs, "build-arg", "build argument that the image must be built with (default: as the commit says)")
	f.Func("package", "main `PACKAGE` that the golang builder must have built (default: as the commit says)", text(&o.pkg))
	f.StringVar(&o.locked, "locked", "", "the image must be built only with the downloads listed in this lock `FILE`")
	f.StringVar(&o.image, "declared-as", "", "`NAME` of the image in .colophon.yaml of the commit (default: the name of the repository)")
	f.BoolVar(&o.any, "any-recipe", false, "dangerous: accept whatever the requester of the build chose")
	for _, flag := range recipeFlags[:len(recipeFlags)-1] {
		cmd.MarkFlagsMutuallyExclusive("any-recipe", flag)
	}
}

// read returns what the flags demand, or nil if none was given.
func (o recipeOptions) read() (*policy.DocumentRecipe, error) {
	d := policy.DocumentRecipe{Image: o.image}
	given := o.image != ""
	for _, f := range []struct {
		from *string
		to   **policy.DocumentValue
	}{{o.context, &d.Context}, {o.dockerfile, &d.Dockerfile}, {o.target, &d.Target}, {o.pkg, &d.Package}} {
		if f.from != nil {
			*f.to, given = &policy.DocumentValue{Exact: *f.from}, true
		}
	}
	for name, value := range o.buildArgs {
		if d.BuildArgs == nil {
			d.BuildArgs, given = map[string]policy.DocumentValue{}, true
		}
		d.BuildArgs[name] = policy.DocumentValue{Exact: value}
	}
	if o.locked != "" {
		lock, err := strict.ReadFile(o.locked, limits.Lock)
		if err != nil {
			return nil, usageError("", "--locked: %v", err)
		}
		sum := sha256.Sum256(lock)
		d.Lock, given = "sha256:"+hex.EncodeToString(sum[:]), true
	}
	if !given {
		return nil, nil
	}
	return &d, nil
}
