package verify

import (
	"bytes"
	"cmp"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"encoding/pem"
	"errors"
	"fmt"
	"slices"

	v1 "github.com/google/go-containerregistry/pkg/v1"
	"github.com/sigstore/sigstore-go/pkg/fulcio/certificate"

	"github.com/colophon-build/colophon/attest"
	"github.com/colophon-build/colophon/bundle"
	"github.com/colophon-build/colophon/oci"
	"github.com/colophon-build/colophon/policy"
	"github.com/colophon-build/colophon/trust"
)

// Query asks what was signed about an image: by a key, or by anybody for whom a trust root
// vouches. Policies of other kinds than Policy are made of queries.
type Query struct {
	Trust      []*trust.Root // each proof must verify wholly under one of them
	Key        bundle.Signer // the key that must have signed; the zero Signer: anybody with a certificate
	Statements []string      // predicate types of statements whose text is kept, at most 4 MiB in all
	From       oci.Source    // where signatures are; nil: beside the image
}

// Testimony is one signature of an image, or one statement about it, that holds for a Query.
type Testimony struct {
	Signed
	Bundle    bool                // a Sigstore bundle; not a signature or attestation of cosign v2 under a tag
	Image     bool                // it signs the image itself, and says nothing more
	ID        string              // SHA-256 of signature and certificate, hex digits
	Identity  certificate.Summary // zero if a key signed
	Stamped   bool                // a timestamp authority of the trust root proves when it was signed
	Statement []byte              // JSON, if the query has its type; callers must not change it
}

// Keys of what is remembered about an item, and about an image.
type (
	textKey      struct{}
	signatureKey struct{}
	elsewhereKey struct {
		source string
		about  v1.Hash
	}
)

// Testimonies returns what holds for a query, which Gather must have been asked for, in the
// order of the listing. An error means that there may be more.
func (ev *Evidence) Testimonies(q Query) ([]Testimony, error) {
	switch {
	case ev.unresolved != nil:
		return nil, errors.New(ev.unresolved.Reason)
	case ev.image.Digest == v1.Hash{}:
		return nil, errNotGathered
	}
	missed := false
	c := ev.check(policy.Policy{}, &missed)
	all, err := c.foundFor(context.Background(), q, ev.image.Digest) // nothing waits: all was read
	if err != nil {
		return nil, err
	}
	var out []Testimony
	var unsure error
	for _, it := range all.items {
		switch {
		case it.err != nil:
			if it.unread {
				unsure = cmp.Or(unsure, it.err)
			}
			continue
		case it.read == nil || it.tag == besideAPI:
			continue
		}
		t, holds, err := c.testimony(q, it, ev.image.Digest)
		unsure = cmp.Or(unsure, err)
		if holds {
			out = append(out, t)
		}
	}
	if missed {
		return nil, errNotGathered
	}
	return out, unsure
}

// Image returns the link of the image: whether every byte of it matches its digest.
func (ev *Evidence) Image() Link {
	switch {
	case ev.unresolved != nil:
		return *ev.unresolved
	case ev.image.Digest == v1.Hash{}:
		return failed(LinkImage, Unknown, errNotGathered)
	}
	return ev.link
}

// foundFor returns what is attached to the image where a query looks.
func (c *check) foundFor(ctx context.Context, q Query, image v1.Hash) (*found, error) {
	if q.From == nil {
		return recall(c, c.known, foundKey(image), func() (*found, error) { return c.find(ctx, image) })
	}
	elsewhere := *c
	elsewhere.src, elsewhere.opts.Bundles, elsewhere.asks = q.From, nil, nil
	elsewhere.queries = c.ask.queriesAt(q.From)
	return recall(c, c.known, elsewhereKey{q.From.Name(), image}, func() (*found, error) { return elsewhere.find(ctx, image) })
}

// queriesAt returns the queries that look at a place, nil for beside the image.
func (a *Ask) queriesAt(from oci.Source) (out []Query) {
	if a == nil {
		return nil
	}
	for _, q := range a.Queries {
		if (q.From == nil) == (from == nil) && (from == nil || q.From.Name() == from.Name()) {
			out = append(out, q)
		}
	}
	return out
}

// answer lets the queries verify an item while its content is at hand.
func (c *check) answer(it *item, b *bundle.Bundle, image v1.Hash) {
	for _, q := range c.queries {
		_, _, _ = c.testimony(q, &item{at: it.at, tag: it.tag, read: &piece{bundle: b, memory: it.read.memory}}, image) // remembered
	}
}

// testimony returns what an item says for a query. holds is false if it proves nothing.
func (c *check) testimony(q Query, it *item, image v1.Hash) (t Testimony, holds bool, err error) {
	of, b := *c, it.read.bundle
	of.of, of.opts.Policy = it.read.memory, policy.Policy{}
	c = &of
	subject := func() bundle.Subject { return bundle.Subject{Digest: image} }
	if (b.Certificate == nil) != (q.Key.Key != nil) {
		return t, false, nil
	}
	for _, r := range rootsOf(q.Trust, q.Key) {
		got := c.result(b, false, q.Key, r, subject)
		if got.Err() != nil {
			continue
		}
		kind := ""
		if b.Statement != nil {
			kind = b.Statement.PredicateType
		}
		t = Testimony{
			Signed: signedThing(ref{item: &item{at: it.at, kind: kind}, proof: &proof{Result: got, root: r}}),
			Bundle: it.tag == "", Image: b.Image != "" || kind == attest.PredicateSign, Identity: got.Identity, Stamped: got.Stamped > 0,
		}
		if t.ID, err = recall(c, c.of, signatureKey{}, func() (string, error) { return idOf(b), nil }); err != nil {
			return t, false, err
		}
		if slices.Contains(q.Statements, kind) {
			t.Statement, err = recall(c, c.of, textKey{}, func() ([]byte, error) { return c.keepText(b) })
		}
		return t, err == nil, err
	}
	return t, false, nil
}

// idOf returns the SHA-256 of signature and certificate, as hex digits.
func idOf(b *bundle.Bundle) string {
	sum := sha256.New()
	if sigs := b.Proto.GetDsseEnvelope().GetSignatures(); len(sigs) > 0 {
		sum.Write(sigs[0].GetSig())
	} else {
		sum.Write(b.Proto.GetMessageSignature().GetSignature())
	}
	if b.Certificate != nil {
		sum.Write(pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: b.Certificate.Raw}))
	}
	return hex.EncodeToString(sum.Sum(nil))
}

// keepText keeps the statement of a bundle.
func (c *check) keepText(b *bundle.Bundle) ([]byte, error) {
	text := b.Proto.GetDsseEnvelope().GetPayload()
	if c.kept.Add(int64(len(text))) > maxFacts {
		return nil, fmt.Errorf("the statements of the types asked for exceed %d bytes", maxFacts)
	}
	return bytes.Clone(text), nil
}
