package issuer

import (
	"fmt"
	"net/url"
	"regexp"
	"strings"
	"unicode"
	"unicode/utf8"
)

// Claims are what a token says about one build. All of it ends up in a public
// certificate: extensions 1.3.6.1.4.1.57264.1.9 and up.
type Claims struct {
	BuilderID         string `json:"builder_id"`         // this origin + "/builders/…"; the certificate's subject (.9)
	BuilderDigest     string `json:"builder_digest"`     // commit, or sha256:hex, of what directed the build; may be empty (.10)
	RunnerEnvironment string `json:"runner_environment"` // "self-hosted", … (.11)
	SourceURI         string `json:"source_uri"`         // canonical, with scheme (.12)
	SourceDigest      string `json:"source_digest"`      // commit id, lower-case hex, 40 or 64 digits (.13)
	SourceRef         string `json:"source_ref"`         // full ref name; empty where the build named a commit (.14)
	BuildTrigger      string `json:"build_trigger"`      // "release", … (.20)
	InvocationURI     string `json:"invocation_uri"`     // under this origin (.21)
}

const maxClaim = 1024 // bytes of one value

var (
	commitID      = regexp.MustCompile(`^([0-9a-f]{40}|[0-9a-f]{64})$`)
	builderDigest = regexp.MustCompile(`^(sha256:[0-9a-f]{64}|[0-9a-f]{40}|[0-9a-f]{64})?$`)
	word          = regexp.MustCompile(`^[a-z0-9][a-z0-9._-]{0,63}$`)
)

// check says what is wrong with c for the platform at origin.
func (c Claims) check(origin string) error {
	for _, v := range []struct{ name, value string }{
		{"builder_id", c.BuilderID}, {"builder_digest", c.BuilderDigest}, {"runner_environment", c.RunnerEnvironment},
		{"source_uri", c.SourceURI}, {"source_digest", c.SourceDigest}, {"source_ref", c.SourceRef},
		{"build_trigger", c.BuildTrigger}, {"invocation_uri", c.InvocationURI},
	} {
		if err := plain(v.value); err != nil {
			return fmt.Errorf("claim %s: %w", v.name, err)
		}
	}
	if err := under(c.BuilderID, BuilderPrefix(origin)); err != nil {
		return fmt.Errorf("claim builder_id: %w", err)
	}
	if err := under(c.InvocationURI, origin+"/"); err != nil {
		return fmt.Errorf("claim invocation_uri: %w", err)
	}
	src, err := url.Parse(c.SourceURI)
	if err != nil || src.Scheme == "" {
		return fmt.Errorf("claim source_uri is %q, want an absolute URI", c.SourceURI)
	}
	if _, secret := src.User.Password(); secret {
		return fmt.Errorf("claim source_uri at %q carries a password, which would be published", src.Host)
	}
	if !commitID.MatchString(c.SourceDigest) {
		return fmt.Errorf("claim source_digest is %q, want a commit id of 40 or 64 lower-case hex digits", c.SourceDigest)
	}
	if !builderDigest.MatchString(c.BuilderDigest) {
		return fmt.Errorf("claim builder_digest is %q, want a commit id or sha256:hex", c.BuilderDigest)
	}
	if c.SourceRef != "" && !strings.HasPrefix(c.SourceRef, "refs/") {
		return fmt.Errorf("claim source_ref is %q, want a full name such as refs/tags/v1.0.0", c.SourceRef)
	}
	for name, v := range map[string]string{"runner_environment": c.RunnerEnvironment, "build_trigger": c.BuildTrigger} {
		if !word.MatchString(v) {
			return fmt.Errorf("claim %s is %q, want a lower-case word", name, v)
		}
	}
	return nil
}

// plain refuses values that a human reader of the certificate could
// misunderstand: control and formatting characters, spaces, over-long ones.
func plain(v string) error {
	if len(v) > maxClaim {
		return fmt.Errorf("%d bytes, at most %d are taken", len(v), maxClaim)
	}
	if !utf8.ValidString(v) {
		return fmt.Errorf("%q is not UTF-8", v)
	}
	for _, r := range v {
		if unicode.IsSpace(r) || !unicode.IsPrint(r) {
			return fmt.Errorf("%q holds the character %U", v, r)
		}
	}
	return nil
}

// under refuses uris that are not below prefix whichever way they are read.
func under(uri, prefix string) error {
	rest, ok := strings.CutPrefix(uri, prefix)
	if !ok || rest == "" {
		return fmt.Errorf("got %q, want one under %q", uri, prefix)
	}
	u, err := url.Parse(uri)
	if err != nil {
		return err
	}
	if u.String() != uri || u.RawQuery != "" || u.Fragment != "" || strings.Contains(uri, "%") || strings.Contains(uri, `\`) {
		return fmt.Errorf("%q is not written in its plainest form", uri)
	}
	for segment := range strings.SplitSeq(rest, "/") {
		if segment == "" || segment == "." || segment == ".." {
			return fmt.Errorf("%q has the path segment %q", uri, segment)
		}
	}
	return nil
}
