package investigate

import (
	"cmp"
	"context"
	"fmt"
	"slices"
	"time"

	"github.com/colophon-build/colophon/audit"
	"github.com/colophon-build/colophon/distrust"
	"github.com/colophon-build/colophon/verify"
)

// Decided is what an audit ledger recorded about the images that are concerned.
type Decided struct {
	Records []Decision `json:"records"` // the newest of each image first
	More    bool       `json:"more"`    // the ledger has older ones, which were not read
}

// Decision is a record of an audit ledger. The ledger proves that it has the record; that it has no
// others, it only says.
type Decision struct {
	Index   int64     `json:"index"` // of the entry
	Time    time.Time `json:"time"`  // by the clock of who decided
	Kind    string    `json:"kind"`
	Role    string    `json:"role"`
	Outcome string    `json:"outcome"`
	Effect  string    `json:"effect,omitempty"`
	Digest  string    `json:"digest"`
	Where   string    `json:"where,omitempty"`  // cluster, namespace, kind and name, as far as they are not hidden
	Policy  string    `json:"policy,omitempty"` // digest of the policies
}

// Ledger is an audit ledger.
type Ledger interface {
	// Name says which ledger answers.
	Name() string
	// Decisions returns the newest decisions about an image, at most limit, and whether there are
	// others. It verifies that the ledger has each. It may be called concurrently.
	Decisions(ctx context.Context, digest string, limit int) (found []Decision, more bool, err error)
}

const (
	maxDecisions = 200 // of all images
	maxDecidedOf = 20  // images that a ledger is asked about
)

// DecidedAsker asks an audit ledger what was decided about the images that are concerned.
func DecidedAsker(l Ledger) Asker {
	return func(ctx context.Context, in *Inquiry) (Reply, error) {
		digests := in.Digests()
		r := Reply{Asked: l.Name(), Query: fmt.Sprintf("%d digests", min(len(digests), maxDecidedOf))}
		if len(digests) == 0 {
			return r, NotAskedFor("no digest is known")
		}
		d := &Decided{Records: []Decision{}, More: len(digests) > maxDecidedOf}
		for _, digest := range digests[:min(len(digests), maxDecidedOf)] {
			room := maxDecisions - len(d.Records)
			if room == 0 {
				d.More = true
				break
			}
			found, more, err := l.Decisions(ctx, digest, room)
			if err != nil {
				return r, err
			}
			d.Records = append(d.Records, found...)
			d.More = d.More || more
		}
		r.Facts.Decided = d
		return r, nil
	}
}

func (d *Decided) finding() string {
	effects := map[string]int{}
	for _, r := range d.Records {
		effects[r.Effect]++
	}
	more := ""
	if d.More {
		more = "; older ones were not read"
	}
	return fmt.Sprintf("%d decisions recorded: %d allowed, %d refused%s", len(d.Records), effects[audit.Allowed], effects[audit.Refused], more)
}

// Distrusted is what lists say about the subject.
type Distrusted struct {
	Lists   []string       `json:"lists"` // names of the issuers whose lists were read
	Entries []DistrustedBy `json:"entries"`
	Problem string         `json:"problem,omitempty"` // why lists may have entries that are not here
}

// DistrustedBy is an entry of a list that counts.
type DistrustedBy struct {
	Issuer  string    `json:"issuer"` // as the machine of the investigator names it
	Number  int       `json:"number"` // of the entry
	Time    time.Time `json:"time"`
	Scope   string    `json:"scope"`
	Reason  string    `json:"reason"`
	Replace string    `json:"replace,omitempty"` // sha256:HEX of the image to use instead
}

// DistrustAsker looks for the subject in lists of what is no longer trusted. Of an image it compares
// what its proofs show, but for the packages of its SBOMs; of another subject, its name, and the digests
// that are concerned.
func DistrustAsker(read func(ctx context.Context, now time.Time) (distrust.Lists, error)) Asker {
	return func(ctx context.Context, in *Inquiry) (Reply, error) {
		r := Reply{Asked: "the lists of the issuers that this machine trusts"}
		lists, err := read(ctx, in.At)
		if err != nil {
			return r, err
		}
		if len(lists) == 0 {
			return r, NotAskedFor("this machine has no issuer of lists: colophon distrust issuer add")
		}
		facts := &distrust.Facts{Digests: in.Digests()}
		if h := in.Holding(); h != nil {
			facts = h.Distrust(in.Digests()...)
		}
		d := &Distrusted{Lists: []string{}, Entries: []DistrustedBy{}}
		for _, k := range lists {
			if k.List == nil {
				return r, fmt.Errorf("the list of %s was not read: %s", k.Issuer.Name, k.Problem)
			}
			d.Lists = append(d.Lists, k.Issuer.Name)
			if err := k.List.Counts(in.At); err != nil || k.Problem != "" {
				d.Problem = fmt.Sprintf("the list of %s is not up to date: %s", k.Issuer.Name, cmp.Or(k.Problem, fmt.Sprint(err)))
			}
			found, err := distrust.Lists{k}.Find(facts)
			if err != nil {
				return r, err
			}
			if found != nil {
				d.add(k.Issuer.Name, found.Entry)
			}
			d.named(k, in.Subject)
		}
		r.Query = fmt.Sprintf("%d lists", len(lists))
		r.Facts.Distrust = d
		return r, nil
	}
}

// named adds the entries of a list whose scope is the subject itself.
func (d *Distrusted) named(k distrust.Known, s Subject) {
	for _, e := range k.List.All() {
		if e.Scope == nil || k.List.Lifted(e.Number) != nil || k.Issuer.May(e.Scope) != nil {
			continue
		}
		kind, value := e.Scope.Of()
		if string(kind) == string(s.Kind) && value == s.Name {
			d.add(k.Issuer.Name, e)
		}
	}
}

func (d *Distrusted) add(issuer string, e *distrust.Entry) {
	one := DistrustedBy{issuer, e.Number, e.Time, e.Scope.String(), e.Reason, e.Replace}
	if !slices.Contains(d.Entries, one) {
		d.Entries = append(d.Entries, one)
	}
}

func (d *Distrusted) finding() (verify.Status, string) {
	switch {
	case len(d.Entries) == 0 && d.Problem != "":
		return verify.Unknown, d.Problem
	case len(d.Entries) == 0:
		return verify.Holds, fmt.Sprintf("%d lists say nothing about it", len(d.Lists))
	}
	e := d.Entries[0]
	text := fmt.Sprintf("%s distrusts %s since %s: %s", e.Issuer, e.Scope, stamp(e.Time), e.Reason)
	if e.Replace != "" {
		text += "; use " + e.Replace
	}
	return verify.Broken, text
}
