package policy_test

import (
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/colophon-build/colophon/policy"
)

const authorSigner = `{"certificate":{"issuer":"https://idp.example.com","identity":{"is":"ops@example.com"}}}`

// TestAuthors: what is written is read again.
func TestAuthors(t *testing.T) {
	raw := []byte(`{"authors":[{"name":"ops","signer":` + authorSigner + `,"maxAge":"24h","since":"2026-11-27T00:00:00Z"},{"name":"eng","signer":` + authorSigner + `}]}`)
	authors, err := policy.ParseAuthors(raw)
	if err != nil || len(authors) != 2 || authors[0].MaxAge != 24*time.Hour || authors[0].Since.IsZero() || authors[0].Signer.String() == "" {
		t.Fatalf("got %+v, %v", authors, err)
	}
	written, err := policy.AuthorsFile(authors)
	if err != nil {
		t.Fatal(err)
	}
	again, err := policy.ParseAuthors(written)
	if err != nil || fmt.Sprint(again) != fmt.Sprint(authors) {
		t.Errorf("got %+v, %v, want %+v", again, err, authors)
	}
}

// TestAuthorsRefused: what is no list of authors, and signers that prove no time.
func TestAuthorsRefused(t *testing.T) {
	const key = "-----BEGIN PUBLIC KEY-----\\nMCowBQYDK2VwAyEAGb9ECWmEzf6FQbrBZ9w7lshQhqowtrbLDFw4rXAxZuE=\\n-----END PUBLIC KEY-----\\n"
	one := func(more string) string { return `{"name":"ops","signer":` + authorSigner + more + `}` }
	for list, says := range map[string]string{
		"":                      "",
		one("") + "," + one(""): "twice",
		`{"name":"ops"}`:        "signer",
		`{"name":"Ops","signer":` + authorSigner + `}`: "name",
		one(`,"maxAge":"-1h"`):                         "maxAge",
		one(`,"since":"2026"`):                         "2026",
		one(`,"until":"2026"`):                         "until",
		`{"name":"ops","signer":{"insecureUnloggedKey":{"pem":"` + key + `"}}}`:                "in no log",
		`{"name":"ops","signer":{"key":{"pem":"` + key + `"}},"maxAge":"1h"}`:                  "a key does not prove when it signed",
		`{"name":"ops","signer":{"key":{"pem":"` + key + `"}},"since":"2026-11-27T00:00:00Z"}`: "a key does not prove when it signed",
		strings.TrimSuffix(strings.Repeat(one("")+",", 17), ","):                               "at most 16",
	} {
		_, err := policy.ParseAuthors([]byte(`{"authors":[` + list + `]}`))
		if (err == nil) != (says == "") || err != nil && !strings.Contains(err.Error(), says) {
			t.Errorf("%s: got %v, want %q", list, err, says)
		}
	}
}

// TestAuthorMatchTime: a signature without a proof of its time never counts.
func TestAuthorMatchTime(t *testing.T) {
	now := time.Date(2026, 11, 27, 0, 0, 0, 0, time.UTC)
	for _, tt := range []struct {
		a  policy.Author
		at time.Time
		ok bool
	}{
		{policy.Author{}, now.Add(-1000 * time.Hour), true},
		{policy.Author{}, time.Time{}, false},
		{policy.Author{MaxAge: time.Hour}, now.Add(-time.Hour), true},
		{policy.Author{MaxAge: time.Hour}, now.Add(-time.Hour - 1), false},
		{policy.Author{Since: now}, now, true},
		{policy.Author{Since: now}, now.Add(-1), false},
	} {
		if err := tt.a.MatchTime(tt.at, now); (err == nil) != tt.ok {
			t.Errorf("%+v at %s: got %v", tt.a, tt.at, err)
		}
	}
}
