package policy_test

import (
	"regexp"
	"strings"
	"testing"
	"time"

	"github.com/colophon-build/colophon/policy"
	"github.com/colophon-build/colophon/test/spent"
)

const someDigest = "sha256:0123456789abcdef0123456789abcdef0123456789abcdef0123456789abcdef"

// TestParseImage: names are those of go-containerregistry.
func TestParseImage(t *testing.T) {
	for ref, want := range map[string]policy.Image{
		"nginx":                              {Name: "index.docker.io/library/nginx", Tag: "latest"},
		"nginx:1.27":                         {Name: "index.docker.io/library/nginx", Tag: "1.27"},
		"docker.io/nginx":                    {Name: "index.docker.io/library/nginx", Tag: "latest"},
		"index.docker.io/team/app:v1":        {Name: "index.docker.io/team/app", Tag: "v1"},
		"team/app@" + someDigest:             {Name: "index.docker.io/team/app", Digest: someDigest},
		"reg.example.com:5000/a/b":           {Name: "reg.example.com:5000/a/b", Tag: "latest"},
		"reg.example.com/a:v1@" + someDigest: {Name: "reg.example.com/a", Digest: someDigest}, // whoever pulls it ignores the tag
		"localhost:5000/a@" + someDigest:     {Name: "localhost:5000/a", Digest: someDigest},
		"Reg.Example.COM/a:V1":               {Name: "reg.example.com/a", Tag: "V1"},
		"reg.example.com:443/a":              {Name: "reg.example.com/a", Tag: "latest"},
		"REG.example.com:8443/a":             {Name: "reg.example.com:8443/a", Tag: "latest"},
		"[::1]:5000/a":                       {Name: "[::1]:5000/a", Tag: "latest"},
		"Docker.io:443/nginx":                {Name: "index.docker.io/library/nginx", Tag: "latest"},
		"registry-1.docker.io/library/nginx": {Name: "index.docker.io/library/nginx", Tag: "latest"},
		"registry.hub.docker.com/team/app":   {Name: "index.docker.io/team/app", Tag: "latest"},
	} {
		if got, err := policy.ParseImage(ref); err != nil || got != want {
			t.Errorf("%s: got %+v, %v, want %+v", ref, got, err, want)
		}
	}
	for _, ref := range []string{"", "A B", "a@sha256:12", "a@" + strings.ToUpper(someDigest), "a@b@" + someDigest, "reg.example.com/UPPER",
		"reg.example.com./a", "reg.example.com.:443/a", "reg..example.com/a", "docker.io./nginx", "reg.example.com:/a", "reg.example.com:0443/a", "ｒeg.example.com/a", "reg%2Eexample.com/a", "LOCALHOST/a"} {
		if got, err := policy.ParseImage(ref); err == nil {
			t.Errorf("%q: got %+v, want an error", ref, got)
		}
	}
}

// TestGlobs: ClusterImagePolicy's rules, and the tag where a pattern names one.
func TestGlobs(t *testing.T) {
	image := func(ref string) policy.Image {
		i, err := policy.ParseImage(ref)
		if err != nil {
			t.Fatal(err)
		}
		i.Digest = someDigest
		return i
	}
	for _, tt := range []struct {
		pattern policy.ImagePattern
		image   string
		want    bool
	}{
		{policy.ImagePattern{Glob: "*"}, "nginx", true},
		{policy.ImagePattern{Glob: "*"}, "docker.io/library/nginx:1", true},
		{policy.ImagePattern{Glob: "*"}, "team/app", false},
		{policy.ImagePattern{Glob: "*"}, "reg.example.com/app", false},
		{policy.ImagePattern{Glob: "*/*"}, "team/app", true},
		{policy.ImagePattern{Glob: "*/*"}, "nginx", true}, // library/nginx
		{policy.ImagePattern{Glob: "*/*"}, "reg.example.com/app", false},
		{policy.ImagePattern{Glob: "**"}, "reg.example.com/a/b/c", true},
		{policy.ImagePattern{Glob: "***"}, "reg.example.com/a/b/c", true},
		{policy.ImagePattern{Glob: "reg.example.com/*"}, "reg.example.com/app", true},
		{policy.ImagePattern{Glob: "reg.example.com/*"}, "reg.example.com/team/app", false},
		{policy.ImagePattern{Glob: "reg.example.com/**"}, "reg.example.com/team/app", true},
		{policy.ImagePattern{Glob: "reg.example.com/**"}, "reg.example.com.evil.example/team/app", false},
		{policy.ImagePattern{Glob: "reg.example.com/**"}, "regXexample.com/team/app", false},
		{policy.ImagePattern{Glob: "reg.example.com/team/app@*"}, "reg.example.com/team/app:v1", true},
		{policy.ImagePattern{Glob: "reg.example.com/team/app@*"}, "reg.example.com/team/app2:v1", false},
		{policy.ImagePattern{Glob: "reg.example.com/team/app@" + someDigest}, "reg.example.com/team/app:v1", true},
		{policy.ImagePattern{Glob: "reg.example.com/team/app*"}, "reg.example.com/team/app2:v1", true},
		{policy.ImagePattern{Glob: "reg.example.com/*/app@*"}, "reg.example.com/team/app", true},
		{policy.ImagePattern{Glob: "reg.example.com/*/app@*"}, "reg.example.com/team/x/app", false},
		{policy.ImagePattern{Glob: "reg.example.com/**/app@*"}, "reg.example.com/team/x/app", true},
		{policy.ImagePattern{Glob: "**/app@*"}, "reg.example.com/team/x/app", true},
		{policy.ImagePattern{Glob: "reg.example.com:5000/**"}, "reg.example.com:5000/a", true},
		{policy.ImagePattern{Glob: "docker.io/**"}, "nginx", false}, // its name is index.docker.io
		{policy.ImagePattern{Glob: "index.docker.io/**"}, "nginx", true},
		{policy.ImagePattern{Digest: someDigest}, "nginx", true},
		{policy.ImagePattern{Digest: strings.Replace(someDigest, "0", "1", 1)}, "nginx", false},
		{policy.ImagePattern{Glob: "index.docker.io/**", Digest: strings.Replace(someDigest, "0", "1", 1)}, "nginx", false},
		{policy.ImagePattern{Glob: "**", Tag: "v1*"}, "team/app:v1.2", true},
		{policy.ImagePattern{Glob: "**", Tag: "v1*"}, "team/app:v2", false},
		{policy.ImagePattern{Glob: "**", Tag: "v1*"}, "team/app@" + someDigest, false},
		{policy.ImagePattern{Glob: "**", Tag: "v1"}, "team/app:v1@" + someDigest, false}, // free text
		{policy.ImagePattern{Glob: "reg.example.com/**"}, "REG.example.com:443/team/app", true},
		{policy.ImagePattern{}, "team/app", false},
	} {
		if got := tt.pattern.Matches(image(tt.image)); got != tt.want {
			t.Errorf("%+v, %s: got %t, want %t", tt.pattern, tt.image, got, tt.want)
		}
	}
	unnamed := policy.Image{Digest: someDigest}
	for pattern, want := range map[policy.ImagePattern]bool{{Glob: "**"}: true, {Digest: someDigest}: true, {Glob: "**@*"}: false, {Glob: "*"}: false, {Glob: "**", Tag: "*"}: false} {
		if got := pattern.Matches(unnamed); got != want {
			t.Errorf("%+v, a layout: got %t, want %t", pattern, got, want)
		}
	}
}

// TestGlobsThatMatchNothing: a glob that no name can match is refused, with the reason.
func TestGlobsThatMatchNothing(t *testing.T) {
	for glob, want := range map[string]string{
		"**": "", "*": "", "*/*": "", "**/app@*": "", "reg.example.com/**": "", "*.example.com/**": "", "reg.example.com**": "", "localhost:5000/**": "", "localhost/**": "",
		"reg.example.com/app*:*": "", "index.docker.io/library/*": "", "index.docker.io/**": "", "**@" + someDigest: "", "reg.example.com/a@sha256:*": "",

		"reg.example.com/app":        "NAME@DIGEST",
		"reg.example.com/app:v1":     "use the member tag",
		"reg.example.com/app:*":      "use the member tag",
		"reg.example.com/app:v*@*":   "use the member tag",
		"reg.example.com/app:v1/b@*": "use the member tag",
		"REG.example.com/**":         "lower-case",
		"*.Example.com/**":           "lower-case",
		"reg.example.com:443/**":     "reg.example.com",
		"*.example.com:443/**":       ":443",
		"reg.example.com./**":        "registry",
		"reg.example.com:05000/**":   "registry",
		"docker.io/library/*":        "index.docker.io",
		"registry-1.docker.io/**":    "index.docker.io",
		"index.docker.io/nginx@*":    "index.docker.io/library/",
		"index.docker.io/*":          "index.docker.io/library/",
		"reg.example.com*":           "/**",
		"team/app@*":                 "registry",
	} {
		sets, err := policy.ParseSets([]byte(minimalSet))
		if err != nil {
			t.Fatal(err)
		}
		sets[0].Rules[0].Images = []policy.ImagePattern{{Glob: glob}}
		if err := sets[0].Check(); (err == nil) != (want == "") || err != nil && !strings.Contains(err.Error(), want) {
			t.Errorf("%s: got %v, want %q", glob, err, want)
		}
	}
}

// FuzzGlob compares with the regular expression by which policy-controller matches.
func FuzzGlob(f *testing.F) {
	f.Add("a/**/b*", "a/x/y/bc")
	f.Add("***a*", "b/ca")
	f.Add("****", "//")
	f.Add("a***", "a/b")
	f.Fuzz(func(t *testing.T, glob, text string) {
		if !regexp.MustCompile(`^[a-z/*.@:]{2,60}$`).MatchString(glob) || len(text) > 60 || !regexp.MustCompile(`^[a-z/.@:]+$`).MatchString(text) || glob == "*/*" {
			return
		}
		expr := strings.NewReplacer(".", `\.`).Replace(glob)
		expr = strings.ReplaceAll(strings.ReplaceAll(strings.ReplaceAll(expr, "**", "#"), "*", "[^/]*"), "#", ".*")
		want := regexp.MustCompile("^" + expr + "$").MatchString(text + "@" + someDigest)
		if got := (policy.ImagePattern{Glob: glob}).Matches(policy.Image{Name: text, Digest: someDigest}); got != want {
			t.Errorf("%q, %q: got %t, want %t", glob, text, got, want)
		}
	})
}

// TestGlobBomb: a glob of stars takes no time that grows with each star.
func TestGlobBomb(t *testing.T) {
	slashes := "a" + strings.Repeat("/a", 127)
	begun := spent.Now()
	for range 20 {
		for glob, text := range map[string]string{strings.Repeat("*a", 250) + "b@*": strings.Repeat("a", 255), strings.Repeat("*", 510) + "b": slashes, strings.Repeat("**/", 170): slashes} {
			policy.ImagePattern{Glob: glob}.Matches(policy.Image{Name: text, Digest: someDigest})
		}
	}
	if took := spent.Now() - begun; took > time.Second {
		t.Errorf("took %s", took)
	}
}
