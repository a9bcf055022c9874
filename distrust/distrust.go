// Package distrust reads lists of what is no longer trusted (spec/distrust/v1), and says which of
// their entries is about an image. A list has one issuer, who signs its head: how many entries it has,
// a hash over all of them, and until when the head counts. Nothing is ever taken out of a list: an
// entry is lifted by another one.
//
//   - Parse reads a list, and refuses all of it if one entry is wrong. It verifies no signature:
//     verify.SignedList does.
//   - List.Extends tells a list that grew from one that was rolled back or forked.
//   - Lists.Find returns the first entry about what is known of an image (Facts).
//   - Lists.Fresh says whether the lists are young enough to be relied on.
//
// The package has no network, no files and no clock of its own.
package distrust

import (
	"cmp"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"net/url"
	"slices"
	"strings"
	"time"

	"github.com/google/go-containerregistry/pkg/name"

	"github.com/colophon-build/colophon/internal/lazyregexp"
	"github.com/colophon-build/colophon/internal/limits"
	"github.com/colophon-build/colophon/internal/printable"
	"github.com/colophon-build/colophon/internal/strict"
	"github.com/colophon-build/colophon/source"
)

// Limits on one list.
const (
	MaxList    = 64 << 20 // bytes of a list with its head and signature
	MaxEntries = 100_000
	MaxEntry   = 8 << 10 // bytes of one entry
	maxReason  = 1 << 10 // bytes of a text of an entry
	maxHead    = 4 << 10 // bytes of a head
)

// Kind is what an entry is about.
type Kind string

// Kinds, each the name of its member in a Scope.
const (
	Commit   Kind = "commit"
	Source   Kind = "source"
	Builder  Kind = "builder"
	Identity Kind = "identity"
	Key      Kind = "key"
	Base     Kind = "base"
	Package  Kind = "package"
	Digest   Kind = "digest"
	Fetched  Kind = "fetched"
)

// Kinds returns all kinds, in the order of the specification.
func Kinds() []Kind {
	return []Kind{Commit, Source, Builder, Identity, Key, Base, Package, Digest, Fetched}
}

// Scope is exactly what is no longer trusted. One of the members that are kinds is set; Source may also be
// beside Commit. There are no patterns: every value is compared whole.
type Scope struct {
	Commit   string `json:"commit,omitempty"`   // full id of a git commit, 40 or 64 hex digits
	Source   string `json:"source,omitempty"`   // canonical address of a repository (source.Canonical): all its commits, or the one in Commit
	Builder  string `json:"builder,omitempty"`  // id of a builder, with or without the ref of a workflow
	Identity string `json:"identity,omitempty"` // subject alternative name of a signer's certificate
	Issuer   string `json:"issuer,omitempty"`   // URL of the identity provider that vouched for Identity; required with it, and with nothing else
	Key      string `json:"key,omitempty"`      // sha256:HEX of a public key (SubjectPublicKeyInfo, DER)
	Base     string `json:"base,omitempty"`     // base image: NAME:TAG, NAME@sha256:HEX or sha256:HEX; NAME alone only if Wide
	Package  string `json:"package,omitempty"`  // package URL with a version, or NAME@VERSION; without a version only if Wide
	Digest   string `json:"digest,omitempty"`   // sha256:HEX of an image: its index or a manifest in it; or of a file
	Fetched  string `json:"fetched,omitempty"`  // http or https URL that a build fetched, or sha256:HEX of what it got there

	// From and Until limit the entry to what was signed from From on and before Until, UTC. What is
	// not proven to be signed outside of that time is within it.
	From  *time.Time `json:"from,omitempty"`
	Until *time.Time `json:"until,omitempty"`

	// Wide says that whoever wrote the entry knows that it is about an unlimited number of images: those
	// with any version of a package or base image, or all that a builder ever built. Entries like that are refused without
	// it, and all others with it. It counts only of an Issuer that may issue wide entries.
	Wide bool `json:"wide,omitempty"`
}

// Of returns the kind of the scope and its value. The scope must have passed its check.
func (s *Scope) Of() (Kind, string) {
	for _, k := range Kinds() {
		if v := s.member(k); v != "" && !(k == Source && s.Commit != "") {
			return k, v
		}
	}
	return "", ""
}

func (s *Scope) member(k Kind) string {
	return map[Kind]string{Commit: s.Commit, Source: s.Source, Builder: s.Builder, Identity: s.Identity, Key: s.Key, Base: s.Base, Package: s.Package, Digest: s.Digest, Fetched: s.Fetched}[k]
}

// String returns the scope in words, one line.
func (s *Scope) String() string {
	k, v := s.Of()
	out := string(k) + " " + v
	switch {
	case k == Commit && s.Source != "":
		out += " of " + s.Source
	case k == Identity:
		out += " of " + s.Issuer
	}
	if s.From != nil {
		out += " from " + s.From.UTC().Format(time.RFC3339)
	}
	if s.Until != nil {
		out += " until " + s.Until.UTC().Format(time.RFC3339)
	}
	return printable.Line(out)
}

// Entry is one statement of a list: that something is no longer trusted, or that an earlier entry
// is lifted.
type Entry struct {
	Number  int       `json:"number"`            // place in the list, from 0
	Time    time.Time `json:"time"`              // when the issuer added it, UTC
	By      string    `json:"by,omitempty"`      // account that asked for it, as the issuer says
	Scope   *Scope    `json:"scope,omitempty"`   // what is no longer trusted; or else Lift
	Lift    *int      `json:"lift,omitempty"`    // number of an earlier entry of this list that counts no more
	Reason  string    `json:"reason"`            // why, one line for people; required
	Replace string    `json:"replace,omitempty"` // sha256:HEX of the image to use in place of those in the scope
	VEX     *VEX      `json:"vex,omitempty"`     // a document that says more about the same scope
}

// VEX names a document about exploitability.
type VEX struct {
	Format string `json:"format"`        // openvex, csaf or cyclonedx
	Digest string `json:"digest"`        // sha256:HEX of the document
	URL    string `json:"url,omitempty"` // where it is, https
}

var (
	digestForm = lazyregexp.New(`^sha256:[0-9a-f]{64}$`)
	commitForm = lazyregexp.New(`^([0-9a-f]{40}|[0-9a-f]{64})$`)
	packageURL = lazyregexp.New(`^pkg:[a-z0-9.+-]+/[^\s#]+$`)
)

// ParseEntry reads one entry strictly: the line of a list, without its end.
func ParseEntry(line []byte) (*Entry, error) {
	var e Entry
	if err := strict.UnmarshalKnown(line, MaxEntry, &e); err != nil {
		return nil, err
	}
	return &e, e.Check()
}

// Check returns an error if the entry contradicts itself. It does not know the list.
func (e *Entry) Check() error {
	switch {
	case e.Number < 0:
		return fmt.Errorf("number: got %d, want 0 or more", e.Number)
	case (e.Scope == nil) == (e.Lift == nil):
		return errors.New("entry: want exactly one of scope and lift")
	case e.Lift != nil && (*e.Lift < 0 || *e.Lift >= e.Number):
		return fmt.Errorf("lift: got %d, want the number of an earlier entry", *e.Lift)
	case e.Lift != nil && (e.Replace != "" || e.VEX != nil):
		return errors.New("entry: one that lifts another has no replace and no vex")
	case e.Replace != "" && !digestForm.MatchString(e.Replace):
		return fmt.Errorf("replace: got %q, want sha256:HEX", e.Replace)
	}
	if err := cmp.Or(text("reason", e.Reason, true), text("by", e.By, false), checkTime("time", e.Time), e.VEX.check()); err != nil {
		return err
	}
	if e.Scope == nil {
		return nil
	}
	return e.Scope.Check()
}

// text checks a line for people.
func text(member, value string, required bool) error {
	switch {
	case required && strings.TrimSpace(value) == "":
		return fmt.Errorf("%s: got nothing, want a line of text", member)
	case len(value) > maxReason:
		return fmt.Errorf("%s: got %d bytes, want at most %d", member, len(value), maxReason)
	case printable.Line(value) != value:
		return fmt.Errorf("%s: want one line of printable characters", member)
	}
	return nil
}

func checkTime(member string, t time.Time) error {
	if _, offset := t.Zone(); t.IsZero() || offset != 0 || t.Nanosecond() != 0 {
		return fmt.Errorf("%s: want a time in UTC, in whole seconds, as in 2026-11-27T12:00:00Z", member)
	}
	return nil
}

func (v *VEX) check() error {
	if v == nil {
		return nil
	}
	u, err := url.Parse(v.URL)
	switch {
	case !slices.Contains([]string{"openvex", "csaf", "cyclonedx"}, v.Format):
		return fmt.Errorf("vex: format: got %q, want openvex, csaf or cyclonedx", v.Format)
	case !digestForm.MatchString(v.Digest):
		return fmt.Errorf("vex: digest: got %q, want sha256:HEX", v.Digest)
	case v.URL != "" && (err != nil || u.Scheme != "https" || u.Host == "" || u.User != nil || len(v.URL) > maxReason):
		return errors.New("vex: url: want https://HOST/PATH")
	}
	return nil
}

// Check returns an error unless the scope says exactly one thing.
func (s *Scope) Check() error {
	var kinds []string
	for _, k := range Kinds() {
		if v := s.member(k); v != "" {
			if len(v) > limits.FetchURL/2 || printable.Line(v) != v {
				return fmt.Errorf("%s: want printable characters, at most %d bytes", k, limits.FetchURL/2)
			}
			kinds = append(kinds, string(k))
		}
	}
	if both := s.Commit != "" && s.Source != ""; len(kinds) != 1 && !(both && len(kinds) == 2) {
		return fmt.Errorf("scope: got %q, want exactly one of %q, or a commit with its source", kinds, Kinds())
	}
	if (s.Issuer != "") != (s.Identity != "") {
		return errors.New("identity and issuer: want both: anybody can have the same name at another issuer")
	}
	if err := s.checkTimes(); err != nil {
		return err
	}
	wide, err := s.checkValue()
	switch {
	case err != nil:
		return err
	case wide && !s.Wide:
		return fmt.Errorf("%s is about an unlimited number of images: name a version, a digest or a time, or say that it is meant (wide)", s)
	case !wide && s.Wide:
		return fmt.Errorf("wide: %s is about one thing", s)
	}
	return nil
}

func (s *Scope) checkTimes() error {
	for _, t := range []struct {
		member string
		at     *time.Time
	}{{"from", s.From}, {"until", s.Until}} {
		if t.at == nil {
			continue
		}
		if k, _ := s.Of(); k == Digest {
			return fmt.Errorf("%s: a digest has the same content at all times", t.member)
		}
		if err := checkTime(t.member, *t.at); err != nil {
			return err
		}
	}
	if s.From != nil && s.Until != nil && !s.From.Before(*s.Until) {
		return errors.New("from and until: want from before until")
	}
	return nil
}

// checkValue checks the value of the scope's kind. wide reports whether it is about everything of
// its kind.
func (s *Scope) checkValue() (wide bool, err error) {
	if s.Source != "" {
		canonical, err := source.Canonical(s.Source)
		switch u, _ := url.Parse(s.Source); {
		case err != nil || canonical != s.Source:
			return false, fmt.Errorf("source: got %q, want the canonical address of a repository", s.Source)
		case strings.Trim(u.Path, "/") == "":
			return false, fmt.Errorf("source: got %q, want one repository, not a whole host", s.Source)
		}
	}
	switch k, v := s.Of(); k {
	case Commit:
		if !commitForm.MatchString(v) {
			return false, fmt.Errorf("commit: got %q, want the full id, 40 or 64 hex digits", v)
		}
	case Builder:
		if u, err := url.Parse(v); err != nil || u.Scheme == "" || u.Host == "" || strings.Trim(u.Path, "/") == "" {
			return false, fmt.Errorf("builder: got %q, want the URI of one builder", v)
		}
		return s.From == nil && s.Until == nil, nil
	case Identity:
		if u, err := url.Parse(s.Issuer); err != nil || u.Host == "" {
			return false, fmt.Errorf("issuer: got %q, want the URL of an identity provider", s.Issuer)
		}
	case Key, Digest:
		if !digestForm.MatchString(v) {
			return false, fmt.Errorf("%s: got %q, want sha256:HEX", k, v)
		}
	case Base:
		repository, version, err := parseBase(v)
		return repository != "" && version == "", err
	case Package:
		_, version, err := parsePackage(v)
		return version == "", err
	case Fetched:
		u, err := url.Parse(v)
		if !digestForm.MatchString(v) && (err != nil || u.Host == "" || u.Scheme != "https" && u.Scheme != "http" || strings.Trim(u.Path, "/") == "" && u.RawQuery == "") {
			return false, fmt.Errorf("fetched: got %q, want the URL of one download, or sha256:HEX", v)
		}
	}
	return false, nil
}

// parseBase returns the parts of a base image: name with registry, and ":TAG" or "@sha256:HEX". Of
// a digest alone, the name is empty.
func parseBase(v string) (repository, version string, err error) {
	if digestForm.MatchString(v) {
		return "", "@" + v, nil
	}
	rest := v
	if at := strings.LastIndexByte(v, '@'); at >= 0 {
		rest, version = v[:at], v[at:]
	} else if colon := strings.LastIndexByte(v, ':'); colon > strings.LastIndexByte(v, '/') {
		rest, version = v[:colon], v[colon:]
	}
	r, err := name.NewRepository(rest)
	if err == nil && strings.HasPrefix(version, ":") {
		_, err = name.NewTag(v)
	}
	if err != nil || strings.HasPrefix(version, "@") && !digestForm.MatchString(version[1:]) {
		return "", "", fmt.Errorf("base: got %q, want NAME:TAG, NAME@sha256:HEX or sha256:HEX", v)
	}
	return r.Name(), version, nil
}

// parsePackage returns name and version of a package. The name of a package URL is the URL without
// version, qualifiers and subpath.
func parsePackage(v string) (pkg, version string, err error) {
	if strings.HasPrefix(v, "pkg:") {
		if !packageURL.MatchString(v) {
			return "", "", fmt.Errorf("package: got %q, want pkg:TYPE/NAME@VERSION", v)
		}
		v, _, _ = strings.Cut(v, "?")
	}
	if strings.ContainsAny(v, " \t") {
		return "", "", fmt.Errorf("package: got %q, want NAME@VERSION or a package URL", v)
	}
	at := strings.LastIndexByte(v, '@')
	if at <= 0 || at < strings.LastIndexByte(v, '/') { // npm's scope: @scope/name
		return v, "", nil
	}
	if v[at+1:] == "" {
		return "", "", fmt.Errorf("package: got %q, want a version after @", v)
	}
	return v[:at], v[at+1:], nil
}

// sum returns sha256:HEX of content.
func sum(content []byte) string {
	s := sha256.Sum256(content)
	return "sha256:" + hex.EncodeToString(s[:])
}
