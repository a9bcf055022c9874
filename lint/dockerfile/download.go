package dockerfile

import (
	"net/url"
	"slices"
	"strings"

	"github.com/moby/buildkit/frontend/dockerfile/instructions"

	"github.com/colophon-build/colophon/internal/lazyregexp"
	"github.com/colophon-build/colophon/lint/script"
)

// verifiers are commands that compare a download with a hash, or check its signature.
var verifiers = []string{
	"sha256sum", "sha384sum", "sha512sum", "sha1sum", "md5sum", "b2sum", "shasum", "sha256", "openssl", "gpg", "gpg2", "gpgv", "gpgv2", "cosign", "minisign", "rhash",
	"slsa-verifier", "colophon", "signify", "rpmkeys", "apt-key", "notation", "certutil", "xxhsum", "Get-FileHash",
}

// unpackers read what is downloaded from a pipe.
var unpackers = []string{"tar", "bsdtar", "unzip", "gunzip", "zcat", "xz", "unxz", "bunzip2", "zstd", "cpio", "dpkg", "rpm", "tee", "dd", "install", "gzip", "7z"}

// download checks that what curl or wget saves is compared with a hash or signature in the same RUN.
func (d *document) download(s *stage, t *snippet, c *script.Command) {
	address, saved := saves(t, c)
	if address == "" {
		return
	}
	for _, other := range s.runs {
		if other.in != t.in {
			continue
		}
		for _, v := range other.commands {
			if slices.Contains(verifiers, v.Name) {
				return
			}
		}
	}
	if !saved && !slices.ContainsFunc(t.commands, func(r *script.Command) bool { return r.Reads == c && slices.Contains(unpackers, r.Name) }) {
		return
	}
	d.at(t, c, ruleDownload, "nothing in this RUN checks what "+c.Name+" gets from "+host(address),
		"compare it: echo \"SHA256  FILE\" | sha256sum -c -; or write ADD --checksum=sha256:… "+address)
}

func host(address string) string {
	if u, err := url.Parse(address); err == nil && u.Host != "" {
		return u.Host
	}
	return address
}

var afterRedirect = lazyregexp.New(`^[ \t\\\n]*>{1,2}[ \t]*([^ \t\n&|;>]+)`)

// saves returns the address that a command gets, and whether it saves the answer in a file. The
// address is "" if there is none, or if it is not of interest.
func saves(t *snippet, c *script.Command) (address string, saved bool) {
	if c.Name != "curl" && c.Name != "wget" {
		return "", false
	}
	to := ""
	saved = c.Name == "wget"
	for i, a := range c.Args {
		next := ""
		if i+1 < len(c.Args) {
			next = c.Args[i+1].Text
		}
		short := strings.HasPrefix(a.Text, "-") && !strings.HasPrefix(a.Text, "--")
		switch {
		case strings.HasPrefix(a.Text, "http://") || strings.HasPrefix(a.Text, "https://") || strings.HasPrefix(a.Text, "ftp://"):
			address = a.Text
		case a.Text == "--spider", a.Text == "-I", a.Text == "--head":
			return "", false
		case a.Text == "-O" && c.Name == "curl", a.Text == "--remote-name", a.Text == "-J":
			saved = true
		case c.Name == "curl" && (a.Text == "-o" || a.Text == "--output" || short && strings.HasSuffix(a.Text, "o")):
			saved, to = true, next
		case c.Name == "curl" && short && strings.Contains(a.Text, "O"):
			saved = true
		case c.Name == "wget" && (a.Text == "--output-document" || short && strings.HasSuffix(a.Text, "O")):
			to = next
			saved = next != "-"
		case c.Name == "wget" && short && strings.HasSuffix(a.Text, "O-"), a.Text == "--output-document=-":
			saved = false
		}
	}
	if c.End <= len(t.src) {
		if m := afterRedirect.FindStringSubmatch(t.src[c.End:]); m != nil {
			saved, to = true, m[1]
		}
	}
	u, err := url.Parse(address)
	if address == "" || err == nil && slices.Contains([]string{"localhost", "127.0.0.1", "::1"}, u.Hostname()) || to == "/dev/null" || isKey(to) || isKey(address) {
		return "", false
	}
	return address, saved
}

// isKey reports whether a file is a signature, a list of hashes, or a key that others are checked with.
func isKey(name string) bool {
	name = strings.ToLower(name)
	for _, end := range []string{".asc", ".gpg", ".sig", ".sha256", ".sha512", ".sha256sum", ".pem", ".sigstore", "sha256sums", "shasums256.txt", "checksums.txt", ".minisig"} {
		if strings.HasSuffix(name, end) {
			return true
		}
	}
	return strings.Contains(name, "/keyrings/") || strings.Contains(name, "trusted.gpg.d")
}

// unauthenticated checks that nothing switches off the checks of TLS or signatures.
func (d *document) unauthenticated(t *snippet, c *script.Command) {
	var off map[string]bool
	list := func(texts ...string) map[string]bool {
		m := map[string]bool{}
		for _, text := range texts {
			m[text] = true
		}
		return m
	}
	switch c.Name {
	case "curl":
		off = list("-k", "--insecure", "--proxy-insecure")
	case "wget":
		off = list("--no-check-certificate")
	case "apt-get", "apt":
		off = list("--allow-unauthenticated", "--force-yes", "--allow-insecure-repositories")
	case "apk":
		off = list("--allow-untrusted")
	case "yum", "dnf", "microdnf", "tdnf":
		off = list("--nogpgcheck", "--no-gpgcheck")
	case "zypper":
		off = list("--no-gpg-checks")
	case "pip", "pip3":
		off = list("--trusted-host")
	case "git":
		off = list("http.sslVerify=false", "http.sslverify=false")
	}
	for _, a := range c.Args {
		text := a.Text
		if c.Name == "curl" && strings.HasPrefix(text, "-") && !strings.HasPrefix(text, "--") && strings.Contains(text, "k") && strings.Trim(text, "-fsSLkOvgiIN") == "" {
			text = "-k"
		}
		if off[text] || c.Name == "pip" && strings.HasPrefix(text, "--trusted-host=") {
			d.add(t.in, t.base+a.Start, t.base+a.End, ruleUnauthenticated, c.Name+" gets "+a.Text+": it does not check who answers", "delete "+a.Text+", and install the certificate or key that is missing")
		}
	}
	set := func(words ...string) bool { return c.Has(words...) && c.Has("false") }
	if c.Name == "npm" && set("strict-ssl") || c.Name == "git" && set("http.sslVerify", "http.sslverify") || c.Name == "yarn" && set("strict-ssl") {
		d.at(t, c, ruleUnauthenticated, c.Name+" is told not to check who answers", "delete the command, and install the certificate that is missing")
	}
	for _, a := range c.Assigned {
		if switchesOff(a.Name, a.Value) {
			d.switchedOff(t.in, a.Name, t.base+a.Start, t.base+a.End)
		}
	}
}

// switchesOff reports whether a variable switches off a check of what is downloaded.
func switchesOff(name, value string) bool {
	switch name {
	case "GIT_SSL_NO_VERIFY":
		return value != ""
	case "NODE_TLS_REJECT_UNAUTHORIZED":
		return value == "0"
	case "GONOSUMDB", "GOINSECURE":
		return value == "*"
	case "GONOSUMCHECK", "GOSUMDB":
		return value == "off"
	}
	return false
}

// variables checks those that ENV and ARG set for the steps that follow.
func (d *document) variables(s *stage) {
	check := func(in *instruction, name, value string) {
		if switchesOff(name, strings.Trim(value, `"'`)) {
			start, end := d.word(in, name)
			d.switchedOff(in, name, start, end)
		}
	}
	for _, in := range s.all {
		switch p := in.parsed.(type) {
		case *instructions.ArgCommand:
			for _, a := range p.Args {
				check(in, a.Key, a.ValueString())
			}
		case *instructions.EnvCommand:
			for _, e := range p.Env {
				check(in, e.Key, e.Value)
			}
		}
	}
}

func (d *document) switchedOff(in *instruction, name string, start, end int) {
	d.add(in, start, end, ruleUnauthenticated, name+" switches off a check of what is downloaded", "delete it")
}

// clone checks that git gets a commit, and not whatever a branch or tag is today.
func (d *document) clone(s *stage, t *snippet, c *script.Command) {
	if c.Name != "git" {
		return
	}
	verb, names := operands(c, "-C -c -b --branch --depth -o --origin --reference --filter --jobs -j --shallow-since")
	if verb != "clone" || len(names) == 0 && !variables(c) || slices.ContainsFunc(names, local) {
		return
	}
	for _, other := range s.runs {
		for _, v := range other.commands {
			if v.Name != "git" {
				continue
			}
			what, _ := operands(v, "-C -c")
			if (what == "checkout" || what == "reset" || what == "switch" || what == "fetch" || what == "rev-parse") && (slices.ContainsFunc(v.Args, func(w script.Word) bool { return commitID.MatchString(w.Text) }) || named(v)) {
				return
			}
		}
	}
	if slices.ContainsFunc(c.Args, func(w script.Word) bool { return strings.HasPrefix(w.Text, "--revision") }) {
		return
	}
	d.at(t, c, ruleClone, "git clone gets whatever the branch or tag is today", "check out a commit by its full id: git checkout COMMIT, or ADD --checksum=COMMIT https://….git#TAG")
}

// named reports whether a command of git gets a variable that says it is a commit.
func named(c *script.Command) bool {
	return slices.ContainsFunc(c.Args, func(w script.Word) bool {
		text := strings.ToLower(w.Text)
		return strings.Contains(text, "$") && (strings.Contains(text, "commit") || strings.Contains(text, "sha") || strings.Contains(text, "rev"))
	})
}

// varies checks for what makes each build another one.
func (d *document) varies(t *snippet, c *script.Command) {
	verb, _ := operands(c, "-o -t")
	switch {
	case (c.Name == "apt-get" || c.Name == "apt") && (verb == "upgrade" || verb == "dist-upgrade" || verb == "full-upgrade"),
		(c.Name == "yum" || c.Name == "dnf" || c.Name == "microdnf") && (verb == "update" || verb == "upgrade"), c.Name == "apk" && verb == "upgrade":
		d.at(t, c, ruleVaries, c.Name+" "+verb+" installs other packages each day", "use a newer base image by digest: it has the updates")
	case c.Name == "date" && !hasPrefix(c, "-d", "--date", "-r", "--reference", "@") && !strings.Contains(t.src, "SOURCE_DATE_EPOCH"):
		d.at(t, c, ruleVaries, "the time of the build becomes part of what is built", "use the time of the commit: SOURCE_DATE_EPOCH")
	case c.Name == "uuidgen", c.Name == "mcookie", c.Name == "openssl" && verb == "rand", c.Name == "ssh-keygen" && c.Has("-t", "-A"):
		d.at(t, c, ruleVaries, c.Name+" makes something random part of what is built", "make it when the container starts, or hand it in as a secret")
	}
}

// adds checks what ADD gets from the network.
func (d *document) adds(in *instruction, a *instructions.AddCommand) {
	if a.Checksum != "" {
		return
	}
	for _, source := range a.SourcePaths {
		start, end := d.word(in, source)
		isGit := strings.HasPrefix(source, "git@") || strings.HasPrefix(source, "git://") || strings.HasPrefix(source, "ssh://") || strings.Contains(source, ".git#") || strings.HasSuffix(source, ".git")
		switch {
		case isGit && !commitID.MatchString(source):
			d.add(in, start, end, ruleAdd, "ADD gets whatever the branch or tag of "+host(source)+" is today", "add --checksum=COMMIT with the full id of the commit")
		case isGit:
		case strings.HasPrefix(source, "http://"), strings.HasPrefix(source, "https://"):
			d.add(in, start, end, ruleAdd, "ADD takes whatever "+host(source)+" answers", "add --checksum=sha256:… with the digest of the file")
		}
	}
}
