package admission

import (
	"crypto/x509"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"path/filepath"
	"testing"

	records "github.com/colophon-build/colophon/audit"
	"github.com/colophon-build/colophon/platform/audit"
	ledger "github.com/colophon-build/colophon/platform/recorder"
	"github.com/colophon-build/colophon/test/await"
)

// TestLastRecords: a pod that ends waits until the audit ledger has what it recorded, because its spool ends too.
func TestLastRecords(t *testing.T) {
	l, err := audit.Open(t.Context(), audit.Config{Dir: t.TempDir(), Origin: "audit.example.com"})
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	mux := http.NewServeMux()
	l.Register(mux, func(*http.Request) audit.Access { return audit.Access{} })
	server := httptest.NewServer(mux)
	defer server.Close()
	dir := t.TempDir()
	s := ledger.Settings{Ledger: server.URL, Key: filepath.Join(dir, "key.pem"), Spool: filepath.Join(dir, "spool"), Instance: "prod-a"}
	r, err := s.Open("admission", slog.New(slog.DiscardHandler), nil)
	if err != nil {
		t.Fatal(err)
	}
	if err := r.Record(t.Context(), records.Record{Kind: records.KindAdmission, Outcome: records.Accepted, Effect: records.Allowed}); err != nil {
		t.Fatal(err)
	}
	ended := make(chan struct{})
	go func() {
		flush(t.Context(), r, slog.New(slog.DiscardHandler))
		close(ended)
	}()
	key, err := ledger.Key(s.Key, nil)
	if err != nil {
		t.Fatal(err)
	}
	public, err := x509.MarshalPKIXPublicKey(key.Public())
	if err != nil {
		t.Fatal(err)
	}
	if err := l.Enrol(t.Context(), records.Writer{Role: "admission", Instance: "prod-a", Key: public}); err != nil { // before, it takes nothing
		t.Fatal(err)
	}
	<-ended
	await.True(t, "the record is in the tree", func() bool { // the ledger's journal has it
		a, err := l.Answer(t.Context(), records.Filter{Kinds: []records.Kind{records.KindAdmission}}, 1<<53, 10)
		return err == nil && len(a.Records) == 1
	})
}
