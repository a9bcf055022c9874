// Package scan is what a release and the program that scans its image tell each other. The
// program, cmd/colophon-scan, writes the image's SBOMs. It is a module of its own, so that
// Syft, and the thousand packages that Syft needs, are in no other program.
package scan

import (
	"time"

	v1 "github.com/google/go-containerregistry/pkg/v1"

	"github.com/colophon-build/colophon/source"
)

// Program is the name of the program. It is beside colophond.
const Program = "colophon-scan"

// Task is the program's task (zone.Apart). Each order is an Order, and its answer Documents.
const Task = "scanning the image"

// Order describes the image to scan.
type Order struct {
	Layout  string        `json:"layout"`           // directory with an OCI layout whose blobs were checked against their digests
	Dir     string        `json:"dir"`              // directory for unpacked layers, which may be gigabytes; empty means os.TempDir
	Digest  v1.Hash       `json:"digest"`           // manifest or index in the layout
	Subject v1.Hash       `json:"subject,omitzero"` // digest that the documents are about: Digest, or that of an index around it; zero means Digest
	Image   string        `json:"image"`            // repository name in the documents: "127.0.0.1:8080/team/app"
	Created time.Time     `json:"created"`          // creation time of the documents; the commit's time
	Source  source.Commit `json:"source"`           // named in the documents; may be zero
}

// Documents are the SBOMs of an image, as JSON.
type Documents struct {
	SPDX      []byte `json:"spdx"`
	CycloneDX []byte `json:"cycloneDX"`
}
