package test

import (
	"bytes"
	"go/ast"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"
)

// docs/configuration.md lists the platform's metrics.
func TestMetrics(t *testing.T) {
	metric := regexp.MustCompile(`^colophon_[a-z][a-z_]+$`)
	var got []string
	readSource(t).program([]string{"platform"}, func(_ string, f *ast.File) {
		for _, text := range literals(f) {
			if metric.MatchString(text) {
				got = append(got, text)
			}
		}
	})
	same(t, "metrics", tableRows(t, "docs/configuration.md", "Metrics"), got)
}

// docs/configuration.md lists the environment variables that the programs read, or pass
// on to programs that they start.
func TestEnvironment(t *testing.T) {
	// Libraries read these: Go's runtime, crypto/x509, net/http and os, and
	// go-containerregistry for credentials.
	got := []string{"GO*", "SSL_CERT_DIR", "HTTP_PROXY", "HTTPS_PROXY", "NO_PROXY", "HOME", "TMPDIR", "PATH", "DOCKER_CONFIG", "REGISTRY_AUTH_FILE", "XDG_RUNTIME_DIR", "XDG_CONFIG_HOME"}
	name := regexp.MustCompile(`^[A-Z][A-Z0-9_]*[A-Z0-9]$`)
	prefix := regexp.MustCompile(`^[A-Z][A-Z_]*_$`)
	readSource(t).program([]string{"cmd", "platform", "internal", "source", "trust", "oci", "sign", "verify", "bundle", "policy", "provenance", "sbom", "tlog", "attest"}, func(path string, f *ast.File) {
		for _, decl := range f.Decls {
			fn, ok := decl.(*ast.FuncDecl)
			if !ok {
				continue
			}
			inherits := false // the names are in a list
			ast.Inspect(fn, func(n ast.Node) bool {
				call, ok := n.(*ast.CallExpr)
				if !ok {
					return true
				}
				from, f := called(call)
				switch {
				case from == "os" && f == "Environ" && path != "cmd/colophon/release.go", // that one passes on all but GIT_
					from == "os" && (f == "Getenv" || f == "LookupEnv") && len(literals(call)) == 0:
					inherits = true
				case from == "os" && (f == "Getenv" || f == "LookupEnv"), f == "getenv", from == "" && f == "variable":
					got = append(got, literals(call)...)
				}
				return true
			})
			if !inherits {
				continue
			}
			for _, text := range literals(fn) {
				switch {
				case prefix.MatchString(text):
					got = append(got, text+"*")
				case name.MatchString(text) && text != "GO" && text != "GOOGLE_APPLICATION_CREDENTIALS": // all of GO* but the latter
					got = append(got, text)
				}
			}
		}
	})
	internal := map[string]bool{"GIT_PROTOCOL": true} // git sets it for the program that it starts
	got = slices.DeleteFunc(got, func(name string) bool { return internal[name] })
	same(t, "environment variables", tableRows(t, "docs/configuration.md", "Environment variables"), got)
}

// flagsOf returns the flags that a program defines.
func (c *code) flagsOf(dir string) (flags []string) {
	define := regexp.MustCompile(`^(String|Bool|Int|Duration|StringSlice|StringArray|Float64)(Var)?P?$|^Var$|^Func$`)
	c.program([]string{dir}, func(_ string, f *ast.File) {
		ast.Inspect(f, func(n ast.Node) bool {
			if call, ok := n.(*ast.CallExpr); ok {
				if _, name := called(call); define.MatchString(name) {
					for _, arg := range call.Args {
						if text, ok := c.text(dir, arg); ok {
							flags = append(flags, text)
							break
						}
					}
				}
			}
			return true
		})
	})
	return flags
}

// foreign are flags of other programs in commands that the pages show, and of scripts/install.sh.
var foreign = strings.Fields(`hash help print password-stdin u type trusted-root signing-config mirror root key-file identity-token certificate-identity certificate-oidc-issuer
	new-bundle-format from platform keep format use-signing-config registry-referrers-mode allow-insecure-registry checksum keep-git-dir version sha256 dir map-root-user map-auto
	volume stop-timeout hostname env mount privileged cap-add cap-drop name security-opt rm detach publish
	attachment certificate-identity-regexp artifact output-signature ignore-missing source-branch signature use-signed-timestamps recursive referrers signature-digest-algorithm
	source-uri source-tag source-versioned-tag builder-id provenance-path attestations-path repo owner bundle-from-oci cert-identity sbom provenance push
	install create-namespace signing-algorithm set set-file server-side validate from-file reset-then-reuse-values`)

// Each flag of the programs is on a page, and each flag on a page exists.
func TestFlags(t *testing.T) {
	c := readSource(t)
	defined := append(c.flagsOf("cmd/colophon"), c.flagsOf("cmd/colophond")...)
	if len(defined) < 50 {
		t.Fatalf("got %d flags, want all: %q", len(defined), defined)
	}
	flag := regexp.MustCompile("(^|[\\s`(\\[|/])--([a-z][a-z0-9-]*)")
	documented := map[string]string{}
	repoFiles(t, ".md", func(path string, text []byte) {
		path = strings.TrimPrefix(filepath.ToSlash(path), "../")
		if path != "README.md" && !strings.HasPrefix(path, "docs/") && !strings.HasPrefix(path, "spec/") {
			return
		}
		if path == "docs/lint.md" {
			text, _, _ = bytes.Cut(text, []byte("\n## Examples\n")) // of Dockerfiles and pipelines
		}
		if path == "docs/instead.md" { // the other half of its tables is other tools'
			text = bytes.Join(regexp.MustCompile("`colophon [^`]+`").FindAll(text, -1), []byte("\n"))
		}
		for _, m := range flag.FindAllSubmatch(text, -1) {
			documented[string(m[2])] = path
		}
	})
	for _, name := range defined {
		if documented[name] == "" {
			t.Errorf("no page has --%s", name)
		}
	}
	for name, path := range documented {
		if !slices.Contains(defined, name) && !slices.Contains(foreign, name) {
			t.Errorf("%s has --%s, which no program has", path, name)
		}
	}
}
