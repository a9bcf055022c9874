package main

import (
	"bufio"
	"crypto/x509"
	"errors"
	"fmt"
	"io"
	"strings"
	"time"

	"github.com/digitorus/timestamp"
	protobundle "github.com/sigstore/protobuf-specs/gen/pb-go/bundle/v1"
	"github.com/sigstore/sigstore-go/pkg/fulcio/certificate"
	"google.golang.org/protobuf/encoding/protojson"

	"github.com/colophon-build/colophon/attest"
	"github.com/colophon-build/colophon/bundle/notation"
	"github.com/colophon-build/colophon/internal/limits"
	"github.com/colophon-build/colophon/internal/printable"
	"github.com/colophon-build/colophon/internal/strict"
	"github.com/colophon-build/colophon/oci"
	"github.com/colophon-build/colophon/sbom"
	"github.com/colophon-build/colophon/verify"
)

// inspectedProof is one attachment. Signer, issuer, log index and times come from
// the bundle and are unverified.
type inspectedProof struct {
	Digest        string      `json:"digest"`
	ArtifactType  string      `json:"artifactType,omitempty"`
	PredicateType string      `json:"predicateType,omitempty"` // of the statement in the bundle
	Size          int64       `json:"size"`                    // bytes of its layers
	Signer        string      `json:"signer,omitempty"`
	Issuer        string      `json:"issuer,omitempty"`
	LogIndex      *int64      `json:"logIndex,omitempty"`
	Times         []time.Time `json:"times,omitempty"`   // of RFC 3161 timestamps and log entries
	Claimed       string      `json:"claimed,omitempty"` // of a signature of notation: time of signing, as the signer says
	Expires       string      `json:"expires,omitempty"` // of a signature of notation: from then on the signer wants it to count no more
	Created       string      `json:"created,omitempty"` // the manifest's annotation
	Error         string      `json:"error,omitempty"`   // why it cannot be shown
	Holds         *bool       `json:"holds,omitempty"`   // whether it is valid under the trust roots on this machine; nil if verify has no rule for it
	Reason        string      `json:"reason,omitempty"`  // why it is not

	raw      []byte
	notation *notation.Signature // intact
}

// maxTimestamp limits the size of an RFC 3161 response, in bytes.
const maxTimestamp = 16 << 10

// inspectReferrer describes one referrer. raw is its Sigstore bundle, or nil.
func inspectReferrer(a *oci.Attached, raw []byte, err error) inspectedProof {
	p := inspectedProof{
		Digest: a.Descriptor.Digest.String(), ArtifactType: a.ArtifactType,
		Created: a.Annotations["org.opencontainers.image.created"], raw: raw,
	}
	for _, l := range a.Layers {
		p.Size += l.Size
	}
	if err == nil && raw != nil {
		err = p.read(raw)
	}
	if err != nil {
		p.Error = err.Error()
	}
	return p
}

// parseAnyBundle parses bundles that verify refuses, too: with entries of older
// logs, or without a certificate.
func parseAnyBundle(raw []byte) (*protobundle.Bundle, error) {
	var head struct {
		MediaType string `json:"mediaType"`
	}
	if err := strict.Unmarshal(raw, limits.Bundle, &head); err != nil {
		return nil, fmt.Errorf("bundle: %w", err)
	}
	pb := new(protobundle.Bundle)
	if err := (protojson.UnmarshalOptions{DiscardUnknown: true}).Unmarshal(raw, pb); err != nil {
		return nil, fmt.Errorf("bundle: %w", err)
	}
	return pb, nil
}

// anyStatement also accepts Statement v0.1, which verify refuses and stock cosign
// still writes.
func anyStatement(pb *protobundle.Bundle) (*attest.Statement, error) {
	env := pb.GetDsseEnvelope()
	if env == nil {
		return nil, errors.New("the bundle holds no DSSE envelope")
	}
	var s attest.Statement
	if err := strict.Unmarshal(env.GetPayload(), limits.Statement, &s); err != nil {
		return nil, fmt.Errorf("statement: %w", err)
	}
	if s.PredicateType == "" {
		return nil, fmt.Errorf("statement of type %q names no predicate type", s.Type)
	}
	return &s, nil
}

func (p *inspectedProof) read(raw []byte) error {
	pb, err := parseAnyBundle(raw)
	if err != nil {
		return err
	}
	return p.readBundle(pb)
}

func (p *inspectedProof) readBundle(pb *protobundle.Bundle) error {
	material := pb.GetVerificationMaterial()
	der := material.GetCertificate().GetRawBytes()
	if chain := material.GetX509CertificateChain().GetCertificates(); len(der) == 0 && len(chain) > 0 {
		der = chain[0].GetRawBytes()
	}
	if len(der) > 0 {
		if err := p.readCertificate(der); err != nil {
			return err
		}
	}
	for _, e := range material.GetTlogEntries() {
		index := e.GetLogIndex()
		p.LogIndex = &index
		if at := e.GetIntegratedTime(); at > 0 {
			p.Times = append(p.Times, time.Unix(at, 0).UTC())
		}
	}
	for _, s := range material.GetTimestampVerificationData().GetRfc3161Timestamps() {
		if len(s.GetSignedTimestamp()) > maxTimestamp {
			return fmt.Errorf("the timestamp has %d bytes, more than %d", len(s.GetSignedTimestamp()), maxTimestamp)
		}
		t, err := timestamp.ParseResponse(s.GetSignedTimestamp())
		if err != nil {
			return fmt.Errorf("timestamp: %w", err)
		}
		p.Times = append(p.Times, t.Time.UTC())
	}
	if pb.GetMessageSignature() != nil {
		return nil
	}
	statement, err := anyStatement(pb)
	if err != nil {
		return err
	}
	p.PredicateType = statement.PredicateType
	return nil
}

func (p *inspectedProof) readCertificate(der []byte) error {
	cert, err := x509.ParseCertificate(der)
	if err != nil {
		return fmt.Errorf("certificate: %w", err)
	}
	summary, err := certificate.SummarizeCertificate(cert)
	if err != nil {
		return fmt.Errorf("certificate: %w", err)
	}
	p.Signer, p.Issuer = summary.SubjectAlternativeName, summary.Issuer
	return nil
}

// proofKinds names common predicate types, in the order in which print shows them.
var proofKinds = []struct{ predicate, name string }{
	{attest.PredicateSign, "signature"},
	{attest.PredicateSLSA1, "provenance"},
	{attest.PredicateSLSA02, "provenance"},
	{attest.PredicateVSA, "verification summary"},
	{"https://in-toto.io/attestation/vulns/v0.1", "vulnerability scan"},
	{"https://in-toto.io/attestation/vulns/v0.2", "vulnerability scan"},
	{"https://cosign.sigstore.dev/attestation/vuln/v1", "vulnerability scan"},
	{"https://in-toto.io/attestation/test-result/v0.1", "test result"},
	{"https://in-toto.io/attestation/svr/v0.1", "verification result"},
	{"https://in-toto.io/attestation/scai/attribute-report/v0.2", "attributes (SCAI)"},
	{"https://in-toto.io/attestation/scai/v0.3", "attributes (SCAI)"},
	{"https://in-toto.io/attestation/release/v0.1", "release"},
	{"https://in-toto.io/attestation/link/v0.3", "step (link)"},
}

func (p *inspectedProof) rank() int {
	if p.ArtifactType == notation.ArtifactType {
		return 0
	}
	for i, k := range proofKinds {
		if p.PredicateType == k.predicate {
			return i
		}
	}
	if sbom.Format(p.PredicateType) != "" {
		return len(proofKinds)
	}
	return len(proofKinds) + 1
}

func (p *inspectedProof) kind() string {
	switch i := p.rank(); {
	case p.ArtifactType == notation.ArtifactType:
		return "signature of notation"
	case i < len(proofKinds):
		return proofKinds[i].name
	case sbom.Format(p.PredicateType) != "":
		return "SBOM (" + sbom.Format(p.PredicateType) + ")"
	case p.PredicateType != "":
		return "attestation"
	case p.ArtifactType == attest.SimpleSigningMediaType:
		return "signature"
	case attest.IsBundleMediaType(p.ArtifactType):
		return "bundle"
	}
	return "artifact"
}

// tree prints nodes with the lines that connect them.
type tree struct {
	w      *bufio.Writer
	prefix string
}

// node prints one line, and calls below with the tree for its children.
func (t tree) node(last bool, below func(tree), format string, args ...any) {
	branch, rest := "├─ ", "│  "
	if last {
		branch, rest = "└─ ", "   "
	}
	fmt.Fprintf(t.w, "%s%s%s\n", t.prefix, branch, printable.Text(fmt.Sprintf(format, args...)))
	if below != nil {
		below(tree{t.w, t.prefix + rest})
	}
}

func (in *inspection) print(w io.Writer) error {
	t := tree{w: bufio.NewWriter(w)}
	fmt.Fprintf(t.w, "%s\n%s\n", printable.Text(in.Image), in.Digest)
	if in.About != "" {
		t.node(false, nil, "the proofs are about the manifest %s in it", in.About)
	}
	if in.Refused != "" {
		t.node(false, nil, "verify refuses it: %s", in.Refused)
	}
	for _, c := range in.ContentTrust {
		t.node(false, nil, "%s", c.line(in.Digest))
	}
	for _, p := range in.Platforms {
		name := p.Platform
		switch {
		case name == "" && p.Artifact != "":
			name = "artifact of type " + p.Artifact
		case name == "":
			name = "image"
		}
		t.node(false, p.print, "%s  %s", name, p.Digest)
	}
	t.node(len(in.Unsigned) == 0, func(t tree) {
		for i := range in.Attached {
			p := &in.Attached[i]
			t.node(i == len(in.Attached)-1, p.print, "%s  %s", p.kind(), p.Digest)
		}
	}, "attached: %d", len(in.Attached))
	if len(in.Unsigned) > 0 {
		t.node(true, func(t tree) {
			for i, c := range in.Unsigned {
				t.node(i == len(in.Unsigned)-1, func(t tree) { printClaim(t, c) }, "%s  %s", c.Form, c.Digest)
			}
		}, "unsigned, proves nothing: %d", len(in.Unsigned))
	}
	if err := t.w.Flush(); err != nil {
		return err
	}
	printRequirements(w, "", in.Level, in.Requirements)
	return nil
}

func printClaim(t tree, c verify.Claim) {
	t.node(false, nil, "%-7s %s", "claims", c.Type)
	t.node(c.Says == "", nil, "%-7s %s", "about", c.About)
	if c.Says != "" {
		t.node(true, nil, "%-7s %s", "says", c.Says)
	}
}

func (p inspectedPlatform) print(t tree) {
	if p.Error != "" {
		word := "cannot be shown: "
		if p.Missing {
			word = "not there: "
		}
		t.node(true, nil, "%s%s", word, p.Error)
		return
	}
	t.node(len(p.Layers) == 0, nil, "config  %s  %s", p.Config.Digest, size(p.Config.Size))
	for i, l := range p.Layers {
		t.node(i == len(p.Layers)-1, nil, "layer   %s  %s", l.Digest, size(l.Size))
	}
}

func (p *inspectedProof) print(t tree) {
	var rows [][2]string
	add := func(name, value string) {
		if value != "" {
			rows = append(rows, [2]string{name, value})
		}
	}
	if p.PredicateType != "" {
		add("says", p.PredicateType)
	} else {
		add("type", p.ArtifactType)
	}
	add("signer", p.Signer)
	add("issuer", p.Issuer)
	if p.LogIndex != nil {
		add("log", fmt.Sprintf("entry %d", *p.LogIndex))
	}
	var times []string
	for _, at := range p.Times {
		times = append(times, at.Format(time.RFC3339))
	}
	add("time", strings.Join(times, ", "))
	if p.Claimed != "" {
		add("claims", "signed at "+p.Claimed)
	}
	add("expires", p.Expires)
	add("size", size(p.Size))
	add("error", p.Error)
	switch {
	case p.notation != nil:
		add("holds", "no trust root decides that: a policy must name the authority")
	case p.Holds == nil || p.Reason == p.Error && p.Error != "":
	case *p.Holds:
		add("holds", "yes, under a trust root on this machine")
	default:
		add("holds", "no: "+p.Reason)
	}
	for i, r := range rows {
		t.node(i == len(rows)-1, nil, "%-7s %s", r[0], r[1])
	}
}

// size formats a number of bytes for people; --json prints the exact number.
func size(n int64) string {
	switch {
	case n >= 1_000_000:
		return fmt.Sprintf("%.1f MB", float64(n)/1e6)
	case n >= 10_000:
		return fmt.Sprintf("%d kB", n/1000)
	}
	return fmt.Sprintf("%d B", n)
}
