package interop

import (
	"bytes"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"net/http"
	"net/http/httptest"
	"net/url"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"testing"

	"github.com/colophon-build/colophon/test/forgehost"
	"github.com/colophon-build/colophon/test/githttp"
	"github.com/colophon-build/colophon/test/gittest"
	"github.com/colophon-build/colophon/test/harness"
)

// Credentials that lint, pin, level and init can come by. Those of the environment, of the home
// directory and of .git/config are no business of theirs.
const (
	canaryForge    = "hunter2forge-Zq7"
	canaryRegistry = "hunter2registry~_?>~_?>" // its base64 has the two characters that JSON and URLs escape
	canaryBearer   = "hunter2bearer/Zq7+"
	canaryOrigin   = "hunter2origin-Zq7"
	canaryModule   = "hunter2submodule-Zq7"
	canaryEnv      = "hunter2env-Zq7"
	canaryHome     = "hunter2home-Zq7"
)

// leaks returns the canaries that are in a text, in any of the forms that a server or a program
// gives them.
func leaks(text []byte, except ...string) (found []string) {
	for _, c := range []string{canaryForge, canaryRegistry, canaryBearer, canaryOrigin, canaryModule, canaryEnv, canaryHome} {
		basic := base64.StdEncoding.EncodeToString([]byte("ada:" + c))
		for _, form := range []string{c, basic, url.QueryEscape(c), url.PathEscape(c), url.QueryEscape(basic), strings.ReplaceAll(c, "/", `\/`), strings.ReplaceAll(basic, "/", `\/`), base64.StdEncoding.EncodeToString([]byte(c))} {
			if strings.Contains(strings.Join(except, " "), c) {
				continue
			}
			if bytes.Contains(text, []byte(form)) {
				found = append(found, form)
			}
		}
	}
	return found
}

// noLeaksBelow fails the test if a file below dir has a canary, unless the test planted it there.
func noLeaksBelow(t *testing.T, dir string, planted map[string]bool) {
	t.Helper()
	err := filepath.WalkDir(dir, func(path string, d fs.DirEntry, err error) error {
		if err != nil || !d.Type().IsRegular() || planted[path] {
			return err
		}
		raw, err := os.ReadFile(path)
		if found := leaks(raw); len(found) > 0 {
			t.Errorf("%s contains %q:\n%.3000s", path, found, raw)
		}
		return err
	})
	if err != nil {
		t.Error(err)
	}
}

// echoing is a registry, token server and forge that says again whatever a request tells it.
type echoing struct {
	t      *testing.T
	where  string // its own address, HOST:PORT
	bearer string // that of its registry that asks for tokens
	other  string // that of a server that must get no credential

	mu   sync.Mutex
	seen map[string]bool // kinds of credentials that came
}

// saw notes which credential a request has, and that no process has one in its arguments meanwhile.
func (h *echoing) saw(r *http.Request) (header, plain string) {
	header = r.Header.Get("Authorization")
	_, value, _ := strings.Cut(header, " ")
	if raw, err := base64.StdEncoding.DecodeString(value); err == nil {
		plain = string(raw)
	}
	h.mu.Lock()
	for name, is := range map[string]bool{"registry": strings.Contains(plain, canaryRegistry), "bearer": value == canaryBearer, "forge": value == canaryForge} {
		h.seen[name] = h.seen[name] || is
	}
	h.mu.Unlock()
	if found := leaks([]byte(fmt.Sprint(r.URL, r.Header)), canaryRegistry, canaryBearer, canaryForge); len(found) > 0 {
		h.t.Errorf("%s %s came with %q", r.Method, r.URL, found)
	}
	processes, err := os.ReadDir("/proc")
	if err != nil {
		h.t.Error(err)
	}
	for _, p := range processes {
		if strings.Trim(p.Name(), "0123456789") != "" {
			continue
		}
		if raw, err := os.ReadFile("/proc/" + p.Name() + "/cmdline"); err == nil {
			if found := leaks(raw); len(found) > 0 {
				h.t.Errorf("process %s has %q: %q", p.Name(), found, raw)
			}
		}
	}
	return header, plain
}

func (h *echoing) registry(w http.ResponseWriter, r *http.Request) {
	header, plain := h.saw(r)
	mode, _, _ := strings.Cut(strings.TrimPrefix(r.URL.Path, "/v2/"), "/")
	if header == "" {
		challenge := `Basic realm="x"`
		if r.Host == h.bearer {
			challenge = fmt.Sprintf(`Bearer realm="http://%s/token",service="x"`, h.bearer)
		}
		w.Header().Set("WWW-Authenticate", challenge)
		w.WriteHeader(http.StatusUnauthorized)
		return
	}
	h.reflect(w, r, mode, header, plain)
}

// reflect answers a request that has a credential.
func (h *echoing) reflect(w http.ResponseWriter, r *http.Request, mode, header, plain string) {
	_, value, _ := strings.Cut(header, " ")
	failure := func(status int) {
		w.Header().Set("Content-Type", "application/json")
		w.WriteHeader(status)
		json.NewEncoder(w).Encode(map[string]any{"errors": []any{map[string]string{"code": "DENIED " + value, "message": "you said " + header + ", that is " + plain + ", as " + url.QueryEscape(value)}}})
	}
	switch mode {
	case "redirect":
		http.Redirect(w, r, "http://"+h.other+"/elsewhere", http.StatusTemporaryRedirect)
	case "location":
		http.Redirect(w, r, "http://"+h.other+"/"+url.PathEscape(value)+"/"+url.PathEscape(plain)+"?"+url.Values{"a": {header}}.Encode(), http.StatusTemporaryRedirect)
	case "digest":
		w.Header().Set("Content-Type", "application/vnd.oci.image.index.v1+json")
		w.Header().Set("Docker-Content-Digest", "sha256:"+value)
		fmt.Fprint(w, `{"schemaVersion":2,"mediaType":"application/vnd.oci.image.index.v1+json","manifests":[]}`)
	case "type":
		w.Header().Set("Content-Type", value)
		fmt.Fprintf(w, `{"schemaVersion":2,"mediaType":%q}`, value)
	case "broken":
		fmt.Fprint(w, header+plain)
	case "missing":
		failure(http.StatusNotFound)
	default:
		failure(http.StatusForbidden)
	}
}

func (h *echoing) token(w http.ResponseWriter, r *http.Request) {
	header, plain := h.saw(r)
	if strings.Contains(r.FormValue("scope"), ":refused/") {
		h.reflect(w, r, "", header, plain)
		return
	}
	json.NewEncoder(w).Encode(map[string]string{"token": canaryBearer})
}

// forge answers as the mode says, which is the owner of the repository.
func (h *echoing) forge(good http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		header, plain := h.saw(r)
		mode, _, _ := strings.Cut(strings.TrimPrefix(r.URL.Path, "/api/v1/repos/"), "/")
		switch mode {
		case "team":
			good.ServeHTTP(w, r)
		case "missing":
			w.WriteHeader(http.StatusNotFound)
			json.NewEncoder(w).Encode(map[string]string{"message": header})
		case "broken":
			fmt.Fprintf(w, `{"id": %q, %q: 1`, header, header)
		case "later":
			w.Header().Set("Retry-After", header)
			w.WriteHeader(http.StatusTooManyRequests)
		default:
			h.reflect(w, r, mode, header, plain)
		}
	})
}

// TestTokensOfReaders: lint, pin, level and init have a token for a registry and one for a forge, whose
// servers say it again in every place of an answer. The environment, the home directory and the settings of
// the repository hold more. None is in what the commands print or write, in arguments, or in the
// environment of a program that they start, and none goes to another server.
func TestTokensOfReaders(t *testing.T) {
	other := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if found := leaks([]byte(fmt.Sprint(r.URL, r.Header))); len(found) > 0 {
			t.Errorf("another server got %q: %s %v", found, r.URL, r.Header)
		}
		http.NotFound(w, r)
	}))
	defer other.Close()
	base := t.TempDir()
	h := &echoing{t: t, other: strings.TrimPrefix(other.URL, "http://"), seen: map[string]bool{}}
	mux := http.NewServeMux()
	srv := httptest.NewServer(mux)
	defer srv.Close()
	h.where = strings.TrimPrefix(srv.URL, "http://")
	tokens := httptest.NewServer(mux)
	defer tokens.Close()
	h.bearer = strings.TrimPrefix(tokens.URL, "http://")

	// Repositories of actions, and of the directory itself.
	for _, owner := range []string{"team", "missing", "broken", "later", "redirect", "location", "refused"} {
		harness.Write(t, filepath.Join(base, "server", owner, "app"), map[string]string{"a": "a"})
		harness.Commit(t, filepath.Join(base, "server", owner, "app"), "v1.0.0")
	}
	answers, err := forgehost.Parse(`{"/api/v1/repos/team/app": {"full_name": "team/app"}}`)
	if err != nil {
		t.Fatal(err)
	}
	mux.HandleFunc("/v2/", h.registry)
	mux.HandleFunc("/token", h.token)
	mux.Handle("/api/v1/", h.forge(forgehost.Handler(answers, canaryForge)))
	repositories := githttp.Handler(t, filepath.Join(base, "server"))
	mux.Handle("/", http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if header, _ := h.saw(r); header != "" {
			t.Errorf("git sent %q", header)
		}
		repositories.ServeHTTP(w, r)
	}))

	git, err := exec.LookPath("git")
	if err != nil {
		t.Fatal(err)
	}
	login := base64.StdEncoding.EncodeToString([]byte("ada:" + canaryRegistry))
	var names []string
	dockerfile := ""
	for _, host := range []string{h.where, h.bearer} {
		for _, mode := range []string{"denied", "missing", "redirect", "location", "digest", "type", "broken", "refused"} {
			names = append(names, host+"/"+mode+"/app:v1")
			dockerfile += fmt.Sprintf("FROM %s AS s%d\n", names[len(names)-1], len(names))
		}
	}
	harness.Write(t, base, map[string]string{
		"bin/git":                     "#!/bin/sh\n{ echo \"git $*\"; env; } >>" + base + "/home/seen\nexec " + git + " \"$@\"\n",
		"given/forge":                 canaryForge + "\n",
		"given/config.json":           fmt.Sprintf(`{"auths":{%q:{"auth":%q},%q:{"auth":%q}}}`, h.where, login, h.bearer, login),
		"home/.netrc":                 "machine 127.0.0.1 login ada password " + canaryHome + "\n",
		"home/.gitconfig":             "[http]\n\textraHeader = Authorization: Basic " + canaryHome + "\n[credential]\n\thelper = store\n",
		"home/.git-credentials":       "http://ada:" + canaryHome + "@127.0.0.1\n",
		"app/Dockerfile":              dockerfile,
		"app/.gitmodules":             "[submodule \"lib\"]\n\tpath = lib\n\turl = http://ada:" + canaryModule + "@" + h.where + "/team/app\n\tbranch = main\n",
		"app/.github/workflows/a.yml": "on: push\npermissions: {}\njobs:\n  a:\n    runs-on: ubuntu-24.04\n    steps:\n      - uses: team/app@v1.0.0\n      - uses: team/nowhere@v1\n",
	})
	planted := map[string]bool{}
	for _, name := range []string{".netrc", ".gitconfig", ".git-credentials"} {
		planted[filepath.Join(base, "home", name)] = true
	}
	if err := os.Chmod(filepath.Join(base, "bin/git"), 0o755); err != nil {
		t.Fatal(err)
	}
	app := filepath.Join(base, "app")
	harness.Commit(t, app, "v1.0.0")
	gittest.Git(t, app, "remote", "add", "origin", "http://x-access-token:"+canaryOrigin+"@"+h.where+"/team/app")
	gittest.Git(t, app, "config", "http.extraHeader", "Authorization: Basic "+canaryOrigin)
	planted[filepath.Join(app, ".git/config")], planted[filepath.Join(app, ".gitmodules")] = true, true

	run := func(args ...string) string {
		t.Helper()
		cmd := exec.CommandContext(t.Context(), harness.Bin(t, "colophon"), args...)
		cmd.Dir = app
		cmd.Env = []string{"PATH=" + filepath.Join(base, "bin") + ":" + os.Getenv("PATH"), "HOME=" + filepath.Join(base, "home"), "TMPDIR=" + filepath.Join(base, "home"), "DOCKER_CONFIG=" + filepath.Join(base, "given"), "GOTRACEBACK=all"}
		for _, name := range []string{"GITHUB_TOKEN", "GH_TOKEN", "GITLAB_TOKEN", "CI_JOB_TOKEN", "GITEA_TOKEN", "ACTIONS_ID_TOKEN_REQUEST_TOKEN", "ACTIONS_RUNTIME_TOKEN", "GIT_ASKPASS_TOKEN", "CI_REGISTRY_PASSWORD"} {
			cmd.Env = append(cmd.Env, name+"="+canaryEnv)
		}
		out, err := cmd.CombinedOutput()
		if exit, exited := errors.AsType[*exec.ExitError](err); err != nil && (!exited || exit.ExitCode() < 1 || exit.ExitCode() > 4) {
			t.Fatalf("colophon %q: %v\n%s", args, err, out)
		}
		if found := leaks(out); len(found) > 0 {
			t.Errorf("colophon %q prints %q:\n%s", args, found, out)
		}
		return string(out)
	}
	ask := []string{"--github", srv.URL, "--private"}
	said := run(append([]string{"pin"}, ask...)...)
	for _, name := range names {
		if !strings.Contains(said, "undecided: "+name+"\n") {
			t.Errorf("%s: got %s", name, said)
		}
	}
	if strings.Count(said, "redacted") < 2 {
		t.Errorf("the servers' words were not shown: %s", said)
	}
	for _, args := range [][]string{{"pin", "--json"}, {"pin", "--update"}, {"lint"}, {"lint", "--format", "json"}, {"lint", "--format", "sarif"}, {"lint", "--format", "github"}, {"lint", "--fix"}, {"level", "."},
		{"init", "github", "--install", "v0.1.0@sha256:" + strings.Repeat("1", 64), "--dry-run"}} {
		run(append(args, ask...)...)
	}
	for _, command := range []string{"pin", "lint"} { // refused before anybody is asked
		run(command, "--github", "http://ada:"+canaryModule+"@"+h.where)
	}
	for _, owner := range []string{"team", "missing", "broken", "later", "redirect", "location", "refused"} {
		for _, format := range [][]string{nil, {"--json"}, {"-v"}} {
			run(append([]string{"level", srv.URL + "/" + owner + "/app", "--ref", "v1.0.0", "--forge", "gitea", "--forge-token-file", filepath.Join(base, "given/forge")}, format...)...)
		}
	}
	for _, name := range []string{"registry", "bearer", "forge"} {
		if !h.seen[name] {
			t.Errorf("the server got no credential for %s: nothing was tried", name)
		}
	}
	seen, err := os.ReadFile(filepath.Join(base, "home/seen"))
	if err != nil || !bytes.Contains(seen, []byte("ls-remote")) {
		t.Errorf("git was not watched: %v", err)
	}
	for _, dir := range []string{"home", "app"} {
		noLeaksBelow(t, filepath.Join(base, dir), planted)
	}
	if _, err := os.Stat(filepath.Join(base, "home/.cache/colophon/resolutions.json")); err != nil {
		t.Errorf("no cache was written: %v", err)
	}
}
