package main

import (
	"bytes"
	"cmp"
	"context"
	"fmt"
	"time"

	"github.com/spf13/cobra"

	"github.com/colophon-build/colophon/attest"
	"github.com/colophon-build/colophon/bundle"
	"github.com/colophon-build/colophon/internal/printable"
	"github.com/colophon-build/colophon/sign"
)

type signOptions struct {
	signing signingOptions
	bundle  string
	public  bool // print the public key, and sign nothing
	output  output
	timeout time.Duration
}

func newSignCommand() *cobra.Command {
	var o signOptions
	cmd := &cobra.Command{
		Use:   "sign IMAGE|LAYOUT|FILE|DIRECTORY…",
		Short: "sign images or files with a CI token or a key",
		Long: `Sign signs the digest of each image or file, which it computes from the bytes. The
signature is logged, timestamped and verified before it is published: attached to an
image, where cosign verify finds it, or written beside a file (FILE.sigstore.json, for
cosign verify-blob --bundle). In a DIRECTORY of release files, it signs the list of their
digests, SHA256SUMS, which it makes if there is none.

Whoever signs is named by an OIDC token or a key. Without a flag, the token is that of
the CI system or machine that the command runs on. The services that certify, log and
timestamp are those of the platform that release uses, or of --signing-config.

What the same signer has signed already is not signed again, so that a failed job can
be repeated. A signature says nothing about how an image was built: see
"colophon release" and "colophon attest".

Exit codes: 0 signed, 2 usage error, 1 failure.`,
		Example: `  colophon sign registry.example.com/team/app:v1.2.0
  colophon sign dist/ --key release.key
  colophon sign registry.example.com/team/app@sha256:… --identity-token-from github
  colophon sign registry.example.com/team/app:v1.2.0 --key awskms:///alias/release
  colophon sign --public-key --key awskms:///alias/release > release.pub`,
		Args: func(cmd *cobra.Command, args []string) error {
			if o.public {
				return cobra.NoArgs(cmd, args)
			}
			return cobra.MinimumNArgs(1)(cmd, args)
		},
		RunE: func(cmd *cobra.Command, args []string) error {
			ctx, cancel := withTimeout(cmd.Context(), o.timeout)
			defer cancel()
			if o.public {
				return o.signing.printPublicKey(ctx, cmd)
			}
			return o.run(ctx, cmd, args)
		},
	}
	o.signing.flags(cmd)
	f := cmd.Flags()
	f.StringVar(&o.bundle, "bundle", "", "write the signature of a file to this `FILE` (default: beside it, with the ending .sigstore.json)")
	f.BoolVar(&o.public, "public-key", false, "print the public key of --key (PEM) for those who verify, and sign nothing")
	o.output.flags(cmd)
	o.output.quietFlag(cmd, "where each signature is")
	f.DurationVar(&o.timeout, "timeout", 5*time.Minute, "give up after this long")
	return cmd
}

func (o *signOptions) run(ctx context.Context, cmd *cobra.Command, args []string) error {
	subjects, err := openSubjects(ctx, args, ".sigstore.json", o.bundle)
	if err != nil {
		return err
	}
	defer closeSubjects(subjects)
	return o.sign(ctx, cmd, subjects)
}

func (o *signOptions) sign(ctx context.Context, cmd *cobra.Command, subjects []subject) error {
	p, err := startSigning(ctx, cmd, &o.signing)
	if err != nil {
		return err
	}
	return p.each(ctx, cmd, o.output, subjects, func(s subject) (signature, error) {
		if _, isFile := s.(*signedFile); isFile {
			return signature{}, nil
		}
		// The statement of cosign v3. Without a name, it is the same after a copy.
		statement, err := attest.NewStatement("", s.digest().Hex, attest.PredicateSign, struct{}{})
		return signature{statement, attest.PredicateSign}, err
	})
}

// signature is what to sign about a subject: a statement, or if that is nil, its bytes.
type signature struct {
	statement     []byte
	predicateType string
}

// signed is the answer for one subject.
type signed struct {
	Subject  string `json:"subject"` // as the user named it, with the digest of an image
	Digest   string `json:"digest"`  // sha256:HEX
	Type     string `json:"predicateType,omitempty"`
	Bundle   string `json:"bundle"`             // file, or REPOSITORY@DIGEST of what is attached
	Identity string `json:"identity,omitempty"` // of the signer's certificate
	Issuer   string `json:"issuer,omitempty"`
	Key      string `json:"key,omitempty"` // sha256:HEX of the signer's public key (DER of its SubjectPublicKeyInfo)
	LogIndex int64  `json:"logIndex"`
	Already  bool   `json:"already"` // it was there, and nothing was signed
}

// signing signs subjects with one session.
type signing struct {
	services *services
	session  *sign.Session
	done     []signed
}

func startSigning(ctx context.Context, cmd *cobra.Command, o *signingOptions) (*signing, error) {
	w := cmd.ErrOrStderr()
	services, err := o.find(ctx)
	if err != nil {
		return nil, err
	}
	open, err := o.signer(ctx, cmd.InOrStdin(), w)
	if err != nil {
		return nil, err
	}
	session, err := open(ctx, services)
	if err != nil {
		return nil, err
	}
	return &signing{services: services, session: session, done: []signed{}}, nil
}

// each signs the subjects one after another, and prints what was signed, also if that was not
// all of them.
func (p *signing) each(ctx context.Context, cmd *cobra.Command, o output, subjects []subject, work func(subject) (signature, error)) error {
	err := o.fits(p.done)
	if err != nil {
		return err
	}
	stop := waiting(cmd.ErrOrStderr(), "signing")
	for _, s := range subjects {
		var w signature
		if w, err = work(s); err == nil {
			err = p.make(ctx, s, w)
		}
		if err != nil {
			break
		}
	}
	stop()
	return cmp.Or(err, p.answer(cmd, o))
}

// make signs a subject, unless the same signer has signed the same about it already.
func (p *signing) make(ctx context.Context, s subject, work signature) error {
	a, err := p.begin(ctx, s, work)
	if err == nil && !a.Already {
		err = s.prepare(ctx)
	}
	if err == nil && !a.Already {
		var raw []byte
		if raw, err = p.fresh(ctx, s, work, &a); err == nil {
			a.Bundle, err = s.add(ctx, raw, work.predicateType)
		}
	}
	if err != nil {
		return fmt.Errorf("%s: %w", s.name(), err)
	}
	p.done = append(p.done, a)
	return nil
}

// begin returns the answer for a subject as far as it is known before it is signed. If the
// same signer has signed the same about it already, that is all of it.
func (p *signing) begin(ctx context.Context, s subject, work signature) (signed, error) {
	a := signed{Subject: s.name(), Digest: s.digest().String(), Type: work.predicateType}
	by := p.session.Signer()
	a.Identity, a.Issuer = by.Identity, by.Issuer
	if by.Key != nil {
		var err error
		if a.Key, err = digestOfKey(by.Key); err != nil {
			return a, err
		}
	}
	have, err := s.bundles(ctx)
	for _, b := range have {
		if r := p.same(b.raw, s, work); r != nil {
			a.Already, a.LogIndex, a.Bundle = true, r.Index, b.where
			break
		}
	}
	return a, err
}

// fresh returns a new bundle, which it has verified, and completes the answer for it.
func (p *signing) fresh(ctx context.Context, s subject, work signature, a *signed) ([]byte, error) {
	raw, err := p.sign(ctx, s, work)
	if err != nil {
		return nil, err
	}
	r := p.verify(raw, s)
	a.LogIndex = r.Index
	return raw, r.Err()
}

func (p *signing) sign(ctx context.Context, s subject, work signature) ([]byte, error) {
	if work.statement != nil {
		return p.session.Statement(ctx, work.statement)
	}
	content, err := s.content()
	if err != nil {
		return nil, err
	}
	defer content.Close()
	return p.session.Artifact(ctx, content)
}

// same verifies a bundle that the subject has, and returns the result if this signer would
// sign the same again.
func (p *signing) same(raw []byte, s subject, work signature) *bundle.Result {
	b, err := bundle.Parse(raw)
	if err != nil || (work.statement == nil) != (b.Statement == nil) {
		return nil
	}
	if work.statement != nil && !bytes.Equal(b.Proto.GetDsseEnvelope().GetPayload(), work.statement) {
		return nil
	}
	if r := p.verify(raw, s); r.Err() == nil {
		return r
	}
	return nil
}

// verify verifies a bundle as somebody would who knows the signer.
func (p *signing) verify(raw []byte, s subject) *bundle.Result {
	subject := bundle.Subject{Digest: s.digest()}
	content, err := s.content()
	if err != nil {
		return &bundle.Result{Signature: err}
	}
	if content != nil {
		defer content.Close()
		subject.Content = content
	}
	r, err := bundle.Artifact(raw, subject, p.session.Signer(), p.services.trusted, time.Now())
	if err != nil {
		return &bundle.Result{Signature: err}
	}
	return r
}

// answer prints what was signed.
func (p *signing) answer(cmd *cobra.Command, o output) error {
	out := cmd.OutOrStdout()
	if !o.text() && !o.quiet {
		return o.print(out, p.done)
	}
	for _, a := range p.done {
		if o.quiet {
			fmt.Fprintln(out, printable.Text(a.Bundle))
			continue
		}
		by, verb := a.Identity, "signed"
		if a.Key != "" {
			by = "key " + a.Key
		}
		if a.Already {
			verb = "signed already:"
		}
		fmt.Fprintf(out, "%s %s\n  by %s, log entry %d\n  %s\n", verb, printable.Text(a.Subject), printable.Text(by), a.LogIndex, printable.Text(a.Bundle))
	}
	return nil
}
