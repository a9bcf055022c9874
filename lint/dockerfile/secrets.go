package dockerfile

import (
	"path"
	"strings"

	"github.com/moby/buildkit/frontend/dockerfile/instructions"

	"github.com/colophon-build/colophon/internal/lazyregexp"
	"github.com/colophon-build/colophon/lint/finding"
	"github.com/colophon-build/colophon/lint/script"
)

// secrets checks that no secret becomes part of an image, its configuration or its history.
func (d *document) secrets(s *stage) {
	for _, in := range s.all {
		switch p := in.parsed.(type) {
		case *instructions.ArgCommand:
			for _, a := range p.Args {
				if secretName(a.Key) && (a.Value == nil || *a.Value == "" || secretValue(*a.Value)) {
					d.secret(in, a.Key, "ARG", "the history and the provenance of the image")
				}
			}
		case *instructions.EnvCommand:
			for _, e := range p.Env {
				if secretName(e.Key) && secretValue(e.Value) {
					d.secret(in, e.Key, "ENV", "the configuration of the image")
				}
			}
		case *instructions.CopyCommand:
			if p.From == "" {
				d.copiedSecrets(in, p.SourcePaths)
			}
		case *instructions.AddCommand:
			d.copiedSecrets(in, p.SourcePaths)
			d.adds(in, p)
		}
	}
}

func (d *document) secret(in *instruction, name, keyword, where string) {
	start, end := d.word(in, name)
	d.add(in, start, end, ruleSecret, keyword+" "+name+" stays in "+where+", for whoever can pull it", "mount it for the step that needs it: RUN --mount=type=secret,id="+strings.ToLower(name))
}

var harmless = lazyregexp.New(`(?i)(_FILE|_PATH|_DIR|_URL|_URI|_HOST|_NAME|_ID|_TTL|_LENGTH|_TYPE|_EXPIRY|_TIMEOUT|_ENABLED|_REQUIRED|_HEADER|_HASH|_ISSUER|_LIFETIME|_COUNT|_SIZE|_LIMIT|_ALGORITHM|_PROVIDER|_STORE|_VERSION|_TAG|_REPO|_REF)$|^(NO_|ALLOW_|ENABLE_|DISABLE_|USE_|SKIP_)|PUBLIC|TOKENIZER|MAX_TOKENS|ALLOW_EMPTY|SECRETS?_(MANAGER|BACKEND)`)

// secretName reports whether a variable of this name is a secret.
func secretName(name string) bool {
	return script.LooksSecret(name) && !harmless.MatchString(name)
}

// secretValue reports whether a value can be a secret: it is not empty, no path, and no switch.
func secretValue(value string) bool {
	value = strings.Trim(value, `"'`)
	switch strings.ToLower(value) {
	case "", "true", "false", "yes", "no", "0", "1", "none", "null", "changeme", "dummy", "placeholder", "unset", "test", "xxx":
		return false
	}
	return !strings.HasPrefix(value, "/") && !strings.HasPrefix(value, "http://") && !strings.HasPrefix(value, "https://")
}

// secretFiles are names of files that hold secrets.
var secretFiles = lazyregexp.New(`(?i)^(\.env(\.(local|prod|production|staging|dev|development))?|\.netrc|_netrc|\.npmrc|\.yarnrc|\.pypirc|\.git-credentials|\.htpasswd|\.pgpass|\.my\.cnf|\.dockercfg|\.dockerconfigjson|kubeconfig|id_(rsa|dsa|ecdsa|ed25519)|.*\.(pfx|p12|jks|keystore|kdbx|ppk)|credentials\.json|service[-_]?account.*\.json|.*[-_.](private|secret)[-_]?key.*|.*\.key|secrets?\.(ya?ml|json|env|txt))$`)

var secretDirs = lazyregexp.New(`(^|/)(\.ssh|\.aws|\.gnupg|\.kube|\.azure|\.docker|\.config/gcloud)(/|$)`)

// notSecret are files that look like secrets and are made to be shared.
var notSecret = lazyregexp.New(`(?i)(example|sample|template|dist|public|\.pub)`)

func (d *document) copiedSecrets(in *instruction, sources []string) {
	for _, source := range sources {
		// The context is the directory of the Dockerfile or the root of the tree: nobody says which.
		beside, top := path.Join(path.Dir(d.file.Path), source), path.Clean(strings.TrimLeft(source, "/"))
		if Secret(nil, source) && !withoutCredential(d.tree, beside) && !withoutCredential(d.tree, top) && !strings.Contains(source, "://") {
			start, end := d.word(in, source)
			d.add(in, start, end, ruleSecretFile, source+" becomes a layer of the image, which whoever can pull it can read", "mount it for the step that needs it: RUN --mount=type=secret,id=ID")
		}
	}
}

// withoutCredential reports whether a tree has a package manager's settings at a path, without credentials in them.
func withoutCredential(t *finding.Tree, name string) bool {
	if t == nil || !settings.MatchString(path.Base(name)) {
		return false
	}
	f, err := t.Read(name)
	return err == nil && !credential.Match(f.Data)
}

// settings are files that are secret only if they have credentials.
var settings = lazyregexp.New(`^\.(npmrc|yarnrc)$`)

var credential = lazyregexp.New(`(?i)(auth|password|token|secret|key|cert)`)
