package pipelines

import (
	"cmp"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"encoding/json"
	"encoding/pem"
	"errors"
	"fmt"
	"maps"
	"net/http/httptest"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"

	"go.yaml.in/yaml/v3"

	"github.com/colophon-build/colophon/test/githttp"
	"github.com/colophon-build/colophon/test/gittest"
)

// pipeline is what the pipelines in a cluster use of Tekton.
type pipeline struct {
	Metadata struct{ Name string }
	Spec     struct {
		Results []struct{ Name, Value string }
		Tasks   []clusterTask
	}
}

type clusterTask struct {
	Name       string
	RunAfter   []string `yaml:"runAfter"`
	Params     []struct{ Name, Value string }
	Workspaces []struct {
		Name, Workspace string
		SubPath         string `yaml:"subPath"`
	}
	TaskSpec struct {
		Results []struct{ Name string }
		Steps   []struct {
			Script     string
			WorkingDir string `yaml:"workingDir"`
			Env        []struct{ Name, Value string }
		}
	} `yaml:"taskSpec"`
}

// cluster runs pipelines with directories for workspaces and files for results.
type cluster struct {
	*world
	data     string // the volume
	registry string // the secret
	results  map[string]string
}

var variable = regexp.MustCompile(`\$\(([a-z]+\.[A-Za-z0-9._-]+)\)`)

func replace(text string, values map[string]string) string {
	return variable.ReplaceAllStringFunc(text, func(v string) string {
		if value, ok := values[variable.FindStringSubmatch(v)[1]]; ok {
			return value
		}
		return v
	})
}

// start runs a pipeline until a task fails. A task that does not get the secret has no network, but for
// the one that fetches.
func (c *cluster) start(t *testing.T, p pipeline, params map[string]string) (said string, err error) {
	t.Helper()
	c.results = map[string]string{}
	done := []string{}
	for len(done) < len(p.Spec.Tasks) {
		n := slices.IndexFunc(p.Spec.Tasks, func(k clusterTask) bool {
			return !slices.Contains(done, k.Name) && !slices.ContainsFunc(k.RunAfter, func(b string) bool { return !slices.Contains(done, b) })
		})
		out, err := c.task(p.Spec.Tasks[n], params)
		if said += string(out); err != nil {
			return said, fmt.Errorf("task %s: %w", p.Spec.Tasks[n].Name, err)
		}
		done = append(done, p.Spec.Tasks[n].Name)
	}
	for _, r := range p.Spec.Results {
		c.results[r.Name] = replace(r.Value, c.results)
	}
	return said, nil
}

func (c *cluster) task(k clusterTask, params map[string]string) ([]byte, error) {
	dir, err := os.MkdirTemp("", "task-")
	if err != nil {
		return nil, err
	}
	defer os.RemoveAll(dir)
	values := map[string]string{}
	for _, p := range k.Params {
		values["params."+p.Name] = replace(p.Value, params)
	}
	secret := false
	for _, w := range k.Workspaces {
		at := filepath.Join(c.data, w.SubPath)
		if w.Workspace == "registry" {
			at, secret = c.registry, true
		}
		if err := os.MkdirAll(at, 0o755); err != nil {
			return nil, err
		}
		values["workspaces."+w.Name+".path"] = at
	}
	for _, r := range k.TaskSpec.Results {
		values["results."+r.Name+".path"] = filepath.Join(dir, r.Name)
	}
	s := k.TaskSpec.Steps[0]
	env := map[string]string{"PATH": c.tools + ":/usr/bin:/bin:/usr/sbin:/sbin", "HOME": dir, "JOB": dir, "PROBE": c.probe, "TMPDIR": dir}
	for _, e := range s.Env {
		env[e.Name] = replace(e.Value, values)
	}
	// Only variables of the environment are replaced: a script with a parameter in it would run it.
	out, err := c.shell(!secret && k.Name != "fetch", cmp.Or(replace(s.WorkingDir, values), dir), s.Script, env)
	for _, r := range k.TaskSpec.Results {
		if text, err := os.ReadFile(filepath.Join(dir, r.Name)); err == nil {
			c.results["tasks."+k.Name+".results."+r.Name] = string(text)
		}
	}
	return out, err
}

// statement is what Tekton Chains says of a run, in its format slsa/v2alpha4.
func (c *cluster) statement(t *testing.T) string {
	t.Helper()
	fetched := "tasks.fetch.results.CHAINS-GIT_"
	p := map[string]any{
		"buildDefinition": map[string]any{
			"buildType": "https://tekton.dev/chains/v2/slsa", "externalParameters": map[string]any{"runSpec": map[string]any{}}, "internalParameters": map[string]any{},
			"resolvedDependencies": []any{map[string]any{"name": "inputs/result", "uri": "git+" + c.results[fetched+"URL"] + ".git", "digest": map[string]string{"sha1": c.results[fetched+"COMMIT"]}}},
		},
		"runDetails": map[string]any{"builder": map[string]any{"id": "https://tekton.dev/chains/v2"}, "metadata": map[string]any{}},
	}
	raw, err := json.Marshal(p)
	if err != nil {
		t.Fatal(err)
	}
	file := filepath.Join(t.TempDir(), "chains.json")
	if err := os.WriteFile(file, raw, 0o644); err != nil {
		t.Fatal(err)
	}
	return file
}

// writeKey writes a key pair to FILE.pem and FILE.pub.
func writeKey(t *testing.T, file string) {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	private, err := x509.MarshalPKCS8PrivateKey(key)
	if err != nil {
		t.Fatal(err)
	}
	public, err := x509.MarshalPKIXPublicKey(key.Public())
	if err != nil {
		t.Fatal(err)
	}
	if err := errors.Join(
		os.WriteFile(file+".pem", pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: private}), 0o600),
		os.WriteFile(file+".pub", pem.EncodeToMemory(&pem.Block{Type: "PUBLIC KEY", Bytes: public}), 0o644),
	); err != nil {
		t.Fatal(err)
	}
}

// TestTekton runs the tasks that init writes, signs what they made as Tekton Chains does, and tags then. Without
// the signature, or with that of another cluster, there is no tag.
func TestTekton(t *testing.T) {
	w := newWorld(t)
	repos := t.TempDir()
	git := httptest.NewServer(githttp.Handler(t, repos))
	t.Cleanup(git.Close)
	keys := t.TempDir()
	for _, name := range []string{"chains", "other"} {
		writeKey(t, filepath.Join(keys, name))
	}
	image := w.platform.Addr + "/acme/app"
	services := []string{"--tuf", w.platform.URL + "/tuf", "--root", w.root, "--resolutions", known(t)}
	w.commit(t, "app", append(services, "init", "tekton", "--source", git.URL+"/acme/app", "--image", image, "--install", w.install, "--chains-key", filepath.Join(keys, "chains.pub"), "--reproducible")...)
	gittest.Git(t, repos, "clone", "--quiet", "--bare", w.repo, "acme/app")
	raw, err := os.ReadFile(filepath.Join(w.repo, "ci/colophon/tekton.yaml"))
	if err != nil {
		t.Fatal(err)
	}
	var release, tag pipeline
	d := yaml.NewDecoder(strings.NewReader(string(raw)))
	if err := errors.Join(d.Decode(&release), d.Decode(&tag)); err != nil {
		t.Fatal(err)
	}
	found := filepath.Join(t.TempDir(), "found")
	w.probe = probe(t, found, w)
	if err := os.Mkdir(w.artifacts, 0o755); err != nil {
		t.Fatal(err)
	}
	c := &cluster{world: w, data: t.TempDir(), registry: w.platform.DockerConfig()}
	if said, err := c.start(t, release, map[string]string{"params.tag": "v1.2.0"}); err != nil {
		t.Fatalf("%v\n%s", err, said)
	}
	noToken(t, found)
	made := maps.Clone(c.results)
	if made["IMAGE_URL"] != image || !strings.HasPrefix(made["IMAGE_DIGEST"], "sha256:") {
		t.Fatalf("found the results %v", made)
	}
	statement := c.statement(t)
	promote := func() (string, error) {
		return c.start(t, tag, map[string]string{"params.digest": made["IMAGE_DIGEST"], "params.tag": "v1.2.0"})
	}
	attest := func(key string) {
		t.Helper()
		cmd := w.platform.Colophon(t.Context(), "attest", image+"@"+made["IMAGE_DIGEST"], "--type", "slsaprovenance1", "--predicate", statement,
			"--key", filepath.Join(keys, key+".pem"), "--signing-config", w.platform.URL+"/tuf")
		cmd.Env = append(cmd.Env, "DOCKER_CONFIG="+w.platform.DockerConfig())
		if out, err := cmd.CombinedOutput(); err != nil {
			t.Fatalf("%v\n%s", err, out)
		}
	}
	for _, signer := range []string{"", "other"} {
		if signer != "" {
			attest(signer)
		}
		if said, err := promote(); err == nil || !strings.Contains(said, "rejected") || w.tags(t, image) != "" {
			t.Errorf("signed by %q: found the tags %q (%v):\n%s", signer, w.tags(t, image), err, said)
		}
	}
	attest("chains")
	if said, err := promote(); err != nil || w.tags(t, image) != "v1.2.0" {
		t.Errorf("found the tags %q: %v\n%s", w.tags(t, image), err, said)
	}
	if out, err := w.colophon("level", image+":v1.2.0", "--policy", filepath.Join(w.repo, "ci/colophon/policy.yaml"), "-q"); err != nil || strings.TrimSpace(out) != "2" {
		t.Errorf("level: %v\n%s", err, out)
	}
}
