package interop

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"testing"

	"github.com/colophon-build/colophon/test/await"
	"github.com/colophon-build/colophon/test/harness"
	"github.com/colophon-build/colophon/trust"
)

// A swap is a row of docs/instead.md: commands of another tool, and those that do the same here.
type swap struct {
	theirs, ours []string // those that are run
	line         int
}

var (
	quoted = regexp.MustCompile("`([^`]+)`( †)?")
	// runnable are the programs of the page that can be had here.
	runnable = regexp.MustCompile(`^(colophon|cosign|syft|docker|crane|oras|openssl|sha256sum) `)
)

// swaps reads the tables of the page.
func swaps(t *testing.T) (all []swap) {
	t.Helper()
	text, err := os.ReadFile(filepath.Join(harness.Root(t), "docs", "instead.md"))
	if err != nil {
		t.Fatal(err)
	}
	for i, line := range strings.Split(string(text), "\n") {
		cells := strings.Split(line, " | ")
		if !strings.HasPrefix(line, "| ") || !strings.Contains(line, "`") || len(cells) != 2 {
			continue
		}
		s := swap{line: i + 1}
		for j, to := range []*[]string{&s.theirs, &s.ours} {
			cell := cells[j]
			if strings.Contains(cell, "(2.6.5)") {
				cell = strings.Replace(cell, "`cosign ", "`cosign2 ", 1)
			}
			for _, m := range quoted.FindAllStringSubmatch(cell, -1) {
				if command := strings.Replace(m[1], "cosign2", "cosign", 1); m[2] == "" && runnable.MatchString(command+" ") {
					*to = append(*to, m[1])
				}
			}
		}
		all = append(all, s)
	}
	if len(all) < 70 {
		t.Fatalf("got %d rows, want those of all tables", len(all))
	}
	return all
}

// A side is a directory and an image on which the commands of one column are run.
type side struct{ name, dir, image string }

// instead is a job of GitHub's, with what the commands of docs/instead.md name.
type instead struct {
	*pieces
	ci           *harness.CI
	theirs, ours side
	digest       string
	copies       int // the number of the next copy: no tag moves
	env          []string
}

// functions add to the commands of the page what they need here: cosign the services, and
// colophon the password of the key, and that there is no repository to ask.
const functions = `
cosign() { case $1 in
sign|attest|sign-blob|attest-blob) command cosign "$@" --yes --signing-config "$CONFIG" --trusted-root "$ROOT" ;;
verify*) command cosign "$@" --trusted-root "$ROOT" ;;
*) command cosign "$@" ;;
esac; }
cosign2() { case $1 in
manifest) command cosign2 "$@" --new-bundle-format --use-signed-timestamps --trusted-root "$ROOT" ;;
*) command cosign2 "$@" ;;
esac; }
colophon() { case " $* " in
*' --key cosign.key '*) command colophon "$@" --password-file password ;;
*' verify '*' --source '*) command colophon "$@" --skip-source ;;
*) command colophon "$@" ;;
esac; }
docker() { shift; buildx "$@"; }
`

// shell runs commands as the page has them.
func (i *instead) shell(s side, commands ...string) (out string, err error) {
	ctx, cancel := context.WithTimeout(i.t.Context(), await.Patience)
	defer cancel()
	words := map[string]string{
		"IMAGE": s.image, "COPY": fmt.Sprintf("%s-copied-%d", s.image, i.copies), "LOADED": s.image + "-loaded", "BRANCHED": i.Addr + "/branched/app:v1", "RELEASED": i.Addr + "/released/app:v1.0.0", "DIGEST": i.digest, "COMMIT": harness.CICommit,
		"REPO": "github.com/acme/app", "IDENTITY": harness.GitHubIdentity, "ISSUER": trust.GitHubIssuer, "BUILDER": branchIdentity, "PLATFORM": i.URL,
	}
	script := regexp.MustCompile(`\b[A-Z]{4,}\b`).ReplaceAllStringFunc(strings.Join(commands, "\n"), func(word string) string {
		if v, ok := words[word]; ok {
			return v
		}
		return word
	})
	cmd := exec.CommandContext(ctx, "bash", "-euo", "pipefail", "-c", functions+script)
	cmd.Dir, cmd.Env = s.dir, i.env
	raw, err := cmd.CombinedOutput()
	return string(raw), err
}

const branchIdentity = "https://github.com/acme/app/.github/workflows/release.yml@refs/heads/main"

func startInstead(t *testing.T) *instead {
	t.Helper()
	ci := harness.StartCI(t)
	p := harness.Start(t, "--config", harness.Config(t, ci.Config()))
	p.Trust()
	home := t.TempDir()
	i := &instead{pieces: &pieces{&bench{Platform: p, t: t, home: home, docker: p.DockerConfig(), root: filepath.Join(home, "trusted_root.json"), config: filepath.Join(home, "signing_config.json")}, nil}, ci: ci}
	harness.Write(t, home, map[string]string{"trusted_root.json": string(p.Get("/trusted_root.json")), "signing_config.json": string(p.Get("/signing_config.json"))})
	i.env = append(p.Env(), "PATH="+filepath.Join(harness.Root(t), "out/bin")+":"+os.Getenv("PATH"), "HOME="+home, "DOCKER_CONFIG="+i.docker, "TUF_ROOT="+filepath.Join(home, "tuf"),
		"ROOT="+i.root, "CONFIG="+i.config, "COSIGN_PASSWORD=hunter2", "SYFT_REGISTRY_INSECURE_USE_HTTP=true", "SYFT_CHECK_FOR_APP_UPDATE=false", "XDG_CONFIG_HOME=")
	i.push(t, "plain/app:v1")
	i.run(t, "crane", "mutate", "--set-platform", "linux/amd64", "-t", p.Addr+"/theirs/app:v1", p.Addr+"/plain/app:v1")
	i.digest = strings.TrimSpace(i.run(t, "crane", "digest", p.Addr+"/theirs/app:v1"))
	repo := harness.GoRepo(t)
	i.must(t, side{}, "crane copy "+p.Addr+"/theirs/app:v1 "+p.Addr+"/ours/app:v1", "crane copy "+p.Addr+"/theirs/app:v1 "+p.Addr+"/branched/app:v1",
		"colophon release "+repo+" --ref v1.0.0 --image "+p.Addr+"/released/app --docker-attestations",
		"colophon trust add "+i.root+" --issuer "+trust.GitHubIssuer+" --yes")
	private, password, public := i.keys(t)
	for _, s := range []*side{&i.theirs, &i.ours} {
		*s = side{name: "theirs", dir: filepath.Join(home, "theirs"), image: p.Addr + "/theirs/app:v1"}
		if s == &i.ours {
			*s = side{name: "ours", dir: filepath.Join(home, "ours"), image: p.Addr + "/ours/app:v1"}
		}
		i.furnish(t, s, private, password, public)
	}
	i.branched(t)
	for name, value := range ci.GitHub() {
		i.env = append(i.env, name+"="+value)
	}
	i.must(t, i.ours, "colophon attest app --type provenance", "colophon attest IMAGE --type provenance")
	return i
}

// must runs commands that must succeed.
func (i *instead) must(t *testing.T, s side, commands ...string) {
	t.Helper()
	if out, err := i.shell(s, commands...); err != nil {
		t.Fatalf("%s: %v\n%s", strings.Join(commands, "\n"), err, out)
	}
}

// branched signs and attests an image in a job of a branch.
func (i *instead) branched(t *testing.T) {
	t.Helper()
	const workflow = "acme/app/.github/workflows/release.yml@refs/heads/main"
	before := i.env
	for name, value := range i.ci.GitHubJob(map[string]any{"ref": "refs/heads/main", "sub": "repo:acme/app:ref:refs/heads/main", "workflow_ref": workflow, "job_workflow_ref": workflow}) {
		i.env = append(i.env, name+"="+value)
	}
	i.must(t, i.ours, "colophon attest BRANCHED --type provenance")
	i.env = before
}

// furnish puts into a directory what the commands name.
func (i *instead) furnish(t *testing.T, s *side, private, password, public string) {
	t.Helper()
	read := func(file string) string {
		raw, err := os.ReadFile(file)
		if err != nil {
			t.Fatal(err)
		}
		return string(raw)
	}
	all := documents(i.digest)
	pem := "            " + strings.ReplaceAll(strings.TrimSpace(read(public)), "\n", "\n            ")
	files := map[string]string{
		"app": "app of " + s.name, "app.tar.gz": "archive", "dist/app": "1", "dist/app.1": "2",
		"cosign.key": read(private), "cosign.pub": read(public), "password": read(password), "root.json": string(i.Get("/tuf/1.root.json")),
		"predicate.json": all["custom"], "sbom.spdx.json": all["spdx"], "vuln.json": all["vuln"], "slsa.json": all["slsaprovenance1"],
		"package-lock.json": `{"name":"app","version":"1.0.0","lockfileVersion":3,"packages":{"":{"name":"app","version":"1.0.0"},"node_modules/left-pad":{"version":"1.3.0"}}}`,
		"pod.yaml":          "apiVersion: v1\nkind: Pod\nmetadata: {name: app}\nspec:\n  containers:\n  - {name: app, image: '" + s.image + "'}\n",
		"scan.rego":         "package signature\n\nimport rego.v1\n\ndefault allow := false\n\nallow if input.predicateType == \"https://cosign.sigstore.dev/attestation/vuln/v1\"\n",
		"scanned.yaml": "apiVersion: colophon.build/v1\nkind: ImagePolicy\nmetadata: {name: scanned}\nspec:\n  unmatched: deny\n  rules:\n  - name: scanned\n    images: [{glob: '" + i.Addr + "/**'}]\n    mode: enforce\n    accept:\n" +
			"    - signature:\n        signer: &key\n          key:\n            pem: |\n" + strings.ReplaceAll(pem, "            ", "              ") + "\n        attestations:\n        - {predicateType: 'https://cosign.sigstore.dev/attestation/vuln/v1'}\n",
	}
	files["scanned.yaml"] = strings.Replace(files["scanned.yaml"], "&key", "", 1)
	harness.Write(t, s.dir, files)
	i.must(t, *s, "openssl genpkey -algorithm EC -pkeyopt ec_paramgen_curve:P-256 -out other.pem", "crane pull --format oci IMAGE layout", "tar cf app.tar -C layout $(ls layout)")
}

// shows has what a command must print, beyond success.
var shows = map[string]string{
	"docker buildx imagetools inspect RELEASED --format '{{json .SBOM}}'":       "SPDX-2.3",
	"docker buildx imagetools inspect RELEASED --format '{{json .Provenance}}'": "buildDefinition",
	"colophon inspect RELEASED --sbom":                                          "SPDX-2.3",
	"colophon inspect RELEASED --provenance":                                    "buildDefinition",
	"colophon inspect IMAGE":                                                    "sigstore",
	"cosign tree IMAGE":                                                         "sigstore",
}

// refused runs a command that verifies on an image that nobody signed, and on files that were
// changed after that. A code of 0 is any but 0.
func (i *instead) refused(t *testing.T, command string, code int) {
	t.Helper()
	bad := side{"bad", filepath.Join(i.home, "bad"), i.Addr + "/plain/app:v1"}
	if out, err := exec.CommandContext(t.Context(), "sh", "-c", `cd "$3"; rm -rf bad; cp -r ours bad; echo changed >>bad/app; echo changed >>bad/dist/app; sed -i "s|$1|$2|" bad/pod.yaml`, "sh", i.ours.image, bad.image, i.home).CombinedOutput(); err != nil {
		t.Fatalf("%v\n%s", err, out)
	}
	command = strings.NewReplacer("BRANCHED", "IMAGE", "@DIGEST", "").Replace(command)
	out, err := i.shell(bad, command)
	if exit, ok := errors.AsType[*exec.ExitError](err); !ok || code != 0 && exit.ExitCode() != code {
		t.Errorf("%s of what is bad: got %v, want exit code %d\n%s", command, err, code, out)
	}
}

// TestInstead runs the commands of docs/instead.md from the top to the bottom: theirs on an image
// and files, and ours on others. What verifies is also run on what the other side signed.
func TestInstead(t *testing.T) {
	i := startInstead(t)
	ran, rejected := map[string]int{}, 0
	_, noSyft := os.Stat(filepath.Join(harness.Root(t), "out", "bin", "syft"))
	for _, row := range swaps(t) {
		t.Run(fmt.Sprintf("line %d", row.line), func(t *testing.T) {
			i.copies++
			for _, s := range []side{i.theirs, i.ours} { // of which a token lives five minutes
				harness.Write(t, s.dir, map[string]string{"token": i.ci.GitHubToken(t)})
			}
			try := func(s side, commands []string) {
				if len(commands) == 0 {
					return
				}
				out, err := i.shell(s, commands...)
				shown := fmt.Sprintf("%s, with what is %s:\n%.3000s", strings.Join(commands, "\n"), s.name, out)
				if err != nil || !strings.Contains(out, shows[commands[0]]) {
					t.Errorf("%v: %s", err, shown)
				} else {
					t.Log(shown)
				}
				first, _, _ := strings.Cut(commands[0], " ")
				ran[first]++
			}
			if len(row.theirs) > 0 && strings.HasPrefix(row.theirs[0], "syft ") && noSyft != nil {
				t.Log("NOT HERE: syft, which make bench builds")
				row.theirs = nil
			}
			try(i.theirs, row.theirs)
			try(i.ours, row.ours)
			if len(row.theirs) > 0 && strings.HasPrefix(row.theirs[0], "cosign verify") && !strings.Contains(row.theirs[0], "--local-image") {
				try(i.ours, row.theirs)
				if !strings.Contains(row.ours[0], "--source") { // no provenance of cosign's is that of the job
					try(i.theirs, row.ours)
				}
				i.refused(t, row.theirs[0], 0)
			}
			if len(row.ours) > 0 && strings.HasPrefix(row.ours[0], "colophon verify") && !strings.Contains(row.ours[0], "./saved") {
				i.refused(t, row.ours[0], 3)
				rejected++
			}
		})
	}
	if rejected < 20 {
		t.Errorf("verified nothing bad with %d commands, want 20 or more", rejected)
	}
	for tool, least := range map[string]int{"colophon": 60, "cosign": 25, "cosign2": 5, "syft": 7, "docker": 4, "oras": 2} {
		if ran[tool] < least && (tool != "syft" || noSyft == nil) {
			t.Errorf("commands of %s: ran %d, want %d or more; all: %v", tool, ran[tool], least, ran)
		}
	}
}
