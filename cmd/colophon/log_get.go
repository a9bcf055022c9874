package main

import (
	"bytes"
	"context"
	"crypto"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"slices"
	"strings"
	"time"

	v1 "github.com/google/go-containerregistry/pkg/v1"
	rekorpb "github.com/sigstore/protobuf-specs/gen/pb-go/rekor/v1"
	"github.com/spf13/cobra"

	"github.com/colophon-build/colophon/bundle"
	"github.com/colophon-build/colophon/internal/lazyregexp"
	"github.com/colophon-build/colophon/internal/printable"
	"github.com/colophon-build/colophon/platform/api"
	"github.com/colophon-build/colophon/tlog"
)

// gotten is what was signed, for programs: content of the archive whose entry is in the log.
type gotten struct {
	Log         string            `json:"log"`       // URL
	TrustRoot   string            `json:"trustRoot"` // fingerprint of the trust root that has the log's key
	Index       int64             `json:"index"`     // of the entry
	Size        int64             `json:"size"`      // entries of the checkpoint that proves it
	Form        api.Form          `json:"form"`
	Digest      string            `json:"digest"`           // sha256:hex of the content in the archive
	Signer      string            `json:"signer,omitempty"` // name in the certificate
	Issuer      string            `json:"issuer,omitempty"`
	Invalid     string            `json:"invalid,omitempty"` // why the trust root does not accept the signature; empty if it does
	About       []string          `json:"about"`             // digests that was signed about, ALGORITHM:HEX
	Type        string            `json:"predicateType,omitempty"`
	Statement   json.RawMessage   `json:"statement,omitempty"` // the payload of an envelope
	Annotations map[string]string `json:"annotations,omitempty"`

	raw []byte
}

type logGetOptions struct {
	logOptions
	output
	raw, statement bool
}

func newLogGetCommand() *cobra.Command {
	var o logGetOptions
	cmd := &cobra.Command{
		Use:   "get INDEX|DIGEST",
		Short: "get what was signed: the statement of a log entry, or all about a digest",
		Long: `Get asks the platform's archive for what was signed. A log keeps only hashes; the
archive of the platform keeps the signed content, also after it was deleted from the
registry. INDEX is the number of an entry, from 0. DIGEST is that of an image, a file or
a commit: sha256:HEX.

Get trusts the archive with nothing. It computes the log entry from the content, and
prints the content only if the log has exactly this entry: with INDEX at this index, with
DIGEST at the index that the content names. Content about DIGEST without such an entry
is counted, and not shown.

Whether you accept a signer is another question: see "colophon verify".`,
		Example: `  colophon log get 1842
  colophon log get 1842 --statement | jq .predicate
  colophon log get sha256:8ed52a29b6ee…`,
		Args: cobra.ExactArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error { return runLogGet(cmd, args[0], o) },
	}
	o.output.flags(cmd)
	o.logOptions.flags(cmd)
	cmd.Flags().BoolVar(&o.raw, "raw", false, "print the content as it arrived: the bundle")
	cmd.Flags().BoolVar(&o.statement, "statement", false, "print only the signed statement")
	cmd.MarkFlagsMutuallyExclusive("raw", "statement", "output", "json")
	return cmd
}

func runLogGet(cmd *cobra.Command, what string, o logGetOptions) error {
	ctx, cancel := withTimeout(cmd.Context(), o.timeout)
	defer cancel()
	index, isIndex := entryIndex(what)
	if !isIndex && !digestArgument.MatchString(what) {
		return usageError("", "expected the index of an entry or ALGORITHM:HEX, found %q", what)
	}
	log, err := openLog(ctx, o.logOptions)
	if err != nil {
		return err
	}
	archive, err := log.archive()
	if err != nil {
		return err
	}
	show := &gottenPrinter{w: cmd.OutOrStdout(), o: o, one: isIndex}
	hidden, filling := 0, false
	if isIndex {
		filling, err = log.getEntry(ctx, archive, index, show.add)
	} else {
		hidden, filling, err = log.getAbout(ctx, archive, what, show.add)
	}
	if err == nil {
		err = show.end()
	}
	if err != nil {
		return err
	}
	if hidden > 0 {
		fmt.Fprintf(cmd.ErrOrStderr(), "the archive keeps %d more about it, without an entry of this log: see colophon inspect\n", hidden)
	}
	switch {
	case show.shown == 0:
		return nothing(archive, what, isIndex, filling)
	case filling && !isIndex:
		fmt.Fprintln(cmd.ErrOrStderr(), "the archive does not have everything yet that its registry had before it: more may come")
	}
	return nil
}

// nothing is the error of an archive that has nothing for an entry or a digest.
func nothing(archive *api.ClientConfig, what string, isIndex, filling bool) error {
	switch {
	case filling:
		return &exitError{code: exitUndecided, msg: fmt.Sprintf("the archive of %s has nothing for %s yet: it is still reading what its registry had before it", archive.URL, what),
			hint: "try again later; the platform's log says when it has ended"}
	case isIndex:
		return &exitError{code: exitFailure, msg: fmt.Sprintf("entry %s is in the log, and the archive of %s has nothing for it: what was signed never reached that platform", what, archive.URL),
			hint: "the log keeps hashes: what was signed may be with whoever signed it. colophon log prove " + what + " shows the entry"}
	}
	return &exitError{code: exitFailure, msg: fmt.Sprintf("the archive of %s has nothing for %s that is in the log", archive.URL, what),
		hint: "the log keeps hashes: what was signed may be with whoever signed it"}
}

var digestArgument = lazyregexp.New(`^[A-Za-z0-9]{1,64}:[0-9a-f]{2,128}$`)

// archive returns the platform whose archive has what the log logged. It sends the token
// of the login only to the platform of the login.
func (l *trustedLog) archive() (*api.ClientConfig, error) {
	if l.Root.URL == "" {
		return nil, &exitError{code: exitFailure, msg: fmt.Sprintf("log %s: no platform is known that archives what it logs", l.URL), hint: "colophon log prove shows the entry"}
	}
	c := &api.ClientConfig{URL: l.Root.URL}
	if login, err := api.LoadConfig(); err == nil && strings.TrimSuffix(login.URL, "/") == c.URL {
		c.Token = login.Token
	}
	return c, nil
}

// getEntry yields the content of an entry, if the archive has it, and returns whether more may come.
func (l *trustedLog) getEntry(ctx context.Context, archive *api.ClientConfig, index int64, yield func(gotten) error) (filling bool, err error) {
	p, err := l.prove(ctx, index, nil)
	if err != nil {
		return false, l.logExit(err)
	}
	leaf := tlog.LeafHash(p.body)
	list, err := archive.KeptWith(ctx, hex.EncodeToString(leaf[:]), 0)
	if err != nil {
		return false, unanswered(archive, err)
	}
	for _, k := range list.Kept {
		b, raw, err := content(ctx, archive, k)
		if err != nil {
			return false, err
		}
		if b != nil && isRecord(b, p.body) {
			return list.Filling, yield(l.gotten(k, b, raw, p))
		}
	}
	if len(list.Kept) > 0 {
		return false, &exitError{code: exitRejected, msg: fmt.Sprintf("the archive of %s answers with content whose entry is not %d: %s", archive.URL, index, list.Kept[0].Digest)}
	}
	return list.Filling, nil
}

// getAbout yields the content about a digest that is in the log, and returns how much is not, and whether
// more may come. It holds one piece in memory.
func (l *trustedLog) getAbout(ctx context.Context, archive *api.ClientConfig, digest string, yield func(gotten) error) (hidden int, filling bool, err error) {
	signed, cp, err := l.open(ctx)
	if err != nil {
		return 0, false, l.logExit(err)
	}
	for after := int64(0); ; {
		list, err := archive.KeptAbout(ctx, digest, after)
		if err != nil {
			return 0, false, unanswered(archive, err)
		}
		filling = filling || list.Filling
		for _, k := range list.Kept {
			b, raw, err := content(ctx, archive, k)
			if err != nil {
				return 0, false, err
			}
			e := l.entryOf(b)
			if e == nil || !slices.Contains(b.Digests(), digest) {
				hidden++
				continue
			}
			// Anybody may push a bundle that names a wrong index.
			if e.GetLogIndex() < 0 || e.GetLogIndex() >= cp.Size {
				hidden++
				continue
			}
			p, err := l.proveIn(ctx, signed, cp, e.GetLogIndex())
			if err != nil {
				return 0, false, l.logExit(err)
			}
			if !bytes.Equal(p.body, e.GetCanonicalizedBody()) {
				hidden++
				continue
			}
			if err := yield(l.gotten(k, b, raw, p)); err != nil {
				return 0, false, err
			}
		}
		if after = list.Next; after == 0 {
			return hidden, filling, nil
		}
	}
}

// unanswered is the error of an archive that did not answer: it says nothing about what was
// signed.
func unanswered(archive *api.ClientConfig, err error) error {
	e := &exitError{code: exitUndecided, msg: "archive: " + err.Error()}
	if said, ok := errors.AsType[*api.Error](err); ok {
		e.hint = said.Hint
	}
	return e
}

// content returns content of the archive, and the bundle in it, nil if there is none.
func content(ctx context.Context, archive *api.ClientConfig, k api.Kept) (b *bundle.Bundle, raw []byte, err error) {
	if raw, err = archive.Content(ctx, k); err != nil {
		return nil, nil, unanswered(archive, err)
	}
	switch k.Form {
	case api.FormBundle:
		b, err = bundle.Parse(raw)
	case api.FormCosignSignature:
		b, err = bundle.ParseCosign2Signature(raw, k.Annotations)
	case api.FormCosignAttestation:
		b, err = bundle.ParseCosign2(raw, k.Annotations)
	case api.FormEnvelope:
		b, err = bundle.ParseEnvelope(raw)
	}
	if err != nil {
		b = nil // whatever somebody pushed
	}
	return b, raw, nil
}

// isRecord reports whether body is the log entry of the signature of b.
func isRecord(b *bundle.Bundle, body []byte) bool {
	var key crypto.PublicKey
	if b.Certificate == nil {
		key = bundle.RecordKey(body)
	}
	record, err := b.Record(key)
	return err == nil && bytes.Equal(record, body)
}

// entryOf returns the entry in b of this log whose body is that of b's signature.
func (l *trustedLog) entryOf(b *bundle.Bundle) *rekorpb.TransparencyLogEntry {
	if b == nil {
		return nil
	}
	for _, e := range b.Entries {
		if hex.EncodeToString(e.GetLogId().GetKeyId()) == l.KeyID && isRecord(b, e.GetCanonicalizedBody()) {
			return e
		}
	}
	return nil
}

// gotten describes content whose entry was proven.
func (l *trustedLog) gotten(k api.Kept, b *bundle.Bundle, raw []byte, p *provenEntry) gotten {
	g := gotten{
		Log: l.URL, TrustRoot: l.Root.Pin(), Index: p.Index, Size: p.Size, Form: k.Form, Digest: k.Digest, About: b.Digests(), Annotations: k.Annotations, raw: raw,
	}
	if env := b.Proto.GetDsseEnvelope(); env != nil && json.Valid(env.GetPayload()) {
		g.Statement = env.GetPayload()
	}
	if b.Statement != nil {
		g.Type = b.Statement.PredicateType
	}
	if b.Certificate == nil {
		g.Signer = "a key"
		return g
	}
	var subject bundle.Subject
	for _, d := range g.About {
		if h, err := v1.NewHash(d); err == nil && h.Algorithm == "sha256" {
			subject.Digest = h
			break
		}
	}
	r := b.Verify(subject, l.Root.Material, time.Now())
	if err := r.Err(); err != nil {
		g.Invalid = err.Error()
	}
	g.Signer, g.Issuer = r.Identity.SubjectAlternativeName, r.Identity.Issuer
	return g
}

// gottenPrinter prints what was signed as it comes: all about a digest can be more than fits into
// memory.
type gottenPrinter struct {
	w     io.Writer
	o     logGetOptions
	one   bool // not a list
	shown int

	kept  []gotten // for a template, which needs all of them at once
	bytes int      // of kept
}

// maxKept is the limit of what a template gets, in bytes of the content.
const maxKept = 64 << 20

func (p *gottenPrinter) add(g gotten) error {
	first := p.shown == 0
	p.shown++
	switch {
	case p.o.raw:
		if !first {
			fmt.Fprintln(p.w)
		}
		_, err := p.w.Write(g.raw)
		return err
	case p.o.statement:
		if len(g.Statement) == 0 {
			return &exitError{code: exitFailure, msg: fmt.Sprintf("entry %d is of a signature without a statement: it is about %s", g.Index, strings.Join(g.About, ", "))}
		}
		_, err := fmt.Fprintf(p.w, "%s\n", bytes.TrimSpace(g.Statement))
		return err
	case p.o.text():
		if !first {
			fmt.Fprintln(p.w)
		}
		g.print(p.w, p.one)
		return nil
	case p.one:
		return p.o.print(p.w, g)
	case p.o.template != nil:
		if p.bytes += len(g.raw); p.bytes > maxKept {
			return &exitError{code: exitFailure, msg: fmt.Sprintf("--output: there is more than %d MiB, and a template gets all at once", maxKept>>20), hint: "-o json prints one after another"}
		}
		g.raw = nil
		p.kept = append(p.kept, g)
		return nil
	case p.o.format == "yaml":
		return p.o.print(p.w, []gotten{g}) // a list is made of lists
	}
	raw, err := encodeJSON([]gotten{g})
	if err != nil {
		return err
	}
	if !first {
		fmt.Fprint(p.w, ",")
	} else {
		fmt.Fprint(p.w, "[")
	}
	_, err = p.w.Write(bytes.TrimRight(bytes.TrimRight(raw, "\n")[1:], "]\n"))
	return err
}

// end ends a list.
func (p *gottenPrinter) end() error {
	switch {
	case p.shown == 0 || p.one || p.o.raw || p.o.statement || p.o.text() || p.o.format == "yaml":
		if p.o.raw && p.shown > 1 {
			fmt.Fprintln(p.w)
		}
		return nil
	case p.o.template != nil:
		return p.o.print(p.w, p.kept)
	}
	_, err := fmt.Fprint(p.w, "\n]\n")
	return err
}

// print prints what is signed, and the statement if whole is set.
func (g gotten) print(w io.Writer, whole bool) {
	line := func(name, value string) { fmt.Fprintf(w, "%-10s %s\n", name, printable.Text(value)) }
	line("entry", fmt.Sprintf("%d of %d, in %s", g.Index, g.Size, g.Log))
	line("content", fmt.Sprintf("%s, %s", g.Digest, g.Form))
	signer := g.Signer
	if g.Issuer != "" {
		signer += ", by " + g.Issuer
	}
	line("signed by", signer)
	if g.Invalid != "" {
		line("not valid", g.Invalid)
	}
	const most = 10
	for i, d := range g.About {
		if i == most {
			line("about", fmt.Sprintf("and %d more", len(g.About)-most))
			break
		}
		line("about", d)
	}
	if g.Type != "" {
		line("type", g.Type)
	}
	if !whole || len(g.Statement) == 0 {
		return
	}
	var text bytes.Buffer
	if json.Indent(&text, g.Statement, "", "  ") != nil {
		return
	}
	fmt.Fprintln(w)
	for line := range strings.Lines(text.String()) {
		fmt.Fprintln(w, printable.Text(strings.TrimSuffix(line, "\n")))
	}
}
