// Package token gets OIDC tokens for package sign: from the CI system or machine that
// this process runs on, from a file or a command, or from a person with a browser.
//
// A token is a secret. The package does not write it to a file or a log, and no error
// contains it. It trusts nothing in a token: the certificate authority verifies it.
package token

import (
	"bytes"
	"context"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"net/url"
	"os"
	"os/exec"
	"strings"
	"time"

	"github.com/colophon-build/colophon/internal/limits"
	"github.com/colophon-build/colophon/internal/loopback"
	"github.com/colophon-build/colophon/internal/reach"
	"github.com/colophon-build/colophon/internal/strict"
)

// Audience is the audience (aud) that Sigstore's certificate authorities and Colophon's
// expect of a token.
const Audience = "sigstore"

const timeout = 30 * time.Second // of one request

// provider is a CI system or machine that gives tokens to what runs on it.
type provider struct {
	name    string
	present func() bool
	get     func(context.Context) (string, error)
}

// providers are in the order in which Ambient asks them: what is closest to the job first.
// A CI job can run on a machine of a cloud that gives tokens too.
func providers() []provider {
	return []provider{
		{"github", func() bool { return os.Getenv("GITHUB_ACTIONS") == "true" }, github},
		{"gitlab", func() bool { return os.Getenv("GITLAB_CI") == "true" }, gitlab},
		{"buildkite", func() bool { return os.Getenv("BUILDKITE") == "true" }, buildkite},
		{"circleci", func() bool { return os.Getenv("CIRCLECI") == "true" }, circleci},
		{"kubernetes", func() bool { return exists(projected) }, kubernetes},
		{"spiffe", func() bool { return os.Getenv("SPIFFE_ENDPOINT_SOCKET") != "" }, spiffe},
		{"google", onGoogle, google},
	}
}

// Providers returns the names of the providers, for Get.
func Providers() (names []string) {
	for _, p := range providers() {
		names = append(names, p.name)
	}
	return names
}

// ErrNoProvider means that this process runs on no CI system or machine that gives tokens.
var ErrNoProvider = errors.New("nothing here gives an OIDC token")

// Ambient returns a token of the provider that this process runs on, and the provider's
// name. Without one, the error is ErrNoProvider. If the provider gives no token, the error
// says what to change in the configuration of the job; no other provider is asked then,
// since its identity would be another one.
func Ambient(ctx context.Context) (token, name string, err error) {
	for _, p := range providers() {
		if p.present() {
			token, err = Get(ctx, p.name)
			return token, p.name, err
		}
	}
	return "", "", ErrNoProvider
}

// Get returns a token of the provider with this name.
func Get(ctx context.Context, name string) (string, error) {
	for _, p := range providers() {
		if p.name == name {
			token, err := p.get(ctx)
			if err == nil {
				token, err = check([]byte(token))
			}
			if err != nil {
				return "", fmt.Errorf("token of %s: %w", name, err)
			}
			return token, nil
		}
	}
	return "", fmt.Errorf("token: got provider %q, want one of %s", name, strings.Join(Providers(), ", "))
}

// File reads a token from a file.
func File(path string) (string, error) {
	raw, err := strict.ReadFile(path, limits.Request)
	if err != nil {
		return "", err
	}
	token, err := check(raw)
	if err != nil {
		return "", fmt.Errorf("%s: %w", path, err)
	}
	return token, nil
}

// Command runs a command of a shell, and returns the token that it prints.
func Command(ctx context.Context, command string) (string, error) {
	raw, err := run(ctx, environ(), "sh", "-c", command)
	if err == nil {
		var token string
		if token, err = check(raw); err == nil {
			return token, nil
		}
	}
	return "", fmt.Errorf("token of the command: %w", err)
}

// check returns the token without the white space around it, and fails if it has not the
// form of a JWT (RFC 7519): what is no token may be another secret, and is sent to nobody.
func check(raw []byte) (string, error) {
	token := string(bytes.TrimSpace(raw))
	parts := strings.Split(token, ".")
	good := len(parts) == 3
	for _, p := range parts {
		good = good && p != "" && strings.Trim(p, "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_") == ""
	}
	if !good {
		return "", errors.New("got no JWT")
	}
	return token, nil
}

// run runs a program and returns what it prints. Its standard error is the user's.
func run(ctx context.Context, env []string, program string, args ...string) ([]byte, error) {
	ctx, cancel := context.WithTimeout(ctx, timeout)
	defer cancel()
	cmd := exec.CommandContext(ctx, program, args...)
	cmd.Env = env
	out, err := cmd.StdoutPipe()
	if err != nil {
		return nil, err
	}
	cmd.Stderr = os.Stderr
	if err := cmd.Start(); err != nil {
		return nil, err
	}
	defer context.AfterFunc(ctx, func() { out.Close() })() // a child of it may hold the pipe
	raw, readErr := strict.Read(out, limits.Request)
	if errors.Is(readErr, os.ErrClosed) {
		readErr = fmt.Errorf("%s: %w", program, ctx.Err())
	}
	if readErr != nil {
		cancel() // what it still prints is not read
	}
	if err := cmd.Wait(); err != nil && readErr == nil {
		return nil, fmt.Errorf("%s: %w", program, err)
	}
	return raw, readErr
}

// ask sends a request and reads a JSON answer into v, or text if v is a *string.
func ask(req *http.Request, v any) error {
	client := &http.Client{
		Timeout: timeout,
		// The credential in the request must not follow a redirect.
		CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse },
	}
	req.Header.Set("User-Agent", "colophon")
	resp, err := client.Do(req)
	if err != nil {
		return reach.Explain(err)
	}
	defer resp.Body.Close()
	if resp.StatusCode != http.StatusOK && resp.StatusCode != http.StatusCreated {
		return fmt.Errorf("%s: got status %d, want 200", req.URL.Host, resp.StatusCode)
	}
	raw, err := strict.Read(resp.Body, limits.Request)
	if err != nil {
		return fmt.Errorf("%s: %w", req.URL.Host, err)
	}
	if text, ok := v.(*string); ok {
		*text = string(raw)
		return nil
	}
	if err := json.Unmarshal(raw, v); err != nil {
		return fmt.Errorf("%s: got an answer that is not the JSON expected", req.URL.Host) // the error could quote the token
	}
	return nil
}

// private fails if others on the network could read what is sent to an address.
func private(variable, address string) (*url.URL, error) {
	u, err := url.Parse(address)
	if err != nil || u.Host == "" || !loopback.OrTLS(u) {
		return nil, fmt.Errorf("%s: want an https URL", variable)
	}
	return u, nil
}

func exists(path string) bool {
	_, err := os.Stat(path)
	return err == nil
}

// Describe says for people what a token claims: who gave it to whom, for which audience and
// until when. It does not verify the token, and says nothing that could be used as one.
func Describe(token string) string {
	parts := strings.Split(token, ".")
	if len(parts) != 3 {
		return "the token is no JWT"
	}
	raw, err := base64.RawURLEncoding.DecodeString(parts[1])
	var claims struct {
		Issuer   string `json:"iss"`
		Subject  string `json:"sub"`
		Audience any    `json:"aud"` // a string, or several
		Expires  int64  `json:"exp"`
	}
	if err != nil || json.Unmarshal(raw, &claims) != nil {
		return "the token has no claims that can be read"
	}
	said := fmt.Sprintf("the token says: issuer %q, subject %q, audience %q", claims.Issuer, claims.Subject, claims.Audience)
	if claims.Expires > 0 {
		at := time.Unix(claims.Expires, 0).UTC()
		said += ", expires at " + at.Format(time.RFC3339)
		if left := time.Until(at); left < 0 {
			said += fmt.Sprintf(", which was %s ago", left.Abs().Round(time.Second))
		}
	}
	return said
}
