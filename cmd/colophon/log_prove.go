package main

import (
	"bytes"
	"context"
	"encoding/base64"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"strconv"

	commonpb "github.com/sigstore/protobuf-specs/gen/pb-go/common/v1"
	rekorpb "github.com/sigstore/protobuf-specs/gen/pb-go/rekor/v1"
	"github.com/spf13/cobra"
	"google.golang.org/protobuf/encoding/protojson"

	"github.com/colophon-build/colophon/bundle"
	"github.com/colophon-build/colophon/internal/printable"
	"github.com/colophon-build/colophon/tlog"
)

// provenEntry is an entry that a log has, for programs.
type provenEntry struct {
	Log       string `json:"log"`               // URL
	TrustRoot string `json:"trustRoot"`         // fingerprint of the trust root that has the log's key
	Index     int64  `json:"index"`             // of the entry, from 0
	Size      int64  `json:"size"`              // entries of the checkpoint
	LeafHash  string `json:"leafHash"`          // RFC 6962, base64
	Extends   *int64 `json:"extends,omitempty"` // size of the checkpoint in the bundle, which the log's extends
	// Entry is a Sigstore TransparencyLogEntry (protobuf-specs) with a proof in the newest
	// checkpoint.
	Entry json.RawMessage `json:"entry"`

	body  []byte
	proof tlog.LogProof
}

func newLogProveCommand() *cobra.Command {
	var o output
	var l logOptions
	var asProof bool
	cmd := &cobra.Command{
		Use:   "prove INDEX|BUNDLE",
		Short: "prove that an entry is in a log now",
		Long: `Prove makes the inclusion proof of an entry from the tiles of a log, and verifies it
against the log's newest checkpoint. INDEX is the entry's number, from 0. BUNDLE is a
file with a Sigstore bundle: prove compares its entry with the signature in it, finds
the log by the key ID in the entry, and also fails unless the log still has all
entries of the checkpoint in the bundle.

The entry and its proof are what --json prints, in the form of Sigstore's bundles.
--tlog-proof prints the proof as c2sp.org/tlog-proof has it: with the log's checkpoint
and the cosignatures of witnesses, for verifiers that have the entry.`,
		Example: `  colophon log prove 1842
  colophon log prove app.sigstore.json --json`,
		Args: cobra.ExactArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error { return runLogProve(cmd, args[0], l, o, asProof) },
	}
	o.flags(cmd)
	l.flags(cmd)
	cmd.Flags().BoolVar(&asProof, "tlog-proof", false, "print only the proof, in the form of C2SP tlog-proof")
	cmd.MarkFlagsMutuallyExclusive("tlog-proof", "output", "json")
	return cmd
}

func runLogProve(cmd *cobra.Command, what string, lo logOptions, o output, asProof bool) error {
	ctx, cancel := withTimeout(cmd.Context(), lo.timeout)
	defer cancel()
	var proven []provenEntry
	if index, ok := entryIndex(what); ok {
		log, err := openLog(ctx, lo)
		if err != nil {
			return err
		}
		p, err := log.prove(ctx, index, nil)
		if err != nil {
			return log.logExit(err)
		}
		proven = append(proven, *p)
	} else {
		var err error
		if proven, err = proveBundles(ctx, what, lo); err != nil {
			return err
		}
	}
	if asProof {
		if len(proven) != 1 {
			return usageError("name the index of one of them", "%s has %d entries, and a proof is about one", what, len(proven))
		}
		_, err := cmd.OutOrStdout().Write(proven[0].proof.Marshal())
		return err
	}
	if !o.text() {
		if len(proven) == 1 {
			return o.print(cmd.OutOrStdout(), proven[0])
		}
		return o.print(cmd.OutOrStdout(), proven)
	}
	for i, p := range proven {
		if i > 0 {
			fmt.Fprintln(cmd.OutOrStdout())
		}
		p.print(cmd.OutOrStdout())
	}
	return nil
}

// entryIndex reads the index of an entry. A file of this name must be spelled as a path.
func entryIndex(s string) (int64, bool) {
	n, err := strconv.ParseInt(s, 10, 64)
	return n, err == nil && n >= 0 && strconv.FormatInt(n, 10) == s
}

// proveBundles proves the entries of all bundles in a file.
func proveBundles(ctx context.Context, path string, lo logOptions) ([]provenEntry, error) {
	bundles, err := readBundles(path)
	if errors.Is(err, os.ErrNotExist) {
		return nil, usageError("", "expected the index of an entry or a file with a bundle, found %q", path)
	}
	if err != nil {
		return nil, err
	}
	var proven []provenEntry
	for _, raw := range bundles {
		b, err := bundle.Parse(raw)
		if err != nil {
			return nil, &exitError{code: exitRejected, msg: fmt.Sprintf("%s: %v", path, err)}
		}
		for _, e := range b.Entries {
			p, err := proveEntry(ctx, b, e, lo)
			if err != nil {
				return nil, err
			}
			proven = append(proven, *p)
		}
	}
	if len(proven) == 0 {
		return nil, &exitError{code: exitRejected, msg: path + " has no log entry"}
	}
	return proven, nil
}

// proveEntry proves an entry of a bundle in the log that it names.
func proveEntry(ctx context.Context, b *bundle.Bundle, e *rekorpb.TransparencyLogEntry, lo logOptions) (*provenEntry, error) {
	reject := func(format string, args ...any) error {
		return &exitError{code: exitRejected, msg: fmt.Sprintf("entry %d: ", e.GetLogIndex()) + fmt.Sprintf(format, args...)}
	}
	if !isRecord(b, e.GetCanonicalizedBody()) {
		return nil, reject("it is not the entry of this signature")
	}
	id := hex.EncodeToString(e.GetLogId().GetKeyId())
	if lo.name == "" {
		lo.name = id
	}
	log, err := openLog(ctx, lo)
	if err != nil {
		return nil, err
	}
	if log.KeyID != id {
		return nil, reject("expected the log %s, found the key ID %s", log.URL, id)
	}
	older, err := tlog.OpenCheckpoint([]byte(e.GetInclusionProof().GetCheckpoint().GetEnvelope()), log.Verifier)
	if err != nil {
		return nil, reject("the checkpoint in the bundle: %v", err)
	}
	p, err := log.prove(ctx, e.GetInclusionProof().GetLogIndex(), &older)
	if err != nil {
		return nil, log.logExit(err)
	}
	if !bytes.Equal(p.body, e.GetCanonicalizedBody()) {
		return nil, reject("the log has another entry there")
	}
	return p, nil
}

// prove proves the entry at index in the newest checkpoint, which must extend older if
// that is not nil.
func (l *trustedLog) prove(ctx context.Context, index int64, older *tlog.Checkpoint) (*provenEntry, error) {
	signed, cp, err := l.open(ctx)
	if err != nil {
		return nil, err
	}
	if index >= cp.Size {
		return nil, &exitError{code: exitRejected, msg: fmt.Sprintf("log %s: it has no entry %d: it has %d entries, counted from 0", l.URL, index, cp.Size)}
	}
	if older != nil {
		if err := tlog.Extends(ctx, l, *older, cp); err != nil {
			return nil, err
		}
	}
	p, err := l.proveIn(ctx, signed, cp, index)
	if err == nil && older != nil {
		p.Extends = &older.Size
	}
	return p, err
}

// proveIn proves the entry at index in a checkpoint, which has it.
func (l *trustedLog) proveIn(ctx context.Context, signed []byte, cp tlog.Checkpoint, index int64) (*provenEntry, error) {
	p := &provenEntry{Log: l.URL, TrustRoot: l.Root.Pin(), Index: index, Size: cp.Size}
	body, proof, err := tlog.Entry(ctx, l, cp, index)
	if err != nil {
		return nil, err
	}
	leaf := tlog.LeafHash(body)
	p.proof = tlog.LogProof{Index: index, Hashes: proof, Checkpoint: signed}
	p.body, p.LeafHash = body, base64.StdEncoding.EncodeToString(leaf[:])
	p.Entry, err = l.entry(index, body, proof, cp, signed)
	return p, err
}

// entry returns an entry and its proof in the form of Sigstore's bundles.
func (l *trustedLog) entry(index int64, body []byte, proof []tlog.Hash, cp tlog.Checkpoint, signed []byte) (json.RawMessage, error) {
	id, err := hex.DecodeString(l.KeyID)
	if err != nil {
		return nil, err
	}
	var kind struct {
		Kind    string `json:"kind"`
		Version string `json:"apiVersion"`
	}
	_ = json.Unmarshal(body, &kind) // of an entry that is no JSON, the kind stays empty
	hashes := make([][]byte, len(proof))
	for i := range proof {
		hashes[i] = proof[i][:]
	}
	return protojson.Marshal(&rekorpb.TransparencyLogEntry{
		LogIndex: index, LogId: &commonpb.LogId{KeyId: id}, CanonicalizedBody: body,
		KindVersion: &rekorpb.KindVersion{Kind: kind.Kind, Version: kind.Version},
		InclusionProof: &rekorpb.InclusionProof{
			LogIndex: index, RootHash: cp.Root[:], TreeSize: cp.Size, Hashes: hashes,
			Checkpoint: &rekorpb.Checkpoint{Envelope: string(signed)},
		},
	})
}

func (p provenEntry) print(w io.Writer) {
	line := func(name, value string) { fmt.Fprintf(w, "%-10s %s\n", name, printable.Text(value)) }
	line("log", p.Log)
	line("entry", fmt.Sprintf("%d of %d", p.Index, p.Size))
	line("leaf", p.LeafHash)
	line("body", string(p.body))
	if p.Extends != nil {
		line("extends", fmt.Sprintf("the checkpoint of %d entries in the bundle", *p.Extends))
	}
	line("proven", "the entry is in the log")
}
