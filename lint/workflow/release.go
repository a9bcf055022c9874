package workflow

import (
	"fmt"
	"slices"
	"strings"

	"go.yaml.in/yaml/v3"

	"github.com/colophon-build/colophon/lint/finding"
	"github.com/colophon-build/colophon/lint/script"
	"github.com/colophon-build/colophon/lint/yamlfile"
)

// publishActions give something to users.
var publishActions = []string{
	"pypa/gh-action-pypi-publish", "softprops/action-gh-release", "ncipollo/release-action", "goreleaser/goreleaser-action", "JS-DevTools/npm-publish", "actions/attest-build-provenance", "actions/attest",
	"actions/create-release", "actions/upload-release-asset", "rubygems/release-gem", "helm/chart-releaser-action", "changesets/action", "svenstaro/upload-release-action", "snapcore/action-publish",
}

// publishes returns the first step of a job that gives something to users, or nil.
func (j *job) publishes() *step {
	for _, s := range j.steps {
		switch {
		case s.is("docker/build-push-action", "depot/build-push-action"):
			if pushes(s) && !j.hasRegistry() {
				return s
			}
		case s.is("goreleaser/goreleaser-action"):
			args := s.input("args")
			if strings.Contains(args, "release") && !strings.Contains(args, "--snapshot") {
				return s
			}
		case s.is(publishActions...), script.Publishes(s.commands) != nil:
			return s
		}
	}
	return nil
}

// hasRegistry reports whether a job starts a registry of its own, to which it pushes then.
func (j *job) hasRegistry() (has bool) {
	yamlfile.Pairs(j.get("services"), func(_, s *yaml.Node) bool {
		name, _, _ := strings.Cut(yamlfile.Value(yamlfile.Get(s, "image")), "@")
		name, _, _ = strings.Cut(name[strings.LastIndexByte(name, '/')+1:], ":")
		has = has || name == "registry" || name == "distribution" || name == "zot"
		return true
	})
	return has
}

// pushes reports whether a step that builds an image pushes it, always or sometimes.
func pushes(s *step) bool {
	push := s.input("push")
	return push != "" && push != "false" || strings.Contains(s.input("outputs"), "push=true")
}

// releasing reports whether a workflow runs for releases: a tag, a published release.
func (w *file) releasing() bool {
	return w.event("release") != "" || yamlfile.Get(w.events["push"], "tags") != nil
}

// byHand reports whether a workflow runs only when somebody starts it.
func (w *file) byHand() bool { return len(w.events) == 1 && w.event("workflow_dispatch") != "" }

// releases finds release jobs that nobody has to approve.
func releases(w *file) (out []finding.Finding) {
	if w.action || !w.releasing() && !w.byHand() {
		return nil
	}
	for _, j := range w.jobs {
		if s := j.publishes(); s != nil && j.get("environment") == nil {
			out = append(out, finding.Finding{Rule: ruleEnvironment, Position: w.at(j.id), Message: fmt.Sprintf("the job %s publishes, and needs nobody's approval", j.id.Value),
				Mend: "give the job an environment with required reviewers and with the tags that may use it; keep its secrets there"})
		}
	}
	return out
}

// caching says by which input an action caches, and whether it does without the input.
var caching = map[string]struct {
	input    string
	byItself bool
}{
	"actions/setup-go": {"cache", true}, "actions/setup-node": {"cache", false}, "actions/setup-python": {"cache", false}, "actions/setup-java": {"cache", false}, "actions/setup-dotnet": {"cache", false},
	"ruby/setup-ruby": {"bundler-cache", false}, "astral-sh/setup-uv": {"enable-cache", true}, "pnpm/action-setup": {"cache", false}, "gradle/actions/setup-gradle": {"cache-disabled", true},
	"Swatinem/rust-cache": {"", true}, "actions/cache": {"", true}, "actions/cache/restore": {"", true}, "golangci/golangci-lint-action": {"skip-cache", true}, "mozilla-actions/sccache-action": {"", true},
}

// caches finds jobs that publish, and restore caches which other workflows fill.
func caches(w *file) (out []finding.Finding) {
	if w.action || !w.releasing() {
		return nil
	}
	for _, j := range w.jobs {
		if j.publishes() == nil && (j.builds() == nil || !j.uploads()) {
			continue // a test, for example
		}
		for _, s := range j.steps {
			if how := s.caches(); how != "" {
				out = append(out, finding.Finding{Rule: ruleCache, Position: s.pos, Message: fmt.Sprintf("the release job %s uses %s", j.id.Value, how),
					Mend: "build releases without a cache, or with one whose entries are compared with digests in the repository"})
			}
		}
	}
	return out
}

// uploads reports whether a job hands files to other jobs.
func (j *job) uploads() bool {
	return slices.ContainsFunc(j.steps, func(s *step) bool { return s.is("actions/upload-artifact") })
}

// caches returns how a step restores a cache, or "".
func (s *step) caches() string {
	if s.uses == nil || s.uses.Image {
		return ""
	}
	if s.is("docker/build-push-action", "docker/bake-action") {
		if from := s.input("cache-from"); strings.Contains(from, "type=gha") || strings.Contains(from, "type=registry") {
			return "cache-from: " + firstLine(from)
		}
		return ""
	}
	for name, c := range caching {
		if !strings.EqualFold(name, s.uses.Name) {
			continue
		}
		value := strings.ToLower(s.input(c.input))
		off := value == "false" || value == "" && !c.byItself
		if strings.HasSuffix(c.input, "disabled") || strings.HasPrefix(c.input, "skip") {
			off = value == "true"
		}
		if off && c.input != "" || name == "actions/cache" && s.input("lookup-only") == "true" {
			return ""
		}
		return "the cache of " + name
	}
	return ""
}

func firstLine(s string) string {
	s, _, _ = strings.Cut(strings.TrimSpace(s), "\n")
	return s
}

// provenances finds provenance that proves less than it seems to, and what it gives away.
func provenances(w *file) (out []finding.Finding) {
	for _, j := range w.jobs {
		for _, s := range j.steps {
			if !s.is("docker/build-push-action", "docker/bake-action", "depot/build-push-action") {
				continue
			}
			out = append(out, leaks(s)...)
			if p := s.with["provenance"]; pushes(s) && (p.Value == "true" || strings.Contains(p.Value, "mode=")) && !w.signs() {
				out = append(out, finding.Finding{Rule: ruleUnsigned, Position: p.Position(0, len(p.Value)), Message: "provenance: " + p.Value + " is written by the build, and nothing in this workflow signs it",
					Mend: "attest the digest in another job, or a reusable workflow, whose signature verify can check"})
			}
		}
	}
	return append(out, w.digests()...)
}

// signs reports whether a workflow signs something.
func (w *file) signs() bool {
	for _, j := range w.jobs {
		if j.get("uses") != nil {
			return true // what a reusable workflow does is not known here
		}
		for _, s := range j.steps {
			if s.is("actions/attest-build-provenance", "actions/attest", "actions/attest-sbom") {
				return true
			}
			for _, c := range s.commands {
				if (c.Name == "cosign" || c.Name == "notation" || c.Name == "colophon") && c.Has("sign", "attest", "release") {
					return true
				}
			}
		}
	}
	return false
}

// leaks finds secrets among the build arguments of a step.
func leaks(s *step) (out []finding.Finding) {
	t := s.with["build-args"]
	for _, e := range expressions(t.Value) {
		names := secretsIn(e.text)
		if len(names) == 0 && !strings.Contains(e.text, "github.token") {
			continue
		}
		name := "github.token"
		if len(names) > 0 {
			name = "secrets." + names[0]
		}
		out = append(out, finding.Finding{Rule: ruleLeak, Position: t.Position(e.start, e.end), Message: name + " is a build argument", Mend: "use secrets: instead of build-args:, and RUN --mount=type=secret in the Dockerfile"})
	}
	return out
}

// digests finds signatures and attestations about the digest of a build that was not pushed.
func (w *file) digests() (out []finding.Finding) {
	for _, j := range w.jobs {
		local := map[string]bool{} // ids of steps that built and did not push
		for _, s := range j.steps {
			if s.is("docker/build-push-action", "depot/build-push-action") && !pushes(s) && !strings.Contains(s.input("outputs"), "registry") && s.input("outputs") == "" {
				local[strings.ToLower(yamlfile.Value(s.get("id")))] = true
			}
		}
		if len(local) == 0 {
			continue
		}
		for _, s := range j.steps {
			texts := []yamlfile.Text{s.with["subject-digest"]}
			if slices.ContainsFunc(s.commands, func(c *script.Command) bool { return c.Name == "cosign" || c.Name == "notation" }) {
				texts = append(texts, s.run)
				yamlfile.Pairs(s.get("env"), func(_, value *yaml.Node) bool {
					texts = append(texts, w.text(value))
					return true
				})
			}
			for _, t := range texts {
				out = append(out, otherDigest(t, local)...)
			}
		}
	}
	return sortFindings(out)
}

func otherDigest(t yamlfile.Text, local map[string]bool) (out []finding.Finding) {
	for _, e := range expressions(t.Value) {
		inner := strings.ToLower(strings.Trim(e.text, "${} "))
		rest, ok := strings.CutPrefix(inner, "steps.")
		id, output, _ := strings.Cut(rest, ".outputs.")
		if ok && id != "" && local[id] && (output == "digest" || output == "imageid") {
			out = append(out, finding.Finding{Rule: ruleOtherDigest, Position: t.Position(e.start, e.end), Message: "the step " + id + " builds an image that it does not push", Mend: "use the digest of the step that pushes"})
		}
	}
	return out
}
