package source

import (
	"bytes"
	"crypto/sha256"
	"encoding/pem"
	"errors"
	"fmt"
	"strings"
	"time"

	"github.com/ProtonMail/go-crypto/openpgp"
	"github.com/ProtonMail/go-crypto/openpgp/armor"
	pgperrors "github.com/ProtonMail/go-crypto/openpgp/errors"
	"github.com/ProtonMail/go-crypto/openpgp/packet"
	"github.com/hiddeco/sshsig"
	"golang.org/x/crypto/ssh"

	"github.com/colophon-build/colophon/internal/limits"
)

// splitCommit sets signature and payload of a commit. The signature is in the header
// gpgsig, or gpgsig-sha256 in SHA-256 repositories. The payload, which is signed, is
// the commit without both headers.
func (obj *object) splitCommit(raw []byte) {
	want := "gpgsig "
	if len(obj.id) == 64 {
		want = "gpgsig-sha256 "
	}
	var sig, payload bytes.Buffer
	var count int
	var in, ours bool // the line is in a signature header; that of this object format
	for rest := raw; len(rest) > 0; {
		n := bytes.IndexByte(rest, '\n') + 1
		if n == 0 {
			n = len(rest)
		}
		line := rest[:n]
		switch {
		case in && line[0] == ' ':
			line = line[1:]
		case bytes.HasPrefix(line, []byte("gpgsig ")), bytes.HasPrefix(line, []byte("gpgsig-sha256 ")):
			in, ours = true, bytes.HasPrefix(line, []byte(want))
			if ours {
				count++
			}
			line = line[bytes.IndexByte(line, ' ')+1:]
		default:
			in = false
			if line[0] == '\n' {
				n = len(rest) // the message contains no headers
			}
			payload.Write(rest[:n])
		}
		if in && ours {
			sig.Write(line)
		}
		rest = rest[n:]
	}
	obj.signature, obj.payload = sig.Bytes(), payload.Bytes()
	if count > 1 {
		obj.malformed = true
	}
}

var beginnings = []string{"-----BEGIN PGP SIGNATURE-----", "-----BEGIN PGP MESSAGE-----", "-----BEGIN SSH SIGNATURE-----", "-----BEGIN SIGNED MESSAGE-----"}

// splitTag sets signature and payload of a tag. The signature is at its end, from the
// last line that starts a signature.
func (obj *object) splitTag(raw []byte) {
	at := -1
	for i := 0; i < len(raw); {
		for _, b := range beginnings {
			if bytes.HasPrefix(raw[i:], []byte(b)) {
				at = i
			}
		}
		n := bytes.IndexByte(raw[i:], '\n')
		if n < 0 {
			break
		}
		i += n + 1
	}
	obj.payload = raw
	if at >= 0 {
		obj.payload, obj.signature = raw[:at], raw[at:]
	}
}

// keys holds the keys to verify signatures.
type keys struct {
	signers   []signer
	ring      openpgp.EntityList
	digests   struct{ signers, ring string }                         // sha256:HEX of the files that they were read from
	certified func(bundle, signed []byte) (signer string, err error) // see Signers
}

func parseKeys(allowedSigners, keyring []byte) (keys, error) {
	var k keys
	var err error
	if len(allowedSigners) > limits.Keys || len(keyring) > limits.Keys {
		return k, fmt.Errorf("got allowed signers of %d and a keyring of %d bytes, want at most %d each", len(allowedSigners), len(keyring), limits.Keys)
	}
	k.digests.signers = fmt.Sprintf("sha256:%x", sha256.Sum256(allowedSigners))
	k.digests.ring = fmt.Sprintf("sha256:%x", sha256.Sum256(keyring))
	if k.signers, err = parseAllowedSigners(allowedSigners); err != nil {
		return k, fmt.Errorf("allowed signers: %w", err)
	}
	if len(bytes.TrimSpace(keyring)) > 0 {
		// Keyrings often consist of several armored blocks.
		for _, block := range splitArmor(keyring) {
			list, err := openpgp.ReadArmoredKeyRing(bytes.NewReader(block))
			if err != nil {
				return k, fmt.Errorf("OpenPGP keyring: %w", err)
			}
			k.ring = append(k.ring, list...)
		}
		if len(k.ring) == 0 {
			return k, errors.New("OpenPGP keyring: it contains no armored public key")
		}
	}
	return k, nil
}

// splitArmor splits a file into its armored blocks.
func splitArmor(b []byte) [][]byte {
	const end = "-----END PGP PUBLIC KEY BLOCK-----"
	var blocks [][]byte
	for {
		i := bytes.Index(b, []byte(end))
		if i < 0 {
			if len(bytes.TrimSpace(b)) > 0 {
				blocks = append(blocks, b) // incomplete: the parser reports the error
			}
			return blocks
		}
		blocks = append(blocks, b[:i+len(end)])
		b = b[i+len(end):]
	}
}

// check verifies the signature of obj. Like git, it checks the validity of a key at the
// time in the object, because it knows no better time. The holder of an expired key
// could therefore write an old time. A key that is revoked in the keyring is never valid.
func (k keys) check(obj *object) Signature {
	s := Signature{Object: obj.kind, Status: Bad}
	text := string(obj.signature)
	switch {
	case len(obj.signature) == 0:
		return Signature{Status: Unsigned}
	case strings.HasPrefix(text, "-----BEGIN SSH SIGNATURE-----"):
		s.Kind = "ssh"
		k.checkSSH(&s, obj)
	case strings.HasPrefix(text, "-----BEGIN PGP "):
		s.Kind = "openpgp"
		k.checkPGP(&s, obj)
	case strings.HasPrefix(text, "-----BEGIN SIGNED MESSAGE-----"):
		s.Kind = "x509"
		k.checkCertified(&s, obj)
	}
	if obj.malformed {
		s.Status, s.Signer, s.Signers = Bad, "", ""
	}
	return s
}

// checkCertified verifies a signature of gitsign. Certificates are valid for minutes, so
// that only a log entry can prove that this one was valid when it signed.
func (k keys) checkCertified(s *Signature, obj *object) {
	c, err := parseCMS(obj.signature, obj.payload)
	if err != nil {
		s.Reason = err.Error()
		return
	}
	s.Key, s.Status = fmt.Sprintf("SHA256:%x", sha256.Sum256(c.certificate.Raw)), Unverified
	switch {
	case k.certified == nil:
	case c.entry == nil:
		s.Reason = "it has no log entry that proves its time: sign with gitsign's rekorMode offline"
	default:
		bundle, err := c.bundle()
		if err == nil {
			s.Signer, err = k.certified(bundle, c.attributes)
		}
		if err != nil {
			s.Signer, s.Reason = "", err.Error()
			return
		}
		s.Status = Verified
	}
}

func (k keys) checkSSH(s *Signature, obj *object) {
	block, rest := pem.Decode(obj.signature)
	if block == nil || block.Type != sshsig.PEMType || len(bytes.TrimSpace(rest)) > 0 {
		return
	}
	sig, err := sshsig.ParseSignature(block.Bytes)
	if err != nil {
		return
	}
	s.Key = ssh.FingerprintSHA256(sig.PublicKey)
	// The protocol (PROTOCOL.sshsig) forbids RSA with SHA-1.
	if sig.Signature.Format == ssh.KeyAlgoRSA {
		return
	}
	if sshsig.Verify(bytes.NewReader(obj.payload), sig, sig.PublicKey, sig.HashAlgorithm, "git") != nil {
		return
	}
	s.Status = Unverified
	for _, a := range k.signers {
		if a.allows(sig.PublicKey, "git", obj.time) {
			s.Status, s.Signer, s.Signers = Verified, a.principals, k.digests.signers
			return
		}
	}
}

func (k keys) checkPGP(s *Signature, obj *object) {
	block, err := armor.Decode(bytes.NewReader(obj.signature))
	if err != nil || block.Type != openpgp.SignatureType {
		return
	}
	var raw bytes.Buffer
	if _, err := raw.ReadFrom(block.Body); err != nil {
		return
	}
	p, err := packet.NewReader(bytes.NewReader(raw.Bytes())).Next()
	sig, ok := p.(*packet.Signature)
	if err != nil || !ok {
		return
	}
	switch {
	case len(sig.IssuerFingerprint) > 0:
		s.Key = fmt.Sprintf("%X", sig.IssuerFingerprint)
	case sig.IssuerKeyId != nil:
		s.Key = fmt.Sprintf("%016X", *sig.IssuerKeyId)
	}
	at := obj.time
	conf := &packet.Config{Time: func() time.Time { return at }}
	got, entity, err := openpgp.VerifyDetachedSignature(k.ring, bytes.NewReader(obj.payload), &raw, conf)
	switch {
	case err == nil && entity != nil && (got.SigType == packet.SigTypeBinary || got.SigType == packet.SigTypeText):
		// The fingerprint in the signature is what the signer says.
		s.Status, s.Key, s.Signers = Verified, fmt.Sprintf("%X", entity.PrimaryKey.Fingerprint), k.digests.ring
		if id := entity.PrimaryIdentity(); id != nil {
			s.Signer = id.Name
		}
	case errors.Is(err, pgperrors.ErrUnknownIssuer), errors.Is(err, pgperrors.ErrKeyExpired),
		errors.Is(err, pgperrors.ErrKeyRevoked), errors.Is(err, pgperrors.ErrSignatureExpired):
		s.Status = Unverified
	}
}
