package credentials

import (
	"crypto/ed25519"
	"crypto/rand"
	"crypto/rsa"
	"crypto/x509"
	"encoding/base64"
	"encoding/json"
	"encoding/pem"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/go-jose/go-jose/v4"
	"golang.org/x/crypto/ssh"
)

const secret = "hunter2hunter2"

// put writes a file that only its owner may read.
func put(t *testing.T, dir, name string, content []byte) string {
	t.Helper()
	path := filepath.Join(dir, name)
	if err := os.WriteFile(path, content, 0o600); err != nil {
		t.Fatal(err)
	}
	return path
}

func read(t *testing.T, text string) *Set {
	t.Helper()
	s, err := Read(put(t, t.TempDir(), "credentials.json", []byte(text)))
	if err != nil {
		t.Fatal(err)
	}
	return s
}

// TestTenants: a build gets the credentials of its own source alone, whatever another
// repository is called.
func TestTenants(t *testing.T) {
	s := read(t, `{"downloads": [
		{"url": "https://npm.example.com/a", "token": "`+secret+`a", "for": ["https://git.example.com/a"]},
		{"url": "https://npm.example.com/b", "token": "`+secret+`b", "for": ["https://git.example.com/b", "ssh://git@git.example.com/b", "file:///srv/b"]},
		{"url": "https://npm.example.com/a", "token": "`+secret+`c", "for": ["https://git.example.com/c/app"]}
	]}`)
	for uri, want := range map[string]string{
		"https://git.example.com/a/app":              "a",
		"https://git.example.com/b/app":              "b",
		"https://git.example.com/c/app":              "c",
		"ssh://git@git.example.com/b/app.git":        "b",
		"file:///srv/b/app":                          "b",
		"https://git.example.com/c/other":            "",
		"https://git.example.com/ab/app":             "",
		"https://git.example.com/x/a":                "",
		"https://git.example.com/A/app":              "",
		"https://git.example.com/a/../b/app":         "",
		"https://git.example.com/a/%2e%2e/b/app":     "",
		"https://git.example.com:8443/a/app":         "",
		"http://git.example.com/a/app":               "",
		"https://git.example.com.evil.example/a/app": "",
		"https://evil.example/git.example.com/a/app": "",
		"https://evil.example/a/app":                 "",
		"ssh://mallory@git.example.com/b/app":        "",
		"ssh://git@git.example.com/a/app":            "",
		"file:///srv/bb/app":                         "",
		"":                                           "",
	} {
		got, err := s.ForDownloads(t.Context(), uri)
		said := ""
		for _, c := range got {
			said += strings.TrimPrefix(c.Authorization, "Bearer "+secret)
		}
		if err != nil || said != want {
			t.Errorf("%s: got credentials %q (%v), want %q", uri, said, err, want)
		}
		if text := fmt.Sprintf("%v %+v %s", got, got, s.Downloads); strings.Contains(text, "hunter2") {
			t.Errorf("a secret in %q", text)
		}
	}
	for added, want := range map[string]string{"https://npm.example.com/b/lib": "Bearer " + secret + "b", "https://npm.example.com/a/lib": "", "https://git.example.com/b/lib": ""} {
		c, err := s.ForAdded(t.Context(), "https://git.example.com/b/app", added)
		got := ""
		if c != nil {
			got = c.Authorization
		}
		if err != nil || got != want {
			t.Errorf("a build of b that adds %s: got %q, %v, want %q", added, got, err, want)
		}
	}
}

func TestSources(t *testing.T) {
	s := read(t, `{"sources": [
		{"url": "https://git.example.com/org", "user": "x", "password": "`+secret+`"},
		{"url": "https://git.example.com/org/app.git", "token": "`+secret+`"}
	]}`)
	basic := "Basic " + base64.StdEncoding.EncodeToString([]byte("x:"+secret))
	for uri, want := range map[string]string{
		"https://git.example.com/org/other": basic, "git.example.com/org/app": "Bearer " + secret, "https://git.example.com/org/app.git": "Bearer " + secret,
		"https://git.example.com/organisation/app": "", "https://git.example.com/other": "", "git@git.example.com:org/app": "", "": "",
	} {
		c, err := s.ForSource(t.Context(), uri)
		got := ""
		if c != nil {
			got = c.Authorization
		}
		if err != nil || got != want {
			t.Errorf("%s: got %q, %v, want %q", uri, got, err, want)
		}
	}
	for added, want := range map[string]string{"https://git.example.com/org/lib": basic, "https://git.example.com/org/app": basic, "https://git.example.com/other": ""} {
		c, err := s.ForAdded(t.Context(), "https://git.example.com/org/other", added)
		got := ""
		if c != nil {
			got = c.Authorization
		}
		if err != nil || got != want {
			t.Errorf("a build that adds %s: got %q, %v, want %q", added, got, err, want)
		}
	}
	var none *Set
	if c, err := none.ForSource(t.Context(), "https://git.example.com/org/app"); c != nil || err != nil {
		t.Errorf("got %v, %v without credentials", c, err)
	}
}

func TestFilesThatAreRefused(t *testing.T) {
	dir := t.TempDir()
	_, private, err := ed25519.GenerateKey(rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	block, err := ssh.MarshalPrivateKey(private, "")
	if err != nil {
		t.Fatal(err)
	}
	put(t, dir, "key", pem.EncodeToMemory(block))
	if block, err = ssh.MarshalPrivateKeyWithPassphrase(private, "", []byte("x")); err != nil {
		t.Fatal(err)
	}
	put(t, dir, "locked", pem.EncodeToMemory(block))
	put(t, dir, "junk", []byte("junk"))
	if err := os.WriteFile(filepath.Join(dir, "open"), []byte("x"), 0o644); err != nil {
		t.Fatal(err)
	}
	host, err := ssh.NewPublicKey(private.Public())
	if err != nil {
		t.Fatal(err)
	}
	line := "git.example.com " + strings.TrimSpace(string(ssh.MarshalAuthorizedKey(host)))
	good := func(known string) string {
		return `{"sources": [{"url": "ssh://git@git.example.com/org", "keyFile": "key", "knownHosts": ["` + known + `"]}]}`
	}
	if s, err := Read(put(t, dir, "c.json", []byte(good(line)))); err != nil || len(s.Sources[0].Key) == 0 {
		t.Errorf("got %v", err)
	}
	for text, want := range map[string]string{
		`{"source": []}`: "did you mean",
		`{"sources": [{"url": "https://git.example.com/org"}]}`:                                                                                                "exactly one of",
		`{"sources": [{"url": "https://git.example.com/org", "user": "x"}]}`:                                                                                   "exactly one of",
		`{"sources": [{"url": "https://git.example.com/org", "password": "hunter2hunter2"}]}`:                                                                  "belong together",
		`{"sources": [{"url": "https://git.example.com/org", "user": "x", "password": "hunter2hunter2", "token": "hunter2hunter2"}]}`:                          "exactly one of",
		`{"sources": [{"url": "https://git.example.com/org", "token": "hunter2"}]}`:                                                                            "too short",
		`{"sources": [{"url": "https://git.example.com/org", "token": "hunter2hunter2\n"}]}`:                                                                   "has a space",
		`{"sources": [{"url": "http://git.example.com/org", "token": "hunter2hunter2"}]}`:                                                                      "plain http",
		`{"sources": [{"url": "https://x:hunter2hunter2@git.example.com/org", "token": "hunter2hunter2"}]}`:                                                    "without a user",
		`{"sources": [{"url": "https://git.example.com/org/../a", "token": "hunter2hunter2"}]}`:                                                                "expected a path",
		`{"sources": [{"url": "https://git.example.com/org", "token": "hunter2hunter2"}, {"url": "https://git.example.com/org/", "token": "hunter2hunter2"}]}`: "one url",
		`{"sources": [{"url": "ssh://git@git.example.com/org", "token": "hunter2hunter2"}]}`:                                                                   "ssh takes",
		`{"sources": [{"url": "ssh://git@git.example.com/org", "keyFile": "key"}]}`:                                                                            "ssh takes",
		`{"sources": [{"url": "ssh://git@git.example.com/org", "key": "aHVudGVyMg==", "knownHosts": ["x"]}]}`:                                                  "not a field",
		strings.Replace(good(line), `"key"`, `"locked"`, 1):                                                                                                    "passphrase",
		strings.Replace(good(line), `"key"`, `"junk"`, 1):                                                                                                      "junk",
		strings.Replace(good(line), `"key"`, `"open"`, 1):                                                                                                      "chmod 600",
		strings.Replace(good(line), `"key"`, `"none"`, 1):                                                                                                      "no such file",
		good("*" + line[3:]):             "knownHosts",
		good("@cert-authority " + line):  "knownHosts",
		good("evil.example" + line[15:]): "knownHosts",
		good(line + "\\n" + line):        "one line",
		good(""):                         "knownHosts",
		`{"sources": [{"url": "https://github.com/org", "githubApp": {"appID": 1, "installationID": 2}}]}`:                                                                                                                             "keyFile",
		`{"sources": [{"url": "https://github.com/org", "githubApp": {"appID": 1, "installationID": 2, "keyFile": "key"}}]}`:                                                                                                           "RSA",
		`{"sources": [{"url": "https://github.com/org", "githubApp": {"appID": 1, "installationID": 2, "keyFile": "key", "api": "http://a.example"}}]}`:                                                                                "api",
		`{"downloads": [{"url": "https://npm.example.com/a", "token": "hunter2hunter2"}]}`:                                                                                                                                             "for: expected",
		`{"downloads": [{"url": "https://npm.example.com/a", "token": "hunter2hunter2", "for": ["https://git.example.com/*"]}]}`:                                                                                                       "for: expected",
		`{"downloads": [{"url": "https://npm.example.com", "token": "hunter2hunter2", "for": ["https://git.example.com/a"]}]}`:                                                                                                         "expected a path",
		`{"downloads": [{"url": "ssh://npm.example.com/a", "token": "hunter2hunter2", "for": ["https://git.example.com/a"]}]}`:                                                                                                         "expected https",
		`{"downloads": [{"url": "https://r.example.com/v2/a", "token": "hunter2hunter2", "realm": "https://r.example.com/token", "for": ["https://git.example.com/a"]}]}`:                                                              "takes user and password",
		`{"downloads": [{"url": "https://r.example.com/a", "user": "x", "password": "hunter2hunter2", "realm": "https://r.example.com/token", "for": ["https://git.example.com/a"]}]}`:                                                 "/v2/",
		`{"downloads": [{"url": "https://r.example.com/v2/a", "user": "x", "password": "hunter2hunter2", "realm": "http://r.example.com/token", "for": ["https://git.example.com/a"]}]}`:                                               "realm: expected",
		`{"downloads": [{"url": "https://npm.example.com/a", "token": "hunter2hunter2", "for": ["https://git.example.com"]}, {"url": "https://npm.example.com/a/", "token": "hunter2hunter2", "for": ["https://git.example.com/a"]}]}`: "may use both",
	} {
		_, err := Read(put(t, dir, "c.json", []byte(text)))
		if err == nil || !strings.Contains(err.Error(), want) || strings.Contains(err.Error(), secret) {
			t.Errorf("%s: got %v, want an error with %q and without the secret", text, err, want)
		}
	}
}

// TestOthersMayNotRead: a file that others could have read is refused.
func TestOthersMayNotRead(t *testing.T) {
	file := put(t, t.TempDir(), "credentials.json", []byte(`{}`))
	for _, mode := range []os.FileMode{0o640, 0o604, 0o644, 0o660, 0o610} {
		if err := os.Chmod(file, mode); err != nil {
			t.Fatal(err)
		}
		if _, err := Read(file); err == nil || !strings.Contains(err.Error(), "chmod") {
			t.Errorf("mode %04o: got %v, want a refusal", mode, err)
		}
	}
	if err := os.Chmod(file, 0o600); err != nil {
		t.Fatal(err)
	}
	if _, err := Read(file); err != nil {
		t.Error(err)
	}
	if _, err := Read(file + ".none"); err == nil {
		t.Error("a missing file has no credentials")
	}
}

// TestGitHubApp: the token is asked of the API with a JWT of the app, for reading only, and
// kept until it is about to expire. The key goes nowhere.
func TestGitHubApp(t *testing.T) {
	key, err := rsa.GenerateKey(rand.Reader, 2048)
	if err != nil {
		t.Fatal(err)
	}
	asked, life := 0, time.Hour
	redirect := ""
	api := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if redirect != "" {
			http.Redirect(w, r, redirect, http.StatusTemporaryRedirect)
			return
		}
		asked++
		body, _ := io.ReadAll(r.Body)
		jwt, err := jose.ParseSigned(strings.TrimPrefix(r.Header.Get("Authorization"), "Bearer "), []jose.SignatureAlgorithm{jose.RS256})
		if err != nil || r.Method != "POST" || r.URL.Path != "/app/installations/2/access_tokens" || string(body) != `{"permissions":{"contents":"read"}}` {
			t.Errorf("got %s %s %s, %v", r.Method, r.URL, body, err)
			return
		}
		var claims struct {
			Iss      string
			Iat, Exp int64
		}
		raw, err := jwt.Verify(key.Public())
		if err == nil {
			err = json.Unmarshal(raw, &claims)
		}
		if err != nil || claims.Iss != "1" || claims.Exp-claims.Iat > 600 || claims.Iat > time.Now().Unix() {
			t.Errorf("got claims %+v, %v", claims, err)
		}
		w.WriteHeader(http.StatusCreated)
		fmt.Fprintf(w, `{"token":"ghs_%s%d","expires_at":%q,"permissions":{}}`, secret, asked, time.Now().Add(life).UTC().Format(time.RFC3339))
	}))
	defer api.Close()
	dir := t.TempDir()
	put(t, dir, "app.pem", pem.EncodeToMemory(&pem.Block{Type: "RSA PRIVATE KEY", Bytes: x509.MarshalPKCS1PrivateKey(key)}))
	app := `"githubApp": {"appID": 1, "installationID": 2, "keyFile": "app.pem", "api": "` + api.URL + `"}`
	s, err := Read(put(t, dir, "credentials.json", []byte(`{"sources": [{"url": "https://github.com/org", `+app+`}],
		"downloads": [{"url": "https://github.com/org", `+app+`, "for": ["https://github.com/org"]}]}`)))
	if err != nil {
		t.Fatal(err)
	}
	raw, err := json.Marshal(s) // as serve hands it to the attestor
	if err != nil {
		t.Fatal(err)
	}
	s = &Set{}
	if err := json.Unmarshal(raw, s); err != nil {
		t.Fatal(err)
	}
	want := func(n int) string {
		return "Basic " + base64.StdEncoding.EncodeToString(fmt.Appendf(nil, "x-access-token:ghs_%s%d", secret, n))
	}
	fetch := func(n int) {
		t.Helper()
		if c, err := s.ForSource(t.Context(), "https://github.com/org/app"); err != nil || c.Authorization != want(n) {
			t.Errorf("got %+v, %v, want token %d", c, err, n)
		}
	}
	fetch(1)
	fetch(1)
	if c, err := s.ForDownloads(t.Context(), "https://github.com/org/app"); err != nil || len(c) != 1 || c[0].Authorization != want(1) {
		t.Errorf("got %+v, %v, want token 1", c, err)
	}
	life = 10 * time.Minute // of the next one
	s.apps.tokens = nil
	fetch(2)
	fetch(3)
	redirect = "https://evil.example/"
	if _, err := s.ForSource(t.Context(), "https://github.com/org/app"); err == nil || !strings.Contains(err.Error(), "307") {
		t.Errorf("got %v, want that a redirect is not followed", err)
	}
}
