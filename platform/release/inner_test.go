package release

import (
	"bytes"
	"encoding/json"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	v1 "github.com/google/go-containerregistry/pkg/v1"

	"github.com/colophon-build/colophon/attest"
	"github.com/colophon-build/colophon/oci"
	"github.com/colophon-build/colophon/platform/api"
	"github.com/colophon-build/colophon/source"
)

// composed publishes an image of these platforms with attestations of BuildKit's form.
func composed(t *testing.T, alter func(*run, *built), archs ...string) (published, *oci.Measured) {
	t.Helper()
	layout := writeImage(t, archs...)
	m, err := oci.MeasureLayout(layout)
	if err != nil {
		t.Fatal(err)
	}
	j := &run{
		Releaser: &Releaser{}, dir: t.TempDir(), id: newID(), started: time.Now(), recipe: attest.Recipe{Builder: attest.BuildKit},
		req:     api.ReleaseRequest{Image: "r.example.com/team/app", DockerAttestations: true},
		commit:  source.Commit{URI: "https://git.example.com/team/app", Ref: "refs/tags/v1", ID: strings.Repeat("c", 40), Tree: strings.Repeat("d", 40)},
		builder: BuilderInfo{BuildType: attest.BuildTypeBuildKit},
	}
	b := &built{Layout: layout, Started: time.Now(), Log: hex64("1"), Bases: map[string]baseOf{"linux/amd64": {"alpine", "sha256:" + hex64("a")}}, Dependencies: []attest.ResourceDescriptor{
		{URI: "pkg:docker/alpine", Digest: map[string]string{"sha256": hex64("a")}},
		{URI: "git+https://git.example.com/added", Digest: map[string]string{"gitCommit": strings.Repeat("e", 40)}},
		{URI: "https://mirror.example.com/of-today", Digest: map[string]string{"sha256": newID() + newID()}},
	}}
	for i := range m.Platforms {
		doc := []byte(`{"spdxVersion":"SPDX-2.3","name":"` + m.Platforms[i].Platform.Architecture + `"}`)
		if err := os.WriteFile(filepath.Join(j.dir, fileInner(i)), doc, 0o600); err != nil {
			t.Fatal(err)
		}
		b.Inner = append(b.Inner, hexSum(doc))
	}
	if alter != nil {
		alter(j, b)
	}
	p, err := j.compose(b, m)
	if err != nil {
		t.Fatal(err)
	}
	return p, m
}

// TestInnerAttestations: each platform has one attestation manifest, about its own digest, and
// nothing in it depends on the platform, the time or the downloads of a build.
func TestInnerAttestations(t *testing.T) {
	for _, archs := range [][]string{{"amd64"}, {"amd64", "arm64"}} {
		p, m := composed(t, nil, archs...)
		again, _ := composed(t, func(j *run, b *built) {
			j.URL, j.Version, j.builder.ID = "https://elsewhere.example.com", "v9", "https://elsewhere.example.com/builders/buildkit/v1"
			b.Tools = []attest.ResourceDescriptor{{Name: "buildkitd"}}
			raw, err := json.Marshal(b) // as after a restart
			if *b = (built{Layout: b.Layout}); err == nil {
				err = json.Unmarshal(raw, b)
			}
			if err != nil {
				t.Fatal(err)
			}
		}, archs...)
		if p.Digest != again.Digest {
			t.Errorf("%v: another platform published %s, want %s", archs, again.Digest, p.Digest)
		}
		var index v1.IndexManifest
		if err := json.Unmarshal(p.manifests[len(p.manifests)-1].raw, &index); err != nil {
			t.Fatal(err)
		}
		n := len(archs)
		if len(index.Manifests) != 2*n || index.Annotations == nil && n == 1 {
			t.Fatalf("%v: got the index %+v", archs, index)
		}
		for i, want := range m.Platforms {
			image, about := index.Manifests[i], index.Manifests[n+i]
			if image.Digest != want.Manifest.Digest || image.Platform == nil || image.Platform.Architecture != archs[i] {
				t.Errorf("%v: got the entry %+v, want %s", archs, image, want.Manifest.Digest)
			}
			if about.Platform == nil || about.Platform.String() != "unknown/unknown" || about.Annotations[attest.DockerReferenceType] != "attestation-manifest" ||
				about.Annotations[attest.DockerReferenceDigest] != want.Manifest.Digest.String() || about.Digest != p.manifests[i].Digest {
				t.Errorf("%v: got the entry %+v, want an attestation of %s", archs, about, want.Manifest.Digest)
			}
			checkInner(t, p, p.manifests[i], want, archs[i])
		}
	}
	plain, m := composed(t, func(j *run, _ *built) { j.req.DockerAttestations = false }, "amd64")
	if plain.Digest != m.Descriptor.Digest || plain.manifests != nil {
		t.Errorf("without the flag: got %+v, want the measured image", plain)
	}
}

// checkInner checks one attestation manifest of an image.
func checkInner(t *testing.T, p published, manifest part, image oci.MeasuredPlatform, arch string) {
	t.Helper()
	var doc v1.Manifest
	if err := json.Unmarshal(manifest.raw, &doc); err != nil {
		t.Fatal(err)
	}
	types := ""
	for _, l := range doc.Layers {
		types += " " + l.Annotations[attest.InTotoPredicateType]
		var s *attest.Statement
		var err error
		for _, b := range p.blobs {
			if b.Digest == l.Digest {
				s, err = attest.ParseStatement(b.raw)
			}
		}
		if err != nil || s == nil || len(s.Subject) != 1 || "sha256:"+s.Subject[0].Digest["sha256"] != image.Manifest.Digest.String() {
			t.Fatalf("got the statement %+v, %v, want one about %s", s, err, image.Manifest.Digest)
		}
		switch s.PredicateType {
		case attest.PredicateSPDX:
			if !bytes.Contains(s.Predicate, []byte(arch)) {
				t.Errorf("got the SBOM of another platform: %s", s.Predicate)
			}
		case attest.PredicateSLSA1:
			for text, want := range map[string]bool{"dockerAttestations": true, "git.example.com/added": true, "pkg:docker/alpine": arch == "amd64", "of-today": false, "invocationId": false, "startedOn": false, "byproducts": false} {
				if got := bytes.Contains(s.Predicate, []byte(text)); got != want {
					t.Errorf("%s: provenance has %q: %v, want %v: %s", arch, text, got, want, s.Predicate)
				}
			}
		}
	}
	if types != " "+attest.PredicateSPDX+" "+attest.PredicateSLSA1 {
		t.Errorf("got the statements%s", types)
	}
}

// TestInnerSBOMIsTheScanners: an SBOM that changed on disk between scan and publication is refused.
func TestInnerSBOMIsTheScanners(t *testing.T) {
	p, m := composed(t, nil, "amd64")
	j := &run{Releaser: &Releaser{}, dir: t.TempDir(), req: api.ReleaseRequest{DockerAttestations: true}}
	if err := os.WriteFile(filepath.Join(j.dir, fileInner(0)), []byte(`{"name":"other"}`), 0o600); err != nil {
		t.Fatal(err)
	}
	layout := writeImage(t, "amd64")
	for _, inner := range [][]string{{hexSum([]byte("the scanner's"))}, nil} {
		if got, err := j.compose(&built{Layout: layout, Inner: inner}, m); err == nil {
			t.Errorf("%q: composed %s, want an error", inner, got.Digest)
		}
	}
	if p.Digest == m.Descriptor.Digest {
		t.Error("nothing was composed")
	}
}
