package platform

import (
	"crypto/x509"
	"errors"
	"fmt"
	"io"
	"net/url"
	"os"
	"path/filepath"
	"strings"
	"time"

	"github.com/colophon-build/colophon/internal/owned"
	"github.com/colophon-build/colophon/platform/acme"
	"github.com/colophon-build/colophon/platform/builder"
	"github.com/colophon-build/colophon/platform/builder/buildkit"
	"github.com/colophon-build/colophon/platform/release/credentials"
)

// Check reads the configuration of a platform as Serve does, but starts and creates nothing.
// It writes a line to out for each thing that it looked at: "ok", "note" (the platform
// works, with less) or "error". It returns an error if there is one of these.
func Check(c Config, out io.Writer) error {
	k := checker{out: out}
	p, err := newPlatform(c, roleServe)
	k.say("configuration", orNone(c.File), err)
	if err != nil {
		return k.result()
	}
	p.url, err = origin(c.Listen, c.URL, p.usesTLS())
	k.say("address", p.url, err)
	if err == nil && p.file.Fulcio != nil {
		k.say("fulcio", "issuers of other platforms and people", p.checkIssuers())
	}
	if err == nil && p.outside != nil {
		k.say("trustedRoot", "external trust services", p.checkOutside())
	}
	if p.file.Credentials != "" {
		_, err := credentials.Read(p.file.Credentials)
		k.say("credentials", p.file.Credentials, err)
	}
	if g := p.gateHere(); g != nil {
		k.say("gate", g.Policies, nil) // newPlatform has read it
	}
	if c.TLSCert != "" {
		k.certificate(p)
	}
	if p.file.TLS.ACME != nil && p.url != "" {
		k.acme(p)
	}
	if c.Data != "" {
		k.data(p)
	}
	if m := p.config.Mirror; m != "" {
		k.say("mirror", m, p.checkMirror())
	}
	if err := p.findBuildkitd(); err != nil {
		k.say("buildkitd", "", err)
	} else if p.buildkitd == "" {
		k.note("buildkitd", "not found: Dockerfiles cannot be built; give --buildkitd")
	} else {
		k.say("buildkitd", p.buildkitd, nil)
		if runtime, err := buildkit.FindRuntime(p.file.Build.Runtime); err != nil {
			k.note("runtime", "Dockerfiles cannot be built: "+builder.LackOf(err).String())
		} else {
			k.say("runtime", runtime, nil)
		}
	}
	if p.runs(roleAttestor) {
		scanner, err := findScanner()
		k.say("scanner", scanner, err)
	}
	switch lack := p.users.roomsLack(); {
	case p.users.separate:
		k.say("users", fmt.Sprintf("each role has its own, group %d", p.users.group), nil)
	case p.users.plain():
		k.note("users", "each role has its own in a user namespace, so builds earn a lower SLSA level than those of root's platform")
	case lack != nil:
		k.note("users", fmt.Sprintf("all roles run as one user, so builds earn a lower SLSA level: %v", p.users.why))
		k.note("rooms", lack.String())
	default:
		k.note("users", fmt.Sprintf("all roles run as one user, so builds earn a lower SLSA level: %v", p.users.why))
	}
	if fault := clockFault(); fault != "" {
		k.note("clock", fault)
	} else {
		k.say("clock", "synchronised", nil)
	}
	return k.result()
}

func orNone(file string) string {
	if file == "" {
		return "none: defaults"
	}
	return file
}

// checker writes what Check found.
type checker struct {
	out    io.Writer
	failed int
}

func (k *checker) say(what, found string, err error) {
	if err != nil {
		k.failed++
		k.line("error", what, err.Error())
		return
	}
	k.line("ok", what, found)
}

func (k *checker) note(what, found string) { k.line("note", what, found) }

func (k *checker) line(state, what, text string) {
	fmt.Fprintf(k.out, "%-5s  %-13s  %s\n", state, what, strings.ReplaceAll(text, "\n", "; "))
}

func (k *checker) result() error {
	if k.failed > 0 {
		return errors.New("the platform would not start, or not work: see the errors above")
	}
	return nil
}

// certificate checks that the certificate is one for the platform's address.
func (k *checker) certificate(p *platform) {
	_, pair, err := readKeyPair(p.config.TLSCert, p.config.TLSKey, time.Now())
	if err != nil {
		k.say("certificate", "", err)
		return
	}
	leaf := pair.Leaf
	if u, err := url.Parse(p.url); err == nil && u.Host != "" {
		if err := leaf.VerifyHostname(u.Hostname()); err != nil {
			k.say("certificate", "", fmt.Errorf("%s: it is not for %s, but for %s", p.config.TLSCert, u.Hostname(), namesOf(leaf)))
			return
		}
	}
	k.until(leaf, false)
}

// until says until when a certificate lasts.
func (k *checker) until(leaf *x509.Certificate, renewed bool) {
	said := fmt.Sprintf("for %s until %s", namesOf(leaf), leaf.NotAfter.UTC().Format(time.RFC3339))
	if endsSoon(leaf, time.Now(), renewed) {
		k.note("certificate", said)
		return
	}
	k.say("certificate", said, nil)
}

// acme checks the settings of the authority, and what the role acme has stored.
func (k *checker) acme(p *platform) {
	k.say("acme", p.file.TLS.ACME.Directory, p.checkACME())
	if p.config.Data == "" {
		return
	}
	leaf, fault, err := acme.Stored(filepath.Join(p.config.Data, "acme"))
	switch {
	case err != nil:
		k.say("certificate", "", err)
	case leaf == nil:
		k.note("certificate", "none yet: the authority is asked after the start")
	default:
		k.until(leaf, true)
	}
	if fault != "" {
		k.note("acme", fault)
	}
}

func namesOf(c *x509.Certificate) string {
	names := c.DNSNames
	for _, ip := range c.IPAddresses {
		names = append(names, ip.String())
	}
	return strings.Join(names, ", ")
}

// data checks the data directory, or what is above it if it is not there yet.
func (k *checker) data(p *platform) {
	if _, err := os.Stat(p.config.Data); errors.Is(err, os.ErrNotExist) {
		path, err := filepath.Abs(p.config.Data)
		k.say("data", p.config.Data+" (made at the first start)", errors.Join(err, owned.CheckDir(path), checkLength(path)))
		return
	}
	check := p.ownData
	if p.users.plain() { // what is in it belongs to ids of the namespace
		check = func(dir string) (string, error) { return owned.Dir(dir) }
	}
	dir, err := check(p.config.Data)
	if err == nil {
		err = errors.Join(checkLength(dir), p.keepsURL(dir))
	}
	k.say("data", dir, err)
}
