// Package matrix is a table of policies and images, with the answer that everything must give that
// decides about images: the library, "colophon verify --policy", "colophon policy test", and
// whatever admits or serves images. Its images are in a registry. What signs them is one simulated
// platform, whose trust roots everybody asked must trust.
package matrix

import (
	"context"
	"fmt"
	"io"
	"log"
	"net/http/httptest"
	"strings"
	"testing"

	"github.com/google/go-containerregistry/pkg/registry"

	"github.com/colophon-build/colophon/oci"
	"github.com/colophon-build/colophon/test/prooftest"
	"github.com/colophon-build/colophon/trust"
	"github.com/colophon-build/colophon/verify"
)

// Case is one policy and one image, and the decision.
type Case struct {
	Name    string
	Image   string // HOST/NAME:TAG or HOST/NAME@DIGEST
	Policy  []byte // YAML of version 2, one or several documents
	Outcome verify.Outcome
	Reason  string // words of the decision's reason; empty if the image is accepted
	Warning string // words of one of its warnings; empty: it has none
}

// World is a registry with images, and the table of cases about them.
type World struct {
	Host  string      // of the registry
	Roots []TrustRoot // whoever is asked must trust these, and no others
	Cases []Case

	stores map[string]*prooftest.Store // by repository
}

// TrustRoot is a trust root as a file, for "colophon trust add FILE".
type TrustRoot struct {
	Raw     []byte
	Issuers []string // of a plain root: for --issuer
}

// New makes the images and the cases for a registry at host. Push stores the images there.
func New(t testing.TB, host string) *World {
	t.Helper()
	m := newMaker(t, host)
	m.builtImages()
	m.attestedImages()
	m.signedImages()
	w := &World{Host: host, stores: m.stores, Roots: []TrustRoot{
		{Raw: m.p.Document()}, {Raw: m.p.TrustedRoot(), Issuers: []string{people, trust.GitHubIssuer}},
	}}
	for _, c := range table() {
		w.Cases = append(w.Cases, Case{c.name, m.fill(c.image), []byte(m.fill(c.policy)), c.outcome, m.fill(c.reason), m.fill(c.warning)})
	}
	return w
}

// Serve starts a registry on loopback for the time of the test, and returns a world with its
// images there.
func Serve(t testing.TB) *World {
	t.Helper()
	srv := httptest.NewServer(registry.New(registry.WithReferrersSupport(true), registry.Logger(log.New(io.Discard, "", 0))))
	t.Cleanup(srv.Close)
	w := New(t, strings.TrimPrefix(srv.URL, "http://"))
	w.Push(t, oci.RegistryOptions{})
	return w
}

// Push stores all images in the registry.
func (w *World) Push(t testing.TB, opts oci.RegistryOptions) {
	t.Helper()
	for name, store := range w.stores {
		dst, err := oci.OpenRegistry(w.Host+"/"+name, opts)
		if err != nil {
			t.Fatal(err)
		}
		store.Push(context.Background(), dst)
	}
}

// Trust returns the trust roots.
func (w *World) Trust() (all []*trust.Root, err error) {
	for _, r := range w.Roots {
		root, err := trust.Parse(r.Raw)
		if err == nil && len(r.Issuers) > 0 {
			root, err = root.ForIssuers(r.Issuers)
		}
		if err != nil {
			return nil, err
		}
		all = append(all, root)
	}
	return all, nil
}

// Differs says how a decision differs from the one that the case wants; empty: in nothing.
func (c Case) Differs(outcome verify.Outcome, reason string, warnings []string) string {
	warning := strings.Join(warnings, "; ")
	switch {
	case outcome != c.Outcome:
		return fmt.Sprintf("got %s (%s), want %s", outcome, reason, c.Outcome)
	case !strings.Contains(reason, c.Reason) || (reason == "") != (c.Reason == ""):
		return fmt.Sprintf("got the reason %q, want %q in it", reason, c.Reason)
	case !strings.Contains(warning, c.Warning) || (warning == "") != (c.Warning == ""):
		return fmt.Sprintf("got the warnings %q, want %q in them", warning, c.Warning)
	}
	return ""
}
