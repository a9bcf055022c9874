package main

import (
	"encoding/json"
	"encoding/xml"
	"os"
	"path/filepath"
	"testing"
)

func TestReports(t *testing.T) {
	s := newStage(t)
	s.run(exitOK, []string{"trust", "add", s.file("root.json", s.p.Document()), "--yes"})
	bad, gone := s.unproven("team/bare", "v1"), s.host+"/team/app:v9"
	dir := t.TempDir()
	junitPath, sarifPath := filepath.Join(dir, "junit.xml"), filepath.Join(dir, "sarif.json")
	verify := func(args ...string) []string {
		return append([]string{"verify", "--skip-source", "--any-source", "--report", "junit=" + junitPath, "--report", "sarif=" + sarifPath}, args...)
	}
	s.pipe(exitRejected, "", verify(s.image, bad, gone))

	var suites struct {
		Suites []struct {
			Tests    int        `xml:"tests,attr"`
			Failures int        `xml:"failures,attr"`
			Errors   int        `xml:"errors,attr"`
			Cases    []struct{} `xml:"testcase"`
		} `xml:"testsuite"`
	}
	if err := xml.Unmarshal(read(t, junitPath), &suites); err != nil || len(suites.Suites) != 3 {
		t.Fatalf("JUnit: got %d suites, %v, want 3", len(suites.Suites), err)
	}
	for i, want := range []struct{ failures, errors bool }{{}, {failures: true}, {errors: true}} {
		if got := suites.Suites[i]; got.Failures > 0 != want.failures || got.Errors > 0 != want.errors || got.Tests != len(got.Cases) || got.Tests == 0 {
			t.Errorf("JUnit: got %+v, want %+v", got, want)
		}
	}
	levels := sarifLevels(t, read(t, sarifPath))
	for image, want := range map[string]string{s.image: "", bad: "error", gone: "warning"} {
		if got := levels[image]; got != want {
			t.Errorf("SARIF: %s: got level %q, want %q", image, got, want)
		}
	}

	// A single image gets the same reports, which replace the earlier ones.
	s.pipe(exitOK, "", verify(s.image), "accepted")
	if levels := sarifLevels(t, read(t, sarifPath)); len(levels) != 1 || levels[s.image] != "" {
		t.Errorf("SARIF of one image: got %v", levels)
	}
	link := filepath.Join(dir, "link")
	if err := os.Symlink(sarifPath, link); err != nil {
		t.Fatal(err)
	}
	for _, wrong := range []string{"sarif", "xml=x", "junit=", "sarif=" + dir, "sarif=" + link, "junit=/dev/null", "sarif=" + dir + "/no/such"} {
		s.pipe(exitUsage, "", []string{"verify", s.image, "--any-source", "--report", wrong}, "--report")
	}
}

func read(t *testing.T, path string) []byte {
	t.Helper()
	data, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	return data
}

// sarifLevels returns the level of each image's failures, empty for an image without
// failures.
func sarifLevels(t *testing.T, data []byte) map[string]string {
	t.Helper()
	var doc struct {
		Version string
		Runs    []struct {
			Tool struct {
				Driver struct{ Rules []struct{ ID string } }
			}
			Results []struct {
				RuleID, Kind, Level string
				Locations           []struct {
					LogicalLocations []struct{ FullyQualifiedName string }
				}
			}
		}
	}
	if err := json.Unmarshal(data, &doc); err != nil || doc.Version != "2.1.0" || len(doc.Runs) != 1 {
		t.Fatalf("SARIF: got %+v, %v", doc, err)
	}
	known := map[string]bool{}
	for _, r := range doc.Runs[0].Tool.Driver.Rules {
		known[r.ID] = true
	}
	levels := map[string]string{}
	for _, r := range doc.Runs[0].Results {
		image := r.Locations[0].LogicalLocations[0].FullyQualifiedName
		if !known[r.RuleID] || (r.Kind == "fail") == (r.Level == "none") {
			t.Errorf("SARIF: got %+v, want a known rule, and a level for failures alone", r)
		}
		if levels[image] == "" && r.Level != "none" {
			levels[image] = r.Level
		} else if levels[image] == "" {
			levels[image] = ""
		}
	}
	return levels
}
