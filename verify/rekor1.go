package verify

import (
	"bytes"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"net/url"

	"github.com/secure-systems-lab/go-securesystemslib/dsse"
	rekorpb "github.com/sigstore/protobuf-specs/gen/pb-go/rekor/v1"
	"github.com/sigstore/sigstore-go/pkg/root"
	"github.com/sigstore/sigstore-go/pkg/tlog"
	"github.com/sigstore/sigstore-go/pkg/verify"
	"github.com/sigstore/sigstore/pkg/signature"

	"github.com/colophon-build/colophon/attest"
)

// oddRekor1 returns the one entry of a bundle where that is of Rekor v1 in a form
// which Sigstore's client specification allows and sigstore-go does not read:
// an envelope logged as a hashedrekord of what was signed, or a checkpoint
// whose origin names no tree. The rest of such a bundle is sigstore-go's to judge.
func oddRekor1(b *attest.Signed) *rekorpb.TransparencyLogEntry {
	if len(b.Entries) != 1 || b.Entries[0].GetInclusionProof() == nil {
		return nil
	}
	e := b.Entries[0]
	v2 := e.GetKindVersion().GetVersion() == "0.0.2" && e.GetKindVersion().GetKind() == "hashedrekord"
	digestOfEnvelope := b.Statement != nil && e.GetKindVersion().GetKind() == "hashedrekord"
	if v2 || attest.OfRekor1Tree(e) && !digestOfEnvelope {
		return nil
	}
	return e
}

// checkRekor1 verifies such an entry: that it is about this signature, by this
// signer, of this content; that the log promised it, if it says so; and that it
// is included under a checkpoint which the log signed.
func checkRekor1(b *attest.Signed, e *rekorpb.TransparencyLogEntry, material root.TrustedMaterial) error {
	id := hex.EncodeToString(e.GetLogId().GetKeyId())
	log := material.RekorLogs()[id]
	if log == nil {
		return fmt.Errorf("log %s is not one of the trust root", id)
	}
	entry, err := tlog.ParseTransparencyLogEntry(e)
	if err == nil {
		err = tlog.ValidateEntry(entry)
	}
	if err != nil {
		return fmt.Errorf("log entry: %w", err)
	}
	if err := bindRekor1(b, entry, material); err != nil {
		return fmt.Errorf("log entry: %w", err)
	}
	if entry.HasInclusionPromise() {
		if err := tlog.VerifySET(entry, material.RekorLogs()); err != nil {
			return fmt.Errorf("the log's promise: %w", err)
		}
	}
	v, err := signature.LoadVerifier(log.PublicKey, log.SignatureHashFunc)
	if err != nil {
		return err
	}
	if attest.OfRekor1Tree(e) {
		return tlog.VerifyInclusion(entry, v)
	}
	u, err := url.Parse(log.BaseURL)
	if err != nil {
		return err
	}
	return tlog.VerifyCheckpointAndInclusion(entry, v, u.Hostname())
}

// bindRekor1 fails unless the entry is about what the bundle holds.
func bindRekor1(b *attest.Signed, entry *tlog.Entry, material root.TrustedMaterial) error {
	content, err1 := b.Entity.SignatureContent()
	with, err2 := b.Entity.VerificationContent()
	if err := errors.Join(err1, err2); err != nil {
		return err
	}
	switch {
	case entry.IsRekorV2():
		return errors.New("of Rekor v2, want one of v1")
	case !bytes.Equal(entry.Signature(), content.Signature()) || len(content.Signature()) == 0:
		return errors.New("it is about another signature")
	case !with.CompareKey(entry.PublicKey(), material):
		return errors.New("it is about another signer")
	case !entry.IntegratedTime().IsZero() && !with.ValidAtTime(entry.IntegratedTime(), material):
		return fmt.Errorf("logged %s, when the signer was not valid", show(entry.IntegratedTime()))
	}
	want, err := loggedDigest(b, entry, content)
	if err != nil {
		return err
	}
	got, algorithm, ok := entry.GetHashedRekordDigest()
	if !ok {
		algorithm = "sha256"
		got, ok = entry.GetDssePayloadHash()
	}
	if !ok || algorithm != "sha256" || !bytes.Equal(got, want) {
		return fmt.Errorf("digest: got %s:%x, want sha256:%x", algorithm, got, want)
	}
	return nil
}

// loggedDigest is what an entry must have the digest of: a hashedrekord of what
// was signed, the others of the payload. All are sha256.
func loggedDigest(b *attest.Signed, entry *tlog.Entry, content verify.SignatureContent) ([]byte, error) {
	_, _, hashed := entry.GetHashedRekordDigest()
	env := b.Entity.GetDsseEnvelope()
	switch {
	case env == nil && hashed:
		return content.MessageSignatureContent().Digest(), nil
	case env == nil:
		return nil, errors.New("a file's signature is logged as a hashedrekord")
	case hashed:
		sum := sha256.Sum256(dsse.PAE(env.GetPayloadType(), env.GetPayload()))
		return sum[:], nil
	}
	sum := sha256.Sum256(env.GetPayload())
	return sum[:], nil
}
