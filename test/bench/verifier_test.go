package bench

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/sha256"
	"crypto/sha512"
	"encoding/hex"
	"fmt"
	"os"
	"path/filepath"
	"runtime"
	"slices"
	"syscall"
	"testing"
	"time"

	v1 "github.com/google/go-containerregistry/pkg/v1"
	sgbundle "github.com/sigstore/sigstore-go/pkg/bundle"
	"github.com/sigstore/sigstore-go/pkg/root"
	sgverify "github.com/sigstore/sigstore-go/pkg/verify"

	"github.com/colophon-build/colophon/attest"
	"github.com/colophon-build/colophon/bundle"
	"github.com/colophon-build/colophon/policy"
	"github.com/colophon-build/colophon/test/harness"
	"github.com/colophon-build/colophon/test/prooftest"
	"github.com/colophon-build/colophon/trust"
	"github.com/colophon-build/colophon/verify"
)

// BenchmarkVerifier compares the library with sigstore-go on one core, in processor
// time, so that other processes do not count. Both start with the bytes of a bundle and
// a parsed trust root, and take turns.
func BenchmarkVerifier(b *testing.B) {
	if os.Getenv("COLOPHON_BENCH") == "" {
		b.Skip("SKIPPED: make bench sets COLOPHON_BENCH")
	}
	defer runtime.GOMAXPROCS(runtime.GOMAXPROCS(1))
	p256, p384 := signatureCost(elliptic.P256()), signatureCost(elliptic.P384())
	fmt.Printf("%-58s %8.1f us   P-384 %.1f us\n", "one ECDSA P-256 signature to verify", us(p256), us(p384))
	// The certificate is signed with P-384; SCT, promise, checkpoint and signature with
	// P-256. The root signed its intermediate with P-384, too.
	leaf := p384 + 4*p256
	public := publicBundle(b)
	var ours, theirs []time.Duration
	for range 9 {
		ours = append(ours, cpu(50, func() { public.ours(b) }))
		theirs = append(theirs, cpu(50, func() { public.plainly(b) }))
	}
	micros("a bundle of the public Sigstore, each time as if never seen", median(ours), "spread "+spreadUs(ours))
	micros("  sigstore-go's verifier", median(theirs), "spread "+spreadUs(theirs))
	fmt.Printf("%-58s %8.2f      aim 2\n", "  rate over sigstore-go's", float64(median(theirs))/float64(median(ours)))
	ratio("  over its 5 signatures that are new each time", median(ours), leaf, "aim 1.5")
	ratio("  over all 6, with the intermediate's", median(ours), leaf+p384, "")

	own, image := ownBundle(b)
	mine := cpu(300, func() { own(b) })
	micros("a bundle of a platform", mine, "")
	ratio("  over sigstore-go's time for the public one", mine, median(theirs), "aim 0.25")
	micros("an image with its four proofs and two platforms, in memory", cpu(50, func() { image(b, nil) }), "")
	cache := &verify.Cache{Age: time.Hour, Size: 10}
	image(b, cache)
	micros("  a verdict that is known", cpu(2000, func() { image(b, cache) }), "aim 50 us")
}

// exhibit is a bundle with everything needed to verify it.
type exhibit struct {
	raw    []byte
	digest v1.Hash
	sum    []byte
	signer bundle.Signer
	trust  *trust.Root
	plain  root.TrustedMaterial
	now    time.Time
}

// publicBundle returns a GitHub Artifact Attestation.
func publicBundle(b *testing.B) *exhibit {
	read := func(path string) []byte {
		raw, err := os.ReadFile(filepath.Join(harness.Root(b), path))
		if err != nil {
			b.Fatal(err)
		}
		return raw
	}
	material := read("trust/tuf/sigstore_trusted_root.json")
	x := &exhibit{raw: read("cmd/colophon/testdata/github-attestation/MODULE.bazel.intoto.jsonl"), now: time.Now()}
	s, err := bundle.Parse(x.raw)
	if err != nil {
		b.Fatal(err)
	}
	x.digest = v1.Hash{Algorithm: "sha256", Hex: s.Statement.Subject[0].Digest["sha256"]}
	if x.sum, err = hex.DecodeString(x.digest.Hex); err != nil {
		b.Fatal(err)
	}
	x.signer = bundle.Signer{Identity: s.Certificate.URIs[0].String(), Issuer: trust.GitHubIssuer}
	if x.trust, err = trust.Parse(material); err != nil {
		b.Fatal(err)
	}
	if x.plain, err = root.NewTrustedRootFromJSON(material); err != nil {
		b.Fatal(err)
	}
	return x
}

func (x *exhibit) ours(b *testing.B) {
	if _, err := bundle.Artifact(x.raw, bundle.Subject{Digest: x.digest}, x.signer, x.trust.Material, x.now); err != nil {
		b.Fatal(err)
	}
}

// plainly verifies with sigstore-go, used as its documentation says.
func (x *exhibit) plainly(b *testing.B) {
	entity := new(sgbundle.Bundle)
	err := entity.UnmarshalJSON(x.raw)
	if err != nil {
		b.Fatal(err)
	}
	v, err := sgverify.NewVerifier(x.plain, sgverify.WithSignedCertificateTimestamps(1), sgverify.WithTransparencyLog(1), sgverify.WithObserverTimestamps(1))
	if err != nil {
		b.Fatal(err)
	}
	id, err := sgverify.NewShortCertificateIdentity(x.signer.Issuer, "", x.signer.Identity, "")
	if err != nil {
		b.Fatal(err)
	}
	if _, err := v.Verify(entity, sgverify.NewPolicy(sgverify.WithArtifactDigest("sha256", x.sum), sgverify.WithCertificateIdentity(id))); err != nil {
		b.Fatal(err)
	}
}

// ownBundle returns a provenance that a Colophon platform signed, and its image with
// all proofs.
func ownBundle(b *testing.B) (own func(*testing.B), image func(*testing.B, *verify.Cache)) {
	p := prooftest.New(b)
	store := prooftest.NewStore(b)
	rel := p.Release(store)
	rel.Attach(prooftest.Kinds...)
	raw := p.Sign(rel.Signer(), rel.Statement(attest.PredicateSLSA1))
	r := p.Root()
	demand, err := policy.Document{Source: prooftest.Source}.Policy()
	if err != nil {
		b.Fatal(err)
	}
	opts := verify.Options{Trust: []*trust.Root{r}, Policy: demand}
	now := time.Now()
	digest := rel.Image.Digest.String()
	return func(b *testing.B) {
			parsed, err := bundle.ParsePlatform(raw)
			if err == nil {
				err = parsed.Verify(bundle.Subject{Digest: rel.Image.Digest}, r.Material, now).Err()
			}
			if err != nil {
				b.Fatal(err)
			}
		}, func(b *testing.B, cache *verify.Cache) {
			ask := verify.Image
			if cache != nil {
				ask = cache.Image
			}
			if v := ask(b.Context(), store, digest, now, opts); v.Outcome != verify.Accepted {
				b.Fatal(v.Why())
			}
		}
}

// signatureCost returns the processor time to verify one signature of a curve.
func signatureCost(curve elliptic.Curve) time.Duration {
	key, err := ecdsa.GenerateKey(curve, rand.Reader)
	if err != nil {
		panic(err)
	}
	sum := sha256.Sum256([]byte("a message"))
	digest := sum[:]
	if curve == elliptic.P384() {
		long := sha512.Sum384([]byte("a message"))
		digest = long[:]
	}
	sig, err := ecdsa.SignASN1(rand.Reader, key, digest)
	if err != nil {
		panic(err)
	}
	var all []time.Duration
	for range 5 {
		all = append(all, cpu(200, func() {
			if !ecdsa.VerifyASN1(&key.PublicKey, digest, sig) {
				panic("a good signature does not verify")
			}
		}))
	}
	return median(all)
}

// cpu returns the mean processor time of n runs of f.
func cpu(n int, f func()) time.Duration {
	before := processorTime()
	for range n {
		f()
	}
	return (processorTime() - before) / time.Duration(n)
}

func processorTime() time.Duration {
	var u syscall.Rusage
	if err := syscall.Getrusage(syscall.RUSAGE_SELF, &u); err != nil {
		panic(err)
	}
	return time.Duration(u.Utime.Nano() + u.Stime.Nano())
}

func us(d time.Duration) float64 { return float64(d.Nanoseconds()) / 1000 }

func micros(what string, d time.Duration, note string) {
	fmt.Printf("%-58s %8.1f us   %s\n", what, us(d), note)
}

func spreadUs(d []time.Duration) string {
	return fmt.Sprintf("%.0f to %.0f us", us(slices.Min(d)), us(slices.Max(d)))
}
