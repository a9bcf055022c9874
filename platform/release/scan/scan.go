// Package scan is what the program that scans images and files, and those who start it, tell
// each other: a release and colophon sbom. The program, cmd/colophon-scan, writes SBOMs. It is a
// module of its own, so that Syft, and the thousand packages that Syft needs, are in no other
// program.
package scan

import (
	"time"

	v1 "github.com/google/go-containerregistry/pkg/v1"

	"github.com/colophon-build/colophon/source"
)

// Program is the name of the program. It is beside colophond.
const Program = "colophon-scan"

// Tasks of the program (zone.Apart). Each order of Task is an Order, each of TaskFiles a Files,
// and the answers are Documents.
const (
	Task      = "scanning the image"
	TaskFiles = "scanning the files"
)

// Order describes the image to scan.
type Order struct {
	Layout  string        `json:"layout"`           // directory with an OCI layout; the program checks the blobs against their digests
	Dir     string        `json:"dir"`              // directory for unpacked layers, which may be gigabytes; empty means os.TempDir
	Digest  v1.Hash       `json:"digest"`           // manifest or index in the layout
	Subject v1.Hash       `json:"subject,omitzero"` // digest that the documents are about: Digest, or that of an index around it; zero means Digest
	Image   string        `json:"image"`            // repository name in the documents: "127.0.0.1:8080/team/app"
	Created time.Time     `json:"created"`          // creation time of the documents; the commit's time
	Source  source.Commit `json:"source"`           // named in the documents; may be zero
}

// Files describes a directory or a file to scan: a lock file, a program or an archive.
type Files struct {
	Path    string    `json:"path"`    // absolute, without links; the documents do not have it
	Dir     string    `json:"dir"`     // directory for unpacked archives; it may be gigabytes
	Name    string    `json:"name"`    // in the documents
	Created time.Time `json:"created"` // creation time of the documents
}

// Documents are SBOMs, as JSON.
type Documents struct {
	SPDX      []byte `json:"spdx"`
	CycloneDX []byte `json:"cycloneDX"`
}
