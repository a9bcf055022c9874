package main

import (
	"context"
	"encoding/json"
	"fmt"
	"io"
	"os"
	"slices"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/colophon-build/colophon/attest"
	"github.com/colophon-build/colophon/internal/limits"
	"github.com/colophon-build/colophon/internal/printable"
	"github.com/colophon-build/colophon/internal/strict"
	"github.com/colophon-build/colophon/sbom"
)

func newSBOMCommand() *cobra.Command {
	var o sbomOptions
	cmd := &cobra.Command{
		Use:   "sbom IMAGE|DIRECTORY|FILE",
		Short: "write SBOMs, compare them, and check what they contain",
		Long: `Sbom writes the SBOM of an image, a directory or a file: a lock file (go.mod,
package-lock.json, poetry.lock, Cargo.lock and others), a program, or an archive of a
release (.tar.gz, .zip). It lists the packages that Syft finds. The same input gives the
same bytes on any machine: the time in the document is that of the image, or
SOURCE_DATE_EPOCH, or 1970.

It scans with the program colophon-scan, in a process without network. Where the kernel
allows user namespaces, the process sees nothing but what it scans; elsewhere it can read
all that you can read, and colophon says so. The digests of an image and its layers are
computed from their bytes. The SBOM of an index is that of all its images, merged;
--platform chooses one. It names the files that could not be read.

To sign an SBOM and attach it: colophon attest IMAGE --type spdx --predicate FILE
To print the SBOM that an image has: colophon inspect --sbom IMAGE

A directory that is called as a command below is written with a path: ./check`,
		Example: `  colophon sbom registry.example.com/team/app:v1.2.0 -o app.spdx.json
  colophon sbom . --format cyclonedx
  colophon sbom dist/app_1.2.0_linux_amd64.tar.gz
  colophon sbom ./package-lock.json`,
		Args: cobra.MaximumNArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			if len(args) == 0 {
				return cmd.Help()
			}
			return runSBOM(cmd, args[0], o)
		},
	}
	o.flags(cmd)
	cmd.AddCommand(newSBOMDiffCommand(), newSBOMCheckCommand(), newSBOMMergeCommand())
	return cmd
}

// sbomTimeout is how long the SBOM of an image may take to arrive.
const sbomTimeout = time.Minute

func newSBOMDiffCommand() *cobra.Command {
	var o output
	cmd := &cobra.Command{
		Use:   "diff FILE|IMAGE FILE|IMAGE",
		Short: "show which packages two SBOMs differ in",
		Long: `Diff shows the packages that only one of two SBOMs has, and those that both have with
other versions. Packages are the same by their package URL without the version. The
two may have different formats.

Exit codes: 0 compared, whatever the answer is, 2 usage error, 1 failure.`,
		Example: `  colophon sbom diff registry.example.com/team/app:v1.1.0 registry.example.com/team/app:v1.2.0
  colophon sbom diff old.spdx.json new.cdx.json --json`,
		Args: cobra.ExactArgs(2),
		RunE: func(cmd *cobra.Command, args []string) error { return runSBOMDiff(cmd, args[0], args[1], o) },
	}
	o.flags(cmd)
	return cmd
}

// packageChange is a row of the answer of sbom diff. Old is missing for a package that was
// added, New for one that was removed.
type packageChange struct {
	Name string   `json:"name"`
	PURL string   `json:"purl,omitempty"`
	Old  []string `json:"old,omitempty"`
	New  []string `json:"new,omitempty"`
}

func runSBOMDiff(cmd *cobra.Command, old, next string, o output) error {
	ctx, cancel := withTimeout(cmd.Context(), sbomTimeout)
	defer cancel()
	var docs [2]*sbom.Document
	for i, name := range []string{old, next} {
		raw, kind, err := readSBOM(ctx, name)
		if err == nil {
			docs[i], err = sbom.Read(raw, kind)
		}
		if err != nil {
			return fmt.Errorf("%s: %w", name, err)
		}
	}
	d := sbom.Compare(docs[0], docs[1])
	changes := []packageChange{}
	for _, p := range d.Added {
		changes = append(changes, packageChange{Name: p.Name, PURL: p.PURL, New: []string{p.Version}})
	}
	for _, p := range d.Removed {
		changes = append(changes, packageChange{Name: p.Name, PURL: p.PURL, Old: []string{p.Version}})
	}
	for _, c := range d.Changed {
		changes = append(changes, packageChange{Name: c.Name, Old: c.Old, New: c.New})
	}
	out := cmd.OutOrStdout()
	if !o.text() {
		return o.print(out, changes)
	}
	for _, c := range changes {
		sign, what := "~", strings.Join(c.Old, ", ")+" → "+strings.Join(c.New, ", ")
		switch {
		case c.Old == nil:
			sign, what = "+", c.New[0]
		case c.New == nil:
			sign, what = "-", c.Old[0]
		}
		fmt.Fprintf(out, "%s %s %s\n", sign, printable.Text(c.Name), printable.Text(what))
	}
	_, err := fmt.Fprintf(out, "%d added, %d removed, %d changed; %s before, %d after\n", len(d.Added), len(d.Removed), len(d.Changed), printable.Count(docs[0].Packages, "package"), docs[1].Packages)
	return err
}

func newSBOMCheckCommand() *cobra.Command {
	var o output
	var list string
	cmd := &cobra.Command{
		Use:   "check FILE|IMAGE",
		Short: "say which minimum elements an SBOM lacks",
		Long: `Check says what an SBOM lacks of the minimum elements of NTIA (2021), of CISA (2025,
a draft) or of BSI's TR-03183-2 (2.1.0; those of its required fields that an SBOM of an
image can have). It looks at what the document says, and not at whether that is true.

Exit codes: 0 nothing is missing, 3 something is, 2 usage error, 1 failure.`,
		Example: `  colophon sbom check app.spdx.json
  colophon sbom check registry.example.com/team/app:v1.2.0 --against bsi --json`,
		Args: cobra.ExactArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error { return runSBOMCheck(cmd, args[0], list, o) },
	}
	cmd.Flags().StringVar(&list, "against", sbom.NTIA, "`LIST` of minimum elements: "+strings.Join(sbom.Lists(), ", "))
	o.flags(cmd)
	return cmd
}

// lacking is the answer of sbom check.
type lacking struct {
	Against string    `json:"against"`
	Missing []missing `json:"missing"`
}

type missing struct {
	Element  string   `json:"element"`
	Packages []string `json:"packages,omitempty"` // those that lack it; none: the document does
}

// shownPackages is how many packages that lack an element are named to people.
const shownPackages = 3

func runSBOMCheck(cmd *cobra.Command, name, list string, o output) error {
	if !slices.Contains(sbom.Lists(), list) {
		return usageError("", "--against: expected one of %s, found %q", strings.Join(sbom.Lists(), ", "), list)
	}
	ctx, cancel := withTimeout(cmd.Context(), sbomTimeout)
	defer cancel()
	raw, kind, err := readSBOM(ctx, name)
	if err != nil {
		return fmt.Errorf("%s: %w", name, err)
	}
	found, err := sbom.Check(raw, kind, list)
	if err != nil {
		return fmt.Errorf("%s: %w", name, err)
	}
	a := lacking{list, []missing{}}
	for _, m := range found {
		a.Missing = append(a.Missing, missing(m))
	}
	out := cmd.OutOrStdout()
	if o.text() {
		printLacking(out, a)
	} else if err := o.print(out, a); err != nil {
		return err
	}
	if len(found) > 0 {
		return &exitError{code: exitRejected}
	}
	return nil
}

func printLacking(w io.Writer, a lacking) {
	for _, m := range a.Missing {
		where := "the document"
		if n := len(m.Packages); n > 0 {
			where = fmt.Sprintf("%s: %s", printable.Count(n, "package"), strings.Join(m.Packages[:min(n, shownPackages)], ", "))
			if n > shownPackages {
				where += ", …"
			}
		}
		fmt.Fprintf(w, "✗ %s\n    %s\n", m.Element, printable.Text(where))
	}
	if len(a.Missing) == 0 {
		fmt.Fprintf(w, "nothing is missing of the minimum elements of %s\n", a.Against)
	}
}

// readSBOM reads the SBOM in a file, or that of an image. kind is the predicate type that
// says its format.
func readSBOM(ctx context.Context, name string) (raw []byte, kind string, err error) {
	if info, err := os.Stat(name); err == nil && info.Mode().IsRegular() {
		if raw, err = strict.ReadFile(name, limits.Statement); err != nil {
			return nil, "", err
		}
		var head struct {
			Format string `json:"bomFormat"`
		}
		if err := json.Unmarshal(raw, &head); err != nil {
			return nil, "", fmt.Errorf("it is no JSON object: %w", err)
		}
		if head.Format != "" {
			return raw, attest.PredicateCDX, nil
		}
		return raw, attest.PredicateSPDX, nil
	}
	ref, src, err := openImage(name)
	if err != nil {
		return nil, "", err
	}
	found, err := inspect(ctx, src, ref.Identifier())
	if err != nil {
		return nil, "", err
	}
	found.Image = name
	chosen, err := found.choose(inspectOptions{sbom: "spdx"})
	if err != nil {
		return nil, "", err
	}
	raw, err = predicateOf(chosen.raw)
	return raw, chosen.PredicateType, err
}
