// Package installers writes what verifies release files before they are installed: a script that
// installs a program, a formula of Homebrew, a hook of apt and a plugin of dnf. The digests and the
// signer in them are those of a release that the caller verified.
package installers

import (
	"bytes"
	"embed"
	"encoding/pem"
	"errors"
	"fmt"
	"net/url"
	"slices"
	"strings"
	"text/template"

	"github.com/colophon-build/colophon/internal/lazyregexp"
	"github.com/colophon-build/colophon/internal/loopback"
)

// Release is a verified release, and where people get it.
type Release struct {
	Name    string // of the program; empty: as the files for its platforms say
	Version string // with or without a "v"
	From    string // https URL of the directory with the files and their bundles; http on loopback
	Files   []File
	Signer  Signer
}

// File is a file of a release. Files in subdirectories have no installer.
type File struct{ Name, SHA256 string }

// Signer is whom the hook and the plugin demand, as colophon verify does: a key, or an identity with
// its issuer, or the repository that a job built, or the last two.
type Signer struct {
	Key                      []byte // public key, PEM
	Identity, Issuer, Source string
}

// Output is a file to write.
type Output struct {
	Path    string // with slashes
	Content []byte
	Program bool // it is to be executable
}

// ErrRelease means that a release names something that cannot be in a script, or has nothing to install.
var ErrRelease = errors.New("release")

func wrong(format string, args ...any) error {
	return fmt.Errorf("%w: %s", ErrRelease, fmt.Sprintf(format, args...))
}

//go:embed templates
var templates embed.FS

// What may stand in the files, between quotes of a shell, of Ruby or of Python, or without any.
var (
	programName = lazyregexp.New(`^[a-z0-9][a-z0-9._-]{0,63}$`)
	versionName = lazyregexp.New(`^v?([0-9][A-Za-z0-9.+-]{0,63})$`)
	harmless    = lazyregexp.New(`^[A-Za-z0-9._~:/@+%=-]{1,1000}$`)
	fileName    = lazyregexp.New(`^[A-Za-z0-9][A-Za-z0-9._~+-]{0,254}$`)
	digest      = lazyregexp.New(`^[0-9a-f]{64}$`)

	// forPlatform matches the name of a program, or of an archive with one: NAME[-VERSION]-OS-ARCH.
	forPlatform = lazyregexp.New(`(?is)^(.+?)[-_.](linux|darwin|macos)[-_.](amd64|x86_64|arm64|aarch64)(\.tar\.gz|\.tgz)?$`)
	versionEnd  = lazyregexp.New(`[-_]v?[0-9][A-Za-z0-9.+-]*$`)
	debPackage  = lazyregexp.New(`^([a-z0-9][a-z0-9.+-]+)_[A-Za-z0-9.+~-]+_[a-z0-9-]+\.deb$`)
	rpmPackage  = lazyregexp.New(`^([A-Za-z0-9][A-Za-z0-9._+-]*)-[A-Za-z0-9._+~^]+-[A-Za-z0-9._+~^]+\.[a-z0-9_]+\.rpm$`)
)

// program is the file for one platform.
type program struct {
	File
	OS, Arch string // linux or darwin, amd64 or arm64
	Archive  bool
}

// facts is what the templates read.
type facts struct {
	Release
	Programs   []program
	Archives   bool // all programs are in archives, or else none
	Deb, RPM   []string
	PublicKey  string // PEM
	Ending     string // of the bundles that prove what is demanded
	Class      string // of the formula
	HTTPScheme string
}

// Make returns the installers of a release: install.sh and NAME.rb if it has programs for Linux or
// macOS, apt/colophon-verify if it has Debian packages, and dnf/colophon_verify.py if it has RPM
// packages. The error matches ErrRelease.
func Make(r Release) ([]Output, error) {
	f, err := read(r)
	if err != nil {
		return nil, err
	}
	var out []Output
	add := func(path, name string, executable bool) error {
		t, err := template.New(name).Option("missingkey=error").ParseFS(templates, "templates/"+name)
		if err != nil {
			return err
		}
		var text bytes.Buffer
		if err := t.Execute(&text, f); err != nil {
			return err
		}
		out = append(out, Output{path, text.Bytes(), executable})
		return nil
	}
	if len(f.Programs) > 0 {
		err = errors.Join(add("install.sh", "install.sh.tmpl", true), add(f.Name+".rb", "formula.rb.tmpl", false))
	}
	if len(f.Deb) > 0 {
		err = errors.Join(err, add("apt/colophon-verify", "apt-hook.tmpl", true))
	}
	if len(f.RPM) > 0 {
		err = errors.Join(err, add("dnf/colophon_verify.py", "dnf-plugin.py.tmpl", false))
	}
	if len(out) == 0 && err == nil {
		return nil, wrong("nothing to install: found no program for a platform (NAME-linux-amd64, NAME_1.2.0_darwin_arm64.tar.gz), no .deb and no .rpm file")
	}
	return out, err
}

func read(r Release) (*facts, error) {
	u, err := url.Parse(r.From)
	if err != nil || u.Host == "" || u.User != nil || u.RawQuery != "" || u.Fragment != "" || !harmless.MatchString(r.From) || !loopback.OrTLS(u) {
		return nil, wrong("expected https://HOST/PATH of the directory with the files, without user, query and fragment, found %q", r.From)
	}
	r.From = strings.TrimSuffix(r.From, "/")
	m := versionName.FindStringSubmatch(r.Version)
	if m == nil {
		return nil, wrong("version: expected one like v1.2.0, found %q", r.Version)
	}
	r.Version = m[1]
	f := &facts{Release: r, HTTPScheme: u.Scheme, Ending: ".sigstore.json"}
	if err := f.signer(); err != nil {
		return nil, err
	}
	for _, file := range r.Files {
		if err := f.file(file); err != nil {
			return nil, err
		}
	}
	f.Deb, f.RPM = distinct(f.Deb), distinct(f.RPM)
	return f, f.choose()
}

func distinct(names []string) []string {
	slices.Sort(names)
	return slices.Compact(names)
}

// signer checks what hook and plugin demand.
func (f *facts) signer() error {
	s := f.Signer
	for _, text := range []string{s.Identity, s.Issuer, s.Source} {
		if text != "" && !harmless.MatchString(text) {
			return wrong("the signer %q has characters that cannot be in a script", text)
		}
	}
	switch {
	case s.Key != nil && s.Identity+s.Issuer+s.Source != "":
		return wrong("a key signs here, or an identity: expected one of both")
	case s.Key != nil:
		block, rest := pem.Decode(s.Key)
		if block == nil || block.Type != "PUBLIC KEY" || len(bytes.TrimSpace(rest)) > 0 {
			return wrong("expected one public key in PEM")
		}
		f.PublicKey = string(pem.EncodeToMemory(&pem.Block{Type: block.Type, Bytes: block.Bytes}))
	case s.Identity == "" && s.Source == "" || (s.Identity == "") != (s.Issuer == ""):
		return wrong("who must have signed? Expected a key, an identity with its issuer, or a source")
	}
	if s.Source != "" {
		f.Ending = ".intoto.jsonl"
	}
	return nil
}

// file sorts one file of the release.
func (f *facts) file(file File) error {
	if strings.Contains(file.Name, "/") {
		return nil
	}
	deb, rpm := strings.HasSuffix(file.Name, ".deb"), strings.HasSuffix(file.Name, ".rpm")
	m := forPlatform.FindStringSubmatch(file.Name)
	if !deb && !rpm && m == nil {
		return nil
	}
	if !fileName.MatchString(file.Name) || !digest.MatchString(file.SHA256) {
		return wrong("the file %q, with the digest %q, cannot be in a script", file.Name, file.SHA256)
	}
	switch {
	case deb:
		if m = debPackage.FindStringSubmatch(file.Name); m == nil {
			return wrong("%s: expected NAME_VERSION_ARCH.deb", file.Name)
		}
		f.Deb = append(f.Deb, m[1])
	case rpm:
		if m = rpmPackage.FindStringSubmatch(file.Name); m == nil {
			return wrong("%s: expected NAME-VERSION-RELEASE.ARCH.rpm", file.Name)
		}
		f.RPM = append(f.RPM, m[1])
	default:
		p := program{File: file, OS: "linux", Arch: "amd64", Archive: m[4] != ""}
		if !strings.EqualFold(m[2], "linux") {
			p.OS = "darwin"
		}
		if strings.EqualFold(m[3], "arm64") || strings.EqualFold(m[3], "aarch64") {
			p.Arch = "arm64"
		}
		if name := strings.ToLower(versionEnd.ReplaceAllString(m[1], "")); f.Release.Name == "" || f.Release.Name == name {
			f.Programs = append(f.Programs, p)
		}
	}
	return nil
}

// choose settles the name, and that there is one file for a platform.
func (f *facts) choose() error {
	platforms := map[string]string{}
	for _, p := range f.Programs {
		m := forPlatform.FindStringSubmatch(p.Name)
		name := strings.ToLower(versionEnd.ReplaceAllString(m[1], ""))
		if f.Release.Name == "" {
			f.Release.Name = name
		}
		platform := p.OS + "/" + p.Arch
		switch {
		case name != f.Release.Name:
			return wrong("which program? There are %s and %s: name one", f.Release.Name, name)
		case platforms[platform] != "":
			return wrong("two files for %s: %s and %s", platform, platforms[platform], p.Name)
		case p.Archive != f.Programs[0].Archive:
			return wrong("%s is an archive and %s is none: expected all or none", p.Name, f.Programs[0].Name)
		}
		platforms[platform], f.Archives = p.Name, p.Archive
	}
	if f.Release.Name == "" { // packages alone
		f.Release.Name = append(f.Deb, append(f.RPM, "release")...)[0]
	}
	if !programName.MatchString(f.Release.Name) {
		return wrong("name: expected small letters, digits, \".\", \"_\" and \"-\", found %q", f.Release.Name)
	}
	for word := range strings.FieldsFuncSeq(f.Release.Name, func(r rune) bool { return strings.ContainsRune("._-", r) }) {
		f.Class += strings.ToUpper(word[:1]) + word[1:]
	}
	if len(f.Programs) > 0 && (f.Class[0] < 'A' || f.Class[0] > 'Z') {
		return wrong("name: %q is no name of a class of Ruby, which must begin with a letter", f.Release.Name)
	}
	slices.SortFunc(f.Programs, func(a, b program) int { return strings.Compare(a.OS+a.Arch, b.OS+b.Arch) })
	return nil
}

// On returns the programs of an operating system.
func (f *facts) On(os string) (found []program) {
	for _, p := range f.Programs {
		if p.OS == os {
			found = append(found, p)
		}
	}
	return found
}

// Uname is what uname -s and uname -m print there, as patterns of a shell.
func (p program) Uname() string {
	os := map[string]string{"linux": "Linux", "darwin": "Darwin"}[p.OS]
	var all []string
	for _, arch := range map[string][]string{"amd64": {"x86_64", "amd64"}, "arm64": {"aarch64", "arm64"}}[p.Arch] {
		all = append(all, os+"/"+arch)
	}
	return strings.Join(all, " | ")
}

// Systems are those for which there is a program.
func (f *facts) Systems() (found []string) {
	for _, os := range []string{"darwin", "linux"} {
		if len(f.On(os)) > 0 {
			found = append(found, os)
		}
	}
	return found
}

// Demand returns the flags of colophon verify for the signer, as words of a shell.
func (f *facts) Demand() (words []string) {
	s := f.Signer
	if s.Key != nil {
		words = append(words, "--key", `"$work/key"`)
	}
	for _, p := range [][2]string{{"--source", s.Source}, {"--identity", s.Identity}, {"--issuer", s.Issuer}} {
		if p[1] != "" {
			words = append(words, p[0], "'"+p[1]+"'")
		}
	}
	return words
}

// Arguments returns the same as expressions of Python.
func (f *facts) Arguments() (all []string) {
	for _, word := range f.Demand() {
		if word = strings.Trim(word, "'"); word == `"$work/key"` {
			all = append(all, "key")
		} else {
			all = append(all, `"`+word+`"`)
		}
	}
	return all
}
