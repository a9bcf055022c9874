package oci

import (
	"strings"
	"testing"
)

func TestParseReference(t *testing.T) {
	digest := "@sha256:" + digestOf(nil).Hex
	for s, want := range map[string]Reference{
		"127.0.0.1:8080/team/app:v1.2.0": {Repository: "127.0.0.1:8080/team/app", Tag: "v1.2.0"},
		"127.0.0.1:8080/team/app":        {Repository: "127.0.0.1:8080/team/app"},
		"ghcr.io/a/b:c" + digest:         {Repository: "ghcr.io/a/b", Tag: "c", Digest: digest[1:]},
		"localhost/a" + digest:           {Repository: "localhost/a", Digest: digest[1:]},
		"./127.0.0.1:8080/team/app:v1":   {Dir: "./127.0.0.1:8080/team/app", Tag: "v1"},
		"oci:127.0.0.1:8080/team/app":    {Dir: "127.0.0.1:8080/team/app"},
		"/var/layout" + digest:           {Dir: "/var/layout", Digest: digest[1:]},
		"out/layout:v1":                  {Dir: "out/layout", Tag: "v1"},
		"layout":                         {Dir: "layout"},
		"../layout":                      {Dir: "../layout"},
		"oci:/b:gcr.io":                  {Dir: "/b", Tag: "gcr.io"},
	} {
		if got, err := ParseReference(s); err != nil || got != want {
			t.Errorf("%s: got %+v, %v; want %+v", s, got, err, want)
		}
	}
	for _, s := range []string{
		"", "oci:", "127.0.0.1:8080/Team/App", "127.0.0.1:8080/a:", "127.0.0.1:8080/a:b c", "127.0.0.1:8080/a@sha256:abc", "ghcr.io/",
		"ghcr.io/a@md5:d41d8cd98f00b204e9800998ecf8427e", "ghcr.io/a?b", "ghcr.io/a:../b", "http://ghcr.io/a", "ghcr.io/a" + digest + digest,
	} {
		if got, err := ParseReference(s); err == nil {
			t.Errorf("%q: got %+v, want an error", s, got)
		}
	}
	if _, err := ParseReference("ghcr.io/Team/App:V1"); err == nil || !strings.Contains(err.Error(), "such as ghcr.io/team/app") {
		t.Errorf("upper case: got %v, want the name in lower case in it", err)
	}
}

func FuzzParseReference(f *testing.F) {
	for _, s := range []string{"127.0.0.1:8080/team/app:v1", "ghcr.io/a/b@sha256:" + digestOf(nil).Hex, "oci:a.b/c:d", "./x", "oci:oci:x", "a:b/.:c", "[::1]:5000/a"} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, s string) {
		r, err := ParseReference(s)
		if err != nil {
			return
		}
		again, err := ParseReference(r.String())
		if err != nil || again != r {
			t.Errorf("%q is %+v, and %q is %+v, %v", s, r, r.String(), again, err)
		}
		if (r.Dir == "") == (r.Repository == "") {
			t.Errorf("%q is neither image nor layout, or both: %+v", s, r)
		}
	})
}
