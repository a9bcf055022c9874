package audit

import (
	"context"
	"encoding/json"
	"errors"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"

	"github.com/colophon-build/colophon/platform/api"
	"github.com/colophon-build/colophon/platform/recorder"
	"github.com/colophon-build/colophon/test/await"
	"github.com/colophon-build/colophon/test/needs"

	records "github.com/colophon-build/colophon/audit"
)

// A recorder by its settings, over HTTP: its records wait until its key is enrolled, then they are in
// the ledger, and who has a token gets them with proofs.
func TestRecorderAndLedger(t *testing.T) {
	l := open(t, Config{Dir: t.TempDir()})
	mux := http.NewServeMux()
	l.Register(mux, accounts{Readers: map[string]string{"ada": "a token of 20 characters"}}.access)
	server := httptest.NewServer(mux)
	defer server.Close()
	dir := t.TempDir()
	s := recorder.Settings{Ledger: server.URL, Key: filepath.Join(dir, "key.pem"), Spool: filepath.Join(dir, "spool"), Instance: "edge"}
	var said strings.Builder
	r, err := s.Open("gate", slog.New(slog.NewJSONHandler(&said, nil)), nil)
	if err != nil {
		t.Fatal(err)
	}
	defer r.Close()
	for n := range 5 {
		v := verdict(n)
		v.Kind = records.KindGate
		if err := r.Record(context.Background(), v); err != nil {
			t.Fatal(err)
		}
	}
	var line struct {
		Writer string `json:"audit.writers"`
	}
	if err := json.Unmarshal([]byte(strings.SplitN(said.String(), "\n", 2)[0]), &line); err != nil {
		t.Fatal(err, said.String())
	}
	var w records.Writer
	if err := json.Unmarshal([]byte(line.Writer), &w); err != nil || w.Instance != "edge" {
		t.Fatal(err, line.Writer)
	}
	if err := l.Enrol(context.Background(), w); err != nil {
		t.Fatal(err)
	}
	get := func(token, query string) (int, *records.Answer) {
		req, err := http.NewRequest(http.MethodGet, server.URL+api.PathAuditRecords+query, nil)
		if err != nil {
			t.Fatal(err)
		}
		req.Header.Set("Authorization", "Bearer "+token)
		resp, err := http.DefaultClient.Do(req)
		if err != nil {
			t.Fatal(err)
		}
		defer resp.Body.Close()
		var a records.Answer
		_ = json.NewDecoder(resp.Body).Decode(&a) // of an error, there is none
		return resp.StatusCode, &a
	}
	f := records.Filter{Kinds: []records.Kind{records.KindGate}, Cluster: "cluster-1"}
	raw, err := json.Marshal(f)
	if err != nil {
		t.Fatal(err)
	}
	query := "?filter=" + strings.NewReplacer(`"`, "%22", "{", "%7B", "}", "%7D").Replace(string(raw))
	var a *records.Answer
	await.True(t, "the records arrive", func() bool {
		_, a = get("a token of 20 characters", query)
		return len(a.Records) == 2
	})
	proven, _, err := a.Verify(f, l.verifier)
	if err != nil || proven[0].Record.By.Instance != "edge" || proven[0].Record.By.User.Value == "" {
		t.Errorf("got %+v, %v", proven, err)
	}
	if status, _ := get("another token, of nobody", query); status != http.StatusUnauthorized {
		t.Errorf("a stranger gets %d", status)
	}
}

// A ledger whose disk is full refuses loudly, loses nothing that it acknowledged, and goes on when there
// is room.
func TestDiskFull(t *testing.T) {
	needs.Root(t, "mounting a small disk")
	disk := t.TempDir()
	if err := syscall.Mount("tmpfs", disk, "tmpfs", 0, "size=4m"); err != nil {
		needs.Missing(t, "no tmpfs can be mounted here: %v", err)
	}
	t.Cleanup(func() { syscall.Unmount(disk, syscall.MNT_DETACH) })
	l := open(t, Config{Dir: filepath.Join(disk, "audit")})
	w := enrolled(t, l, "gate", "")
	fill(t, l, w, 0, 20)
	waste := filepath.Join(disk, "fill")
	f, err := os.Create(waste)
	if err != nil {
		t.Fatal(err)
	}
	for err == nil {
		_, err = f.Write(make([]byte, 1<<12))
	}
	f.Close()
	refused := 0
	var lost []byte
	for n := range 20 {
		data := w.entry(t, verdict(100+n))
		if _, err := l.Append(context.Background(), data); err != nil {
			refused, lost = refused+1, data
			if !errors.Is(err, ErrFull) && !strings.Contains(err.Error(), "takes no records") {
				t.Errorf("got %v", err)
			}
		}
	}
	if refused < 10 {
		t.Errorf("on a full disk, %d of 20 records were refused", refused)
	}
	if err := os.Remove(waste); err != nil {
		t.Fatal(err)
	}
	await.True(t, "the record is taken: there is room again", func() bool {
		_, err := l.Append(context.Background(), lost)
		return err == nil
	})
	settled(t, l)
	if n := len(whole(t, l)); n != 21+20-refused+1 {
		t.Errorf("got %d entries, want those that were acknowledged", n)
	}
}
