package token

import (
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"encoding/base64"
	"encoding/json"
	"errors"
	"io"
	"net/http"
	"net/http/httptest"
	"net/url"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/coreos/go-oidc/v3/oidc"
	"github.com/go-jose/go-jose/v4"
	"golang.org/x/oauth2"

	"github.com/colophon-build/colophon/test/await"
)

// jwt has the form of a token.
const jwt = "aGVhZGVy.eyJzdWIiOiJqb2IifQ.c2lnbmF0dXJl"

// alone removes what says that this is a CI system, in case that it is one.
func alone(t *testing.T) {
	for _, name := range []string{"GITHUB_ACTIONS", "GITLAB_CI", "BUILDKITE", "CIRCLECI", "SPIFFE_ENDPOINT_SOCKET", "GCE_METADATA_HOST", "SIGSTORE_ID_TOKEN", "ACTIONS_ID_TOKEN_REQUEST_URL", "ACTIONS_ID_TOKEN_REQUEST_TOKEN", "BUILDKITE_AGENT_ACCESS_TOKEN", "BUILDKITE_AGENT_ENDPOINT", "BUILDKITE_JOB_ID"} {
		t.Setenv(name, "")
	}
}

// program puts a shell script of this name into PATH.
func program(t *testing.T, name, script string) {
	t.Helper()
	dir := t.TempDir()
	if err := os.WriteFile(filepath.Join(dir, name), []byte("#!/bin/sh\n"+script), 0o755); err != nil {
		t.Fatal(err)
	}
	t.Setenv("PATH", dir+":"+os.Getenv("PATH"))
}

// The requests and answers are those that the providers document; none of the providers
// itself can be asked here.
func TestProviders(t *testing.T) {
	var asked *http.Request
	var body, answer string
	status := http.StatusOK
	srv := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		raw, _ := io.ReadAll(r.Body)
		asked, body = r, string(raw)
		w.Header().Set("Location", "http://192.0.2.1/")
		w.WriteHeader(status)
		io.WriteString(w, answer)
	}))
	defer srv.Close()
	for _, tt := range []struct {
		name, want string // the provider; in the error
		env        map[string]string
		script     [2]string // a program and what it does
		answer     string
		request    string // METHOD URL AUTHORIZATION BODY
		status     int
	}{
		{name: "github", env: map[string]string{"GITHUB_ACTIONS": "true", "ACTIONS_ID_TOKEN_REQUEST_URL": srv.URL + "/t?api-version=2", "ACTIONS_ID_TOKEN_REQUEST_TOKEN": "hunter2"},
			answer: `{"value":"` + jwt + `"}`, request: "GET /t?api-version=2&audience=sigstore Bearer hunter2 "},
		{name: "github", want: "id-token: write", env: map[string]string{"GITHUB_ACTIONS": "true"}},
		{name: "github", want: "want an https URL", env: map[string]string{"GITHUB_ACTIONS": "true", "ACTIONS_ID_TOKEN_REQUEST_URL": "http://198.51.100.1/", "ACTIONS_ID_TOKEN_REQUEST_TOKEN": "hunter2"}},
		{name: "github", want: "got status 302", status: 302, env: map[string]string{"GITHUB_ACTIONS": "true", "ACTIONS_ID_TOKEN_REQUEST_URL": srv.URL, "ACTIONS_ID_TOKEN_REQUEST_TOKEN": "hunter2"}},
		{name: "github", want: "not the JSON expected", answer: `hunter2`, env: map[string]string{"GITHUB_ACTIONS": "true", "ACTIONS_ID_TOKEN_REQUEST_URL": srv.URL, "ACTIONS_ID_TOKEN_REQUEST_TOKEN": "hunter2"}},
		{name: "github", want: "got no JWT", answer: `{"value":"hunter2"}`, env: map[string]string{"GITHUB_ACTIONS": "true", "ACTIONS_ID_TOKEN_REQUEST_URL": srv.URL, "ACTIONS_ID_TOKEN_REQUEST_TOKEN": "hunter2"}},
		{name: "gitlab", env: map[string]string{"GITLAB_CI": "true", "SIGSTORE_ID_TOKEN": jwt + "\n"}},
		{name: "gitlab", want: "id_tokens", env: map[string]string{"GITLAB_CI": "true"}},
		{name: "buildkite", env: map[string]string{"BUILDKITE": "true", "BUILDKITE_AGENT_ENDPOINT": srv.URL + "/v3", "BUILDKITE_AGENT_ACCESS_TOKEN": "hunter2", "BUILDKITE_JOB_ID": "7"},
			status: 201, answer: `{"token":"` + jwt + `"}`, request: `POST /v3/jobs/7/oidc/tokens Token hunter2 {"audience":"sigstore"}`},
		{name: "buildkite", want: "BUILDKITE_JOB_ID", env: map[string]string{"BUILDKITE": "true"}},
		{name: "circleci", env: map[string]string{"CIRCLECI": "true"}, script: [2]string{"circleci", `[ "$*" = 'run oidc get --claims {"aud":"sigstore"}' ] && echo ` + jwt}},
		{name: "circleci", want: "exit status 3", env: map[string]string{"CIRCLECI": "true"}, script: [2]string{"circleci", "exit 3"}},
		{name: "spiffe", env: map[string]string{"SPIFFE_ENDPOINT_SOCKET": "unix:///run/spire.sock"},
			script: [2]string{"spire-agent", `[ "$*" = "api fetch jwt -audience sigstore -socketPath /run/spire.sock -output json" ] && echo '[{"svids":[{"svid":"` + jwt + `"}]},{"bundles":{}}]'`}},
		{name: "spiffe", want: "no JWT-SVID", env: map[string]string{"SPIFFE_ENDPOINT_SOCKET": "unix:///run/spire.sock"}, script: [2]string{"spire-agent", "echo '[]'"}},
		{name: "google", env: map[string]string{"GCE_METADATA_HOST": strings.TrimPrefix(srv.URL, "http://")}, answer: jwt,
			request: "GET /computeMetadata/v1/instance/service-accounts/default/identity?audience=sigstore&format=full  "},
		{name: "google", want: "got no JWT", answer: "<html>", env: map[string]string{"GCE_METADATA_HOST": strings.TrimPrefix(srv.URL, "http://")}},
	} {
		t.Run(tt.name+" "+tt.want, func(t *testing.T) {
			alone(t)
			for name, value := range tt.env {
				t.Setenv(name, value)
			}
			if tt.script[0] != "" {
				program(t, tt.script[0], tt.script[1])
			}
			answer, asked, status = tt.answer, nil, max(tt.status, http.StatusOK)
			got, from, err := Ambient(t.Context())
			if from != tt.name || (err == nil) != (tt.want == "") || err == nil && got != jwt {
				t.Fatalf("got %q of %q, %v", got, from, err)
			}
			if err != nil && (!strings.Contains(err.Error(), tt.want) || strings.Contains(err.Error(), "hunter2")) {
				t.Errorf("got error %v, want %q and no secret in it", err, tt.want)
			}
			if tt.request != "" {
				if got := asked.Method + " " + asked.RequestURI + " " + asked.Header.Get("Authorization") + " " + body; got != tt.request {
					t.Errorf("request: got %q, want %q", got, tt.request)
				}
			}
		})
	}
}

func TestNoProvider(t *testing.T) {
	alone(t)
	if onGoogle() || exists(projected) {
		t.Skip("NOT HERE: this machine itself gives tokens")
	}
	if _, _, err := Ambient(t.Context()); !errors.Is(err, ErrNoProvider) {
		t.Errorf("got error %v", err)
	}
	if _, err := Get(t.Context(), "jenkins"); err == nil || !strings.Contains(err.Error(), "want one of github") {
		t.Errorf("got error %v", err)
	}
}

func TestFileAndCommand(t *testing.T) {
	file := filepath.Join(t.TempDir(), "token")
	for content, want := range map[string]string{
		jwt + "\n": jwt, "hunter2": "", "a.b": "", "a.b.c d": "", "a..c": "", "": "", "-----BEGIN PRIVATE KEY-----": "", strings.Repeat("a", 2<<20): "",
	} {
		if err := os.WriteFile(file, []byte(content), 0o600); err != nil {
			t.Fatal(err)
		}
		for name, get := range map[string]func() (string, error){
			"file":    func() (string, error) { return File(file) },
			"command": func() (string, error) { return Command(t.Context(), "cat '"+file+"'") },
		} {
			got, err := get()
			if got != want || (err == nil) != (want != "") {
				t.Errorf("%s with %.20q: got %q, %v", name, content, got, err)
			}
			if err != nil && strings.Contains(err.Error(), "hunter2") {
				t.Errorf("the error quotes what may be a secret: %v", err)
			}
		}
	}
	if _, err := Command(t.Context(), "echo "+jwt+"; exit 1"); err == nil {
		t.Error("got the token of a command that failed")
	}
	// A child of the command that stays must not keep us waiting.
	ctx, cancel := context.WithTimeout(t.Context(), 200*time.Millisecond)
	defer cancel()
	start := time.Now()
	if _, err := Command(ctx, "sleep 300 2>/dev/null & echo "+jwt); !errors.Is(err, context.DeadlineExceeded) || time.Since(start) > await.Patience {
		t.Errorf("got error %v after %s, want that of the context", err, time.Since(start))
	}
}

func TestDescribe(t *testing.T) {
	of := func(claims string) string {
		return "h." + base64.RawURLEncoding.EncodeToString([]byte(claims)) + ".sig"
	}
	got := Describe(of(`{"iss":"https://i","sub":"s","aud":["a","b"],"exp":1}`))
	for _, want := range []string{`issuer "https://i"`, `subject "s"`, `["a" "b"]`, "1970-01-01T00:00:01Z", "ago"} {
		if !strings.Contains(got, want) {
			t.Errorf("got %q, want %q in it", got, want)
		}
	}
	if strings.Contains(got, "sig") {
		t.Errorf("it has the signature: %s", got)
	}
	for _, bad := range []string{"", "hunter2", "a.!.c", of("hunter2"), of(`{"exp":"x"}`)} {
		if got := Describe(bad); !strings.HasPrefix(got, "the token ") || strings.Contains(got, "hunter2") {
			t.Errorf("%q: got %q", bad, got)
		}
	}
}

// login is an OIDC issuer at which the person with this browser is logged in.
type login struct {
	*httptest.Server
	t       *testing.T
	signer  jose.Signer
	asked   url.Values // of the page that the browser opened
	refused bool
	wrong   string // what the issuer does wrong
}

func newLogin(t *testing.T) *login {
	private, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	key := jose.JSONWebKey{Key: private, KeyID: "1", Algorithm: "ES256", Use: "sig"}
	signer, err := jose.NewSigner(jose.SigningKey{Algorithm: jose.ES256, Key: key}, nil)
	if err != nil {
		t.Fatal(err)
	}
	l := &login{t: t, signer: signer}
	mux := http.NewServeMux()
	l.Server = httptest.NewServer(mux)
	t.Cleanup(l.Close)
	answer := func(v any) http.HandlerFunc {
		return func(w http.ResponseWriter, _ *http.Request) {
			w.Header().Set("Content-Type", "application/json")
			json.NewEncoder(w).Encode(v)
		}
	}
	mux.HandleFunc("GET /.well-known/openid-configuration", answer(map[string]any{"issuer": l.URL, "jwks_uri": l.URL + "/keys", "authorization_endpoint": l.URL + "/auth", "token_endpoint": l.URL + "/token", "id_token_signing_alg_values_supported": []string{"ES256"}}))
	mux.HandleFunc("GET /keys", answer(jose.JSONWebKeySet{Keys: []jose.JSONWebKey{key.Public()}}))
	mux.HandleFunc("GET /auth", func(w http.ResponseWriter, r *http.Request) {
		l.asked = r.URL.Query()
		back := url.Values{"state": {l.asked.Get("state")}, "code": {"the-code"}}
		if l.refused {
			back = url.Values{"state": {l.asked.Get("state")}, "error": {"access_denied"}}
		}
		http.Redirect(w, r, l.asked.Get("redirect_uri")+"?"+back.Encode(), http.StatusFound)
	})
	mux.HandleFunc("POST /token", l.exchange)
	return l
}

func (l *login) exchange(w http.ResponseWriter, r *http.Request) {
	challenge := oauth2.S256ChallengeFromVerifier(r.FormValue("code_verifier"))
	if r.FormValue("code") != "the-code" || challenge != l.asked.Get("code_challenge") {
		http.Error(w, `{"error":"invalid_grant"}`, http.StatusBadRequest)
		return
	}
	claims := map[string]any{"iss": l.URL, "sub": "ada", "aud": Audience, "exp": time.Now().Add(time.Minute).Unix(), "nonce": l.asked.Get("nonce")}
	switch l.wrong {
	case "nonce", "aud", "iss":
		claims[l.wrong] = "other"
	}
	payload, _ := json.Marshal(claims)
	signed, err := l.signer.Sign(payload)
	if err != nil {
		l.t.Error(err)
		return
	}
	raw, _ := signed.CompactSerialize()
	w.Header().Set("Content-Type", "application/json")
	json.NewEncoder(w).Encode(map[string]any{"access_token": "x", "token_type": "Bearer", "id_token": raw})
}

// person opens the page that Browser names.
type person struct {
	t    *testing.T
	said strings.Builder
}

func (p *person) Write(text []byte) (int, error) {
	p.said.Write(text)
	_, page, _ := strings.Cut(strings.TrimSpace(string(text)), ": ")
	go func() {
		resp, err := http.Get(page)
		if err != nil {
			p.t.Error(err)
			return
		}
		resp.Body.Close()
	}()
	return len(text), nil
}

func TestBrowser(t *testing.T) {
	opened := filepath.Join(t.TempDir(), "opened")
	program(t, "xdg-open", `echo opened >>'`+opened+`'`)
	for name, tt := range map[string]struct {
		refused bool
		wrong   string
		want    string
	}{
		"logged in":        {},
		"refused":          {refused: true, want: "access_denied"},
		"another login":    {wrong: "nonce", want: "of another login"},
		"another audience": {wrong: "aud", want: "does not verify"},
		"another issuer":   {wrong: "iss", want: "does not verify"},
	} {
		t.Run(name, func(t *testing.T) {
			l := newLogin(t)
			l.refused, l.wrong = tt.refused, tt.wrong
			ada := &person{t: t}
			got, err := Browser(t.Context(), l.URL, ada)
			if (err == nil) != (tt.want == "") || err != nil && !strings.Contains(err.Error(), tt.want) {
				t.Fatalf("got %q, %v, want %q", got, err, tt.want)
			}
			if err == nil {
				if _, err := oidc.NewVerifier(l.URL, oidc.NewRemoteKeySet(t.Context(), l.URL+"/keys"), &oidc.Config{ClientID: Audience, SupportedSigningAlgs: []string{oidc.ES256}}).Verify(t.Context(), got); err != nil {
					t.Error(err)
				}
			}
			if !strings.Contains(ada.said.String(), l.URL+"/auth?") {
				t.Errorf("it does not say which page to open: %s", &ada.said)
			}
		})
	}
	// One for each login; the last may still start.
	await.True(t, "the browser was started five times", func() bool {
		raw, _ := os.ReadFile(opened)
		return strings.Count(string(raw), "\n") == 5
	})
	if _, err := Browser(t.Context(), "http://issuer.example.com", io.Discard); err == nil || !strings.Contains(err.Error(), "https") {
		t.Errorf("got error %v", err)
	}
}

// Another page in the person's browser cannot hand over a login of its own.
func TestCallbackOfAnotherPage(t *testing.T) {
	done := make(chan answer, 1)
	srv := httptest.NewServer(callback("the-state", done))
	defer srv.Close()
	for _, query := range []string{"?code=mine", "?code=mine&state=", "?code=mine&state=the-state2"} {
		resp, err := http.Get(srv.URL + "/callback" + query)
		if err != nil {
			t.Fatal(err)
		}
		resp.Body.Close()
		if resp.StatusCode != http.StatusBadRequest || len(done) != 0 {
			t.Errorf("%s: got status %d, %d answers", query, resp.StatusCode, len(done))
		}
	}
}
