package token

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/url"
	"os/exec"
	"runtime"
	"time"

	"github.com/coreos/go-oidc/v3/oidc"
	"golang.org/x/oauth2"

	"github.com/colophon-build/colophon/internal/loopback"
	"github.com/colophon-build/colophon/internal/reach"
)

// PublicIssuer is the OIDC issuer at which people log in for the public Sigstore instance.
const PublicIssuer = "https://oauth2.sigstore.dev/auth"

// Browser lets a person log in at an OIDC issuer with a browser, and returns the token: the
// authorization code flow of OpenID Connect Core 1.0, with PKCE (RFC 7636) and a redirect to
// a port on loopback (RFC 8252). The client id is Audience. Browser writes to w which page
// it opens, in case that it opens nowhere. It waits until ctx ends.
func Browser(ctx context.Context, issuer string, w io.Writer) (string, error) {
	token, err := browser(ctx, issuer, w)
	if err == nil {
		token, err = check([]byte(token))
	}
	if err != nil {
		return "", fmt.Errorf("login at %s: %w", issuer, err)
	}
	return token, nil
}

func browser(ctx context.Context, issuer string, w io.Writer) (string, error) {
	if u, err := url.Parse(issuer); err != nil || !loopback.OrTLS(u) {
		return "", errors.New("want an https URL")
	}
	ctx = oidc.ClientContext(ctx, &http.Client{Timeout: timeout, CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse }})
	provider, err := oidc.NewProvider(ctx, issuer)
	if err != nil {
		return "", reach.Explain(err)
	}
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return "", err
	}
	config := oauth2.Config{ClientID: Audience, Endpoint: provider.Endpoint(), RedirectURL: "http://" + l.Addr().String() + "/callback", Scopes: []string{oidc.ScopeOpenID, "email"}}
	state, nonce, verifier := rand.Text(), rand.Text(), oauth2.GenerateVerifier()
	page := config.AuthCodeURL(state, oidc.Nonce(nonce), oauth2.S256ChallengeOption(verifier))
	done := make(chan answer, 1)
	srv := &http.Server{Handler: callback(state, done), ReadHeaderTimeout: timeout}
	go srv.Serve(l)
	defer srv.Close()
	fmt.Fprintf(w, "log in with a browser: %s\n", page)
	open(page)
	var got answer
	select {
	case got = <-done:
		// The browser still reads the page that says so.
		closing, cancel := context.WithTimeout(ctx, time.Second)
		defer cancel()
		srv.Shutdown(closing)
	case <-ctx.Done():
		return "", context.Cause(ctx)
	}
	if got.err != nil {
		return "", got.err
	}
	tokens, err := config.Exchange(ctx, got.code, oauth2.VerifierOption(verifier))
	if err != nil {
		if refused, ok := errors.AsType[*oauth2.RetrieveError](err); ok {
			return "", fmt.Errorf("the issuer refused the login: %q", refused.ErrorCode) // the body may quote secrets
		}
		return "", reach.Explain(err)
	}
	raw, _ := tokens.Extra("id_token").(string)
	id, err := provider.Verifier(&oidc.Config{ClientID: Audience}).Verify(ctx, raw)
	if err != nil {
		return "", errors.New("the issuer's token does not verify")
	}
	if id.Nonce != nonce {
		return "", errors.New("the issuer's token is of another login")
	}
	return raw, nil
}

// answer is what the issuer sends back through the browser.
type answer struct {
	code string
	err  error
}

// callback serves the page to which the issuer redirects the browser. Other pages that the
// person has open may call it, too; they do not know the state.
func callback(state string, done chan<- answer) http.Handler {
	mux := http.NewServeMux()
	mux.HandleFunc("GET /callback", func(w http.ResponseWriter, r *http.Request) {
		query := r.URL.Query()
		if query.Get("state") != state {
			http.Error(w, "This is not the login that colophon waits for.", http.StatusBadRequest)
			return
		}
		a := answer{code: query.Get("code")}
		said := "You are logged in. Close this page, and go back to the terminal."
		if a.code == "" {
			a.err = fmt.Errorf("the issuer refused the login: %q", query.Get("error"))
			said = "The login failed. The terminal says why."
		}
		select {
		case done <- a:
		default: // answered already
		}
		w.Header().Set("Content-Type", "text/plain; charset=utf-8")
		io.WriteString(w, said+"\n")
	})
	return mux
}

// open opens a page in the person's browser, if there is one.
func open(page string) {
	program, args := "xdg-open", []string{page}
	switch runtime.GOOS {
	case "darwin":
		program = "open"
	case "windows":
		program, args = "rundll32", []string{"url.dll,FileProtocolHandler", page}
	}
	cmd := exec.Command(program, args...)
	if cmd.Start() == nil {
		go cmd.Wait()
	}
}
