package main

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"net/http"
	"os"
	"strings"
	"time"

	"github.com/spf13/cobra"
	"golang.org/x/mod/sumdb/note"

	"github.com/colophon-build/colophon/bundle"
	"github.com/colophon-build/colophon/internal/durable"
	"github.com/colophon-build/colophon/internal/limits"
	"github.com/colophon-build/colophon/internal/printable"
	"github.com/colophon-build/colophon/internal/reach"
	"github.com/colophon-build/colophon/internal/strict"
	"github.com/colophon-build/colophon/tlog"
	"github.com/colophon-build/colophon/tlog/witness"
)

// maxParties is the maximum number of parties whose checkpoints are compared.
const maxParties = 64

// gossip is the answer of log gossip.
type gossip struct {
	Origin  string       `json:"origin"`
	Parties []party      `json:"parties"`
	Result  string       `json:"result"`          // one history, split view or undecided
	Why     string       `json:"why,omitempty"`   // of undecided
	Split   *splitReport `json:"split,omitempty"` // the two checkpoints that contradict each other
	File    string       `json:"file,omitempty"`  // where the evidence was written
}

// party is somebody who showed a checkpoint, or did not.
type party struct {
	Name  string `json:"name"`            // URL or file
	Size  *int64 `json:"size,omitempty"`  // entries of the checkpoint
	Error string `json:"error,omitempty"` // why nothing of it was compared

	shown  []shownCheckpoint
	source tlog.Source // tiles; nil: it has none
}

type shownCheckpoint struct {
	tlog.Checkpoint
	signed []byte
}

// splitReport is the evidence: a JSON file that everybody who has the key of the log can verify.
type splitReport struct {
	Key    string      `json:"key,omitempty"` // verifier key of the log, if it has one
	Older  string      `json:"older"`         // signed checkpoint
	Newer  string      `json:"newer"`         // signed checkpoint
	Prefix tlog.Hash   `json:"prefix"`        // root of the first entries, as many as Older has, in the tree of Newer
	Proof  []tlog.Hash `json:"proof"`         // consistency proof from Prefix to Newer (RFC 6962)
}

type gossipOptions struct {
	log      logOptions
	key      string
	evidence string
	output   output
}

func newLogGossipCommand() *cobra.Command {
	var o gossipOptions
	cmd := &cobra.Command{
		Use:   "gossip URL|FILE...",
		Short: "compare what several parties were shown of a log, and find a split view",
		Long: `Gossip compares the checkpoints of one log that several parties show: the log itself,
witnesses and mirrors (URL is what they serve monitors), and files with a checkpoint, a
bundle or a C2SP tlog-proof, such as others sent you. It proves from tiles that all of
them are of one history.

If two checkpoints contradict each other, the log has shown two histories, and its own
signatures prove it: gossip writes both to a file. Send it to everybody who trusts the log.

With --key, the log needs no trust root, and is itself a party only if you name its URL.

Exit codes: 3 for a split view; 4 if a party did not answer, or nobody has the tiles.`,
		Example: `  colophon log gossip https://witness.example.org https://mirror.example.net app.sigstore.json
  colophon log gossip --key log.example.com+1a2b3c4d+AaBb… https://log.example.com/api/v2 checkpoint.txt`,
		Args: cobra.RangeArgs(1, maxParties),
		RunE: func(cmd *cobra.Command, args []string) error { return runLogGossip(cmd, args, o) },
	}
	o.output.flags(cmd)
	o.log.flags(cmd)
	cmd.Flags().StringVar(&o.key, "key", "", "verifier key of the log (ORIGIN+HEX+BASE64), in place of a trust root's")
	cmd.Flags().StringVar(&o.evidence, "evidence", "", "write the evidence of a split view to this `FILE` (default ORIGIN-split-view.json)")
	cmd.MarkFlagsMutuallyExclusive("key", "log")
	return cmd
}

func runLogGossip(cmd *cobra.Command, names []string, o gossipOptions) error {
	ctx, cancel := withTimeout(cmd.Context(), o.log.timeout)
	defer cancel()
	var parties []party
	var key note.Verifier
	if o.key != "" {
		var err error
		if key, err = tlog.ParseLogKey(o.key); err != nil {
			return usageError("", "--key: %v", err)
		}
	} else {
		log, err := openLog(ctx, o.log)
		if err != nil {
			return err
		}
		key = log.Verifier
		signed, err := log.Checkpoint(ctx)
		parties = append(parties, newParty(log.URL, key, log, [][]byte{signed}, err))
	}
	for _, name := range names {
		parties = append(parties, readParty(ctx, name, key))
	}
	answer := compareParties(ctx, key.Name(), parties)
	if answer.Split != nil {
		answer.Split.Key = o.key
		var err error
		if answer.File, err = answer.Split.write(o.evidence, key.Name()); err != nil {
			fmt.Fprintln(cmd.ErrOrStderr(), printable.Text("the evidence could not be written: "+err.Error()))
		}
	}
	if o.output.text() {
		answer.print(cmd)
	} else if err := o.output.print(cmd.OutOrStdout(), answer); err != nil {
		return err
	}
	switch {
	case answer.Split != nil && answer.File == "":
		return &exitError{code: exitRejected, msg: fmt.Sprintf("log %s has shown two histories", answer.Origin), hint: "print both checkpoints with --json, and keep them"}
	case answer.Split != nil:
		return &exitError{code: exitRejected, msg: fmt.Sprintf("log %s has shown two histories", answer.Origin),
			hint: "send " + answer.File + " to everybody who trusts this log"}
	case answer.Why != "":
		return &exitError{code: exitUndecided, msg: fmt.Sprintf("log %s: %s", answer.Origin, answer.Why)}
	}
	return nil
}

// compareParties compares what the parties showed.
func compareParties(ctx context.Context, origin string, parties []party) gossip {
	answer := gossip{Origin: origin, Parties: parties, Result: "one history"}
	var all []tlog.Checkpoint
	var sources []tlog.Source
	signed := map[string][]byte{}
	for _, p := range parties {
		for _, cp := range p.shown {
			all = append(all, cp.Checkpoint)
			signed[cp.String()] = cp.signed
		}
		if p.source != nil {
			sources = append(sources, p.source)
		}
		if p.Error != "" {
			answer.Why = p.Name + ": " + p.Error
		}
	}
	split, err := tlog.Compare(ctx, all, sources)
	switch {
	case split != nil:
		answer.Result, answer.Why = "split view", ""
		answer.Split = &splitReport{Older: string(signed[split.Older.String()]), Newer: string(signed[split.Newer.String()]), Prefix: split.Prefix, Proof: split.Proof}
		return answer
	case err != nil:
		answer.Why = err.Error()
	case len(all) < 2 && answer.Why == "":
		answer.Why = "there is nothing to compare: only one checkpoint was shown"
	}
	if answer.Why != "" {
		answer.Result = "undecided"
	}
	return answer
}

// newParty verifies the checkpoints that somebody showed.
func newParty(name string, key note.Verifier, src tlog.Source, signed [][]byte, err error) party {
	p := party{Name: name, source: src}
	if err != nil {
		p.Error = reach.Explain(err).Error()
		return p
	}
	for _, s := range signed {
		cp, err := tlog.OpenCheckpoint(s, key)
		if err != nil {
			p.Error = err.Error()
			continue
		}
		p.shown = append(p.shown, shownCheckpoint{cp, s})
		if p.Size == nil || *p.Size < cp.Size {
			p.Size = &cp.Size
		}
	}
	return p
}

// readParty reads what a witness, a mirror, a log or a file shows.
func readParty(ctx context.Context, name string, key note.Verifier) party {
	if !strings.Contains(name, "://") {
		signed, err := readShown(name, key.Name())
		return newParty(name, key, nil, signed, err)
	}
	if err := witness.CheckURL(name); err != nil {
		return party{Name: name, Error: err.Error()}
	}
	client := &http.Client{Timeout: 20 * time.Second, CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse }}
	base := strings.TrimSuffix(name, "/") + "/" + witness.OriginHash(key.Name())
	signed, err := witness.Latest(ctx, client, name, key.Name())
	if errors.Is(err, fs.ErrNotExist) { // a log, and no witness or mirror
		base = strings.TrimSuffix(name, "/")
		signed, err = tlog.HTTP{URL: base, Client: client}.Checkpoint(ctx)
	}
	return newParty(name, key, tlog.HTTP{URL: base, Client: client}, [][]byte{signed}, err)
}

// readShown returns the signed checkpoints of a log in a file: a checkpoint, a C2SP tlog-proof,
// bundles, or the evidence of a split view.
func readShown(path, origin string) (signed [][]byte, err error) {
	raw, err := strict.ReadFile(path, limits.Bundle)
	if err != nil {
		return nil, err
	}
	if bytes.HasPrefix(raw, []byte(origin+"\n")) {
		return [][]byte{raw}, nil
	}
	if p, err := tlog.ParseLogProof(raw); err == nil {
		return [][]byte{p.Checkpoint}, nil
	}
	var evidence splitReport
	if err := strict.UnmarshalKnown(raw, limits.Bundle, &evidence); err == nil && evidence.Older != "" {
		return [][]byte{[]byte(evidence.Older), []byte(evidence.Newer)}, nil
	}
	other := errors.New("expected a checkpoint of " + origin + ", a proof of C2SP tlog-proof, a bundle or the evidence of a split view")
	bundles, err := readBundles(path)
	if err != nil {
		return nil, other
	}
	for _, raw := range bundles {
		b, err := bundle.Parse(raw)
		if err != nil {
			return nil, other
		}
		for _, e := range b.Entries {
			if text := e.GetInclusionProof().GetCheckpoint().GetEnvelope(); strings.HasPrefix(text, origin+"\n") {
				signed = append(signed, []byte(text))
			}
		}
	}
	if len(signed) == 0 {
		return nil, errors.New("it has no checkpoint of " + origin)
	}
	return signed, nil
}

// write writes the evidence to a new file, and returns its path.
func (s *splitReport) write(path, origin string) (string, error) {
	if path == "" {
		path = strings.ReplaceAll(origin, "/", "-") + "-split-view.json"
	}
	raw, err := json.MarshalIndent(s, "", "  ")
	if err != nil {
		return "", err
	}
	err = durable.CreateFile(path, append(raw, '\n'), 0o644)
	if errors.Is(err, fs.ErrExist) {
		if old, readErr := os.ReadFile(path); readErr == nil && bytes.Equal(old, append(raw, '\n')) {
			return path, nil
		}
	}
	if err != nil {
		return "", err
	}
	return path, nil
}

func (g gossip) print(cmd *cobra.Command) {
	w := cmd.OutOrStdout()
	for _, p := range g.Parties {
		what := p.Error
		if p.Size != nil && p.Error == "" {
			what = fmt.Sprintf("%d entries", *p.Size)
		}
		fmt.Fprintf(w, "%s: %s\n", printable.Text(p.Name), printable.Text(what))
	}
	fmt.Fprintln(w, g.Result)
}
