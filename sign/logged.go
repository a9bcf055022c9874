package sign

import (
	"context"
	"encoding/hex"
	"errors"
	"fmt"
	"strings"

	commonpb "github.com/sigstore/protobuf-specs/gen/pb-go/common/v1"
	rekorpb "github.com/sigstore/protobuf-specs/gen/pb-go/rekor/v1"
	"github.com/sigstore/sigstore-go/pkg/root"

	"github.com/colophon-build/colophon/tlog"
)

// logged reads an entry that a log has already, which an RSA key needs: it gives the same
// signature of the same bytes each time. The entry has an inclusion proof under a checkpoint
// that a log of trusted signed. That it is the entry of this signature is verified with the
// bundle, as of an entry that the log returns.
func (s *service) logged(ctx context.Context, e *loggedError, trusted root.TrustedMaterial) (*rekorpb.TransparencyLogEntry, error) {
	if e.index < 0 {
		return nil, fmt.Errorf("%w, and does not say where; the key gives the same signature of the same bytes each time: only the bundle of the earlier run has it", e)
	}
	src := tlog.HTTP{URL: strings.TrimSuffix(s.url, "/log/entries"), Client: s.client}
	signed, err := src.Checkpoint(ctx)
	if err != nil {
		return nil, fmt.Errorf("%w; its checkpoint: %w", e, err)
	}
	id, cp, err := openCheckpoint(signed, trusted)
	if err != nil {
		return nil, fmt.Errorf("%w; %w", e, err)
	}
	body, proof, err := tlog.Entry(ctx, src, cp, e.index)
	if err != nil {
		return nil, fmt.Errorf("%w; entry %d: %w", e, e.index, err)
	}
	hashes := make([][]byte, len(proof))
	for i := range proof {
		hashes[i] = proof[i][:]
	}
	return &rekorpb.TransparencyLogEntry{
		LogIndex: e.index, LogId: &commonpb.LogId{KeyId: id}, CanonicalizedBody: body,
		KindVersion: &rekorpb.KindVersion{Kind: "hashedrekord", Version: "0.0.2"},
		InclusionProof: &rekorpb.InclusionProof{
			LogIndex: e.index, RootHash: cp.Root[:], TreeSize: cp.Size, Hashes: hashes,
			Checkpoint: &rekorpb.Checkpoint{Envelope: string(signed)},
		},
	}, nil
}

// openCheckpoint returns a signed checkpoint, and the ID of the log of trusted that signed it.
func openCheckpoint(signed []byte, trusted root.TrustedMaterial) (id []byte, cp tlog.Checkpoint, err error) {
	origin, _, _ := strings.Cut(string(signed), "\n")
	for name, log := range trusted.RekorLogs() {
		v, err := tlog.NewVerifier(origin, log.PublicKey)
		if err != nil {
			continue // a key of Rekor v1's kinds, or a name that no log can have
		}
		want, err := tlog.LogID(origin, log.PublicKey)
		if err != nil || hex.EncodeToString(want[:]) != name {
			continue
		}
		if cp, err := tlog.OpenCheckpoint(signed, v); err == nil {
			return want[:], cp, nil
		}
	}
	return nil, cp, errors.New("its checkpoint: no log of the trust root signed it")
}
