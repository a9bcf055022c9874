package interop

import (
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"

	"github.com/colophon-build/colophon/test/harness"
)

// cosignTypes is how cosign lists its names of predicate types in the help of --type.
var cosignTypes = regexp.MustCompile(`specify a predicate type \(([a-z0-9|]+)\) or an URI`)

// TestAliases gives attest each name that cosign has for a type, and lets cosign find the
// statement by that name. An image has one statement, so no name finds that of another type.
func TestAliases(t *testing.T) {
	p := startPieces(t)
	help := cosignTypes.FindStringSubmatch(p.run(t, "cosign", "verify-attestation", "--help"))
	if help == nil {
		t.Fatal("cosign verify-attestation --help lists no types")
	}
	names := strings.Split(help[1], "|")
	for _, name := range []string{"slsaprovenance1", "spdxjson", "cyclonedx", "vuln", "openvex", "custom", "link"} {
		if !slices.Contains(names, name) {
			t.Errorf("cosign does not know %s any more: %s", name, help[1])
		}
	}
	// The names that cosign has for one type.
	same := map[string]string{"slsaprovenance02": "slsaprovenance", "spdxjson": "spdx"}
	one := func(name string) string {
		if other := same[name]; other != "" {
			return other
		}
		return name
	}
	key, password, public := p.keys(t)
	dir := t.TempDir()
	for i, name := range names {
		t.Run(name, func(t *testing.T) {
			tag := "aliases/" + name + ":v1"
			digest := p.push(t, tag)
			harness.Write(t, dir, map[string]string{"document.json": documents(digest)[one(name)]})
			p.colophon(t, "attest", p.Addr+"/"+tag, "--type", name, "--predicate", filepath.Join(dir, "document.json"), "--key", key, "--password-file", password)
			by := func(kind string) []string {
				return []string{"verify-attestation", "--type", kind, p.Addr + "/" + tag, "--key", public, "--trusted-root", p.root}
			}
			p.run(t, "cosign", by(name)...)
			next := names[(i+1)%len(names)]
			if one(next) == one(name) {
				next = names[(i+2)%len(names)]
			}
			p.fail(t, "cosign", by(next)...)
		})
	}
}
