package main

import (
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"golang.org/x/mod/sumdb/note"

	"github.com/colophon-build/colophon/attest"
	"github.com/colophon-build/colophon/platform/api"
	"github.com/colophon-build/colophon/platform/authority/archivelog"
	"github.com/colophon-build/colophon/platform/authority/indexlog"
	"github.com/colophon-build/colophon/platform/authority/tiles"
	"github.com/colophon-build/colophon/platform/authority/witnesses"
	indexer "github.com/colophon-build/colophon/platform/search"
	"github.com/colophon-build/colophon/platform/witness"
	"github.com/colophon-build/colophon/search"
	"github.com/colophon-build/colophon/test/await"
	"github.com/colophon-build/colophon/tlog"
)

// archiveStage is a log, and an archive that can be searched.
type archiveStage struct {
	*searchStage
	log    *archivelog.Server
	key    note.Verifier // of the archive's log
	pushed int64
}

// newArchiveStage starts one. witnessed returns who cosigns the log and its index, which have these keys; nil: nobody.
func newArchiveStage(t *testing.T, witnessed func(log, index note.Verifier) (ofLog, ofIndex *witnesses.Set)) *archiveStage {
	s := &archiveStage{searchStage: newSearchStage(t)}
	dir, quiet := t.TempDir(), slog.New(slog.DiscardHandler)
	must := func(err error) {
		t.Helper()
		if err != nil {
			t.Fatal(err)
		}
	}
	origin := search.ArchiveOrigin("127.0.0.1")
	cfg := tiles.LogConfig{Dir: filepath.Join(dir, "archivelog"), Record: filepath.Join(dir, "archivelog.vkey"), Log: quiet}
	var err error
	cfg.Signer, cfg.PublicKey, err = s.logStage.log.Signer(origin)
	must(err)
	s.key, err = tlog.NewVerifier(origin, cfg.PublicKey)
	must(err)
	indexKey, err := tlog.NewVerifier(search.IndexOrigin(origin), cfg.PublicKey)
	must(err)
	var cosignIndex *witnesses.Set
	cfg.Witnesses, cosignIndex = witnessed(s.key, indexKey)
	cfg.WitnessWait = await.Patience
	s.log, err = archivelog.New(cfg)
	must(err)
	indexed := indexlog.Config{LogConfig: tiles.LogConfig{Dir: filepath.Join(dir, "archiveindex"), Record: filepath.Join(dir, "archiveindex.vkey"), Log: quiet}, Of: s.log.Source(), OfVerifier: s.key}
	indexed.Witnesses, indexed.WitnessWait = cosignIndex, await.Patience
	indexed.Signer, indexed.PublicKey, err = s.logStage.log.Signer(search.IndexOrigin(origin))
	must(err)
	index, err := indexlog.New(indexed)
	must(err)
	of := indexer.ArchiveConfig{Config: indexer.Config{Dir: dir, Log: s.log.Source(), Index: index.Source(), LogKey: s.key, IndexKey: indexKey, Logger: quiet}}
	of.Append = func(ctx context.Context, entry []byte) error { _, err := index.Append(ctx, entry); return err }
	of.Records = func(_ context.Context, after int64) ([][]byte, error) {
		list, err := s.archive.Records(after)
		return list.Entries, err
	}
	of.Add = func(ctx context.Context, from int64, entries [][]byte) error {
		_, err := s.log.Append(ctx, from, entries)
		return err
	}
	of.Content = func(_ context.Context, r search.Record) ([]byte, error) {
		w := httptest.NewRecorder()
		if s.archive.Inside().ServeHTTP(w, httptest.NewRequest(http.MethodGet, "/archive/content/"+r.Digest, nil)); w.Code != http.StatusOK {
			return nil, errors.New(w.Body.String())
		}
		return w.Body.Bytes(), nil
	}
	of.MayRead = func(token string) bool { return token != "wrong" }
	a := indexer.NewArchive(of)
	a.Register(s.mux)
	stop := await.Background(t, a.Run)
	t.Cleanup(func() {
		stop()
		index.Close(context.Background())
		s.log.Close(context.Background())
	})
	return s
}

// unwitnessed: nobody cosigns the logs.
func unwitnessed(_, _ note.Verifier) (ofLog, ofIndex *witnesses.Set) { return nil, nil }

// push archives a statement that a manifest attaches to a digest, and waits until it is indexed.
func (s *archiveStage) push(attached, statement string) {
	s.t.Helper()
	s.pushType(attached, statement, attest.PayloadType)
}

func (s *archiveStage) pushType(attached, statement, mediaType string) {
	s.t.Helper()
	digest := fmt.Sprintf("sha256:%x", sha256.Sum256([]byte(statement)))
	manifest := fmt.Sprintf(`{"schemaVersion":2,"layers":[{"mediaType":%q,"digest":%q,"size":%d}],"subject":{"digest":%q}}`, mediaType, digest, len(statement), attached)
	open := func(string) (io.ReadCloser, error) { return io.NopCloser(bytes.NewReader([]byte(statement))), nil }
	if err := s.archive.Manifest(s.t.Context(), []byte(manifest), open); err != nil {
		s.t.Fatal(err)
	}
	s.pushed++
	await.True(s.t, "the archive is indexed", func() bool {
		w := httptest.NewRecorder()
		s.mux.ServeHTTP(w, httptest.NewRequest(http.MethodGet, api.PathArchiveSearch+"?kind=unparsed", nil))
		a, err := search.ParseArchiveAnswer(w.Body.Bytes())
		if err != nil {
			return false
		}
		_, cp, err := search.ParseLeaf(a.Leaf, s.key)
		return err == nil && cp.Size == s.pushed
	})
}

const (
	withLog4j = `{"_type":"https://in-toto.io/Statement/v1","subject":[{"name":"registry.example/app","digest":{"sha256":"e87d5964324ac2f84136617fd7dca5e47c40b754543c01bd0b662b86ee2bf90f"}}],"predicateType":"https://cyclonedx.org/bom",
"predicate":{"bomFormat":"CycloneDX","specVersion":"1.6","components":[{"type":"library","group":"org.apache.logging.log4j","name":"log4j-core","version":"2.14.1","purl":"pkg:maven/org.apache.logging.log4j/log4j-core@2.14.1?type=jar"},{"type":"library","name":"@babel/core","version":"7.0.0"}]}}`
	fetchedTool = `{"_type":"https://in-toto.io/Statement/v1","subject":[{"name":"registry.example/app","digest":{"sha256":"e87d5964324ac2f84136617fd7dca5e47c40b754543c01bd0b662b86ee2bf90f"}}],"predicateType":"https://slsa.dev/provenance/v1",
"predicate":{"buildDefinition":{"buildType":"t","resolvedDependencies":[{"uri":"https://files.example/tool.tgz","digest":{"sha256":"3333333333333333333333333333333333333333333333333333333333333333"}},{"uri":"pkg:docker/golang@1.26?platform=linux%2Famd64","digest":{"sha256":"2222222222222222222222222222222222222222222222222222222222222222"}},{"uri":"docker://docker.io/library/alpine:3"},{"uri":"git+https://git.example/team/app.git"}]},"runDetails":{"builder":{"id":"https://b.example"}}}}`
	app = "sha256:e87d5964324ac2f84136617fd7dca5e47c40b754543c01bd0b662b86ee2bf90f"
)

// TestArchiveSearch searches an archive, and is told lies.
func TestArchiveSearch(t *testing.T) {
	s := newArchiveStage(t, unwitnessed)
	s.trustIt()
	s.push(app, withLog4j)
	s.push(app, fetchedTool)
	filling := "not searched: some of what the registry had"
	s.run(exitOK, []string{"log", "search", "--package", "nothing"}, "0 of 0 matches", filling)
	s.run(exitOK, []string{"log", "search", "--package", "nothing", "--json"}, `"filling": true`)
	if err := s.archive.Fill(t.Context(), func(context.Context) error { return nil }); err != nil {
		t.Fatal(err)
	}
	if out := s.run(exitOK, []string{"log", "search", "--package", "nothing"}); strings.Contains(out, filling) {
		t.Errorf("it is filled, and the answer is: %s", out)
	}
	found := "1 of 1 matches with the "
	for _, c := range []struct{ flag, value, says string }{
		{"--package", "log4j-core@2.14.1", found + "package log4j-core@2.14.1, and no others, up to record 2 of the archive of " + s.url},
		{"--package", "log4j-core", found + "package log4j-core@…"},
		{"--package", "org.apache.logging.log4j/log4j-core", found},
		{"--package", "pkg:maven/org.apache.logging.log4j/log4j-core@2.14.1?type=jar", found},
		{"--package", "pkg:maven/org.apache.logging.log4j/log4j-core", found},
		{"--package", "@babel/core", found},
		{"--package", "@babel/core@7.0.0", "about     " + app},
		{"--package", "log4j", "0 of 0 matches with the package log4j@…, and no others"},
		{"--fetched", "https://files.example/tool.tgz", found},
		{"--fetched", "https://files.example/*", found},
		{"--fetched", "sha256:3333333333333333333333333333333333333333333333333333333333333333", found},
		{"--base", "docker.io/library/golang:1.26", found + "base golang@1.26"},
		{"--base", "golang", "2 of 2 matches with the base golang@…"},
		{"--base", "golang@sha256:2222222222222222222222222222222222222222222222222222222222222222", found},
		{"--base", "alpine:3", found + "base alpine@3"},
		{"--base", "index.docker.io/library/alpine", found + "base alpine@…"},
		{"--builder", "https://b.example", found},
		{"--predicate", "https://cyclonedx.org/bom", "complete for 127.0.0.1/archive"},
		{"--name", "registry.example/app", "2 of 2"},
	} {
		s.run(exitOK, []string{"log", "search", c.flag, c.value}, c.says)
	}
	s.run(exitOK, []string{"log", "search", "--archive", "--digest", app}, "2 of 2 matches with the digest")
	s.run(exitOK, []string{"log", "search", "--archive", "--unparsed"}, "0 of 0 matches")
	s.run(exitOK, []string{"log", "search", "--archive", "--source", "git.example/team/app"}, found+"source https://git.example/team/app")
	s.run(exitOK, []string{"log", "search", "--package", "log4j-core", "--until", "2020-01-01"}, "0 of 1 matches")
	var first foundArchived
	out := s.run(exitOK, []string{"log", "search", "--name", "registry.example/app", "--limit", "1", "--json"})
	if err := json.Unmarshal([]byte(out), &first); err != nil || len(first.Records) != 1 || first.Next == "" || first.Records[0].Attached != app {
		t.Fatalf("got %s, %v", out, err)
	}
	out = s.run(exitOK, []string{"log", "search", "--name", "registry.example/app", "--page", first.Next}, "1 of 2 matches", "and no others", "record 2")
	if strings.Contains(out, "record 1 ") {
		t.Errorf("the second page has the first record: %s", out)
	}
	for _, bad := range [][]string{{"--package", ""}, {"--package", "a", "--base", "b"}, {"--package", "a", "--digest", app}, {"--archive"}, {"--archive", "--identity", "a"}, {"--package", "a", "--from", "1"}, {"--digest", app, "--page", "aaaa"}, {"--package", "a", "--page", "%"}, {"--package", "a", "--witnesses", "1"}} {
		s.run(exitUsage, append([]string{"log", "search"}, bad...))
	}
	s.add("one entry, so that the log has an index")
	s.indexed(1)
	s.run(exitOK, []string{"log", "audit", "--archive"}, "records    2, all read, with their content", "the archive has what its log has")

	old := getBody(t, s.url+api.PathArchiveLog+"checkpoint")
	oldIndex := getBody(t, s.url+api.PathArchiveIndex+"checkpoint")
	query := api.PathArchiveSearch + "?kind=package&value=log4j-core@2.14.1&limit=100"
	oldAnswer, otherAnswer := getBody(t, s.url+query), getBody(t, s.url+strings.Replace(query, "2.14.1", "2.15.0", 1))
	s.push("sha256:"+strings.Repeat("1", 64), withLog4j)
	args, audit := []string{"log", "search", "--package", "log4j-core@2.14.1"}, []string{"log", "audit", "--archive"}
	outer := t
	for name, lie := range map[string]struct {
		bend func(path string, body []byte) []byte
		code int
		args []string
		word string
	}{
		"an answer to another question": {swap(api.PathArchiveSearch, otherAnswer), exitRejected, args, "proves nothing"},
		"an older answer":               {swap(api.PathArchiveSearch, oldAnswer), exitRejected, args, "has shrunk"},
		"a damaged answer":              {flip(api.PathArchiveSearch), exitUndecided, args, "answer"},
		"other content":                 {flip(api.PathArchive + "/sha256:"), exitUndecided, args, "got content with the digest"},
		"lost content":                  {gone(api.PathArchive + "/sha256:"), exitRejected, args, "lost the content of record 1"},
		"lost content, audited":         {gone(api.PathArchive + "/sha256:"), exitRejected, audit, "lost the content of record 1"},
		"an older log":                  {swap(api.PathArchiveLog+"checkpoint", old), exitRejected, audit, "and the log has 2"},
		"an older index":                {swap(api.PathArchiveIndex+"checkpoint", oldIndex), exitOK, audit, "the last 1 records are not in the index yet"},
		"another root":                  {flip(api.PathArchiveIndex + "tile/entries"), exitRejected, audit, "contradict"},
		"no search":                     {gone(api.PathArchiveSearch), exitUndecided, args, "404"},
		"no log of the archive":         {gone(api.PathArchiveLog), exitUndecided, args, "cannot be searched"},
	} {
		t.Run(name, func(t *testing.T) {
			s.bend, s.t = lie.bend, t
			defer func() { s.bend, s.t = nil, outer }()
			s.run(lie.code, lie.args, lie.word)
		})
	}
}

// TestArchiveWitnessed: who demands witnesses gets no answer about an archive whose log or index they have
// not cosigned.
func TestArchiveWitnessed(t *testing.T) {
	for name, c := range map[string]struct {
		log, index bool // cosigned
		code       int
		says       string
	}{
		"both":      {true, true, exitOK, "log and index of the archive: cosigned by witness.example/w"},
		"the log":   {true, false, exitRejected, "the checkpoint of its index: expected 1 of the witnesses"},
		"the index": {false, true, exitRejected, "the checkpoint of the log: expected 1 of the witnesses"},
	} {
		t.Run(name, func(t *testing.T) {
			var key tlog.WitnessKey
			s := newArchiveStage(t, func(log, index note.Verifier) (ofLog, ofIndex *witnesses.Set) {
				w, err := witness.New(witness.Config{Dir: filepath.Join(t.TempDir(), "w"), Name: "witness.example/w", Logs: []note.Verifier{log, index}, Log: slog.New(slog.DiscardHandler)})
				if err != nil {
					t.Fatal(err)
				}
				server := httptest.NewServer(w.Handler())
				t.Cleanup(func() { server.Close(); _ = w.Close() })
				key = w.Keys()[0]
				policy, err := tlog.ParseWitnessPolicy(fmt.Appendf(nil, "witness w %s %s\nquorum w\n", key, server.URL))
				if err != nil {
					t.Fatal(err)
				}
				set := func(of note.Verifier, cosigned bool) *witnesses.Set {
					if !cosigned {
						return nil
					}
					set, err := witnesses.New(witnesses.Config{Policy: policy, Name: of.Name(), Log: slog.New(slog.DiscardHandler)})
					if err != nil {
						t.Fatal(err)
					}
					t.Cleanup(set.Close)
					return set
				}
				return set(log, c.log), set(index, c.index)
			})
			s.trustIt()
			s.push(app, withLog4j)
			if c.log { // its checkpoint can be indexed before the witness has answered
				await.True(t, "the witness has cosigned the log", func() bool {
					signed, err := s.log.Source().Checkpoint(t.Context())
					return err == nil && strings.Contains(string(signed), "— witness.example/w ")
				})
			}
			s.run(c.code, []string{"log", "search", "--package", "log4j-core", "--witnesses", "1", "--witness-key", key.String()}, c.says)
		})
	}
}

// TestArchiveSourceSpellings: whoever asks for a repository as its provenance spells it finds that provenance.
func TestArchiveSourceSpellings(t *testing.T) {
	for _, address := range []string{
		"https://git.example/team/app", "https://GIT.example:443/team/app.git/", "http://git.example:80/app.git",
		"https://user@git.example/app", "https://git.example/a%2Fb", "https://git.example/a//b",
		"ssh://git@git.example/team/app/", "git@git.example:team/app", "SSH://git@git.example:22/app", "git://git.example/app",
		"file:///srv/app/", "file:///srv/./app",
	} {
		statement := fmt.Sprintf(`{"predicateType": "https://slsa.dev/provenance/v0.2", "predicate": {"builder": {"id": "b"}, "invocation": {"configSource": {"uri": "git+%s"}}}}`, address)
		keys := search.ArchiveKeys(search.Record{Number: 1, Form: "statement", Digest: "sha256:ab"}, []byte(statement))
		value, prefix := archiveValue(search.Source, address)
		if want := search.ArchiveKey(search.Source, value); prefix || !slices.Contains(keys, want) {
			t.Errorf("%s: asks for %q, and the map has %v", address, value, keys)
		}
	}
	if value, _ := archiveValue(search.Source, "git.example/team/app.git"); value != "https://git.example/team/app" {
		t.Errorf("without a scheme: got %q", value)
	}
}
