package dockerfile

import (
	"path"
	"slices"
	"strings"

	"github.com/moby/buildkit/frontend/dockerfile/instructions"

	"github.com/colophon-build/colophon/lint/script"
)

// final checks the image that is the result: the last stage, and those that it begins from.
func (d *document) final() {
	if len(d.stages) == 0 {
		return
	}
	last := d.stages[len(d.stages)-1]
	var chain []*stage
	for s := last; s != nil && !slices.Contains(chain, s); s = s.local {
		chain = append(chain, s)
	}
	d.user(chain)
	base := chain[len(chain)-1]
	start, end := d.from(last)
	if tool := manager(chain); tool != "" {
		d.add(last.from, start, end, ruleShell, "the image has a shell and "+tool+", with which an intruder installs more", "copy what runs into an image without them: FROM gcr.io/distroless/static-debian12:nonroot@sha256:…")
	} else if distributions[repository(base.image)] {
		d.add(last.from, start, end, ruleShell, "the image has the shell and the package manager of "+base.image, "copy what runs into an image without them: FROM gcr.io/distroless/static-debian12:nonroot@sha256:…")
	}
}

// user finds the user that the image runs as.
func (d *document) user(chain []*stage) {
	for _, s := range chain {
		for _, in := range slices.Backward(s.all) {
			u, ok := in.parsed.(*instructions.UserCommand)
			if !ok {
				continue
			}
			name, _, _ := strings.Cut(u.User, ":")
			if name == "root" || name == "0" {
				start, end := d.word(in, u.User)
				d.add(in, start, end, ruleRoot, "the image runs as root", "end with USER and a number: USER 65532:65532")
			}
			return
		}
	}
	base := chain[len(chain)-1]
	last := chain[0]
	if base.image == "" || strings.Contains(base.image, "nonroot") || strings.HasPrefix(base.image, "cgr.dev/chainguard/") || ownUser(repository(base.image)) {
		return // not known, or another user
	}
	if base.image == "scratch" && !starts(chain) {
		return // files for somebody else: nothing runs
	}
	start, end := d.from(last)
	d.add(last.from, start, end, ruleRoot, "no USER follows, and "+base.image+" runs as root", "end with USER and a number: USER 65532:65532")
}

// starts reports whether the stages of an image say which program it starts.
func starts(chain []*stage) bool {
	return slices.ContainsFunc(chain, func(s *stage) bool {
		return slices.ContainsFunc(s.all, func(in *instruction) bool {
			switch in.parsed.(type) {
			case *instructions.CmdCommand, *instructions.EntrypointCommand:
				return true
			}
			return false
		})
	})
}

// ownUser reports whether it is not known that the images of a repository run as root.
func ownUser(repository string) bool {
	return repository != "scratch" && !distributions[repository] && !strings.HasPrefix(repository, "gcr.io/distroless/")
}

// repository returns the name of an image without tag, digest, and Docker Hub's prefixes.
func repository(image string) string {
	image, _, _ = strings.Cut(image, "@")
	if i := strings.LastIndexByte(image, ':'); i > strings.LastIndexByte(image, '/') {
		image = image[:i]
	}
	for _, prefix := range []string{"docker.io/", "index.docker.io/", "library/", "public.ecr.aws/docker/library/"} {
		image = strings.TrimPrefix(image, prefix)
	}
	return image
}

// distributions are images that have a shell and a package manager, and run as root.
var distributions = map[string]bool{
	"alpine": true, "debian": true, "ubuntu": true, "fedora": true, "centos": true, "amazonlinux": true, "rockylinux": true, "almalinux": true, "archlinux": true,
	"oraclelinux": true, "photon": true, "buildpack-deps": true, "golang": true, "node": true, "python": true, "ruby": true, "php": true, "openjdk": true, "eclipse-temurin": true,
	"maven": true, "gradle": true, "rust": true, "perl": true, "elixir": true, "erlang": true, "haskell": true, "swift": true, "gcc": true, "nginx": true, "httpd": true,
	"opensuse/leap": true, "opensuse/tumbleweed": true, "redhat/ubi8": true, "redhat/ubi9": true, "registry.access.redhat.com/ubi8/ubi": true, "registry.access.redhat.com/ubi9/ubi": true,
	"registry.access.redhat.com/ubi8/ubi-minimal": true, "registry.access.redhat.com/ubi9/ubi-minimal": true, "phusion/baseimage": true, "kalilinux/kali-rolling": true,
}

// manager returns the package manager that the stages of an image run, or "".
func manager(chain []*stage) string {
	for _, s := range chain {
		for _, t := range s.runs {
			for _, c := range t.commands {
				if len(c.Args) > 0 && slices.Contains([]string{"apt-get", "apt", "apk", "yum", "dnf", "microdnf", "zypper"}, c.Name) && !slices.ContainsFunc(c.Args, func(a script.Word) bool {
					return strings.HasPrefix(a.Text, "--root") || strings.HasPrefix(a.Text, "--installroot")
				}) {
					return path.Base(c.Name)
				}
			}
		}
	}
	return ""
}
