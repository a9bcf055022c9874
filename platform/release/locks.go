package release

import (
	"encoding/json"
	"path"
	"strings"

	"golang.org/x/mod/module"

	"github.com/colophon-build/colophon/internal/lazyregexp"
	"github.com/colophon-build/colophon/internal/pypi"
)

// The readers take lock files of other forms than JSON as the tools write them, line by line, and nothing
// else: a file that somebody wrote in another way pins nothing.

// goSum reads a go.sum: MODULE VERSION h1:…, and MODULE VERSION/go.mod h1:…
// (go.dev/ref/mod#go-sum-files). The paths are those of the module proxy protocol.
func (p *pins) goSum(text []byte) {
	for line := range strings.Lines(string(text)) {
		f := strings.Fields(line)
		if len(f) != 3 || !strings.HasPrefix(f[2], "h1:") {
			continue
		}
		version, mod := strings.CutSuffix(f[1], "/go.mod")
		name, err := module.EscapePath(f[0])
		if err != nil {
			continue
		}
		if version, err = module.EscapeVersion(version); err != nil {
			continue
		}
		end := ".zip"
		if mod {
			end = ".mod"
		}
		p.add("/"+name+"/@v/"+version+end, f[2])
	}
}

// packageLock reads a package-lock.json of version 2 or 3.
func (p *pins) packageLock(text []byte) {
	var lock struct {
		Packages map[string]struct{ Name, Version, Resolved, Integrity string } `json:"packages"`
	}
	if json.Unmarshal(text, &lock) != nil {
		return
	}
	const dir = "node_modules/"
	for at, e := range lock.Packages {
		if i := strings.LastIndex(at, dir); i >= 0 && e.Name == "" {
			e.Name = at[i+len(dir):]
		}
		// npm takes another registry than the one in resolved if it is configured to, and can leave resolved out.
		if end := npmTarball(e.Name, e.Version); e.Resolved == "" || isHTTP(e.Resolved) && strings.HasSuffix(e.Resolved, end) {
			p.addSRI(end, e.Integrity)
		} else if isHTTP(e.Resolved) {
			p.addSRI(e.Resolved, e.Integrity)
		}
	}
}

// npmTarball returns the end of the address that each registry of npm has for a package.
func npmTarball(name, version string) string {
	return "/" + name + "/-/" + path.Base(name) + "-" + version + ".tgz"
}

// addSRI adds the sha512 of an integrity (www.w3.org/TR/SRI).
func (p *pins) addSRI(address, integrity string) {
	for digest := range strings.FieldsSeq(integrity) {
		if strings.HasPrefix(digest, "sha512-") {
			p.add(address, digest)
			return
		}
	}
}

// yarnLock reads a yarn.lock of version 1. A later one has digests of what Yarn makes of a package.
func (p *pins) yarnLock(text []byte) {
	resolved := ""
	for line := range strings.Lines(string(text)) {
		f := strings.Fields(line)
		switch {
		case !strings.HasPrefix(line, "  "):
			resolved = "" // the next package
		case len(f) == 2 && f[0] == "resolved":
			resolved, _, _ = strings.Cut(strings.Trim(f[1], `"`), "#")
		case len(f) >= 2 && f[0] == "integrity" && isHTTP(resolved):
			p.addSRI(resolved, strings.Join(f[1:], " "))
		}
	}
}

// pnpmPackage and pnpmDigest are lines of pnpm-lock.yaml, of versions 5 to 9: NAME@VERSION, /NAME@VERSION or
// /NAME/VERSION, with (PEER@VERSION) or _PEER@VERSION after it.
var (
	pnpmPackage = lazyregexp.New(`^  '?/?((?:@[a-z0-9._~-]+/)?[A-Za-z0-9._~-]+)[@/]([0-9][A-Za-z0-9.+-]*)(?:[(_].*)?'?:$`)
	pnpmDigest  = lazyregexp.New(`^    resolution: \{integrity: (sha512-[A-Za-z0-9+/=]+)\}$`)
)

// pnpmLock reads a pnpm-lock.yaml. It names no addresses: those of packages end alike in all registries.
func (p *pins) pnpmLock(text []byte) {
	end := ""
	for line := range strings.Lines(string(text)) {
		line = strings.TrimRight(line, "\r\n")
		if m := pnpmPackage.FindStringSubmatch(line); m != nil {
			end = npmTarball(m[1], m[2])
		} else if m := pnpmDigest.FindStringSubmatch(line); m != nil && end != "" {
			p.add(end, m[1])
			end = ""
		}
	}
}

var cargoLine = lazyregexp.New(`^(name|version|checksum) = "([A-Za-z0-9._+-]+)"$`)

// cargoLock reads a Cargo.lock. It names no addresses: a registry serves a crate at /NAME/VERSION/download, or
// where its configuration says (doc.rust-lang.org/cargo, Registry Index), which often ends in its file's name.
func (p *pins) cargoLock(text []byte) {
	var now map[string]string
	for line := range strings.Lines(string(text)) {
		line = strings.TrimRight(line, "\r\n")
		if strings.HasPrefix(line, "[") {
			now = map[string]string{}
		}
		m := cargoLine.FindStringSubmatch(line)
		if m == nil || now == nil {
			continue
		}
		if now[m[1]] = m[2]; m[1] == "checksum" {
			p.add("/"+now["name"]+"/"+now["version"]+"/download", "sha256:"+m[2])
			p.add("/"+now["name"]+"-"+now["version"]+".crate", "sha256:"+m[2])
		}
	}
}

// archive is one of Python in a line of poetry.lock or pdm.lock, which say its file, or uv.lock, which says its
// URL.
var archive = lazyregexp.New(`\{ ?(file|url) = "([^"\\]+)", hash = "(sha256:[0-9a-f]{64})"`)

func (p *pins) archives(text []byte) {
	for _, m := range archive.FindAllStringSubmatch(string(text), maxDemands) {
		switch name := m[2]; {
		case m[1] == "url" && isHTTP(name):
			p.add(name, m[3])
		case m[1] == "file" && !strings.Contains(name, "/"):
			p.add("/"+name, m[3])
		}
	}
}

// pipfileLock reads a Pipfile.lock, which has the digests of all archives of a version.
func (p *pins) pipfileLock(text []byte) {
	type group map[string]struct {
		Hashes  []string `json:"hashes"`
		Version string   `json:"version"`
	}
	var lock struct {
		Default group `json:"default"`
		Develop group `json:"develop"`
	}
	if json.Unmarshal(text, &lock) != nil {
		return
	}
	for _, g := range []group{lock.Default, lock.Develop} {
		for name, e := range g {
			version, pinned := strings.CutPrefix(e.Version, "==")
			for _, digest := range e.Hashes {
				if pinned && strings.HasPrefix(digest, "sha256:") {
					p.add(pypi.PackageURL(name, version), digest)
				}
			}
		}
	}
}

var (
	requirement = lazyregexp.New(`^\s*([A-Za-z0-9][A-Za-z0-9._-]*)\s*(?:\[[^\]]*\])?\s*===?\s*([^\s;,*]+)`)
	pipHash     = lazyregexp.New(`\s--hash[= ](sha256:[0-9a-f]{64})\b`)
)

// requirements reads a requirements.txt with --hash, which has the digests of all archives of a version
// (pip.pypa.io, Secure installs).
func (p *pins) requirements(text []byte) {
	whole := strings.NewReplacer("\\\r\n", " ", "\\\n", " ").Replace(string(text))
	for line := range strings.Lines(whole) {
		m := requirement.FindStringSubmatch(line)
		if m == nil {
			continue
		}
		line, _, _ = strings.Cut(line, " #")
		for _, h := range pipHash.FindAllStringSubmatch(line, maxDemands) {
			p.add(pypi.PackageURL(m[1], m[2]), h[1])
		}
	}
}
