package manifest_test

import (
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/colophon-build/colophon/lint/finding"
	"github.com/colophon-build/colophon/lint/manifest"
	"github.com/colophon-build/colophon/lint/pins"
	"github.com/colophon-build/colophon/test/linttest"
	"github.com/colophon-build/colophon/test/spent"
)

func TestRules(t *testing.T) { linttest.Rules(t, manifest.Checker(linttest.Offline(t))) }

func pod(container string) string {
	return "apiVersion: v1\nkind: Pod\nspec:\n  containers:\n  - " + container + "\n"
}

func kyverno(verify string) string {
	return "apiVersion: kyverno.io/v1\nkind: ClusterPolicy\nspec:\n  rules:\n  - name: r\n    verifyImages:\n    - " + verify + "\n"
}

func webhook(rest string) string {
	return "apiVersion: admissionregistration.k8s.io/v1\nkind: MutatingWebhookConfiguration\nwebhooks: [{failurePolicy: Ignore, " + rest + "}]\n"
}

// wide returns a text in UTF-16, as PowerShell redirects what a command prints.
func wide(text string) string {
	return "\xff\xfe" + strings.Join(strings.Split(text, ""), "\x00") + "\x00"
}

const digest = "@sha256:0123456789abcdef0123456789abcdef0123456789abcdef0123456789abcdef"

// TestFound: what is found in which file, and what is none of our business.
func TestFound(t *testing.T) {
	for what, c := range map[string]struct {
		files map[string]string
		want  string
	}{
		"a tag":                        {map[string]string{"a.yaml": pod("image: nginx:1")}, "image-by-tag a.yaml:5"},
		"in UTF-16":                    {map[string]string{"a.yaml": wide(pod("image: nginx:1")), "compose.yaml": wide("services: {a: {image: 'a:1'}}\n")}, "syntax a.yaml:1,syntax compose.yaml:1"},
		"with escapes":                 {map[string]string{"a.yaml": strings.NewReplacer("apiVersion", `"api\x56ersion"`, "kind", `"kin\u0064"`).Replace(pod("image: nginx:1")), "compose.yaml": `"ser\u0076ices": {a: {image: 'a:1'}}` + "\n"}, "image-by-tag a.yaml:5,image-by-tag compose.yaml:1"},
		"with escapes, and no YAML":    {map[string]string{"a.yaml": `a: "\x56": [`, "b.yaml": pod("image: nginx:1") + "---\n" + `a: "\x56": [`}, "image-by-tag b.yaml:5,syntax b.yaml:7"},
		"latest":                       {map[string]string{"a.yaml": pod("image: nginx")}, "image-by-tag a.yaml:5"},
		"a digest":                     {map[string]string{"a.yaml": pod("image: nginx" + digest)}, ""},
		"never pulled":                 {map[string]string{"a.yaml": pod("{image: 'nginx:1', imagePullPolicy: Never}")}, ""},
		"on this machine":              {map[string]string{"a.yaml": pod("image: localhost:5000/nginx:1")}, ""},
		"ko":                           {map[string]string{"a.yaml": pod("image: ko://example.com/cmd/app")}, ""},
		"a placeholder":                {map[string]string{"a.yaml": pod("image: '{{ .Values.image }}:1'"), "b.yaml": pod("image: <image>"), "c.yaml": pod("image: $(IMAGE)"), "d.yaml": pod("image: ${IMAGE}"), "e.yaml": pod("image: '%IMAGE%'")}, ""},
		"a variable and a tag":         {map[string]string{"a.yaml": pod("image: ${REGISTRY}/app:1")}, "image-by-tag a.yaml:5"},
		"a template of Helm":           {map[string]string{"a.yaml": pod("image: nginx:1") + "{{- if .Values.x }}\n" + pod("image: b:1") + "{{- end }}\n"}, ""},
		"output of Helm":               {map[string]string{"a.yaml": "---\n# Source: a\n" + pod("image: nginx:1") + "---\n"}, "image-by-tag a.yaml:7"},
		"in a list":                    {map[string]string{"a.yaml": "apiVersion: v1\nkind: List\nitems:\n- apiVersion: v1\n  kind: Pod\n  spec: {containers: [{image: nginx:1}]}\n"}, "image-by-tag a.yaml:6"},
		"through an alias":             {map[string]string{"a.yaml": pod("image: &i nginx:1") + "  - image: *i\n"}, "image-by-tag a.yaml:5"},
		"of a schema":                  {map[string]string{"a.yaml": "apiVersion: apiextensions.k8s.io/v1\nkind: CustomResourceDefinition\nspec: {properties: {containers: {type: array}}}\n"}, ""},
		"what is built":                {map[string]string{"a.yaml": "apiVersion: skaffold/v4beta1\nkind: Config\nbuild: {artifacts: [{image: app}]}\n"}, ""},
		"what skaffold builds":         {map[string]string{"skaffold.yaml": "apiVersion: skaffold/v4beta1\nkind: Config\nbuild: {artifacts: [{image: app}]}\n", "a.yaml": pod("image: app")}, ""},
		"a build that is none":         {map[string]string{"compose.yaml": "services: {a: {image: 'a:1', build: }, b: {image: 'b:1', build: {}}, c: {image: 'c:1', build: false}, d: {image: 'd:1', build: ''}, e: {image: 'd:1'}}\n"}, strings.Repeat("image-by-tag compose.yaml:1,", 4) + "image-by-tag compose.yaml:1"},
		"a build in a Pod":             {map[string]string{"a.yaml": pod("{image: 'nginx:1', build: .}")}, "image-by-tag a.yaml:5"},
		"before a template":            {map[string]string{"a.yaml": pod("image: nginx:1") + "---\n{{- if .Values.x }}\n" + pod("image: b:1") + "{{- end }}\n"}, "image-by-tag a.yaml:5"},
		"a namespace before one":       {map[string]string{"a.yaml": "apiVersion: v1\nkind: Namespace\nmetadata: {name: a, labels: {policy.sigstore.dev/include: 'true'}}\n---\n{{- x }}\na: b: c\n", "b.yaml": "apiVersion: v1\nkind: Namespace\nmetadata: {name: b}\n"}, "namespace-unverified b.yaml:3"},
		"what compose builds":          {map[string]string{"compose.yaml": "services: {a: {image: app, build: .}, b: {image: app}}\n"}, ""},
		"a part of a name":             {map[string]string{"a.yaml": "apiVersion: helm.toolkit.fluxcd.io/v2\nkind: HelmRelease\nspec: {values: {repository: r.example.com/a, image: app, tag: v1}}\n"}, ""},
		"placeholders of tools":        {map[string]string{"a.yaml": pod("image: controller:latest") + "  - image: github.com/team/app\n  - image: r.example.com/app:IMAGE_TAG\n"}, ""},
		"what may be an image":         {map[string]string{"a.yaml": "apiVersion: example.com/v1\nkind: Engine\nspec: {runtimeImage: nginx:1}\n"}, ""},
		"of a custom kind":             {map[string]string{"a.yaml": "apiVersion: example.com/v1\nkind: Engine\nspec: {image: 'nginx:1'}\n"}, "image-by-tag a.yaml:3"},
		"of a task":                    {map[string]string{"a.yaml": "apiVersion: tekton.dev/v1\nkind: Task\nspec: {steps: [{image: 'nginx:1'}]}\n"}, ""},
		"a mode twice":                 {map[string]string{"a.yaml": "apiVersion: policy.sigstore.dev/v1beta1\nkind: ClusterImagePolicy\nspec:\n  mode: enforce\n  mode: warn\n"}, "syntax a.yaml:5"},
		"the same member twice":        {map[string]string{"a.yaml": pod("{image: 'nginx:1', image: 'b:1'}")}, "syntax a.yaml:5"},
		"broken, and what is before":   {map[string]string{"a.yaml": pod("image: nginx:1") + "---\na: [\n"}, "image-by-tag a.yaml:5,syntax a.yaml:7"},
		"too much for a template":      {map[string]string{"a.yaml": pod("image: nginx:1 # $HOME") + strings.Repeat("---\na: 1\n", 1001)}, "image-by-tag a.yaml:5,syntax a.yaml:2004"},
		"other YAML":                   {map[string]string{"a.yaml": "image: nginx:1\nservices: {a: {image: 'b:1'}}\n", "b.yaml": "a: [\n"}, ""},
		"a workflow":                   {map[string]string{".github/workflows/a.yaml": pod("image: nginx:1")}, ""},
		"compose":                      {map[string]string{"docker-compose.prod.yml": "services: {a: {image: 'b:1'}, b: {image: 'c:1', build: .}, c: {extends: {service: a}}, d: {image: 'x:${TAG}'}, e: {image: '$IMAGE'}}\n"}, "image-by-tag docker-compose.prod.yml:1,image-by-tag docker-compose.prod.yml:1"},
		"compose, included":            {map[string]string{"compose.yaml": "include: [a.yaml]\nservices:\n  a: {image: 'b:1'}\n"}, "image-by-tag compose.yaml:3"},
		"a kustomization":              {map[string]string{"base/a.yaml": pod("image: controller:latest") + "  - image: other:1\n", "o/kustomization.yaml": "images:\n- {name: controller, newName: r.example.com/c, newTag: v1}\n"}, "image-by-tag base/a.yaml:6,image-by-tag o/kustomization.yaml:2"},
		"a kustomization by digest":    {map[string]string{"base/a.yaml": pod("image: controller:latest"), "o/kustomization.yaml": "images:\n- {name: controller, digest: 'sha256:x'}\n"}, ""},
		"CIP, warns":                   {map[string]string{"a.yaml": "apiVersion: policy.sigstore.dev/v1alpha1\nkind: ClusterImagePolicy\nspec:\n  mode: warn\n"}, "audit-mode a.yaml:4"},
		"CIP, passes all":              {map[string]string{"a.yaml": "apiVersion: policy.sigstore.dev/v1alpha1\nkind: ClusterImagePolicy\nspec:\n  images: [{glob: '**'}]\n  authorities: [{static: {action: pass}}]\n"}, "identity-catch-all a.yaml:5"},
		"CIP, passes some":             {map[string]string{"a.yaml": "apiVersion: policy.sigstore.dev/v1alpha1\nkind: ClusterImagePolicy\nspec:\n  images: [{glob: 'registry.k8s.io/**'}]\n  authorities: [{static: {action: pass}}]\n"}, ""},
		"Kyverno, default":             {map[string]string{"a.yaml": kyverno("{imageReferences: ['*']}")}, "audit-mode a.yaml:7"},
		"Kyverno, validates":           {map[string]string{"a.yaml": "apiVersion: kyverno.io/v1\nkind: ClusterPolicy\nspec: {validationFailureAction: Audit, failurePolicy: Ignore, rules: [{validate: {pattern: {}}}]}\n"}, ""},
		"Kyverno, ignores":             {map[string]string{"a.yaml": kyverno("{failureAction: Enforce}") + "  failurePolicy: Ignore\n"}, "webhook-ignored a.yaml:8"},
		"Kyverno, anybody":             {map[string]string{"a.yaml": kyverno("{failureAction: Enforce, attestors: [{entries: [{keyless: {subject: '*', issuer: 'https://x.example'}}]}]}")}, "identity-catch-all a.yaml:7"},
		"Kyverno, anybody at GitHub":   {map[string]string{"a.yaml": kyverno("{failureAction: Enforce, attestors: [{entries: [{keyless: {subject: 'https://github.com/*', issuer: 'https://x.example'}}]}]}")}, "identity-catch-all a.yaml:7"},
		"Kyverno, somebody":            {map[string]string{"a.yaml": kyverno("{failureAction: Enforce, attestors: [{entries: [{keyless: {subject: 'https://github.com/team/*', issuer: 'https://x.example'}}]}]}")}, ""},
		"Kyverno, no subject":          {map[string]string{"a.yaml": kyverno("{failureAction: Enforce, attestors: [{entries: [{keyless: {issuer: 'https://x.example'}}]}]}")}, "identity-catch-all a.yaml:7"},
		"Kyverno, own roots":           {map[string]string{"a.yaml": kyverno("{failureAction: Enforce, attestors: [{entries: [{keyless: {roots: x}}]}]}")}, ""},
		"ImageValidatingPolicy":        {map[string]string{"a.yaml": "apiVersion: policies.kyverno.io/v1\nkind: ImageValidatingPolicy\nspec:\n  validationActions: [Audit]\n  failurePolicy: Ignore\n"}, "audit-mode a.yaml:4,webhook-ignored a.yaml:5"},
		"ours, anybody":                {map[string]string{"a.yaml": "apiVersion: colophon.build/v1\nkind: ImagePolicy\nspec: {rules: [{accept: [{signed: {signer: {certificate: {issuer: x, identity: {matches: '.*'}}}}}]}]}\n"}, "identity-catch-all a.yaml:3"},
		"a webhook of images":          {map[string]string{"a.yaml": webhook("name: verify-images.example.com, rules: [{resources: [pods/*]}]")}, "webhook-ignored a.yaml:3"},
		"by its service":               {map[string]string{"a.yaml": webhook("name: a.example.com, clientConfig: {service: {name: connaisseur-svc}}")}, "webhook-ignored a.yaml:3"},
		"a webhook of policies":        {map[string]string{"a.yaml": webhook("name: policy.sigstore.dev, rules: [{resources: [clusterimagepolicies]}]")}, ""},
		"a webhook of something":       {map[string]string{"a.yaml": webhook("name: cert-manager.io, rules: [{resources: [pods]}]")}, ""},
		"ImagePolicyWebhook":           {map[string]string{"a.yaml": "apiVersion: apiserver.config.k8s.io/v1\nkind: AdmissionConfiguration\nplugins:\n- name: ImagePolicyWebhook\n  configuration: {imagePolicy: {kubeConfigFile: x, defaultAllow: true}}\n"}, "webhook-ignored a.yaml:5"},
		"no namespace of cosign":       {map[string]string{"a.yaml": "apiVersion: v1\nkind: Namespace\nmetadata: {name: a}\n"}, ""},
		"Argo CD":                      {map[string]string{"a.yaml": "apiVersion: argoproj.io/v1alpha1\nkind: Application\n---\napiVersion: argoproj.io/v1alpha1\nkind: ApplicationSet\n"}, "verification-missing a.yaml:2"},
		"Argo CD, one":                 {map[string]string{"a.yaml": "apiVersion: argoproj.io/v1alpha1\nkind: Application\n", "docs/b.yaml": "apiVersion: argoproj.io/v1alpha1\nkind: Application\n"}, ""},
		"Argo CD, policies in a chart": {map[string]string{"a.yaml": "apiVersion: argoproj.io/v1alpha1\nkind: Application\n", "b.yaml": "apiVersion: argoproj.io/v1alpha1\nkind: Application\n", "values.yaml": "ratify: {enabled: true}\n"}, ""},
		"Argo Workflows":               {map[string]string{"a.yaml": "apiVersion: argoproj.io/v1alpha1\nkind: Workflow\n"}, ""},
	} {
		var got []string
		for _, f := range linttest.Run(t, linttest.Write(t, c.files, ""), manifest.Checker(&pins.Resolver{Offline: true})).Findings {
			got = append(got, fmt.Sprintf("%s %s:%d", strings.TrimPrefix(f.Rule, "manifest/"), f.File, f.Line))
		}
		if got := strings.Join(got, ","); got != c.want {
			t.Errorf("%s: got %s, want %s", what, got, c.want)
		}
	}
}

func check(t testing.TB, src string) []finding.Finding {
	t.Helper()
	return manifest.Checker(&pins.Resolver{Offline: true}).Check(t.Context(), nil, finding.NewFile("compose.yaml", []byte(src)))
}

// TestHostile: whoever writes a manifest cannot make the linter slow, or let it find nothing silently.
func TestHostile(t *testing.T) {
	bomb := "apiVersion: v1\nkind: Pod\na0: &a0 x\n"
	for i := range 30 {
		bomb += fmt.Sprintf("a%d: &a%d [*a%d, *a%d]\n", i+1, i+1, i, i)
	}
	for what, c := range map[string]struct{ src, want string }{
		"aliases":         {bomb, "more than 100000 values"},
		"nested":          {"apiVersion: v1\nkind: Pod\nspec: " + strings.Repeat("{a: ", 9000) + strings.Repeat("}", 9000), "nested deeper"},
		"many containers": {pod(strings.Repeat("image: nginx:1\n  - ", 9000) + "image: nginx:1"), "whatever its tag points to"},
		"not UTF-8":       {pod("image: \xff"), "UTF-8"},
		"a wide pattern":  {kyverno("{subject: '" + strings.Repeat("*?", 20_000) + "'}"), "no failureAction"},
	} {
		start := spent.Now()
		found := check(t, c.src)
		if len(found) == 0 || !strings.Contains(found[0].Message, c.want) {
			t.Errorf("%s: got %d findings, want %q: %.300v", what, len(found), c.want, found)
		}
		if took := spent.Now() - start; took > 10*time.Second {
			t.Errorf("%s: took %s", what, took)
		}
	}
}

func FuzzCheck(f *testing.F) {
	f.Add(pod("image: nginx:1"))
	f.Add(kyverno("{failureAction: Audit, attestors: [{entries: [{keyless: {subject: '*'}}]}]}"))
	f.Add(webhook("name: verify-images.example.com"))
	f.Add("services: {a: {image: 'b:1', build: .}}\n")
	f.Add("images: [{name: a, newTag: b}]\n")
	f.Fuzz(func(t *testing.T, src string) { check(t, src) })
}
