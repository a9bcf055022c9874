package sbom

import (
	"bytes"
	"encoding/json"
	"slices"
	"strings"
	"testing"

	v1 "github.com/google/go-containerregistry/pkg/v1"
)

var mergedIndex = Index{Digest: v1.Hash{Algorithm: "sha256", Hex: strings.Repeat("9", 64)}}

// partsOf returns the SBOMs of two images. Both have the package same; the package arch has one
// identifier and another content in each.
func partsOf(format string) []Part {
	var parts []Part
	for i, platform := range []string{"linux/amd64", "linux/arm64"} {
		hex := strings.Repeat([]string{"a", "b"}[i], 64)
		arch := platform[len("linux/"):]
		doc, kind := `{"spdxVersion":"SPDX-2.3","dataLicense":"CC0-1.0","SPDXID":"SPDXRef-DOCUMENT","name":"x","documentNamespace":"https://x/`+arch+`","creationInfo":{"created":"2026-01-0`+string(rune('1'+i))+`T00:00:00Z","creators":["Organization: ACME (a@b.c)","Tool: x-`+arch+`"]},
"annotations":[{"annotator":"Tool: x","annotationDate":"2026-01-01T00:00:00Z","annotationType":"OTHER","comment":"colophon: not read: /`+arch+`.tar"}],
"packages":[{"SPDXID":"SPDXRef-root","name":"app","checksums":[{"algorithm":"SHA256","checksumValue":"`+hex+`"}]},
{"SPDXID":"SPDXRef-same","name":"same","versionInfo":"1","supplier":"Organization: S","externalRefs":[{"referenceType":"purl","referenceLocator":"pkg:golang/same@1"}]},
{"SPDXID":"SPDXRef-arch","name":"arch","versionInfo":"1","supplier":"Organization: S","externalRefs":[{"referenceType":"purl","referenceLocator":"pkg:deb/arch@1?arch=`+arch+`"}]}],
"relationships":[{"spdxElementId":"SPDXRef-DOCUMENT","relationshipType":"DESCRIBES","relatedSpdxElement":"SPDXRef-root"},{"spdxElementId":"SPDXRef-arch","relationshipType":"DEPENDS_ON","relatedSpdxElement":"SPDXRef-same"}]}`, PredicateSPDX
		if format == "CycloneDX" {
			doc, kind = `{"bomFormat":"CycloneDX","specVersion":"1.6","serialNumber":"urn:uuid:`+arch+`","version":1,"metadata":{"timestamp":"2026-01-0`+string(rune('1'+i))+`T00:00:00Z","authors":[{"name":"A"}],"properties":[{"name":"colophon:not-read","value":"/`+arch+`.tar"}],
"component":{"bom-ref":"root","type":"container","name":"app","version":"sha256:`+hex+`"}},
"components":[{"bom-ref":"same","type":"library","name":"same","version":"1","purl":"pkg:golang/same@1","publisher":"S"},{"bom-ref":"arch","type":"library","name":"arch","version":"1","purl":"pkg:deb/arch@1?arch=`+arch+`","publisher":"S"}],
"dependencies":[{"ref":"root","dependsOn":["same","arch"]},{"ref":"arch","dependsOn":["same"]}],"compositions":[{"aggregate":"incomplete","assemblies":["root"]}]}`, PredicateCycloneDX
		}
		parts = append(parts, Part{[]byte(doc), kind, platform})
	}
	return parts
}

func TestMerge(t *testing.T) {
	for _, format := range []string{"SPDX", "CycloneDX"} {
		parts := partsOf(format)
		doc, err := Merge(mergedIndex, parts)
		if err != nil {
			t.Fatal(err)
		}
		slices.Reverse(parts)
		if again, err := Merge(mergedIndex, parts); err != nil || !bytes.Equal(doc, again) {
			t.Errorf("%s: the order of the parts matters: %v", format, err)
		}
		d, err := Read(doc, parts[0].Type)
		if err != nil {
			t.Fatal(err)
		}
		if d.SubjectDigest != mergedIndex.Digest.String() || d.Name != "app" || d.Created.Day() != 2 || !slices.Equal(d.Unread, []string{"/amd64.tar", "/arm64.tar"}) {
			t.Errorf("%s: got %+v", format, d)
		}
		var purls []string
		for _, p := range d.List {
			purls = append(purls, p.PURL)
		}
		slices.Sort(purls)
		if want := []string{"pkg:deb/arch@1?arch=amd64", "pkg:deb/arch@1?arch=arm64", "pkg:golang/same@1"}; !slices.Equal(purls, want) {
			t.Errorf("%s: got %q, want %q", format, purls, want)
		}
		// Which package is in which image?
		for purl, want := range map[string]string{"pkg:golang/same@1": "linux/amd64 linux/arm64", "pkg:deb/arch@1?arch=arm64": "linux/arm64"} {
			if got := strings.Join(platformsOf(t, doc, purl), " "); got != want {
				t.Errorf("%s: %s is in %q, want %q", format, purl, got, want)
			}
		}
		for _, list := range Lists() {
			lacks := map[string]bool{}
			for _, p := range parts {
				missing, err := Check(p.Document, p.Type, list)
				if err != nil {
					t.Fatal(err)
				}
				for _, m := range missing {
					lacks[m.Element] = true
				}
			}
			missing, err := Check(doc, parts[0].Type, list)
			if err != nil {
				t.Fatal(err)
			}
			for _, m := range missing {
				if !lacks[m.Element] {
					t.Errorf("%s, %s: the parts have %q, and the merged SBOM lacks it", format, list, m.Element)
				}
			}
		}
		if diff := Compare(d, d); len(diff.Added)+len(diff.Removed)+len(diff.Changed) > 0 {
			t.Errorf("%s: got %+v", format, diff)
		}
	}
}

// platformsOf reads which images have a package, as a reader of the document would.
func platformsOf(t *testing.T, doc []byte, purl string) (platforms []string) {
	t.Helper()
	var d struct {
		Packages []struct {
			SPDXID, Comment string
			ExternalRefs    []struct{ ReferenceLocator string }
		}
		Relationships []struct{ SpdxElementId, RelationshipType, RelatedSpdxElement string }
		Components    []struct {
			Purl       string
			Properties []struct{ Name, Value string }
		}
	}
	if err := json.Unmarshal(doc, &d); err != nil {
		t.Fatal(err)
	}
	names := map[string]string{}
	for _, p := range d.Packages {
		names[p.SPDXID] = strings.TrimPrefix(p.Comment, "platform: ")
	}
	for _, p := range d.Packages {
		if len(p.ExternalRefs) > 0 && p.ExternalRefs[0].ReferenceLocator == purl {
			for _, r := range d.Relationships {
				if r.RelationshipType == "CONTAINS" && r.RelatedSpdxElement == p.SPDXID {
					platforms = append(platforms, names[r.SpdxElementId])
				}
			}
		}
	}
	for _, c := range d.Components {
		if c.Purl == purl {
			for _, p := range c.Properties {
				platforms = append(platforms, p.Value)
			}
		}
	}
	return platforms
}

func TestMergeRefuses(t *testing.T) {
	change := func(p Part, old, new string) Part {
		if !bytes.Contains(p.Document, []byte(old)) {
			t.Fatalf("%q is not in the document", old)
		}
		p.Document = bytes.ReplaceAll(p.Document, []byte(old), []byte(new))
		return p
	}
	for _, format := range []string{"SPDX", "CycloneDX"} {
		p, other := partsOf(format), partsOf(map[string]string{"SPDX": "CycloneDX", "CycloneDX": "SPDX"}[format])
		whole, err := Merge(mergedIndex, p)
		if err != nil {
			t.Fatal(err)
		}
		samePlatform := p[1]
		samePlatform.Platform = p[0].Platform
		for name, tt := range map[string]struct {
			parts []Part
			want  string
		}{
			"none":             {nil, "got no SBOM"},
			"two formats":      {[]Part{p[0], other[1]}, "want one format and version"},
			"two images":       {[]Part{p[0], change(p[1], `"name":"app"`, `"name":"other"`)}, `got SBOMs of "app" and "other"`},
			"one image twice":  {[]Part{p[0], p[0]}, "got two SBOMs of sha256:aaa"},
			"a platform twice": {[]Part{p[0], samePlatform}, "got two SBOMs for linux/amd64"},
			"no digest":        {[]Part{p[0], p[1]}, "no sha256 digest"},
			"the index":        {[]Part{p[0], change(p[1], strings.Repeat("b", 64), strings.Repeat("9", 64))}, "is the index itself"},
			"merged already":   {[]Part{{whole, p[0].Type, ""}, p[1]}, "index"},
			"no JSON":          {[]Part{{[]byte("x"), p[0].Type, ""}}, "document"},
		} {
			if name == "no digest" {
				if format == "SPDX" {
					tt.parts[1] = change(p[1], "SHA256", "SHA1")
				} else {
					tt.parts[1] = change(p[1], "sha256:", "v")
				}
			}
			if _, err := Merge(mergedIndex, tt.parts); err == nil || !strings.Contains(err.Error(), tt.want) {
				t.Errorf("%s: %s: got %v, want %q in it", format, name, err, tt.want)
			}
		}
	}
}
