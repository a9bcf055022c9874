package main

import (
	"fmt"
	"os"

	"github.com/spf13/cobra"

	"github.com/colophon-build/colophon/internal/printable"
	"github.com/colophon-build/colophon/platform/api"
)

func newLoginCommand() *cobra.Command {
	return &cobra.Command{
		Use:   "login FILE",
		Short: "use the platform of a client.json for release",
		Long: `Login keeps the platform that release talks to. FILE is the client.json that
"colophond serve" writes; for one command alone, COLOPHON_PLATFORM=FILE does the same.

Login does not make verify believe the platform: see "colophon trust add".`,
		Args: cobra.ExactArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error { return runLogin(cmd, args[0]) },
	}
}

func runLogin(cmd *cobra.Command, file string) error {
	c, path, err := api.Login(file)
	if err != nil {
		return err
	}
	fmt.Fprintf(cmd.ErrOrStderr(), "logged in to %s (kept in %s)\n", printable.Text(c.URL), path)
	if other := os.Getenv("COLOPHON_PLATFORM"); other != "" {
		printHint(cmd.ErrOrStderr(), "COLOPHON_PLATFORM is set: until it is not, release talks to the platform of "+other)
	}
	return nil
}
