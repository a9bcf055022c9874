package credential

import (
	"net/url"
	"testing"
)

// TestScope: a credential for one host and path is for no other, in any notation and in any
// reading of a server.
func TestScope(t *testing.T) {
	for _, c := range []struct {
		scope, address string
		want           bool
	}{
		{"https://git.example.com/org/", "https://git.example.com/org/app", true},
		{"https://git.example.com/org", "https://git.example.com/org/app.git/info/refs", true},
		{"https://git.example.com/org", "https://GIT.example.com:443/org/app", true},
		{"https://git.example.com/org/app", "https://git.example.com/org/app.git", true},
		{"https://git.example.com/org/app", "https://git.example.com/org/app.git/info/refs", true},
		{"https://git.example.com/org/app.git", "https://git.example.com/org/app/info/refs", true},
		{"https://git.example.com", "https://git.example.com/any/thing", true},
		{"https://git.example.com", "https://git.example.com/", true},
		{"https://npm.example.com/private", "https://npm.example.com/private/@scope%2fname", true},
		{"https://apt.example.com/private", "https://apt.example.com/private/./InRelease", true},
		{"https://apt.example.com/private", "https://apt.example.com/private/a/././b", true},
		{"https://npm.example.com/private", "https://npm.example.com/private/-/a%20b.tgz", true},
		{"https://git.example.com:8443/org", "https://git.example.com:8443/org/app", true},
		{"ssh://git@git.example.com/org", "ssh://git@git.example.com:22/org/app.git", true},
		{"https://[2001:db8::1]/org", "https://[2001:DB8::1]/org/app", true},

		{"file:///srv/git", "file:///srv/git/app", true},

		{"file:///srv/git", "file:///srv/gitlab/app", false},
		{"file:///srv/git", "file://host/srv/git/app", false},
		{"https://git.example.com/org", "https://git.example.com/organisation/app", false},
		{"https://git.example.com/org", "https://git.example.com/", false},
		{"https://git.example.com/org", "https://git.example.com/Org/app", false},
		{"https://git.example.com/org", "https://git.example.com/other/app", false},
		{"https://git.example.com/org/app", "https://git.example.com/org/app2", false},
		{"https://git.example.com/org/app", "https://git.example.com/org/app.github/x", false},
		{"https://git.example.com", "https://git.example.com/.git", true},
		{"https://git.example.com/org", "https://git.example.com/org/../other/app", false},
		{"https://git.example.com/org", "https://git.example.com/org/./../other/app", false},
		{"https://git.example.com/org", "https://git.example.com/org/././/app", false},
		{"https://git.example.com/org", "https://git.example.com/org/%2e/app", false},
		{"https://git.example.com/org", "https://git.example.com/org/.;/app", false},
		{"https://git.example.com/org", "https://git.example.com/./org/app", false},
		{"https://git.example.com/org", "https://git.example.com/org/..", false},
		{"https://git.example.com/org", "https://git.example.com/org/%2e%2e/other/app", false},
		{"https://git.example.com/org", "https://git.example.com/org/%2E%2e%2fother/app", false},
		{"https://git.example.com/org", "https://git.example.com/org/..%2fother/app", false},
		{"https://git.example.com/org", "https://git.example.com/org/%252e%252e/other/app", false},
		{"https://git.example.com/org", "https://git.example.com/org/%25252e%25252e/other/app", false},
		{"https://git.example.com/org", "https://git.example.com/org/%252525252e%252525252e/other/app", false},
		{"https://git.example.com/org", `https://git.example.com/org/..%5cother/app`, false},
		{"https://git.example.com/org", "https://git.example.com/org/..;/other/app", false},
		{"https://git.example.com/org", "https://git.example.com/org/..;x=y/other/app", false},
		{"https://git.example.com/org", "https://git.example.com/org/..%3bx/other/app", false},
		{"https://git.example.com/org", "https://git.example.com//org/app", false},
		{"https://git.example.com/org", "https://git.example.com/org//app", false},
		{"https://git.example.com/org", "https://git.example.com/org/%2f/app", false},
		{"https://git.example.com/org", "https://git.example.com/%6frg/app", false},
		{"https://git.example.com/org", "https://git.example.com/org%2fapp", false},
		{"https://git.example.com/org", "https://git.example.com/org/%252e%252e/%25zz", false},
		{"https://git.example.com/org", "https://git.example.com/org/a%00b", false},
		{"https://git.example.com/org", "https://git.example.com/org/a%0d%0ab", false},
		{"https://git.example.com/org", "http://git.example.com/org/app", false},
		{"https://git.example.com/org", "https://git.example.com:8443/org/app", false},
		{"https://git.example.com/org", "https://git.example.com:80/org/app", false},
		{"https://git.example.com/org", "https://git.example.com./org/app", false},
		{"https://git.example.com/org", "https://x.git.example.com/org/app", false},
		{"https://git.example.com/org", "https://git.example.com.evil.example/org/app", false},
		{"https://git.example.com/org", "https://git.example.com@evil.example/org/app", false},
		{"https://git.example.com/org", "https://u@git.example.com/org/app", false},
		{"https://git.example.com/org", "https://u:p@git.example.com/org/app", false},
		{"ssh://git@git.example.com/org", "ssh://git.example.com/org/app", false},
		{"ssh://git@git.example.com/org", "ssh://other@git.example.com/org/app", false},
		{"ssh://git@git.example.com/org", "https://git.example.com/org/app", false},
	} {
		s, err := ParseScope(c.scope)
		if err != nil {
			t.Errorf("%s: %v", c.scope, err)
			continue
		}
		u, err := url.Parse(c.address)
		if err != nil {
			t.Errorf("%s: %v", c.address, err)
		} else if got := s.Covers(u); got != c.want {
			t.Errorf("%s covers %s: got %v, want %v", c.scope, c.address, got, c.want)
		}
	}
}

func TestScopesThatAreRefused(t *testing.T) {
	for _, text := range []string{
		"", "git.example.com/org", "ftp://git.example.com/org", "http://git.example.com/org", "https:///org", "https://u:hunter2@git.example.com/org", "https://u@git.example.com/org",
		"ssh://git:hunter2@git.example.com/org", "https://git.example.com/org?a=b", "https://git.example.com/org#", "https://git.example.com/org/../other", "https://git.example.com/a//b",
		"https://git.example.com/%6frg", "https://git.example.com/*", "https://*.example.com/org", "https://git.example.com:0/org", "https://git.example.com:99999/org", "https://git.example.com./org", "https:git.example.com", "file:///", "file://host/srv",
	} {
		if s, err := ParseScope(text); err == nil {
			t.Errorf("%q: got scope %s, want an error", text, s)
		}
	}
}
