package sign

import (
	"bytes"
	"crypto"
	"crypto/sha256"
	"encoding/hex"
	"time"

	v1 "github.com/google/go-containerregistry/pkg/v1"
	bundlepb "github.com/sigstore/protobuf-specs/gen/pb-go/bundle/v1"
	commonpb "github.com/sigstore/protobuf-specs/gen/pb-go/common/v1"
	"github.com/sigstore/sigstore-go/pkg/root"
	"google.golang.org/protobuf/encoding/protojson"

	"github.com/colophon-build/colophon/attest"
	"github.com/colophon-build/colophon/bundle"
)

// Unlogged signs content with a key of a kind that Algorithm has, and returns a bundle without a log entry
// and without a timestamp. It proves nothing but that the holder of the key signed, at whatever time:
// verifiers accept it only of a key of which they say so (bundle.Signer.InsecureNoLog). It is for content
// that says itself how long it counts, and that is signed again every few minutes.
func Unlogged(private crypto.Signer, content []byte) ([]byte, error) {
	k, err := newKey(private)
	if err != nil {
		return nil, err
	}
	h := k.hash().New()
	h.Write(content)
	digest := h.Sum(nil)
	signature, err := k.sign(digest)
	if err != nil {
		return nil, err
	}
	raw, err := protojson.Marshal(&bundlepb.Bundle{
		MediaType:            attest.BundleMediaType,
		VerificationMaterial: &bundlepb.VerificationMaterial{Content: &bundlepb.VerificationMaterial_PublicKey{PublicKey: &commonpb.PublicKeyIdentifier{Hint: k.hint()}}},
		Content: &bundlepb.Bundle_MessageSignature{MessageSignature: &commonpb.MessageSignature{
			MessageDigest: &commonpb.HashOutput{Algorithm: k.algorithm.GetProtoHashType(), Digest: digest}, Signature: signature,
		}},
	})
	if err != nil {
		return nil, err
	}
	return raw, CheckUnlogged(private.Public(), content, raw)
}

// CheckUnlogged returns an error unless the bundle, which Unlogged returned, signs the content with the key.
func CheckUnlogged(key crypto.PublicKey, content, bundled []byte) error {
	sum := sha256.Sum256(content)
	subject := bundle.Subject{Digest: v1.Hash{Algorithm: "sha256", Hex: hex.EncodeToString(sum[:])}, Content: bytes.NewReader(content)}
	_, err := bundle.Artifact(bundled, subject, bundle.Signer{Key: key, InsecureNoLog: true}, &root.BaseTrustedMaterial{}, time.Now())
	return err
}
