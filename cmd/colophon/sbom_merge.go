package main

import (
	"context"
	"fmt"
	"maps"
	"slices"
	"strings"

	"github.com/spf13/cobra"

	"github.com/colophon-build/colophon/internal/durable"
	"github.com/colophon-build/colophon/oci"
	"github.com/colophon-build/colophon/sbom"
)

func newSBOMMergeCommand() *cobra.Command {
	var image, output string
	cmd := &cobra.Command{
		Use:   "merge FILE|IMAGE...",
		Short: "make one SBOM of an index from those of its images",
		Long: `Merge makes one SBOM from those of the images for several platforms, all in SPDX 2 or all
in CycloneDX. It says which package is in which image: in SPDX by the relationship
CONTAINS, in CycloneDX by the property colophon:platform. The order of the arguments
does not matter.

With --image, the SBOM is about that index, and images go by the names of their
platforms: each of its images must have an SBOM, and each SBOM must be of one of them.
Without it, the SBOM names no digest of its own, and images go by their digests.

Exit codes: 0 merged, 2 usage error, 1 failure.`,
		Example: `  colophon sbom merge amd64.spdx.json arm64.spdx.json --image registry.example.com/team/app:v1.2.0 -o app.spdx.json`,
		Args:    cobra.MinimumNArgs(2),
		RunE: func(cmd *cobra.Command, args []string) error {
			if err := sbomFile(output); err != nil {
				return err
			}
			ctx, cancel := withTimeout(cmd.Context(), sbomTimeout)
			defer cancel()
			doc, err := mergeSBOMs(ctx, args, image)
			if err != nil {
				return err
			}
			if output != "" {
				return durable.WriteFile(output, append(doc, '\n'), 0o644)
			}
			_, err = fmt.Fprintf(cmd.OutOrStdout(), "%s\n", doc)
			return err
		},
	}
	cmd.Flags().StringVar(&image, "image", "", "`IMAGE` for several platforms whose SBOM it is: an index")
	cmd.Flags().StringVarP(&output, "output", "o", "", "write the SBOM to `FILE`; without it, to standard output")
	return cmd
}

func mergeSBOMs(ctx context.Context, names []string, image string) ([]byte, error) {
	var index sbom.Index
	platforms := map[string]string{} // by digest
	if image != "" {
		var err error
		if index, platforms, err = indexOf(ctx, image); err != nil {
			return nil, fmt.Errorf("%s: %w", image, err)
		}
	}
	var parts []sbom.Part
	left := maps.Clone(platforms)
	for _, name := range names {
		raw, kind, err := readSBOM(ctx, name)
		if err != nil {
			return nil, fmt.Errorf("%s: %w", name, err)
		}
		p := sbom.Part{Document: raw, Type: kind}
		if image != "" {
			d, err := sbom.Read(raw, kind)
			if err != nil {
				return nil, fmt.Errorf("%s: %w", name, err)
			}
			if p.Platform = platforms[d.SubjectDigest]; p.Platform == "" {
				return nil, &exitError{code: exitFailure, msg: fmt.Sprintf("%s is the SBOM of %s, which is none of the images of %s", name, d.SubjectDigest, image)}
			}
			delete(left, d.SubjectDigest)
		}
		parts = append(parts, p)
	}
	if len(left) > 0 {
		missing := slices.Sorted(maps.Values(left))
		return nil, &exitError{code: exitFailure, msg: fmt.Sprintf("no SBOM was given for %s of %s", strings.Join(missing, ", "), image), hint: "colophon sbom " + image + " --platform " + missing[0]}
	}
	return sbom.Merge(index, parts)
}

// indexOf returns the index that an image name stands for, and the platforms of its images by
// digest.
func indexOf(ctx context.Context, image string) (index sbom.Index, platforms map[string]string, err error) {
	ref, src, err := openImage(image)
	if err != nil {
		return index, nil, err
	}
	if l, ok := src.(*oci.Layout); ok {
		defer l.Close()
	}
	d, err := src.Resolve(ctx, ref.Identifier())
	if err != nil {
		return index, nil, err
	}
	if !d.MediaType.IsIndex() {
		return index, nil, usageError("its SBOM is that of its only platform", "--image: %s is no index", d.Digest)
	}
	images, err := sbomImages(ctx, src, d, "")
	if err != nil {
		return index, nil, err
	}
	platforms = map[string]string{}
	for _, i := range images {
		platforms[i.d.Digest.String()] = i.platform
	}
	return sbom.Index{Name: ref.Repository, Digest: d.Digest}, platforms, nil
}
