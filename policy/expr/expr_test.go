package expr

import (
	"errors"
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/colophon-build/colophon/internal/strict"
	"github.com/colophon-build/colophon/test/spent"
)

// whole are facts of which some are missing: source.ref, build.lock, the version of a package.
func whole() *Facts {
	now := time.Date(2026, 11, 26, 22, 0, 0, 0, time.UTC)
	return &Facts{
		Now: now, Level: 3, Image: &Image{Name: "reg.example.com/app", Tag: "v1", Digest: "sha256:1"},
		Build:        &Build{System: "Colophon", Builder: "https://p.example/b", Hermetic: new(true), BuildArgs: map[string]string{"A": "b"}},
		Source:       &Source{Repository: "https://git.example.com/a", Commit: "381e42a"},
		Signers:      []Signer{{Type: "t", Identity: "ada", Issuer: "i", Time: now.Add(-time.Hour), Logged: true}},
		Requirements: []Requirement{{Name: "isolated", Level: 3, Status: "met"}},
		SBOM:         &SBOM{Formats: []string{"SPDX"}, Packages: []Package{{Name: "openssl", Version: "3.0"}, {Name: "musl"}}},
		Attestations: []Attestation{{Type: "https://scan", Identity: "scanner", Predicate: []byte(`{"result":"PASSED","n":0,"big":1e300,"half":1.5,"ok":true,"none":null,"list":["a","b"],"mixed":["a",1],"obj":{"x":"y"}}`)}},
	}
}

// TestEval: what is true and false, and what is not known because a fact is missing: however
// it is asked for, it is never true.
func TestEval(t *testing.T) {
	for text, want := range map[string]string{
		`source.repository == "https://git.example.com/a"`:                                  "true",
		`source.repository != "https://git.example.com/a"`:                                  "false",
		`source.repository.startsWith("https://git.example.com/")`:                          "true",
		`level >= 3 && build.hermetic`:                                                      "true",
		`signers.exists(s, s.identity == "ada" && s.issuer == "i")`:                         "true",
		`signers.all(s, s.logged)`:                                                          "true",
		`signers.all(s, now - s.time < duration("2h"))`:                                     "true",
		`requirements.exists(r, r.name == "isolated" && r.status == "met")`:                 "true",
		`sbom.packages.exists(p, p.name == "openssl")`:                                      "true",
		`!sbom.packages.exists(p, p.name == "log4j")`:                                       "true",
		`"SPDX" in sbom.formats`:                                                            "true",
		`size(sbom.packages) == 2`:                                                          "true",
		`attestations.exists(a, a.type == "https://scan" && a.text("/result") == "PASSED")`: "true",
		`attestations.all(a, a.number("/n") == 0 && a.flag("/ok"))`:                         "true",
		`attestations.all(a, "a" in a.texts("/list"))`:                                      "true",
		`build.buildArgs["A"] == "b"`:                                                       "true",
		`image.tag.matches("^v[0-9]+$")`:                                                    "true",
		`image.name in ["reg.example.com/app", "x"]`:                                        "true",

		// Missing, and every way to be true of it.
		`source.ref == "refs/heads/main"`:                          "source.ref is missing",
		`source.ref != "refs/heads/main"`:                          "source.ref is missing",
		`!(source.ref == "refs/heads/main")`:                       "source.ref is missing",
		`!(source.ref != "refs/heads/main")`:                       "source.ref is missing",
		`source.ref == ""`:                                         "source.ref is missing",
		`source.ref == source.ref`:                                 "source.ref is missing",
		`source.ref in ["refs/heads/main", ""]`:                    "source.ref is missing",
		`!(source.ref in ["refs/heads/main"])`:                     "source.ref is missing",
		`!source.ref.startsWith("refs/pull/")`:                     "source.ref is missing",
		`size(source.ref) == 0`:                                    "source.ref is missing",
		`source.ref == "x" ? true : true`:                          "source.ref is missing",
		`[source.ref].all(r, true)`:                                "source.ref is missing",
		`[source.ref] != ["x"]`:                                    "source.ref is missing",
		`!(level == 3 && source.ref == "x")`:                       "source.ref is missing",
		`sbom.packages.all(p, p.version != "1.0")`:                 "package.version is missing",
		`!sbom.packages.exists(p, p.version == "1.0")`:             "package.version is missing",
		`sbom.packages.filter(p, p.version == "1.0") .size() == 0`: "package.version is missing",
		`sbom.packages.exists_one(p, p.version == "3.0")`:          "package.version is missing",
		`sbom.packages.map(p, p.version).all(v, v != "1.0")`:       "package.version is missing",
		`size(sbom.unread) == 0`:                                   "sbom.unread is missing",
		`sbom.unread.all(u, false)`:                                "sbom.unread is missing",
		`build.lock != "x"`:                                        "build.lock is missing",
		`build.buildArgs["B"] != "x"`:                              "no such key",
		`attestations.all(a, a.text("/gone") != "x")`:              "/gone is missing",
		`attestations.all(a, a.text("/n") != "x")`:                 "another type",
		`attestations.all(a, a.text("/none") != "x")`:              "another type",
		`attestations.all(a, a.number("/half") != 1)`:              "another type",
		`attestations.all(a, a.number("/big") != 1)`:               "another type",
		`attestations.all(a, !a.flag("/result"))`:                  "another type",
		`attestations.all(a, !("a" in a.texts("/mixed")))`:         "another type",
		`attestations.all(a, !("a" in a.texts("/result")))`:        "another type",
		`attestations.all(a, a.text("obj") != "")`:                 "want a JSON pointer",
		`attestations[3].type != "x"`:                              "index out of bounds",
		`1 / (level - 3) != 7`:                                     "division by zero",

		// What is true without the missing fact stays true: any value of it gives the same.
		`source.ref == "refs/heads/main" || level == 3`: "true",
		`sbom.packages.exists(p, p.version == "3.0")`:   "true",
		`source.ref == "x" && level == 2`:               "false",
	} {
		p, err := Compile(text)
		if err != nil {
			t.Errorf("%s: %v", text, err)
			continue
		}
		yes, err := p.Eval(whole())
		got := fmt.Sprint(yes)
		if err != nil {
			got = err.Error()
		}
		if !strings.Contains(got, want) || err != nil && yes {
			t.Errorf("%s: got %s, want %s", text, got, want)
		}
	}
}

// TestNothingIsTrueOfNothing: of an image of which nothing is known, nothing holds.
func TestNothingIsTrueOfNothing(t *testing.T) {
	for _, text := range []string{
		`source.repository != "x"`, `!(build.builder == "x")`, `signers.all(s, s.logged)`, `size(signers) == 0`, `!signers.exists(s, s.identity == "eve")`,
		`sbom.packages.all(p, p.name != "log4j")`, `attestations.all(a, a.type != "x")`, `requirements.all(r, r.status == "met")`, `image.tag != "latest"`, `now > timestamp("2020-01-01T00:00:00Z")`,
	} {
		p, err := Compile(text)
		if err != nil {
			t.Errorf("%s: %v", text, err)
			continue
		}
		if yes, err := p.Eval(&Facts{}); yes || err == nil {
			t.Errorf("%s: got %t, %v, want an error", text, yes, err)
		}
	}
}

// TestCompileRefuses: typos, types, traps and bombs, with their place.
func TestCompileRefuses(t *testing.T) {
	for text, want := range map[string]string{
		`source.reff == "x"`: `1:7: expression: there is no "reff"; did you mean "ref"?`,
		`sorce.ref == "x"`:   `1:1: expression: there is no "sorce"; did you mean "source"? (known: now, image, level, build, `,
		"level >= 3 &&\n  signers.all(s, s.identty == \"x\")": `2:19: expression: there is no "identty"; did you mean "identity"?`,
		`level == "3"`:                               "no matching overload",
		`level`:                                      "got a value of the type int, want true or false",
		`source.ref`:                                 "want true or false",
		`level >=`:                                   "1:9: expression: Syntax error",
		``:                                           "Syntax error",
		`has(source.ref)`:                            "there is no has()",
		`!has(source.ref)`:                           "there is no has()",
		`dyn(level) == "3"`:                          "there is no dyn()",
		`type(level) == int`:                         "there is no type()",
		`source == source`:                           "cannot be compared",
		`source != source`:                           "cannot be compared",
		`signers != signers`:                         "cannot be compared",
		`build.buildArgs == build.buildArgs`:         "cannot be compared",
		`signers[0] in signers`:                      "cannot be compared",
		`"A" in build.buildArgs`:                     "cannot be compared",
		`!("B" in build.buildArgs)`:                  "cannot be compared",
		`colophon.Source{ref: "x"}.ref == "x"`:       "objects cannot be made here",
		`{"a": 1}["a"] == 1`:                         "objects cannot be made here",
		`[1, "a"][0] == 1`:                           "expression: ",
		`source.?ref.orValue("x") == "x"`:            "expression: ",
		`null == null`:                               "cannot be compared",
		`image.name.matches("(")`:                    "expression: ",
		`image.name.matches("reg.example.com/.*")`:   "match the whole text",
		`image.name.matches("^reg.example.com/.*")`:  "match the whole text",
		`image.name.matches("^a|b$")`:                "match the whole text",
		`image.name.matches("(?m)^a$")`:              "match the whole text",
		`image.name.matches(image.tag)`:              "match the whole text",
		`matches(image.name, "a")`:                   "match the whole text",
		`image.name.matches("((a{100}){100}){100}")`: "expression: ",
		strings.Repeat("!", 4097):                    "want at most 4096",
		strings.Repeat("(", 100) + "true" + strings.Repeat(")", 100):                       "expression: ",
		`signers.all(a, signers.all(b, signers.all(c, a.logged && b.logged && c.logged)))`: "nested more than 2 times",
		`sbom.packages.all(a, sbom.packages.all(b, a.name != b.name))`:                     "steps, want at most 2000000",
		`sbom.packages.all(a, sbom.packages.exists(b, a.name.contains(b.name)))`:           "steps, want at most",
	} {
		p, err := Compile(text)
		if err == nil {
			t.Errorf("%.60s: got %s, want an error", text, p)
			continue
		}
		f, ok := errors.AsType[*strict.Fault](err)
		if !ok {
			t.Errorf("%.60s: got %v, which has no place", text, err)
			continue
		}
		if got := fmt.Sprintf("%d:%d: %s", f.Line, f.Column, f.What); !strings.Contains(got, want) {
			t.Errorf("%.60s: got %s, want %s", text, got, want)
		}
	}
}

// TestCostAtRuntime: what is larger than was estimated ends in an error, and soon.
func TestCostAtRuntime(t *testing.T) {
	f := whole()
	f.Signers = make([]Signer, 20_000)
	for i := range f.Signers {
		f.Signers[i].Identity = strings.Repeat("x", i%100+1)
	}
	p, err := Compile(`signers.all(a, signers.all(b, a.identity != "" || b.identity != ""))`)
	if err != nil {
		t.Fatal(err)
	}
	begun := spent.Now()
	if yes, err := p.Eval(f); yes || err == nil || !strings.Contains(err.Error(), "cost limit") {
		t.Errorf("got %t, %v", yes, err)
	}
	if took := spent.Now() - begun; took > 20*time.Second {
		t.Errorf("took %s", took)
	}
}

// FuzzCompile: an expression that is taken is never true of nothing but constants' sake, and
// never panics.
func FuzzCompile(f *testing.F) {
	for _, text := range []string{`source.ref != "x"`, `!(level == 3)`, `signers.exists(s, s.logged)`, `attestations[0].text("/a") == "b"`, "true"} {
		f.Add(text)
	}
	f.Fuzz(func(t *testing.T, text string) {
		p, err := Compile(text)
		if err != nil {
			if fault, ok := errors.AsType[*strict.Fault](err); !ok || fault.Line < 1 || fault.Column < 1 {
				t.Errorf("%q: got %v", text, err)
			}
			return
		}
		if yes, err := p.Eval(whole()); yes && err != nil {
			t.Errorf("%q: got true and %v", text, err)
		}
		if yes, err := p.Eval(&Facts{}); yes && err != nil {
			t.Errorf("%q: got true and %v", text, err)
		}
	})
}

func BenchmarkCompile(b *testing.B) {
	for i := 0; b.Loop(); i++ {
		if _, err := Compile(fmt.Sprintf(`source.repository == "https://git.example.com/%d" && signers.exists(s, s.identity == "ada")`, i)); err != nil {
			b.Fatal(err)
		}
	}
}

func BenchmarkEval(b *testing.B) {
	p, err := Compile(`source.repository == "https://git.example.com/a" && signers.exists(s, s.identity == "ada")`)
	if err != nil {
		b.Fatal(err)
	}
	f := whole()
	for b.Loop() {
		if yes, err := p.Eval(f); !yes || err != nil {
			b.Fatal(yes, err)
		}
	}
}
