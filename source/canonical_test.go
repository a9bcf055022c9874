package source

import (
	"strings"
	"testing"
)

func TestCanonical(t *testing.T) {
	for in, want := range map[string]string{
		"https://GitHub.com/Org/Repo.git":      "https://github.com/Org/Repo",
		"HTTPS://github.com:443/Org/Repo/":     "https://github.com/Org/Repo",
		"https://u:p@host.example/r":           "https://host.example/r",
		"https://token@host.example/r.git/":    "https://host.example/r",
		"https://host.example:8443/r":          "https://host.example:8443/r",
		"ssh://git@host.example:22/o/r.git":    "ssh://git@host.example/o/r.git",
		"git@host.example:o/r.git":             "ssh://git@host.example/o/r.git",
		"git@host.example:/o/r.git":            "ssh://git@host.example/o/r.git",
		"host.example/o/r":                     "https://host.example/o/r",
		"127.0.0.1:8080/r":                     "https://127.0.0.1:8080/r",
		"http://127.0.0.1:8080/r.git":          "http://127.0.0.1:8080/r",
		"http://[::1]:80/r":                    "http://[::1]/r",
		"http://localhost/r":                   "http://localhost/r",
		"file:///a/./b/../c.git/":              "file:///a/c.git",
		"file:///home/u/repo/.git":             "file:///home/u/repo/.git",
		"file:///with%20space/100%25":          "file:///with%20space/100%25",
		"https://host.example/r.git.git":       "https://host.example/r",
		"https://host.example/~u/%7Eproj":      "https://host.example/~u/%7Eproj",
		FileURI("/with space/100%/é?#"):        "file:///with%20space/100%25/%C3%A9%3F%23",
		"https://[2001:DB8::1]:8443/o/r":       "https://[2001:db8::1]:8443/o/r",
		"ssh://git@host.example/~user/r.git":   "ssh://git@host.example/~user/r.git",
		"https://host.example/o/r.GIT":         "https://host.example/o/r.GIT",
		"https://sub-domain.host.example/o/r/": "https://sub-domain.host.example/o/r",
	} {
		got, err := Canonical(in)
		if err != nil || got != want {
			t.Errorf("%s: got %q, %v; want %q", in, got, err, want)
		}
		if again, err := Canonical(got); err != nil || again != got {
			t.Errorf("%s: canonical form %q becomes %q, %v", in, got, again, err)
		}
	}
	const secret = "hunter2"
	for _, in := range []string{
		"", "repo", "./repo", "/abs/repo", "foo/bar", "host:path", "--upload-pack=touch", "-oProxyCommand=x@host:p",
		"ext::sh -c touch", "ext::sh%20-c", "fd::17", "ftp://host.example/r", "git://host.example/r", "http://host.example/r", "http://10.0.0.1/r",
		"https://host.example", "https://host.example/", "https:///r", "https://-oProxy.example/r", "https://host..example/r",
		"https://host.example/a/../b", "https://host.example/a//b", "https://host.example/%2e%2e/b", "https://host.example/a%2fb", "https://host.example/a%0ab",
		"https://host.example/r?x=1", "https://host.example/r#f", "https://host.example/r#", "https://host.example:0/r", "https://host.example:99999/r",
		"ssh://host.example/~/r", "ssh://host.example/~user/r", "ssh://host.example/%7E/r", "file://host/r", "file:///", "file:///.", "https://host.example/.git", "file://user@/r", "ssh://-oProxyCommand=touch/r", "ssh://-x@host.example/r", "https://hоst.example/r",
		"https://u:" + secret + "@ho st/r", "https://u:" + secret + "%zz@host.example/r", "https://u:" + secret + "@host.example:x/r", "https://u:" + secret + "@/r",
		"git@host.example::x", "https://[fe80::1%25eth0]/r", "https://host.example/a\\b", "file:///a%00b",
	} {
		got, err := Canonical(in)
		if err == nil {
			t.Errorf("%q: got %q, want an error", in, got)
		} else if strings.Contains(err.Error(), secret) {
			t.Errorf("the error %q repeats the password", err)
		}
	}
}

// TestOneRepositoryEach: addresses that may lead to different repositories have different
// canonical forms.
func TestOneRepositoryEach(t *testing.T) {
	for _, pair := range [][2]string{
		{"ssh://mallory@h.example/~/app", "git@h.example:~/app"},
		{"ssh://mallory@h.example/app", "ssh://git@h.example/app"},
		{"ssh://git@h.example/app", "ssh://h.example/app"},
		{"ssh://Git@h.example/app", "ssh://git@h.example/app"},
		{"ssh://git@h.example/srv/app.git", "ssh://git@h.example/srv/app"},
		{"file:///srv/app.git", "file:///srv/app"},
		{"file:///srv/app/.git", "file:///srv/app"},
		{"file:///srv/app.git.git", "file:///srv/app.git"},
		{"https://h.example/App", "https://h.example/app"},
		{"https://h.example/app", "ssh://git@h.example/app"},
		{"https://h.example/app", "https://h.example:8443/app"},
	} {
		a, err := Canonical(pair[0])
		b, err2 := Canonical(pair[1])
		if err != nil || err2 != nil || a == b {
			t.Errorf("%s and %s: got %q and %q, %v, %v", pair[0], pair[1], a, b, err, err2)
		}
	}
}

func TestCredentialsAreRefused(t *testing.T) {
	for _, uri := range []string{"https://u:hunter2@host.example/r", "https://hunter2@host.example/r", "ssh://git:hunter2@host.example/r"} {
		_, _, err := fetch(t, Request{URI: uri, Ref: "main"})
		if err == nil || strings.Contains(err.Error(), "hunter2") || !strings.Contains(err.Error(), "credentials") {
			t.Errorf("got %v, want a refusal that does not repeat them", err)
		}
		if _, err := Lookup(t.Context(), Question{URI: uri, Commit: strings.Repeat("12", 20)}); err == nil || strings.Contains(err.Error(), "hunter2") {
			t.Errorf("Lookup: got %v", err)
		}
	}
}

func TestJoin(t *testing.T) {
	for _, tc := range [][3]string{
		{"https://h.example/a/b.git", "../c.git", "https://h.example/a/c.git"},
		{"https://h.example/a/b", "../../x/c", "https://h.example/x/c"},
		{"https://h.example/a/b", "./c", "https://h.example/a/b/c"},
		{"git@h.example:a/b.git", "../c.git", "ssh://git@h.example/a/c.git"},
		{"file:///a/b", "../c", "file:///a/c"},
		{"https://h.example/a/b", "https://other.example/c", "https://other.example/c"},
		{"file:///a/b", "https://other.example/c", "https://other.example/c"},
		{"https://h.example/a", "../../../c", ""},
		{"https://h.example/a/b", "file:///etc", ""},
		{"https://h.example/a/b", "http://127.0.0.1/admin", ""},
		{"https://h.example/a/b", "https://127.0.0.1:6443/admin", ""},
		{"https://h.example/a/b", "https://localhost/admin", ""},
		{"https://h.example/a/b", "https://2130706433/admin", ""},
		{"https://h.example/a/b", "ssh://git@[::1]/admin", ""},
		{"ssh://git@h.example/a/b", "git@localhost:admin", ""},
		{"https://127.0.0.1:8443/a", "https://localhost/b", "https://localhost/b"},
		{"http://127.0.0.1/a", "ssh://git@127.0.0.1:2222/b", "ssh://git@127.0.0.1:2222/b"},
		{"file:///a/b", "https://localhost/c", "https://localhost/c"},
		{"http://127.0.0.1/a", "file:///etc", ""},
		{"https://h.example/a/b", "ext::sh -c touch% /tmp/x", ""},
		{"file:///a/b", "ext::sh", ""},
		{"file:///a/b", "--upload-pack=touch", ""},
		{"file:///a/b", "-u./payload", ""},
		{"https://h.example/a/b", "../c?x", ""},
		{"https://h.example/a/b", "../c/../../../d", ""},
		{"https://h.example/a/b", "https://u:p@other.example/c", ""},
		{"https://h.example/a/b", "/etc", ""},
		{"https://h.example/a/b", "", ""},
	} {
		parent, err := parseRemote(tc[0])
		if err != nil {
			t.Fatal(err)
		}
		got, err := parent.join(tc[1])
		if (err != nil) != (tc[2] == "") || err == nil && got.address() != tc[2] {
			t.Errorf("%s + %s: got %q, %v; want %q", tc[0], tc[1], got.address(), err, tc[2])
		}
	}
}

// Each accepted address has one canonical form. It contains no secret, and git cannot
// read it as an option.
func FuzzCanonical(f *testing.F) {
	for _, seed := range []string{"https://u:p@Host.example:443/a/b.git/", "git@host.example:a/b", "host.example/a", "file:///a/../b", "http://[::1]:80/r", "ssh://g@h.example:2222/~u/r"} {
		if _, err := Canonical(seed); err != nil {
			f.Fatalf("seed %q: %v", seed, err)
		}
		f.Add(seed)
	}
	f.Fuzz(func(t *testing.T, uri string) {
		r, err := parseRemote(uri)
		if err != nil {
			return
		}
		c := r.canonical()
		if again, err := Canonical(c); err != nil || again != c {
			t.Errorf("%q: canonical form %q becomes %q, %v", uri, c, again, err)
		}
		if same, err := Canonical(r.address()); err != nil || same != c {
			t.Errorf("%q: git is given %q, whose canonical form is %q, %v; want %q", uri, r.address(), same, err, c)
		}
		if strings.HasPrefix(c, "-") || strings.ContainsAny(c, " \n\x00") {
			t.Errorf("%q: canonical form %q", uri, c)
		}
	})
}
