// Command colophon-scan writes SBOMs of an image as SPDX 2.3 and CycloneDX 1.6 JSON. It scans
// an OCI layout on disk with Syft and uses no network. The same image gives the same bytes:
// times and identifiers are derived from the image and its commit, and no property of the
// machine is written.
//
// A release starts it as a process apart (package zone) and sends it orders of package scan.
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
	zone.InitApart(map[string]zone.Task{scan.Task: {Warm: warm, Do: do}})
	fmt.Fprintln(os.Stderr, "colophon-scan: only colophond starts this program: it scans the images of releases")
	os.Exit(2)
}

func do(ctx context.Context, raw json.RawMessage) (any, error) {
	var o scan.Order
	if err := json.Unmarshal(raw, &o); err != nil {
		return nil, err
	}
	debug.SetGCPercent(400) // a third less time; the limit of memory comes first
	var d scan.Documents
	var err error
	d.SPDX, d.CycloneDX, err = generate(ctx, o)
	return d, err
}
