package distrust_test

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/colophon-build/colophon/distrust"
)

const (
	image  = "sha256:aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa"
	other  = "sha256:bbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbb"
	commit = "381e42a0381e42a0381e42a0381e42a0381e42a0"
	app    = "https://git.example.com/team/app"
)

var noon = time.Date(2026, 11, 27, 12, 0, 0, 0, time.UTC)

func at(hours int) *time.Time { return new(noon.Add(time.Duration(hours) * time.Hour)) }

// listOf returns a list with these scopes, unsigned.
func listOf(t *testing.T, scopes ...distrust.Scope) *distrust.List {
	t.Helper()
	var entries []distrust.Entry
	for _, s := range scopes {
		entries = append(entries, distrust.Entry{Time: noon, Scope: &s, Reason: "taken"})
	}
	return parse(t, write(t, nil, entries...))
}

// write returns the file of a list with more entries.
func write(t *testing.T, before *distrust.List, more ...distrust.Entry) []byte {
	t.Helper()
	head, lines, err := distrust.Next(before, "https://issuer.example/distrust", more, noon, time.Hour)
	if err != nil {
		t.Fatal(err)
	}
	var raw []byte
	if before != nil {
		h, s := before.Signed()
		raw = fmt.Appendf(nil, "%s\n%s\n", h, s)
		for _, e := range before.All() {
			line, err := json.Marshal(e)
			if err != nil {
				t.Fatal(err)
			}
			raw = fmt.Appendf(raw, "%s\n", line)
		}
	}
	return distrust.File(raw, head, []byte("{}"), lines)
}

func parse(t *testing.T, raw []byte) *distrust.List {
	t.Helper()
	l, err := distrust.Parse(raw)
	if err != nil {
		t.Fatal(err)
	}
	return l
}

func known(name string, l *distrust.List) distrust.Known {
	return distrust.Known{Issuer: distrust.Issuer{Name: name, Wide: true}, List: l}
}

// facts are those of an image with one proof by a builder.
func facts() *distrust.Facts {
	return &distrust.Facts{
		Digests: []string{image, other}, Source: app, Commit: commit, Builder: "https://ci.example/builder@refs/tags/v1",
		Signers: []distrust.Signer{{Identity: "https://ci.example/builder", Issuer: "https://ci.example", Before: *at(1), After: *at(0)}},
		Beside:  []distrust.Signer{{Key: other, Before: *at(5)}},
		Inputs: []distrust.Input{
			{URI: "pkg:docker/debian@12?platform=linux%2Famd64", Digest: image}, {URI: "pkg:docker/ghcr.io/org/base@v1", Digest: other},
			{URI: "https://dl.example/tool.tgz", Digest: "sha256:" + strings.Repeat("c", 64)},
		},
		Packages: func() ([]distrust.Listed, error) {
			return []distrust.Listed{
				{Name: "log4j-core", Version: "2.14.1", PURL: "pkg:maven/org.apache.logging.log4j/log4j-core@2.14.1?type=jar"},
				{Name: "@scope/pkg", Version: "1.0.0+x", PURL: "pkg:npm/%40scope/pkg@1.0.0%2Bx"},
			}, nil
		},
	}
}

// TestScopesAreExact: each scope is about what it names, and about nothing near it.
func TestScopesAreExact(t *testing.T) {
	for _, tt := range []struct {
		what  string
		scope distrust.Scope
		is    bool
	}{
		{"commit", distrust.Scope{Commit: commit}, true},
		{"another commit of the same repository", distrust.Scope{Commit: strings.Replace(commit, "381", "382", 1)}, false},
		{"commit of the source", distrust.Scope{Commit: commit, Source: app}, true},
		{"the same commit id in another repository", distrust.Scope{Commit: commit, Source: app + "2"}, false},
		{"source", distrust.Scope{Source: app}, true},
		{"the beginning of a source", distrust.Scope{Source: "https://git.example.com/team"}, false},
		{"source, signed in the time", distrust.Scope{Source: app, From: at(0), Until: at(2)}, true},
		{"source, proven to be signed before", distrust.Scope{Source: app, From: at(2)}, false},
		{"source, proven to be signed after", distrust.Scope{Source: app, Until: at(0)}, false},
		{"source, certified in the time", distrust.Scope{Source: app, Until: at(1)}, true},
		{"builder", distrust.Scope{Builder: "https://ci.example/builder@refs/tags/v1", Wide: true}, true},
		{"builder without its ref", distrust.Scope{Builder: "https://ci.example/builder", From: at(0)}, true},
		{"builder at another ref", distrust.Scope{Builder: "https://ci.example/builder@refs/tags/v2", Wide: true}, false},
		{"builder, signed before", distrust.Scope{Builder: "https://ci.example/builder", From: at(3)}, false},
		{"identity", distrust.Scope{Identity: "https://ci.example/builder", Issuer: "https://ci.example"}, true},
		{"identity of another issuer", distrust.Scope{Identity: "https://ci.example/builder", Issuer: "https://evil.example"}, false},
		{"key", distrust.Scope{Key: other}, true},
		{"key, signed before", distrust.Scope{Key: other, From: at(6)}, false},
		{"key, whose signature may be older than its time", distrust.Scope{Key: other, Until: at(1)}, true},
		{"base by tag", distrust.Scope{Base: "debian:12"}, true},
		{"base by its whole name", distrust.Scope{Base: "docker.io/library/debian:12"}, true},
		{"base by another tag", distrust.Scope{Base: "debian:11"}, false},
		{"base by name and digest", distrust.Scope{Base: "debian@" + image}, true},
		{"base by another digest", distrust.Scope{Base: "debian@" + other}, false},
		{"base by digest", distrust.Scope{Base: other}, true},
		{"base by name", distrust.Scope{Base: "ghcr.io/org/base", Wide: true}, true},
		{"base by the beginning of a name", distrust.Scope{Base: "ghcr.io/org", Wide: true}, false},
		{"package by name and version", distrust.Scope{Package: "log4j-core@2.14.1"}, true},
		{"package at another version", distrust.Scope{Package: "log4j-core@2.14.10"}, false},
		{"package URL", distrust.Scope{Package: "pkg:maven/org.apache.logging.log4j/log4j-core@2.14.1"}, true},
		{"package URL without a version", distrust.Scope{Package: "pkg:maven/org.apache.logging.log4j/log4j-core", Wide: true}, true},
		{"package URL of another type", distrust.Scope{Package: "pkg:npm/log4j-core@2.14.1"}, false},
		{"package URL with other escapes", distrust.Scope{Package: "pkg:npm/@scope/pkg@1.0.0+x"}, true},
		{"scoped package", distrust.Scope{Package: "@scope/pkg", Wide: true}, true},
		{"digest of the index", distrust.Scope{Digest: image}, true},
		{"digest of a manifest in it", distrust.Scope{Digest: other}, true},
		{"another digest", distrust.Scope{Digest: "sha256:" + strings.Repeat("d", 64)}, false},
		{"download by its URL", distrust.Scope{Fetched: "https://dl.example/tool.tgz"}, true},
		{"download below the URL", distrust.Scope{Fetched: "https://dl.example/tool"}, false},
		{"download by its content", distrust.Scope{Fetched: "sha256:" + strings.Repeat("c", 64)}, true},
	} {
		found, err := distrust.Lists{known("a", listOf(t, tt.scope))}.Find(facts())
		if err != nil || (found != nil) != tt.is {
			t.Errorf("%s: got %v, %v, want an entry: %v", tt.what, found, err, tt.is)
		}
		if found != nil && !strings.Contains(found.String(), "taken (entry 0 of a)") {
			t.Errorf("%s: got %q, want reason, number and issuer", tt.what, found)
		}
	}
}

// TestBaseByOtherNames: an entry about a base image is about it whatever form of address the provenance has.
func TestBaseByOtherNames(t *testing.T) {
	entries := map[string]distrust.Scope{
		"tag": {Base: "r.example:5000/t/base:1"}, "name and digest": {Base: "r.example:5000/t/base@" + image},
		"digest": {Base: image}, "name": {Base: "r.example:5000/t/base", Wide: true},
	}
	for _, tt := range []struct {
		in    distrust.Input
		finds string
	}{
		{distrust.Input{URI: "pkg:docker/r.example%3A5000/t/base@1?platform=linux%2Famd64", Digest: image}, "tag, name and digest, digest, name"},
		{distrust.Input{URI: "pkg:docker/r.example:5000/t/base?digest=" + image}, "name and digest, digest, name"},
		{distrust.Input{URI: "pkg:docker/r.example:5000/t/base@sha256%3A" + image[7:]}, "name and digest, digest, name"},
		{distrust.Input{URI: "pkg:docker/t/base@1?repository_url=r.example:5000", Digest: image}, "tag, name and digest, digest, name"},
		{distrust.Input{URI: "pkg:oci/base@sha256%3A" + image[7:] + "?repository_url=r.example:5000/t/base&tag=1"}, "tag, name and digest, digest, name"},
		{distrust.Input{URI: "oci://r.example:5000/t/base", Digest: image}, "name and digest, digest, name"},
		{distrust.Input{URI: "docker://r.example:5000/t/base:1@" + image}, "tag, name and digest, digest, name"},
		{distrust.Input{URI: "docker-pullable://r.example:5000/t/base:1"}, "tag, name"},
		{distrust.Input{URI: "r.example:5000/t/base:1", Digest: image}, "digest"},
		{distrust.Input{URI: "oci://r.example:5000/t/base2:1", Digest: other}, ""},
		{distrust.Input{URI: "oci://"}, ""},
		{distrust.Input{URI: "pkg:docker/"}, ""},
	} {
		for what, scope := range entries {
			found, err := distrust.Lists{known("a", listOf(t, scope))}.Find(&distrust.Facts{Inputs: []distrust.Input{tt.in}})
			if want := slices.Contains(strings.Split(tt.finds, ", "), what); err != nil || (found != nil) != want {
				t.Errorf("%+v, entry about the %s: got %v, %v, want an entry: %v", tt.in, what, found, err, want)
			}
		}
	}
}

// TestVersionBesideTheURL: an SBOM may have the version of a package only beside its package URL.
func TestVersionBesideTheURL(t *testing.T) {
	f := &distrust.Facts{Packages: func() ([]distrust.Listed, error) {
		return []distrust.Listed{{Name: "core", Version: "1.2", PURL: "pkg:maven/org.example/core"}}, nil
	}}
	for purl, want := range map[string]bool{"pkg:maven/org.example/core@1.2": true, "pkg:maven/org.example/core@1.3": false} {
		found, err := distrust.Lists{known("a", listOf(t, distrust.Scope{Package: purl}))}.Find(f)
		if err != nil || (found != nil) != want {
			t.Errorf("%s: got %v, %v, want an entry: %v", purl, found, err, want)
		}
	}
}

// TestOneNameOfAPackage: scanners write names as the package itself does, advisories in the form of
// the specification of package URLs; and CycloneDX has the group of a Java package in its name.
func TestOneNameOfAPackage(t *testing.T) {
	f := &distrust.Facts{Packages: func() ([]distrust.Listed, error) {
		return []distrust.Listed{
			{Name: "Flask_Login", Version: "0.6", PURL: "pkg:pypi/Flask_Login@0.6"},
			{Name: "github.com/BurntSushi/toml", Version: "v1.5.0", PURL: "pkg:golang/github.com/BurntSushi/toml@v1.5.0"},
			{Name: "Thing", Version: "1", PURL: "pkg:maven/org.example/Thing@1"},
			{Name: "org.example/core", Version: "2", PURL: "pkg:maven/org.example/core@2?type=jar"}, // CycloneDX, with its group
			{Name: "@scope/pkg", Version: "3", PURL: "pkg:npm/%40scope/pkg@3"},
		}, nil
	}}
	for entry, want := range map[string]bool{
		"pkg:pypi/flask-login@0.6": true, "pkg:pypi/Flask.Login@0.6": true, "Flask_Login@0.6": true, "flask-login@0.6": true, "pkg:pypi/flask-login@0.7": false, "pkg:pypi/flasklogin@0.6": false,
		"pkg:golang/github.com/burntsushi/toml@v1.5.0": true, "pkg:golang/github.com/BurntSushi/toml@v1.5.0": true, "github.com/BurntSushi/toml@v1.5.0": true, "pkg:golang/github.com/burntsushi/toml@v1.6.0": false,
		"core@2": true, "org.example/core@2": true, "core@1": false, "pkg@3": false, "@scope/pkg@3": true,
		"pkg:maven/org.example/thing@1": false, "pkg:maven/org.example/Thing@1": true,
	} {
		found, err := distrust.Lists{known("a", listOf(t, distrust.Scope{Package: entry}))}.Find(f)
		if err != nil || (found != nil) != want {
			t.Errorf("%s: got %v, %v, want an entry: %v", entry, found, err, want)
		}
	}
}

// TestEntriesRefused: what says nothing, too much, or two things is no entry.
func TestEntriesRefused(t *testing.T) {
	good := func() distrust.Entry {
		return distrust.Entry{Time: noon, Scope: &distrust.Scope{Commit: commit}, Reason: "r"}
	}
	scope := func(s distrust.Scope) func(*distrust.Entry) { return func(e *distrust.Entry) { e.Scope = &s } }
	for what, tt := range map[string]struct {
		change func(*distrust.Entry)
		says   string
	}{
		"nothing":                    {scope(distrust.Scope{}), "exactly one"},
		"two kinds":                  {scope(distrust.Scope{Commit: commit, Digest: image}), "exactly one"},
		"a short commit":             {scope(distrust.Scope{Commit: commit[:7]}), "full id"},
		"a whole host":               {scope(distrust.Scope{Source: "https://git.example.com"}), "source:"},
		"a source with a pattern":    {scope(distrust.Scope{Source: "git.example.com/team/*"}), "canonical"},
		"a builder's whole host":     {scope(distrust.Scope{Builder: "https://ci.example/", Wide: true}), "one builder"},
		"a builder for ever":         {scope(distrust.Scope{Builder: "https://ci.example/builder"}), "unlimited"},
		"a name of anybody":          {scope(distrust.Scope{Identity: "ada@example.com"}), "identity and issuer"},
		"an issuer alone":            {scope(distrust.Scope{Issuer: "https://accounts.example.com"}), "exactly one"},
		"all versions of a base":     {scope(distrust.Scope{Base: "debian"}), "unlimited"},
		"all versions of a package":  {scope(distrust.Scope{Package: "openssl"}), "unlimited"},
		"a registry":                 {scope(distrust.Scope{Base: "registry.example.com/", Wide: true}), "base:"},
		"a whole download host":      {scope(distrust.Scope{Fetched: "https://dl.example/"}), "one download"},
		"wide, and is not":           {scope(distrust.Scope{Commit: commit, Wide: true}), "about one thing"},
		"a digest with a time":       {scope(distrust.Scope{Digest: image, From: at(0)}), "same content"},
		"times in the wrong order":   {scope(distrust.Scope{Source: app, From: at(1), Until: at(0)}), "from before until"},
		"a time elsewhere":           {scope(distrust.Scope{Source: app, From: new(noon.In(time.FixedZone("x", 3600)))}), "UTC"},
		"no reason":                  {func(e *distrust.Entry) { e.Reason = " " }, "reason"},
		"a reason that scripts":      {func(e *distrust.Entry) { e.Reason = "a\x1b[2J" }, "printable"},
		"a long reason":              {func(e *distrust.Entry) { e.Reason = strings.Repeat("a", 1025) }, "at most"},
		"lift and scope":             {func(e *distrust.Entry) { e.Lift = new(0) }, "exactly one"},
		"lifts itself":               {func(e *distrust.Entry) { e.Scope, e.Lift = nil, new(0) }, "earlier"},
		"replaced by a tag":          {func(e *distrust.Entry) { e.Replace = "v1.2.1" }, "replace"},
		"vex of another format":      {func(e *distrust.Entry) { e.VEX = &distrust.VEX{Format: "word", Digest: image} }, "vex"},
		"vex at a URL with a secret": {func(e *distrust.Entry) { e.VEX = &distrust.VEX{Format: "csaf", Digest: image, URL: "https://a:b@h/"} }, "vex"},
	} {
		e := good()
		tt.change(&e)
		if _, _, err := distrust.Next(nil, "l", []distrust.Entry{e}, noon, time.Hour); err == nil || !strings.Contains(err.Error(), tt.says) {
			t.Errorf("%s: got %v, want %q", what, err, tt.says)
		}
	}
	if e := good(); e.Check() != nil {
		t.Errorf("got %v of a good entry", e.Check())
	}
}

// TestLift: what was lifted counts no more; a lift is an entry, and nothing is taken out.
func TestLift(t *testing.T) {
	l := listOf(t, distrust.Scope{Commit: commit}, distrust.Scope{Source: app})
	lifted := parse(t, write(t, l, distrust.Entry{Time: noon, Lift: new(0), Reason: "a mistake"}))
	if found, _ := (distrust.Lists{known("a", lifted)}).Find(facts()); found == nil || found.Number != 1 || lifted.Lifted(0).Number != 2 || lifted.Lifted(1) != nil || len(lifted.All()) != 3 {
		t.Errorf("got %v, lifted by %v, want entry 1, and entry 0 lifted by entry 2", found, lifted.Lifted(0))
	}
	for what, n := range map[string]int{"twice": 0, "a lift": 2} {
		if _, _, err := distrust.Next(lifted, "", []distrust.Entry{{Time: noon, Lift: &n, Reason: "r"}}, noon, time.Hour); err == nil || !strings.Contains(err.Error(), "lift") {
			t.Errorf("%s: got %v, want a refusal", what, err)
		}
	}
	// Of two issuers, neither lifts what the other one said.
	all := distrust.Lists{known("a", lifted), known("b", listOf(t, distrust.Scope{Commit: commit}))}
	all[0].List = parse(t, write(t, lifted, distrust.Entry{Time: noon, Lift: new(1), Reason: "r"}))
	if found, _ := all.Find(facts()); found == nil || found.Issuer != "b" {
		t.Errorf("got %v, want the entry of b", found)
	}
}

// TestIssuersHaveTheirScopes: an issuer's entry counts only for what the issuer may say.
func TestIssuersHaveTheirScopes(t *testing.T) {
	for what, tt := range map[string]struct {
		scope  distrust.Scope
		issuer distrust.Issuer
		is     bool
	}{
		"all":                 {distrust.Scope{Commit: commit}, distrust.Issuer{}, true},
		"the kind":            {distrust.Scope{Commit: commit}, distrust.Issuer{Only: []distrust.Kind{distrust.Commit}}, true},
		"another kind":        {distrust.Scope{Digest: image}, distrust.Issuer{Only: []distrust.Kind{distrust.Commit}}, false},
		"the source":          {distrust.Scope{Digest: image}, distrust.Issuer{Sources: []string{app}}, true},
		"sources of a team":   {distrust.Scope{Digest: image}, distrust.Issuer{Sources: []string{"https://git.example.com/team/"}}, true},
		"sources of another":  {distrust.Scope{Digest: image}, distrust.Issuer{Sources: []string{"https://git.example.com/te/"}}, false},
		"no slash, no prefix": {distrust.Scope{Digest: image}, distrust.Issuer{Sources: []string{"https://git.example.com/team"}}, false},
		"too wide":            {distrust.Scope{Base: "debian", Wide: true}, distrust.Issuer{}, false},
		"wide, and may":       {distrust.Scope{Base: "debian", Wide: true}, distrust.Issuer{Wide: true}, true},
	} {
		tt.issuer.Name = "a"
		found, err := distrust.Lists{{Issuer: tt.issuer, List: listOf(t, tt.scope)}}.Find(facts())
		if err != nil || (found != nil) != tt.is {
			t.Errorf("%s: got %v, %v, want an entry: %v", what, found, err, tt.is)
		}
	}
}

// TestUnknownPackages: an image whose packages nobody knows may have the one that an entry is about.
func TestUnknownPackages(t *testing.T) {
	f := facts()
	f.Packages = func() ([]distrust.Listed, error) { return nil, fmt.Errorf("not read") }
	if found, err := (distrust.Lists{known("a", listOf(t, distrust.Scope{Package: "openssl@3.0.1"}))}).Find(f); err == nil || found != nil {
		t.Errorf("got %v, %v, want an error", found, err)
	}
	if found, err := (distrust.Lists{known("a", listOf(t, distrust.Scope{Source: app + "/other"}))}).Find(f); err != nil || found != nil {
		t.Errorf("got %v, %v, want nothing: no entry is about packages", found, err)
	}
}

// TestUnknownByRight: an issuer that may not issue entries of a kind makes no image undecided by them.
func TestUnknownByRight(t *testing.T) {
	k := known("a", listOf(t, distrust.Scope{Package: "log4j-core@2.14.1"}, distrust.Scope{Commit: commit}))
	f := &distrust.Facts{Packages: func() ([]distrust.Listed, error) { return nil, errors.New("no SBOM was kept") }}
	for _, tt := range []struct {
		only            []distrust.Kind
		unknown, beyond bool
	}{{nil, true, true}, {[]distrust.Kind{distrust.Package}, true, true}, {[]distrust.Kind{distrust.Digest}, false, false}, {[]distrust.Kind{distrust.Commit}, false, true}} {
		k.Issuer.Only = tt.only
		_, err := distrust.Lists{k}.Find(f)
		if got := (distrust.Lists{k}).Beyond(distrust.Digest); errors.Is(err, distrust.ErrUnknown) != tt.unknown || got != tt.beyond {
			t.Errorf("only %q: got %v and %t", tt.only, err, got)
		}
	}
}

// TestExtends: a list may only grow.
func TestExtends(t *testing.T) {
	old := listOf(t, distrust.Scope{Commit: commit}, distrust.Scope{Digest: image})
	grown := parse(t, write(t, old, distrust.Entry{Time: noon, Scope: &distrust.Scope{Digest: other}, Reason: "r"}))
	fork := listOf(t, distrust.Scope{Commit: commit}, distrust.Scope{Digest: other}, distrust.Scope{Digest: image})
	renamed := old.Head
	renamed.List = "https://issuer.example/other"
	for what, tt := range map[string]struct {
		l      *distrust.List
		before *distrust.Head
		says   string
	}{
		"new": {old, nil, ""}, "same": {old, &old.Head, ""}, "grown": {grown, &old.Head, ""},
		"rolled back": {old, &grown.Head, "rolled back"}, "forked": {fork, &old.Head, "forked"}, "another list": {old, &renamed, "it was"},
	} {
		err := tt.l.Extends(tt.before)
		if (err == nil) != (tt.says == "") || err != nil && !strings.Contains(err.Error(), tt.says) {
			t.Errorf("%s: got %v, want %q", what, err, tt.says)
		}
	}
}

// TestParseRefuses: no part of a list counts if anything in it is wrong. Each byte that is changed is found.
func TestParseRefuses(t *testing.T) {
	l := listOf(t, distrust.Scope{Commit: commit}, distrust.Scope{Digest: image})
	raw := write(t, l, distrust.Entry{Time: noon, Lift: new(0), Reason: "r"})
	parse(t, raw)
	lines := bytes.SplitAfter(raw, []byte("\n"))
	after := len(lines[0]) + len(lines[1])
	for i := range raw {
		if i >= len(lines[0]) && i < after {
			continue // the signature, which verify reads
		}
		bad := bytes.Clone(raw)
		bad[i] ^= 1
		if got, err := distrust.Parse(bad); err == nil && i >= after {
			t.Fatalf("byte %d of an entry was changed, and the list was read: %+v", i, got.Head)
		}
	}
	entry := []byte(`{"number":3,"time":"2026-11-27T12:00:00Z","scope":{"digest":"` + image + `"},"reason":"r"}` + "\n")
	for what, bad := range map[string][]byte{
		"nothing": nil, "a head alone": lines[0], "cut": raw[:len(raw)-1], "without its last entry": bytes.Join(lines[:4], nil),
		"one entry more": append(bytes.Clone(raw), entry...), "swapped": bytes.Join([][]byte{lines[0], lines[1], lines[3], lines[2], lines[4]}, nil),
		"an unknown member":     bytes.Replace(raw, []byte(`"reason":"taken"`), []byte(`"reason":"taken","x":1`), 1),
		"twice the same member": bytes.Replace(raw, []byte(`"reason":"taken"`), []byte(`"reason":"taken","reason":"taken"`), 1),
		"of another version":    bytes.Replace(raw, []byte("distrust/v1"), []byte("distrust/v2"), 1),
	} {
		if _, err := distrust.Parse(bad); err == nil {
			t.Errorf("%s: the list was read", what)
		}
	}
}

// TestPastLimits: a list with a million entries, a huge line and a head for years are refused, and cost
// little.
func TestPastLimits(t *testing.T) {
	head := func(change func(*distrust.Head)) []byte {
		h := distrust.Head{Version: distrust.Version, List: "l", Entries: 1, Chain: image, Issued: noon, Expires: *at(1)}
		change(&h)
		raw, err := json.Marshal(h)
		if err != nil {
			t.Fatal(err)
		}
		return append(raw, "\n{}\n"...)
	}
	entry := fmt.Sprintf(`{"number":%%d,"time":"2026-11-27T12:00:00Z","scope":{"digest":"%s"},"reason":"r"}`+"\n", image)
	million := head(func(h *distrust.Head) { h.Entries = 1_000_000 })
	for i := range 1_000_000 {
		million = fmt.Appendf(million, entry, i)
	}
	many := head(func(h *distrust.Head) { h.Entries = distrust.MaxEntries })
	for i := range distrust.MaxEntries + 1 {
		many = fmt.Appendf(many, entry, i)
	}
	for what, tt := range map[string]struct {
		raw  []byte
		says string
	}{
		"a million entries": {million, "got more than"}, "as many, in the head": {head(func(h *distrust.Head) { h.Entries = 1_000_000 }), "entries: got 1000000"},
		"one entry more than its head": {many, "more than the 100000"},
		"a huge entry":                 {append(head(func(*distrust.Head) {}), fmt.Sprintf(entry, 0)[:40]+strings.Repeat(" ", distrust.MaxEntry)+"\n"...), "8192"},
		"for years":                    {head(func(h *distrust.Head) { h.Expires = noon.AddDate(1, 0, 0) }), "at most"},
		"a huge head":                  {append([]byte(strings.Repeat(" ", 5000)), head(func(*distrust.Head) {})...), "4096"},
	} {
		if _, err := distrust.Parse(tt.raw); err == nil || !strings.Contains(err.Error(), tt.says) {
			t.Errorf("%s: got %v, want %q", what, err, tt.says)
		}
	}
}

// TestFresh: a list that is missing, old, expired or from the future does not count as fresh.
func TestFresh(t *testing.T) {
	l := listOf(t, distrust.Scope{Digest: image}) // issued at noon, for an hour
	one := distrust.Lists{known("a", l)}
	for what, tt := range map[string]struct {
		lists distrust.Lists
		now   time.Time
		says  string
	}{
		"now":                         {one, noon, ""},
		"a clock that is behind":      {one, noon.Add(-4 * time.Minute), ""},
		"a clock that jumped back":    {one, noon.Add(-6 * time.Minute), "ahead of this clock"},
		"older than the policy wants": {one, noon.Add(16 * time.Minute), "demands at most 15m"},
		"expired":                     {one, noon.Add(time.Hour), "expired"},
		"no issuer":                   {nil, noon, "no issuer"},
		"never read":                  {distrust.Lists{{Issuer: distrust.Issuer{Name: "a"}, Problem: "no route"}}, noon, "never read; it cannot be read now: no route"},
		"one of two is missing":       {distrust.Lists{one[0], {Issuer: distrust.Issuer{Name: "b"}}}, noon, "b trusts no longer"},
	} {
		err := tt.lists.Fresh(15*time.Minute, tt.now)
		if (err == nil) != (tt.says == "") || err != nil && !strings.Contains(err.Error(), tt.says) {
			t.Errorf("%s: got %v, want %q", what, err, tt.says)
		}
	}
	// However old a list is, what it says is not forgotten.
	if found, _ := one.Find(facts()); found == nil {
		t.Error("an old list was forgotten")
	}
}

// TestIssuersFile: issuers are written and read again; what contradicts itself is refused.
func TestIssuersFile(t *testing.T) {
	const good = `{"name":"shop","from":"https://shop.example/distrust","signer":{"certificate":{"issuer":"https://accounts.example.com","identity":{"is":"ops@example.com"}}},"only":["commit","digest"],"sources":["https://git.example.com/team/"],"wide":true}`
	issuers, err := distrust.ParseIssuers([]byte(`{"issuers":[` + good + `]}`))
	if err != nil {
		t.Fatal(err)
	}
	written, err := distrust.IssuersFile(issuers)
	if err != nil {
		t.Fatal(err)
	}
	var compact bytes.Buffer
	if err := json.Compact(&compact, written); err != nil || compact.String() != `{"issuers":[`+good+`]}` {
		t.Errorf("got %s, %v", compact.String(), err)
	}
	for what, bad := range map[string]string{
		"twice": good + "," + good, "no name": strings.Replace(good, `"shop"`, `""`, 1), "a name that is a path": strings.Replace(good, `"shop"`, `"../shop"`, 1),
		"plain http": strings.Replace(good, "https://shop.example", "http://shop.example", 1), "a secret in the address": strings.Replace(good, "https://shop", "https://a:b@shop", 1),
		"nobody signs":    strings.Replace(good, `{"certificate":{"issuer":"https://accounts.example.com","identity":{"is":"ops@example.com"}}}`, `{}`, 1),
		"an unknown kind": strings.Replace(good, `"digest"`, `"registry"`, 1), "a pattern": strings.Replace(good, "/team/", "/*/", 1) + "x",
	} {
		if _, err := distrust.ParseIssuers([]byte(`{"issuers":[` + bad + `]}`)); err == nil {
			t.Errorf("%s: got no error", what)
		}
	}
	if _, err := distrust.IssuersFile(make([]distrust.Issuer, 17)); err == nil || !strings.Contains(err.Error(), "at most 16") {
		t.Errorf("17 issuers: got %v", err)
	}
}

// TestVectors: the vectors of spec/distrust/v1 are read, or refused.
func TestVectors(t *testing.T) {
	for _, of := range []string{"good", "bad"} {
		files, err := filepath.Glob("../spec/distrust/v1/" + of + "/*.json")
		if err != nil || len(files) == 0 {
			t.Fatalf("no %s vectors: %v", of, err)
		}
		for _, f := range files {
			raw, err := os.ReadFile(f)
			if err != nil {
				t.Fatal(err)
			}
			if _, err = distrust.ParseEntry(raw); (err == nil) != (of == "good") {
				t.Errorf("%s: got %v", f, err)
			}
		}
	}
}

// FuzzParse: a list that is read is the one that its head is about.
func FuzzParse(f *testing.F) {
	e := distrust.Entry{Time: noon, Scope: &distrust.Scope{Commit: commit}, Reason: "r"}
	head, lines, err := distrust.Next(nil, "l", []distrust.Entry{e}, noon, time.Hour)
	if err != nil {
		f.Fatal(err)
	}
	f.Add(distrust.File(nil, head, []byte("{}"), lines))
	f.Fuzz(func(t *testing.T, raw []byte) {
		l, err := distrust.Parse(raw)
		if err != nil {
			return
		}
		if len(l.All()) != l.Entries || l.ChainAt(l.Entries) != l.Chain || l.Extends(&l.Head) != nil {
			t.Errorf("got a list that contradicts its head: %+v", l.Head)
		}
		if _, err := (distrust.Lists{known("a", l)}).Find(facts()); err != nil {
			t.Error(err)
		}
	})
}

func BenchmarkFind(b *testing.B) {
	var entries []distrust.Entry
	for i := range distrust.MaxEntries {
		entries = append(entries, distrust.Entry{Time: noon, Scope: &distrust.Scope{Commit: fmt.Sprintf("%040x", i)}, Reason: "r"})
	}
	head, lines, err := distrust.Next(nil, "l", entries, noon, time.Hour)
	if err != nil {
		b.Fatal(err)
	}
	raw := distrust.File(nil, head, []byte("{}"), lines)
	l, err := distrust.Parse(raw)
	if err != nil {
		b.Fatal(err)
	}
	all, f := distrust.Lists{known("a", l)}, facts()
	b.Run("find", func(b *testing.B) {
		for b.Loop() {
			if found, err := all.Find(f); found != nil || err != nil {
				b.Fatal(found, err)
			}
		}
	})
	b.Run("parse", func(b *testing.B) {
		b.SetBytes(int64(len(raw)))
		for b.Loop() {
			if _, err := distrust.Parse(raw); err != nil {
				b.Fatal(err)
			}
		}
	})
}
