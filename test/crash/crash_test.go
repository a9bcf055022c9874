// Package crash kills the platform and the client at each step of a release. The same
// command, run again, must end as if nothing had happened.
package crash

import (
	"bufio"
	"bytes"
	"context"
	"encoding/json"
	"io"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/colophon-build/colophon/platform/api"
	"github.com/colophon-build/colophon/test/await"
	"github.com/colophon-build/colophon/test/gittest"
	"github.com/colophon-build/colophon/test/harness"
	"github.com/colophon-build/colophon/test/needs"
)

// phases are the phases of a release, as its progress names them.
var phases = []string{"source", "build", "measure", "sbom", "push", "sign", "verify", "tag"}

// published are the phases from which the platform finishes a release by itself.
var published = phases[4:]

// TestKillPlatform kills colophond at each phase of a release.
func TestKillPlatform(t *testing.T) {
	killAtEach(t, phases, func(p *harness.Platform, _ *exec.Cmd) {
		p.Kill()
		p.Up()
	})
}

// TestKillAttestor kills only the process that runs releases, before and after
// something is published.
func TestKillAttestor(t *testing.T) {
	needs.Long(t)
	killAtEach(t, []string{"build", "push", "sign", "tag"}, func(p *harness.Platform, _ *exec.Cmd) {
		old := p.Role("attestor")
		if err := syscall.Kill(old, syscall.SIGKILL); err != nil {
			t.Fatal(err)
		}
		await.True(t, "the attestor is restarted", func() bool {
			now := p.Role("attestor")
			return now != old && now != 0
		})
	})
}

// TestKillClient kills colophon release at each phase.
func TestKillClient(t *testing.T) {
	needs.Long(t)
	killAtEach(t, []string{"source", "build", "push", "verify"}, func(_ *harness.Platform, c *exec.Cmd) { c.Process.Signal(syscall.SIGKILL) })
}

// killAtEach starts a release for each phase and kills at that phase. The platform
// finishes a release that it has begun to publish, even if nobody repeats the command.
// The repeated command gives the same digest and one of each attestation.
func killAtEach(t *testing.T, phases []string, kill func(*harness.Platform, *exec.Cmd)) {
	p := harness.Start(t)
	p.Trust()
	repo := harness.GoRepo(t)
	want := release(t, p, repo, "calm")
	for _, phase := range phases {
		image := "killed-" + phase
		before := p.Checkpoint()
		killAt(t, p, repo, image, phase, func(c *exec.Cmd) { kill(p, c) })
		if slices.Contains(published, phase) {
			awaitTags(t, p, repo, image)
		}
		tagsProve(t, p, repo, image)
		if got := release(t, p, repo, image); got != want {
			t.Errorf("killed at %s: digest of the finished release: got %s, want %s", phase, got, want)
		}
		p.OneOfEach(t, image, want)
		p.LogExtends(before)
		verify(t, p, repo, image+":v1.0.0")
	}
	for _, dir := range []string{"queue", "work"} {
		left, err := os.ReadDir(filepath.Join(p.Data, "attestor", dir))
		if err != nil || len(left) > 0 {
			t.Errorf("left in %s: %v, %v", dir, left, err)
		}
	}
}

func tagsOf(t testing.TB, repo string) []string {
	return []string{"v1.0.0", "v1.0.0-" + gittest.Git(t, repo, "rev-parse", "--short=7", "HEAD")}
}

// awaitTags waits until all tags exist.
func awaitTags(t *testing.T, p *harness.Platform, repo, image string) {
	t.Helper()
	for _, tag := range tagsOf(t, repo) {
		await.True(t, "the platform finishes "+image+":"+tag, func() bool {
			resp, err := http.Get(p.URL + "/v2/" + image + "/manifests/" + tag)
			if err != nil {
				return false
			}
			resp.Body.Close()
			return resp.StatusCode == http.StatusOK
		})
	}
}

// killAt starts a release and calls kill when it enters the phase.
func killAt(t *testing.T, p *harness.Platform, repo, image, phase string, kill func(*exec.Cmd)) {
	t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), await.Patience)
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
	for range 100 { // wait until the client has printed it
		if cmd.ProcessState != nil {
			break
		}
		time.Sleep(20 * time.Millisecond)
	}
}

// tagsProve checks after a kill that each existing tag has a proof that verifies.
func tagsProve(t *testing.T, p *harness.Platform, repo, image string) {
	t.Helper()
	for _, tag := range tagsOf(t, repo) {
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
