package main

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/spf13/cobra"

	"github.com/colophon-build/colophon/internal/printable"
	"github.com/colophon-build/colophon/oci"
)

func newSaveCommand() *cobra.Command {
	var timeout time.Duration
	cmd := &cobra.Command{
		Use:   "save IMAGE DIR",
		Short: "copy an image and everything attached to it into a directory",
		Long: `Save copies an image, and everything attached to it and its platforms, into an
OCI layout in the directory DIR, which it creates if needed. Another machine can
verify the image from there without a network. Save checks the digests of what it
copies, and verifies nothing else.

The other machine needs trust roots, too: 'colophon trust show --raw' prints
those on this machine.`,
		Example: `  colophon save 127.0.0.1:8080/team/app:v1.2.0 ./app
  colophon verify ./app --source git.example.com/team/app --offline`,
		Args: cobra.ExactArgs(2),
		RunE: func(cmd *cobra.Command, args []string) error {
			ctx, cancel := context.WithTimeout(cmd.Context(), timeout)
			defer cancel()
			return runSave(ctx, cmd, args[0], args[1])
		},
	}
	cmd.Flags().DurationVar(&timeout, "timeout", 10*time.Minute, "give up after this long")
	return cmd
}

func runSave(ctx context.Context, cmd *cobra.Command, image, dir string) error {
	ref, src, err := openImage(image)
	if err != nil {
		return err
	}
	d, err := src.Resolve(ctx, ref.Identifier())
	if errors.Is(err, oci.ErrNotFound) {
		return &exitError{code: exitFailure, msg: fmt.Sprintf("%s has no %q", src.Name(), ref.Identifier())}
	} else if err != nil {
		return err
	}
	dst, err := oci.CreateLayout(dir)
	if err != nil {
		return err
	}
	defer dst.Close()
	left, err := oci.Save(ctx, dst, src, d)
	w := cmd.ErrOrStderr()
	for _, l := range left {
		fmt.Fprintf(w, "left out: %s\n", printable.Text(l.Error()))
	}
	if err != nil {
		return err
	}
	tag := ref.Tag
	switch {
	case tag != "":
	case ref.Digest == "" && ref.Dir == "":
		tag = ref.Identifier()
	default:
		tag = d.Digest.Hex // an entry of a layout needs a name
	}
	if err := dst.Tag(ctx, tag, d); err != nil {
		return err
	}
	fmt.Fprintf(w, "%s\nsaved in %s\n", d.Digest, printable.Text(dir))
	return nil
}
