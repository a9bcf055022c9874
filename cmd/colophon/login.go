package main

import (
	"errors"
	"fmt"
	"io/fs"
	"os"

	"github.com/spf13/cobra"

	"github.com/colophon-build/colophon/internal/printable"
	"github.com/colophon-build/colophon/platform/api"
)

func newLoginCommand() *cobra.Command {
	return &cobra.Command{
		Use:   "login FILE",
		Short: "choose the platform that release uses",
		Long: `Login stores the address and the token of the platform that release uses. FILE is
the client.json that "colophond serve" writes. Set COLOPHON_PLATFORM=FILE to use a
platform for a single command.

Login does not make verify trust the platform: see "colophon trust add".`,
		Args: cobra.ExactArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error { return runLogin(cmd, args[0]) },
	}
}

func runLogin(cmd *cobra.Command, file string) error {
	if info, err := os.Stat(file); errors.Is(err, fs.ErrNotExist) || err == nil && info.IsDir() {
		return usageError(`it is in the directory that "colophond serve --data" names; the platform's operator gives a copy of it`,
			"login: expected the file client.json that \"colophond serve\" wrote, found %q", file)
	}
	c, path, err := api.Login(file)
	if err != nil {
		return err
	}
	fmt.Fprintf(cmd.OutOrStdout(), "logged in to %s (stored in %s)\n", printable.Text(c.URL), path)
	if other := os.Getenv("COLOPHON_PLATFORM"); other != "" {
		printHint(cmd.ErrOrStderr(), "COLOPHON_PLATFORM is set, so release still uses the platform in "+other+"; unset it to use the stored one")
	}
	return nil
}
