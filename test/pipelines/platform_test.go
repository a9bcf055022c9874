package pipelines

import (
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/colophon-build/colophon/test/githttp"
	"github.com/colophon-build/colophon/test/gittest"
	"github.com/colophon-build/colophon/test/harness"
)

// TestPlatform: a job on GitHub asks a platform for a release, and verifies what it gets. A platform
// with another trust document is not asked.
func TestPlatform(t *testing.T) {
	w := newWorld(t)
	repos := t.TempDir()
	git := httptest.NewServer(githttp.Handler(t, repos))
	t.Cleanup(git.Close)
	w.commit(t, "app", "init", "colophon", "--source", "https://github.com/acme/app", "--offline", "--install", w.install)
	gittest.Git(t, w.repo, "tag", "-d", "v1.2.0")
	// The policy is about a repository that the platform can fetch here.
	policy := filepath.Join(w.repo, "ci/colophon/policy.yaml")
	text, err := os.ReadFile(policy)
	if err != nil {
		t.Fatal(err)
	}
	commit := func(script string) {
		t.Helper()
		harness.Write(t, w.repo, map[string]string{
			"ci/colophon/policy.yaml": strings.ReplaceAll(string(text), "https://github.com/acme/app", git.URL+"/acme/app"), "ci/colophon/release.sh": script,
		})
		gittest.Git(t, w.repo, "commit", "-q", "-a", "-m", "policy", "--allow-empty")
		gittest.Git(t, w.repo, "tag", "-f", "-a", "-m", "v1.2.0", "v1.2.0")
		if err := os.RemoveAll(filepath.Join(repos, "acme")); err != nil {
			t.Fatal(err)
		}
		gittest.Git(t, repos, "clone", "--quiet", "--bare", w.repo, "acme/app")
	}
	script, err := os.ReadFile(filepath.Join(w.repo, "ci/colophon/release.sh"))
	if err != nil {
		t.Fatal(err)
	}
	client, err := os.ReadFile(filepath.Join(w.platform.Data, "client.json"))
	if err != nil {
		t.Fatal(err)
	}
	w.secrets["COLOPHON_CLIENT"] = string(client)
	w.server, w.online = git.URL, "release"
	f := read(t, filepath.Join(w.repo, ".github/workflows/release.yaml"))
	image := w.platform.Addr + "/acme/app"

	_, pin, _ := strings.Cut(string(script), "--fingerprint \"sha256:")
	commit(strings.Replace(string(script), pin[:64], strings.Repeat("0", 64), 1))
	if said := w.release(t, f, nil); w.failed != "release" || !strings.Contains(said, "expected fingerprint") || w.tags(t, image) != "" {
		t.Errorf("another trust document: the job %q failed, found the tags %q:\n%s", w.failed, w.tags(t, image), said)
	}
	commit(string(script))
	if said := w.release(t, f, nil); w.failed != "" || !strings.Contains(w.run["release"], "accepted") {
		t.Fatalf("job %s failed:\n%s%s", w.failed, said, w.run["release"])
	}
	if got := w.tags(t, image); !strings.HasPrefix(got+" ", "v1.2.0 ") {
		t.Errorf("expected the tag v1.2.0, found %q", got)
	}
	if strings.Contains(w.run["release"], w.platform.Token("client.json")) {
		t.Error("the token is in the log")
	}
}
