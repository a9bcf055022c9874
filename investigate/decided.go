package investigate

import (
	"cmp"
	"context"
	"fmt"
	"slices"
	"sync"
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
	Who     string    `json:"who,omitempty"` // instance of the role, such as a cluster or a rebuilder
	Outcome string    `json:"outcome"`
	Effect  string    `json:"effect,omitempty"`
	Digest  string    `json:"digest,omitempty"`
	Where   string    `json:"where,omitempty"`  // cluster, namespace, kind and name, as far as they are not hidden
	Policy  string    `json:"policy,omitempty"` // digest of the policies
}

// Ledger is an audit ledger.
type Ledger interface {
	// Name says which ledger answers.
	Name() string
	// Decisions returns the newest decisions that a filter matches, at most limit, and whether there are
	// others. It verifies that the ledger has each. It may be called concurrently.
	Decisions(ctx context.Context, f audit.Filter, limit int) (found []Decision, more bool, err error)
}

const (
	maxDecisions = 200 // of all questions
	maxDecidedOf = 20  // images that a ledger is asked about
)

// LedgerAskers returns the Askers that ask an audit ledger: what was decided about the subject, and what rebuilders recorded.
func LedgerAskers(l Ledger) map[ID]Asker {
	ask := func(filters func(in *Inquiry) (all []audit.Filter, what string)) Asker {
		return func(ctx context.Context, in *Inquiry) (Reply, error) {
			all, what := filters(in)
			r := Reply{Asked: l.Name(), Query: what}
			if len(all) == 0 {
				return r, NotAskedFor("no digest is known")
			}
			d := &Decided{Records: []Decision{}, More: len(all) > maxDecidedOf}
			for _, f := range all[:min(len(all), maxDecidedOf)] {
				room := maxDecisions - len(d.Records)
				if room == 0 {
					d.More = true
					break
				}
				found, more, err := l.Decisions(ctx, f, room)
				if err != nil {
					return r, err
				}
				for _, x := range found { // a commit and its images have the same decisions
					if !slices.ContainsFunc(d.Records, func(y Decision) bool { return y.Index == x.Index }) {
						d.Records = append(d.Records, x)
					}
				}
				d.More = d.More || more
			}
			r.Facts.Decided = d
			return r, nil
		}
	}
	return map[ID]Asker{
		AskDecided: ask((*Inquiry).decisions),
		AskRebuilder: ask(func(in *Inquiry) (all []audit.Filter, what string) {
			for _, d := range in.Digests() {
				all = append(all, audit.Filter{Digest: d, Kinds: []audit.Kind{audit.KindRebuild}})
			}
			return all, fmt.Sprintf("%d digests, records of rebuilds", len(all))
		}),
	}
}

// decisions returns what to ask a ledger about the subject: its commit or its builder, and the digests that are
// concerned, as a decision without provenance names neither. What the subject limits to a time is asked for of that time.
func (in *Inquiry) decisions() (all []audit.Filter, what string) {
	one := audit.Filter{}
	if s := in.Subject.Since; s != nil {
		one.From = *s
	}
	if s := in.Subject.Until; s != nil {
		one.To = *s
	}
	what = fmt.Sprintf("%d digests", min(len(in.Digests()), maxDecidedOf))
	switch named := one; in.Subject.Kind {
	case Commit:
		named.Commit = in.Subject.Name
		all, what = append(all, named), "the commit, "+what
	case Builder:
		named.Builder = in.Subject.Name
		all, what = append(all, named), "the builder, "+what
	}
	for _, d := range in.Digests() {
		one.Digest = d
		all = append(all, one)
	}
	return all, what
}

// finding says what was decided, where the image ran as clusters found, and how many pods they evicted.
func (d *Decided) finding() string {
	effects, ran, evicted, more := map[string]int{}, []string{}, 0, ""
	for _, r := range d.Records {
		switch audit.Kind(r.Kind) {
		case audit.KindRunning:
			if r.Effect == audit.Nothing && r.Where != "" && !slices.Contains(ran, r.Where) {
				ran = append(ran, r.Where)
			}
		case audit.KindEvict:
			if r.Outcome == audit.Done {
				evicted++
			}
		default:
			effects[r.Effect]++
		}
	}
	if len(ran) > 0 {
		more += "; it ran in " + names(ran)
	}
	if evicted > 0 {
		more += fmt.Sprintf("; evicted pods: %d", evicted)
	}
	if d.More {
		more += "; older ones were not read"
	}
	return fmt.Sprintf("%d decisions recorded: %d allowed, %d refused%s", len(d.Records), effects[audit.Allowed], effects[audit.Refused], more)
}

// event says for the time line what a record says.
func (d Decision) event() string {
	who, where := cmp.Or(d.Role, d.Kind), cmp.Or(d.Where, d.Kind)
	text := fmt.Sprintf("%s %s %s of %s", who, cmp.Or(d.Effect, d.Outcome), where, d.Digest)
	switch kind := audit.Kind(d.Kind); {
	case kind == audit.KindRunning && d.Effect == audit.Nothing:
		text = fmt.Sprintf("%s found that %s runs %s: %s", who, where, d.Digest, d.Outcome)
	case kind == audit.KindRunning:
		text = fmt.Sprintf("%s decided to evict %s of %s", who, where, d.Digest)
	case kind == audit.KindEvict && d.Outcome == audit.Done:
		text = fmt.Sprintf("%s evicted %s of %s", who, where, d.Digest)
	case kind == audit.KindEvict:
		text = fmt.Sprintf("%s tried to evict %s of %s: %s", who, where, d.Digest, d.Outcome)
	}
	return fmt.Sprintf("%s (ledger entry %d)", text, d.Index)
}

// rebuilt says what each rebuilder recorded, the newest record of each about each image. No verdict rests on it: whoever
// writes to the ledger may say that it is a rebuilder.
func (d *Decided) rebuilt() string {
	type rebuilder struct{ role, who string }
	type about struct {
		by     rebuilder
		digest string
	}
	by, seen, said := map[rebuilder]bool{}, map[about]bool{}, []string{}
	for _, r := range d.Records {
		who := rebuilder{r.Role, r.Who}
		if seen[about{who, r.Digest}] {
			continue
		}
		by[who], seen[about{who, r.Digest}] = true, true
		if text := cmp.Or(r.Who, r.Role) + ": " + r.Outcome; !slices.Contains(said, text) {
			said = append(said, text)
		}
	}
	if len(said) == 0 {
		return "no rebuilder recorded anything"
	}
	return fmt.Sprintf("%d rebuilders recorded what they found: %s", len(by), names(said))
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
// what its proofs show, and the packages of its SBOMs; of another subject, its name, and the digests
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
			facts.Packages = sync.OnceValues(func() (all []distrust.Listed, err error) {
				docs, err := sbomsOf(ctx, in.holding, in.Evidence)
				for _, d := range docs {
					for _, p := range d.List {
						all = append(all, distrust.Listed{Name: p.Name, Version: p.Version, PURL: p.PURL})
					}
				}
				return all, err
			})
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
