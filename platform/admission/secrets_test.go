package admission

import (
	"strings"
	"testing"
)

// TestGrants: credentials are for the registry and the path that the Secret names, and for no
// other that looks like it.
func TestGrants(t *testing.T) {
	for key, cases := range map[string]map[string]bool{
		"registry.example.com":         {"registry.example.com/a": true, "registry.example.com:5000/a": false, "registry.example.com.evil.net/a": false, "x.registry.example.com/a": false, "Registry.Example.com/a": true},
		"https://registry.example.com": {"registry.example.com/a": true},
		"registry.example.com:5000":    {"registry.example.com:5000/a": true, "registry.example.com/a": false},
		"registry.example.com/team":    {"registry.example.com/team/app": true, "registry.example.com/team": true, "registry.example.com/teams/app": false, "registry.example.com/x/team": false},
		"*.example.com":                {"a.example.com/x": true, "a.b.example.com/x": false, "example.com/x": false, "a.example.org/x": false},
		"https://index.docker.io/v1/":  {"docker.io/library/nginx": true, "index.docker.io/a/b": true, "docker.io.evil.net/a": false, "registry.example.com/a": false},
		"[":                            {"registry.example.com/a": false},
	} {
		grants, err := parseGrants(PullSecret{Name: "s", Config: []byte(`{"auths":{"` + key + `":{"auth":"dTpw"}}}`)})
		if err != nil || len(grants) != 1 || grants[0].login.Username != "u" || grants[0].login.Password != "p" {
			t.Fatalf("%s: got %v, %v", key, grants, err)
		}
		for repository, want := range cases {
			if got := grants[0].covers(repository); got != want {
				t.Errorf("credentials for %s cover %s: got %v, want %v", key, repository, got, want)
			}
		}
	}
	grants, err := parseGrants(PullSecret{Name: "s", Legacy: true, Config: []byte(`{"r.example.com":{"username":"a","password":"1"},"r.example.com/team/app":{"username":"c","password":"3"},"r.example.com/team":{"identitytoken":"t"}}`)})
	if err != nil || len(grants) != 3 || grants[0].login.Username != "c" || grants[1].login.IdentityToken != "t" {
		t.Errorf("got %v, %v, want the longest path first", grants, err)
	}
	for _, config := range []string{``, `[]`, `{"auths":{"":{"auth":"dTpw"}}}`, `{"auths":{"r":{"auth":"s3cret"}}}`, `{"auths":{"r":{"auth":"czNjcmV0"}}}`, `{"auths":{"r":{"password":1}}}`, `{"auths":{"r":{},"r":{}}}`} {
		if _, err := parseGrants(PullSecret{Name: "s", Config: []byte(config)}); err == nil || strings.Contains(err.Error(), "s3cret") {
			t.Errorf("%s: got %v, want an error that does not quote it", config, err)
		}
	}
}
