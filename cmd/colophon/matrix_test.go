package main

import (
	"bytes"
	"encoding/json"
	"path/filepath"
	"strings"
	"testing"

	"github.com/colophon-build/colophon/test/matrix"
	"github.com/colophon-build/colophon/verify"
)

// TestMatrix: verify and policy test give the decision of each case of the shared table, the same
// to the byte.
func TestMatrix(t *testing.T) {
	t.Setenv("COLOPHON_TRUST", filepath.Join(t.TempDir(), "trust"))
	w, s := matrix.Serve(t), &stage{t: t}
	for _, r := range w.Roots {
		args := []string{"trust", "add", s.file("root.json", r.Raw), "--yes"}
		for _, issuer := range r.Issuers {
			args = append(args, "--issuer", issuer)
		}
		s.run(exitOK, args)
	}
	for _, c := range w.Cases {
		t.Run(strings.ReplaceAll(c.Name, " ", "-"), func(t *testing.T) {
			s := &stage{t: t}
			file := s.file("policy.yaml", c.Policy)
			var tested []struct{ Decision json.RawMessage }
			var verified struct {
				Outcome  string
				Decision json.RawMessage
			}
			code := exitCodes[c.Outcome]
			into(t, s.run(code, []string{"policy", "test", file, c.Image, "--json"}), &tested)
			into(t, s.run(code, []string{"verify", c.Image, "--policy", file, "--skip-source", "--json"}), &verified)
			var a, b bytes.Buffer
			if json.Compact(&a, tested[0].Decision) != nil || json.Compact(&b, verified.Decision) != nil || a.String() != b.String() || verified.Outcome != c.Outcome.String() {
				t.Errorf("policy test says\n%s\nand verify, %s,\n%s", &a, verified.Outcome, &b)
			}
			var d struct {
				Reason   string
				Warnings []string
			}
			into(t, a.String(), &d)
			if wrong := c.Differs(c.Outcome, d.Reason, d.Warnings); wrong != "" {
				t.Error(wrong)
			}
		})
	}
}

var exitCodes = map[verify.Outcome]int{verify.Accepted: exitOK, verify.Rejected: exitRejected, verify.Undecided: exitUndecided}

func into(t *testing.T, text string, v any) {
	t.Helper()
	if err := json.Unmarshal([]byte(text), v); err != nil {
		t.Fatalf("%v in %s", err, text)
	}
}
