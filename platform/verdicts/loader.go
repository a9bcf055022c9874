package verdicts

import (
	"bytes"
	"cmp"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/colophon-build/colophon/audit"
	"github.com/colophon-build/colophon/internal/limits"
	"github.com/colophon-build/colophon/internal/strict"
	"github.com/colophon-build/colophon/policy"
	cip "github.com/colophon-build/colophon/policy/clusterimagepolicy"
	"github.com/colophon-build/colophon/policy/clusterimagepolicy/eval"
	"github.com/colophon-build/colophon/trust"
	"github.com/colophon-build/colophon/verify/cluster"
)

const maxDocuments = 4096 // policies or trust roots

// Document is a policy or a trust root as somebody wrote it.
type Document struct {
	Name      string // file, or KIND NAMESPACE/NAME
	Namespace string // of a policy that counts there alone, and that people of the namespace may write
	Raw       []byte
	Report    func(problem string) `json:"-"` // tells the cluster whether it is in force; nil: nobody
}

// Loader reads the policies and trust roots that somebody wrote, and puts them in force.
type Loader struct {
	store *Store
	log   *slog.Logger
	used  func() // called after other ones count

	mu       sync.Mutex
	others   bool             // documents of policy-controller count, too
	noMatch  policy.Unmatched // what they say about an image that none of them is about
	alone    bool             // they start no program and open no repository
	policies []Document
	roots    []Document
	have     [2]bool // policies, and trust roots, were read
	last     string  // id of what was tried last
	inForce  string  // id of what counts
	problem  string  // why that does not count; empty: it does
	good     map[string]parsed
	said     atomic.Pointer[string] // problem, for Ready; nil until all was read once

	delivered map[[sha256.Size]byte]*refreshed // what TUF repositories delivered, by the sum of the document

	acts       Acts // nil: nothing is recorded
	unrecorded bool // the audit ledger did not record what was told last, so it does not count
}

// parsed are the last good policies of a document.
type parsed struct {
	sum    [sha256.Size]byte
	sets   []*policy.Set
	others *cip.Objects // nil: not read
}

// Ready reports whether all was read once. problem says why what was read last does not count;
// what counted before does then. It does not wait for an audit ledger.
func (l *Loader) Ready() (ok bool, problem string) {
	said := l.said.Load()
	if said == nil {
		return false, ""
	}
	return true, *said
}

// Missing says why no policies and trust roots count although they were read. It returns "" if some count.
func (l *Loader) Missing() string {
	said := l.said.Load()
	if said == nil || *said == "" || l.store.basis.Load() != nil {
		return ""
	}
	return "no policies and trust roots count yet: " + *said
}

// NewLoader returns a Loader for a Store. used is called whenever other policies or trust roots
// count; nil: nothing is.
func NewLoader(store *Store, log *slog.Logger, used func()) *Loader {
	if used == nil {
		used = func() {}
	}
	return &Loader{store: store, log: log, used: used}
}

// ClusterImagePolicies are settings that let documents of policy-controller count beside our own policies.
type ClusterImagePolicies struct {
	NoMatchPolicy policy.Unmatched `json:"noMatchPolicy,omitempty"` // deny (default), warn or allow: an image that none of them is about

	// Alone is set by a role that starts no program and connects to nobody: policies in CUE and Rego, and
	// signatures in another repository, are undecided there.
	Alone bool `json:"-"`
}

// Check fails if NoMatchPolicy is unknown. nil is valid: then they do not count.
func (c *ClusterImagePolicies) Check() error {
	if c != nil && c.NoMatchPolicy != "" && !slices.Contains([]policy.Unmatched{policy.DenyUnmatched, policy.WarnUnmatched, policy.AllowUnmatched}, c.NoMatchPolicy) {
		return fmt.Errorf("clusterImagePolicies: noMatchPolicy: expected deny, warn or allow, found %q", c.NoMatchPolicy)
	}
	return nil
}

// WithClusterImagePolicies lets documents of policy-controller count beside our own policies, unless c is
// nil: ClusterImagePolicy and TrustRoot, and the Secrets and ConfigMaps that they name. Without a
// NoMatchPolicy, that of the ConfigMap config-policy-controller counts, or deny. It is called before Tell.
func (l *Loader) WithClusterImagePolicies(c *ClusterImagePolicies) {
	if c != nil {
		l.others, l.noMatch, l.alone = true, c.NoMatchPolicy, c.Alone
	}
}

// Kinds of documents.
const (
	PolicyDocuments = iota
	TrustDocuments
)

// Tell takes all documents of a kind. Documents that are wrong change nothing: those that counted
// before do, until the documents are mended. Of a policy of one namespace that is wrong, its last
// good version counts, or without one, nothing is admitted there; the other namespaces do not
// depend on it.
func (l *Loader) Tell(of int, all []Document) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.have[of] = true
	if of == PolicyDocuments {
		l.policies = all
	} else {
		l.roots = all
		l.forget()
	}
	l.apply()
}

// apply makes the documents count that were told last, with what TUF repositories delivered. The
// caller holds the lock.
func (l *Loader) apply() {
	if !l.have[0] || !l.have[1] {
		return
	}
	h := sha256.New()
	for _, d := range slices.Concat(l.policies, l.roots) {
		fmt.Fprintf(h, "%q %x\n", d.Name, sha256.Sum256(l.latest(d)))
	}
	id := hex.EncodeToString(h.Sum(nil))[:16]
	now := &basis{id, audit.Basis{Policy: l.digest(l.policies), Trust: l.digest(l.roots)}}
	problems := map[string]string{}
	sets, others := l.parsePolicies(problems)
	roots := l.parseRoots(problems)
	broken := ""
	for _, d := range slices.Concat(l.policies, l.roots) {
		if p := problems[d.Name]; p != "" && d.Namespace == "" && broken == "" {
			broken = p
		}
	}
	l.unrecorded = false
	if broken == "" {
		broken = l.adopt(now, sets, roots, others)
	}
	if broken != "" && (broken != l.problem || id != l.last) {
		meanwhile := "those that counted before still do"
		if l.inForce == "" {
			meanwhile = "until they can, every image is undecided"
		}
		l.log.Error("the policies and trust roots cannot be used; "+meanwhile, "problem", broken)
	}
	l.last, l.problem = id, broken
	l.said.Store(&broken)
	for _, d := range slices.Concat(l.policies, l.roots) {
		if d.Report != nil {
			p := problems[d.Name]
			if p == "" && broken != "" {
				p = "not in force: " + broken
			}
			d.Report(p)
		}
	}
}

// adopt makes policies and trust roots count, unless they do. It returns why they cannot, or "".
func (l *Loader) adopt(now *basis, sets []*policy.Set, roots []*trust.Root, others *cip.Objects) string {
	var next *generation
	var err error
	if now.id != l.inForce {
		if next, err = l.next(now.id, sets, roots, others); err != nil {
			return err.Error()
		}
	}
	// Only what will count is recorded. What counts already is too, if others were recorded meanwhile and did not count.
	if err := l.record(now.Basis); err != nil {
		l.unrecorded = true
		return err.Error()
	}
	if next != nil {
		l.inForce = now.id
		l.store.current.Store(next)
		l.store.basis.Store(now)
		l.log.Info("other policies and trust roots count", "policies", len(sets), "roots", len(roots), "id", now.id)
		l.used()
	}
	return ""
}

// digest returns the digest of all documents of a kind.
func (l *Loader) digest(all []Document) string {
	h := sha256.New()
	for _, d := range all {
		fmt.Fprintf(h, "%q %x\n", d.Name, sha256.Sum256(l.latest(d)))
	}
	return "sha256:" + hex.EncodeToString(h.Sum(nil))
}

// next returns what will count, or why it cannot.
func (l *Loader) next(id string, sets []*policy.Set, roots []*trust.Root, others *cip.Objects) (*generation, error) {
	if !l.others {
		return newGeneration(id, sets, roots, nil)
	}
	o := cluster.Options{Trust: roots, Evaluate: eval.Run, Open: l.store.OpenSource, NoMatch: cmp.Or(l.noMatch, others.NoMatch())}
	if l.alone {
		o.Evaluate, o.Open = nil, nil
	}
	return newGeneration(id, sets, roots, cluster.New(others, o))
}

func (l *Loader) parsePolicies(problems map[string]string) (sets []*policy.Set, others *cip.Objects) {
	good, names := map[string]parsed{}, map[string]string{}
	others = &cip.Objects{}
	for _, d := range l.policies {
		known, again := l.good[d.Name]
		next, err := known, error(nil)
		if sum := sha256.Sum256(d.Raw); !again || known.sum != sum {
			next, err = l.parse(d.Raw, sum)
		}
		if err == nil {
			err = d.checkNames(next, names)
		}
		if err != nil {
			problems[d.Name] = fmt.Sprintf("%s: %v", d.Name, err)
			next = known
			if !again && d.Namespace != "" { // fail closed, there alone
				sets = append(sets, &policy.Set{Name: "broken", Namespace: d.Namespace, Namespaced: true, Unmatched: policy.DenyUnmatched})
			}
		}
		if err == nil || again {
			good[d.Name] = next
			sets = append(sets, next.sets...)
			others.Add(next.others)
		}
	}
	l.good = good
	return sets, others
}

func (l *Loader) parse(raw []byte, sum [sha256.Size]byte) (p parsed, err error) {
	p.sum = sum
	if !l.others {
		p.sets, err = policy.ParseSets(raw)
		return p, err
	}
	if p.others, err = cip.Parse(raw); err == nil {
		p.sets, err = policy.ParseSetsBeside(raw, cip.Of)
	}
	return p, err
}

// checkNames fails if a policy of the document is about more than the document's namespace, or has
// the name of another one. It adds the names.
func (d *Document) checkNames(p parsed, names map[string]string) error {
	for _, o := range p.others.Names() {
		switch other, taken := names[o]; {
		case d.Namespace != "":
			return errors.New("it is not about its own namespace alone")
		case taken:
			return fmt.Errorf("%s is in %s, too", o, other)
		}
		names[o] = d.Name
	}
	for _, s := range p.sets {
		if d.Namespace != "" && (!s.Namespaced || s.Namespace != d.Namespace) {
			return errors.New("it is not about its own namespace alone")
		}
		key := s.Namespace + "/" + s.Name
		if other, taken := names[key]; taken {
			return fmt.Errorf("the policy %q is in %s, too", s.Name, other)
		}
		names[key] = d.Name
	}
	return nil
}

func (l *Loader) parseRoots(problems map[string]string) (roots []*trust.Root) {
	for _, d := range l.roots {
		r, err := trust.Parse(l.latest(d))
		if err != nil {
			problems[d.Name] = fmt.Sprintf("%s: %v", d.Name, err)
			continue
		}
		roots = append(roots, r)
	}
	return roots
}

// FromFiles reads a file, or the files of a directory, again and again until ctx ends.
func (l *Loader) FromFiles(ctx context.Context, of int, path string) {
	var last []Document
	for ctx.Err() == nil {
		all, err := ReadDocuments(path, func(file string) ([]byte, error) { return strict.ReadFile(file, limits.TrustRepository) })
		switch {
		case err != nil:
			l.log.Error("cannot read the policies or trust roots", "path", path, "error", err)
		case last == nil || !slices.EqualFunc(all, last, func(a, b Document) bool { return a.Name == b.Name && bytes.Equal(a.Raw, b.Raw) }):
			l.Tell(of, all)
			last = all
		}
		select {
		case <-ctx.Done():
		case <-time.After(2 * time.Second):
		}
	}
}

// Check returns an error if these policies and trust roots cannot be used.
func Check(policies, roots []Document, others *ClusterImagePolicies) error {
	l := NewLoader(New(Config{}), slog.New(slog.DiscardHandler), nil)
	l.WithClusterImagePolicies(others)
	l.Tell(PolicyDocuments, policies)
	l.Tell(TrustDocuments, roots)
	if _, problem := l.Ready(); problem != "" {
		return errors.New(problem)
	}
	return nil
}

// ReadDocuments reads a file, or each file of a directory that ends in .yaml, .yml or .json, with read.
func ReadDocuments(path string, read func(file string) ([]byte, error)) ([]Document, error) {
	info, err := os.Stat(path)
	if err != nil {
		return nil, err
	}
	files := []string{path}
	if info.IsDir() {
		entries, err := os.ReadDir(path)
		if err != nil {
			return nil, err
		}
		files = nil
		for _, e := range entries {
			if ext := filepath.Ext(e.Name()); !strings.HasPrefix(e.Name(), ".") && (ext == ".yaml" || ext == ".yml" || ext == ".json") {
				files = append(files, filepath.Join(path, e.Name()))
			}
		}
	}
	if len(files) > maxDocuments {
		return nil, fmt.Errorf("%s has %d files, want at most %d", path, len(files), maxDocuments)
	}
	out := []Document{}
	for _, f := range files {
		raw, err := read(f)
		if err != nil {
			return nil, err
		}
		out = append(out, Document{Name: f, Raw: raw})
	}
	return out, nil
}
