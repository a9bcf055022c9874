package main

import (
	"bytes"
	"encoding/json"
	"reflect"
	"strings"
	"testing"
	"time"

	"github.com/colophon-build/colophon/attest"
	"github.com/colophon-build/colophon/bundle"
	"github.com/colophon-build/colophon/oci"
	"github.com/colophon-build/colophon/test/prooftest"
	"github.com/colophon-build/colophon/verify"
)

func TestInspectCommand(t *testing.T) {
	s := newStage(t)
	inspect := func(args ...string) []string { return append([]string{"inspect", s.image}, args...) }

	out := s.run(exitOK, inspect(), "├─ linux/amd64  sha256:", "├─ linux/arm64  sha256:", "└─ attached: 4", "├─ signature  sha256:",
		attest.PredicateSLSA1, "signer  http://127.0.0.1:8080/builders/", "log     entry ", "inspect decides nothing", "colophon verify")
	for _, r := range []string{"no SLSA Build level", "provenance exists           this machine has no trust root yet"} {
		if !strings.Contains(out, r) {
			t.Errorf("got\n%s\nwant %q in it", out, r)
		}
	}
	s.run(exitOK, []string{"trust", "add", s.file("root.json", s.p.Document()), "--yes"})
	s.run(exitOK, inspect(), "SLSA Build L2", "✓ L2  provenance authentic", "✗ L3  build isolated", "about the index sha256:")
	if strings.Index(out, "signature") > strings.Index(out, "provenance") {
		t.Errorf("tree is out of order:\n%s", out)
	}

	var in inspection
	if err := json.Unmarshal([]byte(s.run(exitOK, inspect("--json"))), &in); err != nil || len(in.Attached) != 4 || in.Verified || in.Level != 2 || len(in.Requirements) != 8 {
		t.Fatalf("JSON: got %+v, %v", in, err)
	}
	for _, a := range in.Attached {
		if a.Signer == "" || a.Issuer == "" || a.LogIndex == nil || len(a.Times) == 0 || a.Error != "" {
			t.Errorf("attached: got %+v", a)
		}
	}

	var provenance attest.Provenance
	if err := json.Unmarshal([]byte(s.run(exitOK, inspect("--provenance"))), &provenance); err != nil || provenance.RunDetails.Builder.ID == "" {
		t.Errorf("provenance: got %+v, %v", provenance, err)
	}
	s.run(exitOK, inspect("--sbom"), "SPDX")
	s.run(exitOK, inspect("--sbom=cyclonedx"), "CycloneDX")
	raw := s.run(exitOK, inspect("--provenance", "--raw"))
	if b, err := bundle.ParsePlatform([]byte(raw)); err != nil || b.Statement.PredicateType != attest.PredicateSLSA1 {
		t.Errorf("raw: %v", err)
	}
	if got := s.run(exitOK, inspect("--raw", "--attached", in.Attached[1].Digest)); got != raw {
		t.Error("the provenance by its digest is not the provenance")
	}

	s.run(exitUsage, inspect("--sbom=excel"), "expected spdx or cyclonedx")
	s.run(exitUsage, inspect("--provenance", "--json"), "exclude each other")
	s.run(exitUsage, []string{"inspect", "http://" + s.image}, "want HOST/NAME")
	s.run(exitFailure, inspect("--raw"), "has 4 attachments of type Sigstore bundle", "--attached")
	s.run(exitFailure, []string{"inspect", s.host + "/team/app:v9"}, "404")
	s.run(exitFailure, []string{"inspect", t.TempDir()}, "is not an OCI layout")
}

// TestInspectHostileAttachments: inspect never chooses between two provenances, and a
// stranger's attachment cannot control the terminal.
func TestInspectHostileAttachments(t *testing.T) {
	s := newStage(t)
	ref, err := oci.ParseReference(s.image)
	if err != nil {
		t.Fatal(err)
	}
	reg, err := oci.OpenRegistry(ref.Repository, oci.RegistryOptions{})
	if err != nil {
		t.Fatal(err)
	}
	d, err := reg.Resolve(t.Context(), ref.Identifier())
	if err != nil {
		t.Fatal(err)
	}
	stranger := `{"mediaType":"` + attest.BundleMediaType + `","dsseEnvelope":{"payloadType":"x","payload":"` +
		// a statement with an escape sequence for a predicate type
		`eyJfdHlwZSI6Imh0dHBzOi8vaW4tdG90by5pby9TdGF0ZW1lbnQvdjEiLCJzdWJqZWN0IjpbeyJkaWdlc3QiOnsic2hhMjU2IjoiMDAifX1dLCJwcmVkaWNhdGVUeXBlIjoiXHUwMDFiWzJKZXZpbCJ9` + `"}}`
	second := strings.Replace(s.run(exitOK, []string{"inspect", s.image, "--provenance", "--raw"}), "{", "{ ", 1)
	for _, bundle := range []string{stranger, second, "not a bundle"} {
		if _, err := oci.AttachBundle(t.Context(), reg, d, []byte(bundle), "x", time.Unix(0, 0)); err != nil {
			t.Fatal(err)
		}
	}
	out := s.run(exitOK, []string{"inspect", s.image}, "attached: 7", "[2Jevil", "error   bundle:")
	if strings.ContainsRune(out, 0x1b) {
		t.Errorf("an escape sequence reaches the terminal: %q", out)
	}
	s.run(exitFailure, []string{"inspect", s.image, "--provenance"}, "has 2 attachments of type SLSA provenance: sha256:", "--attached")
}

// TestInspectOldForms: signatures that cosign v2 stored under tags, and unsigned
// attachments.
func TestInspectOldForms(t *testing.T) {
	const ada, people = "https://accounts.example.com/ada", "https://accounts.example.com"
	var image string
	s := stageWith(t, func(p *prooftest.Platform, store *prooftest.Store, r *prooftest.Release) {
		h := p.Certified(prooftest.Identity{SAN: ada, Issuer: people})
		payload := []byte(`{"critical":{"identity":{"docker-reference":""},"image":{"docker-manifest-digest":"` + r.Image.Digest.String() + `"},"type":"cosign container image signature"}}`)
		store.Tagged(r.Image, "sig", store.Layer(payload, attest.SimpleSigningMediaType, h.Simple(payload)))
		envelope, annotations := h.Envelope(r.Statement("https://in-toto.io/attestation/svr/v0.1"))
		store.Tagged(r.Image, "att", store.Layer(envelope, attest.EnvelopeMediaType, annotations))
		store.Tagged(r.Image, "sbom", store.Layer([]byte("{}"), "text/spdx+json", nil))
		image = r.Image.Digest.String()
	})
	s.run(exitOK, []string{"inspect", s.image}, "attached: 6", "signature  sha256:", "verification result  sha256:", "says    https://in-toto.io/attestation/svr/v0.1", "signer  "+ada, "issuer  "+people, "log     entry 7",
		"unsigned, proves nothing: 1", "cosign attachment", "text/spdx+json", "about   "+image)
	s.run(exitFailure, []string{"inspect", s.image, "--raw", "--attached", image}, "no Sigstore bundle")
}

// TestInspectAgreesWithVerify: what inspect says of a proof, of the level and of the
// requirements is what verify found, for good images and bad ones.
func TestInspectAgreesWithVerify(t *testing.T) {
	for name, tt := range map[string]struct {
		change   func(*prooftest.Platform, *prooftest.Store, *prooftest.Release)
		stranger bool // trust another platform alone
		holds    int  // proofs that hold
	}{
		"good":     {holds: 4},
		"nobody's": {stranger: true},
		"another digest": {change: func(_ *prooftest.Platform, _ *prooftest.Store, r *prooftest.Release) {
			r.Image.Digest.Hex = strings.Repeat("0", 64)
		}},
		"another type": {change: func(_ *prooftest.Platform, _ *prooftest.Store, r *prooftest.Release) {
			r.Provenance.BuildDefinition.BuildType = "https://example.com/x"
		}, holds: 3},
		"no log": {change: func(p *prooftest.Platform, _ *prooftest.Store, _ *prooftest.Release) { p.NoTS = true }},
		"an old authority": {change: func(p *prooftest.Platform, _ *prooftest.Store, _ *prooftest.Release) {
			p.LogUntil = p.Now.Add(-time.Minute)
		}},
	} {
		t.Run(name, func(t *testing.T) {
			if tt.change == nil {
				tt.change = func(*prooftest.Platform, *prooftest.Store, *prooftest.Release) {}
			}
			s := stageWith(t, tt.change)
			p := s.p
			if tt.stranger {
				p = prooftest.New(t)
			}
			s.run(exitOK, []string{"trust", "add", s.file("root.json", p.Document()), "--yes"})
			cmd := newRootCommand()
			var out bytes.Buffer
			cmd.SetArgs([]string{"verify", s.image, "--any-source", "--skip-source", "--json"})
			cmd.SetOut(&out)
			code := execute(t.Context(), cmd)
			var v verify.Verdict
			if err := json.Unmarshal(out.Bytes(), &v); err != nil {
				t.Fatal(err)
			}
			shown, _ := s.say(exitOK, "inspect", s.image, "--json")
			var in inspection
			if err := json.Unmarshal([]byte(shown), &in); err != nil {
				t.Fatal(err)
			}
			if in.Level != v.Level || !reflect.DeepEqual(in.Requirements, v.Requirements) || in.Digest != v.Digest {
				t.Errorf("inspect: level %d, %+v\nverify: level %d, %+v", in.Level, in.Requirements, v.Level, v.Requirements)
			}
			held := map[string]bool{}
			for _, a := range in.Attached {
				if a.Holds == nil || *a.Holds == (a.Reason != "") {
					t.Errorf("%s: got holds %v and the reason %q", a.Digest, a.Holds, a.Reason)
				} else if *a.Holds {
					held[a.Digest] = true
				}
			}
			if len(held) != tt.holds || (code == exitOK) != (tt.holds == len(prooftest.Kinds)) {
				t.Errorf("got %d proofs that hold and the exit code %d of verify, want %d", len(held), code, tt.holds)
			}
			if v.Facts != nil {
				for _, signed := range v.Facts.Signed {
					if !held[signed.Digest] {
						t.Errorf("verify accepts %s, and inspect does not", signed.Digest)
					}
				}
			}
		})
	}
}
