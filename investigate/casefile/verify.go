package casefile

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"time"

	v1 "github.com/google/go-containerregistry/pkg/v1"

	"github.com/colophon-build/colophon/bundle"
	"github.com/colophon-build/colophon/internal/limits"
	"github.com/colophon-build/colophon/investigate"
	"github.com/colophon-build/colophon/trust"
	"github.com/colophon-build/colophon/verify"
)

// Options say whom to trust about a case file.
type Options struct {
	Roots  []*trust.Root    // under which its signature and its evidence are verified
	Logs   investigate.Logs // keys of logs, of Roots
	Signer *bundle.Signer   // who must have signed; nil: it need not be signed, which is dangerous: then anybody may have made it
	Now    time.Time        // required
	By     string           // program and version of whoever checks
}

// Result is what is known about a case file.
type Result struct {
	Outcome  verify.Outcome
	Reason   string // why it is not accepted, one line for people
	Manifest string // digest of the manifest, which is signed
	Signed   *bundle.Result
	Case     *investigate.Case // nil if it could not be read
	Checked  []investigate.Checked
}

// Verify checks a case file, without a network. It is rejected if anything in it contradicts the rest,
// also if a report does not say what the case says; it is undecided if whoever checks lacks a trust
// root, or another version wrote its conclusions.
func Verify(ctx context.Context, path string, opts Options) *Result {
	out := &Result{}
	reject := func(format string, args ...any) *Result {
		out.Outcome, out.Reason = verify.Rejected, fmt.Sprintf(format, args...)
		return out
	}
	m, err := Open(path)
	if err != nil {
		return reject("%v", err)
	}
	out.Manifest = Digest(m[ManifestName])
	c, e, err := m.Case()
	if err != nil {
		return reject("%v", err)
	}
	out.Case = c
	if opts.Signer != nil {
		if err := out.verifySignature(m, opts); err != nil {
			return reject("signature: %v", err)
		}
		for _, t := range out.Signed.Times {
			if c.At.After(t.Add(bundle.ClockSkew)) {
				return reject("the case says that it was made at %s, after it was signed at %s", c.At.Format(time.RFC3339), t.Format(time.RFC3339))
			}
		}
	}
	checked, err := investigate.Recheck(ctx, c, e, opts.Roots, opts.Logs)
	out.Checked = checked
	undecided := ""
	for _, x := range checked {
		switch {
		case x.Words && c.By != opts.By:
			undecided = fmt.Sprintf("answer %s: %s; %s made it, which may word it otherwise than %s", x.ID, x.Why, c.By, opts.By)
		case x.Result == investigate.Misleading:
			return reject("answer %s: %s", x.ID, x.Why)
		case x.Result == investigate.NotDecided:
			undecided = fmt.Sprintf("answer %s: %s", x.ID, x.Why)
		}
	}
	if err == nil {
		err = m.checkReports(c)
	}
	switch {
	case err != nil && c.By == opts.By:
		return reject("%v", err)
	case err != nil:
		undecided = fmt.Sprintf("%v; %s made it, which may conclude otherwise than %s", err, c.By, opts.By)
	}
	if undecided != "" {
		out.Reason = undecided
		return out
	}
	out.Outcome = verify.Accepted
	return out
}

// verifySignature verifies the signature of the manifest under each of the roots.
func (out *Result) verifySignature(m Contents, opts Options) error {
	raw, ok := m[BundleName]
	if !ok {
		return fmt.Errorf("the case is not signed: it has no %s", BundleName)
	}
	if len(raw) > limits.Bundle {
		return fmt.Errorf("%s: more than %d bytes", BundleName, limits.Bundle)
	}
	digest, err := v1.NewHash(out.Manifest)
	if err != nil {
		return err
	}
	err = errors.New("this machine has no trust root")
	for _, r := range opts.Roots {
		signed, failed := bundle.Artifact(raw, bundle.Subject{Digest: digest, Content: bytes.NewReader(m[ManifestName])}, *opts.Signer, r.Material, opts.Now)
		if failed == nil {
			out.Signed = signed
			return nil
		}
		err = failed
	}
	return err
}

// checkReports fails unless the reports and pictures are those that the case gives.
func (m Contents) checkReports(c *investigate.Case) error {
	again := Contents{}
	if err := again.addReports(c); err != nil {
		return err
	}
	for name, data := range again {
		if !bytes.Equal(m[name], data) {
			return fmt.Errorf("%s does not say what the case says", name)
		}
	}
	return nil
}
