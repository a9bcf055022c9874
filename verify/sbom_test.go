package verify_test

import (
	"archive/tar"
	"bytes"
	"errors"
	"strings"
	"testing"
	"time"

	"github.com/colophon-build/colophon/policy"
	"github.com/colophon-build/colophon/test/prooftest"
	"github.com/colophon-build/colophon/verify"
)

// withPackage is a scene whose image has one npm package, left-pad 1.3.0.
func withPackage(t *testing.T) *scene {
	t.Helper()
	manifest := `{"name":"left-pad","version":"1.3.0"}`
	var buf bytes.Buffer
	w := tar.NewWriter(&buf)
	if err := w.WriteHeader(&tar.Header{Name: "app/node_modules/left-pad/package.json", Typeflag: tar.TypeReg, Mode: 0o644, Size: int64(len(manifest))}); err != nil {
		t.Fatal(err)
	}
	if _, err := w.Write([]byte(manifest)); err != nil {
		t.Fatal(err)
	}
	if err := w.Close(); err != nil {
		t.Fatal(err)
	}
	p, s := prooftest.New(t), prooftest.NewStore(t)
	s.Tar = buf.Bytes()
	return &scene{t: t, p: p, s: s, r: p.Release(s), now: time.Now(), wants: demand}
}

// list has both documents list package URLs.
func (c *scene) list(purls ...string) {
	packages := c.r.SPDX["packages"].([]map[string]any)
	components := c.r.CDX["components"].([]map[string]any)
	for _, p := range purls {
		packages = append(packages, map[string]any{"SPDXID": "SPDXRef-" + p, "name": p, "externalRefs": []map[string]string{{"referenceType": "purl", "referenceLocator": p}}})
		components = append(components, map[string]any{"type": "library", "name": p, "purl": p})
	}
	c.r.SPDX["packages"], c.r.CDX["components"] = packages, components
}

func TestContents(t *testing.T) {
	const there, other = "pkg:npm/left-pad@1.3.0", "pkg:npm/left-pad@1.2.9"
	for name, tc := range map[string]struct {
		purls   []string
		outcome verify.Outcome
		status  verify.Status
		words   string
	}{
		"agrees":                 {[]string{there}, verify.Accepted, verify.Holds, "agrees with the 1 package found in the image"},
		"not in the SBOM":        {nil, verify.Rejected, verify.Broken, "in the image and not in the SBOM: npm left-pad 1.3.0"},
		"not in the image":       {[]string{there, "pkg:npm/evil@1"}, verify.Rejected, verify.Broken, "in the SBOM and not in the image: npm evil 1"},
		"another version":        {[]string{other}, verify.Rejected, verify.Broken, "npm left-pad 1.2.9"},
		"others are not counted": {[]string{there, "pkg:maven/org.example/x@1"}, verify.Accepted, verify.Holds, "agrees"},
	} {
		t.Run(name, func(t *testing.T) {
			c := withPackage(t)
			c.list(tc.purls...)
			c.r.Attach(prooftest.Kinds...)
			c.want(verify.Accepted, "sbom", verify.Holds, "about this image")
			c.wants.Contents = true
			c.want(tc.outcome, "sbom", tc.status, tc.words)
		})
	}
	t.Run("one of two documents lies", func(t *testing.T) {
		c := withPackage(t)
		c.list(there)
		c.r.CDX["components"] = []map[string]any{}
		c.r.Attach(prooftest.Kinds...)
		c.wants.Contents = true
		c.want(verify.Rejected, "sbom", verify.Broken, "CycloneDX document")
	})
	t.Run("the scanner could not read a file", func(t *testing.T) {
		c := withPackage(t)
		c.r.SPDX["annotations"] = []map[string]string{{"comment": "colophon: not read: /app/a.jar"}}
		c.r.Attach(prooftest.Kinds...)
		c.want(verify.Accepted, "sbom", verify.Holds, "could not read: /app/a.jar")
		c.wants.CompleteSBOM = true
		c.want(verify.Rejected, "sbom", verify.Broken, "SPDX document", "could not read: /app/a.jar")
	})
	t.Run("no SBOM", func(t *testing.T) {
		c := withPackage(t)
		c.r.Attach(prooftest.Kinds[:2]...)
		c.wants.NoSBOM, c.wants.Contents = true, true
		c.want(verify.Rejected, "sbom", verify.Absent)
	})
	t.Run("layers that cannot be unpacked", func(t *testing.T) {
		c := newScene(t)
		c.r.Attach(prooftest.Kinds...)
		c.wants.Contents = true
		c.want(verify.Rejected, "sbom", verify.Broken, "contents of the image")
	})
	t.Run("layers that cannot be had", func(t *testing.T) {
		c := withPackage(t)
		c.list(there)
		c.r.Attach(prooftest.Kinds...)
		c.wants.Contents = true
		c.s.Fail[c.r.Layers[0].Digest.String()] = errors.New("no route")
		c.want(verify.Undecided, "sbom", verify.Unknown, "no route")
	})
}

// An SBOM that says where the image came from says what the provenance says.
func TestSourceOfSBOM(t *testing.T) {
	right := "git+" + prooftest.Source + "@" + prooftest.Commit
	for name, from := range map[string]string{"another commit": "git+" + prooftest.Source + "@" + strings.Repeat("ab", 20), "another repository": "git+https://git.example.com/team/other@" + prooftest.Commit} {
		for _, format := range []string{"SPDX", "CycloneDX"} {
			c := newScene(t)
			set := func(format, from string) {
				if format == "SPDX" {
					c.r.SPDX["packages"].([]map[string]any)[0]["sourceInfo"] = "built from " + from
				} else {
					c.r.CDX["metadata"].(map[string]any)["component"].(map[string]any)["externalReferences"] = []map[string]string{{"type": "vcs", "url": from}}
				}
			}
			set("SPDX", right)
			set("CycloneDX", right)
			t.Run("right", func(t *testing.T) {
				c := *c
				c.r.Attach(prooftest.Kinds...)
				c.want(verify.Accepted, "sbom", verify.Holds)
			})
			t.Run(name+" in "+format, func(t *testing.T) {
				set(format, from)
				*c.s = *prooftest.NewStore(t)
				fresh := c.p.Release(c.s)
				fresh.SPDX, fresh.CDX = c.r.SPDX, c.r.CDX
				fresh.Attach(prooftest.Kinds...)
				c.want(verify.Rejected, "sbom", verify.Broken, "source of the "+format+" document", from)
			})
		}
	}
}

func TestContentsNeedADocument(t *testing.T) {
	d := policy.Document{Signer: &policy.DocumentSigner{Identity: ada, Issuer: people}, Contents: true}
	if _, err := d.Policy(); err == nil || !strings.Contains(err.Error(), "contents") {
		t.Errorf("got %v", err)
	}
}
