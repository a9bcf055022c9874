package pipeline

import (
	"fmt"
	"maps"
	"path"
	"slices"
	"strings"
)

// The scripts of the jobs. A failed command ends them: GitHub runs bash with -e, GitLab is told to.

// Build returns the script that builds the image into image.tar, an OCI layout.
func (n *names) Build() string {
	to := n.at("image.tar")
	create := []string{`docker buildx create --name colophon --driver docker-container --driver-opt "image=$BUILDKIT"`}
	if n.Kind == gitlab {
		to = "/tmp/image.tar" // not where the build would see it
		// buildx takes the certificates of the service from a context alone.
		create = []string{"docker context create builder", create[0] + " builder"}
	}
	flags := []string{"--no-cache", "--provenance=false", "--sbom=false", fmt.Sprintf("--output \"type=oci,dest=%s,rewrite-timestamp=true\"", to)}
	// Without "./", buildx takes some names for repositories or files of other hosts.
	context := "."
	if n.Shared {
		create = append([]string{`case "/$CONTEXT/$DOCKERFILE/" in */../*) echo "context and dockerfile: expected paths in the repository, found .." >&2; exit 1 ;; esac`}, create...)
		flags = append(flags, `--file "./$DOCKERFILE" ${TARGET:+--target "$TARGET"} ${PLATFORMS:+--platform "$PLATFORMS"}`)
		context = `"./$CONTEXT"`
	} else {
		r := n.Recipe
		if r.Dockerfile != "" {
			flags = append(flags, "--file ./"+r.Dockerfile)
		}
		if r.Target != "" {
			flags = append(flags, "--target "+r.Target)
		}
		if len(r.Platforms) > 0 {
			flags = append(flags, "--platform "+strings.Join(r.Platforms, ","))
		}
		for _, name := range slices.Sorted(maps.Keys(r.BuildArgs)) {
			flags = append(flags, fmt.Sprintf("--build-arg '%s=%s'", name, r.BuildArgs[name]))
		}
		if r.Context != "" {
			context = "./" + r.Context
		}
	}
	return lines(append(create,
		`SOURCE_DATE_EPOCH=$(git log -1 --format=%ct)`,
		`export SOURCE_DATE_EPOCH`,
		"docker buildx build --builder colophon \\\n  "+strings.Join(append(flags, context), " \\\n  "),
	)...)
}

// Installing returns the script that installs programs of Colophon for this step and the next ones.
func (n *names) Installing(programs ...string) string {
	script := installFile
	var out []string
	if n.inline() {
		if n.Kind == gitlab {
			out = append(out, "mkdir -p handed")
		}
		script = `"` + n.at("install.sh") + `"`
		out = append(out, here(script, n.Script))
	}
	bin := n.at("bin")
	if n.Kind == gitlab {
		bin = "$PWD/" + bin
	}
	out = append(out, `bin=`+bin, `mkdir -p "$bin"`)
	for _, p := range programs {
		out = append(out, fmt.Sprintf("sh %s --version \"${COLOPHON_RELEASE%%@*}\" --sha256 \"${COLOPHON_RELEASE#*@}\" \\\n  --dir \"$bin\" --program %s", script, p))
	}
	out = append(out, `PATH=$bin:$PATH`)
	if n.Kind == github {
		out = append(out, `echo "$bin" >>"$GITHUB_PATH"`)
	}
	return lines(out...)
}

// inline reports whether scripts have the files that they need in them: the repository that calls a
// shared workflow, or that a pipeline in a cluster builds, must not choose what runs beside secrets.
func (n *names) inline() bool { return n.Shared || n.Kind == tekton }

// here returns the commands that write text to a file.
func here(file string, text []byte) string {
	return "cat >" + file + " <<'EOF-OF-COLOPHON'\n" + strings.TrimSuffix(string(text), "\n") + "\nEOF-OF-COLOPHON"
}

// Trusting returns the script that trusts the services that sign, for what the jobs sign.
func (n *names) Trusting() string {
	if n.TUF == "" {
		return `colophon trust add sigstore --yes`
	}
	file := rootFile
	var out []string
	if n.inline() {
		file = `"` + n.at("root.json") + `"`
		out = append(out, here(file, n.Root))
	}
	return lines(append(out, fmt.Sprintf("colophon trust add %s --root %s --yes", n.TUF, file))...)
}

// SigningConfig names the trust root whose services sign.
func (n *names) SigningConfig() string {
	if n.TUF != "" {
		return n.TUF
	}
	return "sigstore"
}

// BuildInPod returns the script that builds with a BuildKit of the task, as Build does with Docker's.
func (n *names) BuildInPod() string {
	r := n.Recipe
	context, file := "$PWD", path.Join(r.Context, "Dockerfile")
	if r.Context != "" {
		context += "/" + r.Context
	}
	if r.Dockerfile != "" {
		file = r.Dockerfile
	}
	flags := []string{"--frontend dockerfile.v0", "--no-cache", fmt.Sprintf(`--local context="%s" --local dockerfile="$PWD/%s" --opt filename=%s`, context, path.Dir(file), path.Base(file))}
	if r.Target != "" {
		flags = append(flags, "--opt target="+r.Target)
	}
	if len(r.Platforms) > 0 {
		flags = append(flags, "--opt platform="+strings.Join(r.Platforms, ","))
	}
	for _, name := range slices.Sorted(maps.Keys(r.BuildArgs)) {
		flags = append(flags, fmt.Sprintf("--opt 'build-arg:%s=%s'", name, r.BuildArgs[name]))
	}
	flags = append(flags, `--opt build-arg:SOURCE_DATE_EPOCH="$(cat .git/colophon-epoch)"`, `--output "type=oci,dest=$HANDED/image.tar,rewrite-timestamp=true"`)
	return "buildctl-daemonless.sh build \\\n  " + strings.Join(flags, " \\\n  ")
}

// PolicyHere returns the commands that write the policy to a file of the task.
func (n *names) PolicyHere() (string, error) {
	text, err := n.policy()
	return here(`"`+n.at("policy.yaml")+`"`, text), err
}

// Name returns what the pipelines in a cluster are called.
func (n *names) Name() string {
	return strings.NewReplacer(".", "-", "_", "-").Replace(path.Base(n.Image)) + "-release"
}

// at returns the path of a file of the job. On GitHub it is not among those of the repository, which
// could have a link in its place; GitLab takes artifacts only from there.
func (n *names) at(name string) string {
	switch n.Kind {
	case gitlab:
		return "handed/" + name
	case tekton:
		return "$work/" + name
	}
	return "$RUNNER_TEMP/" + name
}

// Sum returns the command that says to later jobs which bytes this one hands over.
func (n *names) Sum(file string) string {
	return fmt.Sprintf(`echo "sum=$(sha256sum "%s" | cut -d' ' -f1)" >>"$GITHUB_OUTPUT"`, file)
}

// same returns the command that fails unless files have the sums that variables say.
func same(files ...string) string {
	return `printf '%s  %s\n' ` + strings.Join(files, ` \`+"\n  ") + ` | sha256sum --check --strict`
}

// Measure returns the script that computes the digest of what the builds handed over, from its bytes,
// and sets digest. It uses no digest that a build says.
func (n *names) Measure() string {
	var checked []string
	if n.Kind == github { // GitLab binds artifacts to the job that made them
		checked = []string{same(`"$IMAGE_SUM" "$RUNNER_TEMP/image/image.tar"`, `"$REBUILT_SUM" "$RUNNER_TEMP/rebuilt/image.tar"`)}
	}
	image, rebuilt := n.at("image"), n.at("rebuilt")
	if n.Kind == tekton {
		image, rebuilt = "$HANDED_IMAGE", "$HANDED_REBUILT" // workspaces
	}
	return lines(append(checked,
		fmt.Sprintf(`digest=$(colophon copy -q "%s/image.tar" "oci:%s")`, image, n.at("measured")),
		`digest=${digest##*@}`,
		fmt.Sprintf(`again=$(colophon copy -q "%s/image.tar" "oci:%s")`, rebuilt, n.at("again")),
		`again=${again##*@}`,
		`if [ "$digest" != "$again" ]; then`,
		`  echo "the two builds differ: $digest and $again" >&2`,
		`  if [ "$REPRODUCIBLE" = true ]; then exit 1; fi`,
		`fi`,
	)...)
}

// Sign returns the script that signs the image in the layout, and attaches the SBOM.
func (n *names) Sign() string {
	var checked []string
	if n.Kind == github {
		checked = []string{same(`"$SBOM_SUM" "$RUNNER_TEMP/listed/sbom.spdx.json"`)}
	}
	return lines(append(checked,
		fmt.Sprintf(`colophon sign "oci:%s@$DIGEST" --signing-config %s`, n.at("measured"), n.SigningConfig()),
		fmt.Sprintf("colophon attest \"oci:%s@$DIGEST\" --signing-config %s \\\n  --type spdx --predicate \"%s/sbom.spdx.json\"", n.at("measured"), n.SigningConfig(), n.at("listed")),
	)...)
}

// Publish returns the script that pushes by digest, and gives the tag to what the policy accepts.
func (n *names) Publish() string {
	tag := "$GITHUB_REF_NAME"
	if n.Kind == gitlab {
		tag = "$CI_COMMIT_TAG"
	}
	return lines(
		fmt.Sprintf(`colophon copy "oci:%s@$DIGEST" "$IMAGE"`, n.at("measured")),
		`colophon copy "$IMAGE@$DIGEST" "$IMAGE:`+tag+`" --policy `+policyFile,
	)
}

// User and Password are expressions for who may push.
func (n *names) User() string {
	switch {
	case n.Shared:
		return "${{ startsWith(inputs.image, 'ghcr.io/') && github.actor || secrets.registry-user }}"
	case n.Registry == "ghcr.io":
		return "${{ github.actor }}"
	}
	return "${{ secrets.REGISTRY_USER }}"
}

func (n *names) Password() string {
	switch {
	case n.Shared: // no other registry gets the token of the job
		return "${{ startsWith(inputs.image, 'ghcr.io/') && github.token || secrets.registry-password }}"
	case n.Registry == "ghcr.io":
		return "${{ github.token }}"
	}
	return "${{ secrets.REGISTRY_PASSWORD }}"
}

func lines(l ...string) string { return strings.Join(l, "\n") }
