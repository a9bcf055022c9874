package main

import (
	"encoding/json"
	"fmt"
	"os"
	"strings"
	"testing"

	"github.com/colophon-build/colophon/attest"
	"github.com/colophon-build/colophon/distrust"
	"github.com/colophon-build/colophon/sbom/scan"
	"github.com/colophon-build/colophon/test/distrusttest"
	"github.com/colophon-build/colophon/test/prooftest"
)

// vexAbout returns a statement about an image: an OpenVEX document about a product, or a part of it.
func vexAbout(digest, vulnerability, product string) string {
	return fmt.Sprintf(`{"_type":"https://in-toto.io/Statement/v1","subject":[{"name":"registry.example/app","digest":{"sha256":%q}}],"predicateType":"https://openvex.dev/ns/v0.2.0",
"predicate":{"@context":"https://openvex.dev/ns/v0.2.0","@id":"https://team.example/vex","author":"team","statements":[{"vulnerability":{"name":%q},"products":[%s],"status":"not_affected","justification":"vulnerable_code_not_in_execute_path"}]}}`, strings.TrimPrefix(digest, "sha256:"), vulnerability, product)
}

// TestSearchWithout: an image is left out only if whom the user names signed a VEX statement about the package in
// it. Whoever may push can archive anything about any image, and must hide none.
func TestSearchWithout(t *testing.T) {
	s := newArchiveStage(t, unwitnessed)
	s.trustIt()
	s.run(exitOK, []string{"trust", "add", s.file("other.json", s.p.Document()), "--yes"}, "trusted")
	const log4j = `{"@id":"pkg:oci/app","subcomponents":[{"@id":"pkg:maven/org.apache.logging.log4j/log4j-core@2.14.1"}]}`
	other := "sha256:" + strings.Repeat("a", 64)
	s.push(app, withLog4j)
	s.push(other, strings.ReplaceAll(withLog4j, strings.TrimPrefix(app, "sha256:"), strings.Repeat("a", 64)))
	team := prooftest.Identity{SAN: "https://ci.example/acme/app", Issuer: prooftest.URL}
	byTeam := []string{"--without", "vex", "--vex-identity", team.SAN, "--vex-issuer", team.Issuer}
	search := func(more ...string) (f foundWithout) {
		t.Helper()
		out := s.run(exitOK, append([]string{"log", "search", "--log", s.url, "--package", "log4j-core@2.14.1", "--json"}, more...))
		if err := json.Unmarshal([]byte(out), &f); err != nil {
			t.Fatal(err)
		}
		return f
	}
	both := func(what string, more ...string) {
		t.Helper()
		if len(more) == 0 {
			more = byTeam[2:]
		}
		if f := search(append(more, "--without", "vex")...); len(f.Images) != 2 || len(f.Explained) != 0 {
			t.Errorf("%s: got %d images without VEX and %d with it, want 2 and 0", what, len(f.Images), len(f.Explained))
		}
	}
	holder := s.p.KeyHolder()
	key := s.file("vex.pub", holder.PublicKey())
	both("no VEX")
	envelope, _ := holder.Envelope([]byte(vexAbout(app, "CVE-2021-44228", log4j)))
	for what, content := range map[string]string{
		"nobody signed it":     vexAbout(app, "CVE-2021-44228", log4j),
		"an unknown authority": string(prooftest.New(t).Sign(team, []byte(vexAbout(app, "CVE-2021-44228", log4j)))),
		"a key":                string(envelope),
		"another package":      string(s.p.Sign(team, []byte(vexAbout(app, "CVE-2021-44228", `{"@id":"pkg:oci/app","subcomponents":[{"@id":"pkg:maven/org.apache.logging.log4j/log4j-api@2.14.1"}]}`)))),
		"another version":      string(s.p.Sign(team, []byte(vexAbout(app, "CVE-2021-44228", strings.Replace(log4j, "2.14.1", "2.17.0", 1))))),
		"the image":            string(s.p.Sign(team, []byte(vexAbout(app, "CVE-2021-44228", `{"@id":"pkg:oci/app"}`)))),
		"another image":        string(s.p.Sign(team, []byte(vexAbout("sha256:"+strings.Repeat("b", 64), "CVE-2021-44228", log4j)))),
		"not JSON":             "{",
		"another identity":     string(s.p.Sign(prooftest.Identity{SAN: "https://ci.example/mallory", Issuer: prooftest.URL}, []byte(vexAbout(app, "CVE-2021-44228", log4j)))),
		"changed":              strings.Replace(string(s.p.Sign(team, []byte(vexAbout(app, "CVE-2021-44228", log4j)))), `"payload":"ey`, `"payload":"ez`, 1),
	} {
		s.pushAs(app, content)
		both(what)
		both(what+", with a key", "--vex-key", key)
	}
	s.run(exitOK, []string{"log", "search", "--log", s.url, "--package", "log4j-core@2.14.1", "--without", "vex"}, app, other, "ignored   VEX sha256:", "it is not signed", "2 images have the package and no vex about it, 0 have both", "complete for 127.0.0.1/archive")

	s.pushAs(app, string(s.p.Sign(team, []byte(vexAbout(app, "CVE-2021-44228", log4j)))))
	f := search(byTeam...)
	if len(f.Images) != 1 || f.Images[0].Digest != other || len(f.Explained) != 1 || f.Explained[0].Digest != app {
		t.Fatalf("got %+v without VEX and %+v with it", f.Images, f.Explained)
	}
	if says := f.Explained[0].VEX; len(says) != 1 || says[0].Signer != team.SAN || says[0].Status != scan.NotAffected || says[0].Vulnerability != "CVE-2021-44228" {
		t.Errorf("got %+v", says)
	}
	s.run(exitOK, []string{"log", "search", "--log", s.url, "--package", "log4j-core", "--without", "vex:CVE-2021-44228", "--vex-identity", team.SAN, "--vex-issuer", team.Issuer}, "left out, because of VEX:", "CVE-2021-44228 not_affected in pkg:maven/org.apache.logging.log4j/log4j-core@2.14.1, signed by "+team.SAN, "1 images have the package and no vex:CVE-2021-44228 about it, 1 have both")
	s.run(exitOK, []string{"log", "search", "--log", s.url, "--package", "pkg:maven/org.apache.logging.log4j/log4j-core@2.14.1", "--without", "vex:CVE-2021-45046", "--vex-identity", team.SAN, "--vex-issuer", team.Issuer}, "2 images have the package", "0 have both")
	both("a certificate, with a key", "--vex-key", key)
	s.run(exitOK, []string{"log", "search", "--log", s.url, "--package", "log4j-core@2.14.1", "--without", "vex"}, "it counts with --vex-identity "+team.SAN+" --vex-issuer "+team.Issuer, "2 images have the package and no vex")

	issuer := distrusttest.New(t)
	list := s.file("distrust.list", issuer.Add(distrust.Scope{Identity: "https://other.example", Issuer: prooftest.URL}))
	s.run(exitOK, []string{"distrust", "issuer", "add", "shop", list, "--key", s.file("distrust.pub", []byte(issuer.PublicKey())), "--insecure-no-log"})
	if f := search(byTeam...); len(f.Explained) != 1 {
		t.Errorf("somebody else is distrusted: got %+v", f.Images)
	}
	if err := os.WriteFile(list, issuer.Add(distrust.Scope{Identity: team.SAN, Issuer: team.Issuer}), 0o600); err != nil {
		t.Fatal(err)
	}
	both("a signer who is distrusted")
	s.run(exitOK, append([]string{"log", "search", "--log", s.url, "--package", "log4j-core@2.14.1"}, byTeam...), "identity "+team.SAN+" of "+team.Issuer+" is no longer trusted: taken (entry 1 of shop)")
	for _, bad := range [][]string{{"--package", "a", "--without", "sbom"}, {"--package", "a", "--without", "vex:"}, {"--base", "a", "--without", "vex"}, {"--digest", app, "--without", "vex"}, {"--package", "a", "--vex-key", key}, {"--package", "a", "--vex-identity", "a", "--vex-issuer", "b"}, {"--package", "a", "--without", "vex", "--vex-identity", "a"}, {"--package", "a", "--without", "vex", "--vex-key", s.file("none", nil)}} {
		s.run(exitUsage, append([]string{"log", "search", "--log", s.url}, bad...))
	}
}

// TestSearchWithoutEach: an image is left out only if each of its packages that were asked for is explained, and a statement
// about a package of the same name in another ecosystem explains nothing. Of what a document says, its last word is shown.
func TestSearchWithoutEach(t *testing.T) {
	s := newArchiveStage(t, unwitnessed)
	s.trustIt()
	s.run(exitOK, []string{"trust", "add", s.file("other.json", s.p.Document()), "--yes"}, "trusted")
	team := prooftest.Identity{SAN: "https://ci.example/acme/app", Issuer: prooftest.URL}
	part := func(purl string) string {
		return `{"@id":"pkg:oci/app","subcomponents":[{"@id":"` + purl + `"}]}`
	}
	s.push(app, strings.Replace(withLog4j, `"components":[`, `"components":[{"type":"library","name":"log4j-core","version":"2.17.0","purl":"pkg:maven/org.apache.logging.log4j/log4j-core@2.17.0"},{"type":"library","name":"core","version":"1","purl":"pkg:pypi/core@1"},{"type":"library","name":"core","version":"1","purl":"pkg:npm/core@1"},`, 1))
	images := func(name string, want int, more ...string) {
		t.Helper()
		var f foundWithout
		out := s.run(exitOK, append([]string{"log", "search", "--log", s.url, "--package", name, "--without", "vex", "--vex-identity", team.SAN, "--vex-issuer", team.Issuer, "--json"}, more...))
		if err := json.Unmarshal([]byte(out), &f); err != nil || len(f.Images) != want || len(f.Images)+len(f.Explained) != 1 {
			t.Errorf("%s: got %d images without VEX and %d with it, %v; want %d of 1", name, len(f.Images), len(f.Explained), err, want)
		}
	}
	s.pushAs(app, string(s.p.Sign(team, []byte(vexAbout(app, "CVE-2021-44228", part("pkg:maven/org.apache.logging.log4j/log4j-core@2.17.0"))))))
	images("log4j-core@2.17.0", 0)
	images("log4j-core@2.14.1", 1)
	images("log4j-core", 1)
	images("pkg:maven/org.apache.logging.log4j/log4j-core", 1)
	s.pushAs(app, string(s.p.Sign(team, []byte(vexAbout(app, "CVE-2026-1", part("pkg:npm/core@1"))))))
	images("core@1", 1)
	s.pushAs(app, string(s.p.Sign(team, []byte(vexAbout(app, "CVE-2026-1", part("pkg:maven/com.example/log4j-core@2.14.1"))))))
	images("log4j-core@2.14.1", 1)
	s.pushAs(app, string(s.p.Sign(team, []byte(vexAbout(app, "CVE-2026-1", part("pkg:pypi/core@1"))))))
	images("core@1", 0)

	changed := vexAbout(app, "CVE-2021-44228", part("pkg:maven/org.apache.logging.log4j/log4j-core@2.14.1"))
	changed = strings.Replace(changed, `"statements":[`, `"statements":[{"vulnerability":{"name":"CVE-2021-44228"},"products":[`+part("pkg:maven/org.apache.logging.log4j/log4j-core@2.14.1")+`],"status":"under_investigation"},`, 1)
	changed = strings.Replace(changed, `"status":"not_affected","justification":"vulnerable_code_not_in_execute_path"`, `"status":"affected","action_statement":"upgrade"`, 1)
	s.pushAs(app, string(s.p.Sign(team, []byte(changed))))
	s.run(exitOK, []string{"log", "search", "--log", s.url, "--package", "log4j-core", "--without", "vex", "--vex-identity", team.SAN, "--vex-issuer", team.Issuer}, "CVE-2021-44228 affected in pkg:maven/org.apache.logging.log4j/log4j-core@2.14.1", "0 images have the package and no vex about it, 1 have both")
}

// TestAboutPackage: a package of another name that ends alike is another one.
func TestAboutPackage(t *testing.T) {
	for _, c := range []struct {
		purl, value string
		want        bool
	}{
		{"pkg:maven/org.apache.logging.log4j/log4j-core@2.14.1?type=jar", "log4j-core@2.14.1", true},
		{"pkg:maven/org.apache.logging.log4j/log4j-core", "log4j-core@2.14.1", true},
		{"pkg:maven/org.apache.logging.log4j/log4j-core@2.14.1", "org.apache.logging.log4j/log4j-core@2.14.1", true},
		{"pkg:maven/org.apache.logging.log4j/log4j-core@2.14.1", "pkg:maven/org.apache.logging.log4j/log4j-core@2.14.1", true},
		{"pkg:maven/com.example/log4j-core@2.14.1", "pkg:maven/org.apache.logging.log4j/log4j-core@2.14.1", false},
		{"pkg:npm/%40babel/core@7.0.0", "@babel/core@7.0.0", true},
		{"pkg:npm/%40babel/core@7.0.0", "core@7.0.0", false},
		{"pkg:golang/github.com/a/b@v1.0.0", "github.com/a/b@v1.0.0", true},
		{"pkg:golang/github.com/a/b@v1.0.0", "b@v1.0.0", false},
		{"pkg:deb/debian/openssl@3.0.1", "openssl@3.0.1", true},
		{"pkg:deb/debian/openssl@3.0.1", "openssl@3.0.2", false},
		{"pkg:pypi/Foo_Bar@1", "pkg:pypi/foo-bar@1", true},
	} {
		if got := aboutPackage(scan.Finding{PURL: c.purl}, c.value); got != c.want {
			t.Errorf("%s about %s: got %t, want %t", c.purl, c.value, got, c.want)
		}
	}
	if aboutPackage(scan.Finding{}, "a@1") || aboutPackage(scan.Finding{Package: "b"}, "a@1") || !aboutPackage(scan.Finding{Package: "a"}, "a@1") {
		t.Error("a statement without a package URL")
	}
}

// pushAs is push for what may be a bundle, an envelope or a statement.
func (s *archiveStage) pushAs(attached, content string) {
	s.t.Helper()
	switch {
	case strings.Contains(content, `"dsseEnvelope"`):
		s.pushType(attached, content, attest.BundleMediaType)
	case strings.HasPrefix(content, `{"payload`):
		s.pushType(attached, content, attest.EnvelopeMediaType)
	default:
		s.pushType(attached, content, attest.PayloadType)
	}
}
