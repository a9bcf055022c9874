package registry

import (
	"encoding/base64"
	"encoding/json"
	"fmt"
	"net/http"
	"net/url"
	"slices"
	"strings"
	"testing"
	"time"
)

// login asks for an access token as Docker and skopeo do.
func (c *client) login(scopes ...string) string {
	c.t.Helper()
	return c.accessToken(c.want(200, "GET", "/v2/token?"+url.Values{"service": {c.service()}, "scope": scopes, "account": {"any"}}.Encode(), nil))
}

func (c *client) accessToken(r *reply) string {
	c.t.Helper()
	var got struct {
		Token       string
		AccessToken string    `json:"access_token"`
		ExpiresIn   int       `json:"expires_in"`
		IssuedAt    time.Time `json:"issued_at"`
	}
	if err := json.Unmarshal(r.body, &got); err != nil || got.Token == "" || got.AccessToken != got.Token || got.ExpiresIn != 300 || time.Since(got.IssuedAt) > time.Minute {
		c.t.Fatalf("access token: got %s, %v", r.body, err)
	}
	if h := r.Header.Get("Cache-Control"); h != "no-store" {
		c.t.Errorf("access token: got Cache-Control %q, want no-store", h)
	}
	return got.Token
}

func (c *client) service() string { return strings.TrimPrefix(c.url, "http://") }

// with makes a request with an access token and no other credentials.
func (c *client) with(token string, status int, method, path string, body []byte) *reply {
	c.t.Helper()
	return c.as("").want(status, method, path, body, "Authorization", "Bearer "+token)
}

func TestLogin(t *testing.T) {
	for _, open := range []bool{true, false} {
		t.Run(fmt.Sprintf("open %t", open), func(t *testing.T) { testLogin(t, start(t, Config{AnonymousPull: open}), open) })
	}
}

func testLogin(t *testing.T, c *client, open bool) {
	raw := c.image("team/app", "sha256", "x", nil)
	c.put("team/app", "v1", raw)
	hex := sum("sha256", []byte("layer x"))

	// The version check says where to log in, the refusal of a push says what for.
	challenge := c.as("").want(401, "GET", "/v2/", nil).Header.Get("WWW-Authenticate")
	if want := fmt.Sprintf(`Bearer realm="%s/v2/token",service="%s"`, c.url, c.service()); challenge != want {
		t.Errorf("challenge: got %s, want %s", challenge, want)
	}
	challenge = c.as("").want(401, "POST", "/v2/team/app/blobs/uploads/", nil).Header.Get("WWW-Authenticate")
	if want := `scope="repository:team/app:pull,push"`; !strings.HasSuffix(challenge, want) {
		t.Errorf("challenge: got %s, want %s at its end", challenge, want)
	}

	// Wrong passwords, in each way that clients send them.
	if h := c.as("wrong").want(401, "GET", "/v2/token", nil).Header.Get("WWW-Authenticate"); !strings.HasPrefix(h, "Basic realm=") {
		t.Errorf("a wrong password: got the challenge %q, want one for a password", h)
	}
	c.as("").want(401, "GET", "/v2/token", nil, "Authorization", "Basic eA==")
	c.as("").want(401, "GET", "/v2/token", nil, "Authorization", "Bearer")
	form := func(status int, values url.Values) *reply {
		return c.as("").want(status, "POST", "/v2/token", []byte(values.Encode()), "Content-Type", "application/x-www-form-urlencoded")
	}
	form(401, url.Values{"grant_type": {"password"}, "username": {"x"}, "password": {"wrong"}})
	form(401, url.Values{"grant_type": {"password"}})
	form(400, url.Values{"grant_type": {"refresh_token"}, "refresh_token": {"pusher"}})
	form(400, url.Values{"grant_type": {"password"}, "password": {"pusher"}, "x": {strings.Repeat("x", maxLogin)}})
	c.as("pusher").want(400, "GET", "/v2/token?service=elsewhere", nil)

	// An account gets what its role allows of what it asks for.
	push := c.as("pusher").login("repository:team/app:pull,push,delete")
	c.with(push, 200, "GET", "/v2/", nil)
	c.with(push, 200, "GET", "/v2/_catalog", nil)
	c.with(push, 200, "GET", "/v2/team/app/manifests/v1", nil)
	c.with(push, 202, "POST", "/v2/team/app/blobs/uploads/", nil)
	c.with(push, 403, "DELETE", "/v2/team/app/manifests/v1", nil)
	byForm := c.accessToken(form(200, url.Values{"grant_type": {"password"}, "username": {"x"}, "password": {"pusher"}, "service": {c.service()}, "scope": {"repository:team/app:push"}}))
	c.with(byForm, 202, "POST", "/v2/team/app/blobs/uploads/", nil)
	c.with(byForm, 401, "GET", "/v2/team/app/manifests/v1", nil)
	boss := c.as("boss").login("repository:team/app:*")
	c.with(boss, 202, "DELETE", "/v2/team/app/blobs/"+hex, nil)

	// It is good for nothing that it was not made for.
	for _, path := range []string{"/v2/team/app2/blobs/uploads/", "/v2/team/blobs/uploads/", "/v2/app/blobs/uploads/"} {
		r := c.with(push, 401, "POST", path, nil)
		if h := r.Header.Get("WWW-Authenticate"); !strings.Contains(h, `error="insufficient_scope"`) {
			t.Errorf("POST %s: got challenge %s", path, h)
		}
	}
	c.as(push).want(401, "GET", "/v2/token", nil) // it cannot be made to last longer
	only := c.as("pusher").login("repository:team/app:pull")
	c.with(only, 200, "GET", "/v2/team/app/manifests/v1", nil)
	c.with(only, 401, "PUT", "/v2/team/app/manifests/v2", raw)
	none := c.as("pusher").login()
	c.with(none, 200, "GET", "/v2/", nil)
	c.with(none, 401, "PUT", "/v2/team/app/manifests/v2", raw)
	c.with(c.as("puller").login("repository:team/app:pull,push"), 403, "PUT", "/v2/team/app/manifests/v2", raw)

	if !open {
		c.as("").want(401, "GET", "/v2/token?scope=repository:team/app:pull", nil)
		return
	}
	nobody := c.as("").login("repository:team/app:pull,push", "repository:team/other:*")
	c.with(nobody, 200, "GET", "/v2/", nil)
	c.with(nobody, 200, "GET", "/v2/team/app/manifests/v1", nil)
	c.with(nobody, 401, "PUT", "/v2/team/app/manifests/v2", raw) // may log in
	c.with(nobody, 401, "DELETE", "/v2/team/app/manifests/v1", nil)
}

// A mount reads the other repository.
func TestMountNeedsScope(t *testing.T) {
	for _, open := range []bool{true, false} {
		c := start(t, Config{AnonymousPull: open})
		d := c.blob("secret", "sha256", []byte("secret"))
		token := c.as("pusher").login("repository:mine:pull,push")
		want := 202
		if open {
			want = 201
		}
		for _, query := range []string{"mount=" + d + "&from=secret", "mount=" + d} {
			c.with(token, want, "POST", "/v2/mine/blobs/uploads/?"+query, nil)
		}
		if !open {
			c.with(token, 404, "GET", "/v2/mine/blobs/"+d, nil)
		}
		both := c.as("pusher").login("repository:mine:pull,push repository:secret:pull")
		c.with(both, 201, "POST", "/v2/mine/blobs/uploads/?mount="+d+"&from=secret", nil)
	}
}

// Access tokens that the registry did not make, or made for another time or place.
func TestForgedAccessTokens(t *testing.T) {
	c := start(t, Config{})
	access, now := c.reg.access, time.Now()
	g := grant{account: "boss", role: Admin, scopes: []scope{{"repository", "a", []string{"pull"}}}}
	sign := func(a *accessTokens, at time.Time) string {
		t.Helper()
		token, err := a.sign(g, at)
		if err != nil {
			t.Fatal(err)
		}
		return token
	}
	good := sign(access, now)
	c.with(good, 200, "GET", "/v2/", nil)
	parts := strings.Split(good, ".")
	encode := func(s string) string { return base64.RawURLEncoding.EncodeToString([]byte(s)) }
	claims := fmt.Sprintf(`{"sub":"boss","aud":%q,"exp":%d,"role":3}`, access.service, now.Add(time.Hour).Unix())
	for name, token := range map[string]string{
		"expired":         sign(access, now.Add(-accessLife-time.Second)),
		"another key":     sign(newAccessTokens(access.service), now),
		"another service": sign(&accessTokens{key: access.key, service: "elsewhere"}, now),
		"no signature":    parts[0] + "." + parts[1] + ".",
		"other claims":    parts[0] + "." + encode(claims) + "." + parts[2],
		"algorithm none":  encode(`{"alg":"none"}`) + "." + encode(claims) + ".",
		"empty":           "..",
	} {
		r := c.as("").want(401, "GET", "/v2/", nil, "Authorization", "Bearer "+token)
		if h := r.Header.Get("WWW-Authenticate"); !strings.Contains(h, `error="invalid_token"`) {
			t.Errorf("%s: got challenge %s", name, h)
		}
		c.as(token).want(401, "GET", "/v2/", nil) // as a password
	}
}

func TestScopes(t *testing.T) {
	for _, tc := range []struct {
		asked []string
		role  Role
		want  string
	}{
		{nil, Admin, `[]`},
		{[]string{"repository:a/b:pull"}, Pull, `[{repository a/b [pull]}]`},
		{[]string{"repository:a:pull,push,delete,frob"}, Push, `[{repository a [pull push]}]`},
		{[]string{"repository:a:*"}, Admin, `[{repository a [delete pull push]}]`},
		{[]string{"repository:a:pull repository:b:push", "repository:c:pull"}, Push, `[{repository a [pull]} {repository b [push]} {repository c [pull]}]`},
		{[]string{"registry:catalog:*", "repository:a", "repository::pull", "repository:../x:pull", "repository(plugin):a:pull", "a"}, Admin, `[]`},
		{[]string{"repository:host:5000/a:pull"}, Admin, `[]`},
	} {
		got, err := parseScopes(tc.asked, tc.role)
		if fmt.Sprint(got) != tc.want || err != nil {
			t.Errorf("%q: got %v, %v, want %s", tc.asked, got, err, tc.want)
		}
	}
	c := start(t, Config{AnonymousPull: true})
	q := url.Values{"scope": slices.Repeat([]string{"repository:a:pull"}, maxScopes+1)}
	c.want(400, "GET", "/v2/token?"+q.Encode(), nil)
	q["scope"] = q["scope"][1:]
	c.want(200, "GET", "/v2/token?"+q.Encode(), nil)
	c.want(http.StatusMethodNotAllowed, "PUT", "/v2/token", nil)
}

// TestMalformedLogin: a form that cannot be read asks for nothing.
func TestMalformedLogin(t *testing.T) {
	c := start(t, Config{AnonymousPull: true})
	for name, form := range map[string]string{"escape": "grant_type=password&password=%zz", "too large": "grant_type=password&x=" + strings.Repeat("x", maxLogin)} {
		if r := c.as("").want(400, "POST", "/v2/token", []byte(form), "Content-Type", "application/x-www-form-urlencoded"); !strings.Contains(string(r.body), "form: ") {
			t.Errorf("%s: got %s", name, r.body)
		}
	}
	for _, bad := range []string{"", "registry.test", "http://", "http://registry.test/", "http://registry.test/v2", "http://a@registry.test", "://registry.test", "http://registry.test:x"} {
		if _, err := New(Config{URL: bad, Dir: t.TempDir(), Authorize: roles}); err == nil || !strings.Contains(err.Error(), "want SCHEME://HOST") {
			t.Errorf("URL %q: got %v", bad, err)
		}
	}
}
