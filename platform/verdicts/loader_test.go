package verdicts

import (
	"log/slog"
	"strings"
	"testing"
)

const aPolicy = `apiVersion: colophon.build/v1
kind: ImagePolicy
metadata: {name: NAME}
spec: {unmatched: deny, rules: []}
`

// TestBrokenPolicies: a policy of the cluster that is broken changes nothing; one of a namespace
// does not hold up the others: there, its last good version counts, or nothing is admitted.
func TestBrokenPolicies(t *testing.T) {
	used := 0
	store := New(Config{Transport: Transport(false)})
	l := NewLoader(store, slog.New(slog.DiscardHandler), func() { used++ })
	reports := map[string]string{}
	doc := func(name, namespace, raw string) Document {
		return Document{Name: name, Namespace: namespace, Raw: []byte(raw), Report: func(p string) { reports[name] = p }}
	}
	cluster := doc("a", "", strings.Replace(aPolicy, "NAME", "a", 1))
	own := func(namespace, change string) Document {
		raw := strings.NewReplacer("NAME", "own, namespace: "+namespace, "ImagePolicy", "NamespacedImagePolicy").Replace(aPolicy)
		return doc("own "+namespace, namespace, strings.Replace(raw, "unmatched", change+"unmatched", 1))
	}
	if ok, _ := l.Ready(); ok {
		t.Error("ready before anything was read")
	}
	l.Tell(PolicyDocuments, []Document{cluster})
	if ok, _ := l.Ready(); ok || used != 0 {
		t.Error("ready before the trust roots were read")
	}
	l.Tell(TrustDocuments, nil)
	if ok, problem := l.Ready(); !ok || problem != "" || used != 1 {
		t.Errorf("got ready %v, %q after %d changes", ok, problem, used)
	}
	first := store.Policies()
	l.Tell(PolicyDocuments, []Document{doc("a", "", "nonsense: 1")})
	if ok, problem := l.Ready(); !ok || problem == "" || used != 1 || store.Policies() != first || reports["a"] == "" {
		t.Errorf("a broken one: got ready %v, %q, reported %q", ok, problem, reports["a"])
	}
	l.Tell(PolicyDocuments, []Document{cluster, own("shop", "x"), own("other", "")})
	if _, problem := l.Ready(); problem != "" || used != 2 || reports["own shop"] == "" || reports["own other"] != "" || reports["a"] != "" {
		t.Errorf("a broken one of a namespace: got %q after %d changes, reported %q", problem, used, reports)
	}
	if len(l.good) != 2 {
		t.Errorf("got %d good ones", len(l.good))
	}
	sets, _ := l.parsePolicies(map[string]string{})
	if len(sets) != 3 || sets[1].Name != "broken" || sets[1].Namespace != "shop" {
		t.Errorf("got %+v, want that nothing is admitted in shop", sets)
	}
	l.Tell(PolicyDocuments, []Document{cluster, own("shop", "")})
	l.Tell(PolicyDocuments, []Document{cluster, own("shop", "x")})
	if sets, _ := l.parsePolicies(map[string]string{}); len(sets) != 2 || sets[1].Name != "own" {
		t.Errorf("got %+v, want the last good one of shop", sets)
	}
	foreign := own("shop", "")
	foreign.Name, foreign.Namespace = "foreign", "other"
	foreign.Report = func(p string) { reports["own shop"] = p }
	l.Tell(PolicyDocuments, []Document{cluster, foreign})
	if reports["own shop"] == "" {
		t.Error("a policy in one namespace is about another one")
	}
	two := doc("b", "", strings.Replace(aPolicy, "NAME", "a", 1))
	l.Tell(PolicyDocuments, []Document{cluster, two})
	if _, problem := l.Ready(); !strings.Contains(problem, "too") {
		t.Errorf("two of one name: got %q", problem)
	}
}

// TestUnusablePoliciesStayUnusable: policies that cannot be used, as none at all, are not in force
// either when the same is told again, as after each change of a status.
func TestUnusablePoliciesStayUnusable(t *testing.T) {
	l := NewLoader(New(Config{}), slog.New(slog.DiscardHandler), nil)
	l.Tell(TrustDocuments, nil)
	for range 3 {
		l.Tell(PolicyDocuments, nil)
		if ok, problem := l.Ready(); !ok || !strings.Contains(problem, "there is no policy") {
			t.Errorf("got ready %v, %q", ok, problem)
		}
	}
	good := Document{Name: "a", Raw: []byte(strings.Replace(aPolicy, "NAME", "a", 1))}
	l.Tell(PolicyDocuments, []Document{good})
	in := l.store.Policies()
	for _, all := range [][]Document{nil, nil, {good}} {
		l.Tell(PolicyDocuments, all)
		if _, problem := l.Ready(); l.store.Policies() != in || (problem == "") != (all != nil) {
			t.Errorf("%d policies: got %q in force, %q", len(all), l.store.Policies(), problem)
		}
	}
}
