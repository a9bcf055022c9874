package main

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"encoding/json"
	"encoding/pem"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/colophon-build/colophon/distrust"
	"github.com/colophon-build/colophon/internal/dirlock"
	"github.com/colophon-build/colophon/platform/api"
	"github.com/colophon-build/colophon/sbom"
	"github.com/colophon-build/colophon/test/distrusttest"
	"github.com/colophon-build/colophon/test/prooftest"
)

// distrustStage is an image that proves itself, and a list of one's own.
type distrustStage struct {
	*stage
	list, key, public string
}

func newDistrustStage(t *testing.T) *distrustStage {
	s := &distrustStage{stage: newStage(t)}
	s.run(exitOK, []string{"trust", "add", s.file("root.json", s.p.Document()), "--yes"})
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	der, err := x509.MarshalPKCS8PrivateKey(key)
	if err != nil {
		t.Fatal(err)
	}
	s.key = s.file("distrust.key", pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: der}))
	s.public = s.file("distrust.pub", []byte(s.run(exitOK, []string{"sign", "--public-key", "--key", s.key})))
	s.list = filepath.Join(t.TempDir(), "distrust.list")
	return s
}

// own runs a command on the list of one's own.
func (s *distrustStage) own(code int, args []string, words ...string) string {
	s.t.Helper()
	return s.run(code, append([]string{"distrust"}, append(args, "--list", s.list, "--key", s.key, "--unlogged")...), words...)
}

// TestDistrust: an entry counts at once, for every command that decides, and until it is lifted.
func TestDistrust(t *testing.T) {
	s := newDistrustStage(t)
	policy := s.file("policy.yaml", []byte("apiVersion: colophon.build/v1\nkind: ImagePolicy\nmetadata: {name: p}\nspec:\n  unmatched: deny\n  rules:\n    - name: app\n      images: [{glob: '**'}]\n      distrust: {maxAge: 1h, otherwise: undecided}\n      accept: [{built: {source: "+prooftest.Source+"}}]\n"))
	byFlags := []string{"verify", s.image, "--source", prooftest.Source, "--skip-source"}
	rules := map[string][]string{
		"verify": {"verify", s.image, "--policy", policy}, "many": {"verify", s.image, s.image, "--policy", policy}, "test": {"policy", "test", policy, s.image},
		"copy": {"copy", s.image, s.host + "/team/copy", "--policy", policy}, "why": {"why", s.image, "--policy", policy},
	}
	all := func(code int, words ...string) {
		t.Helper()
		for _, args := range rules {
			s.run(code, args, words...)
		}
	}
	s.run(exitOK, byFlags, "accepted")
	all(exitUndecided, "no issuer of a list of what is no longer trusted is named here")
	s.own(exitUsage, []string{"add", "--commit", prooftest.Commit, "--reason", "stolen"}, "does not exist", "--list-name")
	s.own(exitOK, []string{"add", "--commit", prooftest.Tree, "--reason", "another commit", "--list-name", "https://example.com/list"}, "1 entries")
	s.run(exitUsage, []string{"distrust", "issuer", "add", "own", s.list}, "who signs the list?")
	s.run(exitOK, []string{"distrust", "issuer", "add", "own", s.list, "--key", s.public, "--insecure-no-log"}, "counts now, signed by the key sha256:")
	s.run(exitOK, byFlags, "distrust", "no entry is about it: own (1 entries", "accepted")
	all(exitOK)

	s.own(exitOK, []string{"add", "--source", "git.example.com/team/app", "--from", "2020-01-01", "--reason", "its host was taken", "--replace", "sha256:" + strings.Repeat("ab", 32)})
	reports := []string{"--report", "sarif=" + filepath.Join(t.TempDir(), "r.sarif"), "--report", "junit=" + filepath.Join(t.TempDir(), "r.xml")}
	s.run(exitRejected, append(byFlags, reports...), "its host was taken (entry 1 of own); use sha256:abab", "rejected")
	for _, r := range []string{reports[1], reports[3]} {
		_, file, _ := strings.Cut(r, "=")
		if raw, err := os.ReadFile(file); err != nil || !strings.Contains(string(raw), "entry 1 of own") || !strings.Contains(string(raw), `"distrust"`) {
			t.Errorf("%s: got %s, %v", r, raw, err)
		}
	}
	all(exitRejected, "own")
	var v struct {
		Links []struct {
			Name  string
			Cause struct{ Kind, Got, Want, Authority string }
		}
	}
	if err := json.Unmarshal([]byte(s.run(exitRejected, append(byFlags, "--json"))), &v); err != nil {
		t.Fatal(err)
	}
	if l := v.Links[len(v.Links)-1]; l.Name != "distrust" || l.Cause.Kind != "no longer trusted" || l.Cause.Authority != "own" || !strings.HasPrefix(l.Cause.Got, "source https://git.example.com/team/app from 2020") {
		t.Errorf("got %+v", l)
	}
	s.run(exitOK, []string{"distrust", "list"}, "its host was taken", "another commit")
	s.run(exitOK, []string{"distrust", "show", "own", "1"}, "replace with", "sha256:abab")
	s.run(exitFailure, []string{"distrust", "show", "own", "7"}, "has 2 entries")
	old, err := os.ReadFile(s.list)
	if err != nil {
		t.Fatal(err)
	}
	s.own(exitOK, []string{"lift", "1", "--reason", "it was not"})
	s.own(exitUsage, []string{"lift", "1", "--reason", "again"}, "lifted by entry 2")
	s.run(exitOK, byFlags, "accepted")
	all(exitOK)
	s.run(exitOK, []string{"distrust", "list", "--all"}, "lifted by 2", "lifts 1")

	// The list before, or none, brings nothing back; and it is said.
	if err := os.WriteFile(s.list, old, 0o600); err != nil {
		t.Fatal(err)
	}
	s.run(exitUndecided, []string{"distrust", "list"}, "rolled back")
	s.run(exitOK, byFlags, "accepted") // what was read before has not expired
	s.run(exitUndecided, []string{"distrust", "export", "own", filepath.Join(t.TempDir(), "copy")}, "rolled back")
	s.run(exitOK, []string{"distrust", "issuer", "remove", "own"})
	s.run(exitOK, []string{"distrust", "issuer", "list"}, "no list counts", "hint: colophon distrust issuer add NAME")
	s.run(exitOK, []string{"distrust", "list"}, "no list counts", "hint: colophon distrust issuer add NAME")
}

// TestDistrustOnPlatform: an entry says for whom it counts, and how this machine follows the list.
func TestDistrustOnPlatform(t *testing.T) {
	s := newDistrustStage(t)
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		var e distrust.Entry
		if err := json.NewDecoder(r.Body).Decode(&e); err != nil || e.Number != 0 {
			t.Errorf("got entry %+v, %v, want one without a number", e, err)
		}
		if e.Lift != nil {
			e.Number = 5
		}
		_ = json.NewEncoder(w).Encode(e)
	}))
	defer server.Close()
	t.Setenv("COLOPHON_PLATFORM", s.file("admin.json", []byte(`{"url":"`+server.URL+`","token":"t","fingerprint":""}`)))
	add := []string{"distrust", "add", "--commit", prooftest.Commit, "--reason", "r"}
	lift := []string{"distrust", "lift", "4", "--reason", "r"}
	follow := "colophon distrust issuer add platform " + server.URL + "/distrust --key distrust.pub"
	s.run(exitOK, add, "entry 0 is in the list of "+server.URL, "whoever follows", server.URL+"/distrust/key > distrust.pub && "+follow)
	s.run(exitOK, lift, "entry 5, which lifts entry 4, is in the list", follow)
	s.run(exitOK, []string{"distrust", "issuer", "add", "shop", server.URL + "/distrust", "--key", s.public, "--insecure-no-log"})
	if out := s.run(exitOK, add, "whoever follows"); strings.Contains(out, "hint") {
		t.Errorf("this machine follows the list:\n%s", out)
	}
	for words, args := range map[string][]string{
		"--commit or --source or --builder":        {"add", "--reason", "r"},
		"--reason is required":                     {"add", "--commit", prooftest.Commit},
		"--commit and --digest exclude each other": {"add", "--reason", "r", "--commit", prooftest.Commit, "--digest", "x"},
		"colophon distrust lift --help":            {"lift", "0"},
		"reason: got nothing":                      {"lift", "0", "--reason", " "},
	} {
		s.run(exitUsage, append([]string{"distrust"}, args...), words)
	}
}

// TestDistrustExpires: by flags, an image is undecided once a list has expired, or if it was never read.
func TestDistrustExpires(t *testing.T) {
	s := newDistrustStage(t)
	byFlags := []string{"verify", s.image, "--source", prooftest.Source, "--skip-source"}
	s.run(exitOK, []string{"distrust", "issuer", "add", "own", s.list, "--key", s.public, "--insecure-no-log"})
	s.run(exitUndecided, byFlags, "never read", "undecided")
	s.own(exitOK, []string{"add", "--commit", prooftest.Tree, "--reason", "r", "--list-name", "l", "--expires-in", "1s"})
	for range 3 {
		s.own(exitOK, []string{"renew", "--expires-in", "1h"}, "counts until")
	}
	s.run(exitOK, byFlags, "accepted")
	s.run(exitOK, []string{"distrust", "export", "own", filepath.Join(t.TempDir(), "copy.list")}, "has 1 entries")
}

// TestDistrustDryRun: says what an entry would take down, and adds nothing.
func TestDistrustDryRun(t *testing.T) {
	s := newDistrustStage(t)
	images := s.file("images.txt", []byte(s.image+"\n"))
	try := func(code int, words []string, args ...string) {
		t.Helper()
		s.run(code, append([]string{"distrust", "add", "--reason", "r", "--dry-run", "-f", images}, args...), words...)
	}
	try(exitRejected, []string{"rejected", s.image, "1 of 1 images would be rejected", "nothing was added"}, "--commit", prooftest.Commit)
	try(exitOK, []string{"0 of 1"}, "--commit", prooftest.Tree)
	try(exitRejected, []string{`"because": true`}, "--builder", prooftest.Builder, "--wide", "--json")
	try(exitUsage, []string{"unlimited"}, "--builder", prooftest.Builder)
	if _, err := os.Stat(s.list); err == nil {
		t.Error("a dry run wrote the list")
	}
	s.run(exitUsage, []string{"distrust", "add", "--commit", prooftest.Commit, "--reason", "r", "-f", images}, "--dry-run")

	// What is to be used instead must be there, and must not be what the entry takes down.
	digest := strings.TrimSpace(s.run(exitOK, []string{"verify", s.image, "--source", prooftest.Source, "--skip-source", "-o", "template={{.digest}}"}))
	try(exitUndecided, []string{"replacement, undecided", "accepted in none of the repositories"}, "--commit", prooftest.Tree, "--replace", "sha256:"+strings.Repeat("ab", 32))
	try(exitOK, []string{"replacement, accepted", "0 of 1 images"}, "--commit", prooftest.Tree, "--replace", digest)
	try(exitRejected, []string{"replacement, rejected", "1 of 1 images", "accepted in none of the repositories"}, "--commit", prooftest.Commit, "--replace", digest)
	try(exitUndecided, []string{`"replacement": true`}, "--commit", prooftest.Tree, "--replace", "sha256:"+strings.Repeat("ab", 32), "--json")

	// What a list rejects already is not rejected because of the entry.
	s.own(exitOK, []string{"add", "--commit", prooftest.Commit, "--reason", "stolen", "--list-name", "https://example.com/list"})
	s.run(exitOK, []string{"distrust", "issuer", "add", "own", s.list, "--key", s.public, "--insecure-no-log"})
	try(exitOK, []string{"rejected already", "stolen (entry 0 of own)", "0 of 1 images would be rejected because", "1 are not accepted without it"}, "--builder", prooftest.Builder, "--wide")
}

// TestDistrustDryRunCut: of a platform that may have more releases than were tried, it is not known what else an entry does.
func TestDistrustDryRunCut(t *testing.T) {
	s := newDistrustStage(t)
	runs := maxTried
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		all := make([]api.Run, runs)
		for i := range all {
			all[i] = api.Run{ID: strings.Repeat("0", 32), State: api.Released}
		}
		_ = json.NewEncoder(w).Encode(api.Runs{Releases: all})
	}))
	defer server.Close()
	t.Setenv("COLOPHON_PLATFORM", s.file("admin.json", []byte(`{"url":"`+server.URL+`","token":"t","fingerprint":""}`)))
	try := []string{"distrust", "add", "--commit", prooftest.Commit, "--reason", "r", "--dry-run"}
	s.run(exitUndecided, try, "only the newest 1000 releases")
	runs--
	if out := s.run(exitOK, try, "0 of 0"); strings.Contains(out, "only the newest") {
		t.Errorf("all were tried:\n%s", out)
	}
}

// TestAttestScans: what is of no format is refused before it is signed.
func TestAttestScans(t *testing.T) {
	for file, want := range map[string]struct{ kind, uri string }{
		"sarif": {"vuln", predicateVuln}, "trivy": {"vuln", predicateVuln}, "grype": {"vuln", predicateVuln}, "osv": {"vuln", predicateVuln},
		"openvex": {"vex", predicateOpenVEX}, "csaf": {"vex", predicateCSAF}, "cyclonedx-vex": {"vex", predicateCDXVEX},
	} {
		raw, err := os.ReadFile(filepath.Join("..", "..", "sbom", "scan", "testdata", file+".json"))
		if err != nil {
			t.Fatal(err)
		}
		p, err := parsePredicate(want.kind, raw)
		if err != nil || p.uri != want.uri || !json.Valid(p.raw) || !strings.Contains(string(p.raw), "CVE-2021-44228") {
			t.Errorf("%s: got %+v, %v", file, p, err)
		}
		again, _ := parsePredicate(want.kind, raw)
		if again == nil || string(again.raw) != string(p.raw) {
			t.Errorf("%s: the same document is another predicate", file)
		}
		other := map[string]string{"vuln": "vex", "vex": "vuln"}[want.kind]
		if _, err := parsePredicate(other, raw); err == nil {
			t.Errorf("%s: it was taken as %s", file, other)
		}
	}
	if _, err := parsePredicate("vuln", []byte(`{"results":"none"}`)); err == nil {
		t.Error("no scan was taken")
	}
}

// TestAttestLicenses: a license scan becomes a SCAI report with the document as evidence, the same every time, and no SBOM.
func TestAttestLicenses(t *testing.T) {
	const bom = `{"bomFormat":"CycloneDX","specVersion":"1.6","version":1,"metadata":{"component":{"type":"container","name":"app"}},"components":[{"type":"library","name":"a","version":"1","licenses":[{"license":{"id":"GPL-2.0-only"}}]}]}`
	p, err := parsePredicate("license", []byte(bom))
	if err != nil || p.uri != predicateSCAI || sbom.Format(p.uri) != "" {
		t.Fatalf("got %+v, %v", p, err)
	}
	again, _ := parsePredicate("license", []byte(bom))
	if again == nil || string(again.raw) != string(p.raw) {
		t.Error("the same document is another predicate")
	}
	var report scaiReport
	if err := json.Unmarshal(p.raw, &report); err != nil || len(report.Attributes) != 2 || string(report.Attributes[0].Evidence.Content) != bom || report.Attributes[1].Attribute != "LICENSE_FOUND: GPL-2.0-only" {
		t.Errorf("got %s, %v", p.raw, err)
	}
	if own, err := parsePredicate("license", p.raw); err != nil || string(own.raw) != string(p.raw) {
		t.Errorf("a report that is one already: got %+v, %v", own, err)
	}
	for raw, want := range map[string]string{
		`{}`:                    "none of SPDX",
		`{"attributes":[]}`:     "at least one",
		`{"attributes":[{}]}`:   "has no attribute",
		`{"attributes":"none"}`: "cannot unmarshal",
		strings.ReplaceAll(bom, "GPL-2.0-only", "NOASSERTION"): "names no license",
	} {
		if _, err := parsePredicate("license", []byte(raw)); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%s: got %v, want %q", raw, err, want)
		}
	}
}

// TestForgedList: whoever can write the file of a list gets nothing signed by its key: no entry, no lift.
func TestForgedList(t *testing.T) {
	s := newDistrustStage(t)
	s.own(exitOK, []string{"add", "--commit", prooftest.Commit, "--reason", "stolen", "--list-name", "https://example.com/list"})
	good, err := os.ReadFile(s.list)
	if err != nil {
		t.Fatal(err)
	}
	n := 0
	forged := distrusttest.New(t).Forge(good, distrust.Entry{Lift: &n, Reason: "trust me"})
	if err := os.WriteFile(s.list, forged, 0o600); err != nil {
		t.Fatal(err)
	}
	s.own(exitFailure, []string{"renew"}, "is not signed by this key", "--new-key")
	s.own(exitFailure, []string{"add", "--commit", prooftest.Tree, "--reason", "stolen"}, "is not signed by this key")
	s.own(exitUsage, []string{"lift", "0", "--reason", "a mistake"}, "lifted by entry 1")
	if left, err := os.ReadFile(s.list); err != nil || string(left) != string(forged) {
		t.Errorf("the list was changed: %v", err)
	}
	s.own(exitOK, []string{"renew", "--new-key"}, "2 entries")
	if err := os.WriteFile(s.list, good, 0o600); err != nil {
		t.Fatal(err)
	}
	s.own(exitOK, []string{"renew"}, "1 entries")
}

// TestListInUse: of two commands that change a list at once, one fails, and none loses the entry of the other.
func TestListInUse(t *testing.T) {
	s := newDistrustStage(t)
	s.own(exitOK, []string{"add", "--commit", prooftest.Commit, "--reason", "stolen", "--list-name", "https://example.com/list"})
	lock, err := dirlock.TakeFile(s.list + ".lock")
	if err != nil {
		t.Fatal(err)
	}
	s.own(exitFailure, []string{"add", "--commit", prooftest.Tree, "--reason", "stolen"}, "in use by another process")
	lock.Release()
	s.own(exitOK, []string{"add", "--commit", prooftest.Tree, "--reason", "stolen"}, "2 entries")
}
