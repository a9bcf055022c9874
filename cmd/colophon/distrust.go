package main

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/colophon-build/colophon/distrust"
	"github.com/colophon-build/colophon/distrust/follow"
	"github.com/colophon-build/colophon/internal/durable"
	"github.com/colophon-build/colophon/internal/limits"
	"github.com/colophon-build/colophon/internal/strict"
	"github.com/colophon-build/colophon/trust"
	"github.com/colophon-build/colophon/verify"
)

func newDistrustCommand() *cobra.Command {
	cmd := &cobra.Command{
		Use:   "distrust",
		Short: "take trust back: from a commit, a builder, a signer, a package",
		Long: `Distrust keeps lists of what is no longer trusted. An entry of a list is about exactly one
thing: a commit, a source, a builder, an identity, a key, a base image, a package, a digest,
or a download of builds. An image whose proofs rest on it is rejected, and the verdict names
the entry: by "verify", "copy", "policy test", the gate and admission.

A list has one issuer, who signs it. "distrust issuer add" says whose lists count on this
machine. Nothing is ever taken out of a list: an entry is lifted by another one.`,
		Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error { return cmd.Help() },
	}
	cmd.AddCommand(newDistrustAddCommand(), newDistrustLiftCommand(), newDistrustRenewCommand(), newDistrustListCommand(), newDistrustShowCommand(), newDistrustExportCommand(), newDistrustIssuerCommand())
	return cmd
}

// distrustDir returns the directory of this machine's issuers and their lists.
func distrustDir() (string, error) {
	dir, err := trust.DefaultDir(os.Getenv)
	return filepath.Join(dir, trust.DistrustDir), err
}

// issuersFile is the name of the file with the issuers in the directory.
const issuersFile = "issuers.json"

// loadIssuers returns the issuers whose lists count on this machine, and where their lists are kept.
func loadIssuers() (issuers []distrust.Issuer, dir string, err error) {
	if dir, err = distrustDir(); err != nil {
		return nil, "", err
	}
	file := filepath.Join(dir, issuersFile)
	raw, err := strict.ReadFile(file, limits.Request)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, dir, nil
	}
	if err != nil {
		return nil, "", err
	}
	if issuers, err = distrust.ParseIssuers(raw); err != nil {
		return nil, "", strict.In(file, err)
	}
	return issuers, dir, nil
}

func saveIssuers(issuers []distrust.Issuer) error {
	raw, err := distrust.IssuersFile(issuers)
	if err != nil {
		return usageError("", "%v", err)
	}
	dir, err := distrustDir()
	if err != nil {
		return err
	}
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return err
	}
	return durable.WriteFile(filepath.Join(dir, issuersFile), append(raw, '\n'), 0o600)
}

// loadLists reads the lists of this machine's issuers. A policy of version 1, and flags, demand that each
// was read and has not expired.
func loadLists(ctx context.Context, opts *verify.Options, now time.Time, offline bool) error {
	issuers, dir, err := loadIssuers()
	if err != nil || len(issuers) == 0 {
		return err
	}
	reader := follow.New(dir, issuers)
	read := reader.Refresh
	if offline {
		read = reader.Kept
	}
	opts.Distrust = verify.Distrust{Lists: read(ctx, now, opts.Trust), MaxAge: distrust.MaxLife}
	return nil
}

// readList returns the list that a command names: a FILE, or that of an issuer on this machine.
func readList(ctx context.Context, name string, now time.Time) (distrust.Known, error) {
	issuers, dir, err := loadIssuers()
	if err != nil {
		return distrust.Known{}, err
	}
	var opts verify.Options
	if _, err := loadTrust(&opts); err != nil {
		return distrust.Known{}, err
	}
	for _, i := range issuers {
		if i.Name == name {
			return follow.New(dir, []distrust.Issuer{i}).Refresh(ctx, now, opts.Trust)[0], nil
		}
	}
	if !strings.ContainsAny(name, "./\\") {
		return distrust.Known{}, usageError("colophon distrust issuer list; a file is named ./FILE", "this machine has no issuer %q", name)
	}
	raw, err := strict.ReadFile(name, distrust.MaxList)
	if err != nil {
		return distrust.Known{}, usageError("", "%v", err)
	}
	l, err := distrust.Parse(raw)
	if err != nil {
		return distrust.Known{}, fmt.Errorf("%s: %w", name, err)
	}
	return distrust.Known{Issuer: distrust.Issuer{Name: name, Wide: true}, List: l, Problem: "its signature was not verified"}, nil
}
