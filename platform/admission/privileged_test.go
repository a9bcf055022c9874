package admission_test

import (
	"bytes"
	"fmt"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"time"

	"github.com/colophon-build/colophon/platform/admission"
)

// TestPrivateImages: the pull secrets of the pod and of its ServiceAccount are used, and those of
// nobody else.
func TestPrivateImages(t *testing.T) {
	c := newScene(t)
	c.password = "s3cret"
	secret := `{"auths":{"https://` + c.host + `/team":{"username":"u","password":"s3cret"}}}`
	c.cluster.secrets["shop/pull"], c.cluster.secrets["other/pull"] = secret, secret
	c.validate("without", c.goodPod(), false, "credentials")
	c.ask(admission.PathMutate, "without, by tag", pod(c.good), false)
	named := strings.Replace(c.goodPod(), `"spec":{`, `"spec":{"imagePullSecrets":[{"name":"pull"}],`, 1)
	c.validate("named", named, true)
	c.validate("known, and without", c.goodPod(), false, "credentials")
	c.ask(admission.PathMutate, "named, by tag", strings.Replace(named, "@"+c.goodAt, "", 1), true)
	template := `{"apiVersion":"apps/v1","kind":"Deployment","metadata":{"name":"p"},"spec":{"template":` + strings.Replace(named, `"apiVersion":"v1","kind":"Pod",`, "", 1) + `}}`
	c.validate("of a template", template, true)
	c.cluster.secrets["shop/of-builder"] = secret
	c.validate("of the ServiceAccount", strings.Replace(c.goodPod(), `"spec":{`, `"spec":{"serviceAccountName":"builder",`, 1), true)
	c.validate("of another ServiceAccount", strings.Replace(c.goodPod(), `"spec":{`, `"spec":{"serviceAccountName":"other",`, 1), false)
	c.cluster.secrets["shop/broken"] = `{"auths":{"` + c.host + `":{"auth":"s3cret"}}}`
	a := c.validate("a broken one", strings.Replace(c.goodPod(), `"spec":{`, `"spec":{"imagePullSecrets":[{"name":"broken"}],`, 1), false, "base64 of USERNAME:PASSWORD")
	if text := a.Response.Status.Message + c.log.String(); strings.Contains(text, "s3cret") {
		t.Error("a password is in an answer or in the log")
	}
}

// TestStaticPods: only the kubelet of the node is trusted to say that a pod runs already.
func TestStaticPods(t *testing.T) {
	c := newScene(t)
	mirror := strings.NewReplacer(`"metadata":{`, `"metadata":{"annotations":{"kubernetes.io/config.mirror":"x"},`, `"spec":{`, `"spec":{"nodeName":"n1",`).Replace(c.badPod())
	c.validate("by a person", mirror, false)
	c.user, c.groups = "system:node:n2", []string{"system:nodes"}
	c.validate("by another node", mirror, false)
	c.user = "system:node:n1"
	c.validate("by the node", mirror, true, "team/app:bad")
	gone := strings.Replace(mirror, c.bad+"@"+c.badAt, c.host+"/team/app:gone", 1)
	a := c.ask(admission.PathMutate, "by the node, with a tag that is not there", gone, true)
	if len(a.Response.Patch) > 0 {
		t.Errorf("the mirror is changed: %s", a.Response.Patch)
	}
	c.validate("by the node, with a tag that is not there", gone, true, "by a tag")
	c.groups = nil
	c.validate("by somebody with the name of the node", mirror, false)
}

// TestBreakGlass: only who may, with a reason, and for a time.
func TestBreakGlass(t *testing.T) {
	c := newScene(t)
	c.cluster.may["root@shop"], c.cluster.may["ada@other"] = true, true
	glass := func(object, reason string, d time.Duration) string {
		return strings.Replace(object, `"metadata":{`, fmt.Sprintf(`"metadata":{"annotations":{"colophon.build/break-glass":%q,"colophon.build/break-glass-until":%q},`, reason, time.Now().Add(d).UTC().Format(time.RFC3339)), 1)
	}
	c.validate("by ada", glass(c.badPod(), "the shop is down", time.Hour), false, "ada may not break it")
	c.ask(admission.PathMutate, "by ada, with a tag that is not there", glass(pod(c.host+"/team/app:gone"), "the shop is down", time.Hour), false, "ada may not break it")
	c.validate("by ada, of a good image", glass(c.goodPod(), "the shop is down", time.Hour), false, "ada may not break it")
	c.user = "root"
	a := c.validate("by root", glass(c.badPod(), "the shop is down", time.Hour), true, "THE GLASS IS BROKEN", "the shop is down")
	if a.Response.Audit["break-glass"] != "the shop is down" || !strings.Contains(c.log.String(), `"level":"ERROR","msg":"the glass is broken"`) {
		t.Errorf("got audit %v and log %s", a.Response.Audit, c.log)
	}
	c.validate("without a reason", glass(c.badPod(), " ", time.Hour), false, "expected a reason")
	c.validate("for too long", glass(c.badPod(), "the shop is down", 25*time.Hour), false, "at most 24h")
	c.validate("too late", glass(c.badPod(), "the shop is down", -time.Hour), false, "ended")
	c.validate("without a time", strings.Replace(c.badPod(), `"metadata":{`, `"metadata":{"annotations":{"colophon.build/break-glass":"the shop is down"},`, 1), false, "break-glass-until")
	c.cluster.fails = true
	c.validate("nobody knows who may", glass(c.badPod(), "the shop is down", time.Hour), false, "not known")
	// Controllers copy what was admitted; they are asked for nothing else.
	c.user = "system:serviceaccount:kube-system:replicaset-controller"
	c.validate("by a controller", glass(c.badPod(), "the shop is down", time.Hour), true)
	c.validate("by a controller, too late", glass(c.badPod(), "the shop is down", -time.Hour), false)
	for _, user := range []string{"system:serviceaccount:shop:replicaset-controller", "system:serviceaccount:kube-system:default"} {
		c.user = user
		c.validate("by "+user, glass(c.badPod(), "the shop is down", time.Hour), false)
	}
	c.cluster.fails, c.user = false, "ada"
	deployment := func(pod string) string {
		return `{"apiVersion":"apps/v1","kind":"Deployment","metadata":{"name":"p"},"spec":{"template":` + strings.Replace(pod, `"apiVersion":"v1","kind":"Pod",`, "", 1) + `}}`
	}
	broken := glass(c.goodPod(), "the shop is down", time.Hour)
	c.operation, c.old = "UPDATE", deployment(broken)
	c.validate("unchanged annotations", deployment(broken), true)
	c.validate("ada uses the glass of root", deployment(strings.Replace(broken, c.good+"@"+c.goodAt, c.bad+"@"+c.badAt, 1)), false, "may not")
}

// TestGlassWhileRegistryHangs: the glass can be broken when a registry takes all the time.
func TestGlassWhileRegistryHangs(t *testing.T) {
	t.Parallel()
	c := newScene(t)
	c.delay = 3 * time.Second
	c.cluster.may["ada@shop"] = true
	annotations := fmt.Sprintf(`"metadata":{"annotations":{"colophon.build/break-glass":"the registry hangs","colophon.build/break-glass-until":%q},`, time.Now().Add(time.Hour).UTC().Format(time.RFC3339))
	for path, object := range map[string]string{admission.PathMutate: pod(c.bad), admission.PathValidate: c.badPod()} {
		r := httptest.NewRequest(http.MethodPost, path+"?timeout=1s", bytes.NewReader(c.body(strings.Replace(object, `"metadata":{`, annotations, 1))))
		r.Header.Set("Content-Type", "application/json")
		w := httptest.NewRecorder()
		c.handler.ServeHTTP(w, r)
		if !strings.Contains(w.Body.String(), `"allowed":true`) || !strings.Contains(w.Body.String(), "THE GLASS IS BROKEN") {
			t.Errorf("%s: got %s", path, w.Body)
		}
	}
}
