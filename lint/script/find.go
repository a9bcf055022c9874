package script

import (
	"net/url"
	"path"
	"regexp/syntax"
	"slices"
	"strings"
)

// problem is a place in a script that breaks a rule. Offsets are those of the script.
type problem struct {
	rule          string
	start, end    int
	message, mend string
	edits         []edit
}

type edit struct {
	start, end int
	text       string
}

// find returns what breaks the rules in a script.
func find(src string) (out []problem) {
	commands, whole := Commands(src)
	if !whole {
		out = append(out, problem{rule: ruleUnread, end: 1, message: "the script is longer than 64 KiB, too deeply nested, or not a shell script", mend: "put it into a file of its own"})
	}
	for _, c := range commands {
		out = append(out, piped(c)...)
		out = append(out, variables(src, c)...)
		switch c.Name {
		case "cosign":
			out = append(out, cosign(c)...)
		case "notation":
			if c.First() == "sign" {
				out = append(out, signed(c, notationFlags)...)
			}
		case "docker":
			out = append(out, docker(c)...)
		case "git":
			out = append(out, submodule(c)...)
		}
		out = append(out, identities(c)...)
	}
	return out
}

var (
	shells       = []string{"sh", "bash", "dash", "ash", "zsh", "ksh"}
	interpreters = []string{"python", "python2", "python3", "perl", "ruby", "node", "php"}
)

// piped finds programs from the network that run at once.
func piped(c *Command) []problem {
	if from := fetched(c.Reads); from != nil && runsInput(c) {
		return []problem{download(from, max(c.End, from.End))}
	}
	runsArgs := slices.Contains(shells, c.Name) || slices.Contains([]string{"eval", "source", "."}, c.Name)
	if !runsArgs {
		return nil
	}
	for _, s := range c.Sourced {
		if from := fetched(s); from != nil {
			return []problem{download(from, c.End)}
		}
	}
	return nil
}

func download(from *Command, end int) problem {
	return problem{rule: rulePipe, start: from.Start, end: end, message: "what " + from.Name + " gets runs without a check",
		mend: "download a released version, compare its SHA-256, or verify its signature, and run it then"}
}

// fetched returns the command that gets the output of c from the network, or nil.
func fetched(c *Command) *Command {
	for ; c != nil; c = c.Reads {
		switch c.Name {
		case "curl", "wget", "fetch", "http":
			if slices.ContainsFunc(c.Args, func(w Word) bool { return local(w.Text) }) {
				return nil
			}
			return c
		case "jq", "grep", "yq", "wc", "sha256sum", "tar", "unzip":
			return nil // its output is its own
		}
	}
	return nil
}

func local(address string) bool {
	u, err := url.Parse(address)
	return err == nil && slices.Contains([]string{"localhost", "127.0.0.1", "::1"}, u.Hostname())
}

// runsInput reports whether a command runs its standard input.
func runsInput(c *Command) bool {
	shell := slices.Contains(shells, c.Name)
	if !shell && !slices.Contains(interpreters, c.Name) {
		return false
	}
	for i, a := range c.Args {
		switch {
		case a.Text == "-" || a.Text == "/dev/stdin":
			return true
		case shell && strings.HasPrefix(a.Text, "-") && !strings.HasPrefix(a.Text, "--") && strings.Contains(a.Text, "s"):
			return true
		case shell && strings.HasPrefix(a.Text, "-") && !strings.HasPrefix(a.Text, "--") && strings.Contains(a.Text, "c"):
			return false
		case shell && (a.Text == "-o" || a.Text == "-O" || strings.HasSuffix(a.Text, "o") && strings.HasPrefix(a.Text, "-")):
			if i+2 == len(c.Args) {
				return true // bash -euo pipefail
			}
		case shell && strings.HasPrefix(a.Text, "-"):
		case i > 0 && c.Args[i-1].Text == "-o" || i > 0 && strings.HasSuffix(c.Args[i-1].Text, "o") && strings.HasPrefix(c.Args[i-1].Text, "-"):
		default:
			return false // a file, or -c of an interpreter: the input is data
		}
	}
	return true
}

// variables finds variables that a script sets, and that break a rule.
func variables(src string, c *Command) (out []problem) {
	for _, a := range c.Assigned {
		switch {
		case a.Name == "COSIGN_EXPERIMENTAL":
			p := problem{rule: ruleExperimental, start: a.Start, end: a.End, message: experimental, mend: "delete it"}
			p.edits = withoutAssignment(src, c, a)
			out = append(out, p)
		case a.Name == "DOCKER_CONTENT_TRUST" && on(a.Value):
			out = append(out, problem{rule: ruleContentTrust, start: a.Start, end: a.End, message: contentTrust, mend: contentTrustMend})
		}
	}
	return out
}

// What is said of variables.
const (
	experimental     = "COSIGN_EXPERIMENTAL is not needed since cosign 2"
	contentTrust     = "Docker Content Trust signs and verifies with a service that is being shut down"
	contentTrustMend = "sign with cosign or notation, and verify with colophon verify"
)

// on reports whether the value of a variable switches something on.
func on(value string) bool {
	return !slices.Contains([]string{"", "0", "f", "false", "no", "off"}, strings.ToLower(value))
}

// withoutAssignment returns the edit that deletes an assignment before a command, or the line
// that has nothing else.
func withoutAssignment(src string, c *Command, a Assignment) []edit {
	if c.Name != "" && !a.Exported {
		end := a.End
		for end < len(src) && (src[end] == ' ' || src[end] == '\t') {
			end++
		}
		if end == a.End || end == len(src) {
			return nil
		}
		return []edit{{a.Start, end, ""}}
	}
	if len(c.Assigned) > 1 {
		return nil
	}
	start, end := strings.LastIndexByte(src[:c.Start], '\n')+1, c.End
	next := strings.IndexByte(src[end:], '\n')
	if strings.TrimSpace(src[start:c.Start]) != "" || next < 0 || strings.TrimSpace(src[end:end+next]) != "" || end+next+1 >= len(src) {
		return nil
	}
	after := end + next + 1
	// The bytes from the first of the line to the first of the next, as both are indented alike.
	return []edit{{start, after, ""}}
}

var (
	cosignFlags   = []string{"-y", "--yes", "-r", "--recursive", "-d", "--verbose", "--upload", "--tlog-upload", "--new-bundle-format", "--use-signing-config", "--allow-insecure-registry", "--allow-http-registry", "--issue-certificate", "--replace", "--no-upload", "--record-creation-timestamp"}
	notationFlags = []string{"-d", "--debug", "-v", "--verbose", "--allow-referrers-api", "--force-referrers-tag", "--insecure-registry", "--oci-layout"}
)

// positional returns the arguments after a subcommand that are neither options nor their values.
// switches are the options without a value.
func positional(c *Command, switches []string) (out []Word) {
	seen := false
	for i := 0; i < len(c.Args); i++ {
		a := c.Args[i]
		switch {
		case a.Text == "--":
		case strings.HasPrefix(a.Text, "-"):
			if !strings.Contains(a.Text, "=") && !slices.Contains(switches, a.Text) {
				i++
			}
		case !seen:
			seen = true // the subcommand
		default:
			out = append(out, a)
		}
	}
	return out
}

// signed finds images that are signed by their tag.
func signed(c *Command, switches []string) (out []problem) {
	for _, w := range positional(c, switches) {
		if !ByTag(w.Text) {
			continue
		}
		out = append(out, problem{rule: ruleByTag, start: w.Start, end: w.End, message: c.Name + " " + c.First() + " gets the tag " + w.Text,
			mend: "sign NAME@sha256:DIGEST with the digest that the push returned"})
	}
	return out
}

// submodule finds submodules that are not those of the commit.
func submodule(c *Command) []problem {
	for i, a := range c.Args {
		if i > 0 && (a.Text == "--remote" && c.Has("submodule") && c.Has("update") || a.Text == "--remote-submodules" && c.Has("clone")) {
			return []problem{{rule: ruleSubmodule, start: a.Start, end: a.End, message: "git " + c.First() + " " + a.Text + " gets what a branch has", mend: "delete " + a.Text,
				edits: []edit{{c.Args[i-1].End, a.End, ""}}}}
		}
	}
	return nil
}

func cosign(c *Command) (out []problem) {
	first := c.First()
	switch first {
	case "sign", "attest":
		out = append(out, signed(c, cosignFlags)...)
	case "attach":
		if c.Has("sbom") {
			out = append(out, attached(c))
		}
	}
	for i, a := range c.Args {
		switch {
		case a.Text == "--tlog-upload=false" && first != "verify":
			out = append(out, problem{rule: ruleNoLog, start: a.Start, end: a.End, message: "cosign " + first + " does not log what it signs", mend: "delete --tlog-upload=false, or log to a transparency log of your own"})
		case a.Text == "--insecure-ignore-tlog" || a.Text == "--insecure-ignore-tlog=true":
			out = append(out, problem{rule: ruleNoLog, start: a.Start, end: a.End, message: "cosign " + first + " accepts what is not logged", mend: "delete " + a.Text})
		case a.Text == "slsaprovenance" && i > 0 && c.Args[i-1].Text == "--type", a.Text == "--type=slsaprovenance":
			out = append(out, problem{rule: ruleType, start: a.Start, end: a.End, message: "cosign " + first + " reads slsaprovenance as SLSA v0.2",
				mend: "write slsaprovenance1 for SLSA v1, or slsaprovenance02 if v0.2 is meant"})
		}
	}
	return out
}

// attached makes "cosign attest" of "cosign attach sbom --sbom FILE IMAGE".
func attached(c *Command) problem {
	p := problem{rule: ruleAttachSBOM, start: c.Start, end: c.End, message: "cosign attach sbom signs nothing", mend: "write cosign attest --type spdxjson --predicate FILE IMAGE@DIGEST"}
	var verb, noun, flag, file *Word
	images := 0
	for i := range c.Args {
		a := &c.Args[i]
		switch {
		case i == 0 && a.Text == "attach":
			verb = a
		case i == 1 && a.Text == "sbom":
			noun = a
		case a.Text == "--sbom" && i+1 < len(c.Args):
			flag, file = a, &c.Args[i+1]
		case file == a:
		case strings.HasPrefix(a.Text, "-"):
			return p // options that attest does not have
		default:
			images++
		}
	}
	if verb == nil || noun == nil || flag == nil || images != 1 || flag.Quote != 0 {
		return p
	}
	kind := map[string]string{".spdx.json": "spdxjson", ".cdx.json": "cyclonedx"}
	for suffix, name := range kind {
		if strings.HasSuffix(file.Text, suffix) {
			p.edits = []edit{{verb.Start, noun.End, "attest --yes --type " + name}, {flag.Start, flag.End, "--predicate"}}
		}
	}
	return p
}

func docker(c *Command) (out []problem) {
	if c.First() == "trust" {
		return []problem{{rule: ruleContentTrust, start: c.Start, end: c.End, message: contentTrust, mend: contentTrustMend}}
	}
	max := false
	for i, a := range c.Args {
		attest := strings.HasPrefix(a.Text, "--attest=") || i > 0 && c.Args[i-1].Text == "--attest"
		provenance := strings.HasPrefix(a.Text, "--provenance=") || i > 0 && c.Args[i-1].Text == "--provenance"
		max = max || (attest && strings.Contains(a.Text, "provenance") || provenance) && strings.Contains(a.Text, "mode=max")
	}
	for i, a := range c.Args {
		arg, ok := strings.CutPrefix(a.Text, "--build-arg=")
		if !ok && i > 0 && c.Args[i-1].Text == "--build-arg" {
			arg, ok = a.Text, true
		}
		if name, _, _ := strings.Cut(arg, "="); ok && max && LooksSecret(name) {
			out = append(out, problem{rule: ruleBuildArgs, start: a.Start, end: a.End, message: "the build argument " + name + " is written into the provenance",
				mend: "use --secret and RUN --mount=type=secret"})
		}
	}
	return out
}

// LooksSecret reports whether the name of a variable is that of something secret.
func LooksSecret(name string) bool {
	name = strings.ToUpper(name)
	for _, part := range []string{"TOKEN", "SECRET", "PASSWORD", "PASSWD", "CREDENTIAL", "API_KEY", "APIKEY", "PRIVATE_KEY", "ACCESS_KEY"} {
		if strings.Contains(name, part) {
			return true
		}
	}
	return false
}

// identityFlags are options whose value is a regular expression for who may have signed.
var identityFlags = []string{
	"--certificate-identity-regexp", "--certificate-oidc-issuer-regexp", // cosign
	"--cert-identity-regex", // gh attestation
}

func identities(c *Command) (out []problem) {
	if c.Name != "cosign" && c.Name != "gh" {
		return nil
	}
	for _, flag := range identityFlags {
		w, ok := c.Flag(flag)
		if !ok || w.Text == "" {
			continue
		}
		literal, variables := split(w.Text)
		if len(variables) > 0 && strings.Trim(literal, "^$") == "" {
			continue // all of it is elsewhere
		}
		if catchAll(w.Text) {
			out = append(out, problem{rule: ruleCatchAll, start: w.Start, end: w.End, message: flag + " " + w.Text + " matches anybody",
				mend: "name the workflow that signs: --certificate-identity https://github.com/OWNER/REPO/.github/workflows/FILE@REF"})
			continue
		}
		begin, end := anchored(w.Text, len(variables) > 0)
		if begin && end {
			continue
		}
		p := problem{rule: ruleUnanchored, start: w.Start, end: w.End, message: flag + " " + w.Text + " also matches in the middle of another identity", mend: "begin it with ^ and end it with $"}
		if text, ok := withAnchors(w.Text, begin, end); ok {
			p.edits = quoted(w, text)
		}
		out = append(out, p)
	}
	return out
}

// catchAll reports whether an expression leaves open who signed: it matches anything, or
// anything of a host that anybody can have an account at.
func catchAll(expression string) bool {
	plain := strings.NewReplacer("\\", "", "^", "", "$", "", "(", "", ")", "").Replace(expression)
	for _, any := range []string{".*", ".+", ""} {
		for _, host := range []string{"", "https://", "https://github.com/", "https://gitlab.com/", "http.*", "https://.*"} {
			if plain == host+any && (any != "" || host == "") {
				return true
			}
		}
	}
	return false
}

// anchored reports whether all that a regular expression matches begins with the text, and ends
// with it. With variables in it, only its first and last character count.
func anchored(expression string, variables bool) (begin, end bool) {
	if !variables {
		if re, err := syntax.Parse(expression, syntax.Perl); err == nil {
			return edge(re, true), edge(re, false)
		}
	}
	return strings.HasPrefix(expression, "^") || strings.HasPrefix(expression, `\A`), strings.HasSuffix(expression, "$") || strings.HasSuffix(expression, `\z`)
}

func edge(re *syntax.Regexp, first bool) bool {
	switch re.Op {
	case syntax.OpBeginText:
		return first
	case syntax.OpEndText:
		return !first
	case syntax.OpCapture:
		return edge(re.Sub[0], first)
	case syntax.OpConcat:
		if first {
			return edge(re.Sub[0], true)
		}
		return edge(re.Sub[len(re.Sub)-1], false)
	case syntax.OpAlternate:
		return !slices.ContainsFunc(re.Sub, func(s *syntax.Regexp) bool { return !edge(s, first) })
	}
	return false
}

// withAnchors adds anchors to an expression so that it still matches the identities that are
// meant: those that continue where a name has ended.
func withAnchors(text string, begin, end bool) (string, bool) {
	if strings.Contains(text, "|") {
		return "", false // of which alternative?
	}
	if !begin {
		if !strings.HasPrefix(text, "https://") && !strings.HasPrefix(text, ".*") {
			return "", false // what comes before it is not known
		}
		text = "^" + text
	}
	switch {
	case end:
	case strings.HasSuffix(text, ".*"), strings.HasSuffix(text, ".+"):
		text += "$"
	case strings.Contains(text, "@"), strings.HasSuffix(text, "/"):
		text += ".*$"
	case path.Ext(text) == ".com":
		text += "$"
	default:
		text += "([/@].*)?$"
	}
	return text, true
}

// quoted returns the edit that makes text the value of a word, with quotes where it needs them.
func quoted(w Word, text string) []edit {
	switch {
	case len(w.parts) != 1 || w.Quote == '\'' && strings.Contains(text, "'"):
		return nil // several parts, each with its own quotes
	case w.Quote != 0:
		return []edit{{w.Start, w.End, string(w.Quote) + text + string(w.Quote)}}
	case strings.ContainsAny(text, "'\\"):
		return nil
	}
	return []edit{{w.Start, w.End, "'" + text + "'"}}
}
