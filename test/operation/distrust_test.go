package operation

import (
	"fmt"
	"net/http"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/colophon-build/colophon/distrust"
	"github.com/colophon-build/colophon/oci"
	"github.com/colophon-build/colophon/test/await"
	"github.com/colophon-build/colophon/test/harness"
	"github.com/colophon-build/colophon/test/prooftest"
	"github.com/colophon-build/colophon/test/shop"
)

// TestDistrust: the platform keeps its list of what is no longer trusted. Only admin.json adds and lifts, whatever a
// request says, and after a crash the list is the same and newer.
func TestDistrust(t *testing.T) {
	p := harness.Start(t)
	p.Trust()
	cli := func(account string, code int, args ...string) string {
		t.Helper()
		cmd := p.Colophon(t.Context(), args...)
		cmd.Env = append(slices.DeleteFunc(cmd.Env, func(v string) bool { return strings.HasPrefix(v, "COLOPHON_PLATFORM=") }), "COLOPHON_PLATFORM="+filepath.Join(p.Data, account))
		out, _ := cmd.CombinedOutput()
		if got := cmd.ProcessState.ExitCode(); got != code {
			t.Fatalf("%s: %v: got exit code %d, want %d\n%s", account, args, got, code, out)
		}
		return string(out)
	}
	list := func() *distrust.List {
		t.Helper()
		l, err := distrust.Parse(p.Get("/distrust"))
		if err != nil {
			t.Fatal(err)
		}
		return l
	}
	empty := list()
	key := filepath.Join(t.TempDir(), "distrust.pub")
	if err := os.WriteFile(key, p.Get("/distrust/key"), 0o600); err != nil {
		t.Fatal(err)
	}
	const commit = "381e42a0c0ffee00c0ffee00c0ffee00c0ffee00"
	cli("admin.json", 0, "distrust", "issuer", "add", "shop", p.URL+"/distrust", "--key", key, "--insecure-no-log")
	for _, account := range []string{"client.json", "pull.json"} {
		if out := cli(account, 1, "distrust", "add", "--commit", commit, "--reason", "r"); !strings.Contains(out, "admin.json") {
			t.Errorf("%s: got %s", account, out)
		}
	}
	cli("admin.json", 0, "distrust", "add", "--commit", commit, "--reason", "pushed with a stolen token")
	if out := cli("client.json", 0, "distrust", "list", "shop"); !strings.Contains(out, "pushed with a stolen token") {
		t.Errorf("got %s", out)
	}
	told := list()
	if told.Entries != 1 || told.All()[0].By != "admin" || told.Extends(&empty.Head) != nil {
		t.Errorf("got %+v", told.Head)
	}
	// What the port does not accept, and what no other role may say, adds nothing.
	const lift = `{"number":0,"time":"2026-11-27T12:00:00Z","lift":0,"reason":"r"}`
	post := func(client *http.Client, url, token string) int {
		t.Helper()
		r, err := http.NewRequest(http.MethodPost, url, strings.NewReader(lift))
		if err != nil {
			t.Fatal(err)
		}
		r.Header.Set("Authorization", "Bearer "+token)
		r.Header.Set("Colophon-Account", "admin")
		resp, err := client.Do(r)
		if err != nil {
			t.Fatal(err)
		}
		resp.Body.Close()
		return resp.StatusCode
	}
	for _, url := range []string{"/distrust", "/distrust/", "//distrust", "/./distrust"} {
		if code := post(http.DefaultClient, p.URL+url, p.Token("client.json")); code == http.StatusOK && list().Entries > 1 {
			t.Errorf("%s with client.json: got %d", url, code)
		}
	}
	if os.Getuid() == 0 {
		for _, role := range []string{"attestor", "search"} {
			if code := post(p.As(role, "trust"), "http://role/distrust", ""); code != http.StatusForbidden {
				t.Errorf("role %s: got %d, want it refused", role, code)
			}
		}
	}
	if n := list().Entries; n != 1 {
		t.Fatalf("got %d entries, want 1", n)
	}
	p.Kill()
	p.Up()
	if again := list(); again.Extends(&told.Head) != nil || again.Entries != 1 || again.Issued.Before(told.Issued) {
		t.Errorf("after a crash: got %+v, want the same list", again.Head)
	}
	cli("admin.json", 0, "distrust", "lift", "0", "--reason", "it was another one")
	cli("admin.json", 1, "distrust", "lift", "0", "--reason", "again")
	if l := list(); l.Lifted(0) == nil {
		t.Errorf("got %+v", l.Head)
	}
}

// TestDistrustAtTheRegistry: an entry of the platform's own list stops its registry from serving an image within
// five seconds, and the lift lets it.
func TestDistrustAtTheRegistry(t *testing.T) {
	p := harness.Reserve(t)
	dir := t.TempDir()
	write := func(name, content string) string {
		t.Helper()
		file := filepath.Join(dir, name)
		if err := os.WriteFile(file, []byte(content), 0o600); err != nil {
			t.Fatal(err)
		}
		return file
	}
	released := prooftest.New(t) // by another platform
	rules := strings.Replace(strings.ReplaceAll(shop.Rules, "HOST", p.Addr), "accept:", "distrust: {maxAge: 15m}\n      accept:", 1)
	gate := map[string]any{"policies": write("policies.yaml", rules), "trust": write("root.json", string(released.Document()))}
	p.Args = []string{"--config", harness.Config(t, map[string]any{"registry": map[string]any{"gate": gate}})}
	p.Up()
	store := prooftest.NewStore(t)
	r := released.Release(store)
	r.Attach(prooftest.Kinds...)
	dst := shop.Open(t, p.Addr+"/team/app", oci.RegistryOptions{Token: p.Token("client.json")})
	store.Push(t.Context(), dst)
	wait := func(what string, want int) {
		t.Helper()
		await.True(t, fmt.Sprintf("%s: status %d", what, want), func() bool {
			req, err := http.NewRequest(http.MethodGet, p.URL+"/v2/team/app/manifests/"+r.Image.Digest.String(), nil)
			if err != nil {
				t.Fatal(err)
			}
			req.Header.Set("Accept", "application/vnd.oci.image.index.v1+json")
			req.SetBasicAuth("colophon", p.Token("pull.json"))
			resp, err := http.DefaultClient.Do(req)
			if err != nil {
				t.Fatal(err)
			}
			resp.Body.Close()
			return resp.StatusCode == want
		})
	}
	wait("an empty list", http.StatusOK)
	admin := func(args ...string) {
		t.Helper()
		cmd := p.Colophon(t.Context(), append([]string{"distrust"}, args...)...)
		cmd.Env = append(os.Environ(), "COLOPHON_PLATFORM="+filepath.Join(p.Data, "admin.json"))
		if out, err := cmd.CombinedOutput(); err != nil {
			t.Fatalf("%v: %v\n%s", args, err, out)
		}
	}
	admin("add", "--commit", prooftest.Commit, "--reason", "stolen")
	wait("told", http.StatusForbidden)
	admin("lift", "0", "--reason", "it was not")
	wait("lifted", http.StatusOK)
}
