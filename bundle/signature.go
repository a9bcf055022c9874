package bundle

import (
	"bytes"
	"crypto"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/sha256"
	"crypto/sha512"
	"crypto/x509"
	"encoding/hex"
	"errors"
	"fmt"
	"hash"
	"io"
	"maps"
	"slices"
	"strings"

	v1 "github.com/google/go-containerregistry/pkg/v1"
	"github.com/secure-systems-lab/go-securesystemslib/dsse"
	commonpb "github.com/sigstore/protobuf-specs/gen/pb-go/common/v1"
	"github.com/sigstore/sigstore/pkg/signature"
	"github.com/sigstore/sigstore/pkg/signature/options"

	"github.com/colophon-build/colophon/attest"
)

// Subject is the file, image or git commit that a signature must be about.
type Subject struct {
	Digest v1.Hash // sha256 of the content, or of a git commit: attest.GitCommit and its id; required
	// Content is the content of a file, or nil. Verification reads it to its end and
	// compares it with Digest. It is needed for signatures of files with SHA-384 or
	// SHA-512.
	Content io.Reader
}

// About fails unless the bundle names digest: as one of the statement's subjects, or
// as the image in a signature of cosign v2. It always succeeds for the signature of a
// file; Verify then compares the digests.
func (b *Bundle) About(digest v1.Hash) error {
	switch {
	case b.Image != "":
		if b.Image != digest.String() {
			return fmt.Errorf("image of the signature: got %q, want %q", b.Image, digest)
		}
	case b.Statement != nil:
		return aboutDigest(b.Statement, digest)
	}
	return nil
}

// Digests returns the digests that b is about, ALGORITHM:HEX and sorted: those of the
// statement's subjects, or of the file or image that is signed.
func (b *Bundle) Digests() []string {
	digests := []string{}
	switch m := b.Proto.GetMessageSignature().GetMessageDigest(); {
	case b.Image != "":
		digests = append(digests, b.Image)
	case b.Statement != nil:
		for _, s := range b.Statement.Subject {
			for algorithm, digest := range s.Digest {
				digests = append(digests, algorithm+":"+digest)
			}
		}
	case messageHashes[m.GetAlgorithm()] != "":
		digests = append(digests, messageHashes[m.GetAlgorithm()]+":"+hex.EncodeToString(m.GetDigest()))
	}
	slices.Sort(digests)
	return slices.Compact(digests)
}

// messageHashes are the algorithms of the digest in a message signature.
var messageHashes = map[commonpb.HashAlgorithm]string{
	commonpb.HashAlgorithm_SHA2_256: "sha256", commonpb.HashAlgorithm_SHA2_384: "sha384", commonpb.HashAlgorithm_SHA2_512: "sha512",
}

// aboutDigest fails unless one of the statement's subjects has the digest.
func aboutDigest(s *attest.Statement, digest v1.Hash) error {
	var got []string
	for _, sub := range s.Subject {
		if sub.Digest[digest.Algorithm] == digest.Hex {
			return nil
		}
		for _, name := range slices.Sorted(maps.Keys(sub.Digest)) {
			if _, same := sub.Digest[digest.Algorithm]; !same || name == digest.Algorithm {
				got = append(got, name+":"+sub.Digest[name])
			}
		}
	}
	if len(got) > 3 {
		got = append(got[:3], "…")
	}
	return fmt.Errorf("subject of the statement: got %q, want %q", strings.Join(got, ", "), digest)
}

// namedOtherwise reports whether a subject of the statement has no digest of the
// algorithm. It may still be about the content: npm names packages by SHA-512 alone.
func (b *Bundle) namedOtherwise(algorithm string) bool {
	return b.Statement != nil && slices.ContainsFunc(b.Statement.Subject, func(s attest.Subject) bool { return s.Digest[algorithm] == "" })
}

// sealed is the signature of a bundle, what it covers, and who must have made it: the
// owner of cert or, if cert is nil, of key.
type sealed struct {
	cert      *x509.Certificate
	key       crypto.PublicKey
	hash      crypto.Hash // with which key signed; 0: the default of its kind
	signature []byte
	envelope  bool
	payload   []byte // of an envelope
	signed    []byte // of an envelope: its pre-authentication encoding (DSSE v1.0.2); of an image signed by cosign v2: the payload
	digest    []byte // of a message signature: the digest in the bundle
	algorithm string // of digest
}

// seal returns the signature of b. The signer has no key if a certificate signed.
func (b *Bundle) seal(signer Signer) (*sealed, error) {
	s := &sealed{cert: b.Certificate, key: signer.Key, hash: signer.Hash, signed: b.Payload}
	if env := b.Proto.GetDsseEnvelope(); env != nil {
		if len(env.GetSignatures()) != 1 {
			return nil, fmt.Errorf("envelope: got %d signatures, want 1", len(env.GetSignatures()))
		}
		s.envelope, s.payload, s.signature = true, env.GetPayload(), env.GetSignatures()[0].GetSig()
		s.signed = dsse.PAE(env.GetPayloadType(), s.payload)
	} else {
		m := b.Proto.GetMessageSignature()
		s.signature, s.digest = m.GetSignature(), m.GetMessageDigest().GetDigest()
		if s.algorithm = messageHashes[m.GetMessageDigest().GetAlgorithm()]; s.algorithm == "" {
			return nil, fmt.Errorf("message digest algorithm: got %q, want SHA-2", m.GetMessageDigest().GetAlgorithm())
		}
	}
	if len(s.signature) == 0 {
		return nil, errors.New("the bundle has no signature")
	}
	return s, nil
}

// about verifies the signature cryptographically, and that it is about subject.
func (s *sealed) about(b *Bundle, subject Subject) error {
	verifiers, err := s.verifiers()
	if err != nil {
		return err
	}
	if b.Image != "" {
		// The signature covers the payload. About has checked that it names the image.
		sum := sha256.Sum256(b.Payload)
		subject = Subject{Digest: v1.Hash{Algorithm: "sha256", Hex: hex.EncodeToString(sum[:])}, Content: bytes.NewReader(b.Payload)}
	}
	wanted := []string{"sha256", s.algorithm}
	for _, v := range verifiers {
		wanted = append(wanted, v.hash)
	}
	if b.Statement != nil {
		for _, sub := range b.Statement.Subject {
			wanted = append(wanted, slices.Collect(maps.Keys(sub.Digest))...)
		}
	}
	sums, err := subject.sums(wanted)
	if err != nil {
		return err
	}
	if !s.envelope {
		if got := sums[s.algorithm]; got == nil || !bytes.Equal(got, s.digest) {
			return fmt.Errorf("artifact: got %s, but the signature is about %s:%x", subject.Digest, s.algorithm, s.digest)
		}
		return s.match(verifiers, func(v keyVerifier) error {
			if v.hash == "" {
				return v.VerifySignature(bytes.NewReader(s.signature), bytes.NewReader(s.signed))
			}
			digest := sums[v.hash]
			if digest == nil {
				return errors.New("without the content, its digest is not known")
			}
			return v.VerifySignature(bytes.NewReader(s.signature), nil, options.WithDigest(digest))
		})
	}
	if err := s.match(verifiers, func(v keyVerifier) error {
		return v.VerifySignature(bytes.NewReader(s.signature), bytes.NewReader(s.signed))
	}); err != nil {
		return err
	}
	return aboutSums(b.Statement, subject, sums)
}

// keyVerifier verifies signatures of one key and one algorithm.
type keyVerifier struct {
	signature.Verifier
	hash string // of the digest that is signed, if it is SHA-2
}

// verifiers returns a verifier for each algorithm that the signer's key may have used:
// the default of its kind (Sigstore's registry of algorithms) and, only with
// certificates, P-384 and P-521 with SHA-256, which old clients used.
func (s *sealed) verifiers() ([]keyVerifier, error) {
	var opts []signature.LoadOption
	if !s.envelope && (s.cert != nil || s.signed == nil) {
		// With Ed25519, a log of digests accepts only the prehashed form. A key may
		// have signed an image of cosign v2 without a log.
		opts = append(opts, options.WithED25519ph())
	}
	key := s.key
	if s.cert != nil {
		key = s.cert.PublicKey
	} else if s.hash != 0 {
		v, err := signature.LoadVerifier(key, s.hash)
		if err != nil {
			return nil, errKeyKind(key)
		}
		return []keyVerifier{{v, hashNames[s.hash]}}, nil
	}
	algorithm, err := signature.GetDefaultAlgorithmDetails(key, opts...)
	if err != nil {
		return nil, errKeyKind(key)
	}
	algorithms := []signature.AlgorithmDetails{algorithm}
	if ec, ok := key.(*ecdsa.PublicKey); ok && s.cert != nil && ec.Curve != elliptic.P256() {
		//lint:ignore SA1019 deprecated, but signatures with it exist
		old := commonpb.PublicKeyDetails_PKIX_ECDSA_P384_SHA_256
		if ec.Curve == elliptic.P521() {
			//lint:ignore SA1019 as above
			old = commonpb.PublicKeyDetails_PKIX_ECDSA_P521_SHA_256
		}
		if algorithm, err = signature.GetAlgorithmDetails(old); err != nil {
			return nil, errKeyKind(key)
		}
		algorithms = append(algorithms, algorithm)
	}
	var all []keyVerifier
	for _, a := range algorithms {
		v, err := signature.LoadVerifierFromAlgorithmDetails(key, a, opts...)
		if err != nil {
			return nil, errKeyKind(key)
		}
		all = append(all, keyVerifier{v, hashNames[a.GetHashType()]})
	}
	return all, nil
}

var hashNames = map[crypto.Hash]string{crypto.SHA256: "sha256", crypto.SHA384: "sha384", crypto.SHA512: "sha512"}

func errKeyKind(key crypto.PublicKey) error {
	return fmt.Errorf("key: got a %T, want one of the kinds and sizes that Sigstore signs with", key)
}

// match fails unless check succeeds with one of the verifiers.
func (s *sealed) match(verifiers []keyVerifier, check func(keyVerifier) error) error {
	for _, v := range verifiers {
		if check(v) == nil {
			return nil
		}
	}
	return errors.New("the signature does not match what is signed")
}

// sums returns digests of the subject by algorithm: only Digest if there is no content,
// otherwise the wanted SHA-2 digests of the content. It fails if the content does not
// have Digest.
func (s Subject) sums(wanted []string) (map[string][]byte, error) {
	named, err := hex.DecodeString(s.Digest.Hex)
	if err == nil && s.Digest.Algorithm == attest.GitCommit && s.Content == nil && (len(named) == 20 || len(named) == 32) {
		return map[string][]byte{attest.GitCommit: named}, nil
	}
	if err != nil || s.Digest.Algorithm != "sha256" || len(named) != sha256.Size {
		return nil, fmt.Errorf("digest: got %q, want sha256 and 64 hex digits", s.Digest)
	}
	if s.Content == nil {
		return map[string][]byte{"sha256": named}, nil
	}
	hashes := make(map[string]hash.Hash)
	var writers []io.Writer
	for _, name := range wanted {
		if of := sha2[name]; of != nil && hashes[name] == nil {
			hashes[name] = of()
			writers = append(writers, hashes[name])
		}
	}
	if _, err := io.Copy(io.MultiWriter(writers...), s.Content); err != nil {
		return nil, fmt.Errorf("content: %w", err)
	}
	sums := make(map[string][]byte)
	for name, h := range hashes {
		sums[name] = h.Sum(nil)
	}
	if !bytes.Equal(sums["sha256"], named) {
		return nil, fmt.Errorf("content: got sha256:%x, want %s", sums["sha256"], s.Digest)
	}
	return sums, nil
}

var sha2 = map[string]func() hash.Hash{"sha256": sha256.New, "sha384": sha512.New384, "sha512": sha512.New}

// aboutSums fails unless one subject of the statement has one of the digests, and all
// its other digests that are in sums are equal, too.
func aboutSums(st *attest.Statement, subject Subject, sums map[string][]byte) error {
	for _, sub := range st.Subject {
		matches, differs := 0, 0
		for name, sum := range sums {
			switch got, ok := sub.Digest[name]; {
			case !ok:
			case got == hex.EncodeToString(sum):
				matches++
			default:
				differs++
			}
		}
		if matches > 0 && differs == 0 {
			return nil
		}
	}
	if err := aboutDigest(st, subject.Digest); err != nil {
		return err
	}
	return fmt.Errorf("subject of the statement: got %s beside digests of something else", subject.Digest)
}
