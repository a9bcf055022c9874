// Package credential keeps credentials out of what is published: it recognizes names and
// values that are made to be secret, and takes them out of URLs. It works by a fixed rule
// (spec/lock/v1, "Credentials in addresses"), so that two readers of one URL take out the
// same. A secret under a harmless name and of no known form is not recognized.
package credential

import (
	"net/url"
	"slices"
	"strings"

	"github.com/colophon-build/colophon/internal/lazyregexp"
)

// Redacted is what stands in place of a credential.
const Redacted = "redacted"

// names matches names of parameters and variables that carry credentials, in lower case
// and without separators.
var names = lazyregexp.New(`secret|passw|pwd$|passphrase|credential|tokens?$|signature$|apikey|accesskey|privatekey|authkey|sharedkey|keypairid|^auth$|^authorization|^sig$|^hmac$|^jwt$|^session(id)?$|^policy$`)

// values matches values of well-known forms of credentials, whatever their name.
var values = lazyregexp.New(`^(gh[pousr]_|github_pat_|glpat-|gldt-|xox[abpors]-|AKIA[0-9A-Z]{12}|ASIA[0-9A-Z]{12}|npm_[A-Za-z0-9]{20}|hf_[A-Za-z0-9]{20}|pypi-A|dckr_pat_|sk_live_|eyJ[A-Za-z0-9_-]{4,}\.|-----BEGIN [A-Z ]*PRIVATE KEY)`)

// Name reports whether a parameter or variable with this name carries a credential.
func Name(name string) bool {
	name = strings.ToLower(name)
	parts := strings.FieldsFunc(name, func(r rune) bool { return strings.ContainsRune("_-.[]", r) })
	return slices.Contains(parts, "token") || names.MatchString(strings.Join(parts, ""))
}

// Value reports whether a value has the form of a well-known kind of credential.
func Value(value string) bool { return values.MatchString(value) }

// URL returns a URL without its user and password, and with the value Redacted for each
// parameter of its query that carries a credential. All else stays as it is. A URL that
// cannot be parsed loses its whole query.
func URL(address string) string {
	before, fragment, hasFragment := strings.Cut(address, "#")
	base, query, hasQuery := strings.Cut(before, "?")
	if u, err := url.Parse(base); err == nil && u.User != nil {
		u.User = nil
		base = u.String()
	}
	if hasQuery {
		base += "?" + Query(query)
	}
	if hasFragment {
		base += "#" + fragment
	}
	return base
}

// Query is like URL, for the query of a URL without its question mark.
func Query(query string) string {
	pairs := strings.Split(query, "&")
	for i, pair := range pairs {
		name, value, has := strings.Cut(pair, "=")
		plainName, err := url.QueryUnescape(name)
		plainValue, err2 := url.QueryUnescape(value)
		switch {
		case err != nil || err2 != nil:
			pairs[i] = Redacted // nobody can say what it is
		case has && Name(plainName) && value != "" || Value(plainValue):
			pairs[i] = name + "=" + Redacted
		case !has && Value(plainName):
			pairs[i] = Redacted
		}
	}
	return strings.Join(pairs, "&")
}

// addresses matches URLs in a text. JSON may write & as \u0026.
var addresses = lazyregexp.New(`https?://(?:\\u0026|[^\s"'<>\\])+`)

// Text returns a text in which each http and https URL is as URL makes it.
func Text(text string) string {
	return addresses.ReplaceAllStringFunc(text, func(address string) string {
		return URL(strings.ReplaceAll(address, `\u0026`, "&"))
	})
}
