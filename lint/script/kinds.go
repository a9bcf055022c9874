package script

import (
	"slices"
	"strings"
)

// builders run code of the repository: a command, and the first arguments with which it does.
// An empty list: with any.
var builders = map[string][]string{
	"docker": {"build", "buildx", "compose"}, "podman": {"build"}, "buildah": {"build", "bud"}, "nerdctl": {"build"},
	"make": {}, "gmake": {}, "ninja": {}, "cmake": {}, "bazel": {"build", "run", "test"}, "bazelisk": {"build", "run", "test"}, "just": {}, "task": {},
	"go": {"build", "install", "test", "generate", "run"}, "ko": {"build", "publish", "apply", "resolve"}, "goreleaser": {}, "mage": {},
	"npm": {"ci", "install", "i", "run", "test", "build"}, "pnpm": {}, "yarn": {}, "bun": {"install", "run", "build"}, "npx": {},
	"mvn": {}, "mvnw": {}, "gradle": {}, "gradlew": {}, "sbt": {}, "ant": {},
	"cargo": {"build", "install", "test", "run"}, "poetry": {"build", "install", "run"}, "uv": {"build", "run", "sync"}, "hatch": {"build"}, "tox": {}, "pip": {"install", "wheel"}, "pip3": {"install", "wheel"},
	"dotnet": {"build", "publish", "pack", "test"}, "swift": {"build"}, "nix": {"build"}, "nix-build": {}, "pack": {"build"}, "kaniko": {}, "executor": {}, "buildctl": {"build"}, "earthly": {}, "dagger": {},
}

// Builds returns the first command that runs code of the repository, or nil.
func Builds(commands []*Command) *Command {
	for _, c := range commands {
		first, ok := builders[c.Name]
		if !ok || c.Name == "docker" && c.First() == "buildx" && !c.Has("build", "bake") {
			continue
		}
		if c.Name == "docker" && c.First() == "compose" && !c.Has("build", "--build") {
			continue
		}
		if (len(first) == 0 || slices.Contains(first, c.First())) && !c.installsTool() {
			return c
		}
	}
	return nil
}

// installsTool reports whether a command gets a program that is named, and does not build what is
// in the directory.
func (c *Command) installsTool() bool {
	named := func(w Word) bool { return !strings.HasPrefix(w.Text, "-") && !strings.HasPrefix(w.Text, ".") }
	switch c.Name {
	case "go":
		return c.First() != "build" && slices.ContainsFunc(c.Args, func(w Word) bool { return strings.Contains(w.Text, "@") })
	case "npm", "pip", "pip3", "cargo":
		if first := c.First(); first != "install" && first != "i" {
			return false
		}
		seen := 0
		for i, a := range c.Args {
			if named(a) && (i == 0 || !slices.Contains([]string{"-r", "--requirement", "-c", "--path", "--prefix"}, c.Args[i-1].Text)) {
				seen++
			}
		}
		return seen > 1
	}
	return false
}

// Publishes returns the first command that gives something to users, or nil.
func Publishes(commands []*Command) *Command {
	for _, c := range commands {
		first := c.First()
		switch c.Name {
		case "docker", "podman", "buildah", "nerdctl":
			if first == "push" || c.Has("--push") {
				return c
			}
		case "cosign", "notation":
			if first == "sign" || first == "attest" {
				return c
			}
		case "npm", "pnpm", "yarn", "cargo", "twine", "poetry", "uv", "helm", "gem", "crane", "skopeo", "oras":
			if slices.Contains([]string{"publish", "upload", "push", "copy", "cp"}, first) {
				return c
			}
		case "gh":
			if first == "release" && c.Has("create", "upload") {
				return c
			}
		case "goreleaser":
			if first == "release" && !c.Has("--snapshot") {
				return c
			}
		case "colophon":
			if first == "release" {
				return c
			}
		}
	}
	return nil
}

// Evaluates returns the first of some variables whose value a command reads as a script, and the
// word that has it: eval "$TITLE", sh -c "echo $TITLE". In single quotes, the shell that is called
// reads the variable itself, and its value stays data.
func Evaluates(c *Command, variables []string) (name string, in Word) {
	shell := slices.Contains(shells, c.Name)
	if c.Name != "eval" && !shell {
		return "", Word{}
	}
	for i, w := range c.Args {
		if w.Quote == '\'' || shell && (i == 0 || !isCommandFlag(c.Args[i-1].Text)) {
			continue
		}
		_, used := split(w.Text)
		for _, v := range used {
			plain := strings.Trim(v, "${}")
			if n := strings.IndexFunc(plain, func(r rune) bool { return r > 127 || !isName(byte(r)) }); n >= 0 {
				plain = plain[:n]
			}
			if slices.Contains(variables, plain) {
				return plain, w
			}
		}
	}
	return "", Word{}
}

// isCommandFlag reports whether the argument after an option of a shell is a script: -c, -ec.
func isCommandFlag(text string) bool {
	return strings.HasPrefix(text, "-") && !strings.HasPrefix(text, "--") && strings.HasSuffix(text, "c")
}

// ByTag reports whether the name of an image is without doubt one with a tag, or with none, and
// not one with a digest. Names that are only a variable may be either.
func ByTag(name string) bool {
	if strings.Contains(name, "@") || name == "" {
		return false
	}
	literal, variables := split(name)
	for _, v := range variables {
		v = strings.ToLower(v)
		if strings.Contains(v, "digest") || strings.Contains(v, "sha256") {
			return false
		}
	}
	last := literal[strings.LastIndexByte(literal, '/')+1:]
	if strings.Contains(last, ":") {
		return true
	}
	if len(variables) == 0 {
		return strings.ContainsAny(name, "/.") && !strings.HasPrefix(name, "-") && !strings.HasPrefix(name, ".")
	}
	v := strings.ToLower(strings.Trim(variables[len(variables)-1], "${} "))
	return strings.HasSuffix(v, "tag") || strings.HasSuffix(v, "tags")
}

// split returns a word without its variables and expressions, and these.
func split(word string) (literal string, variables []string) {
	var b strings.Builder
	for i := 0; i < len(word); {
		end := 0
		rest := word[i:]
		switch {
		case strings.HasPrefix(rest, "${{"):
			end = strings.Index(rest, "}}") + len("}}")
		case strings.HasPrefix(rest, "$[["):
			end = strings.Index(rest, "]]") + len("]]")
		case strings.HasPrefix(rest, "${"):
			end = strings.IndexByte(rest, '}') + 1
		case strings.HasPrefix(rest, "$("):
			end = strings.LastIndexByte(rest, ')') + 1
		case rest[0] == '$':
			for end = 1; end < len(rest) && isName(rest[end]); end++ {
			}
		}
		if end < 2 {
			b.WriteByte(rest[0])
			i++
			continue
		}
		variables = append(variables, rest[:end])
		i += end
	}
	return b.String(), variables
}

func isName(c byte) bool {
	return c == '_' || c >= '0' && c <= '9' || c >= 'a' && c <= 'z' || c >= 'A' && c <= 'Z'
}
