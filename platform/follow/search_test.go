package follow

import (
	"context"
	"crypto/ed25519"
	"crypto/sha256"
	"encoding/base64"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net/http"
	"net/url"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"golang.org/x/mod/sumdb/note"

	"github.com/colophon-build/colophon/internal/logkey"
	"github.com/colophon-build/colophon/platform/authority/indexlog"
	"github.com/colophon-build/colophon/platform/authority/tiles"
	"github.com/colophon-build/colophon/search"
	"github.com/colophon-build/colophon/test/await"
	"github.com/colophon-build/colophon/test/freeport"
	"github.com/colophon-build/colophon/test/tlogtest"
	"github.com/colophon-build/colophon/tlog"
	"github.com/colophon-build/colophon/tlog/prefix"
	"github.com/colophon-build/colophon/tlog/witness"
)

// recordOf returns an entry of Rekor v2 over content, by a plain key.
func recordOf(content string) []byte {
	digest := sha256.Sum256([]byte(content))
	b64 := base64.StdEncoding.EncodeToString
	return fmt.Appendf(nil, `{"apiVersion":"0.0.2","kind":"hashedrekord","spec":{"hashedRekordV002":{"data":{"algorithm":"SHA2_256","digest":%q},"signature":{"content":"AA==","verifier":{"publicKey":{"rawBytes":%q}}}}}}`, b64(digest[:]), b64([]byte("key")))
}

// searched is a follower that answers searches, and what it serves.
type searched struct {
	*running
	url    string // of one log
	log    note.Verifier
	index  note.Verifier
	origin string
}

// startSearch follows a log and lets it be searched.
func startSearch(t *testing.T, s Settings, l *tlogtest.Log) *searched {
	t.Helper()
	s.Search.Name, s.Search.Listen = "follow.example", freeport.Address(t)
	r := &searched{running: start(t, s, nil), url: "http://" + s.Search.Listen + "/" + witness.OriginHash(l.Origin), log: l.Verifier(t), origin: l.Origin}
	r.until("/readyz", 200)
	resp, err := http.Get("http://" + s.Search.Listen + "/keys")
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	keys, _ := io.ReadAll(resp.Body)
	for line := range strings.Lines(string(keys)) {
		if k, err := tlog.ParseLogKey(strings.TrimSpace(line)); err != nil {
			t.Fatal(err)
		} else if k.Name() == "follow.example/"+search.IndexOrigin(l.Origin) {
			r.index = k
		}
	}
	if r.index == nil {
		t.Fatalf("no key of the index log in %q", keys)
	}
	return r
}

// find asks for the entries over content, and verifies the answer.
func (r *searched) find(content string) (*search.Verified, error) {
	q := search.Question{Key: search.Key{Kind: search.Digest, Value: fmt.Sprintf("sha256:%x", sha256.Sum256([]byte(content)))}}
	resp, err := http.Get(r.url + "/search/v1?" + url.Values{"kind": {string(q.Kind)}, "value": {q.Value}}.Encode())
	if err != nil {
		return nil, err
	}
	defer resp.Body.Close()
	body, err := io.ReadAll(resp.Body)
	if err != nil || resp.StatusCode != http.StatusOK {
		return nil, fmt.Errorf("got %s %s %v", resp.Status, body, err)
	}
	a, err := search.ParseAnswer(body)
	if err != nil {
		return nil, err
	}
	return a.Verify(q, r.log, r.index)
}

// indexed waits until the index has size entries.
func (r *searched) indexed(size int64) {
	r.t.Helper()
	var err error
	defer func() {
		if r.t.Failed() {
			r.t.Logf("%v\n%s", err, r.out)
		}
	}()
	await.True(r.t, fmt.Sprint(size, " entries are in the index"), func() bool {
		var v *search.Verified
		v, err = r.find("nothing")
		return err == nil && v.Indexed.Size >= size
	})
}

func (r *searched) audit(l tlog.Source) (*search.Audited, error) {
	return search.Audit(r.t.Context(), l, r.log, tlog.HTTP{URL: r.url + "/index"}, r.index, nil)
}

// TestSearchFollowed: a log of others is searched through the follower, as far as it was read, and
// anybody audits the follower against the log. The follower goes on after a new start, and not if its
// key or its index log was lost.
func TestSearchFollowed(t *testing.T) {
	l, other := tlogtest.New(t, "one.example"), tlogtest.New(t, "two.example")
	for i := range 300 {
		l.Add(t, recordOf(fmt.Sprint(i)))
	}
	l.Add(t, []byte("garbage"))
	s := Settings{Dir: t.TempDir(), Logs: []LogSettings{{l.Serve(t), vkey(t, l)}, {other.Serve(t), vkey(t, other)}}}
	r := startSearch(t, s, l)
	r.indexed(301)
	v, err := r.find("7")
	if err != nil || len(v.Entries) != 1 || v.Entries[0].Index != 7 || v.Total != 1 {
		t.Errorf("got %+v, %v", v, err)
	}
	if v, err = r.find("another"); err != nil || len(v.Entries) != 0 {
		t.Errorf("got %+v, %v, want none", v, err)
	}
	a, err := r.audit(l)
	if err != nil || a.Indexed.Size != 301 || a.Unparsed != 1 {
		t.Errorf("audit: got %+v, %v", a, err)
	}
	r.until("/metrics", 200, `colophon_search_indexed_size{origin="one.example"} 301`, `colophon_search_indexed_size{origin="two.example"} 0`)

	// The log forks: what was read stays searchable, and the index has nothing of the fork.
	honest := l.Clone(t, 301)
	l.Become(l.Clone(t, 10))
	for i := range 400 {
		l.Add(t, recordOf(fmt.Sprint("fork ", i)))
	}
	r.until("/readyz", 503, "one.example misbehaves")
	time.Sleep(1500 * time.Millisecond) // the search looks each second
	if v, err = r.find("fork 1"); err != nil || len(v.Entries) != 0 || v.Indexed.Size != 301 {
		t.Errorf("a forked log: got %+v, %v", v, err)
	}
	if _, err := r.audit(honest); err != nil {
		t.Errorf("audit of what was read: %v", err)
	}
	if err := r.stop(); err != nil {
		t.Fatal(err)
	}

	l.Become(honest)
	l.Add(t, recordOf("later"))
	r = startSearch(t, s, l)
	r.indexed(302)
	if v, err = r.find("later"); err != nil || len(v.Entries) != 1 {
		t.Errorf("after a new start: got %+v, %v", v, err)
	}
	if _, err := r.audit(l); err != nil {
		t.Errorf("audit after a new start: %v", err)
	}
	if err := r.stop(); err != nil {
		t.Fatal(err)
	}
	refused := func(path, why string) {
		t.Helper()
		aside := filepath.Join(t.TempDir(), "aside")
		if err := os.Rename(path, aside); err != nil {
			t.Fatal(err)
		}
		with := s
		with.Search.Name, with.Health = "follow.example", "127.0.0.1:0"
		with.Search.Listen = "127.0.0.1:0"
		ctx, cancel := context.WithTimeout(t.Context(), await.Patience)
		defer cancel()
		if err := Serve(ctx, with, nil, quietLog()); err == nil || !strings.Contains(err.Error(), why) {
			t.Errorf("%s: got %v, want %q", why, err, why)
		}
		_ = os.RemoveAll(path)
		if err := os.Rename(aside, path); err != nil {
			t.Fatal(err)
		}
	}
	refused(filepath.Join(s.Dir, keyFile), "restore it from a backup")
	refused(filepath.Join(s.Dir, witness.OriginHash("one.example")), "restore it from a backup") // or the key would sign another history
	refused(filepath.Join(s.Dir, witness.OriginHash("one.example"), "index"), "restore it from a backup")
	renamed := s
	renamed.Search.Name, renamed.Search.Listen, renamed.Health = "other.example", "127.0.0.1:0", "127.0.0.1:0"
	ctx, cancel := context.WithTimeout(t.Context(), await.Patience)
	defer cancel()
	if err := Serve(ctx, renamed, nil, quietLog()); err == nil || ctx.Err() != nil {
		t.Errorf("another name with the same index logs: got %v", err)
	}
}

// TestLyingFollower: a follower that leaves out an entry is found by an audit against the log, and by
// the follower that has its data.
func TestLyingFollower(t *testing.T) {
	l := tlogtest.New(t, "one.example")
	l.Add(t, recordOf("0"))
	s := Settings{Dir: t.TempDir(), Logs: []LogSettings{{l.Serve(t), vkey(t, l)}}}
	r := startSearch(t, s, l)
	r.indexed(1)
	if err := r.stop(); err != nil {
		t.Fatal(err)
	}
	l.Add(t, recordOf("hidden"))
	key, err := logkey.Read(filepath.Join(s.Dir, keyFile))
	if err != nil {
		t.Fatal(err)
	}
	dir := filepath.Join(s.Dir, witness.OriginHash(l.Origin))
	signer, err := tlog.NewSigner(r.index.Name(), key)
	if err != nil {
		t.Fatal(err)
	}
	index, err := indexlog.New(indexlog.Config{LogConfig: tiles.LogConfig{Dir: filepath.Join(dir, "index"), Record: dir + recordEnd, Signer: signer, PublicKey: key.Public().(ed25519.PublicKey)}, Of: l, OfVerifier: r.log})
	if err != nil {
		t.Fatal(err)
	}
	m, err := search.Extend(prefix.Map{}, 0, [][]byte{recordOf("0")})
	if err != nil {
		t.Fatal(err)
	}
	signed, err := l.Checkpoint(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	if _, err := index.Append(t.Context(), search.Leaf{Root: m.Root(), Keys: m.Len(), Checkpoint: string(signed)}.Bytes()); err != nil {
		t.Fatal(err)
	}
	if err := index.Close(t.Context()); err != nil {
		t.Fatal(err)
	}
	if _, err := search.Audit(t.Context(), l, r.log, tlog.Dir(filepath.Join(dir, "index")), r.index, nil); !errors.Is(err, search.ErrContradiction) {
		t.Errorf("audit: got %v, want a contradiction", err)
	}
	s.Search.Name, s.Search.Listen = "follow.example", "127.0.0.1:0"
	again := start(t, s, nil)
	again.until("/readyz", 503, "contradict")
	again.until("/metrics", 200, `colophon_search_stopped{origin="one.example"} 1`)
}

func quietLog() *slog.Logger { return slog.New(slog.DiscardHandler) }
