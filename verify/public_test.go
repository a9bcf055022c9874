package verify_test

import (
	"bytes"
	"context"
	"encoding/base64"
	"encoding/json"
	"errors"
	"strings"
	"testing"
	"time"

	v1 "github.com/google/go-containerregistry/pkg/v1"
	"github.com/google/go-containerregistry/pkg/v1/types"

	"github.com/colophon-build/colophon/attest"
	"github.com/colophon-build/colophon/policy"
	"github.com/colophon-build/colophon/test/prooftest"
	"github.com/colophon-build/colophon/verify"
)

// publicRoot is the trusted root of the public Sigstore instance.
const publicRoot = "../trust/tuf/sigstore_trusted_root.json"

const (
	generator = "https://github.com/slsa-framework/slsa-github-generator/.github/workflows/generator_container_slsa3.yml"
	example   = "github.com/slsa-framework/example-package"
)

// githubImage is an image as slsa-github-generator signed it, with cosign v2.
// Its layers are not here: the image link is absent, whatever the others say.
func githubImage(t testing.TB, version string, change func(envelope []byte, layer *v1.Descriptor) []byte) (*prooftest.Store, string) {
	dir := "testdata/github-container/" + version + "/"
	s := prooftest.NewStore(t)
	index := s.Put(read(t, dir+"index.json"), types.OCIImageIndex)
	var m v1.Manifest
	if err := json.Unmarshal(read(t, dir+"attestations.json"), &m); err != nil {
		t.Fatal(err)
	}
	envelope := read(t, dir+"envelope.json")
	if change != nil {
		envelope = change(envelope, &m.Layers[0])
	}
	d := s.Put(envelope, attest.EnvelopeMediaType)
	m.Layers[0].Digest, m.Layers[0].Size = d.Digest, d.Size
	raw, err := json.Marshal(m)
	if err != nil {
		t.Fatal(err)
	}
	s.Tag("sha256-"+index.Digest.Hex+".att", s.Put(raw, types.OCIManifestSchema1))
	return s, index.Digest.String()
}

func githubVerdict(t testing.TB, version string, p policy.Document, change func([]byte, *v1.Descriptor) []byte) *verify.Verdict {
	s, digest := githubImage(t, version, change)
	return verify.Image(context.Background(), s, digest, time.Now(), verify.Options{Trust: rootOf(t, read(t, publicRoot)), Policy: demanded(t, p)})
}

// TestGitHubImages: two versions of the generator, two kinds of log entry.
func TestGitHubImages(t *testing.T) {
	refs := map[string]string{"v1.7.0": "refs/heads/main", "v2.0.0": "refs/tags/v13.0.30"}
	commits := map[string]string{"v1.7.0": "62cb1f1e485829bafe8bbec8b9900c0cb7624fe7", "v2.0.0": "693130cb6cb840a7bc9cb18c6510d536a95dc7e6"}
	short := map[string]string{"v1.7.0": "main", "v2.0.0": "v13.0.30"}
	other := map[string]string{"v1.7.0": "refs/tags/main", "v2.0.0": "refs/heads/v13.0.30"}
	for version, ref := range refs {
		for name, p := range map[string]policy.Document{
			"source":              {Source: example},
			"ref":                 {Source: example, Ref: ref},
			"short ref":           {Source: example, Ref: short[version]},
			"commit":              {Source: example, Commit: commits[version]},
			"level":               {Source: example, MinLevel: 3},
			"builder":             {Source: example, Builders: []string{generator}},
			"builder and version": {Source: example, Builders: []string{generator + "@refs/tags/" + version}},
			"any source":          {AnySource: true},
		} {
			v := githubVerdict(t, version, p, nil)
			for _, l := range []string{verify.LinkSignature, verify.LinkLog, verify.LinkProvenance} {
				if got := link(t, v, l); got.Status != verify.Holds {
					t.Errorf("%s, %s: %s %s: %s", version, name, l, got.Status, got.Reason)
				}
			}
		}
		for name, p := range map[string]policy.Document{
			"a character more": {Source: example + "s"},
			"a character less": {Source: strings.TrimSuffix(example, "e")},
			"another owner":    {Source: "github.com/slsa-frameworks/example-package"},
			"another case":     {Source: "github.com/slsa-framework/Example-package"},
			"another host":     {Source: "github.com.example.com/slsa-framework/example-package"},
			"another ref":      {Source: example, Ref: ref + "0"},
			"less of the ref":  {Source: example, Ref: ref[:len(ref)-1]},
			"tag for branch":   {Source: example, Ref: other[version]},
			"another commit":   {Source: example, Commit: strings.Repeat("ab", 20)},
			"another builder":  {Source: example, Builders: []string{strings.Replace(generator, "container", "generic", 1)}},
			"another version":  {Source: example, Builders: []string{generator + "@refs/tags/v1.7.1"}},
			"builder's branch": {Source: example, Builders: []string{generator + "@refs/heads/main"}},
			"our own builder":  {Source: example, Builders: []string{prooftest.Builder}},
		} {
			v := githubVerdict(t, version, p, nil)
			if v.Outcome != verify.Rejected || link(t, v, verify.LinkSignature).Status == verify.Holds && link(t, v, verify.LinkProvenance).Status != verify.Broken {
				t.Errorf("%s, %s: got %s, want it rejected for its signer or its provenance: %+v", version, name, v.Outcome, v.Links)
			}
		}
	}
}

// TestGitHubImageVersions: as much of a version as is demanded, of a real tag
// and of a real branch.
func TestGitHubImageVersions(t *testing.T) {
	for version, matches := range map[string]map[string]bool{
		"v2.0.0": {"v13": true, "v13.0": true, "v13.0.30": true, "v1": false, "v13.0.3": false, "v13.0.300": false, "v13.1": false, "v14": false, "v13.0.30-rc.1": false},
		"v1.7.0": {"v13": false, "v1": false},
	} {
		for demand, match := range matches {
			v := githubVerdict(t, version, policy.Document{Source: example, Version: demand}, nil)
			if got := link(t, v, verify.LinkProvenance); (got.Status == verify.Holds) != match || !match && v.Outcome != verify.Rejected {
				t.Errorf("%s, %s: got %s, %s %s", version, demand, v.Outcome, got.Status, got.Reason)
			}
		}
	}
}

// otherRef has the statement in an envelope name another ref.
func otherRef(t *testing.T, env []byte) []byte {
	var e map[string]any
	if err := json.Unmarshal(env, &e); err != nil {
		t.Fatal(err)
	}
	raw, err := base64.StdEncoding.DecodeString(e["payload"].(string))
	if err != nil {
		t.Fatal(err)
	}
	bent := bytes.ReplaceAll(raw, []byte("refs/heads/main"), []byte("refs/heads/evil"))
	bent = bytes.ReplaceAll(bent, []byte("refs/tags/v13.0.30"), []byte("refs/tags/v13.0.31"))
	if bytes.Equal(raw, bent) {
		t.Error("nothing was bent")
	}
	e["payload"] = base64.StdEncoding.EncodeToString(bent)
	env, err = json.Marshal(e)
	if err != nil {
		t.Fatal(err)
	}
	return env
}

// TestGitHubImageTampered bends an attestation of cosign v2.
func TestGitHubImageTampered(t *testing.T) {
	replace := func(annotation, old, new string) func([]byte, *v1.Descriptor) []byte {
		return func(env []byte, l *v1.Descriptor) []byte {
			was := l.Annotations[annotation]
			if l.Annotations[annotation] = strings.Replace(was, old, new, 1); l.Annotations[annotation] == was {
				t.Errorf("%q is not in %s", old, annotation)
			}
			return env
		}
	}
	for _, version := range []string{"v1.7.0", "v2.0.0"} {
		otherVersion := map[string]string{"v1.7.0": "v2.0.0", "v2.0.0": "v1.7.0"}[version]
		var other v1.Manifest
		if err := json.Unmarshal(read(t, "testdata/github-container/"+otherVersion+"/attestations.json"), &other); err != nil {
			t.Fatal(err)
		}
		swap := func(annotation string) func([]byte, *v1.Descriptor) []byte {
			return func(env []byte, l *v1.Descriptor) []byte {
				l.Annotations[annotation] = other.Layers[0].Annotations[annotation]
				return env
			}
		}
		for name, change := range map[string]func([]byte, *v1.Descriptor) []byte{
			"payload":             func(env []byte, _ *v1.Descriptor) []byte { return otherRef(t, env) },
			"time":                replace(attest.Cosign2Bundle, `"integratedTime":1`, `"integratedTime":2`),
			"index":               replace(attest.Cosign2Bundle, `"logIndex":`, `"logIndex":1`),
			"log":                 replace(attest.Cosign2Bundle, `"logID":"c0`, `"logID":"c1`),
			"promise":             replace(attest.Cosign2Bundle, `"SignedEntryTimestamp":"MEU`, `"SignedEntryTimestamp":"MEQ`),
			"no log":              func(env []byte, l *v1.Descriptor) []byte { delete(l.Annotations, attest.Cosign2Bundle); return env },
			"another log entry":   swap(attest.Cosign2Bundle),
			"another certificate": swap(attest.Cosign2Certificate),
			"another image's": func(_ []byte, l *v1.Descriptor) []byte {
				*l = other.Layers[0]
				return read(t, "testdata/github-container/"+otherVersion+"/envelope.json")
			},
			"two certificates": func(env []byte, l *v1.Descriptor) []byte {
				l.Annotations[attest.Cosign2Certificate] += l.Annotations[attest.Cosign2Certificate]
				return env
			},
			"a member named twice": func(env []byte, _ *v1.Descriptor) []byte {
				return bytes.Replace(env, []byte("{"), []byte(`{"payload":"",`), 1)
			},
			"the same, respelled": func(env []byte, _ *v1.Descriptor) []byte { return append(env, ' ') },
			"a member of other case": func(env []byte, _ *v1.Descriptor) []byte {
				return bytes.Replace(env, []byte(`"payload":`), []byte(`"Payload":`), 1)
			},
		} {
			v := githubVerdict(t, version, policy.Document{Source: example}, change)
			holds := link(t, v, verify.LinkSignature).Status == verify.Holds && link(t, v, verify.LinkProvenance).Status == verify.Holds
			if holds != (name == "the same, respelled" && version == "v2.0.0") {
				// dsse 0.0.1 is about payload and signature; intoto 0.0.1 about every byte.
				t.Errorf("%s, %s: holds is %v: %+v", version, name, holds, v.Links)
			}
		}
	}
}

// TestGitHubImageInTheFuture: nobody can have signed after the time of verification.
func TestGitHubImageInTheFuture(t *testing.T) {
	s, digest := githubImage(t, "v1.7.0", nil)
	v := verify.Image(context.Background(), s, digest, time.Date(2023, 1, 1, 0, 0, 0, 0, time.UTC),
		verify.Options{Trust: rootOf(t, read(t, publicRoot)), Policy: demanded(t, policy.Document{Source: example})})
	if !strings.Contains(link(t, v, verify.LinkLog).Reason, "in the future") {
		t.Errorf("got %+v", v.Links)
	}
}

// TestUnreadAttestation: what could not be fetched leaves the question open.
func TestUnreadAttestation(t *testing.T) {
	s, digest := githubImage(t, "v2.0.0", func(env []byte, l *v1.Descriptor) []byte { delete(l.Annotations, attest.Cosign2Bundle); return env })
	s.Fail["sha256-"+strings.TrimPrefix(digest, "sha256:")+".att"] = errors.New("connection reset")
	v := verify.Image(context.Background(), s, digest, time.Now(), verify.Options{Trust: rootOf(t, read(t, publicRoot)), Policy: demanded(t, policy.Document{Source: example})})
	if l := link(t, v, verify.LinkProvenance); l.Status != verify.Unknown || !strings.Contains(l.Reason, "connection reset") {
		t.Errorf("got %+v, want it unknown", l)
	}
}
