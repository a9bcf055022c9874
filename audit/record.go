// Package audit reads, signs and writes the records of an audit ledger (spec/audit/v1): what
// was decided about which image, by whom, on which basis, and what administrators changed.
//
// A Record says what happened. Who decided signs it (Signer.Seal): the result is an Entry, an
// envelope and the openings of what the envelope only commits to. The ledger adds the time at
// which it received the envelope: that is a Leaf, an entry of a log with tiles (package tlog).
// Writers says whose signatures count, and follows from the leaves themselves.
//
// The package has no I/O.
package audit

import (
	"encoding/hex"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/colophon-build/colophon/internal/strict"
)

// Kind says what a record is about.
type Kind string

// Kinds of verdicts: somebody asked whether an image is acceptable, and acted on the answer.
const (
	KindRelease   Kind = "release"   // a release verified itself, before its tags
	KindGate      Kind = "gate"      // a gate served an image, or did not
	KindTag       Kind = "tag"       // the platform's registry set a tag, or did not
	KindAdmission Kind = "admission" // a cluster admitted an object, or did not
	KindRunning   Kind = "running"   // an image of running pods was verified again
	KindRebuild   Kind = "rebuild"   // a rebuilder compared an image with its own
	KindVerify    Kind = "verify"    // somebody ran verify and recorded the verdict
)

// Kinds of administrative acts.
const (
	KindPolicy    Kind = "policy"        // other policies count
	KindTrust     Kind = "trust"         // other trust roots count
	KindDistrust  Kind = "distrust"      // something is distrusted
	KindLift      Kind = "lift"          // something is distrusted no longer
	KindUser      Kind = "user"          // an account, token or role of a person changed
	KindConfig    Kind = "configuration" // another configuration of a platform counts
	KindEnrolment Kind = "enrolment"     // a role of a platform may run on another host
	KindWriter    Kind = "writer"        // whose signatures count in this ledger
	KindEvict     Kind = "evict"         // running pods were evicted
	KindGlass     Kind = "glass"         // somebody broke the glass: an object was admitted without a verdict
	KindBackup    Kind = "backup"        // a backup was made or restored
	KindRetention Kind = "retention"     // the leaves of old segments were deleted
	KindErasure   Kind = "erasure"       // openings were erased
	KindCase      Kind = "case"          // a case file was signed
)

var (
	verdicts = []Kind{KindRelease, KindGate, KindTag, KindAdmission, KindRunning, KindRebuild, KindVerify}
	acts     = []Kind{KindPolicy, KindTrust, KindDistrust, KindLift, KindUser, KindConfig, KindEnrolment, KindWriter, KindEvict, KindGlass, KindBackup, KindRetention, KindErasure, KindCase}
)

// Kinds returns all kinds, verdicts first.
func Kinds() []Kind { return slices.Concat(verdicts, acts) }

// Verdict reports whether records of this kind are verdicts. The others are administrative acts.
func (k Kind) Verdict() bool { return slices.Contains(verdicts, k) }

// Outcomes of verdicts, and of acts.
const (
	Accepted  = "accepted"
	Rejected  = "rejected"
	Undecided = "undecided"
	Done      = "done"
	Failed    = "failed"
)

// What followed from a verdict.
const (
	Allowed = "allowed" // the image was served, tagged, admitted
	Refused = "refused"
	Nothing = "none" // nobody waited for the verdict: it only says what is
)

// Outcomes returns all outcomes, those of verdicts first.
func Outcomes() []string { return []string{Accepted, Rejected, Undecided, Done, Failed} }

// Record is one decision or one administrative act.
type Record struct {
	Time      time.Time  `json:"time"` // when it was decided, UTC, by the clock of who decided
	Kind      Kind       `json:"kind"`
	By        By         `json:"by"`
	About     About      `json:"about,omitzero"`
	Where     Where      `json:"where,omitzero"`
	Basis     Basis      `json:"basis,omitzero"`
	Outcome   string     `json:"outcome"`            // accepted, rejected or undecided for a verdict; done or failed for an act
	Effect    string     `json:"effect,omitempty"`   // of a verdict: allowed, refused or none
	Rules     []Rule     `json:"rules,omitempty"`    // what each rule that is about the image decided
	Links     []Link     `json:"links,omitempty"`    // what was checked of the image, in order
	Reason    Field      `json:"reason,omitzero"`    // for people, one line
	Evidence  []string   `json:"evidence,omitempty"` // sha256:HEX of the proofs that the verdict rests on
	Entries   []Range    `json:"entries,omitempty"`  // of the ledger: what retention or erasure took away
	Writer    *Writer    `json:"writer,omitempty"`   // of the kind writer only
	Statement *Statement `json:"statement,omitempty"`
}

// By says who decided. The signature of the envelope proves the role and the instance.
type By struct {
	Role     string `json:"role"`               // such as admission, gate, attestor, registry, audit
	Instance string `json:"instance,omitempty"` // which one of the role, such as a cluster or a host
	Run      string `json:"run"`                // of the process that decided: 32 hex digits, random
	Number   int64  `json:"number"`             // of the record in the run, from 1: a number that is missing is a record that is missing
	User     Field  `json:"user,omitzero"`      // the person or account for whom it was decided, or who did it
}

// About says what was decided about. Empty members are not known, or mean nothing.
type About struct {
	Image   Field  `json:"image,omitzero"`    // as policies name it: HOST/NAME:TAG
	Digest  string `json:"digest,omitempty"`  // sha256:HEX
	Source  string `json:"source,omitempty"`  // URI of the repository that the image was built from
	Commit  string `json:"commit,omitempty"`  // 40 or 64 hex digits
	Ref     string `json:"ref,omitempty"`     // refs/tags/v1.2.0
	Builder string `json:"builder,omitempty"` // URI
	Level   int    `json:"level,omitempty"`   // SLSA Build level, 0 to 3
}

// Where says where the image runs, or would have run. Of an act, Kind and Name say what changed: token and
// the name of its file, role and its name.
type Where struct {
	Cluster   string `json:"cluster,omitempty"`
	Namespace Field  `json:"namespace,omitzero"`
	Kind      string `json:"kind,omitempty"` // Pod, Deployment
	Name      Field  `json:"name,omitzero"`
	UID       string `json:"uid,omitempty"` // that the cluster gave the object
}

// Basis says which documents counted.
type Basis struct {
	Policy   string `json:"policy,omitempty"`   // sha256:HEX of the policies
	Trust    string `json:"trust,omitempty"`    // sha256:HEX of the trust roots
	Distrust string `json:"distrust,omitempty"` // sha256:HEX of the distrust list
	Before   string `json:"before,omitempty"`   // of an act that replaces one of them: sha256:HEX of what counted before
}

// Rule is what one rule of a policy decided.
type Rule struct {
	Policy  string `json:"policy"` // its name
	Rule    string `json:"rule"`
	Outcome string `json:"outcome"`
}

// Link is one link of the chain from image to commit that was checked.
type Link struct {
	Name  string `json:"name"`  // image, signature, log, provenance, source, sbom …
	State string `json:"state"` // as in spec/verdict
}

// Range is the entries from From (from 0) to before To.
type Range struct {
	From int64 `json:"from"`
	To   int64 `json:"to"`
}

// Writer says that signatures by a key count from the next entry on, or no longer.
type Writer struct {
	Role     string `json:"role"`               // whose records the key signs
	Instance string `json:"instance,omitempty"` // empty: of every instance
	Key      []byte `json:"key"`                // SubjectPublicKeyInfo, DER: Ed25519, or ECDSA P-256
	Revoked  bool   `json:"revoked,omitempty"`  // signatures by the key count no longer
}

// Statement is a document that an act is about, such as a statement of distrust.
type Statement struct {
	MediaType string `json:"mediaType"`
	Data      []byte `json:"data"` // at most MaxStatement bytes
}

// Field is a value, or a commitment to one (Hide). The zero Field is empty.
type Field struct {
	Value  string `json:"value,omitempty"`
	Hidden string `json:"sha256,omitempty"` // 64 hex digits: SHA-256(salt ‖ value), see Opening
}

// Shown returns a Field that says its value.
func Shown(value string) Field { return Field{Value: value} }

// Limits of a record. All sizes are bytes.
const (
	MaxPayload   = 47 << 10 // the JSON of a record; a log with tiles has no larger entries than 64 KiB
	MaxStatement = 24 << 10
	MaxText      = 4 << 10 // a string
	MaxItems     = 256     // of a list
)

// MediaType is the payloadType of an envelope.
const MediaType = "application/vnd.colophon.audit.v1+json"

// ParseRecord reads the JSON of a record. Unknown members and kinds are errors.
func ParseRecord(payload []byte) (*Record, error) {
	var r Record
	if err := strict.UnmarshalKnown(payload, MaxPayload, &r); err != nil {
		return nil, fmt.Errorf("audit record: %w", err)
	}
	if err := r.Check(); err != nil {
		return nil, fmt.Errorf("audit record: %w", err)
	}
	return &r, nil
}

// Check fails if the record is not one of spec/audit/v1.
func (r *Record) Check() error {
	switch {
	case r.Time.IsZero(), r.Time.Location() != time.UTC, r.Time.Year() < 2000, r.Time.Year() > 9999:
		return fmt.Errorf("time: expected a time in UTC, found %s", r.Time.Format(time.RFC3339Nano))
	case !slices.Contains(Kinds(), r.Kind):
		return fmt.Errorf("kind: there is no kind %q", r.Kind)
	case r.By.Role == "":
		return errors.New("by.role is missing")
	case !isHex(r.By.Run, 32):
		return fmt.Errorf("by.run: expected 32 hex digits, found %q", r.By.Run)
	case r.By.Number < 1 || r.By.Number > 1<<53:
		return fmt.Errorf("by.number: expected a number from 1, found %d", r.By.Number)
	case r.About.Level < 0 || r.About.Level > 3:
		return fmt.Errorf("about.level: expected 0 to 3, found %d", r.About.Level)
	case r.About.Commit != "" && !isHex(r.About.Commit, 40) && !isHex(r.About.Commit, 64):
		return fmt.Errorf("about.commit: expected 40 or 64 hex digits, found %q", r.About.Commit)
	}
	return errors.Join(r.checkOutcome(), r.checkDigests(), r.checkParts(), r.checkTexts())
}

func (r *Record) checkOutcome() error {
	outcomes, effects := []string{Done, Failed}, []string{""}
	if r.Kind.Verdict() {
		outcomes, effects = []string{Accepted, Rejected, Undecided}, []string{Allowed, Refused, Nothing}
	}
	if !slices.Contains(outcomes, r.Outcome) {
		return fmt.Errorf("outcome of a record of kind %s: expected %s, found %q", r.Kind, strings.Join(outcomes, ", "), r.Outcome)
	}
	if !slices.Contains(effects, r.Effect) {
		return fmt.Errorf("effect of a record of kind %s: expected %q, found %q", r.Kind, effects, r.Effect)
	}
	return nil
}

func (r *Record) checkDigests() error {
	digests := map[string]string{"about.digest": r.About.Digest, "basis.policy": r.Basis.Policy, "basis.trust": r.Basis.Trust, "basis.distrust": r.Basis.Distrust, "basis.before": r.Basis.Before}
	for name, d := range digests {
		if d != "" && !isDigest(d) {
			return fmt.Errorf("%s: expected sha256:HEX, found %q", name, d)
		}
	}
	for _, d := range r.Evidence {
		if !isDigest(d) {
			return fmt.Errorf("evidence: expected sha256:HEX, found %q", d)
		}
	}
	return nil
}

// checkParts checks the parts that only some kinds have, and how many there are.
func (r *Record) checkParts() error {
	for name, n := range map[string]int{"rules": len(r.Rules), "links": len(r.Links), "evidence": len(r.Evidence), "entries": len(r.Entries)} {
		if n > MaxItems {
			return fmt.Errorf("%s: expected at most %d, found %d", name, MaxItems, n)
		}
	}
	if (r.Writer != nil) != (r.Kind == KindWriter) {
		return errors.New("writer: a record of the kind writer has it, and no other")
	}
	if r.Writer != nil && r.Writer.Role == "" {
		return errors.New("writer.role is missing")
	}
	if takes := r.Kind == KindRetention || r.Kind == KindErasure; takes != (len(r.Entries) > 0) {
		return errors.New("entries: records of the kinds retention and erasure have them, and no others")
	}
	for _, e := range r.Entries {
		if e.From < 0 || e.To <= e.From {
			return fmt.Errorf("entries: expected a range, found %d to %d", e.From, e.To)
		}
	}
	if s := r.Statement; s != nil && (s.MediaType == "" || len(s.Data) == 0 || len(s.Data) > MaxStatement) {
		return fmt.Errorf("statement: expected a media type and 1 to %d bytes, found %q and %d bytes", MaxStatement, s.MediaType, len(s.Data))
	}
	return nil
}

func (r *Record) checkTexts() error {
	texts := []string{r.By.Role, r.By.Instance, r.About.Source, r.About.Ref, r.About.Builder, r.Where.Cluster, r.Where.Kind, r.Where.UID}
	for _, x := range r.Rules {
		texts = append(texts, x.Policy, x.Rule, x.Outcome)
	}
	for _, x := range r.Links {
		texts = append(texts, x.Name, x.State)
	}
	if r.Writer != nil {
		texts = append(texts, r.Writer.Role, r.Writer.Instance)
	}
	if r.Statement != nil {
		texts = append(texts, r.Statement.MediaType)
	}
	for name, f := range r.fields() {
		if f.Value != "" && f.Hidden != "" {
			return fmt.Errorf("%s has both a value and a commitment", name)
		}
		if f.Hidden != "" && !isHex(f.Hidden, 64) {
			return fmt.Errorf("%s: expected 64 hex digits, found %q", name, f.Hidden)
		}
		texts = append(texts, f.Value)
	}
	for _, text := range texts {
		if len(text) > MaxText {
			return fmt.Errorf("expected texts of at most %d bytes, found one of %d", MaxText, len(text))
		}
	}
	return nil
}

func isDigest(s string) bool {
	digits, ok := strings.CutPrefix(s, "sha256:")
	return ok && isHex(digits, 64)
}

// isHex reports whether s is n lower-case hex digits.
func isHex(s string, n int) bool {
	_, err := hex.DecodeString(s)
	return err == nil && len(s) == n && s == strings.ToLower(s)
}
