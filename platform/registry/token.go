package registry

import (
	"crypto/rand"
	"fmt"
	"net/http"
	"net/url"
	"slices"
	"strings"
	"time"

	"github.com/go-jose/go-jose/v4"
	"github.com/go-jose/go-jose/v4/jwt"

	"github.com/colophon-build/colophon/platform/distribution"
)

// accessLife is how long an access token is valid. Clients ask for another one by themselves.
const accessLife = 5 * time.Minute

// maxScopes is the limit of scopes that one access token is asked for, and maxLogin that of the
// form in which a client asks, in bytes.
const (
	maxScopes = 64
	maxLogin  = 64 << 10
)

// Actions of a scope.
const (
	actionPull   = "pull"
	actionPush   = "push"
	actionDelete = "delete"
)

// A scope is what an access token allows for one repository (distribution,
// docs/content/spec/auth/jwt.md, "access").
type scope struct {
	Type    string   `json:"type"` // repository
	Name    string   `json:"name"`
	Actions []string `json:"actions"`
}

// A grant is what the credentials of a request allow.
type grant struct {
	account string // "" for a client without an account, which only reads
	role    Role
	scopes  []scope // of an access token
	scoped  bool    // only what scopes say; otherwise all that the role allows
}

// accessTokens makes and checks access tokens: JWTs, signed with a key that ends with the
// process. Clients then ask for another token, with the credentials that they have.
type accessTokens struct {
	key     []byte
	service string
}

func newAccessTokens(service string) *accessTokens {
	key := make([]byte, 32)
	rand.Read(key)
	return &accessTokens{key: key, service: service}
}

// accessClaims are the claims of an access token.
type accessClaims struct {
	jwt.Claims
	Role   Role    `json:"role"`
	Access []scope `json:"access"`
}

func (a *accessTokens) sign(g grant, now time.Time) (string, error) {
	signer, err := jose.NewSigner(jose.SigningKey{Algorithm: jose.HS256, Key: a.key}, nil)
	if err != nil {
		return "", err
	}
	return jwt.Signed(signer).Claims(accessClaims{
		Claims: jwt.Claims{
			Subject: g.account, Audience: jwt.Audience{a.service},
			IssuedAt: jwt.NewNumericDate(now), Expiry: jwt.NewNumericDate(now.Add(accessLife)),
		},
		Role: g.role, Access: g.scopes,
	}).Serialize()
}

// open returns what an access token allows, and false if it is none or has expired.
func (a *accessTokens) open(token string, now time.Time) (grant, bool) {
	parsed, err := jwt.ParseSigned(token, []jose.SignatureAlgorithm{jose.HS256})
	if err != nil {
		return grant{}, false
	}
	var c accessClaims
	if err := parsed.Claims(a.key, &c); err != nil {
		return grant{}, false
	}
	if c.Expiry == nil || c.ValidateWithLeeway(jwt.Expected{AnyAudience: jwt.Audience{a.service}, Time: now}, 0) != nil {
		return grant{}, false
	}
	return grant{account: c.Subject, role: c.Role, scopes: c.Access, scoped: true}, true
}

// allows reports whether an access token was made for this action. What its account may do,
// its role says.
func (g *grant) allows(repository, action string) bool {
	if !g.scoped {
		return true
	}
	return slices.ContainsFunc(g.scopes, func(s scope) bool {
		return s.Type == "repository" && s.Name == repository && slices.Contains(s.Actions, action)
	})
}

// parseScopes reads scopes as clients ask for them (distribution,
// docs/content/spec/auth/scope.md) and leaves out what the role does not allow and what is
// no repository here: an access token need not allow all that was asked for.
func parseScopes(asked []string, role Role) ([]scope, error) {
	scopes := []scope{}
	for s := range strings.FieldsSeq(strings.Join(asked, " ")) {
		kind, rest, _ := strings.Cut(s, ":")
		i := strings.LastIndexByte(rest, ':')
		if kind != "repository" || i < 0 || !distribution.ValidName(rest[:i]) {
			continue
		}
		if len(scopes) == maxScopes {
			return nil, distribution.Failed(http.StatusBadRequest, distribution.CodeUnsupported, "got more than %d scopes", maxScopes)
		}
		granted := scope{Type: kind, Name: rest[:i]}
		wanted := strings.Split(rest[i+1:], ",")
		for action, least := range map[string]Role{actionPull: Pull, actionPush: Push, actionDelete: Admin} {
			if role >= least && (slices.Contains(wanted, action) || slices.Contains(wanted, "*")) {
				granted.Actions = append(granted.Actions, action)
			}
		}
		slices.Sort(granted.Actions)
		scopes = append(scopes, granted)
	}
	return scopes, nil
}

// serveToken gives a client an access token for the credentials that it sends, or for none
// where everybody may pull. GET is as in distribution, docs/content/spec/auth/token.md, and
// POST as in oauth.md there, with the grant type "password".
func (r *Registry) serveToken(w http.ResponseWriter, req *request) error {
	q, token, named := req.URL.Query(), "", false
	if req.Method == http.MethodPost {
		form, err := readLogin(w, req)
		if err != nil {
			return err
		}
		q, token, named = form, form.Get("password"), true
	} else if req.Header.Get("Authorization") != "" {
		token, named = bearer(req.Request), true
	}
	g := grant{role: Pull}
	if named {
		g.account, g.role = r.cfg.Authorize(token)
	}
	if g.role == Nobody || !named && !r.cfg.AnonymousPull {
		w.Header().Set("WWW-Authenticate", `Basic realm="colophon registry", charset="UTF-8"`)
		return &distribution.Failure{Status: http.StatusUnauthorized, Code: distribution.CodeUnauthorized, Message: "log in with a token of this platform as the password, and any user name"}
	}
	if s := q.Get("service"); s != "" && s != r.access.service {
		return distribution.Failed(http.StatusBadRequest, distribution.CodeUnsupported, "service: got %q, want %q", s, r.access.service)
	}
	var err error
	if g.scopes, err = parseScopes(q["scope"], g.role); err != nil {
		return err
	}
	now := time.Now()
	signed, err := r.access.sign(g, now)
	if err != nil {
		return err
	}
	w.Header().Set("Cache-Control", "no-store")
	return r.answerJSON(w, req, "application/json", map[string]any{
		"token": signed, "access_token": signed,
		"expires_in": int(accessLife / time.Second), "issued_at": now.UTC().Format(time.RFC3339),
	})
}

// readLogin reads the form of a POST for an access token.
func readLogin(w http.ResponseWriter, req *request) (url.Values, error) {
	req.Body = http.MaxBytesReader(w, req.Body, maxLogin)
	if err := req.ParseForm(); err != nil {
		return nil, distribution.Failed(http.StatusBadRequest, distribution.CodeUnsupported, "form: %v", err)
	}
	if t := req.PostForm.Get("grant_type"); t != "password" {
		return nil, distribution.Failed(http.StatusBadRequest, distribution.CodeUnsupported, `grant_type: got %q, want "password"`, t)
	}
	return req.PostForm, nil
}

// challenge tells a client where it gets an access token, and which one it needs here.
func (r *Registry) challenge(w http.ResponseWriter, req *request, action, reason string) {
	c := fmt.Sprintf("Bearer realm=%s,service=%s", quoted(r.cfg.URL+tokenPath), quoted(r.access.service))
	if req.name != "" {
		actions := actionPull
		if action != actionPull {
			actions += "," + action
		}
		c += ",scope=" + quoted("repository:"+req.name+":"+actions)
	}
	if reason != "" {
		c += ",error=" + quoted(reason)
	}
	w.Header().Set("WWW-Authenticate", c)
}

// quoted returns s as a quoted string of a header. No value above needs an escape.
func quoted(s string) string { return `"` + s + `"` }
