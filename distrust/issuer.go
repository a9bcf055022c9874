package distrust

import (
	"encoding/json"
	"errors"
	"fmt"
	"net/url"
	"slices"
	"strings"

	"github.com/colophon-build/colophon/internal/lazyregexp"
	"github.com/colophon-build/colophon/internal/limits"
	"github.com/colophon-build/colophon/internal/loopback"
	"github.com/colophon-build/colophon/internal/strict"
	"github.com/colophon-build/colophon/policy"
	"github.com/colophon-build/colophon/source"
)

// maxIssuers limits the issuers of one machine.
const maxIssuers = 16

// Issuer is somebody whose list counts, and for what.
type Issuer struct {
	Name   string        // that people give it; required
	From   string        // where the list is: an https URL, or the path of a file; required
	Signer policy.Signer // who must have signed the head; required

	Only    []Kind   // kinds of entries that count; empty: all
	Sources []string // the entries count for what was built from one of these repositories (canonical address; with a "/" at the end, those below it); empty: for everything
	Wide    bool     // entries that are about an unlimited number of images count
}

type issuersDocument struct {
	Issuers []issuerDocument `json:"issuers"`
}

type issuerDocument struct {
	Name    string                `json:"name"`
	From    string                `json:"from"`
	Signer  policy.SignerDocument `json:"signer"`
	Only    []Kind                `json:"only,omitempty"`
	Sources []string              `json:"sources,omitempty"`
	Wide    bool                  `json:"wide,omitempty"`
}

// ParseIssuers parses a file with issuers, JSON as IssuersFile writes it.
func ParseIssuers(raw []byte) (out []Issuer, err error) {
	var d issuersDocument
	if err := strict.UnmarshalKnown(raw, limits.Request, &d); err != nil {
		return nil, fmt.Errorf("distrust: issuers: %w", err)
	}
	for _, i := range d.Issuers {
		issuer := Issuer{Name: i.Name, From: i.From, Only: i.Only, Sources: i.Sources, Wide: i.Wide}
		if issuer.Signer, err = i.Signer.Signer(); err != nil {
			return nil, fmt.Errorf("distrust: issuer %q: %w", i.Name, err)
		}
		out = append(out, issuer)
	}
	return out, checkIssuers(out)
}

// IssuersFile returns a file with issuers, JSON. It fails if one of them says nothing or contradicts
// itself.
func IssuersFile(issuers []Issuer) ([]byte, error) {
	if err := checkIssuers(issuers); err != nil {
		return nil, err
	}
	d := issuersDocument{Issuers: []issuerDocument{}}
	for _, i := range issuers {
		signer, err := policy.DocumentOfSigner(i.Signer)
		if err != nil {
			return nil, err
		}
		d.Issuers = append(d.Issuers, issuerDocument{i.Name, i.From, *signer, i.Only, i.Sources, i.Wide})
	}
	return json.MarshalIndent(d, "", "  ")
}

var issuerName = lazyregexp.New(`^[a-z0-9]([a-z0-9.-]{0,61}[a-z0-9])?$`)

func checkIssuers(issuers []Issuer) error {
	if len(issuers) > maxIssuers {
		return fmt.Errorf("distrust: got %d issuers, want at most %d", len(issuers), maxIssuers)
	}
	seen := map[string]bool{}
	for _, i := range issuers {
		if err := i.check(); err != nil {
			return fmt.Errorf("distrust: issuer %q: %w", i.Name, err)
		}
		if seen[i.Name] {
			return fmt.Errorf("distrust: issuer: got the name %q twice", i.Name)
		}
		seen[i.Name] = true
	}
	return nil
}

func (i *Issuer) check() error {
	u, err := url.Parse(i.From)
	switch {
	case !issuerName.MatchString(i.Name):
		return errors.New("name: want lower-case letters, digits, . and -")
	case i.From == "":
		return errors.New("from: want a file, or https://HOST/PATH")
	case strings.Contains(i.From, "://") && (err != nil || u.Host == "" || u.User != nil || u.Scheme != "http" && u.Scheme != "https" || !loopback.OrTLS(u)):
		return fmt.Errorf("from: got %q, want a file, or https://HOST/PATH", i.From)
	case i.Signer == nil:
		return errors.New("signer: want who signs the list")
	}
	for _, k := range i.Only {
		if !slices.Contains(Kinds(), k) {
			return fmt.Errorf("only: got %q, want some of %q", k, Kinds())
		}
	}
	for _, s := range i.Sources {
		if canonical, err := source.Canonical(s); err != nil || canonical != strings.TrimSuffix(s, "/") {
			return fmt.Errorf("sources: got %q, want canonical addresses of repositories, or their beginning with a / at the end", s)
		}
	}
	return nil
}

// May returns an error unless the issuer may issue an entry with this scope.
func (i *Issuer) May(s *Scope) error {
	k, _ := s.Of()
	switch {
	case len(i.Only) > 0 && !slices.Contains(i.Only, k):
		return fmt.Errorf("%s may not say what %s is no longer trusted", i.Name, k)
	case s.Wide && !i.Wide:
		return fmt.Errorf("%s may not issue entries that are about an unlimited number of images", i.Name)
	}
	return nil
}

// about reports whether entries of the issuer count for an image.
func (i *Issuer) about(f *Facts) bool {
	return len(i.Sources) == 0 || f.Source != "" && slices.ContainsFunc(i.Sources, func(s string) bool {
		return f.Source == s || strings.HasSuffix(s, "/") && strings.HasPrefix(f.Source, s)
	})
}
