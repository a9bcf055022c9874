package verify

import (
	"encoding/json"
	"slices"
	"strings"

	"github.com/colophon-build/colophon/audit"
	"github.com/colophon-build/colophon/internal/printable"
	"github.com/colophon-build/colophon/source"
)

// Limits of a record: with them, it has 17 KiB left for what the caller adds. Sizes are bytes of JSON.
const (
	maxRecordedName  = 80       // of the name of a policy or rule, before it is JSON
	maxRecordedRules = 20 << 10 // of all rules
	maxRecordedLinks = 64       // links
	maxRecordedText  = 1 << 10  // of a text that is left out if it is longer
	maxRecordedWhy   = 4 << 10  // of the reason, which is cut
)

// Record returns the verdict as a record of an audit ledger (spec/audit/v1). The caller adds what the verdict does not
// know: who decided, about which name, where, by which documents, and what followed. Whatever the evidence says,
// the record can be signed: a text that is too long for it is missing, and a reason is cut.
func (v *Verdict) Record(kind audit.Kind) audit.Record {
	r := audit.Record{Kind: kind, Outcome: v.Outcome.String(), Evidence: v.Evidence()}
	why := v.Why()
	if d := v.Decision; d != nil {
		why = d.Reason
		size := 0
		for _, x := range d.Rules[:min(len(d.Rules), audit.MaxItems)] {
			rule := audit.Rule{Policy: printable.Cut(x.Policy, maxRecordedName), Rule: printable.Cut(x.Rule, maxRecordedName), Outcome: x.Outcome.String()}
			if size += sizeOf(rule); size > maxRecordedRules {
				break
			}
			r.Rules = append(r.Rules, rule)
		}
	}
	why = printable.Cut(printable.Line(why), maxRecordedWhy-8)
	for sizeOf(why) > maxRecordedWhy {
		why = printable.Cut(why, len(why)/2)
	}
	r.Reason = audit.Shown(why)
	for _, l := range v.Links[:min(len(v.Links), maxRecordedLinks)] {
		r.Links = append(r.Links, audit.Link{Name: l.Name, State: string(l.Status)})
	}
	if isSHA256(v.Digest) {
		r.About.Digest = v.Digest
	}
	if v.Facts != nil && v.Facts.Build != nil {
		b := v.Facts.Build
		r.About.Source, r.About.Ref, r.About.Builder, r.About.Level = recorded(b.Source), recorded(b.Ref), recorded(b.Builder), v.Level
		if source.IsCommitID(b.Commit) {
			r.About.Commit = b.Commit
		}
	}
	return r
}

// Evidence returns the digests of the manifests or layers in the image's repository that have the proofs on which
// the verdict rests: signature, provenance and SBOMs, as far as they hold. Proofs that the caller supplied have none.
func (v *Verdict) Evidence() (digests []string) {
	if v.Facts == nil {
		return nil
	}
	for _, s := range v.Facts.Signed {
		if isSHA256(s.Digest) && !slices.Contains(digests, s.Digest) {
			digests = append(digests, s.Digest)
		}
	}
	return digests
}

// recorded returns a text that a record can have, or "": one that is cut would name another thing.
func recorded(s string) string {
	if len(s) > maxRecordedText || sizeOf(s) > maxRecordedText {
		return ""
	}
	return s
}

// sizeOf returns the size of a value's JSON.
func sizeOf(v any) int {
	raw, _ := json.Marshal(v) // these types marshal
	return len(raw)
}

func isSHA256(digest string) bool {
	hex, ok := strings.CutPrefix(digest, "sha256:")
	return ok && len(hex) == 64
}
