package kube

import (
	"strings"
	"testing"
	"time"

	"github.com/colophon-build/colophon/distrust"
	"github.com/colophon-build/colophon/test/await"
	"github.com/colophon-build/colophon/test/distrusttest"
)

// distrusts: once somebody says that an image is no longer trusted, no new pod runs it within seconds, and
// the pods that run it are named; a lift ends both.
func (s *shop) distrusts(t *testing.T) {
	issuer := distrusttest.New(t)
	server := s.serve(t, issuer)
	t.Cleanup(server.Close)
	issuers := distrusttest.Write(t, issuer.Issuer("team", server.URL+"/distrust"))
	if _, err := s.Helm(t, "upgrade", "colophon", chart(t), "-n", helmNamespace, "--reuse-values", "--set-file", "distrust.issuers="+issuers); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		s.install(t, "distrust.issuers=")
		s.settled(t)
	})
	s.settled(t)
	s.admits(t, s.signed)
	c := s.Client(t)
	until := func(what string, done func(error) bool) {
		t.Helper()
		start, in := time.Now(), 0
		for in < 10 { // both replicas are asked
			if in++; !done(ask(t.Context(), c, s.signed)) {
				in = 0
			}
			if time.Since(start) > await.Patience {
				t.Fatalf("%s: not after %s", what, await.Patience)
			}
			time.Sleep(50 * time.Millisecond)
		}
		t.Logf("%s: after %s", what, (time.Since(start) - 10*50*time.Millisecond).Round(100*time.Millisecond))
	}
	failed := func() string {
		return s.Kubectl(t, "get", "policyreports.wgpolicyk8s.io", "-n", "shop", "-o", `jsonpath={.items[?(@.scope.name=="good")].summary.fail}`)
	}

	_, digest, _ := strings.Cut(s.signed, "@")
	issuer.Add(distrust.Scope{Digest: digest})
	until("new pods are refused", func(err error) bool { return err != nil && strings.Contains(err.Error(), "entry 0 of team") })
	s.Eventually(t, "a report names the pod that runs the image", func() bool { return failed() == "1" })

	if out, errs, _ := colophon(t, s.Cluster, "investigate", s.signed, "--cluster"); !strings.Contains(out, "stop what runs: Pod shop/good") {
		t.Errorf("investigate does not name the pod that runs the image:\n%s%s", out, errs)
	}

	issuer.Lift(0)
	until("new pods are admitted", func(err error) bool { return err == nil })
	s.Eventually(t, "no report names the pod", func() bool { return failed() != "1" })
}
