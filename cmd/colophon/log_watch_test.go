package main

import (
	"encoding/base64"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/colophon-build/colophon/bundle"
	"github.com/colophon-build/colophon/monitor"
	"github.com/colophon-build/colophon/test/prooftest"
	"github.com/colophon-build/colophon/test/tlogtest"
)

const watchedStatement = `{"_type":"https://in-toto.io/Statement/v1","subject":[{"name":"app","digest":{"sha256":"e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855"}}],"predicateType":"https://example.com/p","predicate":{}}`

// sign logs a signature with a certificate of p, which may be another authority's.
func (s *logStage) sign(p *prooftest.Platform, id prooftest.Identity) {
	s.t.Helper()
	b, err := bundle.Parse(p.Sign(id, []byte(watchedStatement)))
	if err != nil {
		s.t.Fatal(err)
	}
	var entry struct {
		Spec struct {
			Record struct {
				Data struct {
					Digest string `json:"digest"`
				} `json:"data"`
				Signature json.RawMessage `json:"signature"`
			} `json:"hashedRekordV002"`
		} `json:"spec"`
	}
	if err := json.Unmarshal(b.Entries[0].GetCanonicalizedBody(), &entry); err != nil {
		s.t.Fatal(err)
	}
	resp, err := http.Post(s.url+"/api/v2/log/entries", "application/json", strings.NewReader(fmt.Sprintf(
		`{"hashedRekordRequestV002":{"digest":%q,"signature":%s}}`, entry.Spec.Record.Data.Digest, entry.Spec.Record.Signature)))
	if err != nil {
		s.t.Fatal(err)
	}
	defer resp.Body.Close()
	if text, _ := io.ReadAll(resp.Body); resp.StatusCode != http.StatusCreated {
		s.t.Fatalf("%s %s", resp.Status, text)
	}
}

// TestLogWatch: a signature under a watched name is reported once, unless a known release
// explains it, and each kind of alarm has its exit code.
func TestLogWatch(t *testing.T) {
	s := newLogStage(t)
	s.trustIt()
	id := prooftest.Identity{SAN: "https://ci.example/acme/app", Issuer: s.url, SourceURI: "https://git.example/acme/app", Commit: strings.Repeat("a", 40)}
	watch := func(code int, args []string, want ...string) {
		t.Helper()
		s.run(code, append([]string{"log", "watch", "--once"}, args...), want...)
	}
	ours := []string{"--source", `https://git\.example/acme/.*`}
	s.sign(s.p, id)
	s.sign(prooftest.New(t), id)
	s.add("by a key")
	watch(exitRejected, ours, "unexplained", "https://ci.example/acme/app", "source    https://git.example/acme/app", "commit    aaaa", "forged", "no trusted authority issued", "read 3 of 3 entries", "1 entry is unexplained")
	watch(exitOK, ours, "read 3 of 3 entries")
	watch(exitRejected, nil, "the key sha256:", "2 entries are unexplained") // other patterns begin anew, and watch keys
	watch(exitOK, []string{"--identity", "acme/app"}, "read 3 of 3 entries")

	known := s.file("known.jsonl", []byte(`{"commit":"`+id.Commit+`","source":"`+id.SourceURI+`"}`+"\n"))
	watch(exitOK, append(ours, "--known", known, "--state", t.TempDir()), "forged")
	s.sign(s.p, id)
	watch(exitRejected, append(ours, "--json"), `"kind":"unexplained"`, `"index":3`, `"matched":["source: `)

	for _, bad := range [][]string{
		{"--identity", "("}, {"--every", "10ms"}, {"--webhook", "http://example.com/hook"}, {"--webhook", "no-file"}, {"--known", "no-file"},
		{"--known", s.file("bad.jsonl", []byte("{}"))}, {"--log", "https://log.example.com"},
	} {
		watch(exitUsage, bad)
	}
}

// TestLogWatchAlarms: the exit code tells the kinds of failures of a log apart, now and in
// the next run.
func TestLogWatchAlarms(t *testing.T) {
	for _, tt := range []struct {
		name string
		bend func(s *logStage) func(path string, body []byte) []byte
		code int
		want string
	}{
		{"gone", func(*logStage) func(string, []byte) []byte {
			return func(string, []byte) []byte { return nil }
		}, exitUndecided, "could not be read"},
		{"another key", func(s *logStage) func(string, []byte) []byte {
			other := tlogtest.New(t, "127.0.0.1")
			signed, _ := other.Checkpoint(t.Context())
			return func(path string, body []byte) []byte {
				if path == "checkpoint" {
					return signed
				}
				return body
			}
		}, exitKeySuspect, "suspect key"},
		{"rolled back", func(s *logStage) func(string, []byte) []byte {
			var old []byte
			resp, err := http.Get(s.url + "/api/v2/checkpoint")
			if err == nil {
				old, err = io.ReadAll(resp.Body)
			}
			if err != nil {
				t.Fatal(err)
			}
			s.add("second")
			s.run(exitRejected, []string{"log", "watch", "--once"}, "1 entry is unexplained")
			return func(path string, body []byte) []byte {
				if path == "checkpoint" {
					return old
				}
				return body
			}
		}, exitMisbehaves, "evidence"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			s := newLogStage(t)
			s.trustIt()
			s.add("first")
			s.run(exitRejected, []string{"log", "watch", "--once"}, "1 entry is unexplained")
			s.bend = tt.bend(s)
			for range 2 {
				s.run(tt.code, []string{"log", "watch", "--once"}, tt.want)
			}
			s.bend = nil
			s.run(exitOK, []string{"log", "watch", "--once"})
		})
	}
}

// TestLogWatchWebhook: alarms go to a webhook, with headers from a file, and are not done
// before it took them.
func TestLogWatchWebhook(t *testing.T) {
	s := newLogStage(t)
	s.trustIt()
	var got []monitor.Alarm
	status := http.StatusForbidden
	hook := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.Header.Get("Authorization") != "Bearer secret" || r.URL.Path != "/hook" {
			t.Errorf("got %q for %s", r.Header.Get("Authorization"), r.URL.Path)
		}
		var body struct{ Alarms []monitor.Alarm }
		if err := json.NewDecoder(r.Body).Decode(&body); err != nil {
			t.Error(err)
		}
		if w.WriteHeader(status); status < 300 {
			got = append(got, body.Alarms...)
		}
	}))
	defer hook.Close()
	file := s.file("hook.txt", []byte(hook.URL+"/hook\nAuthorization: Bearer secret\n"))
	s.add("first")
	s.run(exitRejected, []string{"log", "watch", "--once", "--webhook", file}, "unexplained", "the webhook answered 403")
	if len(got) != 0 {
		t.Fatalf("got %v", got)
	}
	status = http.StatusNoContent
	s.run(exitRejected, []string{"log", "watch", "--once", "--webhook", file}, "unexplained")
	if len(got) != 1 || got[0].Kind != monitor.Unexplained || got[0].Entry.Index != 0 {
		t.Errorf("got %+v", got)
	}
	s.run(exitOK, []string{"log", "watch", "--once", "--webhook", file})
	leaf, err := base64.StdEncoding.DecodeString(got[0].Entry.LeafHash)
	if err != nil || len(leaf) != 32 {
		t.Errorf("leaf hash: got %q", got[0].Entry.LeafHash)
	}
	// A mistake in the file is named, and its secret is not.
	bad := s.file("bad.txt", []byte(hook.URL+"\nAuthorization Bearer s3cret\n"))
	out := s.run(exitUsage, []string{"log", "watch", "--once", "--webhook", bad}, "bad.txt:2")
	if strings.Contains(fmt.Sprint(out), "s3cret") {
		t.Error("the error has the secret")
	}
	if _, err := os.Stat(filepath.Join(os.Getenv("XDG_DATA_HOME"), "colophon", "watch")); err != nil {
		t.Error(err)
	}
}
