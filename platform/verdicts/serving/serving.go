// Package serving decides which manifests of a registry are served and which ones get a tag: for
// the gate before another registry, and for the platform's own registry. Both get the same answer
// about the same image (package verdicts).
//
// An accepted image opens its parts for whoever asked: the manifests of an index, the config and
// the layers. Signatures, attestations and lists of them are served without a question, because
// verifiers need them (attachment.go). All else is judged as an image.
package serving

import (
	"cmp"
	"context"
	"fmt"
	"log/slog"
	"net/http"
	"strings"
	"time"

	"github.com/google/go-containerregistry/pkg/authn"
	v1 "github.com/google/go-containerregistry/pkg/v1"
	"github.com/prometheus/client_golang/prometheus"

	"github.com/colophon-build/colophon/audit"
	"github.com/colophon-build/colophon/internal/limits"
	"github.com/colophon-build/colophon/internal/printable"
	"github.com/colophon-build/colophon/internal/strict"
	"github.com/colophon-build/colophon/oci"
	"github.com/colophon-build/colophon/platform/verdicts"
	"github.com/colophon-build/colophon/policy"
	"github.com/colophon-build/colophon/verify"
)

// Patience is how long an answer about a manifest may take, the verification of the image included.
const Patience = 45 * time.Second

// Config says how a Judge decides.
type Config struct {
	Verdicts   *verdicts.Store       // required
	Names      policy.Names          // names that rules see of images that were copied here
	Audit      bool                  // decisions are recorded, and nothing is refused
	Blobs      bool                  // Blob will be asked
	Log        *slog.Logger          // gets a line for each decision; required
	Registerer prometheus.Registerer // nil: no metrics
	Now        func() time.Time      // nil: time.Now

	Recorder verdicts.Recorder // gets each decision; nil: nobody does
}

// Judge decides. It is safe for concurrent use.
type Judge struct {
	Config
	opened  opened
	reading chan struct{} // slots for attachments in memory
	images  *prometheus.CounterVec
}

// maxReading limits the attachments that are read at once; more wait.
const maxReading = 16

// New returns a Judge.
func New(c Config) *Judge {
	if c.Now == nil {
		c.Now = time.Now
	}
	j := &Judge{Config: c, reading: make(chan struct{}, maxReading), images: prometheus.NewCounterVec(prometheus.CounterOpts{Name: "colophon_gate_images_total", Help: "Images about which something was decided: accepted, rejected or undecided."}, []string{"outcome"})}
	if c.Registerer != nil {
		c.Registerer.MustRegister(j.images)
		c.Registerer.MustRegister(c.Verdicts.Collectors()...)
	}
	return j
}

// Request is about one manifest, by a client that may read or write it.
type Request struct {
	Repository string             // HOST/NAME
	Reference  string             // the tag or digest that the client named
	Logins     []authn.AuthConfig // credentials to read it with; none: anonymously
	Reader     verdicts.ReaderID  // of Logins
	Client     string             // address, for the record; "" if it is not known
	User       string             // for the record; "" if there is none
}

func (r *Request) byDigest() bool { return strings.Contains(r.Reference, ":") }

// reference returns what follows the name of the image.
func (r *Request) reference() string {
	if r.byDigest() {
		return "@" + r.Reference
	}
	return ":" + r.Reference
}

// Manifest is a manifest or an index whose bytes have the digest of the descriptor.
type Manifest struct {
	v1.Descriptor
	Raw []byte
	manifestFile
}

// manifestFile has the members of a manifest or index that say what it consists of.
type manifestFile struct {
	Config    *v1.Descriptor  `json:"config"`
	Layers    []v1.Descriptor `json:"layers"`
	Manifests []v1.Descriptor `json:"manifests"`
	Subject   *v1.Descriptor  `json:"subject"`
}

// Parse returns a manifest. It fails if two readers could understand the bytes differently.
func Parse(d v1.Descriptor, raw []byte) (*Manifest, error) {
	m := &Manifest{Descriptor: d, Raw: raw}
	return m, strict.Unmarshal(raw, limits.Manifest, &m.manifestFile)
}

// Refusal is an error that says why an image may not be served or get a tag.
type Refusal struct {
	Undecided bool // nobody knows: another try may help
	Reason    string
}

func (r *Refusal) Error() string { return r.Reason }

// Pull decides whether a manifest may be served. The error is a *Refusal, or says why the manifest
// could not be read. Warnings are for people, and refuse nothing.
func (j *Judge) Pull(ctx context.Context, r Request, src oci.Source, m *Manifest) (warnings []string, err error) {
	of := part{r.Reader, r.Repository, m.Digest, j.Verdicts.Policies()}
	if s, ok := j.opened.get(of, aManifest, j.Now()); ok && r.byDigest() {
		j.open(of, m, s.until) // no longer than what was accepted
		return nil, nil
	}
	switch attached, err := j.isAttachment(ctx, src, r.Reference, m); {
	case err != nil:
		return nil, err
	case attached && m.Manifests != nil: // a list: it opens nothing
		return nil, nil
	case attached:
		j.open(of, m, j.Now().Add(manifestOpen)) // it is not read again
		return nil, nil
	}
	a, err := j.judge(ctx, "pull", r, m)
	if err != nil {
		return nil, err
	}
	of.policies = cmp.Or(a.Policies, of.policies)
	j.open(of, m, j.Now().Add(manifestOpen))
	return a.Decision.Warnings, nil
}

// Tag decides whether a manifest that src has may get the tag r.Reference. It looks whether anything
// new is attached to the image, so that a signature counts at once. Errors and warnings are as of Pull.
func (j *Judge) Tag(ctx context.Context, r Request, src oci.Source, m *Manifest) (warnings []string, err error) {
	if attached, err := j.isAttachment(ctx, src, r.Reference, m); attached || err != nil {
		return nil, err
	}
	a, err := j.judge(ctx, "tag", r, m)
	if err != nil {
		return nil, err
	}
	return a.Decision.Warnings, nil
}

// Unjudged records that err kept Pull or Tag from deciding about a manifest, or whoever calls them: what is refused
// for that, or served all the same in audit mode, is in the audit ledger, too. It returns err. In audit mode it
// returns nil, or a *Refusal if the ledger must have the record and does not.
func (j *Judge) Unjudged(ctx context.Context, operation string, r Request, digest string, err error) error {
	a := verdicts.Answer{Decision: &verify.Decision{Outcome: verify.Undecided, Reason: err.Error()}, Policies: j.Verdicts.Policies()}
	refusal := &Refusal{Undecided: true, Reason: printable.Line(err.Error())}
	j.record(ctx, operation, r, j.named(r), digest, a, refusal, 0)
	unkept := j.keep(context.WithoutCancel(ctx), operation, r, j.named(r), digest, a, refusal) // ctx may have ended: that is why nothing was decided
	if j.Audit {
		return unkept
	}
	return err
}

// Blob returns the size of a blob that the reader may have: one of what was served to it.
func (j *Judge) Blob(reader verdicts.ReaderID, repository string, digest v1.Hash) (size int64, ok bool) {
	s, ok := j.opened.get(part{reader, repository, digest, j.Verdicts.Policies()}, aBlob, j.Now())
	return s.size, ok
}

// judge asks the policies about an image. In audit mode it refuses nothing.
func (j *Judge) judge(ctx context.Context, operation string, r Request, m *Manifest) (a verdicts.Answer, err error) {
	start := j.Now()
	image, err := j.Names.Image(r.Repository + r.reference())
	named := j.named(r)
	image.Digest = m.Digest.String()
	switch {
	case err != nil:
		a.Decision = &verify.Decision{Outcome: verify.Rejected, Reason: "no policy can name it: " + err.Error()}
	case m.Digest.Algorithm != "sha256": // by another digest, it would not be what its proofs are about, or what somebody distrusts
		a.Decision = &verify.Decision{Outcome: verify.Rejected, Reason: "images are judged by their sha256 alone, this is " + image.Digest}
	default:
		a = j.Verdicts.Ask(ctx, verdicts.Question{Image: image, Repository: r.Repository, Logins: r.Logins, News: operation == "tag"})
	}
	var refusal *Refusal
	switch d := a.Decision; d.Outcome {
	case verify.Accepted:
	case verify.Rejected:
		refusal = &Refusal{Reason: fmt.Sprintf("image %s: %s", named, printable.Line(d.Reason))}
	default:
		refusal = &Refusal{Undecided: true, Reason: "image " + named + ": nobody knows whether it may run: " + printable.Line(d.Reason)}
	}
	j.record(ctx, operation, r, named, image.Digest, a, refusal, j.Now().Sub(start))
	if err := j.keep(ctx, operation, r, named, image.Digest, a, refusal); err != nil {
		return a, err
	}
	if refusal != nil && !j.Audit {
		return a, refusal
	}
	return a, nil
}

// keep brings a decision to the audit ledger. The error is a *Refusal: the decision must not take effect.
func (j *Judge) keep(ctx context.Context, operation string, r Request, named, digest string, a verdicts.Answer, refusal *Refusal) error {
	if j.Recorder == nil {
		return nil
	}
	kind := audit.KindGate
	if operation == "tag" {
		kind = audit.KindTag
	}
	rec := j.Verdicts.Record(kind, a)
	rec.Effect = audit.Allowed
	if refusal != nil && !j.Audit {
		rec.Effect = audit.Refused
	}
	if refusal != nil {
		rec.Reason = audit.Shown(printable.Cut(printable.Line(refusal.Reason), maxText-8))
	}
	rec.By.User, rec.About.Image = audit.Shown(printable.Cut(printable.Line(r.User), maxText-8)), audit.Shown(printable.Cut(printable.Line(named), maxText-8))
	if h, err := v1.NewHash(digest); err == nil && h.Algorithm == "sha256" {
		rec.About.Digest = digest // what the client asked for; the proofs may be about a manifest in it
	}
	if err := j.Recorder.Record(ctx, rec); err != nil && rec.Effect == audit.Allowed {
		return &Refusal{Undecided: true, Reason: "image " + named + ": " + printable.Line(err.Error())}
	}
	return nil
}

// named returns what policies call the image of a request, for people.
func (j *Judge) named(r Request) string {
	image, _ := j.Names.Image(r.Repository + r.reference()) // without a name, it is called what the client called it
	return cmp.Or(image.Name, r.Repository) + r.reference()
}

// open opens the image itself and its parts for whoever got the manifest: clients ask for them by
// digest alone. The manifests are open until then, the blobs for the time of a download longer.
func (j *Judge) open(of part, m *Manifest, then time.Time) {
	of.digest = m.Digest
	j.opened.add(of, aManifest, m.Size, then)
	for _, child := range m.Manifests {
		of.digest = child.Digest
		j.opened.add(of, aManifest, child.Size, then)
	}
	j.openBlobs(of, m, then.Add(blobOpen-manifestOpen))
}

func (j *Judge) openBlobs(of part, m *Manifest, until time.Time) {
	if !j.Blobs {
		return
	}
	blobs := m.Layers
	if m.Config != nil {
		blobs = append([]v1.Descriptor{*m.Config}, blobs...)
	}
	for _, b := range blobs {
		of.digest = b.Digest
		j.opened.add(of, aBlob, b.Size, until)
	}
}

// maxText limits the texts of a record, in bytes.
const maxText = 4 << 10

// record writes one line about one decision, as admission does: who, what, which digest, commit and
// rule, when and how long it took.
func (j *Judge) record(ctx context.Context, operation string, r Request, named, digest string, a verdicts.Answer, refusal *Refusal, took time.Duration) {
	j.images.WithLabelValues(a.Decision.Outcome.String()).Inc()
	attrs := []slog.Attr{
		slog.String("operation", operation), slog.Bool("admitted", refusal == nil || j.Audit),
		slog.String("image", printable.Line(named)), slog.String("asked", digest), slog.Duration("took", took),
	}
	if r.Client != "" {
		attrs = append(attrs, slog.String("client", r.Client))
	}
	if r.User != "" {
		attrs = append(attrs, slog.String("user", printable.Cut(printable.Line(r.User), maxText)))
	}
	if j.Audit {
		attrs = append(attrs, slog.Bool("dryRun", true))
	}
	if refusal != nil {
		attrs = append(attrs, slog.String("reason", printable.Cut(refusal.Reason, maxText)))
	}
	j.Log.LogAttrs(ctx, slog.LevelInfo, "decision", append(attrs, a.Attrs()...)...)
}

// maxWarnings limits the warnings of an answer, in bytes: a proxy may refuse long headers.
const maxWarnings = 2 << 10

// Warn adds the warnings to an answer, as the distribution spec 1.1 has them ("Warnings"): clients
// show them to people.
func Warn(h http.Header, warnings []string) {
	left := maxWarnings
	for _, w := range warnings {
		text := strings.Map(func(r rune) rune {
			if r < ' ' || r > '~' || r == '"' || r == '\\' {
				return '\''
			}
			return r
		}, w)
		if left -= len(text); left < 0 {
			return
		}
		h.Add("Warning", `299 - "`+text+`"`)
	}
}
