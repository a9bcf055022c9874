package provenance_test

import (
	"encoding/json"
	"os"
	"reflect"
	"regexp"
	"testing"

	"github.com/sigstore/sigstore-go/pkg/fulcio/certificate"

	"github.com/colophon-build/colophon/attest"
	"github.com/colophon-build/colophon/provenance"
	"github.com/colophon-build/colophon/source"
)

var commitRE = regexp.MustCompile(`^(?:[0-9a-f]{40}|[0-9a-f]{64})$`)

// FuzzRead: a hostile statement never panics, and never gets facts past a
// certificate that says otherwise.
func FuzzRead(f *testing.F) {
	folders, err := os.ReadDir("testdata")
	if err != nil {
		f.Fatal(err)
	}
	seeds := 0
	for _, folder := range folders {
		if _, err := os.Stat("testdata/" + folder.Name() + "/statement.json"); err != nil {
			continue
		}
		s := load(f, folder.Name())
		signer, err := json.Marshal(s.signer)
		if err != nil {
			f.Fatal(err)
		}
		if _, err := s.read(f); err != nil {
			f.Fatalf("seed %s: %v", folder.Name(), err)
		}
		f.Add([]byte(s.statement), signer)
		seeds++
	}
	if seeds < 11 {
		f.Fatalf("got %d seeds, want one for each of 11 forms", seeds)
	}
	f.Fuzz(func(t *testing.T, statement, signer []byte) {
		var c certificate.Summary
		if json.Unmarshal(signer, &c) != nil {
			return
		}
		by, err := provenance.OriginOf(c)
		if err != nil {
			return
		}
		st, err := attest.ParseAnyStatement(statement)
		if err != nil {
			return
		}
		facts, err := provenance.Read(st, by)
		if err != nil {
			return
		}
		again, err := provenance.Read(st, by)
		if err != nil || !reflect.DeepEqual(facts, again) {
			t.Errorf("got %+v, then %+v, %v", facts, again, err)
		}
		for _, field := range [][3]string{{"source", facts.Source, by.Source}, {"ref", facts.Ref, by.Ref}, {"commit", facts.Commit, by.Commit}, {"invocation", facts.Invocation, by.Invocation}} {
			if by.System != "" && field[2] != "" && field[1] != field[2] {
				t.Errorf("%s: got %q, the certificate says %q", field[0], field[1], field[2])
			}
		}
		if facts.System == "" || facts.Builder == "" || facts.BuildType == "" {
			t.Errorf("facts with parts missing: %+v", facts)
		}
		if by.System == "" && !commitRE.MatchString(facts.Commit) {
			t.Errorf("commit: got %q", facts.Commit)
		}
		if canonical, err := source.Canonical(facts.Source); by.System != "" && (err != nil || canonical != facts.Source) {
			t.Errorf("source: got %q, want it canonical", facts.Source)
		}
		if level := provenance.BuildLevel(facts.Requirements(provenance.Evidence{})); level != 0 {
			t.Errorf("got level %d, and nobody trusts the builder", level)
		}
	})
}
