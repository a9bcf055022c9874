package registry

import (
	"encoding/json"
	"fmt"
	"strings"
	"testing"

	"github.com/colophon-build/colophon/oci"
	"github.com/colophon-build/colophon/policy"
	"github.com/colophon-build/colophon/test/matrix"
	"github.com/colophon-build/colophon/verify"
)

// TestGateMatrix: a registry with a gate gives the decision of each case of the shared table: when the
// image is pulled, and when it is given its tag again.
func TestGateMatrix(t *testing.T) {
	c := start(t, Config{Gate: &Gate{}, AnonymousPull: true}).as("")
	host := strings.TrimPrefix(c.url, "http://")
	w := matrix.New(t, host)
	roots, err := w.Trust()
	if err != nil {
		t.Fatal(err)
	}
	use := func(id string, text []byte) {
		t.Helper()
		sets, err := policy.ParseSets(text)
		if err == nil {
			err = c.reg.Verdicts().Use(id, sets, roots)
		}
		if err != nil {
			t.Fatalf("%s: %v", id, err)
		}
	}
	use("all", []byte(others))
	w.Push(t, oci.RegistryOptions{Token: "pusher"})
	pulled, tagged := 0, 0
	for n, one := range w.Cases {
		use(fmt.Sprint(n), one.Policy)
		ref, err := oci.ParseReference(one.Image)
		if err != nil {
			t.Fatal(err)
		}
		path := "/v2/" + strings.TrimPrefix(ref.Repository, host+"/") + "/manifests/" + ref.Identifier()
		compare := func(what string, r *reply, success int) {
			t.Helper()
			outcome := map[int]verify.Outcome{success: verify.Accepted, 403: verify.Rejected, 503: verify.Undecided}
			got, ok := outcome[r.StatusCode]
			reason := ""
			if r.StatusCode != success {
				var e struct{ Errors []struct{ Message string } }
				if err := json.Unmarshal(r.body, &e); err != nil || len(e.Errors) != 1 {
					t.Fatalf("%s: %s", one.Name, r.body)
				}
				reason = e.Errors[0].Message
			}
			warnings := r.Header.Values("Warning")
			if got != verify.Accepted {
				warnings = []string{one.Warning} // refusals show the reason alone
			}
			for i, w := range warnings {
				warnings[i] = strings.ReplaceAll(w, "'", `"`)
			}
			if wrong := one.Differs(got, reason, warnings); !ok || wrong != "" {
				t.Errorf("%s, %s, %s: %d %s", one.Name, one.Image, what, r.StatusCode, wrong)
			}
		}
		r := c.do("GET", path, nil)
		compare("pulled", r, 200)
		pulled++
		if ref.Digest != "" {
			continue
		}
		raw := c.as("pusher").want(200, "GET", strings.TrimSuffix(path, ref.Identifier())+c.digestOf(path, ref.Identifier()), nil)
		compare("tagged", c.as("pusher").do("PUT", path, raw.body, "Content-Type", raw.Header.Get("Content-Type")), 201)
		tagged++
	}
	if pulled < 60 || tagged < 40 {
		t.Errorf("pulled %d, tagged %d", pulled, tagged)
	}
	t.Logf("pulled %d, tagged %d", pulled, tagged)
}

// digestOf reads the digest of a tag from the store.
func (c *client) digestOf(path, tag string) string {
	c.t.Helper()
	name, _, _ := strings.Cut(strings.TrimPrefix(path, "/v2/"), "/manifests/")
	d, err := c.reg.store.readTag(name, tag)
	if err != nil {
		c.t.Fatal(err)
	}
	return d.String()
}
