package main

import (
	"context"
	"crypto/sha256"
	"encoding/json"
	"fmt"
	"io"
	"log/slog"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/colophon-build/colophon/platform/follow"
	"github.com/colophon-build/colophon/search"
	"github.com/colophon-build/colophon/test/await"
	"github.com/colophon-build/colophon/test/freeport"
	"github.com/colophon-build/colophon/test/logtest"
	"github.com/colophon-build/colophon/tlog"
	"github.com/colophon-build/colophon/tlog/witness"
)

// follower follows the log of a stage, and can be searched.
func follower(t *testing.T, s *logStage) (url, key string) {
	t.Helper()
	vkey, err := tlog.FormatLogKey("127.0.0.1", s.log.PublicKey())
	if err != nil {
		t.Fatal(err)
	}
	settings := follow.Settings{Dir: t.TempDir(), Every: "1s", Logs: []follow.LogSettings{{URL: s.url + "/api/v2", Key: vkey}}}
	settings.Search.Name = "follow.example/f"
	for _, address := range []*string{&settings.Health, &settings.Search.Listen} {
		*address = freeport.Address(t)
	}
	await.Background(t, func(ctx context.Context) error {
		return follow.Serve(ctx, settings, nil, slog.New(slog.DiscardHandler))
	})
	base := "http://" + settings.Search.Listen
	var indexKey string
	await.True(t, "the follower answers", func() bool {
		resp, err := http.Get(base + "/keys")
		if err != nil {
			return false
		}
		defer resp.Body.Close()
		body, err := io.ReadAll(resp.Body)
		indexKey = strings.TrimSpace(string(body))
		return err == nil
	})
	return base + "/" + witness.OriginHash("127.0.0.1"), indexKey
}

// TestLogSearchFollowed searches a log that has no index in that of a follower, and audits it.
func TestLogSearchFollowed(t *testing.T) {
	s := newLogStage(t)
	s.trustIt()
	s.add("first")
	s.add("second")
	url, key := follower(t, s)
	file := filepath.Join(t.TempDir(), "index.vkey")
	if err := os.WriteFile(file, []byte(key+"\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	digest := fmt.Sprintf("sha256:%x", sha256.Sum256([]byte("second")))
	find := []string{"log", "search", "--digest", digest, "--index", url, "--index-key", file}
	await.True(t, "both entries are in the index", func() bool {
		resp, err := http.Get(url + "/search/v1?kind=unparsed")
		if err != nil {
			return false
		}
		defer resp.Body.Close()
		body, _ := io.ReadAll(resp.Body)
		a, err := search.ParseAnswer(body)
		return err == nil && strings.Contains(a.Checkpoint, "\n2\n")
	})
	s.run(exitOK, find, "1 of 1 entries", "and no others, before entry 2")
	s.run(exitUndecided, []string{"log", "search", "--digest", digest}, "404")
	s.run(exitOK, []string{"log", "audit", "--index", url, "--index-key", key}, "2, all read", "audited")

	// What came since is said, and is no lie.
	for i := range 3 {
		s.add(fmt.Sprint(i))
	}
	var found foundEntries
	out := s.run(exitOK, append(find, "--json"))
	if err := json.Unmarshal([]byte(out), &found); err != nil || found.Size != 5 || found.Indexed < 2 || found.IndexLog != "follow.example/f/127.0.0.1/index" || len(found.Entries) != 1 {
		t.Errorf("got %s, %v", out, err)
	}
	stranger, err := tlog.FormatLogKey("follow.example/f/127.0.0.1/index", logtest.Key("x").Public())
	if err != nil {
		t.Fatal(err)
	}
	s.run(exitRejected, []string{"log", "search", "--digest", digest, "--index", url, "--index-key", stranger}, "index log")
	other, err := tlog.FormatLogKey("follow.example/f/other.example/index", logtest.Key("x").Public())
	if err != nil {
		t.Fatal(err)
	}
	for _, bad := range [][]string{{"--index", url}, {"--index-key", key}, {"--index", url, "--index-key", other}, {"--index", url, "--index-key", "no-file"}, {"--index", url, "--index-key", "a+b+c"}} {
		s.run(exitUsage, append([]string{"log", "search", "--digest", digest}, bad...))
		s.run(exitUsage, append([]string{"log", "audit"}, bad...))
	}

	// A log that forks after the follower has read it.
	s.bend = func(path string, body []byte) []byte {
		if path == "checkpoint" {
			return logtest.New("127.0.0.1", 7).Signed(7)
		}
		return body
	}
	s.run(exitRejected, find)
}

// TestLogSearchWitnessed: who demands witnesses gets no answer without enough of them, for the log
// and for its index.
func TestLogSearchWitnessed(t *testing.T) {
	s := newSearchStage(t)
	s.trustIt()
	s.add("first")
	s.indexed(1)
	a, b := logtest.Cosigner(t, "a.example/w"), logtest.Cosigner(t, "b.example/w")
	cosign := func(signed string, by ...*tlog.Cosigner) string {
		text, _, _ := strings.Cut(signed, "\n\n")
		cp, err := tlog.ParseCheckpoint(text + "\n")
		if err != nil {
			t.Fatal(err)
		}
		for _, c := range by {
			line, err := c.Cosign(cp, time.Now())
			if err != nil {
				t.Fatal(err)
			}
			signed += line
		}
		return signed
	}
	var ofLog, ofIndex []*tlog.Cosigner
	s.bend = func(path string, body []byte) []byte {
		switch path {
		case "checkpoint":
			return []byte(cosign(string(body), ofLog...))
		case "/index/checkpoint":
			return []byte(cosign(string(body), ofIndex...))
		case "/search/v1":
			answer, err := search.ParseAnswer(body)
			if err != nil {
				return body
			}
			answer.Checkpoint, answer.IndexCheckpoint = cosign(answer.Checkpoint, ofLog...), cosign(answer.IndexCheckpoint, ofIndex...)
			if body, err = json.Marshal(answer); err != nil {
				t.Error(err)
			}
		}
		return body
	}
	keys := []string{"--witness-key", a.Key.String(), "--witness-key", b.Key.String()}
	for name, c := range map[string]struct {
		ofLog, ofIndex []*tlog.Cosigner
		args           []string
		code           int
		words          string
	}{
		"nobody is asked for":    {nil, nil, nil, exitOK, ""},
		"shown without a demand": {[]*tlog.Cosigner{a}, []*tlog.Cosigner{a, b}, nil, exitOK, "also signed by a.example/w, not verified"},
		"both":                   {[]*tlog.Cosigner{a, b}, []*tlog.Cosigner{a, b}, append([]string{"--witnesses", "2"}, keys...), exitOK, "cosigned by a.example/w, b.example/w"},
		"one of two":             {[]*tlog.Cosigner{a}, []*tlog.Cosigner{a}, append([]string{"--witnesses", "1"}, keys...), exitOK, "cosigned by a.example/w"},
		"one is too few":         {[]*tlog.Cosigner{a}, []*tlog.Cosigner{a, b}, append([]string{"--witnesses", "2"}, keys...), exitRejected, "the checkpoint of the log: expected 2 of the witnesses a.example/w, b.example/w: only a.example/w"},
		"the index has none":     {[]*tlog.Cosigner{a, b}, nil, append([]string{"--witnesses", "1"}, keys...), exitRejected, "the checkpoint of its index"},
		"more than there are":    {nil, nil, append([]string{"--witnesses", "3"}, keys...), exitUsage, ""},
		"a number without keys":  {nil, nil, []string{"--witnesses", "1"}, exitUsage, ""},
		"keys without a number":  {nil, nil, keys, exitUsage, ""},
		"zero":                   {nil, nil, append([]string{"--witnesses", "0"}, keys...), exitUsage, ""},
		"a key twice":            {nil, nil, append([]string{"--witnesses", "1", "--witness-key", a.Key.String()}, keys...), exitUsage, ""},
		"a key that is none":     {nil, nil, []string{"--witnesses", "1", "--witness-key", "x"}, exitUsage, ""},
	} {
		ofLog, ofIndex = c.ofLog, c.ofIndex
		for _, command := range [][]string{{"log", "search", "--unparsed"}, {"log", "audit"}} {
			if out := s.run(c.code, append(command, c.args...), c.words); c.words == "" && strings.Contains(out, "signed by") {
				t.Errorf("%s: got %s", name, out)
			}
		}
	}
}
