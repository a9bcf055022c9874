package verify_test

import (
	"bytes"
	"context"
	"encoding/base64"
	"encoding/json"
	"errors"
	"io"
	"log"
	"net/http"
	"net/http/httptest"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-containerregistry/pkg/registry"
	v1 "github.com/google/go-containerregistry/pkg/v1"
	"github.com/google/go-containerregistry/pkg/v1/types"
	protobundle "github.com/sigstore/protobuf-specs/gen/pb-go/bundle/v1"

	"github.com/colophon-build/colophon/attest"
	"github.com/colophon-build/colophon/oci"
	"github.com/colophon-build/colophon/policy"
	"github.com/colophon-build/colophon/test/prooftest"
	"github.com/colophon-build/colophon/trust"
	"github.com/colophon-build/colophon/verify"
)

// withdrawn is an image that its platform proved, and a policy that wants no attestation of
// the type scanned by ada beside that.
type withdrawn struct {
	*scene
	absent policy.Absent
}

func newWithdrawn(t *testing.T) *withdrawn {
	c := &withdrawn{newScene(t), policy.Absent{PredicateType: scanned}}
	c.r.Attach(prooftest.Kinds...)
	c.opts.Trust = []*trust.Root{c.p.Root(), c.p.PlainRoot(people)}
	return c
}

// bundle is the attestation, by ada or whoever else signs.
func (c *withdrawn) bundle(p *prooftest.Platform, id prooftest.Identity, predicate string, bend ...func(*protobundle.Bundle)) []byte {
	st, err := attest.NewStatement("app", c.r.Image.Digest.Hex, scanned, json.RawMessage(predicate))
	if err != nil {
		c.t.Fatal(err)
	}
	return p.Sign(id, st, bend...)
}

func (c *withdrawn) verdict(src oci.Source) *verify.Verdict {
	c.opts.Policy = demanded(c.t, c.wants)
	c.opts.Policy.Absent = []policy.Absent{c.absent}
	return verify.Image(c.t.Context(), src, c.r.Image.Digest.String(), time.Now(), c.opts)
}

// listing is a store that lists referrers otherwise.
type listing struct {
	*prooftest.Store
	list func([]v1.Descriptor) ([]v1.Descriptor, error)
}

func (l *listing) Referrers(ctx context.Context, subject v1.Hash) ([]v1.Descriptor, error) {
	all, err := l.Store.Referrers(ctx, subject)
	if err != nil {
		return nil, err
	}
	return l.list(all)
}

func (c *withdrawn) fallbackTag() string { return "sha256-" + c.r.Image.Digest.Hex }

// listed puts what is attached last under the fallback tag, and takes it from the referrers.
func (c *withdrawn) listed() oci.Source {
	raw, err := json.Marshal(v1.IndexManifest{SchemaVersion: 2, MediaType: types.OCIImageIndex, Manifests: c.last()})
	if err != nil {
		c.t.Fatal(err)
	}
	c.s.Tag(c.fallbackTag(), c.s.Put(raw, types.OCIImageIndex))
	return &listing{c.s, func(all []v1.Descriptor) ([]v1.Descriptor, error) { return all[1:], nil }}
}

func (c *withdrawn) last() []v1.Descriptor {
	all, err := c.s.Referrers(c.t.Context(), c.r.Image.Digest)
	if err != nil {
		c.t.Fatal(err)
	}
	return all[:1]
}

// TestAbsent: what must be absent is so only if everything was listed and read, and nothing of
// what was read is it.
func TestAbsent(t *testing.T) {
	broken := errors.New("500")
	const bad = `{"verdict":"bad"}`
	attach := func(c *withdrawn, bundle []byte) oci.Source {
		c.s.Attach(c.r.Image, bundle, scanned)
		return c.s
	}
	for name, tt := range map[string]struct {
		bend  func(*withdrawn) oci.Source
		want  verify.Outcome
		words string
	}{
		"nothing": {func(c *withdrawn) oci.Source { return c.s }, verify.Accepted, "carries no " + scanned},
		"there":   {func(c *withdrawn) oci.Source { return attach(c, c.bundle(c.p, adasCertificate, bad)) }, verify.Rejected, "by " + ada + ", which must be absent"},
		"by the signer": {func(c *withdrawn) oci.Source {
			c.absent.Signer = policy.Identity{Name: ada, Issuer: people}
			return attach(c, c.bundle(c.p, adasCertificate, bad))
		}, verify.Rejected, "must be absent"},
		"by another signer": {func(c *withdrawn) oci.Source {
			c.absent.Signer = policy.Identity{Name: "https://accounts.example.com/bob", Issuer: people}
			return attach(c, c.bundle(c.p, adasCertificate, bad))
		}, verify.Accepted, "carries no " + scanned + " by https://accounts.example.com/bob"},
		"of another authority": {func(c *withdrawn) oci.Source { return attach(c, c.bundle(prooftest.New(c.t), adasCertificate, bad)) }, verify.Accepted, ""},
		"of an issuer that nobody vouches for": {func(c *withdrawn) oci.Source {
			return attach(c, c.bundle(c.p, prooftest.Identity{SAN: ada, Issuer: "https://idp.example.com"}, bad))
		}, verify.Accepted, ""},
		"with the values": {func(c *withdrawn) oci.Source {
			c.absent.Equals = map[string]any{"/verdict": "bad"}
			return attach(c, c.bundle(c.p, adasCertificate, bad))
		}, verify.Rejected, "must be absent"},
		"with other values": {func(c *withdrawn) oci.Source {
			c.absent.Equals = map[string]any{"/verdict": "bad"}
			return attach(c, c.bundle(c.p, adasCertificate, `{"verdict":"good"}`))
		}, verify.Accepted, ""},
		"under cosign's tag": {func(c *withdrawn) oci.Source {
			c.s.Tagged(c.r.Image, oci.CosignAttestations, c.s.Put(c.bundle(c.p, adasCertificate, bad), types.MediaType(attest.BundleMediaType)))
			return c.s
		}, verify.Rejected, "must be absent"},
		"under the fallback tag alone": {func(c *withdrawn) oci.Source {
			attach(c, c.bundle(c.p, adasCertificate, bad))
			return c.listed()
		}, verify.Rejected, "must be absent"},

		"no list": {func(c *withdrawn) oci.Source {
			return &listing{c.s, func([]v1.Descriptor) ([]v1.Descriptor, error) { return nil, broken }}
		}, verify.Undecided, "500"},
		"too many items": {func(c *withdrawn) oci.Source {
			return &listing{c.s, func(all []v1.Descriptor) ([]v1.Descriptor, error) { return slices.Repeat(all, 2000), nil }}
		}, verify.Undecided, "more than 4096 referrers"},
		"cosign's tag does not answer": {func(c *withdrawn) oci.Source {
			tag := oci.CosignAttestations.Of(c.r.Image.Digest)
			c.s.Tag(tag, v1.Descriptor{})
			c.s.Fail[tag] = broken
			return c.s
		}, verify.Undecided, "500"},
		"the fallback tag does not answer": {func(c *withdrawn) oci.Source {
			c.s.Tag(c.fallbackTag(), v1.Descriptor{})
			c.s.Fail[c.fallbackTag()] = broken
			return c.s
		}, verify.Undecided, "500"},
		"the fallback tag is no list": {func(c *withdrawn) oci.Source {
			c.s.Tag(c.fallbackTag(), c.s.Put([]byte(`{}`), types.OCIManifestSchema1))
			return c.s
		}, verify.Undecided, "not an index of referrers"},
		"the fallback tag is the image": {func(c *withdrawn) oci.Source {
			c.s.Tag(c.fallbackTag(), c.r.Image)
			return c.s
		}, verify.Accepted, ""},
		"an entry of the fallback tag is gone": {func(c *withdrawn) oci.Source {
			attach(c, c.bundle(c.p, adasCertificate, bad))
			src := c.listed()
			c.s.Remove(c.last()[0].Digest)
			return src
		}, verify.Undecided, "not found"},
		"its content is gone, and its annotation lies": {func(c *withdrawn) oci.Source {
			blob, _ := c.s.Attach(c.r.Image, c.bundle(c.p, adasCertificate, bad), "https://example.com/other")
			c.s.Remove(blob.Digest)
			return c.s
		}, verify.Undecided, "not found"},
		"its signature is broken": {func(c *withdrawn) oci.Source {
			return attach(c, c.bundle(c.p, adasCertificate, bad, func(b *protobundle.Bundle) { b.GetDsseEnvelope().GetSignatures()[0].Sig[9] ^= 1 }))
		}, verify.Undecided, "signature"},
		"its log entry is missing": {func(c *withdrawn) oci.Source {
			return attach(c, c.bundle(c.p, adasCertificate, bad, func(b *protobundle.Bundle) { b.VerificationMaterial.TlogEntries = nil }))
		}, verify.Undecided, "no entry"},
		"about another image": {func(c *withdrawn) oci.Source {
			raw := c.bundle(c.p, adasCertificate, bad)
			var doc map[string]any
			if err := json.Unmarshal(raw, &doc); err != nil {
				c.t.Fatal(err)
			}
			env := doc["dsseEnvelope"].(map[string]any)
			st, err := base64.StdEncoding.DecodeString(env["payload"].(string))
			if err != nil {
				c.t.Fatal(err)
			}
			env["payload"] = bytes.ReplaceAll(st, []byte(c.r.Image.Digest.Hex), []byte(strings.Repeat("0", 64)))
			if raw, err = json.Marshal(doc); err != nil {
				c.t.Fatal(err)
			}
			return attach(c, raw)
		}, verify.Undecided, "subject"},
		"not read to its end": {func(c *withdrawn) oci.Source { return attach(c, []byte(`{"mediaType":`)) }, verify.Undecided, "attestation"},
	} {
		t.Run(name, func(t *testing.T) {
			c := newWithdrawn(t)
			v := c.verdict(tt.bend(c))
			l := v.Links[len(v.Links)-1]
			if v.Outcome != tt.want || l.Name != verify.LinkAttestation || l.Carries != "" || !strings.Contains(l.Claim+l.Reason, tt.words) {
				t.Errorf("got %s, %+v, want %s, %q", v.Outcome, v.Links, tt.want, tt.words)
			}
		})
	}
}

// TestAbsentInRegistry: a registry without the referrers API may have nothing attached; one
// that fails says nothing of the kind.
func TestAbsentInRegistry(t *testing.T) {
	for name, tt := range map[string]struct {
		api    bool // the registry has the API
		status int  // with which the list of referrers is answered; 0: by the registry
		bad    bool // the attestation is there
		want   verify.Outcome
	}{
		"API, nothing": {true, 0, false, verify.Accepted}, "API": {true, 0, true, verify.Rejected},
		"no API, nothing": {false, http.StatusNotFound, false, verify.Accepted}, "no API": {false, http.StatusNotFound, true, verify.Rejected},
		"fails": {true, http.StatusInternalServerError, false, verify.Undecided}, "denies": {true, http.StatusForbidden, false, verify.Undecided},
		"a login page": {true, http.StatusOK, false, verify.Undecided},
	} {
		t.Run(name, func(t *testing.T) {
			c := newWithdrawn(t)
			if tt.bad {
				c.s.Attach(c.r.Image, c.bundle(c.p, adasCertificate, `{}`), scanned)
			}
			inner := registry.New(registry.WithReferrersSupport(tt.api), registry.Logger(log.New(io.Discard, "", 0)))
			pushed := false
			server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
				if tt.status != 0 && strings.Contains(r.URL.Path, "/referrers/") && (pushed || !tt.api) {
					w.Header().Set("Content-Type", "text/html")
					w.WriteHeader(tt.status)
					return
				}
				inner.ServeHTTP(w, r)
			}))
			defer server.Close()
			ref, err := oci.ParseReference(strings.TrimPrefix(server.URL, "http://") + "/team/app:v1.2.0")
			if err != nil {
				t.Fatal(err)
			}
			reg, err := ref.Open(oci.RegistryOptions{})
			if err != nil {
				t.Fatal(err)
			}
			c.s.Push(t.Context(), reg.(oci.Target))
			pushed = true
			if v := c.verdict(reg); v.Outcome != tt.want {
				t.Errorf("got %s, %+v, want %s", v.Outcome, v.Links, tt.want)
			}
		})
	}
}

// TestAbsentWithoutRoots: without a trust root nothing is verified, and so nothing counts. That
// does not make it absent.
func TestAbsentWithoutRoots(t *testing.T) {
	s := newSignedStage(t)
	holder := s.p.KeyHolder()
	holder.Unlogged = true
	s.sign(s.payload("", ""), holder.Simple(s.payload("", "")))
	p := demanded(t, named(policy.DocumentSigner{Key: string(holder.PublicKey()), InsecureNoLog: true}))
	image := func() *verify.Verdict {
		return verify.Image(t.Context(), s.store, "v1", s.p.Now.Add(time.Minute), verify.Options{Policy: p})
	}
	if v := image(); v.Outcome != verify.Accepted {
		t.Fatalf("got %s: %s", v.Outcome, v.Why())
	}
	p.Absent = []policy.Absent{{PredicateType: scanned}}
	if v := image(); v.Outcome != verify.Undecided {
		t.Errorf("got %s: %s", v.Outcome, v.Why())
	}
}

// TestMaxTrustAge: trust roots that were refreshed too long ago, in the future, or nobody knows
// when, do not count.
func TestMaxTrustAge(t *testing.T) {
	c := newScene(t)
	c.r.Attach(prooftest.Kinds...)
	for name, tt := range map[string]struct {
		ago  time.Duration
		bend func(*trust.Root)
		max  time.Duration
		want verify.Outcome
	}{
		"no demand": {1000 * time.Hour, nil, 0, verify.Accepted}, "in time": {time.Hour, nil, time.Hour, verify.Accepted}, "too late": {time.Hour + 1, nil, time.Hour, verify.Undecided},
		"in the future": {-time.Minute, nil, time.Hour, verify.Undecided},
		"not known":     {0, func(r *trust.Root) { r.Repository.Refreshed = time.Time{} }, time.Hour, verify.Undecided},
		"pinned bytes":  {0, func(r *trust.Root) { r.Repository = nil }, time.Hour, verify.Undecided},
	} {
		now := time.Now()
		root := *c.p.Root()
		root.Repository = &trust.Repository{URL: "https://r.example.com", Refreshed: now.Add(-tt.ago)}
		if tt.bend != nil {
			tt.bend(&root)
		}
		p := demanded(t, demand)
		p.MaxTrustAge = tt.max
		v := verify.Image(t.Context(), c.s, "v1.2.0", now, verify.Options{Trust: []*trust.Root{&root}, Policy: p})
		if v.Outcome != tt.want || tt.want == verify.Undecided && !strings.Contains(v.Why(), "refreshed within the last 1h0m0s") {
			t.Errorf("%s: got %s: %s", name, v.Outcome, v.Why())
		}
	}
}

// TestAbsentUnderStaleRoot: a policy that drops stale trust roots does not forget with them
// what their signers withdrew.
func TestAbsentUnderStaleRoot(t *testing.T) {
	c := newWithdrawn(t)
	now, other := time.Now(), prooftest.New(t)
	refreshed := func(r *trust.Root, ago time.Duration) *trust.Root {
		r.Repository = &trust.Repository{URL: "https://r.example.com", Refreshed: now.Add(-ago)}
		return r
	}
	c.opts.Trust = []*trust.Root{refreshed(c.p.Root(), time.Minute), refreshed(other.PlainRoot(people), 2*time.Hour)}
	p := demanded(t, c.wants)
	p.MaxTrustAge = time.Hour
	verdict := func() *verify.Verdict {
		c.opts.Policy = p
		return verify.Image(t.Context(), c.s, c.r.Image.Digest.String(), now, c.opts)
	}
	c.s.Attach(c.r.Image, c.bundle(other, adasCertificate, `{}`), scanned)
	for name, tt := range map[string]struct {
		absent policy.Absent
		want   verify.Outcome
	}{
		"by anyone":           {policy.Absent{PredicateType: scanned}, verify.Rejected},
		"by the signer":       {policy.Absent{PredicateType: scanned, Signer: policy.Identity{Name: ada, Issuer: people}}, verify.Rejected},
		"with another value":  {policy.Absent{PredicateType: scanned, Equals: map[string]any{"/verdict": "bad"}}, verify.Accepted},
		"by another signer":   {policy.Absent{PredicateType: scanned, Signer: policy.Identity{Name: "https://accounts.example.com/bob", Issuer: people}}, verify.Accepted},
		"of another type too": {policy.Absent{PredicateType: "https://example.com/other"}, verify.Accepted},
	} {
		p.Absent = []policy.Absent{tt.absent}
		if v := verdict(); v.Outcome != tt.want {
			t.Errorf("%s: got %s, %+v, want %s", name, v.Outcome, v.Links, tt.want)
		}
	}
	// What a stale root proves counts for nothing else.
	p.Absent, p.Attestations = nil, []policy.Attestation{{PredicateType: scanned, Signer: policy.Identity{Name: ada, Issuer: people}}}
	if v := verdict(); v.Outcome == verify.Accepted {
		t.Errorf("demanded: got %s, %+v", v.Outcome, v.Links)
	}
}
