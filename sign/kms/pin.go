package kms

import (
	"bytes"
	"errors"
	"fmt"
	"net/url"
	"path/filepath"
	"strings"

	"github.com/colophon-build/colophon/internal/strict"
)

const pkcs11 = "pkcs11" // the scheme of RFC 7512

// maxPIN is the most bytes of a PIN. Tokens take less.
const maxPIN = 1024

// pin returns the PIN for a token: that of the file which the URI names as its pin-source
// (RFC 7512, section 2.4), or else that of ask.
func pin(name string, ask func() ([]byte, error)) ([]byte, error) {
	var secret []byte
	file, err := pinSource(name)
	switch {
	case err != nil:
		return nil, err
	case file != "":
		secret, err = strict.ReadFile(file, maxPIN)
	case ask != nil:
		secret, err = ask()
	default:
		return nil, errors.New("nobody gave the PIN of the token")
	}
	if err != nil {
		return nil, err
	}
	secret = bytes.TrimRight(secret, "\r\n")
	if len(secret) == 0 || len(secret) > maxPIN {
		return nil, fmt.Errorf("PIN: got %d bytes, want 1 to %d", len(secret), maxPIN)
	}
	return secret, nil
}

func pinSource(name string) (file string, err error) {
	_, query, _ := strings.Cut(name, "?")
	for attribute := range strings.SplitSeq(query, "&") {
		key, value, _ := strings.Cut(attribute, "=")
		if key != "pin-source" {
			continue
		}
		if file != "" {
			return "", errors.New("it has two attributes pin-source")
		}
		value, err = url.PathUnescape(value)
		file = strings.TrimPrefix(strings.TrimPrefix(value, "file:"), "//")
		if err != nil || !filepath.IsAbs(file) {
			return "", errors.New("pin-source: want file:/PATH")
		}
	}
	return file, nil
}

// ErrPINInURI means that a URI contains the PIN of its token, as pin-value. Arguments are
// visible to all users of a machine.
var ErrPINInURI = errors.New("the URI contains a PIN, which every user of this machine can read among the arguments of its programs")
