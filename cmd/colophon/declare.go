package main

import (
	"fmt"
	"path/filepath"

	"github.com/spf13/cobra"

	"github.com/colophon-build/colophon/internal/limits"
	"github.com/colophon-build/colophon/internal/strict"
	"github.com/colophon-build/colophon/source/recipes"
)

// runDeclare prints the .colophon.yaml for the images that a compose or bake file builds.
func runDeclare(cmd *cobra.Command, file string) error {
	if filepath.Ext(file) == ".hcl" {
		return usageError("docker buildx bake --print -f "+file+" writes it as JSON", "--declare: %s is a bake file in HCL, which is not read", file)
	}
	raw, err := strict.ReadFile(file, limits.Request)
	if err != nil {
		return usageError("", "--declare: %v", err)
	}
	dir, err := filepath.Abs(filepath.Dir(file))
	if err != nil {
		return err
	}
	top, err := repositoryOf(dir)
	if err != nil {
		return err
	}
	out, err := recipes.Declare(raw, top, dir)
	if err != nil {
		return usageError("", "%s: %v", file, err)
	}
	_, err = fmt.Fprintf(cmd.OutOrStdout(), "%s", out)
	return err
}

// repositoryOf returns the top directory of the repository that dir is in.
func repositoryOf(dir string) (string, error) {
	for up := dir; ; up = filepath.Dir(up) {
		if exists(up, ".git") {
			return up, nil
		}
		if up == filepath.Dir(up) {
			return "", usageError("", "%s is not in a git repository", dir)
		}
	}
}
