// Package crash kills the platform and the client at each step of a release,
// and sees that the same command, run again, ends as if nothing had happened.
package crash

import (
	"bufio"
	"bytes"
	"context"
	"encoding/json"
	"io"
	"net/http"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/colophon-build/colophon/internal/api"
	"github.com/colophon-build/colophon/test/harness"
)

// phases of a release, as its progress names them.
var phases = []string{"source", "build", "measure", "push", "sbom", "sign", "verify", "tag"}

// TestKillPlatform kills colophond at each phase of one release, one after the
// other, so that each run starts from what the killed ones left.
func TestKillPlatform(t *testing.T) {
	killEverywhere(t, func(p *harness.Platform, _ *exec.Cmd) {
		p.Kill()
		p.Up()
	})
}

// TestKillClient does the same to colophon release.
func TestKillClient(t *testing.T) {
	killEverywhere(t, func(_ *harness.Platform, c *exec.Cmd) { c.Process.Signal(syscall.SIGKILL) })
}

func killEverywhere(t *testing.T, kill func(*harness.Platform, *exec.Cmd)) {
	p := harness.Start(t)
	p.Trust()
	repo := harness.GoRepo(t)
	want := release(t, p, repo, "calm")
	for _, phase := range phases {
		before := p.Checkpoint()
		killAt(t, p, repo, "killed", phase, func(c *exec.Cmd) { kill(p, c) })
		tagsProve(t, p, repo, "killed")
		p.LogExtends(before)
	}
	if got := release(t, p, repo, "killed"); got != want {
		t.Errorf("digest after all: got %s, want %s", got, want)
	}
	p.OneOfEach(t, "killed", want)
	verify(t, p, repo, "killed:v1.0.0")
}

// killAt starts a release and calls kill when it enters the phase.
func killAt(t *testing.T, p *harness.Platform, repo, image, phase string, kill func(*exec.Cmd)) {
	t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), 2*time.Minute)
	defer cancel()
	cmd := p.Colophon(ctx, "release", repo, "--ref", "v1.0.0", "--image", p.Addr+"/"+image)
	r, w := io.Pipe()
	cmd.Stderr = w
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	var seen bytes.Buffer
	entered := make(chan bool, 1)
	go func() {
		lines := bufio.NewScanner(io.TeeReader(r, &seen))
		found := false
		for lines.Scan() {
			f := strings.Fields(lines.Text())
			if !found && len(f) >= 2 && f[1] == phase {
				found = true
				entered <- true
			}
		}
		if !found {
			entered <- false
		}
	}()
	go func() { cmd.Wait(); w.Close() }()
	if !<-entered {
		t.Fatalf("the release never entered phase %q:\n%s", phase, seen.String())
	}
	kill(cmd)
	for range 100 { // until the client has seen it
		if cmd.ProcessState != nil {
			break
		}
		time.Sleep(20 * time.Millisecond)
	}
}

// tagsProve checks what a kill left: a tag exists only if its proof verifies.
func tagsProve(t *testing.T, p *harness.Platform, repo, image string) {
	t.Helper()
	for _, tag := range []string{"v1.0.0", "v1.0.0-" + harness.Git(t, repo, "rev-parse", "--short=7", "HEAD")} {
		resp, err := http.Get(p.URL + "/v2/" + image + "/manifests/" + tag)
		if err != nil {
			t.Fatal(err)
		}
		resp.Body.Close()
		if resp.StatusCode == http.StatusOK {
			verify(t, p, repo, image+":"+tag)
		}
	}
}

func release(t *testing.T, p *harness.Platform, repo, image string) (digest string) {
	t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), 3*time.Minute)
	defer cancel()
	cmd := p.Colophon(ctx, "release", repo, "--ref", "v1.0.0", "--image", p.Addr+"/"+image, "--json")
	var stderr bytes.Buffer
	cmd.Stderr = &stderr
	out, err := cmd.Output()
	if err != nil {
		t.Fatalf("release: %v\n%s", err, stderr.String())
	}
	var r api.Release
	if err := json.Unmarshal(out, &r); err != nil {
		t.Fatal(err)
	}
	return r.Digest
}

func verify(t *testing.T, p *harness.Platform, repo, ref string) {
	t.Helper()
	abs, err := filepath.EvalSymlinks(repo)
	if err != nil {
		t.Fatal(err)
	}
	if out, err := p.Colophon(context.Background(), "verify", p.Addr+"/"+ref, "--source", "file://"+abs).CombinedOutput(); err != nil {
		t.Errorf("verify %s: %v\n%s", ref, err, out)
	}
}
