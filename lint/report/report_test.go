package report_test

import (
	"bytes"
	"encoding/json"
	"os"
	"strings"
	"testing"

	"github.com/colophon-build/colophon/lint"
	"github.com/colophon-build/colophon/lint/finding"
	"github.com/colophon-build/colophon/lint/report"
)

func found(severity finding.Severity, file, message string) finding.Finding {
	return finding.Finding{Rule: "test/bad", Severity: severity, Position: finding.Position{File: file, Line: 2, Column: 3, EndLine: 2, EndColumn: 5}, Message: message, Why: "It is bad.", Mend: "be good"}
}

// TestOutcome: only findings at or above --fail-on reject; what was not to be asked is not undecided.
func TestOutcome(t *testing.T) {
	warning := []finding.Finding{found(finding.Warning, "a", "x")}
	for what, c := range map[string]struct {
		r       lint.Report
		failOn  finding.Severity
		offline bool
		want    string
	}{
		"nothing":               {lint.Report{}, finding.Note, false, report.Accepted},
		"a warning":             {lint.Report{Findings: warning}, finding.Warning, false, report.Rejected},
		"less than asked for":   {lint.Report{Findings: warning}, finding.Error, false, report.Accepted},
		"undecided":             {lint.Report{Undecided: warning}, finding.Note, false, report.Undecided},
		"undecided, offline":    {lint.Report{Undecided: warning}, finding.Note, true, report.Accepted},
		"undecided and found":   {lint.Report{Undecided: warning, Findings: warning}, finding.Note, false, report.Rejected},
		"undecided and too few": {lint.Report{Undecided: warning, Findings: warning}, finding.Error, false, report.Undecided},
	} {
		if got := report.Of(&c.r, c.failOn, c.offline).Outcome; got != c.want {
			t.Errorf("%s: got %s, want %s", what, got, c.want)
		}
	}
}

// hostile is a report whose names and messages are written to break the formats.
func hostile() *report.Document {
	return report.Of(&lint.Report{
		Findings: []finding.Finding{
			found(finding.Error, "a,line=1::b%0A/c d.yml", "100% <b>\"bad\"</b>\n::error::forged"),
			found(finding.Note, ".", "same"), found(finding.Note, ".", "same"),
		},
		Ignored: []lint.Ignored{{Finding: found(finding.Warning, "i", "ignored"), Reason: "ours", By: finding.Position{File: ".colophon.yaml", Line: 1}}},
	}, finding.Warning, false)
}

// TestText: whoever wrote the repository chose names of files and reasons. They neither control a terminal nor look
// like lines of ours.
func TestText(t *testing.T) {
	d := report.Of(&lint.Report{
		Findings: []finding.Finding{found(finding.Error, "a\x1b[2J\nno findings", "bad")},
		Ignored:  []lint.Ignored{{Finding: found(finding.Warning, "i", "ignored"), Reason: "ours\x1b[1A\n\nno findings", By: finding.Position{File: "b\rno findings", Line: 1}}},
	}, finding.Warning, false)
	out, err := report.Formats()["text"](d, "")
	if err != nil {
		t.Fatal(err)
	}
	for line := range strings.Lines(string(out)) {
		if strings.HasPrefix(line, "no findings") || strings.ContainsAny(line, "\x1b\r") {
			t.Errorf("got the line %q", line)
		}
	}
}

// TestGitHub: a workflow command is one line, and nothing in it begins another or adds a property. The
// escapes are those of GitHub's documentation of workflow commands; never tried on GitHub.
func TestGitHub(t *testing.T) {
	out := write(t, "github")
	want := "::error file=a%2Cline=1%3A%3Ab%250A/c d.yml,line=2,col=3,endLine=2,endColumn=5,title=test/bad::100%25 <b>\"bad\"</b>%0A::error::forged%0AIt is bad.%0AMend: be good\n"
	if !bytes.HasPrefix(out, []byte(want)) || bytes.Count(out, []byte("\n")) != 3 {
		t.Errorf("got\n%s\nwant, and two lines more,\n%s", out, want)
	}
}

// TestGitLab: the members that GitLab's documentation of code quality reports demands, and a fingerprint
// for each finding; never tried on GitLab.
func TestGitLab(t *testing.T) {
	var issues []struct {
		Description string `json:"description"`
		CheckName   string `json:"check_name"`
		Fingerprint string `json:"fingerprint"`
		Severity    string `json:"severity"`
		Location    struct {
			Path  string `json:"path"`
			Lines struct {
				Begin int `json:"begin"`
			} `json:"lines"`
		} `json:"location"`
	}
	if err := json.Unmarshal(write(t, "gitlab"), &issues); err != nil || len(issues) != 3 {
		t.Fatalf("%d issues, %v", len(issues), err)
	}
	seen := map[string]bool{}
	for _, i := range issues {
		if seen[i.Fingerprint] || len(i.Fingerprint) != 64 || i.Description == "" || i.CheckName != "test/bad" || i.Location.Path == "" || i.Location.Lines.Begin != 2 {
			t.Errorf("%+v", i)
		}
		seen[i.Fingerprint] = true
	}
	if issues[0].Severity != "critical" || issues[1].Severity != "info" {
		t.Errorf("got %s and %s, want critical and info", issues[0].Severity, issues[1].Severity)
	}
}

// TestSARIF: each finding is a result, and one that is ignored has a suppression.
func TestSARIF(t *testing.T) {
	var log struct {
		Version string
		Runs    []struct {
			Results []struct {
				RuleID       string `json:"ruleId"`
				Level        string
				Suppressions []struct{ Kind, Justification string }
				Locations    []struct {
					PhysicalLocation struct{ ArtifactLocation struct{ URI string } }
				}
			}
		}
	}
	if err := json.Unmarshal(write(t, "sarif"), &log); err != nil || log.Version != "2.1.0" || len(log.Runs) != 1 || len(log.Runs[0].Results) != 4 {
		t.Fatalf("%+v, %v", log, err)
	}
	r := log.Runs[0].Results
	if r[0].Level != "error" || r[0].Locations[0].PhysicalLocation.ArtifactLocation.URI != "./a,line=1::b%250A/c%20d.yml" || len(r[0].Suppressions) != 0 {
		t.Errorf("got %+v", r[0])
	}
	if len(r[3].Suppressions) != 1 || r[3].Suppressions[0].Kind != "external" || r[3].Suppressions[0].Justification != "ours" {
		t.Errorf("got %+v", r[3])
	}
}

// TestJSON: the example of spec/lint is what is written of it again.
func TestJSON(t *testing.T) {
	raw, err := os.ReadFile("../../spec/lint/example.json")
	if err != nil {
		t.Fatal(err)
	}
	var d report.Document
	if err := json.Unmarshal(raw, &d); err != nil {
		t.Fatal(err)
	}
	if got, err := report.Formats()["json"](&d, ""); err != nil || !bytes.Equal(got, raw) {
		t.Errorf("%v: got\n%s\nwant\n%s", err, got, raw)
	}
}

func write(t *testing.T, format string) []byte {
	t.Helper()
	out, err := report.Formats()[format](hostile(), "v1")
	if err != nil {
		t.Fatal(err)
	}
	return out
}
