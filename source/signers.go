package source

import (
	"bytes"
	"errors"
	"fmt"
	"path"
	"strings"
	"time"

	"golang.org/x/crypto/ssh"

	"github.com/colophon-build/colophon/internal/strict"
)

// signer is one line of an allowed_signers file (ssh-keygen(1), "ALLOWED SIGNERS").
type signer struct {
	principals string
	namespaces []string // patterns; nil allows any
	after      time.Time
	before     time.Time
	key        ssh.PublicKey
	authority  bool // a certificate authority; this package does not verify its certificates
}

// allows reports whether the line allows key to sign in namespace at a time.
func (s signer) allows(key ssh.PublicKey, namespace string, at time.Time) bool {
	if s.authority || !bytes.Equal(s.key.Marshal(), key.Marshal()) {
		return false
	}
	if !s.after.IsZero() && at.Before(s.after) || !s.before.IsZero() && !at.Before(s.before) {
		return false
	}
	if s.namespaces == nil {
		return true
	}
	for _, p := range s.namespaces {
		// "git" contains no slash, so that path.Match and ssh agree about "*".
		if ok, _ := path.Match(p, namespace); ok {
			return true
		}
	}
	return false
}

// parseAllowedSigners reads a file. It fails for a line that it does not understand,
// because that line could restrict a key.
//
//	line    = principals [SP options] SP key-type SP base64-key [SP comment]
//	options = option *( "," option )
//	option  = "cert-authority" / "namespaces=" quoted / "valid-after=" quoted / "valid-before=" quoted
func parseAllowedSigners(file []byte) ([]signer, error) {
	var all []signer
	for i, line := range strings.Split(string(file), "\n") {
		line = strings.TrimSpace(line)
		if line == "" || strings.HasPrefix(line, "#") {
			continue
		}
		s, err := parseSigner(line)
		if err != nil {
			return nil, &strict.Fault{Line: i + 1, Column: 1, What: err.Error()}
		}
		all = append(all, s)
	}
	return all, nil
}

func parseSigner(line string) (signer, error) {
	var s signer
	rest := ""
	if quoted, ok := strings.CutPrefix(line, `"`); ok {
		if s.principals, rest, ok = strings.Cut(quoted, `"`); !ok {
			return s, fmt.Errorf("principals: the closing quote is missing")
		}
	} else if i := strings.IndexAny(line, " \t"); i > 0 {
		s.principals, rest = line[:i], line[i:]
	}
	if s.principals == "" || strings.TrimSpace(rest) == "" {
		return s, fmt.Errorf("got %q, want principals and a key", line)
	}
	key, _, options, _, err := ssh.ParseAuthorizedKey([]byte(strings.TrimSpace(rest)))
	if err != nil {
		return s, errors.New("there is no ssh key after the principals: want its type, such as ssh-ed25519, and base64")
	}
	s.key = key
	for _, o := range options {
		name, value, _ := strings.Cut(o, "=")
		value = strings.Trim(value, `"`)
		switch strings.ToLower(name) {
		case "cert-authority":
			s.authority = true
		case "namespaces":
			s.namespaces = strings.Split(value, ",")
			for _, p := range s.namespaces {
				if strings.ContainsAny(p, `!\[`) {
					return s, fmt.Errorf("namespace pattern: got %q, want only * and ? as wildcards", p)
				}
			}
		case "valid-after":
			s.after, err = signerTime(value)
		case "valid-before":
			s.before, err = signerTime(value)
		default:
			err = fmt.Errorf("option: got %q, want cert-authority, namespaces, valid-after or valid-before", name)
		}
		if err != nil {
			return s, err
		}
	}
	return s, nil
}

// signerTime reads YYYYMMDD[HHMM[SS]][Z]. For ssh, a time without Z is local time; here it
// is UTC, so that the result does not depend on the machine.
func signerTime(v string) (time.Time, error) {
	for _, layout := range []string{"20060102", "200601021504", "20060102150405"} {
		if t, err := time.Parse(layout, strings.TrimSuffix(v, "Z")); err == nil {
			return t, nil
		}
	}
	return time.Time{}, fmt.Errorf("time: got %q, want YYYYMMDD[HHMM[SS]][Z]", v)
}
