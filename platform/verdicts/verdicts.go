// Package verdicts answers whether images may run, for whoever asks the same question many
// times: the admission webhook and the gate at the registry. It reads an image once
// (verify.Gather), keeps what the evidence says, and answers from that without a network.
//
// What is kept counts for one digest in one repository, under the policies that are about the
// image and the trust roots. It counts for those alone who showed that they may read the image,
// with their own credentials. What depends on the time (the modes of rules, exemptions, ages)
// is decided when somebody asks. An undecided answer is never kept: the next question reads the
// image again. A rejection stands until the policies, the trust roots or what is attached to
// the image change, and at most ten minutes.
package verdicts

import (
	"context"
	"crypto/hmac"
	"crypto/rand"
	"crypto/sha256"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"sync/atomic"
	"time"

	"github.com/google/go-containerregistry/pkg/authn"

	"github.com/colophon-build/colophon/distrust"
	"github.com/colophon-build/colophon/oci"
	"github.com/colophon-build/colophon/policy"
	cip "github.com/colophon-build/colophon/policy/clusterimagepolicy"
	"github.com/colophon-build/colophon/trust"
	"github.com/colophon-build/colophon/verify"
)

const (
	// An acceptance is an answer for keptFor. After freshFor, a question also starts to look, in
	// the background, whether anything new is attached to the image.
	freshFor = 10 * time.Minute
	keptFor  = 24 * time.Hour
	// What is read ahead is read again after renewFor, so that there is an answer all the time.
	renewFor = 20 * time.Hour
	// An acceptance beside which a rule is undecided, one that only watches, is fresh for partlyFor.
	partlyFor = 10 * time.Second
	// A rejection is an answer for rejectedFor. After that, the answer waits for a look at what is
	// attached to the image, and after freshFor, for the image to be read again.
	rejectedFor = time.Second

	readTimeout = 30 * time.Second // to read one image, whoever waits for it
)

// DefaultMemory is the default of Config.Memory in bytes.
const DefaultMemory = 160 << 20

// Config says how a Store reads images.
type Config struct {
	Transport http.RoundTripper // sends the requests to registries; nil: Transport(false)
	Helpers   *Helpers          // have credentials that count for everybody who asks; nil: there are none
	// Open opens a repository for whoever has the credentials; nil: the registry is asked over Transport.
	Open   func(repository string, login authn.AuthConfig) (oci.Source, error)
	Now    func() time.Time // nil: time.Now
	Memory int64            // bytes of what is kept, estimated; 0: DefaultMemory
	// Program stands for the program that decides, as Program does: what Save returns counts for no other
	// one. Empty: nothing is saved.
	Program string
}

// Store answers questions. It is safe for concurrent use.
type Store struct {
	config  Config
	current atomic.Pointer[generation] // nil until Use
	lists   atomic.Pointer[lists]      // of what is no longer trusted; nil until Distrust
	kept    memory
	asks    distinct
	reading flights[reading, *entry]
	tags    flights[tagged, string]
	memoir  *memoir
	key     [32]byte // makes the ids of readers useless outside of this process

	basis atomic.Pointer[basis] // of current; nil: not known

	reads atomic.Int64 // images that were read
	hits  atomic.Int64 // answers without a request
}

// New returns a Store that answers every question with undecided until Use.
func New(c Config) *Store {
	if c.Now == nil {
		c.Now = time.Now
	}
	if c.Memory == 0 {
		c.Memory = DefaultMemory
	}
	if c.Transport == nil {
		c.Transport = Transport(false)
	}
	if c.Open == nil {
		c.Open = func(repository string, login authn.AuthConfig) (oci.Source, error) {
			return oci.OpenRegistry(repository, oci.RegistryOptions{Keychain: Login(login), Transport: c.Transport})
		}
	}
	s := &Store{config: c, memoir: newMemoir(c.Program)}
	s.kept.most = c.Memory
	_, _ = rand.Read(s.key[:]) // never fails
	return s
}

// Use makes these policies and trust roots the ones that count, all at once. id names them in
// answers. If the policies contradict themselves, nothing changes.
func (s *Store) Use(id string, sets []*policy.Set, roots []*trust.Root) error {
	g, err := newGeneration(id, sets, roots, nil)
	if err == nil {
		s.current.Store(g)
	}
	return err
}

// lists are lists of what is no longer trusted, and what stands for their entries.
type lists struct {
	distrust.Lists
	sum    string // distrust.Lists.ID
	id     string // its beginning, as in Store.Policies
	unread bool   // nobody gets an answer until they are read
}

// ExpectDistrust makes every answer undecided until Distrust says which lists count.
func (s *Store) ExpectDistrust() { s.lists.CompareAndSwap(nil, &lists{unread: true}) }

// Distrust makes these lists of what is no longer trusted the ones that count. They count for every
// answer from then on, also about images that were read before. It reports whether they say something
// else than those before.
func (s *Store) Distrust(all distrust.Lists) (changed bool) {
	sum := all.ID()
	next := &lists{Lists: all, sum: sum, id: sum[len("sha256:"):][:16]}
	before := s.lists.Swap(next)
	return before == nil || before.id != next.id
}

// distrust returns the lists that count now.
func (s *Store) distrust() distrust.Lists {
	if l := s.lists.Load(); l != nil {
		return l.Lists
	}
	return nil
}

// Policies returns the id of what counts now, policies, trust roots and entries of lists, or "".
func (s *Store) Policies() string {
	return s.idOf(s.current.Load())
}

func (s *Store) idOf(g *generation) string {
	l := s.lists.Load()
	switch {
	case g == nil, l != nil && l.unread:
		return ""
	case l == nil:
		return g.id
	}
	return g.id + "+" + l.id
}

// Roots returns the trust roots that count now.
func (s *Store) Roots() []*trust.Root {
	if g := s.current.Load(); g != nil {
		return g.roots
	}
	return nil
}

// Question is about one image.
type Question struct {
	Image      policy.Image       // as rules see it; its digest is required
	Repository string             // HOST/NAME to read it from
	Namespace  string             // whose policies count, besides those of the whole cluster
	Workload   *cip.Workload      // what runs the image; nil: not known, and ClusterImagePolicies about some workloads only are undecided
	Logins     []authn.AuthConfig // credentials to read it with, tried in this order; none: anonymously
	News       bool               // the answer waits for a look at what is attached to the image, however fresh what is known

	// Ahead says that nobody waits for the answer: the image is read before somebody asks. What is
	// kept then displaces nothing that somebody asked for, and is read again before it expires.
	Ahead bool
}

// Answer is the answer to a Question.
type Answer struct {
	Decision *verify.Decision // undecided if nobody knows
	Policies string           // the id given to Use
	Known    bool             // answered without a request
	Read     time.Time        // when the evidence was read; zero if none was needed
}

// Stats counts what a Store did.
type Stats struct {
	Images int   // that are kept
	Bytes  int64 // their estimated size
	Reads  int64 // images that were read, since New
	Known  int64 // answers without a request, since New
}

// Stats returns the counts.
func (s *Store) Stats() Stats {
	n, bytes := s.kept.size()
	return Stats{n, bytes, s.reads.Load(), s.hits.Load()}
}

// Ask answers a question. If the image must be read, Ask waits for that until ctx ends; the
// reading goes on for others who wait, and for the next question.
func (s *Store) Ask(ctx context.Context, q Question) Answer {
	g := s.current.Load()
	if g == nil {
		return Answer{Decision: &verify.Decision{Reason: "no policy was read yet"}}
	}
	if l := s.lists.Load(); l != nil && l.unread {
		return Answer{Decision: &verify.Decision{Reason: "no list of what is no longer trusted was read yet"}}
	}
	out := Answer{Policies: s.idOf(g)}
	sets := g.in(q.Namespace)
	if d, ok := g.withoutEvidence(sets, q, s.config.Now(), s.distrust()); ok {
		s.hits.Add(1)
		out.Decision, out.Known = d, true
		return out
	}
	asked := g.ask(&s.asks, q.Namespace, sets, q.Image, len(s.distrust()) > 0)
	of := reading{entryKey{q.Repository, q.Image.Digest, asked.id, g.trustKey}, s.Reader(q.Logins), q.News}
	read := func(ctx context.Context) (*entry, error) { return s.read(ctx, of, q, g, asked) }
	if !q.News {
		s.restored(of, q, g, asked)
	}
	if e := s.kept.get(of.entryKey, q.Ahead); e != nil && !q.News {
		d := e.decide(ctx, asked, sets, q, s.config.Now(), s.distrust())
		state := e.state(d, of.reader, s.config.Now())
		if state != missing && !(q.Ahead && e.old(g, s.config.Now())) {
			s.hits.Add(1)
			out.Decision, out.Known, out.Read = d, true, e.read
			if state == aged && !q.Ahead {
				s.reading.start(of, hostOf(q.Repository), read)
			}
			return out
		}
	}
	e, err := s.reading.do(ctx, of, hostOf(q.Repository), read)
	if err != nil {
		out.Decision = g.unknown(sets, q, s.config.Now(), s.distrust(), err)
		return out
	}
	out.Decision, out.Read = e.decide(ctx, asked, sets, q, s.config.Now(), s.distrust()), e.read
	return out
}

// withoutEvidence returns the decision if it is the same whatever is known about the image:
// no rule is about it, or it is exempt. Nothing is read then, so that nobody makes us send
// requests to a registry that no policy names.
func (g *generation) withoutEvidence(sets []*policy.Set, q Question, now time.Time, lists distrust.Lists) (*verify.Decision, bool) {
	needed := g.others.About(q.Image)
	d := verify.DecideWith(sets, q.Image, now, verify.With{Others: g.others.Unknown(q.Image, q.Workload, ""), Lists: lists}, func(policy.Policy) *verify.Verdict {
		needed = true
		return &verify.Verdict{}
	})
	return d, !needed
}

// read reads an image, or finds that what is kept about it is as good as new. It shows in any
// case that the credentials of q may read the image.
func (s *Store) read(ctx context.Context, of reading, q Question, g *generation, asked *ask) (*entry, error) {
	options := verify.Options{Trust: g.roots, Pinned: true} // whoever runs the image compares its layers
	src, err := s.open(ctx, q, asked.CosignTags(options))
	if err != nil {
		// Whether they may read it is not known if the registry does not answer: then what is kept counts.
		if errors.Is(err, oci.ErrDenied) || errors.Is(err, oci.ErrNotFound) {
			s.kept.forbid(of)
		}
		return nil, fmt.Errorf("the image cannot be read with these credentials: %w", err)
	}
	if s.memoir.program != "" {
		_, _ = s.memoir.keyOf(of.reader, q.Logins) // without a key, it is not saved
	}
	now, listed := s.config.Now(), ""
	if e := s.kept.get(of.entryKey, q.Ahead); e != nil && e.counts(now) && !(q.Ahead && e.old(g, now)) {
		d := e.decide(ctx, asked, g.in(q.Namespace), q, now, s.distrust())
		if e.settled(d, now) && !q.News {
			e.allow(of.reader, now)
			return e, nil
		}
		// A clock that was behind rejects what was signed "in the future". When it is right, the rejection is old.
		old := d.Outcome == verify.Rejected && now.Sub(e.read) >= freshFor
		// Before the image is read, so that nothing is missed that is attached meanwhile.
		if listed, err = listing(ctx, src, e.subjects, asked.Queries); err == nil && d.Outcome != verify.Undecided && !old && !e.partly && e.sameListing(listed, now) {
			e.allow(of.reader, now)
			return e, nil
		}
	}
	s.reads.Add(1)
	s.memoir.forget(q.Repository, q.Image.Digest)
	ev := verify.Gather(ctx, src, q.Image.Digest, now, options, asked.Ask)
	e := newEntry(ev, asked, g, q, now)
	e.listing = listed
	e.allow(of.reader, now)
	if e.decide(ctx, asked, g.in(q.Namespace), q, now, s.distrust()).Outcome != verify.Undecided {
		s.kept.put(of.entryKey, e, q.Ahead)
	} else if !q.Ahead { // what counts still does
		s.kept.drop(of.entryKey)
	}
	return e, nil
}

// ReaderID stands for the credentials of whoever asks. The zero value is that of those without any.
type ReaderID [sha256.Size]byte

// Reader returns the id of credentials. It says nothing about them outside of this process.
func (s *Store) Reader(logins []authn.AuthConfig) (id ReaderID) {
	if len(logins) == 0 {
		return id
	}
	mac := hmac.New(sha256.New, s.key[:])
	for _, l := range logins {
		raw, err := json.Marshal([]string{l.Username, l.Password, l.Auth, l.IdentityToken, l.RegistryToken})
		if err != nil {
			continue // strings always marshal
		}
		mac.Write(raw)
	}
	mac.Sum(id[:0])
	return id
}

// Resolve returns the digest that a tag has, for whoever has the credentials and asks for a namespace.
// Questions at the same time share one request.
func (s *Store) Resolve(ctx context.Context, repository, tag, namespace string, logins []authn.AuthConfig) (digest string, err error) {
	of := tagged{repository, tag, s.Reader(logins)}
	return s.tags.do(ctx, of, hostOf(repository), func(ctx context.Context) (string, error) {
		return s.resolve(ctx, repository, namespace, logins, tag)
	})
}

type tagged struct {
	repository, tag string
	reader          ReaderID
}

// reading is one image that is read with the credentials of one reader.
type reading struct {
	entryKey
	reader ReaderID
	news   bool
}
