package admission_test

import (
	"strings"
	"testing"

	"github.com/colophon-build/colophon/platform/verdicts"
	"github.com/colophon-build/colophon/policy"
)

// TestClusterImagePolicies: they decide about pods by what runs the image: its kind and its labels.
func TestClusterImagePolicies(t *testing.T) {
	c := newScene(t)
	use := func(more string) {
		l := verdicts.NewLoader(c.store, c.config.Log, nil)
		l.WithClusterImagePolicies(&verdicts.ClusterImagePolicies{NoMatchPolicy: policy.AllowUnmatched})
		l.Tell(verdicts.TrustDocuments, nil)
		l.Tell(verdicts.PolicyDocuments, []verdicts.Document{{Name: "a", Raw: []byte("apiVersion: policy.sigstore.dev/v1beta1\nkind: ClusterImagePolicy\nmetadata: {name: none}\nspec:\n  images: [{glob: '**'}]\n" + more)}})
		if _, problem := l.Ready(); problem != "" {
			t.Fatal(problem)
		}
	}
	web := strings.Replace(c.goodPod(), `"metadata":{`, `"metadata":{"labels":{"tier":"web"},`, 1)
	if web == c.goodPod() {
		t.Fatal("the pod got no label")
	}
	deployment := `{"apiVersion":"apps/v1","kind":"Deployment","metadata":{"name":"d","labels":{"tier":"web"}},"spec":{"template":{"spec":{"containers":[{"name":"a","image":"` + c.good + "@" + c.goodAt + `"}]}}}}`
	use("  match: [{version: v1, resource: pods, selector: {matchLabels: {tier: web}}}]\n  authorities: [{static: {action: fail, message: not here}}]\n")
	c.validate("the pod that it is about", web, false, "not here")
	c.validate("another pod", c.goodPod(), true)
	c.validate("a Deployment", deployment, true)
	use("  match: [{group: apps, version: v1, resource: deployments}]\n  authorities: [{static: {action: fail, message: not here}}]\n")
	c.validate("the Deployment that it is about", deployment, false, "not here")
	c.validate("its pod", web, true)
	use("  authorities: [{static: {action: pass}}]\n")
	c.validate("everybody passes", web, true)
	c.down.Store(true)
	c.validate("known", web, true)
	use("  authorities: [{static: {action: pass}}]\n  policy: {type: cue, data: 'x: 1'}\n")
	c.validate("not known, and the registry is down", web, false, "nobody knows")
}

// TestNames: policies see an image by what it is, wherever it was copied to and however that place is
// spelled; and nobody who writes a pod can say what it is.
func TestNames(t *testing.T) {
	c := newScene(t)
	c.use(strings.Replace(rules, "HOST/team/**", "registry.example.com/shop/**", 1))
	c.validate("a copy that nobody declared", c.goodPod(), false, "no rule of the policy")
	c.config.Names = policy.Names{c.host + "/team/": "registry.example.com/shop/"}
	c.start()
	c.validate("a copy", c.goodPod(), true)
	c.validate("a copy without proofs", c.badPod(), false, "rejected")
	c.validate("another place", strings.Replace(c.goodPod(), c.host+"/team/", c.host+"/teams/", 1), false, "no rule of the policy")
	c.validate("by tag", pod(c.good), false, "tag")
	if a := c.ask("/mutate", "by tag", pod(c.good), true); !strings.Contains(string(a.Response.Patch), c.good+"@"+c.goodAt) {
		t.Errorf("got the patch %s, want the copy by digest", a.Response.Patch)
	}
}

// TestMirrors: an image of a registry is read from its mirror, with the credentials for that one, and
// keeps its name; if the mirror has no proofs, it is refused.
func TestMirrors(t *testing.T) {
	c := newScene(t)
	c.use(strings.Replace(rules, "HOST/team/**", "far.example.com/shop/**", 1))
	c.config.Mirrors = policy.Names{"far.example.com/shop/": c.host + "/team/", "far.example.com/other/": c.host + "/nowhere/"}
	c.start()
	far := "far.example.com/shop/app"
	c.validate("good", pod(far+"@"+c.goodAt), true)
	c.validate("bad", pod(far+"@"+c.badAt), false, "rejected")
	if a := c.ask("/mutate", "by tag", pod(far+":v1.2.0"), true); !strings.Contains(string(a.Response.Patch), far+":v1.2.0@"+c.goodAt) {
		t.Errorf("got the patch %s", a.Response.Patch)
	}
	c.password = "s3cret"
	c.config.Verdicts = verdicts.New(verdicts.Config{Transport: verdicts.Transport(true)})
	c.store = c.config.Verdicts
	c.start()
	c.use(strings.Replace(rules, "HOST/team/**", "far.example.com/shop/**", 1))
	login := func(host string) {
		c.cluster.secrets["shop/of-default"] = `{"auths":{"` + host + `":{"username":"ada","password":"s3cret"}}}`
	}
	login("far.example.com")
	c.validate("with the credentials of the registry itself", pod(far+"@"+c.goodAt), false, "nobody knows")
	login(c.host)
	c.validate("with those of the mirror", pod(far+"@"+c.goodAt), true)
}
