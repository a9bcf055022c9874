// Package scripts has the script that installs Colophon in other people's pipelines, as data.
package scripts

import _ "embed"

// Install is install.sh. It installs a program of a release only if its digest is the pinned one.
//
//go:embed install.sh
var Install []byte
