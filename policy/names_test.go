package policy_test

import (
	"fmt"
	"strings"
	"testing"

	"github.com/colophon-build/colophon/policy"
)

// TestNames: rules see an image on a mirror by the name of what it is, however its name is spelled.
func TestNames(t *testing.T) {
	digest := "@sha256:" + strings.Repeat("ab", 32)
	names := policy.Names{"mirror.example.com/hub/": "docker.io/", "mirror.example.com/": "ghcr.io/copies/", "127.0.0.1:5000/team/": "registry.example.com/team/"}
	if err := names.Check(); err != nil {
		t.Fatal(err)
	}
	for reference, want := range map[string]string{
		"mirror.example.com/hub/library/nginx:1" + digest:     "index.docker.io/library/nginx",
		"mirror.example.com/hub/nginx" + digest:               "index.docker.io/library/nginx",
		"MIRROR.example.com:443/hub/grafana/grafana" + digest: "index.docker.io/grafana/grafana",
		"mirror.example.com/hubs/app" + digest:                "ghcr.io/copies/hubs/app",
		"mirror.example.com/app":                              "ghcr.io/copies/app",
		"127.0.0.1:5000/team/app":                             "registry.example.com/team/app",
		"127.0.0.1:5000/teams/app":                            "127.0.0.1:5000/teams/app",
		"evil.example.com/mirror.example.com/hub/nginx":       "evil.example.com/mirror.example.com/hub/nginx",
		"mirror.example.com.evil.example/hub/nginx":           "mirror.example.com.evil.example/hub/nginx",
		"mirror.example.com:8443/hub/nginx":                   "mirror.example.com:8443/hub/nginx",
		"nginx":                                               "index.docker.io/library/nginx",
	} {
		got, err := names.Image(reference)
		if err != nil || got.Name != want {
			t.Errorf("%s: got %q, %v, want %q", reference, got.Name, err, want)
		}
		plain, err := policy.ParseImage(reference)
		if err != nil || got.Digest != plain.Digest || got.Tag != plain.Tag {
			t.Errorf("%s: got %+v, want the tag and digest of %+v", reference, got, plain)
		}
	}
	mirrors := policy.Names{"docker.io/": "mirror.example.com/hub/"}
	for repository, want := range map[string]string{
		"docker.io/library/nginx": "mirror.example.com/hub/library/nginx", "index.docker.io/grafana/grafana": "mirror.example.com/hub/grafana/grafana",
		"ghcr.io/team/app": "ghcr.io/team/app", "docker.io.evil.example/library/nginx": "docker.io.evil.example/library/nginx",
	} {
		if got, err := mirrors.Repository(repository); err != nil || got != want {
			t.Errorf("%s: got %q, %v, want %q", repository, got, err, want)
		}
	}
	many := policy.Names{}
	for i := range 1025 {
		many[fmt.Sprintf("mirror.example.com/%d/", i)] = "docker.io/"
	}
	for what, bad := range map[string]policy.Names{
		"too many":           many,
		"no slash":           {"mirror.example.com": "docker.io/"},
		"no slash after it":  {"mirror.example.com/": "docker.io"},
		"no registry":        {"hub/": "docker.io/"},
		"no value":           {"mirror.example.com/": ""},
		"a digest":           {"mirror.example.com/x@/": "docker.io/"},
		"two slashes":        {"mirror.example.com//": "docker.io/"},
		"the same, spelled":  {"mirror.example.com/": "docker.io/", "MIRROR.example.com:443/": "ghcr.io/"},
		"the same on Docker": {"docker.io/": "ghcr.io/", "index.docker.io/": "quay.io/"},
	} {
		if err := bad.Check(); err == nil || !strings.Contains(err.Error(), "names: ") {
			t.Errorf("%s: got %v", what, err)
		}
	}
}
