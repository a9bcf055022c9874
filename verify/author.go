package verify

import (
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"time"

	v1 "github.com/google/go-containerregistry/pkg/v1"

	"github.com/colophon-build/colophon/policy"
	"github.com/colophon-build/colophon/trust"
)

// SignedPolicy fails unless one of authors signed a policy file, under one of the trust roots,
// at a time that counts at the time now. raw is the content of the file, and bundles are those
// beside it, as in Bundled. It returns who signed, and when.
//
// A signature binds the bytes of the file. That an older policy by the same author is not used
// in place of the current one, the author's MaxAge and Since have to prevent. An author with a
// key has neither.
func SignedPolicy(ctx context.Context, name string, raw []byte, bundles [][]byte, authors []policy.Author, now time.Time, roots []*trust.Root) (by policy.Author, at time.Time, err error) {
	sum := sha256.Sum256(raw)
	f := File{Name: name, Digest: v1.Hash{Algorithm: "sha256", Hex: hex.EncodeToString(sum[:])}, Size: int64(len(raw)), Content: bytes.NewReader(raw)}
	why := errors.New("there is no signature beside it")
	for _, author := range authors {
		opts := Options{Trust: roots, Policy: policy.Policy{Origin: policy.SignatureOnly{Signer: author.Signer}}}
		for _, b := range bundles {
			v := Bundled(ctx, f, [][]byte{b}, now, opts)
			if v.Outcome != Accepted {
				why = errors.New(v.Why())
				continue
			}
			signed := signedAt(v)
			if err := author.MatchTime(signed, now); err != nil {
				why = fmt.Errorf("author %q: %w", author.Name, err)
				continue
			}
			if at.IsZero() || signed.After(at) {
				by, at = author, signed
			}
		}
	}
	if at.IsZero() {
		return policy.Author{}, at, fmt.Errorf("policy %s: no author of policies that this machine trusts signed it: %s", name, plain(why.Error()))
	}
	return by, at, nil
}

// signedAt returns the last time at which the signature that a verdict rests on is proved to
// have existed.
func signedAt(v *Verdict) (at time.Time) {
	if v.Facts == nil {
		return at
	}
	for _, s := range v.Facts.Signed {
		for _, t := range s.Times {
			if t.After(at) {
				at = t
			}
		}
	}
	return at
}
