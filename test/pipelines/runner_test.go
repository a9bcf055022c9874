// Package pipelines runs what colophon init writes: the scripts of all jobs, with real programs, and
// in place of GitHub an issuer of tokens, a certificate authority, a log and a registry of ours.
package pipelines

import (
	"cmp"
	"errors"
	"fmt"
	"maps"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"testing"

	"github.com/colophon-build/colophon/test/harness"
)

// runner stands for GitHub's runners. Each job has a directory of its own, which is gone when it ends,
// and an environment with what its permissions give. A job that may neither sign nor push has no
// network, and does not see the directories of the platform and of other jobs.
type runner struct {
	t         *testing.T
	platform  *harness.Platform
	ci        *harness.CI
	repo      string // the repository of the workflow, whose tag v1.2.0 is released
	tools     string // programs that stand for curl and docker
	artifacts string
	hidden    string // what a building job must not see
	claims    map[string]any
	secrets   map[string]string // all that there are
	ref       string
	server    string            // GITHUB_SERVER_URL; empty: https://github.com
	online    string            // a job that has a network although it may neither sign nor push
	run       map[string]string // output of each job that ran
	failed    string            // the job that failed
	before    map[string]func() // what others do before a job begins
	probe     string            // a script that runs where a build runs the code of the repository
}

// execute runs the jobs of a workflow until one fails.
func (r *runner) execute(w *workflow, inputs map[string]string) {
	r.t.Helper()
	r.run, r.failed = map[string]string{}, ""
	order, err := w.order()
	if err != nil {
		r.t.Fatal(err)
	}
	needs := map[string]string{}
	for _, name := range order {
		if f := r.before[name]; f != nil {
			f()
		}
		out, outputs, err := r.job(w, name, inputs, needs)
		r.run[name] = out
		if errors.Is(err, errSkipped) {
			r.run[name] = "skipped"
			continue
		}
		if err != nil {
			r.run[name] += err.Error()
			r.failed = name
			return
		}
		for k, v := range outputs {
			needs["needs."+name+".outputs."+k] = v
		}
	}
}

var errSkipped = errors.New("skipped")

// job runs one job.
func (r *runner) job(w *workflow, name string, inputs, needs map[string]string) (out string, outputs map[string]string, err error) {
	j := w.Jobs[name]
	for _, n := range j.Needs {
		if r.run[n] == "skipped" {
			return "", nil, errSkipped
		}
	}
	dir, err := os.MkdirTemp("", "job-")
	if err != nil {
		return "", nil, err
	}
	defer os.RemoveAll(dir)
	workspace, temp := filepath.Join(dir, "work"), filepath.Join(dir, "temp")
	for _, d := range []string{workspace, temp, filepath.Join(dir, "home")} {
		if err := os.Mkdir(d, 0o755); err != nil {
			return "", nil, err
		}
	}
	values := map[string]string{"github.ref": r.ref, "github.actor": "colophon", "github.token": "", "runner.temp": temp}
	if j.Permissions["packages"] == "write" {
		values["github.token"] = r.platform.Token("client.json")
	}
	maps.Copy(values, needs)
	for k, v := range inputs {
		values["inputs."+k] = v
	}
	for k, v := range r.secrets {
		values["secrets."+k] = v
	}
	if j.If != "" {
		if v, err := or(j.If, values); err != nil || v != "true" {
			return "", nil, errors.Join(err, errSkipped)
		}
	}
	env := r.environment(j, dir)
	for _, more := range []map[string]string{w.Env, j.Env} {
		for k, v := range more {
			if env[k], err = evaluate(v, values); err != nil {
				return "", nil, err
			}
		}
	}
	for n, s := range j.Steps {
		with := map[string]string{}
		for k, v := range s.With {
			if with[k], err = evaluate(fmt.Sprint(v), values); err != nil {
				return out, nil, err
			}
		}
		var said string
		if s.Uses != "" {
			err = r.action(s.Uses, with, workspace)
		} else {
			said, err = r.script(name != r.online, j, s, n, dir, env, values)
		}
		if out += said; err != nil {
			return out, nil, fmt.Errorf("step %d (%s%s): %w", n, s.Name, s.Uses, err)
		}
	}
	outputs = map[string]string{}
	for k, v := range j.Outputs {
		if outputs[k], err = evaluate(v, values); err != nil {
			return out, nil, err
		}
	}
	return out, outputs, nil
}

// environment is what every job has, and for a job with id-token: write the way to a token.
func (r *runner) environment(j *job, dir string) map[string]string {
	env := map[string]string{
		"PATH": r.tools + ":/usr/bin:/bin:/usr/sbin:/sbin", "HOME": filepath.Join(dir, "home"), "JOB": dir, "PROBE": r.probe,
		"GITHUB_ACTIONS": "true", "GITHUB_SERVER_URL": cmp.Or(r.server, "https://github.com"), "GITHUB_REPOSITORY": "acme/app",
		"GITHUB_REF": r.ref, "GITHUB_REF_NAME": strings.TrimPrefix(strings.TrimPrefix(r.ref, "refs/tags/"), "refs/heads/"),
		"GITHUB_WORKSPACE": filepath.Join(dir, "work"), "RUNNER_TEMP": filepath.Join(dir, "temp"), "GITHUB_PATH": filepath.Join(dir, "path"),
	}
	if j.Permissions["id-token"] == "write" {
		maps.Copy(env, r.ci.GitHubJob(r.claims))
	}
	return env
}

// action does what one of the three actions does.
func (r *runner) action(uses string, with map[string]string, workspace string) error {
	name, _, _ := strings.Cut(uses, "@")
	at := func(path string) string {
		if filepath.IsAbs(path) {
			return path
		}
		return filepath.Join(workspace, path)
	}
	artifact := filepath.Join(r.artifacts, with["name"])
	switch name {
	case "actions/checkout":
		if with["persist-credentials"] != "false" {
			return errors.New("it keeps its token")
		}
		return sh("git", "clone", "--quiet", "--branch", "v1.2.0", "file://"+r.repo, workspace)
	case "actions/upload-artifact":
		if _, err := os.Stat(artifact); err == nil {
			return fmt.Errorf("there is an artifact %s", with["name"])
		}
		info, err := os.Stat(at(with["path"]))
		if err != nil {
			return err
		}
		if info.IsDir() {
			return sh("cp", "-r", at(with["path"]), artifact)
		}
		return errors.Join(os.Mkdir(artifact, 0o755), sh("cp", at(with["path"]), artifact+"/"))
	case "actions/download-artifact":
		return errors.Join(os.MkdirAll(at(with["path"]), 0o755), sh("cp", "-r", artifact+"/.", at(with["path"])))
	}
	return fmt.Errorf("action %s: not known here", name)
}

func sh(name string, args ...string) error {
	if out, err := exec.Command(name, args...).CombinedOutput(); err != nil {
		return fmt.Errorf("%s: %w: %s", name, err, out)
	}
	return nil
}

// script runs a step with the shell that GitHub takes.
func (r *runner) script(confined bool, j *job, s step, n int, dir string, env, values map[string]string) (string, error) {
	own := maps.Clone(env)
	for k, v := range s.Env {
		var err error
		if own[k], err = evaluate(v, values); err != nil {
			return "", err
		}
	}
	output := filepath.Join(dir, fmt.Sprintf("output-%d", n))
	own["GITHUB_OUTPUT"] = output
	if more, err := os.ReadFile(env["GITHUB_PATH"]); err == nil {
		for line := range strings.Lines(string(more)) {
			own["PATH"] = strings.TrimSpace(line) + ":" + own["PATH"]
		}
	}
	confined = confined && j.Permissions["id-token"] == "" && j.Permissions["packages"] == ""
	out, err := r.shell(confined, env["GITHUB_WORKSPACE"], s.Run, own)
	said, _ := os.ReadFile(output)
	for line := range strings.Lines(string(said)) {
		if k, v, ok := strings.Cut(strings.TrimSpace(line), "="); ok && s.ID != "" {
			values["steps."+s.ID+".outputs."+k] = v
		}
	}
	return string(out), err
}

// shell runs a script in dir with nothing but env. Confined, it has no network, sees no other process, and
// neither the directories of the platform nor what other jobs handed over.
func (r *runner) shell(confined bool, dir, script string, env map[string]string) ([]byte, error) {
	f, err := os.CreateTemp(env["JOB"], "*.sh")
	if err != nil {
		return nil, err
	}
	_, err = f.WriteString(script)
	if err = errors.Join(err, f.Close()); err != nil {
		return nil, err
	}
	args := []string{"bash", "-e", f.Name()}
	if confined {
		hide := ""
		for _, d := range []string{r.hidden, r.artifacts} {
			hide += "mount -t tmpfs none '" + d + "' && "
		}
		args = []string{"unshare", "--net", "--mount-proc", "--pid", "--fork", "--kill-child", "sh", "-c", hide + `exec bash -e "$1"`, "sh", f.Name()}
	}
	cmd := exec.CommandContext(r.t.Context(), args[0], args[1:]...)
	cmd.Dir = dir
	for _, k := range slices.Sorted(maps.Keys(env)) {
		cmd.Env = append(cmd.Env, k+"="+env[k])
	}
	return cmd.CombinedOutput()
}

// programs that the jobs find on GitHub's runners. curl gets a release of Colophon from a directory;
// docker builds with a BuildKit of the job, without network, and runs the probe beside it.
const fakeCurl = `#!/bin/bash
last=${!#}
set -- "${@:1:$#-1}"
exec /usr/bin/curl "$@" "${last/https:\/\/github.com\/colophon-build\/colophon\/releases\/download\/v1.2.0/file://RELEASE}"
`

const fakeDocker = `#!/bin/bash
set -eu
case "$1 $2" in
"buildx create")
	if [ -n "$PROBE" ]; then bash "$PROBE"; fi
	printf 'root = "%s"\n[grpc]\n  address = ["unix://%s"]\n[worker.oci]\n  snapshotter = "overlayfs"\n  gc = false\n' "$JOB/buildkit" "$JOB/buildkit.sock" >"$JOB/buildkitd.toml"
	BIN/buildkitd --config "$JOB/buildkitd.toml" >"$JOB/buildkit.log" 2>&1 &
	for i in $(seq 100); do if BIN/buildctl --addr "unix://$JOB/buildkit.sock" debug workers >/dev/null 2>&1; then break; fi; sleep 0.1; done
	BIN/buildx create --name colophon --driver remote "unix://$JOB/buildkit.sock" || { cat "$JOB/buildkit.log"; exit 1; } ;;
buildx*) shift; BIN/buildx "$@" ;;
"context create") ;;
login*) exec BIN/crane auth login --username "$3" --password-stdin "$5" ;;
*) echo "docker $*: not known here" >&2; exit 1 ;;
esac
`

// fakeBuildctl is BuildKit's script of this name: a daemon for one build.
const fakeBuildctl = `#!/bin/bash
set -eu
docker buildx create
exec BIN/buildctl --addr "unix://$JOB/buildkit.sock" "$@"
`

func (r *runner) install() (release string) {
	t := r.t
	t.Helper()
	bin := filepath.Join(harness.Root(t), "out/bin")
	served := t.TempDir()
	r.tools = t.TempDir()
	for name, text := range map[string]string{"curl": strings.ReplaceAll(fakeCurl, "RELEASE", served), "docker": strings.ReplaceAll(fakeDocker, "BIN", bin), "buildctl-daemonless.sh": strings.ReplaceAll(fakeBuildctl, "BIN", bin)} {
		if err := os.WriteFile(filepath.Join(r.tools, name), []byte(text), 0o755); err != nil {
			t.Fatal(err)
		}
	}
	arch := map[string]string{"x86_64": "amd64", "aarch64": "arm64"}[machine(t)]
	for _, program := range []string{"colophon", "colophon-scan"} {
		if err := os.Symlink(harness.Bin(t, program), filepath.Join(served, program+"_v1.2.0_linux_"+arch)); err != nil {
			t.Fatal(err)
		}
	}
	if err := sh("sh", "-c", `cd "$1" && sha256sum colophon* >SHA256SUMS`, "sh", served); err != nil {
		t.Fatal(err)
	}
	sum, err := exec.Command("sha256sum", filepath.Join(served, "SHA256SUMS")).Output()
	if err != nil {
		t.Fatal(err)
	}
	return "v1.2.0@sha256:" + string(sum[:64])
}

func machine(t *testing.T) string {
	var name syscall.Utsname
	if err := syscall.Uname(&name); err != nil {
		t.Fatal(err)
	}
	var out []byte
	for _, c := range name.Machine {
		if c == 0 {
			break
		}
		out = append(out, byte(c))
	}
	return string(out)
}
