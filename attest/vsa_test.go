package attest

import (
	"encoding/json"
	"fmt"
	"strings"
	"testing"
)

const vsaExample = `{
  "verifier": {"id": "https://example.com/publication_verifier", "version": {"slsa-verifier-linux-amd64": "v2.3.0"}},
  "timeVerified": "1985-04-12T23:20:50.52Z",
  "resourceUri": "https://example.com/example-1.2.3.tar.gz",
  "policy": {"uri": "https://example.com/example_tarball.policy", "digest": {"sha256": "1234"}},
  "inputAttestations": [{"uri": "https://example.com/provenances/example-1.2.3.tar.gz.intoto.jsonl", "digest": {"sha256": "abcd"}}],
  "verificationResult": "PASSED",
  "verifiedLevels": ["SLSA_BUILD_LEVEL_3"],
  "dependencyLevels": {"SLSA_BUILD_LEVEL_3": 5, "SLSA_BUILD_LEVEL_2": 7, "SLSA_BUILD_LEVEL_1": 1},
  "slsaVersion": "1.0"
}`

// TestParseVSA reads the specification's example, and refuses what contradicts itself.
func TestParseVSA(t *testing.T) {
	v, err := ParseVSA([]byte(vsaExample))
	if err != nil || v.BuildLevel() != 3 || v.TimeVerified.Year() != 1985 || v.DependencyLevels["SLSA_BUILD_LEVEL_2"] != 7 {
		t.Fatalf("got %+v, %v", v, err)
	}
	raw, err := json.Marshal(v)
	if again, err2 := ParseVSA(raw); err != nil || err2 != nil || again.ResourceURI != v.ResourceURI {
		t.Errorf("written and read again: %+v, %v, %v", again, err, err2)
	}
	for name, change := range map[string][2]string{
		"no verifier":              {`"id": "https://example.com/publication_verifier", `, ``},
		"verifier is no URI":       {`"id": "https://example.com/publication_verifier"`, `"id": "verifier"`},
		"no resource":              {`"resourceUri": "https://example.com/example-1.2.3.tar.gz",`, ``},
		"no policy":                {`"uri": "https://example.com/example_tarball.policy", `, ``},
		"no result":                {`"verificationResult": "PASSED",`, ``},
		"another result":           {`"PASSED"`, `"passed"`},
		"passed without levels":    {`["SLSA_BUILD_LEVEL_3"]`, `[]`},
		"passed and failed":        {`["SLSA_BUILD_LEVEL_3"]`, `["SLSA_BUILD_LEVEL_3", "FAILED"]`},
		"two levels of a track":    {`["SLSA_BUILD_LEVEL_3"]`, `["SLSA_BUILD_LEVEL_3", "SLSA_BUILD_LEVEL_2"]`},
		"a level that is no level": {`["SLSA_BUILD_LEVEL_3"]`, `["SLSA_BUILD_LEVEL_33"]`},
		"a level in other case":    {`["SLSA_BUILD_LEVEL_3"]`, `["SLSA_Build_LEVEL_3"]`},
		"an empty level":           {`["SLSA_BUILD_LEVEL_3"]`, `[""]`},
		"named twice":              {`"verificationResult": "PASSED",`, `"verificationResult": "FAILED", "verificationResult": "PASSED",`},
		"negative count":           {`"SLSA_BUILD_LEVEL_1": 1`, `"SLSA_BUILD_LEVEL_1": -1`},
		"another SLSA":             {`"slsaVersion": "1.0"`, `"slsaVersion": "2.0"`},
		"no SLSA":                  {`"slsaVersion": "1.0"`, `"slsaVersion": "1.0 "`},
		"time is no time":          {`"1985-04-12T23:20:50.52Z"`, `"yesterday"`},
	} {
		bent := strings.Replace(vsaExample, change[0], change[1], 1)
		if bent == vsaExample {
			t.Fatalf("%s: nothing was bent", name)
		}
		if v, err := ParseVSA([]byte(bent)); err == nil {
			t.Errorf("%s: got %+v, want an error", name, v)
		}
	}
	for name, change := range map[string][2]string{
		"unknown members":   {`"slsaVersion"`, `"https://example.com/more": 1, "slsaVersion"`},
		"no time":           {`"timeVerified": "1985-04-12T23:20:50.52Z",`, ``},
		"several tracks":    {`["SLSA_BUILD_LEVEL_3"]`, `["SLSA_BUILD_LEVEL_3", "SLSA_SOURCE_LEVEL_2", "OF_OUR_OWN"]`},
		"unevaluated":       {`["SLSA_BUILD_LEVEL_3"]`, `["SLSA_BUILD_LEVEL_UNEVALUATED"]`},
		"failed by itself":  {`"PASSED",` + "\n" + `  "verifiedLevels": ["SLSA_BUILD_LEVEL_3"]`, `"FAILED", "verifiedLevels": ["FAILED"]`},
		"no dependencies":   {`{"SLSA_BUILD_LEVEL_3": 5, "SLSA_BUILD_LEVEL_2": 7, "SLSA_BUILD_LEVEL_1": 1}`, `{}`},
		"a custom property": {`["SLSA_BUILD_LEVEL_3"]`, `["ORG_REVIEWED"]`},
	} {
		bent := strings.Replace(vsaExample, change[0], change[1], 1)
		if bent == vsaExample {
			t.Fatalf("%s: nothing was bent", name)
		}
		if _, err := ParseVSA([]byte(bent)); err != nil {
			t.Errorf("%s: %v", name, err)
		}
	}
}

func TestLevelsOfVSA(t *testing.T) {
	v := VSA{VerifiedLevels: []string{"SLSA_BUILD_LEVEL_2", "SLSA_SOURCE_LEVEL_UNEVALUATED", "ORG_REVIEWED"}}
	for want, reached := range map[string]bool{
		"SLSA_BUILD_LEVEL_0": true, "SLSA_BUILD_LEVEL_1": true, "SLSA_BUILD_LEVEL_2": true, "SLSA_BUILD_LEVEL_3": false, "SLSA_BUILD_LEVEL_UNEVALUATED": false,
		"SLSA_SOURCE_LEVEL_0": false, "SLSA_SOURCE_LEVEL_UNEVALUATED": true, "ORG_REVIEWED": true, "ORG_REVIEW": false, "": false, "SLSA_BUILD_LEVEL_": false,
	} {
		if got := v.Reaches(want); got != reached {
			t.Errorf("%s: got %v, want %v", want, got, reached)
		}
	}
	if v.BuildLevel() != 2 || (&VSA{VerifiedLevels: []string{BuildUnevaluated}}).BuildLevel() != 0 || (&VSA{}).BuildLevel() != 0 {
		t.Error("Build level is misread")
	}
}

func TestImageURI(t *testing.T) {
	for repository, want := range map[string]string{
		"127.0.0.1:8080/team/app": "pkg:oci/app?repository_url=127.0.0.1:8080/team/app",
		"ghcr.io/org/app.x":       "pkg:oci/app.x?repository_url=ghcr.io/org/app.x",
		"[::1]:5000/app":          "pkg:oci/app?repository_url=%5B::1%5D:5000/app",
	} {
		if got := ImageURI(repository); got != want {
			t.Errorf("got %q, want %q", got, want)
		}
	}
}

// TestLevels: which levels a summary may have, and which one reaches which.
func TestLevels(t *testing.T) {
	levels := func(n int) (out []string) {
		for i := range n {
			out = append(out, fmt.Sprintf("level %d", i))
		}
		return out
	}
	summary := func(levels ...string) *VSA {
		return &VSA{Verifier: VSAVerifier{ID: "a:v"}, ResourceURI: "a:r", Policy: ResourceDescriptor{URI: "a:p"}, VerificationResult: VSAPassed, VerifiedLevels: levels}
	}
	if err := summary(levels(64)...).Check(); err != nil {
		t.Error(err)
	}
	if err := summary(levels(65)...).Check(); err == nil {
		t.Error("65 levels are too many")
	}
	bent := summary("x")
	bent.DependencyLevels = map[string]uint64{"SLSA_BUILD_LEVEL_": 1}
	if err := bent.Check(); err == nil || !strings.Contains(err.Error(), "dependencies") {
		t.Errorf("a malformed level of dependencies: got %v", err)
	}
	for _, tt := range []struct {
		have, want string
		reaches    bool
		build      int
	}{
		{"SLSA_BUILD_LEVEL_2", "SLSA_BUILD_LEVEL_2", true, 2}, {"SLSA_BUILD_LEVEL_2", "SLSA_BUILD_LEVEL_3", false, 2}, {"SLSA_BUILD_LEVEL_3", "SLSA_BUILD_LEVEL_1", true, 3},
		{"SLSA_BUILD_LEVEL_0", "SLSA_BUILD_LEVEL_0", true, 0}, {"SLSA_BUILD_LEVEL_1", "SLSA_BUILD_LEVEL_0", true, 1}, {"SLSA_BUILD_LEVEL_1", "SLSA_BUILD_LEVEL_1", true, 1},
		{"SLSA_BUILD_LEVEL_UNEVALUATED", "SLSA_BUILD_LEVEL_UNEVALUATED", true, 0}, {"SLSA_BUILD_LEVEL_1", "SLSA_BUILD_LEVEL_UNEVALUATED", false, 1},
		{"SLSA_SOURCE_LEVEL_3", "SLSA_BUILD_LEVEL_1", false, 0}, {"custom", "custom", true, 0}, {"custom", "other", false, 0}, {"custom", "", false, 0},
		{"MY_SLSA_LEVEL", "MY_SLSA_LEVEL", true, 0}, {"SLSA_BUILD_LEVEL", "SLSA_BUILD_LEVEL_1", false, 0},
	} {
		v := summary(tt.have)
		if got := v.Reaches(tt.want); got != tt.reaches {
			t.Errorf("%q reaches %q: got %v", tt.have, tt.want, got)
		}
		if got := v.BuildLevel(); got != tt.build {
			t.Errorf("Build level of %q: got %d, want %d", tt.have, got, tt.build)
		}
	}
	for level, good := range map[string]bool{"SLSA_BUILD_LEVEL_3": true, "custom": true, "SLSA_OTHER": true, "X_LEVEL_1": true, "": false, "FAILED": false, "SLSA_BUILD_LEVEL_": false} {
		if err := CheckLevel(level); (err == nil) != good {
			t.Errorf("%q: got %v", level, err)
		}
	}
}
