package main

import (
	"context"
	"encoding/json"
	"fmt"
	"os"
	"strings"
	"time"

	"github.com/sigstore/sigstore-go/pkg/fulcio/certificate"
	"github.com/spf13/cobra"
	"github.com/spf13/pflag"

	"github.com/colophon-build/colophon/attest"
	"github.com/colophon-build/colophon/internal/limits"
	"github.com/colophon-build/colophon/internal/strict"
	"github.com/colophon-build/colophon/provenance"
)

type attestOptions struct {
	signing   signingOptions
	kind      string // name or URI of the predicate type
	predicate string // file
	schema    string // file
	bundle    string
	files     bool // sign release files, with all that belongs to them
	output    output
}

// timeoutFiles is the --timeout of attest --files, unless the user gives one: that of scans of
// all archives and of a thousand signatures, of which none is written before all are made.
const timeoutFiles = 2 * time.Hour

func attestTimeout(f *pflag.FlagSet) time.Duration {
	if files, _ := f.GetBool("files"); files && !f.Changed("timeout") {
		return timeoutFiles
	}
	d, _ := f.GetDuration("timeout")
	return d
}

func newAttestCommand() *cobra.Command {
	var o attestOptions
	cmd := &cobra.Command{
		Use:   "attest IMAGE|LAYOUT|FILE|DIRECTORY… --type TYPE --predicate FILE | --files FILE…|DIRECTORY",
		Short: "sign what a document says about images or files",
		Long: `Attest signs an in-toto statement about each image or file: what the document in
--predicate says about its digest, which is computed from the bytes. The statement is
logged, timestamped and verified before it is published: attached to an image, where
cosign verify-attestation finds it, or added to FILE.intoto.jsonl beside a file. For a
DIRECTORY of release files, the statement is about the list of their digests, SHA256SUMS.

` + predicateHelp() + `
For the type provenance, there is no document: attest makes SLSA provenance v1 of the
GitHub or GitLab job that it runs in, from the certificate that the job's token gives.
It proves less than a release, because the job itself says what it built.

A URI is a type of your own; --schema checks its documents against a JSON Schema.

With --files, attest makes all that a download needs, in one step: the list of digests
(SHA256SUMS), an SBOM of each archive (FILE.spdx.json), a signature of each file and of the
list (FILE.sigstore.json) and, in a job of GitHub or GitLab, the provenance of each
(FILE.intoto.jsonl). The files are those of a DIRECTORY, or in one. Nothing is written
before all is signed, within --timeout, which includes the scans of archives. The same
command again does what is missing: "colophon verify DIRECTORY" accepts the result.

For who signs, and with which services, see "colophon sign --help". What the same
signer has attested already, word for word, is not signed again.

Exit codes: 0 signed, 2 usage error, 1 failure.`,
		Example: `  colophon attest registry.example.com/team/app:v1.2.0 --type spdx --predicate app.spdx.json
  colophon attest registry.example.com/team/app:v1.2.0 --type vuln --predicate scan.json
  colophon attest registry.example.com/team/app:v1.2.0 --type provenance      # in a job of GitHub or GitLab
  colophon attest --files dist/*
  colophon attest dist/app.tar.gz --type https://example.com/review/v1 --predicate review.json --schema review.schema.json`,
		Args: cobra.MinimumNArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			ctx, cancel := withTimeout(cmd.Context(), attestTimeout(cmd.Flags()))
			defer cancel()
			if o.files {
				return o.runFiles(ctx, cmd, args)
			}
			return o.run(ctx, cmd, args)
		},
	}
	o.signing.flags(cmd)
	f := cmd.Flags()
	f.BoolVar(&o.files, "files", false, "make checksums, signatures and provenance of release files: those of a DIRECTORY, or FILEs in one")
	f.StringVar(&o.kind, "type", "", "`TYPE` of the document: a name of the list above, or a URI")
	f.StringVar(&o.predicate, "predicate", "", "`FILE` with the document, JSON; \"-\" is standard input")
	f.StringVar(&o.schema, "schema", "", "`FILE` with a JSON Schema that the document must meet")
	f.StringVar(&o.bundle, "bundle", "", "write the statement about a file to this `FILE` (default: add it to the file beside it, with the ending .intoto.jsonl)")
	o.output.flags(cmd)
	o.output.quietFlag(cmd, "where each statement is")
	f.Duration("timeout", 5*time.Minute, "give up after this long; with --files, the default is 2h")
	cmd.MarkFlagsOneRequired("type", "files")
	for _, flag := range []string{"type", "predicate", "schema", "bundle"} {
		cmd.MarkFlagsMutuallyExclusive("files", flag)
	}
	return cmd
}

func (o *attestOptions) run(ctx context.Context, cmd *cobra.Command, args []string) error {
	ofJob := o.kind == kindOfJob
	switch {
	case ofJob && o.predicate+o.schema != "":
		return usageError("", "--type %s makes the document from the certificate: it takes no --predicate and no --schema", kindOfJob)
	case ofJob && o.signing.key != "":
		return usageError("a job's OIDC token says what it builds", "--type %s needs the certificate of a job, and --key has none", kindOfJob)
	case !ofJob && o.predicate == "":
		return usageError("", "--type %s needs --predicate FILE", o.kind)
	}
	var p *predicate
	var err error
	if !ofJob {
		if p, err = o.document(cmd); err != nil {
			return err
		}
	}
	subjects, err := openSubjects(ctx, args, ".intoto.jsonl", o.bundle)
	if err != nil {
		return err
	}
	defer closeSubjects(subjects)
	for _, s := range subjects {
		if p == nil {
			break
		}
		if err := p.about(s); err != nil {
			return usageError("", "%s: %v", o.predicate, err)
		}
	}
	s, err := startSigning(ctx, cmd, &o.signing)
	if err != nil {
		return err
	}
	if ofJob {
		if p, err = jobPredicate(s.session.Identity()); err != nil {
			return err
		}
	}
	return s.each(ctx, cmd, o.output, subjects, func(s subject) (signature, error) {
		statement, err := attest.NewStatement(s.title(), s.digest().Hex, p.uri, json.RawMessage(p.raw))
		return signature{statement, p.uri}, err
	})
}

// document returns the document that the user gave.
func (o *attestOptions) document(cmd *cobra.Command) (*predicate, error) {
	raw, err := o.read(cmd)
	if err != nil {
		return nil, err
	}
	p, err := parsePredicate(o.kind, raw)
	if err != nil {
		return nil, usageError("", "%s: %v", o.predicate, err)
	}
	if o.schema != "" {
		return p, checkSchema(o.schema, raw)
	}
	return p, nil
}

// kindOfJob is the --type that needs no document.
const kindOfJob = "provenance"

// jobPredicate returns the provenance of the job that the certificate names.
func jobPredicate(id certificate.Summary) (*predicate, error) {
	p, err := provenance.OfJob(id, os.Getenv("CI_RUNNER_ID"), os.Getenv("CI_JOB_NAME"))
	if err != nil {
		return nil, fmt.Errorf("--type %s: %w", kindOfJob, err)
	}
	raw, err := json.Marshal(p)
	return &predicate{uri: attest.PredicateSLSA1, raw: raw}, err
}

func (o *attestOptions) read(cmd *cobra.Command) (raw []byte, err error) {
	if o.predicate == stdin {
		raw, err = strict.Read(cmd.InOrStdin(), limits.Statement)
	} else {
		raw, err = strict.ReadFile(o.predicate, limits.Statement)
	}
	if err != nil {
		return nil, usageError("", "%v", err)
	}
	return raw, nil
}

// predicateHelp lists the types for the help.
func predicateHelp() string {
	var b strings.Builder
	b.WriteString("Types, and what a document of each must be:\n\n")
	for _, k := range predicateKinds() {
		b.WriteString("  " + k.name + strings.Repeat(" ", 17-len(k.name)) + k.what + "\n")
	}
	return b.String()
}
