// Package reach says in words for people why a server could not be reached. It tells
// failures of net, crypto/tls, crypto/x509 and net/http apart by their types, never by
// their texts.
package reach

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/url"
	"strings"
	"syscall"
	"time"
)

// Failure says why a server could not be reached.
type Failure string

const (
	NoAddress    Failure = "its name has no address"
	NoResolver   Failure = "its name could not be looked up"
	Refused      Failure = "nothing listens there (connection refused)"
	NoRoute      Failure = "no route leads there"
	Late         Failure = "it did not answer in time"
	Closed       Failure = "it closed the connection without an answer"
	NotTrusted   Failure = "its certificate is from an authority that this machine does not trust"
	OtherName    Failure = "its certificate is for another name"
	NotValid     Failure = "its certificate is not valid"
	NotTLS       Failure = "it does not speak TLS"
	NoConnection Failure = "the connection failed"
)

// Error is a request that got no answer.
type Error struct {
	Server string // HOST[:PORT]
	Why    Failure
	detail string // what the types say beside Why
	err    error
}

func (e *Error) Error() string {
	s := fmt.Sprintf("%s cannot be reached: %s", e.Server, e.Why)
	if e.detail != "" {
		s += ": " + e.detail
	}
	return s
}

func (e *Error) Unwrap() error { return e.err }

// Explain returns an *Error for err, which a request to a server gave. If the caller's own
// check or context ended the request, it returns the reason of that. Another error, and nil,
// is returned as it is.
func Explain(err error) error {
	_, explained := errors.AsType[*Error](err)
	sent, ok := errors.AsType[*url.Error](err)
	if !ok || explained {
		return err
	}
	e := &Error{err: err}
	if u, parse := url.Parse(sent.URL); parse == nil {
		e.Server = u.Host
	}
	if via, ok := errors.AsType[*net.OpError](err); ok && via.Op == "proxyconnect" {
		e.detail = "through the proxy that the environment names"
	}
	if private, ok := errors.AsType[*PrivateError](err); ok {
		return &own{e.Server, private}
	}
	if leads, ok := errors.AsType[*redirectError](err); ok {
		return leads
	}
	if e.Why = failure(sent.Err); e.Why == "" {
		// Not a failure of the network: the reason is the caller's own.
		return &own{e.Server, sent.Err}
	}
	if e.Why == OtherName || e.Why == NotValid {
		e.detail = certificate(err)
	}
	return e
}

// redirectError means that a server leads elsewhere, and must not.
type redirectError struct{ from, to *url.URL }

func (e *redirectError) Error() string {
	return fmt.Sprintf("%s leads to %s, and redirects are not followed", withoutQuery(e.from), withoutQuery(e.to))
}

func withoutQuery(u *url.URL) string {
	return (&url.URL{Scheme: u.Scheme, Host: u.Host, Path: u.Path, RawPath: u.RawPath}).String()
}

// NoRedirect is a CheckRedirect of http.Client that refuses all redirects: another host must not answer for the one that was asked.
func NoRedirect(to *http.Request, via []*http.Request) error {
	return &redirectError{via[0].URL, to.URL}
}

// own is the reason for which a caller itself ended a request.
type own struct {
	server string
	err    error
}

func (o *own) Error() string {
	if o.server == "" { // of a redirect to another path, which names no server
		return o.err.Error()
	}
	if o.err == context.Canceled {
		return o.server + ": the request was interrupted"
	}
	return o.server + ": " + o.err.Error()
}

func (o *own) Unwrap() error { return o.err }

// failure tells the kinds apart. It returns "" for an error of the caller.
func failure(err error) Failure {
	name, isName := errors.AsType[*net.DNSError](err)
	_, notTLS := errors.AsType[tls.RecordHeaderError](err)
	_, op := errors.AsType[*net.OpError](err)
	_, refused := errors.AsType[tls.AlertError](err)
	late, isLate := errors.AsType[net.Error](err)
	switch {
	case isName && name.IsNotFound:
		return NoAddress
	case isName:
		return NoResolver
	case notTLS, errors.Is(err, http.ErrSchemeMismatch):
		return NotTLS
	case untrusted(err) != "":
		return untrusted(err)
	case errors.Is(err, syscall.ECONNREFUSED):
		return Refused
	case errors.Is(err, syscall.EHOSTUNREACH), errors.Is(err, syscall.ENETUNREACH):
		return NoRoute
	case isLate && late.Timeout():
		return Late
	case errors.Is(err, io.EOF), errors.Is(err, io.ErrUnexpectedEOF), errors.Is(err, syscall.ECONNRESET), errors.Is(err, syscall.EPIPE):
		return Closed
	case op, refused:
		return NoConnection
	}
	return ""
}

// untrusted tells the failures of a server's certificate apart.
func untrusted(err error) Failure {
	_, unknown := errors.AsType[x509.UnknownAuthorityError](err)
	_, other := errors.AsType[x509.HostnameError](err)
	_, invalid := errors.AsType[x509.CertificateInvalidError](err)
	_, failed := errors.AsType[*tls.CertificateVerificationError](err)
	switch {
	case unknown:
		return NotTrusted
	case other:
		return OtherName
	case invalid, failed:
		return NotValid
	}
	return ""
}

// certificate says what is wrong with a server's certificate.
func certificate(err error) string {
	if other, ok := errors.AsType[x509.HostnameError](err); ok {
		return strings.Join(other.Certificate.DNSNames, ", ")
	}
	invalid, ok := errors.AsType[x509.CertificateInvalidError](err)
	if ok && invalid.Reason == x509.Expired && invalid.Cert != nil {
		return fmt.Sprintf("it is valid from %s to %s", day(invalid.Cert.NotBefore), day(invalid.Cert.NotAfter))
	}
	return ""
}

func day(t time.Time) string { return t.UTC().Format(time.RFC3339) }
