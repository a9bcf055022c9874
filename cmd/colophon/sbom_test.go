package main

import (
	"encoding/json"
	"fmt"
	"reflect"
	"strings"
	"testing"
)

func TestSBOM(t *testing.T) {
	s := newStage(t)
	files := 0
	spdx := func(packages string) string {
		files++
		return s.file(fmt.Sprintf("%d.json", files), []byte(`{"spdxVersion":"SPDX-2.3","SPDXID":"SPDXRef-DOCUMENT","creationInfo":{"created":"2026-01-02T03:04:05Z","creators":["Organization: ACME"]},"packages":[{"SPDXID":"SPDXRef-image","name":"app"}`+packages+`],
			"relationships":[{"spdxElementId":"SPDXRef-DOCUMENT","relationshipType":"DESCRIBES","relatedSpdxElement":"SPDXRef-image"}]}`))
	}
	empty := spdx("")
	one := spdx(`,{"SPDXID":"SPDXRef-a","name":"a\u001b","versionInfo":"1"},{"SPDXID":"SPDXRef-b","name":"b","versionInfo":"1"}`)
	two := spdx(`,{"SPDXID":"SPDXRef-b","name":"b","versionInfo":"2"},{"SPDXID":"SPDXRef-c","name":"c","versionInfo":"1"}`)
	out := s.run(exitOK, []string{"sbom", "diff", one, two}, "+ c 1", "~ b 1 → 2", "1 added, 1 removed, 1 changed; 2 packages before, 2 after")
	if strings.Contains(out, "\x1b") {
		t.Errorf("a name reaches the terminal as it is: %q", out)
	}
	var changes []packageChange
	if err := json.Unmarshal([]byte(s.run(exitOK, []string{"sbom", "diff", empty, two, "--json"})), &changes); err != nil || !reflect.DeepEqual(changes, []packageChange{{Name: "b", New: []string{"2"}}, {Name: "c", New: []string{"1"}}}) {
		t.Errorf("got %+v, %v", changes, err)
	}
	s.run(exitOK, []string{"sbom", "check", empty}, "nothing is missing of the minimum elements of ntia")
	s.run(exitRejected, []string{"sbom", "check", one}, "✗ supplier name", "2 packages: a", "b@1")
	var lacks lacking
	if err := json.Unmarshal([]byte(s.run(exitRejected, []string{"sbom", "check", two, "--json"})), &lacks); err != nil || lacks.Against != "ntia" || len(lacks.Missing) != 3 {
		t.Errorf("got %+v, %v", lacks, err)
	}
	s.run(exitFailure, []string{"sbom", "check", s.file("no.json", []byte("x"))}, "it is no JSON object")
	s.run(exitUsage, []string{"sbom", "check", one, "--against", "nist"}, "expected one of ntia, cisa, bsi")
}
