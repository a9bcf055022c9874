package interop

import (
	"bytes"
	"encoding/json"
	"fmt"
	"io"
	"io/fs"
	"net/http"
	"net/http/httptest"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/colophon-build/colophon/test/await"
	"github.com/colophon-build/colophon/test/harness"
)

// tokenSource is a source of tokens with the environment of its job. give is a server that
// answers as the source's does.
type tokenSource struct {
	args []string
	env  func(give, token string) []string
}

var tokenSources = map[string]tokenSource{
	"github": {nil, func(give, _ string) []string {
		return []string{"GITHUB_ACTIONS=true", "ACTIONS_ID_TOKEN_REQUEST_URL=" + give + "/github?v=2", "ACTIONS_ID_TOKEN_REQUEST_TOKEN=hunter2-of-the-job"}
	}},
	"gitlab": {nil, func(_, token string) []string { return []string{"GITLAB_CI=true", "SIGSTORE_ID_TOKEN=" + token} }},
	"buildkite": {nil, func(give, _ string) []string {
		return []string{"BUILDKITE=true", "BUILDKITE_AGENT_ENDPOINT=" + give, "BUILDKITE_JOB_ID=1", "BUILDKITE_AGENT_ACCESS_TOKEN=hunter2-of-the-job"}
	}},
	"circleci": {nil, func(string, string) []string { return []string{"CIRCLECI=true"} }},
	"spiffe":   {nil, func(string, string) []string { return []string{"SPIFFE_ENDPOINT_SOCKET=unix:///none"} }},
	"google": {nil, func(give, _ string) []string {
		return []string{"GCE_METADATA_HOST=" + strings.TrimPrefix(give, "http://")}
	}},
	"file":    {[]string{"--identity-token-file", "../given/token"}, func(string, string) []string { return nil }},
	"command": {[]string{"--identity-token-command", "cat ../given/token"}, func(string, string) []string { return nil }},
}

// decoys are what other sources would need: no program that is started gets them either.
var decoys = []string{"ACTIONS_ID_TOKEN_REQUEST_TOKEN=hunter2-of-the-job", "SIGSTORE_ID_TOKEN=hunter2.of.gitlab", "BUILDKITE_AGENT_ACCESS_TOKEN=hunter2-of-the-job"}

// place is a directory in which a command runs, with programs that write down what they get.
type place struct {
	*pieces
	t      *testing.T
	dir    string // HOME, TMPDIR and what the programs write
	env    []string
	secret []string // what must be nowhere
}

func (p *pieces) place(t *testing.T, source tokenSource) *place {
	t.Helper()
	base := t.TempDir()
	file := p.staff.token(t, nil)
	raw, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	token := string(raw)
	s := &place{pieces: p, t: t, dir: filepath.Join(base, "place"), secret: []string{"hunter2", token, token[strings.LastIndex(token, ".")+1:]}}
	give := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		switch {
		case r.Header.Get("Metadata-Flavor") == "Google":
			fmt.Fprint(w, token)
		default:
			json.NewEncoder(w).Encode(map[string]string{"value": token, "token": token})
		}
	}))
	t.Cleanup(give.Close)
	const spy = "#!/bin/sh\n{ echo \"$0 $@\"; env; tr '\\0' ' ' </proc/$PPID/cmdline; } >>\"$HOME/seen\"\n"
	harness.Write(t, base, map[string]string{
		"given/token":               token,
		"bin/docker-credential-spy": spy + "cat >/dev/null\ncat ../given/credential\n",
		"bin/circleci":              spy + "cat ../given/token\n",
		"bin/spire-agent":           spy + "printf '[{\"svids\":[{\"svid\":\"%s\"}]}]' \"$(cat ../given/token)\"\n",
		"given/credential":          fmt.Sprintf(`{"Username":"any","Secret":%q}`, p.Token("client.json")),
		"docker/config.json":        `{"credsStore":"spy"}`,
		"given/own.json":            `{"reviewed":true}`,
		"place/seen":                "",
	})
	for _, name := range []string{"docker-credential-spy", "circleci", "spire-agent"} {
		if err := os.Chmod(filepath.Join(base, "bin", name), 0o755); err != nil {
			t.Fatal(err)
		}
	}
	s.env = append(p.Env(), decoys...)
	s.env = append(s.env, source.env(give.URL, token)...)
	s.env = append(s.env, "PATH="+filepath.Join(base, "bin")+":"+os.Getenv("PATH"), "HOME="+s.dir, "TMPDIR="+s.dir, "DOCKER_CONFIG="+filepath.Join(base, "docker"), "GOTRACEBACK=all", "COLOPHON_PLATFORM=") // the platform's token would be that of its registry, too
	return s
}

func (s *place) command(args ...string) *exec.Cmd {
	cmd := s.Colophon(s.t.Context(), args...)
	cmd.Dir, cmd.Env = s.dir, s.env
	return cmd
}

// clean fails if a secret is in a text, in a file of the place or of the platform, or in the
// platform's log.
func (s *place) clean(out []byte) {
	s.t.Helper()
	look := func(where string, text []byte) {
		for _, secret := range s.secret {
			if bytes.Contains(text, []byte(secret)) {
				s.t.Errorf("%s contains %.20s…:\n%.3000s", where, secret, text)
			}
		}
	}
	look("the output", out)
	look("the platform's log", []byte(s.Log.String()))
	for _, dir := range []string{s.dir, s.Data} {
		err := filepath.WalkDir(dir, func(path string, d fs.DirEntry, err error) error {
			if err != nil || !d.Type().IsRegular() {
				return nil // the platform makes and removes files meanwhile
			}
			if raw, err := os.ReadFile(path); err == nil {
				look(path, raw)
			}
			return nil
		})
		if err != nil {
			s.t.Fatal(err)
		}
	}
}

// TestTokensLeaveNoTrace signs and attests with the token of each source, and looks for it in
// all that is written, and in the arguments and environment of the programs that are started.
func TestTokensLeaveNoTrace(t *testing.T) {
	p := startPieces(t)
	for name, source := range tokenSources {
		t.Run(name, func(t *testing.T) {
			s := p.place(t, source)
			p.push(t, "traces/"+name+":v1")
			image := p.Addr + "/traces/" + name + ":v1"
			for _, args := range [][]string{{"sign", image}, {"attest", image, "--type", "https://example.com/review/v1", "--predicate", "../given/own.json"}} {
				out, err := s.command(append(args, append(source.args, s.services("")...)...)...).CombinedOutput()
				if err != nil {
					t.Errorf("%s: %v\n%s", args[0], err, out)
				}
				s.clean(out)
			}
			if seen, _ := os.ReadFile(filepath.Join(s.dir, "seen")); !bytes.Contains(seen, []byte("docker-credential-spy get")) {
				t.Errorf("the helper of the registry was not asked: %s", seen)
			}
		})
	}
	t.Run("a certificate authority that quotes the request", func(t *testing.T) {
		s := p.place(t, tokenSources["file"])
		echo := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			http.Error(w, "what is "+r.Header.Get("Authorization")+"?", http.StatusBadRequest)
		}))
		defer echo.Close()
		out, err := s.command(s.at(echo.URL)...).CombinedOutput()
		if err == nil || !strings.Contains(string(out), "got status 400") {
			t.Errorf("got %v\n%s", err, out)
		}
		s.clean(out)
		if header, _, _ := strings.Cut(s.secret[1], "."); bytes.Contains(out, []byte(header)) {
			t.Errorf("the output has a part of the token:\n%s", out)
		}
	})
	t.Run("a crash while the token is on its way", func(t *testing.T) {
		s := p.place(t, tokenSources["file"])
		arrived := make(chan bool, 1)
		hang := httptest.NewServer(http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) {
			io.Copy(io.Discard, r.Body) // the server then notices that the client is gone
			arrived <- r.Header.Get("Authorization") != ""
			<-r.Context().Done()
		}))
		defer hang.Close()
		cmd := s.command(s.at(hang.URL)...)
		var out bytes.Buffer
		cmd.Stdout, cmd.Stderr = &out, &out
		if err := cmd.Start(); err != nil {
			t.Fatal(err)
		}
		select {
		case <-arrived:
		case <-time.After(await.Patience):
			t.Error("no token arrived")
		}
		limits, err := os.ReadFile(fmt.Sprintf("/proc/%d/limits", cmd.Process.Pid))
		if err != nil || !regexp.MustCompile(`(?m)^Max core file size +0 +0 `).Match(limits) {
			t.Errorf("a core file may be written, with the token in it: %v\n%s", err, limits)
		}
		cmd.Process.Signal(syscall.SIGQUIT)
		cmd.Wait()
		if !strings.Contains(out.String(), "goroutine ") {
			t.Errorf("no crash report:\n%s", &out)
		}
		s.clean(out.Bytes())
	})
}

// services returns the flags for the services of the platform, and if ca is not empty, for
// another certificate authority.
func (s *place) services(ca string) []string {
	s.t.Helper()
	var config map[string]any
	if err := json.Unmarshal(s.Get("/signing_config.json"), &config); err != nil {
		s.t.Fatal(err)
	}
	if ca != "" {
		config["caUrls"].([]any)[0].(map[string]any)["url"] = ca
	}
	raw, err := json.Marshal(config)
	if err != nil {
		s.t.Fatal(err)
	}
	harness.Write(s.t, s.dir, map[string]string{"file": "content", "signing.json": string(raw)})
	return []string{"--signing-config", "signing.json"}
}

// at returns the arguments of a signature of a file with another certificate authority.
func (s *place) at(ca string) []string {
	return append([]string{"sign", "file", "--identity-token-file", "../given/token"}, s.services(ca)...)
}
