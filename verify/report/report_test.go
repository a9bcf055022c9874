package report

import (
	"encoding/json"
	"encoding/xml"
	"strings"
	"testing"

	"github.com/colophon-build/colophon/verify"
)

// TestEveryLinkHasARule: a result that names an unknown rule is refused by those
// who read SARIF.
func TestEveryLinkHasARule(t *testing.T) {
	v := &verify.Verdict{Image: "a", Outcome: verify.Rejected}
	for _, name := range verify.LinkNames() {
		v.Links = append(v.Links, verify.Link{Name: name, Status: verify.Broken, Reason: "no"})
	}
	data, err := SARIF([]*verify.Verdict{v, {Image: "b"}}, "v1.2.0")
	if err != nil {
		t.Fatal(err)
	}
	var doc struct {
		Runs []struct {
			Tool struct {
				Driver struct {
					Version string
					Rules   []struct {
						ID               string
						ShortDescription struct{ Text string }
					}
				}
			}
			Results []struct{ RuleID string }
		}
	}
	if err := json.Unmarshal(data, &doc); err != nil || len(doc.Runs) != 1 {
		t.Fatalf("got %d runs, %v", len(doc.Runs), err)
	}
	run := doc.Runs[0]
	if got := run.Tool.Driver.Version; got != "v1.2.0" {
		t.Errorf("version: got %q, want v1.2.0", got)
	}
	known := map[string]bool{}
	for _, r := range run.Tool.Driver.Rules {
		if r.ShortDescription.Text == "" || known[r.ID] {
			t.Errorf("rule %s: got it twice or without a description: %+v", r.ID, r)
		}
		known[r.ID] = true
	}
	if len(run.Results) != len(verify.LinkNames())+1 {
		t.Errorf("got %d results, want one for each link and one for the verdict without any", len(run.Results))
	}
	for _, r := range run.Results {
		if !known[r.RuleID] {
			t.Errorf("a result names the rule %q, which the run does not have", r.RuleID)
		}
	}
	if len(demands) != len(known) {
		t.Errorf("got %d descriptions of %d rules", len(demands), len(known))
	}
}

// TestFindings: whatever is not accepted is shown, and hostile text stays text.
func TestFindings(t *testing.T) {
	notAsked := verify.Link{Name: verify.LinkSource, Status: verify.NotAsked, Reason: `</failure>]]>&"` + "\x1b\xff"}
	for _, v := range []*verify.Verdict{
		{Image: "a", Outcome: verify.Undecided},
		{Image: "a", Outcome: verify.Undecided, Links: []verify.Link{notAsked}},
		{Image: "a", Outcome: verify.Rejected, Links: []verify.Link{{Name: verify.LinkImage, Status: verify.Holds}}},
		{Image: "a", Outcome: verify.Undecided, Links: []verify.Link{{Name: verify.LinkImage, Status: "of tomorrow"}}},
	} {
		shown := 0
		for _, r := range findings(v) {
			if r.finding >= failed {
				shown++
			}
		}
		if shown != 1 {
			t.Errorf("%+v: got %d findings to show, want 1", v, shown)
		}
		data, err := JUnit([]*verify.Verdict{v})
		var back junitSuites
		if err == nil {
			err = xml.Unmarshal(data, &back)
		}
		if err != nil || strings.Contains(string(data), "\x1b") {
			t.Errorf("JUnit: got %v\n%s", err, data)
		}
		if data, err = SARIF([]*verify.Verdict{v}, "v1.2.0"); err != nil || !json.Valid(data) {
			t.Errorf("SARIF: got %v\n%s", err, data)
		}
	}
	accepted := &verify.Verdict{Image: "a", Outcome: verify.Accepted, Links: []verify.Link{notAsked, {Name: verify.LinkSource, Status: verify.Unknown}}}
	for _, r := range findings(accepted) {
		if r.finding >= failed {
			t.Errorf("accepted: got %+v", r)
		}
	}
}
