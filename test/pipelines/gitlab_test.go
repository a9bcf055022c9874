package pipelines

import (
	"errors"
	"fmt"
	"maps"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"

	"go.yaml.in/yaml/v3"

	"github.com/colophon-build/colophon/trust"
)

// labJob is what the pipelines use of GitLab's jobs.
type labJob struct {
	Extends   string
	Needs     []string
	Variables map[string]string
	Script    []string
	IDTokens  map[string]struct{ Aud string } `yaml:"id_tokens"`
	Artifacts struct{ Paths []string }
}

// readLab reads the jobs of a pipeline, each with what it extends.
func readLab(t *testing.T, text string) map[string]labJob {
	t.Helper()
	all := map[string]yaml.Node{}
	if err := yaml.Unmarshal([]byte(text), &all); err != nil {
		t.Fatal(err)
	}
	read := func(name string) (j labJob) {
		node := all[name]
		if err := node.Decode(&j); err != nil {
			t.Fatalf("%s: %v", name, err)
		}
		return j
	}
	jobs := map[string]labJob{}
	for name := range all {
		if !strings.HasPrefix(name, "colophon-") {
			continue
		}
		j := read(name)
		variables := map[string]string{}
		for parent := j.Extends; parent != ""; parent = read(parent).Extends {
			for k, v := range read(parent).Variables {
				if _, ok := variables[k]; !ok {
					variables[k] = v
				}
			}
		}
		maps.Copy(variables, j.Variables)
		j.Variables = variables
		jobs[name] = j
	}
	return jobs
}

// lab runs the jobs of a pipeline until one fails.
func (w *world) lab(t *testing.T, jobs map[string]labJob, claims map[string]any) {
	t.Helper()
	if err := errors.Join(os.RemoveAll(w.artifacts), os.Mkdir(w.artifacts, 0o755)); err != nil {
		t.Fatal(err)
	}
	w.run, w.failed = map[string]string{}, ""
	graph := &workflow{Jobs: map[string]*job{}}
	for name, j := range jobs {
		graph.Jobs[name] = &job{Needs: j.Needs}
	}
	order, err := graph.order()
	if err != nil {
		t.Fatal(err)
	}
	for _, name := range order {
		if f := w.before[name]; f != nil {
			f()
		}
		out, err := w.labJob(t, name, jobs[name], claims)
		if w.run[name] = string(out); err != nil {
			w.run[name] += err.Error()
			w.failed = name
			return
		}
	}
}

// labJob runs a job in a checkout of its own, with the artifacts of those that it needs.
func (w *world) labJob(t *testing.T, name string, j labJob, claims map[string]any) ([]byte, error) {
	dir, err := os.MkdirTemp("", "job-")
	if err != nil {
		return nil, err
	}
	defer os.RemoveAll(dir)
	work := filepath.Join(dir, "work")
	if err := errors.Join(os.Mkdir(filepath.Join(dir, "home"), 0o755), sh("git", "clone", "--quiet", "--branch", "v1.2.0", "file://"+w.repo, work)); err != nil {
		return nil, err
	}
	for _, need := range j.Needs {
		if err := sh("cp", "-r", filepath.Join(w.artifacts, need)+"/.", work); err != nil {
			return nil, err
		}
	}
	env := map[string]string{
		"PATH": w.tools + ":/usr/bin:/bin:/usr/sbin:/sbin", "HOME": filepath.Join(dir, "home"), "JOB": dir, "PROBE": w.probe,
		"GITLAB_CI": "true", "CI_RUNNER_ID": "42", "CI_JOB_NAME": name, "CI_COMMIT_TAG": "v1.2.0", "CI_PROJECT_URL": "https://gitlab.com/acme/app",
		"CI_REGISTRY": w.platform.Addr, "CI_REGISTRY_USER": "colophon", "CI_REGISTRY_PASSWORD": w.platform.Token("client.json"), // in each job, as on GitLab
	}
	maps.Copy(env, j.Variables)
	if len(j.IDTokens) > 0 {
		maps.Copy(env, w.ci.GitLabJob(t, claims))
		env["CI_JOB_NAME"] = name
	}
	out, err := w.shell(len(j.IDTokens) == 0, work, strings.Join(j.Script, "\n"), env)
	if err != nil {
		return out, err
	}
	for _, path := range j.Artifacts.Paths {
		to := filepath.Join(w.artifacts, name, path)
		if err := errors.Join(os.MkdirAll(filepath.Dir(to), 0o755), sh("cp", "-r", filepath.Join(work, path), to)); err != nil {
			return out, err
		}
	}
	return out, nil
}

// TestGitLab releases by the jobs that init writes for GitLab, once as a project's own and once as a component.
func TestGitLab(t *testing.T) {
	w := newWorld(t)
	services := []string{"--tuf", w.platform.URL + "/tuf", "--root", w.root, "--resolutions", known(t)}
	claims := func(commit string) map[string]any { return map[string]any{"sha": commit, "ci_config_sha": commit} }
	check := func(t *testing.T, image string, jobs map[string]labJob, commit string) {
		found := filepath.Join(t.TempDir(), "found")
		w.probe = probe(t, found, w)
		if w.lab(t, jobs, claims(commit)); w.failed != "" {
			t.Fatalf("job %s failed:\n%s", w.failed, w.run[w.failed])
		}
		policy := filepath.Join(w.repo, "ci/colophon/policy.yaml")
		if out, err := w.colophon("verify", image+":v1.2.0", "--policy", policy, "--skip-source"); err != nil {
			t.Errorf("verify: %v\n%s", err, out)
		}
		if out, err := w.colophon("level", image+":v1.2.0", "--policy", policy, "-q"); err != nil || strings.TrimSpace(out) != "2" {
			t.Errorf("level: %v\n%s", err, out)
		}
		by := []string{"--trusted-root", w.trusted, "--certificate-identity", "https://gitlab.com/acme/app//.gitlab-ci.yml@refs/tags/v1.2.0", "--certificate-oidc-issuer", trust.GitLabIssuer}
		w.cosign(t, append([]string{"verify", image + ":v1.2.0"}, by...)...)
		if raw, err := os.ReadFile(found); err != nil || strings.Count(string(raw), "-- token") != 2 || strings.Contains(string(raw), "SIGSTORE_ID_TOKEN") {
			t.Errorf("the build found (%v):\n%s", err, raw)
		}
	}
	t.Run("own jobs", func(t *testing.T) {
		image := w.platform.Addr + "/acme/app"
		commit := w.commit(t, "app", append(services, "init", "gitlab", "--source", "https://gitlab.com/acme/app", "--install", w.install, "--image", image, "--reproducible")...)
		raw, err := os.ReadFile(filepath.Join(w.repo, ".gitlab-ci.yml"))
		if err != nil {
			t.Fatal(err)
		}
		jobs := readLab(t, string(raw))
		t.Run("builds that differ", func(t *testing.T) {
			other := jobs["colophon-rebuild"]
			other.Script = []string{"echo other >app\n" + other.Script[0]}
			differ := maps.Clone(jobs)
			differ["colophon-rebuild"] = other
			w.lab(t, differ, claims(commit))
			if got := w.tags(t, image); got != "" || w.failed != "colophon-attest" || !strings.Contains(w.run[w.failed], "the two builds differ") {
				t.Errorf("the job %q failed, found the tags %q:\n%s", w.failed, got, w.run[w.failed])
			}
		})
		check(t, image, jobs, commit)
	})
	t.Run("component", func(t *testing.T) {
		image := w.platform.Addr + "/acme/component"
		at := w.commit(t, "pipelines", append(services, "init", "gitlab", "--source", "https://gitlab.com/acme/pipelines", "--install", w.install, "--shared")...)
		raw, err := os.ReadFile(filepath.Join(w.repo, "templates/release.yml"))
		if err != nil {
			t.Fatal(err)
		}
		commit := w.commit(t, "app", "init", "gitlab", "--source", "https://gitlab.com/acme/app", "--workflow", "acme/pipelines@"+at, "--image", image)
		check(t, image, readLab(t, w.include(t, string(raw), "gitlab.com/acme/pipelines/release@"+at)), commit)
	})
}

// include fills in the inputs of a component as the repository says that includes it.
func (w *world) include(t *testing.T, component, name string) string {
	t.Helper()
	raw, err := os.ReadFile(filepath.Join(w.repo, ".gitlab-ci.yml"))
	if err != nil {
		t.Fatal(err)
	}
	var caller struct {
		Include []struct {
			Component string
			Inputs    map[string]any
		}
	}
	var header struct {
		Spec struct {
			Inputs map[string]struct{ Default any }
		}
	}
	head, body, _ := strings.Cut(component, "\n---\n")
	if err := errors.Join(yaml.Unmarshal(raw, &caller), yaml.Unmarshal([]byte(head), &header)); err != nil {
		t.Fatal(err)
	}
	if len(caller.Include) != 1 || caller.Include[0].Component != name {
		t.Fatalf("expected one component, %s, found %+v", name, caller.Include)
	}
	return regexp.MustCompile(`\$\[\[ inputs\.([a-z]+) \]\]`).ReplaceAllStringFunc(body, func(e string) string {
		input := strings.TrimSuffix(strings.TrimPrefix(e, "$[[ inputs."), " ]]")
		if v, ok := caller.Include[0].Inputs[input]; ok {
			return fmt.Sprint(v)
		}
		d, ok := header.Spec.Inputs[input]
		if !ok {
			t.Fatalf("the component has no input %s", input)
		}
		return fmt.Sprint(d.Default)
	})
}
