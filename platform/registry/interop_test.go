package registry

import (
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"github.com/colophon-build/colophon/test/needs"
)

// stock returns another project's program, built by the Makefile.
func stock(t *testing.T, name string) string {
	t.Helper()
	path, err := filepath.Abs(filepath.Join("../../out/bin", name))
	if err != nil {
		t.Fatal(err)
	}
	if _, err := os.Stat(path); err != nil {
		needs.Missing(t, "stock %s is not built: %v", name, err)
	}
	return path
}

// shell runs a stock program with the credentials of one token.
type shell struct {
	t    *testing.T
	env  []string
	dir  string
	host string
}

func newShell(t *testing.T, c *client) *shell {
	t.Helper()
	s := &shell{t: t, dir: t.TempDir(), host: strings.TrimPrefix(c.url, "http://")}
	s.env = append(os.Environ(), "DOCKER_CONFIG="+s.dir, "HOME="+s.dir, "COSIGN_PASSWORD=", "COSIGN_YES=true")
	auth := marshal(map[string]any{"auths": map[string]any{s.host: map[string]string{"username": "x", "password": c.token}}})
	if err := os.WriteFile(filepath.Join(s.dir, "config.json"), auth, 0o600); err != nil {
		t.Fatal(err)
	}
	return s
}

func (s *shell) run(program string, args ...string) (string, error) {
	cmd := exec.Command(program, args...)
	cmd.Env, cmd.Dir = s.env, s.dir
	out, err := cmd.CombinedOutput()
	return strings.TrimSpace(string(out)), err
}

func (s *shell) ok(program string, args ...string) string {
	s.t.Helper()
	out, err := s.run(program, args...)
	if err != nil {
		s.t.Fatalf("%s %s: %v\n%s", filepath.Base(program), strings.Join(args, " "), err, out)
	}
	return out
}

func (s *shell) fails(want, program string, args ...string) {
	s.t.Helper()
	if out, err := s.run(program, args...); err == nil || !strings.Contains(out, want) {
		s.t.Errorf("%s %s: got %v\n%s\nwant a failure that says %q", filepath.Base(program), strings.Join(args, " "), err, out, want)
	}
}

// oneFileImages makes two images with crane, and returns their tarballs.
func (s *shell) oneFileImages(crane string) (one, two string) {
	s.t.Helper()
	var tars []string
	for _, name := range []string{"one", "two"} {
		if err := os.WriteFile(filepath.Join(s.dir, name), []byte(name), 0o644); err != nil {
			s.t.Fatal(err)
		}
		cmd := exec.Command("tar", "cf", name+"-layer.tar", name)
		cmd.Dir = s.dir
		if out, err := cmd.CombinedOutput(); err != nil {
			s.t.Fatalf("tar: %v %s", err, out)
		}
		s.ok(crane, "append", "--oci-empty-base", "-f", name+"-layer.tar", "-t", "x/"+name+":t", "-o", name+".tar")
		tars = append(tars, name+".tar")
	}
	return tars[0], tars[1]
}

func TestCrane(t *testing.T) {
	crane := stock(t, "crane")
	for _, open := range []bool{true, false} {
		c := start(t, Config{AnonymousPull: open})
		pusher, boss := newShell(t, c.as("pusher")), newShell(t, c)
		image := pusher.host + "/team/app:v1"
		one, two := pusher.oneFileImages(crane)

		pusher.ok(crane, "push", one, image)
		pusher.ok(crane, "push", one, image) // again is no overwrite
		digest := pusher.ok(crane, "digest", image)
		pusher.fails(`is immutable: it points at `+digest, crane, "push", two, image)
		pusher.ok(crane, "tag", image, "latest")
		pusher.ok(crane, "copy", image, pusher.host+"/other/app:v1") // mounts
		if got := pusher.ok(crane, "ls", pusher.host+"/team/app"); got != "latest\nv1" {
			t.Errorf("got tags %q", got)
		}
		if got := pusher.ok(crane, "catalog", pusher.host); got != "other/app\nteam/app" {
			t.Errorf("got repositories %q", got)
		}
		pusher.ok(crane, "pull", "--format=oci", image, "layout")
		pusher.ok(crane, "validate", "--remote", image)
		pusher.fails("DENIED", crane, "delete", image)

		nobody := newShell(t, c.as("wrong"))
		nobody.fails("UNAUTHORIZED", crane, "push", filepath.Join(pusher.dir, two), pusher.host+"/team/app:v2")
		os.Remove(filepath.Join(nobody.dir, "config.json"))
		if open {
			nobody.ok(crane, "manifest", image)
			nobody.fails("UNAUTHORIZED", crane, "copy", image, pusher.host+"/team/app:v2")
		} else {
			nobody.fails("UNAUTHORIZED", crane, "manifest", image)
		}
		boss.ok(crane, "delete", image)
		boss.fails("MANIFEST_UNKNOWN", crane, "digest", image)
		boss.ok(crane, "delete", boss.host+"/team/app@"+digest)
		boss.fails("MANIFEST_UNKNOWN", crane, "manifest", boss.host+"/team/app:latest")
	}
}

// cosign attaches through the referrers API, and by tags where it is told to:
// twice each, and both attachments stay.
func TestCosign(t *testing.T) {
	crane, cosign := stock(t, "crane"), stock(t, "cosign")
	c := start(t, Config{AnonymousPull: true})
	s := newShell(t, c.as("pusher"))
	one, _ := s.oneFileImages(crane)
	image := s.host + "/team/app"
	s.ok(crane, "push", one, image+":v1")
	digest := s.ok(crane, "digest", image+":v1")
	at := image + "@" + digest
	s.ok(cosign, "generate-key-pair")

	for range 2 {
		s.ok(cosign, "sign", "--key", "cosign.key", "--use-signing-config=false", "--tlog-upload=false", at)
	}
	s.ok(cosign, "verify", "--key", "cosign.pub", "--insecure-ignore-tlog", at)
	var l list
	if l, _ = c.referrers("/v2/team/app/referrers/" + digest); len(l.Manifests) != 2 {
		t.Errorf("got %d referrers, want 2 signatures", len(l.Manifests))
	}
	if got := s.ok(crane, "ls", image); got != "v1" {
		t.Errorf("got tags %q, want v1 alone: cosign fell back to tags", got)
	}
	if tree := s.ok(cosign, "tree", at); strings.Count(tree, "https://sigstore.dev/cosign/sign/v1 artifacts via OCI referrer") != 2 {
		t.Errorf("cosign tree shows no two signatures:\n%s", tree)
	}

	if err := os.WriteFile(filepath.Join(s.dir, "predicate"), []byte("{}"), 0o600); err != nil {
		t.Fatal(err)
	}
	for range 2 {
		s.ok(cosign, "sign", "--key", "cosign.key", "--new-bundle-format=false", "--use-signing-config=false", "--tlog-upload=false", "--registry-referrers-mode=legacy", "-a", "n="+t.Name(), at)
		s.ok(cosign, "attest", "--key", "cosign.key", "--new-bundle-format=false", "--use-signing-config=false", "--tlog-upload=false", "--predicate", "predicate", "--type", "https://example.com/p", at)
	}
	tag := strings.Replace(digest, ":", "-", 1)
	if got := s.ok(crane, "ls", image); got != tag+".att\n"+tag+".sig\nv1" {
		t.Errorf("got tags %q", got)
	}
	if got := strings.Count(s.ok(crane, "manifest", image+":"+tag+".att"), "dsse.envelope"); got != 2 {
		t.Errorf("got %d attestations under the tag, want 2", got)
	}
	s.ok(cosign, "verify", "--key", "cosign.pub", "--insecure-ignore-tlog", "--new-bundle-format=false", at)
}
