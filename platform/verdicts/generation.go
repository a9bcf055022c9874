package verdicts

import (
	"crypto/sha256"
	"errors"
	"fmt"
	"slices"
	"strings"
	"sync"

	"github.com/colophon-build/colophon/policy"
	"github.com/colophon-build/colophon/trust"
	"github.com/colophon-build/colophon/verify"
	"github.com/colophon-build/colophon/verify/cluster"
)

// maxAsks limits the images of which a generation remembers what to ask about them.
const maxAsks = 20_000

// generation is the policies and trust roots that count at one time. It never changes, but for
// what it remembers.
type generation struct {
	id       string
	sets     []*policy.Set
	roots    []*trust.Root
	others   *cluster.Policies // ClusterImagePolicies; nil: none are read
	trustKey [sha256.Size]byte
	trustAge [sha256.Size]byte // of the times at which the roots were refreshed

	namespaces map[string][]*policy.Set // the sets that count in each namespace with sets of its own
	cluster    []*policy.Set            // in all others

	mu   sync.Mutex
	asks map[askOf]*ask // at most maxAsks
}

type askOf struct {
	namespace string // empty: one without sets of its own
	image     policy.Image
	lists     bool // there are lists of what is no longer trusted
}

// ask is what must be known about an image to decide about it.
type ask struct {
	verify.Ask
	id     uint64            // the same for equal ones
	others *cluster.Policies // that ask the queries: those of the generation, or earlier ones that say the same
	key    [sha256.Size]byte // of others, for the image
}

// fields are those of an Ask. If it gets another one, this does not compile: equal must compare it.
// The key of the policies that ask them stands for the queries.
type fields struct {
	Policies   []policy.Policy
	Predicates []string
	Packages   bool
	Distrust   bool
	Inputs     bool `json:",omitempty"`
	Queries    []verify.Query
}

func equal(a, b fields) bool {
	return a.Packages == b.Packages && a.Distrust == b.Distrust && a.Inputs == b.Inputs && slices.Equal(a.Predicates, b.Predicates) && slices.EqualFunc(a.Policies, b.Policies, policy.Policy.Equal)
}

// maxDistinct limits the asks that are remembered to find equal ones.
const maxDistinct = 4096

// distinct gives equal asks one id, also those of other generations: a policy that is about other
// images changes nothing about this one.
type distinct struct {
	mu   sync.Mutex
	all  []*ask
	last uint64
}

func (d *distinct) intern(a verify.Ask, others *cluster.Policies, key [sha256.Size]byte) *ask {
	d.mu.Lock()
	defer d.mu.Unlock()
	for _, other := range d.all {
		if other.key == key && equal(fields(other.Ask), fields(a)) {
			return other
		}
	}
	if len(d.all) >= maxDistinct {
		d.all = nil // ids do not come back
	}
	d.last++
	out := &ask{a, d.last, others, key}
	d.all = append(d.all, out)
	return out
}

func newGeneration(id string, sets []*policy.Set, roots []*trust.Root, others *cluster.Policies) (*generation, error) {
	if len(sets) == 0 && !others.Any() {
		return nil, errors.New("there is no policy")
	}
	g := &generation{id: id, sets: sets, roots: roots, others: others, namespaces: map[string][]*policy.Set{}, asks: map[askOf]*ask{}}
	for _, s := range sets {
		if err := s.Check(); err != nil {
			return nil, fmt.Errorf("policy %q: %w", s.Name, err)
		}
		if s.Namespaced && s.Namespace != "" && g.namespaces[s.Namespace] == nil {
			g.namespaces[s.Namespace] = policy.InNamespace(sets, s.Namespace)
		}
	}
	g.cluster = slices.DeleteFunc(slices.Clone(sets), func(s *policy.Set) bool { return s.Namespaced && s.Namespace != "" })
	// The times of a root are not part of it: an entry ends when a root does (entry.until), and
	// what depends on the age of roots is decided when somebody asks.
	h := sha256.New()
	for _, r := range roots {
		fmt.Fprintf(h, "%q %q\n", r.Fingerprint, strings.Join(r.Issuers(), " "))
	}
	h.Sum(g.trustKey[:0])
	for _, r := range roots {
		if r.Repository != nil {
			fmt.Fprintf(h, "%s %s\n", r.Repository.Refreshed, r.Expires)
		}
	}
	h.Sum(g.trustAge[:0])
	return g, nil
}

// in returns the sets that count in a namespace.
func (g *generation) in(namespace string) []*policy.Set {
	if sets, ok := g.namespaces[namespace]; ok {
		return sets
	}
	return g.cluster
}

// ask returns what must be known about an image.
func (g *generation) ask(d *distinct, namespace string, sets []*policy.Set, image policy.Image, lists bool) *ask {
	of := askOf{image: image, lists: lists}
	if _, own := g.namespaces[namespace]; own {
		of.namespace = namespace
	}
	g.mu.Lock()
	a, ok := g.asks[of]
	g.mu.Unlock()
	if ok {
		return a
	}
	asked := verify.AskFor(sets, image)
	asked.Distrust = asked.Distrust || lists
	asked.Queries = g.others.Queries(image)
	a = d.intern(asked, g.others, g.others.Key(image))
	g.mu.Lock()
	defer g.mu.Unlock()
	if len(g.asks) >= maxAsks {
		clear(g.asks)
	}
	g.asks[of] = a
	return a
}
