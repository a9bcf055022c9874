package policy

import (
	"encoding/json"
	"errors"
	"fmt"
	"time"

	"github.com/colophon-build/colophon/internal/limits"
	"github.com/colophon-build/colophon/internal/strict"
)

// Author is somebody whose signature on a policy file counts. A machine that has authors uses
// no other policies.
type Author struct {
	Name   string        // that people give it; required
	Signer Signer        // who must have signed the file; required. Its signatures must prove their time
	MaxAge time.Duration // greatest age of a signature, so that an old policy cannot be used for ever; 0: any; not of a key
	Since  time.Time     // signatures from before do not count; zero: any; not of a key
}

const maxAuthors = 16

// authorsDocument is a file with authors.
type authorsDocument struct {
	Authors []authorDocument `json:"authors"`
}

type authorDocument struct {
	Name   string         `json:"name"`
	Signer SignerDocument `json:"signer"`
	MaxAge string         `json:"maxAge,omitempty"` // 720h
	Since  string         `json:"since,omitempty"`  // RFC 3339
}

// ParseAuthors parses a file with authors, JSON as AuthorsFile writes it.
func ParseAuthors(raw []byte) (out []Author, err error) {
	var d authorsDocument
	if err := strict.UnmarshalKnown(raw, limits.Request, &d); err != nil {
		return nil, fmt.Errorf("policy: authors: %w", err)
	}
	for _, a := range d.Authors {
		author := Author{Name: a.Name}
		author.Signer, err = a.Signer.Signer()
		if err == nil {
			author.MaxAge, err = parseAge(a.MaxAge, false)
		}
		if err == nil && a.Since != "" {
			author.Since, err = time.Parse(time.RFC3339, a.Since)
		}
		if err != nil {
			return nil, fmt.Errorf("policy: author %q: %w", a.Name, err)
		}
		out = append(out, author)
	}
	return out, checkAuthors(out)
}

// AuthorsFile returns a file with authors, JSON. It fails if one of them says nothing or
// contradicts itself.
func AuthorsFile(authors []Author) ([]byte, error) {
	if err := checkAuthors(authors); err != nil {
		return nil, err
	}
	d := authorsDocument{Authors: []authorDocument{}}
	for _, a := range authors {
		signer, err := DocumentOfSigner(a.Signer)
		if err != nil {
			return nil, err
		}
		document := authorDocument{Name: a.Name, Signer: *signer, MaxAge: ageText(a.MaxAge)}
		if !a.Since.IsZero() {
			document.Since = a.Since.UTC().Format(time.RFC3339)
		}
		d.Authors = append(d.Authors, document)
	}
	return json.MarshalIndent(d, "", "  ")
}

func checkAuthors(authors []Author) error {
	if len(authors) > maxAuthors {
		return fmt.Errorf("policy: got %d authors, want at most %d", len(authors), maxAuthors)
	}
	seen := map[string]bool{}
	for _, a := range authors {
		if err := checkName("policy: author", a.Name); err != nil {
			return err
		}
		switch {
		case seen[a.Name]:
			return fmt.Errorf("policy: author: got the name %q twice", a.Name)
		case withoutLog(a.Signer):
			return fmt.Errorf("policy: author %q: a signature that is in no log proves no time, and an old policy could be used for ever", a.Name)
		case isKey(a.Signer) && (a.MaxAge > 0 || !a.Since.IsZero()):
			return fmt.Errorf("policy: author %q: got a key with maxAge or since, want a certificate's identity: a key does not prove when it signed, because anybody gets a new time for an old signature from a log or a timestamp authority", a.Name)
		case a.MaxAge < 0:
			return errors.New("policy: author: got a negative age, want more than 0s")
		}
		if err := checkSigner(a.Signer); err != nil {
			return fmt.Errorf("policy: author %q: %w", a.Name, err)
		}
		seen[a.Name] = true
	}
	return nil
}

// isKey reports whether a signer is the holder of a key. A certificate is valid for minutes, so
// that a signature by it cannot get a later time; a key does not expire.
func isKey(s Signer) bool {
	_, key := s.(Key)
	return key
}

// MatchTime fails unless a signature that was made at a time counts at the time now.
func (a Author) MatchTime(at, now time.Time) error {
	switch {
	case at.IsZero():
		return errors.New("time of the signature: got no proof, want one")
	case at.Before(a.Since):
		return fmt.Errorf("time of the signature: got %s, want since %s", at.UTC().Format(time.RFC3339), a.Since.UTC().Format(time.RFC3339))
	case a.MaxAge > 0 && now.Sub(at) > a.MaxAge:
		return fmt.Errorf("time of the signature: got %s, want within the last %s", at.UTC().Format(time.RFC3339), a.MaxAge)
	}
	return nil
}
