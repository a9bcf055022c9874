package verify

import (
	"testing"

	"github.com/colophon-build/colophon/policy"
)

// TestConditionsSeeWhatWasRead: a condition can tell that SBOMs name no file that was not read
// from that there is no SBOM.
func TestConditionsSeeWhatWasRead(t *testing.T) {
	all, err := policy.ParseCondition("size(sbom.unread) == 0", "files were not read")
	if err != nil {
		t.Fatal(err)
	}
	for name, tt := range map[string]struct {
		signed []Signed
		yes    bool
		known  bool
	}{
		"all was read":    {[]Signed{{SBOM: &SBOM{Format: "SPDX"}}}, true, true},
		"a file was not":  {[]Signed{{SBOM: &SBOM{Format: "SPDX"}}, {SBOM: &SBOM{Format: "CycloneDX", Unread: []string{"a.jar"}}}}, false, true},
		"there is no one": {[]Signed{{}}, false, false},
	} {
		yes, err := all.Holds(factsForConditions(&Verdict{Facts: &Facts{Signed: tt.signed}}, policy.Image{}, noon))
		if yes != tt.yes || (err == nil) != tt.known {
			t.Errorf("%s: got %t, %v, want %t", name, yes, err, tt.yes)
		}
	}
}
