package main

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/spf13/cobra"
	"golang.org/x/mod/semver"

	"github.com/colophon-build/colophon/internal/printable"
	"github.com/colophon-build/colophon/internal/usage"
	"github.com/colophon-build/colophon/platform/api"
)

// version is set by the linker (Makefile).
var version = "devel"

func newVersionCommand() *cobra.Command {
	var check bool
	cmd := &cobra.Command{
		Use:   "version",
		Short: "print the version",
		Long: `Version prints the version of this program. With --check it also asks the platform
that release uses which version it runs, and says whether this program is older.
It asks nobody else: Colophon never looks for updates by itself.

Exit codes with --check: 1 if this program is older than the platform, or if the
platform does not answer; else 0.`,
		Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			_, err := fmt.Fprint(cmd.OutOrStdout(), usage.Version("colophon", version))
			if err != nil || !check {
				return err
			}
			return runVersionCheck(cmd)
		},
	}
	cmd.Flags().BoolVar(&check, "check", false, "ask the platform that release uses for its version, and compare")
	return cmd
}

func runVersionCheck(cmd *cobra.Command) error {
	ctx, cancel := context.WithTimeout(cmd.Context(), 10*time.Second)
	defer cancel()
	platform, err := api.LoadConfig()
	if errors.Is(err, api.ErrNoPlatform) {
		if platform = platformHere(); platform == nil {
			return &exitError{code: exitFailure, msg: "no platform to ask", hint: "colophon login FILE"}
		}
	} else if err != nil {
		return err
	}
	theirs, err := platform.PlatformVersion(ctx)
	if err != nil {
		return err
	}
	order, older := compareVersions(version, theirs)
	fmt.Fprintf(cmd.OutOrStdout(), "%s runs %s: %s\n", printable.Text(platform.URL), printable.Text(theirs), order)
	if older {
		return &exitError{code: exitFailure}
	}
	return nil
}

// compareVersions says how the version of the platform relates to ours. Only releases,
// such as v1.2.3, have an order: git describes what was built between them.
func compareVersions(ours, theirs string) (order string, older bool) {
	released := func(v string) bool { return semver.Canonical(v) == v && semver.Prerelease(v) == "" && v != "" }
	switch {
	case ours == theirs:
		return "the same version", false
	case !released(ours) || !released(theirs):
		return "another version; only releases can be compared", false
	case semver.Compare(ours, theirs) < 0:
		return "a newer version; update colophon", true
	}
	return "an older version", false
}
