// Command colophon-scan writes SBOMs of an image, a directory or a file as SPDX 2.3 and
// CycloneDX 1.6 JSON. It scans an OCI layout or files on disk with Syft and uses no network. The
// same image gives the same bytes: times and identifiers are derived from the image and its
// commit, and no property of the machine is written.
//
// A release and colophon sbom start it as a process apart (package zone) and send it orders of
// package scan.
package main

import (
	"context"
	"encoding/json"
	"fmt"
	"os"
	"runtime/debug"

	"github.com/colophon-build/colophon/platform/release/scan"
	"github.com/colophon-build/colophon/platform/zone"
)

func main() {
	zone.InitApart(map[string]zone.Task{scan.Task: do(generate), scan.TaskFiles: do(generateFiles)})
	fmt.Fprintln(os.Stderr, "colophon-scan: only colophon and colophond start this program: colophon sbom, and the releases of a platform")
	os.Exit(2)
}

// do returns a task that executes orders of type T.
func do[T any](generate func(context.Context, T) (spdx, cyclone []byte, err error)) func(context.Context, json.RawMessage) (any, error) {
	return func(ctx context.Context, raw json.RawMessage) (any, error) {
		var o T
		if err := json.Unmarshal(raw, &o); err != nil {
			return nil, err
		}
		debug.SetGCPercent(400) // a third less time; the limit of memory comes first
		var d scan.Documents
		var err error
		d.SPDX, d.CycloneDX, err = generate(ctx, o)
		return d, err
	}
}
