// Package schemas holds the JSON Schemas (draft 2020-12) of Colophon's own formats. They
// are made from the types that read and write the formats: UPDATE=1 go test. See README.md.
package schemas

import "embed"

// Files has one schema for each format: policy.json.
//
//go:embed *.json
var Files embed.FS

// ID is the $id of a schema: its name, at any platform. Readers never fetch it.
func ID(file string) string {
	return "https://github.com/colophon-build/colophon/tree/main/spec/schemas/" + file
}
