// Package operation tests what operators and accidents do to a platform: stop it during
// a build, kill its roles, start it twice, lose its keys.
package operation

import (
	"bufio"
	"bytes"
	"context"
	"io"
	"io/fs"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/opencontainers/go-digest"

	"github.com/colophon-build/colophon/test/await"
	"github.com/colophon-build/colophon/test/harness"
	"github.com/colophon-build/colophon/test/needs"
)

// begin starts a release and waits until its progress contains word.
func begin(t *testing.T, p *harness.Platform, repo, image, word string) (wait func() (output string, code int)) {
	t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), await.Patience)
	t.Cleanup(cancel)
	cmd := p.Colophon(ctx, "release", repo, "--ref", "v1.0.0", "--image", p.Addr+"/"+image)
	r, w := io.Pipe()
	cmd.Stderr = w
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	var seen bytes.Buffer
	said, ended := make(chan bool, 1), make(chan struct{})
	go func() {
		defer close(ended)
		found := false
		for lines := bufio.NewScanner(r); lines.Scan(); {
			seen.WriteString(lines.Text() + "\n")
			if !found && strings.Contains(lines.Text(), word) {
				found = true
				said <- true
			}
		}
		if !found {
			said <- false
		}
	}()
	done := make(chan struct{})
	go func() { cmd.Wait(); w.Close(); close(done) }()
	wait = func() (string, int) {
		<-done
		<-ended
		return seen.String(), cmd.ProcessState.ExitCode()
	}
	if !<-said {
		output, code := wait()
		t.Fatalf("the release never printed %q (exit code %d):\n%s", word, code, output)
	}
	return wait
}

func release(t *testing.T, p *harness.Platform, repo, image string) {
	t.Helper()
	if output, code := begin(t, p, repo, image, "source")(); code != 0 {
		t.Fatalf("release: exit code %d\n%s", code, output)
	}
}

// sleepy makes a repository whose build prints "asleep" and then takes long.
func sleepy(t *testing.T) string { return dockerRepo(t, "echo asleep && sleep 120") }

func ready(p *harness.Platform) bool {
	resp, err := http.Get(p.URL + "/readyz")
	if err != nil {
		return false
	}
	resp.Body.Close()
	return resp.StatusCode == http.StatusOK
}

func eventually(t *testing.T, what string, ok func() bool) {
	t.Helper()
	await.True(t, what, ok)
}

// quiet waits until no file or process of a build is left.
func quiet(t *testing.T, p *harness.Platform) {
	t.Helper()
	eventually(t, "no process of a build", func() bool {
		out, _ := exec.Command("ps", "-eo", "args=").Output()
		for line := range strings.SplitSeq(string(out), "\n") {
			if strings.Contains(line, "buildkitd") && strings.Contains(line, p.Data) {
				return false
			}
		}
		return true
	})
	for _, pattern := range []string{"builder/work/job-*", "attestor/work/*", "attestor/logs/*", "attestor/records/*"} {
		eventually(t, "no "+pattern, func() bool {
			left, err := filepath.Glob(filepath.Join(p.Data, pattern))
			return err == nil && len(left) == 0
		})
	}
	resp, err := http.Get(p.URL + "/v2/app/tags/list")
	if err == nil {
		resp.Body.Close()
		if resp.StatusCode != http.StatusNotFound {
			t.Errorf("tags of an image that was never released: %s", resp.Status)
		}
	}
}

// TestMiddleOfABuild stops the platform, and then kills the attestor and the builder,
// during a build.
func TestMiddleOfABuild(t *testing.T) {
	needs.Long(t)
	p := harness.Start(t, "--mirror", harness.BaseImages(t))
	repo := sleepy(t)

	t.Run("SIGTERM", func(t *testing.T) {
		wait := begin(t, p, repo, "app", "asleep")
		start := time.Now()
		if err := p.Stop(); err != nil {
			t.Errorf("the platform ended with %v", err)
		}
		if took := time.Since(start); took > time.Minute {
			t.Errorf("stopping took %s, want less than a minute, on a busy machine too", took)
		}
		output, code := wait()
		if code != 1 || !strings.Contains(output, "run the same command again") {
			t.Errorf("the client ended with %d:\n%s", code, output)
		}
		quiet(t, p)
		p.Up()
		quiet(t, p)
	})
	for _, role := range []string{"attestor", "rooms"} {
		t.Run("kill -9 "+role, func(t *testing.T) {
			wait := begin(t, p, repo, "app", "asleep")
			before := p.Role(role)
			if before == 0 {
				t.Fatalf("%s is not running", role)
			}
			if err := syscall.Kill(before, syscall.SIGKILL); err != nil {
				t.Fatal(err)
			}
			if output, code := wait(); code != 1 {
				t.Errorf("the client ended with %d:\n%s", code, output)
			}
			eventually(t, role+" runs again", func() bool { now := p.Role(role); return now != 0 && now != before && ready(p) })
			quiet(t, p)
		})
	}
	release(t, p, harness.GoRepo(t), "after")
	for _, want := range []string{`colophon_releases_total{outcome="released"} 1`, `colophon_releases_running 0`, `colophon_builds_running{builder="buildkit"} 0`, `colophon_builds_running{builder="golang"} 0`, `go_goroutines `} {
		if got := metrics(t, p); !strings.Contains(got, "\n"+want) {
			t.Errorf("/metrics: want %q in it, got\n%s", want, got)
		}
	}
}

func metrics(t *testing.T, p *harness.Platform) string {
	t.Helper()
	resp, err := http.Get(p.URL + "/metrics")
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	text, err := io.ReadAll(resp.Body)
	if err != nil || resp.StatusCode != http.StatusOK {
		t.Fatalf("/metrics: got %s, %v", resp.Status, err)
	}
	return string(text)
}

// fails runs "colophond serve", which must exit with an error that contains words.
func fails(t *testing.T, words []string, args ...string) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), await.Patience)
	defer cancel()
	cmd := exec.CommandContext(ctx, harness.Bin(t, "colophond"), append([]string{"serve"}, args...)...)
	var stdout, stderr bytes.Buffer
	cmd.Stdout, cmd.Stderr = &stdout, &stderr
	if err := cmd.Run(); err == nil || ctx.Err() != nil || stdout.Len() > 0 {
		t.Errorf("serve %v: got %v and %q, want a failure\n%s", args, err, &stdout, &stderr)
	}
	for _, w := range words {
		if !strings.Contains(stderr.String(), w) {
			t.Errorf("serve %v: %q is not in the error:\n%s", args, w, &stderr)
		}
	}
}

func TestServeRefuses(t *testing.T) {
	p := harness.Start(t)
	other := harness.Reserve(t)
	fails(t, []string{"in use by another colophond", p.Data}, "--data", p.Data, "--listen", other.Addr)
	fails(t, []string{p.Addr}, "--data", other.Data, "--listen", p.Addr)
	if !ready(p) {
		t.Error("the first platform is no longer ready")
	}
	if err := p.Stop(); err != nil {
		t.Fatal(err)
	}

	none := filepath.Join(t.TempDir(), "none")
	_, port, err := net.SplitHostPort(other.Addr)
	if err != nil {
		t.Fatal(err)
	}
	for _, host := range []string{"0.0.0.0", "", "[::]", "192.0.2.1"} {
		fails(t, []string{"loopback", "--tls-cert"}, "--data", none, "--listen", host+":"+port)
	}
	fails(t, []string{"plain HTTP"}, "--data", none, "--listen", other.Addr, "--url", "http://platform.example.com")
	fails(t, []string{"--url"}, "--data", none, "--listen", "127.0.0.1:0")
	if _, err := os.Stat(none); err == nil {
		t.Error("a platform that refused to start left a data directory")
	}

	// The platform never replaces a key that it cannot read.
	files := privateKeys(t, filepath.Join(p.Data, "trust"))
	if len(files) < 6 {
		t.Fatalf("keys: got %v, want those of issuer, certificate authority, CT log, log, timestamp authority and TUF", files)
	}
	files = append(files, filepath.Join(p.Data, "client.json"), filepath.Join(p.Data, "admin.json"))
	for _, file := range files {
		good, err := os.ReadFile(file)
		if err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(file, []byte("garbage"), 0o600); err != nil {
			t.Fatal(err)
		}
		fails(t, []string{file}, "--data", p.Data, "--listen", p.Addr)
		if now, err := os.ReadFile(file); err != nil || string(now) != "garbage" {
			t.Errorf("%s was replaced: %v", file, err)
		}
		if err := os.WriteFile(file, good, 0o600); err != nil {
			t.Fatal(err)
		}
	}
	p.Up()
}

// privateKeys returns the files below dir with a private key.
func privateKeys(t *testing.T, dir string) (files []string) {
	t.Helper()
	err := filepath.WalkDir(dir, func(path string, e fs.DirEntry, err error) error {
		if err != nil || !e.Type().IsRegular() {
			return err
		}
		data, err := os.ReadFile(path)
		if bytes.Contains(data, []byte("PRIVATE KEY")) {
			if info, err := e.Info(); err != nil || info.Mode().Perm() != 0o600 {
				t.Errorf("%s: mode %v, %v; want 0600", path, info.Mode(), err)
			}
			files = append(files, path)
		}
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	return files
}

func TestLogin(t *testing.T) {
	dir := t.TempDir()
	write := func(name, content string) string {
		path := filepath.Join(dir, name)
		if err := os.WriteFile(path, []byte(content), 0o600); err != nil {
			t.Fatal(err)
		}
		return path
	}
	const good = `{"url":"https://platform.example.com","token":"t","fingerprint":"f"}`
	login := func(file string, env ...string) (string, int) {
		cmd := exec.Command(harness.Bin(t, "colophon"), "login", file)
		cmd.Env = append([]string{"HOME=" + dir, "PATH=" + os.Getenv("PATH")}, env...)
		out, _ := cmd.CombinedOutput()
		return string(out), cmd.ProcessState.ExitCode()
	}
	kept := filepath.Join(dir, ".config", "colophon", "platform.json")
	for name, content := range map[string]string{
		"empty": "", "text": "hello", "no token": `{"url":"https://platform.example.com"}`, "clear": `{"url":"http://platform.example.com","token":"t"}`,
		"unknown": strings.Replace(good, `"token"`, `"x":1,"token"`, 1), "large": good + strings.Repeat(" ", 2<<20),
	} {
		file := write(name, content)
		if out, code := login(file); code != 1 || !strings.Contains(out, file) {
			t.Errorf("%s: exit code %d, %q; want 1 and the file's name", name, code, out)
		}
	}
	if out, code := login(filepath.Join(dir, "missing")); code != 2 {
		t.Errorf("missing: %d %q", code, out)
	}
	if _, err := os.Stat(kept); err == nil {
		t.Error("login stored a file that it refused")
	}
	// Login does not write to the file in COLOPHON_PLATFORM.
	other := write("other.json", strings.Replace(good, "platform", "other", 1))
	out, code := login(write("good", good), "COLOPHON_PLATFORM="+other)
	if code != 0 || strings.Contains(out, `"t"`) || !strings.Contains(out, "COLOPHON_PLATFORM is set") {
		t.Errorf("login: %d %q", code, out)
	}
	if data, _ := os.ReadFile(other); !strings.Contains(string(data), "other.example.com") {
		t.Errorf("login wrote to %s: %s", other, data)
	}
	if st, err := os.Stat(kept); err != nil || st.Mode().Perm() != 0o600 {
		t.Errorf("stored: %v, %v; want mode 0600", st, err)
	}
}

// TestLocalPlatform: release starts a platform if none is configured, and the next
// release finds it. The script runs in new network and process namespaces, because the
// platform listens on the default port and must end with the script.
func TestLocalPlatform(t *testing.T) {
	home := t.TempDir()
	script := `set -eu
ip link set lo up
export HOME=` + home + ` NO_COLOR=1
unset COLOPHON_PLATFORM XDG_DATA_HOME XDG_CONFIG_HOME || true
colophon="` + harness.Bin(t, "colophon") + `"
mkdir -p $HOME/.config/colophon
echo '{"mirror": "` + harness.BaseImages(t) + `"}' > $HOME/.config/colophon/colophond.json
$colophon status && exit 9
run() { set +e; $colophon release "` + harness.GoRepo(t) + `" --ref v9.9.9 --image 127.0.0.1:8080/app; echo "exit $?"; set -e; }
mv $HOME/.config/colophon/colophond.json $HOME/right.json
echo '{"miror": "x"}' > $HOME/.config/colophon/colophond.json
echo wrong; run
mv $HOME/right.json $HOME/.config/colophon/colophond.json
echo first; run; echo second; run
$colophon status; $colophon status --json
tr '\0' ' ' < /proc/$(cat $HOME/.local/share/colophon/run/serve.pid)/cmdline
$colophon stop; $colophon stop
$colophon status && exit 8
test "$(stat -c %a $HOME/.local/share/colophon)" = 700
echo ended`
	args := []string{"--net", "--pid", "--fork", "--kill-child", "--mount-proc"}
	if os.Getuid() != 0 {
		args = append(args, "--map-root-user")
	}
	ctx, cancel := context.WithTimeout(t.Context(), await.Patience)
	defer cancel()
	out, err := exec.CommandContext(ctx, "unshare", append(args, "sh", "-c", script)...).CombinedOutput()
	wrong, rest, _ := strings.Cut(string(out), "first\n")
	first, second, _ := strings.Cut(rest, "second\n")
	if err != nil || !strings.Contains(second, "ended") {
		log, _ := os.ReadFile(filepath.Join(home, ".local/share/colophon/colophond.log"))
		t.Fatalf("%v\n%s\n%s", err, out, log)
	}
	for _, want := range []string{"http://127.0.0.1:8080\n  ready\n", `"ready": true`, "; colophon stop ends it", "--config " + home + "/.config/colophon/colophond.json", "stopped the platform (process ", "no platform of " + home + "/.local/share/colophon is running", "not running; release starts it"} {
		if !strings.Contains(second, want) {
			t.Errorf("status and stop do not say %q:\n%s", want, second)
		}
	}
	if want := `colophond did not start: ` + home + `/.config/colophon/colophond.json:1:2: there is no member "miror"; did you mean "mirror"?`; !strings.Contains(wrong, want) {
		t.Errorf("got %s, want %s", wrong, want)
	}
	for name, text := range map[string]string{"first": first, "second": second} {
		if !strings.Contains(text, `unknown ref "v9.9.9"`) || !strings.Contains(text, "exit 1\n") {
			t.Errorf("%s: got no answer from a platform:\n%s", name, text)
		}
		if started := strings.Contains(text, "no platform configured: started"); started != (name == "first") {
			t.Errorf("%s: started a platform: %v\n%s", name, started, text)
		}
	}
}

// TestCrossSite: another site, open in the browser of somebody who gave the pages his token, changes nothing here with it.
func TestCrossSite(t *testing.T) {
	p := harness.Start(t)
	content := []byte("of another site")
	for name, test := range map[string]struct {
		header http.Header
		want   int
	}{
		"a client that is no browser": {http.Header{}, http.StatusCreated},
		"a form of another site":      {http.Header{"Sec-Fetch-Site": {"cross-site"}, "Origin": {"https://evil.example"}}, http.StatusForbidden},
		"an older browser":            {http.Header{"Origin": {"https://evil.example"}}, http.StatusForbidden},
		"another port of this host":   {http.Header{"Sec-Fetch-Site": {"same-site"}, "Origin": {"http://127.0.0.1:1"}}, http.StatusForbidden},
	} {
		r, err := http.NewRequest(http.MethodPost, p.URL+"/v2/app/blobs/uploads/?digest="+digest.FromBytes(content).String(), bytes.NewReader(content))
		if err != nil {
			t.Fatal(err)
		}
		r.Header = test.header
		r.Header.Set("Content-Type", "text/plain")
		r.SetBasicAuth("somebody", p.Token("client.json"))
		resp, err := http.DefaultClient.Do(r)
		if err != nil {
			t.Fatal(err)
		}
		resp.Body.Close()
		if resp.StatusCode != test.want {
			t.Errorf("%s: got status %d, want %d", name, resp.StatusCode, test.want)
		}
	}
}
