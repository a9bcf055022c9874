package gateway

import (
	"bytes"
	"encoding/base64"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"html"
	"io"
	"net/http"
	"net/url"
	"slices"
	"strings"

	"github.com/colophon-build/colophon/internal/credential"
	"github.com/colophon-build/colophon/platform/builder"
)

// login is a credential of the platform that this build may use. The gateway adds it to
// requests that read in its scope, and replaces what the build itself put there: a build
// that needs some token to work may have any. The build can do nothing else with it:
//
//   - the request has the few headers that readers need, and not those by which servers
//     take another path or method (X-Original-URL, X-HTTP-Method-Override);
//   - redirects are the build's to follow, with requests that are looked at anew;
//   - an answer that contains the credential is cut off before it. So there are no partial
//     answers, and none with a content coding;
//   - of a registry with tokens, the realm gets the credential, and only for pulls in the
//     scope. The build gets a placeholder of the token (see tokens), which counts for
//     reading in the scope.
type login struct {
	scope   credential.Scope
	realm   *url.URL // nil if there is none
	value   string   // of the header Authorization
	secrets []string // what an answer must not contain, in plain form
}

// logins has the credentials of a session.
type logins []*login

func newLogins(list []builder.Credential) (out logins, err error) {
	for _, c := range list {
		l := &login{value: c.Authorization}
		if l.scope, err = credential.ParseScope(c.Scope); err != nil {
			return nil, fmt.Errorf("credential: scope: %w", err)
		}
		if c.Realm != "" {
			if l.realm, err = url.Parse(c.Realm); err != nil {
				return nil, errors.New("credential: realm: not a URL")
			}
		}
		kind, secret, _ := strings.Cut(c.Authorization, " ")
		l.secrets = []string{secret}
		if kind == "Basic" {
			raw, err := base64.StdEncoding.DecodeString(secret)
			_, password, ok := strings.Cut(string(raw), ":")
			if err != nil || !ok {
				return nil, fmt.Errorf("credential for %s: not of the form Basic user:password", l.scope)
			}
			l.secrets = append(l.secrets, password)
		}
		if slices.ContainsFunc(l.secrets, func(s string) bool { return len(s) < builder.MinSecret }) {
			return nil, fmt.Errorf("credential for %s: shorter than %d bytes", l.scope, builder.MinSecret)
		}
		out = append(out, l)
	}
	return out, nil
}

// login returns the credential for a request; nil if there is none. It is the one with the
// longest path.
func (g *Gateway) login(r *http.Request) (best *login) {
	for _, l := range g.logins {
		if g.opens(l, r) && (best == nil || len(l.scope.Path()) > len(best.scope.Path())) {
			best = l
		}
	}
	return best
}

// opens reports whether a request may be sent with the credential.
func (g *Gateway) opens(l *login, r *http.Request) bool {
	query, err := url.ParseQuery(r.URL.RawQuery)
	body := r.Body != nil && r.Body != http.NoBody
	if err != nil || r.URL.User != nil {
		return false
	}
	if g.tokens.realm(r.URL) {
		return r.Method == http.MethodGet && !body && l.realm != nil && withoutQuery(l.realm) == withoutQuery(r.URL) && l.pulls(query)
	}
	if !l.scope.Covers(r.URL) {
		return false
	}
	if r.Method == http.MethodPost {
		return strings.HasSuffix(r.URL.Path, "/git-upload-pack") && len(query) == 0 && r.Header.Get("Content-Type") == "application/x-git-upload-pack-request"
	}
	// Services that hand out tokens take these parameters. The git protocol has one of the
	// same name.
	service := query.Get("service")
	return (r.Method == http.MethodGet || r.Method == http.MethodHead) && !body && !query.Has("scope") && (!query.Has("service") || service == "git-upload-pack")
}

// pulls reports whether a request to a realm asks for a token that pulls what is in the
// scope, and for nothing else (distribution spec, "Requesting a Token").
func (l *login) pulls(query url.Values) bool {
	for name := range query {
		if name != "scope" && name != "service" && name != "client_id" {
			return false
		}
	}
	scopes := strings.Fields(strings.Join(query["scope"], " "))
	for _, s := range scopes {
		name, ok := strings.CutPrefix(s, "repository:")
		name, pull := strings.CutSuffix(name, ":pull")
		u, err := url.Parse(l.scope.Scheme() + "://" + l.scope.Host() + "/v2/" + name)
		if !ok || !pull || strings.Contains(name, ":") || err != nil || !l.scope.Covers(u) {
			return false
		}
	}
	return len(scopes) > 0
}

// realmLogin returns the credential with which a token of the realm was got; nil if there was none.
func (g *Gateway) realmLogin(realm *url.URL) *login {
	return g.login(&http.Request{Method: http.MethodGet, URL: realm})
}

// readerHeaders are the headers of a request that is sent with a credential.
var readerHeaders = []string{"Accept", "Authorization", "Content-Type", "Git-Protocol", "User-Agent"}

// prepare takes from a request what does not only read.
func (l *login) prepare(r *http.Request) {
	for name := range r.Header {
		if !slices.Contains(readerHeaders, name) {
			r.Header.Del(name)
		}
	}
	r.Header.Set("Accept-Encoding", "identity")
}

// authorize adds the credential to a request, in place of the build's own. token is not
// empty if the request has a token that was got with a credential.
func (l *login) authorize(r *http.Request, token string, toRealm bool) {
	switch {
	case token != "":
	case l.realm != nil && !toRealm:
		r.Header.Del("Authorization")
	default:
		r.Header.Set("Authorization", l.value)
	}
}

// guard returns an error if an answer's headers contain the credential or the token, and
// makes its body end where it would contain one.
func (l *login) guard(resp *http.Response, token string) error {
	refused := &DeniedError{l.scope.Host(), "the answer contains the platform's credential"}
	if coding := resp.Header.Get("Content-Encoding"); coding != "" && !strings.EqualFold(coding, "identity") {
		return &DeniedError{l.scope.Host(), fmt.Sprintf("the answer has the content coding %.40q, in which the platform's credential could not be recognized", coding)}
	}
	needles := formsOf(append(slices.Clone(l.secrets), token))
	for _, values := range resp.Header {
		for _, v := range values {
			if found(needles, []byte(v)) {
				return refused
			}
		}
	}
	resp.Trailer = nil
	if resp.Body != nil && resp.Body != http.NoBody {
		resp.Body = &guarded{ReadCloser: resp.Body, needles: needles, refused: refused}
	}
	return nil
}

func found(needles [][]byte, text []byte) bool {
	return slices.ContainsFunc(needles, func(n []byte) bool { return bytes.Contains(text, n) })
}

// formsOf returns the forms in which an answer can contain a secret: plain, as base64, as
// hex, and escaped for URLs, JSON or HTML. The longest comes first.
func formsOf(secrets []string) (out [][]byte) {
	for _, s := range secrets {
		if s == "" {
			continue
		}
		hexed := hex.EncodeToString([]byte(s))
		quoted, _ := json.Marshal(s) // a string
		percent := ""
		for i := 0; i < len(hexed); i += 2 {
			percent += "%" + hexed[i:i+2]
		}
		forms := []string{
			s, hexed, strings.ToUpper(hexed), percent, strings.ToUpper(percent), html.EscapeString(s), strings.Trim(string(quoted), `"`),
			url.QueryEscape(s), url.PathEscape(s), lowerEscapes(url.QueryEscape(s)), lowerEscapes(url.PathEscape(s)),
		}
		for _, coding := range []*base64.Encoding{base64.RawStdEncoding, base64.RawURLEncoding} {
			for before := range 3 { // bytes before it that share its first characters
				coded := coding.EncodeToString([]byte("\x00\x00"[:before] + s))
				coded = coded[[]int{0, 2, 3}[before]:]
				if (before+len(s))%3 != 0 {
					coded = coded[:len(coded)-1]
				}
				forms = append(forms, coded, url.QueryEscape(coded))
			}
		}
		for _, f := range forms {
			if !slices.ContainsFunc(out, func(o []byte) bool { return string(o) == f }) {
				out = append(out, []byte(f))
			}
		}
	}
	slices.SortStableFunc(out, func(a, b []byte) int { return len(b) - len(a) })
	return out
}

// lowerEscapes writes the hex digits of percent escapes in lower case.
func lowerEscapes(s string) string {
	b := []byte(s)
	for i := 0; i+2 < len(b); i++ {
		if b[i] == '%' {
			copy(b[i:], bytes.ToLower(b[i:i+3]))
		}
	}
	return string(b)
}

// guarded is a body that ends with an error before the first byte of a needle. It holds
// back as many bytes as could be the beginning of one.
type guarded struct {
	io.ReadCloser
	needles [][]byte // the longest first
	refused error
	held    []byte // read, and not returned yet
	clean   int    // bytes of held that may be returned
	end     error
}

func (b *guarded) Read(p []byte) (int, error) {
	for b.clean == 0 && b.end == nil {
		n := len(b.held)
		b.held = slices.Grow(b.held, 32<<10)
		m, err := b.ReadCloser.Read(b.held[n : n+32<<10])
		b.held, b.end = b.held[:n+m], err
		if found(b.needles, b.held) {
			b.held, b.end = nil, b.refused
			break
		}
		b.clean = max(0, len(b.held)-len(b.needles[0])+1)
		if b.end == io.EOF {
			b.clean = len(b.held)
		}
	}
	if b.clean == 0 {
		return 0, b.end
	}
	n := copy(p, b.held[:b.clean])
	b.held, b.clean = b.held[n:], b.clean-n
	return n, nil
}
