package ctlog

import (
	"bytes"
	"context"
	"crypto/sha256"
	"crypto/x509"
	"encoding/hex"
	"errors"
	"fmt"
	"slices"

	ctx509 "github.com/google/certificate-transparency-go/x509"
	"golang.org/x/crypto/cryptobyte"

	"github.com/colophon-build/colophon/tlog"
)

// A data tile is a sequence of TileLeaf (C2SP static-ct-api, "Log entries"; the notation is
// that of RFC 8446, section 3):
//
//	struct {
//	    TimestampedEntry timestamped_entry;
//	    select (entry_type) {
//	        case x509_entry: Empty;
//	        case precert_entry: opaque pre_certificate<0..2^24-1>;
//	    };
//	    Fingerprint certificate_chain<0..2^16-1>;
//	} TileLeaf;
//
//	struct {
//	    uint64 timestamp;
//	    uint16 entry_type;
//	    select (entry_type) {
//	        case x509_entry: opaque certificate<1..2^24-1>;
//	        case precert_entry: opaque issuer_key_hash[32]; opaque tbs_certificate<1..2^24-1>;
//	    };
//	    opaque extensions<0..2^16-1>;
//	} TimestampedEntry;

// stored is one entry of a data tile.
type stored struct {
	leaf      tlog.Hash // of the TimestampedEntry, after version 0 and leaf type 0 (RFC 6962, section 3.4)
	precert   bool
	issuerKey []byte   // issuer_key_hash
	tbs       []byte   // tbs_certificate
	preCert   []byte   // pre_certificate
	chain     [][]byte // fingerprints
}

// split parses a data tile.
func split(data []byte) (entries []stored, err error) {
	for s := cryptobyte.String(data); !s.Empty(); {
		start := []byte(s)
		var e stored
		var kind uint16
		var tbs, extensions, preCert, chain cryptobyte.String
		ok := s.Skip(8) && s.ReadUint16(&kind)
		if e.precert = kind == 1; e.precert {
			ok = ok && s.ReadBytes(&e.issuerKey, sha256.Size)
		}
		ok = ok && kind <= 1 && s.ReadUint24LengthPrefixed(&tbs) && s.ReadUint16LengthPrefixed(&extensions)
		e.leaf = tlog.LeafHash(append([]byte{0, 0}, start[:len(start)-len(s)]...))
		ok = ok && (!e.precert || s.ReadUint24LengthPrefixed(&preCert)) && s.ReadUint16LengthPrefixed(&chain) && len(chain)%sha256.Size == 0
		if !ok {
			return nil, fmt.Errorf("entry %d: malformed", len(entries))
		}
		if len(entries) == tlog.TileWidth {
			return nil, errors.New("too many entries")
		}
		e.tbs, e.preCert = tbs, preCert
		for c := range slices.Chunk(chain, sha256.Size) {
			e.chain = append(e.chain, c)
		}
		entries = append(entries, e)
	}
	return entries, nil
}

// verifyTile is tlog.VerifyTile for this format of entries. The tree commits to a
// TimestampedEntry, but not to the precertificate and the chain beside it, so it also checks
// that these belong to the entry.
func (f files) verifyTile(ctx context.Context, src tlog.Source, cp tlog.Checkpoint, t tlog.Tile, data []byte) error {
	if t.Level != tlog.Entries {
		return tlog.VerifyTile(ctx, src, cp, t, data)
	}
	entries, err := split(data)
	if err != nil {
		return fmt.Errorf("%s: %w", tilePath(t), err)
	}
	hashes := make([]tlog.Hash, len(entries))
	issuers := map[string]*x509.Certificate{}
	for i, e := range entries {
		hashes[i] = e.leaf
		if err := f.verifyChain(e, issuers); err != nil {
			return fmt.Errorf("%s: entry %d: %w", tilePath(t), t.Index*tlog.TileWidth+int64(i), err)
		}
	}
	return tlog.VerifyLeaves(ctx, src, cp, t, hashes)
}

// verifyChain checks the precertificate and the chain of an entry, all of which this log wrote.
// issuers caches the certificates of a tile.
func (f files) verifyChain(e stored, issuers map[string]*x509.Certificate) error {
	if !e.precert || len(e.chain) == 0 {
		return errors.New("not an entry of this log")
	}
	pre, err := x509.ParseCertificate(e.preCert)
	if err != nil {
		return fmt.Errorf("precertificate: %w", err)
	}
	if tbs, err := ctx509.RemoveCTPoison(pre.RawTBSCertificate); err != nil || !bytes.Equal(tbs, e.tbs) {
		return errors.New("the precertificate is not the entry's")
	}
	chain := []*x509.Certificate{pre}
	for _, fingerprint := range e.chain {
		issuer := issuers[string(fingerprint)]
		if issuer == nil {
			if issuer, err = f.issuer(hex.EncodeToString(fingerprint)); err != nil {
				return err
			}
			issuers[string(fingerprint)] = issuer
		}
		chain = append(chain, issuer)
	}
	if key := sha256.Sum256(chain[1].RawSubjectPublicKeyInfo); !bytes.Equal(key[:], e.issuerKey) {
		return errors.New("the chain is not the entry's")
	}
	for i, c := range chain[:len(chain)-1] {
		if err := c.CheckSignatureFrom(chain[i+1]); err != nil {
			return fmt.Errorf("certificate %d of the chain: %w", i, err)
		}
	}
	return nil
}

// issuer reads an issuing certificate by its SHA-256 in hex.
func (f files) issuer(sum string) (*x509.Certificate, error) {
	der, err := f.read("issuer/" + sum)
	if err != nil {
		return nil, err
	}
	if have := sha256.Sum256(der); hex.EncodeToString(have[:]) != sum {
		return nil, fmt.Errorf("issuer/%s is damaged: got SHA-256 %x", sum, have)
	}
	return x509.ParseCertificate(der)
}
