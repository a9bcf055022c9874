package test

import (
	"go/ast"
	"path/filepath"
	"strings"
	"testing"
)

// Roles that are no part of a platform run on one machine with the settings that they have by default: each port
// is of one of them.
func TestDefaultPorts(t *testing.T) {
	owner := map[string]string{}
	readSource(t).program([]string{"platform"}, func(path string, file *ast.File) {
		ast.Inspect(file, func(n ast.Node) bool {
			lit, ok := n.(*ast.BasicLit)
			if !ok {
				return true
			}
			port, ok := strings.CutPrefix(strings.Trim(lit.Value, `"`), "127.0.0.1:")
			if !ok || port == "0" {
				return true
			}
			dir := filepath.Dir(path)
			if other := owner[port]; other != "" && other != dir {
				t.Errorf("%s and %s both have the port %s by default", other, dir, port)
			}
			owner[port] = dir
			return true
		})
	})
	if len(owner) < 8 {
		t.Errorf("found %d ports, want those of all roles: %v", len(owner), owner)
	}
}
