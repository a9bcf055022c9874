package audit

import (
	"bytes"
	"encoding/json"
	"fmt"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"

	"github.com/colophon-build/colophon/platform/api"

	records "github.com/colophon-build/colophon/audit"
)

// TestReport: an account records its own verdicts, and nothing else: no act, no verdict of a gate or release, in
// nobody else's name and at no other time.
func TestReport(t *testing.T) {
	l := open(t, Config{Dir: t.TempDir()})
	good := records.Record{Kind: records.KindVerify, Outcome: records.Accepted, Effect: records.Allowed, About: records.About{Digest: digest(1), Image: records.Shown("example.com/app:v1")}}
	who := "ci"
	mux := http.NewServeMux()
	l.Register(mux, func(r *http.Request) Access {
		return Access{Account: who, Read: true, Report: r.Header.Get("Authorization") == "Bearer reporter"}
	})
	send := func(token string, body []byte) int {
		t.Helper()
		r := httptest.NewRequest(http.MethodPost, api.PathAuditVerdicts, bytes.NewReader(body))
		r.Header.Set("Authorization", "Bearer "+token)
		w := httptest.NewRecorder()
		mux.ServeHTTP(w, r)
		return w.Code
	}
	report := func(change func(r *records.Record)) int {
		t.Helper()
		r := good
		change(&r)
		raw, err := json.Marshal(r)
		if err != nil {
			t.Fatal(err)
		}
		return send("reporter", raw)
	}
	if code := report(func(*records.Record) {}); code != http.StatusOK {
		t.Fatalf("got status %d", code)
	}
	for what, change := range map[string]func(r *records.Record){
		"a verdict of a gate": func(r *records.Record) { r.Kind = records.KindGate },
		"of a release":        func(r *records.Record) { r.Kind = records.KindRelease },
		"an act":              func(r *records.Record) { r.Kind, r.Outcome, r.Effect = records.KindPolicy, records.Done, "" },
		"a writer": func(r *records.Record) {
			*r = records.Record{Kind: records.KindWriter, Outcome: records.Done, Writer: &records.Writer{Role: "gate", Key: []byte("x")}}
		},
		"a case without its digest": func(r *records.Record) { *r = records.Record{Kind: records.KindCase, Outcome: records.Done} },
		"a case of two digests": func(r *records.Record) {
			*r = records.Record{Kind: records.KindCase, Outcome: records.Done, Evidence: []string{digest(1), digest(2)}}
		},
		"a case that failed": func(r *records.Record) {
			*r = records.Record{Kind: records.KindCase, Outcome: records.Failed, Evidence: []string{digest(1)}}
		},
		"a case with rules": func(r *records.Record) {
			*r = records.Record{Kind: records.KindCase, Outcome: records.Done, Evidence: []string{digest(1)}, Rules: []records.Rule{{Policy: "p", Rule: "r", Outcome: "accepted"}}}
		},
		"a case in a cluster": func(r *records.Record) {
			*r = records.Record{Kind: records.KindCase, Outcome: records.Done, Evidence: []string{digest(1)}, Where: records.Where{Cluster: "prod"}}
		},
		"a case that says what it found": func(r *records.Record) {
			*r = records.Record{Kind: records.KindCase, Outcome: records.Done, Evidence: []string{digest(1)}, Reason: records.Shown("no broken link")}
		},
		"a retention": func(r *records.Record) {
			*r = records.Record{Kind: records.KindRetention, Outcome: records.Done, Entries: []records.Range{{From: 0, To: 1}}}
		},
		"somebody else's name":  func(r *records.Record) { r.By.User = records.Shown("ada") },
		"another role":          func(r *records.Record) { r.By.Role = "gate" },
		"another time":          func(r *records.Record) { r.Time = verdict(1).Time },
		"a statement":           func(r *records.Record) { r.Statement = &records.Statement{MediaType: "text/plain", Data: []byte("x")} },
		"no outcome":            func(r *records.Record) { r.Outcome = "" },
		"the outcome of an act": func(r *records.Record) { r.Outcome = records.Done },
		"a long text":           func(r *records.Record) { r.About.Source = strings.Repeat("x", 1<<13) },
	} {
		if code := report(change); code != http.StatusBadRequest {
			t.Errorf("%s: got status %d, want 400", what, code)
		}
	}
	raw, err := json.Marshal(good)
	if err != nil {
		t.Fatal(err)
	}
	for body, want := range map[string]int{
		"": 400, "{}": 400, "[]": 400, strings.Replace(string(raw), "{", `{"kind":"verify",`, 1): 400, strings.Replace(string(raw), "{", `{"more":1,`, 1): 400, fmt.Sprintf("%s%s", raw, strings.Repeat(" ", 1<<20)): 413,
	} {
		if code := send("reporter", []byte(body)); code != want {
			t.Errorf("%.40q: got status %d, want %d", body, code, want)
		}
	}
	if code := send("another", raw); code != http.StatusForbidden {
		t.Errorf("without the right: got status %d, want 403", code)
	}
	if who = ""; send("reporter", raw) != http.StatusForbidden {
		t.Error("nobody may record")
	}
	who = "ci"
	if code := report(func(r *records.Record) {
		*r = records.Record{Kind: records.KindCase, Outcome: records.Done, Evidence: []string{digest(1)}, About: records.About{Digest: digest(2), Source: "https://git.example.com/team/app"}}
	}); code != http.StatusOK {
		t.Errorf("a case: got status %d", code)
	}
	if _, err := l.Record(t.Context(), records.Record{Kind: records.KindBackup, Outcome: records.Done}); err != nil {
		t.Fatal(err)
	}
	a, err := l.Answer(t.Context(), records.Filter{}, 1<<62, 100)
	if err != nil {
		t.Fatal(err)
	}
	if len(a.Records) != 3 {
		t.Fatalf("got %d records, want the verdict, the case and ours", len(a.Records))
	}
	_, _, r, err := records.ParseLeaf(a.Records[2].Leaf)
	if err == nil {
		r, err = r.Open(a.Records[2].Openings)
	}
	if err != nil || r.Kind != records.KindVerify || r.By.Role != records.RoleLedger || r.By.User.Value != "ci" || r.Time.IsZero() {
		t.Errorf("got %+v, %v", r, err)
	}
}
