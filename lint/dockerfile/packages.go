package dockerfile

import (
	"slices"
	"strings"

	"github.com/colophon-build/colophon/internal/lazyregexp"
	"github.com/colophon-build/colophon/lint/script"
)

// packages checks what package managers install without a version.
func (d *document) packages(s *stage, t *snippet, c *script.Command) {
	c = module(c)
	if names := distribution(c); len(names) > 0 && !snapshot(s) {
		d.at(t, c, ruleDistribution, c.Name+" installs "+some(names)+" in whatever version there is today",
			"write NAME=VERSION, or install from a snapshot of the distribution, as snapshot.debian.org")
	}
	if names, how := language(c); len(names) > 0 {
		d.at(t, c, ruleLanguage, c.Name+" installs "+some(names)+" in whatever version there is today", how)
	}
}

// some names the first of some packages.
func some(names []string) string {
	const most = 3
	text := strings.Join(names[:min(len(names), most)], ", ")
	if len(names) > most {
		text += ", …"
	}
	return text
}

// module makes pip of "python -m pip", and pip of "uv pip".
func module(c *script.Command) *script.Command {
	inner := *c
	switch {
	case strings.HasPrefix(c.Name, "python") && len(c.Args) > 1 && c.Args[0].Text == "-m" && c.Args[1].Text == "pip":
		inner.Name, inner.Args = "pip", c.Args[2:]
	case c.Name == "uv" && len(c.Args) > 0 && c.Args[0].Text == "pip":
		inner.Name, inner.Args = "pip", c.Args[1:]
	default:
		return c
	}
	return &inner
}

// operands returns the arguments after a subcommand that are neither options nor their values.
// valued are the options that take a value.
func operands(c *script.Command, valued string) (verb string, names []string) {
	with := strings.Fields(valued)
	for i := 0; i < len(c.Args); i++ {
		text := c.Args[i].Text
		switch {
		case strings.HasPrefix(text, "-"):
			if slices.Contains(with, text) {
				i++
			}
		case verb == "":
			verb = text
		case strings.ContainsAny(text, "$`"): // what a variable says, nobody knows here
		default:
			names = append(names, text)
		}
	}
	return verb, names
}

// distribution returns the packages of a distribution that a command installs without a version.
func distribution(c *script.Command) (out []string) {
	verbs, mark := []string{"install"}, "="
	valued := "-t --target-release -o --option -c --config-file"
	switch c.Name {
	case "apt-get", "apt", "aptitude":
	case "apk":
		verbs, mark, valued = []string{"add"}, "=~<>@", "-t --virtual -X --repository -p --root --repositories-file --keys-dir --cache-dir"
	case "yum", "dnf", "microdnf", "tdnf", "zypper":
		verbs, mark, valued = []string{"install", "in"}, "", "--setopt --repo --repoid --enablerepo --disablerepo --installroot --releasever -c"
	default:
		return nil
	}
	verb, names := operands(c, valued)
	if !slices.Contains(verbs, verb) {
		return nil
	}
	for _, n := range names {
		switch {
		case strings.HasPrefix(n, "/"), strings.HasPrefix(n, "./"), strings.HasPrefix(n, "@"), strings.Contains(n, "://"): // a file, a group, an address
		case mark == "" && versionEnd.MatchString(n), mark != "" && strings.ContainsAny(n, mark):
		default:
			out = append(out, n)
		}
	}
	return out
}

// versionEnd is the version at the end of an RPM's name: bash-5.1.8.
var versionEnd = lazyregexp.New(`-[0-9]+(:[0-9]+)?\.[0-9]`)

// snapshot reports whether a stage installs from a snapshot of its distribution.
func snapshot(s *stage) bool {
	for at := s; at != nil; at = at.local {
		for _, t := range at.runs {
			if strings.Contains(t.src, "snapshot.debian.org") || strings.Contains(t.src, "snapshot.ubuntu.com") || strings.Contains(t.src, "--snapshot") || strings.Contains(t.src, "debuerreotype") {
				return true
			}
		}
	}
	return false
}

const (
	pipValues = "-i --index-url --extra-index-url -t --target -f --find-links --prefix --root -c --constraint -r --requirement --trusted-host --platform --python-version --implementation --abi --cache-dir --timeout --retries --no-binary --only-binary --progress-bar --proxy --cert --src --upgrade-strategy --python -p --group"
	npmValues = "--registry --prefix --cache --loglevel --tag --omit --include -w --workspace --fetch-timeout --fetch-retries --target --platform --arch"
	goValues  = "-ldflags -tags -gcflags -asmflags -mod -modfile -p -o -toolexec"
)

// language returns the packages of a language that a command installs without an exact version,
// and what to do about it.
func language(c *script.Command) (out []string, mend string) {
	keep := func(names []string, pinned func(string) bool) []string {
		return slices.DeleteFunc(names, pinned)
	}
	switch c.Name {
	case "pip", "pip3", "pipx":
		verb, names := operands(c, pipValues)
		if verb != "install" || c.Has("-r", "--requirement", "-c", "--constraint", "--require-hashes") || hasPrefix(c, "-r", "--requirement=", "-c", "--constraint=") {
			return nil, ""
		}
		return keep(names, pipPinned), "write NAME==VERSION, or install a lock file: pip install --require-hashes -r requirements.txt"
	case "npm", "pnpm", "yarn", "bun", "npx":
		return keep(javascript(c), npmPinned), "write NAME@1.2.3, or add it to package.json and install the lock file: npm ci"
	case "go":
		verb, names := operands(c, goValues)
		if verb != "install" && verb != "run" && verb != "get" {
			return nil, ""
		}
		return keep(names, goPinned), "write NAME@v1.2.3, or add it to go.mod with go get -tool"
	case "gem":
		verb, names := operands(c, "-i --install-dir -n --bindir -s --source -v --version")
		if verb != "install" || c.Has("-v", "--version") || hasPrefix(c, "-v", "--version=") {
			return nil, ""
		}
		return keep(names, func(n string) bool { return strings.Contains(n, ":") || strings.HasSuffix(n, ".gem") }), "write gem install NAME -v VERSION, or install the lock file: bundle install"
	case "cargo":
		verb, names := operands(c, "--version --vers --git --branch --tag --rev --path --root --index --registry --target --features -F --bin --profile -j")
		if verb != "install" && verb != "binstall" || c.Has("--version", "--vers", "--path", "--rev") || hasPrefix(c, "--version=", "--vers=", "--path=", "--rev=") {
			return nil, ""
		}
		return keep(names, func(n string) bool { return strings.Contains(n, "@") }), "write cargo install --locked NAME@1.2.3"
	}
	return nil, ""
}

func hasPrefix(c *script.Command, prefixes ...string) bool {
	return slices.ContainsFunc(c.Args, func(w script.Word) bool {
		return slices.ContainsFunc(prefixes, func(p string) bool {
			return strings.HasPrefix(w.Text, p) && !strings.HasPrefix(w.Text, "--r") || w.Text == p
		})
	})
}

func local(name string) bool {
	return name == "." || strings.HasPrefix(name, "./") || strings.HasPrefix(name, "../") || strings.HasPrefix(name, "/") || strings.HasPrefix(name, ".[") || strings.HasPrefix(name, "file:")
}

var commitID = lazyregexp.New(`[0-9a-f]{40}`)

func pipPinned(name string) bool {
	name = strings.TrimSpace(name)
	return local(name) || strings.Contains(name, "==") && !strings.Contains(name, "*") || strings.HasSuffix(name, ".whl") || strings.HasSuffix(name, ".tar.gz") ||
		strings.Contains(name, "://") && commitID.MatchString(name) || strings.Contains(name, "*") && !strings.Contains(name, "==")
}

// javascript returns the packages that a command of JavaScript's package managers adds.
func javascript(c *script.Command) []string {
	verb, names := operands(c, npmValues)
	switch c.Name {
	case "npx":
		if verb == "" || strings.HasPrefix(verb, "$") {
			return nil
		}
		if p, ok := c.Flag("--package"); ok {
			verb = p.Text
		}
		return []string{verb}
	case "npm":
		if slices.Contains([]string{"install", "i", "add"}, verb) {
			return names
		}
	case "pnpm", "bun":
		if verb == "add" {
			return names
		}
	case "yarn":
		if verb == "global" && len(names) > 0 && names[0] == "add" {
			return names[1:]
		}
		if verb == "add" {
			return names
		}
	}
	return nil
}

var exact = lazyregexp.New(`^v?[0-9]+\.[0-9]+\.[0-9]+([-+.].*)?$`)

func npmPinned(name string) bool {
	if local(name) || strings.HasSuffix(name, ".tgz") || commitID.MatchString(name) {
		return true
	}
	at := strings.LastIndexByte(name, '@')
	return at > 0 && exact.MatchString(name[at+1:])
}

// goPinned reports whether the argument of go install is code of the module, or of an exact version.
func goPinned(name string) bool {
	_, version, ok := strings.Cut(name, "@")
	if !ok {
		return true // of this module, or of go.mod
	}
	return exact.MatchString(version) && strings.HasPrefix(version, "v") || len(version) >= 12 && strings.Trim(version, "0123456789abcdef") == "" || version == "none"
}

// locks checks that the lock file decides what a build installs.
func (d *document) locks(t *snippet, c *script.Command) {
	verb, names := operands(c, npmValues)
	mend := ""
	switch c.Name {
	case "npm":
		if (verb == "install" || verb == "i") && len(names) == 0 && !variables(c) && !c.Has("-g", "--global") {
			mend = "write npm ci"
		}
		if verb == "update" || verb == "upgrade" {
			mend = "update the lock file in the repository, and write npm ci"
		}
	case "yarn":
		if (verb == "" && len(c.Args) == 0 || verb == "install") && !hasPrefix(c, "--frozen-lockfile", "--immutable", "--version") {
			mend = "write yarn install --immutable (--frozen-lockfile of version 1)"
		}
	case "pnpm", "bun":
		if (verb == "install" || verb == "i") && len(names) == 0 && !hasPrefix(c, "--frozen-lockfile") {
			mend = "write " + c.Name + " install --frozen-lockfile"
		}
	case "go":
		if verb == "get" && c.Has("-u") || verb == "mod" && len(names) > 0 && names[0] == "tidy" {
			mend = "update go.mod and go.sum in the repository, and write go mod download"
		}
	case "uv":
		if (verb == "sync") && !hasPrefix(c, "--frozen", "--locked") {
			mend = "write uv sync --locked"
		}
	case "pipenv":
		if verb == "install" && !c.Has("--deploy", "--ignore-pipfile") {
			mend = "write pipenv install --deploy"
		}
	case "composer":
		if verb == "update" || verb == "require" {
			mend = "update composer.lock in the repository, and write composer install"
		}
	case "cargo":
		if (verb == "build" || verb == "install" && !c.Has("--git")) && !hasPrefix(c, "--locked", "--frozen") {
			mend = "write cargo " + verb + " --locked"
		}
	case "poetry":
		if verb == "update" || verb == "lock" && !hasPrefix(c, "--check") {
			mend = "update poetry.lock in the repository, and write poetry install"
		}
	case "bundle", "bundler":
		if verb == "update" {
			mend = "update Gemfile.lock in the repository, and write bundle install"
		}
	}
	if mend != "" {
		d.at(t, c, ruleLock, strings.TrimSpace(c.Name+" "+verb)+" may install other versions than those of the lock file", mend)
	}
}

func variables(c *script.Command) bool {
	return slices.ContainsFunc(c.Args, func(w script.Word) bool { return strings.Contains(w.Text, "$") })
}
