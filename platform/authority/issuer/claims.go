package issuer

import (
	"fmt"
	"net/url"
	"strings"
	"unicode"
	"unicode/utf8"

	"github.com/colophon-build/colophon/internal/lazyregexp"
)

// Claims are the claims of a token about one build. The certificate authority publishes
// all of them in a certificate: in extensions 1.3.6.1.4.1.57264.1.N, with N in brackets
// below.
type Claims struct {
	BuilderID         string `json:"builder_id"`         // this origin + "/builders/…"; the certificate's subject (.9)
	BuilderDigest     string `json:"builder_digest"`     // commit id, or sha256:hex, of the program that directed the build; may be empty (.10)
	RunnerEnvironment string `json:"runner_environment"` // "self-hosted", … (.11)
	SourceURI         string `json:"source_uri"`         // canonical, with scheme (.12)
	SourceDigest      string `json:"source_digest"`      // commit id, lower-case hex, 40 or 64 digits (.13)
	SourceRef         string `json:"source_ref"`         // full ref name; empty if the request named a commit (.14)
	BuildTrigger      string `json:"build_trigger"`      // "release", … (.20)
	InvocationURI     string `json:"invocation_uri"`     // under this origin (.21)
	ParametersDigest  string `json:"parameters_digest"`  // sha256:hex of the provenance's external parameters (.19)
}

const maxClaim = 1024 // limit of one value, in bytes

var (
	commitID         = lazyregexp.New(`^([0-9a-f]{40}|[0-9a-f]{64})$`)
	builderDigest    = lazyregexp.New(`^(sha256:[0-9a-f]{64}|[0-9a-f]{40}|[0-9a-f]{64})?$`)
	parametersDigest = lazyregexp.New(`^sha256:[0-9a-f]{64}$`)
	word             = lazyregexp.New(`^[a-z0-9][a-z0-9._-]{0,63}$`)
)

// check returns an error if c is not a valid set of claims of the platform at origin.
func (c Claims) check(origin string) error {
	for _, v := range []struct{ name, value string }{
		{"builder_id", c.BuilderID}, {"builder_digest", c.BuilderDigest}, {"runner_environment", c.RunnerEnvironment},
		{"source_uri", c.SourceURI}, {"source_digest", c.SourceDigest}, {"source_ref", c.SourceRef},
		{"build_trigger", c.BuildTrigger}, {"invocation_uri", c.InvocationURI}, {"parameters_digest", c.ParametersDigest},
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
		return fmt.Errorf("claim source_uri: got %q, want an absolute URI", c.SourceURI)
	}
	if _, secret := src.User.Password(); secret {
		return fmt.Errorf("claim source_uri at %q contains a password, which the certificate would publish", src.Host)
	}
	if !commitID.MatchString(c.SourceDigest) {
		return fmt.Errorf("claim source_digest: got %q, want a commit id of 40 or 64 lower-case hex digits", c.SourceDigest)
	}
	if !builderDigest.MatchString(c.BuilderDigest) {
		return fmt.Errorf("claim builder_digest: got %q, want a commit id or sha256:hex", c.BuilderDigest)
	}
	if !parametersDigest.MatchString(c.ParametersDigest) {
		return fmt.Errorf("claim parameters_digest: got %q, want sha256:hex", c.ParametersDigest)
	}
	if c.SourceRef != "" && !strings.HasPrefix(c.SourceRef, "refs/") {
		return fmt.Errorf("claim source_ref: got %q, want a full name such as refs/tags/v1.0.0", c.SourceRef)
	}
	for name, v := range map[string]string{"runner_environment": c.RunnerEnvironment, "build_trigger": c.BuildTrigger} {
		if !word.MatchString(v) {
			return fmt.Errorf("claim %s: got %q, want a lower-case word", name, v)
		}
	}
	return nil
}

// plain refuses values that could mislead a person who reads the certificate: values with
// spaces, control or formatting characters, and values that are too long.
func plain(v string) error {
	if len(v) > maxClaim {
		return fmt.Errorf("got %d bytes, want at most %d", len(v), maxClaim)
	}
	if !utf8.ValidString(v) {
		return fmt.Errorf("%q is not UTF-8", v)
	}
	for _, r := range v {
		if unicode.IsSpace(r) || !unicode.IsPrint(r) {
			return fmt.Errorf("%q contains the character %U", v, r)
		}
	}
	return nil
}

// under refuses a uri that is not below prefix, or that some reader could understand
// differently.
func under(uri, prefix string) error {
	rest, ok := strings.CutPrefix(uri, prefix)
	if !ok || rest == "" {
		return fmt.Errorf("got %q, want a URI under %q", uri, prefix)
	}
	u, err := url.Parse(uri)
	if err != nil {
		return err
	}
	if u.String() != uri || u.RawQuery != "" || u.Fragment != "" || strings.Contains(uri, "%") || strings.Contains(uri, `\`) {
		return fmt.Errorf("%q is not in canonical form", uri)
	}
	for segment := range strings.SplitSeq(rest, "/") {
		if segment == "" || segment == "." || segment == ".." {
			return fmt.Errorf("%q has the path segment %q", uri, segment)
		}
	}
	return nil
}
