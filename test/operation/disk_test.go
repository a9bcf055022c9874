package operation

import (
	"bytes"
	"crypto/sha256"
	"encoding/hex"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"golang.org/x/sys/unix"

	"github.com/colophon-build/colophon/test/await"
	"github.com/colophon-build/colophon/test/harness"
	"github.com/colophon-build/colophon/test/needs"
)

// TestDiskTurnsReadOnly: ext4 meets an error and remounts the data directory read-only, as
// on a failing disk. Nothing is acknowledged that is not kept; the platform says what is
// wrong; on the repaired disk, it goes on with all that it acknowledged.
func TestDiskTurnsReadOnly(t *testing.T) {
	needs.Root(t, "mounting a disk")
	dir := t.TempDir()
	image, disk := filepath.Join(dir, "image"), filepath.Join(dir, "disk")
	run := func(args ...string) string {
		t.Helper()
		out, err := exec.Command(args[0], args[1:]...).CombinedOutput()
		if err != nil {
			t.Fatalf("%v: %v: %s", args, err, out)
		}
		return strings.TrimSpace(string(out))
	}
	run("truncate", "-s", "1G", image)
	run("/sbin/mkfs.ext4", "-q", "-F", image)
	if err := os.Mkdir(disk, 0o755); err != nil {
		t.Fatal(err)
	}
	mount := func() string {
		t.Helper()
		device := run("/sbin/losetup", "--find", "--show", image)
		if err := unix.Mount(device, disk, "ext4", 0, "errors=remount-ro"); err != nil {
			t.Fatal(err)
		}
		return device
	}
	unmount := func(device string) {
		unix.Unmount(disk, unix.MNT_DETACH)
		exec.Command("/sbin/losetup", "--detach", device).Run()
	}
	device := mount()
	t.Cleanup(func() { unmount(device) })

	p := harness.Reserve(t)
	p.Data = filepath.Join(disk, "data")
	p.Args = []string{"--config", harness.Config(t, nil)}
	p.Up()
	p.Trust()
	repo := harness.GoRepo(t)
	release(t, p, repo, "before")
	before := p.Checkpoint()
	if got := push(t, p, "kept"); got != http.StatusCreated {
		t.Fatalf("push to a good disk: got %d", got)
	}

	if err := os.WriteFile(filepath.Join("/sys/fs/ext4", filepath.Base(device), "trigger_fs_error"), []byte("a test"), 0o200); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(filepath.Join(disk, "x"), nil, 0o600); err == nil {
		t.Fatal("the disk can still be written")
	}
	if got := push(t, p, "lost"); got < 500 {
		t.Errorf("push to a read-only disk: got %d, want an error of the server", got)
	}
	if out, err := p.Colophon(t.Context(), "release", repo, "--ref", "v1.0.0", "--image", p.Addr+"/after").CombinedOutput(); err == nil {
		t.Errorf("a release on a read-only disk was acknowledged:\n%s", out)
	}
	// Reading still works.
	if out, err := p.Colophon(t.Context(), "verify", p.Addr+"/before:v1.0.0", "--any-source").CombinedOutput(); err != nil {
		t.Errorf("verify on a read-only disk: %v\n%s", err, out)
	}

	p.Kill()
	unmount(device)
	await.True(t, "the roles have let go of the disk", func() bool { return run("/sbin/losetup", "--associated", image) == "" })
	if out, err := exec.Command("/sbin/e2fsck", "-fy", image).CombinedOutput(); err != nil {
		t.Logf("e2fsck repaired the disk: %v: %s", err, out)
	}
	device = mount()
	p.Up()
	p.LogExtends(before)
	if out, err := p.Colophon(t.Context(), "verify", p.Addr+"/before:v1.0.0", "--any-source").CombinedOutput(); err != nil {
		t.Errorf("verify of the earlier release: %v\n%s", err, out)
	}
	sum := sha256.Sum256([]byte("kept"))
	if got := p.Get("/v2/blobs/blobs/sha256:" + hex.EncodeToString(sum[:])); string(got) != "kept" {
		t.Errorf("the acknowledged blob: got %q", got)
	}
	release(t, p, repo, "after")
}

// push uploads a blob, and returns the status of the answer.
func push(t *testing.T, p *harness.Platform, content string) int {
	t.Helper()
	sum := sha256.Sum256([]byte(content))
	req, err := http.NewRequest(http.MethodPost, p.URL+"/v2/blobs/blobs/uploads/?digest=sha256:"+hex.EncodeToString(sum[:]), bytes.NewReader([]byte(content)))
	if err != nil {
		t.Fatal(err)
	}
	req.Header.Set("Authorization", "Bearer "+p.Token("client.json"))
	resp, err := http.DefaultClient.Do(req)
	if err != nil {
		t.Fatal(err)
	}
	resp.Body.Close()
	return resp.StatusCode
}
