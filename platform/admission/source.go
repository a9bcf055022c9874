package admission

import (
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/colophon-build/colophon/internal/limits"
	"github.com/colophon-build/colophon/internal/strict"
	"github.com/colophon-build/colophon/platform/admission/kubeapi"
	"github.com/colophon-build/colophon/platform/verdicts"
	"github.com/colophon-build/colophon/policy"
	"github.com/colophon-build/colophon/trust"
)

const maxDocuments = 4096 // policies or trust roots

// document is a policy or a trust root as somebody wrote it.
type document struct {
	name      string // file, or KIND NAMESPACE/NAME
	namespace string // of a policy that counts there alone, and that people of the namespace may write
	raw       []byte
	report    func(problem string) // tells the cluster whether it is in force; nil: nobody
}

// loader makes the policies and trust roots that somebody wrote the ones that count.
type loader struct {
	store *verdicts.Store
	log   *slog.Logger
	used  func() // called after other ones count

	mu       sync.Mutex
	policies []document
	roots    []document
	have     [2]bool // policies, and trust roots, were read
	last     string  // id of what was tried last
	inForce  string  // id of what counts
	problem  string  // why that does not count; empty: it does
	good     map[string]policySets
}

// policySets are the last good policies of a document.
type policySets struct {
	sum  [sha256.Size]byte
	sets []*policy.Set
}

// ready reports whether all was read once. problem says why what was read last does not count;
// what counted before does then.
func (l *loader) ready() (ok bool, problem string) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.have[0] && l.have[1], l.problem
}

// Kinds of documents.
const (
	thePolicies = iota
	theRoots
)

// tell takes all documents of a kind. Documents that are wrong change nothing: those that counted
// before do, until the documents are mended. Of a policy of one namespace that is wrong, its last
// good version counts, or without one, nothing is admitted there; the other namespaces do not
// depend on it.
func (l *loader) tell(of int, all []document) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.have[of] = true
	if of == thePolicies {
		l.policies = all
	} else {
		l.roots = all
	}
	if !l.have[0] || !l.have[1] {
		return
	}
	h := sha256.New()
	for _, d := range slices.Concat(l.policies, l.roots) {
		fmt.Fprintf(h, "%q %x\n", d.name, sha256.Sum256(d.raw))
	}
	id := hex.EncodeToString(h.Sum(nil))[:16]
	problems := map[string]string{}
	sets, roots := l.parsePolicies(problems), l.parseRoots(problems)
	broken := ""
	for _, d := range slices.Concat(l.policies, l.roots) {
		if p := problems[d.name]; p != "" && d.namespace == "" && broken == "" {
			broken = p
		}
	}
	if broken == "" && id != l.inForce {
		if err := l.store.Use(id, sets, roots); err != nil {
			broken = err.Error()
		} else {
			l.inForce = id
			l.log.Info("other policies and trust roots count", "policies", len(sets), "roots", len(roots), "id", id)
			l.used()
		}
	}
	if broken != "" && (broken != l.problem || id != l.last) {
		l.log.Error("the policies and trust roots cannot be used; those that counted before still do", "problem", broken)
	}
	l.last, l.problem = id, broken
	for _, d := range slices.Concat(l.policies, l.roots) {
		if d.report != nil {
			p := problems[d.name]
			if p == "" && broken != "" {
				p = "not in force: " + broken
			}
			d.report(p)
		}
	}
}

func (l *loader) parsePolicies(problems map[string]string) (sets []*policy.Set) {
	good, names := map[string]policySets{}, map[string]string{}
	for _, d := range l.policies {
		known, again := l.good[d.name]
		next, err := known, error(nil)
		if sum := sha256.Sum256(d.raw); !again || known.sum != sum {
			next = policySets{sum: sum}
			next.sets, err = policy.ParseSets(d.raw)
		}
		if err == nil {
			err = d.checkNames(next.sets, names)
		}
		if err != nil {
			problems[d.name] = fmt.Sprintf("%s: %v", d.name, err)
			next = known
			if !again && d.namespace != "" { // fail closed, there alone
				sets = append(sets, &policy.Set{Name: "broken", Namespace: d.namespace, Namespaced: true, Unmatched: policy.DenyUnmatched})
			}
		}
		if err == nil || again {
			good[d.name] = next
			sets = append(sets, next.sets...)
		}
	}
	l.good = good
	return sets
}

// checkNames fails if a policy of the document is about more than the document's namespace, or has
// the name of another one. It adds the names.
func (d *document) checkNames(sets []*policy.Set, names map[string]string) error {
	for _, s := range sets {
		if d.namespace != "" && (!s.Namespaced || s.Namespace != d.namespace) {
			return errors.New("it is not about its own namespace alone")
		}
		key := s.Namespace + "/" + s.Name
		if other, taken := names[key]; taken {
			return fmt.Errorf("the policy %q is in %s, too", s.Name, other)
		}
		names[key] = d.name
	}
	return nil
}

func (l *loader) parseRoots(problems map[string]string) (roots []*trust.Root) {
	for _, d := range l.roots {
		r, err := trust.Parse(d.raw)
		if err != nil {
			problems[d.name] = fmt.Sprintf("%s: %v", d.name, err)
			continue
		}
		roots = append(roots, r)
	}
	return roots
}

// fromFiles reads a file, or the files of a directory, again and again until ctx ends.
func (l *loader) fromFiles(ctx context.Context, of int, path string) {
	var last []document
	for ctx.Err() == nil {
		all, err := readDocuments(path)
		switch {
		case err != nil:
			l.log.Error("cannot read the policies or trust roots", "path", path, "error", err)
		case last == nil || !slices.EqualFunc(all, last, func(a, b document) bool { return a.name == b.name && bytes.Equal(a.raw, b.raw) }):
			l.tell(of, all)
			last = all
		}
		select {
		case <-ctx.Done():
		case <-time.After(2 * time.Second):
		}
	}
}

// readDocuments reads a file, or each file of a directory that ends in .yaml, .yml or .json.
func readDocuments(path string) ([]document, error) {
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
	out := []document{}
	for _, f := range files {
		raw, err := strict.ReadFile(f, limits.TrustRepository)
		if err != nil {
			return nil, err
		}
		out = append(out, document{name: f, raw: raw})
	}
	return out, nil
}

// resource is a policy or trust root as an object of the cluster.
type resource struct {
	APIVersion string `json:"apiVersion"`
	Kind       string `json:"kind"`
	Metadata   struct {
		Name       string `json:"name"`
		Namespace  string `json:"namespace,omitempty"`
		Generation int64  `json:"generation,omitempty"`
	} `json:"metadata"`
	Spec   json.RawMessage `json:"spec"`
	Status json.RawMessage `json:"status,omitempty"` // of no weight: others may write it
}

type condition struct {
	Type       string    `json:"type"`
	Status     string    `json:"status"`
	Reason     string    `json:"reason"`
	Message    string    `json:"message"`
	Generation int64     `json:"observedGeneration,omitempty"`
	Since      time.Time `json:"lastTransitionTime"`
}

const resources = "/apis/colophon.build/v1/"

// fromCluster follows the policies or the trust roots of the cluster until ctx ends.
func (l *loader) fromCluster(ctx context.Context, api *kubeapi.Client, of int) {
	lists := []string{"imagepolicies", "namespacedimagepolicies"}
	if of == theRoots {
		lists = []string{"trustroots"}
	}
	var mu sync.Mutex
	got := map[string][]document{}
	for _, list := range lists {
		go api.Follow(ctx, resources+list, func(objects []json.RawMessage) {
			var docs []document
			for _, raw := range objects {
				docs = append(docs, l.documentOf(ctx, api, list, raw))
			}
			mu.Lock()
			defer mu.Unlock()
			if got[list] = docs; len(got) == len(lists) {
				var all []document
				for _, name := range lists {
					all = append(all, got[name]...)
				}
				l.tell(of, all)
			}
		}, func(err error) {
			l.log.Error("cannot follow the resources of the cluster", "resources", list, "error", err)
		})
	}
}

// documentOf returns a resource as a document. Only what people write is in it: a status that
// changes is no other policy.
func (l *loader) documentOf(ctx context.Context, api *kubeapi.Client, list string, raw json.RawMessage) document {
	var r resource
	if err := json.Unmarshal(raw, &r); err != nil {
		return document{name: list, raw: raw} // it is refused when it is parsed
	}
	d := document{name: strings.TrimSpace(r.Kind + " " + strings.TrimPrefix(r.Metadata.Namespace+"/"+r.Metadata.Name, "/")), namespace: r.Metadata.Namespace}
	path := resources + list + "/" + r.Metadata.Name
	if r.Metadata.Namespace != "" {
		path = resources + "namespaces/" + r.Metadata.Namespace + "/" + list + "/" + r.Metadata.Name
	}
	d.report = func(problem string) { go l.report(ctx, api, path, r, problem) }
	if list == "trustroots" {
		var spec struct {
			Document string `json:"document"`
		}
		if json.Unmarshal(r.Spec, &spec) == nil {
			d.raw = []byte(spec.Document)
		}
		return d
	}
	clean := map[string]any{"apiVersion": r.APIVersion, "kind": r.Kind, "spec": r.Spec}
	metadata := map[string]string{"name": r.Metadata.Name}
	if r.Metadata.Namespace != "" {
		metadata["namespace"] = r.Metadata.Namespace
	}
	clean["metadata"] = metadata
	d.raw, _ = json.Marshal(clean) // of JSON
	return d
}

// report writes the condition Ready of a resource, unless it says the same already.
func (l *loader) report(ctx context.Context, api *kubeapi.Client, path string, r resource, problem string) {
	want := condition{Type: "Ready", Status: "True", Reason: "InForce", Generation: r.Metadata.Generation, Since: time.Now().UTC().Truncate(time.Second)}
	if problem != "" {
		want.Status, want.Reason, want.Message = "False", "NotInForce", problem
	}
	var have struct {
		Conditions []condition `json:"conditions"`
	}
	_ = json.Unmarshal(r.Status, &have) // what cannot be read is replaced
	for _, c := range have.Conditions {
		if c.Type == want.Type && c.Status == want.Status && c.Message == want.Message && c.Generation == want.Generation {
			return
		}
	}
	err := api.Patch(ctx, path+"/status", kubeapi.MergePatch, map[string]any{"status": map[string]any{"conditions": []condition{want}}})
	if err != nil && ctx.Err() == nil {
		l.log.Warn("cannot write the status", "resource", path, "error", err)
	}
}
